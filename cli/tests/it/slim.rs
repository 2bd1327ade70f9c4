//! `image slim`: what is left, what is said of the rest, and the trial run.

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::Archive;
use crate::support::script::Script;

impl Cli {
    /// An image `app:1` with files, links, an empty directory and the guest `main.wat`.
    fn with_app(guest: &Script) -> Self {
        let cli = Self::new();
        let lower = Archive::new()
            .file("main.wat", &guest.wat())
            .file("lib/used", "used")
            .file("lib/unused", "unused!")
            .hard_link("lib/again", "lib/used")
            .symlink("current", "lib")
            .symlink("lost", "lib/unused")
            .symlink("chain", "current/used")
            .dir("empty")
            .dir("old")
            .file("old/file", "12345678")
            .file("conf/a.conf", "a")
            .file("conf/b.txt", "b");
        cli.file("app.tar", lower.end());
        cli.file(
            "up.tar",
            Archive::new()
                .file("old/.wh.file", "")
                .file("old/more", "more")
                .end(),
        );
        cli.run("image import app.tar --layer up.tar --tag app:1")
            .fine();
        cli
    }

    #[track_caller]
    fn left(&self, tag: &str) -> Vec<String> {
        let entries = self.json(&format!("image tree {tag}"))["entries"].clone();
        let entries = entries.as_array().unwrap().iter();
        entries
            .map(|entry| entry["path"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn what_was_opened_is_kept_with_what_leads_to_it() {
    let cli = Cli::with_app(&Script::new().cat("lib/used"));
    cli.run("run --image app:1 --trace t.jsonl main.wat").fine();
    let done = cli.run("image slim app:1 --trace t.jsonl --tag slim:1 --json");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("kept 1 files (4 B), removed 5 files"),
        "{}",
        done.stderr
    );
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["layers"], 1);
    assert_eq!(
        (&told["kept_files"], &told["kept_bytes"]),
        (&json!(1), &json!(4))
    );
    let removed = told["removed"].as_array().unwrap();
    let removed: Vec<&str> = removed
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        removed,
        [
            "/conf",
            "/conf/a.conf",
            "/conf/b.txt",
            "/lib/unused",
            "/lost",
            "/main.wat",
            "/old",
            "/old/more"
        ]
    );
    assert_eq!(
        cli.left("slim:1"),
        [
            "/",
            "/chain",
            "/current",
            "/empty",
            "/lib",
            "/lib/again",
            "/lib/used"
        ]
    );
    let history = cli.json("image history slim:1")["history"].clone();
    let by = history[0]["created_by"].as_str().unwrap();
    assert!(by.contains("slim of 2 layers by 1 traces"), "{by}");
    assert_eq!(history.as_array().unwrap().len(), 1);
    // The one that it was made of is as it was.
    assert_eq!(cli.left("app:1").len(), 15);
    let text = cli
        .run("image slim app:1 --trace t.jsonl --tag slim:2 --list")
        .text();
    assert!(
        text.starts_with("slim:2 blake3:") && text.contains("\n/old/more"),
        "{text}"
    );
}

#[test]
fn patterns_keep_trees_and_where_links_lead() {
    let cli = Cli::with_app(&Script::new());
    cli.run("image slim app:1 --keep *.conf --keep /lost --keep /old --tag slim:1");
    assert_eq!(
        cli.left("slim:1"),
        [
            "/",
            "/conf",
            "/conf/a.conf",
            "/current",
            "/empty",
            "/lib",
            "/lib/unused",
            "/lost",
            "/old",
            "/old/more"
        ]
    );
    let done = cli.run("image slim app:1 --keep none* --tag slim:2");
    assert_eq!(done.code, Some(0));
    assert!(
        done.stderr.contains("none*: nothing in the image matches"),
        "{}",
        done.stderr
    );
    assert_eq!(cli.left("slim:2"), ["/", "/empty"]);
}

#[test]
fn a_trial_names_what_is_missed_and_makes_nothing() {
    let guest = Script::new()
        .print("hello")
        .cat("lib/used")
        .cat("current/unused");
    let cli = Cli::with_app(&guest);
    cli.file("t.jsonl", "{\"path\":\"/lib/used\"}\n");
    let done = cli.run(
        "image slim app:1 --trace t.jsonl --keep main.wat --tag slim:1 --check main.wat --loud",
    );
    assert_eq!(done.code, Some(1));
    let error = done
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap();
    assert!(
        error.contains("/current/unused") && error.contains("--keep"),
        "{error}"
    );
    assert!(!error.contains("lib/used"), "{error}");
    cli.run("image inspect slim:1").failed(1, &["slim:1"]);
    let done = cli.run("image slim app:1 --trace t.jsonl --keep main.wat --keep unused --tag slim:1 --check main.wat");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("hello"),
        "the guest prints to stderr: {}",
        done.stderr
    );
    assert!(!done.text().contains("hello"));
    // A guest that fails for another reason.
    let cli = Cli::with_app(&Script::new().exit(7));
    cli.run("image slim app:1 --keep main.wat --tag slim:1 --check main.wat")
        .failed(1, &["--check", "7"]);
}

#[test]
fn slim_refuses_what_it_cannot_do() {
    let cli = Cli::with_app(&Script::new().print("x").echo());
    cli.run("image slim app:1 --tag slim:1")
        .refused(&["--trace"]);
    cli.run("image slim app:1 --keep x").refused(&["--tag"]);
    cli.run("image slim app:1 --keep [a --tag slim:1")
        .refused(&["--keep", "["]);
    cli.run("image slim none --keep x --tag slim:1")
        .failed(1, &["none:latest"]);
    cli.run("image slim app:1 --trace none --tag slim:1")
        .failed(1, &["none"]);
    cli.run("image prepare --at stdin --quiet --tag ready:1 --image app:1 main.wat")
        .fine();
    cli.run("image slim ready:1 --keep x --tag slim:1").failed(
        1,
        &["ready:1", "prepared", "slim the image that it was made of"],
    );
    cli.run("image inspect slim:1").failed(1, &["slim:1"]);
}

#[test]
fn links_to_directories_that_are_kept_for_other_links_stay() {
    let cli = Cli::new();
    let archive = Archive::new()
        .file("etc/conf", "x")
        .symlink("data/link", "../etc/conf")
        .symlink("dlink", "data")
        .symlink("sel/chain", "../data/link")
        .symlink("seld", "/sel")
        .dir("e")
        .symlink("v1/ed", "../e")
        .symlink("current", "v1")
        .file("other/gone", "y")
        .symlink("away", "other");
    cli.file("t.tar", archive.end());
    cli.run("image import t.tar --tag t:1").fine();
    let done = cli.run("image slim t:1 --keep conf --tag t:2");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let left = cli.left("t:2");
    for kept in [
        "/dlink",
        "/data/link",
        "/sel/chain",
        "/seld",
        "/current",
        "/v1/ed",
        "/e",
    ] {
        assert!(left.iter().any(|path| path == kept), "{kept}: {left:?}");
    }
    assert!(!left.iter().any(|path| path == "/away"), "{left:?}");
}

#[test]
fn links_that_lead_nowhere_or_in_circles_harm_nobody() {
    let cli = Cli::new();
    let mut archive = Archive::new()
        .symlink("a", "b")
        .symlink("b", "a")
        .symlink("climbs", "../../d/f")
        .symlink("through", "d/f/x")
        .symlink("root", "/")
        .file("d/f", "x");
    // More links in a row than a guest may follow.
    for number in 0..60 {
        archive = archive.symlink(format!("l{number:02}"), format!("l{:02}", number + 1));
    }
    archive = archive.symlink("l60", "d/f");
    cli.file("t.tar", archive.end());
    cli.run("image import t.tar --tag t:1").fine();
    let done = cli.run("image slim t:1 --keep a --keep through --keep f --tag t:2");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let left = cli.left("t:2");
    let (links, others): (Vec<_>, Vec<_>) = left.iter().partition(|path| path.starts_with("/l"));
    assert_eq!(
        others,
        ["/", "/a", "/climbs", "/d", "/d/f", "/root", "/through"]
    );
    // Forty can be followed.
    assert_eq!((links.len(), links[0].as_str()), (40, "/l21"));
}

#[test]
fn a_start_set_comes_of_the_traces() {
    let cli = Cli::with_app(&Script::new());
    cli.file(
        "t.jsonl",
        "{\"path\":\"/lib/used\",\"read_bytes\":2}\n{\"path\":\"/gone\",\"read_bytes\":9}\n{\"path\":\"/conf/a.conf\",\"read_bytes\":1}\n{\"path\":\"/lib/used\",\"read_bytes\":4}\n",
    );
    cli.run("image slim app:1 --trace t.jsonl --tag slim:1 --start-set start");
    let written = std::fs::read_to_string(cli.path("start")).unwrap();
    let lines: Vec<Value> = written
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // In the order of the traces; another name of the file was not opened.
    assert_eq!(
        lines,
        [
            json!({"path": "/lib/used", "size_bytes": 4, "read_bytes": 4}),
            json!({"path": "/conf/a.conf", "size_bytes": 1, "read_bytes": 1}),
        ]
    );
    cli.run("image export slim:1 out --compress gzip --start-set start")
        .fine();
    cli.run("image slim app:1 --keep x --tag slim:2 --start-set start")
        .refused(&["--trace"]);
    cli.run("image slim app:1 --trace t.jsonl --tag slim:2 --start-set no/where")
        .failed(1, &["no/where"]);
    cli.run("image inspect slim:2").failed(1, &["slim:2"]);
}
