//! `run --strace`: each file call of a guest, of every version of WASI.

use std::fs;

use serde_json::Value;

use super::Cli;
use crate::support::guest::{World, guest};
use crate::support::script::{EXIST, NOENT, OK, ROOT, Script};

fn sample() -> Script {
    Script::new()
        .write("a\nb", b"hello")
        .cat("f")
        .write_in(ROOT, "no/such", b"", NOENT, OK)
        .mkdir("f", EXIST)
        .print("done\n")
}

fn lines(cli: &Cli, name: &str) -> Vec<String> {
    let text = fs::read_to_string(cli.path(name)).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn has(lines: &[String], want: &str) {
    assert!(
        lines.iter().any(|line| line == want),
        "{want:?} is not in {lines:#?}"
    );
}

#[test]
fn each_call_is_a_line_with_arguments_result_and_error() {
    let cli = Cli::new();
    cli.file("base/f", "0123456789012345678901234567890123456789");
    for more in ["", "--timeout 600", "--instances 1 --threads 1"] {
        let done = cli.script(&format!("--layer base --strace calls {more}"), &sample());
        assert_eq!(
            done.fine().text(),
            "0123456789012345678901234567890123456789done\n",
            "{more}"
        );
        let mut seen = lines(&cli, "calls");
        if more.contains("instances") {
            assert!(seen.iter().all(|line| line.starts_with("[instance 0] ")));
            seen.iter_mut().for_each(|line| drop(line.drain(..13)));
        }
        let opened = seen.iter().find(|line| line.contains("a\\nb")).unwrap();
        assert!(opened.starts_with("path_open(3 \"/\", "), "{opened}");
        assert!(opened.contains(", \"a\\nb\", O_CREAT"), "{opened}");
        assert!(opened.ends_with(") = 4"), "{opened}");
        has(&seen, "fd_write(4 \"/a\\nb\", \"hello\", 5) = 5");
        has(&seen, "fd_close(4 \"/a\\nb\") = 0");
        // Content is cut as strace cuts it.
        let read = "\"01234567890123456789012345678901\"...";
        assert!(
            seen.iter()
                .any(|line| line.starts_with("fd_read(4 \"/f\", ")
                    && line.contains(read)
                    && line.ends_with(" = 40")),
            "{seen:#?}"
        );
        let failed = seen.iter().find(|line| line.contains("no/such")).unwrap();
        assert!(
            failed.ends_with(") = -1 ENOENT (no such file or directory)"),
            "{failed}"
        );
        has(
            &seen,
            "path_create_directory(3 \"/\", \"f\") = -1 EEXIST (file exists)",
        );
        has(&seen, "fd_write(1 \"stdout\", \"done\\n\", 5) = 5");
    }
}

#[test]
fn json_lines_have_the_same() {
    let cli = Cli::new();
    cli.file("base/f", [b'x', 0xff]);
    for (options, name) in [
        ("--strace calls.jsonl", "calls.jsonl"),
        ("--strace calls --strace-json", "calls"),
    ] {
        cli.script(&format!("--layer base {options}"), &sample())
            .fine();
        let seen = lines(&cli, name);
        let seen: Vec<Value> = seen
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |call: &str, path: &str| {
            let is = |line: &&Value| line["call"] == call && line["args"]["path"] == path;
            seen.iter().find(is).unwrap()
        };
        let opened = of("path_open", "a\nb");
        assert_eq!(opened["instance"], 0);
        assert_eq!(opened["wasi"], "preview1");
        assert_eq!(opened["args"]["fd"], 3);
        assert_eq!(opened["args"]["fd_name"], "/");
        assert_eq!(opened["outcome"], "done");
        assert_eq!(opened["result"], 4);
        assert!(opened["elapsed_ns"].is_u64());
        let failed = of("path_open", "no/such");
        assert_eq!(failed["outcome"], "failed");
        assert_eq!(failed["errno"], "ENOENT");
        let read = seen.iter().find(|line| line["bytes"] == 2).unwrap();
        assert_eq!(read["args"]["buf_bytes"], "eP8=");
    }
}

#[test]
fn many_instances_are_told_apart_and_no_line_is_lost_or_torn() {
    let cli = Cli::new();
    cli.file("base/f", "x");
    let options = "--layer base --instances 20 --threads 4 --strace calls";
    cli.script(options, &sample()).fine();
    let seen = lines(&cli, "calls");
    for number in 0..20 {
        let mine: Vec<_> = seen
            .iter()
            .filter(|line| line.starts_with(&format!("[instance {number}] ")))
            .collect();
        assert_eq!(mine.len() * 20, seen.len(), "{number}");
        assert!(mine.last().unwrap().ends_with("\"done\\n\", 5) = 5"));
    }
}

#[test]
fn guests_of_many_calls_are_told_whether_threads_share_their_memory_or_not() {
    let cli = Cli::new();
    for (memory, switch) in [("1", ""), ("1 1 shared", "-W shared-memory ")] {
        let guest = format!(
            r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") {memory})
            (data (i32.const 0) "\10\00\00\00\01\00\00\00")
            (data (i32.const 16) "a")
            (func (export "_start") (local $n i32)
              (loop $more
                (drop (call $w (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const 300))))))"#
        );
        cli.file("guest.wat", guest);
        let done = cli.run(&format!("run {switch}--strace calls guest.wat"));
        assert_eq!(done.fine().text(), "a".repeat(300), "{memory}");
        let seen = lines(&cli, "calls");
        assert_eq!(seen.len(), 300);
        assert!(
            seen.iter()
                .all(|line| line == "fd_write(1 \"stdout\", \"a\", 1) = 1")
        );
    }
}

#[test]
fn counts_are_a_table_at_the_end() {
    let cli = Cli::new();
    cli.file("base/f", "x");
    cli.script("--layer base --strace-counts - --instances 2", &sample());
    let done = cli.script(
        "--layer base --strace-counts counts --instances 2",
        &sample(),
    );
    done.fine();
    let seen = lines(&cli, "counts");
    assert!(
        seen[0].ends_with("calls    errors         bytes call"),
        "{}",
        seen[0]
    );
    let row = |name: &str| -> Vec<String> {
        let row = seen.iter().find(|line| line.ends_with(&format!(" {name}")));
        row.unwrap().split_whitespace().map(str::to_owned).collect()
    };
    let opens = row("path_open");
    assert_eq!(opens[3..], ["6", "2", "0", "path_open"]);
    // `hello` and `done\n`, and what `cat` printed.
    assert_eq!(row("fd_write")[5], "22");
    assert_eq!(
        seen.len(),
        seen.iter()
            .position(|line| line.ends_with(" total"))
            .unwrap()
            + 1
    );
    cli.script("--layer base --strace-counts counts.jsonl", &sample())
        .fine();
    let seen = lines(&cli, "counts.jsonl");
    let open = seen.iter().find(|line| line.contains("path_open")).unwrap();
    let open: Value = serde_json::from_str(open).unwrap();
    assert_eq!(
        (open["calls"].as_u64(), open["errors"].as_u64()),
        (Some(3), Some(1))
    );
}

#[test]
fn a_call_that_ends_the_guest_and_one_that_never_ends_are_told() {
    let cli = Cli::new();
    // A list of buffers past the end of the memory.
    let bad = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $w (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (drop (call $w (i32.const 1) (i32.const -8) (i32.const 9) (i32.const 0)))))"#;
    let done = cli
        .file("guest.wat", bad)
        .run("run --strace calls guest.wat");
    assert_eq!(done.code, Some(134), "{done:?}");
    let seen = lines(&cli, "calls");
    assert!(
        seen[0].starts_with("fd_write(1 \"stdout\", ?, 0) = ? trap: "),
        "{seen:?}"
    );
    // Reading from a terminal that says nothing.
    let mut wait = cli
        .guest(&Script::new().echo())
        .command("run --timeout 1 --strace calls guest.wat");
    let mut child = wait.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let _open = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    let seen = lines(&cli, "calls");
    assert!(
        seen.last().unwrap().ends_with("= ? <unfinished>"),
        "{seen:?}"
    );
}

#[test]
fn a_file_that_takes_nothing_is_told_and_the_guest_ends_all_the_same() {
    let cli = Cli::new();
    cli.file("base/f", "x");
    let done = cli.script("--layer base --strace /dev/full", &sample());
    done.failed(1, &["/dev/full", "missing"]);
    assert_eq!(done.text(), "xdone\n");
    let done = cli.script("--layer base --strace no/such/file", &sample());
    done.failed(1, &["no/such/file"]);
    cli.script("--strace-json", &sample())
        .refused(&["--strace-json", "--strace FILE"]);
}

#[test]
fn components_are_told_in_their_own_words() {
    let cli = Cli::new();
    cli.file("base/in.txt", "one two\nthree\n");
    for (world, version) in [(World::P2, "0.2"), (World::P3, "0.3")] {
        let wasm = guest("wordcount", world);
        let done = cli.run(&format!(
            "run --bare --layer base --strace calls.jsonl {} /",
            wasm.display()
        ));
        let seen: Vec<Value> = lines(&cli, "calls.jsonl")
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(done.code, Some(0), "{done:?}");
        let is_open = |line: &&Value| line["call"] == "open-at" && line["args"]["path"] == "in.txt";
        let opened = seen.iter().find(is_open).unwrap();
        assert_eq!(opened["args"]["descriptor_name"], "/");
        assert_eq!(opened["outcome"], "done");
        assert!(
            seen.iter().any(|line| line["wasi"] == version),
            "{version}: {seen:#?}"
        );
        assert!(
            seen.iter()
                .any(|line| line["bytes"] == 14 && line["args"]["descriptor_name"] == "/in.txt"),
            "{seen:#?}"
        );
    }
}
