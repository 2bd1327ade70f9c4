//! Guests that are frozen at each of their calls and go on as if nothing had been.

mod at_rest;
mod by_hand;
mod clocks;
mod constructs;
mod generations;
mod large_tables;
mod never_null;
mod places;
mod points;
mod quotas;
mod random;
mod refusals;
mod yielding;

use std::sync::{Arc, Mutex};

use super::{Checkpoint, FreezeError, Freezing, Point, StopSignal, freeze};
use crate::image::Image;
use crate::limits::MAX_CHECKPOINT_MEMORY;
use crate::runner::{
    Guest, GuestDir, Outcome, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream,
};
use crate::vfs::Rights;

/// What a guest wrote and how it ended.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    text: String,
    /// Without the backtrace: the offsets in it are those of another binary.
    outcome: String,
}

fn ran(written: &Mutex<Vec<u8>>, outcome: &Outcome) -> Ran {
    Ran {
        text: String::from_utf8(written.lock().unwrap().clone()).unwrap(),
        outcome: outcome.to_string(),
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

fn plan(written: &Arc<Mutex<Vec<u8>>>) -> RunPlan {
    let written = Arc::clone(written);
    RunPlan {
        tell_number: false,
        preopens: vec![GuestDir {
            dir: "/".into(),
            guest: "/".into(),
            rights: Rights::ReadWrite,
        }],
        stdio: Stdio::Collect(Arc::new(Sink(written))),
        ..RunPlan::default()
    }
}

fn whole(guest: &Guest) -> Ran {
    let written = Arc::default();
    let runner = Runner::new(guest, RunnerConfig::default()).unwrap();
    let report = runner.run(&Image::empty(), &plan(&written)).unwrap();
    ran(&written, &report.instances[0].outcome)
}

/// Runs a guest that is frozen at a point; `None` if it does not come there.
fn in_two(guest: &Guest, point: &Point) -> Option<Ran> {
    let written = Arc::default();
    let plan_before = plan(&written);
    let frozen = freeze(
        guest,
        &Image::empty(),
        &plan_before,
        &RunnerConfig::default(),
        point,
    );
    let Freezing::Frozen(checkpoint) = frozen.unwrap_or_else(|error| panic!("{point}: {error}"))
    else {
        return None;
    };
    if let Ok(dir) = std::env::var("STRATAFS_KEEP_CHECKPOINTS") {
        std::fs::write(format!("{dir}/{point}.wasm"), checkpoint.module().unwrap()).unwrap();
    }
    let runner = checkpoint.runner(RunnerConfig::default());
    let runner = runner.unwrap_or_else(|error| panic!("{point}: {error}"));
    let report = runner.run(checkpoint.image(), &plan(&written)).unwrap();
    Some(ran(&written, &report.instances[0].outcome))
}

/// Freezes a guest at each call of a function, and returns how many there were.
fn at_each(wat: &str, function: &str) -> u64 {
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let want = whole(&guest);
    for nth in 1.. {
        let point = Point::Call {
            function: function.into(),
            nth,
        };
        match in_two(&guest, &point) {
            Some(ran) => assert_eq!(ran, want, "{point}"),
            None => return nth - 1,
        }
    }
    0
}

/// A command around functions that print a digit.
fn command(body: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (global $printed (mut i32) (i32.const 0))
          (func $print (param $digit i32)
            (i32.store8 (i32.const 100) (i32.add (i32.const 48) (local.get $digit)))
            (i32.store (i32.const 0) (i32.const 100))
            (i32.store (i32.const 4) (i32.const 1))
            (global.set $printed (i32.add (global.get $printed) (i32.const 1)))
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))
              (then unreachable)))
          (func $said (param $digit i32) (result i32)
            (call $print (local.get $digit)) (local.get $digit))
          {body})"#
    )
}

#[test]
fn straight_code_goes_on() {
    let wat = command(
        r#"(func (export "_start")
             (call $print (i32.const 1)) (call $print (i32.const 2)) (call $print (global.get $printed)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 3);
}

#[test]
fn operands_of_all_blocks_are_kept() {
    let wat = command(
        r#"(func (export "_start") (local $i i32)
             (call $print
               (i32.add (i32.const 1)
                 (i32.mul (i32.const 2)
                   (block (result i32)
                     (i32.add (call $said (i32.const 1))
                       (if (result i32) (call $said (i32.const 1))
                         (then (i32.sub (i32.const 3) (call $said (i32.const 2))))
                         (else (call $said (i32.const 9))))))))) )"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 4);
}

#[test]
fn loops_are_entered_in_the_middle() {
    let wat = command(
        r#"(func $row (param $n i32) (result i32) (local $j i32) (local $sum i32)
             (loop $again
               (block $skip
                 (br_if $skip (i32.eq (local.get $j) (i32.const 1)))
                 (local.set $sum (i32.add (local.get $sum) (call $said (local.get $j)))))
               (local.set $j (i32.add (local.get $j) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $j) (local.get $n))))
             (local.get $sum))
           (func (export "_start") (local $i i32)
             (block $done
               (loop $again
                 (br_if $done (i32.eq (local.get $i) (i32.const 4)))
                 (call $print (call $row (local.get $i)))
                 (block $b3 (block $b2 (block $b1
                   (br_table $b1 $b2 $b3 (local.get $i)))
                   (call $print (i32.const 7)))
                   (if (i32.eq (local.get $i) (i32.const 1))
                     (then (call $print (i32.const 8)))
                     (else (call $print (i32.const 5)))))
                 (local.set $i (i32.add (local.get $i) (i32.const 1)))
                 (br $again)))
             (call $exit (i32.const 42)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 12);
}

#[test]
fn loops_and_blocks_with_parameters_go_on() {
    let wat = command(
        r#"(func $count (param $n i32) (result i32 i64)
             (i32.const 0) (i64.const 5)
             (loop $again (param i32 i64) (result i32 i64)
               (local.get $n)
               (call $said)
               (if (param i32 i64) (result i32 i64)
                 (then
                   (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                   (i64.const 1) (i64.add)
                   (call $print (local.get $n))
                   (br $again))
                 (else (call $print (i32.const 9))))))
           (func (export "_start")
             (call $count (i32.const 3)) (i32.wrap_i64) (call $print) (drop))"#,
    );
    assert!(at_each(&wat, "fd_write") > 7);
}

#[test]
fn recursion_through_tables_and_tail_calls_goes_on() {
    let wat = command(
        r#"(type $f (func (param i32) (result i32)))
           (table $t 2 funcref)
           (elem (i32.const 0) $fib $tail)
           (func $fib (type $f)
             (call $print (local.get 0))
             (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
               (then (local.get 0))
               (else (i32.add
                 (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 1)) (i32.const 0))
                 (call_indirect (type $f) (i32.sub (local.get 0) (i32.const 2)) (i32.const 0))))))
           (func $tail (type $f)
             (call $print (i32.const 6))
             (return_call_indirect (type $f) (local.get 0) (i32.const 0)))
           (func (export "_start")
             (call $print (call_indirect (type $f) (i32.const 5) (i32.const 1)))
             (return_call $print (i32.const 3)))"#,
    );
    assert!(at_each(&wat, "fd_write") > 16);
}

#[test]
fn exceptions_find_their_handlers() {
    let wat = command(
        r#"(tag $e (param i32))
           (func $throws (param i32) (result i32)
             (call $print (i32.const 1))
             (if (local.get 0) (then (throw $e (call $said (i32.const 4)))))
             (i32.const 2))
           (func (export "_start") (local $i i32)
             (loop $again
               (call $print
                 (block $caught (result i32)
                   (try_table (result i32) (catch $e $caught)
                     (i32.add (call $said (i32.const 1)) (call $throws (local.get $i))))))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 3)))))"#,
    );
    assert!(at_each(&wat, "fd_write") > 9);
}

#[test]
fn vectors_floats_references_tables_and_segments_are_kept() {
    let wat = command(
        r#"(type $f (func))
           (table $t 1 10 funcref)
           (elem $own func $a $b)
           (data $d "\01\02\03")
           (func $a (call $print (i32.const 1)))
           (func $b (call $print (i32.const 2)))
           (func (export "_start") (local $v v128) (local $x f64) (local $r funcref) (local $nan f32)
             (local.set $v (v128.const i32x4 1 2 3 4))
             (local.set $x (f64.const 0.5))
             (local.set $nan (f32.reinterpret_i32 (i32.const 0x7fc00123)))
             (local.set $r (ref.func $b))
             (table.init $t $own (i32.const 0) (i32.const 0) (i32.const 1))
             (elem.drop $own)
             (memory.init $d (i32.const 200) (i32.const 0) (i32.const 3))
             (call_indirect $t (type $f) (i32.const 0))
             (drop (table.grow $t (local.get $r) (i32.const 2)))
             (call_indirect $t (type $f) (i32.const 2))
             (data.drop $d)
             (table.set $t (i32.const 0) (local.get $r))
             (call $print (i32x4.extract_lane 2 (local.get $v)))
             (call_indirect $t (type $f) (i32.const 0))
             (call $print (i32.trunc_f64_s (f64.mul (local.get $x) (f64.const 8))))
             (call $print (i32.eq (i32.reinterpret_f32 (local.get $nan)) (i32.const 0x7fc00123)))
             (call $print (table.size $t))
             (call $print (i32.load8_u (i32.const 202)))
             (memory.init $d (i32.const 200) (i32.const 0) (i32.const 3)))"#,
    );
    assert!(at_each(&wat, "fd_write") > 7);
}

/// Code may name a function because a global or a table held it at the start.
#[test]
fn functions_that_were_held_at_the_start_are_named_for_good() {
    let wat = command(
        r#"(type $f (func))
           (global $g (mut funcref) (ref.func $a))
           (table $t 1 funcref (ref.func $b))
           (func $a (call $print (i32.const 1)))
           (func $b (call $print (i32.const 2)))
           (func (export "_start")
             (global.set $g (ref.null func))
             (table.set $t (i32.const 0) (ref.null func))
             (call $print (i32.const 0))
             (table.set $t (i32.const 0) (ref.func $a))
             (call_indirect $t (type $f) (i32.const 0))
             (global.set $g (ref.func $b))
             (table.set $t (i32.const 0) (global.get $g))
             (call_indirect $t (type $f) (i32.const 0)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 3);
    let wat = command(
        r#"(global $g (mut funcref) (ref.func $a))
           (func $a (call $print (i32.const 1)))
           (func (export "_start")
             (global.set $g (ref.null func))
             (call $print (i32.const 0))
             (global.set $g (ref.func $a))
             (call $print (ref.is_null (global.get $g))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 2);
}

/// Freezes a guest twice: what goes on from one call is stopped at the next one.
#[test]
fn what_goes_on_can_be_frozen_again() {
    let wat = command(
        r#"(func (export "_start") (local $i i32)
             (loop $again
               (call $print (i32.add (local.get $i) (call $said (i32.const 1))))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 4)))))"#,
    );
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let want = whole(&guest);
    let mut module = guest.wasm().unwrap().into_owned();
    let mut text = String::new();
    let (config, second) = (
        RunnerConfig::default(),
        Point::Call {
            function: "fd_write".into(),
            nth: 2,
        },
    );
    let mut generations = 0;
    loop {
        let written = Arc::default();
        let guest = Guest::from_bytes("guest", module.clone()).unwrap();
        let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &second).unwrap();
        text += &ran(&written, &Outcome::Exited(0)).text;
        match frozen {
            Freezing::Frozen(checkpoint) => module = checkpoint.module().unwrap().to_vec(),
            Freezing::Ended(outcome) => {
                assert_eq!(outcome.to_string(), want.outcome);
                break;
            }
        }
        generations += 1;
    }
    assert_eq!((text, generations), (want.text, 7));
}

/// Raises a signal when the third byte is written.
struct ThirdByte(Sink, StopSignal);

impl OutputSink for ThirdByte {
    fn write(&self, instance: u32, stream: Stream, bytes: &[u8]) {
        self.0.write(instance, stream, bytes);
        if self.0.0.lock().unwrap().len() == 3 {
            self.1.raise();
        }
    }
}

#[test]
fn a_signal_stops_a_guest_in_its_middle_and_branches_go_on() {
    let print = "(call $print (local.get 0)) (local.set 0 (i32.add (local.get 0) (i32.const 1)))";
    let wat = command(&format!(
        r#"(func (export "_start") (local i32) (loop {print} (br_if 0 (i32.lt_u (local.get 0) (i32.const 9)))))"#
    ));
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, signal) = (Arc::default(), StopSignal::new());
    let sink = ThirdByte(Sink(Arc::clone(&written)), signal.clone());
    let mut before = plan(&written);
    // Passed on at once, not when the guest has ended.
    before.stdio = Stdio::Forward(Arc::new(sink));
    let point = Point::Signal(signal);
    let config = RunnerConfig::default;
    let frozen = freeze(&guest, &Image::empty(), &before, &config(), &point).unwrap();
    let Freezing::Frozen(checkpoint) = frozen else {
        panic!("it ended");
    };
    assert_eq!(*written.lock().unwrap(), *b"012");
    assert_eq!(checkpoint.info().point, "signal");
    let runner = checkpoint.runner(config()).unwrap();
    let branches = (0..4).map(|_| {
        let written = Arc::default();
        let report = runner.run(checkpoint.image(), &plan(&written)).unwrap();
        ran(&written, &report.instances[0].outcome)
    });
    for branch in branches {
        assert_eq!(branch.text, "345678", "{branch:?}");
    }
    // One that is never raised stops nobody.
    let point = Point::Signal(StopSignal::new());
    assert_eq!(in_two(&guest, &point), None);
}

/// In the image of a checkpoint the two files are numbered the other way round.
#[test]
fn a_guest_finds_the_inode_numbers_that_it_knows() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "ba")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $make (param $name i32)
        (call $must (i32.eqz (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 1)
          (i32.const 1) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 8)))))
      (func $number (param $name i32) (result i64)
        (call $must (i32.eqz (call $stat (i32.const 3) (i32.const 0) (local.get $name) (i32.const 1)
          (i32.const 64))))
        (i64.load (i32.const 72)))
      (func (export "_start") (local $b i64) (local $a i64)
        (call $make (i32.const 16))
        (call $make (i32.const 17))
        (local.set $b (call $number (i32.const 16)))
        (local.set $a (call $number (i32.const 17)))
        (call $must (i64.lt_u (local.get $b) (local.get $a)))
        (drop (call $yield))
        (call $must (i64.eq (local.get $b) (call $number (i32.const 16))))
        (call $must (i64.eq (local.get $a) (call $number (i32.const 17))))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let point = Point::Call {
        function: "sched_yield".into(),
        nth: 1,
    };
    assert_eq!(in_two(&guest, &point).unwrap().outcome, "exit code 0");
}

/// In the image of a checkpoint both are the time of modification.
#[test]
fn times_of_access_and_of_change_are_told_until_they_change() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_create_directory"
        (func $make (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_set_times"
        (func $set (param i32 i32 i32 i32 i64 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "d")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $look
        (call $must (i32.eqz (call $stat (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1)
          (i32.const 64)))))
      (func $access (param $time i64)
        (call $must (i32.eqz (call $set (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1)
          (local.get $time) (i64.const 2000) (i32.const 5)))))
      (func (export "_start") (local $changed i64)
        (call $must (i32.eqz (call $make (i32.const 3) (i32.const 16) (i32.const 1))))
        (call $access (i64.const 1000))
        (call $look)
        (local.set $changed (i64.load (i32.const 120)))
        (drop (call $yield))
        (call $look)
        (call $must (i64.eq (i64.load (i32.const 104)) (i64.const 1000)))
        (call $must (i64.eq (i64.load (i32.const 112)) (i64.const 2000)))
        (call $must (i64.eq (i64.load (i32.const 120)) (local.get $changed)))
        ;; The time of access that the image has is another one for the guest.
        (call $access (i64.const 2000))
        (call $look)
        (call $must (i64.eq (i64.load (i32.const 104)) (i64.const 2000)))
        (call $must (i64.ge_u (i64.load (i32.const 120)) (local.get $changed)))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let point = Point::Call {
        function: "sched_yield".into(),
        nth: 1,
    };
    assert_eq!(in_two(&guest, &point).unwrap().outcome, "exit code 0");
}

#[test]
fn a_memory_past_the_bound_is_refused() {
    let pages = |bytes: u64| bytes / 65_536;
    let wat = |pages: u64| {
        format!(
            r#"(module
              (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
              (memory (export "memory") {pages})
              (func (export "_start") (drop (call $yield))))"#
        )
    };
    let point = Point::Call {
        function: "sched_yield".into(),
        nth: 1,
    };
    let frozen = |wat: String| {
        let guest = Guest::from_bytes("guest", wat).unwrap();
        let written = Arc::default();
        let config = RunnerConfig::default();
        freeze(&guest, &Image::empty(), &plan(&written), &config, &point)
    };
    let error = frozen(wat(pages(MAX_CHECKPOINT_MEMORY) + 1)).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot freeze: memory 0 has "),
        "{error}"
    );
    assert!(frozen(wat(pages(MAX_CHECKPOINT_MEMORY) / 64)).is_ok());
}

/// A function that calls itself as often as it is told, then yields; it has `padding` in it.
fn recursion(depth: u32, locals: u32, padding: &str) -> Guest {
    let locals = "i64 ".repeat(locals as usize);
    let wat = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
          (memory (export "memory") 1)
          (func $down (param $n i32) (local {locals})
            (if (local.get $n)
              (then (call $down (i32.sub (local.get $n) (i32.const 1))))
              (else (drop (call $yield))))
            {padding})
          (func (export "_start") (call $down (i32.const {depth}))))"#
    );
    Guest::from_bytes("guest", wat).unwrap()
}

fn frozen_in_recursion(guest: &Guest) -> Result<Freezing, FreezeError> {
    let point = Point::Call {
        function: "sched_yield".into(),
        nth: 1,
    };
    let (written, config) = (Arc::default(), RunnerConfig::default());
    freeze(guest, &Image::empty(), &plan(&written), &config, &point)
}

#[test]
fn a_stack_whose_code_or_frames_are_too_large_is_refused() {
    assert!(frozen_in_recursion(&recursion(500, 1, "")).is_ok());
    // 128 KiB of code in each of 3,000 frames.
    let padding = "(drop (i32.const 1000000))".repeat(131_072 / 5);
    let error = frozen_in_recursion(&recursion(3000, 1, &padding)).unwrap_err();
    assert!(
        error.to_string().contains("the stack is too deep"),
        "{error}"
    );
    // 64 MiB of locals, which nobody sets.
    let error = frozen_in_recursion(&recursion(3000, 3000, "")).unwrap_err();
    assert!(error.to_string().contains("cannot be left"), "{error}");
}

#[test]
fn calls_above_too_many_operands_are_refused() {
    let wat = |operands: usize| {
        let pushed = "(i32.const 1)".repeat(operands);
        let dropped = "(drop)".repeat(operands);
        format!(
            r#"(module
              (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
              (memory (export "memory") 1)
              (func (export "_start") {pushed} (drop (call $yield)) {dropped}))"#
        )
    };
    let guest = |operands| Guest::from_bytes("guest", wat(operands)).unwrap();
    assert!(frozen_in_recursion(&guest(999)).is_ok());
    let error = frozen_in_recursion(&guest(1001)).unwrap_err().to_string();
    assert!(
        error.contains("function 1 at offset 0x") && error.contains("1000 operands"),
        "{error}"
    );
}
