//! Errors in the order that docs/SEMANTICS.md gives: each line below could
//! fail for the reasons of all lines after it, too.

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Quota, Rights, SetTime};

use crate::support::tree::{image, make, view};

const BOTH: Access = Access::READ.union(Access::WRITE);
const LONG: &[u8] = &[b'n'; 256];

/// A base for all of them.
fn base() -> Image {
    image(&["d/\n d/in = in\n e/\n f = f\n l -> f\n dangling -> nowhere\n loop -> loop"])
}

/// What the errors of a call depend on besides its arguments.
struct Places {
    /// Everything is allowed.
    root: Descriptor,
    /// A read-only preopen of a read-only instance.
    locked: Descriptor,
    /// A read-only instance.
    frozen: Descriptor,
    /// An instance whose quotas are used up.
    full: Descriptor,
    /// A directory that has been removed.
    gone: Descriptor,
    /// A file, not a directory.
    file: Descriptor,
}

fn places() -> Places {
    let image = base();
    let frozen = Fs::builder(&image).read_only().build();
    let full = Fs::builder(&image).max_bytes(0).max_inodes(0).build();
    let root = Fs::new(&image).root().unwrap();
    root.create_dir_at(b"gone").unwrap();
    let gone = view(&root, "gone");
    root.remove_dir_at(b"gone").unwrap();
    Places {
        file: view(&frozen.root().unwrap(), "f"),
        locked: frozen.preopen(b"/", Rights::ReadOnly).unwrap().into(),
        frozen: frozen.root().unwrap().into(),
        full: full.root().unwrap().into(),
        gone,
        root: root.into(),
    }
}

#[track_caller]
fn in_order(results: &[(Result<(), Errno>, Errno)]) {
    for (at, (result, want)) in results.iter().enumerate() {
        assert_eq!(*result, Err(*want), "line {at}");
    }
}

#[test]
fn errors_of_paths_in_order() {
    let Places { root, .. } = places();
    let stat = |path: &[u8]| root.stat_at(Follow::Yes, path).map(drop);
    let long = [&[b'/', 0][..], &vec![b'x'; 4096]].concat();
    in_order(&[
        (stat(b""), Errno::NoEntry),
        (stat(&long), Errno::NameTooLong),
        (stat(b"/\0"), Errno::Invalid),
        (stat(&[b"/", LONG].concat()), Errno::NotPermitted),
        (stat(&[LONG, b"/../.."].concat()), Errno::NameTooLong),
        (stat(b"nope/../.."), Errno::NoEntry),
        (stat(b"f/../.."), Errno::NotDirectory),
        (stat(b"f/."), Errno::NotDirectory),
        (stat(b"d/../../loop"), Errno::NotPermitted),
        (stat(b"loop/.."), Errno::Loop),
        (stat(b"loop/nope"), Errno::Loop),
        (stat(b"dangling"), Errno::NoEntry),
        (stat(b"f/"), Errno::NotDirectory),
        (stat(b"l/"), Errno::NotDirectory),
    ]);
}

#[test]
fn errors_of_open_in_order() {
    let Places {
        root,
        locked,
        frozen,
        full,
        gone,
        file,
    } = places();
    let (create, directory) = (OpenFlags::CREATE, OpenFlags::DIRECTORY);
    let exclusive = create | OpenFlags::EXCLUSIVE;
    let open = |dir: &Descriptor, path: &[u8], flags, access| {
        dir.open_at(Follow::No, path, flags, access).map(drop)
    };
    let none = OpenFlags::empty();
    in_order(&[
        (
            open(&file, b"", create | directory, BOTH),
            Errno::NotDirectory,
        ),
        (open(&locked, b"", create | directory, BOTH), Errno::Invalid),
        (open(&locked, b"", none, Access::WRITE), Errno::NotPermitted),
        (
            open(&locked, b"", OpenFlags::TRUNCATE, Access::READ),
            Errno::NotPermitted,
        ),
        (open(&frozen, b"", create, Access::empty()), Errno::ReadOnly),
        (open(&full, b"nope/new", create, BOTH), Errno::NoEntry),
        (open(&full, b"d/", exclusive, BOTH), Errno::IsDirectory),
        (open(&full, b"l/", exclusive, BOTH), Errno::IsDirectory),
        (open(&full, b"dangling", exclusive, BOTH), Errno::Exist),
        (open(&full, b"d", exclusive, BOTH), Errno::Exist),
        (open(&full, b"dangling", create, BOTH), Errno::Loop),
        (open(&full, b"l", directory, BOTH), Errno::Loop),
        (open(&full, b"d", none, BOTH), Errno::IsDirectory),
        (open(&full, b".", create, BOTH), Errno::IsDirectory),
        (open(&full, b"f", directory, BOTH), Errno::NotDirectory),
        (open(&full, b"f/", none, BOTH), Errno::NotDirectory),
        (open(&full, b"nope", none, BOTH), Errno::NoEntry),
        (open(&gone, b"new", create, BOTH), Errno::NoEntry),
        (open(&full, b"new", create, BOTH), Errno::NoSpace),
    ]);
    let fs = Fs::builder(&base()).max_open(1).max_inodes(0).build();
    let last = fs.root().unwrap();
    in_order(&[
        (open(&last, b"d", none, BOTH), Errno::IsDirectory),
        (open(&last, b"new", create, BOTH), Errno::TooManyOpen),
        (open(&last, b"f", none, Access::READ), Errno::TooManyOpen),
    ]);
    assert!(open(&root, b"new", create, Access::empty()).is_ok());
}

#[test]
fn errors_of_reading_and_writing_in_order() {
    let Places {
        root, full, frozen, ..
    } = places();
    let mut buf = [0; 4];
    let write_only = root
        .open_at(Follow::Yes, b"f", OpenFlags::empty(), Access::WRITE)
        .unwrap();
    let reader = view(&root, "f");
    in_order(&[
        (
            root.read_at(&mut buf, u64::MAX).map(drop),
            Errno::BadDescriptor,
        ),
        (
            write_only.read_at(&mut buf, u64::MAX).map(drop),
            Errno::BadDescriptor,
        ),
        (write_only.read_bytes(0, 1).map(drop), Errno::BadDescriptor),
        (
            root.write_at(b"x", u64::MAX).map(drop),
            Errno::BadDescriptor,
        ),
        (
            reader.write_at(b"x", u64::MAX).map(drop),
            Errno::BadDescriptor,
        ),
        (reader.append(b"x").map(drop), Errno::BadDescriptor),
        (frozen.append(b"x").map(drop), Errno::BadDescriptor),
    ]);
    let file = full
        .open_at(Follow::Yes, b"f", OpenFlags::empty(), BOTH)
        .unwrap();
    in_order(&[
        (file.write_at(b"x", u64::MAX).map(drop), Errno::FileTooLarge),
        (file.write_at(b"x", 0).map(drop), Errno::NoSpace),
        (file.append(b"x").map(drop), Errno::NoSpace),
    ]);
    assert_eq!(file.write_at(b"", u64::MAX), Ok(0));
    assert_eq!(file.read_at(&mut buf, u64::MAX), Ok(0));
}

#[test]
fn errors_of_set_size_in_order() {
    let Places {
        root,
        locked,
        frozen,
        ..
    } = places();
    let huge = u64::MAX;
    in_order(&[
        (locked.set_size(huge), Errno::BadDescriptor),
        (view(&locked, "f").set_size(huge), Errno::NotPermitted),
        (view(&frozen, "f").set_size(huge), Errno::Invalid),
        (make(&root, "new", "").set_size(huge), Errno::FileTooLarge),
    ]);
}

#[test]
fn errors_of_set_times_in_order() {
    let Places {
        root,
        locked,
        frozen,
        file,
        ..
    } = places();
    let now = SetTime::Now;
    let set = |dir: &Descriptor, path: &[u8]| dir.set_times_at(Follow::Yes, path, now, now);
    in_order(&[
        (set(&file, b""), Errno::NotDirectory),
        (set(&locked, b""), Errno::NotPermitted),
        (view(&locked, "f").set_times(now, now), Errno::NotPermitted),
        (set(&frozen, b""), Errno::ReadOnly),
        (file.set_times(now, now), Errno::ReadOnly),
        (set(&root, b"loop"), Errno::Loop),
        (set(&root, b"f/"), Errno::NotDirectory),
        (set(&root, b"dangling"), Errno::NoEntry),
    ]);
    assert_eq!(root.set_times_at(Follow::No, b"dangling", now, now), Ok(()));
    // Nothing to set is still a change that is not allowed.
    assert_eq!(
        file.set_times(SetTime::Keep, SetTime::Keep),
        Err(Errno::ReadOnly)
    );
}

#[test]
fn errors_of_make_directory_in_order() {
    let Places {
        root,
        locked,
        frozen,
        full,
        gone,
        file,
    } = places();
    in_order(&[
        (file.create_dir_at(b""), Errno::NotDirectory),
        (locked.create_dir_at(b""), Errno::NotPermitted),
        (frozen.create_dir_at(b""), Errno::ReadOnly),
        (full.create_dir_at(b"nope/new"), Errno::NoEntry),
        (full.create_dir_at(b"f/new"), Errno::NotDirectory),
        (full.create_dir_at(b"."), Errno::Exist),
        (full.create_dir_at(b"d/.."), Errno::Exist),
        (full.create_dir_at(b"dangling/"), Errno::Exist),
        (gone.create_dir_at(b"new"), Errno::NoEntry),
        (full.create_dir_at(b"new"), Errno::NoSpace),
    ]);
    assert_eq!(root.create_dir_at(b"new//"), Ok(()));
}

#[test]
fn errors_of_remove_directory_in_order() {
    let Places {
        root,
        locked,
        frozen,
        file,
        ..
    } = places();
    let pinned = root.fs().preopen(b"d", Rights::ReadWrite).unwrap();
    in_order(&[
        (file.remove_dir_at(b""), Errno::NotDirectory),
        (locked.remove_dir_at(b""), Errno::NotPermitted),
        (frozen.remove_dir_at(b""), Errno::ReadOnly),
        (root.remove_dir_at(b"nope/.."), Errno::NoEntry),
        (root.remove_dir_at(b"d/."), Errno::Invalid),
        (root.remove_dir_at(b"d/.."), Errno::Invalid),
        (root.remove_dir_at(b"nope"), Errno::NoEntry),
        (root.remove_dir_at(b"l"), Errno::NotDirectory),
        (root.remove_dir_at(b"d"), Errno::Busy),
    ]);
    drop(pinned);
    // A link with a slash after it is no directory to remove, and one that leads out is
    // not even looked at.
    for (target, errno) in [
        (&b"e"[..], Errno::NotDirectory),
        (b"nowhere", Errno::NotDirectory),
        (b"..", Errno::NotPermitted),
        (b"../../e", Errno::NotPermitted),
    ] {
        root.symlink_at(target, b"way").unwrap();
        assert_eq!(root.remove_dir_at(b"way/"), Err(errno), "{target:?}");
        assert_eq!(root.remove_dir_at(b"way"), Err(Errno::NotDirectory));
        root.unlink_at(b"way").unwrap();
    }
    assert_eq!(root.remove_dir_at(b"d"), Err(Errno::NotEmpty));
    assert_eq!(root.remove_dir_at(b"e/"), Ok(()));
}

#[test]
fn errors_of_unlink_in_order() {
    let Places {
        root,
        locked,
        frozen,
        file,
        ..
    } = places();
    in_order(&[
        (file.unlink_at(b""), Errno::NotDirectory),
        (locked.unlink_at(b""), Errno::NotPermitted),
        (frozen.unlink_at(b""), Errno::ReadOnly),
        (root.unlink_at(b"nope/.."), Errno::NoEntry),
        (root.unlink_at(b"f/"), Errno::NotDirectory),
        (root.unlink_at(b"dangling/"), Errno::NoEntry),
        (root.unlink_at(b"d/."), Errno::IsDirectory),
        (root.unlink_at(b"d/"), Errno::IsDirectory),
        (root.unlink_at(b"nope"), Errno::NoEntry),
    ]);
    assert_eq!(root.unlink_at(b"dangling"), Ok(()));
}

#[test]
fn errors_of_symlink_in_order() {
    let Places {
        root,
        locked,
        frozen,
        full,
        gone,
        file,
    } = places();
    let long = [&[0][..], &vec![b'x'; 4096]].concat();
    in_order(&[
        (file.symlink_at(b"", b""), Errno::NotDirectory),
        (locked.symlink_at(b"", b""), Errno::NotPermitted),
        (frozen.symlink_at(b"", b""), Errno::ReadOnly),
        (full.symlink_at(b"", b"/"), Errno::NoEntry),
        (full.symlink_at(&long, b"/"), Errno::NameTooLong),
        (full.symlink_at(b"\0", b"/"), Errno::Invalid),
        (full.symlink_at(b"x", b"/"), Errno::NotPermitted),
        (full.symlink_at(b"x", b"f/"), Errno::NotDirectory),
        (full.symlink_at(b"x", b"new/"), Errno::NoEntry),
        (full.symlink_at(b"x", b"d/"), Errno::Exist),
        (full.symlink_at(b"x", b"."), Errno::Exist),
        (full.symlink_at(b"x", b"dangling"), Errno::Exist),
        (gone.symlink_at(b"x", b"new"), Errno::NoEntry),
        (full.symlink_at(b"x", b"new"), Errno::NoSpace),
    ]);
    assert_eq!(root.symlink_at(b"x", b"new"), Ok(()));
}

#[test]
fn errors_of_readlink_in_order() {
    let Places { root, file, .. } = places();
    let read = |dir: &Descriptor, path: &[u8]| dir.readlink_at(path).map(drop);
    in_order(&[
        (read(&file, b""), Errno::NotDirectory),
        (read(&root, b"nope/.."), Errno::NoEntry),
        (read(&root, b"l/"), Errno::NotDirectory),
        (read(&root, b"nope"), Errno::NoEntry),
        (read(&root, b"."), Errno::Invalid),
        (read(&root, b"f"), Errno::Invalid),
    ]);
    assert_eq!(&root.readlink_at(b"l").unwrap()[..], b"f");
}

#[test]
fn errors_of_link_in_order() {
    let Places {
        root,
        locked,
        frozen,
        full,
        gone,
        file,
    } = places();
    let link =
        |from: &Descriptor, old: &[u8], to: &Descriptor, new: &[u8]| from.link_at(old, to, new);
    in_order(&[
        (link(&locked, b"", &file, b""), Errno::NotDirectory),
        (link(&root, b"", &locked, b""), Errno::NotPermitted),
        (link(&locked, b"", &root, b""), Errno::NotPermitted),
        (link(&frozen, b"", &root, b""), Errno::CrossDevice),
        (link(&frozen, b"", &frozen, b""), Errno::ReadOnly),
        (link(&root, b"f/", &root, b".."), Errno::NotDirectory),
        (link(&root, b"nope", &root, b"../x"), Errno::NotPermitted),
        (link(&root, b"nope", &root, b"f/"), Errno::NotDirectory),
        (link(&root, b"nope", &root, b"d"), Errno::NoEntry),
        (link(&root, b"d", &root, b"dangling"), Errno::Exist),
        (link(&root, b"d", &root, b"."), Errno::Exist),
        (link(&root, b"d", &gone, b"new"), Errno::NoEntry),
        (link(&root, b"d/", &root, b"new"), Errno::NotPermitted),
        (link(&full, b"f", &full, b"new"), Errno::NoSpace),
    ]);
    assert_eq!(link(&root, b"dangling", &root, b"new"), Ok(()));
}

#[test]
fn errors_of_rename_in_order() {
    let Places {
        root,
        locked,
        frozen,
        gone,
        file,
        ..
    } = places();
    let pinned = root.fs().preopen(b"d", Rights::ReadWrite).unwrap();
    let rename =
        |from: &Descriptor, old: &[u8], to: &Descriptor, new: &[u8]| from.rename_at(old, to, new);
    in_order(&[
        (rename(&locked, b"", &file, b""), Errno::NotDirectory),
        (rename(&root, b"", &locked, b""), Errno::NotPermitted),
        (rename(&frozen, b"", &root, b""), Errno::CrossDevice),
        (rename(&frozen, b"", &frozen, b""), Errno::ReadOnly),
        (rename(&root, b"f/.", &root, b".."), Errno::NotDirectory),
        (rename(&root, b".", &root, b"../x"), Errno::NotPermitted),
        (rename(&root, b".", &root, b"nope"), Errno::Busy),
        (rename(&root, b"nope", &root, b"d/."), Errno::Busy),
        (rename(&root, b"nope", &root, b"d"), Errno::NoEntry),
        (rename(&root, b"f/", &root, b"d"), Errno::NotDirectory),
        (rename(&root, b"f", &root, b"new/"), Errno::NotDirectory),
        (rename(&root, b"d", &gone, b"new"), Errno::NoEntry),
        (rename(&root, b"d", &root, b"d/in"), Errno::Invalid),
        (rename(&root, b"d/in", &root, b"d"), Errno::NotEmpty),
        (rename(&root, b"f", &root, b"d"), Errno::IsDirectory),
        (rename(&root, b"d", &root, b"f"), Errno::NotDirectory),
        (rename(&root, b"e", &root, b"d"), Errno::Busy),
    ]);
    drop(pinned);
    assert_eq!(rename(&root, b"e", &root, b"d"), Err(Errno::NotEmpty));
    assert_eq!(rename(&root, b"d/", &root, b"e/"), Ok(()));
}

#[test]
fn errors_of_list_in_order() {
    let Places { file, gone, .. } = places();
    assert_eq!(file.read_dir(u64::MAX, 0), Err(Errno::NotDirectory));
    assert_eq!(file.read_dir(u64::MAX, 1), Err(Errno::NotDirectory));
    assert_eq!(gone.read_dir(0, 1), Ok(Vec::new()));
    let quota = gone.fs().quota();
    assert_eq!(quota, Quota::default());
}
