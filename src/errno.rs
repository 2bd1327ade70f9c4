//! The neutral error code that every file operation gives.
//!
//! Front ends (`wasi::p1`, `wasi::p2`) turn it into their own code by a
//! `match` without a catch-all arm; the host API wraps it with a path.

use std::fmt;
use std::io;

/// Why a file operation was refused or failed.
///
/// Each variant names its POSIX twin. The set is what WASI can express, so a
/// conversion into preview1's `errno` or 0.2's `error-code` loses nothing. It is
/// closed, so that a front end which forgets one does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Errno {
    /// The descriptor is closed, or does not allow the operation (`EBADF`).
    BadDescriptor,
    /// The object is in use, such as the root of the tree (`EBUSY`).
    Busy,
    /// The object belongs to another file system (`EXDEV`).
    CrossDevice,
    /// The name is taken (`EEXIST`).
    Exist,
    /// The file would grow past [`limits::MAX_FILE_BYTES`](crate::limits::MAX_FILE_BYTES) (`EFBIG`).
    FileTooLarge,
    /// A name or link target is not valid UTF-8 where WASI wants it (`EILSEQ`).
    IllegalByteSequence,
    /// An argument makes no sense (`EINVAL`).
    Invalid,
    /// Content could not be read (`EIO`).
    Io,
    /// A directory stands where a file was wanted (`EISDIR`).
    IsDirectory,
    /// Too many symbolic links, or a link where none may be followed (`ELOOP`).
    Loop,
    /// A name or path is too long (`ENAMETOOLONG`).
    NameTooLong,
    /// No such name (`ENOENT`).
    NoEntry,
    /// A quota of the instance is used up (`ENOSPC`).
    NoSpace,
    /// A component is no directory (`ENOTDIR`).
    NotDirectory,
    /// The directory still has entries (`ENOTEMPTY`).
    NotEmpty,
    /// The capability does not allow it: outside of the preopen, or read-only (`EPERM`).
    NotPermitted,
    /// An offset or count does not fit (`EOVERFLOW`).
    Overflow,
    /// The whole file system is read-only (`EROFS`).
    ReadOnly,
    /// Too many hard links (`EMLINK`).
    TooManyLinks,
    /// The instance has no descriptor left (`EMFILE`).
    TooManyOpen,
    /// The operation does not exist here (`ENOTSUP`).
    Unsupported,
}

impl Errno {
    /// Returns the sentence that tells a person what went wrong.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::BadDescriptor => "bad file descriptor",
            Self::Busy => "resource busy",
            Self::CrossDevice => "cross-device link",
            Self::Exist => "file exists",
            Self::FileTooLarge => "file too large",
            Self::IllegalByteSequence => "illegal byte sequence",
            Self::Invalid => "invalid argument",
            Self::Io => "input/output error",
            Self::IsDirectory => "is a directory",
            Self::Loop => "too many levels of symbolic links",
            Self::NameTooLong => "file name too long",
            Self::NoEntry => "no such file or directory",
            Self::NoSpace => "no space left in the instance's quota",
            Self::NotDirectory => "not a directory",
            Self::NotEmpty => "directory not empty",
            Self::NotPermitted => "operation not permitted",
            Self::Overflow => "value too large",
            Self::ReadOnly => "read-only file system",
            Self::TooManyLinks => "too many links",
            Self::TooManyOpen => "too many open files",
            Self::Unsupported => "operation not supported",
        }
    }

    /// Returns the kind that the standard library has for the error.
    #[must_use]
    pub fn kind(self) -> io::ErrorKind {
        match self {
            Self::Busy => io::ErrorKind::ResourceBusy,
            Self::CrossDevice => io::ErrorKind::CrossesDevices,
            Self::Exist => io::ErrorKind::AlreadyExists,
            Self::FileTooLarge => io::ErrorKind::FileTooLarge,
            Self::BadDescriptor | Self::IllegalByteSequence | Self::Invalid | Self::Overflow => {
                io::ErrorKind::InvalidInput
            }
            Self::IsDirectory => io::ErrorKind::IsADirectory,
            Self::NameTooLong => io::ErrorKind::InvalidFilename,
            Self::NoEntry => io::ErrorKind::NotFound,
            Self::NoSpace => io::ErrorKind::StorageFull,
            Self::NotDirectory => io::ErrorKind::NotADirectory,
            Self::NotEmpty => io::ErrorKind::DirectoryNotEmpty,
            Self::NotPermitted => io::ErrorKind::PermissionDenied,
            Self::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Self::TooManyLinks => io::ErrorKind::TooManyLinks,
            Self::Unsupported => io::ErrorKind::Unsupported,
            Self::Io | Self::Loop | Self::TooManyOpen => io::ErrorKind::Other,
        }
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::new(errno.kind(), errno)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Errno {}
