//! `snapshotter`: each call, each refusal, layers of registries, kills at any moment, hostile input.

mod client; // a client
mod layers; // layers of images in a registry
#[path = "../../../src/snapshotter/proto.rs"]
mod proto; // the messages, as the program has them
mod signed; // images, by whose keys they are signed

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Cli;
use crate::support::rng::{Rng, from_env};
use client::*;
use proto::*;

#[track_caller]
fn refused<R: std::fmt::Debug>(result: Result<R, Refused>, code: i32, words: &str) {
    let (found, text) = result.unwrap_err();
    assert_eq!(found, code, "{text}");
    assert!(text.contains(words), "{words:?} is not in {text}");
}

#[test]
fn snapshots_are_prepared_committed_viewed_and_removed() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    let mounts = of.prepare("ns/1/a", "", &[]).unwrap();
    assert_eq!((mounts.len(), mounts[0].kind.as_str()), (1, "bind"));
    assert_eq!(mounts[0].options, ["rbind", "rw"]);
    assert_eq!(of.mounts("ns/1/a").unwrap(), mounts);
    write(&mounts, "low", "low");
    assert_eq!(of.stat("ns/1/a").unwrap().kind, 2);
    assert_eq!(of.usage("ns/1/a").unwrap().inodes, 1);
    of.commit("ns/2/low", "ns/1/a", &[("k", "v")]).unwrap();
    let info = of.stat("ns/2/low").unwrap();
    assert_eq!(
        (info.kind, info.parent.as_str(), info.labels["k"].as_str()),
        (3, "", "v")
    );
    assert!(info.created_at.unwrap().seconds > 1_600_000_000);
    let usage = of.usage("ns/2/low").unwrap();
    assert!(usage.inodes == 1 && usage.size >= 3, "{usage:?}");
    refused(of.stat("ns/1/a"), NOT_FOUND, "there is none");
    // A second one over it: an overlay.
    let mounts = of.prepare("ns/3/b", "ns/2/low", &[]).unwrap();
    assert_eq!(
        (mounts[0].kind.as_str(), mounts[0].options.len()),
        ("overlay", 3)
    );
    write(&mounts, "high", "high");
    of.commit("ns/4/high", "ns/3/b", &[]).unwrap();
    // Views: of one directory a bind, of two an overlay without anything to write to.
    let view = of.view("one", "ns/2/low").unwrap();
    assert_eq!(
        (view[0].kind.as_str(), &view[0].options[1]),
        ("bind", &"ro".to_owned())
    );
    assert_eq!(
        fs::read_to_string(format!("{}/low", view[0].source)).unwrap(),
        "low"
    );
    let view = of.view("two", "ns/4/high").unwrap();
    assert_eq!(view[0].options.len(), 1);
    let lower = view[0].options[0].strip_prefix("lowerdir=").unwrap();
    let lower: Vec<&str> = lower.split(':').collect();
    assert!(fs::exists(format!("{}/high", lower[0])).unwrap());
    assert!(fs::exists(format!("{}/low", lower[1])).unwrap());
    assert_eq!(of.stat("two").unwrap().kind, 1);
    let empty = of.view("nothing", "").unwrap();
    assert_eq!(empty[0].options, ["rbind", "ro"]);
    // Removing: not below others.
    refused(of.remove("ns/2/low"), PRECONDITION, "stands on it");
    for key in ["one", "two", "nothing", "ns/4/high", "ns/2/low"] {
        of.remove(key).unwrap();
    }
    assert_eq!(of.list(&[]).unwrap().len(), 0);
    of.cleanup().unwrap();
    assert_eq!(of.dirs().len(), 0);
    assert_eq!(of.end(), "");
}

#[test]
fn what_cannot_be_is_refused_with_the_codes_that_containerd_knows() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    of.prepare("a", "", &[]).unwrap();
    refused(of.prepare("a", "", &[]), EXISTS, "of that name");
    refused(of.view("a", ""), EXISTS, "of that name");
    refused(of.prepare("b", "none", &[]), NOT_FOUND, "\"none\"");
    refused(of.prepare("b", "a", &[]), INVALID, "not committed");
    refused(of.mounts("none"), NOT_FOUND, "there is none");
    refused(of.usage("none"), NOT_FOUND, "there is none");
    refused(of.remove("none"), NOT_FOUND, "there is none");
    refused(of.update("none", &[], &[]), NOT_FOUND, "there is none");
    refused(of.commit("c", "none", &[]), NOT_FOUND, "there is none");
    of.commit("c", "a", &[]).unwrap();
    refused(of.mounts("c"), PRECONDITION, "committed");
    of.prepare("d", "c", &[]).unwrap();
    refused(of.commit("c", "d", &[]), EXISTS, "of that name");
    refused(of.commit("e", "c", &[]), PRECONDITION, "not active");
    of.view("v", "c").unwrap();
    refused(of.commit("e", "v", &[]), PRECONDITION, "not active");
    // What was refused has left nothing.
    assert_eq!(of.list(&[]).unwrap(), ["c", "d", "v"]);
    assert_eq!(of.dirs().len(), 3);
    let (code, text) = of.call::<Nothing>("Other", &Nothing {}).unwrap_err();
    assert_eq!(code, 12, "{text}");
}

#[test]
fn labels_change_and_filters_find_them() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    of.prepare("a", "", &[("one", "1"), ("two", "2")]).unwrap();
    let before = of.stat("a").unwrap();
    let info = of
        .update("a", &[("one", "x"), ("three", "3")], &["labels.one"])
        .unwrap();
    assert_eq!((info.labels.len(), info.labels["one"].as_str()), (2, "x"));
    assert_eq!(info.created_at, before.created_at);
    assert_ne!(info.updated_at, before.updated_at);
    let info = of.update("a", &[], &["labels.one"]).unwrap();
    assert_eq!(info.labels.len(), 1);
    refused(of.update("a", &[], &["parent"]), INVALID, "cannot change");
    let info = of.update("a", &[("four", "4")], &["labels"]).unwrap();
    assert_eq!(info.labels.len(), 1);
    assert_eq!(
        of.update("a", &[("five", "5")], &[]).unwrap().labels["five"],
        "5"
    );
    assert_eq!(of.stat("a").unwrap().labels.len(), 1);
    of.commit("c", "a", &[("containerd.io/snapshot.ref", "sha256:ab")])
        .unwrap();
    of.prepare("d", "c", &[]).unwrap();
    let list = |filter: &str| of.list(&[filter]).unwrap();
    assert_eq!(list("kind==committed"), ["c"]);
    assert_eq!(list("parent==c"), ["d"]);
    assert_eq!(
        list("labels.\"containerd.io/snapshot.ref\"==sha256:ab,parent==\"\""),
        ["c"]
    );
    assert_eq!(
        list("labels.\"containerd.io/snapshot.ref\"==sha256:ab"),
        ["c"]
    );
    assert_eq!(of.list(&["name==c", "name==d"]).unwrap(), ["c", "d"]);
    refused(of.list(&["size==1"]), INVALID, "no field");
    // More than one message.
    for number in 0..250 {
        of.view(&format!("v{number:03}"), "c").unwrap();
    }
    assert_eq!(of.list(&["kind==view"]).unwrap().len(), 250);
}

#[test]
fn hostile_names_and_labels_are_names_or_refused() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    let long = "n".repeat(4096);
    let names = [
        "..",
        "../../etc",
        "/etc/passwd",
        "a/../b",
        "a:b,c\\d",
        "\u{1f4a9}\n",
        &long,
    ];
    for name in names {
        let mounts = of.prepare(name, "", &[]).unwrap();
        let source = fs::canonicalize(&mounts[0].source).unwrap();
        assert!(
            source.starts_with(fs::canonicalize(&of.root).unwrap()),
            "{source:?}"
        );
        assert_eq!(of.stat(name).unwrap().name, name);
    }
    assert_eq!(of.list(&[]).unwrap().len(), names.len());
    for name in names {
        of.remove(name).unwrap();
    }
    let longer = "n".repeat(4097);
    for (name, words) in [
        ("", "empty"),
        (&*longer, "4097 bytes"),
        ("a\0b", "zero byte"),
    ] {
        refused(of.prepare(name, "", &[]), INVALID, words);
        refused(of.view(name, ""), INVALID, words);
        refused(of.commit(name, "a", &[]), INVALID, words);
    }
    refused(of.prepare("a", &longer, &[]), INVALID, "parent");
    let value = "v".repeat(4093);
    of.prepare("a", "", &[("key", &value)]).unwrap();
    let value = "v".repeat(4094);
    refused(
        of.prepare("b", "", &[("key", &value)]),
        INVALID,
        "4097 bytes",
    );
    refused(
        of.update("a", &[("key", &value)], &[]),
        INVALID,
        "4097 bytes",
    );
    refused(of.prepare("b", "", &[("", "x")]), INVALID, "no name");
    let many: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "x")).collect();
    refused(of.prepare("b", "", &many), INVALID, "257 of them");
    of.prepare("b", "", &many[..256]).unwrap();
    refused(
        of.update("b", &[("more", "x")], &["labels.more"]),
        INVALID,
        "257 of them",
    );
}

#[test]
fn invalid_messages_are_refused_and_others_are_answered() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    // A field that ends in the middle, a frame that does, one that is compressed, one that is too long.
    let framed = |len: u32, flag: u8, bytes: &[u8]| {
        let mut all = vec![flag];
        all.extend(len.to_be_bytes());
        all.extend(bytes);
        all
    };
    for body in [
        framed(3, 0, b"\x12\x7fx"),
        framed(100, 0, b"\x12"),
        framed(2, 1, b"\x12\x00"),
        framed(u32::MAX, 0, b""),
        framed(4 * 1024 * 1024 + 1, 0, &vec![0; 4 * 1024 * 1024 + 1]),
        Vec::new(),
    ] {
        let (code, text, _) = exchange(&of.socket, "Stat", body);
        assert!(code != 0 && code != NOT_FOUND, "{code}: {text}");
    }
    use std::io::Write;
    let mut nonsense = UnixStream::connect(&of.socket).unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // A call with the most that it may have.
    let request = PrepareRequest {
        key: "k".repeat(4 * 1024 * 1024 - 100),
        ..PrepareRequest::default()
    };
    refused(
        of.call::<MountsAnswer>("Prepare", &request),
        INVALID,
        "the limit is 4096",
    );
    of.prepare("a", "", &[]).unwrap();
}

#[test]
fn clients_past_the_bound_wait() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    let idle: Vec<UnixStream> = (0..64)
        .map(|_| UnixStream::connect(&of.socket).unwrap())
        .collect();
    thread::sleep(Duration::from_millis(200));
    thread::scope(|scope| {
        let late = scope.spawn(|| of.prepare("a", "", &[]).unwrap());
        thread::sleep(Duration::from_millis(300));
        assert!(!late.is_finished());
        drop(idle);
        late.join().unwrap();
    });
}

#[test]
fn snapshots_lie_on_each_other_up_to_a_bound() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    let mut parent = String::new();
    for number in 0..500 {
        let (key, name) = (format!("k{number}"), format!("n{number}"));
        of.prepare(&key, &parent, &[]).unwrap();
        of.commit(&name, &key, &[]).unwrap();
        parent = name;
    }
    refused(
        of.prepare("more", &parent, &[]),
        EXHAUSTED,
        "500 snapshots deep",
    );
    refused(of.view("more", &parent), EXHAUSTED, "500 snapshots deep");
}

#[test]
fn one_snapshotter_has_a_root_and_a_socket() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&of.socket) & 0o77, mode(&of.root)), (0, 0o700));
    cli.run("snapshotter --root other --address run/s.sock")
        .failed(1, &["s.sock", "another process answers there"]);
    cli.run("snapshotter --root snapshots --address run/other.sock")
        .failed(1, &["metadata.redb"]);
    assert!(!of.socket.with_file_name("other.sock").exists());
    of.prepare("a", "", &[]).unwrap();
    // Killed, it leaves its socket, which the next one takes.
    let socket = of.socket.clone();
    of.kill();
    assert!(socket.exists());
    let of = Snapshotter::start(&cli, "");
    assert_eq!(of.list(&[]).unwrap(), ["a"]);
    of.end();
    fs::write(&socket, "text").unwrap();
    cli.run("snapshotter --root snapshots --address run/s.sock")
        .failed(1, &["s.sock", "is not a socket"]);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "text");
    fs::remove_file(&socket).unwrap();
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(
        cli.path("snapshots/metadata.redb"),
        "not a file of snapshots",
    )
    .unwrap();
    cli.run("snapshotter --root snapshots --address run/s.sock")
        .failed(1, &["metadata.redb"]);
    cli.run("snapshotter --root snapshots")
        .refused(&["--address"]);
}

#[test]
fn a_disk_that_is_full_refuses_calls_and_nothing_else() {
    let cli = Cli::new();
    let of = Snapshotter::start(&cli, "");
    of.prepare("a", "", &[]).unwrap();
    of.bound_files(Some(0));
    for key in ["b", "c"] {
        refused(of.prepare(key, "", &[]), 13, "metadata.redb");
    }
    refused(of.commit("d", "a", &[]), 13, "metadata.redb");
    // What is known is told all the same.
    assert_eq!(of.list(&[]).unwrap(), ["a"]);
    of.bound_files(None);
    of.prepare("e", "", &[]).unwrap();
    of.commit("d", "a", &[]).unwrap();
    assert_eq!(of.list(&[]).unwrap(), ["d", "e"]);
    // The directories of what was refused go with the next cleanup.
    of.cleanup().unwrap();
    assert_eq!(of.dirs().len(), 2);
    of.kill();
    let of = Snapshotter::start(&cli, "");
    assert_eq!(of.list(&[]).unwrap(), ["d", "e"]);
}

/// What was acknowledged is there after a kill, with what belongs to it and nothing else.
#[test]
fn a_killed_snapshotter_keeps_what_it_acknowledged() {
    let seed = from_env("STRATAFS_SEED").unwrap_or(1);
    let cli = Cli::new();
    let mut rng = Rng::new(seed);
    let (mut there, mut gone): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for round in 0..6 {
        let of = Snapshotter::start(&cli, "");
        for name in &there {
            assert_eq!(of.stat(name).unwrap().kind, 3, "{name}");
        }
        for name in &gone {
            refused(of.stat(name), NOT_FOUND, "there is none");
        }
        // A directory for each, and none besides.
        assert_eq!(of.dirs().len(), of.list(&[]).unwrap().len());
        let socket = of.socket.clone();
        let old = there.clone();
        let (made, removed) = thread::scope(|scope| {
            let makers: Vec<_> = (0..4)
                .map(|maker| {
                    let socket = &socket;
                    scope.spawn(move || make_until_killed(socket, &format!("{round}-{maker}")))
                })
                .collect();
            let remover = scope.spawn(|| remove_until_killed(&socket, &old));
            thread::sleep(Duration::from_millis(50 + rng.below(400) as u64));
            of.kill();
            let made = makers.into_iter().flat_map(|maker| maker.join().unwrap());
            (made.collect::<Vec<_>>(), remover.join().unwrap())
        });
        // One that was being removed may be there or not.
        let begun = removed.len() + 1;
        there.drain(..begun.min(there.len()));
        gone.extend(removed);
        there.extend(made);
    }
    assert!(
        there.len() + gone.len() > 10,
        "{} and {}",
        there.len(),
        gone.len()
    );
}

/// A connection that breaks is no panic here: the process is killed meanwhile.
fn quiet<R>(work: impl FnOnce() -> R + std::panic::UnwindSafe) -> Option<R> {
    std::panic::catch_unwind(work).ok()
}

fn make_until_killed(socket: &std::path::Path, name: &str) -> Vec<String> {
    let mut made = Vec::new();
    let start = Instant::now();
    for number in 0.. {
        assert!(start.elapsed() < Duration::from_secs(60));
        let (key, name) = (
            format!("key-{name}-{number}"),
            format!("name-{name}-{number}"),
        );
        let request = PrepareRequest {
            key: key.clone(),
            ..PrepareRequest::default()
        };
        let commit = CommitRequest {
            name: name.clone(),
            key,
            ..CommitRequest::default()
        };
        let done = quiet(|| {
            call::<MountsAnswer>(socket, "Prepare", &request).unwrap();
            call::<Nothing>(socket, "Commit", &commit).unwrap();
        });
        if done.is_none() {
            break;
        }
        made.push(name);
    }
    made
}

fn remove_until_killed(socket: &std::path::Path, names: &[String]) -> Vec<String> {
    let removed = names.iter().take_while(|name| {
        quiet(|| call::<Nothing>(socket, "Remove", &named(name)).unwrap()).is_some()
    });
    removed.cloned().collect()
}
