//! Branches of a guest that runs: it is frozen in its middle when the host says so, goes on, and
//! four others go on from the same point.
//!
//! `cargo run --release --features freeze --example branch_live`
//!
//! The guest walks at random: a step left or right for each byte that it draws, and notes each
//! tenth place in `/walk`. Each branch draws bytes of its own, so they part where they were frozen.

use std::error::Error;
use std::thread;
use std::time::Duration;

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, StopSignal, freeze};
use stratafs::runner::{Guest, GuestDir, RunPlan, RunnerConfig};
use stratafs::vfs::Rights;

/// Makes a million steps.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "walk")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func (export "_start") (local $step i32) (local $place i32)
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4) (i32.const 9)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 16)))
    (i32.store (i32.const 0) (i32.const 32))
    (i32.store (i32.const 4) (i32.const 4))
    (loop $walk
      (call $must (call $random (i32.const 48) (i32.const 1)))
      (local.set $place (i32.add (local.get $place)
        (select (i32.const 1) (i32.const -1) (i32.and (i32.const 1) (i32.load8_u (i32.const 48))))))
      (local.set $step (i32.add (local.get $step) (i32.const 1)))
      (if (i32.eqz (i32.rem_u (local.get $step) (i32.const 10)))
        (then
          (i32.store (i32.const 32) (local.get $place))
          (call $must (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))))
      (br_if $walk (i32.lt_u (local.get $step) (i32.const 1000000))))))"#;

fn main() -> Result<(), Box<dyn Error>> {
    let guest = Guest::from_bytes("walk", GUEST)?;
    let config = RunnerConfig::default();
    let mut plan = RunPlan::default();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let signal = StopSignal::new();
    let later = signal.clone();
    thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        later.raise();
    });
    let frozen = freeze(
        &guest,
        &Image::empty(),
        &plan,
        &config,
        &Point::Signal(signal),
    )?;
    let Freezing::Frozen(checkpoint) = frozen else {
        return Err("the guest ended before it was to be frozen".into());
    };
    let so_far = stratafs::vfs::Fs::new(checkpoint.image()).read("/walk")?;
    println!("frozen after {} noted places", so_far.len() / 4);

    let mut plan = checkpoint.plan();
    plan.instances = 5;
    plan.keep_file_systems = true;
    let report = checkpoint.runner(config)?.run(checkpoint.image(), &plan)?;
    if let Some(failed) = report.failed().next() {
        return Err(format!("branch {}: {}", failed.instance, failed.outcome).into());
    }
    for (branch, fs) in report.file_systems.iter().enumerate() {
        let walk = fs.read("/walk")?;
        let is_same_way = walk.starts_with(&so_far);
        let (places, _) = walk.as_chunks::<4>();
        let last = places.last().map(|place| i32::from_le_bytes(*place));
        let who = match branch {
            0 => "it goes on".to_owned(),
            other => format!("branch {other}"),
        };
        println!(
            "{who}: {} places, the same way up to the point: {is_same_way}, ends at {last:?}",
            places.len()
        );
    }
    Ok(())
}
