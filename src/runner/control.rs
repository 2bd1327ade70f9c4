//! What a host holds of a run that goes on: it pauses it, stops it, and asks for its memory.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::Engine;

use super::thread_time::ThreadTime;

/// Pauses and stops the instances of runs, and reports what memory they take. Clones are the
/// same one.
///
/// It goes into [`RunPlan::control`](super::RunPlan::control) of a runner with
/// [`RunnerConfig::controllable`](super::RunnerConfig::controllable). A guest is stopped in
/// its own code and wherever it waits; a call of the file system that has begun is finished
/// first. Its outcome is [`Outcome::Stopped`](super::Outcome::Stopped).
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::runner::{Guest, Outcome, RunControl, RunPlan, Runner, RunnerConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = br#"(module (func (export "_start") (loop (br 0))))"#;
/// let guest = Guest::from_bytes("endless", text.to_vec())?;
/// let mut config = RunnerConfig::default();
/// config.controllable = true;
/// let runner = Runner::new(&guest, config)?;
/// let control = RunControl::default();
/// let mut plan = RunPlan::default();
/// plan.control = Some(control.clone());
/// let report = std::thread::scope(|scope| {
///     let run = scope.spawn(|| runner.run(&Image::empty(), &plan));
///     control.stop();
///     run.join().expect("no panic")
/// })?;
/// assert_eq!(report.instances[0].outcome, Outcome::Stopped);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct RunControl(Arc<ControlShared>);

#[derive(Default)]
struct ControlShared {
    state: Mutex<ControlState>,
    /// Bytes of memories and tables of all instances that are there.
    memory: AtomicU64,
}

#[derive(Default)]
struct ControlState {
    wanted: Wanted,
    /// Who waits for a change of what is wanted, by number.
    waiting: Vec<(u64, Waker)>,
    /// The engines that instances run on, by number.
    engines: Vec<(u64, Engine)>,
    /// The time of the threads that instances run on, by number.
    threads: Vec<(u64, ThreadTime)>,
    /// The time of instances that have ended.
    spent: Duration,
    next: u64,
}

/// What guests are to do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Go,
    Pause,
    Stop,
}

impl RunControl {
    /// Stops all instances, for good: those that start later do not run.
    pub fn stop(&self) {
        self.want(Wanted::Stop);
    }

    /// Lets no instance run any further until [`Self::resume`]. The time of a
    /// [timeout](super::RunnerConfig::timeout) goes on meanwhile.
    pub fn pause(&self) {
        self.want(Wanted::Pause);
    }

    /// Lets instances go on that were paused.
    pub fn resume(&self) {
        self.want(Wanted::Go);
    }

    /// Returns whether the instances are paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.0.state.lock().wanted == Wanted::Pause
    }

    /// Returns whether the instances were stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.state.lock().wanted == Wanted::Stop
    }

    /// Returns the bytes of memories and tables of all instances that are there, as
    /// [`RunPlan::max_memory`](super::RunPlan::max_memory) counts them.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory.load(Ordering::Relaxed)
    }

    /// Returns the time of processors that all instances have taken so far, those that have
    /// ended as well; zero where the system does not tell it of threads (elsewhere than on
    /// Linux).
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let state = self.0.state.lock();
        let running = state.threads.iter().map(|(_, thread)| thread.taken());
        state.spent.saturating_add(running.sum())
    }

    fn want(&self, wanted: Wanted) {
        let mut state = self.0.state.lock();
        if state.wanted == wanted || state.wanted == Wanted::Stop {
            return;
        }
        state.wanted = wanted;
        let waiting = std::mem::take(&mut state.waiting);
        let engines: Vec<_> = state.engines.iter().map(|(_, one)| one.clone()).collect();
        drop(state);
        // A guest that was let on before has its deadline from then, and comes to it now.
        for engine in engines {
            engine.increment_epoch();
        }
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    /// Counts memory that an instance takes.
    pub(super) fn add_memory(&self, bytes: u64) {
        self.0.memory.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts memory that an instance gave back.
    pub(super) fn sub_memory(&self, bytes: u64) {
        self.0.memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Runs a guest to its end, or gives `None` once it is to stop.
    pub(super) async fn follow<T>(
        &self,
        engine: &Engine,
        guest: impl Future<Output = T>,
    ) -> Option<T> {
        let entered = EnteredRun::new(self, engine);
        let mut guest = pin!(guest);
        std::future::poll_fn(|cx| entered.poll(cx, guest.as_mut())).await
    }
}

/// An instance that is under control.
struct EnteredRun<'c> {
    control: &'c RunControl,
    number: u64,
}

impl<'c> EnteredRun<'c> {
    fn new(control: &'c RunControl, engine: &Engine) -> Self {
        let mut state = control.0.state.lock();
        let number = state.next;
        state.next += 1;
        state.engines.push((number, engine.clone()));
        state.threads.push((number, ThreadTime::of_this_thread()));
        Self { control, number }
    }

    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        guest: Pin<&mut impl Future<Output = T>>,
    ) -> Poll<Option<T>> {
        let mut state = self.control.0.state.lock();
        let wanted = state.wanted;
        if wanted == Wanted::Stop {
            return Poll::Ready(None);
        }
        match state
            .waiting
            .iter_mut()
            .find(|(number, _)| *number == self.number)
        {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None => state.waiting.push((self.number, cx.waker().clone())),
        }
        drop(state);
        match wanted {
            Wanted::Pause => Poll::Pending,
            Wanted::Go | Wanted::Stop => guest.poll(cx).map(Some),
        }
    }
}

impl Drop for EnteredRun<'_> {
    fn drop(&mut self) {
        let mut state = self.control.0.state.lock();
        state.waiting.retain(|(number, _)| *number != self.number);
        state.engines.retain(|(number, _)| *number != self.number);
        let ours = |(number, _): &(u64, ThreadTime)| *number == self.number;
        if let Some(at) = state.threads.iter().position(ours) {
            let (_, thread) = state.threads.swap_remove(at);
            state.spent = state.spent.saturating_add(thread.taken());
        }
    }
}

impl fmt::Debug for RunControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.state.lock().wanted {
            Wanted::Go => "RunControl(going)",
            Wanted::Pause => "RunControl(paused)",
            Wanted::Stop => "RunControl(stopped)",
        })
    }
}
