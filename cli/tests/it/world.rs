//! What guests expect to find: `/dev/null` and its kin, and a `/tmp`.

use std::io::{Read, Write};
use std::process::Stdio;

use super::{Cli, Done};
use crate::support::guest::{World, guest};
use crate::support::script::{EXIST, NOENT, NOSPC, OK, PERM, ROFS, ROOT, Script};

/// The descriptor of the preopen `/dev`, which a base without one gets.
const DEV: u32 = ROOT + 1;

fn run(cli: &Cli, options: &str, script: &Script) -> Done {
    cli.guest(script).run(&format!("run {options} guest.wat"))
}

#[test]
fn a_guest_finds_devices_and_a_temporary_directory() {
    let cli = Cli::new();
    cli.file("base/a", "a");
    let script = Script::new()
        .write_in(DEV, "null", b"gone", OK, OK)
        .cat_in(DEV, "null", OK)
        .write_in(DEV, "full", b"x", OK, NOSPC)
        .write_in(DEV, "stdout", b"to stdout\n", OK, OK)
        .write_in(DEV, "x", b"", PERM, OK)
        .write("tmp/x", b"kept\n")
        .cat("tmp/x")
        .cat_in(DEV, "stdin", OK);
    for options in ["", "--layer base", "--layer base --timeout 60"] {
        let done = run(&cli, options, &script);
        assert_eq!(done.fine().text(), "to stdout\nkept\n", "{options}");
    }
    let complain = Script::new().write_in(DEV, "stderr", b"to stderr\n", OK, OK);
    let done = run(&cli, "", &complain);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), "to stderr\n"));
    // Of several instances each has its own streams.
    let script = Script::new()
        .print("a")
        .write_in(DEV, "stdout", b"b\n", OK, OK);
    assert_eq!(
        run(&cli, "--instances 3", &script).fine().text(),
        "ab\nab\nab\n"
    );
    // It is read-only but for the devices.
    let script = Script::new()
        .write_in(DEV, "null", b"gone", OK, OK)
        .write_in(ROOT, "tmp/x", b"", ROFS, OK);
    run(&cli, "--layer base --read-only", &script).fine();
}

#[test]
fn bare_and_chosen_preopens_have_what_the_layers_hold() {
    let cli = Cli::new();
    let script = Script::new()
        .mkdir("tmp", OK)
        .write_in(ROOT, "dev/null", b"", NOENT, OK);
    for options in ["--bare", "--preopen /::/", "--bare --read-only=no"] {
        match options.contains('=') {
            true => drop(run(&cli, options, &script).refused(&["--read-only"])),
            false => drop(run(&cli, options, &script).fine()),
        }
    }
    let script = Script::new().mkdir("tmp", EXIST);
    run(&cli, "", &script).fine();
    // A directory of the host under the name goes first.
    cli.file("host/null", "the host's");
    let script = Script::new().cat_in(DEV, "null", OK);
    assert_eq!(
        run(&cli, "--dir host::/dev", &script).fine().text(),
        "the host's"
    );
}

#[test]
fn what_was_put_there_is_in_no_diff_unless_the_guest_changed_it() {
    let cli = Cli::new();
    cli.file("base/dev/mine", "mine").file("base/a", "a");
    let quiet = Script::new()
        .write_in(ROOT, "dev/null", b"gone", OK, OK)
        .write("tmp/x", b"1")
        .unlink("tmp/x", OK);
    run(&cli, "--layer base --diff quiet.tar", &quiet).fine();
    assert_eq!(names(&cli, "quiet.tar"), [""; 0]);
    let loud = Script::new().write("tmp/x", b"1").write("dev/own", b"2");
    run(&cli, "--layer base --diff loud.tar", &loud).fine();
    assert_eq!(names(&cli, "loud.tar"), ["dev", "dev/own", "tmp", "tmp/x"]);
    // Quotas are the guest's own.
    let script = Script::new().mkdir("a", OK).mkdir("b", NOSPC);
    run(&cli, "--max-inodes 1", &script).fine();
}

fn names(cli: &Cli, archive: &str) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(cli.path(archive)).unwrap());
    let mut names: Vec<_> = archive
        .entries()
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path().unwrap().display().to_string();
            path.trim_start_matches("./")
                .trim_end_matches('/')
                .to_owned()
        })
        .filter(|name| !name.is_empty() && name != ".")
        .collect();
    names.sort();
    names
}

#[test]
fn standard_input_by_name_is_the_one_that_there_is() {
    let cli = Cli::new();
    cli.guest(&Script::new().print("begun\n").cat_in(DEV, "stdin", OK));
    for options in ["", "--timeout 60"] {
        let mut child = cli
            .command(&format!("run {options} guest.wat"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut begun = [0; 6];
        out.read_exact(&mut begun).unwrap();
        // It waits: nothing has come yet.
        child.stdin.take().unwrap().write_all(b"typed").unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(rest, "typed", "{options}");
    }
    // A guest that waits for ever is stopped all the same.
    let mut child = cli
        .command("run --timeout 0.3 guest.wat")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let held = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(124));
    drop(held);
}

/// A guest that exits with the file type that preview1 has for `/dev/null`: told by its
/// name (`stat`), by its descriptor (`fstat`), or beside the descriptor's rights (`tty`,
/// which is 100 more where the guest may not seek, as on a terminal).
fn file_type(how: &str) -> String {
    let look = match how {
        "stat" => {
            "(drop (call $stat (i32.const 4) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 64)))
             (call $exit (i32.load8_u (i32.const 80)))"
        }
        "fstat" => {
            "(drop (call $fstat (i32.load (i32.const 0)) (i32.const 64)))
             (call $exit (i32.load8_u (i32.const 80)))"
        }
        _ => {
            "(drop (call $fdstat (i32.load (i32.const 0)) (i32.const 64)))
             (call $exit (i32.add (i32.load8_u (i32.const 64))
               (select (i32.const 0) (i32.const 100) (i32.and (i32.load8_u (i32.const 72)) (i32.const 4)))))"
        }
    };
    format!(
        r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "path_open"
          (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_filestat_get"
          (func $stat (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fstat (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 8) "null")
        (func (export "_start")
          (drop (call $open (i32.const 4) (i32.const 0) (i32.const 8) (i32.const 4) (i32.const 0)
            (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 0)))
          {look}))"#
    )
    .replace("(i64.const -1)", "(i64.const 66)")
}

#[test]
fn devices_are_character_devices_and_no_terminals() {
    let cli = Cli::new();
    // A base with a `/dev` has them there.
    cli.file("base/dev/mine", "mine");
    for how in ["stat", "fstat", "tty"] {
        cli.file("guest.wat", file_type(how));
        assert_eq!(cli.run("run guest.wat").code, Some(2), "{how}");
    }
    for (world, version) in [(World::P2, "0.2"), (World::P3, "0.3")] {
        let wasm = guest("list_walk", world);
        let options = "--layer base --strace calls --strace-json";
        let words = format!("run {options} {} /dev", wasm.display());
        let done = cli.run(&words);
        let calls = std::fs::read_to_string(cli.path("calls")).unwrap();
        let is = |line: &&str| line.contains("CHARACTER_DEVICE") && line.contains(version);
        assert!(calls.lines().any(|line| is(&line)), "{done:?} {calls}");
    }
}
