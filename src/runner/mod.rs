//! Running guests: one compiled guest, one base, many instances.
//!
//! A [`Runner`] holds a guest compiled and linked once. [`Runner::run`] gives
//! each of N instances its own file system over one image and runs them on
//! as many threads as asked. Nothing here prints, and nothing reads the
//! environment (invariant 10): what guests write goes where
//! [`RunPlan::stdio`] says, how they ended is in the [`RunReport`].
//!
//! ```no_run
//! use stratafs::image::Image;
//! use stratafs::runner::{Guest, GuestDir, RunPlan, Runner, RunnerConfig};
//! use stratafs::vfs::Rights;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let guest = Guest::from_file("guest.wasm".as_ref())?;
//! let runner = Runner::new(&guest, RunnerConfig::default())?;
//! let mut plan = RunPlan::default();
//! plan.instances = 100;
//! plan.args = vec!["guest.wasm".into()];
//! plan.preopens =
//!     vec![GuestDir { dir: "/".into(), guest: "/".into(), rights: Rights::ReadWrite }];
//! let report = runner.run(&Image::empty(), &plan)?;
//! assert_eq!(report.failed().count(), 0);
//! # Ok(())
//! # }
//! ```

mod cache;
mod calls;
mod code;
mod control;
mod devices;
mod engine;
mod error;
mod file_systems;
mod fixed;
#[cfg(feature = "freeze")]
pub mod freeze;
mod functions;
mod gate;
mod guest;
mod host;
mod hosted;
mod invoke;
mod limiter;
mod names;
mod network;
mod outcome;
mod output;
mod plan;
mod private;
mod program;
mod program_bytes;
mod proposals;
mod report;
mod run;
mod sockets;
mod start;
mod thread_time;
mod threads;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

pub use cache::CacheUse;
pub use calls::{Argument, CallResult, CallValue, Excerpt, FileCall, WasiVersion, WatchCalls};
pub use control::RunControl;
pub use engine::Allocator;
pub use error::RunnerError;
pub use guest::{Guest, GuestKind};
pub use hosted::{HostedComponent, HostedState, InstanceTemplate};
pub use names::{LookUpNames, LookedUp, LookupFailure};
pub use network::{Destination, Network};
pub use outcome::Outcome;
pub use output::{OutputSink, StandardStreams, Stdio, Stream};
pub use plan::{GivenFile, GuestDir, HostDir, INSTANCE_VARIABLE, RunPlan, Volume};
pub use proposals::Proposals;
pub use report::{InstanceReport, RunReport};
pub use run::Watch;
pub use sockets::SocketPlace;
pub use threads::HostThreads;

use engine::Compiled;
use gate::Gate;
use program::Program;
use start::{Ticker, Waiting};

/// How guests are compiled and bounded. The default: one thread, no cache, no
/// timeout, no memory bound but the guest's own, no unknown imports, no network.
///
/// ```
/// use std::time::Duration;
/// use stratafs::image::Image;
/// use stratafs::runner::{Guest, Outcome, RunPlan, Runner, RunnerConfig};
///
/// let mut config = RunnerConfig::default();
/// config.timeout = Some(Duration::from_millis(50));
/// config.max_memory = Some(64 << 20);
/// let for_ever = r#"(module (func (export "_start") (loop br 0)))"#;
/// let runner = Runner::new(&Guest::from_bytes("for-ever.wat", for_ever)?, config)?;
/// let report = runner.run(&Image::empty(), &RunPlan::default())?;
/// assert!(matches!(report.instances[0].outcome, Outcome::TimedOut(_)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunnerConfig {
    /// How many instances run at a time, a thread for each; at least one does. Of those that
    /// are [started](Runner::start), which share threads, so many may be there.
    pub threads: u32,
    /// Where compiled guests are kept; it is made if it is missing. `None`:
    /// each runner compiles.
    pub cache_dir: Option<PathBuf>,
    /// Stops an instance that runs longer, in its own code or in a call.
    pub timeout: Option<Duration>,
    /// Compiles guests so that [`RunPlan::control`] can pause and stop them. The code is
    /// the same as for a timeout.
    pub controllable: bool,
    /// Stops an instance whose memories and tables together grow past this many
    /// bytes; an element of a table counts eight.
    pub max_memory: Option<u64>,
    /// Lets a guest start that imports functions nobody here has: a call of one
    /// is a trap. Without it such a guest does not link.
    pub trap_unknown_imports: bool,
    /// Which proposals of WebAssembly are not as wasmtime has them.
    pub proposals: Proposals,
    /// Stops an instance that runs more than about as many instructions: a trap.
    pub fuel: Option<u64>,
    /// What guests may reach of the network.
    pub network: Network,
    /// Links guests so that each run may have a network of its own, [`RunPlan::network`].
    pub network_of_plan: bool,
    /// What is called in place of the guest's command, as `wasmtime run --invoke` has
    /// it: the name of an export of a core module, whose arguments are those of the
    /// plan after the first, or a call of a component's function in WAVE, such as
    /// `add(1, 2)`. What it gives is in
    /// [`InstanceReport::returned`].
    pub invoke: Option<String>,
    /// Who is told of each call on files that guests make. `None`, the default: nobody,
    /// and a call costs what it costs.
    pub calls: Option<Arc<dyn WatchCalls>>,
}

impl Default for RunnerConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            cache_dir: None,
            timeout: None,
            controllable: false,
            max_memory: None,
            trap_unknown_imports: false,
            proposals: Proposals::default(),
            fuel: None,
            network: Network::none(),
            network_of_plan: false,
            invoke: None,
            calls: None,
        }
    }
}

/// A guest that is ready to run, any number of times. Runs go on side by side as long as
/// there is a thread of [`RunnerConfig::threads`] for each instance at work; a call of
/// [`Runner::run`] that finds too few waits.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::runner::{Guest, RunPlan, Runner, RunnerConfig};
///
/// let guest = Guest::from_bytes("nothing.wat", b"(module (func (export \"_start\")))")?;
/// let runner = Runner::new(&guest, RunnerConfig::default())?;
/// let report = runner.run(&Image::empty(), &RunPlan::default())?;
/// assert_eq!(report.failed().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Runner {
    config: RunnerConfig,
    engine: wasmtime::Engine,
    program: Program,
    allocator: Allocator,
    cache: CacheUse,
    /// What its instances go on from, if they do not start from the beginning.
    #[cfg(feature = "freeze")]
    resumed: Option<freeze::Resumed>,
    /// The pool has room for as many instances as there are threads.
    gate: Gate,
    /// The program linked so that its instances can wait, once one was started.
    waiting: OnceLock<Waiting>,
    /// What moves the engine's clock on while started instances are there.
    ticker: Mutex<Weak<Ticker>>,
}

impl RunnerConfig {
    /// Returns whether guests can be left in the middle of their code.
    fn is_interruptible(&self) -> bool {
        self.timeout.is_some() || self.controllable
    }

    /// Returns whether sockets and names are linked as each run has them.
    fn links_sockets(&self) -> bool {
        self.network_of_plan || self.network.is_placed()
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("config", &self.config)
            .field("allocator", &self.allocator)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Runner {
    /// Compiles and links a guest. Takes seconds for a large guest that is
    /// not in the cache.
    ///
    /// # Errors
    /// [`RunnerError::Engine`], [`RunnerError::Compile`],
    /// [`RunnerError::Link`] and [`RunnerError::NoEntry`].
    pub fn new(guest: &Guest, mut config: RunnerConfig) -> Result<Self, RunnerError> {
        config.threads = config.threads.max(1);
        let compiled = Compiled::new(guest, &config)?;
        Self::link(compiled, guest, config)
    }

    fn link(compiled: Compiled, guest: &Guest, config: RunnerConfig) -> Result<Self, RunnerError> {
        let program = Program::link(&compiled, guest, &config)?;
        let gate = Gate::new(config.threads);
        let Compiled {
            engine,
            allocator,
            cache,
            ..
        } = compiled;
        Ok(Self {
            config,
            engine,
            program,
            allocator,
            cache,
            #[cfg(feature = "freeze")]
            resumed: None,
            gate,
            waiting: OnceLock::new(),
            ticker: Mutex::default(),
        })
    }

    /// Compiles and links a guest that goes on from a checkpoint of a program.
    #[cfg(feature = "freeze")]
    fn going_on(
        guest: &Guest,
        mut config: RunnerConfig,
        program: &crate::digest::Digest,
        resumed: freeze::Resumed,
    ) -> Result<Self, RunnerError> {
        config.threads = config.threads.max(1);
        let compiled = Compiled::of_checkpoint(guest, &config, program)?;
        let mut runner = Self::link(compiled, guest, config)?;
        runner.resumed = Some(resumed);
        Ok(runner)
    }

    /// Returns who gives the guests their memories.
    #[must_use]
    pub fn allocator(&self) -> &Allocator {
        &self.allocator
    }

    /// Returns how many instances run at a time.
    #[must_use]
    pub fn threads(&self) -> u32 {
        self.config.threads
    }

    /// Returns how the compiled code was obtained.
    #[must_use]
    pub fn cache(&self) -> &CacheUse {
        &self.cache
    }
}
