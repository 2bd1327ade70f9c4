//! Users of a spec: what a guest hears of them, and what is refused.

use std::fs;

use serde_json::json;

use crate::node::*;

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
