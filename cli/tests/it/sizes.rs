//! `image diff --stat`, `image tree --depth --sizes`, `image explain --sizes`.

use serde_json::{Value, json};

use super::Cli;
use crate::support::archive::Archive;

fn with_two() -> Cli {
    let cli = Cli::new();
    let lower = Archive::new()
        .file("d/a", "12345")
        .file("d/sub/b", "123")
        .hard_link("d/sub/c", "d/a")
        .symlink("l", "d")
        .file("top", "1");
    let upper = Archive::new()
        .file("d/a", "1234567")
        .file(".wh.top", "")
        .file("d/new", "1234567890");
    cli.file("lower.tar", lower.end())
        .file("upper.tar", upper.end());
    cli.run("image import lower.tar --tag app:1").fine();
    cli.run("image import lower.tar --layer upper.tar --tag app:2")
        .fine();
    cli
}

#[test]
fn diff_counts_by_kind() {
    let cli = with_two();
    let told = cli.json("image diff app:1 app:2 --stat");
    let of = |kind: &str| {
        let sum = &told["stat"][kind];
        ["files", "dirs", "symlinks", "before_bytes", "after_bytes"]
            .map(|key| sum[key].as_u64().unwrap())
    };
    assert_eq!(of("added"), [1, 0, 0, 0, 10]);
    assert_eq!(of("changed"), [1, 0, 0, 5, 7]);
    assert_eq!(of("deleted"), [1, 0, 0, 1, 0]);
    assert_eq!(told["changes"].as_array().unwrap().len(), 3);
    let text = cli.run("image diff app:1 app:2 --stat").fine().text();
    assert!(text.contains("changed") && text.contains("7 B"), "{text}");
    assert!(!text.contains("/d/a"), "{text}");
    assert_eq!(cli.json("image diff app:1 app:2")["stat"], Value::Null);
}

#[test]
fn tree_stops_at_a_depth_and_sums_below_it() {
    let cli = with_two();
    let told = |words: &str| cli.json(&format!("image tree {words}"))["entries"].clone();
    let paths = |entries: &Value| -> Vec<String> {
        let all = entries.as_array().unwrap().iter();
        all.map(|entry| entry["path"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(paths(&told("app:1 --depth 0")), ["/"]);
    assert_eq!(paths(&told("app:1 --depth 1")), ["/", "/d", "/l", "/top"]);
    assert_eq!(paths(&told("app:1 /d --depth 1")), ["/d", "/d/a", "/d/sub"]);
    let sums = told("app:1 --depth 1 --sizes");
    // A file with two names counts once.
    assert_eq!(
        (&sums[0]["total_files"], &sums[0]["total_bytes"]),
        (&json!(3), &json!(9))
    );
    assert_eq!(
        (&sums[1]["total_files"], &sums[1]["total_bytes"]),
        (&json!(2), &json!(8))
    );
    assert_eq!(sums[3]["total_bytes"], Value::Null);
    assert_eq!(told("app:1")[0]["total_bytes"], Value::Null);
    let text = cli.run("image tree app:1 --depth 0 --sizes").fine().text();
    assert!(text.split_whitespace().any(|word| word == "9"), "{text}");
    cli.run("image tree app:1 --depth x").refused(&["--depth"]);
}

#[test]
fn explain_tells_what_comes_from_each_layer() {
    let cli = with_two();
    let told = cli.json("image explain app:2 / --sizes");
    assert_eq!(
        told["sizes"],
        json!([{"layer": 0, "files": 2, "size_bytes": 8}, {"layer": 1, "files": 2, "size_bytes": 17}])
    );
    let one = cli.json("image explain app:2 /d/new --sizes");
    assert_eq!(
        one["sizes"],
        json!([{"layer": 1, "files": 1, "size_bytes": 10}])
    );
    assert_eq!(cli.json("image explain app:2 /d")["sizes"], Value::Null);
    let text = cli.run("image explain app:2 /d --sizes").fine().text();
    assert!(text.contains("17 B in 2 files of layer 1"), "{text}");
}
