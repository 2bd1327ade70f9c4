//! The cases that today's layered file systems were measured on, 01 to 45.
//!
//! 05 (a shared mapping) cannot be told in WASI: its place has what comes
//! nearest, bytes handed out without a copy.

use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::meta::{Kind, Time};
use stratafs::vfs::{Access, Follow, Fs, OpenFlags, SetTime};

use crate::support::tree::{
    bytes, edit, fs, image, is_gone, make, names, pattern, remove_tree, stat, text, text_of, tree,
    view,
};

const MIB: u64 = 1024 * 1024;

/// A base with what most cases need, the upper layer over the lower.
const LOWER: &str = "
    a/ [755 1000.0]
    a/one = one [640 1001.000000007]
    a/two = two
    a/sub/ [700 1002.0]
    a/sub/deep = deep
    b/
    b/three = three
    f = lower [644 1003.0]
    hard == f
    link -> a/one
    merged/
    merged/low = low
    empty/
";
const UPPER: &str = "
    merged/
    merged/high = high
";

fn base() -> Fs {
    fs(&[LOWER, UPPER])
}

/// A base with one file of this many patterned bytes.
fn big(len: u64) -> Fs {
    fs(&[&format!("big * {len} [644 7.0]")])
}

#[test]
fn case_01_inode_numbers_stay_across_copy_up() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = ["a", "a/one", "link"].map(|path| stat(&root, path).id);
    let open = view(&root, "a/one");
    edit(&root, "a/one").write_at(b"ONE", 0).unwrap();
    make(&root, "a/new", "");
    let now = SetTime::Now;
    root.set_times_at(Follow::No, b"link", now, now).unwrap();
    let after = ["a", "a/one", "link"].map(|path| stat(&root, path).id);
    assert_eq!(before, after);
    assert_eq!(open.stat().unwrap().id, before[1]);
}

#[test]
fn case_02_all_objects_are_on_one_device() {
    let fs = base();
    let root = fs.root().unwrap();
    make(&root, "new", "");
    root.create_dir_at(b"newdir").unwrap();
    root.symlink_at(b"new", b"newlink").unwrap();
    edit(&root, "a/one").write_at(b"x", 0).unwrap();
    let device = |path: &str| root.locate_at(Follow::No, path.as_bytes()).unwrap().1;
    let own = device(".");
    // Of either layer, of both, copied up, made: files, directories and links.
    for path in [
        "a",
        "a/one",
        "a/two",
        "merged",
        "merged/high",
        "merged/low",
        "link",
        "hard",
        "new",
        "newdir",
        "newlink",
    ] {
        assert_eq!(device(path), own, "{path}");
    }
    // And none is refused as being on another.
    for from in ["a/one", "new", "b/three"] {
        for dir in ["a/sub", "b", "newdir", "merged"] {
            let to = format!("{dir}/moved");
            root.link_at(from.as_bytes(), &root, to.as_bytes()).unwrap();
            root.unlink_at(to.as_bytes()).unwrap();
            root.rename_at(from.as_bytes(), &root, to.as_bytes())
                .unwrap();
            assert_eq!(device(&to), own, "{to}");
            root.rename_at(to.as_bytes(), &root, from.as_bytes())
                .unwrap();
        }
    }
}

#[test]
fn case_03_listed_and_stat_inode_numbers_agree() {
    let fs = base();
    let root = fs.root().unwrap();
    edit(&root, "a/one").write_at(b"x", 0).unwrap();
    make(&root, "a/new", "");
    root.rename_at(b"a/two", &root, b"a/renamed").unwrap();
    root.link_at(b"f", &root, b"a/f").unwrap();
    root.symlink_at(b"one", b"a/link").unwrap();
    let dir = view(&root, "a");
    let entries = dir.read_dir(0, usize::MAX).unwrap();
    let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
    let looked_up: Vec<_> = entries
        .iter()
        .map(|entry| stat(&dir, &name(&entry.name)).id)
        .collect();
    let listed: Vec<_> = entries.iter().map(|entry| entry.id).collect();
    assert_eq!(listed, looked_up);
    assert_eq!(listed.len(), 6);
    // Walking the tree compares each entry's number with its stat.
    assert!(tree(&fs).contains("f == a/f\n"), "{}", tree(&fs));
}

#[test]
fn case_04_a_reader_from_before_copy_up_sees_later_writes() {
    let fs = base();
    let root = fs.root().unwrap();
    let reader = view(&root, "f");
    edit(&root, "f").write_at(b"LOW", 0).unwrap();
    assert_eq!(bytes(&reader), b"LOWer");
    edit(&root, "hard").set_size(2).unwrap();
    assert_eq!(bytes(&reader), b"LO");
}

#[test]
fn case_05_bytes_handed_out_do_not_change_and_the_file_does() {
    let fs = big(10_000);
    let root = fs.root().unwrap();
    let file = edit(&root, "big");
    let before = file.read_bytes(0, 100).unwrap();
    file.write_at(&[0; 100], 0).unwrap();
    assert_eq!(&before[..], pattern(0, before.len()));
    assert_eq!(&file.read_bytes(0, 100).unwrap()[..], [0; 100]);
}

#[test]
fn case_06_renaming_a_base_directory_keeps_its_contents() {
    let fs = base();
    let root = fs.root().unwrap();
    let ids = ["a", "a/one", "a/sub/deep"].map(|path| stat(&root, path).id);
    root.rename_at(b"a", &root, b"b/moved").unwrap();
    assert!(is_gone(&root, "a"));
    assert_eq!(text_of(&root, "b/moved/sub/deep"), "deep");
    let moved = ["b/moved", "b/moved/one", "b/moved/sub/deep"];
    assert_eq!(moved.map(|path| stat(&root, path).id), ids);
    assert_eq!(names(&view(&root, "b/moved")), ["one", "sub", "two"]);
    assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
}

#[test]
fn case_07_renaming_a_merged_directory_keeps_both_layers_entries() {
    let fs = base();
    let root = fs.root().unwrap();
    root.rename_at(b"merged", &root, b"other").unwrap();
    assert_eq!(names(&view(&root, "other")), ["high", "low"]);
    assert_eq!(text_of(&root, "other/low"), "low");
    assert_eq!(text_of(&root, "other/high"), "high");
}

#[test]
fn case_08_base_hard_links_are_one_file() {
    let fs = base();
    let root = fs.root().unwrap();
    edit(&root, "f").write_at(b"LOW", 0).unwrap();
    assert_eq!(text_of(&root, "hard"), "LOWer");
    let (one, two) = (stat(&root, "f"), stat(&root, "hard"));
    assert_eq!(one, two);
    assert_eq!(one.nlink, 2);
    root.unlink_at(b"f").unwrap();
    assert_eq!(
        (stat(&root, "hard").nlink, text_of(&root, "hard")),
        (1, "LOWer".into())
    );
}

#[test]
fn case_09_a_link_to_a_base_file_is_that_file() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = stat(&root, "a/one").id;
    root.link_at(b"a/one", &root, b"b/alias").unwrap();
    let (one, two) = (stat(&root, "a/one"), stat(&root, "b/alias"));
    assert_eq!(one, two);
    assert_eq!((one.id, one.nlink), (before, 2));
    edit(&root, "b/alias").write_at(b"ONE", 0).unwrap();
    assert_eq!(text_of(&root, "a/one"), "ONE");
    assert_eq!(fs.usage().private_bytes, 3);
}

#[test]
fn case_10_a_base_directory_removed_and_made_again_is_empty() {
    let fs = base();
    let root = fs.root().unwrap();
    let old = stat(&root, "a").id;
    remove_tree(&root, "a");
    root.create_dir_at(b"a").unwrap();
    assert!(names(&view(&root, "a")).is_empty());
    assert_ne!(stat(&root, "a").id, old);
    assert!(is_gone(&root, "a/one"));
}

#[test]
fn case_11_so_is_one_two_levels_deep() {
    let fs = base();
    let root = fs.root().unwrap();
    remove_tree(&root, "a");
    root.create_dir_at(b"a").unwrap();
    root.create_dir_at(b"a/sub").unwrap();
    assert_eq!(names(&view(&root, "a")), ["sub"]);
    assert!(names(&view(&root, "a/sub")).is_empty());
    // And stays so in the layer that the changes make.
    let again = stacked(&fs);
    let root = again.root().unwrap();
    assert!(names(&view(&root, "a/sub")).is_empty());
}

/// An instance over the base and, as one more layer, what `fs` changed.
fn stacked(fs: &Fs) -> Fs {
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let layers: Vec<_> = fs.image().layers().iter().cloned().chain([diff]).collect();
    Fs::new(&Image::new(&layers).unwrap())
}

#[test]
fn case_12_unlink_create_unlink_leaves_nothing() {
    let fs = base();
    let root = fs.root().unwrap();
    root.unlink_at(b"f").unwrap();
    drop(make(&root, "f", "new"));
    assert_eq!(text_of(&root, "f"), "new");
    root.unlink_at(b"f").unwrap();
    assert!(is_gone(&root, "f"));
    assert!(!names(&root).contains(&"f".to_owned()));
    assert!(is_gone(&stacked(&fs).root().unwrap(), "f"));
}

#[test]
fn case_13_a_changed_base_file_unlinked_stays_gone() {
    let fs = base();
    let root = fs.root().unwrap();
    edit(&root, "a/one").write_at(b"!", 1).unwrap();
    root.unlink_at(b"a/one").unwrap();
    assert!(is_gone(&root, "a/one"));
    assert_eq!(names(&view(&root, "a")), ["sub", "two"]);
    assert_eq!(fs.usage().private_bytes, 0);
}

#[test]
fn case_14_an_unlinked_open_file_reads_and_writes() {
    let fs = base();
    let root = fs.root().unwrap();
    let file = edit(&root, "a/one");
    root.unlink_at(b"a/one").unwrap();
    assert_eq!(bytes(&file), b"one");
    assert_eq!(file.stat().unwrap().nlink, 0);
    file.write_at(b" more", 3).unwrap();
    assert_eq!(bytes(&file), b"one more");
    assert_eq!(fs.usage().private_bytes, 8);
    drop(file);
    assert_eq!(fs.usage().private_bytes, 0);
}

#[test]
fn case_15_a_reader_keeps_the_old_file_when_its_name_is_reused() {
    let fs = base();
    let root = fs.root().unwrap();
    let reader = view(&root, "f");
    root.unlink_at(b"hard").unwrap();
    root.unlink_at(b"f").unwrap();
    let new = make(&root, "f", "someone else");
    assert_eq!(bytes(&reader), b"lower");
    assert_ne!(reader.id(), new.id());
    assert_eq!(text_of(&root, "f"), "someone else");
}

#[test]
fn case_16_a_file_is_renamed_over_a_base_file() {
    let fs = base();
    let root = fs.root().unwrap();
    let id = make(&root, "new", "new").id();
    root.rename_at(b"new", &root, b"a/one").unwrap();
    assert!(is_gone(&root, "new"));
    assert_eq!(
        (stat(&root, "a/one").id, text_of(&root, "a/one")),
        (id, "new".into())
    );
    root.rename_at(b"a/two", &root, b"a/one").unwrap();
    assert_eq!(text_of(&root, "a/one"), "two");
    assert_eq!(names(&view(&root, "a")), ["sub", "one"]);
}

#[test]
fn case_17_rename_away_create_the_same_name_unlink() {
    let fs = base();
    let root = fs.root().unwrap();
    root.rename_at(b"f", &root, b"away").unwrap();
    drop(make(&root, "f", "new"));
    root.unlink_at(b"f").unwrap();
    assert!(is_gone(&root, "f"));
    assert_eq!(text_of(&root, "away"), "lower");
    assert_eq!(stat(&root, "away").nlink, 2);
}

#[test]
fn case_18_setting_times_copies_no_data() {
    let fs = big(16 * MIB);
    let root = fs.root().unwrap();
    let time = SetTime::To(Time::new(42, 43));
    root.set_times_at(Follow::Yes, b"big", time, time).unwrap();
    let after = stat(&root, "big");
    assert_eq!(
        (after.atime, after.mtime),
        (Time::new(42, 43), Time::new(42, 43))
    );
    assert_eq!(fs.usage().private_bytes, 0);
}

#[test]
fn case_19_opening_for_writing_copies_no_data() {
    let fs = big(16 * MIB);
    let root = fs.root().unwrap();
    let before = stat(&root, "big");
    let file = edit(&root, "big");
    assert_eq!(file.write_at(b"", 5), Ok(0));
    assert_eq!(file.stat(), Ok(before));
    assert_eq!((fs.usage().private_bytes, fs.usage().inodes), (0, 0));
}

#[test]
fn case_20_one_byte_copies_one_block() {
    let fs = big(16 * MIB);
    let root = fs.root().unwrap();
    let file = edit(&root, "big");
    file.write_at(b"!", 5 * MIB + 1).unwrap();
    assert_eq!(fs.usage().private_bytes, 4096);
    let mut around = [0; 3];
    file.read_at(&mut around, 5 * MIB).unwrap();
    let want = pattern(5 * MIB, 3);
    assert_eq!(around, [want[0], b'!', want[2]]);
    // The last block is as long as the file reaches.
    let fs = big(10_000);
    edit(&fs.root().unwrap(), "big")
        .write_at(b"!", 9_999)
        .unwrap();
    assert_eq!(fs.usage().private_bytes, 10_000 - 2 * 4096);
}

#[test]
fn case_21_truncating_copies_no_data() {
    let fs = big(16 * MIB);
    let root = fs.root().unwrap();
    let file = root
        .open_at(Follow::Yes, b"big", OpenFlags::TRUNCATE, Access::WRITE)
        .unwrap();
    assert_eq!(file.stat().unwrap().size, 0);
    assert_eq!(fs.usage().private_bytes, 0);
    let fs = big(16 * MIB);
    let file = edit(&fs.root().unwrap(), "big");
    file.set_size(9 * MIB + 77).unwrap();
    assert_eq!(fs.usage().private_bytes, 0);
    assert_eq!(bytes(&file), pattern(0, 9 * MIB as usize + 77));
}

#[test]
fn case_22_sparse_files_stay_sparse() {
    let fs = fs(&[&format!("hole ~ {}", 64 * MIB)]);
    let root = fs.root().unwrap();
    let old = edit(&root, "hole");
    old.write_at(b"x", 32 * MIB).unwrap();
    assert!(fs.usage().private_bytes <= 4096);
    let new = make(&root, "new", "");
    new.set_size(64 * MIB).unwrap();
    new.write_at(b"x", 64 * MIB - 1).unwrap();
    assert!(fs.usage().private_bytes <= 2 * 4096);
    for file in [old, new] {
        let held = bytes(&file);
        assert_eq!(held.len() as u64, 64 * MIB);
        assert_eq!(held.iter().filter(|byte| **byte != 0).count(), 1);
    }
    // Also as a layer: what goes out has the same holes.
    let pool = ChunkPool::new();
    let _diff = fs.diff(&pool).unwrap();
    assert!(
        pool.count_held_bytes() <= 4 * 65_536,
        "{}",
        pool.count_held_bytes()
    );
}

#[test]
fn case_23_copy_up_leaves_the_parents_times_alone() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = ["", "a", "a/sub"].map(|path| stat(&root, &format!("./{path}")));
    edit(&root, "a/sub/deep").write_at(b"x", 0).unwrap();
    edit(&root, "a/sub/deep").set_size(1).unwrap();
    let after = ["", "a", "a/sub"].map(|path| stat(&root, &format!("./{path}")));
    assert_eq!(before, after);
}

#[test]
fn case_24_changing_the_mode_keeps_mtime_and_content() {
    let fs = base();
    fs.set_owner("a/one", 0o600, (7, 8)).unwrap();
    let after = fs.metadata("a/one").unwrap();
    assert_eq!(after.mtime, Time::new(1001, 7));
    assert_eq!((after.mode, after.uid, after.gid), (0o600, 7, 8));
    assert_eq!(fs.usage().private_bytes, 0);
    assert_eq!(fs.read("a/one").unwrap(), b"one");
}

#[test]
fn case_25_making_an_entry_moves_the_directorys_mtime() {
    let fs = base();
    let root = fs.root().unwrap();
    let old = stat(&root, "a").mtime;
    let changes: &[(&str, &dyn Fn())] = &[
        ("create", &|| drop(make(&root, "a/new", ""))),
        ("mkdir", &|| root.create_dir_at(b"a/dir").unwrap()),
        ("symlink", &|| root.symlink_at(b"x", b"a/link").unwrap()),
        ("link", &|| root.link_at(b"f", &root, b"a/f").unwrap()),
        ("unlink", &|| root.unlink_at(b"a/one").unwrap()),
        ("rmdir", &|| root.remove_dir_at(b"a/dir").unwrap()),
        ("rename within", &|| {
            root.rename_at(b"a/two", &root, b"a/2").unwrap()
        }),
        ("rename out", &|| {
            root.rename_at(b"a/2", &root, b"2").unwrap()
        }),
        ("rename in", &|| {
            root.rename_at(b"2", &root, b"a/2").unwrap()
        }),
    ];
    for (what, change) in changes {
        let back = SetTime::To(old);
        root.set_times_at(Follow::Yes, b"a", back, back).unwrap();
        change();
        assert!(stat(&root, "a").mtime > old, "{what}");
    }
}

#[test]
fn case_26_reading_does_not_move_atime() {
    let fs = base();
    let root = fs.root().unwrap();
    let (file, dir) = (stat(&root, "a/one"), stat(&root, "a"));
    assert_eq!(text_of(&root, "a/one"), "one");
    names(&view(&root, "a"));
    assert_eq!((stat(&root, "a/one"), stat(&root, "a")), (file, dir));
    // It is set by those who ask for it.
    let time = SetTime::To(Time::new(5, 0));
    view(&root, "a/one").set_times(time, SetTime::Keep).unwrap();
    let after = stat(&root, "a/one");
    assert_eq!((after.atime, after.mtime), (Time::new(5, 0), file.mtime));
}

#[test]
fn case_27_deleting_while_listing_loses_none() {
    let base: String = (0..150).map(|n| format!("base{n} =\n")).collect();
    let fs = fs(&[&base]);
    let root = fs.root().unwrap();
    (0..150).for_each(|n| drop(make(&root, &format!("new{n}"), "")));
    let mut cookie = 0;
    let mut removed = 0;
    loop {
        let batch = root.read_dir(cookie, 7).unwrap();
        let Some(last) = batch.last() else { break };
        cookie = last.next;
        for entry in batch {
            root.unlink_at(&entry.name).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 300);
    assert!(names(&root).is_empty());
}

#[test]
fn case_28_names_that_look_like_whiteouts_are_plain_files() {
    let fs = base();
    let root = fs.root().unwrap();
    for name in [".wh.x", ".wh..wh..opq", ".wh.", ".wh..wh.aufs"] {
        drop(make(&root, name, name));
        assert_eq!(text_of(&root, name), name);
        assert!(names(&root).contains(&name.to_owned()));
        root.rename_at(name.as_bytes(), &root, b"a/y").unwrap();
        root.rename_at(b"a/y", &root, name.as_bytes()).unwrap();
        root.unlink_at(name.as_bytes()).unwrap();
        assert!(is_gone(&root, name));
    }
}

#[test]
fn case_29_a_file_named_like_a_whiteout_hides_nothing() {
    let fs = base();
    let root = fs.root().unwrap();
    make(&root, "a/.wh.one", "");
    make(&root, "a/.wh..wh..opq", "");
    for fs in [&fs, &stacked(&fs)] {
        let root = fs.root().unwrap();
        assert_eq!(text_of(&root, "a/one"), "one");
        let mut listed = names(&view(&root, "a"));
        listed.sort();
        assert_eq!(listed, [".wh..wh..opq", ".wh.one", "one", "sub", "two"]);
    }
}

#[test]
fn case_30_a_base_directory_with_entries_is_not_removed() {
    let fs = base();
    let root = fs.root().unwrap();
    for dir in ["a", "merged"] {
        assert_eq!(root.remove_dir_at(dir.as_bytes()), Err(Errno::NotEmpty));
    }
    assert_eq!(tree(&fs), tree(&base()));
    assert_eq!(root.remove_dir_at(b"empty"), Ok(()));
}

#[test]
fn case_31_a_directory_is_renamed_over_one_emptied_by_removal() {
    let fs = base();
    let root = fs.root().unwrap();
    root.unlink_at(b"b/three").unwrap();
    root.rename_at(b"a", &root, b"b").unwrap();
    assert_eq!(names(&view(&root, "b")), ["one", "sub", "two"]);
    assert!(is_gone(&root, "a"));
    assert_eq!(tree(&stacked(&fs)), tree(&fs));
}

#[test]
fn case_32_a_directory_is_not_renamed_over_a_full_base_directory() {
    let fs = base();
    let root = fs.root().unwrap();
    root.create_dir_at(b"new").unwrap();
    for from in ["new", "b"] {
        assert_eq!(
            root.rename_at(from.as_bytes(), &root, b"a"),
            Err(Errno::NotEmpty)
        );
    }
    assert_eq!(text_of(&root, "a/sub/deep"), "deep");
}

#[test]
fn case_33_below_a_directory_replaced_by_a_file_is_not_directory() {
    let fs = base();
    let root = fs.root().unwrap();
    remove_tree(&root, "a");
    make(&root, "a", "file now");
    for path in ["a/one", "a/sub/deep", "a/.", "a/"] {
        let found = root.stat_at(Follow::No, path.as_bytes());
        assert_eq!(found, Err(Errno::NotDirectory), "{path}");
    }
    assert_eq!(tree(&stacked(&fs)), tree(&fs));
}

#[test]
fn case_34_a_base_file_is_replaced_by_a_directory() {
    let fs = base();
    let root = fs.root().unwrap();
    root.unlink_at(b"f").unwrap();
    root.create_dir_at(b"f").unwrap();
    make(&root, "f/in", "in");
    assert_eq!(stat(&root, "f").kind, Kind::Dir);
    assert_eq!(text_of(&root, "hard"), "lower");
    assert_eq!(tree(&stacked(&fs)), tree(&fs));
}

#[test]
fn case_35_below_a_removed_directory_is_no_entry() {
    let fs = base();
    let root = fs.root().unwrap();
    remove_tree(&root, "a");
    for path in ["a", "a/one", "a/sub", "a/sub/deep"] {
        assert!(is_gone(&root, path), "{path}");
    }
    assert!(is_gone(&stacked(&fs).root().unwrap(), "a"));
}

#[test]
fn case_36_a_directory_does_not_go_into_itself() {
    let fs = base();
    let root = fs.root().unwrap();
    for to in ["a/sub/new", "a/new", "a/sub/deep", "a/one"] {
        assert_eq!(
            root.rename_at(b"a", &root, to.as_bytes()),
            Err(Errno::Invalid),
            "{to}"
        );
    }
    let inside = view(&root, "a/sub");
    assert_eq!(root.rename_at(b"a", &inside, b"new"), Err(Errno::Invalid));
    assert_eq!(tree(&fs), tree(&base()));
}

#[test]
fn case_37_appending_to_a_base_file() {
    let fs = base();
    let root = fs.root().unwrap();
    let file = edit(&root, "f");
    assert_eq!(file.append(b" and more"), Ok(9));
    assert_eq!(text_of(&root, "hard"), "lower and more");
    let fs = big(16 * MIB + 10);
    edit(&fs.root().unwrap(), "big").append(b"!").unwrap();
    assert_eq!(fs.usage().private_bytes, 11);
}

#[test]
fn case_38_a_link_shows_its_rewritten_target() {
    let fs = base();
    let root = fs.root().unwrap();
    edit(&root, "a/one").write_at(b"ONE", 0).unwrap();
    assert_eq!(text_of(&root, "link"), "ONE");
    root.unlink_at(b"a/one").unwrap();
    let found = root.stat_at(Follow::Yes, b"link");
    assert_eq!(found, Err(Errno::NoEntry));
    drop(make(&root, "a/one", "again"));
    assert_eq!(text_of(&root, "link"), "again");
}

#[test]
fn case_39_unlinking_a_link_leaves_its_target() {
    let fs = base();
    let root = fs.root().unwrap();
    root.unlink_at(b"link").unwrap();
    assert!(is_gone(&root, "link"));
    assert_eq!(text_of(&root, "a/one"), "one");
}

#[test]
fn case_40_the_base_is_untouched_by_all_of_it() {
    let image = image(&[LOWER, UPPER]);
    let (digest, before) = (image.digest(), tree(&Fs::new(&image)));
    let fs = Fs::new(&image);
    let root = fs.root().unwrap();
    edit(&root, "f").write_at(&[0; 100_000], 0).unwrap();
    edit(&root, "a/one").set_size(0).unwrap();
    root.rename_at(b"merged", &root, b"empty").unwrap();
    let now = SetTime::Now;
    root.set_times_at(Follow::No, b"link", now, now).unwrap();
    fs.set_owner("b", 0, (1, 1)).unwrap();
    for name in names(&root) {
        match stat(&root, &name).kind {
            Kind::Dir => remove_tree(&root, &name),
            Kind::File | Kind::Symlink => root.unlink_at(name.as_bytes()).unwrap(),
        }
    }
    assert_eq!(tree(&fs), "");
    assert_eq!(image.digest(), digest);
    assert_eq!(tree(&Fs::new(&image)), before);
    image.verify().unwrap();
}

#[test]
fn case_41_a_directory_counts_two_links_and_its_directories() {
    let fs = base();
    let root = fs.root().unwrap();
    let count = |path| stat(&root, path).nlink;
    assert_eq!((count("."), count("a"), count("b")), (2 + 4, 3, 2));
    root.create_dir_at(b"a/new").unwrap();
    assert_eq!(count("a"), 4);
    root.rename_at(b"a/sub", &root, b"b/sub").unwrap();
    assert_eq!((count("a"), count("b"), count("b/sub")), (3, 3, 2));
    root.remove_dir_at(b"a/new").unwrap();
    make(&root, "a/file", "");
    assert_eq!(count("a"), 2);
}

#[test]
fn case_42_two_thousand_files_made_and_removed_leave_nothing() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = tree(&fs);
    drop(make(&root, "a/tmp", "temporary"));
    root.unlink_at(b"a/tmp").unwrap();
    // The directory is a changed object from now on.
    let usage = fs.usage();
    for n in 0..2000 {
        drop(make(&root, &format!("a/tmp{n}"), "temporary"));
    }
    for n in 0..2000 {
        root.unlink_at(format!("a/tmp{n}").as_bytes()).unwrap();
    }
    assert_eq!((tree(&fs), fs.usage()), (before, usage));
    let layer = fs.diff(&ChunkPool::new()).unwrap();
    // The directory's own entry is left, since its mtime moved.
    assert_eq!(layer.node_count(), 2);
}

#[test]
fn case_43_times_set_through_a_reader_leave_the_base_alone() {
    let image = image(&[LOWER]);
    let (one, two) = (Fs::new(&image), Fs::new(&image));
    let file = view(&one.root().unwrap(), "a/one");
    let time = SetTime::To(Time::new(1, 2));
    file.set_times(time, time).unwrap();
    assert_eq!(file.stat().unwrap().mtime, Time::new(1, 2));
    let there = two.root().unwrap();
    assert_eq!(stat(&there, "a/one").mtime, Time::new(1001, 7));
}

#[test]
fn case_44_a_readers_set_size_is_refused() {
    let fs = base();
    let root = fs.root().unwrap();
    let before = stat(&root, "f");
    assert_eq!(view(&root, "f").set_size(0), Err(Errno::Invalid));
    assert_eq!(
        view(&root, "f").write_at(b"x", 0),
        Err(Errno::BadDescriptor)
    );
    assert_eq!(
        (stat(&root, "f"), text_of(&root, "f")),
        (before, "lower".into())
    );
}

#[test]
fn case_45_two_writers_of_one_base_file_see_one_file() {
    let fs = base();
    let root = fs.root().unwrap();
    let (one, two) = (edit(&root, "f"), edit(&root, "hard"));
    one.write_at(b"1", 0).unwrap();
    two.write_at(b"2", 1).unwrap();
    assert_eq!(
        (bytes(&one), bytes(&two)),
        (b"12wer".to_vec(), b"12wer".to_vec())
    );
    two.set_size(1).unwrap();
    assert_eq!(bytes(&one), b"1");
    assert_eq!(
        tree(&fs)
            .lines()
            .filter(|line| line.contains("hard =="))
            .count(),
        1
    );
}

#[test]
fn the_notation_comes_back_as_it_went_in() {
    let notation = text(
        "
        a/
        a/x = text
        b == a/x
        big * 70000
        c -> a/x
        zero ~ 100000
        ",
    );
    assert_eq!(tree(&fs(&[&notation])), notation);
}
