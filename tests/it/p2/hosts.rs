//! Host directories beside ours, and linkers.

use std::fs;

use stratafs::vfs::Fs;
use stratafs::wasi::{StratafsCtx, p2};
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::base;
use super::guest::{Fd, Guest, Halt, Host, MODES, Mode};

const READ: DescriptorFlags = DescriptorFlags::READ;

/// A guest with ours as `/` and a host directory as `/host`.
fn with_host(dir: &tempfile::TempDir, mode: Mode) -> (Guest, Fd, Fd) {
    let ours = StratafsCtx::new().preopen(Fs::new(&base()).root().unwrap(), "/");
    let wasi = WasiCtxBuilder::new()
        .preopened_dir(dir.path(), "/host", FsPerms::ReadWrite)
        .unwrap()
        .build();
    let mut guest = Guest::over(wasi, ours, mode);
    let [root, host]: [_; 2] = guest.preopens().try_into().unwrap();
    assert_eq!((&*root.1, &*host.1), ("/", "/host"));
    (guest, root.0, host.0)
}

#[test]
fn every_call_reaches_a_host_directory_beside_ours() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (mut guest, root, host) = with_host(&dir, mode);
        guest.put(host, "f", b"theirs").unwrap();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"theirs");
        assert_eq!(guest.get(root, "f").unwrap(), b"hello");
        assert_eq!(guest.get(host, "f").unwrap(), b"theirs");
        let file = guest
            .open(host, "f", OpenFlags::empty(), READ | DescriptorFlags::WRITE)
            .unwrap();
        assert!(guest.flags(file).unwrap().contains(DescriptorFlags::WRITE));
        guest.sync(file).unwrap();
        guest.sync_data(file).unwrap();
        guest.set_size(file, 5).unwrap();
        guest
            .set_times(file, NewTimestamp::Now, NewTimestamp::NoChange)
            .unwrap();
        assert_eq!(guest.stat(file).unwrap().size, 5);
        assert_eq!(guest.hash(file).unwrap(), guest.hash_at(host, "f").unwrap());
        guest.mkdir(host, "d").unwrap();
        guest.symlink(host, "f", "l").unwrap();
        assert_eq!(guest.readlink(host, "l").unwrap(), "f");
        guest.link((host, "f"), (host, "hl")).unwrap();
        guest.rename((host, "hl"), (host, "d/hl")).unwrap();
        let keep = [NewTimestamp::NoChange, NewTimestamp::Now];
        guest
            .set_times_at(host, PathFlags::empty(), "d/hl", keep)
            .unwrap();
        assert_eq!(guest.stat_at(host, "d/hl").unwrap().link_count, 2);
        assert_eq!(guest.names(host).unwrap(), ["d", "f", "l"]);
        guest.unlink(host, "d/hl").unwrap();
        guest.rmdir(host, "d").unwrap();
        assert_eq!(guest.stat_at(host, "d").err(), Some(ErrorCode::NoEntry));
        assert!(guest.is_same(file, file));
        guest.close(file);
    }
}

#[test]
fn streams_of_a_host_directory_work_beside_ours() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (mut guest, root, host) = with_host(&dir, mode);
        for dir in [root, host] {
            let file = guest
                .open(dir, "new", OpenFlags::CREATE, READ | DescriptorFlags::WRITE)
                .unwrap();
            let (at, end) = (
                guest.writer(file, 1).unwrap(),
                guest.appender(file).unwrap(),
            );
            let input = guest.reader(file, 1).unwrap();
            let mut table = std::mem::take(&mut guest.host.table);
            guest.wait(async {
                table
                    .get_mut(&at)
                    .unwrap()
                    .blocking_write_and_flush("bc".into())
                    .await
                    .unwrap();
                table
                    .get_mut(&end)
                    .unwrap()
                    .blocking_write_and_flush("d".into())
                    .await
                    .unwrap();
                let read = table
                    .get_mut(&input)
                    .unwrap()
                    .blocking_read(9)
                    .await
                    .unwrap();
                assert_eq!(read, "bcd");
            });
            guest.host.table = table;
            assert_eq!(guest.get(dir, "new").unwrap(), b"\0bcd");
        }
        // The codes of both sides' streams are found.
        let reads = guest.open(host, "new", OpenFlags::empty(), READ).unwrap();
        let output = guest.writer(reads, 0).unwrap();
        let mut table = std::mem::take(&mut guest.host.table);
        let failed = guest.wait(async {
            table
                .get_mut(&output)
                .unwrap()
                .blocking_write_and_flush("x".into())
                .await
        });
        guest.host.table = table;
        let halt = guest.halt(failed.unwrap_err());
        assert_eq!(halt, Halt::Failed(Some(ErrorCode::BadDescriptor)));
    }
}

#[test]
fn case_58_links_and_renames_between_ours_and_theirs_are_cross_device() {
    for mode in MODES {
        let dir = tempfile::tempdir().unwrap();
        let (mut guest, root, host) = with_host(&dir, mode);
        guest.put(host, "t", b"theirs").unwrap();
        let cross = Err(ErrorCode::CrossDevice);
        for (from, to) in [((root, "f"), (host, "x")), ((host, "t"), (root, "x"))] {
            assert_eq!(guest.rename(from, to), cross);
            assert_eq!(guest.link(from, to), cross);
        }
        assert!(!guest.is_same(root, host) && !guest.is_same(host, root));
        assert_eq!(guest.names(host).unwrap(), ["t"]);
        assert_eq!(guest.get(root, "f").unwrap(), b"hello");
    }
}

#[test]
fn linkers_take_all_of_wasi_or_the_files_alone() {
    let engine = Engine::default();
    let mut linker = Linker::<Host>::new(&engine);
    p2::add_to_linker_sync(&mut linker).unwrap();
    assert!(
        p2::add_filesystem_to_linker_sync(&mut linker).is_err(),
        "it is there already"
    );
    let mut linker = Linker::<Host>::new(&engine);
    p2::add_to_linker_async(&mut linker).unwrap();
    assert!(wasmtime_wasi::p2::add_to_linker_async(&mut linker).is_err());
    let mut linker = Linker::<Host>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
    linker.allow_shadowing(true);
    p2::add_filesystem_to_linker_async(&mut linker).unwrap();
}
