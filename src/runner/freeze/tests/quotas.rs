//! What was written before the point counts against no quota of what goes on from there.

use super::yielding::{go_on, image_with};
use super::*;

/// A link that the guest made is its own behind the point, also where it may change nothing.
#[test]
fn links_that_the_guest_made_take_nothing_of_a_quota() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_symlink"
        (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "../xl")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $through (result i32)
        (call $open (i32.const 3) (i32.const 1) (i32.const 20) (i32.const 1) (i32.const 0) (i64.const 2)
          (i64.const 0) (i32.const 0) (i32.const 64)))
      (func (export "_start") (local $was i32)
        (call $must (i32.eqz (call $symlink (i32.const 16) (i32.const 4) (i32.const 3) (i32.const 20)
          (i32.const 1))))
        ;; It climbs, which is refused where one of a layer would end at the root.
        (local.set $was (call $through))
        (call $must (local.get $was))
        (call $must (i32.ne (local.get $was) (i32.const 44)))
        (drop (call $yield))
        (call $must (i32.eq (local.get $was) (call $through)))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let written = Arc::default();
    let shown = plan(&written);
    let nothing = |plan: &mut RunPlan| {
        plan.quota.max_changed = 0;
        (plan.quota.max_inodes, plan.quota.max_bytes) = (0, 0);
    };
    for ran in go_on((&guest, &Image::empty()), (&shown, &written), nothing) {
        assert_eq!(ran.outcome, "exit code 0");
    }
}

/// The names that removed files have in a checkpoint are taken away by the host.
#[test]
fn what_the_host_takes_away_takes_nothing_of_a_quota() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_set_times"
        (func $set (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "abf")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $touch (param $name i32) (result i32)
        (call $set (i32.const 3) (i32.const 0) (local.get $name) (i32.const 1) (i64.const 0)
          (i64.const 1000) (i32.const 4)))
      (func (export "_start")
        (call $must (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 18) (i32.const 1) (i32.const 9)
          (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 64))))
        (call $must (i32.eqz (call $unlink (i32.const 3) (i32.const 18) (i32.const 1))))
        (drop (call $yield))
        (call $must (i32.eqz (call $touch (i32.const 16))))
        ;; There is no room for a second one.
        (call $must (i32.eq (call $touch (i32.const 17)) (i32.const 51)))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let image = image_with(|fs| {
        fs.write("/a", "").unwrap();
        fs.write("/b", "").unwrap();
    });
    let written = Arc::default();
    let shown = plan(&written);
    let one = |plan: &mut RunPlan| plan.quota.max_changed = 1;
    for ran in go_on((&guest, &image), (&shown, &written), one) {
        assert_eq!(ran.outcome, "exit code 0");
    }
}
