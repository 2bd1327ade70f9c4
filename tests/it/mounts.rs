//! Other file systems and files of the host's making at paths of an instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::limits::{MAX_MOUNTS, MAX_PLACES, MAX_VIRTUAL_BYTES};
use stratafs::vfs::{
    Access, Descriptor, Follow, Fs, OpenFlags, Rights, Rule, SetTime, VirtualFile,
};

use crate::support::tree::{bytes, edit, fs, make, names, stat, text_of, tree, view};

const BOTH: Access = Access::READ.union(Access::WRITE);

/// `a/` with `top`, and another file system's `in/` mounted at `a/m`.
fn mounted(rights: Rights) -> (Fs, Fs) {
    let here = fs(&["a/\n a/top = top\n b/\n way -> a/m/f\n abs -> /a/m/sub\n out -> a/m/up"]);
    let there = Fs::builder(&image_there())
        .device(2.try_into().unwrap())
        .build();
    here.mount(b"/a/m", &there, b"/in", rights).unwrap();
    (here, there)
}

fn image_there() -> Image {
    crate::support::tree::image(&[
        "in/\n in/f = there\n in/sub/\n in/sub/g = deep\n in/up -> ../top\n in/root -> /a/top\n \
         secret = outside",
    ])
}

#[test]
fn a_walk_leads_into_a_mount_and_back() {
    let (here, there) = mounted(Rights::ReadWrite);
    let root = here.root().unwrap();
    for path in [
        "a/m/f",
        "a/./m//f",
        "a/m/sub/../f",
        "a/m/sub/../../m/f",
        "way",
        "abs/../f",
        "b/../a/m/f",
    ] {
        assert_eq!(text_of(&root, path), "there", "{path}");
    }
    for path in [
        "a/m/../top",
        "a/m/up",
        "out",
        "a/m/root",
        "a/m/sub/../../top",
    ] {
        assert_eq!(text_of(&root, path), "top", "{path}");
    }
    assert_eq!(names(&view(&root, "a")), ["top", "m"]);
    assert_eq!(names(&view(&root, "a/m/")), ["f", "root", "sub", "up"]);
    assert_eq!(names(&view(&root, "a/m/..")), ["top", "m"]);
    // Nothing above what is mounted, and nothing above the start.
    let gone = root.stat_at(Follow::Yes, b"a/m/../secret");
    assert_eq!(gone, Err(Errno::NoEntry));
    let above = root.stat_at(Follow::Yes, b"a/m/../../../x");
    assert_eq!(above, Err(Errno::NotPermitted));
    let inner = view(&root, "a/m");
    for path in ["../secret", "..", "up", "sub/../../f"] {
        let left = inner.stat_at(Follow::Yes, path.as_bytes());
        assert_eq!(left, Err(Errno::NotPermitted), "{path}");
    }
    let low = here.preopen(b"/a", Rights::ReadWrite).unwrap();
    assert_eq!(text_of(&low, "m/up"), "top");
    let absolute = low.stat_at(Follow::Yes, b"m/root");
    assert_eq!(absolute, Err(Errno::NotPermitted));
    // Live both ways.
    make(&root, "a/m/new", "made");
    assert_eq!(there.read("/in/new").unwrap(), b"made");
    there.write("/in/f", "later").unwrap();
    assert_eq!(here.read("/way").unwrap(), b"later");
    drop((root, inner, low));
    assert_eq!((here.usage().open, there.usage().open), (0, 0));
}

#[test]
fn case_p10_a_mount_stays_and_is_another_device() {
    let (here, there) = mounted(Rights::ReadWrite);
    let root = here.root().unwrap();
    for path in ["a/m", "a/m/"] {
        let path = path.as_bytes();
        assert_eq!(root.remove_dir_at(path), Err(Errno::Busy));
        assert_eq!(root.rename_at(path, &root, b"x"), Err(Errno::Busy));
        assert_eq!(root.rename_at(b"b", &root, path), Err(Errno::Busy));
        assert_eq!(root.create_dir_at(path), Err(Errno::Exist));
        assert_eq!(root.unlink_at(path), Err(Errno::IsDirectory));
        assert_eq!(root.symlink_at(b"x", path), Err(Errno::Exist));
    }
    let cross = Err(Errno::CrossDevice);
    assert_eq!(root.rename_at(b"a/top", &root, b"a/m/x"), cross);
    assert_eq!(root.rename_at(b"a/m/f", &root, b"x"), cross);
    assert_eq!(root.link_at(b"a/m/f", &root, b"x"), cross);
    assert_eq!(root.link_at(b"a/top", &root, b"a/m/x"), cross);
    root.rename_at(b"a/m/f", &root, b"a/m/sub/f").unwrap();
    root.link_at(b"a/m/sub/f", &root, b"way2").unwrap_err();
    root.link_at(b"a/m/sub/f", &root, b"a/m/f").unwrap();
    let (_, device) = root.locate_at(Follow::Yes, b"a/m/f").unwrap();
    assert_eq!(device, 2);
    assert_eq!(root.locate_at(Follow::Yes, b"a").unwrap().1, 1);
    assert_eq!(root.locate_at(Follow::Yes, b"a/m/..").unwrap().1, 1);
    let inside = there.root().unwrap();
    assert_eq!(inside.remove_dir_at(b"in"), Err(Errno::Busy));
    assert_eq!(stat(&root, "a/m").id, stat(&inside, "in").id);
    // The directory above may move, and the mount with it.
    root.rename_at(b"a", &root, b"c").unwrap();
    assert_eq!(text_of(&root, "c/m/f"), "there");
    assert_eq!((here.check(), there.check()), (Ok(()), Ok(())));
}

#[test]
fn rights_of_a_mount_and_of_the_way_to_it_both_hold() {
    let (here, _there) = mounted(Rights::ReadOnly);
    let root = here.root().unwrap();
    let no = Err(Errno::NotPermitted);
    let open = |dir: &Descriptor, path: &str| {
        dir.open_at(Follow::Yes, path.as_bytes(), OpenFlags::empty(), BOTH)
            .map(drop)
    };
    assert_eq!(open(&root, "a/m/f"), no);
    assert_eq!(root.create_dir_at(b"a/m/x"), no);
    assert_eq!(root.unlink_at(b"a/m/f"), no);
    let now = SetTime::Now;
    assert_eq!(root.set_times_at(Follow::Yes, b"a/m/f", now, now), no);
    assert_eq!(view(&root, "a/m").create_dir_at(b"x"), no);
    assert_eq!(open(&root, "a/m/../top"), Ok(()));
    let (here, there) = mounted(Rights::ReadWrite);
    let read_only = here.preopen(b"/", Rights::ReadOnly).unwrap();
    assert_eq!(open(&read_only, "a/m/f"), no);
    there.set_rule(b"/in/sub", Rule::Hidden).unwrap();
    let root = here.root().unwrap();
    let hidden = root.stat_at(Follow::Yes, b"a/m/sub/g");
    assert_eq!(hidden, Err(Errno::NoEntry));
    assert_eq!(there.root().unwrap().create_dir_at(b"in/sub"), no);
    assert_eq!(root.create_dir_at(b"a/m/sub"), no);
}

#[test]
fn links_across_mounts_have_an_end() {
    let (here, there) = mounted(Rights::ReadWrite);
    here.symlink("a/m/loop", "/loop").unwrap();
    there.symlink("../../loop", "/in/loop").unwrap();
    let root = here.root().unwrap();
    let looped = root.stat_at(Follow::Yes, b"loop");
    assert_eq!(looped, Err(Errno::Loop));
    assert_eq!(root.readlink_at(b"loop").unwrap()[..], *b"a/m/loop");
    assert_eq!(root.readlink_at(b"a/m/loop").unwrap()[..], *b"../../loop");
}

#[test]
fn forks_show_what_is_mounted_and_diffs_do_not() {
    let (here, there) = mounted(Rights::ReadWrite);
    let before = here.snapshot();
    let fork = here.fork();
    make(&fork.root().unwrap(), "a/m/shared", "by a fork");
    assert_eq!(here.read("/a/m/shared").unwrap(), b"by a fork");
    assert_eq!(before.fork().read("/a/m/shared").unwrap(), b"by a fork");
    let removed = fork.root().unwrap().remove_dir_at(b"a/m");
    assert_eq!(removed, Err(Errno::Busy));
    let diff = here.diff(&ChunkPool::new()).unwrap();
    let layers = [here.image().layers()[0].clone(), diff];
    let again = Fs::new(&Image::new(&layers).unwrap());
    assert!(names(&view(&again.root().unwrap(), "a/m")).is_empty());
    here.restore(&before).unwrap();
    let bare = stratafs::vfs::Snapshot::of(here.image());
    assert_eq!(here.restore(&bare).unwrap_err(), Errno::Busy);
    assert!(tree(&there).contains("shared"));
}

#[test]
fn circles_and_odd_places_are_refused() {
    let (one, two, three) = (fs(&["d/"]), fs(&["d/"]), fs(&["d/\n f = f"]));
    let all = Rights::ReadWrite;
    assert_eq!(
        one.mount(b"/x", &one, b"/d", all).unwrap_err().errno(),
        Errno::Loop
    );
    one.mount(b"/d", &two, b"/", all).unwrap();
    two.mount(b"/d", &three, b"/", all).unwrap();
    assert_eq!(
        three.mount(b"/d", &one, b"/", all).unwrap_err().errno(),
        Errno::Loop
    );
    assert_eq!(
        one.mount(b"/d", &three, b"/", all).unwrap_err().errno(),
        Errno::Busy
    );
    assert_eq!(
        one.mount(b"/", &three, b"/", all).unwrap_err().errno(),
        Errno::Busy
    );
    let error = one.mount("/x", &three, "/f", all).unwrap_err();
    assert_eq!(error.to_string(), "mount /f: not a directory");
    let error = one.mount("/x", &three, "", all).unwrap_err();
    assert_eq!(error.errno(), Errno::NoEntry);
    assert_eq!(
        three.mount(b"/f", &one, b"/", all).unwrap_err().errno(),
        Errno::Loop
    );
    assert_eq!(text_of(&one.root().unwrap(), "d/d/../d/f"), "f");
    assert_eq!(one.read("/d/d/f").unwrap(), b"f");
}

#[test]
fn an_instance_has_max_mounts() {
    let here = Fs::new(&Image::empty());
    let there = Fs::builder(&Image::empty()).max_open(u32::MAX).build();
    for number in 0..MAX_MOUNTS {
        let path = format!("/{number}");
        here.mount(path.as_bytes(), &there, b"/", Rights::ReadOnly)
            .unwrap();
    }
    let past = here.mount(b"/past", &there, b"/", Rights::ReadOnly);
    assert_eq!(past.unwrap_err().errno(), Errno::NoSpace);
    let past = here.mount_file(b"/file", Arc::new(Vec::new));
    assert_eq!(past.unwrap_err().errno(), Errno::NoSpace);
}

#[test]
fn an_instance_has_max_places() {
    let fs = Fs::new(&Image::empty());
    let there = Fs::new(&Image::empty());
    fs.keep_dir(b"/").unwrap();
    for number in 0..MAX_PLACES {
        fs.keep_dir(format!("/{number}").as_bytes()).unwrap();
    }
    assert_eq!(fs.keep_dir(b"/past").unwrap_err().errno(), Errno::NoSpace);
    let past = fs.mount(b"/past", &there, b"/", Rights::ReadOnly);
    assert_eq!(past.unwrap_err().errno(), Errno::NoSpace);
    // One that is kept already is no further one.
    fs.keep_dir(b"/7").unwrap();
    fs.mount(b"/8", &there, b"/", Rights::ReadOnly).unwrap();
}

#[test]
fn places_go_into_forks_and_stay_through_restores() {
    let fs = Fs::new(&Image::empty());
    let before = fs.snapshot();
    fs.keep_dir(b"/mnt/data").unwrap();
    let with = fs.snapshot();
    for fork in [fs.fork(), with.fork(), fs.fork_with(&[]).unwrap().0] {
        let root = fork.root().unwrap();
        assert_eq!(root.remove_dir_at(b"mnt/data"), Err(Errno::Busy));
        assert_eq!(root.rename_at(b"mnt/data", &root, b"x"), Err(Errno::Busy));
        assert_eq!(fork.restore(&before).unwrap_err(), Errno::Busy);
        assert_eq!(fork.restore(&with), Ok(()));
        assert_eq!(root.remove_dir_at(b"mnt/data"), Err(Errno::Busy));
    }
    assert_eq!(fs.restore(&before).unwrap_err(), Errno::Busy);
    // A fork of a state without it is free, and so is what is made there.
    let free = before.fork();
    let root = free.root().unwrap();
    root.create_dir_at(b"mnt").unwrap();
    assert_eq!(root.remove_dir_at(b"mnt"), Ok(()));
}

#[test]
fn a_fork_has_a_mount_and_its_directory_or_neither() {
    let there = Fs::new(&Image::empty());
    there.write("/secret", "of another").unwrap();
    for round in 0..60 {
        let fs = Fs::new(&Image::empty());
        let forks = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..20 {
                    let path = format!("/m{number}");
                    fs.mount(path.as_bytes(), &there, b"/", Rights::ReadWrite)
                        .unwrap();
                }
            });
            for way in 0..3 {
                let (fs, forks) = (&fs, &forks);
                scope.spawn(move || {
                    for _ in 0..40 {
                        let fork = match way {
                            0 => fs.fork(),
                            1 => fs.snapshot().fork(),
                            _ => fs.fork_with(&[]).unwrap().0,
                        };
                        forks.lock().push(fork);
                    }
                });
            }
        });
        for fork in forks.into_inner() {
            let root = fork.root().unwrap();
            let listed = names(&root);
            for name in &listed {
                let path = format!("{name}/secret");
                assert_eq!(text_of(&root, &path), "of another", "round {round}");
            }
            // What the fork makes next gets the next numbers: no mount is there.
            for number in 0..3 {
                let name = format!("own{number}");
                root.create_dir_at(name.as_bytes()).unwrap();
                assert!(names(&view(&root, &name)).is_empty(), "round {round}");
            }
        }
    }
}

/// Counts how often it is opened, and keeps what is written.
#[derive(Default)]
struct Desk {
    opened: AtomicUsize,
    taken: Mutex<Vec<(Option<u64>, Vec<u8>)>>,
    fs: Mutex<Option<Fs>>,
}

impl VirtualFile for Desk {
    fn content(&self) -> Result<Bytes, Errno> {
        // The instance is not locked meanwhile.
        if let Some(fs) = &*self.fs.lock() {
            assert!(fs.exists("/a").unwrap());
        }
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(format!("opened {number}").into())
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn write(&self, offset: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        if let Some(fs) = &*self.fs.lock() {
            assert!(fs.exists("/a").unwrap());
        }
        self.taken.lock().push((offset, bytes.to_vec()));
        Ok(bytes.len())
    }
}

#[test]
fn a_virtual_file_is_made_when_it_is_opened() {
    let fs = fs(&["a/\n a/desk = below"]);
    let desk = Arc::new(Desk::default());
    *desk.fs.lock() = Some(fs.clone());
    fs.mount_file(b"/a/desk", desk.clone()).unwrap();
    let root = fs.root().unwrap();
    assert_eq!(stat(&root, "a/desk").size, 0);
    let first = view(&root, "a/desk");
    assert_eq!(first.stat().unwrap().size, 8);
    let clone = first.try_clone().unwrap();
    assert_eq!(text_of(&root, "a/desk"), "opened 1");
    assert_eq!(bytes(&clone), b"opened 0");
    let mut two = [0; 2];
    assert_eq!(first.read_at(&mut two, 6), Ok(2));
    assert_eq!((&two, first.read_at(&mut [0; 2], 8)), (b" 0", Ok(0)));
    assert_eq!(&first.read_bytes(3, 99).unwrap()[..], b"ned 0");
    assert_eq!(&first.read_full(0, 4).unwrap()[..], b"open");
    assert!(first.read_full(u64::MAX, 4).unwrap().is_empty());
    assert_eq!(first.hole_at(0), Ok(0));
    assert_eq!(first.read_at(&mut two, 7), Ok(1));

    let truncate = OpenFlags::CREATE | OpenFlags::TRUNCATE;
    let out = root
        .open_at(Follow::Yes, b"a/desk", truncate, Access::WRITE)
        .unwrap();
    assert_eq!((out.write_at(b"x", 3), out.append(b"y")), (Ok(1), Ok(1)));
    assert_eq!(out.write_at(b"z", 9), Ok(1));
    assert_eq!(out.set_size(0), Err(Errno::NotPermitted));
    assert_eq!(out.read_at(&mut two, 0), Err(Errno::BadDescriptor));
    assert_eq!(first.write_at(b"x", 0), Err(Errno::BadDescriptor));
    let want = [(Some(3), "x"), (None, "y"), (Some(9), "z")]
        .map(|(offset, bytes)| (offset, bytes.as_bytes().to_vec()));
    assert_eq!(*desk.taken.lock(), want);
    let fork = fs.fork();
    assert_eq!(fork.read("/a/desk").unwrap(), b"opened 2");
    // What is below stays, and nothing of the host's is in a diff.
    assert_eq!(fs.diff(&ChunkPool::new()).unwrap().node_count(), 1);
    assert_eq!(fs.check(), Ok(()));
    desk.fs.lock().take();
}

#[test]
fn a_virtual_file_stays_and_says_no() {
    let fs = fs(&["a/\n b/\n link -> a/key"]);
    fs.mount_file(b"/link", Arc::new(|| b"secret".to_vec()))
        .unwrap();
    let root = fs.root().unwrap();
    let no = Err(Errno::NotPermitted);
    assert_eq!(text_of(&root, "a/key"), "secret");
    for flags in [OpenFlags::empty(), OpenFlags::TRUNCATE] {
        let opened = root.open_at(Follow::Yes, b"a/key", flags, BOTH);
        assert_eq!(opened.map(drop), no);
    }
    assert_eq!(root.unlink_at(b"a/key"), no);
    assert_eq!(root.rename_at(b"a/key", &root, b"x"), no);
    assert_eq!(root.rename_at(b"a", &root, b"x"), no);
    assert_eq!(root.link_at(b"a/key", &root, b"x"), no);
    let now = SetTime::Now;
    assert_eq!(root.set_times_at(Follow::Yes, b"a/key", now, now), no);
    let host = fs.write("/a/key", "x").unwrap_err();
    assert_eq!(host.errno(), Errno::NotPermitted);
    fs.mount_file(b"/a/key", Arc::new(|| b"changed".to_vec()))
        .unwrap();
    assert_eq!(text_of(&root, "a/key"), "changed");
    let none = || Arc::new(Vec::new);
    assert_eq!(
        fs.mount_file(b"/a", none()).unwrap_err().errno(),
        Errno::IsDirectory
    );
    assert_eq!(
        fs.mount_file(b"/", none()).unwrap_err().errno(),
        Errno::IsDirectory
    );
    // What is missing above is made, but for a path that is no file's.
    fs.mount_file("/no/such/x", none()).unwrap();
    assert_eq!(fs.read("/no/such/x").unwrap(), b"");
    assert!(fs.mount_file("/new/", none()).is_err());
    assert!(!fs.exists("/new").unwrap());
    assert_eq!(
        fs.mount_file("", none()).unwrap_err().errno(),
        Errno::NoEntry
    );
    let error = fs.mount_file("/a/key/x", none()).unwrap_err();
    assert_eq!(error.to_string(), "mount file at /a/key/x: not a directory");
    // Through a mount, too.
    let outer = Fs::new(&Image::empty());
    outer.mount(b"/in", &fs, b"/", Rights::ReadWrite).unwrap();
    assert_eq!(outer.read("/in/a/key").unwrap(), b"changed");
}

#[test]
fn a_failing_host_is_an_error_of_the_guest() {
    struct Failing(Errno);
    impl VirtualFile for Failing {
        fn content(&self) -> Result<Bytes, Errno> {
            Err(self.0)
        }
    }
    let fs = Fs::new(&Image::empty());
    fs.mount_file(b"/panics", Arc::new(|| panic!("a host's mistake")))
        .unwrap();
    fs.mount_file(b"/fails", Arc::new(Failing(Errno::Busy)))
        .unwrap();
    let root = fs.root().unwrap();
    let read = |path: &[u8]| {
        root.open_at(Follow::Yes, path, OpenFlags::empty(), Access::READ)
            .map(drop)
    };
    assert_eq!(read(b"panics"), Err(Errno::Io));
    assert_eq!(read(b"fails"), Err(Errno::Busy));
    assert_eq!(fs.usage().open, 1);
    make(&root, "goes", "on");
    edit(&root, "goes").append(b"!").unwrap();
}

#[test]
fn a_virtual_file_has_max_virtual_bytes() {
    let fs = Fs::new(&Image::empty());
    let of = |len: usize| Arc::new(move || vec![7; len]);
    fs.mount_file(b"/most", of(MAX_VIRTUAL_BYTES)).unwrap();
    fs.mount_file(b"/more", of(MAX_VIRTUAL_BYTES + 1)).unwrap();
    assert_eq!(fs.read("/most").unwrap().len(), MAX_VIRTUAL_BYTES);
    assert_eq!(fs.read("/more").unwrap_err().errno(), Errno::FileTooLarge);
}

#[test]
fn walks_both_ways_from_many_threads_come_to_an_end() {
    let (here, there) = mounted(Rights::ReadWrite);
    let (root, inside) = (here.root().unwrap(), there.root().unwrap());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (root, inside) = (&root, &inside);
            scope.spawn(move || {
                for round in 0..500 {
                    let name = format!("a/m/sub/{number}-{round}");
                    make(root, &name, "x");
                    assert_eq!(text_of(root, "a/m/sub/../../top"), "top");
                    let moved = format!("in/sub/{number}-{round}");
                    inside.unlink_at(moved.as_bytes()).unwrap();
                }
            });
        }
    });
    assert_eq!(names(&view(&root, "abs")), ["g"]);
    assert_eq!((here.check(), there.check()), (Ok(()), Ok(())));
}
