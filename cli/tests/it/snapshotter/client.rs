//! A snapshotter that runs, and a client that speaks to it as containerd does: gRPC over a Unix socket.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;

use super::proto::*;
use crate::Cli;

/// What refused a call: gRPC's code, and why.
pub type Refused = (i32, String);

pub const INVALID: i32 = 3;
pub const NOT_FOUND: i32 = 5;
pub const EXISTS: i32 = 6;
pub const EXHAUSTED: i32 = 8;
pub const PRECONDITION: i32 = 9;

/// A snapshotter that runs.
pub struct Snapshotter {
    child: Child,
    errors: BufReader<ChildStderr>,
    pub root: PathBuf,
    pub socket: PathBuf,
}

impl Snapshotter {
    /// Starts one with the root `snapshots` and the store `store`, and waits until it answers.
    pub fn start(cli: &Cli, more: &str) -> Self {
        let words = format!("snapshotter --root snapshots --address run/s.sock {more}");
        let program = cli.command(&words);
        // As it is where a file may not grow: writes fail, and the program goes on.
        let mut command = Command::new("sh");
        command
            .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
            .arg(program.get_program())
            .args(program.get_args())
            .envs(
                program
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .current_dir(cli.dir.path())
            .stdin(Stdio::null());
        command
            .env("DOCKER_CONFIG", cli.path("docker"))
            .env_remove("REGISTRY_AUTH_FILE")
            .stderr(Stdio::piped());
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ] {
            command.env_remove(name);
        }
        let mut child = command.spawn().unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        errors.read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on "), "{line}");
        Self {
            child,
            errors,
            root: cli.path("snapshots"),
            socket: cli.path("run/s.sock"),
        }
    }

    /// Bounds the files that it may write from now on.
    pub fn bound_files(&self, bytes: Option<u64>) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let limit = rustix::process::Rlimit {
            current: bytes,
            maximum: None,
        };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, limit).unwrap();
    }

    /// Kills it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end; returns what it had to say.
    pub fn end(mut self) -> String {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        assert!(!self.socket.exists());
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        said
    }

    /// Makes a call; returns all messages of the answer.
    pub fn call<R: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<Vec<R>, Refused> {
        call(&self.socket, method, request)
    }

    fn one<R: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
    ) -> Result<R, Refused> {
        let mut all = self.call(method, request)?;
        assert_eq!(all.len(), 1);
        Ok(all.remove(0))
    }

    pub fn prepare(
        &self,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Refused> {
        self.begin("Prepare", key, parent, labels)
    }

    pub fn view(&self, key: &str, parent: &str) -> Result<Vec<Mount>, Refused> {
        self.begin("View", key, parent, &[])
    }

    fn begin(
        &self,
        method: &str,
        key: &str,
        parent: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Refused> {
        let request = PrepareRequest {
            key: key.into(),
            parent: parent.into(),
            labels: map(labels),
        };
        Ok(self.one::<MountsAnswer>(method, &request)?.mounts)
    }

    pub fn mounts(&self, key: &str) -> Result<Vec<Mount>, Refused> {
        Ok(self.one::<MountsAnswer>("Mounts", &named(key))?.mounts)
    }

    pub fn commit(&self, name: &str, key: &str, labels: &[(&str, &str)]) -> Result<(), Refused> {
        let request = CommitRequest {
            name: name.into(),
            key: key.into(),
            labels: map(labels),
        };
        self.one::<Nothing>("Commit", &request).map(drop)
    }

    pub fn remove(&self, key: &str) -> Result<(), Refused> {
        self.one::<Nothing>("Remove", &named(key)).map(drop)
    }

    pub fn stat(&self, key: &str) -> Result<Info, Refused> {
        Ok(self.one::<InfoAnswer>("Stat", &named(key))?.info.unwrap())
    }

    pub fn update(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        paths: &[&str],
    ) -> Result<Info, Refused> {
        let info = Info {
            name: name.into(),
            labels: map(labels),
            ..Info::default()
        };
        let paths = paths.iter().map(|&path| path.into()).collect();
        let request = UpdateRequest {
            info: Some(info),
            update_mask: Some(FieldMask { paths }),
        };
        Ok(self.one::<InfoAnswer>("Update", &request)?.info.unwrap())
    }

    /// Lists names.
    pub fn list(&self, filters: &[&str]) -> Result<Vec<String>, Refused> {
        let filters = filters.iter().map(|&filter| filter.into()).collect();
        let pieces = self.call::<ListAnswer>("List", &ListRequest { filters })?;
        let all = pieces.into_iter().flat_map(|piece| piece.info);
        Ok(all.map(|info| info.name).collect())
    }

    pub fn usage(&self, key: &str) -> Result<UsageAnswer, Refused> {
        self.one("Usage", &named(key))
    }

    pub fn cleanup(&self) -> Result<(), Refused> {
        self.one::<Nothing>("Cleanup", &Nothing {}).map(drop)
    }

    /// The directories that snapshots have.
    pub fn dirs(&self) -> Vec<String> {
        crate::names(&self.root.join("snapshots"))
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}

pub fn named(key: &str) -> KeyRequest {
    KeyRequest { key: key.into() }
}

fn map(labels: &[(&str, &str)]) -> HashMap<String, String> {
    labels
        .iter()
        .map(|&(key, value)| (key.into(), value.into()))
        .collect()
}

/// Makes a call at a socket, over a connection of its own.
pub fn call<R: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
) -> Result<Vec<R>, Refused> {
    let mut framed = vec![0];
    let message = request.encode_to_vec();
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let (code, text, body) = exchange(socket, method, framed);
    if code != 0 {
        return Err((code, text));
    }
    let (mut rest, mut all) = (body.as_slice(), Vec::new());
    while !rest.is_empty() {
        assert_eq!(rest[0], 0, "a message is compressed");
        let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        all.push(R::decode(&rest[5..5 + len]).unwrap());
        rest = &rest[5 + len..];
    }
    Ok(all)
}

/// Sends a body as it is; returns the status, what is said of it, and the body of the answer.
pub fn exchange(socket: &Path, method: &str, body: Vec<u8>) -> (i32, String, Vec<u8>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = UnixStream::connect(socket).await.unwrap();
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let uri = format!("http://unix/containerd.services.snapshots.v1.Snapshots/{method}");
        let request = Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), sender.send_request(request));
        let (head, body) = answer.await.unwrap().unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().cloned().unwrap_or_default();
        let bytes = body.to_bytes().to_vec();
        let value = |name: &str| {
            let found = head.headers.get(name).or(trailers.get(name));
            found.map(|value| value.to_str().unwrap().to_owned())
        };
        let code = value("grpc-status").expect("no status").parse().unwrap();
        (
            code,
            value("grpc-message")
                .unwrap_or_default()
                .replace("%20", " ")
                .replace("%22", "\""),
            bytes,
        )
    })
}

/// Puts a file into the directory that a snapshot is written to.
pub fn write(mounts: &[Mount], name: &str, text: &str) {
    let upper = mounts[0]
        .options
        .iter()
        .find_map(|option| option.strip_prefix("upperdir="));
    let dir = upper.unwrap_or(&mounts[0].source);
    fs::write(Path::new(dir).join(name), text).unwrap();
}
