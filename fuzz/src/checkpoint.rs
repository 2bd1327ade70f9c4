//! Checkpoints that somebody changed: what is read of one is refused, or runs as a guest
//! that may do no more than any other.

use std::sync::OnceLock;
use std::time::Duration;

use stratafs::chunk::ChunkPool;
use stratafs::digest::Digest;
use stratafs::image::Image;
use stratafs::runner::freeze::{Checkpoint, Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, RunPlan, Runner, RunnerConfig, Stdio};
use stratafs::vfs::{Fs, Rights};

use super::feed::Feed;

/// The files of a checkpoint in its image.
const PROGRAM: &str = "/.stratafs/frozen/program.wasm";
const STATE: &str = "/.stratafs/frozen/state.json";

/// Has a file open, a directory half listed, a file without a name, and calls in a loop.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file"
    (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir"
    (func $list (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "onetwo.")
  (func $opened (param $path i32) (param $len i32) (param $flags i32)
    (drop (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $len)
      (local.get $flags) (i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 1) (i32.const 64))))
  (func (export "_start") (local $fd i32)
    (call $opened (i32.const 16) (i32.const 3) (i32.const 1))
    (call $opened (i32.const 19) (i32.const 3) (i32.const 1))
    (drop (call $unlink (i32.const 3) (i32.const 19) (i32.const 3)))
    (call $opened (i32.const 22) (i32.const 1) (i32.const 2))
    (drop (call $list (i32.load (i32.const 64)) (i32.const 1000) (i32.const 80) (i64.const 0)
      (i32.const 72)))
    (drop (call $yield))
    (loop $each
      (i32.store (i32.const 0) (i32.const 16))
      (i32.store (i32.const 4) (i32.const 3))
      (drop (call $write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
      (drop (call $stat (local.get $fd) (i32.const 2000)))
      (drop (call $list (local.get $fd) (i32.const 1000) (i32.const 500) (i64.const 1) (i32.const 72)))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $fd) (i32.const 9))))))"#;

/// A checkpoint, and what is changed of it.
struct Kept {
    checkpoint: Checkpoint,
    program: Vec<u8>,
    state: Vec<u8>,
}

fn kept() -> &'static Kept {
    static KEPT: OnceLock<Kept> = OnceLock::new();
    KEPT.get_or_init(|| {
        let guest = Guest::from_bytes("guest", GUEST).expect("it is a module");
        let mut plan = RunPlan::default();
        plan.preopens = vec![GuestDir {
            dir: "/".into(),
            guest: "/".into(),
            rights: Rights::ReadWrite,
        }];
        plan.stdio = Stdio::Null;
        let point = Point::Call {
            function: "sched_yield".to_owned(),
            nth: 1,
        };
        let frozen = freeze(&guest, &Image::empty(), &plan, &config(), &point);
        let Ok(Freezing::Frozen(checkpoint)) = frozen else {
            panic!("it is frozen: {frozen:?}");
        };
        let fs = checkpoint.to_fs().expect("it is written");
        let read = |path| fs.read(path).expect("it was written");
        Kept {
            program: read(PROGRAM),
            state: read(STATE),
            checkpoint,
        }
    })
}

fn config() -> RunnerConfig {
    let mut config = RunnerConfig::default();
    config.timeout = Some(Duration::from_secs(2));
    config.max_memory = Some(8 << 20);
    config
}

/// Changes a checkpoint as the bytes say, opens it, and runs it if it opens.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let kept = kept();
    let (mut program, mut state) = (kept.program.clone(), kept.state.clone());
    let changes_program = feed.below(4) == 0;
    for _ in 0..=feed.below(4) {
        match changes_program {
            true => change(&mut feed, &mut program),
            false => change_state(&mut feed, &mut state),
        }
    }
    let says_so = changes_program && feed.below(4) != 0;
    if says_so {
        let text = String::from_utf8(state).expect("it is JSON");
        let old = Digest::of(&kept.program).to_string();
        state = text.replace(&old, &Digest::of(&program).to_string()).into();
    }
    let image = image(kept, &program, &state);
    let _info = Checkpoint::inspect(&image);
    let opened = match Checkpoint::open(&image) {
        Ok(Some(opened)) => opened,
        Ok(None) => panic!("nobody took it away"),
        Err(error) => return assert!(!error.to_string().contains('\n'), "{error}"),
    };
    // The program is read where it is needed, and is what the state says or none.
    let read = opened.module().map(|module| module.into_owned());
    let runner = opened.runner(config());
    let is_the_one = Digest::of(&program).to_string();
    match read {
        Ok(read) => assert_eq!(read, program, "it is what lies there"),
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(runner.is_err(), "a digest that does not match is taken");
        }
    }
    let Ok(runner) = runner else {
        return;
    };
    let state = String::from_utf8_lossy(&state);
    assert!(
        state.contains(&is_the_one),
        "a digest that does not match is taken"
    );
    run_bounded(&runner, &opened);
}

fn run_bounded(runner: &Runner, opened: &Checkpoint) {
    let mut plan = opened.plan();
    plan.stdio = Stdio::Null;
    plan.quota.max_bytes = 1 << 20;
    plan.keep_file_systems = true;
    if let Ok(report) = runner.run(opened.image(), &plan) {
        let fs = &report.file_systems[0];
        assert!(fs.usage().private_bytes <= 1 << 20, "the quota holds");
        opened.image().verify().expect("the base is what it was");
    }
}

fn image(kept: &Kept, program: &[u8], state: &[u8]) -> Image {
    let fs: Fs = kept.checkpoint.to_fs().expect("it is written");
    fs.write(PROGRAM, program).expect("it is written");
    fs.write(STATE, state).expect("it is written");
    let layer = fs.diff(&ChunkPool::new()).expect("it is a layer");
    Image::new(&[layer]).expect("it is an image")
}

/// Changes bytes, cuts some off or out, or puts some in.
fn change(feed: &mut Feed<'_>, bytes: &mut Vec<u8>) {
    let at = place(feed, bytes.len());
    match feed.below(8) {
        0 => bytes.truncate(at),
        1 => {
            let end = (at + feed.below(200)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => {
            let more = feed.bytes();
            bytes.splice(at..at, more.iter().copied());
        }
        _ => {
            let new = feed.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = new;
            }
        }
    }
}

fn place(feed: &mut Feed<'_>, len: usize) -> usize {
    let at = usize::from(feed.byte()) << 16 | usize::from(feed.byte()) << 8;
    (at | usize::from(feed.byte())) % len.max(1)
}

/// Changes the text, most often a number in it or a digit of a path.
fn change_state(feed: &mut Feed<'_>, text: &mut Vec<u8>) {
    let at = place(feed, text.len());
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let Some(start) = text.iter().skip(at).position(is_digit) else {
        return change(feed, text);
    };
    let start = at + start;
    let digits = text.iter().skip(start).take_while(|byte| is_digit(byte));
    let end = start + digits.count();
    match feed.below(6) {
        0 => change(feed, text),
        1 => text[start] = feed.pick(b"0123456789abcdefz\""),
        _ => {
            let number = match feed.coin() {
                true => feed.number().to_string(),
                false => feed
                    .pick(&["-1", "0", "1e9", "4294967296", "\"x\"", "null"])
                    .to_owned(),
            };
            text.splice(start..end, number.into_bytes());
        }
    }
}
