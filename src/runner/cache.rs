//! Compiled guests on disk.
//!
//! Machine code that was damaged on disk, or that somebody else wrote, must not
//! run. So the directory is used only if nobody else can write to it or to
//! anything in it, and each guest has a directory of its own with a seal: a keyed
//! digest of the code. The key is drawn when the cache is made and can be read by
//! the user alone. A directory that breaks the rules, or whose seal does not
//! fit, is emptied, and the guest compiled anew. Whoever changes a key or code holds
//! the lock: what one process keeps is not half made when another one looks for it.
//!
//! The code lies there as wasmtime maps it: what a guest does not run takes no
//! memory, and processes that run the same guest share what they run.
//!
//! ```text
//! DIR/key                                   32 bytes at random
//! DIR/lock                                  empty, locked while something is changed
//! DIR/<blake3 of guest and settings>/seal   hex digest of the name, the length and four parts of:
//! DIR/<blake3 of guest and settings>/code   wasmtime's compiled code
//! ```

use std::fmt;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

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
        let kept = code().and_then(|code| {
            let _lock = lock(&dir.home, PATIENCE_TO_KEEP)?;
            let kept = dir.keep(&code);
            forget_oldest(&dir.home, MAX_CACHED_BYTES);
            kept
        });
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
        let is_whole = is_whole(&dir, &key) || {
            let _lock = lock(&home, PATIENCE).map_err(text)?;
            // What did not fit may have been half kept.
            let is_whole = is_whole(&dir, &key);
            if !is_whole {
                clear(&dir).map_err(text)?;
                make_dir(&dir).map_err(text)?;
                check_tree(&dir)?;
            }
            is_whole
        };
        Ok(Self {
            home,
            dir,
            key,
            is_whole,
        })
    }

    /// Writes code and its seal. Code without a seal that fits is none.
    fn keep(&self, code: &[u8]) -> io::Result<()> {
        // It may have been the oldest since it was made.
        make_dir(&self.dir)?;
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

/// How long to wait for whoever changes a cache before a guest is started without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long to wait before code is not kept: that of a guest with much memory is written for seconds.
const PATIENCE_TO_KEEP: Duration = Duration::from_secs(30);

/// Waits until nobody else changes the cache. Nobody does while the returned file is open.
fn lock(home: &Path, patience: Duration) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Neither another file behind a link nor a pipe that nobody reads.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        options.mode(0o600).custom_flags(flags);
    }
    let file = options.open(home.join("lock"))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) if start.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(fs::TryLockError::WouldBlock) => {
                let held = "it is being changed, which takes too long to wait for";
                return Err(io::Error::new(io::ErrorKind::TimedOut, held));
            }
            // Where files have no locks, what two make at once is made twice at worst.
            Err(fs::TryLockError::Error(error)) if !lacks_locks(&error) => return Err(error),
            Err(fs::TryLockError::Error(_)) | Ok(()) => return Ok(file),
        }
    }
}

/// Returns whether a file system has no locks, or nobody who answers for them.
fn lacks_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::NOLCK.raw_os_error()) {
        return true;
    }
    error.kind() == io::ErrorKind::Unsupported
}

/// Reads the key of a cache, drawn now if there is none that can be used.
/// Without the key that they were made with, no seals fit.
fn key_of(home: &Path) -> io::Result<SealKey> {
    let path = home.join("key");
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    // Two that draw one at once would seal with two keys, of which one stays.
    let _lock = lock(home, PATIENCE)?;
    if let Some(key) = read_key(&path) {
        return Ok(key);
    }
    clear(&path)?;
    put(home, "key", &random()?)?;
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
mod tests;
