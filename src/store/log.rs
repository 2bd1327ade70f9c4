//! The catalog's file: a log of changes that is only appended to.
//!
//! A head names the store and the generation of the file. Batches follow, each
//! with the digest of itself and of all before it: so a batch counts as a
//! whole, and bytes that changed anywhere show where they are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::StoreError;
use super::catalog::CatalogChange;
use super::codec::ByteReader;
use crate::digest::Digest;

/// The first bytes of the file.
pub(super) const MAGIC: [u8; 8] = *b"stratlog";

/// The version that is written, and the only one that is read.
const LOG_VERSION: u32 = 1;

/// Bytes of the head.
pub(super) const HEAD: usize = 64;

/// Bytes that a batch has besides its changes.
const FRAME: usize = 4 + 32;

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// Values by key; the first byte of a key is the kind of the record.
pub(super) type RecordMap = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// The identity of a store: drawn at random when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreId(pub(super) [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The head of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Counts how often the log has been written anew.
    pub(super) generation: u64,
    pub(super) id: StoreId,
}

/// Why the head of a log was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadError {
    Damaged,
    Version(u32),
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD);
        bytes.extend(MAGIC);
        bytes.extend(LOG_VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(self.id.0);
        bytes.extend(blake3::hash(&bytes).as_bytes().iter().take(HEAD - 40));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut reader = ByteReader::new(bytes);
        let magic = reader.array::<8>();
        let version = reader.u32().ok_or(HeadError::Damaged)?;
        if magic != Some(MAGIC) {
            return Err(HeadError::Damaged);
        }
        if version > LOG_VERSION {
            return Err(HeadError::Version(version));
        }
        let parts = (reader.array::<4>(), reader.u64(), reader.array());
        let (Some(_), Some(generation), Some(id)) = parts else {
            return Err(HeadError::Damaged);
        };
        let head = Self {
            generation,
            id: StoreId(id),
        };
        match bytes.get(..HEAD) == Some(head.encode().as_slice()) {
            true => Ok(head),
            false => Err(HeadError::Damaged),
        }
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.encode())
    }
}

/// What a log says, up to some batch.
#[derive(Clone, Debug)]
pub(super) struct LogState {
    pub(super) head: Head,
    /// Where the last batch that was read ends.
    pub(super) end: u64,
    /// The digest of that batch, or of the head.
    pub(super) last: Digest,
    pub(super) records: RecordMap,
}

impl LogState {
    pub(super) fn new(head: Head) -> Self {
        Self {
            head,
            end: HEAD as u64,
            last: head.digest(),
            records: RecordMap::new(),
        }
    }

    /// Takes in the next batch, which begins at the first of `bytes`. Returns the
    /// length of the batch, or `None` if there is no whole one.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<usize> {
        let (payload, digest, len) = frame(bytes, &self.last)?;
        let changes = changes(payload)?;
        for (key, value) in changes {
            match value {
                Some(value) => drop(self.records.insert(key.to_vec(), value.into())),
                None => drop(self.records.remove(key)),
            }
        }
        self.end += len as u64;
        self.last = digest;
        Some(len)
    }

    /// Takes in all whole batches. Returns how many there were.
    pub(super) fn take_all(&mut self, mut bytes: &[u8]) -> usize {
        let mut count = 0;
        while let Some(len) = self.take(bytes) {
            bytes = bytes.get(len..).unwrap_or_default();
            count += 1;
        }
        count
    }

    /// Returns the bytes of a log that says the same in one batch.
    pub(super) fn rewritten(&self) -> Result<(Self, Vec<u8>), StoreError> {
        let head = Head {
            generation: self.head.generation.saturating_add(1),
            ..self.head
        };
        let mut state = Self::new(head);
        let mut bytes = head.encode();
        if !self.records.is_empty() {
            let puts = self.records.iter();
            let puts = puts.map(|(key, value)| (key.as_slice(), Some(&**value)));
            bytes.extend(batch(&state.last, puts)?);
            state.take_all(bytes.get(HEAD..).unwrap_or_default());
        }
        Ok((state, bytes))
    }

    /// Returns the bytes that `changes` are as the next batch.
    pub(super) fn next(&self, changes: &[CatalogChange]) -> Result<Vec<u8>, StoreError> {
        let keys: Vec<(Vec<u8>, Option<&[u8]>)> =
            changes.iter().map(CatalogChange::record).collect();
        batch(
            &self.last,
            keys.iter().map(|(key, value)| (key.as_slice(), *value)),
        )
    }

    /// Returns whether most of the log is about records that have been removed or
    /// replaced, so that writing it anew would pay.
    pub(super) fn is_mostly_stale(&self) -> bool {
        const SMALL: u64 = 64 << 10;
        let live = self.records.iter();
        let live: usize = live.map(|(key, value)| key.len() + value.len() + 7).sum();
        self.end > SMALL && self.end / 4 > live as u64
    }
}

/// Writes one batch: what is put, and what is removed.
fn batch<'a>(
    last: &Digest,
    records: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; 4];
    for (key, value) in records {
        bytes.push(if value.is_some() { PUT } else { REMOVE });
        bytes.extend(
            u16::try_from(key.len())
                .map_err(|_| StoreError::too_long(key.len()))?
                .to_le_bytes(),
        );
        if let Some(value) = value {
            bytes.extend(
                u32::try_from(value.len())
                    .map_err(|_| StoreError::too_long(value.len()))?
                    .to_le_bytes(),
            );
        }
        bytes.extend(key);
        bytes.extend(value.unwrap_or_default());
    }
    let len = u32::try_from(bytes.len() - 4).map_err(|_| StoreError::too_long(bytes.len()))?;
    if let Some(first) = bytes.first_chunk_mut() {
        *first = len.to_le_bytes();
    }
    let digest = digest_of(last, &bytes);
    bytes.extend(digest.as_bytes());
    Ok(bytes)
}

fn digest_of(last: &Digest, bytes: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs batch 1\0");
    hasher.update(last.as_bytes());
    hasher.update(bytes);
    Digest::from(hasher.finalize())
}

/// Returns the changes of the first batch of `bytes`, its digest, and its length
/// as a whole.
fn frame<'a>(bytes: &'a [u8], last: &Digest) -> Option<(&'a [u8], Digest, usize)> {
    let len = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    let digested = bytes.get(..len.checked_add(4)?)?;
    let digest = bytes.get(len + 4..len.checked_add(FRAME)?)?;
    let found = digest_of(last, digested);
    let holds = found.as_bytes().as_slice() == digest;
    holds.then_some((digested.get(4..)?, found, len + FRAME))
}

/// A key, and what it has from then on.
type RecordUpdate<'a> = (&'a [u8], Option<&'a [u8]>);

/// Reads the changes of a batch: all, or none.
fn changes(payload: &[u8]) -> Option<Vec<RecordUpdate<'_>>> {
    let mut reader = ByteReader::new(payload);
    let mut updates = Vec::new();
    while !reader.is_at_end() {
        let kind = reader.u8()?;
        let key_len = reader.u16()?.into();
        updates.push(match kind {
            PUT => {
                let len = reader.u32()? as usize;
                (reader.bytes(key_len)?, Some(reader.bytes(len)?))
            }
            REMOVE => (reader.bytes(key_len)?, None),
            _ => return None,
        });
    }
    Some(updates)
}
