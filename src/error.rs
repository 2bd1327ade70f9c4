//! What a call of the host gives when it fails.

use std::fmt;
use std::io;

use crate::errno::Errno;
use crate::name::show;

/// Why a call on [`Fs`](crate::vfs::Fs) or one of its open files failed: what was
/// tried, on which path, and the reason.
///
/// It converts into [`std::io::Error`] with the fitting kind, from which it can be
/// taken back by [`std::io::Error::downcast`], and into [`Errno`]. It is one word
/// wide.
///
/// ```
/// use std::io::ErrorKind;
///
/// use stratafs::{image::Image, vfs::Fs};
///
/// let error = Fs::new(&Image::empty()).read("/absent").unwrap_err();
/// assert_eq!((error.kind(), error.path()), (ErrorKind::NotFound, &b"/absent"[..]));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    operation: &'static str,
    path: Box<[u8]>,
    errno: Errno,
}

impl Error {
    pub(crate) fn new(operation: &'static str, path: &[u8], errno: Errno) -> Self {
        Self(Box::new(Inner {
            operation,
            path: path.into(),
            errno,
        }))
    }

    /// Returns what was tried, such as `create directory`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// Returns the path as it was given: any bytes. Shown, the error has it with odd
    /// bytes escaped.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.0.path
    }

    /// Returns the reason.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.0.errno
    }

    /// Returns the kind that the standard library has for the reason.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.0.errno.kind()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, path) = (self.operation(), show(self.path()));
        write!(f, "{operation} {path}: {}", self.errno())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("operation", &self.operation())
            .field("path", &show(self.path()))
            .field("errno", &self.errno())
            .finish()
    }
}

impl std::error::Error for Error {}

/// Compares the reason alone.
impl PartialEq<Errno> for Error {
    fn eq(&self, errno: &Errno) -> bool {
        self.errno() == *errno
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        error.errno()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_and_why_and_converts() {
        let error = Error::new("read", b"/a\n\xff", Errno::NoEntry);
        assert_eq!(
            error.to_string(),
            "read /a\\n\\xff: no such file or directory"
        );
        assert_eq!(error.path(), b"/a\n\xff");
        assert_eq!(Errno::from(error.clone()), Errno::NoEntry);
        let io = io::Error::from(error.clone());
        assert_eq!(io.kind(), io::ErrorKind::NotFound);
        assert_eq!(io.to_string(), error.to_string());
        assert_eq!(io.downcast::<Error>().unwrap(), error);
        let io = io::Error::from(Errno::NoSpace);
        assert_eq!(io.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
    }
}
