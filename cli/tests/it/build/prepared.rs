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
    build(&cli, "").failed(1, &["line 1, column 6", "the image is prepared"]);
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
