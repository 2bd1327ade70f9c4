//! Bounds on what a source may bring, and what to take of several images.

use std::sync::Arc;
#[cfg(feature = "tar")]
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Platform;
use crate::limits::{DEFAULT_MAX_LAYER_BYTES, MAX_EXPANSION_RATIO, MAX_LAYER_ENTRIES};
#[cfg(feature = "tar")]
use crate::limits::{MAX_METADATA_RATIO, METADATA_FLOOR_BYTES};
use crate::name::LayerPath;

/// Bounds on one layer, past which its import is an error that states the
/// bound; and which image to take where there are several. All layers of an
/// image together have the same bounds as one.
///
/// An archive's metadata (each entry with its name, link target and attributes,
/// and directories that are only implied) has a bound by its size:
/// [`METADATA_FLOOR_BYTES`](crate::limits::METADATA_FLOOR_BYTES), or
/// [`MAX_METADATA_RATIO`](crate::limits::MAX_METADATA_RATIO) bytes for each byte
/// that it has, compressed as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOptions {
    /// Bytes of file content that are read, holes not counted. Default:
    /// [`DEFAULT_MAX_LAYER_BYTES`].
    pub max_bytes: u64,
    /// Entries, parents that are only implied and headers of an archive that
    /// bring no entry counted. Default and most: [`MAX_LAYER_ENTRIES`].
    pub max_entries: u64,
    /// Bytes that a compressed archive may give for each byte it has, once
    /// it has given [`RATIO_FLOOR_BYTES`](crate::limits::RATIO_FLOOR_BYTES).
    /// Default: [`MAX_EXPANSION_RATIO`].
    pub max_ratio: u64,
    /// The platform of the image to take where a source has images for
    /// several. Default: the only image there is, else the only one for Linux
    /// on this machine's architecture, else the only one for WebAssembly.
    pub platform: Option<Platform>,
    /// The name of the image to take where a source has several: what
    /// `org.opencontainers.image.ref.name` or `RepoTags` says. Default: any.
    pub name: Option<String>,
    /// Leaves devices, FIFOs and sockets out, as if the source did not have
    /// them, and notes them here. Default: they are an error. A character device
    /// 0/0 is a whiteout in any case.
    pub skip_special: Option<LeftOut>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_LAYER_BYTES,
            max_entries: MAX_LAYER_ENTRIES,
            max_ratio: MAX_EXPANSION_RATIO,
            platform: None,
            name: None,
            skip_special: None,
        }
    }
}

/// Names that are kept of what was left out.
#[cfg(any(feature = "dir", feature = "tar"))]
const NAMES: usize = 3;

/// What sources left out. Clones are one list.
#[derive(Clone, Debug, Default)]
pub struct LeftOut(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    count: u64,
    first: Vec<LayerPath>,
}

impl LeftOut {
    /// Begins an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many entries were left out.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// Returns the first of them, three at most.
    #[must_use]
    pub fn first(&self) -> Vec<LayerPath> {
        self.0.lock().first.clone()
    }

    /// Adds an entry.
    #[cfg(any(feature = "dir", feature = "tar"))]
    pub(super) fn note(&self, path: &LayerPath) {
        let mut noted = self.0.lock();
        noted.count += 1;
        if noted.first.len() < NAMES {
            noted.first.push(path.clone());
        }
    }
}

impl PartialEq for LeftOut {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for LeftOut {}

/// What the layers of an image have used up of the bounds so far. All that are
/// read at once count here as they go, so that together they stay within them.
#[cfg(feature = "tar")]
#[derive(Debug, Default)]
pub(super) struct Spent {
    /// Bytes of file content.
    pub(super) bytes: SharedCounter,
    /// Entries.
    pub(super) entries: SharedCounter,
    /// Bytes of metadata, as a `LayerBuilder` counts them.
    pub(super) metadata: SharedCounter,
    /// Bytes of archives, and what came of them, decompressed.
    pub(super) taken: SharedCounter,
    pub(super) given: SharedCounter,
}

/// A sum that several threads add to.
#[cfg(feature = "tar")]
#[derive(Debug, Default)]
pub(super) struct SharedCounter(AtomicU64);

#[cfg(feature = "tar")]
impl SharedCounter {
    /// Adds, and returns the sum.
    pub(super) fn add(&self, more: u64) -> u64 {
        // No sum comes near 2^64: what is added was read, or is a file's size.
        self.0
            .fetch_add(more, Ordering::Relaxed)
            .saturating_add(more)
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(feature = "tar")]
impl Spent {
    /// The most bytes of metadata that what was taken so far may have.
    pub(super) fn max_metadata(&self) -> u64 {
        let ratio = self.taken.get().saturating_mul(MAX_METADATA_RATIO);
        ratio.max(METADATA_FLOOR_BYTES)
    }
}
