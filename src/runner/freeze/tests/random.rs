//! Random numbers of instances that go on: their own, or those of a run that was left alone.

use std::collections::BTreeMap;

use super::*;

/// What each instance wrote.
#[derive(Default)]
struct ByInstance(Mutex<BTreeMap<u32, Vec<u8>>>);

impl OutputSink for ByInstance {
    fn write(&self, instance: u32, _: Stream, bytes: &[u8]) {
        let mut all = self.0.lock().unwrap();
        all.entry(instance).or_default().extend_from_slice(bytes);
    }
}

fn bytes_of(run: impl FnOnce(RunPlan)) -> BTreeMap<u32, Vec<u8>> {
    let all = Arc::<ByInstance>::default();
    let mut plan = plan(&Arc::default());
    plan.stdio = Stdio::Collect(Arc::clone(&all) as Arc<dyn OutputSink>);
    run(plan);
    let all = all.0.lock().unwrap();
    all.clone()
}

/// Yields, and then writes 16 random bytes and what two openings of `/.stratafs/fork` give.
const DRAWS: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) ".stratafs/fork")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $put (param $start i32) (param $len i32)
    (i32.store (i32.const 0) (local.get $start)) (i32.store (i32.const 4) (local.get $len))
    (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func $fork
    (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 14) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (i32.store (i32.const 0) (i32.const 200)) (i32.store (i32.const 4) (i32.const 100))
    (call $must (call $read (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $put (i32.const 200) (i32.load (i32.const 8))))
  (func (export "_start")
    (call $must (call $yield))
    (call $must (call $random (i32.const 400) (i32.const 16)))
    (call $put (i32.const 400) (i32.const 16))
    (call $fork) (call $fork)))"#;

/// Bytes that an instance of `DRAWS` draws.
const DRAWN: usize = 16;

fn draws(is_deterministic: bool) -> BTreeMap<u32, Vec<u8>> {
    let guest = Guest::from_bytes("guest", DRAWS).unwrap();
    bytes_of(|mut plan| {
        plan.deterministic = is_deterministic;
        let (config, point) = (
            RunnerConfig::default,
            Point::Call {
                function: "sched_yield".into(),
                nth: 1,
            },
        );
        let frozen = freeze(&guest, &Image::empty(), &plan, &config(), &point).unwrap();
        let Freezing::Frozen(checkpoint) = frozen else {
            panic!("it yields");
        };
        plan.instances = 3;
        let report = checkpoint.runner(config()).unwrap();
        let report = report.run(checkpoint.image(), &plan).unwrap();
        assert_eq!(report.failed().count(), 0);
    })
}

#[test]
fn each_instance_and_each_opening_has_bytes_of_its_own() {
    let (once, again) = (draws(false), draws(false));
    let (fixed, same) = (draws(true), draws(true));
    assert_eq!(fixed, same);
    let mut seen = std::collections::BTreeSet::new();
    for (instance, bytes) in once.iter().chain(&again).chain(&fixed) {
        let (drawn, forks) = bytes.split_at(DRAWN);
        assert!(seen.insert(drawn.to_vec()), "{instance}: {drawn:?}");
        let lines: Vec<&str> = std::str::from_utf8(forks).unwrap().lines().collect();
        let number = instance.to_string();
        let [one, first, two, second] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        assert_eq!((*one, *two), (number.as_str(), number.as_str()));
        for hex in [first, second] {
            assert!(hex.len() == 64 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
            assert!(seen.insert(hex.as_bytes().to_vec()), "{instance}: {hex}");
        }
    }
    assert_eq!(seen.len(), 3 * 3 * 3);
}

/// Reads eight random bytes from a device before each of its yields, and behind the last.
const DEVICE: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "urandom")
  (func $must (param i32) (if (local.get 0) (then unreachable)))
  (func $draw
    (i32.store (i32.const 0) (i32.const 200)) (i32.store (i32.const 4) (i32.const 8))
    (call $must (call $read (i32.load (i32.const 64)) (i32.const 0) (i32.const 1) (i32.const 8)))
    (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $must (call $open (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 0)
      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 64)))
    (call $draw) (call $must (call $yield)) (call $draw) (call $must (call $yield)) (call $draw)))"#;

#[test]
fn a_device_of_a_run_that_repeats_goes_on_where_it_stood() {
    let guest = Guest::from_bytes("guest", DEVICE).unwrap();
    let (config, image) = (RunnerConfig::default, Image::empty());
    let furnished = |mut plan: RunPlan| {
        (plan.deterministic, plan.furnished) = (true, true);
        plan
    };
    let want = bytes_of(|plan| {
        let runner = Runner::new(&guest, config()).unwrap();
        let report = runner.run(&image, &furnished(plan)).unwrap();
        assert_eq!(report.failed().count(), 0);
    });
    assert_eq!(want[&0].len(), 24);
    let found = bytes_of(|plan| {
        let plan = furnished(plan);
        let yields = |nth| Point::Call {
            function: "sched_yield".into(),
            nth,
        };
        let frozen = freeze(&guest, &image, &plan, &config(), &yields(1)).unwrap();
        let Freezing::Frozen(first) = frozen else {
            panic!("it yields");
        };
        // Kept as an image and opened again.
        let layer = first.to_fs().unwrap().diff(&crate::chunk::ChunkPool::new());
        let kept = Image::new(&[layer.unwrap()]).unwrap();
        let first = Checkpoint::open(&kept).unwrap().unwrap();
        let frozen = first.freeze(first.image(), &plan, &config(), &yields(2));
        let Freezing::Frozen(second) = frozen.unwrap() else {
            panic!("it yields twice");
        };
        let report = second.runner(config()).unwrap();
        let report = report.run(second.image(), &plan).unwrap();
        assert_eq!(report.failed().count(), 0);
    });
    assert_eq!(found, want);
}
