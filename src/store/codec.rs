//! Numbers, names and metadata in the files of a store, little-endian.

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::StoreError;
use crate::digest::Digest;
use crate::image::index_file::{RunRecord, decode_xattrs, encode_xattrs};
use crate::meta::{Meta, Time};

/// Returns a count, a length or a place as the files of a store have it. `what`
/// says of what it is, for the error if it does not fit.
pub(super) fn count<T>(number: T, what: &'static str) -> Result<u32, StoreError>
where
    T: Copy + TryInto<u32> + TryInto<u64>,
{
    narrow(number, what, u32::MAX.into())
}

/// Returns a number in fewer bytes, of which the largest is `bound`.
pub(super) fn narrow<T, N>(number: T, what: &'static str, bound: u64) -> Result<N, StoreError>
where
    T: Copy + TryInto<N> + TryInto<u64>,
{
    TryInto::<N>::try_into(number).map_err(|_| StoreError::TooMany {
        what,
        found: TryInto::<u64>::try_into(number).unwrap_or(u64::MAX),
        bound,
    })
}

pub(super) fn put_runs(out: &mut Vec<u8>, runs: &[RunRecord]) -> Result<(), StoreError> {
    out.extend(count(runs.len(), "runs of a file")?.to_le_bytes());
    out.extend_from_slice(runs.as_bytes());
    Ok(())
}

pub(super) fn put_meta(out: &mut Vec<u8>, meta: &Meta) -> Result<(), StoreError> {
    // Nothing above the 12 permission bits.
    out.extend(u16::try_from(meta.mode & 0o7777).unwrap_or(0).to_le_bytes());
    out.extend(meta.uid.to_le_bytes());
    out.extend(meta.gid.to_le_bytes());
    out.extend(meta.mtime.secs().to_le_bytes());
    out.extend(meta.mtime.nanos().to_le_bytes());
    let mut xattrs = Vec::new();
    if let Some(have) = &meta.xattrs {
        encode_xattrs(have, &mut xattrs);
    }
    out.extend(count(xattrs.len(), "bytes of attributes")?.to_le_bytes());
    out.extend(xattrs);
    Ok(())
}

/// Reads what was put, front to back; `None` where it ends too early.
pub(super) struct ByteReader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> ByteReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            len: bytes.len(),
        }
    }

    /// Returns how many bytes have been read.
    pub(super) fn offset(&self) -> usize {
        self.len - self.rest.len()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.array().map(Digest::from_bytes)
    }

    pub(super) fn digests(&mut self) -> Option<Vec<Digest>> {
        let count = self.u32()?;
        let bytes = self.bytes((count as usize).checked_mul(32)?)?;
        let digests = bytes.chunks_exact(32).filter_map(|one| one.first_chunk());
        Some(digests.map(|one| Digest::from_bytes(*one)).collect())
    }

    pub(super) fn runs(&mut self) -> Option<Box<[RunRecord]>> {
        let count = self.u32()? as usize;
        // Taken off before anything is allocated.
        let bytes = self.bytes(count.checked_mul(size_of::<RunRecord>())?)?;
        <[RunRecord]>::ref_from_bytes(bytes).ok().map(Box::from)
    }

    pub(super) fn meta(&mut self) -> Option<Meta> {
        let mode = self.u16()?;
        let (uid, gid) = (self.u32()?, self.u32()?);
        let secs = self.array().map(i64::from_le_bytes)?;
        let nanos = self.u32()?;
        let len = self.u32()? as usize;
        let xattrs = match self.bytes(len)? {
            [] => None,
            bytes => Some(Arc::new(decode_xattrs(bytes)?)),
        };
        Some(Meta {
            uid,
            gid,
            xattrs,
            ..Meta::with_mode(mode.into()).at(Time::new(secs, nanos))
        })
    }
}
