//! Errors of a store.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chunk::ContentError;
use crate::digest::{Digest, Sha256};
use crate::image::ImageError;
use crate::layer::LayerError;

/// Why a call on a store failed. The message names the file, or the image, layer or
/// blob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory of the store could not be used.
    #[error("{path}: cannot {action}: {error}", path = path.display())]
    Io {
        /// What was to be done with it.
        action: &'static str,
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// A file of the store is missing, and something else has its name.
    #[error("{path}: expected a regular file, found {found}", path = path.display())]
    NotAFile {
        /// The place.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The directory is missing or empty.
    #[error(
        "{path}: no store there: import an image into it, or make one with `stratafs store init --store {path}`",
        path = .0.display()
    )]
    NoStore(PathBuf),
    /// The directory is something else, and is left alone.
    #[error(
        "{path}: not a store: {why}; name a store, or an empty directory for a new one",
        path = path.display()
    )]
    NotAStore {
        /// The directory, or what is in the place of a part of it.
        path: PathBuf,
        /// Why it is not one.
        why: String,
    },
    /// A store whose catalog is lost or damaged. Nothing in it is removed.
    #[error(
        "{file}: the catalog of the store cannot be read: {why}; `stratafs store repair` rebuilds it",
        file = file.display()
    )]
    NoCatalog {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store was opened to look only.
    #[error("{path}: the store was opened read-only and cannot be changed", path = .0.display())]
    ReadOnly(PathBuf),
    /// This thread has an import open, which the call would wait for.
    #[error("{path}: this thread has an import open: end it first", path = .0.display())]
    OwnImport(PathBuf),
    /// The file is not of the kind that belongs in its place.
    #[error("{file}: not a stratafs {what} (bad magic number)", file = file.display())]
    Magic {
        /// The file.
        file: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The file is of a version that is not known here.
    #[error(
        "{file}: format version {found}: this program reads version {supported}, a newer one may read it",
        file = file.display()
    )]
    Version {
        /// The file.
        file: PathBuf,
        /// Its version.
        found: u32,
        /// The highest version that can be read.
        supported: u32,
    },
    /// The file is shorter or longer than it says.
    #[error("{file}: expected {expected} bytes, found {found}", file = file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// Bytes that it has.
        found: u64,
        /// Bytes that it should have.
        expected: u64,
    },
    /// Bytes of the file are not what their digest says.
    #[error(
        "{file}: damaged at byte {offset}: expected {expected}, found {found}",
        file = file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where the bytes begin.
        offset: u64,
        /// The digest that they should have.
        expected: Digest,
        /// The digest that they have.
        found: Digest,
    },
    /// The file contradicts itself, although its digest is right or it has none.
    #[error("{file}: malformed: {what}", file = file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A part of an index of an image is damaged.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The store has no image of this name.
    #[error("{0}: no such image in the store")]
    NoImage(String),
    /// Several images' digests begin like this.
    #[error("{0}: more than one image in the store begins with this")]
    Ambiguous(String),
    /// The name breaks a rule for tags.
    #[error("invalid tag {tag:?}: {reason}")]
    Tag {
        /// The name.
        tag: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The store has no blob with this digest.
    #[error("{0}: no such blob in the store")]
    NoBlob(Sha256),
    /// A blob is not what its digest says.
    #[error("blob {expected}: its bytes have the digest {found}")]
    WrongBlob {
        /// The digest that it should have.
        expected: Sha256,
        /// The digest of its bytes.
        found: Sha256,
    },
    /// The bytes of a blob could not be taken in.
    #[error("{blob}: cannot be read: {error}", blob = blob_name(*.digest))]
    Blob {
        /// The digest that was asked for, if one was.
        digest: Option<Sha256>,
        /// What the reader said.
        #[source]
        error: io::Error,
    },
    /// Bytes are on their way: whoever waits for the ticket may find them then.
    #[doc(hidden)]
    #[error("the bytes are on their way")]
    OnTheWay(crate::chunk::Ticket),
    /// Bytes of an image that was pulled in part are not here, and nobody fetches them.
    #[error("blob {blob}: not here, but in {from}: `stratafs store fill` fetches it")]
    NotHere {
        /// The blob that they are of.
        blob: Sha256,
        /// The image that it is of, in a registry.
        from: String,
    },
    /// Bytes of an image that was pulled in part could not be fetched.
    #[error("blob {blob}: cannot be fetched from byte {offset} on: {why}")]
    NotFetched {
        /// The blob that they are of.
        blob: Sha256,
        /// Where in the blob they begin.
        offset: u64,
        /// Why not.
        why: String,
    },
    /// The bytes of a file in an image or a layer are not those of its digest.
    #[error("expected bytes with the digest {expected}, found {found}")]
    WrongContent {
        /// The digest that it should have.
        expected: Digest,
        /// The digest of its bytes.
        found: Digest,
    },
    /// There is more of something than a file of the store can number.
    #[error("too many {what}: {found}, a file of the store can number {bound}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        bound: u64,
    },
    /// A record of the catalog cannot be written as text.
    #[error("a record of the catalog cannot be written: {0}")]
    Record(#[source] serde_json::Error),
    /// Something is wrong with a part of the store.
    #[error("{what}: {error}")]
    Within {
        /// The part: an image, a layer, a file in one of them.
        what: String,
        /// What is wrong with it.
        #[source]
        error: Box<StoreError>,
    },
    /// An invariant of the store is broken: a bug in stratafs. Nothing was written.
    #[error("bug in stratafs, please report it; nothing was written: {0}")]
    Broken(&'static str),
    /// The layers do not make an image together.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A layer cannot be read back or made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// An earlier step of the same import failed; this is its reason.
    #[error("an earlier write to the store failed: {0}")]
    Failed(Arc<StoreError>),
}

fn blob_name(digest: Option<Sha256>) -> String {
    digest.map_or("a blob".to_owned(), |digest| format!("blob {digest}"))
}

impl StoreError {
    /// Returns whether this says that the store is not as it was written: a file
    /// is missing, of another kind, cut short, or has other bytes. What could
    /// not be looked at, for want of rights, of descriptors or of memory, says
    /// nothing of the sort.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        if self.is_absence() {
            return false;
        }
        match self {
            // A store of a later version is refused as a whole: in one that was
            // taken, no file is of another.
            Self::NotAFile { .. }
            | Self::Magic { .. }
            | Self::Version { .. }
            | Self::Length { .. }
            | Self::Damaged { .. }
            | Self::Malformed { .. }
            | Self::NoCatalog { .. }
            | Self::WrongContent { .. }
            | Self::WrongBlob { .. } => true,
            Self::Within { error, .. } => error.is_damage(),
            Self::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
            Self::Content(error) => match error.reason().downcast_ref::<Self>() {
                Some(inner) => inner.is_damage(),
                // A block of an index, or what its tables say.
                None => true,
            },
            Self::Image(ImageError::Index(error) | ImageError::Unreadable { error, .. }) => {
                let inner = error.reason().downcast_ref::<Self>();
                inner.is_none_or(Self::is_damage)
            }
            Self::Image(_) | Self::Layer(_) => true,
            _ => false,
        }
    }

    /// Returns whether this says that bytes are not here, of an image that was pulled in part.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        let of = |error: &ContentError| {
            let inner = error.reason().downcast_ref::<Self>();
            inner.is_some_and(Self::is_absence)
        };
        match self {
            Self::OnTheWay(_) | Self::NotHere { .. } | Self::NotFetched { .. } => true,
            Self::Within { error, .. } => error.is_absence(),
            Self::Content(error) => of(error),
            Self::Image(ImageError::Index(error) | ImageError::Unreadable { error, .. }) => {
                of(error)
            }
            Self::Failed(error) => error.is_absence(),
            _ => false,
        }
    }

    /// Returns whether the disk, or what may be used of it, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::Io { error, .. } => matches!(error.kind(), StorageFull | QuotaExceeded),
            Self::Within { error, .. } => error.is_full(),
            Self::Failed(error) => error.is_full(),
            _ => false,
        }
    }

    pub(super) fn no_catalog(file: &Path, why: impl Into<String>) -> Self {
        Self::NoCatalog {
            file: file.to_owned(),
            why: why.into(),
        }
    }

    pub(super) fn not_a_store(path: &Path, why: impl Into<String>) -> Self {
        Self::NotAStore {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    /// More than a change of the catalog can have.
    pub(super) fn too_long(found: usize) -> Self {
        Self::TooMany {
            what: "bytes of a change of the catalog",
            found: found as u64,
            bound: u32::MAX.into(),
        }
    }

    /// Returns whether the medium could not give the bytes.
    pub(super) fn is_medium(&self) -> bool {
        #[cfg(unix)]
        let is = |error: &io::Error| error.raw_os_error() == Some(libc::EIO);
        #[cfg(not(unix))]
        let is = |_: &io::Error| false;
        matches!(self, Self::Io { error, .. } if is(error))
    }

    /// Says of which part of the store this is.
    pub(super) fn within(self, what: impl FnOnce() -> String) -> Self {
        Self::Within {
            what: what(),
            error: Box::new(self),
        }
    }

    /// Makes what wraps an I/O error.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            action,
            path: path.to_owned(),
            error,
        }
    }

    pub(super) fn malformed(file: &Path, what: impl Into<String>) -> Self {
        Self::Malformed {
            file: file.to_owned(),
            what: what.into(),
        }
    }

    /// Passes this on to whoever reads a file's content.
    pub(super) fn into_content(self) -> ContentError {
        match self {
            Self::Content(error) => error,
            other => ContentError::new(other),
        }
    }
}
