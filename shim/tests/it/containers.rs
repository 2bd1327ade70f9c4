//! Containers from their creation to their deletion: streams, codes, signals, events.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use stratafs_shim::messages::*;
use stratafs_shim::wire::Message;

use crate::node::*;

/// A guest that has had its share of a period stands still, and is paused, resumed and killed as others.
#[test]
fn a_guest_takes_no_more_than_its_share_of_a_processor() {
    let node = Node::new();
    let mut bundle = node.bundle("c", &spins());
    bundle.spec["linux"] = json!({"resources": {"cpu": {"quota": 10_000, "period": 100_000}}});
    bundle.start(&node);
    let taken = || {
        let stats: StatsResponse = node.ask("Stats", "c");
        let metrics = CgroupMetrics::decode(&stats.stats.unwrap().value).unwrap();
        Duration::from_nanos(metrics.cpu.unwrap().usage.unwrap().total)
    };
    let (begin, before) = (Instant::now(), taken());
    // It goes on, period after period.
    while taken() - before < Duration::from_millis(150) {
        assert!(begin.elapsed() < LONG, "it stands still for good");
        thread::sleep(Duration::from_millis(5));
    }
    let (passed, took) = (begin.elapsed(), taken() - before);
    // What a busy machine has it take too much of one period is missing in the next.
    assert!(
        took < passed / 10 + Duration::from_millis(150),
        "{took:?} of {passed:?}"
    );
    assert!(
        passed > Duration::from_millis(400),
        "{took:?} of {passed:?}"
    );
    let state: StateResponse = node.ask("State", "c");
    assert_eq!(state.status, 2);
    let _paused: Empty = node.ask("Pause", "c");
    let before = taken();
    thread::sleep(Duration::from_millis(400));
    assert!(
        taken() - before < Duration::from_millis(20),
        "a period made it go on"
    );
    let _resumed: Empty = node.ask("Resume", "c");
    while taken() - before < Duration::from_millis(30) {
        assert!(begin.elapsed() < LONG, "it is not resumed");
        thread::sleep(Duration::from_millis(5));
    }
    let _killed: Empty = node.call("Kill", &signal("c", 9)).unwrap();
    let ended: WaitResponse = node.ask("Wait", "c");
    assert_eq!(ended.exit_status, 137);
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}

#[test]
fn a_container_is_made_started_waited_for_and_deleted() {
    let node = Node::new();
    let bundle = node.bundle("c", &says("hello\n", 3));
    let (out, err) = (bundle.open("out"), bundle.open("err"));
    let created = bundle.create(&node).unwrap();
    assert_eq!(created.pid, std::process::id());
    let state: StateResponse = node.ask("State", "c");
    assert_eq!((state.status, state.pid), (1, created.pid));
    assert_eq!(state.bundle, bundle.request.bundle);
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| node.ask::<WaitResponse>("Wait", "c"));
        let _pid: PidResponse = node.ask("Start", "c");
        waiting.join().unwrap()
    });
    assert_eq!(waiting.exit_status, 3);
    assert_eq!((out.text().as_str(), err.text().as_str()), ("hello\n", ""));
    let state: StateResponse = node.ask("State", "c");
    assert_eq!((state.status, state.exit_status), (3, 3));
    assert_eq!(state.exited_at, waiting.exited_at);
    let (code, text) = refusal(node.call::<PidResponse>("Start", &named("c")));
    assert_eq!(code, 9);
    assert_eq!(
        text,
        "container c: cannot start what is stopped: expected created"
    );
    let deleted: DeleteResponse = node.ask("Delete", "c");
    assert_eq!(
        (deleted.exit_status, deleted.exited_at),
        (3, waiting.exited_at)
    );
    assert_eq!(
        node.until("c", "delete"),
        ["create", "start", "exit", "delete"]
    );
    assert_eq!(
        refusal(node.call::<StateResponse>("State", &named("c"))).0,
        5
    );
    // The name is free again.
    assert_eq!(bundle.run(&node), (3, "hello\n".into(), String::new()));
    node.end();
}

#[test]
fn signals_end_guests_as_they_end_processes() {
    let node = Node::new();
    for (id, guest, number) in [
        ("spin", spins(), 15),
        ("sleep", sleeps(), 9),
        ("flood", floods(), 2),
    ] {
        let bundle = node.bundle(id, &guest);
        bundle.start(&node);
        let _none: Empty = node.call("Kill", &signal(id, 0)).unwrap();
        let _none: Empty = node.call("Kill", &signal(id, 28)).unwrap();
        assert_eq!(refusal(node.call::<Empty>("Kill", &signal(id, 19))).0, 3);
        assert_eq!(refusal(node.call::<Empty>("Kill", &signal(id, 65))).0, 3);
        let (code, text) = refusal(node.call::<DeleteResponse>("Delete", &named(id)));
        assert_eq!((code, text.contains("kill it first")), (9, true));
        let start = Instant::now();
        let _killed: Empty = node.call("Kill", &signal(id, number)).unwrap();
        let ended: WaitResponse = node.ask("Wait", id);
        assert!(start.elapsed() < LONG);
        assert_eq!(ended.exit_status, 128 + number);
        // containerd takes this as "it has ended already".
        assert_eq!(refusal(node.call::<Empty>("Kill", &signal(id, 9))).0, 5);
        let _gone: DeleteResponse = node.ask("Delete", id);
        assert_eq!(
            node.until(id, "delete"),
            ["create", "start", "exit", "delete"]
        );
    }
    // One that never ran.
    node.bundle("new", &spins()).create(&node).unwrap();
    let deleted: DeleteResponse = node.ask("Delete", "new");
    assert_eq!(deleted.exit_status, 137);
    node.end();
}

#[test]
fn input_comes_to_its_end_and_output_waits_for_who_reads_it() {
    let node = Node::new();
    let mut bundle = node.bundle("c", &copies());
    bundle.request.stdin = bundle.dir.join("in").to_str().unwrap().into();
    let mut out = bundle.open("out");
    bundle.start(&node);
    let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let got = thread::scope(|scope| {
        let mut input = input(&bundle);
        let bytes = &sent;
        let writer = scope.spawn(move || input.write_all(bytes).unwrap());
        // Nobody reads at first: the writer is held up.
        thread::sleep(Duration::from_millis(100));
        assert!(!writer.is_finished());
        let mut got = Vec::new();
        let start = Instant::now();
        while got.len() < sent.len() {
            assert!(
                start.elapsed() < LONG,
                "{} of {} bytes",
                got.len(),
                sent.len()
            );
            got.extend(out.piece());
        }
        got
    });
    assert!(got == sent);
    // The writer has gone, and with it the input.
    let ended: WaitResponse = node.ask("Wait", "c");
    assert_eq!(ended.exit_status, 0);
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}

#[test]
fn input_of_a_pod_ends_when_containerd_says_so_and_other_input_also_then() {
    let node = Node::new();
    for in_pod in [true, false] {
        let mut bundle = node.bundle("c", &copies());
        if in_pod {
            bundle.spec["annotations"] = json!({"io.kubernetes.cri.sandbox-id": "p"});
        }
        bundle.request.stdin = bundle.dir.join("in").to_str().unwrap().into();
        let mut out = bundle.open("out");
        bundle.start(&node);
        if in_pod {
            // A client that leaves is none to end the input of a pod.
            input(&bundle).write_all(b"typed").unwrap();
            let start = Instant::now();
            while out.piece().is_empty() {
                assert!(start.elapsed() < LONG);
            }
        }
        let before = node_time();
        thread::sleep(Duration::from_millis(200));
        // Whoever waits for a writer takes no time of a processor.
        let took = node_time() - before;
        assert!(took < Duration::from_millis(100), "{took:?} of waiting");
        assert_eq!(node.ask::<StateResponse>("State", "c").status, 2);
        let close = CloseIoRequest {
            id: "c".into(),
            stdin: true,
            ..CloseIoRequest::default()
        };
        let _closed: Empty = node.call("CloseIO", &close).unwrap();
        assert_eq!(node.ask::<WaitResponse>("Wait", "c").exit_status, 0);
        let _gone: DeleteResponse = node.ask("Delete", "c");
        fs::remove_dir_all(&bundle.dir).unwrap();
    }
    node.end();
}

/// The time of processors that this process has taken so far, where a test is a process.
fn node_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn a_paused_guest_stands_still_and_can_be_killed() {
    let node = Node::new();
    node.bundle("c", &spins()).start(&node);
    let _paused: Empty = node.ask("Pause", "c");
    assert_eq!(node.ask::<StateResponse>("State", "c").status, 4);
    assert_eq!(refusal(node.call::<Empty>("Pause", &named("c"))).0, 9);
    let _resumed: Empty = node.ask("Resume", "c");
    assert_eq!(node.ask::<StateResponse>("State", "c").status, 2);
    let _paused: Empty = node.ask("Pause", "c");
    let _killed: Empty = node.call("Kill", &signal("c", 9)).unwrap();
    assert_eq!(node.ask::<WaitResponse>("Wait", "c").exit_status, 137);
    let _gone: DeleteResponse = node.ask("Delete", "c");
    let topics = node.until("c", "delete");
    assert_eq!(
        topics,
        [
            "create", "start", "paused", "resumed", "paused", "exit", "delete"
        ]
    );
    node.end();
}

#[test]
fn figures_are_those_of_the_guests_memory() {
    let node = Node::new();
    let mut bundle = node.bundle("c", &spins());
    bundle.spec["linux"] = json!({"resources": {"memory": {"limit": 64 << 20}}});
    bundle.start(&node);
    let start = Instant::now();
    let figures = || {
        let stats: StatsResponse = node.ask("Stats", "c");
        let stats = stats.stats.unwrap();
        assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = CgroupMetrics::decode(&stats.value).unwrap();
        let nanos = metrics.cpu.unwrap().usage.unwrap().total;
        (metrics.memory.unwrap(), Duration::from_nanos(nanos))
    };
    let memory = loop {
        let (memory, time) = figures();
        if memory.rss > 0 && time > Duration::from_millis(20) {
            break memory;
        }
        assert!(start.elapsed() < LONG);
    };
    let _paused: Empty = node.ask("Pause", "c");
    thread::sleep(Duration::from_millis(100));
    let (_, before) = figures();
    thread::sleep(Duration::from_millis(200));
    let (_, after) = figures();
    assert!(after >= before && after - before < Duration::from_millis(100));
    assert_eq!(
        (memory.rss, memory.hierarchical_memory_limit),
        (3 * 65536, 64 << 20)
    );
    let pids: PidsResponse = node.ask("Pids", "c");
    assert_eq!(
        pids.processes,
        [ProcessInfo {
            pid: std::process::id()
        }]
    );
    let _killed: Empty = node.call("Kill", &signal("c", 9)).unwrap();
    let _ended: WaitResponse = node.ask("Wait", "c");
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}

#[test]
fn layers_and_mounts_are_what_the_guest_sees() {
    let node = Node::new();
    let mut bundle = node.bundle("c", "");
    // Two layers and what was written above, as overlayfs would have them mounted.
    let home = node.dir.path().join("layers");
    for (layer, text) in [("1", "lower"), ("2", "upper"), ("3", "")] {
        fs::create_dir_all(home.join(layer)).unwrap();
        fs::write(home.join(layer).join("file"), text).unwrap();
    }
    fs::remove_file(home.join("3/file")).unwrap();
    fs::write(home.join("1/app.wasm"), shows("file")).unwrap();
    let path = |layer: &str| home.join(layer).to_str().unwrap().to_owned();
    bundle.request.rootfs = vec![MountMessage {
        kind: "overlay".into(),
        source: "overlay".into(),
        options: vec![
            format!("lowerdir={}:{}", path("2"), path("1")),
            format!("upperdir={}", path("3")),
            format!("workdir={}", path("w")),
        ],
        ..MountMessage::default()
    }];
    assert_eq!(bundle.run(&node), (0, "upper".into(), String::new()));
    // A directory of the host, as a ConfigMap is one.
    let shown = node.dir.path().join("shown");
    fs::create_dir_all(shown.join("..data")).unwrap();
    fs::write(shown.join("..data/setting"), "of the host").unwrap();
    std::os::unix::fs::symlink("..data/setting", shown.join("setting")).unwrap();
    fs::write(home.join("1/app.wasm"), shows("setting")).unwrap();
    fs::rename(home.join("1"), home.join("4")).unwrap();
    bundle.request.rootfs[0].options[0] = format!("lowerdir={}", path("4"));
    bundle.spec["mounts"] = json!([
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/etc/config", "type": "bind", "source": shown, "options": ["rbind", "ro"]},
    ]);
    assert_eq!(bundle.run(&node), (0, "of the host".into(), String::new()));
    node.end();
}

#[test]
fn components_run_as_modules_do() {
    let node = Node::new();
    for (id, text) in [
        ("p2", include_str!("../../../examples/embed_p2.wat")),
        ("p3", include_str!("../../../examples/embed_p3.wat")),
    ] {
        // It writes a file into its root, and fails if it cannot.
        let mut bundle = node.bundle(id, text);
        assert_eq!(bundle.run(&node).0, 0, "{id}");
        bundle.spec["root"]["readonly"] = json!(true);
        assert_ne!(bundle.run(&node).0, 0, "{id}");
    }
    node.end();
}

#[test]
fn containers_of_a_prepared_image_go_on_where_it_was_frozen() {
    let node = Node::new();
    let mut bundle = node.bundle("c", "");
    let root = bundle.dir.join("rootfs");
    prepare(&root, copies(), &["/app.wasm", "x"], Vec::new());
    let text = refusal(bundle.create(&node)).1;
    assert!(
        text.contains("goes on with [\"/app.wasm\", \"x\"]"),
        "{text}"
    );
    bundle.spec["process"]["args"] = json!(["/app.wasm", "x"]);
    bundle.request.stdin = bundle.dir.join("in").to_str().unwrap().into();
    for word in ["one", "two"] {
        let out = bundle.open("out");
        bundle.start(&node);
        input(&bundle).write_all(word.as_bytes()).unwrap();
        assert_eq!(node.ask::<WaitResponse>("Wait", "c").exit_status, 0);
        assert_eq!(out.text(), word);
        let _gone: DeleteResponse = node.ask("Delete", "c");
    }
    // What is there of it is damaged.
    fs::write(root.join(".stratafs/frozen/program.wasm"), "(module)").unwrap();
    let text = refusal(bundle.create(&node)).1;
    assert!(text.starts_with("prepared image: "), "{text}");
    node.end();
}

#[test]
fn a_pod_itself_stands_until_it_is_killed() {
    let node = Node::new();
    let mut bundle = node.bundle("pod", "");
    bundle.spec = json!({"annotations": {"io.kubernetes.cri.container-type": "sandbox"}});
    bundle.start(&node);
    assert_eq!(node.ask::<StateResponse>("State", "pod").status, 2);
    let _killed: Empty = node.call("Kill", &signal("pod", 9)).unwrap();
    assert_eq!(node.ask::<WaitResponse>("Wait", "pod").exit_status, 137);
    let _gone: DeleteResponse = node.ask("Delete", "pod");
    assert_eq!(
        node.until("pod", "delete"),
        ["create", "start", "exit", "delete"]
    );
    node.end();
}

#[test]
fn a_hundred_containers_run_at_once() {
    let node = Node::new();
    let ids: Vec<_> = (0..100).map(|at| format!("c{at}")).collect();
    let start = Instant::now();
    for id in &ids {
        node.bundle(id, &sleeps()).start(&node);
    }
    let started = start.elapsed();
    for id in &ids {
        let _killed: Empty = node.call("Kill", &signal(id, 9)).unwrap();
    }
    for id in &ids {
        assert_eq!(node.ask::<WaitResponse>("Wait", id).exit_status, 137);
        let _gone: DeleteResponse = node.ask("Delete", id);
    }
    for id in &ids {
        assert_eq!(
            node.until(id, "delete"),
            ["create", "start", "exit", "delete"]
        );
    }
    println!(
        "100 containers: {started:?} to make and start, {:?} in all",
        start.elapsed()
    );
    assert!(started < LONG);
    node.end();
}
