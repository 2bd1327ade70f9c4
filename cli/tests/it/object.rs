//! `image push`, `pull`, `run --image` and `store gc --bucket` with a folder as an object
//! store, and what they refuse.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::Cli;
use crate::support::script::Script;

fn world() -> Cli {
    let cli = Cli::new();
    cli.file("src/app.wat", Script::new().print("from a folder\n").wat());
    cli.run("image import src --tag plain:1").fine();
    cli.run("image mutate plain:1 --entrypoint /app.wat --tag app:1")
        .fine();
    cli
}

fn json(done: &super::Done) -> Value {
    serde_json::from_slice(&done.fine().stdout).unwrap()
}

#[test]
fn an_image_goes_into_a_folder_and_comes_back() {
    let cli = world();
    let place = format!("file://{}", cli.path("place").display());
    let told = json(&cli.run("image push app:1 ./place/app:1 --json"));
    assert_eq!(told["name"].as_str(), Some(&*format!("{place}/app:1")));
    assert_eq!(told["sent_blobs"], 4);
    // By its path or its name, which it keeps in the store.
    let told = json(&cli.run("image pull ./place/app:1 --store other --json"));
    assert_eq!(told["tag"].as_str(), Some(&*format!("{place}/app:1")));
    let done = cli.run(&format!("run --image {place}/app:1 --store third"));
    assert_eq!(done.fine().text(), "from a folder\n");
    let done = cli.run(&format!(
        "run --image {place}/app:1 --store third --pull never"
    ));
    assert_eq!(done.fine().text(), "from a folder\n");
    cli.run(&format!("run --image {place}/none:1 --store third"))
        .failed(1, &["place/none:1: cannot read the tag: it is not there"]);
    // What was run before it was all here is pushed once it is.
    let push = format!("image push {place}/app:1 --store third");
    let fill = format!("store fill {place}/app:1");
    cli.run(&push).failed(1, &[&fill]);
    cli.run(&format!("{fill} --store third")).fine();
    cli.run(&push).fine();
}

#[test]
fn an_image_in_a_folder_is_run_before_it_is_here() {
    let cli = world();
    let noise: Vec<u8> = (0..500_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    cli.file("src/noise", noise);
    cli.run("image import src --tag large:1").fine();
    cli.run("image mutate large:1 --entrypoint /app.wat --tag large:1")
        .fine();
    cli.run("image push large:1 ./place/app:1").fine();
    let name = format!("file://{}/app:1", cli.path("place").display());
    let absent = |store: &str| json(&cli.run(&format!("store stat --store {store} --json")));
    let done = cli.run(&format!("run --image {name} --lazy only --store other"));
    assert_eq!(done.fine().text(), "from a folder\n");
    assert!(absent("other")["absent_bytes"].as_u64().unwrap() > 1_000_000);
    let told = json(&cli.run(&format!("store fill {name} --store other --json")));
    assert!(told["fetched_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(absent("other")["absent_bytes"], 0);
    let told = json(&cli.run(&format!(
        "image pull {name} --lazy only --store third --json"
    )));
    assert_eq!(told["lazy_layers"], 1);
    fs::remove_dir_all(cli.path("place/blobs")).unwrap();
    cli.run(&format!("run --image {name} --lazy off --store third"))
        .failed(1, &["it is not there"]);
}

#[test]
fn a_bucket_is_collected_without_a_store() {
    let cli = world();
    cli.run("image push app:1 ./place/app:1").fine();
    cli.run("image push plain:1 ./place/app:1").fine();
    let place = format!("file://{}", cli.path("place").display());
    let gc = |more: &str| cli.run(&format!("store gc --bucket {place} --store none {more}"));
    let by_path = cli.run("store gc --bucket ./place --store none --dry-run --json");
    assert_eq!(json(&by_path)["tags"], 1);
    cli.run("store gc --bucket s3://")
        .refused(&["s3://", "invalid bucket"]);
    let told = json(&gc("--json"));
    assert_eq!(
        (&told["removed_blobs"], &told["tags"]),
        (&0.into(), &1.into())
    );
    let blobs = cli.path("place/blobs/sha256");
    for entry in fs::read_dir(&blobs).unwrap() {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(entry.unwrap().path())
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(7200))
            .unwrap();
    }
    let count = || fs::read_dir(&blobs).unwrap().count();
    let before = count();
    let told = json(&gc("--grace 1h --dry-run --json"));
    let removed = told["removed_blobs"].as_u64().unwrap();
    assert_eq!((removed > 0, count()), (true, before));
    assert!(gc("--grace 1h").fine().text().contains(" removed ("));
    assert_eq!(count() as u64 + removed, before as u64);
    assert!(!cli.path("none").exists());
    cli.run("image pull ./place/app:1 --store other").fine();
}

#[test]
fn what_names_no_place_is_said_at_once() {
    let cli = world();
    for (words, want) in [
        (
            "image push app:1 s3://bucket",
            "names nothing in an object store",
        ),
        ("image push app:1 s3:///x:1", "is named after its place"),
        (
            "image push app:1 ftp://bucket/x:1",
            "is not the name of an image in a registry",
        ),
        ("image pull file://relative/x:1", "whole path of a folder"),
        (
            "store gc --bucket nowhere",
            "expected a name that begins with",
        ),
        ("store gc --bucket s3://b --grace soon", "expected a time"),
        ("store gc --grace 1h", "--bucket"),
        ("store gc --plain-http", "--bucket"),
        (
            "store gc --bucket s3://b --keep-cache 1G",
            "cannot be used with",
        ),
    ] {
        let done = cli.run(words);
        assert_eq!(done.code, Some(2), "{words}: {done:?}");
        let found = want.split('|').any(|want| done.stderr.contains(want));
        assert!(found, "{words}: {}", done.stderr);
    }
    cli.run("image pull http://images.example/app:1")
        .failed(1, &["plain HTTP is used for this machine alone"]);
    cli.run(&format!("store gc --bucket {}", "http://127.0.0.1:1/x"))
        .failed(1, &["can only be read"]);
}

#[test]
fn a_push_that_is_killed_leaves_the_tag_as_it_was() {
    let cli = world();
    cli.run("image push app:1 ./place/app:1").fine();
    let noise: Vec<u8> = (0..6_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    cli.file("large/noise", noise);
    cli.run("image import large --tag large:1").fine();
    let begun = Instant::now();
    cli.run("image push large:1 ./other/app:1").fine();
    let whole = begun.elapsed();
    let tag = cli.path("place/tags/app/1");
    let before = fs::read(&tag).unwrap();
    let mut killed = 0;
    for part in 1..8 {
        let mut child = cli
            .command("image push large:1 ./place/app:1")
            .spawn()
            .unwrap();
        std::thread::sleep(whole / 8 * part);
        drop(child.kill());
        let ended = child.wait().unwrap().success();
        match ended {
            true => break,
            false => killed += 1,
        }
        assert_eq!(fs::read(&tag).unwrap(), before);
        cli.run("image pull ./place/app:1 --store other-store")
            .fine();
    }
    assert!(killed > 0, "each push was done before it was killed");
    cli.run("image push large:1 ./place/app:1").fine();
    cli.run("image pull ./place/app:1 --store other-store")
        .fine();
}
