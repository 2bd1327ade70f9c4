//! Trees below a directory, for the host: gone through by number, so that no
//! depth is too much for a path, and without the descriptors that guests have.

use std::ops::ControlFlow;

use super::descriptor::Descriptor;
use super::walk::{Follow, Last, WalkTarget, resolve};
use crate::errno::Errno;
use crate::meta::{FileId, Kind, Time};
use crate::overlay::Overlay;

/// Entries that are removed in one step.
const STEP_ENTRIES: usize = 256;

/// A directory that is being emptied.
struct EmptiedDir {
    dir: FileId,
    /// Its name in the directory above.
    name: Vec<u8>,
    /// Positions of the entries that are still to be looked at.
    from: u64,
    end: u64,
}

/// What is to be done after a step.
enum Next {
    /// More of the same directory.
    More,
    /// A directory in it.
    Down(EmptiedDir),
    /// Nothing: it is empty.
    Up,
}

impl Descriptor {
    /// The directory at `path` for the rest of one call, not counted as open:
    /// if it goes meanwhile, nothing is found in it.
    ///
    /// Errors: those of the walk, [`Errno::NotDirectory`].
    pub(crate) fn pass_to(&self, follow: Follow, path: &[u8]) -> Result<Self, Errno> {
        let last = Last::Walk(follow);
        let reached = self.reach(path, last)?;
        let (from, path) = reached.parts();
        from.expect_dir()?;
        let state = from.fs().lock();
        let id = match resolve(&state, from.start(&state), path, last)? {
            WalkTarget::Dir(id) => id,
            WalkTarget::Entry { found, .. } => match found.ok_or(Errno::NoEntry)? {
                found if found.kind == Kind::Dir => found.id,
                _ => return Err(Errno::NotDirectory),
            },
        };
        drop(state);
        let fs = from.fs().clone();
        Ok(Self::transient(fs, id, from.rights(), from.by()))
    }

    /// The directory `id` that was listed in this one, or what is mounted on
    /// it, likewise.
    pub(crate) fn pass_into(&self, id: FileId) -> Self {
        match self.fs().mounted_dir(id) {
            None => Self::transient(self.fs().clone(), id, self.rights(), self.by()),
            Some(mount) => {
                let fs = mount.fs().clone();
                Self::transient(fs, mount.id(), mount.rights(), self.by())
            }
        }
    }

    /// The directory `id` that was listed in this one, whatever is mounted on it, likewise.
    pub(crate) fn pass_within(&self, id: FileId) -> Self {
        Self::transient(self.fs().clone(), id, self.rights(), self.by())
    }

    /// Removes all below this directory, the deepest first, links not followed
    /// and mounts not entered. A step for up to [`STEP_ENTRIES`] entries; each
    /// entry is looked at once, and no path is walked. Holds a name for each
    /// directory that it is in.
    ///
    /// Errors: [`Errno::NotPermitted`], [`Errno::ReadOnly`], [`Errno::Busy`] for
    /// what is pinned, [`Errno::NotEmpty`] where others made entries meanwhile.
    pub(crate) fn remove_below(&self) -> Result<(), Errno> {
        self.expect_dir()?;
        self.expect_writable()?;
        let top = self.fs().change(|state, _| {
            let end = state.list_end(self.id());
            Ok(EmptiedDir {
                dir: self.id(),
                name: Vec::new(),
                from: 0,
                end,
            })
        })?;
        let mut levels = vec![top];
        while let Some(level) = levels.last_mut() {
            let next = self.fs().change(|state, now| level.step(state, now))?;
            match next {
                Next::More => {}
                Next::Down(below) => levels.push(below),
                Next::Up => {
                    let done = levels.pop();
                    if let (Some(done), Some(above)) = (done, levels.last()) {
                        self.fs()
                            .change(|state, now| done.remove(state, above.dir, now))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl EmptiedDir {
    /// Removes entries up to the next directory.
    fn step(&mut self, state: &mut Overlay, now: Time) -> Result<Next, Errno> {
        let mut names = Vec::new();
        let mut next = Next::Up;
        let mut from = self.end;
        state.list(
            self.dir,
            self.from,
            self.end,
            &mut |name, id, kind, position| {
                from = position + 1;
                if kind == Kind::Dir {
                    next = Next::Down(Self {
                        dir: id,
                        name: name.to_vec(),
                        from: 0,
                        end: state.list_end(id),
                    });
                    return ControlFlow::Break(());
                }
                names.push(name.to_vec());
                if names.len() == STEP_ENTRIES {
                    next = Next::More;
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            },
        );
        state.check_undamaged()?;
        for name in names {
            let found = state.find(self.dir, &name).ok_or(Errno::NoEntry)?;
            state.unlink((self.dir, &name, found), now)?;
        }
        self.from = from;
        Ok(next)
    }

    /// Removes this directory from the one above, if it is still there.
    fn remove(&self, state: &mut Overlay, above: FileId, now: Time) -> Result<(), Errno> {
        match state.find(above, &self.name) {
            Some(found) if found.id == self.dir => state.rmdir((above, &self.name, found), now),
            Some(_) | None => Ok(()),
        }
    }
}
