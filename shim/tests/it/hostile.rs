//! Specs, connections and guests that mean harm.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stratafs_shim::messages::*;
use stratafs_shim::status::Status;
use stratafs_shim::ttrpc::{self, Answer, Answered, Client, OpenConnections, ServeBounds};

use crate::node::*;

#[test]
fn hostile_specs_are_refused_by_name_and_leave_nothing() {
    let node = Node::with(|config| config.max_root_bytes = 1 << 20);
    let refused = |change: &dyn Fn(&mut Bundle)| {
        let mut bundle = node.bundle("c", &says("", 0));
        change(&mut bundle);
        let refused = refusal(bundle.create(&node));
        fs::remove_dir_all(&bundle.dir).unwrap();
        refused
    };
    let of_spec =
        |field: &str, value: Value| refused(&|bundle| bundle.spec[field] = value.clone()).1;
    let process = |value: Value| of_spec("process", value);
    assert!(process(json!({"args": []})).contains("process.args"));
    assert!(process(json!({"args": ["/none.wasm"]})).contains("/none.wasm"));
    assert!(process(json!({"args": ["/app.wasm"], "cwd": "/../.."})).contains("process.cwd"));
    assert!(process(json!({"args": ["/app.wasm"], "terminal": true})).contains("terminal"));
    assert!(process(json!({"args": ["/../../../../../../bin/sh"]})).contains("/bin/sh"));
    let memory =
        |limit: Value| of_spec("linux", json!({"resources": {"memory": {"limit": limit}}}));
    assert!(memory(json!(-7)).contains("linux.resources.memory.limit"));
    assert!(memory(json!(u64::MAX)).contains("invalid value"));
    let mount = |source: &Path| {
        of_spec(
            "mounts",
            json!([{"destination": "/m", "type": "bind", "source": source, "options": ["rw"]}]),
        )
    };
    // What is the runtime's own: other bundles, sockets, and directories above.
    assert!(mount(&node.dir.path().join("bundles/tests")).contains("the runtime's own"));
    assert!(mount(node.dir.path()).contains("mount it read-only"));
    assert!(mount(Path::new("/")).contains("mount it read-only"));
    assert!(mount(Path::new("/dev/null")).contains("neither a directory nor a file"));
    let root = |root: &str| of_spec("root", json!({"path": root}));
    assert!(root("/nowhere").contains("rootfs: /nowhere"));
    let of_request =
        |change: &dyn Fn(&mut CreateTaskRequest)| refused(&|bundle| change(&mut bundle.request));
    for id in ["", ".", "../c", "a/b", &"x".repeat(77)] {
        let (code, text) = of_request(&|request| request.id = id.into());
        assert_eq!((code, text.starts_with("id ")), (3, true), "{text}");
    }
    assert!(
        of_request(&|request| request.bundle = "/a/../b".into())
            .1
            .contains("bundle")
    );
    assert!(
        of_request(&|request| request.stdout = "/etc/passwd".into())
            .1
            .contains("not a FIFO")
    );
    assert!(
        of_request(&|request| request.stdout = "binary:///bin/sh".into())
            .1
            .contains("stdout binary:")
    );
    assert_eq!(
        of_request(&|request| request.checkpoint = "/c".into()).0,
        12
    );
    assert_eq!(of_request(&|request| request.terminal = true).0, 3);
    let (_, text) =
        refused(&|bundle| fs::write(bundle.dir.join("rootfs/app.wasm"), "\u{7f}ELF").unwrap());
    assert!(text.contains("not WebAssembly"), "{text}");
    let (_, text) = refused(&|bundle| {
        let file = fs::File::create(bundle.dir.join("rootfs/large")).unwrap();
        (&file).write_all(&vec![1; 2 << 20]).unwrap();
    });
    assert!(text.contains("more than 1048576 bytes"), "{text}");
    let (_, text) = refused(&|bundle| {
        let file = fs::File::create(bundle.dir.join("rootfs/app.wasm")).unwrap();
        file.set_len(stratafs_shim::limits::MAX_PROGRAM_BYTES + 1)
            .unwrap();
    });
    assert!(text.starts_with("program /app.wasm: "), "{text}");
    // The service is as it was.
    assert!(node.topics("c").is_empty());
    assert_eq!(
        node.bundle("c", &says("fine", 0)).run(&node),
        (0, "fine".into(), String::new())
    );
    node.end();
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let node = Node::new();
    node.bundle("c", &sleeps()).start(&node);
    for (method, word) in [
        ("Exec", "run another container"),
        ("Update", "bounds are set"),
        ("Checkpoint", "not frozen"),
        ("ResizePty", "no terminal"),
        ("Dance", "no method \"Dance\""),
    ] {
        let (code, text) = refusal(node.call::<Empty>(method, &named("c")));
        assert_eq!((code, text.contains(word)), (12, true), "{text}");
    }
    let of_exec = ProcessRequest {
        id: "c".into(),
        exec_id: "e".into(),
    };
    assert_eq!(refusal(node.call::<StateResponse>("State", &of_exec)).0, 5);
    let again = node.bundle("d", &sleeps());
    let mut same = again.request.clone();
    same.id = "c".into();
    again.write();
    assert_eq!(refusal(node.call::<PidResponse>("Create", &same)).0, 6);
    let _killed: Empty = node.call("Kill", &signal("c", 9)).unwrap();
    let _ended: WaitResponse = node.ask("Wait", "c");
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}

#[test]
fn a_guest_that_fails_harms_no_other() {
    let node = Node::new();
    node.bundle("good", &sleeps()).start(&node);
    let (code, out, err) = node.bundle("trap", &program("unreachable")).run(&node);
    assert_eq!((code, out.as_str()), (134, ""));
    assert!(err.contains("the guest trapped"), "{err}");
    let deep = "(module (memory (export \"memory\") 1) (func $f (call $f)) (func (export \"_start\") (call $f)))";
    assert_eq!(node.bundle("deep", deep).run(&node).0, 134);
    let mut large = node.bundle(
        "large",
        &program("(drop (memory.grow (i32.const 1000))) (call $exit (i32.const 5))"),
    );
    large.spec["linux"] = json!({"resources": {"memory": {"limit": 1 << 20}}});
    let (code, _, err) = large.run(&node);
    assert_eq!(code, 137);
    assert!(err.contains("1048576 bytes"), "{err}");
    let topics = node.until("large", "delete");
    assert_eq!(topics, ["create", "start", "oom", "exit", "delete"]);
    // Without a reader, what a guest wrote is in nobody's way.
    node.bundle("flood", &floods()).start(&node);
    let _killed: Empty = node.call("Kill", &signal("flood", 9)).unwrap();
    let _ended: WaitResponse = node.ask("Wait", "flood");
    let _gone: DeleteResponse = node.ask("Delete", "flood");
    assert_eq!(node.ask::<StateResponse>("State", "good").status, 2);
    let _killed: Empty = node.call("Kill", &signal("good", 15)).unwrap();
    assert_eq!(node.ask::<WaitResponse>("Wait", "good").exit_status, 143);
    let _gone: DeleteResponse = node.ask("Delete", "good");
    node.end();
}

#[test]
fn who_talks_nonsense_is_let_go_and_others_are_not() {
    let node = Node::new();
    let mut other = UnixStream::connect(&node.socket).unwrap();
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 9]] {
        let mut stream = UnixStream::connect(&node.socket).unwrap();
        stream.write_all(junk).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap_or(0);
        assert!(rest.is_empty());
    }
    // A frame whose message is none, and one that is cut, get an answer or nothing.
    other
        .write_all(&[0, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0x0a])
        .unwrap();
    let mut head = [0; 10];
    other.set_read_timeout(Some(LONG)).unwrap();
    other.read_exact(&mut head).unwrap();
    assert_eq!(head[4..9], [0, 0, 0, 1, 2]);
    other
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    assert_eq!(node.bundle("c", &says("fine", 0)).run(&node).0, 0);
    node.end();
}

#[test]
fn containers_past_the_bound_are_refused() {
    let node = Node::with_room(2);
    node.bundle("a", &sleeps()).create(&node).unwrap();
    node.bundle("b", &sleeps()).create(&node).unwrap();
    let (code, text) = refusal(node.bundle("c", &sleeps()).create(&node));
    assert_eq!(
        (code, text.as_str()),
        (8, "there are 2 containers, which is the limit")
    );
    for id in ["d", "e", "f"] {
        let answered = node.call::<ConnectResponse>("Connect", &named(id));
        // The first one is announced already.
        assert_eq!(answered.is_ok(), id == "d");
    }
    for id in ["a", "b"] {
        let _gone: DeleteResponse = node.ask("Delete", id);
    }
    assert_eq!(node.bundle("d", &says("", 4)).run(&node).0, 4);
    node.end();
}

/// Answers once it may.
struct Late(tokio::sync::Semaphore);

impl Answer for Late {
    async fn answer(self: Arc<Self>, _: String, _: String, _: Vec<u8>) -> Result<Answered, Status> {
        drop(self.0.acquire().await);
        Ok(Answered::default())
    }
}

#[test]
fn connections_and_calls_past_the_bound_wait() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    runtime().block_on(async {
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let late = Arc::new(Late(tokio::sync::Semaphore::new(0)));
        let bounds = ServeBounds {
            connections: 1,
            calls: 1,
        };
        let open = OpenConnections::default();
        tokio::spawn(ttrpc::serve(listener, Arc::clone(&late), bounds, open));
        let short = Duration::from_millis(50);
        let mut one = Client::connect(&socket).await.unwrap();
        let mut two = Client::connect(&socket).await.unwrap();
        let empty = Empty;
        // The call goes on after its caller has stopped waiting, and takes the one place.
        let first = tokio::time::timeout(short, one.call::<Empty>("s", "m", &empty)).await;
        assert!(first.is_err());
        late.0.add_permits(1);
        // Answers to the call before are not taken for its own.
        one.call::<Empty>("s", "m", &empty).await.unwrap();
        let other = tokio::time::timeout(short, two.call::<Empty>("s", "m", &empty)).await;
        assert!(other.is_err(), "a connection too many was answered");
        drop(one);
        let mut three = Client::connect(&socket).await.unwrap();
        drop(two);
        let third = tokio::time::timeout(LONG, three.call::<Empty>("s", "m", &empty)).await;
        third.unwrap().unwrap();
    });
}

#[test]
fn a_container_that_is_deleted_while_it_is_made_is_not_there_afterwards() {
    let node = Node::new();
    // It takes a while to compile.
    let functions: String = (0..4000)
        .map(|at| format!("(func (result i32) (i32.mul (i32.const {at}) (i32.const 7)))"))
        .collect();
    let bundle = node.bundle(
        "c",
        &format!("(module {functions} (func (export \"_start\")))"),
    );
    std::thread::scope(|scope| {
        let made = scope.spawn(|| bundle.create(&node));
        while !made.is_finished() {
            let killed = node.call::<Empty>("Kill", &signal("c", 9));
            assert_eq!(refusal(killed).0, 5);
        }
        let (code, text) = refusal(made.join().unwrap());
        assert_eq!(
            (code, text.contains("deleted while it was made")),
            (5, true),
            "{text}"
        );
    });
    assert!(node.topics("c").is_empty());
    assert_eq!(
        refusal(node.call::<StateResponse>("State", &named("c"))).0,
        5
    );
    // Its name is free.
    bundle.start(&node);
    assert_eq!(node.ask::<WaitResponse>("Wait", "c").exit_status, 0);
    let _gone: DeleteResponse = node.ask("Delete", "c");
    node.end();
}
