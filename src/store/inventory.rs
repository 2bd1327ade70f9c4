//! What images hold together, and what goes when some of them go. Nothing is changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::catalog::{CatalogView, RecordKind};
use super::disk::{Disk, INDEXES, LAYERS, PACKS};
use super::gc::GcReport;
use super::lazy_pack::{LAZY, LazyPack};
use super::pack::file_name;
use super::record::{BlobRecord, ImageRecord, LayerRecord, TagRecord};
use super::{StoreError, digest_of};
use crate::digest::{Digest, Sha256};
use crate::image::ImageId;

/// A thing that images hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum StoredPart {
    Index(Digest),
    /// A layer, by the digest of its tree.
    Layer(Digest),
    Blob(Sha256),
    Pack(Digest),
}

/// An image that tags lead to.
pub(super) struct HeldImage {
    pub(super) id: ImageId,
    pub(super) tags: Vec<String>,
    /// Whether a pull gave it all of these, so that another one brings it again.
    pub(super) is_pulled: bool,
    pub(super) added: i64,
    parts: Vec<StoredPart>,
}

/// All images that tags lead to, and how many of them hold what.
pub(super) struct Inventory {
    pub(super) images: Vec<HeldImage>,
    /// What a part holds in turn, and its bytes on disk.
    known: HashMap<StoredPart, (Vec<StoredPart>, u64)>,
    holders: HashMap<StoredPart, u64>,
    /// Bytes of all that is held.
    pub(super) bytes: u64,
    /// What no tag leads to, and what goes with it.
    pub(super) gone: GcReport,
}

impl Inventory {
    pub(super) fn read(view: &CatalogView<'_>, disk: &Disk) -> Result<Self, StoreError> {
        let mut tags: BTreeMap<Digest, (Vec<String>, bool)> = BTreeMap::new();
        for (name, tag) in view.all::<TagRecord>(RecordKind::Tag)? {
            let (names, pulled) = tags.entry(tag.image).or_insert((Vec::new(), true));
            names.push(String::from_utf8_lossy(&name).into_owned());
            *pulled &= tag.pulled;
        }
        let mut all = Self {
            images: Vec::new(),
            known: known(view, disk)?,
            holders: HashMap::new(),
            bytes: 0,
            gone: GcReport::default(),
        };
        for (key, record) in view.all::<ImageRecord>(RecordKind::Image)? {
            let tags = digest_of(&key).and_then(|id| Some((id, tags.remove(&id)?)));
            let Some((id, (tags, is_pulled))) = tags else {
                all.gone.images += 1;
                continue;
            };
            let image = HeldImage {
                id,
                tags,
                is_pulled,
                added: record.added,
                parts: parts_of(&record),
            };
            image.parts.iter().for_each(|part| all.hold(*part));
            all.images.push(image);
        }
        let unheld: Vec<StoredPart> = all.known.keys().copied().collect();
        for part in unheld {
            if !all.holders.contains_key(&part) {
                all.count_gone(part);
            }
        }
        Ok(all)
    }

    fn hold(&mut self, part: StoredPart) {
        let holders = self.holders.entry(part).or_insert(0);
        *holders += 1;
        if *holders > 1 {
            return;
        }
        if let Some((parts, bytes)) = self.known.get(&part) {
            self.bytes += bytes;
            parts.clone().into_iter().for_each(|part| self.hold(part));
        }
    }

    fn let_go(&mut self, part: StoredPart) {
        let Some(holders) = self.holders.get_mut(&part) else {
            return;
        };
        *holders -= 1;
        if *holders > 0 {
            return;
        }
        self.holders.remove(&part);
        self.count_gone(part);
        if let Some((parts, bytes)) = self.known.get(&part) {
            self.bytes -= bytes;
            parts.clone().into_iter().for_each(|part| self.let_go(part));
        }
    }

    fn count_gone(&mut self, part: StoredPart) {
        let bytes = self.known.get(&part).map_or(0, |(_, bytes)| *bytes);
        self.gone.freed_bytes += bytes;
        match part {
            StoredPart::Index(_) => {}
            StoredPart::Layer(_) => self.gone.layers += 1,
            StoredPart::Blob(_) => self.gone.blobs += 1,
            StoredPart::Pack(_) => self.gone.packs += 1,
        }
    }

    /// Takes an image out, by its place in the list.
    pub(super) fn drop_image(&mut self, at: usize) {
        let parts = self
            .images
            .get_mut(at)
            .map(|it| std::mem::take(&mut it.parts));
        let Some(parts) = parts else { return };
        self.gone.images += 1;
        parts.into_iter().for_each(|part| self.let_go(part));
    }
}

fn parts_of(record: &ImageRecord) -> Vec<StoredPart> {
    let layers = record
        .layers
        .iter()
        .map(|layer| StoredPart::Layer(layer.digest));
    let packs = record.packs.iter().map(|pack| StoredPart::Pack(*pack));
    let all = layers
        .chain(packs)
        .chain(record.blobs().map(StoredPart::Blob));
    let all: HashSet<StoredPart> = all.chain([StoredPart::Index(record.index)]).collect();
    all.into_iter().collect()
}

/// Reads what there is: what each part holds, and its bytes on disk.
fn known(
    view: &CatalogView<'_>,
    disk: &Disk,
) -> Result<HashMap<StoredPart, (Vec<StoredPart>, u64)>, StoreError> {
    let packs_of = |packs: &[Digest]| packs.iter().map(|pack| StoredPart::Pack(*pack)).collect();
    let mut known = HashMap::new();
    for (_, image) in view.all::<ImageRecord>(RecordKind::Image)? {
        let bytes = disk.bytes(INDEXES, image.index);
        known.insert(StoredPart::Index(image.index), (Vec::new(), bytes));
    }
    for (key, layer) in view.all::<LayerRecord>(RecordKind::Layer)? {
        if let Some(digest) = digest_of(&key) {
            let bytes = disk.bytes(LAYERS, layer.file);
            known.insert(StoredPart::Layer(digest), (packs_of(&layer.packs), bytes));
        }
    }
    for (key, blob) in view.all::<BlobRecord>(RecordKind::Blob)? {
        if let Ok(key) = <[u8; 32]>::try_from(&*key) {
            let blob_key = StoredPart::Blob(Sha256::from_bytes(key));
            known.insert(blob_key, (packs_of(&blob.packs), 0));
        }
    }
    for name in view.keys(RecordKind::Pack).filter_map(digest_of) {
        let bytes = match LazyPack::is_one(disk, name) {
            true => disk.taken(PACKS, name) + disk.bytes(LAZY, name),
            false => disk.bytes(PACKS, name),
        };
        known.insert(StoredPart::Pack(name), (Vec::new(), bytes));
    }
    Ok(known)
}

impl Disk {
    /// Returns the bytes of a file of this name; 0 if it is not there.
    fn bytes(&self, dir: &str, name: Digest) -> u64 {
        let path = self.file_in(dir, &file_name(name));
        path.symlink_metadata().map_or(0, |meta| meta.len())
    }

    /// Returns the bytes that a file takes which has holes.
    fn taken(&self, dir: &str, name: Digest) -> u64 {
        let path = self.file_in(dir, &file_name(name));
        let meta = path.symlink_metadata();
        #[cfg(unix)]
        let taken = |meta: &std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            meta.len().min(meta.blocks().saturating_mul(512))
        };
        #[cfg(not(unix))]
        let taken = std::fs::Metadata::len;
        meta.as_ref().map_or(0, taken)
    }
}
