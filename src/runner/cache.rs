//! Compiled guests on disk.
//!
//! wasmtime's own cache does the work; it trusts what it reads, and machine
//! code that was damaged on disk must not run. So each guest has a directory
//! of its own with a seal: a digest over the files in it. A directory whose
//! seal does not fit is emptied, and the guest compiled anew.
//!
//! ```text
//! DIR/<blake3 of guest and settings>/seal            hex digest of:
//! DIR/<blake3 of guest and settings>/code/modules/*  wasmtime's files
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmtime::{Cache, CacheConfig};

use crate::limits::MAX_CACHED_GUESTS;

/// How compiled code was come by.
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

/// The place of one guest in the cache.
pub(super) struct Entry {
    place: Option<Place>,
    off: Option<String>,
}

struct Place {
    home: PathBuf,
    dir: PathBuf,
    cache: Cache,
}

impl Entry {
    /// Makes the directory of a guest ready. Never fails: a run without a
    /// cache is slower, no worse.
    pub(super) fn open(home: Option<&Path>, wasm: &[u8], settings: &str) -> Self {
        let Some(home) = home else {
            return Self {
                place: None,
                off: None,
            };
        };
        match Place::open(home, wasm, settings) {
            Ok(place) => Self {
                place: Some(place),
                off: None,
            },
            Err(reason) => Self {
                place: None,
                off: Some(format!("{}: {reason}", home.display())),
            },
        }
    }

    /// Gives what the engine's configuration wants.
    pub(super) fn cache(&self) -> Option<Cache> {
        self.place.as_ref().map(|place| place.cache.clone())
    }

    /// Seals what compiling has left in the directory, and tells how the
    /// code was come by.
    pub(super) fn close(self) -> CacheUse {
        let Some(place) = self.place else {
            return CacheUse::Off { reason: self.off };
        };
        if place.cache.cache_misses() == 0 {
            mark_used(&place.dir);
            return CacheUse::Hit;
        }
        let sealed = seal_of(&place.dir).and_then(|seal| write_seal(&place.dir, &seal));
        forget_oldest(&place.home);
        match sealed {
            Ok(()) => CacheUse::Miss,
            Err(error) => CacheUse::Off {
                reason: Some(format!("{}: {error}", place.dir.display())),
            },
        }
    }
}

impl Place {
    fn open(home: &Path, wasm: &[u8], settings: &str) -> Result<Self, String> {
        let home = std::path::absolute(home).map_err(|error| error.to_string())?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(settings.as_bytes()).update(&[0]).update(wasm);
        let dir = home.join(&hasher.finalize().to_hex()[..32]);
        fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
        let sealed = fs::read_to_string(dir.join("seal")).ok();
        if sealed.is_none() || sealed != seal_of(&dir).ok() {
            let code = dir.join("code");
            if code.exists() {
                fs::remove_dir_all(&code).map_err(|error| error.to_string())?;
            }
        }
        let mut config = CacheConfig::new();
        config
            .with_directory(dir.join("code"))
            // Its housekeeping would change files behind the seal; ours is
            // `forget_oldest`.
            .with_optimized_compression_usage_counter_threshold(u64::MAX)
            .with_cleanup_interval(Duration::from_secs(u64::from(u32::MAX)));
        let cache = Cache::new(config).map_err(|error| format!("{error:#}"))?;
        Ok(Self { home, dir, cache })
    }
}

/// Digests names and contents of the compiled code below `dir`, leaving out
/// wasmtime's notes about use.
fn seal_of(dir: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for compiler in fs::read_dir(dir.join("code/modules"))? {
        for file in fs::read_dir(compiler?.path())? {
            let path = file?.path();
            if path.extension().is_none() && path.is_file() {
                files.push(path);
            }
        }
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for path in files {
        let name = path
            .strip_prefix(dir)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        hasher
            .update(&(name.len() as u64).to_le_bytes())
            .update(name.as_bytes());
        hasher.update(blake3::hash(&fs::read(&path)?).as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Writes the seal by rename, so that no reader sees half of it.
fn write_seal(dir: &Path, seal: &str) -> io::Result<()> {
    let temporary = dir.join(format!("seal.{}", std::process::id()));
    let written = fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(seal.as_bytes()))
        .and_then(|()| fs::rename(&temporary, dir.join("seal")));
    if written.is_err() {
        drop(fs::remove_file(&temporary));
    }
    written
}

/// Tells [`forget_oldest`] that the entry is of use.
fn mark_used(dir: &Path) {
    let seal = fs::File::options().append(true).open(dir.join("seal"));
    drop(seal.and_then(|seal| seal.set_modified(SystemTime::now())));
}

/// Removes the entries that were used longest ago, down to
/// [`MAX_CACHED_GUESTS`]. What cannot be removed stays for the next time.
fn forget_oldest(home: &Path) {
    let Ok(entries) = fs::read_dir(home) else {
        return;
    };
    let mut known: Vec<_> = entries
        .filter_map(|entry| {
            let dir = entry.ok()?.path();
            let used = fs::metadata(dir.join("seal"))
                .and_then(|seal| seal.modified())
                .ok()?;
            Some((used, dir))
        })
        .collect();
    known.sort();
    let surplus = known.len().saturating_sub(MAX_CACHED_GUESTS);
    for (_, dir) in known.into_iter().take(surplus) {
        drop(fs::remove_dir_all(dir));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_guests_used_longest_ago_go() {
        let home = tempfile::tempdir().unwrap();
        for age in 0..MAX_CACHED_GUESTS + 2 {
            let dir = home.path().join(age.to_string());
            fs::create_dir(&dir).unwrap();
            let seal = fs::File::create(dir.join("seal")).unwrap();
            let used = SystemTime::now() - Duration::from_secs(age as u64 * 60);
            seal.set_modified(used).unwrap();
        }
        forget_oldest(home.path());
        let left = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(left, MAX_CACHED_GUESTS);
        assert!(home.path().join("0").exists());
        let oldest = (MAX_CACHED_GUESTS + 1).to_string();
        assert!(!home.path().join(oldest).exists());
    }
}
