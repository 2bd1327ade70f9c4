//! Images out, as an OCI image layout: a directory or a tar archive.
//!
//! A layer that came in as a blob goes out as that blob, byte for byte and
//! under its own digest. Other layers are written as tar (see
//! [`tar_out`](super::tar_out)), compressed if that is asked for: the same
//! layer gives the same bytes, so the same image has the same digests. One
//! layer at a time goes through a temporary file, as its digest is its name;
//! memory is bounded by what a tar entry needs.

mod blob;
mod documents;
#[cfg(feature = "store")]
mod frames;
mod members;
#[cfg(feature = "registry")]
mod packed;
#[cfg(feature = "registry")]
mod prepared;
mod sink;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use self::documents::WrittenBlob;
#[cfg(feature = "store")]
pub(crate) use self::frames::FrameMap;
#[cfg(feature = "registry")]
pub(crate) use self::packed::{EntriesOut, PackBlob, PackBlobWriter};
#[cfg(feature = "registry")]
pub(crate) use self::prepared::{OutBlob, OutImage};
use self::sink::{ArchiveSink, BlobSink, DirSink};
use super::ExportError;
use crate::image::ImageConfig;
use crate::layer::Layer;
use crate::name::show_path;
use crate::source::BlobDigest;

/// How a layer that is written anew is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: the fastest, and `docker save`'s way.
    #[default]
    None,
    /// gzip, which every reader knows.
    Gzip,
    /// zstd, for readers of OCI 1.1.
    Zstd,
}

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OciExportError {
    /// A layer cannot be told as an archive.
    #[error("layer {digest}: {error}")]
    Layer {
        /// The layer's digest.
        digest: crate::digest::Digest,
        /// The entry, and why not.
        #[source]
        error: ExportError,
    },
    /// A blob that is to go out as it came in is not what it should be.
    #[error("blob {digest}: {reason}")]
    Blob {
        /// The blob.
        digest: BlobDigest,
        /// What is wrong with it.
        reason: String,
    },
    /// A blob that is to go out cannot be read.
    #[error("blob {digest}: cannot be read: {error}")]
    Read {
        /// The blob.
        digest: BlobDigest,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The output cannot be written.
    #[error("{path}: cannot be written: {error}", path = show_path(path))]
    Write {
        /// The file of the layout.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// Makes the table of a layer that was cut into frames.
#[cfg(feature = "store")]
pub(crate) type MakeTable = dyn Fn(&Layer, &FrameMap) -> io::Result<Option<Vec<u8>>>;

/// How layers are written that can be read in parts. Without stores there are none.
#[cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "tables are made with a store's rules")
)]
pub(crate) struct Framing<'a> {
    /// The files that come first.
    pub(crate) start: &'a super::StartSet,
    /// Makes the table of a layer; none if it would be too large.
    #[cfg(feature = "store")]
    pub(crate) table: &'a MakeTable,
}

/// Returns the bytes of a blob, as often as it is asked.
pub type OpenBlob<'a> = Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + Send + Sync + 'a>;

/// A layer to be written.
#[non_exhaustive]
pub enum OutLayer<'a> {
    /// A blob that there is, with what opens it.
    Blob {
        /// The digest of its bytes.
        digest: BlobDigest,
        /// How many bytes it has.
        size: u64,
        /// Its media type.
        media_type: String,
        /// The digest of its tar, decompressed.
        diff_id: BlobDigest,
        /// Returns its bytes, as often as it is asked.
        open: OpenBlob<'a>,
    },
    /// A layer that has no blob yet.
    Layer(Layer),
}

/// An image to be written.
///
/// ```
/// use stratafs::image::ImageConfig;
/// use stratafs::layer::Layer;
/// use stratafs::source::{Compression, OciExport, OutLayer};
///
/// # let scratch = tempfile::tempdir()?;
/// let mut config = ImageConfig::new();
/// config.entrypoint = Some(vec!["/app.wasm".into()]);
/// let export = OciExport {
///     name: Some("1"),
///     layers: vec![OutLayer::Layer(Layer::builder().finish()?)],
///     artifact: false,
///     config: &config,
///     config_bytes: None,
///     manifest_bytes: None,
///     compression: Compression::None,
/// };
/// // `write_dir` writes the same into a directory.
/// let archive = export.write_archive(Vec::new(), scratch.path())?;
/// assert_eq!(archive.len() % 512, 0); // a tar archive
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OciExport<'a> {
    /// What the layout calls it: `org.opencontainers.image.ref.name`.
    pub name: Option<&'a str>,
    /// The layers, the lowest first.
    pub layers: Vec<OutLayer<'a>>,
    /// It is an artifact of WebAssembly, whose one layer is a program.
    pub artifact: bool,
    /// The configuration.
    pub config: &'a ImageConfig,
    /// The configuration byte by byte, as it came in. It goes out like that
    /// if it is about these layers.
    pub config_bytes: Option<Vec<u8>>,
    /// The manifest byte by byte, as it came in; likewise.
    pub manifest_bytes: Option<Vec<u8>>,
    /// How layers without a blob are compressed.
    pub compression: Compression,
}

impl OciExport<'_> {
    /// Writes the image into the empty directory `dir` as a layout.
    ///
    /// # Errors
    ///
    /// An [`OciExportError`]; what has been written by then is no layout, as
    /// `index.json` comes last.
    pub fn write_dir(self, dir: &Path) -> Result<(), OciExportError> {
        self.write(&mut DirSink::new(dir)?, None)
    }

    /// Writes the image as a tar archive of a layout, and returns `out`.
    /// Layers without a blob are made in temporary files in `scratch`.
    ///
    /// # Errors
    ///
    /// An [`OciExportError`]; what has been written by then is no archive.
    pub fn write_archive<W: Write>(self, out: W, scratch: &Path) -> Result<W, OciExportError> {
        let mut sink = ArchiveSink::new(out, scratch);
        self.write(&mut sink, None)?;
        sink.finish()
    }

    /// Writes a layout as [`write_dir`](Self::write_dir) does, with layers that can be read in
    /// parts.
    #[cfg(all(feature = "dir", feature = "store"))]
    pub(crate) fn write_framed_dir(
        self,
        dir: &Path,
        framing: &Framing<'_>,
    ) -> Result<(), OciExportError> {
        self.write(&mut DirSink::new(dir)?, Some(framing))
    }

    /// Writes an archive as [`write_archive`](Self::write_archive) does, with layers that can be
    /// read in parts.
    #[cfg(all(feature = "dir", feature = "store"))]
    pub(crate) fn write_framed_archive<W: Write>(
        self,
        out: W,
        scratch: &Path,
        framing: &Framing<'_>,
    ) -> Result<W, OciExportError> {
        let mut sink = ArchiveSink::new(out, scratch);
        self.write(&mut sink, Some(framing))?;
        sink.finish()
    }

    fn write(
        self,
        sink: &mut dyn BlobSink,
        framing: Option<&Framing<'_>>,
    ) -> Result<(), OciExportError> {
        // What is one program is no archive.
        let framing = framing.filter(|_| !self.artifact);
        let form = (self.compression, framing);
        let mut written = Vec::new();
        for layer in self.layers {
            written.push(blob::write_layer(sink, layer, form)?);
        }
        let (config, media_type) = match self.artifact {
            true => documents::artifact(self.config, self.config_bytes, &written),
            false => documents::config(self.config, self.config_bytes, &written),
        };
        let config = put_document(sink, media_type, &config)?;
        let (manifest, media_type) = documents::manifest(self.manifest_bytes, &config, &written);
        let manifest = put_document(sink, &media_type, &manifest)?;
        sink.file("oci-layout", documents::LAYOUT.as_bytes())?;
        sink.file("index.json", &documents::index(&manifest, self.name))
    }
}

fn put_document(
    sink: &mut dyn BlobSink,
    media_type: &str,
    bytes: &[u8],
) -> Result<WrittenBlob, OciExportError> {
    let written = WrittenBlob::of(bytes, media_type);
    if !sink.has(&written.digest) {
        sink.blob(&written.digest, written.size, &mut io::Cursor::new(bytes))?;
    }
    Ok(written)
}
