//! Rules by path: what a host lets guests do with an object, by whatever way
//! they come.

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::LayerBuilder;
use stratafs::limits::MAX_RULES;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights, Rule, SetTime};

use crate::support::tree::{bytes, edit, fs, is_gone, make, names, stat, text_of, tree, view};

const BOTH: Access = Access::READ.union(Access::WRITE);
const NO: Errno = Errno::NotPermitted;

/// `keep/` with a file, a link and directories, beside what is free. `far` is
/// a further name of `keep/shared`.
fn base() -> Fs {
    fs(&[
        "keep/\n keep/f = text\n keep/shared = both\n keep/in/\n keep/in/g = deep\n \
         keep/e/\n keep/l -> f\n far == keep/shared\n free/\n free/h = free\n \
         way -> keep/f\n log = one",
    ])
}

fn open(dir: &Descriptor, path: &str, flags: OpenFlags, access: Access) -> Result<(), Errno> {
    dir.open_at(Follow::Yes, path.as_bytes(), flags, access)
        .map(drop)
}

/// Every way to change a directory that has `f`, `e/` and a `free` one beside.
fn changes(dir: &Descriptor, free: &Descriptor) -> Vec<(&'static str, Result<(), Errno>)> {
    let now = SetTime::Now;
    let none = OpenFlags::empty();
    vec![
        ("write", open(dir, "f", none, BOTH)),
        ("cut", open(dir, "f", OpenFlags::TRUNCATE, Access::READ)),
        ("create over", open(dir, "f", OpenFlags::CREATE, BOTH)),
        ("create", open(dir, "new", OpenFlags::CREATE, BOTH)),
        ("mkdir", dir.create_dir_at(b"new")),
        ("symlink", dir.symlink_at(b"f", b"new")),
        ("unlink", dir.unlink_at(b"f")),
        ("rmdir", dir.remove_dir_at(b"e")),
        ("rename", dir.rename_at(b"f", dir, b"new")),
        ("rename out", dir.rename_at(b"f", free, b"new")),
        ("rename over", free.rename_at(b"h", dir, b"f")),
        ("rename in", free.rename_at(b"h", dir, b"new")),
        ("link out", dir.link_at(b"f", free, b"new")),
        ("link in", free.link_at(b"h", dir, b"new")),
        ("times", dir.set_times_at(Follow::Yes, b"f", now, now)),
        ("own times", dir.set_times(now, now)),
        (
            "times of a link",
            dir.set_times_at(Follow::No, b"l", now, now),
        ),
        ("owner", dir.set_owner_at(Follow::Yes, b"f", 0o7, (1, 1))),
    ]
}

#[test]
fn case_p07_a_read_only_rule_refuses_every_change() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = view(&root, "keep");
    let file = edit(&root, "keep/f");
    let shared = edit(&root, "far");
    fs.set_rule(b"/keep", Rule::ReadOnly).unwrap();
    let want = (tree(&fs), stat(&root, "keep"), stat(&root, "keep/f"));
    let free = view(&root, "free");
    let below = fs.preopen(b"/keep", Rights::ReadWrite).unwrap();
    for dir in [&before, &view(&root, "keep"), &below] {
        for (what, result) in changes(dir, &free) {
            assert_eq!(result, Err(NO), "{what}");
        }
    }
    // Through descriptors that were open, further names, links, from above.
    for file in [&file, &shared, &file.try_clone().unwrap()] {
        assert_eq!(file.write_at(b"x", 0), Err(NO));
        assert_eq!(file.append(b"x"), Err(NO));
        assert_eq!(file.set_size(0), Err(NO));
        assert_eq!(file.set_times(SetTime::Now, SetTime::Now), Err(NO));
    }
    assert_eq!(open(&root, "far", OpenFlags::empty(), BOTH), Err(NO));
    assert_eq!(root.unlink_at(b"far"), Err(NO));
    assert_eq!(open(&root, "way", OpenFlags::TRUNCATE, BOTH), Err(NO));
    assert_eq!(root.rename_at(b"keep", &root, b"x"), Err(NO));
    assert_eq!(root.remove_dir_at(b"keep"), Err(NO));
    assert_eq!(root.create_dir_at(b"keep/in/x"), Err(NO));
    assert_eq!(
        (tree(&fs), stat(&root, "keep"), stat(&root, "keep/f")),
        want
    );
    assert_eq!(text_of(&root, "keep/in/g"), "deep");
    // The legal twin, and the end of the rule.
    fs.set_rule(b"/keep", Rule::Free).unwrap();
    assert_eq!(file.write_at(b"T", 0), Ok(1));
    assert_eq!(shared.write_at(b"B", 0), Ok(1));
    assert_eq!(below.create_dir_at(b"new"), Ok(()));
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn a_directory_above_a_rule_stays_where_it_is() {
    let fs = fs(&["a/\n a/b/\n a/b/f = f\n a/b/g = g\n x/"]);
    let root = fs.root().unwrap();
    fs.set_rule(b"a/b/f", Rule::ReadOnly).unwrap();
    for (from, to) in [("a", "c"), ("a/b", "c"), ("a/b/f", "c"), ("x", "a/b")] {
        let moved = root.rename_at(from.as_bytes(), &root, to.as_bytes());
        assert_eq!(moved, Err(NO), "{from} {to}");
    }
    assert_eq!(root.rename_at(b"a/b/g", &root, b"a/b/f"), Err(NO));
    assert_eq!(root.link_at(b"a/b/f", &root, b"c"), Err(NO));
    assert_eq!(root.unlink_at(b"a/b/f"), Err(NO));
    // What is beside it is free.
    root.rename_at(b"a/b/g", &root, b"a/b/h").unwrap();
    make(&root, "a/b/new", "new");
    root.rename_at(b"x", &root, b"y").unwrap();
}

#[test]
fn an_append_only_rule_keeps_what_is_there() {
    let fs = base();
    let root = fs.root().unwrap();
    fs.set_rule(b"log", Rule::AppendOnly).unwrap();
    let log = edit(&root, "log");
    assert_eq!(log.append(b"two"), Ok(3));
    assert_eq!(log.write_at(b"!", 6), Ok(1));
    for offset in [0, 6, 8] {
        assert_eq!(log.write_at(b"x", offset), Err(NO), "{offset}");
    }
    assert_eq!(log.set_size(99), Err(NO));
    assert_eq!(log.set_times(SetTime::Now, SetTime::Now), Err(NO));
    assert_eq!(open(&root, "log", OpenFlags::TRUNCATE, BOTH), Err(NO));
    assert_eq!(open(&root, "log", OpenFlags::CREATE, BOTH), Ok(()));
    assert_eq!(root.unlink_at(b"log"), Err(NO));
    assert_eq!(root.rename_at(b"free/h", &root, b"log"), Err(NO));
    assert_eq!(text_of(&root, "log"), "onetwo!");

    fs.set_rule(b"keep", Rule::AppendOnly).unwrap();
    let (dir, free) = (view(&root, "keep"), view(&root, "free"));
    let made = ["write", "create over", "create"];
    for (what, result) in changes(&dir, &free) {
        let want = match what {
            _ if made.contains(&what) => Ok(()),
            // `new` has just been made.
            "mkdir" | "symlink" | "link in" => Err(Errno::Exist),
            _ => Err(NO),
        };
        assert_eq!(result, want, "{what}");
    }
    dir.create_dir_at(b"in/fresh").unwrap();
    let fresh = make(&dir, "in/fresh/f", "a");
    assert_eq!(fresh.append(b"b"), Ok(1));
    assert_eq!(fresh.write_at(b"c", 0), Err(NO));
    assert_eq!(edit(&root, "far").write_at(b"c", 0), Err(NO));
    assert_eq!(free.link_at(b"h", &dir, b"other"), Err(NO));
    assert_eq!(text_of(&root, "keep/in/fresh/f"), "ab");
}

#[test]
fn what_is_hidden_is_not_there() {
    let fs = base();
    let root = fs.root().unwrap();
    let (dir, file) = (view(&root, "keep/in"), edit(&root, "keep/f"));
    fs.set_rule(b"keep", Rule::Hidden).unwrap();
    assert_eq!(names(&root), ["free", "log", "way"]);
    for path in ["keep", "keep/", "keep/f", "keep/in/g", "far"] {
        assert!(is_gone(&root, path), "{path}");
        let opened = open(&root, path, OpenFlags::empty(), Access::READ);
        assert_eq!(opened, Err(Errno::NoEntry), "{path}");
    }
    assert_eq!(root.unlink_at(b"keep/f"), Err(Errno::NoEntry));
    assert_eq!(root.remove_dir_at(b"keep"), Err(Errno::NoEntry));
    let moved = root.rename_at(b"keep", &root, b"x");
    assert_eq!(moved, Err(Errno::NoEntry));
    let linked = root.link_at(b"far", &root, b"x");
    assert_eq!(linked, Err(Errno::NoEntry));
    // Its name is taken.
    assert_eq!(root.create_dir_at(b"keep"), Err(NO));
    assert_eq!(root.symlink_at(b"x", b"keep"), Err(NO));
    assert_eq!(open(&root, "keep", OpenFlags::CREATE, BOTH), Err(NO));
    assert_eq!(open(&root, "far", OpenFlags::CREATE, BOTH), Err(NO));
    assert_eq!(root.rename_at(b"free", &root, b"keep"), Err(NO));
    assert_eq!(root.link_at(b"log", &root, b"far"), Err(NO));
    assert_eq!(root.stat_at(Follow::Yes, b"way"), Err(Errno::NoEntry));
    // What was open before is as if it were gone.
    let gone = Errno::BadDescriptor;
    assert_eq!(file.read_at(&mut [0; 4], 0), Err(gone));
    assert_eq!(file.read_bytes(0, 4), Err(gone));
    assert_eq!(file.read_full(0, 4), Err(gone));
    assert_eq!(file.hole_at(0), Err(gone));
    assert_eq!(file.write_at(b"x", 0), Err(gone));
    assert_eq!(file.stat(), Err(gone));
    assert_eq!(file.append(b"x"), Err(gone));
    assert_eq!(dir.stat(), Err(gone));
    let seen = dir.read_dir(0, 1);
    assert_eq!(seen, Err(gone));
    assert_eq!(dir.stat_at(Follow::Yes, b"g"), Err(Errno::NoEntry));
    assert_eq!(dir.create_dir_at(b"x"), Err(Errno::NoEntry));
    // The host sees and changes it.
    assert_eq!(fs.read("/keep/f").unwrap(), b"text");
    fs.write("/keep/f", "other").unwrap();
    fs.set_rule(b"keep", Rule::ReadOnly).unwrap();
    assert_eq!(bytes(&file), b"other");
}

#[test]
fn the_nearest_rule_holds() {
    let fs = base();
    let root = fs.root().unwrap();
    fs.set_rule(b"/", Rule::ReadOnly).unwrap();
    fs.set_rule(b"free", Rule::Free).unwrap();
    fs.set_rule(b"keep/in", Rule::AppendOnly).unwrap();
    assert_eq!(root.create_dir_at(b"x"), Err(NO));
    assert_eq!(root.unlink_at(b"log"), Err(NO));
    assert_eq!(root.set_times(SetTime::Now, SetTime::Now), Err(NO));
    root.create_dir_at(b"free/x").unwrap();
    root.unlink_at(b"free/h").unwrap();
    assert_eq!(root.rename_at(b"free", &root, b"x"), Err(NO));
    assert_eq!(edit(&root, "keep/in/g").append(b"er"), Ok(2));
    assert_eq!(open(&root, "keep/f", OpenFlags::empty(), BOTH), Err(NO));
    // Below what is hidden nothing shows.
    let dir = view(&root, "keep/in");
    fs.set_rule(b"keep", Rule::Hidden).unwrap();
    assert_eq!(dir.stat_at(Follow::Yes, b"g"), Err(Errno::NoEntry));
    assert_eq!(dir.create_dir_at(b"x"), Err(Errno::NoEntry));
}

#[test]
fn rules_go_into_forks_and_hold_through_restores() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = fs.snapshot();
    fs.write("/made", "by the host").unwrap();
    let early = edit(&root, "made");
    root.rename_at(b"made", &root, b"free/made").unwrap();
    fs.set_rule(b"keep", Rule::ReadOnly).unwrap();
    let after = fs.snapshot();
    for fork in [fs.fork(), after.fork(), after.fork().fork()] {
        let root = fork.root().unwrap();
        assert_eq!(root.unlink_at(b"keep/f"), Err(NO));
        assert_eq!(open(&root, "far", OpenFlags::empty(), BOTH), Err(NO));
    }
    let (_, held) = fs.fork_with(&[&early]).unwrap();
    assert_eq!(held[0].write_at(b"x", 0), Ok(1));
    fs.restore(&before).unwrap();
    assert_eq!(root.unlink_at(b"keep/f"), Err(NO));
    // A state that lacks what a rule is for does not end the rule.
    fs.restore(&after).unwrap();
    fs.set_rule(b"free/made", Rule::ReadOnly).unwrap();
    assert_eq!(fs.restore(&before).unwrap_err(), Errno::Busy);
    assert_eq!(fs.restore(&after), Ok(()));
    assert_eq!(early.write_at(b"x", 0), Err(NO));
    drop(early);
    // The host may remove it, and with it the rule.
    fs.remove_file("/free/made").unwrap();
    assert_eq!(fs.restore(&before), Ok(()));
}

#[test]
fn a_ruled_file_that_the_host_moves_keeps_its_new_directories_in_place() {
    let fs = Fs::new(&Image::empty());
    for dir in ["a", "b/c", "d"] {
        fs.create_dir_all(format!("/{dir}")).unwrap();
    }
    fs.write("/a/secret", "text").unwrap();
    fs.set_rule(b"a/secret", Rule::ReadOnly).unwrap();
    let root = fs.root().unwrap();
    let moves = |dir: &str| {
        let done = root.rename_at(dir.as_bytes(), &root, b"moved");
        if done.is_ok() {
            root.rename_at(b"moved", &root, dir.as_bytes()).unwrap();
        }
        done
    };
    let all = || [moves("a"), moves("b"), moves("d")];
    assert_eq!(all(), [Err(NO), Ok(()), Ok(())]);
    let before = fs.snapshot();
    fs.rename("/a/secret", "/b/c/secret").unwrap();
    assert_eq!(all(), [Ok(()), Err(NO), Ok(())]);
    fs.hard_link("/b/c/secret", "/d/other").unwrap();
    assert_eq!(all(), [Ok(()), Err(NO), Err(NO)]);
    let after = fs.snapshot();
    fs.remove_file("/b/c/secret").unwrap();
    assert_eq!(all(), [Ok(()), Ok(()), Err(NO)]);
    fs.restore(&before).unwrap();
    assert_eq!(all(), [Err(NO), Ok(()), Ok(())]);
    fs.restore(&after).unwrap();
    assert_eq!(all(), [Ok(()), Err(NO), Err(NO)]);
}

#[test]
fn the_host_itself_is_free() {
    let fs = base();
    fs.set_rule(b"/", Rule::Hidden).unwrap();
    fs.write("/keep/f", "new").unwrap();
    fs.rename("/keep", "/kept").unwrap();
    fs.remove_file("/log").unwrap();
    fs.apply(b"/", &LayerBuilder::new().finish().unwrap())
        .unwrap();
    assert_eq!(fs.read("/kept/f").unwrap(), b"new");
    assert!(is_gone(&fs.root().unwrap(), "kept"));
    for (path, errno) in [
        ("/nope", Errno::NoEntry),
        ("", Errno::NoEntry),
        ("/kept/f/x", Errno::NotDirectory),
    ] {
        let error = fs.set_rule(path, Rule::Free).unwrap_err();
        assert_eq!((error.path(), error.errno()), (path.as_bytes(), errno));
    }
}

#[test]
fn an_instance_has_max_rules() {
    let fs = Fs::new(&Image::empty());
    for number in 0..=MAX_RULES {
        fs.write(format!("/{number}"), "").unwrap();
    }
    for number in 0..MAX_RULES {
        fs.set_rule(format!("{number}").as_bytes(), Rule::ReadOnly)
            .unwrap();
    }
    let last = format!("{MAX_RULES}");
    let past = fs.set_rule(last, Rule::Free).unwrap_err();
    assert_eq!(past.errno(), Errno::NoSpace);
    assert_eq!(fs.set_rule(b"0", Rule::Free), Ok(()));
    assert_eq!(fs.root().unwrap().unlink_at(b"1"), Err(NO));
}
