//! Contexts that are forked, and tables that are opened again from data.

use stratafs::errno::Errno as Code;
use stratafs::vfs::Rights as Allow;
use stratafs::wasi::p1::Described;

use stratafs::wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::FsPerms;

use super::*;
use crate::support::p1::{Data, MODES, Oflags, READ_WRITE, Rights};

fn ctx(guest: &mut Guest) -> &mut Ctx {
    match guest.store.data_mut() {
        Data::Ours(ctx) => ctx,
        Data::Stock(_) => panic!("the guest is wasmtime-wasi's"),
    }
}

#[test]
fn a_fork_of_a_context_keeps_numbers_offsets_and_files_without_names() {
    for mode in MODES {
        let fs = fresh();
        let mut first = on(mode, &fs);
        let hello = first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        assert_eq!(first.read(hello, 5).unwrap(), b"hello");
        let gone = first.open(ROOT, "gone", Oflags::CREAT, READ_WRITE).unwrap();
        first.write(gone, b"nameless").unwrap();
        first.unlink(ROOT, "gone").unwrap();
        let spare = first
            .open(ROOT, "old", Oflags::empty(), READ_WRITE)
            .unwrap();
        let dir = first
            .open(ROOT, "dir", Oflags::DIRECTORY, Rights::FD_READ)
            .unwrap();
        first.close(spare).unwrap();

        let (other, forked) = ctx(&mut first).fork(&fs, quiet()).unwrap();
        let mut second = Guest::new(mode, forked);
        first.write(gone, b" here").unwrap();
        // Each goes on where it was, on its own files.
        assert_eq!(second.read(hello, 6).unwrap(), b" world");
        assert_eq!(first.read(hello, 6).unwrap(), b" world");
        assert_eq!(second.tell(gone).unwrap(), 8);
        assert_eq!(second.pread(gone, 99, 0).unwrap(), b"nameless");
        assert_eq!(first.pread(gone, 99, 0).unwrap(), b"nameless here");
        assert_eq!(second.preopens(), first.preopens());
        assert_eq!(second.content(dir, "inner").unwrap(), b"inner");
        // The lowest free number is the same in both.
        second.create(ROOT, "second", b"2");
        assert_eq!(
            second
                .open(ROOT, "old", Oflags::empty(), READ_WRITE)
                .unwrap(),
            spare
        );
        assert!(other.exists("/second").unwrap() && !fs.exists("/second").unwrap());
    }
}

/// wasmtime-wasi's context that shows directories of the host.
fn showing(dirs: &[(&std::path::Path, &str)]) -> WasiP1Ctx {
    let mut wasi = WasiCtxBuilder::new();
    wasi.allow_blocking_current_thread(true);
    for (dir, name) in dirs {
        wasi.preopened_dir(dir, name, FsPerms::ReadWrite).unwrap();
    }
    wasi.build_p1()
}

/// Ours as 3, `/one` and `/two` of the host as 4 and 5.
fn beside_host(mode: Mode, fs: &Fs, (one, two): (&std::path::Path, &std::path::Path)) -> Guest {
    let names = ["/one".to_owned(), "/two".to_owned()];
    let wasi = showing(&[(one, "/one"), (two, "/two")]);
    let ctx = Ctx::new(wasi).preopen(fs.root().unwrap(), "/");
    Guest::new(mode, ctx.name_host_dirs(names))
}

#[test]
fn a_fork_opens_files_of_host_directories_once_more() {
    for mode in MODES {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fs = fresh();
        let mut first = beside_host(mode, &fs, (one.path(), two.path()));
        // A number of the host's own that was a directory's is a file's then.
        first.close(4).unwrap();
        let log = first.open(5, "log", Oflags::CREAT, READ_WRITE).unwrap();
        first.write(log, b"before").unwrap();
        first.mkdir(5, "below").unwrap();
        let below = first
            .open(5, "below", Oflags::DIRECTORY, Rights::FD_READ)
            .unwrap();
        let inner = first.open(below, "in", Oflags::CREAT, READ_WRITE).unwrap();
        first.create(ROOT, "own", b"own");

        let again = showing(&[(one.path(), "/one"), (two.path(), "/two")]);
        let (_, forked) = ctx(&mut first).fork(&fs, again).unwrap();
        let mut second = Guest::new(mode, forked);
        assert_eq!(second.preopens(), ["/"]);
        assert_eq!(second.content(ROOT, "own").unwrap(), b"own");
        assert_eq!(second.tell(log).unwrap(), 6);
        first.write(log, b", first").unwrap();
        second.seek(log, 0, 2).unwrap();
        second.write(log, b", second").unwrap();
        second.write(inner, b"there").unwrap();
        let content = |name: &str| std::fs::read_to_string(two.path().join(name)).unwrap();
        assert_eq!(content("log"), "before, first, second");
        assert_eq!(content("below/in"), "there");
        // Offsets are each fork's own; a fork of a fork goes on alike.
        assert_eq!(first.tell(log).unwrap(), 13);
        let again = showing(&[(one.path(), "/one"), (two.path(), "/two")]);
        let (_, third) = ctx(&mut second).fork(&fs, again).unwrap();
        let mut third = Guest::new(mode, third);
        assert_eq!(third.tell(inner).unwrap(), 5);
        assert_eq!(third.tell(log).unwrap(), 21);
    }
}

/// A file that has the number which one more directory would have is closed as any other.
#[cfg(target_os = "linux")]
#[test]
fn names_past_the_directories_of_the_host_keep_no_file_open() {
    let dir = tempfile::tempdir().unwrap();
    let is_below = |fd: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(fd.unwrap().path());
        target.is_ok_and(|target| target.starts_with(dir.path()))
    };
    let open = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter_map(|fd| is_below(fd).then_some(())).count()
    };
    for mode in MODES {
        let names = (0..100).map(|number| format!("/{number}"));
        let wasi = showing(&[(dir.path(), "/0")]);
        let mut guest = Guest::new(mode, Ctx::new(wasi).name_host_dirs(names));
        let before = open();
        for _ in 0..50 {
            let file = guest.open(3, "file", Oflags::CREAT, READ_WRITE).unwrap();
            assert_eq!(file, 4);
            guest.close(file).unwrap();
        }
        assert_eq!(open(), before);
        guest.close(3).unwrap();
        // The directory stays.
        assert_eq!(open(), before);
    }
}

#[test]
fn a_fork_refuses_by_name_what_it_cannot_open_once_more() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let both = || showing(&[(one.path(), "/one"), (two.path(), "/two")]);
    let fs = fresh();
    let refused = |guest: &mut Guest, wasi: WasiP1Ctx| {
        let error = ctx(guest).fork(&fs, wasi).map(|_| ()).unwrap_err();
        let path = String::from_utf8_lossy(error.path()).into_owned();
        (path, error.errno())
    };
    // Names that were not told.
    let plain = Ctx::new(both()).preopen(fs.root().unwrap(), "/");
    let mut guest = Guest::new(Mode::Sync, plain);
    guest.names(4, ".");
    assert_eq!(
        refused(&mut guest, both()),
        ("/one".to_owned(), Code::Unsupported)
    );
    // Directories that are not shown again, or in another order.
    let mut guest = beside_host(Mode::Sync, &fs, (one.path(), two.path()));
    assert_eq!(
        refused(&mut guest, showing(&[(one.path(), "/one")])),
        ("/two".to_owned(), Code::BadDescriptor)
    );
    let turned = showing(&[(two.path(), "/two"), (one.path(), "/one")]);
    assert_eq!(
        refused(&mut guest, turned),
        ("/one".to_owned(), Code::BadDescriptor)
    );
    // A file whose name leads to another one there, or to none.
    let file = guest.open(5, "file", Oflags::CREAT, READ_WRITE).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = || showing(&[(one.path(), "/one"), (elsewhere.path(), "/two")]);
    assert_eq!(
        refused(&mut guest, other()),
        ("file".to_owned(), Code::NoEntry)
    );
    std::fs::write(elsewhere.path().join("file"), "another").unwrap();
    assert_eq!(
        refused(&mut guest, other()),
        ("file".to_owned(), Code::NoEntry)
    );
    // One that has lost its name, under a number that was a directory's.
    guest.close(file).unwrap();
    guest.close(4).unwrap();
    let file = guest.open(5, "file", Oflags::empty(), READ_WRITE).unwrap();
    std::fs::rename(two.path().join("file"), two.path().join("moved")).unwrap();
    let (path, errno) = refused(&mut guest, both());
    assert!(path.contains("descriptor"), "{path}");
    assert_eq!(errno, Code::Unsupported);
    // Nothing has happened to the one that was to be forked.
    guest.write(file, b"still open").unwrap();
    let moved = std::fs::read(two.path().join("moved")).unwrap();
    assert_eq!(moved, b"still open");
}

#[test]
fn a_table_from_data_has_no_more_rights_than_the_preopens() {
    let described = |ctx: &Ctx| -> Vec<Described> {
        ctx.describe(|_| Ok::<_, ()>(("/".to_owned(), b"hello".to_vec())), |_| ())
            .unwrap()
    };
    for mode in MODES {
        let mut first = on(mode, &fresh());
        let hello = first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        first.seek(hello, 6, 0).unwrap();
        let table = described(ctx(&mut first));
        assert_eq!(table.len(), hello as usize + 1);

        let mut again = Ctx::new(quiet()).preopen(fresh().root().unwrap(), "/");
        again.reopen(&table).unwrap();
        let mut second = Guest::new(mode, again);
        assert_eq!(second.read(hello, 9).unwrap(), b"world");
        assert!(second.write(hello, b"!").is_ok());

        // Below a preopen that is read-only it reads.
        let fs = fresh();
        let read_only = fs.preopen("/", Allow::ReadOnly).unwrap();
        let mut again = Ctx::new(quiet()).preopen(read_only, "/");
        again.reopen(&table).unwrap();
        let mut third = Guest::new(mode, again);
        assert_eq!(third.read(hello, 9).unwrap(), b"world");
        assert!(third.write(hello, b"!").is_err());
    }
}

#[test]
fn a_table_from_data_that_asks_for_too_much_changes_nothing() {
    let open = |preopen: &str, path: &str| {
        let mut table = Vec::new();
        let mut first = on(Mode::Sync, &fresh());
        first
            .open(ROOT, "hello", Oflags::empty(), READ_WRITE)
            .unwrap();
        let (preopen, path) = (preopen.to_owned(), path.as_bytes().to_vec());
        table.extend(
            ctx(&mut first)
                .describe(|_| Ok::<_, ()>((preopen.clone(), path.clone())), |_| ())
                .unwrap(),
        );
        table
    };
    let refused = |table: Vec<Described>| {
        let mut again = Ctx::new(quiet()).preopen(fresh().root().unwrap(), "/");
        let errno = again.reopen(&table).unwrap_err().errno();
        let mut guest = Guest::new(Mode::Sync, again);
        assert_eq!(guest.content(ROOT, "hello").unwrap(), b"hello world");
        errno
    };
    assert_eq!(refused(open("/other", "hello")), Code::BadDescriptor);
    assert_eq!(refused(open("/", "missing")), Code::NoEntry);
    assert_eq!(refused(open("/", "../hello")), Code::NotPermitted);
    assert_eq!(refused(open("/", "up")), Code::Loop);
    assert_eq!(refused(open("/", "dir")), Code::IsDirectory);
    assert_eq!(refused(vec![Described::Stream(3)]), Code::BadDescriptor);
}
