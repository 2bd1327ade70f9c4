//! Streams that are full, dropped, given up and left in the middle: what is
//! written is a prefix, and nothing of them stays (cases 74, 75).

use std::time::Duration;

use stratafs::limits::MAX_STREAM_STEP_BYTES;
use stratafs::meta::Kind;
use stratafs::runner::{
    Guest, GuestDir, GuestKind, Outcome, RunPlan, RunReport, Runner, RunnerConfig,
};
use stratafs::vfs::{Fs, Rights};

use super::base;
use crate::support::guest::{World, guest};
use crate::support::wasi_host::{Compiled, Files, Mode};

/// Runs `streams WHAT` once, and gives what it printed and its file system.
fn run(what: &str, fs: &Fs) -> Vec<String> {
    let outcome = Compiled::new("streams", World::P3).run(Files::Strata(fs), Mode::Sync, &[what]);
    assert_eq!(outcome.code, 0, "{}{}", outcome.out, outcome.err);
    assert_eq!(fs.usage().open, 0, "descriptors left open");
    outcome.out.lines().map(str::to_owned).collect()
}

/// Runs `streams WHAT` under the runner, three times.
fn many(what: &str, config: RunnerConfig) -> RunReport {
    let guest = Guest::from_file(&guest("streams", World::P3)).unwrap();
    let runner = Runner::new(&guest, config).unwrap();
    runner.run(&base(), &plan(&["streams", what])).unwrap()
}

fn plan(args: &[&str]) -> RunPlan {
    let mut plan = RunPlan::default();
    plan.instances = 3;
    plan.keep_file_systems = true;
    plan.args = args.iter().map(|arg| (*arg).into()).collect();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    plan
}

#[test]
fn case_74_a_stream_without_end_fills_the_quota_and_no_more() {
    let fs = Fs::builder(&base()).max_bytes(10 << 20).build();
    let lines = run("endless", &fs);
    let full = format!(
        "{} bytes of 2^40, then Err(ErrorCode::InsufficientSpace)",
        10 << 20
    );
    assert_eq!(lines, [full, format!("file: {}", 10 << 20)]);
    assert!(fs.usage().logical_bytes <= 10 << 20);
}

#[test]
fn case_74_streams_and_futures_dropped_half_way_leave_a_prefix() {
    let fs = Fs::new(&base());
    let want = [
        "read Complete(1000) 1000",
        "the stream dropped: Ok(())",
        "the future dropped: true",
        "dropped unread: Ok(())",
        "rest 0 and 0",
        "written: 19",
        "left 0",
        "end Ok(())",
        "an entry: true",
        "the listing dropped: Ok(())",
    ];
    assert_eq!(run("halves", &fs), want);
    assert_eq!(&fs.read("/half").unwrap()[..19], b"first half and more");
    assert_eq!(&fs.read("/half").unwrap()[100..], b"late");
}

#[test]
fn case_74_calls_given_up_leave_a_prefix() {
    let want = [
        "a prefix: true Ok(())",
        "a read given up: Ok(())",
        "still there: true",
    ];
    assert_eq!(run("cancel", &Fs::new(&base())), want);
}

#[test]
fn both_versions_of_wasi_see_one_file_system() {
    let want = [
        r#"0.2 reads Ok("by 0.3")"#,
        "one number: 0 true",
        r#"0.3 reads "0.2""#,
        "0 names left",
    ];
    assert_eq!(run("both", &Fs::new(&base())), want);
}

#[test]
fn one_step_of_a_stream_moves_a_bounded_piece() {
    let want = [
        format!("read Complete({MAX_STREAM_STEP_BYTES}) {MAX_STREAM_STEP_BYTES}"),
        format!("write Complete({MAX_STREAM_STEP_BYTES}) {MAX_STREAM_STEP_BYTES}"),
    ];
    assert_eq!(run("steps", &Fs::new(&base())), want);
}

/// What an instance that stopped in the middle of everything left: what it
/// wrote until then, and nothing that holds it.
fn check_left(report: &RunReport) {
    let image = base();
    for fs in &report.file_systems {
        let usage = fs.usage();
        assert_eq!((usage.open, usage.logical_bytes), (0, 200_000));
        assert_eq!(fs.read("/middle").unwrap(), vec![1; 200_000]);
        // The lock is free, and the room comes back.
        fs.remove_file("/middle").unwrap();
        assert_eq!(fs.usage().logical_bytes, 0);
        let big = fs.read("/data/big.bin").unwrap();
        assert_eq!(big, Fs::new(&image).read("/data/big.bin").unwrap());
    }
}

/// Its calls of 0.3 are waited for: no stream, no callback.
#[test]
fn a_component_that_waits_for_its_calls_runs() {
    let text = include_bytes!("../../../examples/embed_p3.wat");
    let guest = Guest::from_bytes("embed_p3.wat", text).unwrap();
    assert_eq!(guest.kind(), GuestKind::AsyncComponent);
    let runner = Runner::new(&guest, RunnerConfig::default()).unwrap();
    let report = runner.run(&base(), &plan(&[])).unwrap();
    for (instance, fs) in report.instances.iter().zip(&report.file_systems) {
        assert!(matches!(instance.outcome, Outcome::Exited(0)));
        assert_eq!(fs.metadata("/greeting").unwrap().kind, Kind::Dir);
        assert_eq!(fs.usage().open, 0);
    }
}

#[test]
fn case_75_a_trap_in_the_middle_of_streams_frees_all() {
    let report = many("trap", RunnerConfig::default());
    for instance in &report.instances {
        assert!(matches!(instance.outcome, Outcome::Trapped { .. }));
    }
    check_left(&report);
}

#[test]
fn case_75_a_store_dropped_in_the_middle_of_streams_frees_all() {
    let mut config = RunnerConfig::default();
    config.timeout = Some(Duration::from_millis(300));
    let report = many("hang", config);
    for instance in &report.instances {
        assert!(matches!(instance.outcome, Outcome::TimedOut(_)));
    }
    check_left(&report);
}
