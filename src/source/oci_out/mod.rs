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
mod members;
#[cfg(feature = "registry")]
mod prepared;
mod sink;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use self::documents::WrittenBlob;
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
        self.write(&mut DirSink::new(dir)?)
    }

    /// Writes the image as a tar archive of a layout, and gives `out` back.
    /// Layers without a blob are made in temporary files in `scratch`.
    ///
    /// # Errors
    ///
    /// An [`OciExportError`]; what has been written by then is no archive.
    pub fn write_archive<W: Write>(self, out: W, scratch: &Path) -> Result<W, OciExportError> {
        let mut sink = ArchiveSink::new(out, scratch);
        self.write(&mut sink)?;
        sink.finish()
    }

    fn write(self, sink: &mut dyn BlobSink) -> Result<(), OciExportError> {
        let mut written = Vec::new();
        for layer in self.layers {
            written.push(blob::write_layer(sink, layer, self.compression)?);
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
    let digest = super::oci::sha256(bytes);
    if !sink.has(&digest) {
        sink.blob(&digest, bytes.len() as u64, &mut io::Cursor::new(bytes))?;
    }
    Ok(WrittenBlob {
        diff_id: digest.clone(),
        digest,
        size: bytes.len() as u64,
        media_type: media_type.to_owned(),
    })
}
