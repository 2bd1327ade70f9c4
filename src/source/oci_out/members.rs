//! Compression in members: stretches of a layer that are compressed apart from
//! each other and stand one after the other, as readers of gzip and zstd take them.
//!
//! So several threads take part, and the bytes that come out do not depend on how
//! many there are: a member is cut after so many bytes of the archive.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::limits::FRAME_BYTES;

/// zstd's own default, which is part of the bytes that come out.
const ZSTD_LEVEL: i32 = 3;

/// Threads at most: more would wait for the archive and for the file.
const MAX_WORKERS: usize = 8;

/// How a member is compressed.
#[derive(Clone, Copy)]
pub(super) enum MemberCompression {
    Gzip,
    Zstd,
}

impl MemberCompression {
    fn pack(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let out = Vec::with_capacity(bytes.len() / 2);
                // Its header has no name and no time: nothing but the bytes counts.
                let level = flate2::Compression::default();
                let mut encoder = flate2::GzBuilder::new().write(out, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(bytes, ZSTD_LEVEL),
        }
    }
}

/// Compresses what is written. Holds two members for each thread, as they came and
/// compressed.
pub(super) struct Members<W: Write> {
    out: W,
    packing: MemberCompression,
    /// The member that is being filled.
    open: Vec<u8>,
    workers: Workers,
    has_begun: bool,
    /// Bytes of the members that have been written.
    sizes: Vec<u32>,
}

impl<W: Write> Members<W> {
    /// Compresses on as many threads as this process may use.
    pub(super) fn new(out: W, packing: MemberCompression) -> Self {
        let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
        Self::on(out, packing, threads)
    }

    fn on(out: W, packing: MemberCompression, threads: usize) -> Self {
        Self {
            out,
            packing,
            open: Vec::new(),
            workers: Workers::new(packing, threads.min(MAX_WORKERS)),
            has_begun: false,
            sizes: Vec::new(),
        }
    }

    /// Adds bytes to the open member, however many it has.
    #[cfg(feature = "store")]
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    /// Hands the open member to a thread, and writes those that have to be done
    /// first.
    pub(super) fn cut(&mut self) -> io::Result<()> {
        self.has_begun = true;
        let bytes = std::mem::take(&mut self.open);
        while self.workers.are_busy() {
            let member = self.workers.first()?;
            self.put(&member)?;
        }
        match self.workers.give(bytes) {
            None => Ok(()),
            // There are no threads to be had.
            Some(bytes) => {
                let member = self.packing.pack(&bytes)?;
                self.put(&member)
            }
        }
    }

    fn put(&mut self, member: &[u8]) -> io::Result<()> {
        let len = u32::try_from(member.len()).map_err(io::Error::other)?;
        self.sizes.push(len);
        self.out.write_all(member)
    }

    /// Ends the archive and writes what is left. Returns the bytes of each member as well.
    pub(super) fn finish(mut self) -> io::Result<(W, Vec<u32>)> {
        if !self.has_begun {
            // A single member: no thread is worth it.
            let member = self.packing.pack(&self.open)?;
            self.put(&member)?;
            return Ok((self.out, self.sizes));
        }
        if !self.open.is_empty() {
            self.cut()?;
        }
        while !self.workers.waiting.is_empty() {
            let member = self.workers.first()?;
            self.put(&member)?;
        }
        Ok((self.out, self.sizes))
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.open.len() >= FRAME_BYTES {
            self.cut()?;
        }
        let room = FRAME_BYTES - self.open.len();
        let now = buf.get(..room).unwrap_or(buf);
        self.open.extend_from_slice(now);
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A member that is to be compressed, and where it goes then.
struct Job {
    bytes: Vec<u8>,
    done: SyncSender<io::Result<Vec<u8>>>,
}

/// Threads that compress, made with the first member.
struct Workers {
    packing: MemberCompression,
    wanted: usize,
    /// Ends the threads when it is dropped.
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Members that are being compressed, in their order.
    waiting: VecDeque<Receiver<io::Result<Vec<u8>>>>,
}

impl Workers {
    fn new(packing: MemberCompression, wanted: usize) -> Self {
        Self {
            packing,
            wanted,
            jobs: None,
            threads: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    fn start(&mut self) {
        let (jobs, queue) = mpsc::sync_channel::<Job>(2 * self.wanted);
        let queue = Arc::new(Mutex::new(queue));
        let packing = self.packing;
        for _ in 0..self.wanted {
            let queue = Arc::clone(&queue);
            let work = move || {
                while let Some(job) = next(&queue) {
                    // If nobody waits for it any more, the export has failed.
                    job.done.send(packing.pack(&job.bytes)).ok();
                }
            };
            let thread = thread::Builder::new().name("stratafs-pack".to_owned());
            self.threads.extend(thread.spawn(work));
        }
        self.jobs = Some(jobs);
    }

    /// Returns whether as many members wait as may.
    fn are_busy(&self) -> bool {
        !self.waiting.is_empty() && self.waiting.len() >= 2 * self.threads.len()
    }

    /// Takes a member, or returns it if there is no thread.
    fn give(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.jobs.is_none() {
            self.start();
        }
        let (true, Some(jobs)) = (!self.threads.is_empty(), &self.jobs) else {
            return Some(bytes);
        };
        let (done, member) = mpsc::sync_channel(1);
        match jobs.send(Job { bytes, done }) {
            Ok(()) => {
                self.waiting.push_back(member);
                None
            }
            Err(back) => Some(back.0.bytes),
        }
    }

    /// Waits for the first member and takes it.
    fn first(&mut self) -> io::Result<Vec<u8>> {
        let first = self.waiting.pop_front().map(|member| member.recv());
        let ended = || io::Error::other("a thread that compresses has ended before its time");
        first.and_then(Result::ok).unwrap_or_else(|| Err(ended()))
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has been told of by the member it owed.
            thread.join().ok();
        }
    }
}

/// Waits for the next member to compress; none once there will be no more.
fn next(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn archive(len: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] & 0x1f
        };
        (0..len).map(&mut byte).collect()
    }

    fn packed(packing: MemberCompression, bytes: &[u8], threads: usize) -> Vec<u8> {
        let mut members = Members::on(Vec::new(), packing, threads);
        bytes
            .chunks(70_001)
            .for_each(|part| members.write_all(part).unwrap());
        members.finish().unwrap().0
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_number_of_threads() {
        for packing in [MemberCompression::Gzip, MemberCompression::Zstd] {
            for len in [0, 1_000, 1 << 20, (1 << 20) + 1, 9 << 20] {
                let bytes = archive(len);
                let one = packed(packing, &bytes, 1);
                assert!([0, 2, 5].iter().all(|n| packed(packing, &bytes, *n) == one));
                let mut back = Vec::new();
                match packing {
                    MemberCompression::Gzip => flate2::read::MultiGzDecoder::new(&one[..])
                        .read_to_end(&mut back)
                        .unwrap(),
                    MemberCompression::Zstd => zstd::Decoder::new(&one[..])
                        .unwrap()
                        .read_to_end(&mut back)
                        .unwrap(),
                };
                assert_eq!(back, bytes);
            }
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_threads_end() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                self.0 = self.0.saturating_sub(buf.len());
                match self.0 {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    _ => Ok(buf.len()),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut members = Members::on(Full(1 << 20), MemberCompression::Gzip, 2);
        let error = members.write_all(&archive(20 << 20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
