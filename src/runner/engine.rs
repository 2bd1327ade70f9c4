//! The engine: settings, allocator, and the guest compiled for it.

use std::borrow::Cow;
use std::fmt;
use std::thread;
use std::time::Duration;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::cache::{CacheEntry, CacheUse};
use super::code::Code;
use super::functions::FunctionFile;
use super::{Guest, GuestKind, RunnerConfig, RunnerError};
use crate::digest::Digest;
use crate::limits::{MAX_POOLED_MEMORIES, MAX_TABLE_ELEMENTS};

/// The time between two looks at the clock while a guest with a timeout runs.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Calls of one 0.3 guest that wait at a time, its own `run` included.
const STACKS: u32 = 16;

/// Bytes of stack for the build of a program that can leave its stack: its frames are up to twice
/// those of the program, which has wasmtime's 512 KiB.
#[cfg(feature = "freeze")]
const BUILD_STACK: usize = 1 << 20;

/// Who gives guests their memories and tables.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allocator {
    /// Slots that were reserved when the engine was made: starting a guest
    /// takes no system call that maps memory.
    Pooling,
    /// Memory mapped for each guest, since the pool does not do.
    OnDemand {
        /// Why: what the guest or the machine does not allow.
        reason: String,
    },
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pooling => f.write_str("pooling"),
            Self::OnDemand { reason } => write!(f, "on-demand: {reason}"),
        }
    }
}

/// A guest compiled for an engine.
pub(super) struct Compiled {
    pub(super) engine: Engine,
    pub(super) code: Code,
    pub(super) allocator: Allocator,
    pub(super) cache: CacheUse,
}

/// A guest that code is wanted of.
struct WantedCode<'w, E> {
    name: &'w str,
    kind: GuestKind,
    identity: &'w dyn Fn() -> Digest,
    /// Asked for if there is no code under the identity.
    wasm: &'w dyn Fn() -> Result<Cow<'w, [u8]>, E>,
    /// The program whose functions it has, if it is a checkpoint.
    program: Option<&'w Digest>,
}

impl Compiled {
    /// Maps the code of a guest from the cache, or compiles it and keeps it there:
    /// for the pooling allocator if machine and guest fit it, otherwise on demand.
    pub(super) fn new(guest: &Guest, config: &RunnerConfig) -> Result<Self, RunnerError> {
        Self::pooled(guest, config, None)
    }

    /// The same for a checkpoint of a program, whose functions are compiled once for all
    /// of the program's checkpoints.
    #[cfg(feature = "freeze")]
    pub(super) fn of_checkpoint(
        guest: &Guest,
        config: &RunnerConfig,
        program: &Digest,
    ) -> Result<Self, RunnerError> {
        Self::pooled(guest, config, Some(program))
    }

    fn pooled(
        guest: &Guest,
        config: &RunnerConfig,
        program: Option<&Digest>,
    ) -> Result<Self, RunnerError> {
        let kind = guest.kind();
        let wanted = WantedCode {
            name: guest.name(),
            kind,
            identity: &|| guest.identity(),
            wasm: &|| guest.wasm(),
            program,
        };
        Self::obtain(&wanted, config, |engine_config, make| {
            with_either(kind, config, engine_config, make)
        })
    }

    /// The same for the build of a core module that runs once: no pool is made for it. The build is
    /// written if there is no code under its identity.
    #[cfg(feature = "freeze")]
    pub(super) fn of_build<'w, E: From<RunnerError>>(
        name: &'w str,
        config: &RunnerConfig,
        identity: &'w dyn Fn() -> Digest,
        wasm: &'w dyn Fn() -> Result<Cow<'w, [u8]>, E>,
    ) -> Result<Self, E> {
        let wanted = WantedCode {
            name,
            kind: GuestKind::Core,
            identity,
            wasm,
            program: None,
        };
        Self::obtain(&wanted, config, |engine_config, make| {
            let mut engine_config = engine_config.clone();
            engine_config.max_wasm_stack(BUILD_STACK);
            without_pool(&engine_config, make, "it runs once".to_owned())
        })
    }

    fn obtain<E: From<RunnerError>>(
        wanted: &WantedCode<'_, E>,
        config: &RunnerConfig,
        with_engine: impl Fn(&Config, &MakeCode<'_>) -> Result<(Engine, Code, Allocator), SetupError>,
    ) -> Result<Self, E> {
        let kind = wanted.kind;
        let place = CodePlace::of(wanted, config);
        let mapped = place.entry.code().and_then(|file| {
            let load = |engine: &Engine| Code::load(engine, kind, &file);
            with_engine(&place.engine_config, &load).ok()
        });
        if let Some((engine, code, allocator)) = mapped {
            return Ok(Self {
                engine,
                code,
                allocator,
                cache: place.entry.hit(),
            });
        }
        let ((engine, code, allocator), kept) =
            place.compile((wanted, config), |engine_config, wasm| {
                with_engine(engine_config, &|engine| Code::compile(engine, kind, wasm))
            })?;
        let cache = kept.keep(|| code.serialize());
        Ok(Self {
            engine,
            code,
            allocator,
            cache,
        })
    }
}

/// Compiles a checkpoint of a program so that the next [`Compiled::of_checkpoint`] finds its code
/// in the cache. What is compiled is not mapped.
#[cfg(feature = "freeze")]
pub(super) fn compile_checkpoint(
    guest: &Guest,
    config: &RunnerConfig,
    program: &Digest,
) -> Result<CacheUse, RunnerError> {
    let kind = guest.kind();
    let wanted = WantedCode {
        name: guest.name(),
        kind,
        identity: &|| guest.identity(),
        wasm: &|| guest.wasm(),
        program: Some(program),
    };
    let place = thread::scope(|scope| {
        // Both read some ten megabytes.
        let open = || functions_of(kind, config, program);
        let functions = thread::Builder::new().spawn_scoped(scope, open);
        let mut place = CodePlace::of(&wanted, config);
        // Without a thread for it, the file is read when it is needed.
        place.functions = functions
            .ok()
            .and_then(|opened| opened.join().ok().flatten());
        place
    });
    if let Some(file) = place.entry.code() {
        let load = |engine: &Engine| Code::load(engine, kind, &file);
        if with_either(kind, config, &place.engine_config, &load).is_ok() {
            return Ok(place.entry.hit());
        }
    }
    let (code, kept) = place.compile((&wanted, config), |engine_config, wasm| {
        let engine = Engine::new(engine_config).map_err(SetupError::Engine)?;
        // As `Code::compile`: no text.
        let mut code = wasmtime::CodeBuilder::new(&engine);
        let code = code.wasm_binary(wasm, None);
        let code = code.and_then(|code| code.compile_module_serialized());
        code.map_err(SetupError::Code)
    })?;
    Ok(kept.keep(|| Ok(code)))
}

/// Opens the functions that are known of a program, if there is a cache.
fn functions_of(kind: GuestKind, config: &RunnerConfig, program: &Digest) -> Option<FunctionFile> {
    let home = config.cache_dir.as_deref()?;
    Some(FunctionFile::open(home, program, &settings(kind, config)))
}

/// Where code belongs in the cache, and the settings that it is compiled with.
struct CodePlace {
    entry: CacheEntry,
    engine_config: Config,
    /// Those of the program, if they were opened.
    functions: Option<FunctionFile>,
}

impl CodePlace {
    fn of<E>(wanted: &WantedCode<'_, E>, config: &RunnerConfig) -> Self {
        let (home, settings) = (config.cache_dir.as_deref(), settings(wanted.kind, config));
        Self {
            entry: CacheEntry::open(home, wanted.identity, &settings),
            engine_config: engine_config(wanted.kind, config),
            functions: None,
        }
    }

    /// Compiles the guest by `compile`, which takes the functions of its program that are known.
    fn compile<T, E: From<RunnerError>>(
        mut self,
        (wanted, config): (&WantedCode<'_, E>, &RunnerConfig),
        compile: impl FnOnce(&Config, &[u8]) -> Result<T, SetupError>,
    ) -> Result<(T, KeptCode), E> {
        let wasm = (wanted.wasm)()?;
        let functions = self.functions.or_else(|| {
            let program = wanted.program?;
            functions_of(wanted.kind, config, program)
        });
        if let Some(functions) = &functions {
            self.engine_config
                .enable_incremental_compilation(functions.functions())
                .map_err(|source| RunnerError::Engine { source })?;
        }
        let compiled = compile(&self.engine_config, &wasm);
        drop(wasm);
        let kept = KeptCode {
            entry: self.entry,
            functions,
        };
        match compiled {
            Ok(compiled) => Ok((compiled, kept)),
            Err(failed) => {
                kept.keep_functions();
                Err(failed.of(wanted.name).into())
            }
        }
    }
}

/// What keeps code that was compiled.
struct KeptCode {
    entry: CacheEntry,
    functions: Option<FunctionFile>,
}

impl KeptCode {
    /// Keeps the code, and beside it the functions that were new, by a thread of their own: each
    /// is a file of some ten megabytes.
    fn keep(self, code: impl FnOnce() -> wasmtime::Result<Vec<u8>>) -> CacheUse {
        let code = || code().map_err(std::io::Error::other);
        let Some(functions) = self.functions else {
            return self.entry.keep(code);
        };
        let keep_functions = functions.into_keeper();
        thread::scope(|scope| {
            // Without a thread for it, they are compiled once more.
            drop(thread::Builder::new().spawn_scoped(scope, keep_functions));
            self.entry.keep(code)
        })
    }

    /// Keeps the functions alone.
    fn keep_functions(self) {
        if let Some(functions) = self.functions {
            functions.into_keeper()();
        }
    }
}

/// Makes a guest's code for an engine: maps it or compiles it.
type MakeCode<'m> = dyn Fn(&Engine) -> wasmtime::Result<Code> + 'm;

/// What went wrong without a pool.
enum SetupError {
    Engine(wasmtime::Error),
    Code(wasmtime::Error),
}

impl SetupError {
    /// Returns what went wrong with the guest of this name.
    fn of(self, name: &str) -> RunnerError {
        match self {
            Self::Engine(source) => RunnerError::Engine { source },
            Self::Code(source) => RunnerError::Compile {
                name: name.to_owned(),
                source,
            },
        }
    }
}

/// Makes code for an engine with a pool, or if the pool does not do for one
/// without.
fn with_either(
    kind: GuestKind,
    config: &RunnerConfig,
    engine_config: &Config,
    make: &MakeCode<'_>,
) -> Result<(Engine, Code, Allocator), SetupError> {
    match with_pool(kind, config, engine_config.clone(), make) {
        Ok((engine, code)) => Ok((engine, code, Allocator::Pooling)),
        Err(reason) => without_pool(engine_config, make, reason),
    }
}

fn without_pool(
    engine_config: &Config,
    make: &MakeCode<'_>,
    reason: String,
) -> Result<(Engine, Code, Allocator), SetupError> {
    let engine = Engine::new(engine_config).map_err(SetupError::Engine)?;
    let code = make(&engine).map_err(SetupError::Code)?;
    Ok((engine, code, Allocator::OnDemand { reason }))
}

/// Makes code for an engine with a pool, or says why the pool does not do.
fn with_pool(
    kind: GuestKind,
    config: &RunnerConfig,
    mut engine_config: Config,
    make: &MakeCode<'_>,
) -> Result<(Engine, Code), String> {
    let pool = pool(kind, config.threads, config.calls.is_some())?;
    engine_config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let one_line = |error: wasmtime::Error| format!("{error:#}").replace('\n', " ");
    let engine = Engine::new(&engine_config).map_err(one_line)?;
    let code = make(&engine).map_err(one_line)?;
    Ok((engine, code))
}

/// Names the settings that compiled code depends on besides the guest.
/// wasmtime compares its own, its version included; this keeps the
/// directories apart.
fn settings(kind: GuestKind, config: &RunnerConfig) -> String {
    format!(
        "{} {kind:?} timeout:{} fuel:{} {} mapped",
        env!("CARGO_PKG_VERSION"),
        config.is_interruptible(),
        config.fuel.is_some(),
        config.proposals,
    )
}

fn engine_config(kind: GuestKind, config: &RunnerConfig) -> Config {
    let mut engine_config = Config::new();
    engine_config
        .epoch_interruption(config.is_interruptible())
        .consume_fuel(config.fuel.is_some())
        // What a store needs for it is made with each store.
        .concurrency_support(kind == GuestKind::AsyncComponent)
        // Never from the environment (invariant 10).
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.proposals.apply(&mut engine_config);
    engine_config
}

/// Sizes a pool for `threads` guests at a time. A core guest whose calls are traced has a
/// second stack while the function behind runs.
fn pool(kind: GuestKind, threads: u32, traced: bool) -> Result<PoolingAllocationConfig, String> {
    // What wit-component and the preview1 adapter make of one program, with
    // room: a handful of instances, one or two memories, a few tables.
    // A call of a 0.3 guest that waits has a stack of its own meanwhile.
    let (instances, memories, tables, stacks) = match kind {
        GuestKind::Core => (1, 1, 4, 1 + u32::from(traced)),
        GuestKind::Component => (32, 4, 32, 1),
        GuestKind::AsyncComponent => (32, 4, 32, STACKS),
    };
    let slots = threads.saturating_mul(memories);
    if slots > MAX_POOLED_MEMORIES {
        return Err(format!(
            "{threads} threads want {slots} memories in the pool, the limit is {MAX_POOLED_MEMORIES}"
        ));
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(threads.saturating_mul(instances))
        .max_core_instances_per_component(instances)
        .total_component_instances(threads)
        // The heap of a guest with exceptions or collected objects is one more.
        .total_memories(slots.saturating_add(threads))
        .max_memories_per_module(memories)
        .max_memories_per_component(memories)
        .total_tables(threads.saturating_mul(tables))
        .max_tables_per_module(tables)
        .max_tables_per_component(tables)
        .table_elements(MAX_TABLE_ELEMENTS)
        .total_stacks(threads.saturating_mul(stacks))
        .total_gc_heaps(threads)
        .max_core_instance_size(16 << 20)
        .max_component_instance_size(64 << 20)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(64 << 10)
        .pagemap_scan(Enabled::Auto);
    Ok(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_has_its_bound() {
        assert!(pool(GuestKind::Core, MAX_POOLED_MEMORIES, false).is_ok());
        let reason = pool(GuestKind::Core, MAX_POOLED_MEMORIES + 1, true).err();
        assert!(reason.is_some_and(|reason| reason.contains("the limit is")));
    }
}
