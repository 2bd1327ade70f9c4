//! A session each: one frozen guest, thawed again and again from a pool of memories.
//!
//! `cargo run --release --features freeze --example thaw_pool -- 1000`
//!
//! The guest takes its time to get ready and then asks for `/job`; there it is frozen, once. Each
//! session after that is an instance of its own that finds its own job. The engine keeps
//! memories and tables of instances ready: a session maps nothing and copies nothing but what
//! it writes to.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Allocator, GivenFile, Guest, GuestDir, RunPlan, RunnerConfig, Stdio};
use stratafs::runner::{OutputSink, Stream};
use stratafs::vfs::Rights;

/// Counts for a long time, and then says the last digit of that and the job that it finds.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (data (i32.const 100) "job")
  (func (export "_start") (local $count i64)
    (loop $ready
      (local.set $count (i64.add (local.get $count) (i64.const 1)))
      (i64.store (i32.const 65536) (local.get $count))
      (br_if $ready (i64.lt_u (local.get $count) (i64.const 300000007))))
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 3) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
    (i32.store (i32.const 0) (i32.const 201))
    (i32.store (i32.const 4) (i32.const 100))
    (if (call $read (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8))
      (then unreachable))
    (i32.store8 (i32.const 200)
      (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (i64.load (i32.const 65536)) (i64.const 10)))))
    (i32.store (i32.const 0) (i32.const 200))
    (i32.store (i32.const 4) (i32.add (i32.const 1) (i32.load (i32.const 8))))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

/// What a session said, and how many there were.
#[derive(Default)]
struct Answers {
    last: Mutex<Vec<u8>>,
    count: AtomicU64,
}

impl OutputSink for Answers {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        if let Ok(mut last) = self.last.lock() {
            *last = bytes.to_vec();
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let sessions: u32 = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1000,
    };
    let guest = Guest::from_bytes("sessions", GUEST)?;
    let config = RunnerConfig::default();
    let mut plan = RunPlan::default();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let begun = Instant::now();
    let point = Point::Path("/job".into());
    let frozen = freeze(&guest, &Image::empty(), &plan, &config, &point)?;
    let Freezing::Frozen(checkpoint) = frozen else {
        return Err("the guest ended before it asked for its job".into());
    };
    let runner = checkpoint.runner(config)?;
    println!("ready after {:?}", begun.elapsed());
    if let Allocator::OnDemand { reason } = runner.allocator() {
        println!("no pool of memories: {reason}");
    }

    let answers = Arc::new(Answers::default());
    let begun = Instant::now();
    for session in 0..sessions {
        let mut plan = checkpoint.plan();
        plan.stdio = Stdio::Collect(Arc::clone(&answers) as Arc<dyn OutputSink>);
        plan.files = vec![GivenFile {
            path: "/job".into(),
            bytes: format!(" sessions before: {session}").into_bytes(),
        }];
        let report = runner.run(checkpoint.image(), &plan)?;
        if let Some(failed) = report.failed().next() {
            return Err(format!("session {session}: {}", failed.outcome).into());
        }
        let expected = format!("7 sessions before: {session}");
        if answers
            .last
            .lock()
            .is_ok_and(|said| *said != expected.as_bytes())
        {
            return Err(format!("session {session} said something else").into());
        }
    }
    let each = begun.elapsed() / sessions.max(1);
    let count = answers.count.load(Ordering::Relaxed);
    println!("{count} sessions, {each:?} each");
    Ok(())
}
