//! Where what is open is found again.

use super::*;

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
    for dir in ["/", "/srv", "/srv/deep"] {
        let base = crate::vfs::Fs::new(&Image::empty());
        base.create_dir_all("/srv/deep").unwrap();
        let layer = base.diff(&crate::chunk::ChunkPool::new()).unwrap();
        let image = Image::new(&[layer]).unwrap();
        let written = Arc::default();
        let mut shown = plan(&written);
        shown.keep_file_systems = true;
        shown.preopens[0].dir = dir.to_owned();
        let config = RunnerConfig::default();
        let point = "call:sched_yield:1".parse().unwrap();
        let frozen = freeze(&guest, &image, &shown, &config, &point);
        let Freezing::Frozen(checkpoint) = frozen.unwrap() else {
            panic!("it yields");
        };
        // As it lies in an image, and frozen once more.
        let layer = checkpoint
            .to_fs()
            .unwrap()
            .diff(&crate::chunk::ChunkPool::new());
        let kept = Image::new(&[image.layers(), &[layer.unwrap()]].concat()).unwrap();
        let checkpoint = Checkpoint::open(&kept).unwrap().unwrap();
        let again = "call:fd_write:1".parse().unwrap();
        let again = checkpoint.freeze(checkpoint.image(), &shown, &config, &again);
        let Freezing::Frozen(again) = again.unwrap() else {
            panic!("it writes");
        };
        for checkpoint in [checkpoint, again] {
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
