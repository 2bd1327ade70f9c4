//! Bringing an image in: all of it, or nothing.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use super::blob::{BlobWriter, NewBlob};
use super::catalog::{CatalogChange, CatalogView, RecordKind};
use super::locks::ImportLock;
use super::pack_writer::PackWriter;
use super::record::{BlobRecord, ImageRecord, LayerOrigin, LayerRecord, StoredLayer, TagRecord};
use super::run_table::{RunTable, sync_names};
use super::{Blob, Progress, Store, StoreError, Watcher, reference};
use crate::chunk::ChunkPool;
use crate::digest::{Digest, Sha256};
use crate::image::{Image, ImageConfig, ImageId};
use crate::layer::Layer;
use crate::limits::CHUNK_BYTES;
use crate::meta::Time;

/// An image on its way into a store. Dropped before
/// [`commit`](Self::commit), it leaves nothing.
///
/// Layers are read from a source with [`pool`](Self::pool), so that their bytes
/// go straight into packs; or they are made elsewhere, and are copied. While an
/// import is alive, `gc` waits.
///
/// ```
/// use stratafs::image::ImageConfig;
/// use stratafs::source::{self, SourceOptions};
/// use stratafs::store::{LayerOrigin, Store};
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path();
/// let store = Store::open(dir.path())?;
/// let mut import = store.import()?;
/// let layer = source::dir_ambient(import.pool(), app, &SourceOptions::default())?;
/// import.layer(layer, LayerOrigin::new());
/// import.commit(ImageConfig::new(), Some("app:1"))?;
/// assert_eq!(store.info("app:1")?.layers.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Import {
    store: Store,
    run_table: RunTable,
    layers: Vec<(Layer, LayerOrigin)>,
    blobs: HashMap<Sha256, NewBlob>,
    manifest: Option<Sha256>,
    raw_config: Option<Sha256>,
    /// Blobs that are not here.
    absent: HashMap<Sha256, BlobRecord>,
    /// Packs of layers that came in as a table.
    lazy_packs: BTreeSet<Digest>,
    /// Keeps collections out until the end.
    lock: Option<ImportLock>,
    committed: bool,
}

impl Drop for Import {
    /// Packs that were full have names already, and nobody names them now.
    fn drop(&mut self) {
        let packs = &self.store.0.packs;
        let has_named = self.run_table.writer.has_full() || !self.lazy_packs.is_empty();
        if !self.committed && has_named {
            packs.has_unnamed.store(true, Ordering::Relaxed);
        }
        self.lock = None;
        // The last import of several that overlap finds nobody in its way.
        if packs.has_unnamed.load(Ordering::Relaxed) && self.store.sweep().is_ok_and(|done| done) {
            packs.has_unnamed.store(false, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Import {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import")
            .field("store", &self.store)
            .field("layers", &self.layers.len())
            .field("blobs", &self.blobs.len())
            .finish_non_exhaustive()
    }
}

impl Import {
    pub(super) fn begin(store: &Store) -> Result<Self, StoreError> {
        store.check_writable()?;
        let turn = store.lock_for_import()?;
        let packs: Vec<Digest> = store
            .0
            .catalog
            .read(|view| Ok(view.keys(RecordKind::Pack).filter_map(digest_of).collect()))?;
        store.0.known.lock().refresh(&store.0.packs.disk, &packs)?;
        Ok(Self {
            store: store.clone(),
            run_table: RunTable::new(PackWriter::new(&store.0.packs, &store.0.known)),
            layers: Vec::new(),
            blobs: HashMap::new(),
            manifest: None,
            raw_config: None,
            absent: HashMap::new(),
            lazy_packs: BTreeSet::new(),
            lock: Some(turn),
            committed: false,
        })
    }

    /// Returns the pool to read sources with: what is built from it goes into
    /// packs as it comes, a few chunks in memory at a time.
    #[must_use]
    pub fn pool(&self) -> &ChunkPool {
        self.run_table.pool()
    }

    /// Calls `watcher` about once a MiB, and once when all has been taken in.
    pub fn watch(&mut self, watcher: Watcher) {
        self.run_table.writer.watch.set(watcher);
    }

    /// Returns what has been taken in so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.run_table.writer.watch.sum()
    }

    /// Adds a layer on top of those before.
    pub fn layer(&mut self, layer: Layer, origin: LayerOrigin) {
        self.layers.push((layer, origin));
    }

    /// Starts a blob, to be written while it is read otherwise.
    #[must_use]
    pub fn blob(&self) -> BlobWriter<'_> {
        BlobWriter::new(self.run_table.pool())
    }

    /// Keeps a blob that was written. It stays as long as an image names it:
    /// as the blob of a layer, as manifest, or as raw configuration.
    pub fn keep(&mut self, blob: NewBlob) -> Blob {
        let info = blob.blob();
        self.blobs.insert(info.digest, blob);
        info
    }

    /// Keeps a blob that a reader gives, in bounded memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Blob`] for the reader's; [`StoreError::WrongBlob`] if the
    /// bytes are not `expected`.
    pub fn put_blob(
        &mut self,
        reader: &mut dyn Read,
        expected: Option<Sha256>,
    ) -> Result<Blob, StoreError> {
        let failed = |error| StoreError::Blob {
            digest: expected,
            error,
        };
        let mut writer = self.blob();
        let mut buf = vec![0; CHUNK_BYTES];
        loop {
            match reader.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    let bytes = buf.get(..len).unwrap_or_default();
                    io::Write::write_all(&mut writer, bytes).map_err(failed)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let blob = writer.finish();
        match expected {
            Some(expected) if expected != blob.digest => Err(StoreError::WrongBlob {
                expected,
                found: blob.digest,
            }),
            _ => Ok(self.keep(blob)),
        }
    }

    /// Keeps the bytes of the manifest that the image came with.
    ///
    /// # Errors
    ///
    /// As [`put_blob`](Self::put_blob).
    pub fn manifest(&mut self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let blob = self.put_blob(&mut &*bytes, None)?;
        self.manifest = Some(blob.digest);
        Ok(blob)
    }

    /// Keeps the bytes of the configuration that the image came with.
    ///
    /// # Errors
    ///
    /// As [`put_blob`](Self::put_blob).
    pub fn raw_config(&mut self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let blob = self.put_blob(&mut &*bytes, None)?;
        self.raw_config = Some(blob.digest);
        Ok(blob)
    }

    /// Makes the image durable and visible, in one step: once this returns it
    /// survives a crash of the process or the machine, and before it there is
    /// nothing. `tag` leads to it from then on, whatever it led to before.
    ///
    /// O(entries of all layers), and of bytes that were not read through
    /// [`pool`](Self::pool).
    ///
    /// # Errors
    ///
    /// In this order: [`StoreError::Tag`]; [`StoreError::Image`] if the layers
    /// do not make an image together; [`StoreError::NoBlob`] for a blob that was not kept;
    /// those of writing.
    pub fn commit(mut self, config: ImageConfig, tag: Option<&str>) -> Result<ImageId, StoreError> {
        tag.map_or(Ok(()), reference::check)?;
        let layers: Vec<Layer> = self.layers.iter().map(|(layer, _)| layer.clone()).collect();
        let image = Image::new(&layers)?;
        for layer in &layers {
            self.run_table.place_all(layer)?;
        }
        let fresh = self.run_table.writer.seal()?;
        self.run_table.writer.watch.end();
        let packs: Vec<Digest> = fresh.iter().chain(&self.lazy_packs).copied().collect();
        let mut changes = self.run_table.pack_changes(&packs)?;
        for (digest, blob) in &self.blobs {
            let record = self.run_table.blob(&blob.content)?;
            changes.push(CatalogChange::put(
                RecordKind::Blob,
                digest.as_bytes(),
                &record,
            )?);
        }
        let disk = &self.store.0.packs.disk;
        let mut by_table = Vec::new();
        for layer in &layers {
            let record = self.run_table.layer(disk, layer)?.record;
            let digest = layer.digest();
            let change = CatalogChange::put(RecordKind::Layer, digest.as_bytes(), &record)?;
            match record.by_table {
                true => by_table.push((digest, change)),
                false => changes.push(change),
            }
        }
        let (index, packs) = self.run_table.index(disk, &image)?.record;
        let mut record = self.record(&image, config, index, packs);
        record.by_table = !by_table.is_empty();
        let id = record.id().map_err(StoreError::Record)?;
        changes.push(CatalogChange::put(
            RecordKind::Image,
            id.as_bytes(),
            &record,
        )?);
        if let Some(tag) = tag {
            let record = TagRecord::own(id);
            changes.push(CatalogChange::put(
                RecordKind::Tag,
                tag.as_bytes(),
                &record,
            )?);
        }
        sync_names(disk)?;
        self.store.0.catalog.change(|view| {
            self.check_blobs(view, &record)?;
            self.add_unproved(view, by_table, &mut changes)?;
            Ok((changes, ()))
        })?;
        self.committed = true;
        Ok(id)
    }

    /// Adds what is known by tables alone, and blobs that are not here: nothing of it comes in
    /// the place of what was read.
    fn add_unproved(
        &self,
        view: &CatalogView<'_>,
        layers: Vec<(Digest, CatalogChange)>,
        changes: &mut Vec<CatalogChange>,
    ) -> Result<(), StoreError> {
        for (digest, change) in layers {
            let known = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
            if known.is_none_or(|known| known.by_table) {
                changes.push(change);
            }
        }
        for (digest, record) in &self.absent {
            let known = view.get::<BlobRecord>(RecordKind::Blob, digest.as_bytes())?;
            if known.is_none_or(|known| known.absent.is_some()) {
                let change = CatalogChange::put(RecordKind::Blob, digest.as_bytes(), record)?;
                changes.push(change);
            }
        }
        Ok(())
    }

    /// Returns the packs of the store.
    #[cfg(feature = "registry")]
    pub(super) fn packs(&self) -> &std::sync::Arc<super::packs::Packs> {
        &self.store.0.packs
    }

    /// Returns the bytes of a chunk that the store has.
    #[cfg(feature = "registry")]
    pub(super) fn known_chunk(&self, digest: &Digest, len: u32) -> Option<Vec<u8>> {
        self.run_table.writer.known_chunk(digest, len)
    }

    /// Takes in a pack that was made for a layer of which only the table is here.
    #[cfg(feature = "registry")]
    pub(super) fn take_pack(&mut self, name: Digest) -> Result<(), StoreError> {
        self.lazy_packs.insert(name);
        self.run_table.writer.take_pack(name)
    }

    /// Notes a blob that is not here, unless it is kept.
    #[cfg(feature = "registry")]
    pub(super) fn keep_absent(&mut self, digest: Sha256, record: BlobRecord) {
        self.absent.insert(digest, record);
    }

    fn record(
        &self,
        image: &Image,
        config: ImageConfig,
        index: Digest,
        packs: Vec<Digest>,
    ) -> ImageRecord {
        let stats = image.stats();
        let layers = self.layers.iter();
        ImageRecord {
            config,
            layers: layers
                .map(|(layer, origin)| StoredLayer {
                    digest: layer.digest(),
                    origin: origin.clone(),
                })
                .collect(),
            manifest: self.manifest,
            raw_config: self.raw_config,
            added: Time::now().secs(),
            entries: stats.files + stats.dirs + stats.symlinks,
            logical_bytes: stats.logical_bytes,
            index,
            packs,
            by_table: false,
        }
    }

    /// Checks that every blob that the image names is kept.
    fn check_blobs(&self, view: &CatalogView<'_>, record: &ImageRecord) -> Result<(), StoreError> {
        let needed: BTreeSet<Sha256> = record.blobs().collect();
        for digest in needed {
            let known = self.blobs.contains_key(&digest)
                || self.absent.contains_key(&digest)
                || view
                    .get::<BlobRecord>(RecordKind::Blob, digest.as_bytes())?
                    .is_some();
            if !known {
                return Err(StoreError::NoBlob(digest));
            }
        }
        Ok(())
    }
}

pub(super) fn digest_of(key: &[u8]) -> Option<Digest> {
    key.first_chunk().copied().map(Digest::from_bytes)
}
