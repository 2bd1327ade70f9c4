//! Processes that are killed at any moment, and several at once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use stratafs::store::Store;

use super::support::{get_file, noise, put_file};
use crate::support::rng::Rng;

/// Tells a process of this test that it is to import: `DIR NAME COUNT`.
const IMPORT: &str = "STRATAFS_TEST_IMPORT";

/// Starts this test again as a process that imports.
fn start(test: &str, dir: &Path, name: &str, count: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(IMPORT, format!("{}\n{name}\n{count}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Imports one image after the other and says so of each, if this is a process
/// for that.
fn imported() -> bool {
    let Ok(task) = std::env::var(IMPORT) else {
        return false;
    };
    let mut parts = task.split('\n');
    let (dir, name) = (parts.next().unwrap(), parts.next().unwrap());
    let count: u64 = parts.next().unwrap().parse().unwrap();
    let store = Store::open(Path::new(dir)).unwrap();
    for n in 0..count {
        put_file(&store, &format!("{name}.{n}"), &bytes(name, n)).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ndone {name}.{n}").unwrap();
        out.flush().unwrap();
    }
    true
}

/// The bytes of the file in an image: a part that all share, one that is its
/// own.
fn bytes(name: &str, n: u64) -> Vec<u8> {
    let seed = name
        .bytes()
        .fold(n, |seed, byte| seed * 31 + u64::from(byte));
    [noise(1, 100_000), noise(seed, 150_000)].concat()
}

fn acknowledged(line: &str) -> Option<(String, u64)> {
    let (name, n) = line.strip_prefix("done ")?.split_once('.')?;
    Some((name.to_owned(), n.parse().ok()?))
}

#[test]
fn case_50_what_was_acknowledged_survives_kill_9() {
    if imported() {
        return;
    }
    let test = "store::crash::case_50_what_was_acknowledged_survives_kill_9";
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(50);
    let (mut all, mut killed) = (Vec::new(), 0);
    for round in 0..25 {
        let name = format!("r{round}");
        let mut child = start(test, dir.path(), &name, 1000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // At a moment after the first commit, and then anywhere.
        let first = lines.by_ref().map_while(Result::ok);
        let first = first.into_iter().find_map(|line| acknowledged(&line));
        all.extend(first);
        std::thread::sleep(Duration::from_micros(rng.below(30_000) as u64));
        child.kill().unwrap();
        killed += u64::from(!child.wait().unwrap().success());
        all.extend(
            lines
                .map_while(Result::ok)
                .filter_map(|line| acknowledged(&line)),
        );
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.stat().unwrap().unfinished_bytes, 0, "round {round}");
        for (name, n) in all.iter().rev().take(5) {
            let tag = format!("{name}.{n}");
            assert_eq!(get_file(&store, &tag).unwrap(), bytes(name, *n), "{tag}");
        }
    }
    assert_eq!(killed, 25);
    let store = Store::open(dir.path()).unwrap();
    for (name, n) in &all {
        let tag = format!("{name}.{n}");
        assert_eq!(get_file(&store, &tag).unwrap(), bytes(name, *n), "{tag}");
    }
    // What was not acknowledged is there as a whole or not at all.
    let report = store.verify().unwrap();
    assert!(report.is_sound(), "{:?}", report.errors);
    assert!(report.images >= all.len() as u64);
}

/// Puts images in of which each has a part of the one before, removes that
/// and collects, if this is a process for it.
fn churned() -> bool {
    let Ok(task) = std::env::var(IMPORT) else {
        return false;
    };
    let (dir, name) = task.split_once('\n').unwrap();
    let name = name.split('\n').next().unwrap();
    let store = Store::open(Path::new(dir)).unwrap();
    for n in 0.. {
        let tag = format!("{name}.{n}");
        put_file(&store, &format!("{tag}.large"), &bytes(&tag, n)).unwrap();
        put_file(&store, &tag, &bytes(&tag, n)[100_000..150_000]).unwrap();
        store.untag(&format!("{tag}.large")).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\ndone {tag}").unwrap();
        out.flush().unwrap();
        drop(out);
        assert!(store.gc().unwrap().repacked > 0);
    }
    true
}

#[test]
fn case_50_packs_taken_apart_survive_kill_9() {
    if churned() {
        return;
    }
    let test = "store::crash::case_50_packs_taken_apart_survive_kill_9";
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(51);
    let mut all = Vec::new();
    for round in 0..25 {
        let name = format!("r{round}");
        let mut child = start(test, dir.path(), &name, 0);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.by_ref().map_while(Result::ok);
        all.extend(first.into_iter().find_map(|line| acknowledged(&line)));
        std::thread::sleep(Duration::from_micros(rng.below(30_000) as u64));
        child.kill().unwrap();
        // By a signal: none has ended by itself.
        assert_eq!(child.wait().unwrap().code(), None, "round {round}");
        let rest = lines.map_while(Result::ok);
        all.extend(rest.filter_map(|line| acknowledged(&line)));
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.stat().unwrap().unfinished_bytes, 0, "round {round}");
        for (name, n) in &all {
            let tag = format!("{name}.{n}");
            let read = get_file(&store, &tag).unwrap();
            assert!(read == bytes(&tag, *n)[100_000..150_000], "{tag}");
        }
    }
    let store = Store::open(dir.path()).unwrap();
    for image in store.list().unwrap() {
        for tag in image.tags.iter().filter(|tag| tag.ends_with(".large")) {
            store.untag(tag).unwrap();
        }
    }
    store.gc().unwrap();
    assert!(store.verify().unwrap().is_sound());
    let stat = store.stat().unwrap();
    assert!(stat.images >= all.len() as u64);
    assert!(stat.chunk_bytes < stat.logical_bytes * 4 / 3 + 1);
}

#[test]
fn case_88_processes_import_read_and_collect_at_once() {
    if imported() {
        return;
    }
    let test = "store::crash::case_88_processes_import_read_and_collect_at_once";
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "kept", &noise(5, 50_000)).unwrap();
    let mut children: Vec<Child> = (0..3)
        .map(|n| start(test, dir.path(), &format!("p{n}"), 6))
        .collect();
    let mut rounds = 0;
    while children
        .iter_mut()
        .any(|child| child.try_wait().unwrap().is_none())
    {
        store.gc().unwrap();
        assert_eq!(get_file(&store, "kept").unwrap(), noise(5, 50_000));
        for image in store.list().unwrap() {
            for tag in image.tags {
                get_file(&store, &tag).unwrap();
            }
        }
        rounds += 1;
    }
    assert!(rounds > 0);
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for n in 0..3 {
        for image in 0..6 {
            let name = format!("p{n}");
            let read = get_file(&store, &format!("{name}.{image}")).unwrap();
            assert_eq!(read, bytes(&name, image));
        }
    }
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn case_51_the_same_by_two_threads_is_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = noise(8, 300_000);
    let ids: Vec<_> = std::thread::scope(|scope| {
        let import = || put_file(&store, "a", &bytes).unwrap();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(import)).collect();
        threads.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(store.list().unwrap().len(), 1);
    store.gc().unwrap();
    assert_eq!(store.stat().unwrap().packs, 1);
    assert_eq!(get_file(&store, "a").unwrap(), bytes);
    assert!(store.verify().unwrap().is_sound());
}
