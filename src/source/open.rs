//! A source by its path on the host.

use std::fs::Metadata;
use std::path::Path;

use super::{SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::layer::Layer;

/// Makes layers from what is at `path`, bottom first: a directory, or a tar
/// archive (plain, gzip, zstd). A symbolic link at `path` itself is followed.
///
/// Anything else (a FIFO, a device) is an error and is not opened. So are OCI
/// image layouts, which are more than one layer and are not supported yet.
///
/// # Errors
///
/// As [`dir`](super::dir()) and [`tar`](super::tar()), and names `path`.
pub fn open(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Vec<Layer>, SourceError> {
    open_one(pool, path, options)
        .map(|layer| vec![layer])
        .map_err(|error| error.of(path))
}

fn open_one(pool: &ChunkPool, path: &Path, options: &SourceOptions) -> Result<Layer, SourceError> {
    let meta = std::fs::metadata(path).map_err(SourceErrorKind::Io)?;
    if meta.is_dir() {
        let layout = path.join("oci-layout").is_file() && path.join("index.json").is_file();
        return if layout {
            Err(oci().into())
        } else {
            open_dir(pool, path, options)
        };
    }
    if !meta.is_file() {
        let reason = format!("{}: neither a directory nor an archive", what(&meta));
        return Err(SourceErrorKind::NoLayer(reason).into());
    }
    let layer = open_archive(pool, path, options)?;
    if layer.has_file(b"oci-layout") && layer.has_file(b"index.json") {
        return Err(oci().into());
    }
    Ok(layer)
}

fn oci() -> SourceErrorKind {
    SourceErrorKind::NoLayer("an OCI image layout: not supported yet".into())
}

fn what(meta: &Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = meta.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    let _ = meta;
    "no regular file"
}

#[cfg(feature = "dir")]
use super::dir_ambient as open_dir;

#[cfg(not(feature = "dir"))]
fn open_dir(_: &ChunkPool, _: &Path, _: &SourceOptions) -> Result<Layer, SourceError> {
    Err(SourceErrorKind::NoLayer("a directory: built without the feature `dir`".into()).into())
}

#[cfg(feature = "tar")]
fn open_archive(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Layer, SourceError> {
    let file = std::fs::File::open(path).map_err(SourceErrorKind::Io)?;
    super::tar(pool, file, options)
}

#[cfg(not(feature = "tar"))]
fn open_archive(_: &ChunkPool, _: &Path, _: &SourceOptions) -> Result<Layer, SourceError> {
    Err(SourceErrorKind::NoLayer("a file: built without the feature `tar`".into()).into())
}
