//! `stratafs bench`: every way measured, or said why not; nothing left behind.

use std::fs;

use serde_json::Value;

use super::Cli;
use crate::support::script::Script;

fn ways(report: &Value) -> Vec<&Value> {
    report["ways"].as_array().unwrap().iter().collect()
}

fn way<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = ways(report);
    let found = all.into_iter().find(|way| way["name"] == name);
    found.unwrap_or_else(|| panic!("no way {name} in {report}"))
}

#[test]
fn ways_are_measured_side_by_side_and_leave_nothing() {
    let cli = Cli::new();
    cli.guest(&Script::new())
        .file("base/dir/file", vec![7; 100_000])
        .file("work/.keep", "");
    let before = fs::read(cli.path("base/dir/file")).unwrap();
    let done = cli.run(
        "bench --layer base --instances 5 --work work --out report --json guest.wat --an-option",
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
    let written = fs::read(cli.path("report/report.json")).unwrap();
    assert_eq!(printed, serde_json::from_slice::<Value>(&written).unwrap());
    assert_eq!(printed["base"]["files"], 1);
    for name in [
        "stratafs",
        "copied directory",
        "shared directory",
        "no file system",
    ] {
        let way = way(&printed, name);
        assert_eq!(
            (&way["instances"], &way["failed"]),
            (&5.into(), &0.into()),
            "{way}"
        );
        assert!(way["start_ns"]["median"].as_u64() > Some(0), "{way}");
        assert_eq!(
            way["start_samples_ns"].as_array().unwrap().len(),
            5,
            "{way}"
        );
        assert_eq!(way["growth"].as_array().unwrap().len(), 5, "{way}");
    }
    assert!(
        way(&printed, "copied directory")["growth"][4]["files_bytes"].as_u64() >= Some(500_000)
    );
    assert_eq!(way(&printed, "stratafs")["growth"][4]["files_bytes"], 0);
    // Where the kernel mounts for us it is measured, elsewhere it says why.
    let absent = printed["absent"].as_array().unwrap();
    assert_eq!(ways(&printed).len() + absent.len(), 5, "{printed}");
    assert!(
        absent
            .iter()
            .all(|way| way["why"].as_str().is_some_and(|why| !why.is_empty()))
    );
    let page = fs::read_to_string(cli.path("report/report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>"), "{page}");
    let left: Vec<_> = fs::read_dir(cli.path("work")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read(cli.path("base/dir/file")).unwrap(), before);
}

#[test]
fn a_way_stops_at_its_budget() {
    let cli = Cli::new();
    cli.guest(&Script::new())
        .file("base/file", "x")
        .file("work/.keep", "");
    let done =
        cli.run("bench --layer base --instances 40 --budget 0.000001 --work work --json guest.wat");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    for way in ways(&report) {
        assert_eq!(way["instances"], 1, "{way}");
        assert!(way["stopped"].as_str().unwrap().contains("budget"), "{way}");
    }
}

#[test]
fn wrong_input_is_told_before_anything_is_made() {
    let cli = Cli::new();
    cli.guest(&Script::new())
        .file("file", "x")
        .file("base/f", "x");
    for (words, code, says) in [
        ("bench --instances 0 guest.wat", 2, "--instances"),
        ("bench --budget never guest.wat", 2, "--budget"),
        (
            "bench --growth=x guest.wat",
            2,
            "expected a whole number above 0",
        ),
        ("bench --layer base --out file guest.wat", 1, "file"),
        ("bench --layer base --work missing guest.wat", 1, "missing"),
        ("bench --layer missing guest.wat", 1, "missing"),
        ("bench --layer base missing.wasm", 1, "missing.wasm"),
        ("bench --layer base file", 1, "file"),
    ] {
        let done = cli.run(words);
        assert_eq!(done.code, Some(code), "{words}: {}", done.stderr);
        assert!(
            done.stderr.starts_with("error: "),
            "{words}: {}",
            done.stderr
        );
        assert!(done.stderr.contains(says), "{words}: {}", done.stderr);
    }
}

#[test]
fn growth_is_measured_up_to_a_bound_and_drawn() {
    let cli = Cli::new();
    cli.guest(&Script::new()).file("base/file", b"x");
    let done =
        cli.run("bench --layer base --instances 1 --growth=50 --out report --json guest.wat");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let printed: Value = serde_json::from_slice(&done.stdout).unwrap();
    let growth = printed["growth"].as_array().unwrap();
    let mut grows: Vec<&str> = growth
        .iter()
        .map(|one| one["of"].as_str().unwrap())
        .collect();
    grows.dedup();
    assert_eq!(grows.len(), 9, "{grows:?}");
    for series in growth {
        let points = series["points"].as_array().unwrap();
        assert!(!points.is_empty(), "{series}");
        for point in points {
            assert!(point["n"].as_u64() <= Some(50), "{series}");
            assert!(point["ns"]["min"].as_u64() <= point["ns"]["median"].as_u64());
        }
    }
    let page = fs::read_to_string(cli.path("report/report.html")).unwrap();
    assert!(
        grows
            .iter()
            .all(|of| page.contains(&format!("As it grows: {of}")))
    );
}
