//! Making, removing, linking and moving names.

use std::sync::Arc;

use smallvec::SmallVec;

use super::descriptor::Descriptor;
use super::stat::find;
use super::walk::{End, Follow, Last, Slash, resolve};
use crate::errno::Errno;
use crate::limits::MAX_SYMLINK_BYTES;
use crate::meta::{FileId, Kind, Time};
use crate::overlay::{Found, New, Overlay};

/// A name that an operation is about, freed from the borrow of the tree.
struct Place {
    dir: FileId,
    name: SmallVec<[u8; 64]>,
    found: Option<Found>,
    slash: Slash,
}

/// Walks to the name itself. `dots` is the error for `.` and `..`, which are
/// no names that could be made, removed or moved.
fn place(state: &Overlay, start: FileId, path: &[u8], dots: Errno) -> Result<Place, Errno> {
    place_or_dots(state, start, path)?.ok_or(dots)
}

/// As [`place`], `None` for `.` and `..`.
fn place_or_dots(state: &Overlay, start: FileId, path: &[u8]) -> Result<Option<Place>, Errno> {
    match resolve(state, start, path, Last::Keep)? {
        End::Dir(_) => Ok(None),
        End::Entry {
            dir,
            name,
            found,
            slash,
        } => Ok(Some(Place {
            dir,
            name: name.into(),
            found,
            slash,
        })),
    }
}

impl Descriptor {
    /// Runs a change of names in this directory as one step.
    fn change<R>(
        &self,
        step: impl FnOnce(&mut Overlay, Time) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.expect_dir()?;
        self.expect_writable()?;
        self.fs().change(step)
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
        self.change(|state, now| {
            let at = place(state, self.id(), path, Errno::Exist)?;
            if at.found.is_some() {
                return Err(Errno::Exist);
            }
            state.create(at.dir, &at.name, New::Dir, now).map(drop)
        })
    }

    /// Removes an empty directory. A trailing slash is allowed.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`], those of the walk, [`Errno::Invalid`] for `.`,
    /// `..` and the root, [`Errno::NoEntry`], [`Errno::NotDirectory`],
    /// [`Errno::NotEmpty`].
    pub fn remove_dir_at(&self, path: &[u8]) -> Result<(), Errno> {
        self.change(|state, now| {
            let at = place(state, self.id(), path, Errno::Invalid)?;
            state.rmdir(at.dir, &at.name, now)
        })
    }

    /// Removes the name of a file or link. Descriptors go on working.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if this is none,
    /// [`Errno::NotPermitted`] through a read-only preopen,
    /// [`Errno::ReadOnly`], those of the walk, [`Errno::IsDirectory`] for
    /// `.`, `..` and any directory, [`Errno::NoEntry`],
    /// [`Errno::NotDirectory`] for a trailing slash.
    pub fn unlink_at(&self, path: &[u8]) -> Result<(), Errno> {
        self.change(|state, now| {
            let at = place(state, self.id(), path, Errno::IsDirectory)?;
            if at.slash == Slash::Trailing && at.found.is_some_and(|found| found.kind != Kind::Dir)
            {
                return Err(Errno::NotDirectory);
            }
            state.unlink(at.dir, &at.name, now)
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
    /// with a NUL; those of the walk; [`Errno::Exist`];
    /// [`Errno::NotDirectory`] or [`Errno::NoEntry`] for a trailing slash
    /// after another name; [`Errno::NoSpace`].
    pub fn symlink_at(&self, target: &[u8], path: &[u8]) -> Result<(), Errno> {
        self.change(|state, now| {
            check_target(target)?;
            let at = place(state, self.id(), path, Errno::Exist)?;
            match (at.found.map(|found| found.kind), at.slash) {
                (None, Slash::None) => {}
                (None, Slash::Trailing) => return Err(Errno::NoEntry),
                (Some(Kind::File), Slash::Trailing) => return Err(Errno::NotDirectory),
                (Some(_), _) => return Err(Errno::Exist),
            }
            state
                .create(at.dir, &at.name, New::Symlink(target), now)
                .map(drop)
        })
    }

    /// Gives the target of a symbolic link.
    ///
    /// # Errors
    ///
    /// [`Errno::NotDirectory`] if this is none, those of the walk,
    /// [`Errno::NoEntry`], [`Errno::Invalid`] for another kind of object.
    pub fn readlink_at(&self, path: &[u8]) -> Result<Arc<[u8]>, Errno> {
        self.expect_dir()?;
        let state = self.fs().lock();
        match resolve(&state, self.id(), path, Last::Walk(Follow::No))? {
            End::Dir(_) => Err(Errno::Invalid),
            End::Entry { found: None, .. } => Err(Errno::NoEntry),
            End::Entry {
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

    /// Gives the file or link at `path` the further name `new_path` in
    /// `new_dir`. A link at `path` is not followed.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::NotDirectory`] if either is none,
    /// [`Errno::NotPermitted`] if either preopen is read-only,
    /// [`Errno::CrossDevice`] for another instance, [`Errno::ReadOnly`];
    /// those of the walk to `path`, [`Errno::NoEntry`],
    /// [`Errno::NotDirectory`] for a trailing slash; those of the walk to
    /// `new_path`, [`Errno::Exist`], [`Errno::NoEntry`] for a trailing slash or
    /// in a removed directory, [`Errno::NotPermitted`] for a directory,
    /// [`Errno::TooManyLinks`], [`Errno::NoSpace`].
    pub fn link_at(&self, path: &[u8], new_dir: &Self, new_path: &[u8]) -> Result<(), Errno> {
        self.check_pair(new_dir)?;
        self.fs().change(|state, now| {
            let id = find(state, self.id(), path, Follow::No)?;
            let to = place(state, new_dir.id(), new_path, Errno::Exist)?;
            if to.found.is_some() {
                return Err(Errno::Exist);
            }
            if to.slash == Slash::Trailing {
                return Err(Errno::NoEntry);
            }
            state.link(id, to.dir, &to.name, now)
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
    /// [`Errno::Invalid`] for a directory into itself; [`Errno::IsDirectory`],
    /// [`Errno::NotDirectory`], [`Errno::NotEmpty`] for a target that cannot
    /// be replaced.
    pub fn rename_at(&self, path: &[u8], new_dir: &Self, new_path: &[u8]) -> Result<(), Errno> {
        self.check_pair(new_dir)?;
        self.fs().change(|state, now| {
            let from = place_or_dots(state, self.id(), path)?;
            let to = place_or_dots(state, new_dir.id(), new_path)?;
            let (from, to) = from.zip(to).ok_or(Errno::Busy)?;
            let found = from.found.ok_or(Errno::NoEntry)?;
            let slash = from.slash == Slash::Trailing || to.slash == Slash::Trailing;
            if slash && found.kind != Kind::Dir {
                return Err(Errno::NotDirectory);
            }
            state.rename((from.dir, &from.name), (to.dir, &to.name), now)
        })
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
