//! A service with a containerd that notes its events, and guests as text.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, HostDir, RunPlan, RunnerConfig};
use stratafs::vfs::Rights;
use stratafs_shim::config::ShimConfig;
use stratafs_shim::container::Shared;
use stratafs_shim::containerd::Containerd;
use stratafs_shim::events;
use stratafs_shim::messages::*;
use stratafs_shim::service::{SERVICE, TaskService};
use stratafs_shim::status::Status;
use stratafs_shim::ttrpc::{
    self, Answer, Answered, CallError, Client, OpenConnections, ServeBounds,
};
use stratafs_shim::wire::Message;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;

/// Longer than any of it takes.
pub const LONG: Duration = Duration::from_secs(60);

const IMPORTS: &str = r#"
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 3)"#;

/// A program of preview1.
pub fn program(body: &str) -> String {
    format!(
        "(module {IMPORTS}\n (func (export \"_start\") (local $fd i32) (local $n i32)\n{body}))"
    )
}

/// Writes `text`, and exits with `code`.
pub fn says(text: &str, code: u32) -> String {
    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!(
        "(i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const {}))
         (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $exit (i32.const {code}))",
        text.len()
    );
    program(&body).replace(
        "(func (export",
        &format!("(data (i32.const 16) \"{bytes}\") (func (export"),
    )
}

/// Computes for ever.
pub fn spins() -> String {
    program("(loop $l (br $l))")
}

/// Waits for a hundred seconds.
pub fn sleeps() -> String {
    program(
        "(i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const 100000000000))
         (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 8)))",
    )
}

/// Writes what it reads, to the end.
pub fn copies() -> String {
    program(
        "(loop $l
            (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 65536))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (local.set $n (i32.load (i32.const 8)))
            (i32.store (i32.const 4) (local.get $n))
            (if (local.get $n) (then
                (loop $w
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 8))))
                    (i32.store (i32.const 4) (i32.sub (i32.load (i32.const 4)) (i32.load (i32.const 8))))
                    (br_if $w (i32.load (i32.const 4))))
                (br $l))))",
    )
}

/// Writes for ever.
pub fn floods() -> String {
    program(
        "(i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 65536))
         (loop $l
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $l))",
    )
}

/// Writes the content of `name` in whichever directory has it; exits with 9 if none has.
pub fn shows(name: &str) -> String {
    let body = format!(
        "(local.set $fd (i32.const 3))
         (loop $l
            (if (i32.eqz (call $open (local.get $fd) (i32.const 1) (i32.const 16) (i32.const {})
                    (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 12)))
                (then
                    (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 1000))
                    (drop (call $read (i32.load (i32.const 12)) (i32.const 0) (i32.const 1) (i32.const 4)))
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (call $exit (i32.const 0))))
            (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $fd) (i32.const 12))))
         (call $exit (i32.const 9))",
        name.len()
    );
    program(&body).replace(
        "(func (export",
        &format!("(data (i32.const 16) \"{name}\") (func (export"),
    )
}

/// Freezes a program where it first asks for input, and puts what goes on from there into a root, as
/// `stratafs image prepare` keeps it. `args` are its arguments, `host_dirs` what it is shown of the host.
pub fn prepare(root: &Path, program: String, args: &[&str], host_dirs: Vec<HostDir>) {
    let guest = Guest::from_bytes("/app.wasm", program.into_bytes()).unwrap();
    let mut plan = RunPlan::default();
    plan.args = args.iter().map(|&arg| arg.into()).collect();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan.host_dirs = host_dirs;
    plan.furnished = true;
    let config = RunnerConfig::default();
    let frozen = freeze(&guest, &Image::empty(), &plan, &config, &Point::Stdin).unwrap();
    let Freezing::Frozen(checkpoint) = frozen else {
        panic!("{frozen:?}");
    };
    let kept = checkpoint.to_fs().unwrap();
    let dir = root.join(".stratafs/frozen");
    fs::create_dir_all(&dir).unwrap();
    for name in ["program.wasm", "state.json"] {
        let bytes = kept.read(format!("/.stratafs/frozen/{name}").as_str());
        fs::write(dir.join(name), bytes.unwrap()).unwrap();
    }
}

/// Where the node looks for containerd's own services, in its directory.
pub const GRPC: &str = "grpc";

/// A containerd that notes events.
#[derive(Default)]
struct Notes(Mutex<Vec<Envelope>>);

impl Answer for Notes {
    async fn answer(
        self: Arc<Self>,
        _: String,
        method: String,
        payload: Vec<u8>,
    ) -> Result<Answered, Status> {
        assert_eq!(method, "Forward");
        let request = ForwardRequest::decode(&payload).unwrap();
        self.0.lock().push(request.envelope.unwrap());
        Ok(Answered::default())
    }
}

/// A process of the shim, as a thread.
pub struct Node {
    pub dir: TempDir,
    pub socket: PathBuf,
    notes: Arc<Notes>,
    served: Option<JoinHandle<()>>,
}

pub fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

impl Node {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut ShimConfig)) -> Self {
        Self::of(change, usize::MAX)
    }

    pub fn with_room(containers: usize) -> Self {
        Self::of(|_| (), containers)
    }

    fn of(change: impl FnOnce(&mut ShimConfig), containers: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let containerd = dir.path().join("containerd");
        let grpc = dir.path().join(GRPC);
        let mut config = ShimConfig {
            socket_dir: dir.path().join("sockets"),
            cache_dir: PathBuf::new(),
            ..ShimConfig::default()
        };
        change(&mut config);
        let notes = Arc::new(Notes::default());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let served = thread::spawn({
            let (socket, notes) = (socket.clone(), Arc::clone(&notes));
            move || {
                runtime().block_on(async {
                    let events = UnixListener::bind(&containerd).unwrap();
                    let (bounds, open) = (ServeBounds::default(), OpenConnections::default());
                    tokio::spawn(ttrpc::serve(events, notes, bounds, open));
                    let (sender, forwarder) = events::queue("tests", containerd);
                    let forwarder = tokio::spawn(forwarder.run());
                    let containerd = Containerd::at(&grpc.display().to_string(), "tests")
                        .within(Duration::from_secs(2));
                    let shared = Shared::new(config, containerd, sender.clone());
                    let service = Arc::new(
                        TaskService::new(shared, socket.clone(), "first").with_room(containers),
                    );
                    let listener = UnixListener::bind(&socket).unwrap();
                    let answering = tokio::spawn(ttrpc::serve(
                        listener,
                        Arc::clone(&service),
                        bounds,
                        OpenConnections::default(),
                    ));
                    ready.send(()).unwrap();
                    service.wait_for_end().await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    answering.abort();
                    sender.flush().await;
                    forwarder.abort();
                });
            }
        });
        is_ready.recv().unwrap();
        Self {
            dir,
            socket,
            notes,
            served: Some(served),
        }
    }

    /// Makes a call.
    pub fn call<R: Message>(&self, method: &str, request: &impl Message) -> Result<R, CallError> {
        call(&self.socket, method, request)
    }

    /// Makes a call about a container, which does not fail.
    pub fn ask<R: Message>(&self, method: &str, id: &str) -> R {
        self.call(method, &named(id)).unwrap()
    }

    /// The topics of all events of a container, in order.
    pub fn topics(&self, id: &str) -> Vec<String> {
        let notes = self.notes.0.lock();
        let of = notes.iter().filter(|envelope| {
            let event = envelope.event.clone().unwrap();
            TaskNamed::decode(&event.value).unwrap().container_id == id
        });
        of.map(|envelope| envelope.topic.replace("/tasks/", ""))
            .collect()
    }

    /// Waits for an event, which is the last of its container.
    pub fn until(&self, id: &str, topic: &str) -> Vec<String> {
        let start = Instant::now();
        loop {
            let topics = self.topics(id);
            if topics.last().is_some_and(|last| last == topic) {
                return topics;
            }
            assert!(start.elapsed() < LONG, "no event {topic}: {topics:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Begins a bundle whose root has one program.
    pub fn bundle(&self, id: &str, program: &str) -> Bundle {
        Bundle::new(self.dir.path(), id, program)
    }

    /// Asks the process to end, and waits until it has.
    pub fn end(mut self) {
        let _first: Empty = self.ask("Shutdown", "first");
        self.served.take().unwrap().join().unwrap();
        assert!(!self.socket.exists());
    }
}

/// Makes a call at a socket.
pub fn call<R: Message>(
    socket: &Path,
    method: &str,
    request: &impl Message,
) -> Result<R, CallError> {
    runtime().block_on(async {
        let mut client = Client::connect(socket).await?;
        client.call(SERVICE, method, request).await
    })
}

/// A request about a container.
pub fn named(id: &str) -> ProcessRequest {
    ProcessRequest {
        id: id.into(),
        exec_id: String::new(),
    }
}

pub fn signal(id: &str, signal: u32) -> KillRequest {
    KillRequest {
        id: id.into(),
        signal,
        ..KillRequest::default()
    }
}

/// The mount of a container off an image of a store.
pub fn stored_mount(source: &Path, store: &Path, image: &str, more: &[&str]) -> Vec<MountMessage> {
    let own = [
        "rbind".to_owned(),
        "rw".to_owned(),
        format!("x-stratafs.store={}", store.display()),
        format!("x-stratafs.image={image}"),
    ];
    let more = more.iter().map(|&option| option.to_owned());
    vec![MountMessage {
        kind: "bind".into(),
        source: source.to_str().unwrap().into(),
        options: own.into_iter().chain(more).collect(),
        ..MountMessage::default()
    }]
}

/// What refused a call.
pub fn refusal<R: std::fmt::Debug>(result: Result<R, CallError>) -> (u32, String) {
    match result.unwrap_err() {
        CallError::Refused(code, message) => (code, message),
        CallError::Io(error) => panic!("{error}"),
    }
}

/// A bundle of containerd, with FIFOs.
pub struct Bundle {
    pub dir: PathBuf,
    pub spec: Value,
    pub request: CreateTaskRequest,
}

impl Bundle {
    pub fn new(home: &Path, id: &str, program: &str) -> Self {
        let dir = home.join("bundles/tests").join(id);
        fs::create_dir_all(dir.join("rootfs")).unwrap();
        fs::write(dir.join("rootfs/app.wasm"), program).unwrap();
        let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        for name in ["in", "out", "err"] {
            mknodat(
                CWD,
                dir.join(name),
                FileType::Fifo,
                Mode::RUSR | Mode::WUSR,
                0,
            )
            .unwrap();
        }
        let request = CreateTaskRequest {
            id: id.into(),
            bundle: dir.to_str().unwrap().into(),
            stdin: String::new(),
            stdout: path("out"),
            stderr: path("err"),
            ..CreateTaskRequest::default()
        };
        let spec = json!({
            "process": {"args": ["/app.wasm"], "env": ["A=1"], "cwd": "/"},
            "root": {"path": "rootfs"},
        });
        Self { dir, spec, request }
    }

    /// Writes the spec.
    pub fn write(&self) {
        fs::write(self.dir.join("config.json"), self.spec.to_string()).unwrap();
    }

    /// Creates the container.
    pub fn create(&self, node: &Node) -> Result<PidResponse, CallError> {
        self.write();
        node.call("Create", &self.request)
    }

    /// Creates and starts the container.
    pub fn start(&self, node: &Node) {
        self.create(node).unwrap();
        let _pid: PidResponse = node.ask("Start", &self.request.id);
    }

    /// Opens a FIFO to read from, before anybody writes.
    pub fn open(&self, name: &str) -> Output {
        let mut options = OpenOptions::new();
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let options = std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), flags);
        Output(options.open(self.dir.join(name)).unwrap())
    }

    /// Runs the container to its end; returns its code, output and errors.
    pub fn run(&self, node: &Node) -> (u32, String, String) {
        let (out, err) = (self.open("out"), self.open("err"));
        self.start(node);
        let ended: WaitResponse = node.ask("Wait", &self.request.id);
        let (out, err) = (out.text(), err.text());
        let _gone: DeleteResponse = node.ask("Delete", &self.request.id);
        (ended.exit_status, out, err)
    }
}

/// The end of a FIFO that is read.
pub struct Output(File);

impl Output {
    /// Reads what is there now, one piece.
    pub fn piece(&mut self) -> Vec<u8> {
        let mut buf = vec![0; 65536];
        match self.0.read(&mut buf) {
            Ok(read) => {
                buf.truncate(read);
                buf
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Vec::new(),
            Err(error) => panic!("{error}"),
        }
    }

    /// Reads all that was written by one who has gone.
    pub fn text(mut self) -> String {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// Opens the FIFO that a guest reads, once it does.
pub fn input(bundle: &Bundle) -> impl Write {
    OpenOptions::new()
        .write(true)
        .open(bundle.dir.join("in"))
        .unwrap()
}
