//! A host operation's error: what was tried, on which path, and why not.

use std::io;

use crate::errno::Errno;
use crate::name::show;

/// Why a call on [`Fs`](crate::vfs::Fs) failed. Converts into
/// [`std::io::Error`] with the fitting kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {path}: {errno}")]
pub struct Error {
    operation: &'static str,
    path: String,
    errno: Errno,
}

impl Error {
    pub(super) fn new(operation: &'static str, path: &[u8], errno: Errno) -> Self {
        Self {
            operation,
            path: show(path),
            errno,
        }
    }

    /// Gives the reason.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// Gives the path, odd bytes escaped.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// The kind that `std` has for a reason.
pub(super) fn kind(errno: Errno) -> io::ErrorKind {
    match errno {
        Errno::Busy => io::ErrorKind::ResourceBusy,
        Errno::CrossDevice => io::ErrorKind::CrossesDevices,
        Errno::Exist => io::ErrorKind::AlreadyExists,
        Errno::FileTooLarge => io::ErrorKind::FileTooLarge,
        Errno::BadDescriptor | Errno::IllegalByteSequence | Errno::Invalid | Errno::Overflow => {
            io::ErrorKind::InvalidInput
        }
        Errno::IsDirectory => io::ErrorKind::IsADirectory,
        Errno::NameTooLong => io::ErrorKind::InvalidFilename,
        Errno::NoEntry => io::ErrorKind::NotFound,
        Errno::NoSpace => io::ErrorKind::StorageFull,
        Errno::NotDirectory => io::ErrorKind::NotADirectory,
        Errno::NotEmpty => io::ErrorKind::DirectoryNotEmpty,
        Errno::NotPermitted => io::ErrorKind::PermissionDenied,
        Errno::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        Errno::TooManyLinks => io::ErrorKind::TooManyLinks,
        Errno::Unsupported => io::ErrorKind::Unsupported,
        Errno::Io | Errno::Loop | Errno::TooManyOpen => io::ErrorKind::Other,
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(kind(error.errno), error)
    }
}
