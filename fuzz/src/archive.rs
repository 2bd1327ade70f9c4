//! Archives: tar in all its dialects, plain and gzip, PAX and GNU headers,
//! sparse maps.

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::source::{SourceOptions, tar, write_layer};

/// Reads the bytes as an archive, both as they are and with checksums made
/// good, so that what the headers say is looked at.
///
/// # Panics
///
/// If a layer that was read cannot be merged, or does not come back from the
/// archive that it is written to.
pub fn run(data: &[u8]) {
    read(data);
    let mut sealed = data.to_vec();
    for block in sealed.as_chunks_mut::<512>().0 {
        if block[257..262] != *b"ustar" {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    read(&sealed);
}

fn read(bytes: &[u8]) {
    let options = SourceOptions {
        max_bytes: 1 << 20,
        max_entries: 1_000,
        ..SourceOptions::default()
    };
    let layer = match tar(&ChunkPool::new(), bytes, &options) {
        Ok(layer) => layer,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let image = Image::new(std::slice::from_ref(&layer));
    if let Ok(image) = image {
        image.verify().expect("an image of its digest");
    }
    let Ok(written) = write_layer(&layer, Vec::new()) else {
        return;
    };
    let again = tar(&ChunkPool::new(), &written[..], &SourceOptions::default());
    let again = again.expect("what was written here is read");
    assert_eq!(again.digest(), layer.digest());
}
