//! Archives: tar in all its dialects, plain and compressed, PAX and GNU headers,
//! sparse maps; zip archives and Debian packages.

use std::path::Path;

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::source::{Source, SourceOptions, tar, write_layer};

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
    let made = match bytes {
        [b'P', b'K', ..] | [b'!', b'<', ..] => read_seeking(bytes, &options),
        _ => tar(&ChunkPool::new(), bytes, &options).map_err(|error| error.to_string()),
    };
    let layer = match made {
        Ok(layer) => layer,
        Err(error) => return assert!(!error.is_empty()),
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

/// Reads what is no tar, a zip or a package.
fn read_seeking(bytes: &[u8], options: &SourceOptions) -> Result<Layer, String> {
    let pool = ChunkPool::new();
    let source = Source::from_reader(Path::new("input"), bytes, options);
    let layers = source.and_then(|source| source.layers(&pool, options));
    let mut layers = layers.map_err(|error| error.to_string())?;
    layers.pop().ok_or_else(|| "no layer".to_owned())
}
