//! A directory as a stream of entries.

use std::pin::Pin;
use std::task::{Context, Poll};

use wasmtime::StoreContextMut;
use wasmtime::component::{Destination, StreamProducer, StreamResult, VecBuffer};
use wasmtime_wasi::p3::bindings::filesystem::types::DirectoryEntry;

use super::convert;
use super::stream::Ending;
use crate::wasi::component::listing::ReadDir;
use crate::wasi::component::watch::{Step, StreamWatcher};

/// Entries made in one step at most, however many the guest has room for:
/// the host holds them while they cross into the component.
const MAX_STEP: usize = 256;

/// Yields the entries of a directory, and ends at the first that cannot be read.
pub(super) struct EntryStream {
    listing: ReadDir,
    ending: Ending,
    watch: StreamWatcher,
}

impl EntryStream {
    pub(super) fn new(listing: ReadDir, ending: Ending, watch: StreamWatcher) -> Self {
        Self {
            listing,
            ending,
            watch,
        }
    }
}

impl<D> StreamProducer<D> for EntryStream {
    type Item = DirectoryEntry;
    type Buffer = VecBuffer<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut dst: Destination<'a, DirectoryEntry, Self::Buffer>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let room = dst.remaining(&mut store).unwrap_or(MAX_STEP).min(MAX_STEP);
        self.watch.begin();
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        let mut result = StreamResult::Completed;
        while entries.len() < room {
            match self.listing.next() {
                Ok(Some(entry)) => entries.push(convert::entry(entry)),
                end => {
                    if let Err(errno) = end {
                        self.watch.end(Step::Failed(errno));
                    }
                    result = self.ending.end(end.map(drop));
                    break;
                }
            }
        }
        let names = &mut entries.iter().map(|entry| entry.name.as_str());
        self.watch.end(Step::Entries(names));
        dst.set_buffer(entries.into());
        Poll::Ready(Ok(result))
    }
}
