//! Where what is open is found again.

use super::yielding::{go_on, image_with, two_generations};
use super::*;
use crate::chunk::ChunkPool;
#[cfg(feature = "store")]
use crate::image::ImageConfig;
use crate::meta::Time;
use crate::runner::{HostDir, Volume};
#[cfg(feature = "store")]
use crate::store::{LayerOrigin, Store};
use crate::vfs::SetTime;

/// A file that was removed has no name anywhere, also where the guest is shown a part of its
/// tree only.
#[test]
fn a_removed_file_goes_on_below_any_directory_that_is_shown() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "fkept")
      (data (i32.const 32) "\11\00\00\00\04\00\00\00") ;; where "kept" lies, and how long it is
      (data (i32.const 40) "\80\00\00\00\10\00\00\00")
      (func $must (param i32) (if (local.get 0) (then unreachable)))
      (func (export "_start")
        (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 9)
          (i64.const 0x3fffffff) (i64.const 0x3fffffff) (i32.const 0) (i32.const 64)))
        (call $must (call $write (i32.load (i32.const 64)) (i32.const 32) (i32.const 1) (i32.const 68)))
        (call $must (call $unlink (i32.const 3) (i32.const 16) (i32.const 1)))
        (drop (call $yield))
        (call $must (call $write (i32.load (i32.const 64)) (i32.const 32) (i32.const 1) (i32.const 68)))
        (call $must (call $pread (i32.load (i32.const 64)) (i32.const 40) (i32.const 1) (i64.const 0)
          (i32.const 44)))
        (call $must (call $write (i32.const 1) (i32.const 40) (i32.const 1) (i32.const 68)))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let image = image_with(|fs| fs.create_dir_all("/srv/deep").unwrap());
    for dir in ["/", "/srv", "/srv/deep"] {
        let written = Arc::default();
        let mut shown = plan(&written);
        shown.keep_file_systems = true;
        shown.preopens[0].dir = dir.to_owned();
        for checkpoint in two_generations(&guest, &image, &shown) {
            let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
            let report = runner.run(checkpoint.image(), &shown).unwrap();
            let ran = ran(&written, &report.instances[0].outcome);
            assert_eq!(ran.outcome, "exit code 0", "{dir}");
            assert_eq!(ran.text, "keptkept", "{dir}");
            written.lock().unwrap().clear();
            let fs = &report.file_systems[0];
            assert!(!fs.exists("/.stratafs/open").unwrap(), "{dir}");
        }
    }
}

/// A file without a name is kept whatever it was opened for.
#[test]
fn a_removed_file_that_is_only_written_to_goes_on() {
    let guest = guest(
        r#"(func (export "_start") (local $file i32)
          (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 0)
            (i64.const 0x200040) (i64.const 0) (i32.const 0) (i32.const 128)))
          (local.set $file (i32.load (i32.const 128)))
          (call $must (call $unlink (i32.const 3) (i32.const 16) (i32.const 4)))
          (drop (call $yield))
          (i32.store (i32.const 136) (i32.const 16))
          (i32.store (i32.const 140) (i32.const 1))
          (call $must (call $fd_write (local.get $file) (i32.const 136) (i32.const 1) (i32.const 144)))
          (call $must (call $fd_stat (local.get $file) (i32.const 512)))
          (if (i64.ne (i64.load (i32.const 544)) (i64.const 4)) (then unreachable)))"#,
    );
    let image = image_with(|fs| fs.write("/data", "four").unwrap());
    let written = Arc::default();
    for ran in go_on((&guest, &image), (&plan(&written), &written), |_| {}) {
        assert_eq!(ran.outcome, "exit code 0");
    }
}

/// A layer says nothing of a directory in which only a file was written to.
#[test]
fn directories_keep_their_times_where_a_file_in_them_was_written_to() {
    let guest = guest(
        r#"(func $time (param $name i32) (param $bytes i32) (result i64)
          (call $must (call $stat (i32.const 3) (i32.const 0) (local.get $name) (local.get $bytes) (i32.const 512)))
          (i64.load (i32.const 560)))
        (func (export "_start") (local $dir i64) (local $root i64)
          (call $must (call $path_open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 9) (i32.const 0)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 128)))
          (i32.store (i32.const 136) (i32.const 16))
          (i32.store (i32.const 140) (i32.const 1))
          (call $must (call $fd_write (i32.load (i32.const 128)) (i32.const 136) (i32.const 1) (i32.const 144)))
          (local.set $dir (call $time (i32.const 64) (i32.const 4)))
          (local.set $root (call $time (i32.const 48) (i32.const 1)))
          (drop (call $yield))
          (if (i64.ne (local.get $dir) (call $time (i32.const 64) (i32.const 4))) (then unreachable))
          (if (i64.ne (local.get $root) (call $time (i32.const 48) (i32.const 1))) (then unreachable)))"#,
    );
    let image = image_with(|fs| {
        fs.create_dir("/past").unwrap();
        fs.write("/past/data", "four").unwrap();
        let past = SetTime::To(Time::from_nanos(9_000_000_009));
        for dir in ["/past", "/"] {
            fs.set_times(dir, SetTime::Keep, past).unwrap();
        }
    });
    let written = Arc::default();
    for ran in go_on((&guest, &image), (&plan(&written), &written), |_| {}) {
        assert_eq!(ran.outcome, "exit code 0");
    }
}

/// What guests of this page import, and what they have in common.
const BEGINNING: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get"
    (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_stat (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "data    current v2      zero    .       null    past/data")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  ;; Opens a name of so many bytes below a directory, to be read.
  (func $open (param $dir i32) (param $name i32) (param $bytes i32) (param $flags i32) (result i32)
    (call $must (call $path_open (local.get $dir) (i32.const 0) (local.get $name) (local.get $bytes)
      (local.get $flags) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 128)))
    (i32.load (i32.const 128)))
  (func $close (param $fd i32) (call $must (call $fd_close (local.get $fd))))
  ;; Reads as many bytes and prints them.
  (func $print (param $fd i32) (param $bytes i32)
    (i32.store (i32.const 136) (i32.const 256))
    (i32.store (i32.const 140) (local.get $bytes))
    (call $must (call $fd_read (local.get $fd) (i32.const 136) (i32.const 1) (i32.const 144)))
    (call $must (call $fd_write (i32.const 1) (i32.const 136) (i32.const 1) (i32.const 144))))
"#;

fn guest(code: &str) -> Guest {
    Guest::from_bytes("guest", format!("{BEGINNING}{code})")).unwrap()
}

/// A guest goes on in the directory that it was shown, whatever led there, and whatever that leads
/// to since.
#[test]
fn a_directory_that_a_link_led_to_is_shown_again() {
    let guest = guest(
        r#"(func (export "_start") (local $file i32)
          (local.set $file (call $open (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 0)))
          (call $must (call $unlink (i32.const 4) (i32.const 24) (i32.const 7)))
          (call $must (call $symlink (i32.const 32) (i32.const 2) (i32.const 4) (i32.const 24) (i32.const 7)))
          (drop (call $yield))
          (call $print (local.get $file) (i32.const 3))
          (call $print (call $open (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 0)) (i32.const 3)))"#,
    );
    let image = image_with(|fs| {
        for (dir, data) in [("v1", "one"), ("v2", "two")] {
            fs.create_dir(format!("/{dir}")).unwrap();
            fs.write(format!("/{dir}/data"), data).unwrap();
        }
        fs.symlink("v1", "/current").unwrap();
    });
    for dir in ["/v1", "/current", "/current/.", "v2/../v1/"] {
        let written = Arc::default();
        let mut shown = plan(&written);
        let all = GuestDir {
            guest: "/all".into(),
            ..shown.preopens[0].clone()
        };
        shown.preopens[0].dir = dir.to_owned();
        shown.preopens.push(all);
        for ran in go_on((&guest, &image), (&shown, &written), |_| {}) {
            assert_eq!(ran.outcome, "exit code 0", "{dir}");
            assert_eq!(ran.text, "oneone", "{dir}");
        }
    }
}

/// Where the base has no devices, or is read-only, they lie in a file system of their own.
#[test]
fn devices_go_on_whose_directory_was_closed() {
    let guest = guest(
        r#"(func (export "_start") (local $zero i32) (local $dev i32)
          (local.set $zero (call $open (i32.const 4) (i32.const 40) (i32.const 4) (i32.const 0)))
          (local.set $dev (call $open (i32.const 4) (i32.const 48) (i32.const 1) (i32.const 2)))
          (call $close (i32.const 3))
          (call $close (i32.const 4))
          (drop (call $yield))
          (call $print (local.get $zero) (i32.const 2))
          (drop (call $open (local.get $dev) (i32.const 56) (i32.const 4) (i32.const 0))))"#,
    );
    let with_devices = image_with(|fs| fs.create_dir("/dev").unwrap());
    for (image, rights) in [
        (Image::empty(), Rights::ReadWrite),
        (with_devices, Rights::ReadOnly),
    ] {
        let written = Arc::default();
        let mut shown = plan(&written);
        (shown.furnished, shown.rights) = (true, rights);
        for ran in go_on((&guest, &image), (&shown, &written), |_| {}) {
            assert_eq!(ran.outcome, "exit code 0", "{rights:?}");
            assert_eq!(ran.text, "\0\0", "{rights:?}");
        }
    }
}

/// What goes on from `checkpoint` as an image has it, by a plan: the directory that is missing, and
/// what the guest came to.
fn gone_on(checkpoint: &Checkpoint, plan: &RunPlan) -> (Option<String>, String) {
    let tree = checkpoint.to_fs().unwrap().tree("/", &ChunkPool::new());
    let image = Image::new(&[tree.unwrap()]).unwrap();
    let opened = Checkpoint::open(&image).unwrap().unwrap();
    let runner = opened.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(opened.image(), plan).unwrap();
    let missing = opened.missing_dir(plan).map(str::to_owned);
    (missing, report.instances[0].outcome.to_string())
}

/// The devices' own directory stands for no other one that the guest was shown under its name.
#[test]
fn a_volume_that_was_shown_as_dev_has_to_be_given_again() {
    let guest = guest(
        r#"(func (export "_start")
          (drop (call $open (i32.const 4) (i32.const 16) (i32.const 4) (i32.const 0)))
          (drop (call $yield))
          (drop (call $open (i32.const 4) (i32.const 16) (i32.const 4) (i32.const 0))))"#,
    );
    let with_dev = image_with(|fs| fs.create_dir("/dev").unwrap());
    for image in [Image::empty(), with_dev] {
        let plain = RunPlan {
            furnished: true,
            ..plan(&Arc::default())
        };
        let mut shown = plain.clone();
        shown.volumes = vec![Volume {
            name: "v".into(),
            guest: "/dev".into(),
        }];
        let data = image_with(|fs| fs.write("/data", "vol").unwrap());
        shown.volume_bases = vec![("v".into(), data)];
        for checkpoint in two_generations(&guest, &image, &shown) {
            let (missing, outcome) = gone_on(&checkpoint, &shown);
            assert_eq!((missing, outcome.as_str()), (None, "exit code 0"));
            let (missing, outcome) = gone_on(&checkpoint, &plain);
            assert_eq!(missing.as_deref(), Some("/dev"));
            assert!(outcome.contains("\"/dev\" was shown"), "{outcome}");
        }
    }
}

/// Devices are missing where they do not have a directory of their own any more.
#[test]
fn devices_are_missing_where_a_run_shows_them_elsewhere() {
    let guest = guest(
        r#"(func (export "_start")
          (drop (call $open (i32.const 4) (i32.const 40) (i32.const 4) (i32.const 0)))
          (drop (call $yield)))"#,
    );
    let image = image_with(|fs| fs.create_dir("/dev").unwrap());
    let mut shown = plan(&Arc::default());
    (shown.furnished, shown.rights) = (true, Rights::ReadOnly);
    for checkpoint in two_generations(&guest, &image, &shown) {
        let (missing, outcome) = gone_on(&checkpoint, &shown);
        assert_eq!((missing, outcome.as_str()), (None, "exit code 0"));
        let mut writable = shown.clone();
        writable.rights = Rights::ReadWrite;
        let (missing, outcome) = gone_on(&checkpoint, &writable);
        assert_eq!(missing.as_deref(), Some("/dev"));
        assert!(outcome.contains("\"/dev\" was shown"), "{outcome}");
    }
}

/// What a run shows besides and the guest never had becomes no part of what is frozen next.
#[test]
fn directories_that_the_guest_never_had_are_not_needed_later() {
    let guest = guest(
        r#"(func (export "_start") (local $file i32)
          (local.set $file (call $open (i32.const 3) (i32.const 16) (i32.const 8) (i32.const 0)))
          (drop (call $yield))
          (call $print (local.get $file) (i32.const 3)))
          (data (i32.const 16) "a/b/file")"#,
    );
    let image = image_with(|fs| {
        fs.create_dir_all("/a/b").unwrap();
        fs.write("/a/b/file", "own").unwrap();
    });
    let written = Arc::default();
    let shown = plan(&written);
    let (config, point) = (
        RunnerConfig::default(),
        "call:sched_yield:1".parse().unwrap(),
    );
    let frozen = freeze(&guest, &image, &shown, &config, &point).unwrap();
    let Freezing::Frozen(first) = frozen else {
        panic!("it yields");
    };
    let mut more = shown.clone();
    more.preopens.push(GuestDir {
        dir: "/a/b".into(),
        guest: "/x".into(),
        rights: Rights::ReadWrite,
    });
    let frozen = first.freeze(first.image(), &more, &config, &point).unwrap();
    let Freezing::Frozen(second) = frozen else {
        panic!("it yields again");
    };
    assert_eq!(second.plan().preopens, first.plan().preopens);
    assert_eq!(second.table(), first.table());
    let (missing, outcome) = gone_on(&second, &shown);
    assert_eq!((missing, outcome.as_str()), (None, "exit code 0"));
    assert_eq!(*written.lock().unwrap(), b"own");
}

/// Its own files, those of a volume and those of the host.
#[test]
fn files_go_on_below_directories_that_were_closed() {
    let guest = guest(
        r#"(func (export "_start") (local $own i32) (local $volume i32) (local $host i32)
          (local.set $own (call $open (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 0)))
          (local.set $volume (call $open (i32.const 4) (i32.const 16) (i32.const 4) (i32.const 0)))
          (local.set $host (call $open (i32.const 5) (i32.const 16) (i32.const 4) (i32.const 0)))
          (call $close (i32.const 3))
          (call $close (i32.const 4))
          (call $close (i32.const 5))
          (drop (call $yield))
          (call $print (local.get $own) (i32.const 3))
          (call $print (local.get $volume) (i32.const 3))
          (call $print (local.get $host) (i32.const 3)))"#,
    );
    let with = |data: &str| image_with(|fs| fs.write("/data", data).unwrap());
    let host = tempfile::tempdir().unwrap();
    std::fs::write(host.path().join("data"), "hos").unwrap();
    let written = Arc::default();
    let mut shown = plan(&written);
    shown.volumes = vec![Volume {
        name: "v".into(),
        guest: "/vol".into(),
    }];
    shown.volume_bases = vec![("v".into(), with("vol"))];
    shown.host_dirs = vec![HostDir {
        dir: host.path().to_owned(),
        guest: "/side".into(),
        rights: Rights::ReadWrite,
    }];
    for ran in go_on((&guest, &with("own")), (&shown, &written), |_| {}) {
        assert_eq!(ran.outcome, "exit code 0");
        assert_eq!(ran.text, "ownvolhos");
    }
}

/// Objects of a volume have numbers that the guest's own have as well.
#[test]
fn what_is_open_is_not_looked_for_on_a_volume_that_is_mounted() {
    let guest = guest(
        r#"(func (export "_start") (local $file i32)
          (local.set $file (call $open (i32.const 3) (i32.const 40) (i32.const 4) (i32.const 0)))
          (drop (call $yield))
          (call $print (local.get $file) (i32.const 3)))"#,
    );
    let image = image_with(|fs| {
        fs.create_dir("/vol").unwrap();
        fs.write("/zero", "own").unwrap();
    });
    let volume = image_with(|fs| {
        for name in ["/a", "/b", "/c"] {
            fs.write(name, "vol").unwrap();
        }
    });
    let written = Arc::default();
    let mut shown = plan(&written);
    shown.volumes = vec![Volume {
        name: "v".into(),
        guest: "/vol".into(),
    }];
    shown.volume_bases = vec![("v".into(), volume)];
    for ran in go_on((&guest, &image), (&shown, &written), |_| {}) {
        assert_eq!(
            (ran.outcome.as_str(), ran.text.as_str()),
            ("exit code 0", "own")
        );
    }
}

/// Of two names of a file the one may lie below a directory that a volume is shown in place of: the
/// file of the volume that has this name is another one.
#[test]
fn a_file_keeps_its_number_beside_a_volume_that_hides_another_name_of_it() {
    let guest = guest(
        r#"(func $number (result i64)
          (call $must (call $stat (i32.const 3) (i32.const 0) (i32.const 40) (i32.const 4) (i32.const 512)))
          (i64.load (i32.const 520)))
        (func (export "_start") (local $number i64)
          (local.set $number (call $number))
          (drop (call $yield))
          (if (i64.ne (local.get $number) (call $number)) (then unreachable)))"#,
    );
    let image = image_with(|fs| {
        fs.create_dir("/data").unwrap();
        fs.write("/data/x", "own").unwrap();
        fs.hard_link("/data/x", "/zero").unwrap();
    });
    // There the name is of another object, or of none.
    let volumes = ["x", "y"].map(|last| {
        image_with(|fs| {
            for name in ["a", "b", "c", "d", last] {
                fs.write(format!("/{name}"), "vol").unwrap();
            }
        })
    });
    for volume in volumes {
        let written = Arc::default();
        let mut shown = plan(&written);
        shown.volumes = vec![Volume {
            name: "v".into(),
            guest: "/data".into(),
        }];
        shown.volume_bases = vec![("v".into(), volume)];
        for ran in go_on((&guest, &image), (&shown, &written), |_| {}) {
            assert_eq!(ran.outcome, "exit code 0");
        }
    }
}

/// An image that a store keeps is there without its layers.
#[cfg(feature = "store")]
#[test]
fn what_goes_on_over_an_image_of_a_store_has_all_of_it() {
    let guest = guest(
        r#"(func (export "_start") (local $file i32)
          (local.set $file (call $open (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 0)))
          (drop (call $yield))
          (call $print (local.get $file) (i32.const 3))
          (call $print (call $open (i32.const 3) (i32.const 40) (i32.const 4) (i32.const 0)) (i32.const 3)))"#,
    );
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let base = image_with(|fs| {
        fs.write("/data", "one").unwrap();
        fs.write("/zero", "two").unwrap();
    });
    import.layer(base.layers()[0].clone(), LayerOrigin::new());
    import
        .commit(ImageConfig::default(), Some("base:1"))
        .unwrap();
    let image = store.image("base:1").unwrap();
    assert!(image.layers().is_empty());
    let written = Arc::default();
    let shown = plan(&written);
    let point = "call:sched_yield:1".parse().unwrap();
    let frozen = freeze(&guest, &image, &shown, &RunnerConfig::default(), &point);
    let Freezing::Frozen(checkpoint) = frozen.unwrap() else {
        panic!("it yields");
    };
    let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(checkpoint.image(), &shown).unwrap();
    let ran = ran(&written, &report.instances[0].outcome);
    assert_eq!(
        (ran.outcome.as_str(), ran.text.as_str()),
        ("exit code 0", "onetwo")
    );
}
