//! The runner as a library: what a run leaves, and what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stratafs::budget::Budget;
use stratafs::chunk::{ChunkPool, ContentBuilder, Scope};
use stratafs::image::Image;
use stratafs::layer::{EntryBody, Layer};
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::runner::{
    GivenFile, Guest, GuestDir, InstanceReport, Outcome, OutputSink, RunPlan, Runner, RunnerConfig,
    RunnerError, Stdio, Stream, Volume, Watch,
};
use stratafs::vfs::{Fs, Quota, Rights, Share};

use crate::support::script::{NOSPC, OK, PERM, ROFS, ROOT, Script};

fn guest(script: &Script) -> Guest {
    Guest::from_bytes("guest", script.wat().as_bytes()).unwrap()
}

fn runner(script: &Script) -> Runner {
    Runner::new(&guest(script), RunnerConfig::default()).unwrap()
}

fn plan(instances: u32) -> RunPlan {
    let mut plan = RunPlan::default();
    plan.instances = instances;
    plan.keep_file_systems = true;
    plan.args = vec!["guest".into()];
    let root = GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    };
    plan.preopens = vec![root];
    plan
}

fn base() -> Image {
    let pool = ChunkPool::new();
    let mut layer = Layer::builder();
    let content = ContentBuilder::of(&pool, &[7; 100_000]);
    layer
        .file(
            &LayerPath::parse(b"base").unwrap(),
            Meta::with_mode(0o644),
            content,
        )
        .unwrap();
    Image::new(&[layer.finish().unwrap()]).unwrap()
}

#[test]
fn case_75_a_guest_that_is_stopped_leaves_nothing_open_and_the_base_whole() {
    let base = base();
    let before = base.verify().unwrap();
    let written = || {
        Script::new()
            .write("new", &[1; 5000])
            .write("base", b"x")
            .keep_open("base", 0)
    };
    let mut config = RunnerConfig::default();
    config.timeout = Some(Duration::from_millis(200));
    config.max_memory = Some(4 << 20);
    let ends: [(Script, fn(&Outcome) -> bool); 5] = [
        (written().trap(), |end| {
            matches!(end, Outcome::Trapped { .. })
        }),
        (written().spin(), |end| matches!(end, Outcome::TimedOut(_))),
        (written().sleep(100), |end| {
            matches!(end, Outcome::TimedOut(_))
        }),
        (written().grow(1000), |end| {
            *end == Outcome::OutOfMemory(4 << 20)
        }),
        (written().exit(9), |end| *end == Outcome::Exited(9)),
    ];
    for (script, expected) in ends {
        for config in [RunnerConfig::default(), config.clone()] {
            if config.timeout.is_none() && !script.wat().contains("unreachable") {
                continue;
            }
            let runner = Runner::new(&guest(&script), config).unwrap();
            let report = runner.run(&base, &plan(3)).unwrap();
            for (instance, fs) in report.instances.iter().zip(&report.file_systems) {
                assert!(expected(&instance.outcome), "{:?}", instance.outcome);
                // What it wrote until then is there; nothing holds it.
                let usage = fs.usage();
                assert_eq!(
                    (usage.open, usage.logical_bytes, usage.inodes),
                    (0, 5001, 1)
                );
                assert_eq!(instance.usage, usage);
                let read = fs
                    .root()
                    .unwrap()
                    .stat_at(stratafs::vfs::Follow::No, b"base");
                assert_eq!(read.unwrap().size, 1);
            }
        }
    }
    assert_eq!(base.verify().unwrap(), before);
}

#[test]
fn what_a_timed_out_guest_left_open_is_not_sealed() {
    let zeros = vec![0; 200_000];
    let held = |script: &Script, timeout: f64| {
        let mut config = RunnerConfig::default();
        config.timeout = Some(Duration::from_secs_f64(timeout));
        let runner = Runner::new(&guest(script), config).unwrap();
        let report = runner.run(&Image::empty(), &plan(1)).unwrap();
        let usage = report.file_systems[0].usage();
        assert_eq!((usage.open, usage.logical_bytes), (0, 200_000));
        (report.instances[0].outcome.clone(), usage.private_bytes)
    };
    let script = || Script::new().write_and_keep_open("zeros", &zeros);
    let (outcome, bytes) = held(&script().spin(), 0.2);
    assert!(matches!(outcome, Outcome::TimedOut(_)), "{outcome:?}");
    assert_eq!(bytes, 200_000);
    // Within its time the same guest has its zeros found.
    assert_eq!(held(&script().exit(3), 600.0), (Outcome::Exited(3), 0));
}

#[test]
fn case_80_what_wasi_cannot_pass_is_an_error_before_anything_runs() {
    let runner = runner(&Script::new());
    let mut large = plan(1);
    large.args.push("x".repeat(10 << 20));
    let error = runner.run(&Image::empty(), &large).unwrap_err();
    assert!(
        matches!(error, RunnerError::ArgumentsTooLong { .. }),
        "{error}"
    );
    let mut nul = plan(1);
    nul.env.push(("A".into(), "b\0".into()));
    let error = runner.run(&Image::empty(), &nul).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable \"A\": it holds a NUL byte"
    );
}

#[test]
fn a_runner_runs_again_and_waits_for_its_turn() {
    let runner = runner(&Script::new().mkdir("mine", 0));
    let base = base();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let report = runner.run(&base, &plan(20)).unwrap();
                    assert_eq!(report.failed().count(), 0);
                }
            });
        }
    });
}

#[derive(Default)]
struct Follower {
    created: AtomicUsize,
    finished: Mutex<Vec<u32>>,
}

impl Watch for Follower {
    fn created(&self) {
        assert!(self.finished.lock().is_empty());
        self.created.fetch_add(1, Ordering::Relaxed);
    }

    fn finished(&self, report: &InstanceReport, _: &Fs) {
        self.finished.lock().push(report.instance);
    }
}

#[test]
fn a_run_is_followed_and_told_by_number() {
    let mut config = RunnerConfig::default();
    config.threads = 4;
    let runner = Runner::new(&guest(&Script::new()), config).unwrap();
    let follower = Follower::default();
    let report = runner.run_watched(&base(), &plan(50), &follower).unwrap();
    assert_eq!(follower.created.into_inner(), 1);
    let mut finished = follower.finished.into_inner();
    finished.sort_unstable();
    let all: Vec<_> = (0..50).collect();
    assert_eq!(finished, all);
    let told: Vec<_> = report
        .instances
        .iter()
        .map(|instance| instance.instance)
        .collect();
    assert_eq!(told, all);
    assert!(
        report
            .instances
            .iter()
            .all(|one| one.start_ns > one.fs_create_ns && one.run_ns > 0)
    );
    // The file system at a place is the one of the instance there.
    assert_eq!(report.file_systems.len(), 50);
}

#[derive(Default)]
struct Kept(Mutex<Vec<(u32, Stream, Vec<u8>)>>);

impl OutputSink for Kept {
    fn write(&self, instance: u32, stream: Stream, bytes: &[u8]) {
        self.0.lock().push((instance, stream, bytes.to_vec()));
    }
}

#[test]
fn output_is_collected_by_instance_and_stream() {
    let script = Script::new().print("a").complain("x").print("b").trap();
    let kept = Arc::new(Kept::default());
    let mut plan = plan(2);
    plan.stdio = Stdio::Collect(kept.clone());
    runner(&script).run(&Image::empty(), &plan).unwrap();
    let of = |instance| {
        let (out, err) = (b"ab".to_vec(), b"x".to_vec());
        [
            (instance, Stream::Stdout, out),
            (instance, Stream::Stderr, err),
        ]
    };
    assert_eq!(*kept.0.lock(), [of(0), of(1)].concat());
}

#[test]
fn a_plan_that_names_nothing_shows_nothing() {
    // Descriptor 3 is the first directory, if there is one.
    let script = Script::new().cat_in(3, "base", 8);
    let report = runner(&script).run(&base(), &RunPlan::default()).unwrap();
    assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
}

#[test]
fn file_systems_go_when_their_instances_end_unless_they_are_kept() {
    let block = [7; 4096];
    let runner = runner(&Script::new().write("file", &block));
    let budget = Budget::new(1 << 20);
    let mut plan = plan(10);
    plan.budget = Some(budget.clone());
    plan.keep_file_systems = false;
    let report = runner.run(&base(), &plan).unwrap();
    assert_eq!(report.failed().count(), 0);
    assert_eq!((report.file_systems.len(), budget.held_bytes()), (0, 0));
    for one in &report.instances {
        assert_eq!((one.usage.logical_bytes, one.exclusive_bytes), (4096, 4096));
    }
    plan.keep_file_systems = true;
    let report = runner.run(&base(), &plan).unwrap();
    assert_eq!(report.file_systems.len(), 10);
    assert!(budget.held_bytes() >= 10 * 4096);
    drop(report);
    assert_eq!(budget.held_bytes(), 0);
}

#[test]
fn equal_blocks_are_shared_as_the_plan_says() {
    let mut script = Script::new();
    for name in ["one", "two"] {
        script = script.write(name, &[7; 4096]);
    }
    let runner = runner(&script);
    let private = |share| {
        let mut plan = plan(3);
        plan.share = share;
        let report = runner.run(&base(), &plan).unwrap();
        assert_eq!(report.failed().count(), 0);
        let held = report.instances.iter().map(|one| one.usage.private_bytes);
        held.sum::<u64>()
    };
    assert_eq!(private(Share::None), 3 * 2 * 4096);
    assert_eq!(private(Share::Own), 3 * 4096);
    assert_eq!(private(Share::Scope(Scope::new())), 4096);
    assert!(matches!(RunPlan::default().share, Share::Own));
}

#[test]
fn a_volume_may_have_a_quota_of_its_own() {
    let script = Script::new()
        .write("small/x", b"1234")
        .write_in(ROOT, "small/y", b"5", OK, NOSPC)
        .write("large/x", b"12345678");
    let mut plan = plan(1);
    plan.volumes = ["small", "large"]
        .map(|name| Volume {
            name: name.into(),
            guest: format!("/{name}"),
        })
        .into();
    let quota = Quota {
        max_bytes: 4,
        ..Quota::default()
    };
    plan.volume_quotas = vec![("small".into(), quota)];
    let report = runner(&script).run(&base(), &plan).unwrap();
    assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
}

#[test]
fn given_files_and_read_only_volumes_are_there_to_be_read() {
    let script = Script::new()
        .cat("run/key")
        .write_in(ROOT, "run/key", b"x", PERM, OK)
        .write_in(ROOT, "data/new", b"x", ROFS, OK)
        .write("out", b"1");
    let mut plan = plan(1);
    plan.files = vec![GivenFile {
        path: "/run/key".into(),
        bytes: b"hidden".to_vec(),
    }];
    plan.volumes = vec![Volume {
        name: "data".into(),
        guest: "/data".into(),
    }];
    plan.read_only_volumes = vec!["data".into()];
    assert!(!format!("{plan:?}").contains("hidden"));
    let report = runner(&script).run(&base(), &plan).unwrap();
    assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
    let fs = &report.file_systems[0];
    assert_eq!(fs.read("/out").unwrap(), b"1");
    let diff = fs.diff(&ChunkPool::new()).unwrap();
    let key = diff
        .entries()
        .find(|entry| entry.path.to_string() == "run/key");
    let EntryBody::File { content, .. } = key.unwrap().body else {
        panic!("no file")
    };
    assert_eq!(content.size(), 0);
}
