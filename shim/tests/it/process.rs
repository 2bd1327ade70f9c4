//! The program: how containerd starts it, the process that stays, and what is left after it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Ran};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use stratafs_shim::messages::*;
use stratafs_shim::service::SERVICE;
use stratafs_shim::ttrpc::Client;
use stratafs_shim::wire::Message;
use tempfile::TempDir;

use crate::node::*;

/// The program that is built with these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_containerd-shim-stratafs-v1");

struct Host {
    dir: TempDir,
    program: PathBuf,
}

impl Host {
    fn new(isolation: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "isolation = \"{isolation}\"\nsocket-dir = {:?}\ncache-dir = \"\"\n",
            dir.path().join("sockets")
        );
        fs::write(dir.path().join("shim.toml"), config).unwrap();
        Self {
            dir,
            program: PROGRAM.into(),
        }
    }

    fn program(&self, bundle: &Bundle, action: &str) -> Ran {
        Command::new(&self.program)
            .args([
                "-namespace",
                "tests",
                "-publish-binary",
                "containerd",
                "-address",
            ])
            .arg(self.dir.path().join("containerd"))
            .args(["-id", bundle.request.id.as_str(), action])
            .env("STRATAFS_SHIM_CONFIG", self.dir.path().join("shim.toml"))
            .current_dir(&bundle.dir)
            .output()
            .unwrap()
    }

    fn bundle(&self, id: &str, program: &str) -> Bundle {
        let bundle = Bundle::new(self.dir.path(), id, program);
        bundle.write();
        bundle
    }

    fn start(&self, bundle: &Bundle) -> PathBuf {
        let ran = self.program(bundle, "start");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        let address = String::from_utf8(ran.stdout).unwrap();
        assert_eq!(
            fs::read_to_string(bundle.dir.join("address")).unwrap(),
            address
        );
        address.strip_prefix("unix://").unwrap().into()
    }

    fn delete(&self, bundle: &Bundle) -> DeleteResponse {
        let ran = self.program(bundle, "delete");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        DeleteResponse::decode(&ran.stdout).unwrap()
    }
}

/// The process that answers at a socket.
fn process_of(socket: &Path, id: &str) -> Pid {
    let request = ContainerRequest { id: id.into() };
    let answer: ConnectResponse = call(socket, "Connect", &request).unwrap();
    Pid::from_raw(answer.shim_pid as i32).unwrap()
}

/// Waits until a process is gone or a zombie of somebody else.
fn until_gone(pid: Pid) {
    let start = Instant::now();
    while test_kill_process(pid).is_ok() && !is_zombie(pid) {
        assert!(start.elapsed() < LONG, "the process stays");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn containers_of_a_node_share_one_process_that_ends_with_the_last() {
    let host = Host::new("node");
    let (one, two) = (
        host.bundle("one", &says("1", 1)),
        host.bundle("two", &sleeps()),
    );
    let socket = host.start(&one);
    assert_eq!(host.start(&two), socket);
    let pid = process_of(&socket, "one");
    for bundle in [&one, &two] {
        let _pid: PidResponse = call(&socket, "Create", &bundle.request).unwrap();
        let _pid: PidResponse = call(&socket, "Start", &named(&bundle.request.id)).unwrap();
    }
    let ended: WaitResponse = call(&socket, "Wait", &named("one")).unwrap();
    assert_eq!(ended.exit_status, 1);
    let _gone: DeleteResponse = call(&socket, "Delete", &named("one")).unwrap();
    let last = ShutdownRequest {
        id: "one".into(),
        now: true,
    };
    let _stays: Empty = call(&socket, "Shutdown", &last).unwrap();
    assert_eq!(process_of(&socket, "two"), pid);
    // `delete` takes a container away from a process that is there.
    assert_eq!(host.delete(&two).exit_status, 137);
    assert_eq!(
        refusal(call::<StateResponse>(&socket, "State", &named("two"))).0,
        5
    );
    // One that is announced keeps the process.
    let three = host.bundle("three", &says("3", 3));
    assert_eq!(host.start(&three), socket);
    let _stays: Empty = call(&socket, "Shutdown", &ShutdownRequest::default()).unwrap();
    assert_eq!(process_of(&socket, "three"), pid);
    let last = ShutdownRequest {
        id: "three".into(),
        now: false,
    };
    let _ends: Empty = call(&socket, "Shutdown", &last).unwrap();
    until_gone(pid);
    assert!(!socket.exists());
}

/// containerd has a connection for each container, and two of its parts ask about one that ends: who
/// asks after the other has had it deleted, and the process shut down, is told that it is gone.
#[test]
fn whoever_is_connected_still_is_answered_before_the_process_ends() {
    let host = Host::new("node");
    let one = host.bundle("one", &says("1", 1));
    let socket = host.start(&one);
    let pid = process_of(&socket, "one");
    runtime().block_on(async {
        let mut late = Client::connect(&socket).await.unwrap();
        let mut ends = Client::connect(&socket).await.unwrap();
        let last = ShutdownRequest {
            id: "one".into(),
            now: true,
        };
        let _ends: Empty = ends.call(SERVICE, "Shutdown", &last).await.unwrap();
        drop(ends);
        // Another process may have the name, while this one goes on with who is connected.
        assert!(!socket.exists());
        tokio::time::sleep(Duration::from_millis(300)).await;
        for method in ["State", "Delete", "Kill"] {
            let asked = late.call::<Empty>(SERVICE, method, &named("one")).await;
            assert_eq!(refusal(asked).0, 5, "{method}");
        }
        assert!(test_kill_process(pid).is_ok() && !is_zombie(pid));
    });
    until_gone(pid);
}

/// A connection that nobody closes keeps the process for a bounded time.
#[test]
fn a_connection_that_stays_open_does_not_keep_the_process() {
    let host = Host::new("node");
    let one = host.bundle("one", &says("1", 1));
    let socket = host.start(&one);
    let pid = process_of(&socket, "one");
    let _stays = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    let last = ShutdownRequest {
        id: "one".into(),
        now: true,
    };
    let _ends: Empty = call(&socket, "Shutdown", &last).unwrap();
    until_gone(pid);
}

#[test]
fn pods_have_processes_of_their_own_if_they_are_to() {
    let host = Host::new("pod");
    let (one, two) = (host.bundle("one", &sleeps()), host.bundle("two", &sleeps()));
    let sockets = [host.start(&one), host.start(&two)];
    assert_ne!(sockets[0], sockets[1]);
    for (socket, id) in sockets.iter().zip(["one", "two"]) {
        let pid = process_of(socket, id);
        let last = ShutdownRequest {
            id: id.into(),
            now: false,
        };
        let _ends: Empty = call(socket, "Shutdown", &last).unwrap();
        until_gone(pid);
    }
}

#[test]
fn containers_of_a_program_that_is_replaced_go_on_beside_those_of_the_new_one() {
    let mut host = Host::new("node");
    host.program = host.dir.path().join("shim");
    // As install.sh does it: the name leads to another file at once.
    let install = |host: &Host| {
        let new = host.dir.path().join("new");
        fs::copy(PROGRAM, &new).unwrap();
        fs::rename(&new, &host.program).unwrap();
    };
    let start = |host: &Host, bundle: &Bundle| {
        let (socket, id) = (host.start(bundle), bundle.request.id.as_str());
        let _pid: PidResponse = call(&socket, "Create", &bundle.request).unwrap();
        let _pid: PidResponse = call(&socket, "Start", &named(id)).unwrap();
        (process_of(&socket, id), socket)
    };
    install(&host);
    let old = host.bundle("old", &sleeps());
    let (old_pid, old_socket) = start(&host, &old);
    install(&host);
    let new = host.bundle("new", &says("7", 7));
    let (new_pid, new_socket) = start(&host, &new);
    assert!(new_pid != old_pid && new_socket != old_socket);
    let ended: WaitResponse = call(&new_socket, "Wait", &named("new")).unwrap();
    assert_eq!(ended.exit_status, 7);
    let end = |socket: &Path, id: &str| {
        let last = ShutdownRequest {
            id: id.into(),
            now: false,
        };
        let _ends: Empty = call(socket, "Shutdown", &last).unwrap();
    };
    let _gone: DeleteResponse = call(&new_socket, "Delete", &named("new")).unwrap();
    end(&new_socket, "new");
    until_gone(new_pid);
    assert_eq!(process_of(&old_socket, "old"), old_pid);
    let state: StateResponse = call(&old_socket, "State", &named("old")).unwrap();
    assert_eq!(state.status, 2);
    // The new program takes it away from the process of the old one.
    assert_eq!(host.delete(&old).exit_status, 137);
    let gone = refusal(call::<StateResponse>(&old_socket, "State", &named("old")));
    assert_eq!(gone.0, 5);
    end(&old_socket, "old");
    until_gone(old_pid);
}

#[test]
fn what_a_killed_process_left_is_cleaned_up_and_the_next_one_starts() {
    let host = Host::new("node");
    let bundle = host.bundle("one", &sleeps());
    let socket = host.start(&bundle);
    let pid = process_of(&socket, "one");
    let _pid: PidResponse = call(&socket, "Create", &bundle.request).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    until_gone(pid);
    assert!(socket.exists());
    let deleted = host.delete(&bundle);
    assert_eq!((deleted.pid, deleted.exit_status), (0, 137));
    assert!(deleted.exited_at.is_some() && !socket.exists());
    // A start finds a socket that nobody answers at.
    assert_eq!(host.start(&bundle), socket);
    let pid = process_of(&socket, "one");
    kill_process(pid, Signal::KILL).unwrap();
    until_gone(pid);
    assert_eq!(host.start(&bundle), socket);
    let last = ShutdownRequest {
        id: "one".into(),
        now: false,
    };
    let pid = process_of(&socket, "one");
    let _ends: Empty = call(&socket, "Shutdown", &last).unwrap();
    until_gone(pid);
}

#[test]
fn wrong_arguments_and_files_are_told_on_one_line() {
    let program = || Command::new(PROGRAM);
    let usage = program().arg("-x").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).starts_with("error: no flag -x\nusage: "));
    assert_eq!(program().output().unwrap().status.code(), Some(2));
    let missing = program().args(["-id", "a", "start"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&missing.stderr),
        "error: -namespace is missing\n"
    );
    let version = program().arg("-v").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("containerd-shim-stratafs-v1 "));
    let host = Host::new("vm");
    let refused = host.program(&host.bundle("a", ""), "start");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        text.starts_with("error: ") && text.contains("vm") && text.lines().count() == 1,
        "{text}"
    );
}
