//! How many bytes the tables of an image have together: an image may name thousands, and whoever
//! takes it in believes no size that it states.

use super::lazy::NotedTable;
use crate::limits::{MAX_FRAME_TABLE_BYTES, MAX_IMAGE_TABLES_BYTES};

/// What is left for the tables of one image.
pub(super) struct TableRoom {
    /// Bytes that may still be fetched.
    fetched: u64,
    /// Bytes that may still be read, decompressed.
    raw: u64,
}

impl TableRoom {
    pub(super) fn new() -> Self {
        Self {
            fetched: MAX_IMAGE_TABLES_BYTES,
            raw: MAX_IMAGE_TABLES_BYTES,
        }
    }

    /// Sees, before anything is fetched, whether tables that are said to be so large have room
    /// together. Returns the number of the first that has none, and how many bytes those up to it have. What
    /// states no size is left for whoever reads it.
    pub(super) fn first_without<'n>(
        tables: impl Iterator<Item = NotedTable<'n>>,
    ) -> Option<(usize, u64)> {
        let mut sum: u64 = 0;
        for (number, table) in tables.enumerate() {
            sum = sum.saturating_add(table.stated_bytes().unwrap_or(0));
            if sum > MAX_IMAGE_TABLES_BYTES {
                return Some((number, sum));
            }
        }
        None
    }

    /// Sets room aside for a table that is fetched next.
    pub(super) fn fetch(&mut self, bytes: u64) -> Result<(), String> {
        self.fetched = self.fetched.checked_sub(bytes).ok_or_else(|| {
            let before = MAX_IMAGE_TABLES_BYTES - self.fetched;
            too_many(before.saturating_add(bytes), "")
        })?;
        Ok(())
    }

    /// Returns how many bytes a table that has come may have, decompressed.
    pub(super) fn raw_limit(&self) -> usize {
        usize::try_from(self.raw).map_or(MAX_FRAME_TABLE_BYTES, |left| {
            left.min(MAX_FRAME_TABLE_BYTES)
        })
    }

    /// Says why a table is not read that has more.
    pub(super) fn too_long(&self, why: &str) -> String {
        match self.raw_limit() < MAX_FRAME_TABLE_BYTES {
            true => too_many(
                MAX_IMAGE_TABLES_BYTES.saturating_add(1),
                " or more, decompressed",
            ),
            false => why.to_owned(),
        }
    }

    /// Counts a table that was read.
    pub(super) fn count(&mut self, bytes: usize) {
        self.raw = self.raw.saturating_sub(bytes as u64);
    }
}

/// Says that there is no room for a table.
pub(super) fn too_many(found: u64, how: &str) -> String {
    format!(
        "it and the tables before it have {found} bytes together{how}, where those of an image have \
         {MAX_IMAGE_TABLES_BYTES} at most"
    )
}
