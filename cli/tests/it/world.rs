//! What guests expect to find: `/dev/null` and its kin, and a `/tmp`.

use std::io::{Read, Write};
use std::process::Stdio;

use super::{Cli, Done};
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
