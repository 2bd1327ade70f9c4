//! The engine: settings, allocator, and the guest compiled for it.

use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, Module, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

use super::cache::{CacheUse, Entry};
use super::{Guest, GuestKind, RunnerConfig, RunnerError};
use crate::limits::{MAX_POOLED_MEMORIES, MAX_TABLE_ELEMENTS};

/// The time between two looks at the clock while a guest with a timeout runs.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// Calls of one 0.3 guest that wait at a time, its own `run` included.
const STACKS: u32 = 16;

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

/// A guest compiled for an engine.
pub(super) struct Compiled {
    pub(super) engine: Engine,
    pub(super) code: Code,
    pub(super) allocator: Allocator,
    pub(super) cache: CacheUse,
}

pub(super) enum Code {
    Core(Module),
    Component(Component),
}

impl Compiled {
    /// Compiles a guest, for the pooling allocator if machine and guest fit
    /// it, otherwise on demand.
    pub(super) fn new(guest: &Guest, config: &RunnerConfig) -> Result<Self, RunnerError> {
        let entry = Entry::open(
            config.cache_dir.as_deref(),
            guest.wasm(),
            &settings(guest.kind(), config),
        );
        let settled = settled(guest.kind(), config, &entry);
        let (engine, code, allocator) = match with_pool(guest, config, settled.clone()) {
            Ok((engine, code)) => (engine, code, Allocator::Pooling),
            Err(reason) => {
                let engine =
                    Engine::new(&settled).map_err(|source| RunnerError::Engine { source })?;
                let code =
                    Code::compile(&engine, guest).map_err(|source| RunnerError::Compile {
                        name: guest.name().to_owned(),
                        source,
                    })?;
                (engine, code, Allocator::OnDemand { reason })
            }
        };
        Ok(Self {
            engine,
            code,
            allocator,
            cache: entry.close(),
        })
    }
}

/// Compiles for an engine with a pool, or says why the pool does not do.
fn with_pool(
    guest: &Guest,
    config: &RunnerConfig,
    mut settled: Config,
) -> Result<(Engine, Code), String> {
    let pool = pool(guest.kind(), config.threads)?;
    settled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let one_line = |error: wasmtime::Error| format!("{error:#}").replace('\n', " ");
    let engine = Engine::new(&settled).map_err(one_line)?;
    let code = Code::compile(&engine, guest).map_err(one_line)?;
    Ok((engine, code))
}

impl Code {
    fn compile(engine: &Engine, guest: &Guest) -> wasmtime::Result<Self> {
        match guest.kind() {
            GuestKind::Core => {
                let module = Module::from_binary(engine, guest.wasm())?;
                // Here, or the first instance would have to wait for it.
                module.initialize_copy_on_write_image()?;
                Ok(Self::Core(module))
            }
            GuestKind::Component | GuestKind::AsyncComponent => {
                let component = Component::from_binary(engine, guest.wasm())?;
                component.initialize_copy_on_write_image()?;
                Ok(Self::Component(component))
            }
        }
    }
}

/// Names the settings that compiled code depends on besides the guest.
/// wasmtime compares its own, its version included; this keeps the
/// directories apart.
fn settings(kind: GuestKind, config: &RunnerConfig) -> String {
    format!(
        "{} {kind:?} timeout:{}",
        env!("CARGO_PKG_VERSION"),
        config.timeout.is_some()
    )
}

fn settled(kind: GuestKind, config: &RunnerConfig, entry: &Entry) -> Config {
    let mut settled = Config::new();
    settled
        .epoch_interruption(config.timeout.is_some())
        // What a store needs for it is made with each store.
        .concurrency_support(kind == GuestKind::AsyncComponent)
        // Never from the environment (invariant 10).
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .cache(entry.cache());
    settled
}

/// Sizes a pool for `threads` guests at a time.
fn pool(kind: GuestKind, threads: u32) -> Result<PoolingAllocationConfig, String> {
    // What wit-component and the preview1 adapter make of one program, with
    // room: a handful of instances, one or two memories, a few tables.
    // A call of a 0.3 guest that waits has a stack of its own meanwhile.
    let (instances, memories, tables, stacks) = match kind {
        GuestKind::Core => (1, 1, 4, 1),
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
        .total_memories(slots)
        .max_memories_per_module(memories)
        .max_memories_per_component(memories)
        .total_tables(threads.saturating_mul(tables))
        .max_tables_per_module(tables)
        .max_tables_per_component(tables)
        .table_elements(MAX_TABLE_ELEMENTS)
        .total_stacks(threads.saturating_mul(stacks))
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
        assert!(pool(GuestKind::Core, MAX_POOLED_MEMORIES).is_ok());
        let reason = pool(GuestKind::Core, MAX_POOLED_MEMORIES + 1).err();
        assert!(reason.is_some_and(|reason| reason.contains("the limit is")));
    }
}
