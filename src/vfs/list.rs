//! Listing directories.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::descriptor::{Caller, Descriptor};
use crate::errno::Errno;
use crate::meta::{FileId, Kind};
use crate::overlay::Overlay;

/// One entry of a directory, as [`Descriptor::read_dir`] returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirEntry {
    /// The name's bytes.
    pub name: Box<[u8]>,
    /// Inode number, the same that `stat` returns.
    pub id: FileId,
    /// What the object is.
    pub kind: Kind,
    /// Whether it is a character device provided by the host; its kind is a file then.
    pub is_device: bool,
    /// The cookie to go on with after this entry.
    pub next: u64,
}

/// One entry of a directory, while the instance is locked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'a> {
    /// The name's bytes.
    pub name: &'a [u8],
    /// Inode number, the same that `stat` gives.
    pub id: FileId,
    /// What the object is.
    pub kind: Kind,
    /// Whether it is a character device provided by the host.
    pub is_device: bool,
    /// The cookie to go on with after this entry.
    pub next: u64,
}

impl Descriptor {
    /// Returns the entries from `cookie` on, without `.` and `..`: at most `max`
    /// of them, none at the end. Linear in the entries returned.
    ///
    /// Cookie 0 starts over and shows the present state; entries made after
    /// that are not shown until the next start, so a listing ends whatever
    /// else goes on. A cookie stays good for ever: an entry that stays is
    /// given once, whatever is created, removed or renamed in between. One
    /// past the end gives nothing. The order is by name for entries of the
    /// base, then by time of creation.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`] if this is none; [`Errno::Io`] if the base
    /// turned out to be damaged.
    pub fn read_dir(&self, cookie: u64, max: usize) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = Vec::new();
        if max == 0 {
            return self.expect_dir().map(|()| entries);
        }
        self.read_dir_with(cookie, &mut |entry| {
            entries.push(DirEntry {
                name: entry.name.into(),
                id: entry.id,
                kind: entry.kind,
                is_device: entry.is_device,
                next: entry.next,
            });
            match entries.len() < max {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(entries)
    }

    /// As [`read_dir`](Self::read_dir), but hands the entries to `sink` until it
    /// breaks off. It runs under the instance's lock: it must not use the instance.
    /// After an error, what was handed out is not all.
    pub(crate) fn read_dir_with(
        &self,
        cookie: u64,
        sink: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        self.expect_dir()?;
        let state = self.fs().lock();
        self.allow_look(&state)?;
        let rules = self.rules(&state);
        if cookie == 0 {
            self.list_end
                .store(state.list_end(self.id()), Ordering::Relaxed);
        }
        let end = self.list_end.load(Ordering::Relaxed);
        state.list(self.id(), cookie, end, &mut |name, id, kind, position| {
            if state.check_undamaged().is_err() {
                return ControlFlow::Break(());
            }
            if rules.is_some_and(|rules| rules.hides(id)) || self.leaves_out(&state, id) {
                return ControlFlow::Continue(());
            }
            sink(Listed {
                name,
                id,
                kind,
                is_device: kind == Kind::File && self.fs().shows_device(id),
                next: position + 1,
            })
        });
        state.check_undamaged()
    }

    /// Starts a listing over, as cookie 0 does.
    #[cfg(feature = "p1")]
    pub(crate) fn begin_listing(&self) -> Result<(), Errno> {
        self.expect_dir()?;
        let end = self.fs().lock().list_end(self.id());
        self.list_end.store(end, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the position that a list ends at which was begun; `None` if none was.
    #[cfg(feature = "freeze")]
    pub(crate) fn begun_listing(&self) -> Option<u64> {
        let end = self.list_end.load(Ordering::Relaxed);
        (end != u64::MAX).then_some(end)
    }

    /// Returns whether an entry is not for the listings of who opened this.
    #[inline]
    fn leaves_out(&self, state: &Overlay, id: FileId) -> bool {
        state.is_unlisted(id) && self.by() == Caller::Guest
    }
}
