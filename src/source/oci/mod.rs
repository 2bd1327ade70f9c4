//! Images as other tools write them: OCI image layouts, what `docker save`
//! writes, and skopeo's `dir:`, each as a directory or as a tar archive, or in
//! the only directory of one.
//!
//! Nothing is taken on trust. Each blob is hashed while it is read and
//! compared with the digest and the size that led to it, each layer once more
//! decompressed, with its `diff_id`. Media types decide what a document may
//! be, the first bytes how a layer is compressed; which of the two is right
//! makes no difference, as the `diff_id` says what has to come out. Layers
//! that may not be handed on are read if they are there; a URL is never
//! fetched. A configuration is data: nothing of it is executed or mounted.

mod blob;
mod choose;
mod config;
mod docker;
mod document;
mod flat;
mod form;
mod hash;
mod layout;
mod members;
mod names;
mod oci_source;
#[cfg(feature = "registry")]
mod packed;
#[cfg(feature = "registry")]
mod raw;
mod wasm;

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

pub(crate) use self::blob::Checked;
use self::blob::{TeeReader, same_digest, same_size};
pub(crate) use self::hash::Hasher;
pub(super) use self::hash::sha256;
#[cfg(feature = "registry")]
pub(crate) use self::oci_source::BlobHome;
use self::oci_source::{FoundFile, OciSource};
#[cfg(feature = "registry")]
pub(crate) use self::raw::{BlobDescriptor, RawLayout};
pub use self::wasm::ArtifactProgram;
#[cfg(all(feature = "dir", feature = "store"))]
pub(crate) use self::wasm::is_program;
use super::tar::{self, Input};
use super::{Platform, SourceError, SourceErrorKind, SourceOptions, Spent};
use crate::chunk::ChunkPool;
use crate::image::ImageConfig;
use crate::layer::{Layer, LayerBuilder};
use crate::source::BlobDigest;

/// An image in OCI's or Docker's form, opened: its documents have been read
/// and verified, its layers not yet.
///
/// ```
/// use stratafs::chunk::ChunkPool;
/// use stratafs::image::ImageConfig;
/// use stratafs::layer::Layer;
/// use stratafs::source::{Compression, OciExport, OciImage, OutLayer, SourceOptions};
///
/// // An image with one empty layer, as a layout.
/// let (layer, dir) = (Layer::builder().finish()?, tempfile::tempdir()?);
/// let export = OciExport {
///     name: Some("app:1"),
///     layers: vec![OutLayer::Layer(layer.clone())],
///     artifact: false,
///     config: &ImageConfig::default(),
///     config_bytes: None,
///     manifest_bytes: None,
///     compression: Compression::Gzip,
/// };
/// export.write_dir(dir.path())?;
///
/// let options = SourceOptions::default();
/// let image = OciImage::open(dir.path(), &options)?.expect("a layout");
/// let read = image.read_layer(&ChunkPool::new(), &image.layers()[0], &options, None)?;
/// assert_eq!((image.name(), read.digest()), (Some("app:1"), layer.digest()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OciImage {
    source: OciSource,
    layers: Vec<LayerBlob>,
    /// Of an image that is published as packs: these. Its layers lie in them.
    #[cfg(feature = "registry")]
    packs: Option<packed::PackBlobs>,
    platform: Platform,
    name: Option<String>,
    documents: Documents,
    config: ImageConfig,
    /// What the layers that were read have used up of the bounds.
    spent: Spent,
}

impl std::fmt::Debug for OciImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OciImage")
            .field("name", &self.name)
            .field("platform", &self.platform)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// The documents byte by byte.
struct Documents {
    manifest: Option<Vec<u8>>,
    config: Vec<u8>,
}

/// A layer that an image has as a blob.
#[derive(Clone, Debug)]
pub struct LayerBlob {
    /// Its name where the image lies.
    file: String,
    digest: Option<BlobDigest>,
    size: u64,
    media_type: String,
    diff_id: BlobDigest,
    restricted: bool,
    #[cfg_attr(
        not(feature = "registry"),
        expect(dead_code, reason = "registries read in parts")
    )]
    /// What is said of it where it is named.
    annotations: std::collections::HashMap<String, String>,
}

impl LayerBlob {
    /// Returns the digest of the bytes as they lie there; `None` for what is
    /// compressed in an archive of `docker save`, which names layers by what
    /// they hold.
    #[must_use]
    pub fn digest(&self) -> Option<&BlobDigest> {
        self.digest.as_ref()
    }

    /// Returns the size of the blob, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// Returns whether it is no tree of files, but a program of WebAssembly: an OCI
    /// artifact, or runwasi's. As a layer it has no entries; its blob is the program.
    #[must_use]
    pub fn is_program(&self) -> bool {
        wasm::is_program(&self.media_type)
    }

    /// Returns what is said of it, by a name.
    #[cfg(feature = "registry")]
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    /// Returns the digest of the layer's tar, decompressed.
    #[must_use]
    pub fn diff_id(&self) -> &BlobDigest {
        &self.diff_id
    }
}

impl OciImage {
    /// Opens the image at `path`, a directory or an archive; returns `None`
    /// where there is no image but something else, which may be a layer.
    ///
    /// An archive that is compressed is decompressed into a temporary file.
    ///
    /// # Errors
    ///
    /// [`SourceErrorKind::Choice`] if there are several images and `options`
    /// do not decide, or none that fits. [`SourceErrorKind::Mismatch`] and
    /// [`SourceErrorKind::Document`] for documents that are not what they
    /// should be. All name the document.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Option<Self>, SourceError> {
        open(path, options).map_err(|error| error.of(path))
    }

    /// Opens the image of a manifest or index that was fetched. What else is needed of it is
    /// fetched when it is needed, layers when they are read.
    #[cfg(feature = "registry")]
    pub(crate) fn remote(
        home: Arc<dyn BlobHome>,
        (media_type, digest, bytes): (&str, &BlobDigest, Vec<u8>),
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        layout::remote(
            OciSource::remote(home),
            (media_type, digest, bytes),
            options,
        )
    }

    /// Opens the image in an archive if its first members say that there is one.
    pub(super) fn in_archive(
        file: &Arc<File>,
        options: &SourceOptions,
    ) -> Result<Option<Self>, SourceError> {
        if !oci_source::looks_like_image(file, options) {
            return Ok(None);
        }
        match OciSource::archive(file, options) {
            Ok(source) => form::open(source, options),
            Err(error) if matches!(error.kind(), SourceErrorKind::Limit { .. }) => Err(error),
            // Whoever reads it as a layer will say better what is wrong.
            Err(_) => Ok(None),
        }
    }

    /// Opens the image in an archive, whatever its members are called: for one
    /// that turned out to have an image's files.
    pub(super) fn in_marked(
        file: &Arc<File>,
        options: &SourceOptions,
    ) -> Result<Option<Self>, SourceError> {
        form::open(OciSource::archive(file, options)?, options)
    }

    /// Returns the layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[LayerBlob] {
        &self.layers
    }

    /// Returns the packs of an image that is published as packs.
    #[cfg(feature = "registry")]
    pub(crate) fn packs(&self) -> Option<&[LayerBlob]> {
        self.packs.as_ref().map(|blobs| &*blobs.packs)
    }

    /// Returns the blobs that layers of an image in packs copy entries from.
    #[cfg(feature = "registry")]
    pub(crate) fn earlier_entries(&self) -> &[LayerBlob] {
        let packs = self.packs.as_ref();
        packs.map(|blobs| &*blobs.entries).unwrap_or_default()
    }

    /// Returns a blob that the manifest of an image in packs has itself.
    #[cfg(feature = "registry")]
    pub(crate) fn inline(&self, digest: &BlobDigest) -> Option<&[u8]> {
        let bytes = self.packs.as_ref()?.inline.get(digest)?;
        Some(bytes)
    }

    /// Returns the blob that has tables of packs together, if there is one.
    #[cfg(feature = "registry")]
    pub(crate) fn pack_tables(&self) -> Option<&LayerBlob> {
        self.packs.as_ref()?.tables.as_ref()
    }

    /// Returns the platform that the image is for.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// Returns the name that the image has where it lies.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the manifest as it lies there; `docker save` writes none.
    #[must_use]
    pub fn manifest_bytes(&self) -> Option<&[u8]> {
        self.documents.manifest.as_deref()
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ImageConfig {
        &self.config
    }

    /// Returns the configuration as it lies there.
    #[must_use]
    pub fn config_bytes(&self) -> &[u8] {
        &self.documents.config
    }

    /// Reads a layer, and writes its blob to `copy` as it is read.
    ///
    /// The bounds of `options` are those of all layers together that are read
    /// through this value, also at once from several threads; one that is read
    /// twice, or fails, is counted as often.
    ///
    /// What `copy` has got is the blob only if this succeeds.
    ///
    /// # Errors
    ///
    /// As [`tar`](super::tar()); [`SourceErrorKind::Mismatch`] if the blob or
    /// what it decompresses to is another than was promised. All name the
    /// layer's digest.
    pub fn read_layer(
        &self,
        pool: &ChunkPool,
        layer: &LayerBlob,
        options: &SourceOptions,
        copy: Option<&mut dyn Write>,
    ) -> Result<Layer, SourceError> {
        let name = layer.digest.as_ref().unwrap_or(&layer.diff_id);
        let spent = &self.spent;
        let read = || {
            let found = self.find(layer)?.reader;
            let reader: Box<dyn Read + '_> = match copy {
                Some(copy) => Box::new(TeeReader { inner: found, copy }),
                None => Box::new(found),
            };
            if let Some(digest) = layer.digest.as_ref().filter(|_| layer.is_program()) {
                return read_program(reader, layer, digest);
            }
            if let Some(digest) = &layer.digest {
                return read_blob(pool, reader, layer, digest, (options, spent));
            }
            let bounds = (options, spent);
            let (made, held) = read_hashed(pool, reader, &layer.diff_id, bounds)?;
            same_digest(&layer.diff_id, held)?;
            Ok(made)
        };
        read().map_err(|error: SourceError| error.part(format_args!("layer {name}")))
    }

    fn find(&self, layer: &LayerBlob) -> Result<FoundFile, SourceError> {
        let found = self.source.open(&layer.file)?;
        let found = found.ok_or_else(|| match layer.restricted {
            false => choose::missing(),
            true => SourceErrorKind::Document(
                "its bytes are not there, since it may not be handed on; URLs are not fetched"
                    .into(),
            ),
        })?;
        same_size(layer.size, found.size)?;
        Ok(found)
    }
}

fn open(path: &Path, options: &SourceOptions) -> Result<Option<OciImage>, SourceError> {
    let meta = path.metadata().map_err(SourceErrorKind::Io)?;
    if meta.is_dir() {
        return form::open(OciSource::dir(path.to_owned()), options);
    }
    if !meta.is_file() {
        return Ok(None);
    }
    let file = File::open(path).map_err(SourceErrorKind::Io)?;
    OciImage::in_archive(&Arc::new(file), options)
}

/// Reads a layer whose blob has a digest of its own.
fn read_blob(
    pool: &ChunkPool,
    reader: impl Read,
    layer: &LayerBlob,
    digest: &BlobDigest,
    bounds: Bounds<'_>,
) -> Result<Layer, SourceError> {
    let mut checked = Checked::new(reader, digest);
    let made = read_hashed(pool, &mut checked, &layer.diff_id, bounds);
    // Wrong bytes explain whatever else is wrong.
    checked.finish(layer.size)?;
    let (made, held) = made?;
    same_digest(&layer.diff_id, held).map_err(|kind| {
        SourceError::from(kind).part(format_args!("layer {digest}, decompressed"))
    })?;
    Ok(made)
}

/// Reads a program, whose layer has no entries.
fn read_program(
    reader: impl Read,
    layer: &LayerBlob,
    digest: &BlobDigest,
) -> Result<Layer, SourceError> {
    let mut checked = Checked::new(reader, digest);
    let mut magic = Vec::new();
    let mut front = checked.by_ref().take(wasm::MAGIC.len() as u64);
    front.read_to_end(&mut magic).map_err(SourceErrorKind::Io)?;
    checked.finish(layer.size)?;
    if magic != wasm::MAGIC {
        let reason = format!(
            "expected WebAssembly ({}), found other bytes",
            layer.media_type
        );
        return Err(SourceErrorKind::Document(reason).into());
    }
    Ok(LayerBuilder::new()
        .finish()
        .map_err(SourceErrorKind::from)?)
}

/// Bounds, and what has been used up of them.
type Bounds<'a> = (&'a SourceOptions, &'a Spent);

/// Makes the layer, and the digest of its tar.
fn read_hashed(
    pool: &ChunkPool,
    reader: impl Read,
    like: &BlobDigest,
    (options, spent): Bounds<'_>,
) -> Result<(Layer, String), SourceError> {
    let hasher = RefCell::new(Hasher::like(like));
    let mut input = Input::new(reader, options)?;
    input.tap(Box::new(|bytes| hasher.borrow_mut().update(bytes)));
    let layer = tar::read(pool, input, options, spent)?;
    Ok((layer, hasher.into_inner().finish()))
}
