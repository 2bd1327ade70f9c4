//! Volumes, places in listings, traces and runs that repeat.

use std::fs;

use super::{Cli, Done};
use crate::support::script::{NOENT, OK, ROOT, Script};

fn shown(done: &Done) -> String {
    String::from_utf8_lossy(&done.fine().stdout).into_owned()
}

#[test]
fn a_volume_is_shared_by_all_instances_of_a_run() {
    let cli = Cli::new();
    // Each instance lists what is there, then leaves something.
    let script = Script::new()
        .list(ROOT + 1)
        .write_in(ROOT + 1, "left", b"x", OK, OK)
        .write("private", b"x");
    let done = cli.script("--volume v::/data --instances 2", &script);
    assert_eq!(shown(&done).matches("left").count(), 1);
    // Another run starts with an empty one.
    assert!(!shown(&cli.script("--volume v::/data", &script)).contains("left"));
}

#[test]
fn a_volume_at_two_places_is_one() {
    let cli = Cli::new();
    let script = Script::new()
        .write_in(ROOT + 1, "x", b"through a", OK, OK)
        .cat_in(ROOT + 2, "x", OK)
        .cat_in(ROOT + 3, "x", NOENT);
    let done = cli.script("--volume v::/a --volume v::/b --volume w::/c", &script);
    assert_eq!(done.fine().text(), "through a");
    // It stays writable where the instance is not.
    cli.script(
        "--read-only --volume v::/a --volume v::/b --volume w::/c",
        &script,
    )
    .fine();
}

#[test]
fn a_volume_is_reached_by_a_path_from_above() {
    let cli = Cli::new();
    let script = Script::new()
        .write_in(ROOT, "deep/v/x", b"from above", OK, OK)
        .cat_in(ROOT + 1, "x", OK)
        .cat_in(ROOT, "deep/v/../v/x", OK);
    let done = cli.script("--volume v::/deep/v", &script);
    assert_eq!(done.fine().text(), "from abovefrom above");
}

#[test]
fn invalid_volumes_are_refused() {
    let cli = Cli::new();
    cli.guest(&Script::new()).file("base/file", "");
    for bad in ["v", "v::", "::/a", "v::/a::ro"] {
        cli.run(&format!("run --volume {bad} guest.wat"))
            .refused(&["--volume", "NAME::GUEST_DIR"]);
    }
    cli.run("run --volume v::/ guest.wat").failed(1, &["twice"]);
    cli.run("run --layer base --volume v::/file guest.wat")
        .failed(1, &["/file", "not a directory"]);
}

#[test]
fn case_p10_directories_below_others_are_listed_there() {
    let cli = Cli::new();
    cli.file("host/in", "").file("base/app/x", "");
    let options = "--layer base --preopen /::/ --preopen /app::/srv/app --dir host::/from-host \
                   --volume v::/shared";
    let listed = shown(&cli.script(options, &Script::new().list(ROOT)));
    for name in ["srv", "from-host", "shared"] {
        assert!(listed.contains(name), "{name} in {listed:?}");
    }
}

#[test]
fn a_trace_tells_files_and_bytes_in_the_order_of_first_touch() {
    let cli = Cli::new();
    cli.file("base/a", "first").file("base/dir/b", "0123456789");
    cli.file("base/unread", "x");
    let script = Script::new()
        .write("new", b"not of the base")
        .cat("dir/b")
        .cat("a")
        .cat("dir/b")
        .keep_open("unread", OK);
    let done = cli.script("--layer base --instances 2 --trace t", &script);
    done.fine();
    let text = fs::read_to_string(cli.path("t")).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = |instance, path: &str, size: u64, opens, ranges: &[(u64, u64)]| {
        let read: u64 = ranges.iter().map(|(from, to)| to - from).sum();
        serde_json::json!({
            "instance": instance, "path": path, "size_bytes": size,
            "opens": opens, "read_bytes": read, "ranges": ranges,
        })
    };
    let of = |instance| {
        [
            line(instance, "/dir/b", 10, 2, &[(0, 10)]),
            line(instance, "/a", 5, 1, &[(0, 5)]),
            line(instance, "/unread", 1, 1, &[]),
        ]
    };
    assert_eq!(lines, [of(0), of(1)].concat());
    cli.run("run --trace missing/t guest.wat")
        .failed(1, &["missing/t"]);
}

/// Prints 32 random bytes and both clocks.
const WORLDLY: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $random (i32.const 64) (i32.const 32)))
    (drop (call $clock (i32.const 0) (i64.const 0) (i32.const 96)))
    (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 104)))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 48))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn case_p31_two_deterministic_runs_leave_the_same_bytes() {
    let cli = Cli::new();
    cli.file("base/a", "a").file("base/dir/b", "b");
    let script = Script::new()
        .mkdir("made", OK)
        .write("made/x", b"x")
        .write("a", b"changed")
        .rename("dir", "moved")
        .unlink("moved/b", OK)
        .list(ROOT);
    let run = |diff: &str| {
        let options = format!("--layer base --deterministic --volume v::/v --diff {diff}");
        let done = cli.script(&options, &script);
        (
            done.fine().stdout.clone(),
            fs::read(cli.path(diff)).unwrap(),
        )
    };
    assert_eq!(run("one.tar"), run("two.tar"));
    cli.file("guest.wat", WORLDLY);
    let world = |options: &str| {
        let done = cli.run(&format!("run {options} guest.wat"));
        assert_eq!(done.fine().stdout.len() % 48, 0);
        done.stdout.clone()
    };
    assert_eq!(world("--deterministic"), world("--deterministic"));
    assert_ne!(world(""), world(""));
    let two = world("--deterministic --instances 2");
    assert_ne!(two[..32], two[48..80]);
}
