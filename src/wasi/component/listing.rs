//! Listing a directory for a component.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::ops;
use crate::errno::Errno;
use crate::meta::Kind;
use crate::vfs::{Descriptor, Listed};

/// Entries fetched in one step: enough to pay for the lock, few enough that
/// a guest which leaves many listings half-read costs little.
const BATCH: usize = 16;

/// What a listing tells of an object.
pub(in crate::wasi) struct ComponentEntry {
    pub(in crate::wasi) kind: Kind,
    pub(in crate::wasi) is_device: bool,
    pub(in crate::wasi) name: String,
}

/// A listing under way, behind a stream of entries: without `.` and `..`,
/// each name that stays throughout once, whatever changes meanwhile.
pub(in crate::wasi) struct ReadDir {
    dir: Descriptor,
    cookie: u64,
    fetched: VecDeque<Result<ComponentEntry, Errno>>,
    ended: bool,
}

impl ReadDir {
    /// Opens the directory once more, as `opendir` does: a listing counts as
    /// a descriptor, which bounds what listings hold.
    pub(in crate::wasi) fn new(dir: &Descriptor) -> Result<Self, Errno> {
        let dir = ops::dir(dir)?.try_clone()?;
        Ok(Self {
            dir,
            cookie: 0,
            fetched: VecDeque::new(),
            ended: false,
        })
    }

    /// Returns the next entry, `None` after the last. A name that is not UTF-8
    /// is an error, as with wasmtime; the call after it goes on behind it.
    pub(in crate::wasi) fn next(&mut self) -> Result<Option<ComponentEntry>, Errno> {
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
        dir.read_dir_with(*cookie, &mut |entry| {
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

fn convert_entry(entry: &Listed<'_>) -> Result<ComponentEntry, Errno> {
    let name = std::str::from_utf8(entry.name).map_err(|_| Errno::IllegalByteSequence)?;
    Ok(ComponentEntry {
        kind: entry.kind,
        is_device: entry.is_device,
        name: name.to_owned(),
    })
}
