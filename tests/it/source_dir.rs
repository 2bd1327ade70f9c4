//! Host directories as layers: what is kept, what is refused, what is never
//! touched.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use stratafs::chunk::ChunkPool;
use stratafs::layer::{EntryBody, Layer};
use stratafs::source::{SourceError, SourceOptions, dir_ambient, open};
use tempfile::TempDir;

use crate::support::archive::{Archive, list};

fn import(dir: &Path) -> Result<Layer, SourceError> {
    dir_ambient(&ChunkPool::new(), dir, &SourceOptions::default())
}

/// A directory made from lines: `d PATH`, `f PATH TEXT`, `s PATH TARGET`,
/// `h PATH TARGET`.
fn host(lines: &str) -> TempDir {
    let dir = TempDir::new().unwrap();
    for line in lines.split(',').filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (at, rest) = (
            dir.path().join(words[1]),
            words.get(2).copied().unwrap_or(""),
        );
        match words[0] {
            "d" => fs::create_dir(at).unwrap(),
            "f" => fs::write(at, rest).unwrap(),
            "s" => symlink(rest, at).unwrap(),
            _ => fs::hard_link(dir.path().join(rest), at).unwrap(),
        }
    }
    dir
}

fn listed(dir: &TempDir) -> String {
    let line = list(&import(dir.path()).unwrap());
    line.strip_prefix("/:d").unwrap().trim_start().to_owned()
}

#[track_caller]
fn refused(dir: &Path) -> String {
    match import(dir) {
        Ok(layer) => panic!("accepted: {}", list(&layer)),
        Err(error) => error.to_string(),
    }
}

/// Runs one test of this binary again, behind another command line. `None`
/// when the machine does not allow that.
fn again(prefix: &str, test: &str, dir: &Path) -> Option<bool> {
    let script = format!("{prefix} && exec \"$0\" --exact \"$1\" --nocapture");
    let output = Command::new("sh")
        .args([
            "-c",
            &script,
            &std::env::current_exe().unwrap().to_string_lossy(),
            test,
        ])
        .env("STRATAFS_TEST_DIR", dir)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("running 1 test") {
        eprintln!(
            "not possible here: {prefix}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(output.status.success())
}

fn inner_dir() -> Option<PathBuf> {
    std::env::var_os("STRATAFS_TEST_DIR").map(PathBuf::from)
}

/// As [`again`], but for command lines that wrap a shell.
fn unshared(flags: &str, script: &str, test: &str, dir: &Path) -> Option<bool> {
    let exe = std::env::current_exe().unwrap();
    let script = format!(
        "{script} exec '{}' --exact {test} --nocapture",
        exe.display()
    );
    let output = Command::new("unshare")
        .args([flags, "sh", "-ec", &script])
        .env("STRATAFS_TEST_DIR", dir)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !text.contains("running 1 test") {
        eprintln!(
            "not possible here: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        return None;
    }
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(output.status.success())
}

#[test]
fn a_directory_is_kept_as_it_is() {
    let dir = host("d d,f d/f text,s l /etc/passwd,s d/dangling ../../..,h d/g d/f,f empty");
    assert_eq!(
        listed(&dir),
        "d:d d/dangling:s../../.. d/f:ftext#2 d/g:ftext#2 empty:f l:s/etc/passwd"
    );
    let file = dir.path().join("d/f");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    let mtime = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_007, 123_456_789);
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_modified(mtime)
        .unwrap();
    let layer = import(dir.path()).unwrap();
    let entry = layer
        .entries()
        .find(|entry| entry.path.to_string() == "d/f")
        .unwrap();
    let EntryBody::File { meta, .. } = entry.body else {
        panic!("no file")
    };
    let host = fs::metadata(&file).unwrap();
    assert_eq!(
        (meta.mode, meta.uid, meta.gid),
        (0o4751, host.uid(), host.gid())
    );
    assert_eq!(
        (meta.mtime.secs(), meta.mtime.nanos()),
        (1_000_000_007, 123_456_789)
    );
}

#[test]
fn case_c3_87_hard_links_are_one_file_held_once() {
    let dir = host("f a 0123456789,h b a,d d,h d/c a");
    let pool = ChunkPool::new();
    let layer = dir_ambient(&pool, dir.path(), &SourceOptions::default()).unwrap();
    assert!(list(&layer).contains("a:f0123456789#3"));
    assert_eq!((pool.len(), pool.count_held_bytes()), (1, 10));
    let copies = host("f a 0123456789,f b 0123456789,d d,f d/c 0123456789");
    let copies = dir_ambient(&pool, copies.path(), &SourceOptions::default()).unwrap();
    assert_eq!(copies.node_count(), layer.node_count() + 2);
    assert_eq!(pool.len(), 1);
}

#[test]
fn case_c2_78_special_files_are_refused_by_name_and_not_opened() {
    let dir = host("d d,f d/f x");
    let fifo = dir.path().join("d/pipe");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    assert!(
        refused(dir.path()).contains("d/pipe: a FIFO, which a layer cannot have; --skip-special")
    );
    fs::remove_file(&fifo).unwrap();
    let socket = UnixListener::bind(dir.path().join("d/socket")).unwrap();
    assert!(
        refused(dir.path())
            .contains("d/socket: a socket, which a layer cannot have; --skip-special")
    );
    drop(socket);
    fs::remove_file(dir.path().join("d/socket")).unwrap();
    assert_eq!(listed(&dir), "d:d d/f:fx");
    // A directory that is full of devices.
    let error = refused(Path::new("/dev"));
    assert!(error.starts_with("/dev: "), "{error}");
}

/// The bytes that this thread has read so far, as the kernel counts them.
fn bytes_read() -> u64 {
    let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
    let count = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.unwrap().parse().unwrap()
}

#[test]
fn case_c3_86_holes_are_not_read() {
    let dir = host("");
    let path = dir.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(1 << 40).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 1 << 39).unwrap();
    drop(file);
    let pool = ChunkPool::new();
    let before = bytes_read();
    let layer = dir_ambient(&pool, dir.path(), &SourceOptions::default()).unwrap();
    let read = bytes_read() - before;
    assert!(read <= 64 * 1024, "{read} bytes read");
    assert_eq!(list(&layer), format!("/:d sparse:f{}", 1_u64 << 40));
    let entry = layer.entries().last().unwrap();
    let EntryBody::File { content, .. } = entry.body else {
        panic!("no file")
    };
    let mut middle = [0; 8];
    content.read_at(&mut middle, (1 << 39) - 1).unwrap();
    assert_eq!(&middle, b"\0middle\0");
    assert!(pool.count_held_bytes() <= 64 * 1024);
    // A hole counts for nothing; data does.
    let options = SourceOptions {
        max_bytes: 1 << 20,
        ..SourceOptions::default()
    };
    assert!(dir_ambient(&pool, dir.path(), &options).is_ok());
}

#[test]
fn limits_are_stated() {
    let dir = host("f a 12345,f b 12345,d d,f d/c 1");
    let with = |max_bytes, max_entries| {
        let options = SourceOptions {
            max_bytes,
            max_entries,
            ..SourceOptions::default()
        };
        dir_ambient(&ChunkPool::new(), dir.path(), &options).map_err(|error| error.to_string())
    };
    assert!(with(11, 5).is_ok());
    assert!(
        with(10, 5)
            .unwrap_err()
            .ends_with("d/c: more than 10 bytes of content")
    );
    assert!(
        with(9, 4)
            .unwrap_err()
            .ends_with("b: more than 9 bytes of content")
    );
    assert!(with(11, 3).unwrap_err().contains("more than 3 entries"));
    assert!(with(11, 2).unwrap_err().contains("more than 2 entries"));
}

#[test]
fn case_p04_whiteouts_by_name() {
    let dir = host("d d,f .wh.gone,f d/.wh..wh..opq,f d/f x,d .wh..wh.plnk,f .wh..wh.plnk/1 x");
    assert_eq!(listed(&dir), "d:d! d/f:fx gone:w");
    for (lines, name) in [
        ("f .wh.gone full", ".wh.gone"),
        ("f .wh.", ".wh."),
        ("f .wh...", ".wh..."),
        ("f a,h .wh.b a", ".wh.b"),
        ("s .wh.a x", ".wh.a"),
        ("d d,d d/.wh.a", "d/.wh.a"),
        ("f .wh..wh..opq full", ".wh..wh..opq"),
    ] {
        let error = refused(host(lines).path());
        assert!(
            error.contains(&format!("/{name}: invalid whiteout"))
                || error.contains(&format!(": {name}: invalid whiteout")),
            "{error}"
        );
    }
    assert_eq!(listed(&host("f x.wh.a full")), "x.wh.a:ffull");
}

#[test]
fn case_p04_whiteouts_as_overlayfs_writes_them() {
    let dir = host("d o,f o/f x,d m,f m/gone,f m/stays text,f elsewhere");
    let device = dir.path().join("device");
    mknodat(
        CWD,
        &device,
        FileType::CharacterDevice,
        Mode::from(0o600),
        0,
    )
    .unwrap();
    assert!(listed(&dir).starts_with("device:w elsewhere:f m:d"));
    let set = |name: &str, key: &str, value: &[u8]| {
        setxattr(dir.path().join(name), key, value, XattrFlags::empty()).is_ok()
    };
    if !set("elsewhere", "user.overlay.whiteout", b"y") {
        eprintln!("no extended attributes here");
        return;
    }
    assert!(set("m/gone", "user.overlay.whiteout", b""));
    assert!(set("m/stays", "user.overlay.whiteout", b""));
    assert!(set("m", "user.overlay.opaque", b"x"));
    assert!(set("o", "user.overlay.opaque", b"y"));
    assert!(set("o", "user.mine", b"kept"));
    // Only in a directory that is marked, and only empty files.
    assert_eq!(
        listed(&dir),
        "device:w elsewhere:f m:d m/gone:w m/stays:ftext o:d! o/f:fx"
    );
    let layer = import(dir.path()).unwrap();
    let kept = layer.entries().filter_map(|entry| match entry.body {
        EntryBody::Dir { meta, .. } => meta?.xattrs.clone(),
        _ => None,
    });
    let kept: Vec<_> = kept.collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(*kept[0], [(b"user.mine"[..].into(), b"kept"[..].into())]);
    assert!(set("o/f", "user.overlay.metacopy", b""));
    assert!(refused(dir.path()).contains("o/f: the attribute overlay.metacopy"));
}

#[test]
fn case_c1_39_40_names_are_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let dir = host("f Name 1,f name 2,f back\\slash 3,f C: 4,f COM1 5,f dot. 6");
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "7").unwrap();
    fs::write(dir.path().join("e\u{301}"), "8").unwrap();
    fs::write(dir.path().join("\u{e9}"), "9").unwrap();
    assert_eq!(import(dir.path()).unwrap().node_count(), 10);
    assert!(listed(&dir).ends_with("\\xff:f7"));
}

/// Everything about a tree that a reader could have changed.
fn fingerprint(dir: &Path) -> Vec<String> {
    // A link's access time moves when it is read, whoever reads it.
    let mut all = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(at) = todo.pop() {
        let meta = fs::symlink_metadata(&at).unwrap();
        let times = [
            if meta.is_symlink() { 0 } else { meta.atime() },
            if meta.is_symlink() {
                0
            } else {
                meta.atime_nsec()
            },
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
        ];
        all.push(format!("{at:?} {:o} {} {times:?}", meta.mode(), meta.len()));
        if meta.is_dir() {
            todo.extend(
                fs::read_dir(&at)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    all.sort();
    all
}

#[test]
fn case_c2_79_the_directory_is_not_written_not_even_its_times() {
    let dir = host("d d,f d/f text,s l d/f,f g 1");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    for name in ["d/f", "g", "d"] {
        let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
        fs::File::open(dir.path().join(name))
            .unwrap()
            .set_times(times)
            .unwrap();
    }
    // Listing moves a directory's own access time: once is enough.
    drop(fingerprint(dir.path()));
    let before = fingerprint(dir.path());
    import(dir.path()).unwrap();
    let after = fingerprint(dir.path());
    assert_eq!(before, after);
}

#[test]
fn case_c3_83_a_directory_swapped_for_a_link_lets_nothing_in() {
    let outside = host("f secret outside,d d,f d/secret outside");
    let dir = host("d a,d a/d,f a/d/f inside,d a/e,f a/e/g inside");
    let (a, hidden) = (dir.path().join("a"), dir.path().join("hidden"));
    let done = AtomicBool::new(false);
    let (mut whole, mut failed) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::rename(&a, &hidden).unwrap();
                symlink(outside.path(), &a).unwrap();
                fs::remove_file(&a).unwrap();
                fs::rename(&hidden, &a).unwrap();
            }
        });
        for _ in 0..1000 {
            match import(dir.path()) {
                Ok(layer) => {
                    whole += 1;
                    assert!(!list(&layer).contains("secret"));
                }
                Err(_) => failed += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    println!("{whole} whole, {failed} refused");
    assert_eq!(whole + failed, 1000);
}

#[test]
fn case_c3_81_82_a_file_that_changes_meanwhile_is_never_torn() {
    let dir = host("");
    let path = dir.path().join("f");
    let write = |size: usize| {
        let bytes = vec![u8::try_from(size % 251).unwrap(); size];
        let new = dir.path().join("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, &path).unwrap();
    };
    write(100_000);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                match round % 3 {
                    0 => write(50_000 + round % 40_000),
                    1 => fs::File::options()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .set_len(9)
                        .unwrap(),
                    _ => fs::remove_file(&path).unwrap_or(()),
                }
                if round % 3 == 2 {
                    write(200_000);
                }
            }
        });
        for _ in 0..1000 {
            let Ok(layer) = import(dir.path()) else {
                continue;
            };
            for entry in layer.entries() {
                let EntryBody::File { content, .. } = entry.body else {
                    continue;
                };
                let mut bytes = vec![0; usize::try_from(content.size()).unwrap()];
                content.read_at(&mut bytes, 0).unwrap();
                assert!(bytes.windows(2).all(|pair| pair[0] == pair[1]), "torn");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn case_c3_85_proc_does_not_hang() {
    let layer = import(Path::new("/proc/sys/kernel/random")).unwrap();
    assert!(list(&layer).contains("uuid:f "), "{}", list(&layer));
    // Files that change, go and block on reading: that they end is what is asked.
    drop(import(Path::new("/proc/self")));
    drop(import(Path::new("/sys/kernel")));
}

#[test]
fn case_c3_85_mount_points_are_not_crossed() {
    if let Some(dir) = inner_dir() {
        for (name, fits) in [
            ("tmpfs", false),
            ("bind", false),
            ("file", false),
            ("plain", true),
        ] {
            let result = import(&dir.join(name)).map_err(|error| error.to_string());
            assert_eq!(result.is_ok(), fits, "{name}: {result:?}");
            if let Err(error) = result {
                assert!(
                    error.ends_with(
                        "/m: a mount point: another file system begins here, which is not crossed"
                    ),
                    "{error}"
                );
            }
        }
        // The directory itself may be one.
        import(&dir.join("tmpfs/d/m")).unwrap();
        return;
    }
    let dir = host(
        "d tmpfs,d tmpfs/d,d tmpfs/d/m,d bind,d bind/d,d bind/d/m,d file,d file/d,f file/d/m x,\
         d plain,d plain/d,d plain/d/m,f source x",
    );
    let script = "cd \"$STRATAFS_TEST_DIR\" && mount -t tmpfs none tmpfs/d/m && \
                  mount --bind plain bind/d/m && mount --bind source file/d/m;";
    let test = "source_dir::case_c3_85_mount_points_are_not_crossed";
    if let Some(passed) = unshared("-rm", script, test, dir.path()) {
        assert!(passed);
    }
}

#[test]
fn case_c3_84_what_cannot_be_read_is_named() {
    if let Some(dir) = inner_dir() {
        for (name, bad) in [("file", "file/d/f"), ("dir", "dir/d")] {
            let error = refused(&dir.join(name));
            let entry = bad.split_once('/').unwrap().1;
            assert!(
                error.contains(&format!("{name}: {entry}: cannot be read: ")),
                "{error}"
            );
        }
        assert!(import(&dir.join("plain")).is_ok());
        return;
    }
    let dir = host("d file,d file/d,f file/d/f x,d dir,d dir/d,d plain,f plain/f x");
    for name in ["file/d/f", "dir/d"] {
        let none = fs::Permissions::from_mode(0o0);
        fs::set_permissions(dir.path().join(name), none).unwrap();
    }
    // In a namespace of its own, even root has no rights beyond the owner's.
    let test = "source_dir::case_c3_84_what_cannot_be_read_is_named";
    if let Some(passed) = unshared("-U", "", test, dir.path()) {
        assert!(passed);
    }
    let error = refused(&dir.path().join("missing"));
    assert!(error.contains("/missing: cannot be read: "), "{error}");
}

#[test]
fn case_p30_the_deepest_directory_fits_few_descriptors() {
    const DEPTH: usize = 700;
    if let Some(dir) = inner_dir() {
        let layer = import(&dir).unwrap();
        // On each level the way down, and a side branch on the way back.
        assert_eq!(layer.node_count(), 1 + 3 * DEPTH);
        return;
    }
    let dir = host("");
    let mut at =
        cap_std::fs::Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
    for level in 0..DEPTH {
        at.create_dir("a-way-down").unwrap();
        at.create_dir("b").unwrap();
        at.write("b/f", level.to_string()).unwrap();
        at = at.open_dir("a-way-down").unwrap();
    }
    let test = "source_dir::case_p30_the_deepest_directory_fits_few_descriptors";
    assert_eq!(again("ulimit -n 64", test, dir.path()), Some(true));
    // It is too deep for a path, and so for the usual way to remove it.
    assert!(
        Command::new("rm")
            .arg("-rf")
            .arg(dir.path())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn case_c1_37_past_the_deepest_path_is_an_error() {
    let dir = host("");
    let mut at =
        cap_std::fs::Dir::open_ambient_dir(dir.path(), cap_std::ambient_authority()).unwrap();
    for _ in 0..4097 {
        at.create_dir("d").unwrap();
        at = at.open_dir("d").unwrap();
    }
    assert!(refused(dir.path()).contains("deeper than 4096 components"));
    assert!(
        Command::new("rm")
            .arg("-rf")
            .arg(dir.path())
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn case_c1_49_open_tells_what_is_there() {
    let dir = host("d layer,f layer/f x,f empty,f text hello");
    let open = |name: &str| {
        let path = if name.starts_with('/') {
            name.into()
        } else {
            dir.path().join(name)
        };
        let layers = open(&ChunkPool::new(), &path, &SourceOptions::default());
        layers
            .map(|layers| list(&layers[0]))
            .map_err(|error| error.to_string())
    };
    fs::write(
        dir.path().join("x.tar"),
        Archive::new().file("f", "y").end(),
    )
    .unwrap();
    symlink("x.tar", dir.path().join("link.tar")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    mknodat(
        CWD,
        dir.path().join("pipe"),
        FileType::Fifo,
        Mode::from(0o600),
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_eq!(open("layer").unwrap(), "/:d f:fx");
    assert_eq!(open("x.tar").unwrap(), "f:fy");
    assert_eq!(open("link.tar").unwrap(), "f:fy");
    // Whoever writes to a FIFO is waited for, and nobody writing is an error.
    let fed = |bytes: Vec<u8>| {
        let path = dir.path().join("pipe");
        std::thread::scope(|scope| {
            scope.spawn(move || fs::write(path, bytes).unwrap());
            open("pipe")
        })
    };
    assert_eq!(fed(Archive::new().file("f", "y").end()).unwrap(), "f:fy");
    let nothing = fed(Vec::new()).unwrap_err();
    assert!(nothing.contains("pipe: 0 bytes came"), "{nothing}");
    for (name, reason) in [
        ("empty", "empty: no archive has 0 bytes"),
        (
            "text",
            "not a tar archive, neither plain nor in gzip, zstd, xz or bzip2: it looks like text",
        ),
        ("dangling", "cannot be read: "),
        ("socket", "a socket: neither"),
        ("/dev/zero", "a device: neither"),
        ("missing", "cannot be read: "),
    ] {
        let error = open(name).unwrap_err();
        assert!(
            error.contains(reason) && error.contains(name),
            "{name}: {error}"
        );
    }
}

#[cfg(feature = "oci")]
#[test]
fn image_layouts_are_told_apart() {
    let dir =
        host("d layout,f layout/oci-layout x,f layout/index.json x,d near,f near/index.json x");
    let open = |name: &str| {
        let path = dir.path().join(name);
        open(&ChunkPool::new(), &path, &SourceOptions::default()).map_err(|error| error.to_string())
    };
    assert!(
        open("layout")
            .unwrap_err()
            .contains("oci-layout: malformed")
    );
    assert!(open("near").is_ok());
    let archive = Archive::new()
        .file("oci-layout", "x")
        .file("index.json", "x")
        .end();
    fs::write(dir.path().join("layout.tar"), archive).unwrap();
    assert!(
        open("layout.tar")
            .unwrap_err()
            .contains("oci-layout: malformed")
    );
}
