//! Compiled functions on disk, for programs that differ in few of them.
//!
//! The checkpoints of one program hold the same functions and some that go on in the
//! middle of one. The first that is compiled leaves its functions in the cache, each
//! under the digest that Cranelift makes of its body and settings; those that come later
//! take what they find there and compile the rest. The file is sealed as compiled guests
//! are, and read as a whole while a guest is compiled, not longer.
//!
//! ```text
//! 0  32 bytes   Cranelift's digest of a function
//! 32 4 bytes    length of its code, little endian
//! 36 ...        its code
//!               and so on, to the end of the file
//! ```

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::CacheStore;

use super::cache::CacheEntry;
use crate::digest::Digest;
use crate::limits::MAX_FUNCTION_BYTES;

/// Bytes in a digest of Cranelift's.
const KEY_BYTES: usize = 32;

/// The part of the known functions, in bytes, that has to be new for the file to be written again.
///
/// Each checkpoint has some functions that no other has. But the compiler gives a function of the
/// program another digest now and then: `DataFlowGraph::clear` of cranelift-codegen 0.135 leaves
/// the exception tables of what was compiled before with the same memory, and they are a part of the
/// digest. So some functions have several digests, which are found one checkpoint after the other.
const WORTH_A_FILE: usize = 32;

type FunctionKey = [u8; KEY_BYTES];

/// The functions of a program, while one of its checkpoints is compiled.
#[derive(Clone, Debug, Default)]
pub(super) struct FunctionCache(Arc<Mutex<Functions>>);

#[derive(Default)]
struct Functions {
    known: HashMap<FunctionKey, KnownFunction>,
    known_bytes: usize,
    /// Bytes of those that were asked for.
    used_bytes: usize,
    added: HashMap<FunctionKey, Bytes>,
    added_bytes: usize,
}

struct KnownFunction {
    /// A part of the file.
    code: Bytes,
    is_used: bool,
}

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Functions")
            .field("known", &self.known.len())
            .field("added", &self.added.len())
            .finish_non_exhaustive()
    }
}

/// Where the functions of a program are kept.
pub(super) struct FunctionFile {
    entry: CacheEntry,
    functions: FunctionCache,
}

impl FunctionFile {
    /// Reads what is known of a program's functions. Never fails: what cannot be read is
    /// compiled.
    pub(super) fn open(home: &Path, program: &Digest, settings: &str) -> Self {
        let settings = format!("{settings} functions");
        let entry = CacheEntry::open(Some(home), || *program, &settings);
        let functions = entry.code().and_then(|file| read(&file).ok());
        // The program's code may take the place of the oldest entry before this one is kept.
        entry.mark_used();
        Self {
            entry,
            functions: FunctionCache(Arc::new(Mutex::new(functions.unwrap_or_default()))),
        }
    }

    /// Returns what a compiler is to look in, and to leave its functions in.
    pub(super) fn functions(&self) -> Arc<dyn CacheStore> {
        Arc::new(self.functions.clone())
    }

    /// Takes what the compiler left, since the engine holds the cache for as long as it lives, and
    /// returns what keeps it.
    pub(super) fn into_keeper(self) -> impl FnOnce() + Send {
        let mut functions = std::mem::take(&mut *self.functions.0.lock());
        move || {
            if functions.forget_unused() || functions.are_worth_a_file() {
                drop(self.entry.keep(|| Ok(functions.to_bytes())));
            }
        }
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut functions = self.0.lock();
        let found = functions.find(key)?;
        drop(functions);
        Some(Cow::Owned(found.into()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let Ok(key) = FunctionKey::try_from(key) else {
            return false;
        };
        let mut functions = self.0.lock();
        let bytes = functions.known_bytes + functions.added_bytes + value.len();
        let has_room = bytes <= MAX_FUNCTION_BYTES;
        if has_room && functions.added.insert(key, value.into()).is_none() {
            functions.added_bytes = bytes - functions.known_bytes;
        }
        has_room
    }
}

impl Functions {
    fn find(&mut self, key: &[u8]) -> Option<Bytes> {
        let Some(known) = self.known.get_mut(key) else {
            // Many functions of one program are equal, those that only call another one above all.
            return self.added.get(key).cloned();
        };
        if !known.is_used {
            known.is_used = true;
            self.used_bytes += known.code.len();
        }
        Some(known.code.clone())
    }

    /// Returns whether so many are new that the file is to be written again.
    fn are_worth_a_file(&self) -> bool {
        self.added_bytes > self.known_bytes / WORTH_A_FILE
    }

    /// Forgets those that were not asked for, if they are more than what was asked for and twice
    /// what is new, and returns whether it did: what only checkpoints of before had does not pile up.
    fn forget_unused(&mut self) -> bool {
        let is_due = self.known_bytes > 2 * (self.used_bytes + self.added_bytes);
        if is_due {
            self.known.retain(|_, known| known.is_used);
            self.known_bytes = self.used_bytes;
        }
        is_due
    }

    fn to_bytes(&self) -> Vec<u8> {
        let known = || self.known.iter().map(|(key, known)| (key, &known.code));
        let all = || known().chain(&self.added);
        let bytes = all().map(|(_, code)| KEY_BYTES + 4 + code.len()).sum();
        let mut file = Vec::with_capacity(bytes);
        for (key, code) in all() {
            let Ok(len) = u32::try_from(code.len()) else {
                continue;
            };
            file.extend_from_slice(key);
            file.extend_from_slice(&len.to_le_bytes());
            file.extend_from_slice(code);
        }
        file
    }

    fn from_bytes(file: &Bytes) -> io::Result<Self> {
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let mut functions = Self::default();
        let mut rest: &[u8] = file;
        while !rest.is_empty() {
            let (key, behind) = rest.split_first_chunk::<KEY_BYTES>().ok_or_else(cut)?;
            let (len, behind) = behind.split_first_chunk::<4>().ok_or_else(cut)?;
            let len = u32::from_le_bytes(*len) as usize;
            let (code, behind) = behind.split_at_checked(len).ok_or_else(cut)?;
            let known = KnownFunction {
                code: file.slice_ref(code),
                is_used: false,
            };
            functions.known.insert(*key, known);
            functions.known_bytes += len;
            rest = behind;
        }
        Ok(functions)
    }
}

fn read(path: &Path) -> io::Result<Functions> {
    let file = File::open(path)?;
    let most = MAX_FUNCTION_BYTES as u64 * 2;
    let len = file.metadata()?.len().min(most);
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    file.take(most).read_to_end(&mut bytes)?;
    Functions::from_bytes(&bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> FunctionKey {
        [number; KEY_BYTES]
    }

    /// Compiles, as it were, functions of one byte each, and returns how many were known.
    fn compile(home: &Path, program: &[u8], numbers: std::ops::Range<u8>) -> usize {
        let file = FunctionFile::open(home, &Digest::of(program), "settings");
        let cache = file.functions();
        let mut known = 0;
        for number in numbers {
            match cache.get(&key(number)) {
                Some(code) => {
                    assert_eq!(*code, [number]);
                    known += 1;
                }
                None => assert!(cache.insert(&key(number), vec![number])),
            }
        }
        file.into_keeper()();
        assert!(
            cache.get(&key(0)).is_none(),
            "the engine's cache is emptied"
        );
        known
    }

    #[test]
    fn functions_of_a_program_are_found_again() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(compile(home.path(), b"python", 0..100), 0);
        assert_eq!(compile(home.path(), b"python", 0..103), 100);
        // So few were new that they were not written.
        assert_eq!(compile(home.path(), b"python", 0..110), 100);
        assert_eq!(compile(home.path(), b"python", 0..110), 110);
        assert_eq!(compile(home.path(), b"ruby", 0..10), 0);
    }

    #[test]
    fn functions_that_only_earlier_checkpoints_had_do_not_pile_up() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(compile(home.path(), b"python", 0..100), 0);
        // Half of them and more: the others stay.
        assert_eq!(compile(home.path(), b"python", 40..110), 60);
        assert_eq!(compile(home.path(), b"python", 0..110), 110);
        // The smaller part, with what is new: the others go.
        assert_eq!(compile(home.path(), b"python", 80..115), 30);
        assert_eq!(compile(home.path(), b"python", 0..115), 35);
        assert_eq!(compile(home.path(), b"python", 50..150), 65);
        assert_eq!(compile(home.path(), b"python", 0..150), 150);
    }

    #[test]
    fn equal_functions_of_one_guest_are_compiled_once() {
        let cache = FunctionCache::default();
        assert!(cache.get(&key(1)).is_none());
        assert!(cache.insert(&key(1), vec![1]));
        assert_eq!(*cache.get(&key(1)).unwrap(), [1]);
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        compile(home.path(), b"python", 0..10);
        let of_program = std::fs::read_dir(home.path()).unwrap();
        let code = of_program
            .map(|entry| entry.unwrap().path().join("code"))
            .find(|code| code.exists())
            .unwrap();
        let whole = std::fs::read(&code).unwrap();
        assert_eq!(whole.len(), 10 * (KEY_BYTES + 5));
        std::fs::write(&code, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(compile(home.path(), b"python", 0..10), 0);
        for len in 1..KEY_BYTES + 5 {
            assert!(
                Functions::from_bytes(&Bytes::copy_from_slice(&whole[..len])).is_err(),
                "{len}"
            );
        }
    }

    #[test]
    fn functions_have_a_bound_in_bytes() {
        let cache = FunctionCache::default();
        cache.0.lock().known_bytes = MAX_FUNCTION_BYTES - 1;
        assert!(cache.insert(&key(1), vec![0]));
        assert!(!cache.insert(&key(2), vec![0]));
        assert!(!cache.insert(b"short", vec![0]));
    }
}
