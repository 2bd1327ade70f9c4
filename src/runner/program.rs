//! A guest linked to WASI, and the call that runs it.

use std::time::{Duration, Instant};

use tokio::runtime::{Handle, Runtime};
use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, Store};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::p3::bindings as bindings3;

use super::calls::{interpose, interpose_three, interpose_two};
use super::code::Code;
use super::engine::Compiled;
use super::guest::CORE_ENTRY;
use super::host::{ComponentHost, CoreHost, InstanceHost};
use super::invoke::{self, Call};
use super::names::answer_names;
use super::sockets::link_placed;
use super::threads::{runtime_of, threads_from_the_start};
use super::{Guest, GuestKind, Outcome, RunControl, RunPlan, RunnerConfig, RunnerError};
use crate::vfs::seal_until;
use crate::wasi::{p0, p1, p2, p3};

/// What [`bindings::CommandPre`] looks for.
const COMPONENT_ENTRY: &str = "wasi:cli/run@0.2";

/// What [`bindings3::CommandIndices`] looks for.
const ASYNC_ENTRY: &str = "wasi:cli/run@0.3";

/// What makes a module ready that is no command.
const INITIALIZE: &str = "_initialize";

/// A linked guest. One with a timeout or a control or whose calls are told, and any of 0.3, is
/// linked for async stores: it can be left in the middle of a call.
pub(super) enum Program {
    Core(InstancePre<CoreHost>),
    Component(bindings::sync::CommandPre<ComponentHost>),
    AsyncCore(InstancePre<CoreHost>, Option<Duration>),
    AsyncComponent(bindings::CommandPre<ComponentHost>, Option<Duration>),
    /// Linked to 0.2 and 0.3. Its command may be of either version.
    Async(AsyncEntry, Option<Duration>),
    /// One function of a module, linked for async stores.
    CoreCall(InstancePre<CoreHost>, String, Option<Duration>),
    /// One function of a component, linked for async stores, to 0.3 as well if it is `true`.
    ComponentCall(
        component::InstancePre<ComponentHost>,
        Call,
        bool,
        Option<Duration>,
    ),
}

/// How far an instance has come.
#[derive(Default)]
pub(super) struct CallProgress {
    /// When its first instruction was reached.
    pub(super) started: Option<Instant>,
    /// What the function gave that was asked for.
    pub(super) returned: Option<String>,
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
        if let Some(call) = &config.invoke {
            return link_call(compiled, guest, config, call);
        }
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
        what: (&RunnerConfig, &RunPlan),
        progress: &mut CallProgress,
        runtime: &mut Option<Runtime>,
    ) -> Outcome {
        let limit = self.limit();
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let ended = match deadline {
            Some(deadline) => seal_until(deadline, || {
                self.call_and_drop(engine, host, what, progress, runtime)
            }),
            None => self.call_and_drop(engine, host, what, progress, runtime),
        };
        ended.unwrap_or_else(|failed| failed)
    }

    /// Returns how long an instance may run.
    fn limit(&self) -> Option<Duration> {
        match self {
            Self::Core(_) | Self::Component(_) => None,
            Self::AsyncCore(_, limit)
            | Self::AsyncComponent(_, limit)
            | Self::Async(_, limit)
            | Self::CoreCall(_, _, limit)
            | Self::ComponentCall(_, _, _, limit) => *limit,
        }
    }

    /// Fails with how the instance ended that did not start.
    fn call_and_drop(
        &self,
        engine: &Engine,
        host: InstanceHost,
        what: (&RunnerConfig, &RunPlan),
        progress: &mut CallProgress,
        runtime: &mut Option<Runtime>,
    ) -> Result<Outcome, Outcome> {
        let (config, plan) = what;
        let control = plan.control.as_ref().map(|control| (control, engine));
        let threads = threads_from_the_start(runtime, plan)?;
        let _reached_by = threads.as_ref().map(Handle::enter);
        Ok(match self {
            Self::Core(pre) => {
                let mut store = core_store(engine, host, config)?;
                ended(pre.instantiate(&mut store).and_then(|instance| {
                    let entry = instance.get_typed_func::<(), ()>(&mut store, CORE_ENTRY)?;
                    progress.started = Some(Instant::now());
                    entry.call(&mut store, ()).map(Ok)
                }))
            }
            Self::Component(pre) => {
                let mut store = component_store(engine, host, config);
                ended(pre.instantiate(&mut store).and_then(|command| {
                    progress.started = Some(Instant::now());
                    command.wasi_cli_run().call_run(&mut store)
                }))
            }
            Self::AsyncCore(pre, limit) => {
                let mut store = core_store(engine, host, config)?;
                waited((runtime, plan), (*limit, control), async {
                    let instance = pre.instantiate_async(&mut store).await?;
                    let entry = instance.get_typed_func::<(), ()>(&mut store, CORE_ENTRY)?;
                    progress.started = Some(Instant::now());
                    entry.call_async(&mut store, ()).await.map(Ok)
                })
            }
            Self::AsyncComponent(pre, limit) => {
                let mut store = component_store(engine, host, config);
                waited((runtime, plan), (*limit, control), async {
                    let command = pre.instantiate_async(&mut store).await?;
                    progress.started = Some(Instant::now());
                    command.wasi_cli_run().call_run(&mut store).await
                })
            }
            Self::Async(entry, limit) => {
                let store = component_store(engine, host, config);
                waited(
                    (runtime, plan),
                    (*limit, control),
                    entry.call(store, progress),
                )
            }
            Self::CoreCall(pre, name, limit) => {
                let mut store = core_store(engine, host, config)?;
                let call = call_core(&mut store, pre, (name, &plan.args), progress);
                waited((runtime, plan), (*limit, control), call)
            }
            Self::ComponentCall(pre, call, is_async, limit) => {
                let mut store = component_store(engine, host, config);
                waited((runtime, plan), (*limit, control), async {
                    let instance = pre.instantiate_async(&mut store).await?;
                    progress.started = Some(Instant::now());
                    progress.returned = Some(call.make(&mut store, &instance, *is_async).await?);
                    Ok(Ok(()))
                })
            }
        })
    }
}

/// Makes a core module ready, as wasmtime does a reactor, and calls one function.
async fn call_core(
    store: &mut Store<CoreHost>,
    pre: &InstancePre<CoreHost>,
    (name, args): (&str, &[String]),
    progress: &mut CallProgress,
) -> wasmtime::Result<Result<(), ()>> {
    let instance = pre.instantiate_async(&mut *store).await?;
    if instance.get_func(&mut *store, INITIALIZE).is_some() {
        let initialize = instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE)?;
        initialize.call_async(&mut *store, ()).await?;
    }
    let func = instance.get_func(&mut *store, name);
    let func = func.ok_or_else(|| wasmtime::Error::msg("the export is not a function"))?;
    progress.started = Some(Instant::now());
    let typed = args.get(1..).unwrap_or_default();
    let results = invoke::call_core(store, func, typed).await?;
    progress.returned = Some(results.join("\n"));
    Ok(Ok(()))
}

impl AsyncEntry {
    async fn call(
        &self,
        mut store: Store<ComponentHost>,
        progress: &mut CallProgress,
    ) -> wasmtime::Result<Result<(), ()>> {
        match self {
            Self::Two(pre) => {
                let command = pre.instantiate_async(&mut store).await?;
                progress.started = Some(Instant::now());
                command.wasi_cli_run().call_run(&mut store).await
            }
            Self::Three(pre, indices) => {
                let instance = pre.instantiate_async(&mut store).await?;
                let command = indices.load(&mut store, &instance)?;
                progress.started = Some(Instant::now());
                store
                    .run_concurrent(async |store| command.wasi_cli_run().call_run(store).await)
                    .await?
            }
        }
    }
}

/// Links a guest of which one function is called.
fn link_call(
    compiled: &Compiled,
    guest: &Guest,
    config: &RunnerConfig,
    call: &str,
) -> Result<Program, RunnerError> {
    let linked = match &compiled.code {
        Code::Core(module) => {
            invoke::check_core(module, guest.name(), call)?;
            let pre = core_linker(&compiled.engine, module, config)
                .and_then(|linker| linker.instantiate_pre(module));
            pre.map(|pre| Program::CoreCall(pre, call.to_owned(), config.timeout))
        }
        Code::Component(component) => {
            let call = Call::find(&compiled.engine, component, guest.name(), call)?;
            let is_async = guest.kind() == GuestKind::AsyncComponent;
            let linker = async_linker(compiled, component, config, guest.kind());
            let pre = linker.and_then(|linker| linker.instantiate_pre(component));
            pre.map(|pre| Program::ComponentCall(pre, call, is_async, config.timeout))
        }
    };
    linked.map_err(|source| RunnerError::Link {
        name: guest.name().to_owned(),
        source,
    })
}

/// Links to preview1 and preview0 for async stores.
fn core_linker(
    engine: &Engine,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<Linker<CoreHost>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, preview1)?;
    p0::add_to_linker_async(&mut linker, preview1)?;
    trap_unknown(&mut linker, module, config)?;
    match config.calls {
        Some(_) => interpose(linker),
        None => Ok(linker),
    }
}

fn link_core(
    compiled: &Compiled,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    match (config.is_interruptible(), &config.calls) {
        (false, None) => {
            let mut linker = Linker::new(&compiled.engine);
            p1::add_to_linker_sync(&mut linker, preview1)?;
            p0::add_to_linker_sync(&mut linker, preview1)?;
            trap_unknown(&mut linker, module, config)?;
            Ok(Program::Core(linker.instantiate_pre(module)?))
        }
        _ => {
            let linker = core_linker(&compiled.engine, module, config)?;
            let pre = linker.instantiate_pre(module)?;
            Ok(Program::AsyncCore(pre, config.timeout))
        }
    }
}

/// Links for async stores: to 0.2, and for a guest of 0.3 to both, since what a
/// language's own library speaks is mostly 0.2 still.
fn async_linker(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
    kind: GuestKind,
) -> wasmtime::Result<component::Linker<ComponentHost>> {
    let mut linker = component::Linker::new(&compiled.engine);
    p2::add_to_linker_async(&mut linker)?;
    if kind == GuestKind::AsyncComponent {
        p3::add_to_linker(&mut linker)?;
    }
    if config.calls.is_some() {
        interpose_two(&mut linker)?;
        if kind == GuestKind::AsyncComponent {
            interpose_three(&mut linker)?;
        }
    }
    match config.links_sockets() {
        true => link_placed(&mut linker, kind)?,
        false => answer_names(&mut linker, config, kind)?,
    }
    trap_unknown_of_component(&mut linker, component, config)?;
    Ok(linker)
}

fn link_component(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let is_async = config.is_interruptible() || config.links_sockets();
    match (is_async, &config.calls) {
        (false, None) => {
            let mut linker = component::Linker::new(&compiled.engine);
            p2::add_to_linker_sync(&mut linker)?;
            answer_names(&mut linker, config, GuestKind::Component)?;
            trap_unknown_of_component(&mut linker, component, config)?;
            let pre = linker.instantiate_pre(component)?;
            bindings::sync::CommandPre::new(pre).map(Program::Component)
        }
        _ => {
            let pre = async_linker(compiled, component, config, GuestKind::Component)?
                .instantiate_pre(component)?;
            let command = bindings::CommandPre::new(pre)?;
            Ok(Program::AsyncComponent(command, config.timeout))
        }
    }
}

/// Links a guest whose command is one of 0.3.
fn link_async(
    compiled: &Compiled,
    component: &Component,
    config: &RunnerConfig,
) -> wasmtime::Result<Program> {
    let pre = async_linker(compiled, component, config, GuestKind::AsyncComponent)?
        .instantiate_pre(component)?;
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
    let pre = async_linker(compiled, component, config, GuestKind::AsyncComponent)?
        .instantiate_pre(component)?;
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

pub(super) fn trap_unknown_of_component<T: 'static>(
    linker: &mut component::Linker<T>,
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

fn core_store(
    engine: &Engine,
    host: InstanceHost,
    config: &RunnerConfig,
) -> Result<Store<CoreHost>, Outcome> {
    let host = host.into_core();
    let host = host.map_err(Outcome::Failed)?;
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.limiter);
    bound(&mut store, config);
    Ok(store)
}

fn component_store(
    engine: &Engine,
    host: InstanceHost,
    config: &RunnerConfig,
) -> Store<ComponentHost> {
    let mut store = Store::new(engine, host.into_component());
    store.limiter(|host| &mut host.limiter);
    if let Some(handles) = store.data().max_handles {
        store.set_max_component_handles(usize::try_from(handles).unwrap_or(usize::MAX));
    }
    bound(&mut store, config);
    store
}

/// Sets the fuel that a guest may use, and has it stop at ticks if it can be left in the middle.
pub(super) fn bound<T>(store: &mut Store<T>, config: &RunnerConfig) {
    if config.is_interruptible() {
        yield_at_ticks(store);
    }
    if let Some(fuel) = config.fuel {
        let filled = store.set_fuel(fuel);
        debug_assert!(filled.is_ok(), "the engine counts fuel");
    }
}

/// Lets the runtime look at its clock at each tick.
fn yield_at_ticks<T>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
}

/// Waits for a guest until its time is up or it is stopped, and leaves it then.
fn waited(
    (runtime, plan): (&mut Option<Runtime>, &RunPlan),
    (limit, control): (Option<Duration>, Option<(&RunControl, &Engine)>),
    guest: impl Future<Output = wasmtime::Result<Result<(), ()>>>,
) -> Outcome {
    match runtime_of(runtime, plan) {
        Ok(runtime) => runtime.block_on(within((limit, control), guest)),
        Err(failed) => failed,
    }
}

/// Waits for a guest, in a runtime that is there, until its time is up or it is stopped.
async fn within(
    (limit, control): (Option<Duration>, Option<(&RunControl, &Engine)>),
    guest: impl Future<Output = wasmtime::Result<Result<(), ()>>>,
) -> Outcome {
    let guest = async {
        match control {
            Some((control, engine)) => control.follow(engine, guest).await,
            None => Some(guest.await),
        }
    };
    let result = match limit {
        None => guest.await,
        Some(limit) => match tokio::time::timeout(limit, guest).await {
            Ok(result) => result,
            Err(_) => return Outcome::TimedOut(limit),
        },
    };
    result.map_or(Outcome::Stopped, ended)
}

impl Program {
    /// Returns a command of a core module linked for async stores; `None` for other programs.
    pub(super) fn waiting(
        &self,
        engine: &Engine,
        config: &RunnerConfig,
    ) -> wasmtime::Result<Option<InstancePre<CoreHost>>> {
        match self {
            Self::AsyncCore(pre, _) => Ok(Some(pre.clone())),
            Self::Core(pre) => {
                let linker = core_linker(engine, pre.module(), config)?;
                linker.instantiate_pre(pre.module()).map(Some)
            }
            Self::Component(_)
            | Self::AsyncComponent(..)
            | Self::Async(..)
            | Self::CoreCall(..)
            | Self::ComponentCall(..) => Ok(None),
        }
    }
}

/// As [`Program::call`] for a command of a core module, on whatever thread polls it: it holds
/// that while the guest computes, and lets go of it where the guest waits.
pub(super) async fn call_waiting(
    pre: &InstancePre<CoreHost>,
    host: InstanceHost,
    (config, plan): (&RunnerConfig, &RunPlan),
    progress: &mut CallProgress,
) -> Outcome {
    let engine = pre.module().engine();
    let limit = config.timeout;
    let control = plan.control.as_ref().map(|control| (control, engine));
    let run = async move {
        let mut store = match core_store(engine, host, config) {
            Ok(store) => store,
            Err(outcome) => return outcome,
        };
        let guest = async {
            let instance = pre.instantiate_async(&mut store).await?;
            let entry = instance.get_typed_func::<(), ()>(&mut store, CORE_ENTRY)?;
            progress.started = Some(Instant::now());
            entry.call_async(&mut store, ()).await.map(Ok)
        };
        within((limit, control), guest).await
    };
    let Some(deadline) = limit.and_then(|limit| Instant::now().checked_add(limit)) else {
        return run.await;
    };
    let mut run = std::pin::pin!(run);
    std::future::poll_fn(|cx| seal_until(deadline, || run.as_mut().poll(cx))).await
}

/// Reads how a guest ended; a component says in its result whether it failed.
fn ended(result: wasmtime::Result<Result<(), ()>>) -> Outcome {
    match result {
        Ok(Ok(())) => Outcome::Exited(0),
        Ok(Err(())) => Outcome::Exited(1),
        Err(error) => Outcome::of_error(&error),
    }
}
