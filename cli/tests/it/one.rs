//! One instance: its exit code, its streams, its arguments, its end.

use std::io::Write;
use std::process::Stdio;

use super::{Cli, Done};
use crate::support::script::{EXIST, NOENT, OK, Script};

#[test]
fn case_80_exit_codes_are_the_guests_own() {
    let cli = Cli::new();
    cli.script("", &Script::new()).fine();
    for code in [0, 1, 2, 42, 125, 126, 127, 128, 134, 200, 255] {
        let done = cli.script("", &Script::new().exit(code));
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (code.try_into().ok(), "")
        );
    }
    cli.script("", &Script::new().exit(256)).failed(1, &["256"]);
}

#[test]
fn case_80_a_trap_gives_134_with_message_and_backtrace() {
    let cli = Cli::new();
    let done = cli.script("", &Script::new().print("before\n").trap());
    assert_eq!((done.code, done.text().as_str()), (Some(134), "before\n"));
    let mut lines = done.stderr.lines();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("error: ") && first.contains("unreachable"),
        "{first}"
    );
    // The functions that were running, innermost first.
    let frames: Vec<_> = lines.filter(|line| line.contains("0x")).collect();
    assert_eq!(frames.len(), 2, "{}", done.stderr);
    assert!(frames[0].contains("run"), "{}", done.stderr);
}

#[test]
fn streams_are_the_programs_own() {
    let cli = Cli::new();
    let script = Script::new().echo().complain("to stderr\n").print("end\n");
    let mut child = cli
        .guest(&script)
        .command("run guest.wat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from stdin\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"from stdin\nend\n");
    assert_eq!(output.stderr, b"to stderr\n");
    assert!(output.status.success());
}

#[test]
fn a_line_comes_out_before_the_guest_ends() {
    use std::io::{BufRead, BufReader};
    let cli = Cli::new();
    let mut child = cli
        .guest(&Script::new().print("now\n").echo())
        .command("run guest.wat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "now\n");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn everything_after_the_guest_is_the_guests() {
    let cli = Cli::new();
    cli.file("deep/down/guest.wat", Script::new().print_args().wat());
    let done = cli.run("run deep/down/guest.wat --read-only -h --instances 3 -- --layer x");
    assert_eq!(
        done.fine().text(),
        "guest.wat\0--read-only\0-h\0--instances\x003\0--\0--layer\0x\0"
    );
    let done = cli.run("run -- deep/down/guest.wat --help");
    assert_eq!(done.fine().text(), "guest.wat\0--help\0");
}

#[test]
fn the_environment_is_what_was_given_and_the_number_if_there_are_instances() {
    let cli = Cli::new();
    cli.guest(&Script::new().print_env());
    let mut command = cli.command("run --env A=1 --env B=x=y --env A=2 --env C= guest.wat");
    let done = Done::of(command.env("SECRET", "not for guests"));
    assert_eq!(done.fine().text(), "A=2\0B=x=y\0C=\0");
    let done = cli.run("run --instances 1 --env A=1 guest.wat");
    assert_eq!(done.fine().text(), "A=1\0STRATAFS_INSTANCE=0\0");
}

#[test]
fn case_76_without_layers_the_guest_has_an_empty_file_system_of_its_own() {
    let cli = Cli::new();
    cli.file("host.txt", "not for guests");
    let script = Script::new()
        .cat_in(3, "host.txt", NOENT)
        .list(3)
        .mkdir("mine", OK)
        .mkdir("mine", EXIST)
        .write("mine/file", b"kept\n")
        .cat("mine/file");
    let done = cli.script("", &script);
    let text = String::from_utf8_lossy(&done.fine().stdout).into_owned();
    assert!(text.ends_with("kept\n") && !text.contains("host.txt") && !text.contains("guest.wat"));
    assert_eq!(cli.names(), ["cache", "guest.wat", "host.txt"]);
    // A second run starts from nothing again.
    cli.run("run guest.wat").fine();
}

#[test]
fn a_timeout_stops_a_guest_that_computes_and_one_that_waits() {
    let cli = Cli::new();
    for script in [Script::new().spin(), Script::new().sleep(100)] {
        // Without the bound neither would end: the test would not either.
        cli.script("--timeout 0.2", &script)
            .failed(124, &["longer than 0.2 s"]);
    }
    // The near miss.
    cli.script("--timeout 60", &Script::new().sleep(1)).fine();
    let code = cli.script("--timeout 60", &Script::new().exit(7)).code;
    assert_eq!(code, Some(7));
}

#[test]
fn a_timeout_stops_a_guest_that_reads() {
    let cli = Cli::new();
    let mut child = cli
        .guest(&Script::new().echo())
        .command("run --timeout 0.2 guest.wat")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let keep_open = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("longer than 0.2 s"));
    drop(keep_open);
}

#[test]
fn a_memory_bound_stops_a_guest_that_grows_past_it() {
    let cli = Cli::new();
    // 34 pages to start with; 16 more make 3,276,800 bytes.
    let script = Script::new().grow(16).print("grown\n");
    let done = cli.script("--max-memory 3M", &script);
    done.failed(1, &["memory", "3145728"]);
    assert_eq!(done.text(), "");
    assert_eq!(
        cli.script("--max-memory 3200K", &script).fine().text(),
        "grown\n"
    );
    cli.script("--max-memory 64K", &Script::new())
        .failed(1, &["memory", "65536"]);
}

/// A component that says in its result how it went, after this.
fn component(before: &str, result: u32) -> String {
    format!(
        r#"(component
          (core module $m (func (export "run") (result i32) {before} i32.const {result}))
          (core instance $i (instantiate $m))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $command (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $command)))"#
    )
}

#[test]
fn a_component_runs_as_a_module_does() {
    let cli = Cli::new();
    let run = |options: &str, before: &str, result: u32| {
        cli.file("guest.wat", component(before, result));
        cli.run(&format!("run {options} guest.wat"))
    };
    run("", "", 0).fine();
    run("--timeout 60", "", 0).fine();
    assert_eq!(run("", "", 1).code, Some(1));
    let done = run("", "unreachable", 0);
    assert_eq!(done.code, Some(134));
    assert!(
        done.stderr.starts_with("error: the guest trapped: "),
        "{}",
        done.stderr
    );
    run("--timeout 0.2", "(loop $spin (br $spin))", 0).failed(124, &["longer than 0.2 s"]);
    run("--instances 20 --threads 2", "", 0).fine();
    run("--instances 3", "", 1).failed(1, &["3 of 3", "0 (exit code 1)"]);
}

#[test]
fn invalid_guests_are_refused_on_one_line() {
    let cli = Cli::new();
    cli.run("run missing.wasm")
        .failed(1, &["missing.wasm", "No such file"]);
    cli.file("dir/x", "");
    cli.run("run dir").failed(1, &["dir"]);
    cli.file("junk", b"\x7fELF\xff\0");
    cli.run("run junk").failed(1, &["junk", "not WebAssembly"]);
    cli.file("text.wat", "(module (func");
    cli.run("run text.wat")
        .failed(1, &["text.wat", "not WebAssembly"]);
    cli.file("library.wat", "(module)");
    cli.run("run library.wat")
        .failed(1, &["library.wat", "_start"]);
    cli.file("start.wat", "(module (memory (export \"_start\") 1))");
    cli.run("run start.wat").failed(1, &["start.wat", "_start"]);
    cli.file(
        "import.wat",
        "(module (import \"env\" \"f\" (func)) (func (export \"_start\")))",
    );
    cli.run("run import.wat")
        .failed(1, &["import.wat", "env", "f"]);
    cli.file(
        "invalid.wat",
        "(module (func (export \"_start\") i32.const 1))",
    );
    cli.run("run invalid.wat")
        .failed(1, &["invalid.wat", "does not compile"]);
    cli.file("component.wat", "(component)");
    cli.run("run component.wat")
        .failed(1, &["component.wat", "wasi:cli/run"]);
    let three = "(component (import \"wasi:cli/environment@0.3.0\" (instance)))";
    cli.file("three.wat", three);
    cli.run("run three.wat")
        .failed(1, &["three.wat", "wasi:cli/run@0.3"]);
}

#[test]
fn compiled_guests_are_kept_and_survive_damage() {
    let cli = Cli::new();
    let script = Script::new().print("hello\n");
    let cache = |options: &str| {
        let done = cli.script(&format!("--stats stats.json {options}"), &script);
        assert_eq!(done.fine().text(), "hello\n");
        let stats = std::fs::read(cli.path("stats.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&stats).unwrap()["cache"].to_string()
    };
    assert_eq!(
        [cache(""), cache(""), cache("--no-cache")],
        ["\"miss\"", "\"hit\"", "\"off\""]
    );
    assert_eq!(
        [cache("--cache other"), cache("--cache other")],
        ["\"miss\"", "\"hit\""]
    );
    // One byte of each file, one after another.
    for file in files_below(&cli.path("cache")) {
        let mut bytes = std::fs::read(&file).unwrap();
        let late = bytes.len() / 3;
        if let Some(byte) = bytes.iter_mut().nth_back(late) {
            *byte ^= 0x40;
        }
        std::fs::write(&file, bytes).unwrap();
        cache("");
    }
    for file in files_below(&cli.path("cache")) {
        std::fs::write(&file, b"").unwrap();
    }
    assert_eq!([cache(""), cache("")], ["\"miss\"", "\"hit\""]);
    cli.file("blocked", "a file where a directory was wanted");
    assert!(cache("--cache blocked").starts_with("\"off: "));
}

fn files_below(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for name in super::names(dir) {
        let path = dir.join(name);
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

/// Told from its bytes, with the options of every guest.
#[test]
fn a_component_of_0_3_runs_like_any_guest() {
    let cli = Cli::new();
    cli.file("three.wat", include_str!("../../../examples/embed_p3.wat"));
    let bounds = "--timeout 60 --max-memory 64M";
    cli.run(&format!("run {bounds} --diff out.tar three.wat"))
        .fine();
    let tar = std::fs::read(cli.path("out.tar")).unwrap();
    assert!(tar.windows(9).any(|name| name == b"greeting/"));
    cli.run("run --instances 20 --threads 2 --stats stats.json three.wat")
        .fine();
    let stats = std::fs::read(cli.path("stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    assert_eq!(
        (&stats["instances"], &stats["failed"]),
        (&20.into(), &0.into())
    );
    // The guest's own failure is its exit code.
    for options in ["--read-only", "--preopen /::/::ro"] {
        let done = cli.run(&format!("run {options} three.wat"));
        assert_eq!((done.code, &done.stderr[..]), (Some(1), ""));
    }
}
