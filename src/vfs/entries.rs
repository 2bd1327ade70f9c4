//! Making, removing, linking and moving names.

use std::sync::Arc;

use smallvec::SmallVec;

use super::descriptor::Descriptor;
use super::state::FsState;
use super::walk::{Follow, Last, Slash, WalkTarget, resolve};
use crate::errno::Errno;
use crate::limits::MAX_SYMLINK_BYTES;
use crate::meta::{FileId, Kind, Time};
use crate::overlay::{FoundEntry, New, Overlay};

/// What an operation on names is about.
enum EntryPlace {
    /// A name, taken or free.
    Name(OwnedEntry),
    /// A directory that the path leads to by `.`, `..` or a slash at its end,
    /// so that there is no name to make, remove or move.
    Dir(FileId),
}

/// A name, freed from the borrow of the tree.
struct OwnedEntry {
    dir: FileId,
    name: SmallVec<[u8; 64]>,
    found: Option<FoundEntry>,
}

impl OwnedEntry {
    fn is_link(&self) -> bool {
        self.found.is_some_and(|found| found.kind == Kind::Symlink)
    }
}

/// Walks to the last name of a path. A slash after it asks for a directory,
/// as wasmtime has it: a link before it is followed.
fn locate_entry(state: &FsState, from: &Descriptor, path: &[u8]) -> Result<EntryPlace, Errno> {
    match resolve(state, from.start(state), path, Last::Walk(Follow::No))? {
        WalkTarget::Dir(id) => Ok(EntryPlace::Dir(id)),
        WalkTarget::Entry {
            found: Some(found),
            slash: Slash::Trailing,
            ..
        } => match found.kind {
            Kind::Dir => Ok(EntryPlace::Dir(found.id)),
            Kind::File | Kind::Symlink => Err(Errno::NotDirectory),
        },
        WalkTarget::Entry {
            found: None,
            slash: Slash::Trailing,
            ..
        } => Err(Errno::NoEntry),
        WalkTarget::Entry {
            dir,
            name,
            found,
            slash: Slash::None,
        } => Ok(EntryPlace::Name(OwnedEntry {
            dir,
            name: SmallVec::from_slice(name),
            found,
        })),
    }
}

/// Walks to the last name of a path for an operation that directories have
/// in common with files: a slash after it is told, and changes nothing.
fn spot_before_slash(
    state: &FsState,
    from: &Descriptor,
    path: &[u8],
) -> Result<(EntryPlace, Slash), Errno> {
    Ok(match resolve(state, from.start(state), path, Last::Keep)? {
        WalkTarget::Dir(id) => (EntryPlace::Dir(id), Slash::None),
        WalkTarget::Entry {
            dir,
            name,
            found,
            slash,
        } => (
            EntryPlace::Name(OwnedEntry {
                dir,
                name: SmallVec::from_slice(name),
                found,
            }),
            slash,
        ),
    })
}

/// Refuses a path whose last link leads out of the directory.
fn expect_inside(state: &FsState, from: &Descriptor, path: &[u8]) -> Result<(), Errno> {
    match resolve(state, from.start(state), path, Last::Walk(Follow::Yes)) {
        Err(Errno::NotPermitted) => Err(Errno::NotPermitted),
        // What is no directory is told next.
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Descriptor {
    /// Runs a change of a name as one step of the file system that it is in.
    fn change<R>(
        &self,
        path: &[u8],
        last: Last,
        step: impl FnOnce(&Self, &[u8], &mut FsState, Time) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        let reached = self.reach(path, last)?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        from.expect_writable()?;
        from.fs().change(|state, now| step(from, path, state, now))
    }

    /// Makes a directory. A trailing slash is allowed.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`], those of the walk (see [`Self::stat_at`]),
    /// [`Errno::Exist`], [`Errno::NoEntry`] in a removed directory,
    /// [`Errno::NoSpace`].
    pub fn create_dir_at(&self, path: &[u8]) -> Result<(), Errno> {
        self.change(
            path,
            Last::Keep,
            |from, path, state, now| match spot_before_slash(state, from, path)?.0 {
                EntryPlace::Name(at) if at.found.is_none() => {
                    from.allow_new(state, at.dir, &at.name)?;
                    state.create(at.dir, &at.name, New::Dir, now).map(drop)
                }
                EntryPlace::Name(_) | EntryPlace::Dir(_) => Err(Errno::Exist),
            },
        )
    }

    /// Removes an empty directory. A trailing slash is allowed.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`], those of the walk, [`Errno::Invalid`] for `.`,
    /// `..` and the root, [`Errno::NoEntry`]; for a link with a slash after it
    /// [`Errno::NotPermitted`] if it leads out of this directory; [`Errno::NotDirectory`],
    /// [`Errno::Busy`] for a preopen, [`Errno::NotEmpty`].
    pub fn remove_dir_at(&self, path: &[u8]) -> Result<(), Errno> {
        self.change(
            path,
            Last::Keep,
            |from, path, state, now| match spot_before_slash(state, from, path)? {
                (EntryPlace::Name(at), slash) => {
                    if slash == Slash::Trailing && at.is_link() {
                        expect_inside(state, from, path)?;
                    }
                    let found = from.allow_removal(state, &at)?;
                    state.rmdir((at.dir, &at.name, found), now)
                }
                (EntryPlace::Dir(_), _) => Err(Errno::Invalid),
            },
        )
    }

    /// Removes the name of a file or link. Descriptors go on working.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`], those of the walk, where a trailing slash asks for
    /// a directory; [`Errno::IsDirectory`] for `.`, `..` and any directory,
    /// [`Errno::NoEntry`].
    pub fn unlink_at(&self, path: &[u8]) -> Result<(), Errno> {
        let last = Last::Walk(Follow::No);
        self.change(path, last, |from, path, state, now| {
            match locate_entry(state, from, path)? {
                EntryPlace::Name(at) => {
                    let found = from.allow_removal(state, &at)?;
                    state.unlink((at.dir, &at.name, found), now)
                }
                EntryPlace::Dir(_) => Err(Errno::IsDirectory),
            }
        })
    }

    /// Makes a symbolic link to `target`, which need not exist. An absolute
    /// target is stored as it is here; front ends refuse it to guests.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`]; [`Errno::NoEntry`] for an empty target,
    /// [`Errno::NameTooLong`] and [`Errno::Invalid`] for a target too long or
    /// with a NUL; those of the walk, where a trailing slash asks for a
    /// directory; [`Errno::Exist`], [`Errno::NoEntry`] in a removed directory,
    /// [`Errno::NoSpace`].
    pub fn symlink_at(&self, target: &[u8], path: &[u8]) -> Result<(), Errno> {
        let last = Last::Walk(Follow::No);
        self.change(path, last, |from, path, state, now| {
            check_target(target)?;
            match locate_entry(state, from, path)? {
                EntryPlace::Name(at) if at.found.is_none() => {
                    from.allow_new(state, at.dir, &at.name)?;
                    let link = New::Symlink(target);
                    state.create(at.dir, &at.name, link, now).map(drop)
                }
                EntryPlace::Name(_) | EntryPlace::Dir(_) => Err(Errno::Exist),
            }
        })
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`] if this is none, those of the walk,
    /// [`Errno::NoEntry`], [`Errno::Invalid`] for another kind of object.
    pub fn readlink_at(&self, path: &[u8]) -> Result<Arc<[u8]>, Errno> {
        let last = Last::Walk(Follow::No);
        let reached = self.reach(path, last)?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        let state = from.fs().lock();
        match resolve(&state, from.start(&state), path, last)? {
            WalkTarget::Dir(_) => Err(Errno::Invalid),
            WalkTarget::Entry { found: None, .. } => Err(Errno::NoEntry),
            WalkTarget::Entry {
                found: Some(found),
                slash,
                ..
            } => match found.kind {
                Kind::Symlink => state.target(found.id).map(Arc::from),
                Kind::File if slash == Slash::Trailing => Err(Errno::NotDirectory),
                Kind::File | Kind::Dir => Err(Errno::Invalid),
            },
        }
    }

    /// Adds the name `new_path` for the file or link at `path` in
    /// `new_dir`. A link at `path` is not followed.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if either is none,
    /// [`Errno::NotPermitted`] if either preopen is read-only,
    /// [`Errno::CrossDevice`] for another instance, [`Errno::ReadOnly`];
    /// those of the walk to `path` and of that to `new_path`, where a trailing
    /// slash asks for a directory; [`Errno::NoEntry`] for a missing `path`,
    /// [`Errno::Exist`], [`Errno::NoEntry`] in a removed directory,
    /// [`Errno::NotPermitted`] for a directory, [`Errno::TooManyLinks`],
    /// [`Errno::NoSpace`].
    pub fn link_at(&self, path: &[u8], new_dir: &Self, new_path: &[u8]) -> Result<(), Errno> {
        let last = Last::Walk(Follow::No);
        let reached = (self.reach(path, last)?, new_dir.reach(new_path, last)?);
        let ((old_dir, path), (new_dir, new_path)) = (reached.0.parts(), reached.1.parts());
        old_dir.check_pair(new_dir)?;
        old_dir.fs().change(|state, now| {
            let from = locate_entry(state, old_dir, path)?;
            let to = locate_entry(state, new_dir, new_path)?;
            let (dir, id) = match from {
                EntryPlace::Name(from) => (from.dir, from.found.ok_or(Errno::NoEntry)?.id),
                EntryPlace::Dir(id) => (id, id),
            };
            match to {
                EntryPlace::Name(to) if to.found.is_none() => {
                    old_dir.allow_change_of(state, dir, id)?;
                    new_dir.allow_arrival(state, to.dir, &to.name, None)?;
                    state.link(id, to.dir, &to.name, now)
                }
                EntryPlace::Name(_) | EntryPlace::Dir(_) => Err(Errno::Exist),
            }
        })
    }

    /// Moves the entry at `path` to `new_path` in `new_dir`, replacing what
    /// stands there. One step, O(log entries) for a directory of any size;
    /// inode numbers stay.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if either is none,
    /// [`Errno::NotPermitted`] if either preopen is read-only,
    /// [`Errno::CrossDevice`] for another instance, [`Errno::ReadOnly`];
    /// those of the two walks, [`Errno::Busy`] for `.`, `..` or the root on
    /// either side; [`Errno::NoEntry`]; [`Errno::NotDirectory`] for a
    /// trailing slash on either side of anything but a directory;
    /// [`Errno::Invalid`] for a directory into itself; [`Errno::IsDirectory`]
    /// or [`Errno::NotDirectory`] for a target of another kind;
    /// [`Errno::Busy`] for a preopen on either side; [`Errno::NotEmpty`].
    pub fn rename_at(&self, path: &[u8], new_dir: &Self, new_path: &[u8]) -> Result<(), Errno> {
        let last = Last::Keep;
        let reached = (self.reach(path, last)?, new_dir.reach(new_path, last)?);
        let ((old_dir, path), (new_dir, new_path)) = (reached.0.parts(), reached.1.parts());
        old_dir.check_pair(new_dir)?;
        old_dir.fs().change(|state, now| {
            let (from, slash) = spot_before_slash(state, old_dir, path)?;
            let (to, new_slash) = spot_before_slash(state, new_dir, new_path)?;
            let (EntryPlace::Name(from), EntryPlace::Name(to)) = (from, to) else {
                return Err(Errno::Busy);
            };
            let found = from.found.ok_or(Errno::NoEntry)?;
            let dir_only = slash == Slash::Trailing || new_slash == Slash::Trailing;
            if dir_only && found.kind != Kind::Dir {
                return Err(Errno::NotDirectory);
            }
            old_dir.allow_departure(state, from.dir, found.id)?;
            let replaced = to.found.map(|found| found.id);
            new_dir.allow_arrival(state, to.dir, &to.name, replaced)?;
            let from = ((from.dir, &from.name[..]), found);
            state.rename(from, ((to.dir, &to.name), to.found), now)
        })
    }

    /// Refuses to remove a name by the rules, or returns what it stands for. A
    /// free name, a hidden one included, is not there.
    fn allow_removal(&self, state: &Overlay, at: &OwnedEntry) -> Result<FoundEntry, Errno> {
        let found = at.found.ok_or(Errno::NoEntry)?;
        self.allow_departure(state, at.dir, found.id)?;
        Ok(found)
    }

    fn check_pair(&self, other: &Self) -> Result<(), Errno> {
        self.expect_dir()?;
        other.expect_dir()?;
        self.expect_writable()?;
        other.expect_writable()?;
        if self.fs().is_same(other.fs()) {
            Ok(())
        } else {
            Err(Errno::CrossDevice)
        }
    }
}

fn check_target(target: &[u8]) -> Result<(), Errno> {
    if target.is_empty() {
        Err(Errno::NoEntry)
    } else if target.len() > MAX_SYMLINK_BYTES {
        Err(Errno::NameTooLong)
    } else if target.contains(&0) {
        Err(Errno::Invalid)
    } else {
        Ok(())
    }
}
