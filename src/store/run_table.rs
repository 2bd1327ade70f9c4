//! Where contents go: runs in the packs of one import or one collection, and
//! the files and records that name them.

use std::collections::HashMap;
use std::sync::Arc;

use super::StoreError;
use super::catalog::{CatalogChange, RecordKind};
use super::codec::count;
use super::disk::{Disk, INDEXES, LAYERS};
use super::file::StoredFile;
use super::layer_file;
use super::pack::file_name;
use super::pack_writer::{PackSink, PackWriter};
use super::record::{BlobRecord, LayerRecord, PackRecord};
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::digest::Digest;
use crate::image::Image;
use crate::image::index_file::{RunRecord, RunSource};
use crate::layer::{EntryBody, Layer};

/// Finds or makes the runs of contents in the packs of an import.
///
/// `numbers` and `named` belong to the one file that is being written: a file names
/// its packs in a list of its own, in the order in which its runs use them.
pub(super) struct RunTable {
    pub(super) writer: Arc<PackWriter>,
    pool: ChunkPool,
    /// Of contents from elsewhere that have been copied, by digest.
    copied: HashMap<Digest, Content>,
    /// Numbers of packs that the file at hand names, in its own order.
    numbers: HashMap<u32, u32>,
    named: Vec<u32>,
}

/// A file that was written.
pub(super) struct WrittenFile<T> {
    pub(super) record: T,
    pub(super) bytes: u64,
}

impl RunTable {
    pub(super) fn new(writer: PackWriter) -> Self {
        let writer = Arc::new(writer);
        Self {
            pool: ChunkPool::with_sink(Arc::new(PackSink(Arc::clone(&writer)))),
            writer,
            copied: HashMap::new(),
            numbers: HashMap::new(),
            named: Vec::new(),
        }
    }

    /// Returns the pool whose contents go straight into the packs.
    pub(super) fn pool(&self) -> &ChunkPool {
        &self.pool
    }

    /// Brings in what the layer has that lies elsewhere, before the packs are
    /// sealed.
    pub(super) fn place_all(&mut self, layer: &Layer) -> Result<(), StoreError> {
        for entry in layer.entries() {
            if let EntryBody::File { content, .. } = entry.body {
                self.place(content)?;
            }
        }
        Ok(())
    }

    /// Returns the runs of a content by this import's numbers.
    pub(super) fn place(&mut self, content: &Content) -> Result<Vec<RunRecord>, StoreError> {
        if let Some(runs) = self.writer.adopt(content)? {
            return Ok(runs);
        }
        if !self.copied.contains_key(&content.digest()) {
            let copy = self.copy(content)?;
            self.copied.insert(content.digest(), copy);
        }
        let copy = self.copied.get(&content.digest());
        let runs = copy.map(|copy| self.writer.adopt(copy)).transpose()?;
        runs.flatten()
            .ok_or(StoreError::Broken("a file was copied into no pack"))
    }

    fn copy(&self, content: &Content) -> Result<Content, StoreError> {
        let mut builder = ContentBuilder::new(&self.pool);
        for piece in content.pieces() {
            let (offset, bytes) = piece?;
            builder.hole(offset - builder.size());
            builder.write(&bytes);
        }
        builder.hole(content.size() - builder.size());
        let copy = builder.finish();
        if copy.digest() != content.digest() {
            return Err(StoreError::WrongContent {
                expected: content.digest(),
                found: copy.digest(),
            });
        }
        Ok(copy)
    }

    /// Returns the changes of the catalog that packs bring which are new.
    pub(super) fn pack_changes(&self, fresh: &[Digest]) -> Result<Vec<CatalogChange>, StoreError> {
        let change = |name: &Digest| {
            let bytes = self.writer.packs.get(*name)?.data_bytes()?;
            CatalogChange::put(RecordKind::Pack, name.as_bytes(), &PackRecord { bytes })
        };
        fresh.iter().map(change).collect()
    }

    /// Makes the record of a blob with this content.
    pub(super) fn blob(&mut self, content: &Content) -> Result<BlobRecord, StoreError> {
        self.next_file();
        let runs = self.runs(content)?;
        let runs = runs.iter().map(|run| {
            (
                run.at.get(),
                run.pack.get(),
                run.offset.get(),
                run.len.get(),
            )
        });
        Ok(BlobRecord {
            bytes: content.size(),
            content: content.digest(),
            packs: self.packs()?,
            runs: runs.collect(),
            absent: None,
        })
    }

    /// Writes the file of a layer.
    pub(super) fn layer(
        &mut self,
        disk: &Disk,
        layer: &Layer,
    ) -> Result<WrittenFile<LayerRecord>, StoreError> {
        self.next_file();
        let run_table = std::cell::RefCell::new(&mut *self);
        let bytes = layer_file::encode(
            layer,
            |content| run_table.borrow_mut().runs(content),
            || run_table.borrow().packs(),
        )?;
        let record = LayerRecord {
            file: Digest::of(&bytes),
            packs: self.packs()?,
            by_table: is_by_table(layer),
        };
        disk.put(LAYERS, &file_name(record.file), &bytes)?;
        let bytes = bytes.len() as u64;
        Ok(WrittenFile { record, bytes })
    }

    /// Writes the index of an image. Returns its name and the packs it names.
    pub(super) fn index(
        &mut self,
        disk: &Disk,
        image: &Image,
    ) -> Result<WrittenFile<(Digest, Vec<Digest>)>, StoreError> {
        self.next_file();
        let (bytes, index) = image.to_index(self)?;
        disk.put(INDEXES, &file_name(index), &bytes)?;
        Ok(WrittenFile {
            record: (index, self.packs()?),
            bytes: bytes.len() as u64,
        })
    }

    fn next_file(&mut self) {
        self.numbers.clear();
        self.named.clear();
    }
}

impl RunSource for RunTable {
    type Error = StoreError;

    /// Returns the runs of a content by the numbers of the file at hand.
    fn runs(&mut self, content: &Content) -> Result<Vec<RunRecord>, StoreError> {
        let mut runs = self.place(content)?;
        for run in &mut runs {
            let number = run.pack.get();
            let next = count(self.named.len(), "packs that a file names")?;
            let own = *self.numbers.entry(number).or_insert(next);
            if own == next {
                self.named.push(number);
            }
            run.pack = own.into();
        }
        Ok(runs)
    }

    /// Returns the names of the packs that the file at hand names.
    fn packs(&self) -> Result<Vec<Digest>, StoreError> {
        let list = &self.writer.list;
        let names = self.named.iter().map(|number| list.name(*number));
        names
            .map(|name| name.ok_or(StoreError::Broken("a file names a pack that is not sealed")))
            .collect()
    }

    fn too_many(what: &'static str, found: usize) -> StoreError {
        StoreError::TooMany {
            what,
            found: found as u64,
            bound: u32::MAX.into(),
        }
    }
}

/// Makes the names of new files durable.
pub(super) fn sync_names(disk: &Disk) -> Result<(), StoreError> {
    [super::disk::PACKS, LAYERS, INDEXES]
        .iter()
        .try_for_each(|dir| disk.sync_dir(dir))
}

/// Returns whether a file of the layer lies where a table says that it is what its digest
/// says, and nobody else does.
pub(super) fn is_by_table(layer: &Layer) -> bool {
    layer.entries().any(|entry| match entry.body {
        EntryBody::File { content, .. } => {
            StoredFile::of(content).is_some_and(|file| file.packs.is_by_table())
        }
        _ => false,
    })
}
