//! One layer into a layout.

use std::io::{self, BufWriter, Write};

use super::documents::WrittenBlob;
use super::members::{MemberCompression, Members};
use super::sink::{BlobSink, write_error};
use super::{Compression, OciExportError, OutLayer};
use crate::layer::Layer;
use crate::source::BlobDigest;
use crate::source::oci::{Checked, Hasher};

/// Bytes that are collected for a write of a layer's file.
const BUFFER_BYTES: usize = 256 * 1024;

/// The media type of a layer, whatever follows for its compression.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes a layer as a blob.
pub(super) fn write_layer(
    sink: &mut dyn BlobSink,
    layer: OutLayer<'_>,
    compression: Compression,
) -> Result<WrittenBlob, OciExportError> {
    match layer {
        OutLayer::Layer(layer) => make(sink, &layer, compression),
        OutLayer::Blob {
            digest,
            size,
            media_type,
            diff_id,
            open,
        } => {
            let written = WrittenBlob {
                digest,
                size,
                media_type: oci_type(media_type),
                diff_id,
            };
            if !sink.has(&written.digest) {
                let opened = open().map_err(|error| OciExportError::Read {
                    digest: written.digest.clone(),
                    error,
                })?;
                copy(sink, &written, opened)?;
            }
            Ok(written)
        }
    }
}

/// Copies a blob, and sees that it is the one.
fn copy(
    sink: &mut dyn BlobSink,
    written: &WrittenBlob,
    bytes: impl io::Read,
) -> Result<(), OciExportError> {
    let mut checked = Checked::new(bytes, &written.digest);
    sink.blob(&written.digest, written.size, &mut checked)?;
    checked
        .finish(written.size)
        .map_err(|reason| OciExportError::Blob {
            digest: written.digest.clone(),
            reason: reason.to_string(),
        })
}

/// Makes a blob of a layer, in a file whose name is found with its bytes.
pub(super) fn make(
    sink: &mut dyn BlobSink,
    layer: &Layer,
    compression: Compression,
) -> Result<WrittenBlob, OciExportError> {
    let mut file = sink.scratch()?;
    let named = |error| OciExportError::Layer {
        digest: layer.digest(),
        error,
    };
    let path = file.path().to_owned();
    let failed = |error| write_error(&path, error);
    let mut out = Hashing::new(BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut()));
    let mut packed = |packing| {
        let members = Members::new(&mut out, packing);
        let written = crate::source::write_layer(layer, Hashing::new(members)).map_err(named)?;
        let (members, diff_id, _) = written.into_parts();
        members.finish().map_err(failed)?;
        Ok(Some(diff_id))
    };
    let diff_id = match compression {
        // The blob is the archive: hashed once.
        Compression::None => {
            crate::source::write_layer(layer, &mut out).map_err(named)?;
            None
        }
        Compression::Gzip => packed(MemberCompression::Gzip)?,
        Compression::Zstd => packed(MemberCompression::Zstd)?,
    };
    let (mut out, digest, size) = out.into_parts();
    let diff_id = diff_id.unwrap_or_else(|| digest.clone());
    out.flush().map_err(failed)?;
    drop(out);
    if !sink.has(&digest) {
        sink.adopt(&digest, size, file)?;
    }
    let suffix = match compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
    };
    Ok(WrittenBlob {
        digest,
        size,
        media_type: format!("{LAYER}{suffix}"),
        diff_id,
    })
}

/// Docker's media types in OCI's words: a manifest of OCI's has no others.
pub(super) fn oci_type(media_type: String) -> String {
    let oci = "application/vnd.oci.image.layer";
    match media_type.strip_prefix("application/vnd.docker.image.rootfs.") {
        Some("diff.tar") => LAYER.to_owned(),
        Some("diff.tar.gzip") => format!("{LAYER}+gzip"),
        Some("diff.tar.zstd") => format!("{LAYER}+zstd"),
        Some("foreign.diff.tar") => format!("{oci}.nondistributable.v1.tar"),
        Some("foreign.diff.tar.gzip") => format!("{oci}.nondistributable.v1.tar+gzip"),
        _ => media_type,
    }
}

/// Hashes and counts what is written.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    len: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::sha256(),
            len: 0,
        }
    }

    fn into_parts(self) -> (W, BlobDigest, u64) {
        (self.inner, self.hasher.finish_digest(), self.len)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(buf)?;
        self.hasher.update(buf.get(..len).unwrap_or_default());
        self.len += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
