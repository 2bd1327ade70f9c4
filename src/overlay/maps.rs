//! The maps an overlay is made of: they share structure when cloned.
//!
//! Tries by hash where keys are looked up one by one: there a B-tree compares
//! at each level. Ordered maps (`imbl::OrdMap`) stay where ranges are asked
//! for: blocks of a file, positions in a directory.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::LazyLock;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::meta::FileId;
use crate::name::Name;

/// A map by object number.
pub(super) type IdMap<V> =
    GenericHashMap<FileId, V, BuildHasherDefault<IdHasher>, DefaultSharedPtr>;

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
