//! How large a store is.

use super::catalog::{COPY, LOG, OLD, RESERVE, RecordKind};
use super::disk::{INDEXES, LAYERS, PACKS, TMP};
use super::incoming::INCOMING;
use super::lazy_pack::LAZY;
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord, TagRecord};
use super::{Store, StoreError};

/// What a store has, and the bytes that it takes.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStat {
    /// Tags.
    pub tags: u64,
    /// Images, tagged or not.
    pub images: u64,
    /// Distinct layers.
    pub layers: u64,
    /// Packs.
    pub packs: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of files of all images, holes included and nothing shared.
    pub logical_bytes: u64,
    /// Bytes of blobs, nothing shared.
    pub blob_bytes: u64,
    /// Bytes of chunks, each held once.
    pub chunk_bytes: u64,
    /// Bytes of the packs' files, those that are not here included, and of what says where these
    /// come from.
    pub pack_bytes: u64,
    /// Bytes of the indexes.
    pub index_bytes: u64,
    /// Bytes of the layers' entries.
    pub layer_bytes: u64,
    /// Bytes of the catalog, its copy, and the room that is kept for removals.
    pub catalog_bytes: u64,
    /// Bytes of what is on its way in, or was left behind, blobs of interrupted pulls
    /// included.
    pub unfinished_bytes: u64,
    /// Chunks that are not here, of images that were pulled in part.
    pub absent_chunks: u64,
    /// Bytes of these: they are part of [`chunk_bytes`](Self::chunk_bytes).
    pub absent_bytes: u64,
    /// Blobs that are not here.
    pub absent_blobs: u64,
    /// Images of which tables say what is in their files, and nobody has held that against
    /// their archives.
    pub unchecked_images: u64,
}

impl StoreStat {
    /// Adds up the bytes of all files, without those that are not here.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        (self.pack_bytes
            + self.index_bytes
            + self.layer_bytes
            + self.catalog_bytes
            + self.unfinished_bytes)
            .saturating_sub(self.absent_bytes)
    }
}

impl Store {
    /// Counts what there is. O(records of the catalog, files; bytes of packs that lack some).
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn stat(&self) -> Result<StoreStat, StoreError> {
        let mut stat = self.0.catalog.read(|view| {
            let images = view.all::<ImageRecord>(RecordKind::Image)?;
            let blobs = view.all::<BlobRecord>(RecordKind::Blob)?;
            let packs = view.all::<PackRecord>(RecordKind::Pack)?;
            Ok(StoreStat {
                tags: view.all::<TagRecord>(RecordKind::Tag)?.len() as u64,
                images: images.len() as u64,
                layers: view.all::<LayerRecord>(RecordKind::Layer)?.len() as u64,
                packs: packs.len() as u64,
                blobs: blobs.len() as u64,
                logical_bytes: images.iter().map(|(_, image)| image.logical_bytes).sum(),
                blob_bytes: blobs.iter().map(|(_, blob)| blob.bytes).sum(),
                chunk_bytes: packs.iter().map(|(_, pack)| pack.bytes).sum(),
                ..StoreStat::default()
            })
        })?;
        let disk = &self.0.packs.disk;
        let sum = |dir| Ok::<u64, StoreError>(disk.list(dir)?.iter().map(|(_, len)| len).sum());
        stat.pack_bytes = sum(PACKS)?;
        if disk.path(LAZY).is_dir() {
            stat.pack_bytes += sum(LAZY)?;
        }
        stat.index_bytes = sum(INDEXES)?;
        stat.layer_bytes = sum(LAYERS)?;
        stat.unfinished_bytes = sum(TMP)?;
        if disk.path(INCOMING).is_dir() {
            stat.unfinished_bytes += sum(INCOMING)?;
        }
        let absent = self.absent_of_all()?;
        (stat.absent_chunks, stat.absent_bytes) = (absent.chunks, absent.bytes);
        (stat.absent_blobs, stat.unchecked_images) = (absent.blobs, absent.unchecked);
        let own = [LOG, COPY, OLD, RESERVE].map(|name| disk.path(name).symlink_metadata());
        stat.catalog_bytes = own.into_iter().flatten().map(|meta| meta.len()).sum();
        Ok(stat)
    }
}
