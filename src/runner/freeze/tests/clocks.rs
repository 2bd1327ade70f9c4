//! What clocks show to a guest that goes on.

use std::sync::Arc;

use super::{in_two, plan};
use crate::image::Image;
use crate::meta::Time;
use crate::runner::freeze::{Freezing, Point, freeze};
use crate::runner::{Guest, RunnerConfig};

#[test]
fn the_monotonic_clock_goes_on() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start") (local $before i64)
        (drop (call $time (i32.const 1) (i64.const 0) (i32.const 16)))
        (local.set $before (i64.load (i32.const 16)))
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))
        (drop (call $time (i32.const 1) (i64.const 0) (i32.const 16)))
        (if (i64.lt_u (i64.load (i32.const 16)) (local.get $before)) (then unreachable))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let point = Point::Call {
        function: "fd_write".into(),
        nth: 1,
    };
    assert_eq!(in_two(&guest, &point).unwrap().outcome, "exit code 0");
}

/// A host whose clock is an hour behind shows no earlier times than were shown already.
#[test]
fn the_wall_clock_does_not_go_back() {
    let now = Time::now().as_nanos_clamped();
    let hour = 3_600_000_000_000;
    for (frozen_at, at_least) in [(now + hour, now + hour), (now - hour, now)] {
        let wat = format!(
            r#"(module
      (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "clock_res_get" (func $resolution (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (import "wasi_snapshot_preview1" "path_create_directory"
        (func $make (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 8) "d")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $is_now (param $time i64)
        (call $must (i64.ge_u (local.get $time) (i64.const {at_least})))
        (call $must (i64.lt_u (local.get $time) (i64.const {end}))))
      (func (export "_start")
        (drop (call $yield))
        (call $must (i32.eqz (call $time (i32.const 0) (i64.const 0) (i32.const 16))))
        (call $is_now (i64.load (i32.const 16)))
        (call $must (i32.eqz (call $resolution (i32.const 0) (i32.const 16))))
        (call $must (i64.lt_u (i64.load (i32.const 16)) (i64.const 1000000)))
        (call $must (i32.eqz (call $make (i32.const 3) (i32.const 8) (i32.const 1))))
        (call $must (i32.eqz (call $stat (i32.const 3) (i32.const 0) (i32.const 8) (i32.const 1)
          (i32.const 64))))
        (call $is_now (i64.load (i32.const 104)))))"#,
            end = at_least + hour / 2
        );
        let guest = Guest::from_bytes("guest", wat).unwrap();
        let (written, config) = (Arc::default(), RunnerConfig::default());
        let point = "call:sched_yield:1".parse().unwrap();
        let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
        let Freezing::Frozen(mut checkpoint) = frozen.unwrap() else {
            panic!("it comes to the point");
        };
        Arc::get_mut(&mut checkpoint.0).unwrap().info.wall_ns = frozen_at;
        let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
        let report = runner.run(checkpoint.image(), &plan(&written)).unwrap();
        let outcome = report.instances[0].outcome.to_string();
        assert_eq!(outcome, "exit code 0", "{at_least}");
        // Nor does it where it is frozen once more, on the host that is behind.
        let again = "call:path_create_directory:1".parse().unwrap();
        let again = checkpoint.freeze(checkpoint.image(), &plan(&written), &config, &again);
        let Freezing::Frozen(again) = again.unwrap() else {
            panic!("it comes to the second point");
        };
        let wall = again.info().wall_ns;
        assert!(wall >= at_least && wall < at_least + hour / 2, "{wall}");
    }
}
