//! A guest linked to WASI, and the call that runs it.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::p3::bindings as bindings3;

use super::code::Code;
use super::engine::Compiled;
use super::guest::CORE_ENTRY;
use super::host::{ComponentHost, CoreHost, InstanceHost};
use super::{Guest, GuestKind, Outcome, RunnerConfig, RunnerError};
use crate::vfs::seal_until;
use crate::wasi::{p0, p1, p2, p3};

/// What [`bindings::CommandPre`] looks for.
const COMPONENT_ENTRY: &str = "wasi:cli/run@0.2";

/// What [`bindings3::CommandIndices`] looks for.
const ASYNC_ENTRY: &str = "wasi:cli/run@0.3";

/// A linked guest. One with a timeout, and any of 0.3, is linked for async
/// stores: it can be left in the middle of a call.
pub(super) enum Program {
    Core(InstancePre<CoreHost>),
    Component(bindings::sync::CommandPre<ComponentHost>),
    TimedCore(InstancePre<CoreHost>, Duration),
    TimedComponent(bindings::CommandPre<ComponentHost>, Duration),
    /// Linked to 0.2 and 0.3. Its command may be of either version.
    Async(AsyncEntry, Option<Duration>),
}

pub(super) enum AsyncEntry {
    Two(bindings::CommandPre<ComponentHost>),
    Three(
        component::InstancePre<ComponentHost>,
        bindings3::CommandIndices,
    ),
}

impl Program {
    pub(super) fn link(
        compiled: &Compiled,
        guest: &Guest,
        config: &RunnerConfig,
    ) -> Result<Self, RunnerError> {
        let name = || guest.name().to_owned();
        let linked = match &compiled.code {
            Code::Core(module) => {
                if !matches!(module.get_export(CORE_ENTRY), Some(ExternType::Func(_))) {
                    return Err(RunnerError::NoEntry {
                        name: name(),
                        wanted: CORE_ENTRY,
                    });
                }
                link_core(compiled, module, config)
            }
            Code::Component(component) => {
                let async_ = guest.kind() == GuestKind::AsyncComponent;
                let exports = |wanted: &str| {
                    let ty = component.component_type();
                    ty.exports(&compiled.engine)
                        .any(|(name, _)| name.starts_with(wanted))
                };
                match (exports(COMPONENT_ENTRY), exports(ASYNC_ENTRY)) {
                    (_, true) => link_async(compiled, component, config),
                    (true, false) if async_ => link_mixed(compiled, component, config),
                    (true, false) => link_component(compiled, component, config),
                    (false, false) => {
                        return Err(RunnerError::NoEntry {
                            name: name(),
                            wanted: if async_ { ASYNC_ENTRY } else { COMPONENT_ENTRY },
                        });
                    }
                }
            }
        };
        linked.map_err(|source| RunnerError::Link {
            name: name(),
            source,
        })
    }

    /// Runs one instance to its end on this thread and drops all it had, within
    /// its time: a call that closes a large file does not hold it up, nor do
    /// the files that it has open at its end. `started` is set at the guest's
    /// first instruction; a guest that is timed or speaks 0.3 makes itself a
    /// runtime if there is none yet.
    pub(super) fn call(
        &self,
        engine: &Engine,
        host: InstanceHost,
        started: &mut Option<Instant>,
        runtime: &mut Option<Runtime>,
    ) -> Outcome {
        let limit = self.limit();
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        match deadline {
            Some(deadline) => seal_until(deadline, || {
                self.call_and_drop(engine, host, started, runtime)
            }),
            None => self.call_and_drop(engine, host, started, runtime),
        }
    }

    /// Returns how long an instance may run.
    fn limit(&self) -> Option<Duration> {
        match self {
            Self::Core(_) | Self::Component(_) => None,
            Self::TimedCore(_, limit) | Self::TimedComponent(_, limit) => Some(*limit),
            Self::Async(_, limit) => *limit,
        }
    }

    fn call_and_drop(
        &self,
        engine: &Engine,
        host: InstanceHost,
        started: &mut Option<Instant>,
        runtime: &mut Option<Runtime>,
    ) -> Outcome {
        match self {
            Self::Core(pre) => {
                let mut store = core_store(engine, host);
                ended(pre.instantiate(&mut store).and_then(|instance| {
                    let entry = instance.get_typed_func::<(), ()>(&mut store, CORE_ENTRY)?;
                    *started = Some(Instant::now());
                    entry.call(&mut store, ()).map(Ok)
                }))
            }
            Self::Component(pre) => {
                let mut store = component_store(engine, host);
                ended(pre.instantiate(&mut store).and_then(|command| {
                    *started = Some(Instant::now());
                    command.wasi_cli_run().call_run(&mut store)
                }))
            }
            Self::TimedCore(pre, limit) => {
                let mut store = core_store(engine, host);
                yield_at_ticks(&mut store);
                waited(runtime, Some(*limit), async {
                    let instance = pre.instantiate_async(&mut store).await?;
                    let entry = instance.get_typed_func::<(), ()>(&mut store, CORE_ENTRY)?;
                    *started = Some(Instant::now());
                    entry.call_async(&mut store, ()).await.map(Ok)
                })
            }
            Self::TimedComponent(pre, limit) => {
                let mut store = component_store(engine, host);
                yield_at_ticks(&mut store);
                waited(runtime, Some(*limit), async {
                    let command = pre.instantiate_async(&mut store).await?;
                    *started = Some(Instant::now());
                    command.wasi_cli_run().call_run(&mut store).await
                })
            }
            Self::Async(entry, limit) => {
                let mut store = component_store(engine, host);
                if limit.is_some() {
                    yield_at_ticks(&mut store);
                }
                waited(runtime, *limit, entry.call(store, started))
            }
        }
    }
}

impl AsyncEntry {
    async fn call(
        &self,
        mut store: Store<ComponentHost>,
        started: &mut Option<Instant>,
    ) -> wasmtime::Result<Result<(), ()>> {
        match self {
            Self::Two(pre) => {
                let command = pre.instantiate_async(&mut store).await?;
                *started = Some(Instant::now());
                command.wasi_cli_run().call_run(&mut store).await
            }
            Self::Three(pre, indices) => {
                let instance = pre.instantiate_async(&mut store).await?;
                let command = indices.load(&mut store, &instance)?;
                *started = Some(Instant::now());
                store
                    .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
                    .await?
            }
        }
    }
}

fn link_core(
    compiled: &Compiled,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let mut linker = Linker::new(&compiled.engine);
    match config.timeout {
        None => {
            p1::add_to_linker_sync(&mut linker, preview1)?;
            p0::add_to_linker_sync(&mut linker, preview1)?;
            trap_unknown(&mut linker, module, config)?;
            Ok(Program::Core(linker.instantiate_pre(module)?))
        }
        Some(limit) => {
            p1::add_to_linker_async(&mut linker, preview1)?;
            p0::add_to_linker_async(&mut linker, preview1)?;
            trap_unknown(&mut linker, module, config)?;
            Ok(Program::TimedCore(linker.instantiate_pre(module)?, limit))
        }
    }
}

fn link_component(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let mut linker = component::Linker::new(&compiled.engine);
    match config.timeout {
        None => {
            p2::add_to_linker_sync(&mut linker)?;
            trap_unknown_of_component(&mut linker, component, config)?;
            let pre = linker.instantiate_pre(component)?;
            bindings::sync::CommandPre::new(pre).map(Program::Component)
        }
        Some(limit) => {
            p2::add_to_linker_async(&mut linker)?;
            trap_unknown_of_component(&mut linker, component, config)?;
            let pre = linker.instantiate_pre(component)?;
            let command = bindings::CommandPre::new(pre)?;
            Ok(Program::TimedComponent(command, limit))
        }
    }
}

/// Links to both versions of WASI: what a language's own library speaks is
/// mostly 0.2 still.
fn async_linker(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<component::Linker<ComponentHost>> {
    let mut linker = component::Linker::new(&compiled.engine);
    p2::add_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    trap_unknown_of_component(&mut linker, component, config)?;
    Ok(linker)
}

/// Links a guest whose command is one of 0.3.
fn link_async(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let pre = async_linker(compiled, component, config)?.instantiate_pre(component)?;
    let indices = bindings3::CommandIndices::new(&pre)?;
    Ok(Program::Async(
        AsyncEntry::Three(pre, indices),
        config.timeout,
    ))
}

/// Links a guest whose command is one of 0.2 but which imports 0.3.
fn link_mixed(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let pre = async_linker(compiled, component, config)?.instantiate_pre(component)?;
    let command = bindings::CommandPre::new(pre)?;
    Ok(Program::Async(AsyncEntry::Two(command), config.timeout))
}

fn trap_unknown(
    linker: &mut Linker<CoreHost>,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<()> {
    match config.trap_unknown_imports {
        true => linker.define_unknown_imports_as_traps(module),
        false => Ok(()),
    }
}

fn trap_unknown_of_component(
    linker: &mut component::Linker<ComponentHost>,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<()> {
    match config.trap_unknown_imports {
        true => linker.define_unknown_imports_as_traps(component),
        false => Ok(()),
    }
}

fn preview1(host: &mut CoreHost) -> &mut p1::Ctx {
    &mut host.p1
}

fn core_store(engine: &Engine, host: InstanceHost) -> Store<CoreHost> {
    let mut store = Store::new(engine, host.into_core());
    store.limiter(|host| &mut host.limiter);
    store
}

fn component_store(engine: &Engine, host: InstanceHost) -> Store<ComponentHost> {
    let mut store = Store::new(engine, host.into_component());
    store.limiter(|host| &mut host.limiter);
    store
}

/// Gives the runtime a look at its clock at each tick.
fn yield_at_ticks<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
}

/// Waits for a guest until its time is up, and leaves it then.
fn waited(
    runtime: &mut Option<Runtime>,
    limit: Option<Duration>,
    guest: impl Future<Output = wasmtime::Result<Result<(), ()>>>,
) -> Outcome {
    let runtime = match runtime {
        Some(runtime) => runtime,
        None => match tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
        {
            Ok(new) => runtime.insert(new),
            Err(error) => return Outcome::Failed(format!("cannot make a runtime: {error}")),
        },
    };
    let Some(limit) = limit else {
        return ended(runtime.block_on(guest));
    };
    match runtime.block_on(async { tokio::time::timeout(limit, guest).await }) {
        Ok(result) => ended(result),
        Err(_) => Outcome::TimedOut(limit),
    }
}

/// Reads how a guest ended; a component says in its result whether it failed.
fn ended(result: wasmtime::Result<Result<(), ()>>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Exited(0),
        Ok(Err(())) => Outcome::Exited(1),
        Err(error) => Outcome::of_error(&error),
    }
}
