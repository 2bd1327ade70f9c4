//! Bounds on what a source may bring.

use crate::limits::{DEFAULT_MAX_LAYER_BYTES, MAX_EXPANSION_RATIO, MAX_LAYER_ENTRIES};

/// Bounds on one layer. Past one of them its import is an error that states
/// the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_LAYER_BYTES,
            max_entries: MAX_LAYER_ENTRIES,
            max_ratio: MAX_EXPANSION_RATIO,
        }
    }
}
