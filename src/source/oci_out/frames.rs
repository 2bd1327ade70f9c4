//! A layer cut into frames: stretches of its tar that are compressed apart from each other
//! and end where a chunk of a file ends, so that a reader can fetch a chunk alone.
//!
//! What lies where is put into a table behind the frames; see docs/FORMAT.md.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::members::Members;
use crate::bounded::{BrokenBound, try_bounded_u32};
use crate::chunk::next_chunk;
use crate::digest::Digest;
use crate::limits::{FRAME_BYTES, MAX_FRAME_CHUNKS};
use crate::source::tar_out::SpanSink;

/// What lies where in a layer that was cut into frames.
#[derive(Debug, Default)]
pub(crate) struct FrameMap {
    /// Bytes of each frame, compressed and as they are in the tar. They lie one after the other.
    pub(crate) frames: Vec<(u32, u32)>,
    /// Chunks of files, each once, in the order of the tar.
    pub(crate) chunks: Vec<FrameChunk>,
    /// For each content its chunks: where in the file, and which.
    pub(crate) files: HashMap<Digest, Vec<(u64, u32)>>,
    /// Frames that hold what is needed to start.
    pub(crate) start_frames: usize,
}

/// A chunk in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameChunk {
    pub(crate) frame: u32,
    /// Where in the frame it begins.
    pub(crate) place: u32,
    pub(crate) len: u32,
    pub(crate) digest: Digest,
}

/// What the writer of the tar says of what it is about to write.
#[derive(Clone, Default)]
pub(super) struct FrameMarks(Arc<Mutex<Mark>>);

#[derive(Default)]
struct Mark {
    file: Option<Digest>,
    span: Option<(u64, u64)>,
    start_ends: bool,
}

impl FrameMarks {
    fn lock(&self) -> MutexGuard<'_, Mark> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SpanSink for FrameMarks {
    fn file(&self, content: Digest) {
        self.lock().file = Some(content);
    }

    fn span(&self, at: u64, len: u64) {
        self.lock().span = Some((at, len));
    }

    fn start_ends(&self) {
        self.lock().start_ends = true;
    }
}

/// Cuts what is written.
pub(super) struct Framer<W: Write> {
    members: Members<W>,
    marks: FrameMarks,
    map: FrameMap,
    known: HashMap<Digest, u32>,
    /// Bytes in the frame that is open.
    open: usize,
    /// The file whose bytes come, unless its chunks are known or there are too many.
    current: Option<Digest>,
    /// Bytes of it that are still to come before something else does.
    left: u64,
    /// Bytes of it that are in no chunk yet, and where in the file they belong.
    pending: Vec<u8>,
    at: u64,
}

impl<W: Write> Framer<W> {
    pub(super) fn new(members: Members<W>, marks: FrameMarks) -> Self {
        Self {
            members,
            marks,
            map: FrameMap::default(),
            known: HashMap::new(),
            open: 0,
            current: None,
            left: 0,
            pending: Vec::new(),
            at: 0,
        }
    }

    /// Ends the last frame. Returns what was written to, and what lies where.
    pub(super) fn finish(mut self) -> io::Result<(W, FrameMap)> {
        self.cut(true)?;
        if self.open > 0 {
            self.close()?;
        }
        let (out, sizes) = self.members.finish()?;
        for (frame, compressed) in self.map.frames.iter_mut().zip(sizes) {
            frame.0 = compressed;
        }
        Ok((out, self.map))
    }

    /// Takes note of what was said.
    fn take_marks(&mut self) -> io::Result<()> {
        let mark = std::mem::take(&mut *self.marks.lock());
        if mark.file.is_some() || mark.start_ends {
            self.cut(true)?;
            (self.current, self.left) = (None, 0);
        }
        if mark.start_ends {
            if self.open > 0 {
                self.close()?;
            }
            self.map.start_frames = self.map.frames.len();
        }
        let is_full = self.map.chunks.len() >= MAX_FRAME_CHUNKS;
        if let Some(file) = mark.file.filter(|_| !is_full)
            && !self.map.files.contains_key(&file)
        {
            self.map.files.insert(file, Vec::new());
            self.current = Some(file);
        }
        if let (Some((at, len)), Some(_)) = (mark.span, self.current) {
            if self.at + self.pending.len() as u64 != at {
                self.cut(true)?;
                self.at = at;
            }
            self.left = len;
        }
        Ok(())
    }

    /// Makes chunks of the bytes that wait, or of all of them if `all`. They are cut as a
    /// store cuts them, so that they have the digests that they have there.
    fn cut(&mut self, all: bool) -> io::Result<()> {
        let mut used = 0;
        let waiting = std::mem::take(&mut self.pending);
        while let Some(bytes) = waiting.get(used..)
            && let Some(chunk) = next_chunk(bytes, all).and_then(|len| bytes.get(..len))
        {
            used += chunk.len();
            self.chunk(chunk)?;
        }
        self.pending = waiting;
        self.pending.drain(..used);
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let digest = Digest::of(bytes);
        let next = small(self.map.chunks.len())?;
        let number = *self.known.entry(digest).or_insert(next);
        if number == next {
            self.map.chunks.push(FrameChunk {
                frame: small(self.map.frames.len())?,
                place: small(self.open)?,
                len: small(bytes.len())?,
                digest,
            });
        }
        if let Some(file) = self.current
            && let Some(chunks) = self.map.files.get_mut(&file)
        {
            chunks.push((self.at, number));
        }
        self.at += bytes.len() as u64;
        self.members.append(bytes);
        self.open += bytes.len();
        match self.open >= FRAME_BYTES {
            true => self.close(),
            false => Ok(()),
        }
    }

    fn plain(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = FRAME_BYTES - self.open;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.members.append(now);
            self.open += now.len();
            if self.open >= FRAME_BYTES {
                self.close()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        self.map.frames.push((0, small(self.open)?));
        self.open = 0;
        self.members.cut()
    }
}

/// Frames and chunks are bounded by [`MAX_FRAME_CHUNKS`] and by the size of a layer,
/// places and lengths by that of a frame.
fn small(number: usize) -> Result<u32, BrokenBound> {
    try_bounded_u32(number, "the bounds of a layer in frames")
}

impl<W: Write> Write for Framer<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.take_marks()?;
        let mut rest = buf;
        while !rest.is_empty() {
            let now = match self.current {
                Some(_) => usize::try_from(self.left).unwrap_or(usize::MAX),
                None => 0,
            };
            if now == 0 {
                self.cut(true)?;
                self.plain(rest)?;
                break;
            }
            let (data, later) = rest.split_at(now.min(rest.len()));
            self.pending.extend_from_slice(data);
            self.left -= data.len() as u64;
            self.cut(false)?;
            rest = later;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.members.flush()
    }
}
