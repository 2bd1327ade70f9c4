//! A thousand sessions alive at once on one thread, each thawed from one checkpoint and waiting
//! for its line.
//!
//! `cargo run --release --features freeze --example thaw_alive -- 1000`
//!
//! The guest gets ready, which takes its time, touches a megabyte, and reads a line; there it is
//! frozen. `Runner::start` gives each session as a future; all of them wait until their lines come.
//!
//! Another guest is named behind the number, with its arguments, and before it the layers of its
//! base, each a directory or an archive. It is to write out the line that it reads and end, such as a CPython:
//!
//! ```sh
//! cargo run --release --features freeze,gzip --example thaw_alive -- 1000 \
//!     --layer python.tar.gz python.wasm -c 'import json, re; print(input())'
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, RunPlan, RunnerConfig, StandardStreams, Stdio};
use stratafs::vfs::Rights;
use tokio::io::{AsyncRead, AsyncWriteExt};
use wasmtime_wasi::cli::{AsyncStdinStream, IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::InputStream;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;

const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "_start") (local $at i32)
    (loop $touch
      (i32.store (i32.add (i32.const 65536) (local.get $at)) (local.get $at))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $touch (i32.lt_u (local.get $at) (i32.const 1048576))))
    (i32.store (i32.const 0) (i32.const 200))
    (i32.store (i32.const 4) (i32.const 100))
    (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

/// What a session reads and writes.
struct Session {
    line: Line,
    said: MemoryOutputPipe,
}

#[derive(Clone)]
struct Line(Arc<AsyncStdinStream>);

impl StdinStream for Line {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        self.0.p2_stream()
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.0.async_stream()
    }
}

impl IsTerminal for Line {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StandardStreams for Session {
    fn stdin(&self, _: u32) -> Box<dyn StdinStream + Sync> {
        Box::new(self.line.clone())
    }

    fn stdout(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.said.clone())
    }

    fn stderr(&self, _: u32) -> Box<dyn StdoutStream + Sync> {
        Box::new(self.said.clone())
    }
}

/// Pages that this process alone has, in KiB; nothing where the system does not tell.
fn private_kib() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(line("Private_Dirty:")? + line("Private_Clean:")?)
}

/// Reads the words behind the number: the base, and the guest with its arguments.
fn asked(mut words: impl Iterator<Item = String>) -> Result<(Image, RunPlan), Box<dyn Error>> {
    let mut layers = Vec::new();
    let mut plan = RunPlan::default();
    while let Some(word) = words.next() {
        if word == "--layer" {
            layers.push(words.next().ok_or("expected a path behind --layer")?);
        } else {
            plan.args.push(word);
            plan.args.extend(words.by_ref());
        }
    }
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    Ok((Image::open(layers)?, plan))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let sessions: u32 = words.next().map_or(Ok(1000), |count| count.parse())?;
    let (base, plan) = asked(words)?;
    let guest = match plan.args.first() {
        Some(program) => Guest::from_file(program.as_ref())?,
        None => Guest::from_bytes("sessions", GUEST)?,
    };
    let mut config = RunnerConfig::default();
    let frozen = freeze(&guest, &base, &plan, &config, &Point::Stdin)?;
    let Freezing::Frozen(checkpoint) = frozen else {
        return Err("the guest ended before it asked for its line".into());
    };
    config.threads = sessions;
    let runner = Arc::new(checkpoint.runner(config)?);
    println!("memories: {}", runner.allocator());
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(async {
        let (before, begun) = (private_kib(), Instant::now());
        let mut alive = Vec::new();
        for number in 0..sessions {
            let (typed, line) = tokio::io::duplex(64);
            let session = Arc::new(Session {
                line: Line(Arc::new(AsyncStdinStream::new(line))),
                said: MemoryOutputPipe::new(4096),
            });
            let mut plan = checkpoint.plan();
            plan.first_instance = number;
            plan.stdio = Stdio::Streams(Arc::clone(&session) as Arc<dyn StandardStreams>);
            let run = tokio::spawn(runner.start(checkpoint.image(), &plan)?);
            alive.push((number, session, typed, run));
        }
        // Each has its turn, and comes to where it waits: some of them at each pause of this one.
        for _ in 0..sessions {
            tokio::task::yield_now().await;
        }
        let waiting = alive.iter().filter(|(.., run)| !run.is_finished());
        println!("{} alive after {:?}", waiting.count(), begun.elapsed());
        if let Some((before, now)) = before.zip(private_kib()) {
            let each = now.saturating_sub(before) / u64::from(sessions.max(1));
            println!("{each} KiB each");
        }
        let begun = Instant::now();
        for (number, _, typed, _) in alive.iter_mut().rev() {
            typed
                .write_all(format!("line {number}\n").as_bytes())
                .await?;
            typed.shutdown().await?;
        }
        for (number, session, _, run) in alive {
            let report = run.await?;
            let said = session.said.contents();
            if report.failed().count() > 0 || said != format!("line {number}\n").as_bytes() {
                return Err(format!("session {number} said {said:?}").into());
            }
        }
        println!("all answered after {:?}", begun.elapsed());
        Ok(())
    })
}
