//! The same calls under wasmtime-wasi on a host directory: each answer is the
//! same, except where [`EXPECTED`] says why not.

use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::guest;
use crate::support::p1::{
    DATA, Fdflags, Fstflags, Guest, MODES, Mode, Oflags, READ_WRITE, Rights, dirents,
};

/// A reason for a difference, and the calls it is good for.
type Reason = (&'static str, fn(&str) -> bool);

/// Where answers differ. POSIX or Linux is followed there.
const EXPECTED: &[Reason] = &[
    (
        "wasmtime-wasi drops a slash or dot at the end when it follows no link",
        |call| call.starts_with("(\"stat\"") && call.contains(", false)") && slash_or_dot(call),
    ),
    ("POSIX rmdir takes a slash after a directory", |call| {
        ["rmdir \"dir/", "rmdir \"empty/"]
            .iter()
            .any(|start| call.starts_with(start))
            && slash_or_dot(call)
    }),
    (
        "Linux follows no link before the slash of a name to make or remove",
        |call| {
            let links = ["link/", "dirlink/", "dangling/", "loop/", "up/"];
            let calls = ["rmdir", "unlink", "symlink"];
            calls.iter().any(|name| {
                links
                    .iter()
                    .any(|link| call.starts_with(&format!("{name} \"{link}")))
            })
        },
    ),
    (
        "Linux: the new name exists, whatever comes after it",
        |call| {
            call.starts_with("link ")
                && (call.contains(" \"hello/\" =") || call.contains(" \"link/\" ="))
        },
    ),
    (
        "POSIX futimens takes a directory, Linux not as wasmtime-wasi opens it",
        |call| call.starts_with("(\"fd_filestat_set_times\", 3"),
    ),
];

fn slash_or_dot(call: &str) -> bool {
    call.contains("/\"") || call.contains("/.\"")
}

/// The tree of `super::layer`, without `abs` and `old`, which Linux or
/// wasmtime-wasi cannot show.
fn mirror(root: &Path) {
    for dir in ["dir", "dir/sub", "empty"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("hello"), "hello world").unwrap();
    fs::hard_link(root.join("hello"), root.join("hard")).unwrap();
    fs::write(root.join("dir/inner"), "inner").unwrap();
    for (name, target) in [
        ("link", "hello"),
        ("dirlink", "dir"),
        ("dangling", "nowhere"),
        ("loop", "loop"),
        ("up", "../x"),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
}

/// A guest of wasmtime-wasi on a directory, read-write as 3, read-only as 4.
fn stock(mode: Mode, root: &Path) -> Guest {
    let wasi = WasiCtxBuilder::new()
        .allow_blocking_current_thread(true)
        .preopened_dir(root, "/", FsPerms::ReadWrite)
        .unwrap()
        .preopened_dir(root, "/ro", FsPerms::ReadOnly)
        .unwrap()
        .build_p1();
    Guest::stock(mode, wasi)
}

/// A guest and what its calls gave.
struct Log {
    guest: Guest,
    lines: Vec<String>,
}

impl Log {
    fn add(&mut self, call: impl Debug, answer: impl Debug) {
        self.lines.push(format!("{call:?} = {answer:?}"));
    }
}

/// Paths of every shape over every kind of object.
fn paths() -> Vec<String> {
    let mut paths: Vec<String> = [
        "", "/", ".", "./", "..", "../", "//", "/hello", "a/../..", "nope/..", "nope/.",
    ]
    .map(String::from)
    .to_vec();
    for name in [
        "hello",
        "dir",
        "empty",
        "link",
        "dirlink",
        "dangling",
        "loop",
        "up",
        "nope",
        "dir/inner",
        "dirlink/inner",
        "hello/x",
        "dir/../hello",
        "dirlink/../hello",
        "loop/x",
        "dangling/x",
    ] {
        for tail in ["", "/", "//", "/.", "/./", "/..", "/../"] {
            paths.push(format!("{name}{tail}"));
        }
    }
    paths
}

/// Calls that change nothing.
fn look(log: &mut Log) {
    for path in paths() {
        for follow in [false, true] {
            let stat = log.guest.stat_at(3, follow, &path);
            log.add(
                ("stat", &path, follow),
                stat.map(|stat| {
                    (
                        stat.filetype,
                        stat.nlink,
                        (stat.filetype != 3).then_some(stat.size),
                    )
                }),
            );
            for flags in [
                Oflags::empty(),
                Oflags::DIRECTORY,
                Oflags::DIRECTORY | Oflags::CREAT,
            ] {
                for rights in [
                    Rights::empty(),
                    Rights::FD_READ,
                    Rights::FD_WRITE,
                    READ_WRITE,
                ] {
                    open(log, 3, follow, &path, flags, rights);
                    open(log, 4, follow, &path, flags, rights);
                }
            }
        }
        let link = log.guest.readlink(3, &path, 99);
        log.add(("readlink", &path), link);
    }
}

/// Opens, and tells the kind, the rights and the flags of what opened.
fn open(log: &mut Log, dir: u32, follow: bool, path: &str, flags: Oflags, rights: Rights) {
    let fd = log.guest.open_raw(
        dir,
        follow,
        path.as_bytes(),
        flags,
        rights,
        Fdflags::empty(),
    );
    let what = fd.map(|fd| {
        let what = log.guest.fdstat(fd);
        log.guest.close(fd).unwrap();
        what
    });
    log.add(
        ("open", dir, path, follow, flags.bits(), rights.bits()),
        what,
    );
}

/// What is there after a call, in one line.
fn tree(guest: &mut Guest) -> Vec<String> {
    let mut seen = Vec::new();
    for dir in [".", "dir", "empty", "dir/sub"] {
        let Ok(fd) = guest.open(3, dir, Oflags::DIRECTORY, Rights::FD_READ) else {
            continue;
        };
        for entry in guest.list_from(fd, 4096, 2) {
            let name = String::from_utf8(entry.name).unwrap();
            if dir == "." && ["abs", "old"].contains(&name.as_str()) {
                continue;
            }
            let stat = guest.stat_at(fd, false, &name).unwrap();
            seen.push(format!("{dir}/{name}:{}:{}", entry.filetype, stat.nlink));
        }
        guest.close(fd).unwrap();
    }
    seen.sort();
    seen
}

/// Runs one changing call on a fresh tree and tells what it gave and did.
fn change(mode: Mode, name: &str, call: &dyn Fn(&mut Guest) -> Result<(), i32>) -> [String; 2] {
    let host = tempfile::tempdir().unwrap();
    mirror(host.path());
    [guest(mode), stock(mode, host.path())].map(|mut guest| {
        let answer = call(&mut guest);
        format!("{name} = {answer:?} {:?}", tree(&mut guest))
    })
}

/// Compares answers; gives the differences that nobody expects.
fn differences(pairs: impl IntoIterator<Item = [String; 2]>) -> Vec<String> {
    pairs
        .into_iter()
        .filter(|[ours, theirs]| ours != theirs)
        .filter(|[ours, _]| !EXPECTED.iter().any(|(_, good)| good(ours)))
        .map(|[ours, theirs]| format!("ours:   {ours}\nstock:  {theirs}"))
        .collect()
}

fn assert_same(pairs: impl IntoIterator<Item = [String; 2]>) {
    let wrong = differences(pairs);
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn case_53_paths_resolve_as_under_wasmtime_wasi() {
    for mode in MODES {
        let host = tempfile::tempdir().unwrap();
        mirror(host.path());
        let ours = super::with_read_only(mode);
        let [ours, theirs] = [ours, stock(mode, host.path())].map(|guest| {
            let mut log = Log {
                guest,
                lines: Vec::new(),
            };
            look(&mut log);
            log.lines
        });
        assert_eq!(ours.len(), theirs.len());
        assert_same(
            ours.into_iter()
                .zip(theirs)
                .map(|(ours, theirs)| [ours, theirs]),
        );
    }
}

#[test]
fn case_53_names_change_as_under_wasmtime_wasi() {
    let mut pairs = Vec::new();
    for path in &paths() {
        for (name, call) in [
            ("path_create_directory", "mkdir"),
            ("path_remove_directory", "rmdir"),
            ("path_unlink_file", "unlink"),
        ] {
            let name_of = format!("{call} {path:?}");
            pairs.push(change(Mode::Sync, &name_of, &|guest| {
                guest.at(name, 3, path.as_bytes())
            }));
        }
        pairs.push(change(Mode::Sync, &format!("symlink {path:?}"), &|guest| {
            guest.symlink("target", 3, path)
        }));
        pairs.push(change(
            Mode::Sync,
            &format!("symlink to {path:?}"),
            &|guest| guest.symlink(path, 3, "new"),
        ));
        for flags in [
            Oflags::CREAT,
            Oflags::CREAT | Oflags::EXCL,
            Oflags::TRUNC,
            Oflags::EXCL,
        ] {
            for follow in [false, true] {
                let name = format!("open {path:?} {:?} {follow}", flags.bits());
                pairs.push(change(Mode::Sync, &name, &|guest| {
                    let none = Fdflags::empty();
                    let fd =
                        guest.open_raw(3, follow, path.as_bytes(), flags, Rights::empty(), none)?;
                    guest.close(fd)
                }));
            }
        }
    }
    assert_same(pairs);
}

#[test]
fn case_59_links_and_renames_as_under_wasmtime_wasi() {
    let ends = [
        "hello",
        "hard",
        "dir",
        "dir/sub",
        "dir/inner",
        "empty",
        "link",
        "dirlink",
        "dangling",
        "loop",
        "nope",
        ".",
        "..",
        "hello/",
        "dir/",
        "empty/",
        "link/",
        "dirlink/",
        "nope/",
        "dir/sub/x",
        "dir/..",
        "nope/x",
        "hello/x",
        "/hello",
        "",
        "dir/x",
        "dirlink/x",
        "new",
    ];
    let rename = |from: &str, to: &str| {
        let call = |guest: &mut Guest| guest.rename(3, from, 3, to);
        change(Mode::Sync, &format!("rename {from:?} {to:?}"), &call)
    };
    let link = |from: &str, to: &str| {
        let call = |guest: &mut Guest| guest.link(3, false, from, 3, to);
        change(Mode::Sync, &format!("link {from:?} {to:?}"), &call)
    };
    for call in [&rename as &dyn Fn(&str, &str) -> [String; 2], &link] {
        let refused = |pair: &[String; 2]| pair.iter().all(|line| line.contains("= Err("));
        let bad_from = ends.map(|from| refused(&call(from, "new")));
        let bad_to = ends.map(|to| refused(&call("hello", to)) && refused(&call("dir", to)));
        let mut pairs = Vec::new();
        for (from, bad_from) in ends.iter().zip(bad_from) {
            for (to, bad_to) in ends.iter().zip(bad_to) {
                let pair = call(from, to);
                // With both names at fault, either may be told of.
                if !(bad_from && bad_to && refused(&pair)) {
                    pairs.push(pair);
                }
            }
        }
        assert_same(pairs);
    }
}

/// Calls on descriptors that are open in a known state: file 5 read-write,
/// directory 6, file 7 for appending, file 8 read-only.
fn descriptors(log: &mut Log) {
    for (path, rights, flags) in [
        ("hello", READ_WRITE, Fdflags::empty()),
        ("dir", Rights::FD_READ, Fdflags::empty()),
        ("hello", READ_WRITE, Fdflags::APPEND),
        ("dir/inner", Rights::FD_READ, Fdflags::empty()),
    ] {
        let fd = log
            .guest
            .open_raw(3, true, path.as_bytes(), Oflags::empty(), rights, flags);
        log.add(("open", path), fd);
    }
    // Of files alone: wasmtime-wasi refuses to sync a directory.
    for fd in [5, 7, 8, 99] {
        for name in ["fd_sync", "fd_datasync"] {
            let done = log.guest.call(name, &[i64::from(fd)]);
            log.add((name, fd), done);
        }
    }
    for fd in [0, 1, 2, 3, 4, 5, 6, 7, 8, 99, u32::MAX] {
        let fd64 = i64::from(fd);
        log.guest.put(DATA, b"xyz");
        log.guest.iovecs(1024, &[(DATA, 3)]);
        let fdstat = log.guest.fdstat(fd);
        log.add(("fdstat", fd), fdstat);
        for (name, args) in [
            ("fd_advise", vec![fd64, 0, 0, 3]),
            ("fd_advise", vec![fd64, -1, -1, 3]),
            ("fd_allocate", vec![fd64, 0, 9]),
            ("fd_tell", vec![fd64, 64]),
            ("fd_seek", vec![fd64, -1, 0, 64]),
            ("fd_seek", vec![fd64, 3, 1, 64]),
            ("fd_seek", vec![fd64, -99, 2, 64]),
            ("fd_seek", vec![fd64, i64::MAX, 1, 64]),
            ("fd_seek", vec![fd64, 2, 0, 64]),
            ("fd_write", vec![fd64, 1024, 1, 64]),
            ("fd_tell", vec![fd64, 64]),
            ("fd_write", vec![fd64, 1024, 0, 64]),
            ("fd_pwrite", vec![fd64, 1024, 1, 1, 64]),
            ("fd_pwrite", vec![fd64, 1024, 1, -1, 64]),
            ("fd_tell", vec![fd64, 64]),
            ("fd_read", vec![fd64, 1024, 0, 64]),
            ("fd_pread", vec![fd64, 1024, 1, -1, 64]),
            ("fd_pread", vec![fd64, 1024, 1, 99, 64]),
            ("fd_fdstat_set_flags", vec![fd64, 4]),
            ("fd_fdstat_set_rights", vec![fd64, 0, 0]),
            ("fd_filestat_set_size", vec![fd64, 5]),
            ("fd_filestat_set_size", vec![fd64, -1]),
            (
                "fd_filestat_set_times",
                vec![fd64, 0, 7, Fstflags::MTIM.bits().into()],
            ),
            ("fd_filestat_set_times", vec![fd64, 0, 7, 12]),
            ("fd_prestat_get", vec![fd64, 64]),
            ("fd_prestat_dir_name", vec![fd64, 64, 0]),
            ("fd_prestat_dir_name", vec![fd64, 64, 9]),
            ("fd_renumber", vec![fd64, 99]),
            ("fd_renumber", vec![fd64, fd64]),
            ("sock_accept", vec![fd64, 0, 64]),
            ("sock_shutdown", vec![fd64, 3]),
        ] {
            log.guest.put(64, &[0; 8]);
            let answer = log.guest.call(name, &args);
            let out = log.guest.u64(64);
            log.add((name, fd, &args[1..]), (answer, out));
        }
        let stat = log.guest.stat(fd).map(|stat| {
            (
                stat.filetype,
                stat.dev,
                stat.nlink,
                (stat.filetype != 3).then_some(stat.size),
                stat.ino != 0,
            )
        });
        log.add(("stat", fd), stat);
        let listed = log.guest.readdir(fd, 4096, 0).map(|bytes| {
            let mut names: Vec<_> = dirents(&bytes)
                .into_iter()
                .map(|entry| (entry.name, entry.filetype))
                .collect();
            names.retain(|(name, _)| name != b"abs" && name != b"old");
            names.sort();
            names
        });
        log.add(("readdir", fd), listed);
        for path in ["x", "hello"] {
            let call = log.guest.mkdir(fd, path);
            log.add(("mkdir", fd, path), call);
            let call = log.guest.rmdir(fd, path);
            log.add(("rmdir", fd, path), call);
            let call = log.guest.open(fd, path, Oflags::DIRECTORY, Rights::FD_READ);
            log.add(("open", fd, path), call);
        }
    }
    let content = log.guest.content(3, "hello");
    log.add("content", content);
}

#[test]
fn descriptors_answer_as_under_wasmtime_wasi() {
    for mode in MODES {
        let host = tempfile::tempdir().unwrap();
        mirror(host.path());
        let ours = super::with_read_only(mode);
        let [ours, theirs] = [ours, stock(mode, host.path())].map(|guest| {
            let mut log = Log {
                guest,
                lines: Vec::new(),
            };
            descriptors(&mut log);
            log.lines
        });
        assert_eq!(ours.len(), theirs.len());
        assert_same(
            ours.into_iter()
                .zip(theirs)
                .map(|(ours, theirs)| [ours, theirs]),
        );
    }
}
