//! What images lack that were pulled in part.

use std::collections::{BTreeMap, BTreeSet};
#[cfg(feature = "registry")]
use std::sync::Arc;

use super::catalog::{CatalogView, RecordKind};
use super::file::StoredFile;
#[cfg(feature = "registry")]
use super::homes::named_at;
#[cfg(feature = "registry")]
use super::lazy_pack::FrameSource;
use super::lazy_pack::LazyPack;
use super::pack::Pack;
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord};
use super::{Store, StoreError, digest_of, reference};
use crate::chunk::Content;
use crate::digest::{Digest, Sha256};
use crate::image::Image;
use crate::layer::{EntryBody, Layer};

/// What is not here of an image, or of all of them.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbsentStat {
    /// Chunks of files.
    pub chunks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Blobs of layers, which go out again only once they are here.
    pub blobs: u64,
    /// Images of which tables say what is in their files, and nobody has held that against
    /// their archives.
    pub unchecked: u64,
    /// The images that all that comes from: `HOST/NAME@sha256:HEX`.
    pub from: Vec<String>,
}

impl AbsentStat {
    /// Returns whether everything is here, and is what it is said to be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.chunks == 0 && self.blobs == 0 && self.unchecked == 0
    }
}

impl Store {
    /// Returns what is not here of an image. For an image that was pulled in part O(entries),
    /// and bytes of its files in packs that may lack chunks; else O(layers).
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info); those of reading.
    pub fn absent(&self, reference: &str) -> Result<AbsentStat, StoreError> {
        let (blobs, record, lazy) = self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, reference)?;
            let blobs = absent_blobs(view, record.blobs())?;
            let mut lazy = packs_of(view, &record)?;
            lazy.retain(|name| LazyPack::is_one(&self.0.packs.disk, *name));
            Ok((blobs, record, lazy))
        })?;
        let mut stat = AbsentStat {
            blobs: blobs.len() as u64,
            unchecked: record.by_table.into(),
            ..AbsentStat::default()
        };
        let mut from: BTreeSet<String> = blobs.into_iter().map(|(_, from)| from).collect();
        if !lazy.is_empty() {
            let image = self.image(reference)?;
            let layers = self.layers(reference)?;
            let mut lacking: BTreeMap<(Digest, u64), u32> = BTreeMap::new();
            each_content(&image, &layers, &mut |content| {
                lacking_of(content, &lazy, &mut lacking)
            })?;
            stat.chunks = lacking.len() as u64;
            stat.bytes = lacking.values().map(|len| u64::from(*len)).sum();
            let names: BTreeSet<Digest> = lacking.into_keys().map(|(name, _)| name).collect();
            let disk = &self.0.packs.disk;
            let found = names
                .into_iter()
                .filter_map(|name| LazyPack::of(disk, name));
            from.extend(found.flat_map(|lazy| lazy.homes));
        }
        stat.from = from.into_iter().collect();
        Ok(stat)
    }

    /// Returns whether something of an image may not be here, or was not held against its archive:
    /// [`absent`](Self::absent) says what. O(layers).
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn may_lack(&self, reference: &str) -> Result<bool, StoreError> {
        self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, reference)?;
            let mut packs = packs_of(view, &record)?.into_iter();
            Ok(record.by_table
                || packs.any(|name| LazyPack::is_one(&self.0.packs.disk, name))
                || !absent_blobs(view, record.blobs())?.is_empty())
        })
    }

    /// Returns what is not here of all images together.
    pub(super) fn absent_of_all(&self) -> Result<AbsentStat, StoreError> {
        let disk = &self.0.packs.disk;
        let (blobs, unchecked, packs) = self.0.catalog.read(|view| {
            let images = view.all::<ImageRecord>(RecordKind::Image)?;
            let unchecked = images.iter().filter(|(_, image)| image.by_table).count();
            let blobs: BTreeSet<Sha256> = images.iter().flat_map(|(_, it)| it.blobs()).collect();
            let packs = view.all::<PackRecord>(RecordKind::Pack)?.into_iter();
            let packs: Vec<Digest> = packs.filter_map(|(key, _)| digest_of(&key)).collect();
            Ok((absent_blobs(view, blobs.into_iter())?, unchecked, packs))
        })?;
        let mut stat = AbsentStat {
            blobs: blobs.len() as u64,
            unchecked: unchecked as u64,
            ..AbsentStat::default()
        };
        let mut from: BTreeSet<String> = blobs.into_iter().map(|(_, from)| from).collect();
        for name in packs {
            if let Some(lazy) = LazyPack::of(disk, name) {
                let found = Pack::open_once(disk, name)?.verify();
                stat.chunks += found.absent_chunks;
                stat.bytes += found.absent_bytes;
                if found.absent_chunks > 0 {
                    from.extend(lazy.homes);
                }
            }
        }
        stat.from = from.into_iter().collect();
        Ok(stat)
    }

    /// Says whence comes what is not here. Reads wait for it from then on, instead of failing.
    #[cfg(feature = "registry")]
    pub(crate) fn fetch_from(&self, source: Arc<dyn FrameSource>) -> Result<(), StoreError> {
        self.check_writable()?;
        self.0.packs.fetcher.set_source(source);
        Ok(())
    }

    /// Returns the images that the blobs come from which are not here of this one, each by its names where
    /// it can be had, the one that is asked first in front.
    #[cfg(feature = "registry")]
    pub(crate) fn blobs_from(&self, reference: &str) -> Result<BTreeSet<Vec<String>>, StoreError> {
        let (blobs, packs) = self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, reference)?;
            Ok((
                absent_blobs(view, record.blobs())?,
                packs_of(view, &record)?,
            ))
        })?;
        let disk = &self.0.packs.disk;
        let mut homes: BTreeMap<Sha256, Vec<String>> = BTreeMap::new();
        for lazy in packs
            .into_iter()
            .filter_map(|name| LazyPack::of(disk, name))
        {
            homes.entry(lazy.blob).or_default().extend(lazy.homes);
        }
        let named = |(blob, from): (Sha256, String)| {
            let mut names: Vec<String> = Vec::new();
            let own = homes.get(&blob).into_iter().flatten();
            for home in own.chain([&from]) {
                let name = named_at(home, &from);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        };
        Ok(blobs.into_iter().map(named).collect())
    }

    /// Notes that an image that was pulled in part can be had from another home as well, which has these
    /// blobs.
    #[cfg(feature = "registry")]
    pub(crate) fn add_home(
        &self,
        reference: &str,
        blobs: &BTreeSet<Sha256>,
        home: &str,
    ) -> Result<(), StoreError> {
        let packs = self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, reference)?;
            packs_of(view, &record)
        })?;
        let disk = &self.0.packs.disk;
        for name in packs {
            let blob = LazyPack::of(disk, name).map(|lazy| lazy.blob);
            if let Some(blob) = blob.filter(|blob| blobs.contains(blob)) {
                LazyPack::add_home(disk, name, blob, home)?;
            }
        }
        Ok(())
    }

    /// Returns the layers that came in as a blob's table, and were not held against that: digest
    /// of the blob, and of the tree that the table told of.
    #[cfg(feature = "registry")]
    pub(crate) fn layers_by_table(&self) -> Result<BTreeSet<(Sha256, Digest)>, StoreError> {
        self.0.catalog.read(|view| {
            let mut found = BTreeSet::new();
            for (_, image) in view.all::<ImageRecord>(RecordKind::Image)? {
                for layer in image.layers {
                    let digest = layer.digest;
                    let record = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
                    if let Some(blob) = layer.origin.blob
                        && record.is_some_and(|record| record.by_table)
                    {
                        found.insert((blob, digest));
                    }
                }
            }
            Ok(found)
        })
    }
}

/// Calls `each` for every file of an image and of its layers.
pub(super) fn each_content(
    image: &Image,
    layers: &[Layer],
    each: &mut dyn FnMut(&Content) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for node in 0..image.nodes() {
        image.content(node).map_or(Ok(()), &mut *each)?;
    }
    for entry in layers.iter().flat_map(Layer::entries) {
        if let EntryBody::File { content, .. } = entry.body {
            each(content)?;
        }
    }
    Ok(())
}

/// Adds the chunks of a file that are not here: the pack, where in it they begin, their bytes.
fn lacking_of(
    content: &Content,
    lazy: &BTreeSet<Digest>,
    lacking: &mut BTreeMap<(Digest, u64), u32>,
) -> Result<(), StoreError> {
    let Some(file) = StoredFile::of(content) else {
        return Ok(());
    };
    for run in &file.runs {
        let pack = file.packs.get(run.pack.get())?;
        let Some(name) = pack.name().filter(|name| lazy.contains(name)) else {
            continue;
        };
        for (start, len) in pack.lacking(run.offset.get().into(), run.len.get().into())? {
            lacking.insert((name, start), len);
        }
    }
    Ok(())
}

/// The packs that an image and its layers name.
pub(super) fn packs_of(
    view: &CatalogView<'_>,
    record: &ImageRecord,
) -> Result<BTreeSet<Digest>, StoreError> {
    let mut packs: BTreeSet<Digest> = record.packs.iter().copied().collect();
    for layer in &record.layers {
        let layer = view.get::<LayerRecord>(RecordKind::Layer, layer.digest.as_bytes())?;
        packs.extend(layer.map(|layer| layer.packs).unwrap_or_default());
    }
    Ok(packs)
}

/// Those of some blobs that are not here, and where they are.
fn absent_blobs(
    view: &CatalogView<'_>,
    blobs: impl Iterator<Item = Sha256>,
) -> Result<Vec<(Sha256, String)>, StoreError> {
    let mut absent = Vec::new();
    for blob in blobs {
        let record = view.get::<BlobRecord>(RecordKind::Blob, blob.as_bytes())?;
        absent.extend(record.and_then(|it| it.absent).map(|from| (blob, from)));
    }
    Ok(absent)
}
