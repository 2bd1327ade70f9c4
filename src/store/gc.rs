//! Removing what no tag reaches.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::Path;

use super::catalog::{Change, Sort, View};
use super::disk::{INDEXES, LAYERS, PACKS, TMP};
use super::pack::file_name;
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord, TagRecord};
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
    /// were left as they are. `verify` tells of it.
    pub damaged: u64,
    /// Bytes of files that are gone, less those that were written anew.
    pub freed_bytes: u64,
}

/// Names that files of the store may have.
struct Live {
    packs: HashSet<String>,
    indexes: HashSet<String>,
    layers: HashSet<String>,
}

impl Store {
    /// Removes images that no tag leads to, and what only they had. Packs of
    /// which less than [`MIN_PACK_USE_PERCENT`](crate::limits::MIN_PACK_USE_PERCENT)
    /// is in use then, chunks that another pack has as well not counted, are
    /// taken apart: their files are read, what no other pack has is written
    /// into new packs, and what named the old ones is written anew in one step.
    ///
    /// Waits for running imports, and lets new ones wait. Readers go on: what
    /// they have open stays readable until they let go (on Windows an index
    /// that is in use stays until the next collection). O(entries of all
    /// layers, chunks), and bytes of the files in packs that are taken apart;
    /// for these the disk needs room twice until it is done.
    ///
    /// # Errors
    ///
    /// Those of reading the catalog and of changing it, and of files that cannot
    /// be opened or written. What has become unreachable stays so, and the next
    /// collection removes it. Damage is no error: see [`GcReport::damaged`].
    pub fn gc(&self) -> Result<GcReport, StoreError> {
        let _lock = self.lock_imports(true)?;
        let mut report = self.0.catalog.change(forget)?;
        // Chunks of packs that are gone are not known any more.
        *self.0.known.lock() = super::Known::default();
        let mut freed = self.remove_unreachable()?;
        let repacked = self.repack()?;
        if repacked.packs > 0 {
            freed += self.remove_unreachable()?;
        }
        report.repacked = repacked.packs;
        report.damaged = repacked.damage.len() as u64;
        report.freed_bytes = freed.saturating_sub(repacked.written_bytes);
        Ok(report)
    }

    /// Removes what imports left behind that did not end, unless one is
    /// running.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let disk = &self.0.packs.disk;
        let path = disk.path("imports.lock");
        let file = disk.open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => self.remove_unreachable().map(drop),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Removes every file that the catalog does not know. The caller has the
    /// lock that keeps imports out.
    fn remove_unreachable(&self) -> Result<u64, StoreError> {
        let live = self.0.catalog.read(live)?;
        let disk = &self.0.packs.disk;
        let mut freed = 0;
        for (dir, keep) in [
            (TMP, None),
            (INDEXES, Some(&live.indexes)),
            (LAYERS, Some(&live.layers)),
            (PACKS, Some(&live.packs)),
        ] {
            for (path, _) in disk.list(dir)? {
                if !keep.is_some_and(|keep| is_in(keep, &path)) {
                    match disk.remove(&path) {
                        Ok(bytes) => freed += bytes,
                        // In use, on systems where that keeps a file.
                        Err(StoreError::Io { .. }) if cfg!(windows) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(freed)
    }
}

fn is_in(names: &HashSet<String>, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| names.contains(name))
}

fn live(view: &View<'_>) -> Result<Live, StoreError> {
    let packs = view.all::<PackRecord>(Sort::Pack)?;
    let names = packs.iter().filter_map(|(key, _)| super::digest_of(key));
    let images = view.all::<ImageRecord>(Sort::Image)?;
    let layers = view.all::<LayerRecord>(Sort::Layer)?;
    Ok(Live {
        packs: names.map(file_name).collect(),
        indexes: images
            .iter()
            .map(|(_, image)| file_name(image.index))
            .collect(),
        layers: layers
            .iter()
            .map(|(_, layer)| file_name(layer.file))
            .collect(),
    })
}

/// Takes what no tag reaches out of the catalog.
fn forget(view: &View<'_>) -> Result<(Vec<Change>, GcReport), StoreError> {
    let tags = view.all::<TagRecord>(Sort::Tag)?;
    let tagged: HashSet<Digest> = tags.iter().map(|(_, tag)| tag.image).collect();
    let (mut changes, mut report) = (Vec::new(), GcReport::default());
    let mut packs: HashSet<Digest> = HashSet::new();
    let (mut layers, mut blobs) = (HashSet::new(), HashSet::new());
    for (key, image) in view.all::<ImageRecord>(Sort::Image)? {
        if super::digest_of(&key).is_some_and(|id| tagged.contains(&id)) {
            packs.extend(&image.packs);
            layers.extend(image.layers.iter().map(|layer| layer.digest));
            blobs.extend(image.blobs().map(|blob| blob.as_bytes().to_vec()));
        } else {
            changes.push(Change::Remove(Sort::Image, key));
            report.images += 1;
        }
    }
    for (key, layer) in view.all::<LayerRecord>(Sort::Layer)? {
        if super::digest_of(&key).is_some_and(|digest| layers.contains(&digest)) {
            packs.extend(&layer.packs);
        } else {
            changes.push(Change::Remove(Sort::Layer, key));
            report.layers += 1;
        }
    }
    for (key, blob) in view.all::<BlobRecord>(Sort::Blob)? {
        if blobs.contains(&key) {
            packs.extend(&blob.packs);
        } else {
            changes.push(Change::Remove(Sort::Blob, key));
            report.blobs += 1;
        }
    }
    for (key, _) in view.all::<PackRecord>(Sort::Pack)? {
        if !super::digest_of(&key).is_some_and(|name| packs.contains(&name)) {
            changes.push(Change::Remove(Sort::Pack, key));
            report.packs += 1;
        }
    }
    Ok((changes, report))
}
