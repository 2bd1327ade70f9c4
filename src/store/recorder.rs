//! The steps that a store took on its files, recorded for tests.

use std::path::Path;
use std::sync::Arc;

/// A step on the files of a store that has succeeded. Until a file or a
/// directory is synced, a power loss may undo what was done to it, in any
/// order and in part.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum FileStep<'a> {
    /// A directory was made, or was there already.
    MakeDir(&'a Path),
    /// An empty file was made.
    Make(&'a Path),
    /// Bytes were written to a file, from `offset` on.
    Write {
        /// The file.
        path: &'a Path,
        /// Where the bytes went.
        offset: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A file was cut or made longer.
    Resize {
        /// The file.
        path: &'a Path,
        /// Its length from then on.
        len: u64,
    },
    /// The bytes and the length of a file were made durable.
    Sync(&'a Path),
    /// The names in a directory were made durable.
    SyncDir(&'a Path),
    /// A file got another name.
    Rename {
        /// Its name before.
        from: &'a Path,
        /// Its name from then on.
        to: &'a Path,
    },
    /// A file was removed.
    Remove(&'a Path),
}

/// A function that is called with each step on the files of a store that has
/// succeeded: for tests that play what a power loss leaves.
pub type Recorder = Arc<dyn Fn(FileStep<'_>) + Send + Sync>;
