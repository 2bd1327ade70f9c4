//! `store gc --max-size` and `--older-than`: a store that is a cache.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Cli;

/// Prints once it runs, and ends when its standard input does.
const WAITS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00")
  (data (i32.const 16) "runs\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// A folder with `a:1`, `b:1` and `c:1`, a megabyte each.
fn world() -> Cli {
    let cli = Cli::new();
    for (seed, name) in [(1_u32, "a"), (2, "b"), (3, "c")] {
        cli.file(&format!("{name}/app.wat"), WAITS);
        let noise: Vec<u8> = (0..250_000_u32)
            .flat_map(|n| {
                (n + seed * 1_000_000)
                    .wrapping_mul(2_654_435_761)
                    .to_le_bytes()
            })
            .collect();
        cli.file(&format!("{name}/noise"), noise);
        cli.run(&format!("image import {name} --tag {name}:0"))
            .fine();
        cli.run(&format!(
            "image mutate {name}:0 --entrypoint /app.wat --tag {name}:1"
        ))
        .fine();
        cli.run(&format!("image push {name}:1 ./place/{name}:1"))
            .fine();
    }
    cli
}

fn pull_all(cli: &Cli) {
    for name in ["a", "b", "c"] {
        cli.run(&format!("image pull ./place/{name}:1 --store cache"))
            .fine();
    }
}

fn gc(cli: &Cli, more: &str) -> Value {
    let done = cli.run(&format!("store gc {more} --store cache --json"));
    serde_json::from_slice(&done.fine().stdout).unwrap()
}

fn total_bytes(cli: &Cli) -> u64 {
    let done = cli.run("store stat --store cache --json");
    let stat: Value = serde_json::from_slice(&done.fine().stdout).unwrap();
    stat["total_bytes"].as_u64().unwrap()
}

fn dropped(told: &Value) -> Vec<String> {
    let all = told["dropped"].as_array().unwrap().iter();
    let tags = all.map(|image| image["tags"][0].as_str().unwrap());
    tags.map(|tag| tag.rsplit('/').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_cache_is_kept_in_bounds() {
    let cli = world();
    pull_all(&cli);
    let place = format!("file://{}", cli.path("place").display());
    cli.run(&format!("run --image {place}/a:1 --store cache"))
        .fine();
    let before = total_bytes(&cli);
    let bound = format!("--max-size {}", before - 1);
    let told = gc(&cli, &format!("{bound} --dry-run"));
    assert_eq!(total_bytes(&cli), before);
    assert_eq!(
        (dropped(&told), &told["dry_run"]),
        (vec!["b:1".into()], &true.into())
    );
    assert_eq!(
        gc(&cli, "--max-size 1G --older-than 1d")["dropped"],
        Value::Array(vec![])
    );
    let told = gc(&cli, &bound);
    assert_eq!(
        (dropped(&told), &told["within"]),
        (vec!["b:1".into()], &true.into())
    );
    let total = told["total_bytes"].as_u64().unwrap();
    assert_eq!(total_bytes(&cli), total);
    assert!(total < before - 1_000_000, "{total}");
    cli.run(&format!("image tag {place}/c:1 mine:1 --store cache"))
        .fine();
    let text = cli
        .run("store gc --max-size 1K --store cache")
        .fine()
        .text();
    assert!(text.contains("/a:1 dropped, last used 2"), "{text}");
    assert!(text.contains("more than --max-size"), "{text}");
    cli.run(&format!("run --image {place}/a:1 --store cache"))
        .fine();
    assert_eq!(dropped(&gc(&cli, "--older-than 0")), ["a:1"]);
    for (words, want) in [
        ("--dry-run", "required"),
        ("--max-size 1X", "expected a whole number"),
        ("--older-than soon", "expected a time"),
        ("--max-size 1G --bucket s3://b", "cannot be used with"),
    ] {
        let done = cli.run(&format!("store gc {words} --store cache"));
        assert_eq!(done.code, Some(2), "{words}: {done:?}");
        assert!(done.stderr.contains(want), "{words}: {}", done.stderr);
    }
    cli.run("store gc --max-size 1G --dry-run --store none")
        .failed(1, &["none"]);
    assert!(!cli.path("none").exists());
}

#[test]
fn what_a_guest_runs_from_stays() {
    let cli = world();
    let place = format!("file://{}", cli.path("place").display());
    let mut command = cli.command(&format!(
        "run --image {place}/a:1 --lazy only --store cache"
    ));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut runs = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut runs).unwrap();
    assert_eq!(&runs, b"runs\n");
    let told = gc(&cli, "--max-size 0");
    assert_eq!((dropped(&told).len(), &told["in_use"]), (0, &1.into()));
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(dropped(&gc(&cli, "--max-size 0")), ["a:1"]);
}

#[test]
fn one_that_is_killed_leaves_a_whole_store() {
    let cli = world();
    pull_all(&cli);
    let begun = Instant::now();
    gc(&cli, "--older-than 0");
    let whole = begun.elapsed().max(Duration::from_millis(8));
    for part in 0..8 {
        pull_all(&cli);
        let mut command = cli.command("store gc --older-than 0 --store cache");
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole / 8 * part);
        drop(child.kill());
        child.wait().unwrap();
        cli.run("store verify --store cache").fine();
    }
    pull_all(&cli);
    gc(&cli, "--older-than 0");
    let left = fs::read_dir(cli.path("cache/packs")).unwrap().count();
    assert_eq!(left, 0);
}
