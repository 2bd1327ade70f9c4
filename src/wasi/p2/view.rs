//! What 0.2 has in the table besides descriptors: listings and streams.

use std::sync::Arc;

use wasmtime::component::{Resource, ResourceTable};
use wasmtime_wasi::filesystem::Descriptor as WasiDescriptor;
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsResult};

use super::convert::no_room;
use super::stream::{ReadStream, WriteStream};
use crate::errno::Errno;
use crate::vfs::Descriptor;
use crate::wasi::component::listing::ReadDir;
use crate::wasi::component::view::{FsView, PreopensView};

fn push<T: Send + 'static>(table: &mut ResourceTable, entry: T) -> FsResult<Resource<T>> {
    table.push(entry).map_err(no_room)
}

impl FsView<'_> {
    /// Hands a descriptor that was just opened to the guest.
    pub(super) fn give_opened(&mut self, d: Descriptor) -> FsResult<Resource<WasiDescriptor>> {
        self.put(Arc::new(d)).map_err(no_room)
    }

    pub(super) fn give_listing(
        &mut self,
        listing: ReadDir,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let key = push(self.stock.table, listing)?;
        Ok(Resource::new_own(key.rep()))
    }

    /// Returns the listing behind `stream` if it is ours.
    pub(super) fn listing(
        &mut self,
        stream: &Resource<types::DirectoryEntryStream>,
    ) -> Option<&mut ReadDir> {
        let key = Resource::<ReadDir>::new_borrow(stream.rep());
        self.stock.table.get_mut(&key).ok()
    }

    /// As [`Self::take`], for a listing.
    pub(super) fn take_listing(
        &mut self,
        stream: &Resource<types::DirectoryEntryStream>,
    ) -> wasmtime::Result<bool> {
        if self.listing(stream).is_none() {
            return Ok(false);
        }
        self.stock
            .table
            .delete(Resource::<ReadDir>::new_own(stream.rep()))?;
        Ok(true)
    }

    pub(super) fn give_input(&mut self, stream: ReadStream) -> FsResult<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(stream);
        push(self.stock.table, stream)
    }

    pub(super) fn give_output(
        &mut self,
        stream: WriteStream,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(stream);
        push(self.stock.table, stream)
    }

    /// Returns the code inside of a stream's error if the stream was ours.
    pub(super) fn stream_error(
        &self,
        error: &Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let error = self.stock.table.get(error)?;
        Ok(error.downcast_ref::<Errno>().map(|errno| (*errno).into()))
    }
}

impl preopens::Host for PreopensView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<WasiDescriptor>, String)>> {
        let mut all = self.put_ours().map_err(no_room)?;
        all.extend(preopens::Host::get_directories(&mut self.fs.stock)?);
        Ok(all)
    }
}
