//! Freezing a guest in the middle of its run, and instances that continue from there.
//!
//! [`freeze`] runs a command of preview1 up to a [`Point`], a call that it makes, and takes
//! its state there: its stack, memory, globals and tables, its open files, and what it
//! wrote. Each instance of [`Checkpoint::runner`] makes that call again and continues after
//! it, with files of its own. The guest does not notice.
//!
//! A host with a linker and store data of its own takes the same steps by hand, from
//! [`FreezableModule`] to [`Checkpoint::of`] and [`Checkpoint::reopen`].
//!
//! ```no_run
//! use stratafs::image::Image;
//! use stratafs::runner::freeze::{Freezing, Point, freeze};
//! use stratafs::runner::{Guest, GuestDir, RunPlan, RunnerConfig};
//! use stratafs::vfs::Rights;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let guest = Guest::from_file("python.wasm".as_ref())?;
//! // With the library of Python, and `serve.py`.
//! let base = Image::from_dir("app")?;
//! let mut plan = RunPlan::default();
//! plan.args = vec!["python".into(), "/serve.py".into()];
//! plan.preopens = vec![GuestDir {
//!     dir: "/".into(),
//!     guest: "/".into(),
//!     rights: Rights::ReadWrite,
//! }];
//! let config = RunnerConfig::default();
//! // Up to where it first asks for input.
//! let checkpoint = match freeze(&guest, &base, &plan, &config, &Point::Stdin)? {
//!     Freezing::Frozen(checkpoint) => checkpoint,
//!     Freezing::Ended(outcome) => return Err(format!("it ended first: {outcome}").into()),
//! };
//! let runner = checkpoint.runner(config)?;
//! let mut plan = checkpoint.plan();
//! plan.instances = 1000;
//! let report = runner.run(checkpoint.image(), &plan)?;
//! assert_eq!(report.failed().count(), 0);
//! # Ok(())
//! # }
//! ```

mod capture;
mod checkpoint;
mod clock;
mod dirs;
mod error;
mod files;
mod import;
mod info;
mod kept;
mod known;
mod point;
mod saved;
mod shown;
mod stop;
mod watch;
pub use checkpoint::Checkpoint;
pub(super) use checkpoint::Resumed;
pub(super) use clock::{MonotonicFrom, WallFrom};
pub use error::{CheckpointError, FreezeError};
pub use info::CheckpointInfo;
pub use kept::{FrozenFiles, GuestTold};
pub use point::{Point, StopSignal};
pub(super) use shown::show;
pub use watch::{
    Called, FreezableModule, FrozenModule, ImportCall, StoppedInstance, WatchedInstance,
};

pub use crate::checkpoint::Refusal;

use super::{Guest, Outcome, RunPlan, RunnerConfig};
use crate::image::Image;

/// How a run ended that was to be frozen.
#[derive(Debug)]
pub enum Freezing {
    /// The guest came to the point and stands there.
    Frozen(Checkpoint),
    /// The guest ended before it came there.
    Ended(Outcome),
}

/// Runs one instance of a guest up to a point and freezes it there.
///
/// The plan is that of a run of one instance: how many instances it names, whether their file
/// systems are kept, and what is traced play no part, nor do [`RunnerConfig::calls`] and
/// [`RunnerConfig::invoke`]. What is open in its volumes and host directories at
/// the point is opened again by name where a run shows them again. The guest reads and writes the
/// streams that the plan gives it; with [`Stdio::Output`](super::Stdio::Output) its standard input
/// has ended.
///
/// Blocks the calling thread, and runs a runtime of tokio there: a host that is asynchronous calls
/// it by `tokio::task::spawn_blocking`. Takes the time that the guest takes, and that of compiling it twice: once so that it
/// can be stopped, which [`RunnerConfig::cache_dir`] keeps, and the checkpoint itself when
/// it is first run.
///
/// # Errors
/// [`FreezeError::Runner`] as [`Runner::new`](super::Runner::new) and
/// [`Runner::run`](super::Runner::run) have it, for a guest that is no core module as well;
/// [`FreezeError::Refused`] for a program, or a place in it, that cannot be frozen;
/// [`FreezeError::Files`] for what is open and cannot be opened again; [`FreezeError::Layer`] if
/// what the guest wrote cannot be made a layer.
///
/// # Panics
/// Within an asynchronous task of tokio.
pub fn freeze(
    guest: &Guest,
    image: &Image,
    plan: &RunPlan,
    config: &RunnerConfig,
    point: &Point,
) -> Result<Freezing, FreezeError> {
    stop::freeze((guest, None), image, plan, config, point)
}

#[cfg(test)]
mod tests;
