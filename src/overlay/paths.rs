//! Paths that cost nothing until they are spelt, and tables of them.
//!
//! A guest may nest directories as deep as its quota of objects allows. The
//! paths of n such directories have n * n / 2 names, so whoever lists what
//! changed must not hold them spelt out. Here a path is a link to the path of
//! its directory and one name.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::delta::DirEntryKey;
use super::{Overlay, steps};
use crate::errno::Errno;
use crate::meta::FileId;
use crate::name::{LayerPath, Name};
use crate::path::FsPath;

/// The most bytes of a path that its `Debug` form shows.
const MAX_SHOWN_BYTES: usize = 1024;

/// A path in the tree of an instance, as a link to the path above it.
///
/// Nothing bounds how deep a guest nests directories. So a path shares all but
/// its last name with the paths of its neighbours: [`join`](Self::join),
/// cloning and dropping cost O(1), and only what spells a path out
/// ([`to_layer_path`](Self::to_layer_path), [`to_bytes`](Self::to_bytes),
/// [`Display`](fmt::Display)) costs O(its length). Comparing two paths costs
/// O(names below the last directory that they share as one value).
///
/// Paths sort name by name from the root down, a directory before what is in it.
#[derive(Clone, Default)]
pub struct TreePath(Option<Arc<Link>>);

struct Link {
    parent: TreePath,
    name: Name,
    /// How many names lead here, this one included.
    depth: usize,
}

impl TreePath {
    /// Returns the root's path.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Returns whether this is the root's.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the path of `name` in the directory at this path. O(1).
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        Self(Some(Arc::new(Link {
            parent: self.clone(),
            name,
            depth: self.depth().saturating_add(1),
        })))
    }

    /// Returns the last name; `None` for the root.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.0.as_ref().map(|link| &link.name)
    }

    /// Returns the path of the directory that holds the last name; `None` for
    /// the root.
    #[must_use]
    pub fn parent(&self) -> Option<&Self> {
        self.0.as_ref().map(|link| &link.parent)
    }

    /// Returns how many names the path has. O(1).
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |link| link.depth)
    }

    /// Returns the names from the last one up to the root's child.
    pub fn names_upward(&self) -> impl Iterator<Item = &Name> {
        let mut at = self;
        std::iter::from_fn(move || {
            let link = at.0.as_ref()?;
            at = &link.parent;
            Some(&link.name)
        })
    }

    /// Spells the path out as names. O(depth); the names' bytes are shared.
    #[must_use]
    pub fn to_layer_path(&self) -> LayerPath {
        let mut names: Vec<Name> = self.names_upward().cloned().collect();
        names.reverse();
        LayerPath::from(names)
    }

    /// Spells the path out with `/` between names; empty for the root. O(bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut names: Vec<&[u8]> = self.names_upward().map(Name::as_bytes).collect();
        names.reverse();
        names.join(&b'/')
    }
}

impl FsPath for TreePath {
    fn fs_path(&self) -> Cow<'_, [u8]> {
        // The root's bytes are none, and its path is `/`.
        Cow::Owned([b"/", &*self.to_bytes()].concat())
    }
}

impl Drop for Link {
    /// Lets go of a long path name by name: dropping each link within the drop
    /// of the one below it would take stack for each name.
    fn drop(&mut self) {
        let mut next = self.parent.0.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.parent.0.take();
        }
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, two) = (self.depth(), other.depth());
        let (mut at, mut its) = (self.0.as_ref(), other.0.as_ref());
        for _ in two..one {
            at = at.and_then(|link| link.parent.0.as_ref());
        }
        for _ in one..two {
            its = its.and_then(|link| link.parent.0.as_ref());
        }
        // If no name differs, the shorter one is above the other.
        let mut order = one.cmp(&two);
        while let (Some(a), Some(b)) = (at, its) {
            if Arc::ptr_eq(a, b) {
                break;
            }
            // The last one that differs on the way up is the first from the root.
            order = match a.name.cmp(&b.name) {
                Ordering::Equal => order,
                differs => differs,
            };
            at = a.parent.0.as_ref();
            its = b.parent.0.as_ref();
        }
        order
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TreePath {
    fn eq(&self, other: &Self) -> bool {
        self.depth() == other.depth() && self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TreePath {}

impl Hash for TreePath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.depth().hash(state);
        for name in self.names_upward() {
            name.hash(state);
        }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_layer_path(), f)
    }
}

impl fmt::Debug for TreePath {
    /// As `Display`, but of a long path only its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut names, mut bytes) = (Vec::new(), 0);
        for name in self.names_upward() {
            bytes += name.as_bytes().len() + 1;
            if bytes > MAX_SHOWN_BYTES {
                break;
            }
            names.push(name.clone());
        }
        if names.len() < self.depth() {
            write!(f, "[{} names]/", self.depth() - names.len())?;
        }
        names.reverse();
        fmt::Display::fmt(&LayerPath::from(names), f)
    }
}

/// The paths of objects of some states, each link made once: n objects cost
/// O(n) links beside those of the directories above them.
pub(super) struct PathTable<'a> {
    states: Vec<&'a Overlay>,
    /// The root first; each path's directory comes before it.
    paths: Vec<TreePath>,
    /// By directory and name.
    numbers: HashMap<(PathNumber, Name), PathNumber>,
    /// For each state what was asked so far; `None` for what has no name.
    known: Vec<HashMap<FileId, Option<PathNumber>>>,
    /// Whether a path was asked for by a number that no path has.
    is_broken: Cell<bool>,
}

/// A path's place in its table.
pub(super) type PathNumber = usize;

const ROOT: PathNumber = 0;

impl<'a> PathTable<'a> {
    pub(super) fn new(states: &[&'a Overlay]) -> Self {
        Self {
            states: states.to_vec(),
            paths: vec![TreePath::root()],
            numbers: HashMap::new(),
            known: vec![HashMap::new(); states.len()],
            is_broken: Cell::new(false),
        }
    }

    /// Returns a path of an object in a state; `None` if it has no name there.
    ///
    /// O(directories above it that were not met before).
    pub(super) fn of(&mut self, state: usize, id: FileId) -> Option<PathNumber> {
        let (tree, known) = (self.states.get(state)?, self.known.get(state)?);
        let (mut climb, mut at) = (Vec::new(), id);
        let top = loop {
            steps::add(1);
            if at == FileId::ROOT {
                break Some(ROOT);
            }
            if let Some(number) = known.get(&at) {
                break *number;
            }
            // A damaged base may have directories within themselves.
            let entry = tree
                .check_undamaged()
                .ok()
                .and_then(|()| tree.a_name_of(at));
            let Some((dir, name)) = entry else {
                climb.push((at, None));
                break None;
            };
            climb.push((at, Some(name)));
            at = dir;
        };
        let mut number = top;
        for (id, name) in climb.into_iter().rev() {
            number = number.zip(name).map(|(dir, name)| self.join(dir, name));
            if let Some(known) = self.known.get_mut(state) {
                known.insert(id, number);
            }
        }
        number
    }

    /// Returns the path of an entry of a directory in a state.
    pub(super) fn of_entry(
        &mut self,
        state: usize,
        (dir, name): &DirEntryKey,
    ) -> Option<PathNumber> {
        let dir = self.of(state, *dir)?;
        Some(self.join(dir, name.clone()))
    }

    fn join(&mut self, dir: PathNumber, name: Name) -> PathNumber {
        if let Some(number) = self.numbers.get(&(dir, name.clone())) {
            return *number;
        }
        let (number, path) = (self.paths.len(), self.path(dir).join(name.clone()));
        self.paths.push(path);
        self.numbers.insert((dir, name), number);
        number
    }

    /// Returns a path by its number, which this table has made. A number of another table is
    /// a bug: a panic while debugging, and an error of [`Self::check`] in a release.
    pub(super) fn path(&self, number: PathNumber) -> TreePath {
        let path = self.paths.get(number).cloned();
        debug_assert!(path.is_some(), "path {number} of {}", self.paths.len());
        self.is_broken.set(self.is_broken.get() || path.is_none());
        path.unwrap_or_default()
    }

    /// Refuses what was named by paths of which one was lost.
    pub(super) fn check(&self) -> Result<(), Errno> {
        match self.is_broken.get() {
            true => Err(Errno::Io),
            false => Ok(()),
        }
    }

    /// Returns for each number its place among all paths as they sort.
    ///
    /// O(n log n) comparisons of single names, however deep the paths are.
    pub(super) fn ranks(&self) -> Vec<usize> {
        let mut children: Vec<(PathNumber, &Name, PathNumber)> = self
            .numbers
            .iter()
            .map(|((dir, name), number)| (*dir, name, *number))
            .collect();
        // Names from the last to the first, since the walk takes them from a stack.
        children.sort_unstable_by(|one, two| (one.0, two.1).cmp(&(two.0, one.1)));
        let mut ranks = vec![0; self.paths.len()];
        let (mut todo, mut next) = (vec![ROOT], 0);
        while let Some(at) = todo.pop() {
            steps::add(1);
            if let Some(rank) = ranks.get_mut(at) {
                *rank = next;
                next += 1;
            }
            let first = children.partition_point(|child| child.0 < at);
            let below = children.iter().skip(first);
            todo.extend(below.take_while(|child| child.0 == at).map(|child| child.2));
        }
        ranks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TreePath {
        let names = text.split('/').filter(|name| !name.is_empty());
        names.fold(TreePath::root(), |path, name| {
            path.join(Name::new(name.as_bytes()).unwrap())
        })
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "path 7 of 1"))]
    fn a_lost_path_is_not_the_root() {
        let paths = PathTable::new(&[]);
        assert!(paths.path(ROOT) == TreePath::root() && paths.check().is_ok());
        drop(paths.path(7));
        assert_eq!(paths.check(), Err(Errno::Io));
    }

    #[test]
    fn paths_sort_and_compare_as_their_names_do() {
        let texts = ["", "a", "a/b", "a/b/c", "a/c", "ab", "b", "b/a/a"];
        for one in texts {
            for two in texts {
                let spelt = path(one).to_layer_path().cmp(&path(two).to_layer_path());
                assert_eq!(path(one).cmp(&path(two)), spelt, "{one} {two}");
                assert_eq!(path(one) == path(two), one == two, "{one} {two}");
            }
            assert_eq!(path(one).to_bytes(), one.as_bytes());
        }
        let shared = path("x/y");
        let name = |text: &str| Name::new(text.as_bytes()).unwrap();
        assert!(shared.join(name("a")) < shared.join(name("b")));
        assert!(shared < shared.join(name("a")));
    }

    #[test]
    fn a_path_of_200_000_names_is_cloned_compared_and_dropped() {
        let name = Name::new(b"n").unwrap();
        let long = (0..200_000).fold(TreePath::root(), |path, _| path.join(name.clone()));
        let other = long.parent().unwrap().join(Name::new(b"m").unwrap());
        assert!(other < long);
        assert_eq!(long.clone(), long);
        assert_eq!(long.depth(), 200_000);
        assert!(format!("{long:?}").len() < 2 * MAX_SHOWN_BYTES);
        assert_eq!(long.to_bytes().len(), 399_999);
    }
}
