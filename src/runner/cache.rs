//! Compiled guests on disk.
//!
//! Machine code that was damaged on disk, or that somebody else wrote, must not
//! run. So the directory is used only if nobody else can write to it or to
//! anything in it, and each guest has a directory of its own with a seal: a keyed
//! digest of the code. The key is drawn when the cache is made and can be read by
//! the user alone. A directory that breaks the rules, or whose seal does not
//! fit, is emptied, and the guest compiled anew.
//!
//! The code lies there as wasmtime maps it: what a guest does not run takes no
//! memory, and processes that run the same guest share what they run.
//!
//! ```text
//! DIR/key                                   32 bytes at random
//! DIR/<blake3 of guest and settings>/seal   hex digest of the name, the length and four parts of:
//! DIR/<blake3 of guest and settings>/code   wasmtime's compiled code
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::private::{check_home, check_tree, make_dir};
use crate::digest::Digest;
use crate::limits::{MAX_CACHED_BYTES, MAX_CACHED_GUESTS};

/// Keys the seals of a cache.
type SealKey = [u8; 32];

/// How compiled code was obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheUse {
    /// From disk.
    Hit,
    /// Compiled, and kept for the next time.
    Miss,
    /// Compiled; no directory was named, or it cannot be used.
    Off {
        /// What was wrong with the directory, if one was named.
        reason: Option<String>,
    },
}

impl fmt::Display for CacheUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit => f.write_str("hit"),
            Self::Miss => f.write_str("miss"),
            Self::Off { reason: None } => f.write_str("off"),
            Self::Off {
                reason: Some(reason),
            } => write!(f, "off: {reason}"),
        }
    }
}

/// The entry of one guest in the cache.
pub(super) struct CacheEntry {
    dir: Option<CacheDir>,
    off: Option<String>,
}

struct CacheDir {
    home: PathBuf,
    dir: PathBuf,
    key: SealKey,
    /// Whether there is code that has been checked.
    is_whole: bool,
}

impl CacheEntry {
    /// Makes the directory of a guest ready, which `identity` stands for: the
    /// digest of its bytes, or one that is compared with them before code is kept. It is asked
    /// for where there is a cache. Never fails: a run without a
    /// cache is slower, no worse.
    pub(super) fn open(
        home: Option<&Path>,
        identity: impl FnOnce() -> Digest,
        settings: &str,
    ) -> Self {
        let Some(home) = home else {
            return Self {
                dir: None,
                off: None,
            };
        };
        match CacheDir::open(home, identity().as_bytes(), settings) {
            Ok(dir) => Self {
                dir: Some(dir),
                off: None,
            },
            Err(reason) => Self {
                dir: None,
                off: Some(format!("{}: {reason}", home.display())),
            },
        }
    }

    /// Returns the file of the guest's code, if it is there and nobody but this
    /// user's own processes can have written it.
    pub(super) fn code(&self) -> Option<PathBuf> {
        let dir = self.dir.as_ref().filter(|dir| dir.is_whole)?;
        Some(dir.dir.join(CODE))
    }

    /// Marks the code that was found as used.
    pub(super) fn hit(self) -> CacheUse {
        self.mark_used();
        CacheUse::Hit
    }

    /// Has others who look for what was used longest ago find another entry than this one.
    pub(super) fn mark_used(&self) {
        if let Some(dir) = &self.dir {
            mark_used(&dir.dir);
        }
    }

    /// Keeps code that was compiled, if there is a place for it.
    pub(super) fn keep(self, code: impl FnOnce() -> io::Result<Vec<u8>>) -> CacheUse {
        let Some(dir) = self.dir else {
            return CacheUse::Off { reason: self.off };
        };
        let kept = code().and_then(|code| dir.keep(&code));
        forget_oldest(&dir.home, MAX_CACHED_BYTES);
        match kept {
            Ok(()) => CacheUse::Miss,
            Err(error) => CacheUse::Off {
                reason: Some(format!("{}: {error}", dir.dir.display())),
            },
        }
    }
}

/// The file of a guest's code in its directory.
const CODE: &str = "code";

impl CacheDir {
    fn open(home: &Path, identity: &[u8], settings: &str) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        make_dir(home).map_err(text)?;
        let home = fs::canonicalize(home).map_err(text)?;
        check_home(&home)?;
        let key = key_of(&home).map_err(|error| format!("its key: {error}"))?;
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(settings.as_bytes())
            .update(&[0])
            .update(identity);
        let dir = home.join(&hasher.finalize().to_hex()[..32]);
        let is_whole = is_whole(&dir, &key);
        if !is_whole {
            clear(&dir).map_err(text)?;
            make_dir(&dir).map_err(text)?;
            check_tree(&dir)?;
        }
        Ok(Self {
            home,
            dir,
            key,
            is_whole,
        })
    }

    /// Writes code and its seal. Code without a seal that fits is none.
    fn keep(&self, code: &[u8]) -> io::Result<()> {
        put(&self.dir, CODE, code)?;
        let seal = seal_of(&self.dir, &self.key)?;
        put(&self.dir, "seal", seal.as_bytes())
    }
}

/// Returns whether the code in a directory is what was left there: by the rules
/// about owners and modes, and by its seal.
fn is_whole(dir: &Path, key: &SealKey) -> bool {
    if check_tree(dir).is_err() {
        return false;
    }
    let sealed = fs::read_to_string(dir.join("seal")).ok();
    let sealed = sealed.and_then(|text| blake3::Hash::from_hex(text).ok());
    let found = seal_of(dir, key).ok();
    let found = found.and_then(|text| blake3::Hash::from_hex(text).ok());
    // Hashes are compared in constant time.
    sealed
        .zip(found)
        .is_some_and(|(sealed, found)| sealed == found)
}

/// Removes a directory, or whatever is in its place.
fn clear(dir: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(dir) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(dir),
        Ok(_) => fs::remove_file(dir),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Parts of the compiled code that are digested at once, a thread each.
const SEALED_PARTS: u64 = 4;

/// Bytes that are not worth a thread.
const SMALL_CODE: u64 = 1 << 20;

/// Digests the compiled code in `dir` piece by piece: none of it stays in memory.
fn seal_of(dir: &Path, key: &SealKey) -> io::Result<String> {
    let code = dir.join(CODE);
    let len = fs::metadata(&code)?.len();
    let part = len.div_ceil(SEALED_PARTS);
    let of_part = |number: u64| -> io::Result<blake3::Hash> {
        let mut file = fs::File::open(&code)?;
        file.seek(io::SeekFrom::Start(number * part))?;
        // The last takes what there is, more than was counted as well.
        let most = if number + 1 < SEALED_PARTS {
            part
        } else {
            u64::MAX
        };
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update_reader(file.take(most))?;
        Ok(hasher.finalize())
    };
    let parts: io::Result<Vec<_>> = match len <= SMALL_CODE {
        true => (0..SEALED_PARTS).map(of_part).collect(),
        false => std::thread::scope(|scope| {
            let of_part = &of_part;
            let parts = (0..SEALED_PARTS).map(|number| scope.spawn(move || of_part(number)));
            let parts: Vec<_> = parts.collect();
            let joined = parts.into_iter().map(|part| match part.join() {
                Ok(hash) => hash,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        }),
    };
    let mut hasher = blake3::Hasher::new_keyed(key);
    // Of this guest: another's code would be as good a file.
    let own = dir.file_name().unwrap_or_default();
    hasher.update(own.as_encoded_bytes()).update(&[0]);
    hasher.update(&len.to_le_bytes());
    for part in parts? {
        hasher.update(part.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Reads the key of a cache, drawn now if there is none that can be used.
/// Without the key that they were made with, no seals fit.
fn key_of(home: &Path) -> io::Result<SealKey> {
    let path = home.join("key");
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    // Two threads of one process would seal with two keys, of which one stays.
    static DRAWING: Mutex<()> = Mutex::new(());
    let _drawing = DRAWING.lock();
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    clear(&path)?;
    put(home, "key", &random()?)?;
    // Of two processes that draw one, the last is read by both from then on.
    read_key(&path).ok_or_else(|| io::Error::other("it cannot be read back"))
}

/// Reads a key that is a file of this user, which nobody else can read.
fn read_key(path: &Path) -> Option<SealKey> {
    let meta = fs::symlink_metadata(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let own = rustix::process::geteuid().as_raw();
        if meta.uid() != own || meta.mode() & 0o077 != 0 {
            return None;
        }
    }
    if !meta.is_file() || meta.len() != 32 {
        return None;
    }
    fs::read(path).ok()?.try_into().ok()
}

/// Draws a key.
#[cfg(unix)]
fn random() -> io::Result<SealKey> {
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(key)
}

/// Draws a key: from the secrets that the system gives the standard library
/// for its hash tables.
#[cfg(not(unix))]
fn random() -> io::Result<SealKey> {
    use std::hash::{BuildHasher, RandomState};
    let mut hasher = blake3::Hasher::new();
    for number in 0..8_u64 {
        hasher.update(&RandomState::new().hash_one(number).to_le_bytes());
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Writes a file by rename, for nobody else, so that no reader sees half of it.
fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Of this call alone: threads may write the same file.
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let temporary = dir.join(format!("{name}.{}.{call}", std::process::id()));
    clear(&temporary)?;
    let mut options = fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, dir.join(name)));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Marks an entry as used, so that [`forget_oldest`] keeps it.
fn mark_used(dir: &Path) {
    let seal = fs::File::options().append(true).open(dir.join("seal"));
    drop(seal.and_then(|seal| seal.set_modified(SystemTime::now())));
}

/// Removes the entries that were used longest ago, down to
/// [`MAX_CACHED_GUESTS`] and to `max_bytes` of code. What cannot be removed stays
/// for the next time.
fn forget_oldest(home: &Path, max_bytes: u64) {
    let Ok(entries) = fs::read_dir(home) else {
        return;
    };
    let mut known: Vec<_> = entries
        .filter_map(|entry| {
            let dir = entry.ok()?.path();
            let meta = fs::symlink_metadata(&dir).ok()?;
            if !meta.is_dir() {
                return None;
            }
            // One without a seal is being made, or was left behind: it is as old
            // as its directory.
            let used = fs::metadata(dir.join("seal")).or(Ok(meta));
            let used = used.and_then(|used: fs::Metadata| used.modified()).ok()?;
            Some((used, dir))
        })
        .collect();
    known.sort();
    let mut bytes = 0_u64;
    let kept = known
        .iter()
        .rev()
        .take(MAX_CACHED_GUESTS)
        .take_while(|(_, dir)| {
            bytes = bytes.saturating_add(check_tree(dir).unwrap_or(0));
            bytes <= max_bytes
        });
    let surplus = known.len() - kept.count();
    for (_, dir) in known.into_iter().take(surplus) {
        drop(fs::remove_dir_all(dir));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn threads_that_keep_one_guest_leave_it_whole() {
        let home = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let dir = opened(home.path()).unwrap();
            let kept = at_once(|| dir.keep(b"machine code"));
            assert!(kept.iter().all(Result::is_ok), "{kept:?}");
            assert!(is_whole(&dir.dir, &dir.key));
            assert_eq!(fs::read_dir(&dir.dir).unwrap().count(), 2);
        }
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
}
