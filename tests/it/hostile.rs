//! Host calls on trees that a hostile guest or archive made: files of holes,
//! directories without an end, names of any bytes, and a great many of them.

use std::process::Command;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use stratafs::Error;
use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::{EntryBody, Layer, LayerBuilder};
use stratafs::limits::{
    MAX_FILE_BYTES, MAX_LAYER_DEPTH, MAX_NAME_BYTES, MAX_SYMLINKS, MAX_WHOLE_READ_BYTES,
    MAX_ZEROS_BYTES, MIN_SPARSE_BYTES,
};
use stratafs::meta::{Kind, Meta};
use stratafs::name::LayerPath;
use stratafs::source::{SourceOptions, tar, write_layer};
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

use crate::support::alloc::{assert_linear, counted};

fn empty() -> Fs {
    Fs::new(&Image::empty())
}

fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> Errno {
    result.unwrap_err().errno()
}

/// A file of the largest size that holds three bytes.
fn huge() -> Fs {
    let fs = empty();
    let file = fs.create("/huge").unwrap();
    file.set_len(MAX_FILE_BYTES).unwrap();
    file.write_at(b"end", MAX_FILE_BYTES - 3).unwrap();
    fs
}

/// Directories within each other, made as a guest does: from descriptor to
/// descriptor, with names of the longest kind.
fn deep(fs: &Fs, levels: usize) {
    let name = vec![b'd'; MAX_NAME_BYTES];
    let mut dir: Descriptor = fs.root().unwrap().into();
    for _ in 0..levels {
        dir.create_dir_at(&name).unwrap();
        let flags = OpenFlags::DIRECTORY;
        dir = dir.open_at(Follow::No, &name, flags, Access::READ).unwrap();
    }
    dir.symlink_at(b"nowhere", b"link").unwrap();
}

/// Runs on a stack as small as threads of a host may have.
fn on_a_small_stack(step: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(step).unwrap().join().unwrap();
}

fn round_trip(layer: &Layer) -> Vec<u8> {
    let archive = write_layer(layer, Vec::new()).unwrap();
    let again = tar(&ChunkPool::new(), &archive[..], &SourceOptions::default()).unwrap();
    assert_eq!(again.digest(), layer.digest());
    archive
}

#[test]
fn a_hole_is_not_read_into_memory() {
    let fs = huge();
    assert_eq!(errno(fs.read("/huge")), Errno::FileTooLarge);
    assert_eq!(errno(fs.read_to_string("/huge")), Errno::FileTooLarge);
    assert_eq!(
        errno(fs.read_up_to("/huge", MAX_FILE_BYTES - 1)),
        Errno::FileTooLarge
    );
    let file = fs.create("/edge").unwrap();
    file.set_len(MAX_WHOLE_READ_BYTES + 1).unwrap();
    assert_eq!(errno(fs.read("/edge")), Errno::FileTooLarge);
    fs.write("/small", "12345").unwrap();
    assert_eq!(fs.read_up_to("/small", 5).unwrap(), b"12345");
    assert_eq!(errno(fs.read_up_to("/small", 4)), Errno::FileTooLarge);
    assert_eq!(fs.copy("/huge", "/twin").unwrap(), MAX_FILE_BYTES);
    assert_eq!(fs.usage().logical_bytes, fs.fork().usage().logical_bytes);
}

#[test]
fn any_depth_is_walked_and_removed_on_a_small_stack() {
    on_a_small_stack(|| {
        let levels = 20_000;
        let fs = empty();
        deep(&fs, levels);
        let walked = fs.walk("/").unwrap().map(Result::unwrap);
        let (mut count, mut last) = (0, None);
        for entry in walked {
            count += 1;
            last = Some(entry);
        }
        assert_eq!(count, levels + 1);
        let last = last.unwrap();
        assert_eq!((last.name(), last.kind()), (&b"link"[..], Kind::Symlink));
        assert_eq!(last.path().len(), levels * (MAX_NAME_BYTES + 1) + 5);
        drop(last);
        fs.remove_dir_all("/").unwrap();
        assert_eq!(fs.read_dir("/").unwrap(), []);
        assert_eq!(fs.usage().inodes, empty().usage().inodes);
        assert_eq!(fs.check(), Ok(()));
    });
}

#[test]
fn what_is_too_deep_for_a_layer_is_refused() {
    on_a_small_stack(|| {
        let fs = empty();
        deep(&fs, MAX_LAYER_DEPTH + 10);
        let error = fs.diff(&ChunkPool::new()).unwrap_err();
        assert!(error.to_string().contains("deeper than"));
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
        assert!(fs.export_dir("/", &dir).is_err());
        assert!(fs.export_tar("/", Vec::new()).is_err());
        assert_eq!(dir.entries().unwrap().count(), 0);
    });
}

#[test]
fn paths_that_the_host_does_not_take_whole_are_exported() {
    let fs = empty();
    // 12 KB of path: within a layer's bound, past Linux's.
    deep(&fs, 48);
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
    fs.export_dir("/", &dir).unwrap();
    let again = empty();
    again
        .import_dir("/", &dir, &SourceOptions::default())
        .unwrap();
    assert_eq!(again.walk("/").unwrap().count(), 49);
    // The test's directory is removed by a program that takes such paths.
    let removed = Command::new("rm").arg("-rf").arg(temp.path()).status();
    assert!(removed.unwrap().success());
}

#[test]
fn many_entries_are_walked_and_removed_in_time_that_grows_with_them() {
    // Of 600 entries some wait for the next batch: each comes once.
    for count in [0, 1, 255, 256, 257, 600] {
        let fs = empty();
        fs.create_dir("/d").unwrap();
        for number in 0..count {
            fs.write(format!("/d/{number:04}"), "").unwrap();
        }
        let names: Vec<_> = fs.walk("/d").unwrap().map(|e| e.unwrap().path()).collect();
        let want = (0..count).map(|number| format!("/d/{number:04}").into_bytes());
        assert_eq!(names, want.collect::<Vec<_>>());
        fs.remove_dir_all("/d").unwrap();
        assert_eq!(fs.read_dir("/").unwrap(), []);
    }
    assert_linear(5_000, |count| {
        let fs = empty();
        fs.create_dir("/d").unwrap();
        for number in 0..count {
            fs.write(format!("/d/{number}"), "").unwrap();
        }
        counted(|| {
            assert_eq!(fs.walk("/d").unwrap().count(), count);
            fs.remove_dir_all("/d").unwrap();
        })
    });
}

#[test]
fn names_of_any_bytes_come_back_and_are_shown_escaped() {
    let fs = empty();
    let names: [&[u8]; 5] = [
        b"a\nb",
        b"\x1b[2J",
        b"\xff\xfe",
        "\u{202e}gpj.exe".as_bytes(),
        "\u{9b}31m".as_bytes(),
    ];
    for name in names {
        fs.create_dir_all([b"/d/", name].concat()).unwrap();
    }
    let shown: Vec<String> = fs
        .walk("/d")
        .unwrap()
        .map(|entry| entry.unwrap().to_string())
        .collect();
    assert_eq!(
        shown,
        [
            "/d/a\\nb",
            "/d/\\u{1b}[2J",
            "/d/\\xff\\xfe",
            "/d/\\u{202e}gpj.exe",
            "/d/\\u{9b}31m"
        ]
    );
    let error = fs.read(b"/d/\x1b[2J/x").unwrap_err().to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
    round_trip(&fs.diff(&ChunkPool::new()).unwrap());
    fs.remove_dir_all("/d").unwrap();
}

#[test]
fn links_in_a_circle_end() {
    let fs = empty();
    for number in 0..=MAX_SYMLINKS {
        let next = format!("{}", (number + 1) % (MAX_SYMLINKS + 1));
        fs.symlink(next, format!("/{number}")).unwrap();
    }
    assert_eq!(errno(fs.read("/0")), Errno::Loop);
    assert_eq!(errno(fs.read_dir("/0")), Errno::Loop);
    assert_eq!(errno(fs.remove_dir_all("/0")), Errno::NotDirectory);
    assert_eq!(fs.walk("/").unwrap().count(), MAX_SYMLINKS + 1);
}

#[test]
fn holes_leave_as_holes() {
    let fs = huge();
    let layer = fs.diff(&ChunkPool::new()).unwrap();
    let archive = round_trip(&layer);
    assert!(archive.len() < 16 * 1024, "{}", archive.len());
    assert_eq!(fs.export_tar("/", Vec::new()).unwrap().len(), archive.len());
    // Below the least size a hole is zeros, which every reader knows.
    for (size, sparse) in [(MIN_SPARSE_BYTES - 1, false), (MIN_SPARSE_BYTES, true)] {
        let fs = empty();
        fs.create("/f").unwrap().set_len(size).unwrap();
        let archive = round_trip(&fs.diff(&ChunkPool::new()).unwrap());
        assert_eq!(archive.len() < 8192, sparse, "{size}");
    }
}

#[test]
fn many_small_holes_do_not_add_up() {
    let fs = empty();
    let files = 300;
    for number in 0..files {
        let file = fs.create(format!("/{number}")).unwrap();
        file.set_len(MIN_SPARSE_BYTES - 1).unwrap();
    }
    let archive = round_trip(&fs.diff(&ChunkPool::new()).unwrap());
    assert!(archive.len() as u64 <= MAX_ZEROS_BYTES + files * 4096);
}

#[test]
fn data_among_holes_comes_back_at_its_place() {
    let pool = ChunkPool::new();
    let mut content = ContentBuilder::new(&pool);
    for number in 0..40_u64 {
        content.write(&[b'x'; 7]);
        content.hole(4096 * number * number + 5000);
    }
    let mut builder = LayerBuilder::new();
    let name = format!("{}/{}", "d".repeat(200), "n".repeat(200));
    for name in [name.as_str(), "short", "odd \u{202e}"] {
        let path = LayerPath::parse(name.as_bytes()).unwrap();
        let content = content_of(&pool);
        builder
            .file(&path, Meta::with_mode(0o640), content)
            .unwrap();
    }
    let path = LayerPath::parse(b"many").unwrap();
    builder
        .file(&path, Meta::with_mode(0o640), content.finish())
        .unwrap();
    let layer = builder.finish().unwrap();
    let archive = round_trip(&layer);
    assert_eq!(archive, write_layer(&layer, Vec::new()).unwrap());
}

/// A file with holes before, between and behind.
fn content_of(pool: &ChunkPool) -> stratafs::chunk::Content {
    let mut content = ContentBuilder::new(pool);
    content.hole(3 << 20);
    content.write(b"one");
    content.hole(1 << 30);
    content.write(b"two");
    content.hole(100);
    content.finish()
}

#[test]
fn pythons_tarfile_reads_sparse_files_as_they_are() {
    let pool = ChunkPool::new();
    let mut builder = LayerBuilder::new();
    let path = LayerPath::parse(b"dir/f").unwrap();
    builder
        .file(&path, Meta::with_mode(0o640), content_of(&pool))
        .unwrap();
    let layer = builder.finish().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a.tar");
    std::fs::write(&file, round_trip(&layer)).unwrap();
    let script = "import sys, tarfile\n\
                  t = tarfile.open(sys.argv[1]); m = t.getmember('dir/f'); f = t.extractfile(m)\n\
                  f.seek(3 << 20); print(m.size, f.read(3)); f.seek((3 << 20) + 3 + (1 << 30)); print(f.read())";
    match Command::new("python3")
        .args(["-c", script])
        .arg(&file)
        .output()
    {
        Ok(output) => {
            let size = (3 << 20) + 3 + (1 << 30) + 3 + 100;
            let zeros = "\\x00".repeat(100);
            let want = format!("{size} b'one'\nb'two{zeros}'\n");
            assert_eq!(String::from_utf8_lossy(&output.stdout), want, "{output:?}");
        }
        Err(error) => eprintln!("python3 is not here: {error}"),
    }
    match Command::new("tar")
        .arg("-xSf")
        .arg(&file)
        .arg("-C")
        .arg(temp.path())
        .output()
    {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            let dir = Dir::open_ambient_dir(temp.path().join("dir"), ambient_authority()).unwrap();
            let fs = empty();
            fs.import_dir("/", &dir, &SourceOptions::default()).unwrap();
            let read = fs.open("/f").unwrap();
            let mut bytes = [0; 3];
            assert_eq!(read.read_at(&mut bytes, 3 << 20).unwrap(), 3);
            assert_eq!(
                (&bytes, read.metadata().unwrap().size),
                (b"one", content_of(&pool).size())
            );
        }
        Err(error) => eprintln!("tar is not here: {error}"),
    }
}

#[cfg(unix)]
#[test]
fn the_rights_of_an_owner_do_not_leave_without_the_owner() {
    use std::os::unix::fs::PermissionsExt;
    let fs = empty();
    fs.write("/su", "x").unwrap();
    fs.create_dir("/dir").unwrap();
    fs.set_owner("/su", 0o6755, (0, 0)).unwrap();
    fs.set_owner("/dir", 0o3775, (0, 0)).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let dir = Dir::open_ambient_dir(temp.path(), ambient_authority()).unwrap();
    fs.export_dir("/", &dir).unwrap();
    let mode = |name: &str| {
        let meta = std::fs::metadata(temp.path().join(name)).unwrap();
        meta.permissions().mode() & 0o7777
    };
    assert_eq!((mode("su"), mode("dir")), (0o755, 0o1775));
    // An archive says whose they are.
    let archive = fs.export_tar("/", Vec::new()).unwrap();
    let again = tar(&ChunkPool::new(), &archive[..], &SourceOptions::default()).unwrap();
    let modes: Vec<u32> = again
        .entries()
        .filter_map(|entry| match entry.body {
            EntryBody::File { meta, .. } => Some(meta.mode),
            _ => None,
        })
        .collect();
    assert_eq!(modes, [0o6755]);
}

#[cfg(feature = "oci")]
#[test]
fn layers_read_at_once_stay_within_the_bounds_together() {
    use crate::support::archive::Archive;
    use crate::support::layout::Layout;
    use stratafs::source::OciImage;

    let tars: Vec<Vec<u8>> = (0..4)
        .map(|number| Archive::new().file("f", &format!("{number:010}")).end())
        .collect();
    let layout = Layout::of(&tars);
    let options = SourceOptions {
        max_bytes: 30,
        ..SourceOptions::default()
    };
    for _ in 0..20 {
        let image = OciImage::open(layout.path(), &options).unwrap().unwrap();
        let read = |layer| image.read_layer(&ChunkPool::new(), layer, &options, None);
        let fine = std::thread::scope(|scope| {
            let threads: Vec<_> = image
                .layers()
                .iter()
                .map(|layer| scope.spawn(|| read(layer).is_ok()))
                .collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended.filter(|fine| *fine).count()
        });
        assert_eq!(fine, 3);
    }
}
