//! Chunks of a pack that are not here: told from damage, and asked for.

use std::sync::Arc;

use super::StoreError;
use super::fetcher::WantedChunk;
use super::lazy_pack::LazyPack;
use super::pack::Pack;
use super::pack_table::PackTable;
use crate::limits::MIN_FETCHED_BYTES;

/// Device and number of a file.
pub(super) type HostFileId = (u64, u64);

impl Pack {
    /// Says where chunks come from that are not here, if some may not be.
    pub(super) fn lazy(&self) -> Option<&Arc<LazyPack>> {
        let found = || LazyPack::of(&self.disk, self.name()?).map(Arc::new);
        self.lazy.get_or_init(found).as_ref()
    }

    /// Returns whether the file that is open here is the one that has its name. A collection removes
    /// files that are open, and others may come in their place.
    pub(super) fn has_its_name(&self) -> bool {
        let named = std::fs::metadata(&*self.path.lock()).ok();
        named.and_then(|meta| file_id(&meta)) == self.file_id
    }

    /// Turns damage of a chunk into what it is where chunks may not be here: lets them be
    /// fetched, up to `end` of the file.
    pub(super) fn missing(&self, table: &PackTable, end: u64, error: StoreError) -> StoreError {
        let StoreError::Damaged { offset, .. } = error else {
            return error;
        };
        let (Some(lazy), Some(fetcher), Some(name)) = (self.lazy(), &self.fetcher, self.name())
        else {
            return error;
        };
        let Some(first) = table.chunk_at(offset) else {
            return error;
        };
        if !self.has_its_name() {
            // A collection took the file that is open here: what is fetched would go into another.
            return StoreError::NotHere {
                blob: lazy.blob,
                from: lazy.homes.first().cloned().unwrap_or_default(),
            };
        }
        let wanted = |number: u32| {
            let (digest, offset, len) = table.chunk(number)?;
            let (frame, place) = *lazy.chunks.get(number as usize)?;
            Some(WantedChunk {
                digest,
                offset,
                len,
                frame,
                place,
            })
        };
        let Some(own) = wanted(first) else {
            return error;
        };
        // All of the frames that the range touches, and those behind them that cost no more time.
        let before = (0..first).rev().map_while(wanted);
        let front = before.take_while(|chunk| chunk.frame == own.frame).count();
        let from = first - u32::try_from(front).unwrap_or(0);
        let mut last = own.frame;
        let chunks = (from..).map_while(wanted).take_while(|chunk| {
            if chunk.offset < end {
                last = last.max(chunk.frame);
            }
            let span = lazy.frames.span(own.frame..chunk.frame.saturating_add(1));
            chunk.frame <= last
                || span.is_some_and(|span| span.end - span.start <= MIN_FETCHED_BYTES)
        });
        match fetcher.want(name, lazy, &chunks.collect::<Vec<_>>()) {
            Ok(ticket) => StoreError::OnTheWay(ticket),
            Err(error) => error,
        }
    }

    /// Lets what a range lacks be fetched, if the first of its chunks that was not read yet is absent.
    /// Nobody waits for it here.
    pub(super) fn fetch_ahead(&self, offset: u64, len: u64) {
        let Ok(Some(table)) = self.table() else {
            return;
        };
        let end = offset.saturating_add(len);
        let first = table.unverified(offset, end).into_iter().next();
        let first = first.and_then(|number| Some((number, table.chunk(number)?)));
        let Some((number, (_, start, len))) = first.filter(|_| self.lazy().is_some()) else {
            return;
        };
        let mut buf = vec![0; len as usize];
        if self.raw(start, &mut buf).is_ok()
            && let Err(error) = self.verify_chunk(table, number, &buf)
        {
            drop(self.missing(table, end, error));
        }
    }

    /// Reads a chunk that did not hold once more: it may have come in between.
    pub(super) fn has_come(&self, table: &PackTable, offset: u64) -> Result<bool, StoreError> {
        let len = table
            .chunk_at(offset)
            .and_then(|number| table.chunk(number));
        let len = len.map_or(0, |(_, _, len)| len.into());
        Ok(self.lacking(offset, len)?.is_empty())
    }

    /// Returns the chunks of a sealed pack that a range touches and that do not hold against
    /// their digests: start in the pack, bytes.
    pub(super) fn lacking(&self, offset: u64, len: u64) -> Result<Vec<(u64, u32)>, StoreError> {
        let Some(table) = self.table()? else {
            return Ok(Vec::new());
        };
        let mut lacking = Vec::new();
        let mut buf = Vec::new();
        for number in table.unverified(offset, offset.saturating_add(len)) {
            let Some((_, start, len)) = table.chunk(number) else {
                break;
            };
            buf.resize(len as usize, 0);
            self.raw(start, &mut buf)?;
            match self.verify_chunk(table, number, &buf) {
                Err(StoreError::Damaged { .. }) => lacking.push((start, len)),
                held => held?,
            }
        }
        Ok(lacking)
    }
}

/// Returns what tells a file from others; `None` where the system does not say.
pub(super) fn file_id(meta: &std::fs::Metadata) -> Option<HostFileId> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((meta.dev(), meta.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        None
    }
}
