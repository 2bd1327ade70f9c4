//! What an embedder's store holds for components, and how it is reached.

use std::fmt;
use std::sync::Arc;

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::vfs::{Descriptor, Preopen};

/// The directories shown to one component: what `wasi:filesystem/preopens`
/// returns, before the host directories of the store's `WasiCtx`.
///
/// Empty by default. Cloning is cheap and shares the descriptors.
///
/// ```
/// use stratafs::{image::Image, vfs::Fs, wasi::StratafsCtx};
///
/// let fs = Fs::new(&Image::empty());
/// let ctx = StratafsCtx::new().preopen(fs.root()?, "/");
/// # drop(ctx);
/// # Ok::<(), stratafs::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StratafsCtx {
    preopens: Vec<(Arc<Descriptor>, String)>,
}

impl StratafsCtx {
    /// Makes a context that shows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `dir` to the guest as `guest_path`. The guest takes the last of
    /// equal paths; nested ones work as with any WASI host.
    #[must_use]
    pub fn preopen(mut self, dir: Preopen, guest_path: impl Into<String>) -> Self {
        let dir = Arc::new(dir.into_descriptor());
        self.preopens.push((dir, guest_path.into()));
        self
    }

    /// Returns what [`Self::preopen`] took, in that order.
    pub(super) fn preopens(&self) -> impl Iterator<Item = (&Arc<Descriptor>, &str)> {
        self.preopens.iter().map(|(dir, path)| (dir, path.as_str()))
    }
}

/// Reaches the [`StratafsCtx`] in the data of an embedder's store, beside
/// [`WasiView`], which reaches wasmtime-wasi's part of it.
///
/// [`StratafsState`] implements it around data that only have a [`WasiView`].
///
/// ```
/// use stratafs::wasi::{StratafsCtx, StratafsView, p2};
/// use wasmtime::component::{Linker, ResourceTable};
/// use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
///
/// struct Plugin {
///     wasi: WasiCtx,
///     table: ResourceTable,
///     files: StratafsCtx,
/// }
///
/// impl WasiView for Plugin {
///     fn ctx(&mut self) -> WasiCtxView<'_> {
///         WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
///     }
/// }
///
/// impl StratafsView for Plugin {
///     fn stratafs(&mut self) -> &mut StratafsCtx {
///         &mut self.files
///     }
/// }
///
/// let mut linker = Linker::<Plugin>::new(&wasmtime::Engine::default());
/// p2::add_to_linker_sync(&mut linker)?;
/// # Ok::<(), wasmtime::Error>(())
/// ```
pub trait StratafsView: WasiView {
    /// Returns the directories to show to the guest.
    fn stratafs(&mut self) -> &mut StratafsCtx;
}

/// The data of a store: what the host keeps there, and a [`StratafsCtx`].
///
/// A host that has data with a [`WasiView`] wraps them by
/// [`with`](Self::with) and implements nothing else; one without data of its own
/// takes [`new`](StratafsState::new).
///
/// ```
/// use stratafs::{image::Image, vfs::Fs, wasi::StratafsState};
/// use wasmtime_wasi::WasiCtx;
///
/// let fs = Fs::new(&Image::empty());
/// let state = StratafsState::new(WasiCtx::builder().build()).preopen(fs.root()?, "/");
/// # drop(state);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct StratafsState<T = WasiState> {
    /// What the host keeps besides.
    pub data: T,
    /// The directories to show to the guest.
    pub stratafs: StratafsCtx,
}

/// What wasmtime-wasi needs of a store's data, and nothing else.
pub struct WasiState {
    /// Arguments, environment, standard streams, host directories.
    pub wasi: WasiCtx,
    /// What the guest has open. Its capacity bounds that.
    pub table: ResourceTable,
}

impl StratafsState {
    /// Makes the data of a store for a host that keeps none of its own. No
    /// directory of stratafs is shown yet.
    #[must_use]
    pub fn new(wasi: WasiCtx) -> Self {
        let table = ResourceTable::new();
        Self::with(WasiState { wasi, table })
    }
}

impl<T> StratafsState<T> {
    /// Wraps the data of a host. No directory of stratafs is shown yet.
    #[must_use]
    pub fn with(data: T) -> Self {
        Self {
            data,
            stratafs: StratafsCtx::new(),
        }
    }

    /// Shows a directory to the guest: [`StratafsCtx::preopen`].
    #[must_use]
    pub fn preopen(mut self, dir: Preopen, guest_path: impl Into<String>) -> Self {
        self.stratafs = self.stratafs.preopen(dir, guest_path);
        self
    }
}

impl<T> fmt::Debug for StratafsState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StratafsState")
            .field("stratafs", &self.stratafs)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WasiState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasiState").finish_non_exhaustive()
    }
}

impl WasiView for WasiState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl<T: WasiView> WasiView for StratafsState<T> {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.data.ctx()
    }
}

impl<T: WasiView> StratafsView for StratafsState<T> {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        &mut self.stratafs
    }
}
