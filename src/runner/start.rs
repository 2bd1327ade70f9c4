//! Instances that share a thread: runs as futures.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use wasmtime::InstancePre;

use super::engine::TICK;
use super::file_systems::{make_fs, make_volumes};
use super::host::{CoreHost, InstanceHost};
use super::output::OutputBuffer;
use super::program::{CallProgress, call_waiting};
use super::run::{nanos, report};
use super::{Outcome, RunPlan, RunReport, Runner, RunnerError};
use crate::image::Image;

/// A program linked so that its instances let go of the thread where they wait.
pub(super) type Waiting = InstancePre<CoreHost>;

impl Runner {
    /// Makes the one instance of a plan and returns its run, which whoever polls it carries on. Any
    /// number of runs share a thread: an instance that waits, for its input or for
    /// time to pass, takes none, and any that goes on from a
    /// checkpoint at such a point costs what it has written to.
    ///
    /// [`RunnerConfig::threads`](super::RunnerConfig::threads) says for how many there is room; no
    /// thread is made for them. The future is to be polled within a runtime of tokio
    /// that has time and I/O. A guest that computes keeps its thread; with a timeout or a
    /// [control](RunPlan::control) it lets the others have a turn every few milliseconds. Dropped
    /// futures end their instances. [`RunControl::cpu_time`](super::RunControl::cpu_time) counts
    /// the whole thread.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stratafs::image::Image;
    /// use stratafs::runner::{Guest, RunPlan, Runner, RunnerConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let guest = Guest::from_bytes("nothing.wat", b"(module (func (export \"_start\")))")?;
    /// let mut config = RunnerConfig::default();
    /// config.threads = 100;
    /// let runner = Arc::new(Runner::new(&guest, config)?);
    /// let runs = (0..100).map(|_| runner.start(&Image::empty(), &RunPlan::default()));
    /// let runs = runs.collect::<Result<Vec<_>, _>>()?;
    /// tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
    ///     for run in runs {
    ///         assert_eq!(run.await.failed().count(), 0);
    ///     }
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RunnerError::Full`] if there is no room; [`RunnerError::Argument`] for a plan of several
    /// instances, and for a guest that is no command of a core module; otherwise as
    /// [`run`](Self::run).
    pub fn start(
        self: &Arc<Self>,
        image: &Image,
        plan: &RunPlan,
    ) -> Result<impl Future<Output = RunReport> + Send + use<>, RunnerError> {
        let plan = self.checked(plan)?.into_owned();
        if plan.instances > 1 {
            return Err(RunnerError::Argument {
                what: format!("{} instances", plan.instances),
                reason: "a run that is started has one",
            });
        }
        plan.check_shares_threads()?;
        let pre = self.waiting()?;
        let room = TakenRoom::take(self)?;
        let (volumes, instance) = (make_volumes(&plan), plan.first_instance);
        let begun = Instant::now();
        let fs = make_fs(image, &plan, &volumes, instance)?;
        let begun = (Instant::now(), nanos(begun.elapsed()));
        let host = self.host(instance, &fs, &volumes, &plan)?;
        let outputs = InstanceHost::outputs(&host);
        Ok(async move {
            let runner = &*room.runner;
            let mut progress = CallProgress::default();
            let what = (&runner.config, &plan);
            let outcome: Outcome = call_waiting(&pre, host, what, &mut progress).await;
            let ended = (Instant::now(), progress);
            outputs.iter().for_each(OutputBuffer::release);
            RunReport {
                instances: vec![report(instance, &fs, begun, ended, outcome)],
                file_systems: match plan.keep_file_systems {
                    true => vec![fs],
                    false => Vec::new(),
                },
                volumes,
            }
        })
    }

    fn waiting(&self) -> Result<Waiting, RunnerError> {
        if let Some(pre) = self.waiting.get() {
            return Ok(pre.clone());
        }
        let linked = self.program.waiting(&self.engine, &self.config);
        let linked = linked.map_err(|source| RunnerError::Engine { source })?;
        let pre = linked.ok_or_else(|| RunnerError::Argument {
            what: "the guest".to_owned(),
            reason: "only the command of a core module can be started",
        })?;
        Ok(self.waiting.get_or_init(|| pre).clone())
    }
}

/// The room of one instance in its runner.
struct TakenRoom {
    runner: Arc<Runner>,
    _ticker: Option<Arc<Ticker>>,
}

impl TakenRoom {
    fn take(runner: &Arc<Runner>) -> Result<Self, RunnerError> {
        let ticker = match runner.config.is_interruptible() {
            true => Some(Ticker::of(runner)?),
            false => None,
        };
        if !runner.gate.try_enter() {
            return Err(RunnerError::Full {
                room: runner.config.threads,
            });
        }
        Ok(Self {
            runner: Arc::clone(runner),
            _ticker: ticker,
        })
    }
}

impl Drop for TakenRoom {
    fn drop(&mut self) {
        self.runner.gate.leave();
    }
}

/// A thread that moves the engine's clock on, until this is dropped.
pub(super) struct Ticker {
    _ends_it: mpsc::Sender<()>,
}

impl Ticker {
    /// Returns the one of a runner, which all its instances share.
    fn of(runner: &Runner) -> Result<Arc<Self>, RunnerError> {
        let mut there = runner.ticker.lock();
        if let Some(ticker) = there.upgrade() {
            return Ok(ticker);
        }
        let (ends, stop) = mpsc::channel::<()>();
        let engine = runner.engine.clone();
        let tick = move || {
            while stop.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        std::thread::Builder::new()
            .name("stratafs".to_owned())
            .spawn(tick)
            .map_err(|source| RunnerError::Thread { source })?;
        let ticker = Arc::new(Self { _ends_it: ends });
        *there = Arc::downgrade(&ticker);
        Ok(ticker)
    }
}
