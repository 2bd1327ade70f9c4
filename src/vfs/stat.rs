//! Metadata: stat and times.

use super::descriptor::Descriptor;
use super::state::FsState;
use super::walk::{Follow, Last, Slash, WalkTarget, resolve};
use crate::errno::Errno;
use crate::meta::{FileId, Kind, Stat, Time};

/// What becomes of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// It stays.
    Keep,
    /// It becomes the present time.
    Now,
    /// It becomes this time.
    To(Time),
}

impl SetTime {
    fn resolve(self, now: Time) -> Option<Time> {
        match self {
            Self::Keep => None,
            Self::Now => Some(now),
            Self::To(time) => Some(time),
        }
    }
}

/// An object, and the directory whose rule holds for it: its own if it is one.
#[derive(Clone, Copy)]
struct RuledObject {
    dir: FileId,
    id: FileId,
}

/// Walks to an object that has to be there.
fn find(
    state: &FsState,
    from: &Descriptor,
    path: &[u8],
    follow: Follow,
) -> Result<RuledObject, Errno> {
    match resolve(state, from.start(state), path, Last::Walk(follow))? {
        WalkTarget::Dir(id) => Ok(RuledObject { dir: id, id }),
        WalkTarget::Entry {
            dir,
            found: Some(found),
            slash,
            ..
        } => match found.kind {
            Kind::File | Kind::Symlink if slash == Slash::Trailing => Err(Errno::NotDirectory),
            Kind::File | Kind::Symlink => Ok(RuledObject { dir, id: found.id }),
            Kind::Dir => Ok(RuledObject {
                dir: found.id,
                id: found.id,
            }),
        },
        WalkTarget::Entry { found: None, .. } => Err(Errno::NoEntry),
    }
}

impl Descriptor {
    /// Returns what is known of this object.
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for what a [`restore`](crate::vfs::Fs::restore)
    /// took away or a [`Rule`](crate::vfs::Rule) hides.
    pub fn stat(&self) -> Result<Stat, Errno> {
        let state = self.fs().lock();
        self.allow_look(&state)?;
        let mut stat = state.stat(self.id())?;
        if let Some(live) = self.live() {
            stat.size = live.size();
            stat.is_device = live.is_device();
        }
        Ok(stat)
    }

    /// Returns what is known of the object at `path`. O(components), whatever
    /// the number of layers and of entries.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none. The walk:
    /// [`Errno::NoEntry`] for an empty path, [`Errno::NameTooLong`],
    /// [`Errno::Invalid`] for a NUL, [`Errno::NotPermitted`] for an absolute
    /// path; then for each component [`Errno::NameTooLong`],
    /// [`Errno::NoEntry`], [`Errno::NotDirectory`], [`Errno::NotPermitted`]
    /// where `..` or a link leaves this directory, [`Errno::Loop`] past
    /// [`MAX_SYMLINKS`](crate::limits::MAX_SYMLINKS) links. Last,
    /// [`Errno::NotDirectory`] for a trailing slash after another object.
    pub fn stat_at(&self, follow: Follow, path: &[u8]) -> Result<Stat, Errno> {
        self.locate_at(follow, path).map(|(stat, _)| stat)
    }

    /// Returns what [`Self::stat_at`] does, and the device of the file system that
    /// the object is in: another than this one's past a mount.
    ///
    /// # Errors
    ///
    /// As [`Self::stat_at`].
    pub fn locate_at(&self, follow: Follow, path: &[u8]) -> Result<(Stat, u64), Errno> {
        let reached = self.reach(path, Last::Walk(follow))?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        let state = from.fs().lock();
        let mut stat = state.stat(find(&state, from, path, follow)?.id)?;
        if let Some(mount) = from.fs().mounted_file(stat.id) {
            stat.size = 0;
            stat.is_device = mount.is_device;
        }
        Ok((stat, from.fs().device()))
    }

    /// Returns what is known of the object at `path`; nothing if that leads into another file system,
    /// whose objects have numbers of their own. A link is not followed.
    ///
    /// Errors: as [`Self::stat_at`].
    #[cfg(feature = "freeze")]
    pub(crate) fn own_stat_at(&self, path: &[u8]) -> Result<Option<Stat>, Errno> {
        let reached = self.reach(path, Last::Walk(Follow::No))?;
        let (from, path) = reached.parts();
        if !from.fs().is_same(self.fs()) {
            return Ok(None);
        }
        from.expect_dir()?;
        let state = from.fs().lock();
        let found = find(&state, from, path, Follow::No)?;
        state.stat(found.id).map(Some)
    }

    /// Sets the times of this object. Copies no content.
    ///
    /// # Errors
    ///
    /// [`Errno::NotPermitted`] through a read-only preopen, then
    /// [`Errno::ReadOnly`].
    pub fn set_times(&self, atime: SetTime, mtime: SetTime) -> Result<(), Errno> {
        self.expect_writable()?;
        self.fs().change(|state, now| {
            self.allow_change(state)?;
            state.set_times(self.id(), atime.resolve(now), mtime.resolve(now), now)
        })
    }

    /// Puts the time of change back that this had before the host changed it.
    #[cfg(feature = "freeze")]
    pub(crate) fn put_back_ctime(&self, ctime: Time) -> Result<(), Errno> {
        self.fs().lock().put_back_ctime(self.id(), ctime)
    }

    /// Sets the times of the object at `path`. Copies no content.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`] if this is none, those of [`Self::set_times`],
    /// then those of [`Self::stat_at`].
    pub fn set_times_at(
        &self,
        follow: Follow,
        path: &[u8],
        atime: SetTime,
        mtime: SetTime,
    ) -> Result<(), Errno> {
        let reached = self.reach(path, Last::Walk(follow))?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        from.expect_writable()?;
        from.fs().change(|state, now| {
            let at = find(state, from, path, follow)?;
            from.allow_change_of(state, at.dir, at.id)?;
            state.set_times(at.id, atime.resolve(now), mtime.resolve(now), now)
        })
    }

    /// Sets permission bits and owners of the object at `path`, for hosts:
    /// WASI has no such call, and nothing here checks them. Copies no content.
    ///
    /// # Errors
    ///
    /// As [`Self::set_times_at`].
    pub fn set_owner_at(
        &self,
        follow: Follow,
        path: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), Errno> {
        let reached = self.reach(path, Last::Walk(follow))?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        from.expect_writable()?;
        from.fs().change(|state, now| {
            let at = find(state, from, path, follow)?;
            from.allow_change_of(state, at.dir, at.id)?;
            state.set_owner(at.id, mode, uid, gid, now)
        })
    }
}
