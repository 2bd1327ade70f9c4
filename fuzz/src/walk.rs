//! Path walks from a directory below the root: none leaves it.

use std::collections::BTreeSet;

use stratafs::meta::{FileId, Kind};
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

use super::feed::Feed;
use super::instance::BASE;

/// Makes links as the bytes say and walks paths through them.
///
/// # Panics
///
/// If a walk ends outside of the directory it started in, or two calls do not
/// agree on where it ends.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let fs = Fs::new(&BASE);
    let root = fs.root().expect("the root");
    let start = root.open_at(Follow::Yes, b"d", OpenFlags::DIRECTORY, Access::READ);
    let start = start.expect("a directory");
    while !feed.is_empty() {
        let (target, path) = (feed.path(), feed.path());
        // Refused or made: both are fine.
        let _made = start.symlink_at(&target, &path);
        let path = feed.path();
        let follow = if feed.coin() { Follow::Yes } else { Follow::No };
        let Ok(stat) = start.stat_at(follow, &path) else {
            continue;
        };
        assert!(below(&start).contains(&stat.id), "{path:?} leads out");
        match start.open_at(follow, &path, OpenFlags::empty(), Access::READ) {
            Ok(opened) => assert_eq!(opened.id(), stat.id, "{path:?}"),
            Err(errno) => assert_eq!(stat.kind, Kind::Symlink, "{path:?}: {errno}"),
        }
    }
    assert_eq!(fs.check(), Ok(()));
}

/// All objects in and below a directory.
fn below(start: &Descriptor) -> BTreeSet<FileId> {
    let mut seen = BTreeSet::from([start.id()]);
    let mut dirs = vec![start.try_clone().expect("a descriptor")];
    while let Some(dir) = dirs.pop() {
        for entry in dir.read_dir(0, usize::MAX).expect("a listing") {
            seen.insert(entry.id);
            if entry.kind == Kind::Dir {
                let flags = OpenFlags::DIRECTORY;
                let below = dir.open_at(Follow::No, &entry.name, flags, Access::READ);
                dirs.push(below.expect("a directory"));
            }
        }
    }
    seen
}
