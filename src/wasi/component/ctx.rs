//! What an embedder's store holds for components, and how it is reached.

use std::fmt;
use std::sync::Arc;

use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

use crate::vfs::Descriptor;

/// The directories shown to one component: what `wasi:filesystem/preopens`
/// gives, before the host directories of the store's `WasiCtx`.
///
/// Empty by default. Cloning is cheap and shares the descriptors.
#[derive(Clone, Debug, Default)]
pub struct Ctx {
    preopens: Vec<(Arc<Descriptor>, String)>,
}

impl Ctx {
    /// Makes a context that shows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows `dir` to the guest as `guest_path`. The guest takes the last of
    /// equal paths; nested ones work as with any WASI host.
    #[must_use]
    pub fn preopen(mut self, dir: Descriptor, guest_path: impl Into<String>) -> Self {
        self.preopens.push((Arc::new(dir), guest_path.into()));
        self
    }

    /// Gives what [`Self::preopen`] took, in that order.
    pub(super) fn preopens(&self) -> impl Iterator<Item = (&Arc<Descriptor>, &str)> {
        self.preopens.iter().map(|(dir, path)| (dir, path.as_str()))
    }
}

/// Reaches the [`Ctx`] inside an embedder's store, beside [`WasiView`] which
/// reaches wasmtime-wasi's part of it.
pub trait View: WasiView {
    /// Gives the directories to show to the guest.
    fn strata(&mut self) -> &mut Ctx;
}

/// The data of a store for a host that keeps none of its own: a [`WasiCtx`],
/// its resource table, and a [`Ctx`].
pub struct State {
    /// Arguments, environment, standard streams, host directories.
    pub wasi: WasiCtx,
    /// What the guest has open. Its capacity bounds that.
    pub table: ResourceTable,
    /// The layered directories.
    pub strata: Ctx,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("strata", &self.strata)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Starts with no layered directory.
    #[must_use]
    pub fn new(wasi: WasiCtx) -> Self {
        Self {
            wasi,
            table: ResourceTable::new(),
            strata: Ctx::new(),
        }
    }

    /// As [`Ctx::preopen`].
    #[must_use]
    pub fn preopen(mut self, dir: Descriptor, guest_path: impl Into<String>) -> Self {
        self.strata = self.strata.preopen(dir, guest_path);
        self
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl View for State {
    fn strata(&mut self) -> &mut Ctx {
        &mut self.strata
    }
}
