//! Running a guest until it is to be frozen.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use wasmtime::{Caller, Engine, Linker, Module, Store};

use super::checkpoint::{Checkpoint, FrozenParts, Resumed};
use super::clock::MonotonicFrom;
use super::dirs::ShownVolume;
use super::error::FreezeError;
use super::watch::{Called, FreezableModule, ImportCall};
use super::{Freezing, Point, files, known, point};
use crate::checkpoint::{CoreModule, Refusal, identity_of_build};
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
    plan.check_shares_threads()?;
    check_volumes(plan)?;
    let wasm = guest.wasm()?;
    let program = CoreModule::parse(&wasm)?;
    check_entry(guest, &program)?;
    let program = FreezableModule::of(program);
    let compiled = Compiled::of_build::<FreezeError>(
        guest.name(),
        config,
        &|| identity_of_build(guest.identity()),
        &|| Ok(Cow::Owned(program.write()?)),
    )?;
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
        Some(resumed) => host = host.going_on(resumed, &fs, (plan, instance))?,
        None => super::show(&fs, (instance, plan.deterministic)).map_err(|errno| {
            RunnerError::Preopen {
                path: b"/.stratafs".to_vec(),
                errno,
            }
        })?,
    }
    let host = host.with_clock(clock.clone()).remembering_opened();
    let outputs = host.outputs();
    let run = StopRun {
        guest,
        resumed,
        program: &program,
        compiled: &compiled,
        config,
        plan,
        point,
    };
    let frozen = run.freeze(host, (&fs, &volumes), (&clock, next));
    outputs.iter().for_each(OutputBuffer::release);
    frozen
}

/// Returns the name of a guest without the directories of the host that it lies in, which are
/// nobody's business where its image comes to.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.is_empty());
    last.unwrap_or(name).to_owned()
}

fn check_entry(guest: &Guest, program: &CoreModule<'_>) -> Result<(), FreezeError> {
    let Some(entry) = program.exported_function(CORE_ENTRY) else {
        return Err(FreezeError::Runner(RunnerError::NoEntry {
            name: guest.name().to_owned(),
            wanted: CORE_ENTRY,
        }));
    };
    let entry = program.type_of(entry)?;
    if entry.params().is_empty() && entry.results().is_empty() {
        return Ok(());
    }
    let why = format!("`{CORE_ENTRY}` takes or returns something, which no command does");
    Err(Refusal::new(why).into())
}

struct StopRun<'r> {
    guest: &'r Guest,
    resumed: Option<&'r Resumed>,
    program: &'r FreezableModule<'r>,
    compiled: &'r Compiled,
    config: &'r RunnerConfig,
    plan: &'r RunPlan,
    point: &'r Point,
}

impl<'r> StopRun<'r> {
    fn freeze(
        &self,
        host: InstanceHost,
        (fs, volumes): (&Fs, &[(String, Fs)]),
        (clock, next): (&MonotonicFrom, u64),
    ) -> Result<Freezing, FreezeError> {
        let engine = &self.compiled.engine;
        let place = host.place();
        let core = host.into_core();
        let mut core = core.map_err(|reason| FreezeError::Layer { reason })?;
        if self.resumed.is_none() {
            known::start(&mut core.p1, fs, next);
        }
        // The first call may name a directory of the host's.
        core.p1.look_at_host_files().map_err(files::layer_error)?;
        let host = StopHost {
            core,
            point: self.point.clone(),
            counts: HashMap::new(),
            random_calls: 0,
            random_bytes: 0,
        };
        let mut store = Store::new(engine, host);
        store.limiter(|host| &mut host.core.limiter);
        crate::runner::program::bound(&mut store, self.config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| RunnerError::Thread { source })?;
        let stopped = match self.run_until_stopped(&mut store, &runtime)? {
            Ok(Called::Stopped(stopped)) => stopped,
            Ok(Called::Returned) => return Ok(Freezing::Ended(Outcome::Exited(0))),
            Err(ended) => return ended.into_freezing(),
        };
        let readings = (clock.next(), fs.now().as_nanos_clamped());
        let random = store.data().random_calls;
        let random_bytes = store.data().random_bytes;
        let frozen = stopped.bake(&mut store)?;
        drop(runtime);
        let mut p1 = store.into_data().core.p1;
        let volumes = ShownVolume::of_plan(self.plan, volumes);
        let kept = files::keep(&mut p1, fs, (&volumes, &self.plan.preopens))?;
        let mut info = frozen.info(readings, random);
        info.point = self.point.to_string();
        info.changed_volumes = kept.changed_volumes;
        let parts = FrozenParts {
            program: Guest::made(file_name(self.guest.name()), frozen.into_bytes()),
            image: kept.image,
            base: fs.image().clone(),
            changes: kept.changes,
            table: kept.table,
            hidden: kept.hidden,
            other_dev: kept.other_dev,
            args: self.plan.args.clone(),
            env: self.plan.env.clone(),
            preopens: kept.preopens,
            furnished: self.plan.furnished,
            random_bytes,
            device_bytes: place.get(),
            known: kept.known,
            known_image: OnceLock::new(),
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

    /// Runs the guest up to the point or to its end.
    fn run_until_stopped(
        &self,
        store: &mut Store<StopHost>,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Result<Called<'r>, UntilStopped>, RunnerError> {
        let Code::Core(module) = &self.compiled.code else {
            return Err(self.link_error(wasmtime::Error::msg("no core module")));
        };
        let linked = linker(store.engine(), module, self.config)
            .and_then(|linker| self.program.link_async(store, module, &linker, is_point));
        let linked = linked.map_err(|error| self.link_error(error))?;
        let guest = async {
            let watched = linked
                .instantiate(self.program, &mut *store, module)
                .await?;
            watched.call_async(store, CORE_ENTRY, &[], &mut []).await
        };
        let (engine, limit) = (&self.compiled.engine, self.config.timeout);
        Ok(thread::scope(|scope| {
            // The code is read while the guest runs; where there is no thread, later.
            let read = || drop(self.program.read_code());
            drop(thread::Builder::new().spawn_scoped(scope, read));
            with_ticks(engine, limit, || runtime.block_on(until(limit, guest)))
        }))
    }
}

/// Why a guest did not come to its point, nor back from its command.
enum UntilStopped {
    TimedOut(Duration),
    Failed(wasmtime::Error),
}

impl UntilStopped {
    fn into_freezing(self) -> Result<Freezing, FreezeError> {
        let error = match self {
            Self::TimedOut(limit) => return Ok(Freezing::Ended(Outcome::TimedOut(limit))),
            Self::Failed(error) => error,
        };
        match error.downcast_ref::<Refusal>() {
            Some(refusal) => Err(refusal.clone().into()),
            None => Ok(Freezing::Ended(Outcome::of_error(&error))),
        }
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

async fn until<R>(
    limit: Option<Duration>,
    guest: impl Future<Output = wasmtime::Result<R>>,
) -> Result<R, UntilStopped> {
    let ended = match limit {
        None => guest.await,
        Some(limit) => match tokio::time::timeout(limit, guest).await {
            Ok(ended) => ended,
            Err(_) => return Err(UntilStopped::TimedOut(limit)),
        },
    };
    ended.map_err(UntilStopped::Failed)
}

/// Returns all that a guest may import.
fn linker(
    engine: &Engine,
    module: &Module,
    config: &RunnerConfig,
) -> wasmtime::Result<Linker<StopHost>> {
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, |host: &mut StopHost| &mut host.core.p1)?;
    p0::add_to_linker_async(&mut linker, |host: &mut StopHost| &mut host.core.p1)?;
    if config.trap_unknown_imports {
        linker.define_unknown_imports_as_traps(module)?;
    }
    Ok(linker)
}

/// Returns whether a call is the point, and counts random numbers that it asks for otherwise.
fn is_point(caller: &mut Caller<'_, StopHost>, call: ImportCall<'_>) -> bool {
    let (name, arguments) = (call.name, call.arguments);
    // A signal waits for a call at which the guest can stop; another point in a start function is refused.
    let may_be_point = call.can_stop || !matches!(caller.data().point, Point::Signal(_));
    if may_be_point && name != point::ENDS {
        let host = caller.data_mut();
        let count = host.counts.entry(name.to_owned()).or_default();
        *count += 1;
        let count = *count;
        let point = host.point.clone();
        if point.is_call(caller, call, count) {
            return true;
        }
    }
    if point::asks_for_random(caller, name, arguments) {
        let host = caller.data_mut();
        host.random_calls += 1;
        host.random_bytes += point::drawn(name, arguments);
    }
    false
}
