//! Many instances over one base.

use std::collections::BTreeSet;
use std::process::Command;

use super::{Cli, Done};
use crate::support::base::Base;
use crate::support::guest::{World, guest};
use crate::support::script::{EXIST, NOENT, OK, ROOT, Script};

#[test]
fn instances_see_their_numbers_and_nothing_of_each_other() {
    let cli = Cli::new();
    cli.file("base/shared", "base")
        .file("base/gone", "x")
        .file("base/dir/x", "x");
    let script = Script::new()
        .print_env()
        .print("\n")
        .cat_in(ROOT, "own", NOENT)
        .write("own", b"mine")
        .cat("shared")
        .print("\n")
        .write("shared", b"changed")
        .unlink("gone", OK)
        .rename("dir", "moved")
        .mkdir("dir", OK)
        .mkdir("moved", EXIST);
    let done = cli.script("--layer base --instances 200 --threads 4", &script);
    let text = done.fine().text();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<_> = (0..200)
        .map(|i| format!("STRATAFS_INSTANCE={i}\0"))
        .collect();
    expected.extend((0..200).map(|_| "base".to_owned()));
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn the_output_of_an_instance_stays_together() {
    let cli = Cli::new();
    let script = Script::new()
        .print_much('a', 20)
        .print("\n")
        .complain("one\n")
        .print_much('b', 20);
    let done = cli.script("--instances 50 --threads 4", &script);
    assert_eq!(done.code, Some(0));
    let piece = ("a".repeat(1023) + "\n").repeat(20) + "\n" + &("b".repeat(1023) + "\n").repeat(20);
    assert_eq!(done.text(), piece.repeat(50));
    assert_eq!(done.stderr, "one\n".repeat(50));
}

#[test]
fn more_output_than_is_held_comes_out_whole() {
    let cli = Cli::new();
    let done = cli.script(
        "--instances 3 --threads 2",
        &Script::new().print_much('x', 2500),
    );
    assert_eq!(done.fine().stdout.len(), 3 * 2500 * 1024);
}

#[test]
fn stdin_is_for_one_instance_only() {
    let cli = Cli::new();
    cli.guest(&Script::new().echo()).file("in", "text\n");
    let run = |words: &str| {
        let input = std::fs::File::open(cli.path("in")).unwrap();
        Done::of(cli.command(words).stdin(input))
    };
    assert_eq!(run("run guest.wat").fine().text(), "text\n");
    assert_eq!(run("run --instances 2 guest.wat").fine().text(), "");
}

#[test]
fn one_line_names_the_first_that_failed() {
    let cli = Cli::new();
    let done = cli.script("--instances 8 --threads 2", &Script::new().exit(3));
    done.failed(
        1,
        &[
            "8 of 8 instances failed",
            "0 (exit code 3)",
            "4 (exit code 3)",
            "...",
        ],
    );
    let done = cli.script("--instances 2", &Script::new().trap());
    done.failed(1, &["2 of 2 instances failed", "trap", "unreachable"]);
    let done = cli.script(
        "--instances 2 --threads 2 --timeout 0.2",
        &Script::new().spin(),
    );
    done.failed(1, &["2 of 2 instances failed", "longer than 0.2 s"]);
}

#[test]
fn more_threads_than_instances_are_not_started() {
    let cli = Cli::new();
    let done = cli.script("--instances 2 --threads 1024 --stats -", &Script::new());
    assert_eq!(done.code, Some(0));
    let stats: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    assert_eq!(
        (&stats["threads"], &stats["allocator"]),
        (&2.into(), &"pooling".into())
    );
}

#[test]
fn a_guest_that_does_not_fit_the_pool_runs_and_the_figures_say_why() {
    let cli = Cli::new();
    cli.file(
        "tables.wat",
        "(module (table 2000000 funcref) (func (export \"_start\")))",
    );
    let done = cli.run("run tables.wat");
    // A table beyond the bound fails without the pool as well.
    done.failed(1, &["table"]);
    let many = "(memory 1)".repeat(3);
    cli.file(
        "memories.wat",
        format!("(module {many} (func (export \"_start\")))"),
    );
    let done = cli.run("run --stats - memories.wat");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stderr.contains("on-demand: "), "{done:?}");
}

#[test]
#[cfg(unix)]
fn case_p30_a_thousand_instances_need_no_descriptors() {
    let cli = Cli::new();
    cli.file("base/a", "a")
        .guest(&Script::new().write("own", b"x").cat("a"));
    let program = env!("CARGO_BIN_EXE_stratafs");
    let line = format!(
        "ulimit -n 64 && exec '{program}' run --cache cache --layer base --instances 1000 --threads 2 guest.wat"
    );
    let done = Done::of(
        Command::new("sh")
            .arg("-c")
            .arg(line)
            .current_dir(cli.dir.path()),
    );
    assert_eq!(done.fine().text(), "a".repeat(1000));
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_nobody_takes_is_an_error() {
    let cli = Cli::new();
    cli.guest(&Script::new().print("x\n"));
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = cli
        .command("run --instances 2 guest.wat")
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("error: output of the instances: "),
        "{stderr}"
    );
}

#[test]
fn the_demo_shows_what_it_proved() {
    let cli = Cli::new();
    for number in 0..30 {
        cli.file(
            &format!("base/dir-{}/{number}.txt", number % 3),
            format!("file {number}\n"),
        );
    }
    let done = cli.run("demo --base base --instances 30 --threads 2 --json");
    let found: serde_json::Value = serde_json::from_str(&done.fine().text()).unwrap();
    assert_eq!(
        (&found["instances"], &found["failed"]),
        (&30.into(), &0.into())
    );
    assert_eq!(found["base"]["files"], 30);
    assert_eq!(
        found["base_digest"]["before"],
        found["base_digest"]["after"]
    );
    let isolation = &found["isolation"];
    assert_eq!(isolation["instances"], 30);
    assert_eq!(
        (&isolation["with_own_marks"], &isolation["foreign_marks"]),
        (&30.into(), &0.into())
    );
    let done = cli.run("demo --base base --instances 3");
    let text = done.fine().text();
    for part in [
        "base fingerprint after",
        "3 of 3",
        "to create its file system",
        "median",
        "p99",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_demo_that_shows_nothing_says_so() {
    let cli = Cli::new();
    cli.file("base/a", "a").guest(&Script::new());
    let done = cli.run("demo --base base --instances 2 --guest guest.wat");
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.starts_with("error: an instance left no mark"),
        "{}",
        done.stderr
    );
    cli.guest(&Script::new().complain("it went wrong\n").exit(1));
    let done = cli.run("demo --base base --instances 2 --guest guest.wat");
    assert_eq!(done.code, Some(1));
    assert_eq!(done.stderr, "error: 2 instances failed: it went wrong\n");
    cli.run("demo --base missing --guest guest.wat")
        .failed(1, &["missing"]);
    cli.run("demo --guest missing.wasm")
        .failed(1, &["missing.wasm"]);
}

#[test]
fn case_p30_a_thousand_guests_run_under_64_host_descriptors() {
    let base = Base::new();
    let stats = tempfile::tempdir().unwrap();
    let done = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 64; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_stratafs"),
            "run",
        ])
        .args(["--instances", "1000", "--threads", "2", "--stats"])
        .arg(stats.path().join("stats.json"))
        .arg("--layer")
        .arg(base.path())
        .arg(guest("many_open", World::P1))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    // Each holds 800 descriptors of its own file system at once.
    let lines: BTreeSet<_> = text.lines().collect();
    assert_eq!((text.lines().count(), lines.len()), (1_000, 1), "{lines:?}");
    assert!(
        text.starts_with("400 readers, 400 writers, 200 left"),
        "{lines:?}"
    );
    let stats = std::fs::read_to_string(stats.path().join("stats.json")).unwrap();
    assert!(stats.contains("\"failed\":0"), "{stats}");
}
