//! Errors of sources.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::image::ImageError;
use crate::layer::LayerError;
use crate::name::{NameError, show};

/// Why a layer could not be made from a source. The message names the source, the
/// entry and the reason. No part of the layer is left behind.
#[derive(Debug)]
pub struct SourceError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Option<PathBuf>,
    part: Option<String>,
    entry: Option<Vec<u8>>,
    kind: SourceErrorKind,
}

impl SourceError {
    /// Names the source, unless it has been named already.
    #[must_use]
    pub fn of(mut self, origin: &Path) -> Self {
        self.0.origin.get_or_insert_with(|| origin.to_owned());
        self
    }

    /// Names the part of the source, such as a blob by its digest, unless one
    /// has been named already.
    #[cfg(feature = "tar")]
    #[must_use]
    pub(super) fn part(mut self, part: impl fmt::Display) -> Self {
        self.0.part.get_or_insert_with(|| part.to_string());
        self
    }

    /// Returns the reason.
    #[must_use]
    pub fn kind(&self) -> &SourceErrorKind {
        &self.0.kind
    }

    /// Returns the source, when it has a name.
    #[must_use]
    pub fn origin(&self) -> Option<&Path> {
        self.0.origin.as_deref()
    }

    /// Returns the entry as the source wrote it, when one is to blame.
    #[must_use]
    pub fn entry(&self) -> Option<&[u8]> {
        self.0.entry.as_deref()
    }
}

impl From<SourceErrorKind> for SourceError {
    fn from(kind: SourceErrorKind) -> Self {
        Self(Box::new(Inner {
            origin: None,
            part: None,
            entry: None,
            kind,
        }))
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.0.origin {
            write!(f, "{}: ", show(origin.as_os_str().as_encoded_bytes()))?;
        }
        if let Some(part) = &self.0.part {
            write!(f, "{}: ", show(part.as_bytes()))?;
        }
        // A layer's error names its entry itself.
        let named = matches!(self.0.kind, SourceErrorKind::Layer(_));
        match self.0.entry.as_deref().filter(|_| !named) {
            Some(b"") => write!(f, "an entry without a name: ")?,
            Some(entry) => write!(f, "{}: ", show(entry))?,
            None => {}
        }
        self.0.kind.fmt(f)
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The reason's own text is part of ours.
        std::error::Error::source(&self.0.kind)
    }
}

/// The reason of a [`SourceError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// The source cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[source] io::Error),
    /// The entry does not fit into its layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layers of all sources do not make an image together.
    #[error("the layers do not make an image together: {0}")]
    Image(#[from] ImageError),
    /// The path of the entry, or the one that its link names, is not valid.
    #[error("{what}: {error}")]
    Name {
        /// Which of the two, or what the link names.
        what: String,
        /// The rule that is broken.
        #[source]
        error: NameError,
    },
    /// The source cannot be a layer for what it is.
    #[error("{}", show(.0.as_bytes()))]
    NotALayer(String),
    /// A blob of an image has another digest or size than the image says.
    #[error("expected {what} {}, found {}", show(promised.as_bytes()), show(found.as_bytes()))]
    Mismatch {
        /// What differs: the digest, or the size in bytes.
        what: &'static str,
        /// What the image says.
        promised: String,
        /// What was found.
        found: String,
    },
    /// A document of an image breaks a rule.
    #[error("{}", show(.0.as_bytes()))]
    Document(String),
    /// The source has several images or none that fits; the text lists them.
    #[error("{}", show(.0.as_bytes()))]
    Choice(String),
    /// The archive is damaged, or says one thing in two ways.
    #[error("at byte {offset} of the archive: {reason}")]
    Archive {
        /// Where the header in question begins, compression undone.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// What is compressed is damaged, or followed by what is not part of it.
    #[error("cannot be unpacked: at byte {offset} of the {format} data: {reason}")]
    Compressed {
        /// How it is compressed.
        format: &'static str,
        /// About where it is damaged, in bytes as they lie there.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The entry is of a kind that a layer cannot have. It has not been
    /// opened.
    #[error("{0}, which a layer cannot have; --skip-special (`skip_special`) leaves such out")]
    Special(&'static str),
    /// An entry that is named like a whiteout breaks the rules for whiteouts.
    #[error("invalid whiteout: {0}")]
    Whiteout(&'static str),
    /// The layer would break a bound.
    #[error("more than {limit} {what}")]
    Limit {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// Something else is mounted in the directory.
    #[error("a mount point: another file system begins here, which is not crossed")]
    MountPoint,
    /// The source changed while it was read.
    #[error("changed while it was read: {0}")]
    Changed(&'static str),
}

#[cfg(any(feature = "dir", feature = "tar"))]
impl SourceErrorKind {
    /// Adds the entry that is to blame.
    pub(super) fn at(self, entry: &[u8]) -> SourceError {
        SourceError(Box::new(Inner {
            origin: None,
            part: None,
            entry: Some(entry.to_vec()),
            kind: self,
        }))
    }
}

/// Adds the entry to an error.
#[cfg(any(feature = "dir", feature = "tar"))]
pub(super) trait At<T> {
    fn at(self, entry: &[u8]) -> Result<T, SourceError>;
}

#[cfg(any(feature = "dir", feature = "tar"))]
impl<T, E: Into<SourceErrorKind>> At<T> for Result<T, E> {
    fn at(self, entry: &[u8]) -> Result<T, SourceError> {
        self.map_err(|kind| kind.into().at(entry))
    }
}

#[cfg(test)]
mod tests {
    #[cfg(any(feature = "dir", feature = "tar"))]
    #[test]
    fn a_message_names_source_entry_and_reason() {
        use super::*;

        let kind = SourceErrorKind::Special("a FIFO");
        let error = Err::<(), _>(kind).at(b"dev/\xff").unwrap_err();
        let error = error.of(Path::new("x.tar")).of(Path::new("other"));
        assert_eq!(
            error.to_string(),
            "x.tar: dev/\\xff: a FIFO, which a layer cannot have; --skip-special (`skip_special`) leaves such out"
        );
    }
}
