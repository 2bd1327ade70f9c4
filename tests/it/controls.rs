//! Runs under the control of their host: stopped, paused, side by side, with streams of its own.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use stratafs::image::Image;
use stratafs::runner::{
    Guest, Outcome, RunControl, RunPlan, RunReport, Runner, RunnerConfig, RunnerError,
    StandardStreams, Stdio,
};
use wasmtime_wasi::cli::{StdinStream, StdoutStream};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

use crate::support::script::Script;

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(60);

fn runner(text: &str, threads: u32) -> Runner {
    let guest = Guest::from_bytes("guest", text.as_bytes()).unwrap();
    let mut config = RunnerConfig::default();
    config.controllable = true;
    config.threads = threads;
    Runner::new(&guest, config).unwrap()
}

fn plan(control: &RunControl) -> RunPlan {
    let mut plan = RunPlan::default();
    plan.args = vec!["guest".into()];
    plan.control = Some(control.clone());
    plan
}

fn outcome(report: Result<RunReport, RunnerError>) -> Outcome {
    report.unwrap().instances.remove(0).outcome
}

/// Waits until a guest has its memory, and so runs.
fn until_started(control: &RunControl) {
    let start = Instant::now();
    while control.memory_bytes() == 0 {
        assert!(start.elapsed() < LONG, "the guest does not start");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_run_is_stopped_in_its_own_code_and_where_it_waits() {
    for script in [Script::new().spin(), Script::new().sleep(100)] {
        let runner = runner(&script.wat(), 1);
        let control = RunControl::default();
        let start = Instant::now();
        let ended = thread::scope(|scope| {
            let run = scope.spawn(|| runner.run(&Image::empty(), &plan(&control)));
            until_started(&control);
            control.stop();
            run.join().unwrap()
        });
        assert_eq!(outcome(ended), Outcome::Stopped);
        assert!(start.elapsed() < LONG);
        assert_eq!(control.memory_bytes(), 0);
        // What was stopped stays so, and the runner has room again.
        let again = runner.run(&Image::empty(), &plan(&control));
        assert_eq!(outcome(again), Outcome::Stopped);
    }
}

#[test]
fn a_paused_run_goes_on_where_it_was() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "_start") (local i32)
            (loop
                (local.set 0 (i32.add (local.get 0) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get 0) (i32.const 1000000))))))"#;
    let runner = runner(text, 1);
    let control = RunControl::default();
    control.pause();
    let ended = thread::scope(|scope| {
        let run = scope.spawn(|| runner.run(&Image::empty(), &plan(&control)));
        thread::sleep(Duration::from_millis(100));
        assert!(!run.is_finished() && control.is_paused());
        control.resume();
        run.join().unwrap()
    });
    assert_eq!(outcome(ended), Outcome::Exited(0));
}

#[test]
fn runs_of_one_runner_go_side_by_side_as_far_as_there_are_threads() {
    // It ends at once with an argument, and never without.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (drop (call $sizes (i32.const 0) (i32.const 4)))
            (loop (br_if 0 (i32.eq (i32.load (i32.const 0)) (i32.const 1))))))"#;
    let runner = runner(text, 2);
    let control = RunControl::default();
    thread::scope(|scope| {
        let endless = scope.spawn(|| runner.run(&Image::empty(), &plan(&control)));
        until_started(&control);
        let other = RunControl::default();
        let mut short = plan(&other);
        short.args.push("end".into());
        assert_eq!(
            outcome(runner.run(&Image::empty(), &short)),
            Outcome::Exited(0)
        );
        // Two at once find room for one, and wait for the other.
        short.instances = 2;
        let runner = &runner;
        let both = scope.spawn(move || runner.run(&Image::empty(), &short));
        thread::sleep(Duration::from_millis(50));
        assert!(!both.is_finished());
        // Stopping another run does not end this one.
        other.pause();
        other.resume();
        thread::sleep(Duration::from_millis(20));
        assert!(!endless.is_finished());
        control.stop();
        assert_eq!(both.join().unwrap().unwrap().failed().count(), 0);
        assert_eq!(outcome(endless.join().unwrap()), Outcome::Stopped);
    });
}

#[test]
fn a_control_is_for_a_runner_that_was_made_for_it() {
    let guest = Script::new().exit(0).wat();
    let guest = Guest::from_bytes("guest", guest.as_bytes()).unwrap();
    let runner = Runner::new(&guest, RunnerConfig::default()).unwrap();
    let refused = runner.run(&Image::empty(), &plan(&RunControl::default()));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "control: the runner was made without RunnerConfig::controllable"
    );
}

#[test]
fn a_plan_bounds_memory_below_what_its_runner_does() {
    let guest = Script::new().grow(1000).wat();
    let guest = Guest::from_bytes("guest", guest.as_bytes()).unwrap();
    let mut config = RunnerConfig::default();
    config.max_memory = Some(8 << 20);
    let runner = Runner::new(&guest, config).unwrap();
    for (of_plan, held) in [
        (None, 8 << 20),
        (Some(4 << 20), 4 << 20),
        (Some(9 << 20), 8 << 20),
    ] {
        let mut plan = RunPlan::default();
        plan.args = vec!["guest".into()];
        plan.max_memory = of_plan;
        let ended = outcome(runner.run(&Image::empty(), &plan));
        assert_eq!(ended, Outcome::OutOfMemory(held));
    }
}

/// Input that is there, and output that is kept.
struct Kept {
    input: MemoryInputPipe,
    output: MemoryOutputPipe,
    errors: MemoryOutputPipe,
}

impl StandardStreams for Kept {
    fn stdin(&self, _: u32) -> Box<dyn StdinStream + Sync> {
        Box::new(self.input.clone())
    }

    fn stdout(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.output.clone())
    }

    fn stderr(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.errors.clone())
    }
}

#[test]
fn a_guest_reads_and_writes_streams_of_its_host() {
    // Reads once from 0, and writes what came to 1 and to 2.
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\40\00\00\00")
        (func (export "_start")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    for controllable in [false, true] {
        let kept = Arc::new(Kept {
            input: MemoryInputPipe::new("typed"),
            output: MemoryOutputPipe::new(100),
            errors: MemoryOutputPipe::new(100),
        });
        let guest = Guest::from_bytes("guest", text.as_bytes()).unwrap();
        let mut config = RunnerConfig::default();
        config.controllable = controllable;
        let mut plan = RunPlan::default();
        plan.args = vec!["guest".into()];
        plan.stdio = Stdio::Streams(kept.clone());
        let runner = Runner::new(&guest, config).unwrap();
        assert_eq!(
            outcome(runner.run(&Image::empty(), &plan)),
            Outcome::Exited(0)
        );
        assert_eq!(kept.output.contents(), "typed");
        assert_eq!(kept.errors.contents(), "typed");
    }
}
