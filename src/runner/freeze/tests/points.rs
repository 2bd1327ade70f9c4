//! Calls that are a point, whichever version of WASI they are of.

use super::*;

/// A subscription of preview0 has more bytes, so that a second one lies elsewhere.
#[test]
fn a_wait_for_input_is_the_point_in_either_version() {
    for (module, bytes, clock) in [
        ("wasi_snapshot_preview1", 48, 16),
        ("wasi_unstable", 56, 24),
    ] {
        let wat = format!(
            r#"(module
              (import "{module}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
              (import "{module}" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
              (memory (export "memory") 1)
              (data (i32.const 16) "ab")
              (func $say (param $letter i32)
                (i32.store (i32.const 0) (local.get $letter))
                (i32.store (i32.const 4) (i32.const 1))
                (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
              (func (export "_start")
                (call $say (i32.const 16))
                ;; A monotonic clock in ten seconds, and standard input.
                (i32.store (i32.const {clock_id}) (i32.const 1))
                (i64.store (i32.const {timeout}) (i64.const 10000000000))
                (i32.store8 (i32.const {tag}) (i32.const 1))
                (if (call $poll (i32.const 1024) (i32.const 2048) (i32.const 2) (i32.const 8))
                  (then unreachable))
                (call $say (i32.const 17))))"#,
            clock_id = 1024 + clock,
            timeout = 1024 + clock + 8,
            tag = 1024 + bytes + 8,
        );
        let guest = Guest::from_bytes("guest", wat).unwrap();
        let (written, config) = (Arc::default(), RunnerConfig::default());
        let plan = plan(&written);
        let frozen = freeze(&guest, &Image::empty(), &plan, &config, &Point::Stdin).unwrap();
        let Freezing::Frozen(checkpoint) = frozen else {
            panic!("{module}: it waits for its input");
        };
        assert_eq!(*written.lock().unwrap(), *b"a", "{module}");
        let runner = checkpoint.runner(config).unwrap();
        let report = runner.run(checkpoint.image(), &plan).unwrap();
        let ran = ran(&written, &report.instances[0].outcome);
        assert_eq!(
            (ran.text.as_str(), ran.outcome.as_str()),
            ("ab", "exit code 0"),
            "{module}"
        );
    }
}
