//! Why an object store did not do what it was asked for.

use std::fmt;
use std::io;

use crate::name::show;

/// Why something failed at an object store: where, what was to be done, the reason, in one
/// line.
#[derive(Debug)]
pub struct ObjectError(Box<ObjectErrorInner>);

#[derive(Debug)]
struct ObjectErrorInner {
    /// The place, or the object in it.
    at: String,
    action: &'static str,
    kind: ObjectErrorKind,
}

impl ObjectError {
    pub(super) fn new(at: impl fmt::Display, action: &'static str, kind: ObjectErrorKind) -> Self {
        Self(Box::new(ObjectErrorInner {
            at: at.to_string(),
            action,
            kind,
        }))
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> &ObjectErrorKind {
        &self.0.kind
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ObjectErrorInner { at, action, kind } = &*self.0;
        let line = format!("{at}: {action}: {kind}");
        f.write_str(&show(line.as_bytes()))
    }
}

impl std::error::Error for ObjectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.kind)
    }
}

/// The reason of an [`ObjectError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectErrorKind {
    /// There is no such object, or no such bucket.
    #[error("it is not there")]
    NotFound,
    /// Whoever asks may not.
    #[error("not permitted: {0}")]
    Denied(String),
    /// The place can only be read.
    #[error("http and https places can only be read: name a bucket or a folder")]
    ReadOnly,
    /// The tag was moved by somebody else.
    #[error("it was moved to {to} meanwhile, and stays there: push again to move it")]
    Moved {
        /// What it leads to now.
        to: String,
    },
    /// Somebody else is at work there.
    #[error("{0}")]
    Busy(String),
    /// What came is not what was promised.
    #[error("expected {what} {promised}, found {found}")]
    Mismatch {
        /// What differs: the digest, or the size in bytes.
        what: &'static str,
        /// What was promised.
        promised: String,
        /// What came.
        found: String,
    },
    /// What is there is too large, or too much.
    #[error("more than {limit} {what}")]
    TooLarge {
        /// What, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// What is there is no document of an image.
    #[error("{0}")]
    Document(String),
    /// The store, or the way to it, failed.
    #[error("{0}")]
    Store(String),
    /// The options do not make a client.
    #[error("{0}")]
    Options(String),
    /// The bytes could not be read or kept on this side.
    #[error("{0}")]
    Local(#[source] io::Error),
}
