//! A source by its path on the host.

use std::fs::Metadata;
use std::path::Path;

use super::{SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::layer::Layer;

/// Makes layers from what is at `path`, bottom first: a directory, a tar
/// archive (plain, gzip, zstd), an OCI image layout (a directory or an
/// archive), or an archive of `docker save`. They are told apart by what they
/// hold: an image has `oci-layout` and `index.json`, or a `manifest.json` of
/// Docker's. A symbolic link at `path` itself is followed.
///
/// Anything else (a FIFO, a device) is an error and is not opened.
///
/// # Errors
///
/// As [`dir`](super::dir()), [`tar`](super::tar()) and `OciImage`, and names
/// `path`.
pub fn open(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Vec<Layer>, SourceError> {
    open_all(pool, path, options).map_err(|error| error.of(path))
}

fn open_all(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Vec<Layer>, SourceError> {
    let meta = std::fs::metadata(path).map_err(SourceErrorKind::Io)?;
    if !meta.is_dir() && !meta.is_file() {
        let reason = format!("{}: neither a directory nor an archive", what(&meta));
        return Err(SourceErrorKind::NoLayer(reason).into());
    }
    if let Some(layers) = open_image(pool, path, options)? {
        return Ok(layers);
    }
    if meta.is_dir() {
        return Ok(vec![open_dir(pool, path, options)?]);
    }
    let layer = open_archive(pool, path, options)?;
    // Images that other names come first in.
    let marked = layer.has_file(b"oci-layout") && layer.has_file(b"index.json");
    let saved = cfg!(feature = "oci") && layer.has_file(b"manifest.json");
    if (marked || saved)
        && let Some(layers) = open_marked(pool, path, options)?
    {
        return Ok(layers);
    }
    Ok(vec![layer])
}

#[cfg(feature = "oci")]
fn open_image(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Option<Vec<Layer>>, SourceError> {
    let image = super::OciImage::open(path, options)?;
    image
        .map(|image| all_layers(pool, &image, options))
        .transpose()
}

#[cfg(feature = "oci")]
fn open_marked(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Option<Vec<Layer>>, SourceError> {
    let image = super::OciImage::open_archive(path, options)?;
    image
        .map(|image| all_layers(pool, &image, options))
        .transpose()
}

#[cfg(feature = "oci")]
fn all_layers(
    pool: &ChunkPool,
    image: &super::OciImage,
    options: &SourceOptions,
) -> Result<Vec<Layer>, SourceError> {
    let layers = image.layers().iter();
    layers
        .map(|layer| image.read_layer(pool, layer, options, None))
        .collect()
}

/// Without the feature `oci` a layout is no layer either.
#[cfg(not(feature = "oci"))]
fn open_image(
    _: &ChunkPool,
    path: &Path,
    _: &SourceOptions,
) -> Result<Option<Vec<Layer>>, SourceError> {
    match path.join("oci-layout").is_file() && path.join("index.json").is_file() {
        true => Err(without_oci()),
        false => Ok(None),
    }
}

#[cfg(not(feature = "oci"))]
fn open_marked(
    _: &ChunkPool,
    _: &Path,
    _: &SourceOptions,
) -> Result<Option<Vec<Layer>>, SourceError> {
    Err(without_oci())
}

#[cfg(not(feature = "oci"))]
fn without_oci() -> SourceError {
    SourceErrorKind::NoLayer("an image: built without the feature `oci`".into()).into()
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
