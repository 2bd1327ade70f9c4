//! Networks of pods: made by a process that stands for each, with a loopback that is up.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stratafs::runner::SocketPlace;
use stratafs_shim::netns::{HomeNetwork, PodNetwork};

use crate::node::LONG;

/// A network that belongs to nobody but this.
pub struct Net {
    stands: Child,
    pub path: PathBuf,
    pub place: PodNetwork,
}

impl Net {
    /// Makes one; `None`, which it says, where the right to do that or a tool is missing.
    pub fn new() -> Option<Self> {
        let stands = Command::new("unshare")
            .args([
                "-n",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep 1000",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut stands) = stands else {
            eprintln!("left out: there is no unshare");
            return None;
        };
        let mut up = [0; 2];
        let mut out = stands.stdout.take().unwrap();
        if out.read_exact(&mut up).is_err() {
            let _ended = stands.wait();
            eprintln!("left out: no network namespace can be made here");
            return None;
        }
        let path = PathBuf::from(format!("/proc/{}/ns/net", stands.id()));
        let home = Arc::new(HomeNetwork::open().unwrap());
        let place = PodNetwork::open(&path, &home).unwrap();
        Some(Self {
            stands,
            path,
            place,
        })
    }

    /// Does something with a socket that belongs to the network.
    pub fn within<R>(&self, mut make: impl FnMut() -> R) -> R {
        let mut made = None;
        self.place.within(&mut || made = Some(make())).unwrap();
        made.unwrap()
    }

    /// Answers at a port of the loopback with a word, for ever.
    pub fn serve(&self, port: u16, word: &'static str) -> u16 {
        serve(
            self.within(|| TcpListener::bind(("127.0.0.1", port)).unwrap()),
            word,
        )
    }

    /// Gives the loopback an address that nobody else has.
    pub fn give_address(&self, address: &str) {
        let net = format!("--net={}", self.path.display());
        let given = Command::new("nsenter")
            .args([&net, "ip", "addr", "add", address, "dev", "lo"])
            .status();
        assert!(given.unwrap().success());
    }

    /// Connects to a port of the loopback, waits until somebody listens there, and returns what is said.
    pub fn hear(&self, port: u16) -> String {
        let start = Instant::now();
        loop {
            if let Ok(stream) = self.within(|| TcpStream::connect(("127.0.0.1", port))) {
                return heard(stream);
            }
            assert!(start.elapsed() < LONG, "nobody listens at {port}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _gone = self.stands.kill();
        let _ended = self.stands.wait();
    }
}

/// Answers all that come with a word, for ever; returns the port.
pub fn serve(listener: TcpListener, word: &'static str) -> u16 {
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream.unwrap().write_all(word.as_bytes()));
        }
    });
    port
}

pub fn heard(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Counts the descriptors of this process, and those among them of networks.
pub fn descriptors() -> (usize, usize) {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let all = all.map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap_or_default());
    let all: Vec<PathBuf> = all.collect();
    let is_network = |path: &&PathBuf| path.to_string_lossy().starts_with("net:");
    (all.len(), all.iter().filter(is_network).count())
}

/// Returns the networks that threads of this process are in.
pub fn networks_of_threads() -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let mut all: Vec<PathBuf> = tasks
        .filter_map(|task| std::fs::read_link(task.unwrap().path().join("ns/net")).ok())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "it never holds: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The spec's entry for a network.
pub fn entry(path: &Path) -> serde_json::Value {
    serde_json::json!({"namespaces": [{"type": "pid"}, {"type": "network", "path": path}]})
}
