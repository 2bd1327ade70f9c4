//! Listing directories and walking trees.

use std::fmt;
use std::iter;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::errno::Errno;
use crate::error::Error;
use crate::meta::{FileId, Kind};
use crate::name::show;
use crate::path::IntoFsPath;
use crate::vfs::{Descriptor, Follow, Fs};

/// Entries of one directory that a walk holds at a time.
const BATCH_ENTRIES: usize = 256;

/// An entry of a directory. Shown as its path, odd bytes escaped.
///
/// Entries below one directory share its path, so that those of a deep tree
/// hold no more than their names; [`path`](Self::path) puts it together.
#[derive(Clone)]
pub struct Entry {
    above: Option<Arc<ParentPath>>,
    name: Box<[u8]>,
    id: FileId,
    kind: Kind,
}

/// The path of a directory, by its last piece and the rest.
struct ParentPath {
    above: Option<Arc<Self>>,
    /// Begins with a slash.
    piece: Box<[u8]>,
}

impl Drop for ParentPath {
    /// One after the other: the stack is too small for the deepest trees.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut owned) = above.and_then(Arc::into_inner) {
            above = owned.above.take();
        }
    }
}

impl Entry {
    /// Puts the path from the root together, with a leading `/`. O(path), which
    /// in a tree that a guest made may be megabytes.
    #[must_use]
    pub fn path(&self) -> Vec<u8> {
        let mut pieces: Vec<&[u8]> = vec![&self.name, b"/"];
        let above = iter::successors(self.above.as_deref(), |dir| dir.above.as_deref());
        pieces.extend(above.map(|dir| &*dir.piece));
        pieces.reverse();
        pieces.concat()
    }

    /// Returns the name's bytes.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Returns the inode number.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Returns what the entry is; links are not followed.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let of = |entry: &Self| (entry.id, entry.kind);
        of(self) == of(other) && self.name == other.name && self.path() == other.path()
    }
}

impl Eq for Entry {}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.path()))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({self}, {:?}, {:?})", self.id, self.kind)
    }
}

/// The path of a directory as entries in it have it: without slashes at its
/// end, `None` for the root.
fn prefix(path: &[u8]) -> Option<Arc<ParentPath>> {
    let mut path = match path {
        b"." => Vec::new(),
        path => [b"/", path].concat(),
    };
    while path.ends_with(b"/") {
        path.pop();
    }
    (!path.is_empty()).then(|| {
        Arc::new(ParentPath {
            above: None,
            piece: path.into(),
        })
    })
}

/// A directory that is being listed.
struct Listing {
    dir: Descriptor,
    above: Option<Arc<ParentPath>>,
    /// Where to go on; `None` at the end.
    cookie: Option<u64>,
    /// Whether directories below lead to what is mounted on them.
    crosses: bool,
}

impl Listing {
    fn new(root: &Descriptor, path: &[u8]) -> Result<Self, Errno> {
        Ok(Self {
            dir: root.pass_to(Follow::Yes, path)?,
            above: prefix(path),
            cookie: Some(0),
            crosses: true,
        })
    }

    /// Starts on a directory that this one has listed.
    fn below(&self, entry: &Entry) -> Self {
        Self {
            dir: match self.crosses {
                true => self.dir.pass_into(entry.id),
                false => self.dir.pass_within(entry.id),
            },
            above: Some(Arc::new(ParentPath {
                above: entry.above.clone(),
                piece: [b"/", &*entry.name].concat().into(),
            })),
            cookie: Some(0),
            crosses: self.crosses,
        }
    }

    /// Returns up to `most` entries more.
    fn take(&mut self, most: usize) -> Result<Vec<Entry>, Errno> {
        let mut entries = Vec::new();
        let Some(cookie) = self.cookie.take() else {
            return Ok(entries);
        };
        self.dir.read_dir_with(cookie, &mut |entry| {
            entries.push(Entry {
                above: self.above.clone(),
                name: entry.name.into(),
                id: entry.id,
                kind: entry.kind,
            });
            if entries.len() == most {
                self.cookie = Some(entry.next);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(entries)
    }
}

impl Fs {
    /// Lists a directory as it is now: entries of the base by name, then
    /// those made since, by age. O(entries) time and memory: of a tree that a
    /// guest made [`Self::walk`] holds fewer at a time.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat_at`], [`Errno::NotDirectory`].
    pub fn read_dir(&self, path: impl IntoFsPath) -> Result<Vec<Entry>, Error> {
        self.at("list", &path.fs_path(), |root, path| {
            Listing::new(root, path)?.take(usize::MAX)
        })
    }

    /// Walks the tree below a directory, each directory before what is in it,
    /// links not followed. Each directory is listed when the walk gets there.
    ///
    /// Safe on a tree that a guest made, whatever its depth: O(1) an entry, and
    /// for each directory that the walk is in it holds the name and up to 256
    /// entries. No descriptor of the instance is taken.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read_dir`]; each step may give them too.
    pub fn walk(&self, path: impl IntoFsPath) -> Result<Walk, Error> {
        self.at("list", &path.fs_path(), |root, path| {
            let mut walk = Walk { levels: Vec::new() };
            walk.enter(Listing::new(root, path)?)?;
            Ok(walk)
        })
    }

    /// Walks this file system alone from its root, as [`Self::walk`] does: not what is mounted in
    /// it, whose objects have numbers of their own.
    #[cfg(feature = "freeze")]
    pub(crate) fn walk_unmounted(&self) -> Result<Walk, Error> {
        let listing = Listing {
            dir: Descriptor::host_root(self).pass_within(FileId::ROOT),
            above: None,
            cookie: Some(0),
            crosses: false,
        };
        let mut walk = Walk { levels: Vec::new() };
        let entered = walk.enter(listing);
        entered.map_err(|errno| Error::new("list", b"/", errno))?;
        Ok(walk)
    }
}

/// A walk over a tree. Made by [`Fs::walk`].
///
/// ```
/// use stratafs::{image::Image, vfs::Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.create_dir_all("/a/b")?;
/// fs.write("/a/b/c", "four")?;
/// for entry in fs.walk("/a")? {
///     println!("{}", entry?);
/// }
/// # Ok::<(), stratafs::Error>(())
/// ```
pub struct Walk {
    /// The directories that the walk is in, each with the entries that come
    /// next, the next one last.
    levels: Vec<(Listing, Vec<Entry>)>,
}

impl Walk {
    fn enter(&mut self, mut listing: Listing) -> Result<(), Errno> {
        let entries = next_of(&mut listing)?;
        self.levels.push((listing, entries));
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Entry>, (Errno, Option<Entry>)> {
        while let Some((listing, entries)) = self.levels.last_mut() {
            let Some(entry) = entries.pop() else {
                *entries = next_of(listing).map_err(|errno| (errno, None))?;
                if entries.is_empty() {
                    self.levels.pop();
                }
                continue;
            };
            if entry.kind == Kind::Dir {
                let below = listing.below(&entry);
                self.enter(below)
                    .map_err(|errno| (errno, Some(entry.clone())))?;
            }
            return Ok(Some(entry));
        }
        Ok(None)
    }
}

fn next_of(listing: &mut Listing) -> Result<Vec<Entry>, Errno> {
    let mut entries = listing.take(BATCH_ENTRIES)?;
    entries.reverse();
    Ok(entries)
}

impl Iterator for Walk {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose().map(|step| {
            step.map_err(|(errno, at)| {
                let path = at.map_or_else(|| b"/".to_vec(), |entry| entry.path());
                Error::new("list", &path, errno)
            })
        })
    }
}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Walk");
        out.field("depth", &self.levels.len())
            .finish_non_exhaustive()
    }
}
