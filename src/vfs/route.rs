//! Paths across mounts: from a directory and a path to the file system that
//! the path's last name is in.
//!
//! Each call on a path asks here first. Where nothing is mounted that is one
//! look at a flag, and the call walks the path itself. Else the path is walked
//! from tree to tree, each under its own lock and never two at once (invariant
//! 7), to the directory that has its last name; the call then is one step in
//! that tree. What another thread changes between the two may be met by either.

use super::Fs;
use super::descriptor::{By, Descriptor, Rights};
use super::mount::DirMount;
use super::walk::{Follow, Last};
use crate::errno::Errno;
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINKS};
use crate::meta::{FileId, Kind};
use crate::overlay::{Overlay, Rule};

/// Where a call on a path is to be made.
pub(super) enum Reached<'a> {
    /// Where it was asked for.
    Here(&'a Descriptor, &'a [u8]),
    /// Below the mounts that the path led through.
    There(Box<Descriptor>, Vec<u8>),
}

impl Reached<'_> {
    /// The directory to start from, and the path from there.
    pub(super) fn parts(&self) -> (&Descriptor, &[u8]) {
        match self {
            Self::Here(dir, path) => (dir, path),
            Self::There(dir, path) => (dir, path),
        }
    }
}

impl Descriptor {
    /// Walks `path` as far as it leads through mounts. What is wrong with the
    /// path otherwise is left for the call to find.
    ///
    /// Errors: [`Errno::Loop`] past all links of a path that crosses,
    /// [`Errno::NotPermitted`] for an absolute one that leaves the start.
    #[inline]
    pub(super) fn reach<'a>(&'a self, path: &'a [u8], last: Last) -> Result<Reached<'a>, Errno> {
        if !self.fs().has_mounts() {
            return Ok(Reached::Here(self, path));
        }
        self.reach_across(path, last)
    }

    fn reach_across<'a>(&'a self, path: &'a [u8], last: Last) -> Result<Reached<'a>, Errno> {
        let odd = path.len() > MAX_PATH_BYTES || path.contains(&0) || path.first() == Some(&b'/');
        if odd || self.kind() != Kind::Dir {
            return Ok(Reached::Here(self, path));
        }
        let mut route = Route::new(self, path, last);
        route.run()?;
        Ok(match route.levels.pop() {
            Some(level) if route.crossed => {
                let dir = level.passed.last().copied().unwrap_or(FileId::ROOT);
                let dir = Self::passing(level.fs, dir, level.rights, self.by());
                let rest = trimmed(&route.todo);
                let path = if rest.is_empty() { b"." } else { rest };
                Reached::There(Box::new(dir), path.to_vec())
            }
            Some(_) | None => Reached::Here(self, path),
        })
    }
}

/// A walk from tree to tree.
struct Route {
    /// The trees that the walk is in, the deepest last; never empty.
    levels: Vec<Level>,
    /// What is to be walked yet.
    todo: Vec<u8>,
    last: Last,
    by: By,
    links: usize,
    /// A mount was met, even if the walk has left it since.
    crossed: bool,
}

struct Level {
    fs: Fs,
    rights: Rights,
    /// The directory that the walk came in by, and those below that it is in.
    passed: Vec<FileId>,
}

/// Why a walk in one tree ended.
enum Turn {
    /// It stands before its last name, or before what is wrong.
    Stop,
    /// A directory of another tree is mounted here.
    Into(DirMount),
    /// `..` in the directory that it came in by.
    Up,
    /// A link with an absolute target.
    Root,
}

impl Route {
    fn new(from: &Descriptor, path: &[u8], last: Last) -> Self {
        Self {
            levels: vec![Level {
                fs: from.fs().clone(),
                rights: from.rights(),
                passed: vec![from.id()],
            }],
            todo: path.to_vec(),
            last,
            by: from.by(),
            links: 0,
            crossed: false,
        }
    }

    fn run(&mut self) -> Result<(), Errno> {
        while let Some(mut level) = self.levels.pop() {
            let fs = level.fs.clone();
            let turn = self.walk(&fs, &fs.lock(), &mut level);
            match turn? {
                Turn::Stop => {
                    self.levels.push(level);
                    return Ok(());
                }
                Turn::Into(mount) => {
                    self.crossed = true;
                    let below = Level {
                        fs: mount.fs().clone(),
                        rights: narrower(level.rights, mount.rights()),
                        passed: vec![mount.id()],
                    };
                    self.levels.push(level);
                    self.levels.push(below);
                }
                Turn::Up => {}
                Turn::Root => {
                    self.levels.push(level);
                    self.start_over()?;
                }
            }
        }
        Ok(())
    }

    /// Starts over where the walk did, if that is the root of its tree.
    fn start_over(&mut self) -> Result<(), Errno> {
        self.levels.truncate(1);
        let Some(first) = self.levels.first_mut() else {
            return Ok(());
        };
        first.passed.truncate(1);
        match first.passed.first() {
            Some(&FileId::ROOT) => Ok(()),
            Some(_) | None => Err(Errno::NotPermitted),
        }
    }

    /// Walks on in one tree.
    fn walk(&mut self, fs: &Fs, state: &Overlay, level: &mut Level) -> Result<Turn, Errno> {
        let start = level.passed.first().copied().unwrap_or(FileId::ROOT);
        if self.by == By::Guest && state.rule_of_dir(start) == Rule::Hidden {
            return Ok(Turn::Stop);
        }
        loop {
            let (name, rest) = split(&self.todo);
            let is_last = trimmed(rest).is_empty();
            let (slash, rest) = (!rest.is_empty(), rest.to_vec());
            match name {
                b"" => return Ok(Turn::Stop),
                b"." => self.todo = rest,
                b".." if level.passed.len() > 1 => {
                    level.passed.pop();
                    self.todo = rest;
                }
                b".." if self.levels.is_empty() => return Ok(Turn::Stop),
                b".." => {
                    self.todo = rest;
                    return Ok(Turn::Up);
                }
                name => {
                    let here = level.passed.last().copied().unwrap_or(FileId::ROOT);
                    let Some((id, kind)) = self.find(state, here, name) else {
                        return Ok(Turn::Stop);
                    };
                    let goes_on = !is_last || self.follows(slash);
                    match kind {
                        Kind::Symlink if goes_on => {
                            let turn = self.follow(state.target(id)?, &rest)?;
                            if let Some(turn) = turn {
                                return Ok(turn);
                            }
                        }
                        Kind::Dir => match fs.mounted_dir(id) {
                            Some(mount) if !is_last || self.enters() => {
                                self.todo = rest;
                                return Ok(Turn::Into(mount));
                            }
                            None if !is_last => {
                                level.passed.push(id);
                                self.todo = rest;
                            }
                            Some(_) | None => return Ok(Turn::Stop),
                        },
                        Kind::Symlink | Kind::File => return Ok(Turn::Stop),
                    }
                }
            }
        }
    }

    fn find(&self, state: &Overlay, dir: FileId, name: &[u8]) -> Option<(FileId, Kind)> {
        if name.len() > MAX_NAME_BYTES {
            return None;
        }
        let found = state.find(dir, name)?;
        let hidden = match self.by {
            By::Guest => state.rules().is_some_and(|rules| rules.hides(found.id)),
            By::Host => false,
        };
        (!hidden).then_some((found.id, found.kind))
    }

    /// Puts a link's target before what comes after the link.
    fn follow(&mut self, target: &[u8], rest: &[u8]) -> Result<Option<Turn>, Errno> {
        self.links += 1;
        if self.links > MAX_SYMLINKS {
            return Err(Errno::Loop);
        }
        let turn = match target.first() {
            None => return Ok(Some(Turn::Stop)),
            Some(b'/') => Some(Turn::Root),
            Some(_) => None,
        };
        self.todo = [target, rest].concat();
        Ok(turn)
    }

    /// Tells whether a link at the end of the path is followed.
    fn follows(&self, slash: bool) -> bool {
        match self.last {
            Last::Walk(Follow::Yes) | Last::Create(Follow::Yes) => true,
            Last::Walk(Follow::No) => slash,
            Last::Create(Follow::No) | Last::Keep => false,
        }
    }

    /// Tells whether the call is about what is mounted at its last name, not
    /// about the name itself.
    fn enters(&self) -> bool {
        match self.last {
            Last::Walk(_) | Last::Create(_) => true,
            Last::Keep => false,
        }
    }
}

fn narrower(one: Rights, other: Rights) -> Rights {
    match (one, other) {
        (Rights::ReadWrite, Rights::ReadWrite) => Rights::ReadWrite,
        (Rights::ReadOnly, _) | (_, Rights::ReadOnly) => Rights::ReadOnly,
    }
}

/// The path without the slashes that it begins with.
fn trimmed(path: &[u8]) -> &[u8] {
    let from = path.iter().position(|byte| *byte != b'/');
    from.and_then(|from| path.get(from..)).unwrap_or_default()
}

/// The first name of a path, and what comes after it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let path = trimmed(path);
    let end = path.iter().position(|byte| *byte == b'/');
    path.split_at(end.unwrap_or(path.len()))
}
