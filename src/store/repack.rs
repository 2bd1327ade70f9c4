//! Taking packs apart of which little is in use.
//!
//! All within one collection, which keeps imports out. What such packs still
//! hold is read and placed as by an import that does not know them; then
//! every layer, index and blob that names one is written anew, and the catalog
//! is changed in one step. Before that step nothing names the new files, after
//! it nothing names the old: what is left behind either way, the next opening
//! or collection removes. Readers have the old packs open.
//!
//! Damage stops nothing. A layer that cannot be read keeps the packs that the
//! catalog says it names, and a pack stays as it is if something would have to
//! be written anew that cannot be read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::catalog::{CatalogChange, CatalogView, RecordKind};
use super::file::StoredFile;
use super::lazy_pack::LazyPack;
use super::pack_table::HEADER;
use super::pack_writer::{ChunkIndex, PackWriter, key};
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord};
use super::run_table::{RunTable, sync_names};
use super::{Store, StoreError, digest_of};
use crate::chunk::Content;
use crate::digest::{Digest, Sha256};
use crate::image::Image;
use crate::layer::{EntryBody, Layer};
use crate::limits::MIN_PACK_USE_PERCENT;

/// What taking packs apart did.
#[derive(Default)]
pub(super) struct Repacked {
    pub(super) packs: u64,
    pub(super) written_bytes: u64,
    /// What was damaged, and so kept packs from being looked at or taken apart.
    pub(super) damage: Vec<StoreError>,
}

/// Ranges of a pack that something names: start and end.
type NamedRanges = Vec<(u64, u64)>;

/// What the catalog has that may name packs.
struct CatalogRecords {
    layers: Vec<(Digest, LayerRecord)>,
    images: Vec<(Digest, ImageRecord)>,
    blobs: Vec<(Sha256, BlobRecord)>,
    packs: Vec<Digest>,
}

impl Store {
    /// Takes packs apart of which too little is in use. The caller has the
    /// lock that keeps imports out, and removes the files afterwards.
    pub(super) fn repack(&self) -> Result<Repacked, StoreError> {
        let catalog = self.0.catalog.read(CatalogRecords::read)?;
        let mut used: HashMap<Digest, NamedRanges> = HashMap::new();
        let mut kept_packs = KeptPacks::default();
        for (digest, record) in &catalog.layers {
            match self.load_layer(*digest) {
                Ok(layer) => contents(&layer)
                    .iter()
                    .for_each(|content| add(&mut used, content)),
                Err(error) => kept_packs.note(error, &record.packs)?,
            }
        }
        for (digest, record) in &catalog.blobs {
            if record.absent.is_some() {
                continue;
            }
            match self.blob(*digest) {
                Ok(blob) => add(&mut used, blob.content()),
                Err(error) => kept_packs.note(error, &record.packs)?,
            }
        }
        let mut underused = self.underused(&catalog.packs, used, &mut kept_packs)?;
        self.keep_unreadable(&catalog, &mut underused, &mut kept_packs)?;
        let repacked = match underused.is_empty() {
            true => Repacked::default(),
            false => self.rewrite_packs(&catalog, &underused)?,
        };
        Ok(Repacked {
            damage: kept_packs.damage,
            ..repacked
        })
    }

    /// Names the packs of which too little is in use. Of chunks that several
    /// packs have, the ones in the pack with the most in use count.
    fn underused(
        &self,
        packs: &[Digest],
        mut used: HashMap<Digest, NamedRanges>,
        kept_packs: &mut KeptPacks,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut ranges: Vec<(Digest, NamedRanges)> = Vec::new();
        for name in packs
            .iter()
            .filter(|name| !kept_packs.packs.contains(*name))
            // One that lacks chunks stays as it is, and nobody counts on what it has.
            .filter(|name| !LazyPack::is_one(&self.0.packs.disk, **name))
        {
            ranges.push((*name, merged(used.remove(name).unwrap_or_default())));
        }
        let sum = |ranges: &NamedRanges| ranges.iter().map(|(start, end)| end - start).sum::<u64>();
        ranges.sort_by_key(|(name, ranges)| (std::cmp::Reverse(sum(ranges)), *name));
        let (mut kept, mut underused) = (HashSet::new(), HashSet::new());
        for (name, ranges) in ranges {
            match self.is_underused(name, &ranges, &mut kept) {
                Ok(true) => drop(underused.insert(name)),
                Ok(false) => {}
                Err(error) => {
                    kept_packs.note(error, &[name])?;
                    kept_packs.broken.insert(name);
                }
            }
        }
        Ok(underused)
    }

    /// Returns whether too little of a pack is in use. Of one that is kept, adds
    /// the chunks to `kept`.
    fn is_underused(
        &self,
        name: Digest,
        ranges: &NamedRanges,
        kept: &mut HashSet<u64>,
    ) -> Result<bool, StoreError> {
        let pack = self.0.packs.get(name)?;
        let mut own = 0;
        for (start, end) in ranges {
            for (digest, _, len) in pack.chunks_in(*start, end - start)? {
                if !kept.contains(&key(&digest)) {
                    own += u64::from(len);
                }
            }
        }
        if own * 100 < pack.data_bytes()? * MIN_PACK_USE_PERCENT {
            return Ok(true);
        }
        let all = pack.chunks_in(HEADER, u64::MAX)?;
        kept.extend(all.iter().map(|(digest, _, _)| key(digest)));
        Ok(false)
    }

    /// Takes those packs out of `underused` that something names which cannot be
    /// written anew: a file is damaged, or in a pack that is.
    fn keep_unreadable(
        &self,
        catalog: &CatalogRecords,
        underused: &mut HashSet<Digest>,
        kept_packs: &mut KeptPacks,
    ) -> Result<(), StoreError> {
        let layers = catalog.layers.iter();
        let layers = layers.map(|(digest, it)| (vec![*digest], &it.packs));
        // An index is made of all its layers.
        let images = catalog.images.iter().map(|(_, it)| {
            let stack = it.layers.iter().map(|layer| layer.digest);
            (stack.collect(), &it.packs)
        });
        let mut whole: HashMap<Digest, bool> = HashMap::new();
        for (stack, packs) in layers.chain(images) {
            if !packs.iter().any(|name| underused.contains(name)) {
                continue;
            }
            for digest in stack {
                let is_whole = match whole.get(&digest) {
                    Some(known) => *known,
                    None => self.can_be_written(digest, underused, kept_packs)?,
                };
                whole.insert(digest, is_whole);
                if !is_whole {
                    underused.retain(|name| !packs.contains(name));
                }
            }
        }
        for (digest, record) in &catalog.blobs {
            if record.packs.iter().any(|name| underused.contains(name)) {
                let blob = self.blob(*digest);
                let checked = blob.and_then(|blob| readable(blob.content(), underused, kept_packs));
                if let Err(error) = checked {
                    kept_packs.note(error, &[])?;
                    underused.retain(|name| !record.packs.contains(name));
                }
            }
        }
        Ok(())
    }

    /// Returns whether a layer and its files can be written anew.
    fn can_be_written(
        &self,
        digest: Digest,
        underused: &HashSet<Digest>,
        kept_packs: &mut KeptPacks,
    ) -> Result<bool, StoreError> {
        let checked = self.load_layer(digest).and_then(|layer| {
            let contents = contents(&layer);
            let mut contents = contents.iter();
            contents.try_for_each(|content| readable(content, underused, kept_packs))
        });
        match checked {
            Ok(()) => Ok(true),
            Err(error) => kept_packs.note(error, &[]).map(|()| false),
        }
    }

    fn rewrite_packs(
        &self,
        catalog: &CatalogRecords,
        underused: &HashSet<Digest>,
    ) -> Result<Repacked, StoreError> {
        let disk = &self.0.packs.disk;
        let is_underused = |packs: &[Digest]| packs.iter().any(|name| underused.contains(name));
        let layers = || {
            catalog
                .layers
                .iter()
                .filter(|(_, it)| is_underused(&it.packs))
        };
        let blobs = || {
            catalog
                .blobs
                .iter()
                .filter(|(_, it)| is_underused(&it.packs))
        };
        let mut run_table = self.run_table_without(catalog, underused)?;
        for (digest, _) in layers() {
            run_table.place_all(&self.load_layer(*digest)?)?;
        }
        for (digest, _) in blobs() {
            run_table.place(self.blob(*digest)?.content())?;
        }
        let fresh = run_table.writer.seal()?;
        let mut changes = run_table.pack_changes(&fresh)?;
        let mut written = run_table.writer.watch.sum().new_bytes;
        for (digest, _) in blobs() {
            let record = run_table.blob(self.blob(*digest)?.content())?;
            changes.push(CatalogChange::put(
                RecordKind::Blob,
                digest.as_bytes(),
                &record,
            )?);
        }
        for (digest, _) in layers() {
            let file = run_table.layer(disk, &self.load_layer(*digest)?)?;
            changes.push(CatalogChange::put(
                RecordKind::Layer,
                digest.as_bytes(),
                &file.record,
            )?);
            written += file.bytes;
        }
        written += self.rewrite_indexes(catalog, underused, &mut run_table, &mut changes)?;
        let gone = underused.iter().filter(|name| !fresh.contains(*name));
        changes.extend(
            gone.map(|name| CatalogChange::Remove(RecordKind::Pack, name.as_bytes().to_vec())),
        );
        sync_names(disk)?;
        self.0.catalog.change(|_| Ok((changes, ())))?;
        Ok(Repacked {
            packs: underused.len() as u64,
            written_bytes: written,
            damage: Vec::new(),
        })
    }

    /// Starts to write packs, as an import that knows all packs but the underused
    /// ones: what only these have is written anew.
    fn run_table_without(
        &self,
        catalog: &CatalogRecords,
        underused: &HashSet<Digest>,
    ) -> Result<RunTable, StoreError> {
        let mut index = ChunkIndex::default();
        let kept = catalog.packs.iter().copied();
        let kept: Vec<_> = kept.filter(|name| !underused.contains(name)).collect();
        index.refresh(&self.0.packs.disk, &kept)?;
        let index = Arc::new(Mutex::new(index));
        Ok(RunTable::new(PackWriter::new(&self.0.packs, &index)))
    }

    /// Writes the index of each image anew that names an underused pack, and adds
    /// its record to `changes`. Returns the bytes that were written.
    fn rewrite_indexes(
        &self,
        catalog: &CatalogRecords,
        underused: &HashSet<Digest>,
        run_table: &mut RunTable,
        changes: &mut Vec<CatalogChange>,
    ) -> Result<u64, StoreError> {
        let mut written = 0;
        for (id, old) in &catalog.images {
            // An index names what the layers name, or what they once did.
            if !old.packs.iter().any(|name| underused.contains(name)) {
                continue;
            }
            let stack = old.layers.iter().map(|layer| self.load_layer(layer.digest));
            let image = Image::new(&stack.collect::<Result<Vec<_>, _>>()?)?;
            let file = run_table.index(&self.0.packs.disk, &image)?;
            let (index, packs) = file.record;
            let record = ImageRecord {
                index,
                packs,
                ..old.clone()
            };
            changes.push(CatalogChange::put(
                RecordKind::Image,
                id.as_bytes(),
                &record,
            )?);
            written += file.bytes;
        }
        Ok(written)
    }

    /// Reads a layer that the catalog has.
    fn load_layer(&self, digest: Digest) -> Result<Layer, StoreError> {
        self.0.catalog.read(|view| self.read_layer(view, digest))
    }
}

/// What is left as it is.
#[derive(Default)]
struct KeptPacks {
    /// Packs that something damaged may name.
    packs: HashSet<Digest>,
    /// Packs whose own tables are damaged.
    broken: HashSet<Digest>,
    damage: Vec<StoreError>,
}

impl KeptPacks {
    /// Notes damage, and the packs that stay because of it. What could not be
    /// looked at ends the collection.
    fn note(&mut self, error: StoreError, packs: &[Digest]) -> Result<(), StoreError> {
        self.packs.extend(packs);
        if error.is_absence() {
            return Ok(());
        }
        if !error.is_damage() && !error.is_medium() {
            return Err(error);
        }
        self.damage.push(error);
        Ok(())
    }
}

/// Reads a file, if it would have to be written anew.
fn readable(
    content: &Content,
    underused: &HashSet<Digest>,
    kept_packs: &KeptPacks,
) -> Result<(), StoreError> {
    let moves = |name: Digest| underused.contains(&name) || kept_packs.broken.contains(&name);
    let stays = StoredFile::of(content).is_some_and(|file| {
        let mut names = file.runs.iter().map(|run| file.packs.name(run.pack.get()));
        !names.any(|name| name.is_none_or(moves))
    });
    if !stays {
        for piece in content.pieces() {
            drop(piece?);
        }
    }
    Ok(())
}

impl CatalogRecords {
    fn read(view: &CatalogView<'_>) -> Result<Self, StoreError> {
        let layers = view.all::<LayerRecord>(RecordKind::Layer)?.into_iter();
        let images = view.all::<ImageRecord>(RecordKind::Image)?.into_iter();
        let blobs = view.all::<BlobRecord>(RecordKind::Blob)?.into_iter();
        let packs = view.all::<PackRecord>(RecordKind::Pack)?.into_iter();
        Ok(Self {
            layers: layers
                .filter_map(|(key, it)| Some((digest_of(&key)?, it)))
                .collect(),
            images: images
                .filter_map(|(key, it)| Some((digest_of(&key)?, it)))
                .collect(),
            blobs: blobs
                .filter_map(|(key, it)| Some((Sha256::from_bytes(key.first_chunk().copied()?), it)))
                .collect(),
            packs: packs.filter_map(|(key, _)| digest_of(&key)).collect(),
        })
    }
}

fn contents(layer: &Layer) -> Vec<Content> {
    let files = layer.entries().filter_map(|entry| match entry.body {
        EntryBody::File { content, .. } => Some(content.clone()),
        _ => None,
    });
    files.collect()
}

/// Adds the ranges of packs that a content lies in.
fn add(used: &mut HashMap<Digest, NamedRanges>, content: &Content) {
    let Some(file) = StoredFile::of(content) else {
        return;
    };
    for run in &file.runs {
        if let Some(name) = file.packs.name(run.pack.get()) {
            let start = u64::from(run.offset.get());
            let range = (start, start + u64::from(run.len.get()));
            used.entry(name).or_default().push(range);
        }
    }
}

/// Joins ranges that overlap.
fn merged(mut ranges: NamedRanges) -> NamedRanges {
    ranges.sort_unstable();
    let mut joined: NamedRanges = Vec::new();
    for (start, end) in ranges {
        match joined.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}
