//! Networks of single runs: sockets made at a place, names looked up by the host, handles bounded, and
//! threads that reach the host's directories.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use stratafs::image::Image;
use stratafs::runner::{
    Guest, HostDir, HostThreads, HostedComponent, InstanceTemplate, LookUpNames, LookedUp,
    LookupFailure, Network, Outcome, OutputSink, RunControl, RunPlan, Runner, RunnerConfig,
    SocketPlace, Stdio, Stream,
};
use stratafs::vfs::Rights;

use crate::support::guest::{World, guest};

/// What guests say.
#[derive(Default)]
struct Said(Mutex<Vec<u8>>);

impl OutputSink for Said {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }
}

/// The host's own place, which counts how often it is entered, and may be closed.
#[derive(Default)]
struct Counted {
    entered: AtomicUsize,
    closed: bool,
}

impl SocketPlace for Counted {
    fn within(&self, make: &mut dyn FnMut()) -> io::Result<()> {
        if self.closed {
            return Err(io::Error::other("the place is closed"));
        }
        self.entered.fetch_add(1, Ordering::Relaxed);
        make();
        Ok(())
    }
}

/// Knows one name, after a while.
struct Slowly;

impl LookUpNames for Slowly {
    fn look_up(&self, name: &str) -> LookedUp {
        let found = match name {
            "here.test" => Ok(vec![IpAddr::from([127, 0, 0, 1])]),
            "later.test" => Err(LookupFailure::TryAgain),
            _ => Err(LookupFailure::NotFound),
        };
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            found
        })
    }
}

fn runner((name, world): (&str, World)) -> Runner {
    let file = Guest::from_file(&guest(name, world)).unwrap();
    let mut config = RunnerConfig::default();
    config.controllable = true;
    config.network_of_plan = true;
    Runner::new(&file, config).unwrap()
}

fn run(runner: &Runner, network: Option<Network>, args: &[&str]) -> (Outcome, String) {
    let said = Arc::new(Said::default());
    let mut plan = RunPlan::default();
    plan.args = ["guest"]
        .iter()
        .chain(args)
        .map(|&arg| arg.into())
        .collect();
    plan.network = network;
    plan.max_handles = Some(200);
    plan.stdio = Stdio::Forward(said.clone());
    let mut report = runner.run(&Image::empty(), &plan).unwrap();
    let said = String::from_utf8(said.0.lock().clone()).unwrap();
    (report.instances.remove(0).outcome, said)
}

/// Says a word to all that come.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            drop(io::Write::write_all(&mut stream.unwrap(), b"hello"));
        }
    });
    port
}

const BOTH: [(&str, World); 2] = [("connect", World::P2), ("reach", World::P3)];

#[test]
fn sockets_are_made_at_the_place_of_their_run_alone() {
    let port = server();
    let place = format!("127.0.0.1:{port}");
    for what in BOTH {
        let runner = runner(what);
        let counted = Arc::new(Counted::default());
        let mut network = Network::inherit();
        network.set_place(counted.clone());
        let heard = (Outcome::Exited(0), "heard \"hello\"\n".repeat(2));
        let ran = run(&runner, Some(network.clone()), &[&place, &place]);
        assert_eq!(ran, heard, "{what:?}");
        assert!(counted.entered.load(Ordering::Relaxed) >= 2);
        // Another run of the same runner is elsewhere, or nowhere.
        let entered = counted.entered.load(Ordering::Relaxed);
        assert_eq!(
            run(&runner, Some(Network::inherit()), &[&place, &place]),
            heard
        );
        for nothing in [None, Some(Network::none())] {
            let (_, said) = run(&runner, nothing, &[&place]);
            assert!(!said.contains("heard"), "{said}");
        }
        assert_eq!(counted.entered.load(Ordering::Relaxed), entered);
        // At a place, names are not the system's.
        let (_, said) = run(&runner, Some(network), &[&format!("localhost:{port}")]);
        assert!(!said.contains("heard"), "{said}");
    }
}

#[test]
fn a_place_that_cannot_be_entered_ends_the_guest_that_wants_a_socket_there() {
    for what in BOTH {
        let mut network = Network::inherit();
        network.set_place(Arc::new(Counted {
            closed: true,
            ..Counted::default()
        }));
        let (outcome, said) = run(&runner(what), Some(network), &["127.0.0.1:1"]);
        let Outcome::Trapped { message, .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert!(message.contains("the place is closed"), "{message}");
        assert_eq!(said, "");
    }
}

#[test]
fn names_are_looked_up_by_whom_the_run_says() {
    let port = server();
    let names = ["here.test", "later.test", "localhost"].map(|name| format!("{name}:{port}"));
    let names = names.each_ref().map(String::as_str);
    for what in BOTH {
        let runner = runner(what);
        let mut network = Network::inherit();
        network.set_lookup(Arc::new(Slowly));
        let (outcome, said) = run(&runner, Some(network.clone()), &names);
        assert_eq!(outcome, Outcome::Exited(0));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "heard \"hello\"", "{said}");
        assert!(!lines[1].contains("heard") && !lines[2].contains("heard"));
        // An address is no name.
        let address = format!("127.0.0.1:{port}");
        let (_, said) = run(&runner, Some(network.clone()), &[&address]);
        assert_eq!(said, "heard \"hello\"\n");
        network.set_names(false);
        let (_, said) = run(&runner, Some(network), &names);
        assert!(!said.contains("heard"), "{said}");
        // As the host's system has it, unless somebody else is to be asked.
        let (_, said) = run(&runner, Some(Network::inherit()), &[names[2]]);
        assert_eq!(said, "heard \"hello\"\n");
    }
}

#[test]
fn ports_below_the_lowest_are_refused_to_a_guest_that_listens() {
    let mut network = Network::inherit();
    network.set_lowest_port(1024);
    let (_, said) = run(
        &runner(("listen", World::P2)),
        Some(network),
        &["127.0.0.1:1023", "word"],
    );
    assert_eq!(said, "PermissionDenied\n");
}

#[test]
fn a_guest_that_keeps_its_sockets_ends_with_as_many_handles_as_it_may_have() {
    let runner = runner(("hoard", World::P2));
    let (outcome, said) = run(&runner, Some(Network::inherit()), &[]);
    assert!(matches!(outcome, Outcome::Trapped { .. }), "{outcome:?}");
    assert_eq!(said, "");
}

#[test]
fn what_a_runner_was_not_made_for_is_refused_by_name() {
    let file = Guest::from_file(&guest("hello", World::P2)).unwrap();
    let plain = Runner::new(&file, RunnerConfig::default()).unwrap();
    let mut plan = RunPlan::default();
    plan.network = Some(Network::inherit());
    let error = plain.run(&Image::empty(), &plan).unwrap_err().to_string();
    assert!(error.contains("RunnerConfig::network_of_plan"), "{error}");
    let hosted = InstanceTemplate::new(&Image::empty(), plan.clone(), &RunnerConfig::default());
    let error = hosted.err().unwrap().to_string();
    assert!(error.contains("network: a hosted component"), "{error}");
    plan.network = None;
    plan.host_threads = Some(HostThreads::new(|| ()));
    let error = plain.run(&Image::empty(), &plan).unwrap_err().to_string();
    assert!(error.contains("RunnerConfig::controllable"), "{error}");
    let hosted = InstanceTemplate::new(&Image::empty(), plan.clone(), &RunnerConfig::default());
    let error = hosted.err().unwrap().to_string();
    assert!(error.contains("host_threads"), "{error}");
    let mut config = RunnerConfig::default();
    config.network = Network::inherit();
    config.network.set_place(Arc::new(Counted::default()));
    let error = HostedComponent::new(&file, config).unwrap_err().to_string();
    assert!(
        error.contains("network: sockets of a hosted component"),
        "{error}"
    );
    let core = Guest::from_bytes("core", b"(module (func (export \"_start\")))").unwrap();
    let mut config = RunnerConfig::default();
    config.controllable = true;
    let started = Arc::new(Runner::new(&core, config).unwrap());
    let error = started.start(&Image::empty(), &plan).err().unwrap();
    assert!(error.to_string().contains("host_threads"), "{error}");
}

#[test]
fn every_thread_that_reaches_a_directory_of_the_host_begins_as_it_is_told() {
    for world in [World::P1, World::P2, World::P3] {
        let runner = runner(("may", world));
        let host = tempfile::tempdir().unwrap();
        let began = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::new(Said::default());
        let control = RunControl::default();
        let mut plan = RunPlan::default();
        plan.args = ["may", "write:/host/new", "read:/host/new", "list:/host"]
            .map(str::to_owned)
            .to_vec();
        plan.host_dirs = vec![HostDir {
            dir: host.path().to_owned(),
            guest: "/host".into(),
            rights: Rights::ReadWrite,
        }];
        plan.stdio = Stdio::Forward(said.clone());
        let noted = Arc::clone(&began);
        plan.host_threads = Some(HostThreads::new(move || {
            noted.lock().push(thread::current().id());
        }));
        let report = runner.run(&Image::empty(), &plan).unwrap();
        assert_eq!(report.failed().count(), 0, "{world:?}");
        assert_eq!(*said.0.lock(), b"ok\nok\nok\n", "{world:?}");
        assert!(!began.lock().is_empty(), "{world:?}: no thread began");
        // One that cannot begin does nothing, and the run ends when it is stopped.
        std::fs::remove_file(host.path().join("new")).unwrap();
        let stops = control.clone();
        plan.control = Some(control);
        plan.host_threads = Some(HostThreads::new(move || {
            stops.stop();
            std::panic::resume_unwind(Box::new("not allowed"));
        }));
        let mut report = runner.run(&Image::empty(), &plan).unwrap();
        assert_eq!(report.instances.remove(0).outcome, Outcome::Stopped);
        assert!(!host.path().join("new").exists(), "{world:?}");
    }
}
