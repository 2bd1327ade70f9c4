//! Removing what no tag reaches.

use std::collections::HashSet;

use super::catalog::{CatalogChange, CatalogView, RecordKind};
use super::locks::ImportLock;
use super::record::{BlobRecord, ImageRecord, LayerRecord, TagRecord};
use super::{Store, StoreError};
use crate::digest::Digest;

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Images that no tag led to.
    pub images: u64,
    /// Layers that no image had.
    pub layers: u64,
    /// Blobs that no image named.
    pub blobs: u64,
    /// Packs that no layer or blob named.
    pub packs: u64,
    /// Packs of which too little was in use, or was only there: what was has
    /// been written anew, where it was not in another pack already.
    pub repacked: u64,
    /// Damage that was met: what it is in, and the packs that this may name,
    /// were left as they are. [`Store::verify`] says what it is.
    pub damaged: u64,
    /// Whether packs were left as they are because the disk is full.
    pub postponed: bool,
    /// Bytes of files that are gone, less those that were written anew.
    pub freed_bytes: u64,
}

impl Store {
    /// Removes images that no tag leads to, and what only they had. Packs of
    /// which less than [`MIN_PACK_USE_PERCENT`](crate::limits::MIN_PACK_USE_PERCENT)
    /// is in use then, chunks that another pack has as well not counted, are
    /// taken apart: their files are read, what no other pack has is written
    /// into new packs, and what named the old ones is written anew in one step.
    ///
    /// What interrupted pulls left of blobs goes as well.
    ///
    /// Waits for running imports, and lets new ones wait; those of a process that
    /// has one go on. Needs no free byte to free what it can. Readers go on: what
    /// they have open stays readable until they let go (on Windows an index
    /// that is in use stays until the next collection). O(entries of all
    /// layers, chunks), and bytes of the files in packs that are taken apart;
    /// for these the disk needs room twice until it is done.
    ///
    /// # Errors
    ///
    /// [`StoreError::ReadOnly`]; [`StoreError::OwnImport`] if the calling thread
    /// has an import open; those of reading the catalog and of changing it, and of files that cannot
    /// be opened or written. What has become unreachable stays so, and the next
    /// collection removes it. Damage is no error: see [`GcReport::damaged`].
    pub fn gc(&self) -> Result<GcReport, StoreError> {
        self.check_writable()?;
        self.collect(&self.lock_for_collection()?)
    }

    /// Does that, under its lock.
    pub(super) fn collect(&self, _lock: &ImportLock) -> Result<GcReport, StoreError> {
        let mut report = GcReport::default();
        let mut freed = self.drop_incoming(&|_| true)?;
        loop {
            let round = self.0.catalog.change(forget)?;
            // Chunks of packs that are gone are not known any more.
            *self.0.known.lock() = super::ChunkIndex::default();
            freed += self.remove_unreachable()?;
            if round == GcReport::default() {
                break;
            }
            report.images += round.images;
            report.layers += round.layers;
            report.blobs += round.blobs;
            report.packs += round.packs;
        }
        match self.repack() {
            Ok(repacked) => {
                report.repacked = repacked.packs;
                report.damaged = repacked.damage.len() as u64;
                if repacked.packs > 0 {
                    freed += self.remove_unreachable()?;
                }
                report.freed_bytes = freed.saturating_sub(repacked.written_bytes);
            }
            // What is freed is freed; packs are taken apart when there is room.
            Err(error) if error.is_full() => {
                report.postponed = true;
                report.freed_bytes = freed;
                self.remove_unreachable()?;
            }
            Err(error) => return Err(error),
        }
        self.0.catalog.keep_reserve();
        Ok(report)
    }
}

/// Records that are removed in one change: it fits into the room that is kept
/// for removals, whatever the store holds.
pub(super) const ROUND: usize = 1000;

/// Takes what no tag reaches out of the catalog, images first: whatever is left
/// for the next round, nothing names what is gone.
fn forget(view: &CatalogView<'_>) -> Result<(Vec<CatalogChange>, GcReport), StoreError> {
    let tags = view.all::<TagRecord>(RecordKind::Tag)?;
    let tagged: HashSet<Digest> = tags.iter().map(|(_, tag)| tag.image).collect();
    let (mut changes, mut report) = (Vec::new(), GcReport::default());
    let mut packs: HashSet<Digest> = HashSet::new();
    let (mut layers, mut blobs) = (HashSet::new(), HashSet::new());
    for (key, image) in view.all::<ImageRecord>(RecordKind::Image)? {
        if super::digest_of(&key).is_some_and(|id| tagged.contains(&id)) {
            packs.extend(&image.packs);
            layers.extend(image.layers.iter().map(|layer| layer.digest));
            blobs.extend(image.blobs().map(|blob| blob.as_bytes().to_vec()));
        } else {
            changes.push(CatalogChange::Remove(RecordKind::Image, key));
        }
    }
    for (key, layer) in view.all::<LayerRecord>(RecordKind::Layer)? {
        if super::digest_of(&key).is_some_and(|digest| layers.contains(&digest)) {
            packs.extend(&layer.packs);
        } else {
            changes.push(CatalogChange::Remove(RecordKind::Layer, key));
        }
    }
    for (key, blob) in view.all::<BlobRecord>(RecordKind::Blob)? {
        if blobs.contains(&key) {
            packs.extend(&blob.packs);
        } else {
            changes.push(CatalogChange::Remove(RecordKind::Blob, key));
        }
    }
    for key in view.keys(RecordKind::Pack) {
        if !super::digest_of(key).is_some_and(|name| packs.contains(&name)) {
            changes.push(CatalogChange::Remove(RecordKind::Pack, key.to_vec()));
        }
    }
    changes.truncate(ROUND);
    for change in &changes {
        match change {
            CatalogChange::Remove(RecordKind::Image, _) => report.images += 1,
            CatalogChange::Remove(RecordKind::Layer, _) => report.layers += 1,
            CatalogChange::Remove(RecordKind::Blob, _) => report.blobs += 1,
            CatalogChange::Remove(RecordKind::Pack, _) => report.packs += 1,
            CatalogChange::Remove(RecordKind::Tag, _) | CatalogChange::Put(..) => {}
        }
    }
    Ok((changes, report))
}
