//! `wasi:sockets/ip-name-lookup` where the host has found the names already.

use std::net::IpAddr;
use std::vec::IntoIter;

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sockets::network as network2;
use wasmtime_wasi::p3::bindings::sockets as sockets3;
use wasmtime_wasi_io::poll::{Pollable, subscribe};

use super::network::LookupNames;

/// What wasmtime-wasi links; guests with other numbers find it too.
const TWO: &str = "wasi:sockets/ip-name-lookup@0.2.12";
const THREE: &str = "wasi:sockets/ip-name-lookup@0.3.0";

/// Addresses that a guest of 0.2 takes one by one.
struct FoundAddresses(IntoIter<IpAddr>);

#[wasmtime_wasi::async_trait]
impl Pollable for FoundAddresses {
    async fn ready(&mut self) {}
}

type Lookup2 = Result<Resource<FoundAddresses>, network2::ErrorCode>;

/// Takes the place of wasmtime-wasi's in a linker for 0.2.
pub(super) fn answer_two<T: WasiView>(
    linker: &mut Linker<T>,
    names: &LookupNames,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut lookup = linker.instance(TWO)?;
    lookup.resource(
        "resolve-address-stream",
        ResourceType::host::<FoundAddresses>(),
        |mut store: StoreContextMut<'_, T>, rep| {
            let found = Resource::<FoundAddresses>::new_own(rep);
            store.data_mut().ctx().table.delete(found)?;
            Ok(())
        },
    )?;
    let names = names.clone();
    lookup.func_wrap(
        "resolve-addresses",
        move |mut store: StoreContextMut<'_, T>,
              (network, name): (Resource<wasmtime_wasi::p2::Network>, String)| {
            let table = store.data_mut().ctx().table;
            // The network is what allows the call.
            table.get(&network)?;
            let answer: Lookup2 = match names.look_up(&name) {
                Some(found) => Ok(table.push(FoundAddresses(found.into_iter()))?),
                None => Err(network2::ErrorCode::NameUnresolvable),
            };
            Ok((answer,))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: StoreContextMut<'_, T>, (found,): (Resource<FoundAddresses>,)| {
            let next = store.data_mut().ctx().table.get_mut(&found)?.0.next();
            let next: Option<network2::IpAddress> = next.map(Into::into);
            Ok((Ok::<_, network2::ErrorCode>(next),))
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        |mut store: StoreContextMut<'_, T>, (found,): (Resource<FoundAddresses>,)| {
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
    names: &LookupNames,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let names = names.clone();
    linker.instance(THREE)?.func_wrap_concurrent(
        "resolve-addresses",
        move |_, (name,): (String,)| {
            let found = names.look_up(&name);
            Box::pin(async move {
                type Answer =
                    Result<Vec<sockets3::types::IpAddress>, sockets3::ip_name_lookup::ErrorCode>;
                let answer: Answer = match found {
                    Some(found) => Ok(found.into_iter().map(Into::into).collect()),
                    None => Err(sockets3::ip_name_lookup::ErrorCode::NameUnresolvable),
                };
                Ok((answer,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}
