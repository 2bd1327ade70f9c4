//! The N-th step on a file fails, once and for ever.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stratafs::chunk::ContentBuilder;
use stratafs::store::{Store, StoreOptions};

use super::support::{get_file, noise, put_file};

/// Runs `work` with the N-th step failing, N = 1, 2, 3 ... until it passes.
fn each_step_fails(
    for_ever: bool,
    work: impl Fn(&Store) -> Result<(), String>,
    holds: impl Fn(&Store, bool),
) {
    for fails in 1.. {
        let dir = tempfile::tempdir().unwrap();
        put_file(&Store::open(dir.path()).unwrap(), "old", &noise(1, 20_000)).unwrap();
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let hook = Arc::new(move |_: &'static str, _: &std::path::Path| {
            let step = counted.fetch_add(1, Ordering::Relaxed) + 1;
            if step == fails || (for_ever && step > fails) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Ok(())
        });
        let opened = StoreOptions::new().hook(hook).open(dir.path());
        let done = opened
            .map_err(|error| error.to_string())
            .and_then(|store| work(&store));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(
            get_file(&store, "old").unwrap(),
            noise(1, 20_000),
            "step {fails}"
        );
        holds(&store, done.is_ok());
        let report = store.verify().unwrap();
        assert!(report.is_sound(), "step {fails}: {:?}", report.errors);
        assert_eq!(store.stat().unwrap().unfinished_bytes, 0, "step {fails}");
        if steps.load(Ordering::Relaxed) < fails {
            assert_eq!(done, Ok(()));
            assert!(fails > 20, "only {fails} steps were seen");
            return;
        }
    }
}

/// All files in the directories of chunks, and of what is not finished.
fn chunk_files(dir: &std::path::Path) -> usize {
    let count = |name| std::fs::read_dir(dir.join(name)).unwrap().count();
    ["tmp", "packs", "layers", "indexes"]
        .map(count)
        .iter()
        .sum()
}

#[test]
fn an_import_that_is_given_up_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::new().max_pack_bytes(4096);
    let store = options.open(dir.path()).unwrap();
    // One is open all the time, as that of a build.
    let keeper = store.import().unwrap();
    for len in [0, 100, 3000, 20_000] {
        let import = store.import().unwrap();
        let content = ContentBuilder::of(import.pool(), &noise(1, len));
        drop(import);
        // Whoever still reads it does.
        assert_eq!(content.size(), len as u64);
        assert_eq!(content.pieces().count() > 0, len > 0);
        drop(content);
        let left = std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
        assert_eq!(left, 0, "{len}");
    }
    // Full packs have names; they go with the last import that could use them.
    assert!(chunk_files(dir.path()) > 0);
    drop(keeper);
    assert_eq!(chunk_files(dir.path()), 0);
    put_file(&store, "new", &noise(1, 20_000)).unwrap();
    assert_eq!(get_file(&store, "new").unwrap(), noise(1, 20_000));
    assert!(store.verify().unwrap().is_sound());
}

fn import_each_step(for_ever: bool) {
    let bytes = noise(2, 20_000);
    each_step_fails(
        for_ever,
        |store| {
            put_file(store, "new", &bytes)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        |store, acknowledged| match get_file(store, "new") {
            Ok(read) => assert_eq!(read, bytes),
            Err(error) => {
                assert!(!acknowledged, "{error}");
                assert_eq!(store.list().unwrap().len(), 1, "{error}");
                // And it can be done now.
                put_file(store, "new", &bytes).unwrap();
                assert_eq!(get_file(store, "new").unwrap(), bytes);
            }
        },
    );
}

#[test]
fn case_105_an_import_whose_nth_step_fails_once() {
    import_each_step(false);
}

#[test]
fn case_105_an_import_whose_steps_fail_from_the_nth_on() {
    import_each_step(true);
}

#[test]
fn case_105_a_collection_whose_nth_step_fails() {
    for for_ever in [false, true] {
        each_step_fails(
            for_ever,
            |store| {
                put_file(store, "gone", &noise(3, 20_000)).map_err(|error| error.to_string())?;
                store.untag("gone").map_err(|error| error.to_string())?;
                store.gc().map(drop).map_err(|error| error.to_string())
            },
            |store, _| {
                if get_file(store, "gone").is_ok() {
                    store.untag("gone").unwrap();
                }
                store.gc().unwrap();
                assert_eq!(store.list().unwrap().len(), 1);
                assert_eq!(store.stat().unwrap().packs, 1);
            },
        );
    }
}

#[test]
fn case_105_taking_a_pack_apart_whose_nth_step_fails() {
    let large = noise(3, 60_000);
    for for_ever in [false, true] {
        each_step_fails(
            for_ever,
            |store| {
                put_file(store, "gone", &large).map_err(|error| error.to_string())?;
                put_file(store, "kept", &large[..20_000]).map_err(|error| error.to_string())?;
                store.untag("gone").map_err(|error| error.to_string())?;
                store.gc().map(drop).map_err(|error| error.to_string())
            },
            |store, done| {
                match get_file(store, "kept") {
                    Ok(read) => assert!(read == large[..20_000]),
                    Err(error) => assert!(!done, "{error}"),
                }
                store.gc().unwrap();
                if let Ok(read) = get_file(store, "kept") {
                    assert!(read == large[..20_000]);
                }
                if done {
                    let chunks = store.stat().unwrap().chunk_bytes;
                    assert!(chunks < 20_000 + 40_000, "{chunks}");
                }
            },
        );
    }
}
