//! The host side of `wasi:filesystem`: which descriptor is whose.
//!
//! The resource types are wasmtime-wasi's. Ours lie in the same
//! `ResourceTable` as a type of our own and are known by that: a handle is
//! only a number there, and the table checks the type at each use.

use std::sync::Arc;

use wasmtime::component::{HasData, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::filesystem::{Descriptor as WasiDescriptor, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::ctx::Ctx;
use super::read_dir::ReadDir;
use super::stream::{ReadStream, WriteStream};
use crate::errno::Errno;
use crate::vfs::Descriptor;

/// Implements wasmtime-wasi's generated traits for `wasi:filesystem/types`
/// (sync and async): our descriptors here, all others by wasmtime-wasi.
///
/// Only a host that links interface by interface needs it by name.
pub struct FsView<'a> {
    pub(super) stock: WasiFilesystemCtxView<'a>,
}

/// Stands for [`FsView`] where wasmtime's `add_to_linker` wants a type.
pub struct HasFs;

impl HasData for HasFs {
    type Data<'a> = FsView<'a>;
}

/// Implements `wasi:filesystem/preopens`: our directories, then those of the
/// store's `WasiCtx`.
pub struct PreopensView<'a> {
    ctx: Ctx,
    fs: FsView<'a>,
}

/// Stands for [`PreopensView`] where wasmtime's `add_to_linker` wants a type.
pub struct HasPreopens;

impl HasData for HasPreopens {
    type Data<'a> = PreopensView<'a>;
}

/// A descriptor of ours in the resource table. Streams share it.
struct Ours(Arc<Descriptor>);

/// Whose two descriptors of one call are.
pub(super) enum Pair<'a> {
    Ours(&'a Descriptor, &'a Descriptor),
    Theirs,
    Mixed,
}

/// A table that is full is, to the guest, no descriptor left.
fn push<T: Send + 'static>(table: &mut ResourceTable, entry: T) -> FsResult<Resource<T>> {
    table.push(entry).map_err(|error| match error {
        ResourceTableError::Full => Errno::TooManyOpen.into(),
        ResourceTableError::NotPresent
        | ResourceTableError::WrongType
        | ResourceTableError::HasChildren => FsError::trap(error),
    })
}

impl<'a> FsView<'a> {
    /// Wraps wasmtime-wasi's view of the same store.
    #[must_use]
    pub fn new(stock: WasiFilesystemCtxView<'a>) -> Self {
        Self { stock }
    }

    /// Gives the descriptor behind `fd` if it is ours.
    pub(super) fn ours(&self, fd: &Resource<WasiDescriptor>) -> Option<&Arc<Descriptor>> {
        let key = Resource::<Ours>::new_borrow(fd.rep());
        self.stock.table.get(&key).ok().map(|ours| &ours.0)
    }

    pub(super) fn pair(
        &self,
        a: &Resource<WasiDescriptor>,
        b: &Resource<WasiDescriptor>,
    ) -> Pair<'_> {
        match (self.ours(a), self.ours(b)) {
            (Some(a), Some(b)) => Pair::Ours(a, b),
            (None, None) => Pair::Theirs,
            (Some(_), None) | (None, Some(_)) => Pair::Mixed,
        }
    }

    /// Hands a descriptor to the guest.
    pub(super) fn give(&mut self, d: Arc<Descriptor>) -> FsResult<Resource<WasiDescriptor>> {
        let key = push(self.stock.table, Ours(d))?;
        Ok(Resource::new_own(key.rep()))
    }

    /// Takes a descriptor back from the guest; false if it is not ours.
    pub(super) fn take(&mut self, fd: &Resource<WasiDescriptor>) -> wasmtime::Result<bool> {
        if self.ours(fd).is_none() {
            return Ok(false);
        }
        self.stock
            .table
            .delete(Resource::<Ours>::new_own(fd.rep()))?;
        Ok(true)
    }

    pub(super) fn give_listing(
        &mut self,
        listing: ReadDir,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let key = push(self.stock.table, listing)?;
        Ok(Resource::new_own(key.rep()))
    }

    /// Gives the listing behind `stream` if it is ours.
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

    /// Gives the code inside of a stream's error if the stream was ours.
    pub(super) fn stream_error(
        &self,
        error: &Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let error = self.stock.table.get(error)?;
        Ok(error.downcast_ref::<Errno>().map(|errno| (*errno).into()))
    }
}

impl<'a> PreopensView<'a> {
    /// Shows the directories of `ctx` and those of wasmtime-wasi's context.
    #[must_use]
    pub fn new(ctx: Ctx, stock: WasiFilesystemCtxView<'a>) -> Self {
        Self {
            ctx,
            fs: FsView::new(stock),
        }
    }
}

impl preopens::Host for PreopensView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<WasiDescriptor>, String)>> {
        let mut all = Vec::new();
        for (dir, path) in self.ctx.preopens() {
            all.push((self.fs.give(Arc::clone(dir))?, path.to_owned()));
        }
        all.extend(preopens::Host::get_directories(&mut self.fs.stock)?);
        Ok(all)
    }
}
