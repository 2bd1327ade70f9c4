//! Two forks that go apart, merged; and what changed between their states.

use stratafs::chunk::Scope;
use stratafs::vfs::{Access, Change, Follow, Fs, MergeError, OpenFlags, Snapshot, TreePath};

use super::feed::Feed;
use super::instance::BASE;

/// Changes of one side.
const CHANGES: usize = 20;

/// Changes a common state on two sides, merges one into the other, and holds
/// what is told of it against the trees.
///
/// # Panics
///
/// If a merge fails in another way than by conflicts or quota, is half done, or
/// leaves something to be done; if changes name what is not there; if sealing
/// makes a difference.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let ours = Fs::builder(&BASE)
        .share(&Scope::new())
        .max_bytes([60_000, 1 << 20][feed.below(2)])
        .max_inodes(60)
        .build();
    change(&mut feed, &ours);
    let base = ours.snapshot();
    let theirs = base.fork();
    change(&mut feed, &theirs);
    change(&mut feed, &ours);
    let (here, there) = (ours.snapshot(), theirs.snapshot());
    for (one, two) in [(&base, &here), (&base, &there), (&here, &there)] {
        judge_changes(one, two);
        judge_changes(two, one);
    }
    ours.seal();
    let sealed = ours.snapshot();
    let told = here.changes_to(&sealed).expect("states of one image");
    assert!(told.is_empty(), "sealing is told of: {told:?}");
    let outcome = ours.merge(&base, &there);
    assert_eq!(ours.check(), Ok(()));
    let plain = here.fork();
    let again = plain.merge(&base, &there);
    let kind = |outcome: &Result<(), MergeError>| outcome.as_ref().err().cloned();
    assert_eq!(kind(&outcome), kind(&again), "sealing makes a difference");
    let now = ours.snapshot();
    match outcome {
        Ok(()) => {
            // Once more from there on is nothing.
            let next = now.fork();
            assert_eq!(next.merge(&now, &now), Ok(()));
            let told = now.changes_to(&next.snapshot());
            assert_eq!(told, Ok(Vec::new()));
        }
        Err(MergeError::Conflicts(all)) => {
            assert!(!all.is_empty());
            let told = sealed.changes_to(&now);
            assert_eq!(told, Ok(Vec::new()), "a merge was half done");
        }
        Err(error) => assert_eq!(error, stratafs::errno::Errno::NoSpace.into()),
    }
}

/// Holds the names that are told against both trees.
fn judge_changes(one: &Snapshot, two: &Snapshot) {
    let changes = one.changes_to(two).expect("states of one image");
    assert!(changes.is_sorted_by_key(Change::path), "{changes:?}");
    let (before, after) = (one.fork(), two.fork());
    let is_there = |fs: &Fs, path: &TreePath| fs.symlink_metadata(full(path)).is_ok();
    for change in &changes {
        let sound = match change {
            Change::Added { path, .. } | Change::Meta { path, .. } => is_there(&after, path),
            Change::Content { path, ranges, .. } => {
                let apart = ranges.is_sorted_by(|one, two| one.end < two.start);
                let full = ranges.iter().all(|range| range.start < range.end);
                is_there(&after, path) && apart && full && !ranges.is_empty()
            }
            Change::Removed { path, .. } => is_there(&before, path),
            Change::Renamed { from, to, .. } => is_there(&before, from) && is_there(&after, to),
            other => unreachable!("{other:?} is not known"),
        };
        assert!(sound, "{change:?} is not so");
    }
}

fn full(path: &TreePath) -> Vec<u8> {
    [&b"/"[..], &path.to_bytes()].concat()
}

/// Changes an instance as the bytes say. What cannot be done is left.
fn change(feed: &mut Feed<'_>, fs: &Fs) {
    for _ in 0..feed.below(CHANGES) {
        if feed.is_empty() {
            return;
        }
        let (one, two) = (feed.path(), feed.path());
        match feed.below(10) {
            0 => drop(fs.create_dir(&one)),
            1 => drop(fs.remove_dir_all(&one)),
            2 => drop(fs.remove_file(&one)),
            3 | 4 => drop(fs.rename(&one, &two)),
            5 => drop(fs.hard_link(&one, &two)),
            6 => drop(fs.symlink(&one, &two)),
            7 => {
                fs.seal();
            }
            _ => write(feed, fs, &one),
        }
    }
}

/// Writes into a file or sets its size.
fn write(feed: &mut Feed<'_>, fs: &Fs, path: &[u8]) {
    let Ok(top) = fs.root() else { return };
    let access = Access::READ | Access::WRITE;
    let Ok(file) = top.open_at(Follow::Yes, path, OpenFlags::CREATE, access) else {
        return;
    };
    if feed.coin() {
        let _ = file.set_size(feed.number());
    } else {
        let offset = feed.number();
        let _ = file.write_at(&vec![feed.byte(); 1 + 40 * feed.below(200)], offset);
    }
}
