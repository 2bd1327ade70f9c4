//! Writing new bytes into packs: files are cut by content, and each chunk is kept once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::StoreError;
use super::codec::count;
use super::disk::Disk;
use super::file::{StoredFile, Unreadable};
use super::pack::{HealOutcome, Pack, sync_pack, table_of};
use super::packs::{PackList, Packs};
use super::progress::{Progress, ProgressMeter};
use crate::chunk::{ChunkSink, Content, FileSink, Stored, next_chunk};
use crate::digest::Digest;
use crate::image::index_file::RunRecord;
use crate::limits::CHUNK_BYTES;

/// Where each chunk of the store is, by the first 8 bytes of its digest: 16
/// bytes a chunk, filled at a process's first import. A hit is looked up in
/// the pack's own table before it is believed, and the chunk's bytes are read.
#[derive(Default)]
pub(super) struct ChunkIndex {
    names: Vec<Digest>,
    have: HashSet<Digest>,
    places: HashMap<u64, (u32, u32)>,
}

impl ChunkIndex {
    /// Takes in the packs of the catalog that are new to it, and forgets
    /// everything when one is gone. A pack that is damaged is not taken in:
    /// what it had is stored anew. It is looked at again the next time.
    pub(super) fn refresh(&mut self, disk: &Disk, packs: &[Digest]) -> Result<(), StoreError> {
        let now: HashSet<Digest> = packs.iter().copied().collect();
        if !self.have.is_subset(&now) {
            *self = Self::default();
        }
        for name in packs {
            if self.have.contains(name) {
                continue;
            }
            let table = match table_of(disk, *name) {
                Ok(table) => table,
                Err(error) if error.is_damage() || error.is_medium() => continue,
                Err(error) => return Err(error),
            };
            let number = count(self.names.len(), "packs of the store")?;
            self.names.push(*name);
            self.have.insert(*name);
            for (chunk, record) in (0..).zip(&table) {
                let key = key(&Digest::from_bytes(record.digest));
                self.places.entry(key).or_insert((number, chunk));
            }
        }
        Ok(())
    }

    /// Takes in a pack that an import makes.
    #[cfg(feature = "registry")]
    pub(super) fn add(&mut self, disk: &Disk, pack: Digest) -> Result<(), StoreError> {
        let mut all = self.names.clone();
        all.push(pack);
        self.refresh(disk, &all)
    }

    pub(super) fn has(&self, pack: Digest) -> bool {
        self.have.contains(&pack)
    }

    fn find(&self, digest: &Digest) -> Option<(Digest, u32)> {
        let (pack, chunk) = self.places.get(&key(digest))?;
        Some((*self.names.get(*pack as usize)?, *chunk))
    }
}

pub(super) fn key(digest: &Digest) -> u64 {
    let first = digest.as_bytes().first_chunk();
    first.map_or(0, |first| u64::from_le_bytes(*first))
}

/// The packs of one import.
pub(super) struct PackWriter {
    pub(super) packs: Arc<Packs>,
    known: Arc<Mutex<ChunkIndex>>,
    /// What lies in packs that this import took in by their tables: others may not rely on those
    /// before it is committed. Locked alone.
    taken: Mutex<ChunkIndex>,
    pub(super) list: Arc<PackList>,
    state: Mutex<WriterState>,
    pub(super) watch: ProgressMeter,
}

#[derive(Default)]
struct WriterState {
    /// The one that is being written, and its number.
    open: Option<(Arc<Pack>, u32)>,
    /// Those that are full, by name.
    full: Vec<Digest>,
    /// Older ones that chunks were healed in, which is not durable yet.
    healed: BTreeSet<Digest>,
    /// Chunks that this import wrote: pack, place in it.
    fresh: HashMap<Digest, ChunkPos>,
    /// Numbers of the older packs in use.
    older: HashMap<Digest, (Arc<Pack>, u32)>,
    /// What went wrong first. Nothing is written after it.
    failed: Option<Arc<StoreError>>,
}

/// Where a chunk lies.
#[derive(Clone, Copy)]
pub(super) struct ChunkPos {
    pub(super) pack: u32,
    pub(super) offset: u32,
}

impl PackWriter {
    pub(super) fn new(packs: &Arc<Packs>, known: &Arc<Mutex<ChunkIndex>>) -> Self {
        Self {
            packs: Arc::clone(packs),
            known: Arc::clone(known),
            taken: Mutex::default(),
            list: Arc::new(PackList::growing()),
            state: Mutex::default(),
            watch: ProgressMeter::default(),
        }
    }

    /// Finds or writes a chunk.
    fn place(&self, bytes: &[u8]) -> Result<ChunkPos, Arc<StoreError>> {
        let digest = Digest::of(bytes);
        let mut state = self.state.lock();
        if let Some(why) = &state.failed {
            return Err(Arc::clone(why));
        }
        let place = self.place_in(&mut state, digest, bytes);
        place.map_err(|error| {
            let why = Arc::new(error);
            state.failed = Some(Arc::clone(&why));
            why
        })
    }

    fn place_in(
        &self,
        state: &mut WriterState,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<ChunkPos, StoreError> {
        let len = bytes.len() as u64;
        if let Some(place) = state.fresh.get(&digest) {
            self.watch.add(Progress::found(len));
            return Ok(*place);
        }
        if let Some(place) = self.find_older(state, &digest, bytes)? {
            return Ok(place);
        }
        let (pack, number) = match &state.open {
            Some((pack, number)) => (Arc::clone(pack), *number),
            None => {
                let pack = Arc::new(Pack::create(&self.packs.disk)?);
                let number = self.list.push(Arc::clone(&pack))?;
                state.open = Some((Arc::clone(&pack), number));
                (pack, number)
            }
        };
        let (_, offset) = pack.append(digest, bytes)?;
        if pack.data_bytes()? >= self.packs.pack_bytes {
            // It is sealed at once, and held by no descriptor of its own. Until
            // the catalog names it, nothing does; imports keep `gc` away.
            let name = pack.seal()?;
            self.list.replace(number, self.packs.renew(name)?);
            state.full.push(name);
            state.open = None;
        }
        let place = ChunkPos {
            pack: number,
            offset: count(offset, "bytes of a pack")?,
        };
        state.fresh.insert(digest, place);
        self.watch.add(Progress::new(len));
        Ok(place)
    }

    /// Finds a chunk in a pack that the store has already, and makes sure that
    /// its bytes are right: whoever brings them again gets what he brought.
    fn find_older(
        &self,
        state: &mut WriterState,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<Option<ChunkPos>, StoreError> {
        let Some((name, number)) = self.find(digest) else {
            return Ok(None);
        };
        match self.older_chunk(state, name, number, (digest, bytes)) {
            // The pack has been damaged since its table was read.
            Err(error) if error.is_damage() || error.is_medium() => Ok(None),
            found => found,
        }
    }

    fn older_chunk(
        &self,
        state: &mut WriterState,
        name: Digest,
        number: u32,
        (digest, bytes): (&Digest, &[u8]),
    ) -> Result<Option<ChunkPos>, StoreError> {
        let (pack, pack_number) = self.older(state, name)?;
        let Some((found, offset, len)) = pack.chunk(number)? else {
            return Ok(None);
        };
        if found != *digest || len as usize != bytes.len() {
            return Ok(None);
        }
        match pack.heal(number, bytes)? {
            HealOutcome::WasRight => self.watch.add(Progress::found(len.into())),
            HealOutcome::Healed => {
                state.healed.insert(name);
                self.watch.add(Progress::healed(len.into()));
            }
            HealOutcome::StaysWrong => return Ok(None),
        }
        Ok(Some(ChunkPos {
            pack: pack_number,
            offset: count(offset, "bytes of a pack")?,
        }))
    }

    fn older(&self, state: &mut WriterState, name: Digest) -> Result<(Arc<Pack>, u32), StoreError> {
        if let Some((pack, number)) = state.older.get(&name) {
            return Ok((Arc::clone(pack), *number));
        }
        let pack = self.packs.get(name)?;
        let number = self.list.push(Arc::clone(&pack))?;
        state.older.insert(name, (Arc::clone(&pack), number));
        Ok((pack, number))
    }

    /// Returns the bytes of a chunk that the store has.
    #[cfg(feature = "registry")]
    pub(super) fn known_chunk(&self, digest: &Digest, len: u32) -> Option<Vec<u8>> {
        let (name, number) = self.find(digest)?;
        let pack = self.packs.get(name).ok()?;
        let (found, offset, have) = pack.chunk(number).ok()??;
        if found != *digest
            || have != len
            || super::lazy_pack::LazyPack::is_one(&self.packs.disk, name)
        {
            return None;
        }
        let mut bytes = vec![0; len as usize];
        pack.read(offset, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Takes in a pack that was made for a layer of which only the table is here.
    #[cfg(feature = "registry")]
    pub(super) fn take_pack(&self, name: Digest) -> Result<(), StoreError> {
        match self.has(name) {
            true => Ok(()),
            false => self.taken.lock().add(&self.packs.disk, name),
        }
    }

    /// Returns where a chunk is: the pack, and its number there.
    fn find(&self, digest: &Digest) -> Option<(Digest, u32)> {
        let taken = self.taken.lock().find(digest);
        taken.or_else(|| self.known.lock().find(digest))
    }

    /// Returns whether a pack is in the store, or was taken in by this import.
    fn has(&self, name: Digest) -> bool {
        self.taken.lock().has(name) || self.known.lock().has(name)
    }

    /// Returns the runs of a content in this import's packs, if it lies in packs
    /// that the store has or that this import wrote.
    pub(super) fn adopt(&self, content: &Content) -> Result<Option<Vec<RunRecord>>, StoreError> {
        let Some(file) = StoredFile::of(content) else {
            return Ok(None);
        };
        if Arc::ptr_eq(&file.packs, &self.list) {
            return Ok(Some(file.runs.to_vec()));
        }
        let mut runs = Vec::with_capacity(file.runs.len());
        for run in &file.runs {
            let name = file.packs.name(run.pack.get());
            let Some(name) = name.filter(|name| self.has(*name)) else {
                return Ok(None);
            };
            let (_, number) = self.older(&mut self.state.lock(), name)?;
            let pack = number.into();
            runs.push(RunRecord { pack, ..*run });
        }
        Ok(Some(runs))
    }

    /// Returns whether packs have got their names already.
    pub(super) fn has_full(&self) -> bool {
        !self.state.lock().full.is_empty()
    }

    /// Makes everything durable under its name. Returns the names of the packs
    /// that are new.
    pub(super) fn seal(&self) -> Result<Vec<Digest>, StoreError> {
        let mut state = self.state.lock();
        if let Some(why) = &state.failed {
            return Err(StoreError::Failed(Arc::clone(why)));
        }
        for name in std::mem::take(&mut state.healed) {
            sync_pack(&self.packs.disk, name)?;
        }
        if let Some((pack, _)) = state.open.take() {
            let name = pack.seal()?;
            state.full.push(name);
        }
        Ok(state.full.clone())
    }
}

/// The sink for the chunks of an import, as a pool holds it.
pub(super) struct PackSink(pub(super) Arc<PackWriter>);

impl ChunkSink for PackSink {
    fn open_file(&self) -> Box<dyn FileSink + '_> {
        Box::new(FileCutter {
            writer: &self.0,
            cut: Vec::new(),
            start: 0,
            used: 0,
            runs: Vec::new(),
            failed: None,
        })
    }
}

/// A file that is being cut.
struct FileCutter<'a> {
    writer: &'a Arc<PackWriter>,
    /// Bytes that are not in a chunk yet, from `used` on.
    cut: Vec<u8>,
    /// Where in the file `cut[used]` belongs.
    start: u64,
    used: usize,
    runs: Vec<RunRecord>,
    failed: Option<Arc<StoreError>>,
}

impl FileCutter<'_> {
    /// Makes chunks while there are bytes for the longest, or of all there is.
    fn cut(&mut self, all: bool) {
        while self.failed.is_none()
            && let Some(bytes) = self.cut.get(self.used..)
            && let Some(chunk) = next_chunk(bytes, all).and_then(|len| bytes.get(..len))
        {
            let placed = self.writer.place(chunk).and_then(|place| {
                push(&mut self.runs, self.start, place, chunk.len()).map_err(Arc::new)
            });
            self.failed = placed.err();
            self.start += chunk.len() as u64;
            self.used += chunk.len();
        }
        if self.used >= 4 * CHUNK_BYTES || self.used == self.cut.len() {
            self.cut.drain(..self.used);
            self.used = 0;
        }
    }
}

/// Adds a chunk to the runs of a file: to the last, if it follows that in the
/// file and in the pack.
pub(super) fn push(
    runs: &mut Vec<RunRecord>,
    at: u64,
    place: ChunkPos,
    len: usize,
) -> Result<(), StoreError> {
    let len = count(len, "bytes of a chunk")?;
    if let Some(last) = runs.last_mut() {
        let have = last.len.get();
        let follows = last.pack.get() == place.pack
            && last.at.get() + u64::from(have) == at
            && last.offset.get().checked_add(have) == Some(place.offset);
        if follows && let Some(sum) = have.checked_add(len) {
            last.len = sum.into();
            return Ok(());
        }
    }
    runs.push(RunRecord {
        at: at.into(),
        pack: place.pack.into(),
        offset: place.offset.into(),
        len: len.into(),
    });
    Ok(())
}

impl FileSink for FileCutter<'_> {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let waiting = (self.cut.len() - self.used) as u64;
        if self.start + waiting != offset {
            self.cut(true);
            (self.start, self.used) = (offset, 0);
            self.cut.clear();
        }
        self.cut.extend_from_slice(bytes);
        self.cut(false);
    }

    fn finish(mut self: Box<Self>) -> Box<dyn Stored> {
        self.cut(true);
        match self.failed.take() {
            Some(why) => Box::new(Unreadable(StoreError::Failed(why).into_content())),
            None => Box::new(StoredFile {
                runs: self.runs.into(),
                packs: Arc::clone(&self.writer.list),
            }),
        }
    }
}
