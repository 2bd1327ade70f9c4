//! Fetching what is not here: one fetch for a frame, whoever asks.
//!
//! Whoever meets an absent chunk gets a ticket and waits in its own way, without a lock. A few
//! threads fetch; they end when there is nothing to do. Other processes are kept from
//! fetching the same by a lock on a file, under which what they have brought is looked for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::StoreError;
use super::disk::{Disk, PACKS};
use super::failed_homes::FailedHomes;
use super::frame_locks::FrameLocks;
use super::lazy_pack::{FrameSource, LazyPack};
use super::pack::file_name;
use crate::chunk::{Arrival, Ticket};
use crate::digest::Digest;
use crate::limits::{FAILED_FETCH_SECONDS, MAX_FETCHED_BYTES, MAX_FETCHES};

/// A frame of the blob that a pack is made of.
type FrameKey = (Digest, u32);

/// A chunk of a pack that is to be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct WantedChunk {
    pub(super) digest: Digest,
    /// Where in the pack it begins.
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) frame: u32,
    /// Where in the frame it begins.
    pub(super) place: u32,
}

/// What is on its way, and who fetches it.
pub(super) struct Fetcher {
    disk: Disk,
    source: OnceLock<Arc<dyn FrameSource>>,
    state: Mutex<FetcherState>,
    locks: FrameLocks,
    homes: FailedHomes,
}

#[derive(Default)]
struct FetcherState {
    flights: HashMap<FrameKey, Ticket>,
    /// What could not be had a moment ago, and why.
    failed: HashMap<FrameKey, (Instant, Arc<str>)>,
    jobs: VecDeque<FetchJob>,
    threads: usize,
}

/// Frames that are fetched together.
struct FetchJob {
    pack: Digest,
    lazy: Arc<LazyPack>,
    frames: Range<u32>,
    /// By frame.
    chunks: BTreeMap<u32, Vec<WantedChunk>>,
    arrival: Arrival,
}

impl FetcherState {
    /// Says why a frame could not be had, if that was a moment ago.
    fn failure_of(&mut self, frame: FrameKey) -> Option<String> {
        let now = Instant::now();
        let fresh = Duration::from_secs(FAILED_FETCH_SECONDS);
        self.failed
            .retain(|_, (when, _)| now.duration_since(*when) < fresh);
        self.failed.get(&frame).map(|(_, why)| why.to_string())
    }

    /// Returns the chunks of the first frame and of those after it, by frame, up to one that is on
    /// its way, and no more than is fetched at once.
    fn chunks_to_fetch(
        &self,
        pack: Digest,
        lazy: &LazyPack,
        chunks: &[WantedChunk],
    ) -> BTreeMap<u32, Vec<WantedChunk>> {
        let mut own: BTreeMap<u32, Vec<WantedChunk>> = BTreeMap::new();
        let first = chunks.first().map_or(0, |chunk| chunk.frame);
        for chunk in chunks {
            let span = lazy.frames.span(first..chunk.frame.saturating_add(1));
            let bytes = span.map_or(u64::MAX, |span| span.end - span.start);
            let flight = self.flights.get(&(pack, chunk.frame));
            let is_flying = flight.is_some_and(|it| !it.is_over());
            if chunk.frame > first && (bytes > MAX_FETCHED_BYTES || is_flying) {
                break;
            }
            own.entry(chunk.frame).or_default().push(*chunk);
        }
        own
    }

    /// Lets the first chunks be fetched, as many as in one go, by whoever fetches next.
    fn queue(
        &mut self,
        pack: Digest,
        lazy: &Arc<LazyPack>,
        chunks: &[WantedChunk],
    ) -> Option<Ticket> {
        let own = self.chunks_to_fetch(pack, lazy, chunks);
        let frames = *own.keys().next()?..own.keys().last()?.saturating_add(1);
        let (ticket, arrival) = Ticket::new();
        for frame in own.keys() {
            self.flights.insert((pack, *frame), ticket.clone());
        }
        self.jobs.push_back(FetchJob {
            pack,
            lazy: Arc::clone(lazy),
            frames,
            chunks: own,
            arrival,
        });
        Some(ticket)
    }

    /// Returns the chunks from the first on that is not on its way, nor was in vain a moment ago.
    fn not_on_its_way<'c>(&self, pack: Digest, chunks: &'c [WantedChunk]) -> &'c [WantedChunk] {
        let is_open = |chunk: &WantedChunk| {
            let key = (pack, chunk.frame);
            let flight = self.flights.get(&key);
            flight.is_none_or(Ticket::is_over) && !self.failed.contains_key(&key)
        };
        let first = chunks.iter().position(is_open).unwrap_or(chunks.len());
        chunks.get(first..).unwrap_or_default()
    }

    /// Ends a job. Those who wait go on when what it returns is dropped, without the lock.
    fn end(&mut self, job: FetchJob, failures: &Failures) -> Arrival {
        for frame in job.chunks.keys() {
            let key = (job.pack, *frame);
            self.flights.remove(&key);
            let why = failures.of_all.as_ref();
            if let Some(why) = failures.of_frames.get(frame).or(why) {
                self.failed.insert(key, (Instant::now(), Arc::clone(why)));
            }
        }
        job.arrival
    }
}

/// Why frames of a job could not be had.
#[derive(Default)]
struct Failures {
    of_frames: HashMap<u32, Arc<str>>,
    /// Of all others.
    of_all: Option<Arc<str>>,
}

impl Failures {
    fn all(why: &str) -> Self {
        Self {
            of_all: Some(Arc::from(why)),
            ..Self::default()
        }
    }
}

impl Fetcher {
    pub(super) fn new(disk: &Disk) -> Self {
        Self {
            disk: disk.clone(),
            source: OnceLock::new(),
            state: Mutex::default(),
            locks: FrameLocks::new(disk),
            homes: FailedHomes::default(),
        }
    }

    /// Says whence frames come. Of several the first counts.
    #[cfg_attr(
        not(feature = "registry"),
        expect(dead_code, reason = "registries are read in parts")
    )]
    pub(super) fn set_source(&self, source: Arc<dyn FrameSource>) {
        self.source.get_or_init(|| source);
    }

    /// Lets frames be fetched: the first of `chunks`, which is absent and which the ticket is of, and
    /// those after it, as far as they are not on their way, in as many parts as are fetched at once. `chunks` are
    /// in the order of the pack, and have all of each frame. Returns the error if there is no
    /// source, or the first could not be had a moment ago.
    pub(super) fn want(
        self: &Arc<Self>,
        pack: Digest,
        lazy: &Arc<LazyPack>,
        chunks: &[WantedChunk],
    ) -> Result<Ticket, StoreError> {
        let absent = || StoreError::NotHere {
            blob: lazy.blob,
            from: lazy.homes.first().cloned().unwrap_or_default(),
        };
        let first = chunks.first().ok_or_else(absent)?.frame;
        if self.source.get().is_none() {
            return Err(absent());
        }
        let mut state = self.state.lock();
        let flight = state.flights.get(&(pack, first));
        let flight = flight.filter(|it| !it.is_over()).cloned();
        let mut given_up = Vec::new();
        let ticket = if let Some(flight) = flight {
            flight
        } else if let Some(why) = state.failure_of((pack, first)) {
            let span = lazy.frames.span(first..first + 1);
            return Err(StoreError::NotFetched {
                blob: lazy.blob,
                offset: span.map_or(0, |span| span.start),
                why,
            });
        } else {
            let ticket = state.queue(pack, lazy, chunks).ok_or_else(absent)?;
            given_up.extend(self.start_thread(&mut state));
            ticket
        };
        // The rest of a long read comes at the same time.
        let mut rest = chunks;
        for _ in 1..MAX_FETCHES {
            rest = state.not_on_its_way(pack, rest);
            if state.queue(pack, lazy, rest).is_none() {
                break;
            }
            given_up.extend(self.start_thread(&mut state));
        }
        drop(state);
        drop(given_up);
        Ok(ticket)
    }

    /// Starts one more thread, unless enough are at work. If there can be none, returns what
    /// lets those go on who wait.
    fn start_thread(self: &Arc<Self>, state: &mut FetcherState) -> Vec<Arrival> {
        if state.threads >= MAX_FETCHES {
            return Vec::new();
        }
        let fetcher = Arc::clone(self);
        let thread = thread::Builder::new().name("stratafs-fetch".to_owned());
        match thread.spawn(move || fetcher.work()) {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                let why = format!("no thread can be started to fetch it: {error}");
                let jobs = std::mem::take(&mut state.jobs).into_iter();
                return jobs
                    .map(|job| state.end(job, &Failures::all(&why)))
                    .collect();
            }
            Err(_) => {}
        }
        Vec::new()
    }

    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let Some(job) = state.jobs.pop_front() else {
                state.threads -= 1;
                return;
            };
            drop(state);
            // A mistake here must not leave anybody waiting.
            let fetch = std::panic::AssertUnwindSafe(|| self.fetch(&job));
            let fetched = std::panic::catch_unwind(fetch);
            let failures = fetched.unwrap_or_else(|_| Failures::all("fetching it failed inside"));
            let arrival = self.state.lock().end(job, &failures);
            drop(arrival);
        }
    }

    fn fetch(&self, job: &FetchJob) -> Failures {
        let mut failures = Failures::default();
        if let Err(why) = self.try_fetch(job, &mut failures.of_frames) {
            failures.of_all = Some(Arc::from(why));
        }
        failures
    }

    /// Fetches what is still absent of a job. Frames that are damaged keep no others from coming.
    fn try_fetch(
        &self,
        job: &FetchJob,
        damaged: &mut HashMap<u32, Arc<str>>,
    ) -> Result<(), String> {
        let text = |error: StoreError| error.to_string();
        let _locks = self.locks.lock(job.pack, job.chunks.keys().copied())?;
        let path = self.disk.file_in(PACKS, &file_name(job.pack));
        let file = self.disk.open_to_write(&path).map_err(text)?;
        let is_here = |chunk: &WantedChunk| {
            let mut bytes = vec![0; chunk.len as usize];
            let read = self.disk.read_at(&file, &path, chunk.offset, &mut bytes);
            read.is_ok() && Digest::of(&bytes) == chunk.digest
        };
        let chunks_of = |frame: &u32| job.chunks.get(frame).map_or(&[][..], Vec::as_slice);
        let missing = |frame: &u32| chunks_of(frame).iter().any(|chunk| !is_here(chunk));
        let frames: Vec<u32> = job.chunks.keys().copied().filter(missing).collect();
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Ok(());
        };
        let all = *first..(*last + 1).min(job.frames.end);
        let bytes = self.bytes(job, all.clone())?;
        let base = job.lazy.frames.span(all).map_or(0, |span| span.start);
        for frame in frames {
            let span = job.lazy.frames.span(frame..frame + 1).unwrap_or_default();
            let own = to_range(span.start - base, span.end - base);
            let own = bytes.get(own).unwrap_or_default();
            let chunks = chunks_of(&frame);
            let found = match self.right_chunks(job, frame, own, chunks)? {
                Ok(found) => found,
                Err(why) => {
                    damaged.insert(frame, Arc::from(why));
                    continue;
                }
            };
            for (chunk, bytes) in chunks.iter().zip(found) {
                let written = self.disk.write_at(&file, &path, chunk.offset, &bytes);
                written.map_err(text)?;
                if !is_here(chunk) {
                    let path = path.display();
                    return Err(format!("{path}: what is written is not read back"));
                }
            }
        }
        Ok(())
    }

    /// Takes the chunks out of a frame that came. If they are not right, it is fetched once more: it
    /// may have been damaged on its way; then from other homes.
    fn right_chunks(
        &self,
        job: &FetchJob,
        frame: u32,
        bytes: &[u8],
        chunks: &[WantedChunk],
    ) -> Result<Result<Vec<Vec<u8>>, String>, String> {
        if let Ok(found) = self.unpacked(&job.lazy, frame, bytes, chunks) {
            return Ok(Ok(found));
        }
        let mut is_damaged = false;
        let found = self.ask_homes(job, &mut |home| {
            let again = self.bytes_from(home, &job.lazy, frame..frame + 1, true)?;
            let found = self.unpacked(&job.lazy, frame, &again, chunks);
            found.map_err(|why| {
                is_damaged = true;
                format!("{why}, twice: it is damaged where it comes from")
            })
        });
        match found {
            Err(why) if !is_damaged => Err(why),
            found => Ok(found),
        }
    }

    fn bytes(&self, job: &FetchJob, frames: Range<u32>) -> Result<Vec<u8>, String> {
        self.ask_homes(job, &mut |home| {
            self.bytes_from(home, &job.lazy, frames.clone(), false)
        })
    }

    /// Asks the homes of a pack, one after the other; those that a pull noted since the pack was
    /// opened as well.
    fn ask_homes<T>(
        &self,
        job: &FetchJob,
        ask: &mut dyn FnMut(&str) -> Result<T, String>,
    ) -> Result<T, String> {
        let asked = self.homes.ask(&job.lazy.homes, ask);
        let Err(why) = asked else {
            return asked;
        };
        let noted = LazyPack::of(&self.disk, job.pack).filter(|it| it.blob == job.lazy.blob);
        let mut homes = noted.map_or_else(Vec::new, |noted| noted.homes);
        homes.retain(|home| !job.lazy.homes.contains(home));
        match homes.is_empty() {
            true => Err(why),
            false => {
                let asked = self.homes.ask(&homes, ask);
                asked.map_err(|more| format!("{why}; {more}"))
            }
        }
    }

    fn bytes_from(
        &self,
        home: &str,
        lazy: &LazyPack,
        frames: Range<u32>,
        is_again: bool,
    ) -> Result<Vec<u8>, String> {
        let source = self
            .source
            .get()
            .ok_or("there is nowhere to fetch it from")?;
        let span = lazy.frames.span(frames).ok_or("it lies in no frame")?;
        let want = span.end - span.start;
        let bytes = source.fetch(home, (lazy.blob, lazy.blob_bytes), span, is_again)?;
        match bytes.len() as u64 == want {
            true => Ok(bytes),
            false => Err(format!("expected {want} bytes, found {}", bytes.len())),
        }
    }

    /// Decompresses a frame and takes its chunks out, each held against its digest.
    fn unpacked(
        &self,
        lazy: &LazyPack,
        frame: u32,
        bytes: &[u8],
        chunks: &[WantedChunk],
    ) -> Result<Vec<Vec<u8>>, String> {
        let source = self
            .source
            .get()
            .ok_or("there is nowhere to fetch it from")?;
        let raw = source.unpack(bytes, lazy.is_zstd, lazy.frames.raw(frame));
        let raw = raw.map_err(|error| format!("frame {frame} does not decompress: {error}"))?;
        let of = |chunk: &WantedChunk| {
            let start = u64::from(chunk.place);
            let found = raw.get(to_range(start, start + u64::from(chunk.len)));
            let found = found.filter(|found| Digest::of(found) == chunk.digest);
            found.map(<[u8]>::to_vec)
        };
        let found: Option<Vec<_>> = chunks.iter().map(of).collect();
        found.ok_or_else(|| format!("frame {frame} has other bytes than its digests say"))
    }
}

fn to_range(start: u64, end: u64) -> Range<usize> {
    let at = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
    at(start)..at(end)
}
