//! An image ready to be sent: its blobs, each to be opened as often as it takes, and the
//! documents that name them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::blob::{make, oci_type};
use super::documents::{self, WrittenBlob};
use super::sink::{BlobSink, scratch_in, write_error};
use super::{Framing, OciExport, OciExportError, OpenBlob, OutLayer};
use crate::image::ImageConfig;
use crate::source::part::Part;
use crate::source::{BlobDigest, Platform};

/// An image ready to be sent.
pub(crate) struct OutImage<'a> {
    /// Layers and configurations, each once.
    pub(crate) blobs: Vec<OutBlob<'a>>,
    /// Manifests in the order in which they have to be sent, the index last if there is one.
    pub(crate) manifests: Vec<OutManifest>,
}

/// A blob.
pub(crate) struct OutBlob<'a> {
    pub(crate) digest: BlobDigest,
    pub(crate) size: u64,
    pub(super) bytes: OutBytes<'a>,
}

pub(super) enum OutBytes<'a> {
    Kept(OpenBlob<'a>),
    File(Arc<File>),
    Memory(Vec<u8>),
}

/// A manifest, or an index.
pub(crate) struct OutManifest {
    pub(crate) digest: BlobDigest,
    pub(crate) media_type: String,
    pub(crate) bytes: Vec<u8>,
}

impl OutBlob<'_> {
    /// Opens it at its beginning.
    pub(crate) fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.bytes {
            OutBytes::Kept(open) => open()?,
            OutBytes::File(file) => Box::new(Part::whole(file)),
            OutBytes::Memory(bytes) => Box::new(bytes.as_slice()),
        })
    }
}

impl OutImage<'_> {
    /// Returns what a name is to lead to.
    ///
    /// # Panics
    ///
    /// Never: there is a manifest.
    pub(crate) fn top(&self) -> &OutManifest {
        #[expect(clippy::expect_used, reason = "`prepare` puts one there")]
        self.manifests.last().expect("an image has a manifest")
    }
}

/// Keeps what is made in files without a name.
struct HeldSink<'s> {
    scratch: &'s Path,
    files: HashMap<BlobDigest, File>,
}

impl BlobSink for HeldSink<'_> {
    fn has(&self, digest: &BlobDigest) -> bool {
        self.files.contains_key(digest)
    }

    fn blob(&mut self, _: &BlobDigest, _: u64, _: &mut dyn Read) -> Result<(), OciExportError> {
        let error = io::ErrorKind::Unsupported.into();
        Err(write_error(self.scratch, error))
    }

    fn scratch(&self) -> Result<NamedTempFile, OciExportError> {
        scratch_in(self.scratch)
    }

    fn adopt(
        &mut self,
        digest: &BlobDigest,
        _: u64,
        file: NamedTempFile,
    ) -> Result<(), OciExportError> {
        let (file, name) = file.into_parts();
        let removed = name.close();
        removed.map_err(|error| write_error(self.scratch, error))?;
        self.files.insert(digest.clone(), file);
        Ok(())
    }

    fn file(&mut self, name: &str, _: &[u8]) -> Result<(), OciExportError> {
        let error = io::ErrorKind::Unsupported.into();
        Err(write_error(&self.scratch.join(name), error))
    }
}

impl<'b> OciExport<'b> {
    /// Makes what is to be sent: layers without a blob in files in `scratch` that have no
    /// name. With further platforms, there is a manifest over the same layers for each, and
    /// an index.
    pub(crate) fn prepare(
        self,
        scratch: &Path,
        further: &[Platform],
        framing: &Framing<'_>,
    ) -> Result<OutImage<'b>, OciExportError> {
        let mut out = OutImage {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        let mut sink = HeldSink {
            scratch,
            files: HashMap::new(),
        };
        let mut written = Vec::new();
        for layer in self.layers {
            match layer {
                OutLayer::Layer(layer) => {
                    let framing = (!self.artifact).then_some(framing);
                    let made = make(&mut sink, &layer, (self.compression, framing))?;
                    if let Some(file) = sink.files.get(&made.digest) {
                        let file = file.try_clone();
                        let file = file.map_err(|error| write_error(scratch, error))?;
                        out.blob(&made, OutBytes::File(Arc::new(file)));
                    }
                    written.push(made);
                }
                OutLayer::Blob {
                    digest,
                    size,
                    media_type,
                    diff_id,
                    open,
                } => {
                    let kept = WrittenBlob {
                        digest,
                        size,
                        media_type: oci_type(media_type),
                        diff_id,
                        annotations: Vec::new(),
                        data: None,
                    };
                    out.blob(&kept, OutBytes::Kept(open));
                    written.push(kept);
                }
            }
        }
        let (config, media_type) = match self.artifact {
            true => documents::artifact(self.config, self.config_bytes, &written),
            false => documents::config(self.config, self.config_bytes, &written),
        };
        let mut listed = Vec::new();
        listed.push(out.manifest((config, media_type), self.manifest_bytes, &written));
        for platform in further {
            let mut own = self.config.clone();
            own.os = Some(platform.os().to_owned());
            own.architecture = Some(platform.architecture().to_owned());
            own.variant = platform.variant().map(str::to_owned);
            let made = documents::config(&own, None, &written);
            listed.push(out.manifest(made, None, &written));
        }
        if !further.is_empty() {
            out.index(self.config, &listed, further);
        }
        Ok(out)
    }
}

impl<'b> OutImage<'b> {
    /// Adds a blob, unless it is there.
    fn blob(&mut self, written: &WrittenBlob, bytes: OutBytes<'b>) {
        if !self.blobs.iter().any(|blob| blob.digest == written.digest) {
            self.blobs.push(OutBlob {
                digest: written.digest.clone(),
                size: written.size,
                bytes,
            });
        }
    }

    /// Adds an index of manifests, the first for what the configuration says.
    fn index(&mut self, config: &ImageConfig, listed: &[WrittenBlob], further: &[Platform]) {
        let own = Platform::new(
            config.os.as_deref().unwrap_or(documents::OS),
            config
                .architecture
                .as_deref()
                .unwrap_or(documents::ARCHITECTURE),
            config.variant.as_deref(),
        );
        let platforms = std::iter::once(&own).chain(further);
        let index = documents::index_of(listed.iter().zip(platforms));
        self.manifests.push(OutManifest {
            digest: BlobDigest::of(&index),
            media_type: documents::INDEX.to_owned(),
            bytes: index,
        });
    }

    /// Adds a configuration, and the manifest of it.
    fn manifest(
        &mut self,
        (config, media_type): (Vec<u8>, &str),
        kept: Option<Vec<u8>>,
        layers: &[WrittenBlob],
    ) -> WrittenBlob {
        let written = WrittenBlob::of(&config, media_type);
        self.blob(&written, OutBytes::Memory(config));
        let (bytes, media_type) = documents::manifest(kept, &written, layers);
        let manifest = WrittenBlob::of(&bytes, &media_type);
        self.manifests.push(OutManifest {
            digest: manifest.digest.clone(),
            media_type,
            bytes,
        });
        manifest
    }
}
