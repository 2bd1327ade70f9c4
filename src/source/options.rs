//! Bounds on what a source may bring, and what to take of several images.

use super::Platform;
use crate::limits::{DEFAULT_MAX_LAYER_BYTES, MAX_EXPANSION_RATIO, MAX_LAYER_ENTRIES};

/// Bounds on one layer, past which its import is an error that states the
/// bound; and which image to take where there are several. All layers of an
/// image together have the same bounds as one.
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
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_LAYER_BYTES,
            max_entries: MAX_LAYER_ENTRIES,
            max_ratio: MAX_EXPANSION_RATIO,
            platform: None,
            name: None,
        }
    }
}

/// What the layers of an image have used up of the bounds so far.
#[cfg(feature = "tar")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Bytes of file content.
    pub(super) bytes: u64,
    /// Entries.
    pub(super) entries: u64,
    /// Bytes of archives, and what came of them, decompressed.
    pub(super) taken: u64,
    pub(super) given: u64,
}

#[cfg(feature = "oci")]
impl Spent {
    /// Adds what one layer took that began at `before` and ended at `after`.
    pub(super) fn add(&mut self, before: Self, after: Self) {
        self.bytes = self.bytes.saturating_add(after.bytes - before.bytes);
        self.entries = self.entries.saturating_add(after.entries - before.entries);
        self.taken = self.taken.saturating_add(after.taken - before.taken);
        self.given = self.given.saturating_add(after.given - before.given);
    }
}
