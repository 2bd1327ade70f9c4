//! The task service: each call of containerd, by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::container::{Container, Exit, Shared, Standing};
use crate::figures::NodeFigures;
use crate::limits::{MAX_CONTAINERS, MAX_ID_BYTES};
use crate::log::{self, LogLevel, log_line};
use crate::messages::{
    AnyMessage, CloseIoRequest, ConnectResponse, ContainerRequest, CreateTaskRequest,
    DeleteResponse, Empty, KillRequest, PidResponse, PidsResponse, ProcessInfo, ProcessRequest,
    ShutdownRequest, StateResponse, StatsResponse, TaskCreate, TaskDelete, TaskIo, Timestamp,
    WaitResponse,
};
use crate::rootfs::RootDirs;
use crate::spec::climbs;
use crate::status::{Code, Status};
use crate::throttle;
use crate::trace::CallSpan;
use crate::ttrpc::{Answer, Answered};
use crate::wire::Message;

/// The name of the service.
pub const SERVICE: &str = "containerd.task.v2.Task";

/// How long a process without containers waits for one that was announced.
const ANNOUNCED_PATIENCE: Duration = Duration::from_secs(60);

/// How often a process looks whether it is needed, and what it keeps of images that are gone.
const LOOKING_INTERVAL: Duration = Duration::from_secs(15);

/// The type of figures that containerd reads.
const METRICS: &str = "io.containerd.cgroups.v1.Metrics";

/// The containers of a process, and the calls about them.
pub struct TaskService {
    shared: Arc<Shared>,
    state: Mutex<ServiceState>,
    /// Wakes who waits for the end of the process.
    ended: Notify,
    /// The socket, which goes when no more calls are taken.
    socket: PathBuf,
    pid: u32,
    /// Containers that may be there at a time.
    room: usize,
}

#[derive(Default)]
struct ServiceState {
    containers: HashMap<String, NamedContainer>,
    /// Containers that somebody has said will be made, and when that was.
    announced: HashMap<String, Instant>,
    ends: bool,
    /// Containers that were made, and that could not be made.
    made: u64,
    refused: u64,
    /// Time of processors of containers that are gone.
    spent: Duration,
}

/// What a name stands for.
enum NamedContainer {
    /// A container that is being made.
    Making {
        /// Whether it has been killed or deleted meanwhile. Whoever gives up a call to make one says so.
        abandoned: bool,
    },
    /// A container.
    Made(Arc<Container>),
}

impl NamedContainer {
    fn made(&self) -> Option<&Arc<Container>> {
        match self {
            Self::Making { .. } => None,
            Self::Made(container) => Some(container),
        }
    }
}

impl TaskService {
    /// Begins without containers; the first one is announced under its name.
    #[must_use]
    pub fn new(shared: Shared, socket: PathBuf, first: &str) -> Self {
        let mut state = ServiceState::default();
        state.announced.insert(first.to_owned(), Instant::now());
        Self {
            shared: Arc::new(shared),
            state: Mutex::new(state),
            ended: Notify::new(),
            socket,
            pid: std::process::id(),
            room: usize::try_from(MAX_CONTAINERS).unwrap_or(usize::MAX),
        }
    }

    /// Has room for so many containers, and no more than [`MAX_CONTAINERS`].
    #[must_use]
    pub fn with_room(mut self, containers: usize) -> Self {
        self.room = self.room.min(containers);
        self
    }

    /// Waits until the process is to end: it was asked to, and there is no container, and none
    /// was announced that may come still.
    pub async fn wait_for_end(&self) {
        loop {
            let _looked = tokio::time::timeout(LOOKING_INTERVAL, self.ended.notified()).await;
            self.shared.roots.forget_removed();
            let mut state = self.state.lock();
            state
                .announced
                .retain(|_, since| since.elapsed() < ANNOUNCED_PATIENCE);
            if self.try_end(&mut state) {
                return;
            }
        }
    }

    /// Takes no more calls if nobody needs this process any more.
    fn try_end(&self, state: &mut ServiceState) -> bool {
        if state.containers.is_empty() && state.announced.is_empty() && !state.ends {
            state.ends = true;
            // Whoever is refused from now on finds the name free for another process.
            let _gone = std::fs::remove_file(&self.socket);
        }
        state.ends
    }

    fn container(&self, id: &str) -> Result<Arc<Container>, Status> {
        let state = self.state.lock();
        let found = state.containers.get(id).and_then(NamedContainer::made);
        found.map(Arc::clone).ok_or_else(|| not_found(id))
    }

    /// Finds a container that is to end. One that is still being made is not there for anybody, and
    /// goes as soon as it is.
    fn ending(&self, id: &str, exec_id: &str) -> Result<Arc<Container>, Status> {
        if exec_id.is_empty()
            && let Some(NamedContainer::Making { abandoned }) =
                self.state.lock().containers.get_mut(id)
        {
            *abandoned = true;
        }
        self.process(id, exec_id)
    }

    /// Finds the container of a request that is about its first process.
    fn process(&self, id: &str, exec_id: &str) -> Result<Arc<Container>, Status> {
        if !exec_id.is_empty() {
            return Err(Status::new(
                Code::NotFound,
                format_args!("container {id}: there is no process {exec_id:?} in it"),
            ));
        }
        self.container(id)
    }

    async fn create(&self, request: CreateTaskRequest) -> Result<PidResponse, Status> {
        check(&request)?;
        let id = request.id.clone();
        self.claim(&id)?;
        let shared = Arc::clone(&self.shared);
        let made = tokio::task::spawn_blocking(move || Container::create(&shared, request)).await;
        let made = made
            .unwrap_or_else(|_| Err(Status::internal("the runtime failed to make the container")));
        let mut state = self.state.lock();
        let abandoned = matches!(
            state.containers.get(&id),
            Some(NamedContainer::Making { abandoned: true })
        );
        match made {
            Ok(_) if abandoned => {
                state.containers.remove(&id);
                state.refused += 1;
                let text = format!("container {id}: it was deleted while it was made");
                log_line(LogLevel::Info, &id, format_args!("refused: {text}"));
                Err(Status::new(Code::NotFound, text))
            }
            Ok(container) => {
                let created = created(&container, self.pid);
                log::add_reader(&id, &container.request.bundle);
                log_line(LogLevel::Info, &id, format_args!("made"));
                state
                    .containers
                    .insert(id, NamedContainer::Made(Arc::new(container)));
                state.made += 1;
                self.shared
                    .events
                    .send("/tasks/create", "TaskCreate", &created);
                Ok(PidResponse { pid: self.pid })
            }
            Err(status) => {
                state.containers.remove(&id);
                state.refused += 1;
                log_line(LogLevel::Info, &id, format_args!("refused: {status}"));
                Err(status)
            }
        }
    }

    /// Takes a name for a container that is made now.
    fn claim(&self, id: &str) -> Result<(), Status> {
        let mut state = self.state.lock();
        if state.ends {
            return Err(Status::new(
                Code::Unavailable,
                "this process is about to end",
            ));
        }
        state.announced.remove(id);
        if state.containers.contains_key(id) {
            let text = format!("container {id}: there is one of that name");
            return Err(Status::new(Code::AlreadyExists, text));
        }
        if state.containers.len() >= self.room {
            let text = format!("there are {} containers, which is the limit", self.room);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let making = NamedContainer::Making { abandoned: false };
        state.containers.insert(id.to_owned(), making);
        Ok(())
    }

    fn delete(&self, request: &ProcessRequest) -> Result<DeleteResponse, Status> {
        let container = self.ending(&request.id, &request.exec_id)?;
        if container.standing() == Standing::Created {
            // It has ended when this returns.
            drop(container.kill(crate::container::SIGKILL, self.pid)?);
        }
        let Standing::Stopped(exit) = container.standing() else {
            return Err(Status::new(
                Code::FailedPrecondition,
                format_args!("container {}: it runs still: kill it first", request.id),
            ));
        };
        {
            let mut state = self.state.lock();
            if state.containers.remove(&request.id).is_none() {
                return Err(not_found(&request.id));
            }
            state.spent = state.spent.saturating_add(container.cpu_time());
        }
        log::forget_reader(&request.id);
        let exited_at = Some(Timestamp::of(exit.at));
        let deleted = TaskDelete {
            container_id: request.id.clone(),
            pid: self.pid,
            exit_status: exit.code,
            exited_at: exited_at.clone(),
            id: String::new(),
        };
        self.shared
            .events
            .send("/tasks/delete", "TaskDelete", &deleted);
        Ok(DeleteResponse {
            pid: self.pid,
            exit_status: exit.code,
            exited_at,
        })
    }

    fn state(&self, request: &ProcessRequest) -> Result<StateResponse, Status> {
        let container = self.process(&request.id, &request.exec_id)?;
        let (status, exit) = match container.standing() {
            Standing::Created => (1, None),
            Standing::Running => (2, None),
            Standing::Stopped(exit) => (3, Some(exit)),
            Standing::Paused => (4, None),
        };
        let request = &container.request;
        Ok(StateResponse {
            id: container.id.clone(),
            bundle: request.bundle.clone(),
            pid: self.pid,
            status,
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: false,
            exit_status: exit.map_or(0, |exit| exit.code),
            exited_at: exit.map(|exit| Timestamp::of(exit.at)),
            exec_id: String::new(),
        })
    }

    async fn wait(&self, request: &ProcessRequest) -> Result<WaitResponse, Status> {
        let container = self.process(&request.id, &request.exec_id)?;
        let Exit { code, at } = container.wait().await;
        Ok(WaitResponse {
            exit_status: code,
            exited_at: Some(Timestamp::of(at)),
        })
    }

    /// Returns the digest of the manifest of the image that a request to make a container names, if that
    /// is one of a store.
    fn manifest_of(&self, payload: &[u8]) -> Option<String> {
        let request = CreateTaskRequest::decode(payload).ok()?;
        let dirs = RootDirs::of(&request.rootfs, Path::new("/")).ok()?;
        self.shared.roots.manifest_of(&dirs)
    }

    fn stats(&self, request: &ContainerRequest) -> Result<StatsResponse, Status> {
        let metrics = self.container(&request.id)?.figures();
        Ok(StatsResponse {
            stats: Some(AnyMessage::of(METRICS, &metrics)),
        })
    }

    /// Counts what there is now.
    #[must_use]
    pub fn figures(&self) -> NodeFigures {
        let state = self.state.lock();
        let events = &self.shared.events;
        let mut figures = NodeFigures {
            cpu: state.spent,
            made: state.made,
            refused: state.refused,
            events_lost: events.lost(),
            events_waiting: u64::try_from(events.waiting()).unwrap_or(u64::MAX),
            ..NodeFigures::default()
        };
        for container in state.containers.values().filter_map(NamedContainer::made) {
            match container.standing() {
                Standing::Created => figures.created += 1,
                Standing::Running => figures.running += 1,
                Standing::Paused => figures.paused += 1,
                Standing::Stopped(_) => figures.stopped += 1,
            }
            let (memory, files) = container.bytes();
            figures.memory = figures.memory.saturating_add(memory);
            figures.files = figures.files.saturating_add(files);
            figures.cpu = figures.cpu.saturating_add(container.cpu_time());
        }
        figures
    }

    /// Says who answers. Whoever asks for a container that is not there is about to make it.
    fn connect(&self, request: &ContainerRequest) -> Result<ConnectResponse, Status> {
        let mut state = self.state.lock();
        if state.ends {
            return Err(Status::new(
                Code::Unavailable,
                "this process is about to end",
            ));
        }
        if !state.containers.contains_key(&request.id) {
            check_id(&request.id)?;
            if state.announced.len() >= self.room {
                let text = format!("{} containers are announced, which is the limit", self.room);
                return Err(Status::new(Code::ResourceExhausted, text));
            }
            state.announced.insert(request.id.clone(), Instant::now());
        }
        Ok(ConnectResponse {
            shim_pid: self.pid,
            task_pid: self.pid,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    /// Ends the process if nobody needs it: `now` is no reason to end others' containers.
    fn shutdown(&self, request: &ShutdownRequest) -> Empty {
        let mut state = self.state.lock();
        state.announced.remove(&request.id);
        if self.try_end(&mut state) {
            self.ended.notify_one();
        }
        Empty
    }

    async fn call(&self, method: &str, payload: &[u8]) -> Result<Answered, Status> {
        let message = match method {
            "State" => self.state(&read(payload)?)?.encode(),
            "Create" => self.create(read(payload)?).await?.encode(),
            "Start" => {
                let request: ProcessRequest = read(payload)?;
                let container = self.process(&request.id, &request.exec_id)?;
                container.start(self.pid)?;
                throttle::begin(&container);
                PidResponse { pid: self.pid }.encode()
            }
            "Delete" => self.delete(&read(payload)?)?.encode(),
            "Pids" => {
                let request: ContainerRequest = read(payload)?;
                self.container(&request.id)?;
                let processes = vec![ProcessInfo { pid: self.pid }];
                PidsResponse { processes }.encode()
            }
            "Pause" => {
                let request: ContainerRequest = read(payload)?;
                self.container(&request.id)?.pause()?;
                Empty.encode()
            }
            "Resume" => {
                let request: ContainerRequest = read(payload)?;
                self.container(&request.id)?.resume()?;
                Empty.encode()
            }
            "Kill" => {
                let request: KillRequest = read(payload)?;
                let container = self.ending(&request.id, &request.exec_id)?;
                let after = container.kill(request.signal, self.pid)?;
                let payload = Empty.encode();
                return Ok(Answered { payload, after });
            }
            "CloseIO" => {
                let request: CloseIoRequest = read(payload)?;
                let container = self.process(&request.id, &request.exec_id)?;
                if request.stdin {
                    container.close_input();
                }
                Empty.encode()
            }
            "Wait" => self.wait(&read(payload)?).await?.encode(),
            "Stats" => self.stats(&read(payload)?)?.encode(),
            "Connect" => self.connect(&read(payload)?)?.encode(),
            "Shutdown" => self.shutdown(&read(payload)?).encode(),
            "Exec" => {
                return Err(unimplemented(
                    "exec",
                    "a guest is one program: run another container",
                ));
            }
            "ResizePty" => return Err(unimplemented("resize", "a guest has no terminal")),
            "Update" => {
                return Err(unimplemented(
                    "update",
                    "bounds are set when a container is made",
                ));
            }
            "Checkpoint" => return Err(unimplemented("checkpoint", "containers are not frozen")),
            _ => {
                return Err(Status::new(
                    Code::Unimplemented,
                    format_args!("no method {method:?}"),
                ));
            }
        };
        Ok(message.into())
    }
}

impl Answer for TaskService {
    async fn answer(
        self: Arc<Self>,
        service: String,
        method: String,
        payload: Vec<u8>,
    ) -> Result<Answered, Status> {
        if service != SERVICE {
            return Err(Status::new(
                Code::Unimplemented,
                format_args!("no service {service:?}: expected {SERVICE}"),
            ));
        }
        let span = CallSpan::begin(&method, &payload);
        let answered = self.call(&method, &payload).await;
        let said = answered.as_ref().map(|reply| reply.payload.as_slice());
        span.end(said, || self.manifest_of(&payload));
        answered
    }
}

fn read<M: Message>(payload: &[u8]) -> Result<M, Status> {
    M::decode(payload).map_err(Status::invalid)
}

fn not_found(id: &str) -> Status {
    Status::new(
        Code::NotFound,
        format_args!("container {id:?}: there is none"),
    )
}

fn unimplemented(call: &str, why: &str) -> Status {
    Status::new(
        Code::Unimplemented,
        format_args!("{call}: not done here: {why}"),
    )
}

/// Refuses names that containerd would not give.
fn check_id(id: &str) -> Result<(), Status> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(plain) || id.starts_with('.') {
        return Err(Status::invalid(format_args!(
            "id {id:?}: expected 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` and `.`"
        )));
    }
    Ok(())
}

fn check(request: &CreateTaskRequest) -> Result<(), Status> {
    check_id(&request.id)?;
    if !request.bundle.starts_with('/') || climbs(&request.bundle) {
        return Err(Status::invalid(format_args!(
            "bundle {:?}: expected an absolute path without `..`",
            request.bundle
        )));
    }
    Ok(())
}

fn created(container: &Container, pid: u32) -> TaskCreate {
    let request = &container.request;
    TaskCreate {
        container_id: container.id.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        io: Some(TaskIo {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: false,
        }),
        checkpoint: String::new(),
        pid,
    }
}
