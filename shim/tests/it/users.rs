//! Users of a spec: what a guest hears of them, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::{Value, json};
use stratafs::runner::HostDir;
use stratafs::vfs::Rights;
use stratafs_shim::messages::*;

use crate::node::*;
use crate::support::guest::{World, guest};

/// Writes its environment.
fn tells_env() -> &'static str {
    r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (drop (call $env (i32.const 1024) (i32.const 4096)))
        (i32.store (i32.const 8) (i32.const 4096)) (i32.store (i32.const 12) (i32.load (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#
}

#[test]
fn a_guest_is_told_the_home_of_its_user_and_nothing_else_of_users() {
    let node = Node::new();
    let mut bundle = node.bundle("c", tells_env());
    let etc = bundle.dir.join("rootfs/etc");
    let mut told = |user: serde_json::Value, env: &[&str]| {
        bundle.spec["process"]["user"] = user;
        bundle.spec["process"]["env"] = json!(env);
        let (code, out, err) = bundle.run(&node);
        assert_eq!(code, 0, "{err}");
        out.split_terminator('\0')
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let app = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    assert_eq!(told(app.clone(), &["A=1"]), ["A=1", "PWD=/", "HOME=/"]);
    fs::create_dir(&etc).unwrap();
    fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:\napp:x:7:8::/srv/app:\n",
    )
    .unwrap();
    assert_eq!(told(app.clone(), &[]), ["PWD=/", "HOME=/srv/app"]);
    assert_eq!(told(json!({}), &[]), ["PWD=/", "HOME=/root"]);
    assert_eq!(told(json!({"uid": 8}), &[]), ["PWD=/", "HOME=/"]);
    assert_eq!(told(app.clone(), &["HOME=/h"]), ["HOME=/h", "PWD=/"]);
    // A file that is none, and one that is too large, are no reason not to run.
    fs::File::create(etc.join("passwd"))
        .and_then(|file| file.set_len((1 << 20) + 1))
        .unwrap();
    assert_eq!(told(app.clone(), &[]), ["PWD=/", "HOME=/"]);
    fs::remove_file(etc.join("passwd")).unwrap();
    fs::create_dir(etc.join("passwd")).unwrap();
    assert_eq!(told(app, &[]), ["PWD=/", "HOME=/"]);
    bundle.spec["process"]["user"] = json!({"username": "app"});
    let (code, text) = refusal(bundle.create(&node));
    assert_eq!(code, 3);
    assert!(text.contains("process.user.username: \"app\""), "{text}");
    node.end();
}

/// A directory of the host that is shown, and what is in it: each with its owner, its group and its mode.
struct Shown {
    node: Node,
    dir: PathBuf,
}

impl Shown {
    /// `None` where files cannot be given to others, which it says.
    fn new() -> Option<Self> {
        let node = Node::new();
        let dir = node.dir.path().join("shown");
        let shown = Self { node, dir };
        fs::create_dir(&shown.dir).unwrap();
        if chown(&shown.dir, Some(1), Some(1)).is_err() {
            eprintln!("left out: this process is not root's");
            return None;
        }
        let of = |name: &str, uid, gid, mode| shown.of(name, uid, gid, mode);
        of("", 0, 0, 0o755);
        for (name, gid, mode) in [
            ("open", 0, 0o777),
            ("ours", 3000, 0o2770),
            ("closed", 0, 0o700),
        ] {
            fs::create_dir(shown.dir.join(name)).unwrap();
            of(name, 0, gid, mode);
        }
        for (name, uid, gid, mode) in [
            ("open/all", 0, 0, 0o644),
            ("open/root", 0, 0, 0o600),
            ("open/app", 1000, 0, 0o600),
            ("open/group", 0, 2000, 0o640),
            ("closed/all", 0, 0, 0o644),
        ] {
            fs::write(shown.dir.join(name), "secret").unwrap();
            of(name, uid, gid, mode);
        }
        Some(shown)
    }

    fn of(&self, name: &str, uid: u32, gid: u32, mode: u32) {
        let path = self.dir.join(name);
        chown(&path, Some(uid), Some(gid)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn bundle(&self, id: &str, world: World, user: &Value, tries: &[&str]) -> Bundle {
        let mut bundle = self.node.bundle(id, "");
        fs::copy(guest("may", world), bundle.dir.join("rootfs/app.wasm")).unwrap();
        bundle.spec["process"] = user.clone();
        bundle.spec["process"]["args"] = ["/app.wasm"].iter().chain(tries).copied().collect();
        bundle.spec["mounts"] = json!([
            {"destination": "/host", "type": "bind", "source": self.dir, "options": ["rw"]},
        ]);
        bundle
    }

    fn tries(&self, world: World, user: &Value, tries: &[&str]) -> Vec<String> {
        let bundle = self.bundle("c", world, user, tries);
        let (code, out, err) = bundle.run(&self.node);
        assert_eq!((code, &*err), (0, ""), "{out}");
        fs::remove_dir_all(&bundle.dir).unwrap();
        out.lines().map(str::to_owned).collect()
    }

    fn owner(&self, name: &str) -> (u32, u32) {
        let meta = fs::metadata(self.dir.join(name)).unwrap();
        (meta.uid(), meta.gid())
    }
}

const ALL: [&str; 11] = [
    "read:/host/open/all",
    "read:/host/open/root",
    "read:/host/open/app",
    "read:/host/open/group",
    "read:/host/closed/all",
    "list:/host/closed",
    "write:/host/new",
    "write:/host/open/new",
    "mkdir:/host/open/dir",
    "write:/host/ours/new",
    "write:/host/open/all",
];

#[test]
fn files_of_the_host_are_reached_as_the_user_of_the_spec_and_made_as_its_own() {
    let Some(shown) = Shown::new() else { return };
    let app = json!({"user": {"uid": 1000, "gid": 2000, "additionalGids": [3000]}});
    let no = "EACCES";
    for world in [World::P1, World::P2, World::P3] {
        let said = shown.tries(world, &app, &ALL);
        let want = ["ok", no, "ok", "ok", no, no, no, "ok", "ok", "ok", no];
        assert_eq!(said, want, "{world:?}");
        assert_eq!(shown.owner("open/new"), (1000, 2000));
        assert_eq!(shown.owner("open/dir"), (1000, 2000));
        // Of a directory that hands its group on, as volumes with an fsGroup do.
        assert_eq!(shown.owner("ours/new"), (1000, 3000));
        // Another user: neither the owner nor of the group.
        let other = json!({"user": {"uid": 1001, "gid": 1001}});
        let said = shown.tries(world, &other, &ALL);
        let want = ["ok", no, no, no, no, no, no, no, "EEXIST", no, no];
        assert_eq!(said, want, "{world:?}");
        for name in ["open/new", "ours/new"] {
            fs::remove_file(shown.dir.join(name)).unwrap();
        }
        fs::remove_dir(shown.dir.join("open/dir")).unwrap();
        // Root may all, and makes what is root's.
        let said = shown.tries(world, &json!({}), &ALL);
        assert_eq!(said, vec!["ok"; ALL.len()], "{world:?}");
        assert_eq!(shown.owner("open/new"), (0, 0));
        for name in ["open/new", "ours/new", "new"] {
            fs::remove_file(shown.dir.join(name)).unwrap();
        }
        fs::remove_dir(shown.dir.join("open/dir")).unwrap();
        // Root without what lets it past the rights of others.
        let less = json!({"user": {}, "capabilities": {"effective": ["CAP_KILL"]}});
        let said = shown.tries(world, &less, &ALL);
        let mut want = ["ok"; ALL.len()];
        want[2] = no;
        assert_eq!(said, want, "{world:?}");
        for name in ["open/new", "ours/new", "new"] {
            fs::remove_file(shown.dir.join(name)).unwrap();
        }
        fs::remove_dir(shown.dir.join("open/dir")).unwrap();
    }
    shown.node.end();
}

#[test]
fn users_of_one_process_are_told_apart_at_any_moment() {
    let Some(shown) = Shown::new() else { return };
    let users = [0_u32, 1000, 1001];
    let what = [&["read:/host/open/app", "read:/host/open/root"][..]; 40].concat();
    let bundles = users.map(|uid| {
        let user = json!({"user": {"uid": uid, "gid": uid}});
        shown.bundle(&format!("u{uid}"), World::P1, &user, &what)
    });
    let said = std::thread::scope(|scope| {
        let runs = bundles.each_ref().map(|bundle| {
            let node = &shown.node;
            scope.spawn(move || (0..5).map(|_| bundle.run(node).1).collect::<Vec<_>>())
        });
        runs.map(|run| run.join().unwrap())
    });
    for (said, want) in said
        .iter()
        .zip(["ok\nok\n", "ok\nEACCES\n", "EACCES\nEACCES\n"])
    {
        assert_eq!(said, &vec![want.repeat(40); 5]);
    }
    // No thread of the process is anybody else's than before.
    crate::netns::until("threads of guests have ended", || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let mut texts =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        texts.all(|text| text.contains("\nUid:\t0\t0\t0\t0\n"))
    });
    shown.node.end();
}

#[test]
fn an_unreadable_file_and_an_invalid_user_are_refused_by_name() {
    let Some(shown) = Shown::new() else { return };
    let refused = |user: Value, name: &str| {
        let mut bundle = shown.bundle("c", World::P1, &json!({"user": user}), &[]);
        bundle.spec["mounts"] = json!([{
            "destination": "/key", "type": "bind", "source": shown.dir.join(name), "options": ["ro"],
        }]);
        let created = bundle.create(&shown.node);
        fs::remove_dir_all(&bundle.dir).unwrap();
        if created.is_ok() {
            let _gone: DeleteResponse = shown.node.ask("Delete", "c");
            return None;
        }
        Some(refusal(created).1)
    };
    let app = json!({"uid": 1000, "gid": 2000});
    let text = refused(app.clone(), "open/root").unwrap();
    assert!(text.contains("mount \"/key\""), "{text}");
    let words = "user 1000:2000 may not read it: it is 0:0's with mode 0600";
    assert!(text.contains(words), "{text}");
    // What lies above it is the host's affair: a mount leads to the file itself.
    for name in ["open/app", "open/group", "open/all", "closed/all"] {
        assert_eq!(refused(app.clone(), name), None, "{name}");
    }
    assert_eq!(refused(json!({}), "open/root"), None);
    for (user, words) in [
        (json!({"uid": u32::MAX}), "is not the number of a user"),
        (json!({"additionalGids": vec![1; 257]}), "the limit is 256"),
        (json!({"umask": 0o077}), "process.user.umask: 0o77"),
    ] {
        let text = refused(user, "open/all").unwrap();
        assert!(text.contains(words), "{text}");
    }
    shown.node.end();
}

/// Opens a file in whichever directory has it, asks for input, and writes what the file holds.
fn opens(name: &str, rights: u32) -> String {
    let body = format!(
        "(local.set $fd (i32.const 3))
         (block $opened (loop $l
            (br_if $opened (i32.eqz (call $open (local.get $fd) (i32.const 1) (i32.const 16) (i32.const {})
                (i32.const 0) (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 12))))
            (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $fd) (i32.const 12)))
            (call $exit (i32.const 9))))
         (local.set $fd (i32.load (i32.const 12)))
         (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 1000))
         (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
         (drop (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 4)))
         (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
         (call $exit (i32.const 0))",
        name.len()
    );
    program(&body).replace(
        "(func (export",
        &format!("(data (i32.const 16) \"{name}\") (func (export"),
    )
}

#[test]
fn what_a_prepared_guest_had_open_of_the_host_is_opened_again_as_the_user_of_the_spec() {
    let Some(shown) = Shown::new() else { return };
    let app = json!({"user": {"uid": 1000, "gid": 2000}});
    let other = json!({"user": {"uid": 1001, "gid": 1001}});
    let root = json!({});
    let less = json!({"user": {}, "capabilities": {"effective": ["CAP_KILL"]}});
    let (reads, writes) = (2, 2 | 64);
    let cases = [
        ("open/all", reads, [true, true, true, true]),
        ("open/all", writes, [false, false, true, true]),
        ("open/root", reads, [false, false, true, true]),
        ("open/app", reads, [true, false, true, false]),
        ("open/group", reads, [true, false, true, true]),
        ("closed/all", reads, [false, false, true, true]),
    ];
    for (number, (name, rights, may)) in cases.into_iter().enumerate() {
        // Whoever prepares an image may open all of it.
        let made = shown.bundle(&format!("made{number}"), World::P1, &root, &[]);
        let frozen = made.dir.join("rootfs");
        let host = HostDir {
            dir: shown.dir.clone(),
            guest: "/host".into(),
            rights: Rights::ReadWrite,
        };
        prepare(&frozen, opens(name, rights), &["/app.wasm"], vec![host]);
        for (user, may) in [&app, &other, &root, &less].into_iter().zip(may) {
            let mut bundle = shown.bundle("c", World::P1, user, &[]);
            bundle.spec["root"]["path"] = json!(frozen);
            let (code, out, err) = bundle.run(&shown.node);
            fs::remove_dir_all(&bundle.dir).unwrap();
            if may {
                assert_eq!((code, &*out, &*err), (0, "secret", ""), "{name} as {user}");
                continue;
            }
            assert_eq!((code, &*out), (1, ""), "{name} as {user}: {err}");
            let words = format!("{name}: the guest had it open when it was frozen");
            assert!(err.contains(&words), "{err:?} as {user}");
        }
    }
    shown.node.end();
}
