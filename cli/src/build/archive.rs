//! Archives that `ADD` unpacks.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use stratafs::chunk::ChunkPool;
use stratafs::layer::Layer;
use stratafs::name::show;
use stratafs::source::{self, SourceOptions};

use crate::failure::Failure;
use crate::recipe::ARCHIVE_ENDINGS;

/// Where the name of the format stands in a tar archive.
const MAGIC_AT: u64 = 257;

/// Reads a file as a tar archive, plain or compressed, if it is one. What is compressed and
/// holds no archive is a file like others, unless it is named like one or `must` be one.
pub(super) fn read(
    file: &File,
    path: &[u8],
    pool: &ChunkPool,
    must: bool,
) -> Result<Option<Layer>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format_args!("{}: {error}", show(path)));
    let form = form(file).map_err(failed)?;
    let name = String::from_utf8_lossy(path).to_lowercase();
    let named = must || ARCHIVE_ENDINGS.iter().any(|end| name.ends_with(end));
    if form == ArchiveForm::No && !must {
        return Ok(None);
    }
    let mut from = file;
    from.seek(SeekFrom::Start(0)).map_err(failed)?;
    match source::tar(pool, from, &SourceOptions::default()) {
        Ok(layer) => Ok(Some(layer)),
        Err(_) if form == ArchiveForm::Compressed && !named => Ok(None),
        Err(error) => Err(Failure::new(format_args!(
            "{}: it cannot be unpacked: {error}; to copy it as it is, write COPY or ADD --unpack=false",
            show(path)
        ))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArchiveForm {
    No,
    Tar,
    Compressed,
}

fn form(mut file: &File) -> std::io::Result<ArchiveForm> {
    let mut head = Vec::new();
    file.take(MAGIC_AT + 5).read_to_end(&mut head)?;
    let compressed: [&[u8]; 4] = [
        &[0x1f, 0x8b],
        b"BZh",
        &[0xfd, b'7', b'z', b'X', b'Z'],
        &[0x28, 0xb5, 0x2f, 0xfd],
    ];
    file.seek(SeekFrom::Start(0))?;
    Ok(if compressed.iter().any(|magic| head.starts_with(magic)) {
        ArchiveForm::Compressed
    } else if head.ends_with(b"ustar") && head.len() as u64 == MAGIC_AT + 5 {
        ArchiveForm::Tar
    } else {
        ArchiveForm::No
    })
}
