//! Tables of fixed-width records over bytes that lie in memory or in a mapped
//! file.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::guard::Guard;

/// Bytes of an index, guarded where they come from a file.
#[derive(Clone, Default)]
pub(super) struct GuardedBytes {
    bytes: Bytes,
    /// The guard of the file, and where in its body the bytes begin.
    guard: Option<(Arc<Guard>, usize)>,
}

impl GuardedBytes {
    /// Takes bytes that were made here.
    pub(super) fn owned(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            guard: None,
        }
    }

    /// Takes bytes of a file, which begin at `start` of what is guarded.
    #[cfg(feature = "store")]
    pub(super) fn mapped(bytes: Bytes, guard: Arc<Guard>, start: usize) -> Self {
        Self {
            bytes,
            guard: Some((guard, start)),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns a range, if it is there and in order.
    #[inline]
    pub(super) fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        let bytes = self.bytes.get(range.clone())?;
        match &self.guard {
            Some((guard, start)) if !guard.allows(start + range.start, bytes.len()) => None,
            _ => Some(bytes),
        }
    }
}

/// What can be read out of a file as it stands.
pub(super) trait FixedRecord:
    FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned
{
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned> FixedRecord for T {}

/// A table of records. One that is not there reads as `None`.
pub(super) struct Records<T> {
    view: GuardedBytes,
    record: PhantomData<T>,
}

impl<T: FixedRecord + Send + Sync + 'static> Records<T> {
    /// Takes records that were made here, without a copy.
    pub(super) fn owned(records: Vec<T>) -> Self {
        let bytes = Bytes::from_owner(OwnedRecords(records));
        Self::over(GuardedBytes { bytes, guard: None })
    }
}

impl<T: FixedRecord> Records<T> {
    pub(super) fn over(view: GuardedBytes) -> Self {
        Self {
            view,
            record: PhantomData,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.view.len() / size_of::<T>()
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        let start = at.checked_mul(size_of::<T>())?;
        let bytes = self.view.get(start..start.checked_add(size_of::<T>())?)?;
        T::ref_from_bytes(bytes).ok()
    }

    #[inline]
    pub(super) fn slice(&self, range: Range<usize>) -> Option<&[T]> {
        let start = range.start.checked_mul(size_of::<T>())?;
        let end = range.end.checked_mul(size_of::<T>())?;
        <[T]>::ref_from_bytes(self.view.get(start..end)?).ok()
    }

    /// Returns the bytes of all records.
    #[cfg(feature = "store")]
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        self.view.get(0..self.view.len())
    }
}

struct OwnedRecords<T>(Vec<T>);

impl<T: FixedRecord> AsRef<[u8]> for OwnedRecords<T> {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice().as_bytes()
    }
}
