//! What is asked of an object store, whichever it is.

use std::io::Read;
use std::ops::Range;

use super::error::ObjectErrorKind;

/// What an object was when it was read: nobody can know it who did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ObjectVersion {
    /// What the store calls it.
    Tag(Option<String>, Option<String>),
    /// Its bytes, where the store has no name for it.
    Bytes(Vec<u8>),
}

/// What is known of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct ObjectMeta {
    pub(super) size: u64,
    /// When it was written, in seconds since 1970 by the store's clock.
    pub(super) written: u64,
}

/// What came of a write with a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    Done,
    /// The condition did not hold: nothing was written.
    Refused,
}

type BackendResult<T> = Result<T, ObjectErrorKind>;

/// An object store. Keys are words with slashes between them, as this module makes them; each
/// write is whole or not at all.
pub(super) trait Backend: Send + Sync {
    /// Reads a small object.
    fn get(&self, key: &str, limit: u64) -> BackendResult<Option<(Vec<u8>, ObjectVersion)>>;

    /// Reads a part of an object; what is past its end is left out.
    fn range(&self, key: &str, range: Range<u64>) -> BackendResult<Option<Vec<u8>>>;

    fn head(&self, key: &str) -> BackendResult<Option<ObjectMeta>>;

    /// Writes a small object whatever is there.
    fn put(&self, key: &str, bytes: Vec<u8>) -> BackendResult<()>;

    /// Writes a small object if it is still what it was: not there, or of this version.
    fn swap(&self, key: &str, bytes: Vec<u8>, old: Option<&ObjectVersion>) -> BackendResult<Swap>;

    /// Writes an object of any size whatever is there. `watch` is told of bytes that went,
    /// and says whether to go on.
    fn upload(
        &self,
        key: &str,
        bytes: (&mut dyn Read, u64),
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> BackendResult<()>;

    /// Visits all objects below `dir`, by their keys.
    fn list(
        &self,
        dir: &str,
        visit: &mut dyn FnMut(&str, ObjectMeta) -> BackendResult<()>,
    ) -> BackendResult<()>;

    /// Removes an object, if it is there.
    fn delete(&self, key: &str) -> BackendResult<()>;
}

/// What ends a transfer that whoever watches does not want any more.
pub(super) fn stopped() -> ObjectErrorKind {
    ObjectErrorKind::Local(std::io::ErrorKind::Interrupted.into())
}
