//! One layer into a layout.

use std::io::{self, BufWriter, Write};

use super::documents::WrittenBlob;
#[cfg(feature = "store")]
use super::frames::{FrameMap, FrameMarks, Framer};
use super::members::{MemberCompression, Members};
use super::sink::{BlobSink, write_error};
use super::{Compression, Framing, OciExportError, OutLayer};
use crate::layer::Layer;
use crate::source::BlobDigest;
use crate::source::oci::{Checked, Hasher};

/// Bytes that are collected for a write of a layer's file.
pub(super) const BUFFER_BYTES: usize = 256 * 1024;

/// The media type of a layer, whatever follows for its compression.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Writes a layer as a blob.
pub(super) fn write_layer(
    sink: &mut dyn BlobSink,
    layer: OutLayer<'_>,
    form: (Compression, Option<&Framing<'_>>),
) -> Result<WrittenBlob, OciExportError> {
    match layer {
        OutLayer::Layer(layer) => make(sink, &layer, form),
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
                annotations: Vec::new(),
                data: None,
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
#[cfg_attr(
    not(feature = "store"),
    expect(unused_variables, reason = "without stores there are no frames")
)]
pub(super) fn make(
    sink: &mut dyn BlobSink,
    layer: &Layer,
    (compression, framing): (Compression, Option<&Framing<'_>>),
) -> Result<WrittenBlob, OciExportError> {
    let mut file = sink.scratch()?;
    let named = |error| OciExportError::Layer {
        digest: layer.digest(),
        error,
    };
    let path = file.path().to_owned();
    let failed = |error| write_error(&path, error);
    let mut out = Hashing::new(BufWriter::with_capacity(BUFFER_BYTES, file.as_file_mut()));
    #[cfg_attr(not(feature = "store"), expect(unused_mut, reason = "likewise"))]
    let mut annotations = Vec::new();
    let mut packed = |packing| {
        let members = Members::new(&mut out, packing);
        #[cfg(feature = "store")]
        if let Some(framing) = framing {
            let marks = FrameMarks::default();
            let out = Hashing::new(Framer::new(members, marks.clone()));
            let marks = std::sync::Arc::new(marks);
            let written = crate::source::write_layer_with(layer, out, marks, framing.start);
            let (framer, diff_id, _) = written.map_err(named)?.into_parts();
            let (out, map) = framer.finish().map_err(failed)?;
            annotations = hide_table(out, layer, (compression, framing), &map).map_err(failed)?;
            return Ok(Some(diff_id));
        }
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
        annotations,
        data: None,
    })
}

/// Writes the table of a layer behind its frames. Returns what is said of it where the layer
/// is named; nothing if there is no table.
#[cfg(feature = "store")]
fn hide_table<W: Write>(
    out: &mut Hashing<W>,
    layer: &Layer,
    (compression, framing): (Compression, &Framing<'_>),
    map: &FrameMap,
) -> io::Result<Vec<(&'static str, String)>> {
    let Some(table) = (framing.table)(layer, map)? else {
        return Ok(Vec::new());
    };
    let hidden = crate::source::hidden::hide(&table, compression)?;
    let place = out.len;
    out.write_all(&hidden)?;
    let digest = crate::digest::Digest::of(&hidden);
    let start = map.frames.iter().take(map.start_frames);
    let start: u64 = start.map(|(compressed, _)| u64::from(*compressed)).sum();
    let mut annotations = vec![(
        crate::source::TABLE_ANNOTATION,
        format!("{place}:{}:{digest}", hidden.len()),
    )];
    if start > 0 {
        annotations.push((crate::source::START_ANNOTATION, start.to_string()));
    }
    Ok(annotations)
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
pub(super) struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    pub(super) len: u64,
}

impl<W: Write> Hashing<W> {
    pub(super) fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Hasher::sha256(),
            len: 0,
        }
    }

    pub(super) fn into_parts(self) -> (W, BlobDigest, u64) {
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
