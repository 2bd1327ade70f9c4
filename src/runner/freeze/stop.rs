//! Running a guest until it is to be frozen.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::{
    AsContextMut, Caller, Engine, Extern, Func, Global, Instance, Linker, Module, Store, Val,
};

use super::capture::{self, zero_of};
use super::checkpoint::{Checkpoint, FrozenParts, Resumed};
use super::clock::MonotonicFrom;
use super::error::FreezeError;
use super::{Freezing, Point, files, known, point};
use crate::checkpoint::{CallGraph, CoreModule, PREFIX, Refusal, Value, export, leavable_module};
use crate::image::Image;
use crate::runner::code::Code;
use crate::runner::engine::{Compiled, TICK};
use crate::runner::file_systems::{check_volumes, make_fs, make_volumes};
use crate::runner::guest::CORE_ENTRY;
use crate::runner::host::{CoreHost, InstanceHost};
use crate::runner::output::OutputBuffer;
use crate::runner::{Guest, GuestKind, Outcome, RunPlan, RunnerConfig, RunnerError};
use crate::vfs::Fs;
use crate::wasi::{p0, p1};

/// The store of a guest that is to be frozen.
pub(super) struct StopHost {
    pub(super) core: CoreHost,
    point: Point,
    counts: HashMap<String, u64>,
    /// How often the guest asked for random numbers.
    random_calls: u64,
    /// Bytes that `random_get` gave it.
    random_bytes: u64,
    /// The global that makes the guest leave its stack, once it has started.
    leaving: Option<Global>,
    stopped_at: Option<StoppedCall>,
}

/// The call that a guest stands at.
pub(super) struct StoppedCall {
    /// Its number among the imported functions.
    pub(super) import: u32,
    pub(super) arguments: Vec<Val>,
}

/// Freezes a guest, which goes on from `resumed` if that is given.
pub(super) fn freeze(
    (guest, resumed): (&Guest, Option<&Resumed>),
    image: &Image,
    plan: &RunPlan,
    config: &RunnerConfig,
    point: &Point,
) -> Result<Freezing, FreezeError> {
    if guest.kind() != GuestKind::Core {
        return Err(Refusal::of_component().into());
    }
    plan.check()?;
    check_volumes(plan)?;
    let program = CoreModule::parse(guest.wasm())?;
    if program.exported_function(CORE_ENTRY).is_none() {
        return Err(FreezeError::Runner(RunnerError::NoEntry {
            name: guest.name().to_owned(),
            wanted: CORE_ENTRY,
        }));
    }
    let reach = CallGraph::find(&program)?;
    let leavable = leavable_module(&program, &reach)?;
    let leavable = Guest::from_bytes(guest.name(), leavable)?;
    let compiled = Compiled::on_demand(&leavable, config)?;
    let volumes = make_volumes(plan);
    let instance = plan.first_instance;
    let fs = make_fs(image, plan, &volumes, instance)?;
    if let Some(resumed) = resumed {
        resumed.furnish(&fs)?;
    }
    let clock = match (resumed, plan.deterministic) {
        (Some(resumed), is_deterministic) => resumed.clock(is_deterministic),
        (None, true) => MonotonicFrom::counting(0),
        (None, false) => MonotonicFrom::new(0),
    };
    let mut host = InstanceHost::new(&fs, &volumes, plan, config, instance)?;
    // What the guest makes is numbered as in a run that is not to be frozen.
    let next = fs.next_number();
    match resumed {
        Some(resumed) => host = host.going_on((resumed, plan.deterministic), &fs, instance)?,
        None => super::show(&fs, instance).map_err(|errno| RunnerError::Preopen {
            path: b"/.stratafs".to_vec(),
            errno,
        })?,
    }
    let host = host.with_clock(clock.clone()).remembering_opened();
    let outputs = host.outputs();
    let run = StopRun {
        guest,
        resumed,
        program: &program,
        reach: &reach,
        compiled: &compiled,
        config,
        plan,
        point,
    };
    let frozen = run.freeze(host, (&fs, &volumes), (&clock, next));
    outputs.iter().for_each(OutputBuffer::release);
    frozen
}

struct StopRun<'r> {
    guest: &'r Guest,
    resumed: Option<&'r Resumed>,
    program: &'r CoreModule<'r>,
    reach: &'r CallGraph,
    compiled: &'r Compiled,
    config: &'r RunnerConfig,
    plan: &'r RunPlan,
    point: &'r Point,
}

impl StopRun<'_> {
    fn freeze(
        &self,
        host: InstanceHost,
        (fs, volumes): (&Fs, &[(String, Fs)]),
        (clock, next): (&MonotonicFrom, u64),
    ) -> Result<Freezing, FreezeError> {
        let engine = &self.compiled.engine;
        let core = host.into_core();
        let mut core = core.map_err(|reason| FreezeError::Layer { reason })?;
        if self.resumed.is_none() {
            known::start(&mut core.p1, fs, next);
        }
        let host = StopHost {
            core,
            point: self.point.clone(),
            counts: HashMap::new(),
            random_calls: 0,
            random_bytes: 0,
            leaving: None,
            stopped_at: None,
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.core.limiter);
        crate::runner::program::bound(&mut store, self.config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| RunnerError::Thread { source })?;
        let ran = self.run_until_stopped(&mut store, &runtime);
        let (instance, outcome) = match ran {
            Ok(ran) => ran,
            Err(error) => return Err(self.link_error(error).into()),
        };
        let (Some(call), Some(instance)) = (store.data_mut().stopped_at.take(), instance) else {
            return Ok(Freezing::Ended(outcome));
        };
        if outcome != Outcome::Exited(0) {
            return Err(Refusal::of_leaving(&outcome.to_string()).into());
        }
        let readings = (clock.next(), fs.now().as_nanos_clamped());
        let random = store.data().random_calls;
        let random_bytes = store.data().random_bytes;
        let captured = capture::capture(&mut store, instance, (self.program, self.reach), &call)?;
        drop(runtime);
        let mut p1 = store.into_data().core.p1;
        let kept = files::keep(&mut p1, (fs, volumes), self.plan)?;
        let info = captured.info(self.point, self.guest, readings, random);
        let parts = FrozenParts {
            name: self.guest.name().to_owned(),
            module: captured.module,
            image: kept.image,
            base: fs.image().clone(),
            changes: kept.changes,
            table: kept.table,
            hidden: kept.hidden,
            args: self.plan.args.clone(),
            env: self.plan.env.clone(),
            preopens: self.plan.preopens.clone(),
            furnished: self.plan.furnished,
            random_bytes,
            known: kept.known,
            known_files: OnceLock::new(),
            info,
        };
        Ok(Freezing::Frozen(Checkpoint::new(match self.resumed {
            Some(resumed) => resumed.continued(parts),
            None => parts,
        })))
    }

    fn link_error(&self, source: wasmtime::Error) -> RunnerError {
        RunnerError::Link {
            name: self.guest.name().to_owned(),
            source,
        }
    }

    /// Returns the instance, if there is one, and how its run ended.
    fn run_until_stopped(
        &self,
        store: &mut Store<StopHost>,
        runtime: &tokio::runtime::Runtime,
    ) -> wasmtime::Result<(Option<Instance>, Outcome)> {
        let Code::Core(module) = &self.compiled.code else {
            wasmtime::bail!("no core module");
        };
        let imports = watched_imports(store, module, self.config)?;
        let made = Mutex::new(None);
        let guest = async {
            let instance = Instance::new_async(&mut *store, module, &imports).await?;
            *made.lock() = Some(instance);
            let name = format!("{PREFIX}{}", export::LEAVING);
            store.data_mut().leaving = instance.get_global(&mut *store, &name);
            let entry = instance.get_typed_func::<(), ()>(&mut *store, CORE_ENTRY)?;
            entry.call_async(&mut *store, ()).await
        };
        let outcome = with_ticks(&self.compiled.engine, self.config.timeout, || {
            runtime.block_on(until(self.config.timeout, guest))
        });
        Ok((made.into_inner(), outcome))
    }
}

/// Moves the engine's clock on while `work` goes on, if it has a time limit.
fn with_ticks<R>(engine: &Engine, limit: Option<Duration>, work: impl FnOnce() -> R) -> R {
    if limit.is_none() {
        return work();
    }
    let (ends, stop) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while stop.recv_timeout(TICK) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        });
        let done = work();
        drop(ends);
        done
    })
}

async fn until(
    limit: Option<Duration>,
    guest: impl Future<Output = wasmtime::Result<()>>,
) -> Outcome {
    let ended = |result: wasmtime::Result<()>| match result {
        Ok(()) => Outcome::Exited(0),
        Err(error) => Outcome::of_error(&error),
    };
    match limit {
        None => ended(guest.await),
        Some(limit) => match tokio::time::timeout(limit, guest).await {
            Ok(result) => ended(result),
            Err(_) => Outcome::TimedOut(limit),
        },
    }
}

/// Returns the functions that the module imports, in its order, each behind one that
/// looks whether the call is the point.
fn watched_imports(
    store: &mut Store<StopHost>,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<Vec<Extern>> {
    let mut linker = Linker::new(store.engine());
    p1::add_to_linker_async(&mut linker, |host: &mut StopHost| &mut host.core.p1)?;
    p0::add_to_linker_async(&mut linker, |host: &mut StopHost| &mut host.core.p1)?;
    if config.trap_unknown_imports {
        linker.define_unknown_imports_as_traps(module)?;
    }
    let mut watched = Vec::new();
    for (number, import) in (0..).zip(module.imports()) {
        let own = linker.get(&mut *store, import.module(), import.name());
        let Extern::Func(own) = own? else {
            wasmtime::bail!("`{}::{}` is no function", import.module(), import.name());
        };
        watched.push(watch(store, own, number, import.name()).into());
    }
    Ok(watched)
}

/// Makes a function that calls `own`, unless the call is the point.
fn watch(store: &mut Store<StopHost>, own: Func, import: u32, name: &str) -> Func {
    let name: Arc<str> = name.into();
    let ty = own.ty(&*store);
    Func::new_async(
        &mut *store,
        ty.clone(),
        move |mut caller, arguments, results| {
            let (name, ty) = (Arc::clone(&name), ty.clone());
            Box::new(async move {
                if is_point(&mut caller, &name, arguments) {
                    let leaving = caller.data().leaving;
                    if let Some(leaving) = leaving {
                        leaving.set(caller.as_context_mut(), Val::I32(1))?;
                    }
                    caller.data_mut().stopped_at = Some(StoppedCall {
                        import,
                        arguments: arguments.to_vec(),
                    });
                    for (result, ty) in results.iter_mut().zip(ty.results()) {
                        *result = zero_of(&ty);
                    }
                    return Ok(());
                }
                if point::asks_for_random(&mut caller, &name, arguments) {
                    let host = caller.data_mut();
                    host.random_calls += 1;
                    host.random_bytes += point::drawn(&name, arguments);
                }
                // The function is called by the host then, which exports no memory.
                if let Some(Extern::Memory(memory)) = caller.get_export("memory") {
                    caller.data_mut().core.p1.called_about(memory);
                }
                own.call_async(&mut caller, arguments, results).await
            })
        },
    )
}

fn is_point(caller: &mut Caller<'_, StopHost>, name: &str, arguments: &[Val]) -> bool {
    // Before the command is called nothing can be left: the module is not made yet.
    if caller.data().leaving.is_none() || name == "proc_exit" {
        return false;
    }
    let host = caller.data_mut();
    let count = host.counts.entry(name.to_owned()).or_default();
    *count += 1;
    let count = *count;
    let point = host.point.clone();
    point.is_call(caller, (name, count), arguments)
}

/// Returns the arguments of a call as values, where that is possible.
pub(super) fn values(arguments: &[Val]) -> Result<Vec<Value>, Refusal> {
    arguments
        .iter()
        .map(|argument| {
            capture::plain(argument).ok_or_else(|| {
                Refusal::of_call("an argument is a reference, which cannot be made again")
            })
        })
        .collect()
}
