//! What guests ask of their files, call by call.
//!
//! [`RunnerConfig::calls`](super::RunnerConfig::calls) names who is told. Calls are
//! seen where the guest makes them, for every version of WASI: between the guest and
//! the linker, in front of whoever answers them. So a call of a host's directory, or
//! one on a number that is not open, is told like any other, in the words that the
//! guest used. A runner that tells nobody links none of this.
//!
//! preview0 and preview1 are told by [`p1`], which puts a function in front of each
//! of theirs; 0.2 and 0.3 by [`p2`] and [`p3`], which put a view in front of that of
//! `wasi:filesystem`. What goes through the streams of files is told as well: in 0.2
//! by [`streams`], in 0.3 by what the front end says of each step.

mod errnos;
mod names;
mod p1;
mod p2;
mod p3;
mod rows;
mod streams;
mod text;
mod tracer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) use p1::{CoreCalls, interpose};
pub(super) use p2::interpose_two;
pub(super) use p3::interpose_three;
pub(super) use tracer::Tracer;

use crate::limits::{MAX_TRACED_CONTENT_BYTES, MAX_TRACED_PATH_BYTES};

/// Is told of each call on files that guests make, once it is done.
pub trait WatchCalls: fmt::Debug + Send + Sync {
    /// A guest's call has ended. Called on the thread that runs the guest, which
    /// goes on when this returns.
    fn called(&self, call: &FileCall);
}

/// One call on files. [`Display`](fmt::Display) writes it on one line, as `strace`
/// does: `path_open(3 "/", ..., "a", O_CREAT, ...) = 5`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FileCall {
    /// The number of the instance that made it.
    pub instance: u32,
    /// What the guest speaks.
    pub version: WasiVersion,
    /// The function, as WASI names it: `path_open`, `open-at`.
    pub name: &'static str,
    /// Its arguments, in order; where results go in the guest's memory is left out.
    pub args: Vec<Argument>,
    /// What came of it.
    pub result: CallResult,
    /// The bytes of content that it moved, of a call that moves some.
    pub bytes: Option<u64>,
    /// How long the guest waited.
    pub elapsed: Duration,
}

/// A version of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WasiVersion {
    /// `wasi_unstable`.
    Preview0,
    /// `wasi_snapshot_preview1`.
    Preview1,
    /// `wasi:filesystem@0.2`.
    Two,
    /// `wasi:filesystem@0.3`.
    Three,
}

impl WasiVersion {
    /// Returns its name: `preview0`, `preview1`, `0.2`, `0.3`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preview0 => "preview0",
            Self::Preview1 => "preview1",
            Self::Two => "0.2",
            Self::Three => "0.3",
        }
    }
}

/// An argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Argument {
    /// Its name in WASI.
    pub name: &'static str,
    /// What the guest passed, or for a buffer that is filled what it holds now.
    pub value: CallValue,
}

/// A value that a call takes or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallValue {
    /// A length, an offset, a count, a time in nanoseconds.
    Number(u64),
    /// A distance.
    Signed(i64),
    /// A descriptor or a stream, and what it was opened as.
    Descriptor(u32, Option<Arc<str>>),
    /// Flags, joined by `|`, or a choice.
    Word(String),
    /// A path or the target of a link.
    Path(Excerpt),
    /// Content.
    Bytes(Excerpt),
    /// Fields with names.
    Record(Vec<(&'static str, CallValue)>),
    /// A list of names, cut where a path is.
    Names(Vec<Excerpt>),
    /// Nothing: what the guest pointed at lies outside of its memory, or the call
    /// did not fill it.
    Nothing,
}

/// The beginning of some bytes: a line about a call is bounded whatever a guest does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Excerpt {
    /// At most [`MAX_TRACED_PATH_BYTES`] of a path, [`MAX_TRACED_CONTENT_BYTES`] of content.
    pub bytes: Vec<u8>,
    /// How many there are.
    pub len: u64,
}

impl Excerpt {
    fn new(bytes: &[u8], max: usize) -> Self {
        Self {
            bytes: bytes.get(..max).unwrap_or(bytes).to_vec(),
            len: bytes.len() as u64,
        }
    }

    fn path(bytes: &[u8]) -> Self {
        Self::new(bytes, MAX_TRACED_PATH_BYTES)
    }

    fn content(bytes: &[u8]) -> Self {
        Self::new(bytes, MAX_TRACED_CONTENT_BYTES)
    }

    /// Returns whether there are more bytes than it holds.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.len > self.bytes.len() as u64
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallResult {
    /// It succeeded and gave this.
    Done(CallValue),
    /// It failed.
    Failed {
        /// `ENOENT` and the like, alike in all versions of WASI.
        errno: &'static str,
        /// What that means.
        message: &'static str,
    },
    /// It ended the guest.
    Trapped(String),
    /// The guest ended, or was stopped, while it waited.
    Unfinished,
}

impl CallResult {
    /// Returns whether it failed or ended the guest.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Trapped(_))
    }
}
