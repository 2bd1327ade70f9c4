//! Sockets that are made where the plan of a run says, in linkers for async stores.
//!
//! A socket belongs to what its maker belonged to when it was made, for good. So it is enough to be
//! there for that one call: what else the thread does, it does where the host is.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime_wasi::TrappableError;
use wasmtime_wasi::p2::bindings::sockets as sockets2;
use wasmtime_wasi::p3::bindings::sockets::types as types3;
use wasmtime_wasi::sockets::{WasiSocketsCtx, WasiSocketsCtxView};

use super::GuestKind;
use super::host::ComponentHost;
use super::names;

/// What wasmtime-wasi links; guests with other numbers find it too. A context that has sockets made at
/// a place makes none by itself: should these not be what guests come to, they are refused sockets.
const TCP: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const UDP: &str = "wasi:sockets/udp-create-socket@0.2.12";
const THREE: &str = "wasi:sockets/types@0.3.0";

/// Where the sockets of guests are made: [`Network::set_place`](super::Network::set_place).
pub trait SocketPlace: Send + Sync {
    /// Calls `make` once, on this thread, with the thread so that a socket which is made belongs to
    /// the place: on Linux, in a network namespace that the thread enters and leaves. `make` neither
    /// blocks nor waits, but may unwind. The thread has left again when this returns, and when it
    /// unwinds: it goes on with other work, for other guests as well. One that cannot leave must do neither.
    ///
    /// # Errors
    /// The thread could not enter, and `make` was not called. That ends the guest.
    fn within(&self, make: &mut dyn FnMut()) -> io::Result<()>;
}

/// What makes sockets at a place.
pub(super) struct PlacedSockets {
    ctx: WasiSocketsCtx,
    place: Arc<dyn SocketPlace>,
}

impl PlacedSockets {
    pub(super) fn new(ctx: WasiSocketsCtx, place: Arc<dyn SocketPlace>) -> Self {
        Self { ctx, place }
    }
}

/// What one socket is made with.
struct Maker<'t> {
    ctx: WasiSocketsCtx,
    table: &'t mut ResourceTable,
    place: Option<Arc<dyn SocketPlace>>,
}

impl<'t> Maker<'t> {
    fn of(host: &'t mut ComponentHost) -> Self {
        let (own, placed, table) = host.socket_parts();
        let (ctx, place) = match placed {
            Some(placed) => (placed.ctx.clone(), Some(Arc::clone(&placed.place))),
            None => (own.clone(), None),
        };
        Self { ctx, table, place }
    }

    fn parts(&mut self) -> (Option<Arc<dyn SocketPlace>>, WasiSocketsCtxView<'_>) {
        let view = WasiSocketsCtxView {
            ctx: &mut self.ctx,
            table: self.table,
        };
        (self.place.clone(), view)
    }
}

/// Polls a future at a place.
async fn within<F: Future>(
    place: Option<Arc<dyn SocketPlace>>,
    future: F,
) -> wasmtime::Result<F::Output> {
    let Some(place) = place else {
        return Ok(future.await);
    };
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let mut polled = Poll::Pending;
        let entered = place.within(&mut || polled = future.as_mut().poll(cx));
        match entered {
            Ok(()) => polled.map(Ok),
            Err(error) => Poll::Ready(Err(wasmtime::Error::msg(format!(
                "no socket can be made in the network of this guest: {error}"
            )))),
        }
    })
    .await
}

/// Parts a refusal from what ends the guest.
fn answer<R, E>(made: Result<R, TrappableError<E>>) -> wasmtime::Result<(Result<R, E>,)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match made {
        Ok(made) => Ok((Ok(made),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Takes the place of what wasmtime-wasi links: sockets and names are those of the plan of the run.
pub(super) fn link_placed(
    linker: &mut Linker<ComponentHost>,
    kind: GuestKind,
) -> wasmtime::Result<()> {
    make_two(linker)?;
    let names = |host: &ComponentHost| host.names();
    names::answer_two(linker, &names)?;
    if kind == GuestKind::AsyncComponent {
        make_three(linker)?;
        names::answer_three(linker, &names)?;
    }
    Ok(())
}

fn make_two(linker: &mut Linker<ComponentHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(TCP)?.func_wrap_async(
        "create-tcp-socket",
        |mut store: StoreContextMut<'_, ComponentHost>,
         (family,): (sockets2::network::IpAddressFamily,)| {
            Box::new(async move {
                let mut maker = Maker::of(store.data_mut());
                let (place, mut view) = maker.parts();
                let make = async {
                    sockets2::tcp_create_socket::Host::create_tcp_socket(&mut view, family)
                };
                answer(within(place, make).await?)
            })
        },
    )?;
    linker.instance(UDP)?.func_wrap_async(
        "create-udp-socket",
        |mut store: StoreContextMut<'_, ComponentHost>,
         (family,): (sockets2::network::IpAddressFamily,)| {
            Box::new(async move {
                let mut maker = Maker::of(store.data_mut());
                let (place, mut view) = maker.parts();
                let make = async {
                    sockets2::udp_create_socket::Host::create_udp_socket(&mut view, family).await
                };
                answer(within(place, make).await?)
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

fn make_three(linker: &mut Linker<ComponentHost>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(THREE)?;
    types.func_wrap_async(
        "[static]tcp-socket.create",
        |mut store: StoreContextMut<'_, ComponentHost>, (family,): (types3::IpAddressFamily,)| {
            Box::new(async move {
                let mut maker = Maker::of(store.data_mut());
                let (place, mut view) = maker.parts();
                let make = async { types3::HostTcpSocket::create(&mut view, family) };
                answer(within(place, make).await?)
            })
        },
    )?;
    types.func_wrap_async(
        "[static]udp-socket.create",
        |mut store: StoreContextMut<'_, ComponentHost>, (family,): (types3::IpAddressFamily,)| {
            Box::new(async move {
                let mut maker = Maker::of(store.data_mut());
                let (place, mut view) = maker.parts();
                let make = async { types3::HostUdpSocket::create(&mut view, family).await };
                answer(within(place, make).await?)
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
