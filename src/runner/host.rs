//! What one instance gets: its descriptors, its streams, its bounds.

use std::sync::Arc;
#[cfg(feature = "freeze")]
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::WasiSocketsCtx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::calls::{CoreCalls, Tracer};
use super::devices::{self, RandomPlace};
use super::fixed;
use super::limiter::Limiter;
use super::names::{LookUpNames, all_names};
use super::output::{OutputBuffer, OutputSink, Stream, Until};
use super::sockets::PlacedSockets;
use super::{INSTANCE_VARIABLE, RunPlan, RunnerConfig, RunnerError, Stdio};
use crate::error::Error;
use crate::vfs::{DeviceDir, Fs, Preopen, Rights};
use crate::wasi::p3::StreamWatcher;
use crate::wasi::{StratafsCtx, StratafsView, p1};

/// Everything an instance needs besides code.
pub(super) struct InstanceHost {
    wasi: WasiCtxBuilder,
    preopens: Vec<(Preopen, String)>,
    outputs: Vec<OutputBuffer>,
    limiter: Limiter,
    #[cfg(feature = "freeze")]
    resumed: Option<(super::freeze::Resumed, Fs)>,
    /// What is opened below directories of the host is remembered by name.
    #[cfg(feature = "freeze")]
    remembers_opened: bool,
    #[cfg(feature = "freeze")]
    place: RandomPlace,
    calls: Tracer,
    /// The names of the host's directories, in order.
    host_dirs: Vec<String>,
    names: Option<Arc<dyn LookUpNames>>,
    placed: Option<PlacedSockets>,
    max_handles: Option<u32>,
}

/// The store of a core module.
pub(super) struct CoreHost {
    pub(super) p1: p1::Ctx,
    pub(super) calls: CoreCalls,
    pub(super) limiter: Limiter,
}

/// The store of a component.
pub(super) struct ComponentHost {
    wasi: WasiCtx,
    table: ResourceTable,
    stratafs: StratafsCtx,
    pub(super) calls: Tracer,
    /// Who is told of the next stream of 0.3.
    pub(super) next_stream: StreamWatcher,
    pub(super) limiter: Limiter,
    /// Handles that may be there at a time.
    pub(super) max_handles: Option<u32>,
    names: Option<Arc<dyn LookUpNames>>,
    placed: Option<PlacedSockets>,
}

impl InstanceHost {
    pub(super) fn new(
        fs: &Fs,
        volumes: &[(String, Fs)],
        plan: &RunPlan,
        config: &RunnerConfig,
        instance: u32,
    ) -> Result<Self, RunnerError> {
        Self::over((fs, None), volumes, plan, config, instance)
    }

    /// As [`Self::new`], over a fork of an instance that has devices already.
    pub(super) fn over(
        (fs, devices): (&Fs, Option<&DeviceDir>),
        volumes: &[(String, Fs)],
        plan: &RunPlan,
        config: &RunnerConfig,
        instance: u32,
    ) -> Result<Self, RunnerError> {
        let mut wasi = WasiCtxBuilder::new();
        // Host directories answer on this thread, which is ours, unless it
        // has to be able to leave a call that hangs.
        let answers_here = !config.is_interruptible() && plan.host_threads.is_none();
        wasi.allow_blocking_current_thread(answers_here);
        wasi.args(&plan.args).envs(&plan.env);
        if plan.tell_number {
            wasi.env(INSTANCE_VARIABLE, instance.to_string());
        }
        if let Some(dir) = &plan.working_dir {
            wasi.initial_cwd(dir);
        }
        if plan.deterministic {
            fixed::fix(&mut wasi, fs, instance);
        }
        let network = plan.network.as_ref().unwrap_or(&config.network);
        network.apply(&mut wasi);
        let outputs = connect(&mut wasi, &plan.stdio, instance);
        for dir in &plan.host_dirs {
            wasi.preopened_dir(&dir.dir, &dir.guest, perms(dir.rights))
                .map_err(|source| RunnerError::HostDir {
                    path: dir.dir.clone(),
                    source,
                })?;
        }
        let mut preopens = layered(fs, plan)?;
        for volume in &plan.volumes {
            let made = volumes.iter().find(|(name, _)| *name == volume.name);
            let Some((_, fs)) = made else { continue };
            let root = fs.root().map_err(|error| RunnerError::Volume {
                name: volume.name.clone(),
                errno: error.errno(),
            })?;
            preopens.push((root, volume.guest.clone()));
        }
        let place = RandomPlace::default();
        preopens.extend(furnish((fs, devices), plan, (&outputs, &place), instance)?);
        let bounds = [config.max_memory, plan.max_memory];
        let max_memory = bounds.into_iter().flatten().min();
        let limiter = Limiter::new(max_memory, plan.control.clone());
        let watch = config.calls.clone();
        let calls = watch.map_or_else(Tracer::default, |watch| Tracer::new(instance, watch));
        let host_dirs = plan.host_dirs.iter().map(|dir| dir.guest.clone());
        Ok(Self {
            wasi,
            preopens,
            outputs,
            limiter,
            #[cfg(feature = "freeze")]
            resumed: None,
            #[cfg(feature = "freeze")]
            remembers_opened: false,
            #[cfg(feature = "freeze")]
            place,
            calls,
            host_dirs: host_dirs.collect(),
            names: all_names(network),
            placed: network.placed(),
            max_handles: plan.max_handles,
        })
    }

    /// Has the arguments, environment, clock and open files of a guest that was frozen.
    #[cfg(feature = "freeze")]
    pub(super) fn going_on(
        mut self,
        resumed: &super::freeze::Resumed,
        fs: &Fs,
        (plan, instance): (&RunPlan, u32),
    ) -> Result<Self, RunnerError> {
        let is_deterministic = plan.deterministic;
        super::freeze::show(fs, (instance, is_deterministic)).map_err(|errno| {
            RunnerError::Preopen {
                path: b"/.stratafs".to_vec(),
                errno,
            }
        })?;
        self.wasi.args(resumed.args()).envs(resumed.env());
        if is_deterministic {
            let random = fixed::random_from(resumed.random_bytes(), instance);
            self.wasi.secure_random(random);
            self.place.set(resumed.device_bytes());
        } else if plan.wall_from.is_some() {
            let clock = fixed::FileClock::new(fs, Duration::from_nanos(1));
            self.wasi.wall_clock(clock);
        }
        self.resumed = Some((resumed.clone(), fs.clone()));
        Ok(self.with_clock(resumed.clock(is_deterministic)))
    }

    /// Returns where in the random numbers of its devices a guest stands that repeats.
    #[cfg(feature = "freeze")]
    pub(super) fn place(&self) -> RandomPlace {
        self.place.clone()
    }

    /// Has what it opens below directories of the host remembered by name.
    #[cfg(feature = "freeze")]
    pub(super) fn remembering_opened(mut self) -> Self {
        self.remembers_opened = true;
        self
    }

    #[cfg(feature = "freeze")]
    pub(super) fn with_clock(mut self, clock: super::freeze::MonotonicFrom) -> Self {
        self.wasi.monotonic_clock(clock);
        self
    }

    /// Returns the streams that wait for the end of the instance.
    pub(super) fn outputs(&self) -> Vec<OutputBuffer> {
        self.outputs.clone()
    }

    /// Fails only for a guest that goes on, if what it had open is not there: says what.
    pub(super) fn into_core(mut self) -> Result<CoreHost, String> {
        let shown = self.preopens.iter().map(|(_, guest)| guest);
        let calls = CoreCalls::new(self.calls, shown.chain(&self.host_dirs));
        // A core guest is one module, and each instance of it has a store.
        let p1 = p1::Ctx::new(self.wasi.build_p1()).for_one_instance();
        let p1 = self
            .preopens
            .into_iter()
            .fold(p1, |p1, (dir, guest)| p1.preopen(dir, guest));
        #[cfg(feature = "freeze")]
        let mut p1 = match self.resumed.is_some() || self.remembers_opened {
            true => p1.name_host_dirs(self.host_dirs),
            false => p1,
        };
        #[cfg(feature = "freeze")]
        if let Some((resumed, fs)) = &self.resumed {
            resumed.reopen(&mut p1, fs)?;
        }
        Ok(CoreHost {
            p1,
            calls,
            limiter: self.limiter,
        })
    }

    pub(super) fn into_component(mut self) -> ComponentHost {
        let stratafs = StratafsCtx::new();
        let stratafs = self
            .preopens
            .into_iter()
            .fold(stratafs, |p2, (dir, guest)| p2.preopen(dir, guest));
        ComponentHost {
            wasi: self.wasi.build(),
            table: ResourceTable::new(),
            stratafs,
            calls: self.calls,
            next_stream: StreamWatcher::default(),
            limiter: self.limiter,
            max_handles: self.max_handles,
            names: self.names,
            placed: self.placed,
        }
    }
}

impl ComponentHost {
    /// Returns who looks names up for the guest.
    pub(super) fn names(&self) -> Option<Arc<dyn LookUpNames>> {
        self.names.clone()
    }

    /// Returns what sockets are made with: WASI's own context, what makes them at a place, and where
    /// they are noted.
    pub(super) fn socket_parts(
        &mut self,
    ) -> (&WasiSocketsCtx, Option<&PlacedSockets>, &mut ResourceTable) {
        (self.wasi.sockets(), self.placed.as_ref(), &mut self.table)
    }
}

impl WasiView for ComponentHost {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl StratafsView for ComponentHost {
    fn stratafs(&mut self) -> &mut StratafsCtx {
        &mut self.stratafs
    }
}

/// Does what can be done once for all forks of an instance. Returns the devices that have a
/// file system of their own.
pub(super) fn furnish_forks(fs: &Fs, plan: &RunPlan) -> Result<Option<DeviceDir>, RunnerError> {
    if !plan.furnished {
        return Ok(None);
    }
    let place = RandomPlace::default();
    let world = devices::world(plan, (&[], &place), plan.first_instance);
    fs.furnish_forks(&world).map_err(no_devices)
}

fn no_devices(error: Error) -> RunnerError {
    RunnerError::Preopen {
        path: b"/dev".to_vec(),
        errno: error.errno(),
    }
}

/// Returns the directories of the layered file system that a guest is shown, with its names for them.
fn layered(fs: &Fs, plan: &RunPlan) -> Result<Vec<(Preopen, String)>, RunnerError> {
    let all = plan.preopens.iter().map(|preopen| {
        let dir = fs.preopen(&preopen.dir, preopen.rights);
        let dir = dir.map_err(|error| RunnerError::Preopen {
            path: preopen.dir.clone().into_bytes(),
            errno: error.errno(),
        })?;
        Ok((dir, preopen.guest.clone()))
    });
    all.collect()
}

/// Furnishes the world that a guest expects, and returns `/dev` if that is a directory of
/// its own: one that is shown under the name already goes first.
fn furnish(
    (fs, devices): (&Fs, Option<&DeviceDir>),
    plan: &RunPlan,
    written: (&[OutputBuffer], &RandomPlace),
    instance: u32,
) -> Result<Option<(Preopen, String)>, RunnerError> {
    if !plan.furnished {
        return Ok(None);
    }
    let world = devices::world(plan, written, instance);
    let dev = fs.furnish_as(&world, devices).map_err(no_devices)?;
    let layered = plan.preopens.iter().map(|preopen| &preopen.guest);
    let hosts = plan.host_dirs.iter().map(|dir| &dir.guest);
    let volumes = plan.volumes.iter().map(|volume| &volume.guest);
    let mut shown = layered.chain(hosts).chain(volumes);
    let is_taken = shown.any(|name| name.trim_end_matches('/') == "/dev");
    Ok(dev
        .filter(|_| !is_taken)
        .map(|dev| (dev, "/dev".to_owned())))
}

fn connect(wasi: &mut WasiCtxBuilder, stdio: &Stdio, instance: u32) -> Vec<OutputBuffer> {
    let buffered = |wasi: &mut WasiCtxBuilder, until, sink: &Arc<dyn OutputSink>| {
        let [out, err] = [Stream::Stdout, Stream::Stderr]
            .map(|stream| OutputBuffer::new((instance, stream), sink.clone(), until));
        wasi.stdout(out.clone()).stderr(err.clone());
        vec![out, err]
    };
    match stdio {
        Stdio::Null => Vec::new(),
        Stdio::Inherit => {
            wasi.inherit_stdio();
            Vec::new()
        }
        Stdio::Output => {
            wasi.inherit_stdout().inherit_stderr();
            Vec::new()
        }
        Stdio::Collect(sink) => buffered(wasi, Until::End, sink),
        Stdio::Lines(sink) => buffered(wasi, Until::Line, sink),
        Stdio::Forward(sink) => buffered(wasi, Until::Written, sink),
        Stdio::Streams(streams) => {
            wasi.stdin(streams.stdin(instance))
                .stdout(streams.stdout(instance))
                .stderr(streams.stderr(instance));
            Vec::new()
        }
    }
}

fn perms(rights: Rights) -> FsPerms {
    match rights {
        Rights::ReadWrite => FsPerms::ReadWrite,
        Rights::ReadOnly => FsPerms::ReadOnly,
    }
}
