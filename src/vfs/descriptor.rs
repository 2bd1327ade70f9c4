//! Open files and directories.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Fs;
use super::fs::recheck;
use super::virtual_file::Live;
use crate::errno::Errno;
use crate::meta::{FileId, Kind};
use crate::overlay::{Overlay, Rule};

bitflags::bitflags! {
    /// What a descriptor was opened for.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u8 {
        /// Reading a file, listing a directory.
        const READ = 1;
        /// Writing a file, changing a directory.
        const WRITE = 2;
    }
}

/// What may be done through a preopened directory and all that is opened
/// through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    ReadWrite,
    /// No change: each attempt gives [`Errno::NotPermitted`].
    ReadOnly,
}

/// Who works with a descriptor: rules hold for guests only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Guest,
    Host,
}

/// An open file or directory of one instance.
///
/// Its object stays usable when its last name goes; its space returns when
/// the last descriptor is dropped. Methods take paths relative to the
/// descriptor, and no path leaves it.
pub struct Descriptor {
    fs: Fs,
    id: FileId,
    kind: Kind,
    access: Access,
    rights: Rights,
    by: By,
    /// The rule of the file under the name that it was opened by.
    rule: Rule,
    /// What a file of the host's making shows to this.
    live: Option<Arc<Live>>,
    /// Opened as a preopen: `..` of a listing is the directory itself, and
    /// the directory cannot be removed or moved.
    top: bool,
    /// Counted as open by the instance; the host's own root is not, nor is a
    /// directory in the middle of a path.
    counted: bool,
    /// Entries at this position and past it are not listed: those that came
    /// after the listing was last rewound. Atomic.
    pub(super) list_end: AtomicU64,
}

impl Descriptor {
    /// Opens `id`, which the caller has resolved under this lock.
    pub(super) fn open(
        fs: &Fs,
        state: &mut Overlay,
        id: FileId,
        access: Access,
        rights: Rights,
    ) -> Result<Self, Errno> {
        let kind = state.kind(id);
        // Of what lies in a damaged part of the base not even that is known.
        state.intact()?;
        state.opened(id)?;
        Ok(Self {
            fs: fs.clone(),
            id,
            kind,
            access,
            rights,
            by: By::Guest,
            rule: Rule::Free,
            live: None,
            top: false,
            counted: true,
            list_end: AtomicU64::new(u64::MAX),
        })
    }

    /// The root, for the host's own calls: takes none of the guest's
    /// descriptors. The root cannot go, so nothing needs to hold it.
    pub(crate) fn host_root(fs: &Fs) -> Self {
        let mut root = Self::passing(fs.clone(), FileId::ROOT, Rights::ReadWrite, By::Host);
        root.top = true;
        root
    }

    /// A directory that a walk is in, for the rest of one call: if it goes
    /// meanwhile, nothing is found in it.
    pub(super) fn passing(fs: Fs, id: FileId, rights: Rights, by: By) -> Self {
        Self {
            fs,
            id,
            kind: Kind::Dir,
            access: Access::all(),
            rights,
            by,
            rule: Rule::Free,
            live: None,
            top: false,
            counted: false,
            list_end: AtomicU64::new(u64::MAX),
        }
    }

    /// Makes this a preopen: pinned, so that its place stays.
    pub(super) fn into_top(mut self, state: &mut Overlay) -> Self {
        state.pin(self.id);
        self.top = true;
        self
    }

    /// Notes who opened this, and the rule of the name it was opened by.
    pub(super) fn ruled(mut self, by: By, rule: Rule) -> Self {
        self.by = by;
        self.rule = rule;
        self
    }

    /// Opens the same object of a fork, which nobody else has yet.
    ///
    /// Errors: [`Errno::BadDescriptor`] if it is gone, [`Errno::TooManyOpen`].
    pub(super) fn reopen(&self, fork: &Fs, state: &mut Overlay) -> Result<Self, Errno> {
        if state.is_gone(self.id) {
            return Err(Errno::BadDescriptor);
        }
        let mut twin = Self::open(fork, state, self.id, self.access, self.rights)?;
        twin = twin.ruled(self.by, self.rule).showing(self.live.clone());
        if self.top {
            twin = twin.into_top(state);
        }
        twin.list_end = AtomicU64::new(self.list_end.load(Ordering::Relaxed));
        Ok(twin)
    }

    /// Opens the same object once more, with the same rights.
    ///
    /// # Errors
    ///
    /// [`Errno::TooManyOpen`].
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let mut state = self.fs.lock();
        let mut clone = Self::open(&self.fs, &mut state, self.id, self.access, self.rights)?;
        clone = clone.ruled(self.by, self.rule).showing(self.live.clone());
        if self.top {
            clone = clone.into_top(&mut state);
        }
        clone.list_end = AtomicU64::new(self.list_end.load(Ordering::Relaxed));
        Ok(clone)
    }

    /// Notes what this shows in place of its object's bytes.
    pub(super) fn showing(mut self, live: Option<Arc<Live>>) -> Self {
        self.live = live;
        self
    }

    /// What this shows in place of its object's bytes.
    pub(super) fn live(&self) -> Option<&Live> {
        self.live.as_deref()
    }

    pub(super) fn by(&self) -> By {
        self.by
    }

    /// The rule of the file under the name that it was opened by.
    pub(super) fn rule(&self) -> Rule {
        self.rule
    }

    /// Gives the instance that this belongs to.
    #[must_use]
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    /// Gives the inode number.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Tells whether this is a file or a directory; links are never open.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Tells what this was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access
    }

    /// Tells which rights came with the preopen.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Tells whether both stand for one object of one instance.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.id == other.id && self.fs.is_same(&other.fs)
    }

    /// Gives the inode number of the directory that this one is in, as `..`
    /// of a listing shows it: a preopen shows itself.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`].
    pub fn parent_id(&self) -> Result<FileId, Errno> {
        self.expect_dir()?;
        Ok(if self.top {
            self.id
        } else {
            self.fs.lock().parent(self.id)
        })
    }

    pub(super) fn expect_dir(&self) -> Result<(), Errno> {
        match self.kind {
            Kind::Dir => Ok(()),
            Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
        }
    }

    /// Refuses a change where the preopen allows none.
    pub(super) fn expect_writable(&self) -> Result<(), Errno> {
        match self.rights {
            Rights::ReadWrite => Ok(()),
            Rights::ReadOnly => Err(Errno::NotPermitted),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        let batch = {
            let mut state = self.fs.lock();
            if self.top {
                state.unpin(self.id);
            }
            state.closed(self.id);
            recheck(&state);
            if self.fs.setup().seals_at_close() {
                state.take_closed(self.id)
            } else {
                None
            }
        };
        if let Some(batch) = batch {
            self.fs.seal_batch(batch);
        }
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Descriptor")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("access", &self.access)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}
