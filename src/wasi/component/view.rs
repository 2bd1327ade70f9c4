//! The host side of `wasi:filesystem`: which descriptor is whose.
//!
//! The resource types are wasmtime-wasi's. Ours lie in the same
//! `ResourceTable` as a type of our own and are known by that: a handle is
//! only a number there, and the table checks the type at each use.

use std::sync::Arc;

#[cfg(feature = "runner")]
use wasmtime::component::ResourceTable;
use wasmtime::component::{HasData, Resource, ResourceTableError};
use wasmtime_wasi::filesystem::{Descriptor as WasiDescriptor, WasiFilesystemCtxView};

use super::ctx::StratafsCtx;
#[cfg(feature = "p3")]
use super::watch::StreamWatcher;
use crate::vfs::Descriptor;

/// Implements wasmtime-wasi's generated traits for `wasi:filesystem/types`:
/// our descriptors here, all others by wasmtime-wasi.
///
/// Only a host that links interface by interface needs it by name.
pub struct FsView<'a> {
    pub(in crate::wasi) stock: WasiFilesystemCtxView<'a>,
    /// Who is told of the stream that the next call makes.
    #[cfg(feature = "p3")]
    watch: StreamWatcher,
}

/// Stands for [`FsView`] where wasmtime's `add_to_linker` wants a type.
pub struct HasFs;

impl HasData for HasFs {
    type Data<'a> = FsView<'a>;
}

/// Implements `wasi:filesystem/preopens`: our directories, then those of the
/// store's `WasiCtx`.
pub struct PreopensView<'a> {
    ctx: StratafsCtx,
    pub(in crate::wasi) fs: FsView<'a>,
}

/// Stands for [`PreopensView`] where wasmtime's `add_to_linker` wants a type.
pub struct HasPreopens;

impl HasData for HasPreopens {
    type Data<'a> = PreopensView<'a>;
}

/// A descriptor of ours in the resource table. Streams share it.
struct Ours(Arc<Descriptor>);

/// Whose two descriptors of one call are.
pub(in crate::wasi) enum Pair<'a> {
    Ours(&'a Descriptor, &'a Descriptor),
    Theirs,
    Mixed,
}

impl<'a> FsView<'a> {
    /// Wraps wasmtime-wasi's view of the same store.
    #[must_use]
    pub fn new(stock: WasiFilesystemCtxView<'a>) -> Self {
        Self {
            stock,
            #[cfg(feature = "p3")]
            watch: StreamWatcher::default(),
        }
    }

    /// Names who is told of the stream that is made through this view.
    #[cfg(feature = "runner")]
    pub(crate) fn watched(mut self, watch: StreamWatcher) -> Self {
        self.watch = watch;
        self
    }

    /// What the guest has open.
    #[cfg(feature = "runner")]
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        self.stock.table
    }

    /// The descriptor behind `fd` if it is ours, and who is told of its stream.
    #[cfg(feature = "p3")]
    pub(in crate::wasi) fn ours_watched(
        &mut self,
        fd: &Resource<WasiDescriptor>,
    ) -> (Option<Arc<Descriptor>>, StreamWatcher) {
        (self.ours(fd).cloned(), std::mem::take(&mut self.watch))
    }

    /// Returns the descriptor behind `fd` if it is ours.
    pub(in crate::wasi) fn ours(&self, fd: &Resource<WasiDescriptor>) -> Option<&Arc<Descriptor>> {
        let key = Resource::<Ours>::new_borrow(fd.rep());
        self.stock.table.get(&key).ok().map(|ours| &ours.0)
    }

    pub(in crate::wasi) fn pair(
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
    pub(in crate::wasi) fn put(
        &mut self,
        d: Arc<Descriptor>,
    ) -> Result<Resource<WasiDescriptor>, ResourceTableError> {
        let key = self.stock.table.push(Ours(d))?;
        Ok(Resource::new_own(key.rep()))
    }

    /// Takes a descriptor back from the guest; false if it is not ours.
    pub(in crate::wasi) fn take(
        &mut self,
        fd: &Resource<WasiDescriptor>,
    ) -> wasmtime::Result<bool> {
        if self.ours(fd).is_none() {
            return Ok(false);
        }
        self.stock
            .table
            .delete(Resource::<Ours>::new_own(fd.rep()))?;
        Ok(true)
    }
}

impl<'a> PreopensView<'a> {
    /// Shows the directories of `ctx` and those of wasmtime-wasi's context.
    #[must_use]
    pub fn new(ctx: StratafsCtx, stock: WasiFilesystemCtxView<'a>) -> Self {
        Self {
            ctx,
            fs: FsView::new(stock),
        }
    }

    /// Hands our directories to the guest, in the order they were given.
    pub(in crate::wasi) fn put_ours(
        &mut self,
    ) -> Result<Vec<(Resource<WasiDescriptor>, String)>, ResourceTableError> {
        let mut all = Vec::new();
        for (dir, path) in self.ctx.preopens() {
            all.push((self.fs.put(Arc::clone(dir))?, path.to_owned()));
        }
        Ok(all)
    }
}
