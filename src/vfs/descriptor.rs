//! Open files and directories.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Fs;
use super::fs::recheck;
use super::virtual_file::VirtualHandle;
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
        /// Writes of bytes and metadata that are done when the call returns (`O_SYNC`). All are:
        /// this one and the next two are remembered for who asks what was opened.
        const SYNC = 4;
        /// The same for bytes alone (`O_DSYNC`).
        const DSYNC = 8;
        /// Reads that see all writes that are done (`O_RSYNC`).
        const RSYNC = 16;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Guest,
    Host,
}

/// An open file or directory of one instance.
///
/// Its object stays usable when its last name goes; its space returns when
/// the last descriptor is dropped. Methods take paths relative to the
/// descriptor, and no path leaves it.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::vfs::{Access, Follow, Fs, OpenFlags};
///
/// let fs = Fs::new(&Image::empty());
/// let root = fs.root()?;
/// let file = root.open_at(Follow::Yes, b"log", OpenFlags::CREATE, Access::READ | Access::WRITE)?;
/// file.append(b"one line")?;
/// root.unlink_at(b"log")?;
/// let mut buf = [0; 3];
/// assert_eq!(file.read_at(&mut buf, 4)?, 3);
/// assert_eq!(&buf, b"lin");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Descriptor {
    fs: Fs,
    id: FileId,
    traits: Traits,
    /// The virtual file provided by the host that this shows.
    live: Option<Arc<VirtualHandle>>,
    /// Entries at this position and past it are not listed: those that came
    /// after the listing was last rewound. Atomic.
    pub(super) list_end: AtomicU64,
}

/// What a descriptor was opened as, in one word: several small fields are
/// written one by one and moved together, for which a processor waits.
#[derive(Clone, Copy)]
struct Traits(u32);

/// Opened as a preopen: `..` of a listing is the directory itself, and the
/// directory cannot be removed or moved.
const PREOPEN: u32 = 1;
/// Counted as open by the instance; the host's own root is not, nor is a
/// directory in the middle of a path.
const COUNTED: u32 = 2;

const KIND: u32 = 2;
const RULE: u32 = 4;
const RIGHTS: u32 = 6;
const BY: u32 = 7;
const ACCESS: u32 = 8;

impl Traits {
    #[inline]
    fn new(kind: Kind, access: Access, rights: Rights, by: Caller, rule: Rule) -> Self {
        let kind = match kind {
            Kind::File => 0,
            Kind::Dir => 1,
            Kind::Symlink => 2,
        };
        let rule = match rule {
            Rule::Free => 0,
            Rule::AppendOnly => 1,
            Rule::ReadOnly => 2,
            Rule::Hidden => 3,
        };
        Self(
            kind << KIND
                | rule << RULE
                | u32::from(rights == Rights::ReadOnly) << RIGHTS
                | u32::from(by == Caller::Host) << BY
                | u32::from(access.bits()) << ACCESS,
        )
    }

    #[inline]
    fn with(self, flags: u32) -> Self {
        Self(self.0 | flags)
    }

    #[inline]
    fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    #[inline]
    fn kind(self) -> Kind {
        match self.0 >> KIND & 3 {
            0 => Kind::File,
            1 => Kind::Dir,
            _ => Kind::Symlink,
        }
    }

    #[inline]
    fn rule(self) -> Rule {
        match self.0 >> RULE & 3 {
            0 => Rule::Free,
            1 => Rule::AppendOnly,
            2 => Rule::ReadOnly,
            _ => Rule::Hidden,
        }
    }

    #[inline]
    fn rights(self) -> Rights {
        match self.0 >> RIGHTS & 1 {
            0 => Rights::ReadWrite,
            _ => Rights::ReadOnly,
        }
    }

    #[inline]
    fn by(self) -> Caller {
        match self.0 >> BY & 1 {
            0 => Caller::Guest,
            _ => Caller::Host,
        }
    }

    #[inline]
    fn access(self) -> Access {
        let [_, access, _, _] = self.0.to_le_bytes();
        Access::from_bits_truncate(access)
    }
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
        state.check_undamaged()?;
        state.opened(id)?;
        let traits = Traits::new(kind, access, rights, Caller::Guest, Rule::Free).with(COUNTED);
        Ok(Self::of(fs.clone(), id, traits))
    }

    /// What was opened through this and is counted as open, with the rule of
    /// the name that it was opened by.
    #[inline]
    pub(super) fn counted(&self, id: FileId, (kind, access, rule): (Kind, Access, Rule)) -> Self {
        let traits = Traits::new(kind, access, self.rights(), self.by(), rule).with(COUNTED);
        Self::of(self.fs.clone(), id, traits)
    }

    #[inline]
    fn of(fs: Fs, id: FileId, traits: Traits) -> Self {
        Self {
            fs,
            id,
            traits,
            live: None,
            list_end: AtomicU64::new(u64::MAX),
        }
    }

    /// The root, for the host's own calls: takes none of the guest's
    /// descriptors. The root cannot go, so nothing needs to hold it.
    pub(crate) fn host_root(fs: &Fs) -> Self {
        let mut root = Self::transient(fs.clone(), FileId::ROOT, Rights::ReadWrite, Caller::Host);
        root.traits = root.traits.with(PREOPEN);
        root
    }

    /// A directory that a walk is in, for the rest of one call: if it goes
    /// meanwhile, nothing is found in it.
    pub(super) fn transient(fs: Fs, id: FileId, rights: Rights, by: Caller) -> Self {
        let access = Access::READ | Access::WRITE;
        let traits = Traits::new(Kind::Dir, access, rights, by, Rule::Free);
        Self::of(fs, id, traits)
    }

    /// The same object to be read by the host, for the rest of one call.
    pub(super) fn to_be_read(&self) -> Self {
        let (kind, rights) = (self.kind(), self.rights());
        let traits = Traits::new(kind, Access::READ, rights, Caller::Host, Rule::Free);
        Self::of(self.fs.clone(), self.id, traits)
    }

    pub(super) fn is_preopen(&self) -> bool {
        self.traits.has(PREOPEN)
    }

    /// Makes this a preopen: pinned, so that its directory stays where it is.
    pub(super) fn into_preopen(mut self, state: &mut Overlay) -> Self {
        state.pin(self.id);
        self.traits = self.traits.with(PREOPEN);
        self
    }

    /// Notes who opened this, and the rule of the name it was opened by.
    fn with_rule(mut self, by: Caller, rule: Rule) -> Self {
        let counted = self.traits.0 & COUNTED;
        self.traits =
            Traits::new(self.kind(), self.access(), self.rights(), by, rule).with(counted);
        self
    }

    /// Opens the same object of a fork, which nobody else has yet.
    ///
    /// Errors: [`Errno::BadDescriptor`] if it is gone, [`Errno::TooManyOpen`].
    pub(super) fn reopen(&self, fork: &Fs, state: &mut Overlay) -> Result<Self, Errno> {
        if state.is_gone(self.id) {
            return Err(Errno::BadDescriptor);
        }
        let mut copy = Self::open(fork, state, self.id, self.access(), self.rights())?;
        copy = copy
            .with_rule(self.by(), self.rule())
            .with_virtual(self.live.clone());
        if self.traits.has(PREOPEN) {
            copy = copy.into_preopen(state);
        }
        copy.list_end = AtomicU64::new(self.list_end.load(Ordering::Relaxed));
        Ok(copy)
    }

    /// Opens the same object once more, with the same rights.
    ///
    /// # Errors
    ///
    /// [`Errno::TooManyOpen`].
    pub fn try_clone(&self) -> Result<Self, Errno> {
        let mut state = self.fs.lock();
        let mut clone = Self::open(&self.fs, &mut state, self.id, self.access(), self.rights())?;
        clone = clone
            .with_rule(self.by(), self.rule())
            .with_virtual(self.live.clone());
        if self.traits.has(PREOPEN) {
            clone = clone.into_preopen(&mut state);
        }
        clone.list_end = AtomicU64::new(self.list_end.load(Ordering::Relaxed));
        Ok(clone)
    }

    /// Notes what this shows in place of its object's bytes.
    pub(super) fn with_virtual(mut self, live: Option<Arc<VirtualHandle>>) -> Self {
        self.live = live;
        self
    }

    /// Returns whether this is a character device provided by the host, such as
    /// `/dev/null`.
    #[must_use]
    pub fn is_device(&self) -> bool {
        self.live().is_some_and(VirtualHandle::is_device)
    }

    /// What this shows in place of its object's bytes.
    pub(super) fn live(&self) -> Option<&VirtualHandle> {
        self.live.as_deref()
    }

    pub(super) fn by(&self) -> Caller {
        self.traits.by()
    }

    /// The rule of the file under the name that it was opened by.
    pub(super) fn rule(&self) -> Rule {
        self.traits.rule()
    }

    /// Returns the instance that this belongs to.
    #[must_use]
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    /// Returns the inode number.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns whether this is a file or a directory; links are never open.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.traits.kind()
    }

    /// Returns what this was opened for.
    #[must_use]
    pub fn access(&self) -> Access {
        self.traits.access()
    }

    /// Returns which rights came with the preopen.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.traits.rights()
    }

    /// Returns whether both stand for one object of one instance.
    #[must_use]
    pub fn is_same_object(&self, other: &Self) -> bool {
        self.id == other.id && self.fs.is_same(&other.fs)
    }

    /// Returns the inode number of the directory that this one is in, as `..`
    /// of a listing shows it: a preopen shows itself.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`].
    pub fn parent_id(&self) -> Result<FileId, Errno> {
        self.expect_dir()?;
        Ok(if self.traits.has(PREOPEN) {
            self.id
        } else {
            self.fs.lock().parent(self.id)
        })
    }

    pub(super) fn expect_dir(&self) -> Result<(), Errno> {
        match self.kind() {
            Kind::Dir => Ok(()),
            Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
        }
    }

    /// Refuses a change where the preopen allows none.
    pub(super) fn expect_writable(&self) -> Result<(), Errno> {
        match self.rights() {
            Rights::ReadWrite => Ok(()),
            Rights::ReadOnly => Err(Errno::NotPermitted),
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if !self.traits.has(COUNTED) {
            return;
        }
        let batch = {
            let mut state = self.fs.lock();
            if self.traits.has(PREOPEN) {
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
            .field("kind", &self.kind())
            .field("access", &self.access())
            .field("rights", &self.rights())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_descriptor_was_opened_as_comes_back() {
        let rules = [Rule::Free, Rule::AppendOnly, Rule::ReadOnly, Rule::Hidden];
        for kind in [Kind::File, Kind::Dir, Kind::Symlink] {
            for access in (0..4).map(Access::from_bits_truncate) {
                for rights in [Rights::ReadWrite, Rights::ReadOnly] {
                    for by in [Caller::Guest, Caller::Host] {
                        for (rule, flag) in
                            rules
                                .into_iter()
                                .zip([0, PREOPEN, COUNTED, PREOPEN | COUNTED])
                        {
                            let traits = Traits::new(kind, access, rights, by, rule).with(flag);
                            let told = (traits.kind(), traits.access(), traits.rights());
                            assert_eq!(told, (kind, access, rights));
                            assert_eq!((traits.by(), traits.rule()), (by, rule));
                            assert_eq!(traits.has(PREOPEN), flag & PREOPEN != 0);
                            assert_eq!(traits.has(COUNTED), flag & COUNTED != 0);
                        }
                    }
                }
            }
        }
    }
}
