//! Errors of layers.

use crate::errno::Errno;
use crate::error::Error;
use crate::limits::{
    MAX_FILE_BYTES, MAX_LAYER_DEPTH, MAX_LAYER_PATH_BYTES, MAX_LINKS, MAX_SYMLINK_BYTES,
    MAX_XATTR_BYTES,
};
use crate::name::LayerPath;

/// Why a layer cannot be made. The message names the entry and the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The directory whose tree was to become a layer cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Error),
    /// The entry lies below a file.
    #[error("{path}: {parent} is a file, nothing can lie below it")]
    BelowFile {
        /// The entry.
        path: LayerPath,
        /// What is above it.
        parent: LayerPath,
    },
    /// The entry lies below a symbolic link of the same layer. It is not
    /// followed: entries have their place in the tree.
    #[error("{path}: {parent} is a symbolic link, which is not followed in a layer")]
    BelowSymlink {
        /// The entry.
        path: LayerPath,
        /// What is above it.
        parent: LayerPath,
    },
    /// The root of a layer is a directory and nothing else.
    #[error("the root of a layer can only be a directory, not {0}")]
    Root(&'static str),
    /// The path breaks a bound on depth or length.
    #[error(
        "{path}: deeper than {MAX_LAYER_DEPTH} components or longer than \
         {MAX_LAYER_PATH_BYTES} bytes"
    )]
    PathTooLong {
        /// The entry.
        path: LayerPath,
    },
    /// A hard link leads to a directory.
    #[error("{link}: hard link to the directory {target}")]
    LinkToDir {
        /// The hard link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
    },
    /// A hard link leads to itself, directly or by another link.
    #[error("{link}: hard link to itself through {target}")]
    LinkToItself {
        /// The hard link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
    },
    /// A hard link comes before what it names.
    #[error("{link}: hard link to {target}, which comes later in the layer")]
    LinkBeforeTarget {
        /// The hard link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
    },
    /// What a hard link names is in no lower layer either, since this layer
    /// hides it or has something else in its place.
    #[error("{link}: hard link to {target}, which is missing: {reason}")]
    LinkMissing {
        /// The hard link.
        link: LayerPath,
        /// What it names.
        target: LayerPath,
        /// What stands in the way.
        reason: &'static str,
    },
    /// A file has too many names.
    #[error("{path}: more than {MAX_LINKS} hard links to one file")]
    TooManyLinks {
        /// One of the names.
        path: LayerPath,
    },
    /// A symbolic link's target is empty, too long, or has a NUL byte.
    #[error(
        "{path}: the target of a symbolic link has 1 to {MAX_SYMLINK_BYTES} bytes and no NUL byte"
    )]
    SymlinkTarget {
        /// The symbolic link.
        path: LayerPath,
    },
    /// The file is too large.
    #[error("{path}: {size} bytes are too many: a file has at most {MAX_FILE_BYTES}")]
    FileTooLarge {
        /// The file.
        path: LayerPath,
        /// Its size in bytes.
        size: u64,
    },
    /// The extended attributes are too many, or one has no proper name.
    #[error(
        "{path}: extended attributes have names of 1 to 255 bytes without NUL, each once, and \
         {MAX_XATTR_BYTES} bytes together at most"
    )]
    Xattrs {
        /// The entry.
        path: LayerPath,
    },
    /// The bytes of a file could not be read.
    #[error("{path}: cannot be read: {errno}")]
    Unreadable {
        /// The file.
        path: LayerPath,
        /// What reading it gave.
        errno: Errno,
    },
    /// The layer has too many entries, parents that are only implied counted.
    #[error("{path}: more than {limit} entries in the layer")]
    TooManyEntries {
        /// The entry that is one too many.
        path: LayerPath,
        /// The bound.
        limit: u64,
    },
}
