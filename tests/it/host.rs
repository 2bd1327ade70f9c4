//! The std-like API for embedders.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stratafs::Error;
use stratafs::budget::Budget;
use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::host::OpenOptions;
use stratafs::image::Image;
use stratafs::meta::{Kind, Time};
use stratafs::name::LayerPath;
use stratafs::source::SourceOptions;
use stratafs::vfs::{Access, Change, Follow, Fs, OpenFlags, Rights, Rule, SetTime};

fn empty() -> Fs {
    Fs::new(&Image::empty())
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.unwrap_err().errno()
}

fn paths(fs: &Fs) -> Vec<String> {
    fs.walk("/")
        .unwrap()
        .map(|entry| entry.unwrap().to_string())
        .collect()
}

/// A tree with one of each: nested directories, hard links, a sparse file,
/// links relative and absolute.
fn sample() -> Fs {
    let fs = empty();
    fs.create_dir_all("/a/b/c").unwrap();
    fs.write("/a/file", "text").unwrap();
    fs.hard_link("/a/file", "/a/b/twin").unwrap();
    fs.symlink("../file", "/a/b/up").unwrap();
    fs.symlink("/a/file", "/abs").unwrap();
    let sparse = fs.create("/sparse").unwrap();
    sparse.write_at(b"end", 3 << 20).unwrap();
    fs.set_owner("/a/file", 0o4750, (7, 8)).unwrap();
    fs.set_times(
        "/a/file",
        SetTime::Keep,
        SetTime::To(Time::new(1_000_000, 123_456_789)),
    )
    .unwrap();
    fs.set_times("/a/b", SetTime::Keep, SetTime::To(Time::new(5, 0)))
        .unwrap();
    fs
}

#[test]
fn files_are_written_read_and_copied() {
    let fs = empty();
    fs.write("/f", "first").unwrap();
    fs.write("f", "second").unwrap();
    assert_eq!(fs.read("//f").unwrap(), b"second");
    assert_eq!(fs.copy("/f", "/g").unwrap(), 6);
    assert_eq!(fs.read_to_string("/g").unwrap(), "second");
    assert_eq!(errno(fs.copy("/f", "/f")), Errno::Invalid);
    assert_eq!(fs.read("/f").unwrap(), b"second");
    fs.write("/bytes", b"\xff").unwrap();
    assert_eq!(
        errno(fs.read_to_string("/bytes")),
        Errno::IllegalByteSequence
    );
    assert_eq!(errno(fs.read("/")), Errno::IsDirectory);
    assert_eq!(errno(fs.read("")), Errno::NoEntry);
}

#[test]
fn copying_a_sparse_file_keeps_its_holes() {
    let fs = sample();
    let before = fs.usage().private_bytes;
    fs.copy("/sparse", "/copy").unwrap();
    assert!(fs.usage().private_bytes - before <= 4096);
    assert_eq!(fs.read("/copy").unwrap(), fs.read("/sparse").unwrap());
}

#[test]
fn open_files_have_std_traits() {
    let fs = empty();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&fs, "/f")
        .unwrap();
    file.write_all(b"hello world").unwrap();
    file.seek(SeekFrom::Start(6)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "world");
    assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 6);
    assert!(file.seek(SeekFrom::Current(-7)).is_err());
    let mut log = OpenOptions::new().append(true).open(&fs, "/f").unwrap();
    log.write_all(b"!").unwrap();
    assert_eq!(fs.read("/f").unwrap(), b"hello world!");
    assert_eq!(log.stream_position().unwrap(), 12, "as Linux");
    file.set_len(5).unwrap();
    assert_eq!(file.metadata().unwrap().size, 5);
    assert_eq!(errno(OpenOptions::new().open(&fs, "/f")), Errno::Invalid);
    assert_eq!(
        errno(OpenOptions::new().read(true).create(true).open(&fs, "/f")),
        Errno::Invalid
    );
    assert_eq!(
        errno(
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&fs, "/f")
        ),
        Errno::Exist
    );
    assert_eq!(errno(fs.open("/")), Errno::IsDirectory);
}

/// The same options on a real file, whatever they are, come to the same.
#[test]
fn options_of_opening_mean_what_they_mean_in_std() {
    let dir = tempfile::tempdir().unwrap();
    for exists in [true, false] {
        for bits in 0..3_u32.pow(6) {
            // Each option untouched, turned on, or turned on and off.
            let turns = |option: u32| bits / 3_u32.pow(option) % 3;
            let (mut ours, mut theirs) = (OpenOptions::new(), std::fs::OpenOptions::new());
            for on in [true, false] {
                for option in 0..6 {
                    if turns(option) == 0 || (!on && turns(option) == 1) {
                        continue;
                    }
                    match option {
                        0 => (ours = ours.read(on), theirs.read(on)),
                        1 => (ours = ours.write(on), theirs.write(on)),
                        2 => (ours = ours.append(on), theirs.append(on)),
                        3 => (ours = ours.truncate(on), theirs.truncate(on)),
                        4 => (ours = ours.create(on), theirs.create(on)),
                        _ => (ours = ours.create_new(on), theirs.create_new(on)),
                    };
                }
            }
            let (fs, path) = (empty(), dir.path().join("f"));
            drop(std::fs::remove_file(&path));
            if exists {
                fs.write("/f", "text").unwrap();
                std::fs::write(&path, "text").unwrap();
            }
            let told = |mut file: Box<dyn ReadWrite>| {
                let wrote = file.write_all(b"!").is_ok();
                let at = file.stream_position().unwrap();
                file.rewind().unwrap();
                (wrote, at, file.read_to_string(&mut String::new()).is_ok())
            };
            let our = ours.open(&fs, "/f").map(|file| told(Box::new(file)));
            let their = theirs.open(&path).map(|file| told(Box::new(file)));
            let left = std::fs::read(&path).ok();
            assert_eq!(
                (our.ok(), fs.read("/f").ok()),
                (their.ok(), left),
                "{theirs:?}, there before: {exists}"
            );
        }
    }
}

trait ReadWrite: Read + Write + Seek {}
impl<T: Read + Write + Seek> ReadWrite for T {}

#[test]
fn a_tree_deeper_than_a_path_can_name_is_removed() {
    let fs = Fs::builder(&Image::empty()).max_open(8).build();
    let name = "d".repeat(200);
    let mut dir = fs.root().unwrap().into_descriptor();
    for _ in 0..4 {
        // 18 levels at a time: 72 make three and a half paths.
        let path = vec![name.as_str(); 18].join("/");
        let open = |path: &str| {
            dir.open_at(
                Follow::No,
                path.as_bytes(),
                OpenFlags::DIRECTORY,
                Access::READ,
            )
        };
        for level in 0..18 {
            let part = path.get(..level * 201 + 200).unwrap();
            dir.create_dir_at(part.as_bytes()).unwrap();
        }
        dir = open(&path).unwrap();
    }
    drop(dir);
    fs.remove_dir_all(&name).unwrap();
    assert_eq!(paths(&fs), [""; 0]);
    assert_eq!((fs.usage().inodes, fs.usage().open), (0, 0));
}

#[test]
fn trees_are_made_walked_and_removed() {
    let fs = sample();
    assert_eq!(
        paths(&fs),
        [
            "/a",
            "/a/b",
            "/a/b/c",
            "/a/b/twin",
            "/a/b/up",
            "/a/file",
            "/abs",
            "/sparse"
        ]
    );
    fs.create_dir_all("/a/b/c").unwrap();
    assert_eq!(errno(fs.create_dir_all("/a/file/x")), Errno::NotDirectory);
    assert_eq!(errno(fs.remove_dir("/a")), Errno::NotEmpty);
    assert_eq!(errno(fs.remove_dir_all("/abs")), Errno::NotDirectory);
    fs.remove_dir_all("/a").unwrap();
    assert_eq!(paths(&fs), ["/abs", "/sparse"]);
    assert!(!fs.exists("/a").unwrap());
    fs.remove_dir_all("/").unwrap();
    assert_eq!(paths(&fs), [""; 0]);
    let usage = fs.usage();
    assert_eq!(
        (usage.private_bytes, usage.inodes, usage.links, usage.open),
        (0, 0, 0, 0)
    );
    assert_eq!(fs.check(), Ok(()));
}

#[test]
fn paths_resolve_as_in_a_chroot() {
    let fs = sample();
    assert_eq!(fs.read("/abs").unwrap(), b"text");
    assert_eq!(fs.read("/a/b/up").unwrap(), b"text");
    assert_eq!(fs.symlink_metadata("/abs").unwrap().kind, Kind::Symlink);
    assert_eq!(fs.read_link("/abs").unwrap(), b"/a/file");
    assert_eq!(errno(fs.metadata("/../a")), Errno::NotPermitted);
    assert_eq!(fs.metadata("/").unwrap().kind, Kind::Dir);
}

#[test]
fn the_empty_path_names_nothing_in_any_call() {
    let (fs, other) = (sample(), empty());
    let layer = fs.tree("/", &ChunkPool::new()).unwrap();
    let told: [(&str, Error); 9] = [
        ("read", fs.read("").unwrap_err()),
        ("create directory", fs.create_dir_all("").unwrap_err()),
        ("list", fs.read_dir("").unwrap_err()),
        ("preopen", fs.preopen("", Rights::ReadWrite).unwrap_err()),
        ("keep", fs.keep_dir("").unwrap_err()),
        ("set rule of", fs.set_rule("", Rule::Free).unwrap_err()),
        (
            "mount at",
            fs.mount("", &other, "/", Rights::ReadOnly).unwrap_err(),
        ),
        (
            "mount file at",
            fs.mount_file("", Arc::new(Vec::new)).unwrap_err(),
        ),
        ("apply layer at", fs.apply("", &layer).unwrap_err()),
    ];
    for (operation, error) in told {
        assert_eq!(error.operation(), operation);
        assert_eq!((error.path(), error.errno()), (&b""[..], Errno::NoEntry));
    }
    let error = fs.tree("", &ChunkPool::new()).unwrap_err();
    assert_eq!(error.to_string(), "read tree : no such file or directory");
}

#[test]
fn a_builder_makes_any_number_of_instances() {
    let budget = Budget::new(1 << 20);
    let builder = Fs::builder(&Image::empty())
        .max_bytes(5000)
        .budget(&budget, "tenant");
    let (one, two) = (builder.clone().build(), builder.clone().build());
    one.write("/f", [1; 4096]).unwrap();
    assert!(!two.exists("/f").unwrap());
    assert_eq!(two.quota().max_bytes, 5000);
    let held: Vec<bool> = budget
        .holders()
        .iter()
        .filter(|holder| &*holder.label == "tenant" && holder.bytes > 0)
        .map(|holder| holder.bytes >= 4096)
        .collect();
    assert_eq!(held, [true], "each pays for its own");
    assert!(format!("{builder:?}").contains("max_bytes: 5000"));
}

#[test]
fn paths_of_each_kind_name_the_same_object() {
    let fs = sample();
    let file = Path::new("/a").join("file");
    assert_eq!(fs.read(&file).unwrap(), b"text");
    assert_eq!(fs.read(file.as_os_str()).unwrap(), b"text");
    assert_eq!(
        fs.read(LayerPath::parse(b"a/file").unwrap()).unwrap(),
        b"text"
    );
    let before = fs.snapshot();
    // A name that is no UTF-8, and reads like something else when it is shown.
    fs.write(b"/a/li\\nne\n\xff", "odd").unwrap();
    let changes = before.changes_to(&fs.snapshot()).unwrap();
    let added = changes
        .iter()
        .find(|change| matches!(change, Change::Added { .. }));
    assert_eq!(fs.read(added.unwrap().path()).unwrap(), b"odd");
    let layer = fs.tree(Path::new("/a/b"), &ChunkPool::new()).unwrap();
    assert!(layer.entries().count() > 1);
}

#[test]
fn errors_of_open_files_are_ios_with_the_path_inside() {
    let fs = Fs::builder(&Image::empty()).max_bytes(8).build();
    let mut file = fs.create("/f").unwrap();
    file.sync_all().unwrap();
    let full = file.write_all(&[1; 5000]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let error = full.downcast::<Error>().unwrap();
    assert_eq!((error.operation(), error.path()), ("write", &b"/f"[..]));
    let error = file.seek(SeekFrom::Current(-10_000)).unwrap_err();
    assert_eq!(error.to_string(), "seek in /f: invalid argument");
    let error = file.read(&mut [0]).unwrap_err();
    assert_eq!(error.to_string(), "read /f: bad file descriptor");
}

#[test]
fn errors_name_operation_and_path_and_become_io_errors() {
    let fs = empty();
    let error = fs.read("/no\n/such").unwrap_err();
    assert_eq!(
        error.to_string(),
        "read /no\\n/such: no such file or directory"
    );
    assert_eq!(
        std::io::Error::from(error).kind(),
        std::io::ErrorKind::NotFound
    );
}

#[test]
fn host_calls_take_none_of_the_guests_descriptors() {
    let fs = Fs::builder(&Image::empty()).max_open(1).build();
    let held = fs.root().unwrap();
    fs.create_dir("/d").unwrap();
    assert_eq!(fs.metadata("/d").unwrap().kind, Kind::Dir);
    assert_eq!(fs.read_dir("/d").unwrap(), []);
    assert_eq!(paths(&fs), ["/d"]);
    fs.remove_dir_all("/d").unwrap();
    drop(held);
}

#[test]
fn a_tree_goes_out_to_a_directory_and_in_again() {
    let fs = sample();
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
    fs.export_dir("/", &dir).unwrap();
    let again = empty();
    again
        .import_dir("/", &dir, &SourceOptions::default())
        .unwrap();
    assert_eq!(paths(&again), paths(&fs));
    assert_eq!(again.read("/sparse").unwrap(), fs.read("/sparse").unwrap());
    let (old, new) = (
        fs.metadata("/a/file").unwrap(),
        again.metadata("/a/b/twin").unwrap(),
    );
    assert_eq!(
        (old.mode & 0o1777, old.mtime, old.nlink),
        (new.mode, new.mtime, new.nlink)
    );
    assert_eq!(
        fs.metadata("/a/b").unwrap().mtime,
        again.metadata("/a/b").unwrap().mtime
    );
    assert!(
        again.usage().private_bytes < 100_000,
        "the sparse file was filled"
    );
    assert_eq!(again.check(), Ok(()));
    let occupied = fs.export_dir("/", &dir).unwrap_err();
    assert!(
        occupied.to_string().starts_with("copy out: a"),
        "{occupied}"
    );
}

#[test]
fn a_tree_goes_out_to_a_tar_and_in_again() {
    let fs = sample();
    let archive = fs.export_tar("/a", Vec::new()).unwrap();
    let again = empty();
    again.create_dir("/here").unwrap();
    again.write("/here/file", "replaced").unwrap();
    again.write("/here/kept", "kept").unwrap();
    again
        .import_tar("/here", &archive[..], &SourceOptions::default())
        .unwrap();
    assert_eq!(
        paths(&again),
        [
            "/here",
            "/here/kept",
            "/here/b",
            "/here/b/c",
            "/here/b/twin",
            "/here/b/up",
            "/here/file"
        ]
    );
    assert_eq!(again.read("/here/b/twin").unwrap(), b"text");
    assert_eq!(again.metadata("/here/file").unwrap().nlink, 2);
    let missing = fs.export_tar("/nope", Vec::new()).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "copy out: read tree /nope: no such file or directory"
    );
}

#[test]
fn case_p18_an_import_past_the_quota_changes_nothing() {
    let fs = sample();
    let archive = fs.export_tar("/", Vec::new()).unwrap();
    for small in [
        Fs::builder(&Image::empty()).max_bytes(15).build(),
        Fs::builder(&Image::empty()).max_inodes(5).build(),
    ] {
        small.write("/old", "there before").unwrap();
        let before = small.usage();
        let error = small
            .import_tar("/", &archive[..], &SourceOptions::default())
            .unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        assert_eq!(paths(&small), ["/old"]);
        assert_eq!(small.usage(), before);
        assert_eq!(small.check(), Ok(()));
    }
    let fixed = Fs::builder(&Image::empty()).read_only().build();
    assert!(
        fixed
            .import_tar("/", &archive[..], &SourceOptions::default())
            .is_err()
    );
}

#[test]
fn an_instance_is_used_by_threads_at_once() {
    let fs = empty();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let fs = &fs;
            scope.spawn(move || {
                let dir = format!("/{thread}");
                fs.create_dir(&dir).unwrap();
                for round in 0..200 {
                    fs.write(format!("{dir}/{round}"), dir.as_bytes()).unwrap();
                    fs.rename(format!("{dir}/{round}"), format!("{dir}/r{round}"))
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(paths(&fs).len(), 4 * 201);
    assert_eq!(fs.check(), Ok(()));
}
