//! Adding WASI 0.3 with our files to a component linker.

use wasmtime::component::Linker;
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p3::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p3::{cli, clocks, random, sockets};

use crate::wasi::component::ctx::StratafsView;
use crate::wasi::component::view::{FsView, HasFs, HasPreopens, PreopensView};

/// Adds all of WASI 0.3: `wasi:filesystem` from here, everything else from
/// wasmtime-wasi. The engine needs
/// [`Config::wasm_component_model_async`](wasmtime::Config::wasm_component_model_async).
///
/// Takes the place of `wasmtime_wasi::p3::add_to_linker`.
///
/// # Errors
/// As that function: an interface that is in the linker already.
pub fn add_to_linker<T: StratafsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    cli::add_to_linker(linker)?;
    clocks::add_to_linker(linker)?;
    random::add_to_linker(linker)?;
    sockets::add_to_linker(linker)?;
    add_filesystem_to_linker(linker)
}

/// Adds `wasi:filesystem` alone. On a linker that has wasmtime-wasi's already,
/// call [`Linker::allow_shadowing`] before.
///
/// # Errors
/// If the interface is in the linker and shadowing is off.
pub fn add_filesystem_to_linker<T: StratafsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFs>(linker, |t| FsView::new(t.filesystem()))?;
    preopens::add_to_linker::<T, HasPreopens>(linker, |t| {
        let ctx = t.stratafs().clone();
        PreopensView::new(ctx, t.filesystem())
    })
}
