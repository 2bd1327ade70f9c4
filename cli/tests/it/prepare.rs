//! `image prepare`, and runs of images that it made.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use super::{Cli, Done};

/// Opens `data`, says `ready`, and answers each byte of its input with that byte and the
/// next one of the file; exits with 7 at the end of its input.
pub(super) const ANSWERS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "ready\n")
  (data (i32.const 32) "data")
  (data (i32.const 48) "note")
  ;; Two vectors: bytes to be read or written.
  (func $vector (param $at i32) (param $start i32) (param $len i32)
    (i32.store (local.get $at) (local.get $start))
    (i32.store offset=4 (local.get $at) (local.get $len)))
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $next (param $fd i32) (param $to i32) (result i32)
    (call $vector (i32.const 0) (local.get $to) (i32.const 1))
    (call $must (call $read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func (export "_start") (local $file i32) (local $note i32)
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 4) (i32.const 0)
      (i64.const 0x3fffffff) (i64.const 0) (i32.const 0) (i32.const 64)))
    (local.set $file (i32.load (i32.const 64)))
    ;; A file without a name, made and written to.
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 48) (i32.const 4) (i32.const 9)
      (i64.const 0x1fffffff) (i64.const 0) (i32.const 1) (i32.const 64)))
    (local.set $note (i32.load (i32.const 64)))
    (call $must (call $unlink (i32.const 3) (i32.const 48) (i32.const 4)))
    (call $vector (i32.const 0) (i32.const 16) (i32.const 6))
    (call $must (call $write (local.get $note) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $again
      (if (call $next (i32.const 0) (i32.const 100))
        (then
          (drop (call $next (local.get $file) (i32.const 101)))
          (call $vector (i32.const 0) (i32.const 100) (i32.const 2))
          (call $must (call $write (local.get $note) (i32.const 0) (i32.const 1) (i32.const 8)))
          (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br $again))))
    (call $exit (i32.const 7))))"#;

fn with_input(cli: &Cli, words: &str, input: &str) -> Done {
    let mut command = cli.command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(super) fn prepared() -> Cli {
    let cli = Cli::new();
    cli.file("guest.wat", ANSWERS)
        .file("base/data", "123456789");
    let done = cli.run("image prepare --at stdin --tag warm --layer base guest.wat");
    assert_eq!(done.fine().text(), "ready\n");
    cli
}

#[test]
fn a_prepared_guest_answers_its_own_input_with_its_own_files() {
    let cli = prepared();
    let whole = with_input(&cli, "run --layer base guest.wat", "ab");
    assert_eq!(
        (whole.code, whole.text()),
        (Some(7), "ready\na1b2".to_owned())
    );
    for (input, output) in [("ab", "a1b2"), ("", ""), ("xyz", "x1y2z3")] {
        let done = with_input(&cli, "run --image warm", input);
        assert_eq!(
            (done.code, done.text()),
            (Some(7), output.to_owned()),
            "{done:?}"
        );
        assert_eq!(done.stderr, "");
    }
    let many = cli.run("run --image warm --instances 5 --stats stats.json");
    assert_eq!(many.code, Some(1), "each exits with 7: {many:?}");
    let tree = cli.run("image tree warm").text();
    assert!(tree.contains("frozen"), "{tree}");
}

#[test]
fn code_that_cannot_be_kept_is_told_of_and_the_image_is_made() {
    let cli = Cli::new();
    cli.file("guest.wat", ANSWERS)
        .file("base/data", "123456789")
        .file("cache", "in the way of the cache");
    let done = cli.run("image prepare --at stdin --tag warm --layer base guest.wat");
    assert_eq!((done.code, done.text()), (Some(0), "ready\n".to_owned()));
    assert!(
        done.stderr.contains("its code was not kept: ") && done.stderr.lines().count() == 1,
        "{}",
        done.stderr
    );
    let done = with_input(&cli, "run --image warm", "a");
    assert_eq!((done.code, done.text()), (Some(7), "a1".to_owned()));
}

#[test]
fn a_guest_that_reads_its_input_as_a_device_is_frozen_there() {
    let cli = Cli::new();
    let opened = r#"(call $must (call $open (i32.const 4) (i32.const 0) (i32.const 56) (i32.const 5) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (local.set $in (i32.load (i32.const 64)))
    (loop $again"#;
    let guest = ANSWERS
        .replace(
            r#"(data (i32.const 48) "note")"#,
            r#"(data (i32.const 48) "note    stdin")"#,
        )
        .replace("(local $note i32)", "(local $note i32) (local $in i32)")
        .replace("(loop $again", opened)
        .replace("$next (i32.const 0)", "$next (local.get $in)");
    cli.file("guest.wat", guest).file("base/data", "123456789");
    let done = cli.run("image prepare --at stdin --tag warm --layer base guest.wat");
    assert_eq!(done.fine().text(), "ready\n");
    let done = with_input(&cli, "run --image warm", "ab");
    assert_eq!(
        (done.code, done.text()),
        (Some(7), "a1b2".to_owned()),
        "{done:?}"
    );
}

#[test]
fn inspect_knows_the_point_and_export_writes_the_program() {
    let cli = prepared();
    let inspected: Value =
        serde_json::from_str(&cli.run("image inspect warm --json").text()).unwrap();
    let checkpoint = &inspected["checkpoint"];
    assert_eq!(checkpoint["point"], "stdin");
    assert_eq!(checkpoint["frames"], 2);
    assert_eq!(checkpoint["memory_bytes"], 65_536);
    let digest = checkpoint["program_digest"].as_str().unwrap();
    assert!(digest.starts_with("blake3:"), "{digest}");
    assert!(checkpoint["own_bytes"].as_u64().unwrap() > 100);
    assert_eq!(checkpoint["features"], serde_json::json!([]));
    cli.run("image export warm warm.wasm --format wasm").fine();
    let program = std::fs::read(cli.path("warm.wasm")).unwrap();
    assert!(program.starts_with(b"\0asm"));
    // It is a command of its own, which lacks the open files alone.
    let done = with_input(&cli, "run --layer base warm.wasm", "a");
    assert_eq!(done.code, Some(134), "{done:?}");
    // An image that travels is prepared still.
    cli.run("image export warm warm.tar").fine();
    cli.run("image import warm.tar --tag again").fine();
    let done = with_input(&cli, "run --image again", "q");
    assert_eq!(
        (done.code, done.text()),
        (Some(7), "q1".to_owned()),
        "{done:?}"
    );
    cli.run("image squash warm --tag flat").fine();
    let done = with_input(&cli, "run --image flat", "q");
    assert_eq!(
        (done.code, done.text()),
        (Some(7), "q1".to_owned()),
        "{done:?}"
    );
    let inspected: Value =
        serde_json::from_str(&cli.run("image inspect flat --json").text()).unwrap();
    assert_eq!(inspected["checkpoint"]["point"], "stdin");
}

#[test]
fn what_is_part_of_the_prepared_state_is_refused() {
    let cli = prepared();
    for words in [
        "run --image warm word",
        "run --env A=B --image warm",
        "run --argv0 x --image warm",
        "run --entrypoint x --image warm",
        "run --workdir /x --image warm",
        "run --guest guest.wat --image warm",
    ] {
        cli.run(words)
            .refused(&["warm", "part of the prepared state"]);
    }
    cli.run("image prepare --at stdin --tag b --image warm word")
        .refused(&["warm", "part of the prepared state"]);
    cli.run("serve --image warm")
        .failed(1, &["warm", "image is prepared"]);
}

#[test]
fn what_goes_on_is_prepared_again() {
    let cli = prepared();
    // The first two bytes are answered by the second generation while it is prepared.
    let done = cli.run("image prepare --at call:fd_write:2 --tag second --image warm");
    assert_eq!(done.code, Some(3), "standard input is empty: {done:?}");
    let words = "image prepare --at stdin --tag second --image warm";
    assert_eq!(cli.run(words).fine().text(), "", "it stands where it stood");
    let inspected = |tag: &str| -> Value {
        let text = cli.run(&format!("image inspect {tag} --json")).text();
        serde_json::from_str::<Value>(&text).unwrap()["checkpoint"].clone()
    };
    let (first, second) = (inspected("warm"), inspected("second"));
    assert_eq!(first["program_digest"], second["program_digest"]);
    let third = "image prepare --at call:fd_read:1 --tag third --image second";
    cli.run(third).fine();
    // Each of them goes on with the arguments of the first.
    let history = cli.run("image history third").fine().text();
    for (by, times) in [("stdin", 2), ("call:fd_read:1", 1)] {
        let by = format!("prepared at {by}: guest.wat");
        assert_eq!(history.matches(&by).count(), times, "{history}");
    }
    let done = with_input(&cli, "run --image third", "ab");
    assert_eq!((done.code, done.text()), (Some(7), "a1b2".to_owned()));
    assert_eq!(done.stderr, "");
}

#[test]
fn a_guest_that_ends_first_leaves_no_image() {
    let cli = Cli::new();
    cli.file("guest.wat", ANSWERS).file("base/data", "1");
    let at = |point: &str| {
        cli.run(&format!(
            "image prepare --at {point} --tag none --layer base guest.wat"
        ))
    };
    let done = at("call:clock_time_get:1");
    assert_eq!(done.code, Some(3), "{done:?}");
    assert!(
        done.stderr
            .contains("ended before it came to call:clock_time_get:1")
    );
    cli.run("run --image none").failed(1, &["none"]);
    at("path:data").refused(&["path:/NAME"]);
    at("call:fd_read:0").refused(&["call:fd_read:1"]);
    let help = cli.run("image prepare --help").fine().text();
    assert!(help.contains("--layer <SRC>"), "{help}");
    for option in [
        "--instances 2",
        "--commit c",
        "--diff d.tar",
        "--stats -",
        "--stats-instances 0",
        "--trace t",
        "--save-volume v=r",
        "--invoke f",
        "--strace -",
        "--strace-counts -",
        "--verbose",
    ] {
        let words = format!("image prepare --at stdin --tag none {option} guest.wat");
        let name = option.split(' ').next().unwrap();
        cli.run(&words).refused(&[name, "one instance"]);
        let mut first = help.lines().map(|line| line.split_whitespace().next());
        assert!(!first.any(|word| word == Some(name)), "{name}: {help}");
    }
    let done = cli.run("image prepare --quiet --at stdin --tag quiet --layer base guest.wat");
    assert_eq!(done.fine().text(), "");
}

#[test]
fn each_call_can_be_the_point() {
    let cli = Cli::new();
    cli.file("guest.wat", ANSWERS)
        .file("base/data", "123456789");
    for point in [
        "path:/data",
        "path:/note",
        "call:fd_write:1",
        "call:path_open:2",
        "call:path_unlink_file:1",
    ] {
        let before = cli.run(&format!(
            "image prepare --at {point} --tag warm --layer base guest.wat"
        ));
        let after = with_input(&cli, "run --image warm", "ab");
        let text = before.fine().text() + &after.text();
        assert_eq!(
            (after.code, text),
            (Some(7), "ready\na1b2".to_owned()),
            "{point}: {after:?}"
        );
    }
}

/// The host shows a file of its own under that name while the guest runs.
#[test]
fn a_commit_keeps_what_the_base_has_beside_a_checkpoint() {
    let cli = Cli::new();
    let guest = ANSWERS.replace("(i32.const 7)", "(i32.const 0)");
    cli.file("guest.wat", guest).file("base/data", "123");
    cli.file("base/.stratafs/checkpoint", "of the base");
    cli.run("image prepare --at stdin --tag warm --layer base guest.wat");
    assert_eq!(
        with_input(&cli, "run --image warm --commit kept", "a").code,
        Some(0)
    );
    let text = cli.run("image cat kept /.stratafs/checkpoint").text();
    assert_eq!(text, "of the base");
}

#[test]
fn a_commit_starts_from_the_beginning_and_says_so() {
    let cli = Cli::new();
    // Exits with 0, so that it is committed.
    let guest = ANSWERS.replace("(i32.const 7)", "(i32.const 0)");
    cli.file("guest.wat", guest).file("base/data", "123");
    cli.run("image prepare --at stdin --tag warm --layer base guest.wat");
    let done = with_input(&cli, "run --image warm --commit kept", "a");
    assert_eq!(
        (done.code, done.text()),
        (Some(0), "a1".to_owned()),
        "{done:?}"
    );
    assert!(
        done.stderr.contains("starts from the beginning"),
        "{done:?}"
    );
    let inspected: Value =
        serde_json::from_str(&cli.run("image inspect kept --json").text()).unwrap();
    assert!(inspected["checkpoint"].is_null());
    assert_eq!(cli.run("image cat kept /data").text(), "123");
    let tree = cli.run("image tree kept").text();
    assert!(
        tree.contains("data") && !tree.contains(".stratafs"),
        "{tree}"
    );
    cli.run("run --image kept").failed(1, &["no entry point"]);
}

#[test]
fn random_numbers_that_all_share_are_warned_of() {
    let cli = prepared();
    cli.run("image lint warm --allow many-layers").fine();
    let random = |call: &str| {
        let import = r#"(import "wasi_snapshot_preview1" "random_get"
            (func $random (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit""#;
        let guest = ANSWERS.replace(r#"(import "wasi_snapshot_preview1" "proc_exit""#, import);
        guest.replace("(local $note i32)", &format!("(local $note i32) {call}"))
    };
    let twice = "(drop (call $random (i32.const 200) (i32.const 8)))".repeat(2);
    cli.file("random.wat", random(&twice));
    let done = cli.run("image prepare --at stdin --tag drawn --layer base random.wat");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(
        done.stderr.contains("warning: ") && done.stderr.contains("(2 times)"),
        "{done:?}"
    );
    let inspected: Value =
        serde_json::from_str(&cli.run("image inspect drawn --json").text()).unwrap();
    assert_eq!(inspected["checkpoint"]["random_calls"], 2);
    assert!(cli.run("image inspect drawn").text().contains("2 times"));
    let linted = cli.run("image lint drawn --fail-on warning");
    assert_eq!(linted.code, Some(4));
    assert!(
        linted.text().contains("warning shared-random"),
        "{linted:?}"
    );
    // What is drawn after the point is its own.
    cli.file("later.wat", random(""));
    let done = cli.run("image prepare --at stdin --tag later --layer base later.wat");
    done.fine();
}

#[test]
fn what_cannot_be_frozen_is_named() {
    let cli = Cli::new();
    let component = r#"(component)"#;
    cli.file("component.wat", component);
    cli.run("image prepare --at stdin --tag none component.wat")
        .failed(1, &["cannot freeze", "component"]);
    let threads = ANSWERS.replace(
        r#"(memory (export "memory") 1)"#,
        r#"(memory (export "memory") 1 2 shared)"#,
    );
    cli.file("threads.wat", threads);
    cli.run("image prepare --at stdin --tag none threads.wat")
        .failed(1, &["cannot freeze", "memory 0 is shared"]);
    cli.file("guest.wat", ANSWERS)
        .file("base/data", "1")
        .file("host/data", "1");
    cli.run("image prepare --at stdin --tag none --no-preopen --dir host::/ guest.wat")
        .failed(
            1,
            &["cannot freeze", "descriptor 5", "directory of the host"],
        );
    cli.run("image import base --tag vol").fine();
    cli.run("image prepare --at stdin --tag none --no-preopen --volume v=vol::/ guest.wat")
        .failed(1, &["cannot freeze", "descriptor 5", "volume \"v\""]);
    assert_eq!(cli.run("image ls").text().matches("none").count(), 0);
}

#[test]
fn what_is_open_beside_the_base_is_opened_again_where_it_is_given_again() {
    let cli = Cli::new();
    let unlink = "(call $must (call $unlink (i32.const 3) (i32.const 48) (i32.const 4)))";
    assert!(ANSWERS.contains(unlink));
    cli.file("guest.wat", ANSWERS.replace(unlink, ""))
        .file("base/data", "123456789")
        .file("host/data", "123456789");
    cli.run("image import base --tag vol").fine();
    let ways = [
        ("by-dir", "--dir host::/side"),
        ("by-volume", "--volume v=vol::/side"),
    ];
    for (tag, beside) in ways {
        let done = cli.run(&format!(
            "image prepare --at stdin --tag {tag} --no-preopen {beside} guest.wat"
        ));
        assert_eq!(done.code, Some(0), "{done:?}");
        cli.run(&format!("run --image {tag}"))
            .failed(1, &["\"/side\"", "again"]);
    }
    let note = |text: &str| {
        let note = std::fs::read_to_string(cli.path("host/note")).unwrap();
        assert_eq!(note, text);
    };
    note("ready\n");
    let done = with_input(&cli, "run --image by-dir --dir host::/side", "ab");
    assert_eq!((done.code, done.text()), (Some(7), "a1b2".to_owned()));
    // It was open to be appended to.
    note("ready\na1b2");
    // A volume is what it is when it is given again: its note was not there at the start.
    cli.run("run --image by-volume --volume v=vol::/side")
        .failed(
            1,
            &[
                "/side/note: the guest had it open when it was frozen",
                "no such file",
                "with what it held then",
            ],
        );
    cli.file("base/note", "");
    cli.run("image import base --tag vol").fine();
    let done = with_input(&cli, "run --image by-volume --volume v=vol::/side", "ab");
    assert_eq!((done.code, done.text()), (Some(7), "a1b2".to_owned()));
    std::fs::remove_file(cli.path("host/data")).unwrap();
    cli.run("run --image by-dir --dir host::/side")
        .failed(1, &["data", "no such file"]);
}

/// Its removed file lies in no directory that it is shown, nor does a link lead to any.
#[cfg(unix)]
#[test]
fn a_guest_that_is_shown_a_part_of_its_tree_goes_on() {
    let cli = Cli::new();
    cli.file("guest.wat", ANSWERS)
        .file("base/srv/data", "123456789");
    std::os::unix::fs::symlink("srv", cli.path("base/current")).unwrap();
    for (tag, dir) in [
        ("part", "/srv"),
        ("linked", "/current"),
        ("back", "/srv/../srv"),
    ] {
        let shown = format!("--preopen {dir}::/ --layer base guest.wat");
        cli.run(&format!("image prepare --at stdin --tag {tag}:1 {shown}"))
            .fine();
        cli.run(&format!(
            "image prepare --at stdin --tag {tag}:2 --image {tag}:1"
        ))
        .fine();
        for generation in [1, 2] {
            let done = with_input(&cli, &format!("run --image {tag}:{generation}"), "ab");
            assert_eq!(
                (done.code, done.text()),
                (Some(7), "a1b2".to_owned()),
                "{tag}: {done:?}"
            );
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_told() {
    let cli = prepared();
    cli.run("image export warm tree --format dir").fine();
    let program = cli.path("tree/.stratafs/frozen/program.wasm");
    let state = cli.path("tree/.stratafs/frozen/state.json");
    let whole = std::fs::read_to_string(&state).unwrap();
    let with = |text: &str| {
        std::fs::write(&state, text).unwrap();
        cli.run("image import tree --tag bad").fine();
        cli.run("run --image bad")
    };
    with(&whole.replace("\"version\":1", "\"version\":9"))
        .failed(1, &["version 9", "prepare it again"]);
    with(&whole[..whole.len() / 2]).failed(1, &["damaged", "state.json"]);
    with("[]").failed(1, &["bad:latest: ", "damaged"]);
    with(&whole.replace("\"frames\":2", "\"frames\":-2")).failed(1, &["damaged"]);
    with(&whole.replace("\"path_hex\":\"", "\"path_hex\":\"z")).failed(1, &["damaged", "hex"]);
    // Below another directory than those that are shown.
    let outside = whole.replace(
        "\"path_hex\":\"64617461\"",
        "\"path_hex\":\"2e2e2f64617461\"",
    );
    assert_ne!(outside, whole);
    with(&outside).failed(1, &["../data"]);
    let stream = whole.replacen("\"number\":2", "\"number\":77", 1);
    with(&stream).failed(1, &["77"]);
    let other = whole.replace("\"name\":\"/\"", "\"name\":\"/elsewhere\"");
    with(&other).failed(1, &["/elsewhere"]);
    with(&whole);
    let mut bytes = std::fs::read(&program).unwrap();
    bytes.push(0);
    std::fs::write(&program, bytes).unwrap();
    with(&whole).failed(1, &["damaged", "program.wasm", "digest"]);
}

#[test]
fn a_prepared_image_is_looked_at_and_kept_like_any_other() {
    let cli = prepared();
    cli.run("image import base --tag base").fine();
    let changes = cli.run("image diff base warm").fine().text();
    for name in ["program.wasm", "state.json", "NOTICE"] {
        let line = format!("A /.stratafs/frozen/{name}");
        assert!(changes.lines().any(|found| found == line), "{changes}");
    }
    let history = cli.run("image history warm").fine().text();
    assert!(
        history.contains("prepared at stdin: guest.wat"),
        "{history}"
    );
    let notice = cli.run("image cat warm /.stratafs/frozen/NOTICE").text();
    assert!(notice.contains("keys\nand passwords"), "{notice}");
    let told = cli.json("image explain warm /.stratafs/frozen/program.wasm");
    assert_eq!(told["kind"], "file");
    assert_eq!(told["layer"]["number"], 1, "{told}");
    cli.run("image rm base").fine();
    cli.run("store gc").fine();
    cli.run("store verify").fine();
    let done = with_input(&cli, "run --image warm --", "q");
    assert_eq!((done.code, done.text()), (Some(7), "q1".to_owned()));
}

/// Fills two MiB with numbers of no order, and writes two bytes.
const FILLS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 33)
  (data (i32.const 16) ".")
  (func $say
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 1))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start") (local $at i32) (local $word i32)
    (loop $fill
      (local.set $word (i32.add (i32.mul (local.get $word) (i32.const 1664525)) (i32.const 1013904223)))
      (i32.store (i32.add (i32.const 65536) (local.get $at)) (local.get $word))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $fill (i32.lt_u (local.get $at) (i32.const 2097152))))
    (call $say) (call $say)))"#;

#[test]
fn two_checkpoints_of_one_program_share_the_pages_that_are_equal() {
    let cli = Cli::new();
    cli.file("guest.wat", FILLS);
    let chunks = |nth: u64| -> Vec<(String, u64)> {
        let point = format!("call:fd_write:{nth}");
        cli.run(&format!(
            "image prepare --at {point} --tag at:{nth} guest.wat"
        ))
        .fine();
        let told = cli.json(&format!(
            "image explain at:{nth} /.stratafs/frozen/program.wasm"
        ));
        let chunks = told["chunks"].as_array().unwrap().iter();
        let chunk = |chunk: &Value| {
            let digest = chunk["digest"].as_str().unwrap().to_owned();
            (digest, chunk["size_bytes"].as_u64().unwrap())
        };
        chunks.map(chunk).collect()
    };
    let (one, two) = (chunks(1), chunks(2));
    let bytes = |chunks: &[(String, u64)]| chunks.iter().map(|(_, size)| size).sum::<u64>();
    let shared: Vec<_> = two
        .iter()
        .filter(|chunk| one.contains(chunk))
        .cloned()
        .collect();
    assert!(bytes(&two) > 2 << 20, "{two:?}");
    assert!(
        bytes(&shared) > bytes(&two) / 4 * 3,
        "{shared:?} of {two:?}"
    );
}
