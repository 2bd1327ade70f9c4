//! What the lock of an instance guards: its overlay, and which directories
//! walks came through.
//!
//! What depth costs is walking. So an instance remembers where the path before
//! the last name of a walk led, by the bytes of that path and the directory
//! that it started in. It holds as long as [`Overlay::turns`] stands: names of
//! files come and go without it, only a directory or link that is taken from
//! its place turns a path. The last name is looked up each time.
//!
//! Walks of guests under rules are not remembered, nor walks across mounts, nor
//! paths of more than [`MAX_REMEMBERED_BYTES`]. An instance that walks through few
//! directories takes no memory for it.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::meta::FileId;
use crate::overlay::Overlay;

/// How many paths are remembered. A power of two.
const PLACES: usize = 16;

/// Bytes of the longest one that needs no memory of its own: a place is two lines
/// of a processor's cache.
const PLACE_BYTES: usize = 86;

/// Bytes of the longest one: all places together take at most 18 KiB.
const MAX_REMEMBERED_BYTES: usize = 1024;

/// Walks that nothing is remembered of: an instance may make few.
const PATIENCE: u32 = 16;

/// The state of an instance.
pub(super) struct FsState {
    overlay: Overlay,
    parents: RefCell<Parents>,
}

impl FsState {
    #[inline]
    pub(super) fn new(overlay: Overlay) -> Self {
        Self {
            overlay,
            parents: RefCell::default(),
        }
    }

    /// The directory that `path` leads to from the directory `start`, if a walk
    /// of the same bytes has found it and nothing has turned since.
    #[inline]
    pub(super) fn remembered(&self, start: FileId, path: &[u8]) -> Option<FileId> {
        let parents = self.parents.borrow();
        let place = parents.places.as_deref()?.get(place_of(start, path))?;
        let found = place.turns == self.overlay.turns()
            && place.start == Some(start)
            && place.path() == path;
        found.then_some(place.dir)
    }

    /// Remembers that `path` leads from `start` to the directory `dir`.
    pub(super) fn remember(&self, start: FileId, path: &[u8], dir: FileId) {
        if path.len() > MAX_REMEMBERED_BYTES {
            return;
        }
        let mut parents = self.parents.borrow_mut();
        if parents.walks < PATIENCE {
            parents.walks += 1;
            return;
        }
        let places = parents.places.get_or_insert_with(Default::default);
        if let Some(place) = places.get_mut(place_of(start, path)) {
            place.turns = self.overlay.turns();
            place.start = Some(start);
            place.dir = dir;
            place.set_path(path);
        }
    }
}

impl Deref for FsState {
    type Target = Overlay;

    #[inline]
    fn deref(&self) -> &Overlay {
        &self.overlay
    }
}

impl DerefMut for FsState {
    #[inline]
    fn deref_mut(&mut self) -> &mut Overlay {
        &mut self.overlay
    }
}

/// Where paths led. Each has one place that it can be in.
#[derive(Default)]
struct Parents {
    places: Option<Box<[CachedPath; PLACES]>>,
    /// Walks that could have been remembered and were not.
    walks: u32,
}

/// One path, and where it led.
struct CachedPath {
    turns: u64,
    /// Absent in a place that was never taken.
    start: Option<FileId>,
    dir: FileId,
    /// The path, if it is longer than `short`.
    long: Option<Box<[u8]>>,
    len: u8,
    short: [u8; PLACE_BYTES],
}

impl CachedPath {
    #[inline]
    fn path(&self) -> &[u8] {
        match &self.long {
            Some(path) => path,
            None => self.short.get(..usize::from(self.len)).unwrap_or_default(),
        }
    }

    fn set_path(&mut self, path: &[u8]) {
        match (self.short.get_mut(..path.len()), u8::try_from(path.len())) {
            (Some(short), Ok(len)) => {
                short.copy_from_slice(path);
                (self.long, self.len) = (None, len);
            }
            _ => self.long = Some(path.into()),
        }
    }
}

impl Default for CachedPath {
    fn default() -> Self {
        Self {
            turns: 0,
            start: None,
            dir: FileId::ROOT,
            long: None,
            len: 0,
            short: [0; PLACE_BYTES],
        }
    }
}

#[inline]
fn place_of(start: FileId, path: &[u8]) -> usize {
    let hash = xxh3_64_with_seed(path, start.get());
    usize::try_from(hash & (PLACES as u64 - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkPool;
    use crate::errno::Errno;
    use crate::image::Image;
    use crate::layer::LayerBuilder;
    use crate::meta::Meta;
    use crate::name::LayerPath;
    use crate::steps;
    use crate::vfs::{Follow, Fs, Rights, Rule, Snapshot};

    /// Paths that lead through directories and links, and past their ends.
    const PATHS: [&str; 16] = [
        "a/b/f",
        "a/b/new",
        "a/b/l",
        "a/b/l/f",
        "a/./b/f",
        "a//b/f",
        "a/../a/b/f",
        "a/b/../b/f",
        "a/b/f/",
        "a/b/",
        "a/b/.",
        "a/b/..",
        "l/f",
        "l/l/f",
        "c/b/f",
        "c/f",
    ];

    /// `a/b/f`, `a/b/l` that leads to `c`, `c/f`, `l` that leads to `a/b`.
    fn tree() -> Fs {
        let mut layer = LayerBuilder::new();
        let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
        for dir in ["a", "a/b", "c"] {
            layer.dir(&path(dir), Meta::with_mode(0o755)).unwrap();
        }
        let meta = Meta::with_mode(0o644);
        for link in [("l", "a/b"), ("a/b/l", "../../c")] {
            layer
                .symlink(&path(link.0), meta.clone(), link.1.as_bytes())
                .unwrap();
        }
        let fs = Fs::new(&Image::new(&[layer.finish().unwrap()]).unwrap());
        fs.write("/a/b/f", "1").unwrap();
        fs.write("/c/f", "2").unwrap();
        fs
    }

    fn told(fs: &Fs, path: &str, follow: Follow) -> Result<FileId, Errno> {
        let root = fs.root().unwrap();
        root.stat_at(follow, path.as_bytes()).map(|stat| stat.id)
    }

    /// Compares what an instance finds with what one finds that remembers
    /// nothing.
    #[track_caller]
    fn assert_fresh(fs: &Fs, after: &str) {
        for path in PATHS {
            for follow in [Follow::Yes, Follow::No] {
                let (found, fresh) = (told(fs, path, follow), told(&fs.fork(), path, follow));
                assert_eq!(found, fresh, "{path}, {follow:?}, after {after}");
            }
        }
    }

    /// Walks until walks are remembered.
    fn walk(fs: &Fs) {
        for _ in 0..PATIENCE {
            for path in PATHS {
                let _ = told(fs, path, Follow::Yes);
            }
        }
    }

    fn remembers(fs: &Fs, path: &[u8]) -> bool {
        fs.lock().remembered(FileId::ROOT, path).is_some()
    }

    #[test]
    fn each_way_to_turn_a_path_is_noticed() {
        type Change = fn(&Fs);
        let before = |fs: &Fs| -> Snapshot { fs.snapshot() };
        let changes: [(&str, Change); 12] = [
            ("a rename", |fs| fs.rename("/a/b", "/a/x").unwrap()),
            ("a rename above", |fs| fs.rename("/a", "/z").unwrap()),
            ("another in its place", |fs| {
                fs.rename("/a/b", "/x").unwrap();
                fs.rename("/c", "/a/b").unwrap();
            }),
            ("a removal", |fs| fs.remove_dir_all("/a").unwrap()),
            ("a file in its place", |fs| {
                fs.remove_dir_all("/a/b").unwrap();
                fs.write("/a/b", "file").unwrap();
            }),
            ("a link in its place", |fs| {
                fs.rename("/a/b", "/a/x").unwrap();
                fs.symlink("../c", "/a/b").unwrap();
            }),
            ("another link", |fs| {
                fs.remove_file("/l").unwrap();
                fs.symlink("c", "/l").unwrap();
            }),
            ("a file over a link", |fs| fs.rename("/c/f", "/l").unwrap()),
            ("going back", |fs| {
                fs.restore(&Snapshot::of(fs.image())).unwrap();
            }),
            ("a merge", |fs| {
                let base = fs.snapshot();
                let theirs = base.fork();
                theirs.rename("/a/b", "/a/x").unwrap();
                fs.merge(&base, &theirs.snapshot()).unwrap();
            }),
            ("a layer", |fs| {
                let other = fs.fork();
                other.remove_dir_all("/a/b").unwrap();
                other.write("/a/b", "file").unwrap();
                fs.apply(b"/", &other.diff(&ChunkPool::new()).unwrap())
                    .unwrap();
            }),
            ("a rule", |fs| fs.set_rule(b"/a", Rule::Hidden).unwrap()),
        ];
        for (what, change) in changes {
            let fs = tree();
            walk(&fs);
            assert!(remembers(&fs, b"a/b") && remembers(&fs, b"l"), "{what}");
            let (kept, turns) = (before(&fs), fs.lock().turns());
            change(&fs);
            assert_fresh(&fs, what);
            if what == "a rule" {
                continue;
            }
            assert!(fs.lock().turns() > turns, "{what}");
            walk(&fs);
            assert_fresh(&fs, what);
            fs.restore(&kept).unwrap();
            assert_fresh(&fs, what);
        }
    }

    #[test]
    fn mounts_lead_where_they_did() {
        let (fs, other) = (tree(), tree());
        other.write("/only", "there").unwrap();
        walk(&fs);
        fs.mount(b"/a/b", &other, b"/", Rights::ReadWrite).unwrap();
        walk(&fs);
        assert_fresh(&fs, "a mount");
        let root = fs.root().unwrap();
        assert!(root.stat_at(Follow::Yes, b"a/b/only").is_ok());
        other.rename("/a", "/z").unwrap();
        assert_eq!(told(&fs, "a/b/a/b/f", Follow::Yes), Err(Errno::NoEntry));
        assert!(told(&fs, "a/b/z/b/f", Follow::Yes).is_ok());
    }

    #[test]
    fn files_come_and_go_without_a_turn() {
        let fs = tree();
        walk(&fs);
        let turns = fs.lock().turns();
        fs.write("/a/b/new", "").unwrap();
        assert!(told(&fs, "a/b/new", Follow::Yes).is_ok());
        fs.rename("/a/b/new", "/c/new").unwrap();
        assert_eq!(told(&fs, "a/b/new", Follow::Yes), Err(Errno::NoEntry));
        fs.remove_file("/c/new").unwrap();
        fs.create_dir("/a/b/dir").unwrap();
        fs.symlink("nowhere", "/a/b/link").unwrap();
        assert_eq!(fs.lock().turns(), turns);
        assert!(remembers(&fs, b"a/b"));
        assert_fresh(&fs, "files");
    }

    #[test]
    fn what_depth_costs_is_paid_once() {
        let fs = tree();
        let dirs: Vec<String> = (0..400).map(|at| format!("{at}")).collect();
        let deep = dirs.join("/");
        fs.create_dir_all(format!("/{deep}")).unwrap();
        let path = format!("{deep}/f");
        assert!(
            deep.len() > MAX_REMEMBERED_BYTES,
            "too long to be remembered"
        );
        let steps = |path: &str| steps::counted(|| assert!(told(&fs, path, Follow::Yes).is_err()));
        let first = steps(&path);
        walk(&fs);
        assert_eq!(steps(&path), first);
        // One that has room in its place, and one that needs memory of its own.
        for depth in [30, 60, 200] {
            let shorter = format!("{}/f", dirs[..depth].join("/"));
            let first = steps(&shorter);
            assert!(steps(&shorter) * 10 < first, "depth {depth}");
        }
        // Another start is another path.
        let top = fs.root().unwrap();
        assert!(remembers(&fs, dirs[..200].join("/").as_bytes()));
        assert!(top.stat_at(Follow::Yes, b"a/b/f").is_ok());
        assert!(fs.lock().remembered(top.id(), b"b").is_none());
    }

    #[test]
    fn an_instance_that_walks_little_takes_no_memory_and_shares_none() {
        let fs = tree();
        for _ in 0..PATIENCE / 2 {
            assert!(told(&fs, "a/b/f", Follow::Yes).is_ok());
        }
        let places = |fs: &Fs| fs.lock().parents.borrow().places.is_some();
        assert!(!places(&fs));
        walk(&fs);
        assert!(places(&fs) && !places(&fs.fork()) && !places(&fs.snapshot().fork()));
        let fork = fs.fork();
        walk(&fork);
        fs.rename("/a", "/z").unwrap();
        assert!(told(&fork, "a/b/f", Follow::Yes).is_ok());
        assert_eq!(told(&fs, "a/b/f", Follow::Yes), Err(Errno::NoEntry));
    }

    #[test]
    fn random_changes_turn_no_path_unnoticed() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut pick = |from: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % from as u64).unwrap()
        };
        let names = ["a", "b", "c", "l", "f"];
        let fs = tree();
        let mut kept = fs.snapshot();
        for round in 0..3_000 {
            let mut path = || {
                let parts: Vec<_> = (0..=pick(3)).map(|_| names[pick(names.len())]).collect();
                format!("/{}", parts.join("/"))
            };
            let (one, two) = (path(), path());
            // Many of these fail, which is as good.
            let done = match pick(9) {
                0 => fs.rename(one, two),
                1 => fs.create_dir_all(one),
                2 => fs.remove_dir(one),
                3 => fs.remove_file(one),
                4 => fs.symlink(two.trim_start_matches('/'), one),
                5 => fs.write(one, "x"),
                6 => fs.remove_dir_all(one),
                7 => {
                    kept = fs.snapshot();
                    Ok(())
                }
                _ if round % 7 == 0 => {
                    fs.restore(&kept).unwrap();
                    Ok(())
                }
                _ => Ok(()),
            };
            done.ok();
            for _ in 0..4 {
                let path = (0..=pick(4)).map(|_| names[pick(names.len())]);
                let path = path.collect::<Vec<_>>().join("/");
                for follow in [Follow::Yes, Follow::No] {
                    let fresh = told(&fs.fork(), &path, follow);
                    assert_eq!(told(&fs, &path, follow), fresh, "{path} in round {round}");
                }
            }
        }
    }
}
