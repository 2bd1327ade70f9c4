//! Bringing an image in: all of it, or nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::blob::{BlobWriter, NewBlob};
use super::catalog::{Change, Sort, View};
use super::disk::{INDEXES, LAYERS, PACKS};
use super::layer_file;
use super::pack::file_name;
use super::record::{
    BlobRecord, ImageRecord, LayerOrigin, LayerRecord, PackRecord, StoredLayer, TagRecord,
};
use super::shelf::{ImportShelf, Packing};
use super::{Blob, Progress, Store, StoreError, Watcher, reference};
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::digest::{Digest, Sha256};
use crate::image::rest::{RunRecord, Shelved};
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
pub struct Import {
    store: Store,
    pool: ChunkPool,
    shelving: Shelving,
    layers: Vec<(Layer, LayerOrigin)>,
    blobs: HashMap<Sha256, NewBlob>,
    manifest: Option<Sha256>,
    raw_config: Option<Sha256>,
    /// Held shared until the end.
    _lock: File,
}

/// Gives contents their runs in the packs of an import.
struct Shelving {
    packing: Arc<Packing>,
    /// Of contents from elsewhere that have been copied, by digest.
    copied: HashMap<Digest, Content>,
    /// Numbers of packs that the file at hand names, in its own order.
    numbers: HashMap<u32, u32>,
    named: Vec<u32>,
}

impl Shelving {
    /// Gives the runs of a content by this import's numbers.
    fn place(&mut self, pool: &ChunkPool, content: &Content) -> Result<Vec<RunRecord>, StoreError> {
        if let Some(runs) = self.packing.adopt(content)? {
            return Ok(runs);
        }
        if let Some(copy) = self.copied.get(&content.digest()) {
            return Ok(self.packing.adopt(copy)?.unwrap_or_default());
        }
        let mut builder = ContentBuilder::new(pool);
        for piece in content.pieces() {
            let (offset, bytes) = piece?;
            builder.hole(offset - builder.size());
            builder.write(&bytes);
        }
        builder.hole(content.size() - builder.size());
        let copy = builder.finish();
        let runs = self.packing.adopt(&copy)?.unwrap_or_default();
        self.copied.insert(content.digest(), copy);
        Ok(runs)
    }

    /// Gives the runs of a content by the numbers of the file at hand.
    fn runs(&mut self, pool: &ChunkPool, content: &Content) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs = self.place(pool, content)?;
        for run in &mut runs {
            let number = run.pack.get();
            let next = u32::try_from(self.named.len()).unwrap_or(u32::MAX);
            let own = *self.numbers.entry(number).or_insert(next);
            if own == next {
                self.named.push(number);
            }
            run.pack = own.into();
        }
        Ok(runs)
    }

    /// Gives the names of the packs that the file at hand names.
    fn names(&self) -> Vec<Digest> {
        let list = &self.packing.list;
        let names = self.named.iter().map(|number| list.name(*number));
        // All are sealed before a file that names them is written.
        names
            .map(|name| name.unwrap_or(Digest::from_bytes([0; 32])))
            .collect()
    }

    fn next_file(&mut self) {
        self.numbers.clear();
        self.named.clear();
    }
}

impl Import {
    pub(super) fn begin(store: &Store) -> Result<Self, StoreError> {
        let lock = store.lock_imports(false)?;
        let packs = store.0.catalog.read(|view| {
            let packs = view.all::<PackRecord>(Sort::Pack)?;
            Ok(packs
                .into_iter()
                .filter_map(|(key, _)| digest_of(&key))
                .collect::<Vec<_>>())
        })?;
        store.0.known.lock().refresh(&store.0.packs.disk, &packs)?;
        let packing = Arc::new(Packing::new(&store.0.packs, &store.0.known));
        Ok(Self {
            store: store.clone(),
            pool: ChunkPool::on(Arc::new(ImportShelf(Arc::clone(&packing)))),
            shelving: Shelving {
                packing,
                copied: HashMap::new(),
                numbers: HashMap::new(),
                named: Vec::new(),
            },
            layers: Vec::new(),
            blobs: HashMap::new(),
            manifest: None,
            raw_config: None,
            _lock: lock,
        })
    }

    /// Gives the pool to read sources with: what is built from it goes into
    /// packs as it comes, a few chunks in memory at a time.
    #[must_use]
    pub fn pool(&self) -> &ChunkPool {
        &self.pool
    }

    /// Calls `watcher` about once a MiB.
    pub fn watch(&mut self, watcher: Watcher) {
        self.shelving.packing.watch.set(watcher);
    }

    /// Tells what has been taken in so far.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shelving.packing.watch.sum()
    }

    /// Adds a layer on top of those before.
    pub fn layer(&mut self, layer: Layer, origin: LayerOrigin) {
        self.layers.push((layer, origin));
    }

    /// Starts a blob, to be written while it is read otherwise.
    #[must_use]
    pub fn blob(&self) -> BlobWriter<'_> {
        BlobWriter::new(&self.pool)
    }

    /// Keeps a blob that was written. It stays as long as an image names it:
    /// as the blob of a layer, as manifest, or as raw configuration.
    pub fn keep(&mut self, blob: NewBlob) -> Blob {
        let told = blob.blob();
        self.blobs.insert(told.digest, blob);
        told
    }

    /// Keeps a blob that a reader gives, in bounded memory.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] for the reader's; [`StoreError::WrongBlob`] if the
    /// bytes are not `expected`.
    pub fn put_blob(
        &mut self,
        reader: &mut dyn Read,
        expected: Option<Sha256>,
    ) -> Result<Blob, StoreError> {
        let mut writer = self.blob();
        let mut buf = vec![0; CHUNK_BYTES];
        loop {
            match reader.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    let bytes = buf.get(..len).unwrap_or_default();
                    let written = io::Write::write_all(&mut writer, bytes);
                    written.map_err(StoreError::io("write", Path::new("blob")))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io("read", Path::new("blob"))(error)),
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
    /// are none together; [`StoreError::NoBlob`] for a blob that was not kept;
    /// those of writing.
    pub fn commit(mut self, config: ImageConfig, tag: Option<&str>) -> Result<ImageId, StoreError> {
        tag.map_or(Ok(()), reference::check)?;
        let layers: Vec<Layer> = self.layers.iter().map(|(layer, _)| layer.clone()).collect();
        let image = Image::new(&layers)?;
        self.copy(&layers)?;
        let fresh = self.shelving.packing.seal()?;
        let mut changes = self.pack_changes(&fresh)?;
        changes.extend(self.blob_changes()?);
        for layer in &layers {
            changes.push(self.write_layer(layer)?);
        }
        let record = self.write_index(&image, config)?;
        let id = record
            .id()
            .map_err(|error| StoreError::malformed(Path::new("image"), error.to_string()))?;
        changes.push(Change::put(Sort::Image, id.as_bytes(), &record)?);
        if let Some(tag) = tag {
            let record = TagRecord { image: id };
            changes.push(Change::put(Sort::Tag, tag.as_bytes(), &record)?);
        }
        let disk = &self.store.0.packs.disk;
        [PACKS, LAYERS, INDEXES]
            .iter()
            .try_for_each(|dir| disk.sync_dir(dir))?;
        self.store.0.catalog.change(|view| {
            self.check_blobs(view, &record)?;
            Ok((changes, ()))
        })?;
        Ok(id)
    }

    /// Brings in what lies elsewhere, before the packs are sealed.
    fn copy(&mut self, layers: &[Layer]) -> Result<(), StoreError> {
        for layer in layers {
            for entry in layer.entries() {
                if let crate::layer::EntryBody::File { content, .. } = entry.body {
                    self.shelving.place(&self.pool, content)?;
                }
            }
        }
        Ok(())
    }

    fn pack_changes(&self, fresh: &[Digest]) -> Result<Vec<Change>, StoreError> {
        let packs = &self.store.0.packs;
        let change = |name: &Digest| {
            let bytes = packs.get(*name)?.data_bytes()?;
            Change::put(Sort::Pack, name.as_bytes(), &PackRecord { bytes })
        };
        fresh.iter().map(change).collect()
    }

    fn blob_changes(&mut self) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for (digest, blob) in &self.blobs {
            self.shelving.next_file();
            let runs = self.shelving.runs(&self.pool, &blob.content)?;
            let record = BlobRecord {
                bytes: blob.content.size(),
                content: blob.content.digest(),
                packs: self.shelving.names(),
                runs: runs
                    .iter()
                    .map(|run| {
                        (
                            run.at.get(),
                            run.pack.get(),
                            run.offset.get(),
                            run.len.get(),
                        )
                    })
                    .collect(),
            };
            changes.push(Change::put(Sort::Blob, digest.as_bytes(), &record)?);
        }
        Ok(changes)
    }

    fn write_layer(&mut self, layer: &Layer) -> Result<Change, StoreError> {
        self.shelving.next_file();
        let shelving = std::cell::RefCell::new(&mut self.shelving);
        let bytes = layer_file::encode(
            layer,
            |content| shelving.borrow_mut().runs(&self.pool, content),
            || shelving.borrow().names(),
        )?;
        let record = LayerRecord {
            file: Digest::of(&bytes),
            packs: self.shelving.names(),
        };
        let disk = &self.store.0.packs.disk;
        disk.put(LAYERS, &file_name(record.file), &bytes)?;
        Change::put(Sort::Layer, layer.digest().as_bytes(), &record)
    }

    fn write_index(
        &mut self,
        image: &Image,
        config: ImageConfig,
    ) -> Result<ImageRecord, StoreError> {
        self.shelving.next_file();
        let mut shelved = InPool {
            shelving: &mut self.shelving,
            pool: &self.pool,
        };
        let (bytes, index) = image.to_index(&mut shelved)?;
        let disk = &self.store.0.packs.disk;
        disk.put(INDEXES, &file_name(index), &bytes)?;
        let stats = image.stats();
        let layers = self.layers.iter();
        Ok(ImageRecord {
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
            packs: self.shelving.names(),
        })
    }

    /// Checks that every blob that the image names is kept.
    fn check_blobs(&self, view: &View<'_>, record: &ImageRecord) -> Result<(), StoreError> {
        let needed: BTreeSet<Sha256> = record.blobs().collect();
        for digest in needed {
            let known = self.blobs.contains_key(&digest)
                || view
                    .get::<BlobRecord>(Sort::Blob, digest.as_bytes())?
                    .is_some();
            if !known {
                return Err(StoreError::NoBlob(digest));
            }
        }
        Ok(())
    }
}

struct InPool<'a> {
    shelving: &'a mut Shelving,
    pool: &'a ChunkPool,
}

impl Shelved for InPool<'_> {
    type Error = StoreError;

    fn runs(&mut self, content: &Content) -> Result<Vec<RunRecord>, StoreError> {
        self.shelving.runs(self.pool, content)
    }

    fn packs(&self) -> Vec<Digest> {
        self.shelving.names()
    }
}

pub(super) fn digest_of(key: &[u8]) -> Option<Digest> {
    key.first_chunk().copied().map(Digest::from_bytes)
}
