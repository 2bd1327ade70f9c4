//! Adding WASI 0.2 with our files to a component linker.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::{self, cli, clocks, random, sockets, sync};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi_io::bindings::wasi::io;

use crate::wasi::component::ctx::StratafsView;
use crate::wasi::component::view::{FsView, HasFs, HasPreopens, PreopensView};

/// `wasi:io` needs nothing but the table.
struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds all of WASI 0.2 for async stores: `wasi:filesystem` from here,
/// everything else from wasmtime-wasi.
///
/// Takes the place of `wasmtime_wasi::p2::add_to_linker_async`.
///
/// # Errors
/// As that function: an interface that is in the linker already.
pub fn add_to_linker_async<T: StratafsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    io::poll::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    io::streams::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    bindings::sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    bindings::sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    bindings::sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    let options = bindings::LinkOptions::default();
    add_common(l, &(&options).into())?;
    add_filesystem_to_linker_async(l)
}

/// Adds all of WASI 0.2 for stores without async support: `wasi:filesystem`
/// from here, everything else from wasmtime-wasi.
///
/// Takes the place of `wasmtime_wasi::p2::add_to_linker_sync`.
///
/// # Errors
/// As that function: an interface that is in the linker already.
pub fn add_to_linker_sync<T: StratafsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    sync::io::poll::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    sync::io::streams::add_to_linker::<T, HasTable>(l, |t| t.ctx().table)?;
    sync::sockets::tcp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sync::sockets::udp::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sync::sockets::udp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    let options = sync::LinkOptions::default();
    add_common(l, &(&options).into())?;
    add_filesystem_to_linker_sync(l)
}

/// Adds `wasi:filesystem` alone, async. On a linker that has wasmtime-wasi's
/// already, call [`Linker::allow_shadowing`] before.
///
/// # Errors
/// If the interface is in the linker and shadowing is off.
pub fn add_filesystem_to_linker_async<T: StratafsView>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    bindings::filesystem::types::add_to_linker::<T, HasFs>(linker, |t| {
        FsView::new(t.filesystem())
    })?;
    add_preopens(linker)
}

/// Adds `wasi:filesystem` alone, sync. On a linker that has wasmtime-wasi's
/// already, call [`Linker::allow_shadowing`] before.
///
/// # Errors
/// If the interface is in the linker and shadowing is off.
pub fn add_filesystem_to_linker_sync<T: StratafsView>(
    linker: &mut Linker<T>,
) -> wasmtime::Result<()> {
    sync::filesystem::types::add_to_linker::<T, HasFs>(linker, |t| FsView::new(t.filesystem()))?;
    add_preopens(linker)
}

fn add_preopens<T: StratafsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    bindings::filesystem::preopens::add_to_linker::<T, HasPreopens>(linker, |t| {
        let ctx = t.stratafs().clone();
        PreopensView::new(ctx, t.filesystem())
    })
}

/// The interfaces that are the same for sync and async.
fn add_common<T: StratafsView>(
    l: &mut Linker<T>,
    options: &sockets::network::LinkOptions,
) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    clocks::monotonic_clock::add_to_linker::<T, WasiClocks>(l, T::clocks)?;
    random::random::add_to_linker::<T, WasiRandom>(l, T::random)?;
    random::insecure::add_to_linker::<T, WasiRandom>(l, T::random)?;
    random::insecure_seed::add_to_linker::<T, WasiRandom>(l, T::random)?;
    cli::exit::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::environment::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_input::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_output::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdin::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stdout::add_to_linker::<T, WasiCli>(l, T::cli)?;
    cli::terminal_stderr::add_to_linker::<T, WasiCli>(l, T::cli)?;
    sockets::tcp_create_socket::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::instance_network::add_to_linker::<T, WasiSockets>(l, T::sockets)?;
    sockets::network::add_to_linker::<T, WasiSockets>(l, options, T::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<T, WasiSockets>(l, T::sockets)
}
