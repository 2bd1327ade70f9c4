//! Reading everything again.

use std::collections::HashSet;

use super::catalog::RecordKind;
use super::file::StoredFile;
use super::pack::Pack;
use super::record::{BlobRecord, ImageRecord, LayerRecord, PackRecord, TagRecord};
use super::{Store, StoreError, digest_of};
use crate::chunk::Content;
use crate::digest::{Digest, Sha256};
use crate::image::{Image, ImageId};
use crate::layer::{EntryBody, Layer};

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
    /// Chunks that are not here, of images that were pulled in part.
    pub absent_chunks: u64,
    /// Bytes of these.
    pub absent_bytes: u64,
    /// What is not as it was, in no order.
    pub errors: Vec<StoreError>,
    /// What could not be looked at, for want of rights, of descriptors, of
    /// memory or of a medium that reads: whether it is as it was is not known.
    pub unread: Vec<StoreError>,
}

impl VerifyReport {
    /// Returns whether everything could be read and nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.unread.is_empty()
    }

    fn note(&mut self, error: StoreError) {
        match error.is_damage() {
            true => self.errors.push(error),
            false => self.unread.push(error),
        }
    }
}

/// What the catalog has.
struct CatalogContents {
    images: Vec<(ImageId, ImageRecord, String)>,
    layers: Vec<Digest>,
    blobs: Vec<Sha256>,
    packs: Vec<Digest>,
}

impl Store {
    /// Reads every byte of the store and holds it against what it should be.
    /// Changes nothing.
    ///
    /// Packs: every chunk against its digest, whether a file names it or not,
    /// and the table, header and foot. Layers: against their digests, and the
    /// bytes of their files. Indexes: bit by bit against what their layers make.
    /// Blobs: against their SHA-256. Records of the catalog: against theirs.
    ///
    /// O(bytes of the store, and of the files of each image that lie elsewhere
    /// than those of another), memory for the entries of one image at a time.
    /// Imports go on meanwhile; `gc` waits.
    ///
    /// # Errors
    ///
    /// Those that keep it from looking at all; what it finds is in the report.
    pub fn verify(&self) -> Result<VerifyReport, StoreError> {
        let _lock = self.lock_for_reading()?;
        let contents = self.contents()?;
        let mut report = VerifyReport {
            images: contents.images.len() as u64,
            layers: contents.layers.len() as u64,
            blobs: contents.blobs.len() as u64,
            packs: contents.packs.len() as u64,
            ..VerifyReport::default()
        };
        if let Err(error) = self.0.catalog.check() {
            report.note(error);
        }
        for name in &contents.packs {
            // Opened afresh, so that its table is read again too.
            match Pack::open_once(&self.0.packs.disk, *name) {
                Ok(pack) => {
                    let found = pack.verify();
                    report.chunks += found.chunks;
                    report.bytes += found.bytes;
                    report.absent_chunks += found.absent_chunks;
                    report.absent_bytes += found.absent_bytes;
                    found.wrong.into_iter().for_each(|error| report.note(error));
                }
                Err(error) => report.note(error),
            }
        }
        let mut verified = VerifiedFiles::default();
        let mut bad = HashSet::new();
        for digest in &contents.layers {
            let checked = self
                .layer_again(*digest)
                .and_then(|layer| verified.check_layer(&layer));
            if let Err(error) = checked {
                bad.insert(*digest);
                report.note(error.within(|| format!("layer {digest}")));
            }
        }
        for (id, record, name) in &contents.images {
            let whole = record.layers.iter().all(|it| !bad.contains(&it.digest));
            if let Err(error) = self.check_image(*id, record, whole, &mut verified) {
                report.note(error.within(|| format!("image {name}")));
            }
        }
        for digest in &contents.blobs {
            let held = self.blob(*digest).and_then(|blob| blob.check_all());
            if let Err(error) = held
                && !error.is_absence()
            {
                report.note(error.within(|| format!("blob {digest}")));
            }
        }
        Ok(report)
    }

    fn contents(&self) -> Result<CatalogContents, StoreError> {
        self.0.catalog.read(|view| {
            let tags = view.all::<TagRecord>(RecordKind::Tag)?;
            let name = |id: &ImageId| {
                let tag = tags.iter().find(|(_, tag)| tag.image == *id);
                tag.map_or(id.to_string(), |(tag, _)| {
                    String::from_utf8_lossy(tag).into_owned()
                })
            };
            let images = view.all::<ImageRecord>(RecordKind::Image)?.into_iter();
            let layers = view.all::<LayerRecord>(RecordKind::Layer)?.into_iter();
            let blobs = view.all::<BlobRecord>(RecordKind::Blob)?.into_iter();
            let packs = view.all::<PackRecord>(RecordKind::Pack)?.into_iter();
            Ok(CatalogContents {
                images: images
                    .filter_map(|(key, record)| {
                        let id = digest_of(&key)?;
                        Some((id, record, name(&id)))
                    })
                    .collect(),
                layers: layers.filter_map(|(key, _)| digest_of(&key)).collect(),
                blobs: blobs
                    .filter_map(|(key, _)| key.first_chunk().copied().map(Sha256::from_bytes))
                    .collect(),
                packs: packs.filter_map(|(key, _)| digest_of(&key)).collect(),
            })
        })
    }

    fn layer_again(&self, digest: Digest) -> Result<Layer, StoreError> {
        self.0.catalog.read(|view| self.read_layer(view, digest))
    }

    /// Holds an index against its layers, if all of these are whole, and reads
    /// the files of the image.
    fn check_image(
        &self,
        id: ImageId,
        record: &ImageRecord,
        whole: bool,
        verified: &mut VerifiedFiles,
    ) -> Result<(), StoreError> {
        let image = self.open_index(id, record)?;
        if !whole {
            // The layers are with_path by themselves.
            return Ok(image.verify().map(drop)?);
        }
        let layers = record.layers.iter();
        let layers: Result<Vec<_>, _> = layers.map(|it| self.layer_again(it.digest)).collect();
        image.check_against(&Image::new(&layers?)?)?;
        for node in 0..image.nodes() {
            let Some(content) = image.content(node) else {
                continue;
            };
            if let Err(error) = verified.check_here(content) {
                let path = image.paths_of(&HashSet::from([node])).remove(&node);
                let path = path.map_or("a file".to_owned(), |path| path.to_string());
                return Err(error.within(|| path));
            }
        }
        Ok(())
    }
}

/// The files that have been read: digest, length and runs of each.
#[derive(Default)]
pub(super) struct VerifiedFiles(HashSet<Digest>);

impl VerifiedFiles {
    fn check_layer(&mut self, layer: &Layer) -> Result<(), StoreError> {
        for entry in layer.entries() {
            if let EntryBody::File { content, .. } = entry.body {
                let checked = self.check_here(content);
                checked.map_err(|error| error.within(|| entry.path.to_string()))?;
            }
        }
        Ok(())
    }

    /// As [`check`](Self::check), but what is not here cannot be wrong yet: its chunks are counted.
    fn check_here(&mut self, content: &Content) -> Result<(), StoreError> {
        match self.check(content) {
            Err(error) if error.is_absence() => Ok(()),
            checked => checked,
        }
    }

    /// Reads a file and holds it against its digest, if it was not read from
    /// the same places before.
    pub(super) fn check(&mut self, content: &Content) -> Result<(), StoreError> {
        let key = StoredFile::of(content).and_then(|file| location_of(content, file));
        if key.is_some_and(|key| self.0.contains(&key)) {
            return Ok(());
        }
        let (expected, found) = (content.digest(), content.recomputed_digest()?);
        if found != expected {
            return Err(StoreError::WrongContent { expected, found });
        }
        self.0.extend(key);
        Ok(())
    }
}

/// Names what a file is and where it lies. `None` if a pack has no name.
fn location_of(content: &Content, file: &StoredFile) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(content.digest().as_bytes());
    hasher.update(&content.size().to_le_bytes());
    for run in &file.runs {
        hasher.update(file.packs.name(run.pack.get())?.as_bytes());
        hasher.update(&run.at.get().to_le_bytes());
        hasher.update(&run.offset.get().to_le_bytes());
        hasher.update(&run.len.get().to_le_bytes());
    }
    Some(hasher.finalize().into())
}
