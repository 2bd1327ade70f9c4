//! What a cache of compiled guests keeps, forgets and does not believe.

use super::*;

/// Makes an entry of `bytes` of code that was used `age` minutes ago.
fn entry(home: &Path, name: &str, age: u64, bytes: usize) {
    make_dir(&home.join(name)).unwrap();
    put(&home.join(name), CODE, &vec![0; bytes]).unwrap();
    put(&home.join(name), "seal", b"").unwrap();
    let seal = fs::File::options()
        .append(true)
        .open(home.join(name).join("seal"))
        .unwrap();
    let used = SystemTime::now() - Duration::from_secs(age * 60);
    seal.set_modified(used).unwrap();
}

#[test]
fn the_guests_used_longest_ago_go() {
    let home = tempfile::tempdir().unwrap();
    for age in 0..MAX_CACHED_GUESTS + 2 {
        entry(home.path(), &age.to_string(), age as u64, 1);
    }
    fs::write(home.path().join("key"), [0; 32]).unwrap();
    forget_oldest(home.path(), MAX_CACHED_BYTES);
    let left = fs::read_dir(home.path()).unwrap().count();
    assert_eq!(left, MAX_CACHED_GUESTS + 1);
    assert!(home.path().join("0").exists() && home.path().join("key").exists());
    let oldest = (MAX_CACHED_GUESTS + 1).to_string();
    assert!(!home.path().join(oldest).exists());
}

#[test]
fn compiled_code_has_a_bound_in_bytes() {
    let home = tempfile::tempdir().unwrap();
    for (name, age) in [("a", 3), ("b", 2), ("c", 1), ("d", 0)] {
        entry(home.path(), name, age, 1000);
    }
    forget_oldest(home.path(), 2500);
    let left = |name: &str| home.path().join(name).exists();
    assert_eq!(["a", "b", "c", "d"].map(left), [false, false, true, true]);
}

/// Opens the place of a guest in a cache, or says why there is none.
fn opened(home: &Path) -> Result<CacheDir, String> {
    CacheDir::open(home, b"guest", "settings")
}

/// Does the same in eight threads at once.
fn at_once<T: Send>(work: impl Fn() -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let work = || {
            start.wait();
            work()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        let done = threads.into_iter().map(|thread| thread.join().unwrap());
        done.collect()
    })
}

#[test]
fn threads_that_meet_in_a_new_cache_have_one_key() {
    for _ in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let keys = at_once(|| opened(home.path()).unwrap().key);
        let kept = read_key(&home.path().join("key")).unwrap();
        assert!(keys.iter().all(|key| *key == kept));
    }
}

#[test]
fn threads_that_look_for_one_guest_and_keep_it_leave_it_whole() {
    for _ in 0..20 {
        let home = tempfile::tempdir().unwrap();
        let uses = at_once(|| {
            let entry = CacheEntry::open(Some(home.path()), || Digest::of(b"guest"), "settings");
            match entry.code() {
                Some(file) => {
                    assert_eq!(fs::read(file).unwrap(), b"machine code");
                    entry.hit()
                }
                None => entry.keep(|| Ok(b"machine code".to_vec())),
            }
        });
        let is_used = |used: &CacheUse| !matches!(used, CacheUse::Off { .. });
        assert!(uses.iter().all(is_used), "{uses:?}");
        assert!(uses.contains(&CacheUse::Miss));
        let entry = CacheEntry::open(Some(home.path()), || Digest::of(b"guest"), "settings");
        let dir = entry.code().unwrap().parent().unwrap().to_owned();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 2);
    }
}

#[test]
fn an_entry_that_was_the_oldest_while_its_guest_was_compiled_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let open = || CacheEntry::open(Some(home.path()), || Digest::of(b"guest"), "settings");
    let waiting = open();
    for age in 0..MAX_CACHED_GUESTS {
        entry(home.path(), &age.to_string(), 0, 1);
    }
    forget_oldest(home.path(), MAX_CACHED_BYTES);
    assert!(!waiting.dir.as_ref().unwrap().dir.exists());
    assert_eq!(
        waiting.keep(|| Ok(b"machine code".to_vec())),
        CacheUse::Miss
    );
    assert!(open().code().is_some());
}

#[test]
fn a_cache_that_is_not_let_go_is_not_used() {
    let home = tempfile::tempdir().unwrap();
    drop(opened(home.path()).unwrap());
    let held = lock(home.path(), PATIENCE).unwrap();
    let error = opened(home.path()).err().unwrap();
    assert!(error.contains("too long to wait"), "{error}");
    drop(held);
    assert!(opened(home.path()).is_ok());
}

/// A cache with one sealed guest, and the guest's directory.
fn sealed() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = opened(home.path()).unwrap();
    dir.keep(b"machine code").unwrap();
    assert!(is_whole(&dir.dir, &dir.key));
    (home, dir.dir)
}

#[test]
fn code_that_was_changed_is_thrown_away() {
    let (home, dir) = sealed();
    let file = dir.join(CODE);
    drop(opened(home.path()).unwrap());
    assert!(file.exists());
    fs::write(&file, b"other code").unwrap();
    drop(opened(home.path()).unwrap());
    assert!(!file.exists());
}

#[test]
fn each_byte_of_code_is_sealed_whether_it_is_digested_at_once_or_not() {
    for bytes in [0, 1, 3, 4, 5, 4_099, SMALL_CODE, SMALL_CODE + 7] {
        let home = tempfile::tempdir().unwrap();
        let dir = opened(home.path()).unwrap();
        let code: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        dir.keep(&code).unwrap();
        let with = |code: &[u8]| {
            fs::write(dir.dir.join(CODE), code).unwrap();
            is_whole(&dir.dir, &dir.key)
        };
        assert!(with(&code), "{bytes}");
        let ends = [0, 1, 2, 3, 4].map(|part| (part * code.len() / 4).min(code.len()));
        for at in ends
            .into_iter()
            .chain(ends.map(|end| end.saturating_sub(1)))
        {
            let mut changed = code.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1;
                assert!(!with(&changed), "{bytes}, {at}");
            }
        }
        assert!(!with(&[&code[..], &[0]].concat()), "{bytes}");
        if let Some((_, shorter)) = code.split_last() {
            assert!(!with(shorter), "{bytes}");
        }
    }
}

#[test]
fn a_seal_made_without_the_key_does_not_fit() {
    let (home, dir) = sealed();
    // Whoever can write there knows how seals are made, but not the key.
    let file = dir.join(CODE);
    fs::write(&file, b"other code").unwrap();
    let forged = seal_of(&dir, &[0; 32]).unwrap();
    put(&dir, "seal", forged.as_bytes()).unwrap();
    drop(opened(home.path()).unwrap());
    assert!(!file.exists());
}

#[test]
fn the_code_of_another_guest_does_not_fit() {
    let (home, dir) = sealed();
    let other = CacheDir::open(home.path(), b"other", "settings")
        .unwrap()
        .dir;
    fs::remove_dir_all(&other).unwrap();
    fs::rename(&dir, &other).unwrap();
    drop(CacheDir::open(home.path(), b"other", "settings").unwrap());
    assert!(!other.join(CODE).exists());
}

#[cfg(unix)]
mod rights {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(home: &Path) -> String {
        match opened(home) {
            Ok(_) => "used".to_owned(),
            Err(why) => why,
        }
    }

    #[test]
    fn a_cache_that_others_may_write_to_is_refused() {
        let (home, _) = sealed();
        for mode in [0o770, 0o702, 0o777, 0o1777] {
            allow(home.path(), mode);
            let why = refusal(home.path());
            assert!(why.contains("may be written by others"), "{mode:o}: {why}");
        }
        allow(home.path(), 0o755);
        assert_eq!(refusal(home.path()), "used");
    }

    #[test]
    fn a_directory_above_that_others_may_write_to_is_refused() {
        let above = tempfile::tempdir().unwrap();
        let home = above.path().join("cache");
        assert_eq!(refusal(&home), "used");
        allow(above.path(), 0o777);
        let why = refusal(&home);
        assert!(why.contains("above it may be written by others"), "{why}");
        // As `/tmp` is: each may take out his own only.
        allow(above.path(), 0o1777);
        assert_eq!(refusal(&home), "used");
    }

    #[test]
    fn files_that_others_may_write_to_are_not_loaded() {
        for which in [CODE, "seal", ""] {
            let (home, dir) = sealed();
            allow(&dir.join(which), 0o777);
            drop(opened(home.path()).unwrap());
            assert!(!dir.join(CODE).exists(), "{which}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lock_that_is_no_file_of_the_cache_is_refused_at_once() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let home = tempfile::tempdir().unwrap();
        let place = home.path().join("lock");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &place, FileType::Fifo, mode, 0).unwrap();
        assert!(opened(home.path()).is_err());
        fs::remove_file(&place).unwrap();
        symlink(home.path().join("another"), &place).unwrap();
        assert!(opened(home.path()).is_err());
        assert!(!home.path().join("another").exists());
        fs::remove_file(&place).unwrap();
        assert!(opened(home.path()).is_ok());
    }

    #[test]
    fn links_are_not_followed() {
        let (home, dir) = sealed();
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("code");
        fs::rename(dir.join(CODE), &moved).unwrap();
        symlink(&moved, dir.join(CODE)).unwrap();
        drop(opened(home.path()).unwrap());
        assert!(!dir.join(CODE).is_symlink() && !dir.join(CODE).exists());
        assert!(moved.exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_drawn_anew() {
        let (home, dir) = sealed();
        let key = home.path().join("key");
        let before = fs::read(&key).unwrap();
        allow(&key, 0o644);
        drop(opened(home.path()).unwrap());
        assert_ne!(fs::read(&key).unwrap(), before);
        assert!(!dir.join(CODE).exists());
    }

    #[test]
    fn files_of_another_user_are_not_loaded() {
        if !rustix::process::geteuid().is_root() {
            return; // Only root can give files away.
        }
        let (home, dir) = sealed();
        let file = dir.join(CODE);
        std::os::unix::fs::chown(&file, Some(12_345), None).unwrap();
        drop(opened(home.path()).unwrap());
        assert!(!file.exists());
        std::os::unix::fs::chown(home.path(), Some(12_345), None).unwrap();
        let why = refusal(home.path());
        assert!(why.contains("belongs to user 12345"), "{why}");
    }
}
