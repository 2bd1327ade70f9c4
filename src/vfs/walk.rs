//! The path walk: from a directory and a path to an entry.
//!
//! Directories passed are held on a stack and `..` pops it; nothing is ever
//! looked up "above", so a walk cannot leave the directory it started in
//! (invariant 1). Symbolic links push their target onto a stack of paths to
//! go. No recursion, and no allocation for paths up to 16 directories deep.
//! Each byte of the path and of the targets is looked at once. Where the path
//! before the last name leads is remembered (`state`).
//!
//! The walk itself is the same in one tree and across mounts: what it walks in
//! is a [`Tree`], which says where the walk has to cross to another one.

use std::convert::Infallible;

use smallvec::SmallVec;

use super::state::FsState;
use crate::errno::Errno;
use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINKS};
use crate::meta::{FileId, Kind};
use crate::overlay::{FoundEntry, Overlay, Rule, Rules};
use crate::steps;

/// Whether a symbolic link at the end of a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The operation is on what the link leads to.
    Yes,
    /// The operation is on the link itself. A slash after its name makes the
    /// walk follow it all the same.
    No,
}

/// What to do with the last name of a path.
#[derive(Clone, Copy)]
pub(super) enum Last {
    /// Walk it: a link is followed if asked, or if a slash comes after it.
    Walk(Follow),
    /// Walk it to create a file there: a slash after it, also after the target
    /// of a link, is [`Errno::IsDirectory`] before anything is looked up, as in
    /// Linux's `open_last_lookups`.
    Create(Follow),
    /// Leave it: the operation makes, removes or moves the name itself.
    Keep,
}

/// Where a walk ended.
pub(super) enum WalkTarget<'a> {
    /// At a directory it passed, by `.` or `..`, not by a name.
    Dir(FileId),
    /// At a name.
    Entry {
        /// The directory that has the name, or may get it.
        dir: FileId,
        name: &'a [u8],
        found: Option<FoundEntry>,
        /// A slash came after the name.
        slash: Slash,
    },
}

/// Whether a path asks for a directory by ending in a slash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slash {
    Trailing,
    None,
}

/// What a walk is in: one tree, or one of several that are mounted on each
/// other, under its lock. Targets live as long as the walk: `'a`.
pub(super) trait Tree<'a> {
    /// How the walk goes on in another tree.
    type Crossing;

    /// Finds a name that shows to who walks.
    fn find(&self, dir: FileId, name: &[u8]) -> Option<FoundEntry>;

    /// The target of a link, the `number`th that the walk follows, from 0.
    fn target(&self, link: FileId, number: usize) -> Result<&'a [u8], Errno>;

    /// Returns whether a link came with a layer of the base.
    fn is_of_layer(&self, link: FileId) -> bool;

    /// What is mounted on a directory.
    fn mounted(&self, dir: FileId) -> Option<Self::Crossing>;

    /// The tree that this one is mounted in; `None` where the walk started.
    fn up(&self) -> Option<Self::Crossing>;

    /// The tree that the walk started in; `None` if it is this one.
    fn first(&self) -> Option<Self::Crossing>;
}

/// How a walk in one tree ended.
pub(super) enum WalkEnd<'a, C> {
    /// It is done.
    End(WalkTarget<'a>),
    /// It goes on in another tree.
    Cross(C),
}

/// Where a walk starts, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Start<'a> {
    pub(super) dir: FileId,
    /// The rules that hold for who walks: none for the host itself.
    pub(super) rules: Option<&'a Rules>,
}

impl Start<'_> {
    /// The root, for the host's own calls.
    pub(super) fn of_host() -> Self {
        Self {
            dir: FileId::ROOT,
            rules: None,
        }
    }
}

/// Walks `path` from the directory `start`. What a rule hides is not found.
///
/// Errors: [`Errno::NoEntry`] for an empty path or a hidden start, [`Errno::NameTooLong`],
/// [`Errno::Invalid`] for a NUL, [`Errno::NotPermitted`] for an absolute path;
/// then, as components come: [`Errno::NameTooLong`], [`Errno::NoEntry`],
/// [`Errno::NotDirectory`], [`Errno::NotPermitted`] for a `..` or a link that
/// leaves `start` (a link of a layer stays at the root, if that is `start`), [`Errno::Loop`]. Before these [`Errno::Io`] if the base
/// turned out to be damaged.
pub(super) fn resolve<'a>(
    tree: &'a FsState,
    start: Start<'a>,
    path: &'a [u8],
    last: Last,
) -> Result<WalkTarget<'a>, Errno> {
    if let Some(end) = resolve_last(tree, start, path, last) {
        tree.check_undamaged()?;
        return Ok(end);
    }
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    if path.len() > MAX_PATH_BYTES {
        return Err(Errno::NameTooLong);
    }
    if path.contains(&0) {
        return Err(Errno::Invalid);
    }
    if path.first() == Some(&b'/') {
        return Err(Errno::NotPermitted);
    }
    if start.rules.is_some() && tree.rule_of_dir(start.dir) == Rule::Hidden {
        return Err(Errno::NoEntry);
    }
    let alone = SingleTree {
        state: tree,
        rules: start.rules,
    };
    let mut walk = PathWalk::new(start.dir, path);
    let end = match walk.run(&alone, last) {
        Ok(WalkEnd::End(end)) => Ok(end),
        Ok(WalkEnd::Cross(never)) => match never {},
        Err(errno) => Err(errno),
    };
    tree.check_undamaged()?;
    if let (Ok(_), None, Some(dir)) = (&end, start.rules, walk.parent)
        && let Some((parent, _)) = split(path)
    {
        tree.remember(start.dir, parent, dir);
    }
    end
}

/// Resolves a path of whose directories an earlier walk tells where they lead,
/// or that has none. `None` for any other and for all that needs more: `.` and
/// `..` at the end, a slash there, a link there that is followed, rules, and
/// what is wrong.
#[inline]
fn resolve_last<'a>(
    tree: &FsState,
    start: Start<'_>,
    path: &'a [u8],
    last: Last,
) -> Option<WalkTarget<'a>> {
    if start.rules.is_some() {
        return None;
    }
    // One look at each byte of the name. What is before it is compared as a whole.
    let end = path.iter().rposition(|byte| matches!(byte, b'/' | 0));
    let (dir, name) = match end {
        Some(end) if path.get(end) == Some(&0) => return None,
        Some(end) => (
            tree.remembered(start.dir, path.get(..end)?)?,
            path.get(end + 1..)?,
        ),
        None => (start.dir, path),
    };
    let is_plain = !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME_BYTES;
    if !is_plain {
        return None;
    }
    let found = tree.find(dir, name);
    steps::add(name.len());
    match found {
        Some(link) if link.kind == Kind::Symlink && last.follows() => None,
        found => Some(WalkTarget::Entry {
            dir,
            name,
            found,
            slash: Slash::None,
        }),
    }
}

/// Splits a path at its last slash.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some((path.get(..slash)?, path.get(slash + 1..)?))
}

/// A tree in which a walk sees no mounts.
struct SingleTree<'a> {
    state: &'a Overlay,
    rules: Option<&'a Rules>,
}

impl<'a> Tree<'a> for SingleTree<'a> {
    type Crossing = Infallible;

    fn find(&self, dir: FileId, name: &[u8]) -> Option<FoundEntry> {
        find_shown(self.state, self.rules, dir, name)
    }

    fn target(&self, link: FileId, _: usize) -> Result<&'a [u8], Errno> {
        self.state.target(link)
    }

    fn is_of_layer(&self, link: FileId) -> bool {
        self.state.is_of_base(link)
    }

    fn mounted(&self, _: FileId) -> Option<Infallible> {
        None
    }

    fn up(&self) -> Option<Infallible> {
        None
    }

    fn first(&self) -> Option<Infallible> {
        None
    }
}

/// Finds a name unless a rule hides what it stands for.
pub(super) fn find_shown(
    state: &Overlay,
    rules: Option<&Rules>,
    dir: FileId,
    name: &[u8],
) -> Option<FoundEntry> {
    let found = state.find(dir, name)?;
    match rules {
        Some(rules) if rules.hides(found.id) => None,
        Some(_) | None => Some(found),
    }
}

/// A path, or what is left of one.
#[derive(Clone, Copy)]
struct PathRest<'a> {
    path: &'a [u8],
    /// It is the target of a link that came with a layer.
    of_layer: bool,
}

/// A walk under way.
///
/// It holds numbers and no objects: all trees that it walks in are locked one after the
/// other, and what it has passed may be changed by others as soon as it has crossed to
/// another tree. That is allowed, since a walk across mounts is not one step (`route`);
/// within one tree the caller holds the lock throughout.
///
/// What holds between two steps: `floor <= passed.len()`; each entry of `rest` begins with
/// a name; `..` never pops `passed` below `floor`, which is what confines the walk
/// (invariant 1).
pub(super) struct PathWalk<'a> {
    /// Where it started.
    start: FileId,
    /// The directories that the walk is in below `start`.
    passed: SmallVec<[FileId; 16]>,
    /// How many of `passed` are above or at where the walk came into the
    /// present tree: 0 in the first one.
    floor: usize,
    /// Paths to go, the next one last: the rest of the path, and above it the
    /// rest of each link's target. Each begins with a name.
    rest: SmallVec<[PathRest<'a>; 4]>,
    /// A slash came after the last name of all paths that are done, so that
    /// what they lead to has to be a directory.
    slash: Slash,
    /// The part that the walk is at.
    part: &'a [u8],
    /// It is of the target of a link that came with a layer.
    of_layer: bool,
    links: usize,
    /// The directory that the path's own last name is looked up in, once that
    /// has been: not one that a link of this name led to. Absent if a path ends
    /// in `.`, `..` or a slash.
    parent: Option<FileId>,
}

impl<'a> PathWalk<'a> {
    pub(super) fn new(start: FileId, path: &'a [u8]) -> Self {
        let mut walk = Self {
            start,
            passed: SmallVec::new(),
            floor: 0,
            rest: SmallVec::new(),
            slash: Slash::None,
            part: b"",
            of_layer: false,
            links: 0,
            parent: None,
        };
        walk.push(path, false);
        walk
    }

    /// Walks on in `tree`.
    pub(super) fn run<T: Tree<'a>>(
        &mut self,
        tree: &T,
        last: Last,
    ) -> Result<WalkEnd<'a, T::Crossing>, Errno> {
        while let Some(part) = self.next_part() {
            match part {
                b"." => {}
                b".." if self.passed.len() > self.floor => {
                    self.passed.pop();
                }
                b".." => match tree.up() {
                    Some(crossing) => return Ok(WalkEnd::Cross(crossing)),
                    // The root is above itself for what came with a layer, as in a chroot.
                    None if self.of_layer && self.start == FileId::ROOT => {}
                    None => return Err(Errno::NotPermitted),
                },
                name if name.len() > MAX_NAME_BYTES => return Err(Errno::NameTooLong),
                name => {
                    if let Some(turn) = self.step(tree, name, last)? {
                        return Ok(turn);
                    }
                }
            }
        }
        Ok(WalkEnd::End(WalkTarget::Dir(self.here())))
    }

    /// Takes one step by a name. Returns how the walk ended, if it did.
    ///
    /// For the last name, Linux's order is kept: the slash after a name that is to be
    /// created is an error before a link is followed; a link is followed before what is
    /// mounted is asked for, since nothing is mounted on a link.
    fn step<T: Tree<'a>>(
        &mut self,
        tree: &T,
        name: &'a [u8],
        last: Last,
    ) -> Result<Option<WalkEnd<'a, T::Crossing>>, Errno> {
        let dir = self.here();
        let found = tree.find(dir, name);
        if self.is_last() {
            let slash = self.slash;
            if slash == Slash::None {
                self.parent.get_or_insert(dir);
            }
            let follow = match last {
                Last::Create(_) if slash == Slash::Trailing => return Err(Errno::IsDirectory),
                Last::Create(follow) => follow == Follow::Yes,
                Last::Walk(Follow::Yes) => true,
                Last::Walk(Follow::No) => slash == Slash::Trailing,
                Last::Keep => false,
            };
            let mounted = match found {
                Some(link) if follow && link.kind == Kind::Symlink => {
                    return self.follow(tree, link.id);
                }
                Some(on) if on.kind == Kind::Dir && last.enters() => tree.mounted(on.id),
                Some(_) | None => None,
            };
            let end = || {
                WalkEnd::End(WalkTarget::Entry {
                    dir,
                    name,
                    found,
                    slash,
                })
            };
            return Ok(Some(mounted.map_or_else(end, WalkEnd::Cross)));
        }
        let found = found.ok_or(Errno::NoEntry)?;
        match found.kind {
            Kind::Dir => match tree.mounted(found.id) {
                Some(mounted) => return Ok(Some(WalkEnd::Cross(mounted))),
                None => self.passed.push(found.id),
            },
            Kind::Symlink => return self.follow(tree, found.id),
            Kind::File => return Err(Errno::NotDirectory),
        }
        Ok(None)
    }

    /// Goes on with the target of a link. An absolute one starts over where
    /// the walk did if that is the instance's root, as in a chroot; elsewhere
    /// it would leave the directory the walk is confined to. So would `..` above
    /// the start, but for the target of a link that came with a layer: where the
    /// start is the root, that ends there. A guest makes no such link.
    fn follow<T: Tree<'a>>(
        &mut self,
        tree: &T,
        link: FileId,
    ) -> Result<Option<WalkEnd<'a, T::Crossing>>, Errno> {
        if self.links >= MAX_SYMLINKS {
            return Err(Errno::Loop);
        }
        let target = tree.target(link, self.links)?;
        self.links += 1;
        let crossing = match target.first() {
            None => return Err(Errno::NoEntry),
            Some(b'/') if self.start == FileId::ROOT => {
                self.passed.clear();
                self.floor = 0;
                tree.first()
            }
            Some(b'/') => return Err(Errno::NotPermitted),
            Some(_) => None,
        };
        self.push(target, tree.is_of_layer(link));
        Ok(crossing.map(WalkEnd::Cross))
    }

    /// Comes into another tree by its directory `top`, and returns what
    /// [`Self::leave`] needs to go back.
    pub(super) fn enter(&mut self, top: FileId) -> usize {
        self.passed.push(top);
        std::mem::replace(&mut self.floor, self.passed.len())
    }

    /// Goes back to where the walk was before it came into the present tree.
    ///
    /// Precondition: `floor` is what [`Self::enter`] returned for the present tree, and
    /// no other tree was entered since that has not been left.
    pub(super) fn leave(&mut self, floor: usize) {
        self.passed.truncate(self.floor.saturating_sub(1));
        self.floor = floor;
    }

    /// The directory that the walk is in.
    pub(super) fn here(&self) -> FileId {
        self.passed.last().copied().unwrap_or(self.start)
    }

    /// The part that the walk is at, and whether it is the last one.
    pub(super) fn at(&self) -> (&'a [u8], bool, Slash) {
        (self.part, self.is_last(), self.slash)
    }

    fn is_last(&self) -> bool {
        self.rest.is_empty()
    }

    /// Puts a path before those to go.
    fn push(&mut self, path: &'a [u8], of_layer: bool) {
        let from = path.iter().position(|byte| *byte != b'/');
        if let Some(path) = from.and_then(|from| path.get(from..)) {
            self.rest.push(PathRest { path, of_layer });
        }
        steps::add(from.unwrap_or(path.len()));
    }

    /// Takes the next component off the paths to go, and the slashes after it.
    fn next_part(&mut self) -> Option<&'a [u8]> {
        let PathRest {
            path: rest,
            of_layer,
        } = self.rest.pop()?;
        let len = rest.iter().position(|byte| *byte == b'/');
        let (part, after) = rest.split_at(len.unwrap_or(rest.len()));
        let slashes = after.iter().position(|byte| *byte != b'/');
        match slashes.and_then(|slashes| after.get(slashes..)) {
            Some(path) => self.rest.push(PathRest { path, of_layer }),
            None if self.rest.is_empty() && !after.is_empty() => self.slash = Slash::Trailing,
            None => {}
        }
        steps::add(part.len() + slashes.unwrap_or(after.len()));
        (self.part, self.of_layer) = (part, of_layer);
        Some(part)
    }
}

impl Last {
    /// Returns whether the call is about what is mounted at its last name, not
    /// about the name itself.
    fn enters(self) -> bool {
        match self {
            Self::Walk(_) | Self::Create(_) => true,
            Self::Keep => false,
        }
    }

    /// Returns whether a link at the end of a path without a slash is followed.
    fn follows(self) -> bool {
        match self {
            Self::Walk(follow) | Self::Create(follow) => follow == Follow::Yes,
            Self::Keep => false,
        }
    }
}
