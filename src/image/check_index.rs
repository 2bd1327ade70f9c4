//! Holding the index of an image, as a store has it, against its layers.
//!
//! What the layers merge into is the same index again, bit by bit: it follows
//! from the merged tree alone. Only where the bytes of files lie is the store's
//! to choose, and for that there is one rule: packs are numbered in the order
//! in which the runs name them.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::U64;

use super::attributes::ContentTable;
use super::error::ImageError;
use super::index_file::{TABLES, assemble, sections, xattrs};
use super::record::{ContentRecord, RunRecord};
use super::records::Records;
use super::{Image, IndexFile};
use crate::chunk::{Content, ContentError};

/// An index that does not say what its layers say.
#[derive(Debug, thiserror::Error)]
#[error("{file}: malformed: byte {offset}, {bucket}, is {found}, its layers make it {expected}")]
struct IndexMismatch {
    file: String,
    offset: usize,
    bucket: &'static str,
    found: String,
    expected: String,
}

impl Image {
    /// Holds every byte of the index of an image from a store against the index
    /// that `made`, the image of its layers in memory, would have. The bytes of
    /// files are not read. O(entries), and as much memory as both indexes.
    ///
    /// # Errors
    ///
    /// [`ImageError::Index`] for a block that is damaged, and for the first byte
    /// that is not what the layers make it.
    pub(crate) fn check_against(&self, made: &Self) -> Result<(), ImageError> {
        self.0.index.check_all().map_err(ImageError::Index)?;
        let Some(IndexFile { file, name, .. }) = &self.0.index_file else {
            return Ok(());
        };
        let expected = self.expected(made).map_err(ImageError::Index)?;
        let differs = file.iter().zip(&expected).position(|(a, b)| a != b);
        let shorter = file.len().min(expected.len());
        let same = file.len() == expected.len();
        let Some(offset) = differs.or((!same).then_some(shorter)) else {
            return Ok(());
        };
        let byte = |bytes: &[u8]| {
            let byte = bytes.get(offset);
            byte.map_or("missing".to_owned(), |byte| format!("{byte:#04x}"))
        };
        Err(ImageError::Index(ContentError::new(IndexMismatch {
            file: name.clone(),
            offset,
            bucket: bucket(&expected, offset),
            found: byte(file),
            expected: byte(&expected),
        })))
    }

    /// Makes the file that this index should be: all tables from `made`, but
    /// for the packs and the runs.
    fn expected(&self, made: &Self) -> Result<Vec<u8>, ContentError> {
        let index = &made.0.index;
        let held: &[Content] = match &index.contents {
            ContentTable::InMemory(held) => held,
            ContentTable::Mapped { .. } => &[],
        };
        let mut first = 0_u32;
        let mut contents = Vec::with_capacity(held.len());
        let (none, no_packs) = (Records::owned(Vec::new()), Records::owned(Vec::new()));
        let (records, runs, packs) = match &self.0.index.contents {
            ContentTable::Mapped {
                records,
                runs,
                packs,
                ..
            } => (Some(records), runs, packs),
            ContentTable::InMemory(_) => (None, &none, &no_packs),
        };
        for (at, content) in held.iter().enumerate() {
            let record: Option<&ContentRecord> = records.and_then(|records| records.get(at));
            let count = record.map_or(0, |record| record.count.get());
            contents.push(ContentRecord {
                digest: *content.digest().as_bytes(),
                first: first.into(),
                count: count.into(),
            });
            first = first.saturating_add(count);
        }
        let runs = runs.slice(0..first as usize).unwrap_or_default();
        let packs = packs.slice(0..named(runs)).unwrap_or_default();
        let (ends, xattrs): (Vec<U64>, Vec<u8>) = xattrs(&index.xattrs);
        Ok(assemble(
            made.layer_count(),
            sections(
                index,
                [packs.as_bytes(), contents.as_bytes(), runs.as_bytes()],
                [ends.as_bytes(), &xattrs],
            ),
        )
        .0)
    }
}

/// Counts the packs that runs name, as long as they name them in order.
fn named(runs: &[RunRecord]) -> usize {
    let mut next = 0;
    for run in runs {
        let pack = run.pack.get() as usize;
        if pack > next {
            break;
        }
        next = next.max(pack + 1);
    }
    next
}

/// Says in which part of an index a byte lies.
fn bucket(file: &[u8], offset: usize) -> &'static str {
    let number = |at: usize| {
        let bytes = file.get(at..)?.first_chunk().copied()?;
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let within = |table: usize| {
        let start = number(16)?.checked_add(number(40 + 16 * table)?)?;
        let end = start.checked_add(number(48 + 16 * table)?)?;
        Some((start..end).contains(&offset))
    };
    let table = (0..TABLES.len()).find(|table| within(*table) == Some(true));
    match table.and_then(|table| TABLES.get(table)) {
        Some(table) => table,
        None if number(16).is_some_and(|start| offset < start) => "in the header",
        None => "between the tables",
    }
}
