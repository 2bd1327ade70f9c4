//! What is a store, what is none, and what looking at one leaves alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stratafs::store::{Store, StoreError, StoreOptions};

use super::support::{get_file, noise, put_file};

/// All files below a directory with their bytes, links and directories with
/// their kind.
fn state(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                waiting.push(path.clone());
            }
            let bytes = if kind.is_file() {
                fs::read(&path).unwrap()
            } else {
                format!("{kind:?}").into_bytes()
            };
            found.insert(path, bytes);
        }
    }
    found
}

fn look(dir: &Path) -> Result<Store, StoreError> {
    StoreOptions::new().read_only().open(dir)
}

#[test]
fn a_store_is_made_where_nothing_or_an_empty_directory_is() {
    let dir = tempfile::tempdir().unwrap();
    for place in [dir.path().join("new/deep"), dir.path().join("empty")] {
        if place.ends_with("empty") {
            fs::create_dir(&place).unwrap();
        }
        assert!(matches!(look(&place), Err(StoreError::NoStore(_))));
        assert!(matches!(
            StoreOptions::new().existing().open(&place),
            Err(StoreError::NoStore(_))
        ));
        assert_eq!(place.exists(), place.ends_with("empty"));
        Store::open(&place).unwrap();
        let marker = fs::read_to_string(place.join("stratafs-store")).unwrap();
        assert!(
            marker.starts_with("stratafs store\nversion 2\nid "),
            "{marker}"
        );
        assert!(look(&place).is_ok());
    }
}

#[test]
fn anything_else_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("one/tmp")).unwrap();
    fs::create_dir_all(at("one/packs")).unwrap();
    fs::write(at("one/tmp/1-2-3"), "mine").unwrap();
    fs::write(at("one/packs/mine"), "mine").unwrap();
    fs::create_dir(at("two")).unwrap();
    fs::write(at("two/notes"), "mine").unwrap();
    fs::create_dir(at("three")).unwrap();
    fs::write(at("three/stratafs-store"), "of something else\n").unwrap();
    fs::write(at("four"), "a file").unwrap();
    let before = state(dir.path());
    for name in ["one", "two", "three", "four"] {
        for opened in [
            Store::open(&at(name)),
            look(&at(name)),
            Store::repair(&at(name)).map(|report| unreachable!("{report:?}")),
        ] {
            let error = opened.unwrap_err();
            assert!(
                matches!(error, StoreError::NotAStore { .. }),
                "{name}: {error}"
            );
            assert!(
                error.to_string().contains(&at(name).display().to_string()),
                "{error}"
            );
        }
    }
    assert_eq!(state(dir.path()), before);
}

#[test]
fn a_newer_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    fs::write(
        dir.path().join("stratafs-store"),
        "stratafs store\nversion 3\n",
    )
    .unwrap();
    for opened in [Store::open(dir.path()), look(dir.path())] {
        let error = opened.unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Version {
                    found: 3,
                    supported: 2,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_store_of_version_1_is_read_and_marked_by_what_writes() {
    let dir = tempfile::tempdir().unwrap();
    super::compat::fixture(dir.path());
    let before = state(dir.path());
    let looked = look(dir.path()).unwrap();
    assert!(looked.info("fixture").is_ok());
    assert!(looked.verify().unwrap().is_sound());
    assert_eq!(looked.id().unwrap(), None);
    assert_eq!(state(dir.path()), before);
    let store = Store::open(dir.path()).unwrap();
    for name in ["stratafs-store", "catalog.log", "catalog.copy", "reserve"] {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
    // The file that a program of version 1 would read is none to it.
    let guard = fs::read(dir.path().join("catalog.redb")).unwrap();
    assert!(guard.starts_with(b"This store has format version 2"));
    assert_eq!(store.id().unwrap().unwrap().len(), 32);
    // The handle from before goes on.
    assert!(looked.info("fixture").is_ok());
    assert_eq!(looked.id().unwrap(), store.id().unwrap());
    assert!(store.verify().unwrap().is_sound());
    assert!(redb::Database::create(dir.path().join("catalog.redb")).is_err());
    assert_eq!(fs::read(dir.path().join("catalog.redb")).unwrap(), guard);
}

#[test]
fn what_a_killed_process_began_to_make_or_mark_is_ended() {
    let dir = tempfile::tempdir().unwrap();
    Store::open(dir.path()).unwrap();
    let marker = fs::read(dir.path().join("stratafs-store")).unwrap();
    // Making stops after the marker, or within it.
    for name in ["catalog.log", "catalog.copy", "catalog.redb", "reserve"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert!(matches!(look(dir.path()), Err(StoreError::NoStore(_))));
    put_file(&Store::open(dir.path()).unwrap(), "a", b"a").unwrap();
    assert_eq!(fs::read(dir.path().join("stratafs-store")).unwrap(), marker);
    let other = tempfile::tempdir().unwrap();
    for len in [0, 3, 15, 30, marker.len()] {
        fs::write(other.path().join("stratafs-store.new"), &marker[..len]).unwrap();
        fs::write(other.path().join("catalog.lock"), "").unwrap();
        put_file(&Store::open(other.path()).unwrap(), "a", b"a").unwrap();
        fs::remove_dir_all(other.path()).unwrap();
        fs::create_dir(other.path()).unwrap();
    }
    fs::write(other.path().join("stratafs-store.new"), "mine").unwrap();
    assert!(Store::open(other.path()).is_err());
    // Marking stops before the old catalog was replaced.
    let old = tempfile::tempdir().unwrap();
    super::compat::fixture(old.path());
    let catalog = fs::read(old.path().join("catalog.redb")).unwrap();
    Store::open(old.path()).unwrap();
    fs::write(old.path().join("catalog.redb"), &catalog).unwrap();
    let store = Store::open(old.path()).unwrap();
    assert!(store.info("fixture").is_ok());
    assert_ne!(fs::read(old.path().join("catalog.redb")).unwrap(), catalog);
}

#[test]
fn looking_changes_nothing_and_changes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    put_file(&Store::open(dir.path()).unwrap(), "a", &noise(1, 20_000)).unwrap();
    // What an import left that was killed.
    fs::write(dir.path().join("tmp/1-2-3"), "stratpak and half").unwrap();
    let before = state(dir.path());
    let store = look(dir.path()).unwrap();
    assert_eq!(get_file(&store, "a").unwrap(), noise(1, 20_000));
    assert!(store.verify().unwrap().is_sound());
    store.stat().unwrap();
    store.list().unwrap();
    for refused in [
        store.tag("a", "b").map(drop),
        store.untag("a").map(drop),
        store.gc().map(drop),
        store.import().map(drop),
    ] {
        assert!(
            matches!(refused, Err(StoreError::ReadOnly(_))),
            "{refused:?}"
        );
    }
    assert_eq!(state(dir.path()), before);
    Store::open(dir.path()).unwrap();
    assert!(!dir.path().join("tmp/1-2-3").exists());
}

#[test]
fn sweeping_removes_only_what_a_store_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "a", &noise(1, 20_000)).unwrap();
    let name = "ab".repeat(32);
    let foreign = ["tmp/notes", "tmp/1-2", "packs/notes", "indexes/notes"].map(str::to_owned);
    // The name of a pack, and the bytes of something else.
    let foreign: Vec<String> = foreign
        .into_iter()
        .chain([format!("packs/{name}")])
        .collect();
    for name in &foreign {
        fs::write(dir.path().join(name), "mine").unwrap();
    }
    let ours = ["tmp/1-2-3".to_owned(), format!("layers/{name}")];
    for name in &ours {
        fs::write(dir.path().join(name), "stratlay and so on").unwrap();
    }
    fs::create_dir(dir.path().join("tmp/4-5-6")).unwrap();
    store.gc().unwrap();
    Store::open(dir.path()).unwrap();
    for name in &foreign {
        assert!(dir.path().join(name).is_file(), "{name}");
    }
    for name in &ours {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
    assert!(dir.path().join("tmp/4-5-6").is_dir());
    assert_eq!(get_file(&store, "a").unwrap(), noise(1, 20_000));
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["packs", "indexes", "layers", "tmp"] {
        let root = dir.path().join(format!("store-{name}"));
        Store::open(&root).unwrap();
        let elsewhere = dir.path().join(format!("elsewhere-{name}"));
        fs::rename(root.join(name), &elsewhere).unwrap();
        fs::write(elsewhere.join("1-2-3"), "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join(name)).unwrap();
        let error = Store::open(&root).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(look(&root).is_err());
        assert_eq!(fs::read(elsewhere.join("1-2-3")).unwrap(), b"mine");
    }
}

#[cfg(unix)]
#[test]
fn links_in_the_place_of_a_new_stores_files_are_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let model = dir.path().join("model");
    three_tags(&model);
    let mut names: Vec<_> = fs::read_dir(&model)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.push("stratafs-store.new".to_owned());
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        // Before the store is there, and in one that is.
        let (new, old) = (
            dir.path().join(format!("new-{name}")),
            dir.path().join(format!("old-{name}")),
        );
        fs::create_dir(&new).unwrap();
        three_tags(&old);
        if old.join(&name).is_dir() {
            fs::rename(old.join(&name), dir.path().join(format!("away-{name}"))).unwrap();
        } else {
            drop(fs::remove_file(old.join(&name)));
        }
        for root in [&new, &old] {
            std::os::unix::fs::symlink(&victim, root.join(&name)).unwrap();
            if let Ok(store) = Store::open(root) {
                drop(put_file(&store, "new", b"new"));
                drop(store.gc());
            }
            drop(Store::repair(root));
            assert_eq!(
                fs::read(&victim).unwrap(),
                b"precious",
                "{}",
                root.display()
            );
        }
        assert!(Store::open(&new).is_err(), "{name}");
    }
}

/// The tags that [`three_tags`] makes, with the seed of each.
const TAGS: [(&str, u64); 3] = [("a", 1), ("b", 2), ("c", 2)];

fn three_tags(dir: &Path) {
    let store = Store::open(dir).unwrap();
    put_file(&store, "a", &noise(1, 20_000)).unwrap();
    put_file(&store, "b", &noise(2, 20_000)).unwrap();
    store.tag("b", "c").unwrap();
}

fn all_there(dir: &Path) {
    let store = look(dir).unwrap();
    for (tag, seed) in TAGS {
        assert_eq!(get_file(&store, tag).unwrap(), noise(seed, 20_000));
    }
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.errors);
}

#[test]
fn a_lost_or_damaged_catalog_is_an_error_and_repaired_with_its_tags() {
    let dir = tempfile::tempdir().unwrap();
    three_tags(dir.path());
    let whole = fs::read(dir.path().join("catalog.log")).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    let text = b"something else".to_vec();
    for name in [
        "catalog.log",
        "catalog.copy",
        "catalog.redb",
        "stratafs-store",
    ] {
        for bytes in [
            None,
            Some(&flipped),
            Some(&whole[..300].to_vec()),
            Some(&text),
            Some(&Vec::new()),
        ] {
            let file = dir.path().join(name);
            match bytes {
                Some(bytes) => fs::write(&file, bytes).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let before = state(dir.path());
            let looked = look(dir.path());
            // Of the copy only verification tells, and the old catalog's place may have anything.
            match looked {
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("store repair"), "{name}: {error}");
                    assert!(Store::open(dir.path()).is_err());
                }
                Ok(store) => {
                    assert!(name == "catalog.copy" || name == "catalog.redb" && bytes.is_some());
                    assert_eq!(store.verify().unwrap().is_sound(), name == "catalog.redb");
                }
            }
            assert_eq!(state(dir.path()), before, "nothing is removed or made");
            let report = Store::repair(dir.path()).unwrap();
            assert_eq!(
                (report.images, report.tags, report.layers),
                (2, 3, 2),
                "{name}"
            );
            assert_eq!((report.lost_bytes, report.moved), (0, 0));
            assert_eq!(
                report.found.is_empty(),
                name == "catalog.redb" && bytes.is_some(),
                "{report:?}"
            );
            all_there(dir.path());
            assert!(Store::repair(dir.path()).unwrap().found.is_empty());
        }
    }
    let pack = fs::read_dir(dir.path().join("packs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::remove_file(&pack).unwrap();
    let report = Store::repair(dir.path()).unwrap();
    assert_eq!(report.missing, [pack.display().to_string()]);
    for name in ["catalog.log", "catalog.copy"] {
        fs::write(dir.path().join(name), "nothing").unwrap();
    }
    let packs = state(&dir.path().join("packs"));
    let error = Store::repair(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NoCatalog { .. }), "{error}");
    assert_eq!(state(&dir.path().join("packs")), packs);
}

#[test]
fn any_byte_of_both_logs_changed_in_turn_is_repaired_or_named() {
    let dir = tempfile::tempdir().unwrap();
    three_tags(dir.path());
    let (log, copy) = (
        dir.path().join("catalog.log"),
        dir.path().join("catalog.copy"),
    );
    for at in 0.. {
        let whole = fs::read(&log).unwrap();
        let (one, other) = (at * 61, at * 61 + 400);
        if other >= whole.len() {
            assert!(at > 10);
            break;
        }
        for (file, at) in [(&log, one), (&copy, other)] {
            let mut bytes = fs::read(file).unwrap();
            bytes[at] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        match Store::repair(dir.path()) {
            Ok(report) if report.lost_bytes == 0 => {
                println!("{at}: {report:?}");
                all_there(dir.path());
            }
            // Both files are damaged within the same change.
            Ok(report) => assert!(report.tags < 3 && report.moved > 0, "{report:?}"),
            Err(error) => assert!(matches!(error, StoreError::NoCatalog { .. }), "{error}"),
        }
        fs::remove_dir_all(dir.path()).unwrap();
        fs::create_dir(dir.path()).unwrap();
        three_tags(dir.path());
    }
}

#[test]
fn a_log_that_ends_anywhere_is_read_as_it_was_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    three_tags(dir.path());
    let log = dir.path().join("catalog.log");
    let whole = fs::read(&log).unwrap();
    let mut read = 0;
    for len in 0..whole.len() {
        fs::write(&log, &whole[..len]).unwrap();
        match look(dir.path()) {
            // The copy has the one change that is not whole.
            Ok(store) => {
                read += 1;
                for (tag, _) in TAGS {
                    store.info(tag).unwrap();
                }
            }
            Err(error) => assert!(matches!(error, StoreError::NoCatalog { .. }), "{error}"),
        }
    }
    assert!(read > 30, "{read}");
    // Which the next change writes.
    fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    Store::open(dir.path()).unwrap().tag("a", "d").unwrap();
    assert!(fs::read(&log).unwrap().starts_with(&whole));
    assert_eq!(
        fs::read(&log).unwrap(),
        fs::read(dir.path().join("catalog.copy")).unwrap()
    );
}

#[test]
fn a_log_of_many_changes_stays_short() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "a", b"a").unwrap();
    let other = look(dir.path()).unwrap();
    for round in 0..700 {
        store.tag("a", &format!("t{}", round % 7)).unwrap();
        if round % 100 == 0 {
            assert!(other.info(&format!("t{}", round % 7)).is_ok());
        }
    }
    assert!(fs::metadata(dir.path().join("catalog.log")).unwrap().len() < 80_000);
    assert_eq!(other.stat().unwrap().tags, 8);
    assert!(
        Store::open(dir.path())
            .unwrap()
            .verify()
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_collection_on_the_thread_of_an_import_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let import = store.import().unwrap();
    assert!(matches!(store.gc(), Err(StoreError::OwnImport(_))));
    assert!(matches!(
        Store::open(dir.path()).unwrap().gc(),
        Err(StoreError::OwnImport(_))
    ));
    // A second import of this process does not wait for a collection.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| store.gc().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(store.import().unwrap());
        drop(import);
        waiting.join().unwrap();
    });
}

#[test]
fn the_names_above_a_new_store_are_made_durable() {
    use std::sync::{Arc, Mutex};
    let dir = tempfile::tempdir().unwrap();
    let synced = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&synced);
    let hook = move |action: &'static str, path: &Path| {
        if action == "sync" {
            seen.lock().unwrap().push(path.to_owned());
        }
        Ok(())
    };
    let place = dir.path().join("new/deep");
    StoreOptions::new()
        .hook(Arc::new(hook))
        .open(&place)
        .unwrap();
    let synced = synced.lock().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("new"), place] {
        assert!(synced.contains(&path), "{}: {synced:?}", path.display());
    }
}

#[test]
fn a_full_disk_loses_nothing_and_lets_room_be_made() {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        put_file(&store, "a", &noise(1, 20_000)).unwrap();
        put_file(&store, "b", &noise(2, 20_000)).unwrap();
    }
    // Full until the reserve is given up.
    let (full, spent) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let reserve = dir.path().join("reserve");
    let hook = {
        let (full, spent) = (Arc::clone(&full), Arc::clone(&spent));
        Arc::new(move |action: &'static str, path: &Path| {
            if action == "remove" && path == reserve {
                spent.store(true, Ordering::SeqCst);
            }
            let no_room = full.load(Ordering::SeqCst) && !spent.load(Ordering::SeqCst);
            if no_room && matches!(action, "make" | "write") {
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    };
    let store = StoreOptions::new().hook(hook).open(dir.path()).unwrap();
    for _ in 0..3 {
        let refused = store.tag("a", "x").unwrap_err();
        assert!(matches!(refused, StoreError::Io { .. }), "{refused}");
        assert_eq!(get_file(&store, "a").unwrap(), noise(1, 20_000));
        assert_eq!(store.list().unwrap().len(), 2);
    }
    assert!(
        !spent.load(Ordering::SeqCst),
        "only what frees room may use the reserve"
    );
    store.untag("a").unwrap();
    assert!(spent.swap(false, Ordering::SeqCst));
    assert!(
        dir.path().join("reserve").is_file(),
        "the reserve is there again"
    );
    let report = store.gc().unwrap();
    assert_eq!(report.images, 1);
    assert!(report.freed_bytes >= 20_000);
    full.store(false, Ordering::SeqCst);
    assert_eq!(get_file(&store, "b").unwrap(), noise(2, 20_000));
    assert!(store.verify().unwrap().is_sound());
}

#[cfg(target_os = "linux")]
#[test]
fn a_small_disk_that_fills_up_stays_readable() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mounted.is_ok_and(|done| done.status.success()) {
        println!("skipped: this user may not mount a tmpfs");
        return;
    }
    let place = dir.path().join("s");
    three_tags(&place);
    let fill = dir.path().join("fill");
    for round in 0..12 {
        let mut file = fs::File::create(&fill).unwrap();
        while std::io::Write::write(&mut file, &[1; 4096 + 7]).is_ok() {}
        drop(file);
        let store = Store::open(&place).unwrap();
        for n in 0..40 {
            drop(store.tag("a", &format!("x{round}.{n}")));
        }
        assert!(put_file(&store, "large", &noise(9, 1_000_000)).is_err());
        drop(store);
        all_there(&place);
        let store = Store::open(&place).unwrap();
        let tags: Vec<String> = store
            .list()
            .unwrap()
            .into_iter()
            .flat_map(|image| image.tags)
            .collect();
        for tag in tags.iter().filter(|tag| tag.starts_with('x')) {
            store.untag(tag).unwrap();
        }
        store.gc().unwrap();
        all_there(&place);
        fs::remove_file(&fill).unwrap();
        Store::open(&place).unwrap();
        assert!(place.join("reserve").metadata().unwrap().len() >= 200_000);
    }
    drop(Command::new("umount").arg(dir.path()).status());
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_on_a_read_only_mount_is_read() {
    use std::process::Command;
    let dir = tempfile::tempdir().unwrap();
    let (place, shown) = (dir.path().join("s"), dir.path().join("ro"));
    three_tags(&place);
    fs::create_dir(&shown).unwrap();
    let bind = Command::new("mount")
        .arg("--bind")
        .args([&place, &shown])
        .output();
    if !bind.is_ok_and(|done| done.status.success()) {
        println!("skipped: this user may not mount");
        return;
    }
    let again = Command::new("mount")
        .args(["-o", "remount,ro,bind"])
        .arg(&shown)
        .output();
    assert!(again.unwrap().status.success());
    all_there(&shown);
    let looked = look(&shown).unwrap();
    // Another process writes meanwhile.
    let store = Store::open(&place).unwrap();
    put_file(&store, "d", &noise(4, 20_000)).unwrap();
    assert_eq!(get_file(&looked, "d").unwrap(), noise(4, 20_000));
    drop(Command::new("umount").arg(&shown).status());
}
