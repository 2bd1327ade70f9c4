//! One container: what it is given, how it stands, and the thread that runs its guest.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use stratafs::budget::Budget;
use stratafs::image::Image;
use stratafs::runner::{Outcome, RunControl, RunPlan, RunReport, Runner, RunnerError, Stdio};
use tokio::sync::watch;

use crate::config::ShimConfig;
use crate::containerd::Containerd;
use crate::events::EventSender;
use crate::fifo::Streams;
use crate::input::InputEnd;
use crate::log::{LogLevel, log_line};
use crate::messages::{
    CgroupMetrics, CpuStat, CpuUsage, CreateTaskRequest, MemoryEntry, MemoryStat, TaskExit,
    TaskNamed, TaskStart, Timestamp,
};
use crate::network::{self, Networks};
use crate::plan;
use crate::programs::Programs;
use crate::rootfs::{RootDirs, Roots};
use crate::spec::{ContainerSpec, CpuLimit};
use crate::status::{Code, Status};
use crate::ttrpc::AfterReply;

/// The signal that nobody can miss.
pub const SIGKILL: u32 = 9;

/// Exit code of a guest that trapped: what a shell shows for a program that aborted.
const TRAP_CODE: u32 = 134;

/// How a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was made, and not started.
    Created,
    /// Its guest runs.
    Running,
    /// Its guest stands still.
    Paused,
    /// It has ended.
    Stopped(Exit),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code.
    pub code: u32,
    /// When.
    pub at: SystemTime,
}

/// One container.
pub struct Container {
    /// Its name.
    pub id: String,
    /// What was asked for.
    pub request: CreateTaskRequest,
    standing: watch::Sender<Standing>,
    /// Held while the standing changes, so that its events come in order.
    change: Mutex<Change>,
    control: RunControl,
    budget: Budget,
    max_memory: u64,
    /// The share of a processor that its guest may take.
    pub cpu: Option<CpuLimit>,
    events: EventSender,
}

/// What changes with the standing.
struct Change {
    /// What is run, until it is.
    ready: Option<ReadyGuest>,
    streams: Option<Arc<Streams>>,
    /// Whether a thread runs its guest.
    runs: bool,
    /// The signal that ended it.
    signal: Option<u32>,
}

/// A guest that is ready to run.
struct ReadyGuest {
    runner: Arc<Runner>,
    image: Image,
    plan: RunPlan,
    /// Directories of the host that the plan names by their descriptors.
    shown: Vec<File>,
}

/// What all containers of a process share.
pub struct Shared {
    /// How containers are run.
    pub config: ShimConfig,
    /// Root file systems.
    pub roots: Roots,
    /// Programs.
    pub programs: Programs,
    /// Networks.
    pub networks: Networks,
    /// Who knows the images of containers.
    pub containerd: Containerd,
    /// Where events go.
    pub events: EventSender,
}

impl Shared {
    /// Begins without anything kept.
    #[must_use]
    pub fn new(config: ShimConfig, containerd: Containerd, events: EventSender) -> Self {
        let roots = Roots::new(config.max_root_bytes, config.registry.clone());
        let programs = Programs::new(config.cache_dir().map(Path::to_owned));
        let networks = Networks::new(&config);
        Self {
            config,
            roots,
            programs,
            networks,
            containerd,
            events,
        }
    }

    /// Returns whom to ask for the program of a container that is an artifact.
    fn asking_of<'s>(&'s self, container: &'s str) -> (&'s Containerd, &'s str) {
        (&self.containerd, container)
    }

    /// Directories that no container may be shown: those of the runtime, and the layers that
    /// it shares with others.
    fn private(&self, bundle: &Path, dirs: &RootDirs) -> Vec<PathBuf> {
        let mut private = vec![self.config.socket_dir.clone()];
        private.extend(self.config.cache_dir().map(Path::to_owned));
        // All bundles of the runtime: DIR/NAMESPACE/ID.
        let bundles = bundle
            .ancestors()
            .nth(2)
            .filter(|dir| dir.parent().is_some());
        private.push(bundles.unwrap_or(bundle).to_owned());
        private.extend(dirs.all().cloned());
        private.extend(dirs.base.iter().map(|base| base.store.clone()));
        private
    }
}

/// Refuses what no container is given.
fn refuse(request: &CreateTaskRequest) -> Result<(), Status> {
    if request.terminal {
        return Err(Status::invalid("terminal: a guest has none"));
    }
    if !request.checkpoint.is_empty() {
        return Err(Status::new(
            Code::Unimplemented,
            "checkpoint: containers do not go on from one",
        ));
    }
    Ok(())
}

impl Container {
    /// Reads the bundle and makes everything ready that a start needs. Takes as long as reading
    /// the root and compiling the program do, where they are not known yet.
    ///
    /// # Errors
    /// What is asked for and cannot be given, by name.
    pub fn create(shared: &Shared, request: CreateTaskRequest) -> Result<Self, Status> {
        refuse(&request)?;
        let bundle = Path::new(&request.bundle);
        let spec = ContainerSpec::read(bundle)?;
        let max_memory = spec.memory.unwrap_or(shared.config.max_memory);
        let max_files = shared.config.max_file_bytes.min(max_memory);
        let budget = Budget::new(max_files);
        let control = RunControl::default();
        let streams = Arc::new(Streams::open(
            &request.stdin,
            &request.stdout,
            &request.stderr,
            input_end(&spec),
        )?);
        let mut ready = None;
        // That of a pod is looked for before there is anything in it.
        let network = shared.networks.of(bundle, &spec)?;
        if !spec.is_sandbox {
            // One that is absolute is taken as it is.
            let rootfs = bundle.join(&spec.root);
            let dirs = RootDirs::of(&request.rootfs, &rootfs)?;
            if shared.config.only_stored {
                dirs.check_stored()?;
            }
            let private = shared.private(bundle, &dirs);
            let mut plan = plan::of(&spec);
            let shown = plan::show(&spec, &private, (&request.id, &control), &mut plan)?;
            plan.max_memory = Some(max_memory);
            plan.control = Some(control.clone());
            plan.budget = Some(budget.clone());
            plan.quota.max_bytes = max_files;
            plan.volume_quota.max_bytes = max_files;
            plan.stdio = Stdio::Streams(streams.clone());
            let root = shared.roots.open(&dirs)?;
            plan::give_home(&request.id, &root.image, spec.user.uid, &mut plan);
            network::give(&network, &spec, &root.image, &mut plan)?;
            let program = shared
                .programs
                .open(&root, &spec, shared.asking_of(&request.id))?;
            program.take_over(&mut plan)?;
            ready = Some(ReadyGuest {
                runner: program.runner,
                image: root.image.clone(),
                plan,
                shown,
            });
        }
        Ok(Self {
            id: request.id.clone(),
            request,
            standing: watch::Sender::new(Standing::Created),
            change: Mutex::new(Change {
                ready,
                streams: Some(streams),
                runs: false,
                signal: None,
            }),
            control,
            budget,
            max_memory,
            cpu: spec.cpu.filter(|_| !spec.is_sandbox),
            events: shared.events.clone(),
        })
    }

    /// Returns how it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> Exit {
        let mut standing = self.standing.subscribe();
        loop {
            if let Standing::Stopped(exit) = *standing.borrow_and_update() {
                return exit;
            }
            // The sender is this container's own.
            let _changed = standing.changed().await;
        }
    }

    /// Starts its guest.
    ///
    /// # Errors
    /// It was started before, or the host gives no thread.
    pub fn start(self: &Arc<Self>, pid: u32) -> Result<(), Status> {
        let mut change = self.change.lock();
        if self.standing() != Standing::Created {
            return Err(self.wrong_standing("start", "created"));
        }
        let ready = change.ready.take();
        let streams = change.streams.clone();
        self.standing.send_replace(Standing::Running);
        let started = TaskStart {
            container_id: self.id.clone(),
            pid,
        };
        let Some(ready) = ready else {
            // Nothing runs in a pod's own container: it stands until it is killed.
            self.events.send("/tasks/start", "TaskStart", &started);
            return Ok(());
        };
        let container = Arc::clone(self);
        let run = move || container.run(ready, streams, pid);
        let spawned = thread::Builder::new()
            .name("container".to_owned())
            .stack_size(512 * 1024)
            .spawn(run);
        match spawned {
            Ok(_) => {
                change.runs = true;
                // The thread's own events wait for the lock that is held here.
                self.events.send("/tasks/start", "TaskStart", &started);
                Ok(())
            }
            Err(error) => {
                self.end(&mut change, 1, false, pid);
                Err(Status::internal(format_args!(
                    "cannot start a thread: {error}"
                )))
            }
        }
    }

    /// Runs the guest to its end. A panic is this container's alone.
    fn run(self: Arc<Self>, ready: ReadyGuest, streams: Option<Arc<Streams>>, pid: u32) {
        let ReadyGuest {
            runner,
            image,
            plan,
            shown,
        } = ready;
        let run = std::panic::AssertUnwindSafe(|| runner.run(&image, &plan));
        let ended = std::panic::catch_unwind(run);
        drop((plan, shown, image, runner));
        let signal = self.change.lock().signal;
        let ending = match ended {
            Ok(report) => Ending::of_report(report, signal),
            Err(_) => Ending {
                code: TRAP_CODE,
                ..Ending::failed("the runtime failed the guest".to_owned())
            },
        };
        if let Some(words) = &ending.words {
            log_line(LogLevel::Warn, &self.id, format_args!("{words}"));
        }
        if let Some(streams) = streams {
            if let Some(words) = &ending.words {
                streams.say(words);
            }
            streams.finish(&self.control);
        }
        let mut change = self.change.lock();
        change.runs = false;
        self.end(&mut change, ending.code, ending.out_of_memory, pid);
    }

    /// Is at its end, and tells so.
    fn end(&self, change: &mut Change, code: u32, out_of_memory: bool, pid: u32) {
        // The readers of its output see the end before anybody is told of it.
        drop(change.streams.take());
        drop(change.ready.take());
        let at = SystemTime::now();
        log_line(LogLevel::Info, &self.id, format_args!("ended with {code}"));
        if out_of_memory {
            let named = TaskNamed {
                container_id: self.id.clone(),
            };
            self.events.send("/tasks/oom", "TaskOOM", &named);
        }
        self.events.send(
            "/tasks/exit",
            "TaskExit",
            &TaskExit {
                container_id: self.id.clone(),
                id: self.id.clone(),
                pid,
                exit_status: code,
                exited_at: Some(Timestamp::of(at)),
            },
        );
        self.standing
            .send_replace(Standing::Stopped(Exit { code, at }));
    }

    /// Does to it what a signal does to a program that has no handler for it. One without a
    /// guest that runs, such as a sandbox, ends when what this returns is dropped: containerd
    /// closes its connection once it hears of that, and the answer to this call is to come first.
    ///
    /// # Errors
    /// It has ended, or the signal is none that means anything here.
    pub fn kill(self: &Arc<Self>, signal: u32, pid: u32) -> Result<AfterReply, Status> {
        let mut change = self.change.lock();
        if let Standing::Stopped(_) = self.standing() {
            return Err(Status::new(
                Code::NotFound,
                format_args!("container {}: its process has ended already", self.id),
            ));
        }
        match signal {
            0 | 17 | 18 | 23 | 28 => return Ok(AfterReply::default()),
            19..=22 => {
                return Err(Status::invalid(format_args!(
                    "signal {signal} stops a program: a guest is paused instead"
                )));
            }
            1..=64 => {}
            _ => {
                return Err(Status::invalid(format_args!(
                    "signal {signal}: expected 0 to 64"
                )));
            }
        }
        change.signal.get_or_insert(signal);
        self.control.stop();
        if change.runs {
            return Ok(AfterReply::default());
        }
        let this = Arc::clone(self);
        Ok(AfterReply::new(move || {
            let mut change = this.change.lock();
            // It may have been killed twice, or started meanwhile: its guest ends by itself then.
            if !change.runs && !matches!(this.standing(), Standing::Stopped(_)) {
                this.end(&mut change, 128 + signal, false, pid);
            }
        }))
    }

    /// Lets its guest stand still.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self) -> Result<(), Status> {
        let _change = self.change.lock();
        if self.standing() != Standing::Running {
            return Err(self.wrong_standing("pause", "running"));
        }
        self.control.pause();
        self.standing.send_replace(Standing::Paused);
        let named = TaskNamed {
            container_id: self.id.clone(),
        };
        self.events.send("/tasks/paused", "TaskPaused", &named);
        Ok(())
    }

    /// Lets its guest go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn resume(&self) -> Result<(), Status> {
        let _change = self.change.lock();
        if self.standing() != Standing::Paused {
            return Err(self.wrong_standing("resume", "paused"));
        }
        self.control.resume();
        self.standing.send_replace(Standing::Running);
        let named = TaskNamed {
            container_id: self.id.clone(),
        };
        self.events.send("/tasks/resumed", "TaskResumed", &named);
        Ok(())
    }

    /// Has its guest stand still since it took its share of a processor, or go on. One that is paused
    /// stays so, and its standing does not change.
    pub fn hold_back(&self, back: bool) {
        let _change = self.change.lock();
        match (self.standing(), back) {
            (Standing::Running, true) => self.control.pause(),
            (Standing::Running, false) => self.control.resume(),
            _ => {}
        }
    }

    /// Says that no more input comes from who made it.
    pub fn close_input(&self) {
        if let Some(streams) = &self.change.lock().streams {
            streams.close_input();
        }
    }

    /// Returns the time of processors that its guest took.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.control.cpu_time()
    }

    /// Returns the bytes of its memories and tables, and of the files that it wrote.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.control.memory_bytes(), self.budget.held_bytes())
    }

    /// Returns what it takes, as containerd reads it.
    #[must_use]
    pub fn figures(&self) -> CgroupMetrics {
        let (memory, files) = self.bytes();
        let total = u64::try_from(self.cpu_time().as_nanos()).unwrap_or(u64::MAX);
        let cpu = CpuStat {
            usage: Some(CpuUsage { total, user: total }),
        };
        let memory = MemoryStat {
            cache: files,
            rss: memory,
            hierarchical_memory_limit: self.max_memory,
            total_cache: files,
            total_rss: memory,
            usage: Some(MemoryEntry {
                limit: self.max_memory,
                usage: memory.saturating_add(files),
            }),
        };
        CgroupMetrics {
            cpu: Some(cpu),
            memory: Some(memory),
        }
    }

    fn wrong_standing(&self, call: &str, wanted: &str) -> Status {
        let is = match self.standing() {
            Standing::Created => "created",
            Standing::Running => "running",
            Standing::Paused => "paused",
            Standing::Stopped(_) => "stopped",
        };
        Status::new(
            Code::FailedPrecondition,
            format_args!(
                "container {}: cannot {call} what is {is}: expected {wanted}",
                self.id
            ),
        )
    }
}

/// Watches when the input of a container ends. That of a pod's container is written by containerd
/// itself, for one client after another, and containerd may be started anew between them.
fn input_end(spec: &ContainerSpec) -> InputEnd {
    match spec.pod {
        Some(_) => InputEnd::WhenTold,
        None => InputEnd::WithWriters,
    }
}

/// How a guest ended, as containerd is told it.
struct Ending {
    code: u32,
    out_of_memory: bool,
    /// What the guest's errors end with.
    words: Option<String>,
}

impl Ending {
    fn failed(why: String) -> Self {
        Self {
            code: 1,
            out_of_memory: false,
            words: Some(why),
        }
    }

    fn of_report(report: Result<RunReport, RunnerError>, signal: Option<u32>) -> Self {
        match report.map(|mut report| report.instances.pop()) {
            Ok(Some(instance)) => Self::of(instance.outcome, signal),
            Ok(None) => Self::failed("the guest did not run".to_owned()),
            Err(error) => Self::failed(error.to_string()),
        }
    }

    fn of(outcome: Outcome, signal: Option<u32>) -> Self {
        let plain = |code| Self {
            code,
            out_of_memory: false,
            words: None,
        };
        match outcome {
            // As a kernel passes codes on.
            Outcome::Exited(code) => plain(u32::from(code.to_le_bytes()[0])),
            Outcome::Stopped => plain(128 + signal.unwrap_or(SIGKILL)),
            Outcome::OutOfMemory(_) => Self {
                code: 128 + SIGKILL,
                out_of_memory: true,
                words: Some(format!("the guest was {outcome}")),
            },
            Outcome::Trapped { message, backtrace } => {
                let text = format!("the guest trapped: {message}\n{backtrace}");
                Self {
                    words: Some(text.trim_end().to_owned()),
                    ..plain(TRAP_CODE)
                }
            }
            other => Self::failed(format!("the guest does not run: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_the_codes_that_processes_have() {
        let of = |outcome, signal| {
            let ending = Ending::of(outcome, signal);
            (ending.code, ending.out_of_memory)
        };
        assert_eq!(of(Outcome::Exited(0), None), (0, false));
        assert_eq!(of(Outcome::Exited(256 + 7), None), (7, false));
        assert_eq!(of(Outcome::Stopped, Some(15)), (143, false));
        assert_eq!(of(Outcome::Stopped, None), (137, false));
        assert_eq!(of(Outcome::OutOfMemory(1), None), (137, true));
        let trap = Outcome::Trapped {
            message: "unreachable".into(),
            backtrace: String::new(),
        };
        assert_eq!(of(trap, None), (134, false));
    }
}
