//! Reading everything again.

use super::catalog::Sort;
use super::pack::Pack;
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord};
use super::{Store, StoreError, digest_of};
use crate::digest::Sha256;

/// What a verification looked at, and what it found wrong.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Blobs.
    pub blobs: u64,
    /// Packs.
    pub packs: u64,
    /// Chunks.
    pub chunks: u64,
    /// Bytes of chunks.
    pub bytes: u64,
    /// What is not as it was, in no order.
    pub errors: Vec<StoreError>,
}

impl VerifyReport {
    /// Tells whether all is as it was.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }
}

impl Store {
    /// Reads every byte of the store and holds it against its digest: chunks,
    /// indexes, layers, blobs, records of the catalog. Changes nothing.
    ///
    /// O(bytes). Imports go on meanwhile; `gc` waits.
    ///
    /// # Errors
    ///
    /// Those that keep it from looking at all; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let _lock = self.lock_imports(false)?;
        let (images, layers, blobs, packs) = self.0.catalog.read(|view| {
            view.check_sum()?;
            Ok((
                view.all::<ImageRecord>(Sort::Image)?,
                view.all::<LayerRecord>(Sort::Layer)?,
                view.all::<BlobRecord>(Sort::Blob)?,
                view.all::<PackRecord>(Sort::Pack)?,
            ))
        })?;
        let mut report = VerifyReport {
            images: images.len() as u64,
            layers: layers.len() as u64,
            blobs: blobs.len() as u64,
            packs: packs.len() as u64,
            ..VerifyReport::default()
        };
        for name in packs.iter().filter_map(|(key, _)| digest_of(key)) {
            // Opened afresh, so that its table is read again too.
            match Pack::open(&self.0.packs.disk, name) {
                Ok(pack) => {
                    let (chunks, bytes, wrong) = pack.verify();
                    report.chunks += chunks;
                    report.bytes += bytes;
                    report.errors.extend(wrong);
                }
                Err(error) => report.errors.push(error),
            }
        }
        for digest in layers.iter().filter_map(|(key, _)| digest_of(key)) {
            let layer = self.0.catalog.read(|view| self.read_layer(view, digest));
            report.errors.extend(layer.err());
        }
        for (key, record) in &images {
            let Some(id) = digest_of(key) else { continue };
            let image = self.open_index(id, record);
            let held = image.and_then(|image| Ok(image.verify().map(drop)?));
            report.errors.extend(held.err());
        }
        for (key, _) in &blobs {
            let Some(digest) = key.first_chunk().copied().map(Sha256::from_bytes) else {
                continue;
            };
            let held = self.blob(digest).and_then(|blob| blob.check_all());
            report.errors.extend(held.err());
        }
        Ok(report)
    }
}
