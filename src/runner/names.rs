//! `wasi:sockets/ip-name-lookup` where the host does not leave it to its system.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::vec::IntoIter;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sockets::network as network2;
use wasmtime_wasi::p3::bindings::sockets as sockets3;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, poll_noop, spawn, with_ambient_tokio_runtime};
use wasmtime_wasi_io::poll::{Pollable, subscribe};

use super::{GuestKind, Network, RunnerConfig};

/// What wasmtime-wasi links; guests with other numbers find it too.
const TWO: &str = "wasi:sockets/ip-name-lookup@0.2.12";
const THREE: &str = "wasi:sockets/ip-name-lookup@0.3.0";

/// Looks names up for guests: [`Network::set_lookup`](super::Network::set_lookup).
pub trait LookUpNames: Send + Sync {
    /// Returns the addresses of a name, as the guest wrote it. It is never an address.
    /// Whoever polls what it gives is within a runtime of tokio that has time and I/O; it is
    /// dropped if the guest does not wait for it.
    fn look_up(&self, name: &str) -> LookedUp;
}

/// The addresses of a name, once they are known: [`LookUpNames::look_up`].
pub type LookedUp = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookupFailure>> + Send>>;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LookupFailure {
    /// There is none of that name, or it may not be known.
    NotFound,
    /// Nobody could say; it may be known later.
    TryAgain,
}

/// Says who looks names up for the guest of a store, if somebody does.
pub(super) trait NamesOf<T>: Clone + Send + Sync + 'static {
    fn names_of(&self, data: &T) -> Option<Arc<dyn LookUpNames>>;
}

impl<T, F> NamesOf<T> for F
where
    F: Fn(&T) -> Option<Arc<dyn LookUpNames>> + Clone + Send + Sync + 'static,
{
    fn names_of(&self, data: &T) -> Option<Arc<dyn LookUpNames>> {
        self(data)
    }
}

/// Names as the host's system finds them.
struct SystemNames;

impl LookUpNames for SystemNames {
    fn look_up(&self, name: &str) -> LookedUp {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map_err(|_| LookupFailure::NotFound)?;
            Ok(found.map(|address| address.ip().to_canonical()).collect())
        })
    }
}

/// Returns who looks names up in a network, the host's system as well.
pub(super) fn all_names(network: &Network) -> Option<Arc<dyn LookUpNames>> {
    match network.asks_system() {
        true => Some(Arc::new(SystemNames)),
        false => network.names(),
    }
}

/// Finds the addresses of a name, or of an address as text.
fn found(names: Option<&Arc<dyn LookUpNames>>, name: &str) -> LookedUp {
    let Some(names) = names else {
        return Box::pin(std::future::ready(Err(LookupFailure::NotFound)));
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    match bare.unwrap_or(name).parse() {
        Ok(address) => Box::pin(std::future::ready(Ok(vec![address]))),
        Err(_) => names.look_up(name),
    }
}

/// Addresses that a guest of 0.2 takes one by one.
enum Addresses {
    Waiting(AbortOnDropJoinHandle<Result<Vec<IpAddr>, LookupFailure>>),
    Found(IntoIter<IpAddr>),
    Failed(LookupFailure),
}

impl Addresses {
    /// Begins to look a name up. One that is found at once, or not at all, is so at once.
    fn begin(mut looked_up: LookedUp) -> Self {
        match with_ambient_tokio_runtime(|| poll_noop(Pin::new(&mut looked_up))) {
            Some(result) => Self::of(result),
            None => Self::Waiting(spawn(looked_up)),
        }
    }

    fn of(result: Result<Vec<IpAddr>, LookupFailure>) -> Self {
        match result {
            Ok(found) => Self::Found(found.into_iter()),
            Err(failure) => Self::Failed(failure),
        }
    }

    fn next(&mut self) -> Result<Option<IpAddr>, network2::ErrorCode> {
        if let Self::Waiting(task) = self
            && let Some(result) = poll_noop(Pin::new(task))
        {
            *self = Self::of(result);
        }
        match self {
            Self::Waiting(_) => Err(network2::ErrorCode::WouldBlock),
            Self::Found(found) => Ok(found.next()),
            Self::Failed(failure) => Err(code_two(*failure)),
        }
    }
}

fn code_two(failure: LookupFailure) -> network2::ErrorCode {
    match failure {
        LookupFailure::NotFound => network2::ErrorCode::NameUnresolvable,
        LookupFailure::TryAgain => network2::ErrorCode::TemporaryResolverFailure,
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {
        if let Self::Waiting(task) = self {
            *self = Self::of(task.await);
        }
    }
}

type Lookup2 = Result<Resource<Addresses>, network2::ErrorCode>;

/// Answers for names where the host has found them already.
pub(super) fn answer_names<T: WasiView>(
    linker: &mut Linker<T>,
    config: &RunnerConfig,
    kind: GuestKind,
) -> wasmtime::Result<()> {
    let Some(found) = config.network.names() else {
        return Ok(());
    };
    let names = move |_: &T| Some(Arc::clone(&found));
    answer_two(linker, &names)?;
    match kind {
        GuestKind::AsyncComponent => answer_three(linker, &names),
        GuestKind::Core | GuestKind::Component => Ok(()),
    }
}

/// Takes the place of wasmtime-wasi's in a linker for 0.2.
pub(super) fn answer_two<T: WasiView>(
    linker: &mut Linker<T>,
    names: &impl NamesOf<T>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut lookup = linker.instance(TWO)?;
    lookup.resource(
        "resolve-address-stream",
        ResourceType::host::<Addresses>(),
        |mut store: StoreContextMut<'_, T>, rep| {
            let found = Resource::<Addresses>::new_own(rep);
            store.data_mut().ctx().table.delete(found)?;
            Ok(())
        },
    )?;
    let names = names.clone();
    lookup.func_wrap(
        "resolve-addresses",
        move |mut store: StoreContextMut<'_, T>,
              (network, name): (Resource<wasmtime_wasi::p2::Network>, String)| {
            let names = names.names_of(store.data());
            let table = store.data_mut().ctx().table;
            // The network is what allows the call.
            table.get(&network)?;
            let answer: Lookup2 = match Addresses::begin(found(names.as_ref(), &name)) {
                Addresses::Failed(failure) => Err(code_two(failure)),
                addresses => Ok(table.push(addresses)?),
            };
            Ok((answer,))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, T>, (found,): (Resource<Addresses>,)| {
            let next = store.data_mut().ctx().table.get_mut(&found)?.next();
            let next = next.map(|next| next.map(network2::IpAddress::from));
            Ok((next,))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, T>, (found,): (Resource<Addresses>,)| {
            let pollable: Resource<DynPollable> = subscribe(store.data_mut().ctx().table, found)?;
            Ok((pollable,))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// The same in a linker for 0.3.
pub(super) fn answer_three<T: WasiView>(
    linker: &mut Linker<T>,
    names: &impl NamesOf<T>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let names = names.clone();
    linker.instance(THREE)?.func_wrap_concurrent(
        "resolve-addresses",
        move |store, (name,): (String,)| {
            let names = store.with(|mut access| names.names_of(access.data_mut()));
            let found = found(names.as_ref(), &name);
            Box::pin(async move {
                use sockets3::ip_name_lookup::ErrorCode;
                type AddressResult = Result<Vec<sockets3::types::IpAddress>, ErrorCode>;
                let answer: AddressResult = match found.await {
                    Ok(found) => Ok(found.into_iter().map(Into::into).collect()),
                    Err(LookupFailure::NotFound) => Err(ErrorCode::NameUnresolvable),
                    Err(LookupFailure::TryAgain) => Err(ErrorCode::TemporaryResolverFailure),
                };
                Ok((answer,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
