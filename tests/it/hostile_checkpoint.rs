//! Checkpoints from somebody who means harm: what they claim is refused before anything is made of it.

use serde_json::{Value, json};
use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::limits::{MAX_ARGUMENT_BYTES, MAX_SHOWN_DIRS};
use stratafs::runner::freeze::{Checkpoint, Freezing, Point, freeze};
use stratafs::runner::{Guest, GuestDir, Outcome, RunPlan, RunnerConfig};
use stratafs::vfs::{Fs, Rights};

const STATE: &str = "/.stratafs/frozen/state.json";

/// Opens a file, removes it, and yields twice.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "gone")
  (func (export "_start")
    (if (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 1)
      (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 64)) (then unreachable))
    (if (call $unlink (i32.const 3) (i32.const 16) (i32.const 4)) (then unreachable))
    (drop (call $yield))))"#;

fn kept() -> Fs {
    let guest = Guest::from_bytes("guest", GUEST).unwrap();
    let mut plan = RunPlan::default();
    plan.preopens = vec![GuestDir {
        dir: "/".into(),
        guest: "/".into(),
        rights: Rights::ReadWrite,
    }];
    let point = Point::Call {
        function: "sched_yield".into(),
        nth: 1,
    };
    let config = RunnerConfig::default();
    let frozen = freeze(&guest, &Image::empty(), &plan, &config, &point).unwrap();
    let Freezing::Frozen(checkpoint) = frozen else {
        panic!("it yields");
    };
    checkpoint.to_fs().unwrap()
}

/// Opens a checkpoint whose state or files were changed.
fn opened(change: impl FnOnce(&Fs, &mut Value)) -> Result<Checkpoint, String> {
    let fs = kept();
    let mut state: Value = serde_json::from_slice(&fs.read(STATE).unwrap()).unwrap();
    change(&fs, &mut state);
    fs.write(STATE, state.to_string()).unwrap();
    let image = Image::new(&[fs.diff(&ChunkPool::new()).unwrap()]).unwrap();
    let opened = Checkpoint::open(&image).map_err(|error| error.to_string())?;
    Ok(opened.expect("it is there"))
}

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    opened(|_, state| change(state)).unwrap_err()
}

fn outcome(checkpoint: &Checkpoint) -> Outcome {
    let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(checkpoint.image(), &checkpoint.plan()).unwrap();
    report.instances[0].outcome.clone()
}

#[test]
fn arguments_that_no_guest_was_told_are_refused() {
    let said = refusal(|state| state["args"] = json!(["a\0b"]));
    assert!(said.contains("argument 0: it holds a NUL byte"), "{said}");
    let long = "x".repeat(MAX_ARGUMENT_BYTES);
    let said = refusal(|state| state["args"] = json!([long]));
    assert!(said.contains("the limit is"), "{said}");
    let said = refusal(|state| state["env"] = json!([["A=B", "c"]]));
    assert!(said.contains("holds `=`"), "{said}");
    let twice = json!([{"dir": "/", "guest": "/x", "read_only": true}, {"dir": "/", "guest": "/x/", "read_only": false}]);
    let said = refusal(|state| state["preopens"] = twice);
    assert!(said.contains("given twice"), "{said}");
    // One more byte is one too many; so many are what a guest may have.
    let most = "x".repeat(MAX_ARGUMENT_BYTES - 1);
    assert!(opened(|_, state| state["args"] = json!([most])).is_ok());
}

/// Each name costs a look in each instance, before any limit of time begins.
#[test]
fn more_names_than_a_guest_has_descriptors_are_refused() {
    let said = refusal(|state| {
        state["known"]["named"] = json!(vec![("2f61", 1); 1000]);
    });
    assert!(said.contains("cannot be"), "{said}");
}

/// Who looked through the whole table for each directory would look for minutes, before any limit of
/// time begins.
#[test]
fn many_directories_and_many_descriptors_are_no_product() {
    let with = |state: &mut Value, shown: usize| {
        let more = (1..shown)
            .map(|number| json!({"dir": "/", "guest": format!("/d{number}"), "read_only": false}));
        state["preopens"].as_array_mut().unwrap().extend(more);
    };
    let said = refusal(|state| with(state, MAX_SHOWN_DIRS + 1));
    assert!(said.contains("more than one run can have"), "{said}");
    let many = opened(|_, state| {
        with(state, MAX_SHOWN_DIRS);
        let descriptors = state["descriptors"].as_array_mut().unwrap();
        descriptors.extend(vec![json!({"kind": "closed"}); 700_000]);
    });
    let many = many.unwrap();
    let runner = many.runner(RunnerConfig::default()).unwrap();
    let mut plan = many.plan();
    plan.instances = 10;
    let report = runner.run(many.image(), &plan).unwrap();
    for instance in &report.instances {
        assert_eq!(instance.outcome, Outcome::Exited(0));
    }
}

#[test]
fn counts_and_numbers_that_cannot_be_are_refused_or_mean_nothing() {
    for field in [
        "frames",
        "memory_bytes",
        "own_bytes",
        "monotonic_ns",
        "wall_ns",
        "random_calls",
        "random_bytes",
        "device_bytes",
    ] {
        let checkpoint = opened(|_, state| state[field] = json!(u64::MAX)).unwrap();
        assert_eq!(outcome(&checkpoint), Outcome::Exited(0), "{field}");
        assert!(
            refusal(|state| state[field] = json!(-1)).contains("damaged"),
            "{field}"
        );
    }
    let offset = opened(|_, state| state["descriptors"][4]["offset"] = json!(u64::MAX));
    assert_eq!(outcome(&offset.unwrap()), Outcome::Exited(0));
    let said = refusal(|state| state["version"] = json!(2));
    assert!(said.contains("version 2"), "{said}");
    let said = refusal(|state| state["features"] = json!(["simd", "stack-switching"]));
    assert!(said.contains("proposal \"stack-switching\""), "{said}");
    // What is said of the program is not what it needs.
    let most = opened(|_, state| state["features"] = json!(vec!["simd"; 1000])).unwrap();
    assert_eq!(outcome(&most), Outcome::Exited(0));
    let said = refusal(|state| state["more"] = json!(1));
    assert!(said.contains("unknown field"), "{said}");
}

/// What lies beside the files of the checkpoint stays, however much it is.
#[test]
fn files_beside_those_without_a_name_are_told_and_not_removed() {
    assert_eq!(outcome(&opened(|_, _| {}).unwrap()), Outcome::Exited(0));
    let more = |fs: &Fs, _: &mut Value| {
        for number in 0..50 {
            fs.write(format!("/.stratafs/open/more{number}"), "")
                .unwrap();
        }
    };
    let said = outcome(&opened(more).unwrap()).to_string();
    assert!(
        said.contains("/.stratafs/open") && said.contains("not empty"),
        "{said}"
    );
}

#[test]
fn tables_ask_for_no_more_than_a_guest_could_open() {
    let with = |descriptor: Value| {
        let checkpoint = opened(|_, state| state["descriptors"][4] = descriptor).unwrap();
        outcome(&checkpoint).to_string()
    };
    let open = |preopen: &str, path: &str| {
        let hex: String = path.bytes().map(|byte| format!("{byte:02x}")).collect();
        json!({"kind": "file", "preopen": preopen, "path_hex": hex, "read": true, "write": true,
            "offset": 0, "append": false, "nonblock": false, "sync": 0})
    };
    // It names nothing in the directory of files without a name, so that one stays behind.
    for (preopen, path) in [
        ("/", "../../etc/passwd"),
        ("/", "/etc/passwd"),
        ("/", ".stratafs"),
        ("/else", "x"),
        ("/", ""),
    ] {
        let said = with(open(preopen, path));
        assert!(!said.contains("exit code 0"), "{preopen} {path}: {said}");
        assert!(!said.contains('\n'), "{said}");
    }
    let said = with(json!({"kind": "stream", "number": 3}));
    assert!(!said.contains("exit code 0"), "{said}");
}
