//! The maps an overlay is made of: they share structure when cloned.
//!
//! Ordered maps (`imbl::OrdMap`) where ranges are asked for (blocks of a file,
//! positions in a directory) and where two states are compared: only they skip
//! what both share. A trie by hash for names, which are looked up one by one.
//!
//! Their nodes and inodes are counted by `triomphe`: to see that nobody else has
//! one takes a read, where std's counts take a locked instruction.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::ops::Deref;
use std::sync::LazyLock;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdMap};
use triomphe::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::inode::Inode;
use crate::meta::FileId;
use crate::name::Name;

/// The objects of an instance that are not as the base has them: `None` for
/// one of the base that is gone.
pub(super) type Inodes = OrdMap<FileId, Option<ByPtr<Inode>>>;

/// A counted reference that is equal to its clones only, so that comparing
/// two states looks at no content.
pub(super) struct ByPtr<T>(pub(super) Arc<T>);

impl<T> ByPtr<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Clone for ByPtr<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> PartialEq for ByPtr<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Deref for ByPtr<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A map by name.
pub(super) type NameMap<V> =
    GenericHashMap<Name, V, BuildHasherDefault<NameHasher>, DefaultSharedPtr>;

/// Spreads object numbers, which count up, over a hash's bits.
#[derive(Clone, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the golden ratio in 64 bits.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// Drawn once a process, so that no guest can prepare names that collide.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());

/// Hashes the bytes of a name.
#[derive(Clone, Default)]
pub(super) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, *SEED);
    }

    fn write_usize(&mut self, _: usize) {
        // The length of the name, which its hash covers.
    }
}
