//! Listing a directory for a 0.2 guest.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use wasmtime_wasi::p2::bindings::filesystem::types::DirectoryEntry;

use super::{convert, ops};
use crate::errno::Errno;
use crate::vfs::{Descriptor, DirEntry};

/// Entries fetched in one step: enough to pay for the lock, few enough that
/// a guest which leaves many listings half-read costs little.
const BATCH: usize = 16;

/// A listing under way, behind `directory-entry-stream`: without `.` and `..`,
/// each name that stays throughout once, whatever changes meanwhile.
pub(super) struct ReadDir {
    dir: Descriptor,
    cookie: u64,
    fetched: VecDeque<Result<DirectoryEntry, Errno>>,
    ended: bool,
}

impl ReadDir {
    /// Opens the directory once more, as `opendir` does: a listing counts as
    /// a descriptor, which bounds what listings hold.
    pub(super) fn new(dir: &Descriptor) -> Result<Self, Errno> {
        let dir = ops::dir(dir)?.try_clone()?;
        Ok(Self {
            dir,
            cookie: 0,
            fetched: VecDeque::new(),
            ended: false,
        })
    }

    /// Gives the next entry, `None` after the last. A name that is not UTF-8
    /// is an error, as with wasmtime; the call after it goes on behind it.
    pub(super) fn next(&mut self) -> Result<Option<DirectoryEntry>, Errno> {
        if self.fetched.is_empty() && !self.ended {
            self.fetch()?;
        }
        self.fetched.pop_front().transpose()
    }

    fn fetch(&mut self) -> Result<(), Errno> {
        let Self {
            dir,
            cookie,
            fetched,
            ended,
        } = self;
        let mut full = false;
        let mut next = *cookie;
        dir.read_dir(*cookie, &mut |entry| {
            next = entry.next;
            fetched.push_back(convert_entry(&entry));
            full = fetched.len() >= BATCH;
            if full {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        *cookie = next;
        *ended = !full;
        Ok(())
    }
}

fn convert_entry(entry: &DirEntry<'_>) -> Result<DirectoryEntry, Errno> {
    let name = std::str::from_utf8(entry.name).map_err(|_| Errno::IllegalByteSequence)?;
    Ok(DirectoryEntry {
        type_: convert::kind(entry.kind),
        name: name.to_owned(),
    })
}
