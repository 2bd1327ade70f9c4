//! Paths across mounts: from a directory and a path to the file system that
//! the path's last name is in.
//!
//! Each call on a path asks here first. Where nothing is mounted that is one
//! look at a flag, and the call walks the path itself. Else [`PathWalk`] goes from
//! tree to tree, each under its own lock and never two at once (invariant 7),
//! to the directory that has its last name; the call then is one step in that
//! tree. What another thread changes between the two steps may or may not be
//! observed.
//!
//! What a path means is [`PathWalk`]'s alone. Here is only which lock is held.

use std::cell::OnceCell;
use std::collections::HashSet;

use parking_lot::MutexGuard;
use smallvec::SmallVec;

use super::Fs;
use super::descriptor::{Caller, Descriptor, Rights};
use super::mount::DirMount;
use super::state::FsState;
use super::walk::{Last, PathWalk, Slash, Tree, WalkEnd, WalkTarget, find_shown};
use crate::errno::Errno;
use crate::limits::{MAX_PATH_BYTES, MAX_SYMLINKS};
use crate::meta::{FileId, Kind};
use crate::overlay::{FoundEntry, Overlay, Rule, Rules};

/// Where a call on a path is to be made.
pub(super) enum Routed<'a> {
    /// Where it was asked for.
    Here(&'a Descriptor, &'a [u8]),
    /// Below the mounts that the path led through.
    There(Box<Descriptor>, RemainingPath),
}

/// What is left of a path for the call: a name, and what comes after it.
type RemainingPath = SmallVec<[u8; 64]>;

/// Targets of links, which outlive the locks under which they were found.
type Targets = [OnceCell<Box<[u8]>>; MAX_SYMLINKS];

impl Routed<'_> {
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
    /// path otherwise is left for the call to find. O(bytes of the path and of
    /// the targets of links on it).
    ///
    /// Errors: [`Errno::Loop`] past all links of a path that crosses.
    #[inline]
    pub(super) fn reach<'a>(&'a self, path: &'a [u8], last: Last) -> Result<Routed<'a>, Errno> {
        if !self.fs().has_mounts() {
            return Ok(Routed::Here(self, path));
        }
        self.reach_across(path, last)
    }

    fn reach_across<'a>(&'a self, path: &'a [u8], last: Last) -> Result<Routed<'a>, Errno> {
        let odd = path.len() > MAX_PATH_BYTES || path.contains(&0) || path.first() == Some(&b'/');
        if odd || self.kind() != Kind::Dir {
            return Ok(Routed::Here(self, path));
        }
        let targets: Targets = [const { OnceCell::new() }; MAX_SYMLINKS];
        let mut walk = PathWalk::new(self.id(), path);
        let mut route = Route::new(self);
        let end = route.run(&mut walk, last, &targets);
        let Some(level) = route.levels.pop().filter(|_| route.crossed) else {
            // No mount is on the way: the call meets the same.
            return Ok(Routed::Here(self, path));
        };
        let (dir, rest) = match end {
            Ok(WalkTarget::Dir(dir)) => (dir, RemainingPath::from_slice(b".")),
            Ok(WalkTarget::Entry {
                dir, name, slash, ..
            }) => (dir, rest(name, true, slash)),
            Err(Errno::Loop) => return Err(Errno::Loop),
            // What leaves the start: as an absolute path does.
            Err(Errno::NotPermitted) => (walk.here(), RemainingPath::from_slice(b"/")),
            Err(_) => {
                let (part, is_last, slash) = walk.at();
                (walk.here(), rest(part, is_last, slash))
            }
        };
        let dir = Self::transient(level.fs, dir, level.rights, self.by());
        Ok(Routed::There(Box::new(dir), rest))
    }
}

/// The path that leads a call to `part`, or to what is wrong with it.
fn rest(part: &[u8], is_last: bool, slash: Slash) -> RemainingPath {
    let after: &[u8] = match (is_last, slash) {
        (false, _) => b"/.",
        (true, Slash::Trailing) => b"/",
        (true, Slash::None) => b"",
    };
    let mut rest = RemainingPath::from_slice(part);
    rest.extend_from_slice(after);
    rest
}

/// The trees that a walk is in.
struct Route {
    /// The deepest last; never empty.
    levels: SmallVec<[RouteLevel; 2]>,
    by: Caller,
    /// A mount was met, even if the walk has left it since.
    crossed: bool,
    /// Mounts that the walk came into and that are not hidden there: asked
    /// once for each, since the answer takes a walk up.
    shown: HashSet<usize>,
}

struct RouteLevel {
    fs: Fs,
    rights: Rights,
    /// What the walk needs to go back to the level above.
    floor: usize,
}

/// How a walk goes on in another tree.
enum Crossing {
    Into(DirMount),
    Up,
    First,
}

/// One of several trees, under its lock.
struct MountedTree<'l, 'a> {
    fs: &'l Fs,
    state: &'l Overlay,
    rules: Option<&'l Rules>,
    is_first: bool,
    targets: &'a Targets,
}

impl<'a> Tree<'a> for MountedTree<'_, 'a> {
    type Crossing = Crossing;

    fn find(&self, dir: FileId, name: &[u8]) -> Option<FoundEntry> {
        find_shown(self.state, self.rules, dir, name)
    }

    fn target(&self, link: FileId, number: usize) -> Result<&'a [u8], Errno> {
        let target = self.state.target(link)?;
        let cell = self.targets.get(number).ok_or(Errno::Loop)?;
        Ok(cell.get_or_init(|| target.into()))
    }

    fn is_of_layer(&self, link: FileId) -> bool {
        self.state.is_of_base(link)
    }

    fn mounted(&self, dir: FileId) -> Option<Crossing> {
        self.fs.mounted_dir(dir).map(Crossing::Into)
    }

    fn up(&self) -> Option<Crossing> {
        (!self.is_first).then_some(Crossing::Up)
    }

    fn first(&self) -> Option<Crossing> {
        (!self.is_first).then_some(Crossing::First)
    }
}

impl Route {
    fn new(from: &Descriptor) -> Self {
        let first = RouteLevel {
            fs: from.fs().clone(),
            rights: from.rights(),
            floor: 0,
        };
        Self {
            levels: SmallVec::from_iter([first]),
            by: from.by(),
            crossed: false,
            shown: HashSet::new(),
        }
    }

    /// Walks from tree to tree until the walk is done.
    fn run<'a>(
        &mut self,
        walk: &mut PathWalk<'a>,
        last: Last,
        targets: &'a Targets,
    ) -> Result<WalkTarget<'a>, Errno> {
        while let Some(level) = self.levels.last() {
            let turn = {
                let state: MutexGuard<'_, FsState> = level.fs.lock();
                let tree = MountedTree {
                    fs: &level.fs,
                    state: &state,
                    rules: state.rules().filter(|_| self.by == Caller::Guest),
                    is_first: self.levels.len() == 1,
                    targets,
                };
                walk.run(&tree, last)?
            };
            match turn {
                WalkEnd::End(end) => return Ok(end),
                WalkEnd::Cross(Crossing::Into(mount)) => {
                    let shows = self.shows(&mount);
                    self.enter(walk, &mount);
                    if !shows {
                        break;
                    }
                }
                WalkEnd::Cross(Crossing::Up) => {
                    if let Some(level) = self.levels.pop() {
                        walk.leave(level.floor);
                    }
                }
                WalkEnd::Cross(Crossing::First) => self.levels.truncate(1),
            }
        }
        Ok(WalkTarget::Dir(walk.here()))
    }

    fn enter(&mut self, walk: &mut PathWalk<'_>, mount: &DirMount) {
        self.crossed = true;
        let rights = self.levels.last().map_or(mount.rights(), |level| {
            narrower(level.rights, mount.rights())
        });
        let floor = walk.enter(mount.id());
        self.levels.push(RouteLevel {
            fs: mount.fs().clone(),
            rights,
            floor,
        });
    }

    /// Returns whether what is mounted shows to who walks. If it does not, the
    /// walk stops there, and the call finds nothing.
    fn shows(&mut self, mount: &DirMount) -> bool {
        if self.by == Caller::Host || self.shown.contains(&mount.address()) {
            return true;
        }
        let shows = mount.fs().lock().rule_of_dir(mount.id()) != Rule::Hidden;
        if shows {
            self.shown.insert(mount.address());
        }
        shows
    }
}

fn narrower(one: Rights, other: Rights) -> Rights {
    match (one, other) {
        (Rights::ReadWrite, Rights::ReadWrite) => Rights::ReadWrite,
        (Rights::ReadOnly, _) | (_, Rights::ReadOnly) => Rights::ReadOnly,
    }
}
