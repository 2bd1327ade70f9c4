//! Instances that share a thread: `Runner::start`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use stratafs::image::Image;
use stratafs::runner::{
    Guest, Outcome, RunControl, RunPlan, RunReport, Runner, RunnerConfig, RunnerError,
    StandardStreams, Stdio,
};
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, ReadBuf};
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::InputStream;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

/// Reads once and writes what came.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 64))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Computes for ever.
const SPIN: &str = r#"(module (func (export "_start") (loop (br 0))))"#;

/// The streams of instances, by number.
struct Lines(Vec<(Shared, MemoryOutputPipe)>);

#[derive(Clone)]
struct Shared(Arc<AsyncStdinStream>);

impl StdinStream for Shared {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.0.p2_stream()
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.async_stream()
    }
}

impl IsTerminal for Shared {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StandardStreams for Lines {
    fn stdin(&self, instance: u32) -> Box<dyn StdinStream + Sync> {
        Box::new(self.0[instance as usize].0.clone())
    }

    fn stdout(&self, instance: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.0[instance as usize].1.clone())
    }

    fn stderr(&self, instance: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.0[instance as usize].1.clone())
    }
}

/// Makes streams for so many instances, and what to type into. Within a runtime.
fn lines(count: usize) -> (Arc<Lines>, Vec<DuplexStream>) {
    let pipes = (0..count).map(|_| {
        let (ours, theirs) = tokio::io::duplex(64);
        let stdin = Shared(Arc::new(AsyncStdinStream::new(theirs)));
        ((stdin, MemoryOutputPipe::new(100)), ours)
    });
    let (streams, typed) = pipes.unzip();
    (Arc::new(Lines(streams)), typed)
}

fn runner(text: &str, change: impl FnOnce(&mut RunnerConfig)) -> Arc<Runner> {
    let guest = Guest::from_bytes("guest", text.as_bytes()).unwrap();
    let mut config = RunnerConfig::default();
    change(&mut config);
    Arc::new(Runner::new(&guest, config).unwrap())
}

fn on_one_thread<R>(work: impl Future<Output = R>) -> R {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(work)
}

fn outcome(report: &RunReport) -> &Outcome {
    &report.instances[0].outcome
}

/// Threads of this process.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn many_that_wait_share_one_thread() {
    const COUNT: usize = 200;
    let runner = runner(ECHO, |config| config.threads = COUNT as u32);
    on_one_thread(async {
        let (streams, typed) = lines(COUNT);
        #[cfg(target_os = "linux")]
        let before = threads();
        let plan = |instance: usize| {
            let mut plan = RunPlan::default();
            plan.first_instance = instance as u32;
            plan.stdio = Stdio::Streams(streams.clone());
            plan
        };
        let start = |instance| runner.start(&Image::empty(), &plan(instance));
        let runs: Vec<_> = (0..COUNT)
            .map(|instance| tokio::spawn(start(instance).unwrap()))
            .collect();
        for _ in 0..COUNT {
            tokio::task::yield_now().await;
        }
        assert!(runs.iter().all(|run| !run.is_finished()));
        #[cfg(target_os = "linux")]
        assert_eq!(threads(), before, "threads were made");
        // There is no room for one more.
        let full = start(0).map(drop).unwrap_err();
        assert!(matches!(full, RunnerError::Full { room: 200 }), "{full}");
        assert!(full.to_string().contains("RunnerConfig::threads"), "{full}");
        // The last one is answered first.
        for (instance, mut typed) in typed.into_iter().enumerate().rev() {
            let line = format!("line {instance}");
            typed.write_all(line.as_bytes()).await.unwrap();
        }
        for (instance, run) in runs.into_iter().enumerate() {
            let report = run.await.unwrap();
            assert_eq!(outcome(&report), &Outcome::Exited(0));
            assert_eq!(report.instances[0].instance, instance as u32);
            let said = streams.0[instance].1.contents();
            assert_eq!(said, format!("line {instance}").as_bytes());
        }
        // All room is there again.
        drop(start(0).unwrap());
    });
}

#[test]
fn runs_that_are_dropped_give_their_room_back() {
    let runner = runner(ECHO, |_| {});
    on_one_thread(async {
        let (streams, _typed) = lines(1);
        let mut plan = RunPlan::default();
        plan.stdio = Stdio::Streams(streams);
        for _ in 0..3 {
            let mut run = Box::pin(runner.start(&Image::empty(), &plan).unwrap());
            let polled = std::future::poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        let refused = |plan: &RunPlan| runner.start(&Image::empty(), plan).map(drop).unwrap_err();
        plan.instances = 2;
        assert!(refused(&plan).to_string().contains("has one"));
    });
}

#[test]
fn a_guest_that_computes_lets_others_have_a_turn_and_ends_in_time() {
    let spin = runner(SPIN, |config| config.controllable = true);
    let late = runner(SPIN, |config| {
        config.timeout = Some(Duration::from_millis(50))
    });
    on_one_thread(async {
        let control = RunControl::default();
        let mut plan = RunPlan::default();
        plan.control = Some(control.clone());
        let endless = tokio::spawn(spin.start(&Image::empty(), &plan).unwrap());
        let timed = tokio::spawn(late.start(&Image::empty(), &RunPlan::default()).unwrap());
        let report = timed.await.unwrap();
        assert_eq!(
            outcome(&report),
            &Outcome::TimedOut(Duration::from_millis(50))
        );
        assert!(!endless.is_finished());
        control.stop();
        assert_eq!(outcome(&endless.await.unwrap()), &Outcome::Stopped);
    });
}

#[test]
fn only_commands_of_core_modules_are_started() {
    let component = r#"(component)"#;
    let guest = Guest::from_bytes("component", component).unwrap();
    assert!(Runner::new(&guest, RunnerConfig::default()).is_err());
    let text = r#"(module (func (export "f")))"#;
    let called = runner(text, |config| config.invoke = Some("f".into()));
    let error = called.start(&Image::empty(), &RunPlan::default());
    let error = error.map(drop).unwrap_err().to_string();
    assert!(
        error.contains("only the command of a core module"),
        "{error}"
    );
}

/// What is read is looked at by nobody: the reader is of one byte at a time.
struct Slow(DuplexStream);

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut one = [0; 1];
        let mut small = ReadBuf::new(&mut one);
        let polled = Pin::new(&mut self.0).poll_read(cx, &mut small);
        buffer.put_slice(small.filled());
        polled
    }
}

#[test]
fn input_that_comes_in_pieces_is_read_as_it_comes() {
    let runner = runner(ECHO, |_| {});
    on_one_thread(async {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let stdin = Shared(Arc::new(AsyncStdinStream::new(Slow(theirs))));
        let streams = Arc::new(Lines(vec![(stdin, MemoryOutputPipe::new(100))]));
        let mut plan = RunPlan::default();
        plan.stdio = Stdio::Streams(streams.clone());
        let run = tokio::spawn(runner.start(&Image::empty(), &plan).unwrap());
        ours.write_all(b"x").await.unwrap();
        assert_eq!(outcome(&run.await.unwrap()), &Outcome::Exited(0));
        assert_eq!(streams.0[0].1.contents(), "x");
    });
}
