//! N instances off one image, T at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::engine::TICK;
use super::file_systems::{make_fs, make_volumes};
use super::host::InstanceHost;
use super::output::OutputBuffer;
use super::program::CallProgress;
use super::{InstanceReport, Outcome, RunPlan, RunReport, Runner, RunnerError};
use crate::image::Image;
use crate::vfs::Fs;

/// Follows a run. Called from the threads that run guests; none of the calls
/// is part of a measured time.
pub trait Watch: Sync {
    /// All file systems are there, no guest has started.
    fn created(&self) {}

    /// An instance has ended. `fs` is its file system as the guest left it,
    /// which goes when this returns unless [`RunPlan::keep_file_systems`] is
    /// set or the watcher keeps a clone or a fork.
    fn finished(&self, _: &InstanceReport, _fs: &Fs) {}
}

/// An instance that has its file system and has not run yet.
struct ReadyInstance {
    instance: u32,
    fs: Fs,
    fs_create_ns: u64,
}

/// Watches nothing.
impl Watch for () {}

impl Runner {
    /// Runs the plan's instances over `image`, and returns what they left.
    ///
    /// All file systems are made first: an empty one takes a few hundred bytes.
    /// What an instance wrote is freed as soon as it has ended and been
    /// [watched](Watch::finished), unless [`RunPlan::keep_file_systems`] is set. An
    /// instance that fails does not stop the others. Waits while other runs of this
    /// runner take the threads that it needs.
    ///
    /// # Errors
    /// [`RunnerError::Argument`], [`RunnerError::ArgumentsTooLong`],
    /// [`RunnerError::TwoDirectories`], [`RunnerError::Preopen`],
    /// [`RunnerError::HostDir`], before anything runs; and
    /// [`RunnerError::Thread`].
    pub fn run(&self, image: &Image, plan: &RunPlan) -> Result<RunReport, RunnerError> {
        self.run_watched(image, plan, &())
    }

    /// Runs as [`Self::run`] does, and reports to `watch` how far it has come.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_watched(
        &self,
        image: &Image,
        plan: &RunPlan,
        watch: &dyn Watch,
    ) -> Result<RunReport, RunnerError> {
        let plan = &*self.checked(plan)?;
        let at_once = self.config.threads.min(plan.instances.max(1));
        let _room = self.gate.enter(at_once);
        // One that is thrown away finds what is wrong with the directories.
        let volumes = make_volumes(plan);
        let first = plan.first_instance;
        let fs = make_fs(image, plan, &volumes, first)?;
        drop(InstanceHost::new(&fs, &volumes, plan, &self.config, 0)?);
        // It would count against the budget while the others are made.
        drop(fs);
        let waiting: Result<VecDeque<_>, RunnerError> = (0..plan.instances.max(1))
            .map(|number| {
                let instance = first.saturating_add(number);
                let start = Instant::now();
                let fs = make_fs(image, plan, &volumes, instance)?;
                Ok(ReadyInstance {
                    instance,
                    fs,
                    fs_create_ns: nanos(start.elapsed()),
                })
            })
            .collect();
        let waiting = waiting?;
        watch.created();
        let (instances, file_systems) = self.run_all(waiting, &volumes, plan, watch)?;
        Ok(RunReport {
            instances,
            file_systems,
            volumes,
        })
    }

    /// Refuses a plan that no run could have, and returns it as instances see it.
    pub(super) fn checked<'p>(&self, plan: &'p RunPlan) -> Result<Cow<'p, RunPlan>, RunnerError> {
        plan.check()?;
        plan.check_for(&self.config)?;
        #[cfg(feature = "freeze")]
        if let Some(resumed) = &self.resumed {
            resumed.check(plan)?;
            return Ok(resumed.plan(plan));
        }
        Ok(Cow::Borrowed(plan))
    }

    /// Runs all that wait. Returns their reports by number, and their file
    /// systems in the same order if the plan keeps them.
    fn run_all(
        &self,
        waiting: VecDeque<ReadyInstance>,
        volumes: &[(String, Fs)],
        plan: &RunPlan,
        watch: &dyn Watch,
    ) -> Result<(Vec<InstanceReport>, Vec<Fs>), RunnerError> {
        let count = waiting.len();
        let waiting = Mutex::new(waiting);
        let ended = Mutex::new(Vec::with_capacity(count));
        let next = || waiting.lock().pop_front();
        let work = || {
            let mut runtime = None;
            while let Some(ReadyInstance {
                instance,
                fs,
                fs_create_ns,
            }) = next()
            {
                let report =
                    self.run_one(instance, (&fs, fs_create_ns), volumes, plan, &mut runtime);
                watch.finished(&report, &fs);
                let kept = plan.keep_file_systems.then_some(fs);
                ended.lock().push((report, kept));
            }
            if let Some(runtime) = runtime {
                // A guest that was stopped may have left a read behind.
                runtime.shutdown_background();
            }
        };
        let threads = usize::try_from(self.config.threads).unwrap_or(1).min(count);
        thread::scope(|scope| {
            let (_ends_with_scope, stop) = mpsc::channel::<()>();
            if self.config.timeout.is_some() {
                spawn(scope, move || self.tick(&stop))?;
            }
            let workers: Result<Vec<_>, _> = (0..threads).map(|_| spawn(scope, work)).collect();
            if workers.is_err() {
                waiting.lock().clear();
            }
            for worker in workers? {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            Ok(())
        })?;
        let mut ended: Vec<(InstanceReport, Option<Fs>)> = ended.into_inner();
        ended.sort_by_key(|(report, _)| report.instance);
        let (reports, kept): (Vec<_>, Vec<_>) = ended.into_iter().unzip();
        Ok((reports, kept.into_iter().flatten().collect()))
    }

    /// Moves the engine's clock on until the run is over.
    fn tick(&self, stop: &mpsc::Receiver<()>) {
        while stop.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.engine.increment_epoch();
        }
    }

    fn run_one(
        &self,
        instance: u32,
        (fs, fs_create_ns): (&Fs, u64),
        volumes: &[(String, Fs)],
        plan: &RunPlan,
        runtime: &mut Option<Runtime>,
    ) -> InstanceReport {
        let start = Instant::now();
        let mut progress = CallProgress::default();
        let host = self.host(instance, fs, volumes, plan);
        let outputs = host.as_ref().map(InstanceHost::outputs).unwrap_or_default();
        let outcome = match host {
            Ok(host) => {
                let what = (&self.config, plan);
                self.program
                    .call(&self.engine, host, what, &mut progress, runtime)
            }
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let end = Instant::now();
        outputs.iter().for_each(OutputBuffer::release);
        let begun = (start, fs_create_ns);
        report(instance, fs, begun, (end, progress), outcome)
    }

    /// Makes what one instance is given besides code.
    pub(super) fn host(
        &self,
        instance: u32,
        fs: &Fs,
        volumes: &[(String, Fs)],
        plan: &RunPlan,
    ) -> Result<InstanceHost, RunnerError> {
        #[cfg(feature = "freeze")]
        if let Some(resumed) = &self.resumed {
            resumed.furnish(fs)?;
        }
        let host = InstanceHost::new(fs, volumes, plan, &self.config, instance)?;
        #[cfg(feature = "freeze")]
        if let Some(resumed) = &self.resumed {
            return host.going_on(resumed, fs, (plan, instance));
        }
        Ok(host)
    }
}

/// Says how an instance ended that was begun at a time, after its file system was made.
pub(super) fn report(
    instance: u32,
    fs: &Fs,
    (start, fs_create_ns): (Instant, u64),
    (end, progress): (Instant, CallProgress),
    outcome: Outcome,
) -> InstanceReport {
    let started = progress.started.unwrap_or(end);
    InstanceReport {
        instance,
        fs_create_ns,
        start_ns: fs_create_ns.saturating_add(nanos(started - start)),
        run_ns: nanos(end - started),
        outcome,
        returned: progress.returned,
        usage: fs.usage(),
        exclusive_bytes: fs.count_exclusive_bytes(),
    }
}

fn spawn<'scope, 'env, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, 'env>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<thread::ScopedJoinHandle<'scope, T>, RunnerError> {
    thread::Builder::new()
        .name("stratafs".to_owned())
        .spawn_scoped(scope, work)
        .map_err(|source| RunnerError::Thread { source })
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
