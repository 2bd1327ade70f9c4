//! N instances off one image, T at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Runtime;

use super::engine::TICK;
use super::host::Seat;
use super::output::Held;
use super::show::{make_fs, make_volumes};
use super::{InstanceReport, Outcome, RunPlan, RunReport, Runner, RunnerError};
use crate::chunk::Scope;
use crate::image::Image;
use crate::vfs::Fs;

/// Follows a run. Called from the threads that run guests; none of the calls
/// is part of a measured time.
pub trait Watch: Sync {
    /// All file systems are there, no guest has started.
    fn created(&self) {}

    /// An instance has ended.
    fn finished(&self, _: &InstanceReport) {}
}

/// Watches nothing.
impl Watch for () {}

impl Runner {
    /// Runs the plan's instances over `image`, and gives what they left.
    ///
    /// All file systems are made first and live until the report is dropped.
    /// An instance that fails does not stop the others. Waits while another
    /// run of this runner goes on.
    ///
    /// # Errors
    /// [`RunnerError::Argument`], [`RunnerError::ArgumentsTooLong`],
    /// [`RunnerError::TwoDirectories`], [`RunnerError::Preopen`],
    /// [`RunnerError::HostDir`], before anything runs; and
    /// [`RunnerError::Thread`].
    pub fn run(&self, image: &Image, plan: &RunPlan) -> Result<RunReport, RunnerError> {
        self.run_watched(image, plan, &())
    }

    /// The same, with somebody who follows it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_watched(
        &self,
        image: &Image,
        plan: &RunPlan,
        watch: &dyn Watch,
    ) -> Result<RunReport, RunnerError> {
        plan.check()?;
        let _turn = self.turn.lock();
        // One that is thrown away finds what is wrong with the directories.
        let volumes = make_volumes(plan);
        let scope = Scope::new();
        let fs = make_fs(image, plan, &volumes, &scope)?;
        drop(Seat::new(&fs, &volumes, plan, &self.config, 0)?);
        let file_systems: Result<Vec<_>, RunnerError> = (0..plan.instances.max(1))
            .map(|_| {
                let start = Instant::now();
                let fs = make_fs(image, plan, &volumes, &scope)?;
                Ok((fs, nanos(start.elapsed())))
            })
            .collect();
        let file_systems = file_systems?;
        watch.created();
        let instances = self.run_all(&file_systems, &volumes, plan, watch)?;
        let file_systems = file_systems.into_iter().map(|(fs, _)| fs).collect();
        Ok(RunReport {
            instances,
            file_systems,
            volumes,
        })
    }

    fn run_all(
        &self,
        file_systems: &[(Fs, u64)],
        volumes: &[(String, Fs)],
        plan: &RunPlan,
        watch: &dyn Watch,
    ) -> Result<Vec<InstanceReport>, RunnerError> {
        let next = AtomicUsize::new(0);
        let reports = Mutex::new(Vec::with_capacity(file_systems.len()));
        let work = || {
            let mut runtime = None;
            while let Some((number, (fs, created))) = take(&next, file_systems) {
                let number = plan.first_instance.saturating_add(number);
                let report = self.run_one(number, (fs, *created), volumes, plan, &mut runtime);
                watch.finished(&report);
                reports.lock().push(report);
            }
            if let Some(runtime) = runtime {
                // A guest that was stopped may have left a read behind.
                runtime.shutdown_background();
            }
        };
        let threads = usize::try_from(self.config.threads)
            .unwrap_or(1)
            .min(file_systems.len());
        thread::scope(|scope| {
            let (_ends_with_scope, stop) = mpsc::channel::<()>();
            if self.config.timeout.is_some() {
                spawn(scope, move || self.tick(&stop))?;
            }
            let workers: Result<Vec<_>, _> = (0..threads).map(|_| spawn(scope, work)).collect();
            if workers.is_err() {
                next.store(file_systems.len(), Ordering::Relaxed);
            }
            for worker in workers? {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            Ok(())
        })?;
        let mut reports = reports.into_inner();
        reports.sort_by_key(|report: &InstanceReport| report.instance);
        Ok(reports)
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
        let mut started = None;
        let seat = Seat::new(fs, volumes, plan, &self.config, instance);
        let held = seat.as_ref().map(Seat::held).unwrap_or_default();
        let outcome = match seat {
            Ok(seat) => self.program.call(&self.engine, seat, &mut started, runtime),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        let end = Instant::now();
        held.iter().for_each(Held::release);
        let started = started.unwrap_or(end);
        InstanceReport {
            instance,
            fs_create_ns,
            start_ns: fs_create_ns.saturating_add(nanos(started - start)),
            run_ns: nanos(end - started),
            outcome,
            usage: fs.usage(),
        }
    }
}

fn take<'a, T>(next: &AtomicUsize, all: &'a [T]) -> Option<(u32, &'a T)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    Some((u32::try_from(number).ok()?, all.get(number)?))
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
