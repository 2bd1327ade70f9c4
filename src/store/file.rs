//! The bytes of one file, at rest in packs.

use std::any::Any;
use std::sync::Arc;

use super::StoreError;
use super::packs::PackList;
use crate::chunk::{Content, ContentError, Stored, Unread};
use crate::digest::Digest;
use crate::image::index_file::{ContentSource, RunRecord};

/// Runs behind an absent one that are looked at, so that they come with it.
const RUNS_AHEAD: usize = 16;

/// A file as runs of packs, in order; between them are holes.
pub(super) struct StoredFile {
    pub(super) runs: Box<[RunRecord]>,
    pub(super) packs: Arc<PackList>,
}

/// Stands for a file of which not even the runs could be read, or which
/// cannot be as they say.
pub(super) struct Unreadable(pub(super) ContentError);

impl StoredFile {
    /// Makes the content of a file of `size` bytes, if the runs are in order
    /// and within it.
    pub(super) fn content(
        size: u64,
        digest: Digest,
        runs: Box<[RunRecord]>,
        packs: Arc<PackList>,
    ) -> Option<Content> {
        let mut end = 0;
        for run in &runs {
            let at = run.at.get();
            if at < end || run.len.get() == 0 {
                return None;
            }
            end = at.checked_add(run.len.get().into())?;
        }
        let file = Self { runs, packs };
        (end <= size).then(|| Content::at_rest(size, digest, Box::new(file)))
    }

    /// Returns a content's runs, if it is of this kind.
    pub(super) fn of(content: &Content) -> Option<&Self> {
        let stored: &dyn Any = content.stored()?;
        stored.downcast_ref()
    }

    /// Lets what comes next of a read be fetched as well, so that it waits once: runs of a file that
    /// has chunks in common with others lie apart.
    fn fetch_ahead(&self, from: u64, len: u64) {
        let first = self.runs.partition_point(|run| end_of(run) <= from);
        let end = from.saturating_add(len);
        let next = self.runs.get(first..).unwrap_or_default();
        let next = next.iter().take_while(|run| run.at.get() < end);
        for run in next.take(RUNS_AHEAD) {
            let skip = from.saturating_sub(run.at.get());
            let last = end_of(run).min(end) - run.at.get();
            if let Ok(pack) = self.packs.get(run.pack.get()) {
                pack.fetch_ahead(
                    u64::from(run.offset.get()) + skip,
                    last.saturating_sub(skip),
                );
            }
        }
    }

    fn fill(&self, run: &RunRecord, skip: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        let pack = self.packs.get(run.pack.get())?;
        pack.read(u64::from(run.offset.get()) + skip, buf)
    }
}

impl Stored for StoredFile {
    fn read_at(&self, offset: u64, mut buf: &mut [u8]) -> Result<(), Unread> {
        let first = self.runs.partition_point(|run| end_of(run) <= offset);
        let mut at = offset;
        for run in self.runs.get(first..).unwrap_or_default() {
            if buf.is_empty() {
                break;
            }
            let start = run.at.get();
            if at < start {
                let hole = take(&mut buf, start - at);
                at += hole.len() as u64;
                hole.fill(0);
            }
            let piece = take(&mut buf, end_of(run).saturating_sub(at));
            if !piece.is_empty() {
                let len = piece.len() as u64;
                if let Err(error) = self.fill(run, at - start, piece) {
                    if matches!(error, StoreError::OnTheWay(_)) {
                        self.fetch_ahead(at + len, buf.len() as u64);
                    }
                    return Err(unread(error));
                }
                at += len;
            }
        }
        buf.fill(0);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        let first = self.runs.partition_point(|run| end_of(run) <= offset);
        self.runs.get(first).map(|run| run.at.get().max(offset))
    }

    fn data_end(&self, offset: u64, limit: u64) -> u64 {
        let first = self.runs.partition_point(|run| end_of(run) <= offset);
        let mut end = offset;
        for run in self.runs.get(first..).unwrap_or_default() {
            if end >= limit || run.at.get() > end {
                break;
            }
            end = end_of(run);
        }
        end.min(limit)
    }

    fn stored_bytes(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.len.get())).sum()
    }
}

impl Stored for Unreadable {
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), Unread> {
        Err(self.0.clone().into())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        Some(offset)
    }

    fn data_end(&self, _: u64, limit: u64) -> u64 {
        limit
    }

    fn stored_bytes(&self) -> u64 {
        0
    }
}

/// Returns a content that cannot be read.
pub(super) fn unreadable(size: u64, digest: Digest, why: StoreError) -> Content {
    Content::at_rest(size, digest, Box::new(Unreadable(why.into_content())))
}

/// The files of a mapped index.
pub(super) struct IndexFiles {
    pub(super) packs: Arc<PackList>,
    /// The index, for messages.
    pub(super) file: std::path::PathBuf,
}

impl ContentSource for IndexFiles {
    fn content(&self, size: u64, digest: Digest, runs: Option<&[RunRecord]>) -> Content {
        runs.and_then(|runs| {
            StoredFile::content(size, digest, runs.into(), Arc::clone(&self.packs))
        })
        .unwrap_or_else(|| {
            let what = "the runs of a file cannot be read";
            unreadable(size, digest, StoreError::malformed(&self.file, what))
        })
    }
}

/// Passes an error on to whoever reads: a ticket, if the bytes are on their way.
fn unread(error: StoreError) -> Unread {
    match error {
        StoreError::OnTheWay(ticket) => Unread::Absent(ticket),
        other => other.into_content().into(),
    }
}

fn end_of(run: &RunRecord) -> u64 {
    run.at.get().saturating_add(run.len.get().into())
}

/// Splits up to `len` bytes off the front of `rest`.
fn take<'a>(rest: &mut &'a mut [u8], len: u64) -> &'a mut [u8] {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}
