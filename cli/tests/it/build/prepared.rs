//! A recipe that makes the built image go on from a checkpoint.

use std::process::Stdio;

use super::{Cli, Done, build, guest, id, inspect, with};
use crate::support::script::Script;

fn project(head: &str) -> Cli {
    let cli = with(&format!(
        "{head}FROM scratch\nCOPY g.wat /\nENV A=1\nENTRYPOINT [\"/g.wat\"]\n"
    ));
    let script = Script::new()
        .print("before\n")
        .write("made", b"1")
        .print_env()
        .echo();
    guest(&cli, "g.wat", &script);
    cli
}

/// Runs the image with a line on stdin.
fn run(cli: &Cli) -> Done {
    cli.file("line", "hello");
    let mut command = cli.command("run --image made");
    command.stdin(Stdio::from(std::fs::File::open(cli.path("line")).unwrap()));
    Done::of(&mut command)
}

#[test]
fn an_image_goes_on_from_the_point_that_its_recipe_names() {
    let cli = project("# stratafs: prepare=stdin\n");
    let done = cli.run("image build --json --progress plain ctx --tag made");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("before"), "{}", done.stderr);
    assert!(
        done.text().contains("\"prepared\": \"stdin\""),
        "{}",
        done.text()
    );
    assert_eq!(inspect(&cli)["checkpoint"]["point"], "stdin");
    // What came before the point has been: only what follows is seen.
    assert_eq!(run(&cli).text(), "hello");
    assert_eq!(cli.run("image cat made /made").text(), "1");
    let history = cli.run("image history made").text();
    assert!(history.contains("prepared at stdin: /g.wat"), "{history}");
    // It is kept, equal anywhere, and nothing to build on.
    let first = id(&build(&cli, ""));
    assert_eq!(id(&build(&cli, "--no-cache")), first);
    assert_eq!(
        id(&build(&project("# stratafs: prepare=stdin\n"), "")),
        first
    );
    cli.file("ctx/Dockerfile", "FROM made\n");
    build(&cli, "").failed(1, &["line 1, column 6: made: the image is prepared"]);
}

#[test]
fn a_recipe_without_the_comment_is_an_ordinary_one() {
    for head in ["", "# a comment: prepare=stdin\n"] {
        let cli = project(head);
        let done = build(&cli, "--json");
        assert!(done.fine().text().contains("\"prepared\": null"));
        assert!(inspect(&cli)["checkpoint"].is_null());
        assert!(run(&cli).text().starts_with("before\n"));
    }
    // Of two stages the one that is built counts.
    let cli = with(
        "# stratafs: prepare=stdin\nFROM scratch AS one\nCOPY g.wat /\nENTRYPOINT [\"/g.wat\"]\nFROM scratch\nCOPY --from=one / /\nENTRYPOINT [\"/g.wat\"]\n",
    );
    guest(&cli, "g.wat", &Script::new().print("before\n").echo());
    id(&build(&cli, ""));
    assert!(inspect(&cli)["checkpoint"].is_null());
    id(&build(&cli, "--target one"));
    assert_eq!(inspect(&cli)["checkpoint"]["point"], "stdin");
}

#[test]
fn a_point_that_is_never_reached_fails_the_build() {
    let cli = project("# stratafs: prepare=path:/nowhere\n");
    let want = [
        "ctx/Dockerfile: line 1, column 1",
        "before it came to path:/nowhere",
        "before",
    ];
    build(&cli, "--iidfile id").failed(1, &want);
    cli.run("image inspect made").failed(1, &["made"]);
    assert!(!cli.path("id").exists());
    let cli = project("# stratafs: prepare=later\n");
    build(&cli, "").failed(1, &["line 1, column 1", "prepare=later", "expected stdin"]);
    let cli = with("FROM scratch\n# stratafs: prepare=stdin\nENV A=1\n");
    build(&cli, "").failed(1, &["line 2, column 1", "above no FROM"]);
    let cli = with("# stratafs: prepare=stdin\nFROM scratch\n");
    build(&cli, "").failed(1, &["line 1, column 1", "no entry point"]);
}

/// Makes a file, and one that it removes, and looks at both and at the root before and behind a call.
const LOOKS: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "fg")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $make (param $name i32) (result i32)
    (call $must (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 1) (i32.const 1)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 64)))
    (i32.load (i32.const 64)))
  (func (export "_start") (local $kept i32) (local $gone i32) (local $at i32)
    (local.set $kept (call $make (i32.const 16)))
    (local.set $gone (call $make (i32.const 17)))
    (call $must (call $unlink (i32.const 3) (i32.const 17) (i32.const 1)))
    (call $must (call $stat (local.get $kept) (i32.const 1024)))
    (call $must (call $stat (local.get $gone) (i32.const 1088)))
    (call $must (call $stat (i32.const 3) (i32.const 1152)))
    (drop (call $yield))
    (call $must (call $stat (local.get $kept) (i32.const 2048)))
    (call $must (call $stat (local.get $gone) (i32.const 2112)))
    (call $must (call $stat (i32.const 3) (i32.const 2176)))
    (loop $each
      (call $must (i64.ne (i64.load offset=1024 (local.get $at)) (i64.load offset=2048 (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $each (i32.lt_u (local.get $at) (i32.const 192))))))"#;

#[test]
fn what_the_guest_made_has_the_times_that_it_knows() {
    let recipe = "# stratafs: prepare=call:sched_yield:1\nFROM scratch\nCOPY g.wat /\nENTRYPOINT [\"/g.wat\"]\n";
    let built = || {
        let cli = with(recipe);
        cli.file("ctx/g.wat", LOOKS);
        let made = id(&build(&cli, ""));
        (cli, made)
    };
    let (cli, made) = built();
    let again = "image prepare --at call:sched_yield:1 --tag again --image made";
    cli.run(again).fine();
    for image in ["made", "again"] {
        cli.run(&format!("run --image {image}")).fine();
    }
    // Equal anywhere and at any time all the same.
    assert_eq!(id(&build(&cli, "--no-cache")), made);
    assert_eq!(built().1, made);
}
