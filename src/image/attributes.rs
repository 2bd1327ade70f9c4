//! Contents and extended attributes of an index: in memory, or made from the
//! records of a mapped one when they are first asked for.

use std::sync::Arc;

use zerocopy::byteorder::little_endian::U64;

use super::guard;
use super::lazy::Lazy;
use super::record::{ContentRecord, RunRecord};
use super::records::{GuardedBytes, Records};
use crate::chunk::Content;
use crate::digest::Digest;
use crate::meta::Xattrs;

/// Makes contents of the runs that an index names.
pub(crate) trait ContentSource: Send + Sync {
    /// Returns the content of a file of `size` bytes. Without runs that fit
    /// (`None`: they could not be read), returns one that cannot be read.
    fn content(&self, size: u64, digest: Digest, runs: Option<&[RunRecord]>) -> Content;
}

/// The contents of all files.
pub(super) enum ContentTable {
    InMemory(Vec<Content>),
    Mapped {
        made: Lazy<Content>,
        records: Records<ContentRecord>,
        runs: Records<RunRecord>,
        /// Names of the packs that the runs name by number.
        packs: Records<[u8; 32]>,
        origin: Arc<dyn ContentSource>,
    },
}

impl ContentTable {
    /// Returns a content by its number. `size` is the file's.
    #[inline]
    pub(super) fn get(&self, number: usize, size: u64) -> Option<&Content> {
        match self {
            Self::InMemory(contents) => contents.get(number),
            Self::Mapped {
                made,
                records,
                runs,
                origin,
                ..
            } => made.get(number, || {
                unless_refused(|| make(number, size, records, runs, &**origin))
            }),
        }
    }
}

/// Makes what is to be kept, but not of what lies in a damaged block: that would
/// stay when the one who was refused it has gone.
#[cold]
fn unless_refused<T>(make: impl FnOnce() -> T) -> Option<T> {
    let (made, refused) = guard::isolated(make);
    if refused {
        guard::refuse();
        return None;
    }
    Some(made)
}

fn make(
    number: usize,
    size: u64,
    records: &Records<ContentRecord>,
    runs: &Records<RunRecord>,
    origin: &dyn ContentSource,
) -> Content {
    let Some(record) = records.get(number) else {
        return origin.content(size, Digest::from_bytes([0; 32]), None);
    };
    let first = record.first.get() as usize;
    let end = first.saturating_add(record.count.get() as usize);
    let digest = Digest::from_bytes(record.digest);
    origin.content(size, digest, runs.slice(first..end))
}

/// The extended attributes of all objects that have some.
pub(super) enum XattrTable {
    InMemory(Vec<Arc<Xattrs>>),
    Mapped {
        made: Lazy<Option<Arc<Xattrs>>>,
        /// Where each one ends in `bytes`.
        ends: Records<U64>,
        bytes: GuardedBytes,
    },
}

impl XattrTable {
    /// Counts the objects that have attributes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::InMemory(all) => all.len(),
            Self::Mapped { ends, .. } => ends.len(),
        }
    }

    pub(super) fn get(&self, number: usize) -> Option<&Arc<Xattrs>> {
        match self {
            Self::InMemory(all) => all.get(number),
            Self::Mapped { made, ends, bytes } => made
                .get(number, || {
                    unless_refused(|| parse(number, ends, bytes).map(Arc::new))
                })?
                .as_ref(),
        }
    }
}

fn parse(number: usize, ends: &Records<U64>, bytes: &GuardedBytes) -> Option<Xattrs> {
    let start = match number.checked_sub(1) {
        None => 0,
        Some(before) => usize::try_from(ends.get(before)?.get()).ok()?,
    };
    let end = usize::try_from(ends.get(number)?.get()).ok()?;
    decode(bytes.get(start..end)?)
}

/// Writes attributes as 4 bytes of length and the bytes, name after value.
#[cfg(feature = "store")]
pub(crate) fn encode_xattrs(xattrs: &Xattrs, out: &mut Vec<u8>) {
    for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
        // A layer refuses more than `MAX_XATTR_BYTES` of an entry.
        let len = crate::bounded::bounded_u32(part.len(), "the bound on attributes of a layer");
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(part);
    }
}

/// Reads what [`encode_xattrs`] wrote.
pub(crate) fn decode(mut bytes: &[u8]) -> Option<Xattrs> {
    let mut part = || {
        let (len, rest) = bytes.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (part, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        Some((Box::<[u8]>::from(part), rest.is_empty()))
    };
    let mut xattrs = Xattrs::new();
    loop {
        let (name, _) = part()?;
        let (value, last) = part()?;
        xattrs.push((name, value));
        if last {
            return Some(xattrs);
        }
    }
}
