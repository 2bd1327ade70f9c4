//! Sockets and names of guests, in the networks of their pods.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde_json::{Value, json};
use stratafs::runner::SocketPlace;
use stratafs_shim::config::NetworkMode;
use stratafs_shim::limits::MAX_HANDLES;
use stratafs_shim::messages::*;
use stratafs_shim::netns::{HomeNetwork, PodNetwork};

use crate::netns::*;
use crate::node::*;
use crate::support::guest::{World, guest};

/// A bundle with a guest of `guest-examples` and its arguments.
fn bundle(node: &Node, id: &str, (name, world): (&str, World), args: &[&str]) -> Bundle {
    let mut bundle = node.bundle(id, "");
    fs::copy(guest(name, world), bundle.dir.join("rootfs/app.wasm")).unwrap();
    bundle.spec["process"]["args"] = ["/app.wasm"].iter().chain(args).copied().collect();
    bundle
}

/// What a guest says that is in a network as the spec has it.
fn says_in(node: &Node, linux: Value, what: (&str, World), args: &[&str]) -> String {
    let mut bundle = bundle(node, "c", what, args);
    bundle.spec["linux"] = linux;
    let (code, out, err) = bundle.run(node);
    assert_eq!((code, err), (0, String::new()), "{out}");
    fs::remove_dir_all(&bundle.dir).unwrap();
    out
}

const TWO: (&str, World) = ("connect", World::P2);
const THREE: (&str, World) = ("reach", World::P3);

#[test]
fn guests_reach_what_is_in_the_network_of_their_pod_and_nothing_of_the_host_or_of_others() {
    let (Some(one), Some(other)) = (Net::new(), Net::new()) else {
        return;
    };
    let node = Node::new();
    let host = serve(TcpListener::bind("127.0.0.1:0").unwrap(), "host");
    let port = one.serve(0, "one");
    assert_eq!(other.serve(port, "other"), port);
    let (in_pod, on_host) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{host}"));
    for what in [TWO, THREE] {
        let places = [&*in_pod, &on_host];
        let says = |linux: Value| says_in(&node, linux, what, &places);
        for (net, word) in [(&one, "one"), (&other, "other")] {
            let said = says(entry(&net.path));
            let (first, last) = said.split_once('\n').unwrap();
            assert_eq!(first, format!("heard {word:?}"), "{what:?}");
            assert!(last.contains("ConnectionRefused"), "{last}");
        }
        // Without an entry it is on the host's, where nobody is at the port of the pods.
        let said = says(json!({"namespaces": [{"type": "pid"}]}));
        let (first, last) = said.split_once('\n').unwrap();
        assert!(!first.contains("heard") || first.contains("host"), "{said}");
        assert_eq!(last, "heard \"host\"\n");
        // One that nobody has set up is none.
        let said = says(json!({"namespaces": [{"type": "network"}]}));
        assert!(!said.contains("heard"), "{said}");
        assert_eq!(said.lines().count(), 2);
    }
    // A datagram's socket is where the others are: the address is the pod's alone.
    one.give_address("10.214.0.1/32");
    let bound = says_in(&node, entry(&one.path), THREE, &["udp:10.214.0.1"]);
    assert_eq!(bound, "bound ()\n");
    let bound = says_in(&node, entry(&other.path), THREE, &["udp:10.214.0.1"]);
    assert!(bound.contains("AddressNotBindable"), "{bound}");
    // The threads that ran them never were anywhere else.
    assert_eq!(networks_of_threads().len(), 1);
    node.end();
}

#[test]
fn with_networks_switched_off_nothing_is_reached() {
    let Some(net) = Net::new() else { return };
    let node = Node::with(|config| config.network = NetworkMode::None);
    let host = serve(TcpListener::bind("127.0.0.1:0").unwrap(), "host");
    let port = net.serve(0, "pod");
    let places = [format!("127.0.0.1:{port}"), format!("127.0.0.1:{host}")];
    let places = places.each_ref().map(String::as_str);
    for linux in [entry(&net.path), entry(Path::new("/gone")), json!({})] {
        let said = says_in(&node, linux, TWO, &places);
        assert_eq!(said, "PermissionDenied\n".repeat(2));
    }
    node.end();
}

#[test]
fn containers_of_a_pod_have_the_network_of_the_pod_itself_whatever_their_own_spec_says() {
    let Some(net) = Net::new() else { return };
    let node = Node::new();
    let port = net.serve(0, "pod");
    let place = format!("127.0.0.1:{port}");
    let mut pod = node.bundle("pod", "");
    pod.spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod",
    });
    pod.spec["linux"] = entry(&net.path);
    pod.start(&node);
    let mut inside = bundle(&node, "c", TWO, &[&place]);
    inside.spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod",
    });
    // The process of a pod is this one, whose network is the host's.
    let of_process = format!("/proc/{}/ns/net", std::process::id());
    inside.spec["linux"] = entry(Path::new(&of_process));
    assert_eq!(inside.run(&node).1, "heard \"pod\"\n");
    // The pod itself holds nothing of it: the test holds it, and the process's own as the node does.
    assert_eq!(descriptors().1, 3);
    inside.spec["annotations"]["io.kubernetes.cri.sandbox-id"] = json!("other");
    let (_, text) = refusal(inside.create(&node));
    assert!(text.contains("its own container is not here"), "{text}");
    inside.spec["annotations"] = json!({});
    let (_, text) = refusal(inside.create(&node));
    assert!(text.contains("the network of the host"), "{text}");
    let _killed: Empty = node.call("Kill", &signal("pod", 9)).unwrap();
    let _gone: DeleteResponse = node.ask("Delete", "pod");
    node.end();
}

#[test]
fn networks_that_cannot_be_had_are_refused_by_name_and_nothing_runs_elsewhere() {
    let node = Node::new();
    let file = node.dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let refused = |linux: Value, is_pod: bool| {
        let mut bundle = bundle(&node, "c", TWO, &["127.0.0.1:1"]);
        if is_pod {
            bundle.spec["annotations"] = json!({"io.kubernetes.cri.container-type": "sandbox"});
        }
        bundle.spec["linux"] = linux;
        let (code, text) = refusal(bundle.create(&node));
        fs::remove_dir_all(&bundle.dir).unwrap();
        assert_eq!(code, 3, "{text}");
        assert!(text.contains("linux."), "{text}");
        text
    };
    for is_pod in [false, true] {
        for (path, words) in [
            (Path::new("/run/netns/gone"), "No such file"),
            (&file, "it is not a network namespace"),
            (node.dir.path(), "it is not a network namespace"),
            (
                Path::new("/proc/self/ns/mnt"),
                "it is not a network namespace",
            ),
            (Path::new("/dev/null"), "it is not a network namespace"),
            (Path::new("/proc/self/ns/net"), "the network of the host"),
            (Path::new("/run/../proc/self/ns/net"), "without `..`"),
            (Path::new("net"), "without `..`"),
        ] {
            let text = refused(entry(path), is_pod);
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        let twice = json!({"namespaces": [{"type": "network"}, {"type": "network", "path": "/a"}]});
        assert!(refused(twice, is_pod).contains("two of them"));
        let users = json!({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]});
        assert!(refused(users, is_pod).contains("uidMappings"));
    }
    assert!(node.topics("c").is_empty());
    assert_eq!(networks_of_threads().len(), 1);
    node.end();
}

#[test]
fn two_pods_listen_at_one_port_in_one_process_and_low_ports_are_for_root() {
    let (Some(one), Some(other)) = (Net::new(), Net::new()) else {
        return;
    };
    let node = Node::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let listen = ("listen", World::P2);
    let place = format!("0.0.0.0:{port}");
    for (net, word) in [(&one, "one"), (&other, "other")] {
        let mut bundle = bundle(&node, word, listen, &[&place, word]);
        bundle.spec["linux"] = entry(&net.path);
        bundle.start(&node);
    }
    for _ in 0..3 {
        assert_eq!(
            (one.hear(port), other.hear(port)),
            ("one".into(), "other".into())
        );
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    for word in ["one", "other"] {
        let _killed: Empty = node.call("Kill", &signal(word, 9)).unwrap();
        assert_eq!(node.ask::<WaitResponse>("Wait", word).exit_status, 137);
        let _gone: DeleteResponse = node.ask("Delete", word);
    }
    // As a kernel has it for programs that are not privileged.
    let mut may = bundle(&node, "c", listen, &["0.0.0.0:80", "low"]);
    may.spec["linux"] = entry(&one.path);
    let mut denied = |user: Value, capabilities: Value| {
        may.spec["process"]["user"] = user;
        may.spec["process"]["capabilities"] = capabilities;
        may.run(&node).1
    };
    let all = json!({"effective": ["CAP_NET_BIND_SERVICE"]});
    let none = json!({"effective": []});
    assert_eq!(
        denied(json!({"uid": 1000}), all.clone()),
        "PermissionDenied\n"
    );
    assert_eq!(denied(json!({}), none), "PermissionDenied\n");
    may.spec["process"]["user"] = json!({});
    may.spec["process"]["capabilities"] = all;
    may.start(&node);
    assert_eq!(one.hear(80), "low");
    let _killed: Empty = node.call("Kill", &signal("c", 9)).unwrap();
    let _ended: WaitResponse = node.ask("Wait", "c");
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}

#[test]
fn a_hundred_pods_leave_no_thread_and_no_descriptor_behind() {
    let nets: Vec<Net> = (0..4).map_while(|_| Net::new()).collect();
    if nets.is_empty() {
        return;
    }
    let node = Node::new();
    let ports: Vec<u16> = nets.iter().map(|net| net.serve(0, "pod")).collect();
    let run = |number: usize| {
        let at = number % nets.len();
        let place = format!("127.0.0.1:{}", ports[at]);
        let what = [TWO, THREE][number / nets.len() % 2];
        let said = says_in(
            &node,
            entry(&nets[at].path),
            what,
            &[&place, "no.such.name:1"],
        );
        assert!(said.starts_with("heard \"pod\"\n"), "{said}");
    };
    (0..8).for_each(run);
    let tasks = || fs::read_dir("/proc/self/task").unwrap().count();
    // What the first ones have made for all: roots, programs.
    let (before, threads) = (descriptors(), tasks());
    (0..100).for_each(run);
    until("all threads have ended", || tasks() <= threads);
    until("all descriptors are closed", || descriptors() <= before);
    assert_eq!(networks_of_threads().len(), 1);
    node.end();
}

/// Answers questions about names on behalf of a pod: `db.tests.svc` is at 127.0.0.1.
fn name_server(net: &Net) {
    let socket = net.within(|| UdpSocket::bind("127.0.0.1:53").unwrap());
    thread::spawn(move || {
        loop {
            let mut buf = [0; 512];
            let (len, from): (usize, SocketAddr) = socket.recv_from(&mut buf).unwrap();
            let mut reply = buf[..len].to_vec();
            let is_four = reply[len - 3] == 1;
            let asked = reply[12..].to_ascii_lowercase();
            let is_known = asked.starts_with(b"\x02db\x05tests\x03svc\0");
            reply[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
            if is_known && is_four {
                reply[7] = 1;
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&reply, from).unwrap();
        }
    });
}

#[test]
fn names_are_those_of_the_pods_files_and_of_its_servers_within_its_network() {
    let (Some(net), Some(other)) = (Net::new(), Net::new()) else {
        return;
    };
    let node = Node::new();
    name_server(&net);
    let port = net.serve(0, "pod");
    other.serve(port, "other");
    let file = |name: &str, text: &str| {
        let path = node.dir.path().join(name);
        fs::write(&path, text).unwrap();
        json!({"destination": format!("/etc/{name}"), "type": "bind", "source": path, "options": ["ro"]})
    };
    let mounts = json!([
        file(
            "resolv.conf",
            "nameserver 127.0.0.1\nsearch tests.svc\noptions ndots:5 timeout:1 attempts:1\n"
        ),
        file("hosts", "127.0.0.1 alias.of.pod\n"),
    ]);
    let names = [
        "db",
        "DB.tests.svc.",
        "alias.of.pod",
        "localhost",
        "none.such",
    ];
    let places = names.map(|name| format!("{name}:{port}"));
    let places = places.each_ref().map(String::as_str);
    for what in [TWO, THREE] {
        let said = |net: &Net| {
            let mut bundle = bundle(&node, "c", what, &places);
            bundle.spec["linux"] = entry(&net.path);
            bundle.spec["mounts"] = mounts.clone();
            let (code, out, err) = bundle.run(&node);
            fs::remove_dir_all(&bundle.dir).unwrap();
            assert_eq!((code, err), (0, String::new()), "{out}");
            out
        };
        let out = said(&net);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[..4], ["heard \"pod\""; 4], "{out}");
        assert!(!lines[4].contains("heard"), "{out}");
        // Nobody answers there: what is known without asking is known.
        let out = said(&other);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines[2..4], ["heard \"other\""; 2], "{out}");
        for line in [lines[0], lines[1], lines[4]] {
            assert!(!line.contains("heard"), "{out}");
        }
    }
    node.end();
}

#[test]
fn a_guest_that_hoards_sockets_ends_alone_with_as_many_as_it_may_have() {
    let Some(net) = Net::new() else { return };
    let room = u64::from(MAX_HANDLES) * 2;
    let limit = rustix::process::Resource::Nofile;
    let mut limits = rustix::process::getrlimit(limit);
    if limits.maximum.is_some_and(|maximum| maximum < room) {
        eprintln!("left out: this process may not have {room} descriptors");
        return;
    }
    limits.current = limits.current.map(|current| current.max(room));
    rustix::process::setrlimit(limit, limits).unwrap();
    let node = Node::new();
    let before = descriptors().0;
    let mut hoard = bundle(&node, "hoard", ("hoard", World::P2), &[]);
    hoard.spec["linux"] = entry(&net.path);
    let (code, out, err) = hoard.run(&node);
    assert_eq!((code, &*out), (134, ""), "{err}");
    assert!(err.contains("the guest trapped"), "{err}");
    until("its sockets are closed", || descriptors().0 <= before + 8);
    // The next one is served as before.
    let port = net.serve(0, "pod");
    let place = format!("127.0.0.1:{port}");
    let said = says_in(&node, entry(&net.path), TWO, &[&place]);
    assert_eq!(said, "heard \"pod\"\n");
    node.end();
}

#[test]
fn what_a_pod_has_the_kernel_set_holds_in_its_network_and_what_cannot_be_set_is_refused_by_name() {
    let (Some(net), Some(other)) = (Net::new(), Net::new()) else {
        return;
    };
    let lowest = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if net.within(|| fs::OpenOptions::new().write(true).open(lowest).is_err()) {
        eprintln!("left out: settings of networks cannot be written here");
        return;
    }
    let node = Node::new();
    let mut pod = node.bundle("pod", "");
    pod.spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "pod",
    });
    let linux = |net: &Net, sysctl: Value| {
        let mut linux = entry(&net.path);
        linux["sysctl"] = sysctl;
        linux
    };
    // What containerd 2.x asks for by default.
    let usual = json!({
        "net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647",
    });
    let read = || fs::read_to_string(lowest).unwrap().trim().to_owned();
    let elsewhere = || (other.within(read), read());
    let before = elsewhere();
    pod.spec["linux"] = linux(&net, usual);
    pod.start(&node);
    assert_eq!(net.within(read), "0");
    assert_eq!(elsewhere(), before);
    let mut listens = bundle(&node, "c", ("listen", World::P2), &["0.0.0.0:80", "low"]);
    listens.spec["annotations"] = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "pod",
    });
    let of_process = format!("/proc/{}/ns/net", std::process::id());
    listens.spec["linux"] = entry(Path::new(&of_process));
    listens.spec["process"]["user"] = json!({"uid": 1000});
    listens.start(&node);
    assert_eq!(net.hear(80), "low");
    for id in ["c", "pod"] {
        let _killed: Empty = node.call("Kill", &signal(id, 9)).unwrap();
        let _ended: WaitResponse = node.ask("Wait", id);
        let _gone: DeleteResponse = node.ask("Delete", id);
    }
    for (sysctl, words) in [
        (json!({"net.ipv4.no_such_setting": "1"}), "No such file"),
        (
            json!({"net.ipv4.ip_unprivileged_port_start": "many"}),
            "Invalid argument",
        ),
        (
            json!({"kernel.shmmax": "1"}),
            "expected a setting of networks",
        ),
        (
            json!({"net/../kernel/core_pattern": "x"}),
            "expected a setting of networks",
        ),
    ] {
        pod.spec["linux"] = linux(&other, sysctl);
        let (code, text) = refusal(pod.create(&node));
        assert_eq!(code, 3, "{text}");
        assert!(
            text.contains("linux.sysctl: \"") && text.contains(words),
            "{text}"
        );
    }
    assert_eq!(networks_of_threads().len(), 1);
    node.end();
}

/// The network of the thread that asks.
fn network_of_thread() -> PathBuf {
    fs::read_link("/proc/thread-self/ns/net").unwrap()
}

#[test]
fn a_thread_is_back_from_a_pod_when_what_it_did_there_returns_and_when_it_unwinds() {
    let Some(net) = Net::new() else { return };
    let home = network_of_thread();
    let there = net.within(network_of_thread);
    assert_ne!(there, home);
    assert_eq!(network_of_thread(), home);
    let mut was = None;
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        net.place.within(&mut || {
            was = Some(network_of_thread());
            resume_unwind(Box::new("in the pod"));
        })
    }));
    let why = unwound.unwrap_err();
    assert_eq!(why.downcast_ref(), Some(&"in the pod"));
    assert_eq!((was, network_of_thread()), (Some(there), home));
    // Nor is a thread elsewhere that was begun since.
    let begun = thread::spawn(network_of_thread).join().unwrap();
    assert_eq!(begun, network_of_thread());
    assert_eq!(networks_of_threads().len(), 1);
}

/// How a process of the next test ends what it does in a pod, and the path of the pod's network.
const LOST: &str = "STRATAFS_TEST_LOST";

#[test]
fn a_process_ends_and_says_why_when_a_thread_of_it_cannot_come_back_from_a_pod() {
    if let Ok(task) = std::env::var(LOST) {
        let (how, path) = task.split_once(' ').unwrap();
        let home = Arc::new(HomeNetwork::open().unwrap());
        let pod = PodNetwork::open(Path::new(path), &home).unwrap();
        let lose = || {
            let mut fewer = capabilities(None).unwrap();
            fewer.effective.remove(CapabilitySet::SYS_ADMIN);
            set_capabilities(None, fewer).unwrap();
        };
        let lost = pod.within(&mut || {
            lose();
            if how == "unwinds" {
                resume_unwind(Box::new("in the pod"));
            }
        });
        panic!("the thread goes on: {lost:?}");
    }
    let Some(net) = Net::new() else { return };
    let test =
        "sockets::a_process_ends_and_says_why_when_a_thread_of_it_cannot_come_back_from_a_pod";
    for how in ["returns", "unwinds"] {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(LOST, format!("{how} {}", net.path.display()))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        // SIGABRT.
        assert_eq!(ended.status.signal(), Some(6), "{how}: {said}");
        let words = "a thread cannot leave the network of a pod, and the process ends: ";
        assert!(said.contains(words), "{how}: {said}");
    }
}
