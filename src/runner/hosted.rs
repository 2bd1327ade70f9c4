//! Components that a host calls by exports of its own, such as an HTTP handler: compiled as
//! for a [`Runner`](super::Runner), and given forks of one file system.

use std::fmt;

use wasmtime::component::{self, Component};
use wasmtime::{Engine, ResourceLimiter, Store};
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::cache::CacheUse;
use super::code::Code;
use super::engine::{Allocator, Compiled};
use super::file_systems::{make_fs, make_volumes};
use super::host::{ComponentHost, InstanceHost, furnish_forks};
use super::names::answer_names;
use super::output::OutputBuffer;
use super::program::{bound, trap_unknown_of_component};
use super::{Guest, GuestKind, RunPlan, RunnerConfig, RunnerError};
use crate::image::Image;
use crate::vfs::{DeviceDir, Fs};
use crate::wasi::{StratafsCtx, StratafsView, p2, p3};

/// A component that a host calls itself, through bindings of its own: compiled, or taken
/// from the cache, with a pool that has room for [`RunnerConfig::threads`] instances.
///
/// With [`RunnerConfig::timeout`] its instances give way to others whenever the host calls
/// [`Engine::increment_epoch`], every few milliseconds as a rule; the host itself counts
/// the time, and leaves an instance by dropping the future of its call.
/// [`RunnerConfig::calls`] and [`RunnerConfig::invoke`] have no meaning here.
///
/// ```no_run
/// use stratafs::image::Image;
/// use stratafs::runner::{
///     Guest, HostedComponent, HostedState, InstanceTemplate, RunPlan, RunnerConfig,
/// };
///
/// # async fn call() -> wasmtime::Result<()> {
/// let config = RunnerConfig::default();
/// let template = InstanceTemplate::new(&Image::empty(), RunPlan::default(), &config)?;
/// let plugin = Guest::from_file("plugin.wasm".as_ref())?;
/// let component = HostedComponent::new(&plugin, config)?;
/// let linked = component.link(component.linker::<HostedState>()?)?;
///
/// let mut store = component.store(template.state(&template.fork(), 0)?);
/// let instance = linked.instantiate_async(&mut store).await?;
/// let run = instance.get_typed_func::<(), ()>(&mut store, "run")?;
/// run.call_async(&mut store, ()).await?;
/// # Ok(())
/// # }
/// ```
pub struct HostedComponent {
    name: String,
    kind: GuestKind,
    config: RunnerConfig,
    engine: Engine,
    component: Component,
    allocator: Allocator,
    cache: CacheUse,
}

/// What each instance of a hosted component is given: a fork of one file system, and what
/// a plan says besides.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::runner::{InstanceTemplate, RunPlan, RunnerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let template =
///     InstanceTemplate::new(&Image::empty(), RunPlan::default(), &RunnerConfig::default())?;
/// template.fs().write("/prepared", "for all")?;
/// let (one, other) = (template.fork(), template.fork());
/// one.write("/prepared", "for one")?;
/// assert_eq!(other.read("/prepared")?, b"for all");
/// let state = template.state(&one, 1)?;
/// # drop(state);
/// # Ok(())
/// # }
/// ```
pub struct InstanceTemplate {
    plan: RunPlan,
    config: RunnerConfig,
    fs: Fs,
    volumes: Vec<(String, Fs)>,
    devices: Option<DeviceDir>,
}

/// What one instance of a hosted component has: WASI's context and table, and its
/// directories. A host puts it into the data of a store.
///
/// Output that [`Stdio::Collect`](super::Stdio::Collect) holds is passed on when this is
/// dropped.
pub struct HostedState {
    host: ComponentHost,
    outputs: Vec<OutputBuffer>,
}

impl HostedComponent {
    /// Compiles a component. Takes seconds for a large one that is not in the cache.
    ///
    /// # Errors
    /// [`RunnerError::NotAComponent`], [`RunnerError::Argument`] for a network with a
    /// [place](super::Network::set_place), [`RunnerError::Engine`] and [`RunnerError::Compile`].
    pub fn new(guest: &Guest, mut config: RunnerConfig) -> Result<Self, RunnerError> {
        let not_a_component = || RunnerError::NotAComponent {
            name: guest.name().to_owned(),
        };
        if guest.kind() == GuestKind::Core {
            return Err(not_a_component());
        }
        if config.network.is_placed() {
            return Err(RunnerError::Argument {
                what: "network".to_owned(),
                reason: "sockets of a hosted component are made where the host's are",
            });
        }
        config.threads = config.threads.max(1);
        config.calls = None;
        let compiled = Compiled::new(guest, &config)?;
        let Code::Component(component) = compiled.code else {
            return Err(not_a_component());
        };
        Ok(Self {
            name: guest.name().to_owned(),
            kind: guest.kind(),
            config,
            engine: compiled.engine,
            component,
            allocator: compiled.allocator,
            cache: compiled.cache,
        })
    }

    /// Returns the names of what the component exports.
    #[must_use]
    pub fn exports(&self) -> Vec<String> {
        let exports = self.component.component_type();
        let exports = exports.exports(&self.engine);
        exports.map(|(name, _)| name.to_owned()).collect()
    }

    /// Makes a linker for async stores that has WASI 0.2, and 0.3 if the component speaks
    /// it, with files of stratafs. The host adds what else there is to import.
    ///
    /// # Errors
    /// [`RunnerError::Link`].
    pub fn linker<T: StratafsView>(&self) -> Result<component::Linker<T>, RunnerError> {
        self.make_linker().map_err(|source| self.link_error(source))
    }

    fn make_linker<T: StratafsView>(&self) -> wasmtime::Result<component::Linker<T>> {
        let mut linker = component::Linker::new(&self.engine);
        p2::add_to_linker_async(&mut linker)?;
        if self.kind == GuestKind::AsyncComponent {
            p3::add_to_linker(&mut linker)?;
        }
        answer_names(&mut linker, &self.config, self.kind)?;
        Ok(linker)
    }

    /// Links the component, once for all instances.
    ///
    /// # Errors
    /// [`RunnerError::Link`] if the linker lacks what the component imports.
    pub fn link<T: 'static>(
        &self,
        mut linker: component::Linker<T>,
    ) -> Result<component::InstancePre<T>, RunnerError> {
        trap_unknown_of_component(&mut linker, &self.component, &self.config)
            .and_then(|()| linker.instantiate_pre(&self.component))
            .map_err(|source| self.link_error(source))
    }

    fn link_error(&self, source: wasmtime::Error) -> RunnerError {
        RunnerError::Link {
            name: self.name.clone(),
            source,
        }
    }

    /// Makes a store for one instance, with the fuel that it may use. The bound on memory
    /// is that of [`HostedState::limiter`].
    #[must_use]
    pub fn store<T: 'static>(&self, data: T) -> Store<T> {
        let mut store = Store::new(&self.engine, data);
        bound(&mut store, &self.config);
        store
    }

    /// Returns the engine that the component is compiled for.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns who gives instances their memories.
    #[must_use]
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Returns how the compiled code was obtained.
    #[must_use]
    pub fn cache(&self) -> &CacheUse {
        &self.cache
    }
}

impl InstanceTemplate {
    /// Makes the file system that instances get forks of, and the volumes that they share.
    ///
    /// # Errors
    /// Those of [`Runner::run`](super::Runner::run) about the plan.
    pub fn new(image: &Image, plan: RunPlan, config: &RunnerConfig) -> Result<Self, RunnerError> {
        plan.check()?;
        let volumes = make_volumes(&plan);
        let fs = make_fs(image, &plan, &volumes, plan.first_instance)?;
        Self::over(fs, volumes, plan, config)
    }

    /// Takes a file system and volumes as a run of the same plan left them: those of a
    /// [`RunReport`](super::RunReport), for a file system that a guest has prepared.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn over(
        fs: Fs,
        volumes: Vec<(String, Fs)>,
        plan: RunPlan,
        config: &RunnerConfig,
    ) -> Result<Self, RunnerError> {
        plan.check()?;
        plan.check_shares_threads()?;
        if plan.network.is_some() {
            return Err(RunnerError::Argument {
                what: "network".to_owned(),
                reason: "a hosted component has that of RunnerConfig",
            });
        }
        let template = Self {
            devices: furnish_forks(&fs, &plan)?,
            plan,
            config: config.clone(),
            fs,
            volumes,
        };
        // One that is thrown away finds what is wrong with the directories.
        drop(template.state(&template.fork(), 0)?);
        Ok(template)
    }

    /// Returns the file system that is forked. What is changed in it is in the forks that
    /// are made later.
    #[must_use]
    pub fn fs(&self) -> &Fs {
        &self.fs
    }

    /// Returns the volumes by name.
    #[must_use]
    pub fn volumes(&self) -> &[(String, Fs)] {
        &self.volumes
    }

    /// Makes a file system for one instance, or for several that share it.
    #[must_use]
    pub fn fork(&self) -> Fs {
        self.fs.fork()
    }

    /// Makes what one instance needs to run over `fs`, a fork of this template's.
    /// `instance` is its number for output, and for what repeats.
    ///
    /// # Errors
    /// [`RunnerError::Preopen`], [`RunnerError::HostDir`] and [`RunnerError::Volume`]: a
    /// directory that was there has gone, or the file system has no descriptor left.
    pub fn state(&self, fs: &Fs, instance: u32) -> Result<HostedState, RunnerError> {
        let fs = (fs, self.devices.as_ref());
        let host = InstanceHost::over(fs, &self.volumes, &self.plan, &self.config, instance)?;
        let outputs = host.outputs();
        Ok(HostedState {
            host: host.into_component(),
            outputs,
        })
    }
}

impl HostedState {
    /// Returns what bounds the memory of the instance, for
    /// [`Store::limiter`](wasmtime::Store::limiter).
    pub fn limiter(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.host.limiter
    }
}

impl Drop for HostedState {
    fn drop(&mut self) {
        self.outputs.iter().for_each(OutputBuffer::release);
    }
}

impl WasiView for HostedState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host.ctx()
    }
}

impl StratafsView for HostedState {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        self.host.stratafs()
    }
}

impl fmt::Debug for HostedComponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedComponent")
            .field("name", &self.name)
            .field("allocator", &self.allocator)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for InstanceTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceTemplate")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HostedState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedState").finish_non_exhaustive()
    }
}
