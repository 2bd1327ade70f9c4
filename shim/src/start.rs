//! The program: how containerd starts it, and the process that stays.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use stratafs::digest::Digest;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::config::{CONFIG_VARIABLE, Isolation, ShimConfig};
use crate::container::{SIGKILL, Shared};
use crate::containerd::Containerd;
use crate::events;
use crate::log::{self, LogLevel};
use crate::messages::{
    ConnectResponse, ContainerRequest, DeleteResponse, Empty, KillRequest, ProcessRequest,
    Timestamp, WaitResponse,
};
use crate::metrics;
use crate::service::{SERVICE, TaskService};
use crate::spec::ContainerSpec;
use crate::status::Code;
use crate::trace;
use crate::ttrpc::{self, CALL_PATIENCE, CallError, Client, OpenConnections, ServeBounds};
use crate::wire::Message;

/// How long the last events are offered when the process ends.
const LAST_EVENTS_PATIENCE: Duration = Duration::from_secs(2);

/// How long a process that nobody needs any more answers who is connected still. containerd has a
/// connection for each container, and asks over it about one that has just been deleted: whoever
/// stops a pod and whoever heard of its end are two. They are told that it is gone, and leave.
const LEAVING_PATIENCE: Duration = Duration::from_secs(5);

/// What containerd says where its events go.
const EVENTS_VARIABLE: &str = "TTRPC_ADDRESS";

/// How the program is used, for who starts it by hand.
pub const USAGE: &str =
    "usage: containerd-shim-stratafs-v1 -namespace NAME -address SOCKET -id CONTAINER start|delete
containerd starts this program; docs/CONTAINERD.md says how to set it up.";

/// What the program was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShimArgs {
    /// The namespace of containerd.
    pub namespace: String,
    /// The socket of containerd.
    pub address: String,
    /// The container.
    pub id: String,
    /// Its bundle; else the working directory is it.
    pub bundle: String,
    /// The socket to answer at: of the process that stays.
    pub socket: String,
    /// `start`, `delete`, or `serve` for the process that stays.
    pub action: String,
    /// Whether only the version is asked for.
    pub version: bool,
}

impl ShimArgs {
    /// Reads arguments, which are written as Go has them: `-name value` or `-name=value`.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut args = Self::default();
        let mut words = words.into_iter();
        let mut unused = String::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix('-') else {
                if !args.action.is_empty() {
                    return Err(format!("one action too many: {word:?}"));
                }
                args.action = word;
                continue;
            };
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, given) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            let field = match name {
                "v" | "version" => {
                    args.version = true;
                    continue;
                }
                "debug" => continue,
                "namespace" => &mut args.namespace,
                "address" => &mut args.address,
                "id" => &mut args.id,
                "bundle" => &mut args.bundle,
                "socket" => &mut args.socket,
                // Events go over the socket of containerd, not by way of a program.
                "publish-binary" => &mut unused,
                _ => return Err(format!("no flag -{name}")),
            };
            let value = given.or_else(|| words.next());
            *field = value.ok_or_else(|| format!("-{name}: its value is missing"))?;
        }
        Ok(args)
    }
}

/// Does what the program was told.
///
/// # Errors
/// What failed, on one line.
pub fn run(args: &ShimArgs) -> Result<(), String> {
    let named = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty());
    let config = ShimConfig::load(named.as_deref().map(Path::new))?;
    match args.action.as_str() {
        "start" => {
            let address = start(args, &config)?;
            let mut out = io::stdout().lock();
            out.write_all(address.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|error| format!("stdout: {error}"))
        }
        "delete" => {
            let response = delete(args)?.encode();
            let mut out = io::stdout().lock();
            out.write_all(&response)
                .and_then(|()| out.flush())
                .map_err(|error| format!("stdout: {error}"))
        }
        "serve" => serve(args, config),
        other => Err(format!("no action {other:?}: expected start or delete")),
    }
}

fn runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot make a runtime: {error}"))
}

/// Names the socket of the process that a container belongs to. Other versions of the program
/// have other processes, so that one can be put beside another while containers run.
fn socket_of(args: &ShimArgs, config: &ShimConfig) -> Result<PathBuf, String> {
    let group = match config.isolation {
        Isolation::Node => "node".to_owned(),
        Isolation::Pod => {
            let spec = ContainerSpec::read(&bundle(args)?).map_err(|status| status.message)?;
            spec.pod.unwrap_or_else(|| args.id.clone())
        }
    };
    let key = format!(
        "{}\0{}\0{}\0{group}\0{}",
        args.address,
        args.namespace,
        env!("CARGO_PKG_VERSION"),
        program_identity()
    );
    let digest = Digest::of(key.as_bytes()).to_string();
    // A socket's path has 108 bytes at most.
    let name = digest.rsplit(':').next().unwrap_or_default().get(..32);
    Ok(config.socket_dir.join(name.unwrap_or_default()))
}

/// Returns what differs between builds of one version.
fn program_identity() -> String {
    use std::os::unix::fs::MetadataExt;
    let meta = std::env::current_exe().and_then(fs::metadata);
    meta.map_or_else(
        |_| String::new(),
        |meta| format!("{}:{}:{}", meta.dev(), meta.ino(), meta.mtime()),
    )
}

fn bundle(args: &ShimArgs) -> Result<PathBuf, String> {
    match args.bundle.is_empty() {
        false => Ok(PathBuf::from(&args.bundle)),
        true => std::env::current_dir().map_err(|error| format!("working directory: {error}")),
    }
}

/// Finds the process for a container, or leaves one behind, and returns its address.
fn start(args: &ShimArgs, config: &ShimConfig) -> Result<String, String> {
    for (name, value) in [
        ("namespace", &args.namespace),
        ("address", &args.address),
        ("id", &args.id),
    ] {
        if value.is_empty() {
            return Err(format!("-{name} is missing"));
        }
    }
    let socket = socket_of(args, config)?;
    let said = |error: io::Error| format!("{}: {error}", socket.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.socket_dir)
        .map_err(|error| format!("{}: {error}", config.socket_dir.display()))?;
    // Two that start at once come one after the other.
    let _lock = StartLock::take(socket.with_extension("lock")).map_err(said)?;
    let address = format!("unix://{}", socket.display());
    let answered = runtime()?.block_on(announce(&socket, &args.id));
    if answered.map_err(|why| format!("{}: {why}", socket.display()))? == Answerer::Gone {
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(said(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(said)?;
        leave_behind(args, &socket, listener)?;
    }
    let bundle = bundle(args)?;
    // containerd finds the process by it when it is started anew.
    let temporary = bundle.join(".address");
    fs::write(&temporary, &address)
        .and_then(|()| fs::rename(&temporary, bundle.join("address")))
        .map_err(|error| format!("{}: {error}", bundle.display()))?;
    Ok(address)
}

/// A lock that leaves no file behind.
struct StartLock {
    path: PathBuf,
    _file: File,
}

impl StartLock {
    /// Waits for the lock.
    fn take(path: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        loop {
            let file = File::create(&path)?;
            flock(file.as_fd(), FlockOperation::LockExclusive)?;
            // Whoever had it before has removed the file, perhaps after it was opened here.
            let (opened, named) = (file.metadata()?, fs::metadata(&path));
            if named.is_ok_and(|named| named.ino() == opened.ino()) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for StartLock {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

/// Whether a process takes a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answerer {
    /// It does.
    There,
    /// There is none, or it is about to end: another may have its address.
    Gone,
}

/// Announces a container to a process. One that is there and does not answer, or has no room, keeps its
/// address: beside another, its containers would be nobody's.
async fn announce(socket: &Path, id: &str) -> Result<Answerer, String> {
    let asked = async {
        loop {
            match connect(socket, id).await {
                Ok(ConnectResponse { .. }) => return Ok(Answerer::There),
                Err(CallError::Refused(code, _)) if code == Code::Unavailable as u32 => {
                    return Ok(Answerer::Gone);
                }
                Err(CallError::Refused(_, text)) => return Err(text),
                Err(CallError::Io(error)) if has_gone(&error) => return Ok(Answerer::Gone),
                // It ends just now, or has no descriptor left for one more who asks.
                Err(CallError::Io(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let why =
        "the process of the runtime does not answer: it is stopped, or has no descriptor left";
    timeout(CALL_PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(why.to_owned()))
}

async fn connect(socket: &Path, id: &str) -> Result<ConnectResponse, CallError> {
    let mut client = Client::connect(socket).await?;
    let request = ContainerRequest { id: id.to_owned() };
    client.call(SERVICE, "Connect", &request).await
}

/// Starts the process that stays. Its standard input is the socket.
fn leave_behind(args: &ShimArgs, socket: &Path, listener: UnixListener) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let log = log::open_log(&bundle(args)?);
    let spawned = Command::new(&program)
        .arg("-namespace")
        .arg(&args.namespace)
        .arg("-address")
        .arg(&args.address)
        .arg("-id")
        .arg(&args.id)
        .arg("-socket")
        .arg(socket)
        .arg("serve")
        .current_dir("/")
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(log.map_or_else(|_| Stdio::null(), Stdio::from))
        .process_group(0)
        .spawn();
    match spawned {
        Ok(_) => Ok(()),
        Err(error) => {
            let _gone = fs::remove_file(socket);
            Err(format!("{}: {error}", program.display()))
        }
    }
}

/// Is the process that stays, until the last container has gone.
fn serve(args: &ShimArgs, config: ShimConfig) -> Result<(), String> {
    let listener = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixListener::from);
    let listener = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = listener.map_err(|error| format!("standard input is not a socket: {error}"))?;
    let containerd = std::env::var(EVENTS_VARIABLE)
        .ok()
        .filter(|address| !address.is_empty());
    let containerd = containerd.unwrap_or_else(|| format!("{}.ttrpc", args.address));
    let containerd = containerd
        .strip_prefix("unix://")
        .unwrap_or(&containerd)
        .into();
    let runtime = runtime()?;
    log::choose(config.log_format, config.log_level);
    take_descriptors();
    // As OpenTelemetry has it: what cannot be traced is done all the same.
    if let Err(what) = trace::begin() {
        log::log_line(
            LogLevel::Error,
            "",
            format_args!("no spans are sent: {what}"),
        );
    }
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener);
        let listener =
            listener.map_err(|error| format!("standard input is not a socket: {error}"))?;
        let (sender, forwarder) = events::queue(&args.namespace, containerd);
        let forwarder = tokio::spawn(forwarder.run());
        let metrics = listen_for_metrics(&config.metrics_address).await;
        let version = env!("CARGO_PKG_VERSION");
        let text = format_args!("version {version} answers at {}", args.socket);
        log::log_line(LogLevel::Info, "", text);
        let containerd = Containerd::at(&args.address, &args.namespace);
        let shared = Shared::new(config, containerd, sender.clone());
        let service = Arc::new(TaskService::new(
            shared,
            args.socket.clone().into(),
            &args.id,
        ));
        let open = OpenConnections::default();
        let answering = tokio::spawn(ttrpc::serve(
            listener,
            Arc::clone(&service),
            ServeBounds::default(),
            open.clone(),
        ));
        let metrics = metrics.map(|metrics| {
            let service = Arc::clone(&service);
            tokio::spawn(metrics::serve(metrics, move || service.figures()))
        });
        service.wait_for_end().await;
        // The next process may have the address.
        if let Some(metrics) = metrics {
            metrics.abort();
        }
        leave(&open).await;
        answering.abort();
        let _passed_on = timeout(LAST_EVENTS_PATIENCE, sender.flush()).await;
        forwarder.abort();
        trace::end();
        Ok(())
    })
}

/// Takes as many descriptors as the process may have. Units of systemd have a low limit for programs
/// that wait for descriptors by `select`, and a high one for others.
fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        let text = format_args!("descriptors: the limit stays as it is: {error}");
        log::log_line(LogLevel::Warn, "", text);
    }
}

/// Waits until everybody who was connected has left, which is bounded. The socket has no name any
/// more: nobody comes anew.
async fn leave(open: &OpenConnections) {
    // Who has connected already, and is not known yet, is by then.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _bounded = timeout(LEAVING_PATIENCE, open.closed()).await;
}

/// Listens where figures are asked for. That nobody can ask for them is no reason to run no
/// containers.
async fn listen_for_metrics(address: &str) -> Option<TcpListener> {
    if address.is_empty() {
        return None;
    }
    let bound = TcpListener::bind(address).await;
    bound
        .inspect_err(|error| {
            let text = format_args!("metrics-address {address}: {error}");
            log::log_line(LogLevel::Error, "", text);
        })
        .ok()
}

/// Cleans up after a container whose process does not answer, or takes it away from one that
/// does, and says how it ended.
fn delete(args: &ShimArgs) -> Result<DeleteResponse, String> {
    let bundle = bundle(args)?;
    let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
    if let Some(socket) = address.trim().strip_prefix("unix://").map(Path::new) {
        let ended = async { timeout(CALL_PATIENCE, until_ended(socket, &args.id)).await };
        match runtime()?.block_on(ended) {
            Ok(Err(CallError::Io(error))) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let _gone = fs::remove_file(socket);
            }
            _ => {}
        }
    }
    Ok(DeleteResponse {
        pid: 0,
        exit_status: 128 + SIGKILL,
        exited_at: Some(Timestamp::of(SystemTime::now())),
    })
}

/// Ends a container by the process that it is of. One that is just being killed may hear the question and
/// not answer any more: it is asked again until it has gone.
async fn until_ended(socket: &Path, id: &str) -> Result<(), CallError> {
    loop {
        match end_container(socket, id).await {
            Err(CallError::Io(error)) if !has_gone(&error) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ended => return ended,
        }
    }
}

/// Returns whether nobody listens at a socket.
fn has_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

async fn end_container(socket: &Path, id: &str) -> Result<(), CallError> {
    let mut client = Client::connect(socket).await?;
    let kill = KillRequest {
        id: id.to_owned(),
        signal: SIGKILL,
        all: true,
        ..KillRequest::default()
    };
    let process = ProcessRequest {
        id: id.to_owned(),
        ..ProcessRequest::default()
    };
    let killed = client.call::<Empty>(SERVICE, "Kill", &kill).await;
    if killed.is_ok() {
        client
            .call::<WaitResponse>(SERVICE, "Wait", &process)
            .await?;
    }
    client
        .call::<DeleteResponse>(SERVICE, "Delete", &process)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<ShimArgs, String> {
        ShimArgs::parse(words.split(' ').map(str::to_owned))
    }

    #[test]
    fn arguments_are_written_as_go_has_them() {
        let args = parse(
            "-namespace k8s.io --address=/run/c.sock -publish-binary containerd -debug -id a start",
        );
        let want = ShimArgs {
            namespace: "k8s.io".into(),
            address: "/run/c.sock".into(),
            id: "a".into(),
            action: "start".into(),
            ..ShimArgs::default()
        };
        assert_eq!(args, Ok(want));
        assert!(parse("-v").unwrap().version);
        assert_eq!(parse("-id"), Err("-id: its value is missing".into()));
        assert_eq!(parse("-ids a start"), Err("no flag -ids".into()));
        assert_eq!(
            parse("start start"),
            Err("one action too many: \"start\"".into())
        );
    }

    #[test]
    fn a_lock_is_one_at_a_time_and_leaves_no_file() {
        use std::sync::atomic::{AtomicU32, Ordering};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let (holders, taken) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let lock = StartLock::take(path.clone()).unwrap();
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        taken.fetch_add(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 400);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn containers_of_a_node_share_a_process_and_those_of_pods_do_not() {
        let bundle = tempfile::tempdir().unwrap();
        let text = r#"{"annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "POD"}}"#;
        let of = |isolation, id: &str, namespace: &str, pod: &str| {
            fs::write(bundle.path().join("config.json"), text.replace("POD", pod)).unwrap();
            let args = ShimArgs {
                namespace: namespace.into(),
                id: id.into(),
                bundle: bundle.path().to_str().unwrap().into(),
                ..ShimArgs::default()
            };
            let config = ShimConfig {
                isolation,
                ..ShimConfig::default()
            };
            socket_of(&args, &config).unwrap()
        };
        let node = of(Isolation::Node, "a", "n", "p");
        assert!(node.as_os_str().len() < 100, "{node:?}");
        assert_eq!(node, of(Isolation::Node, "b", "n", "q"));
        assert_ne!(node, of(Isolation::Node, "a", "m", "p"));
        assert_eq!(
            of(Isolation::Pod, "a", "n", "p"),
            of(Isolation::Pod, "b", "n", "p")
        );
        assert_ne!(
            of(Isolation::Pod, "a", "n", "p"),
            of(Isolation::Pod, "a", "n", "q")
        );
    }
}
