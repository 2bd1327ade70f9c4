//! Guests with constructs that few programs have.

use super::*;
use crate::chunk::ChunkPool;
use crate::runner::HostDir;
use crate::vfs::Fs;

#[test]
fn memories_with_64_bits_are_kept() {
    let wat = command(
        r#"(memory $big i64 2 9) (data $big (memory $big) (i64.const 65600) "\05\06")
           (func (export "_start") (local $at i64)
           (local.set $at (i64.const 131064))
           (i64.store $big (local.get $at) (i64.const 7))
           (call $print (i32.load8_u $big (i64.const 65600)))
           (drop (memory.grow $big (i64.const 3)))
           (i64.store $big (i64.const 300000) (i64.const 8))
           (call $print (i32.wrap_i64 (i64.load $big (local.get $at))))
           (call $print (i32.wrap_i64 (memory.size $big)))
           (call $print (i32.wrap_i64 (i64.load $big (i64.const 300000))))
           (call $print (i32.wrap_i64 (memory.grow $big (i64.const 5)))) )"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 5);
}

#[test]
fn several_memories_and_their_segments_are_kept() {
    let wat = command(
        r#"(memory $a 1) (memory $b 0 3) (data $p "\04\05\06")
           (func (export "_start")
           (i32.store $a (i32.const 65532) (i32.const 3))
           (drop (memory.grow $b (i32.const 2)))
           (memory.init $b $p (i32.const 70000) (i32.const 0) (i32.const 3))
           (call $print (i32.load $a (i32.const 65532)))
           (memory.copy $a $b (i32.const 0) (i32.const 70000) (i32.const 3))
           (call $print (i32.load8_u $a (i32.const 2)))
           (call $print (memory.size $b))
           (data.drop $p)
           (call $print (i32.load8_u $b (i32.const 70001))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 4);
}

#[test]
fn tables_with_64_bits_are_kept() {
    let wat = command(
        r#"(type $f (func)) (table $t i64 3 20 funcref) (elem (table $t) (i64.const 1) func $a $b)
           (func $a (call $print (i32.const 1))) (func $b (call $print (i32.const 2)))
           (func (export "_start")
           (call_indirect $t (type $f) (i64.const 1))
           (drop (table.grow $t (ref.func $b) (i64.const 4)))
           (call_indirect $t (type $f) (i64.const 6))
           (table.set $t (i64.const 0) (table.get $t (i64.const 1)))
           (call_indirect $t (type $f) (i64.const 0))
           (call $print (i32.wrap_i64 (table.size $t))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 4);
}

#[test]
fn calls_through_references_and_tail_calls_through_them_go_on() {
    let wat = command(
        r#"(type $f (func (param i32) (result i32)))
           (elem declare func $d $e)
           (func $d (type $f) (call $print (local.get 0)) (i32.add (local.get 0) (i32.const 1)))
           (func $e (type $f) (call $print (i32.const 9)) (return_call_ref $f (local.get 0) (ref.func $d)))
           (func (export "_start") (local $r (ref null $f))
           (local.set $r (ref.func $e))
           (call $print (call_ref $f (call_ref $f (i32.const 3) (local.get $r)) (ref.func $d)))
           (local.set $r (ref.null $f))
           (call $print (ref.is_null (local.get $r)))
           (block $n (drop (br_on_null $n (local.get $r))) (call $print (i32.const 8)))
           (call $print (i32.const 7)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 6);
}

#[test]
fn imports_that_are_called_through_a_table_are_points() {
    let wat = command(
        r#"(type $w (func (param i32 i32 i32 i32) (result i32)))
           (table $t 2 funcref) (elem (table $t) (i32.const 0) func $fd_write)
           (func (export "_start")
           (i32.store8 (i32.const 100) (i32.const 65)) (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 1))
           (drop (call_indirect $t (type $w) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 0)))
           (table.set $t (i32.const 1) (table.get $t (i32.const 0)))
           (drop (call_indirect $t (type $w) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 1)))
           (drop (call_indirect $t (type $w) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 1))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 3);
}

#[test]
fn vectors_go_on_as_arguments_results_and_globals() {
    let wat = command(
        r#"(func $v (param v128) (result v128) (call $print (i32x4.extract_lane 1 (local.get 0))) (i32x4.add (local.get 0) (v128.const i32x4 1 1 1 1)))
           (global $g (mut v128) (v128.const i64x2 1 2))
           (func (export "_start") (local v128)
           (global.set $g (i32x4.add (call $v (v128.const i32x4 1 2 3 4)) (call $v (call $v (global.get $g)))))
           (call $print (i8x16.extract_lane_u 4 (global.get $g)))
           (call $print (i8x16.extract_lane_u 8 (global.get $g))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 5);
}

/// A file that took the name of another one, which is still open, is not that one.
#[test]
fn an_object_that_took_a_name_keeps_its_own_inode_number() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file"
        (func $unlink (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "b")
      (func $must (param i32) (if (i32.eqz (local.get 0)) (then unreachable)))
      (func $opened (param $flags i32) (result i32)
        (call $must (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 1)
          (local.get $flags) (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 8))))
        (i32.load (i32.const 8)))
      (func $number (param $fd i32) (result i64)
        (call $must (i32.eqz (call $stat (local.get $fd) (i32.const 64))))
        (i64.load (i32.const 72)))
      (func (export "_start") (local $old i32) (local $new i32) (local $was i64) (local $is i64)
        (local.set $old (call $opened (i32.const 0)))
        (call $must (i32.eqz (call $unlink (i32.const 3) (i32.const 16) (i32.const 1))))
        (local.set $new (call $opened (i32.const 5)))
        (local.set $was (call $number (local.get $old)))
        (local.set $is (call $number (local.get $new)))
        (call $must (i64.ne (local.get $was) (local.get $is)))
        (drop (call $yield))
        (call $must (i64.eq (local.get $was) (call $number (local.get $old))))
        (call $must (i64.eq (local.get $is) (call $number (local.get $new))))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let fs = Fs::new(&Image::empty());
    fs.write("/b", "the old one").unwrap();
    let image = Image::new(&[fs.diff(&ChunkPool::new()).unwrap()]).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:sched_yield:1".parse().unwrap();
    let frozen = freeze(&guest, &image, &plan(&written), &config, &point);
    let Ok(Freezing::Frozen(checkpoint)) = frozen else {
        panic!("it yields: {frozen:?}");
    };
    let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(checkpoint.image(), &plan(&written)).unwrap();
    assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
}

/// Describes a file, a directory and another file that it removed, and the root, before and behind two points.
const DESCRIBES: &str = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_unlink_file"
        (func $unlink (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_create_directory"
        (func $create (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_remove_directory"
        (func $remove (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_filestat_set_times"
        (func $set_times (param i32 i64 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "file.dir.seen")
      (func $must (param i32) (if (local.get 0) (then unreachable)))
      (func $opened (param $path i32) (param $length i32) (param $flags i32) (result i32)
        (call $must (call $open (i32.const 3) (i32.const 0) (local.get $path) (local.get $length)
          (local.get $flags) (select (i64.const 0) (i64.const 66) (i32.eq (local.get $flags) (i32.const 2)))
          (i64.const 0) (i32.const 0) (i32.const 8)))
        (i32.load (i32.const 8)))
      (func $describe (param $at i32) (param $file i32) (param $dir i32) (param $seen i32)
        (call $must (call $stat (local.get $file) (local.get $at)))
        (call $must (call $stat (local.get $dir) (i32.add (local.get $at) (i32.const 64))))
        (call $must (call $stat (local.get $seen) (i32.add (local.get $at) (i32.const 128))))
        (call $must (call $stat (i32.const 3) (i32.add (local.get $at) (i32.const 192)))))
      (func $same (local $at i32)
        (loop $each
          (call $must (i64.ne (i64.load (i32.add (local.get $at) (i32.const 1024)))
            (i64.load (i32.add (local.get $at) (i32.const 2048)))))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $each (i32.lt_u (local.get $at) (i32.const 256)))))
      (func (export "_start") (local $file i32) (local $dir i32) (local $seen i32)
        (local.set $file (call $opened (i32.const 16) (i32.const 4) (i32.const 1)))
        (call $must (call $create (i32.const 3) (i32.const 21) (i32.const 3)))
        (local.set $dir (call $opened (i32.const 21) (i32.const 3) (i32.const 2)))
        (local.set $seen (call $opened (i32.const 25) (i32.const 4) (i32.const 1)))
        (call $must (call $unlink (i32.const 3) (i32.const 16) (i32.const 4)))
        (call $must (call $remove (i32.const 3) (i32.const 21) (i32.const 3)))
        (call $must (call $unlink (i32.const 3) (i32.const 25) (i32.const 4)))
        ;; One has a time of access that was set, and one of writing from long ago.
        (call $must (call $set_times (local.get $seen) (i64.const 5) (i64.const 6) (i32.const 5)))
        (call $describe (i32.const 1024) (local.get $file) (local.get $dir) (local.get $seen))
        (drop (call $yield))
        (call $describe (i32.const 2048) (local.get $file) (local.get $dir) (local.get $seen))
        (call $same)
        (drop (call $yield))
        (call $describe (i32.const 2048) (local.get $file) (local.get $dir) (local.get $seen))
        (call $same)
        ;; What happens to it behind the point is told.
        (call $must (call $set_times (local.get $file) (i64.const 7) (i64.const 8) (i32.const 5)))
        (call $must (call $stat (local.get $file) (i32.const 2048)))
        (call $must (i64.ne (i64.load (i32.const 2088)) (i64.const 7)))
        (call $must (i64.ne (i64.load (i32.const 2096)) (i64.const 8)))))"#;

/// What has no name any more is given one for the checkpoint, and loses it again.
#[test]
fn what_is_open_and_removed_is_described_as_it_was() {
    let guest = Guest::from_bytes("guest", DESCRIBES).unwrap();
    assert_eq!(whole(&guest).outcome, "exit code 0");
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let plan = plan(&written);
    let frozen = |frozen: Result<Freezing, FreezeError>| match frozen {
        Ok(Freezing::Frozen(checkpoint)) => checkpoint,
        other => panic!("it yields: {other:?}"),
    };
    let goes_on = |checkpoint: &Checkpoint| {
        let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
        let report = runner.run(checkpoint.image(), &plan).unwrap();
        assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
    };
    let point = "call:sched_yield:1".parse().unwrap();
    let first = frozen(freeze(&guest, &Image::empty(), &plan, &config, &point));
    goes_on(&first);
    let later = "call:sched_yield:2".parse().unwrap();
    let second = frozen(first.freeze(first.image(), &plan, &config, &later));
    goes_on(&second);
    let layer = second.to_fs().unwrap().diff(&ChunkPool::new()).unwrap();
    let image = Image::new(&[layer]).unwrap();
    goes_on(&Checkpoint::open(&image).unwrap().unwrap());
}

#[test]
fn references_that_are_numbers_go_on_wherever_they_stand() {
    let wat = command(
        r#"(type $s (struct (field i32)))
           (global $held (mut anyref) (ref.null any)) (table $kept 2 9 eqref)
           (func $next (param (ref i31)) (result (ref i31))
             (call $print (i31.get_u (local.get 0)))
             (ref.i31 (i32.add (i31.get_u (local.get 0)) (i32.const 1))))
           (func $number (param $any anyref) (result i32)
             (call $print (i32.const 4))
             (i31.get_s (ref.cast (ref i31) (local.get $any))))
           (func (export "_start") (local $i i31ref) (local $any anyref) (local $eq eqref) (local $none i31ref)
             (local.set $any (ref.i31 (i32.const -1)))
             (local.set $eq (ref.i31 (i32.const 0x3fffffff)))
             (global.set $held (ref.i31 (i32.const 0x40000000)))
             (table.set $kept (i32.const 1) (ref.i31 (i32.const 6)))
             (local.set $i (call $next (call $next (ref.i31 (i32.const 0)))))
             ;; Of three types as operands, and as what a loop takes.
             (call $print (i32.add
               (i31.get_s (local.get $i))
               (i32.add (call $number (local.get $any)) (i32.eq (call $number (global.get $held)) (i32.const 0xc0000000)))))
             (call $print (ref.eq (local.get $eq)
               (block (result eqref) (drop (call $next (ref.i31 (i32.const 5)))) (ref.i31 (i32.const 0x3fffffff)))))
             (ref.i31 (i32.const 7))
             (loop $more (param (ref i31)) (result (ref i31))
               (local.set $i)
               (call $next (ref.as_non_null (local.get $i)))
               (br_if $more (i32.lt_u (i31.get_u (local.get $i)) (i32.const 8))))
             (call $print (i32.sub (i31.get_u) (i32.const 8)))
             (call $print (call $number (table.get $kept (i32.const 1))))
             (drop (table.grow $kept (ref.i31 (i32.const 3)) (i32.const 1)))
             (call $print (call $number (table.get $kept (i32.const 2))))
             (call $print (ref.is_null (local.get $none))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 15);
    // An object in the same place is none of them.
    let wat = command(
        r#"(type $s (struct (field i32)))
           (func (export "_start") (local $any anyref)
             (local.set $any (struct.new $s (i32.const 3)))
             (call $print (struct.get $s 0 (ref.cast (ref $s) (local.get $any)))))"#,
    );
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:fd_write:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
    let said = frozen.unwrap_err().to_string();
    assert!(said.contains("a reference to an object"), "{said}");
    assert!(said.contains("at offset"), "{said}");
}

/// No code names them: they stand in globals and in an object from the start.
#[test]
fn functions_that_a_program_is_made_with_go_on() {
    let wat = command(
        r#"(type $f (func (result i32))) (type $s (struct (field (ref $f))))
           (global $held (mut (ref null $f)) (ref.func $one))
           (global $kept (ref $s) (struct.new $s (ref.func $two)))
           (func $one (result i32) (call $said (i32.const 1)))
           (func $two (result i32) (call $said (i32.const 2)))
           (func (export "_start") (local $f (ref null $f))
             (call $print (call_ref $f (global.get $held)))
             (local.set $f (struct.get $s 0 (global.get $kept)))
             (call $print (call_ref $f (local.get $f)))
             (call $print (call_ref $f (global.get $held)))
             (global.set $held (local.get $f))
             (call $print (call_ref $f (global.get $held))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 8);
}

#[test]
fn tables_whose_elements_are_never_null_are_kept() {
    let wat = command(
        r#"(type $f (func (result i32)))
           (table $t 2 5 (ref $f) (ref.func $one))
           (elem declare func $two)
           (func $one (result i32) (call $said (i32.const 1)))
           (func $two (result i32) (call $said (i32.const 2)))
           (func $at (param i32) (result i32) (call_indirect $t (type $f) (local.get 0)))
           (func (export "_start")
             (call $print (call $at (i32.const 1)))
             (table.set $t (i32.const 1) (ref.func $two))
             (call $print (call $at (i32.const 1)))
             (call $print (table.grow $t (ref.func $two) (i32.const 1)))
             (call $print (call $at (i32.const 2)))
             (call $print (call $at (i32.const 0))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 9);
}

/// While an exception is in somebody's hands it is an object of the engine's.
#[test]
fn exceptions_that_are_held_are_refused_and_others_go_on() {
    let wat = command(
        r#"(tag $e (param i32)) (tag $o)
           (func $deep (param i32) (result i32)
           (call $print (local.get 0))
           (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 5))))
           (if (i32.eq (local.get 0) (i32.const 9)) (then (throw $o)))
           (i32.add (i32.const 1) (call $deep (i32.sub (local.get 0) (i32.const 1)))))
           (func $rethrow (param i32) (result i32)
           (block $h (result exnref)
           (return (try_table (result i32) (catch_all_ref $h) (call $deep (local.get 0)))))
           (call $print (i32.const 6))
           (throw_ref))
           (func (export "_start")
           (block $none
           (call $print (block $c (result i32)
           (try_table (result i32) (catch $e $c) (catch_all $none) (call $rethrow (i32.const 2)))))
           (call $print (block $c2 (result i32)
           (try_table (result i32) (catch $e $c2) (catch_all $none) (call $rethrow (i32.const 9)))))
           ) (call $print (i32.const 4)))"#,
    );
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let want = whole(&guest);
    assert_eq!(want.text, "21065964");
    for nth in 1..=8 {
        let point = Point::Call {
            function: "fd_write".into(),
            nth,
        };
        if [4, 7].contains(&nth) {
            let (written, config) = (Arc::default(), RunnerConfig::default());
            let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
            let said = frozen.unwrap_err().to_string();
            assert!(said.contains("(rethrow) at offset"), "{said}");
        } else {
            assert_eq!(in_two(&guest, &point).as_ref(), Some(&want), "{point}");
        }
    }
}

/// The trap of what goes on tells of the functions of the program.
#[test]
fn backtraces_name_the_functions_of_the_program() {
    let wat = command(
        r#"(func $inner (call $print (i32.const 1)) (unreachable))
           (func (call $inner))
           (func $outer (call 5))
           (func (export "_start") (call $outer))"#,
    );
    let wat = wat.replacen("(module", "(module $prog", 1);
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:fd_write:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
    let Ok(Freezing::Frozen(checkpoint)) = frozen else {
        panic!("it writes: {frozen:?}");
    };
    let runner = checkpoint.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(checkpoint.image(), &plan(&written)).unwrap();
    let Outcome::Trapped { backtrace, .. } = &report.instances[0].outcome else {
        panic!("{:?}", report.instances[0].outcome);
    };
    let at = |name: &str| {
        backtrace
            .find(name)
            .unwrap_or_else(|| panic!("{backtrace}"))
    };
    assert!(at("prog!inner") < at("prog!outer"), "{backtrace}");
    assert!(
        at("prog!inner") < at("prog!<wasm function 5>\n"),
        "{backtrace}"
    );
}

/// The build's frames are larger than those of the program.
#[test]
fn a_stack_that_is_nearly_full_is_left_and_goes_on() {
    let wat = command(
        r#"(func $down (param i32) (result i32)
             (if (result i32) (local.get 0)
               (then (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))
               (else (call $said (i32.const 1)))))
           (func (export "_start")
             (if (i32.ne (call $down (i32.const 10000)) (i32.const 10001)) (then unreachable)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 1);
}

/// Objects that stand in what never changes may have changed themselves.
#[test]
fn objects_that_a_program_is_made_with_are_refused_if_they_can_change() {
    let of = |mutability: &str, global: &str, change: &str| {
        let wat = command(&format!(
            r#"(type $s (struct (field {mutability})))
               {global}
               (func (export "_start")
                 {change}
                 (call $print (struct.get $s 0 (global.get $g))))"#
        ));
        let guest = Guest::from_bytes("guest", wat).unwrap();
        let written = Arc::default();
        let point = "call:fd_write:1".parse().unwrap();
        let config = RunnerConfig::default();
        freeze(&guest, &Image::empty(), &plan(&written), &config, &point)
    };
    let constant = "(global $g (ref $s) (struct.new $s (i32.const 3)))";
    let change = "(struct.set $s 0 (global.get $g) (i32.const 5))";
    let refused = of("(mut i32)", constant, change).unwrap_err().to_string();
    assert!(
        refused.contains("global 1 is made with an object that can change"),
        "{refused}"
    );
    // One that cannot change is made again as it was.
    let frozen = of("i32", constant, "").unwrap();
    assert!(matches!(frozen, Freezing::Frozen(_)), "{frozen:?}");
}

/// A directory of the host's is known by the guest's name for it.
#[test]
fn a_path_below_a_directory_of_the_host_is_a_point() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_filestat_get"
        (func $stat (param i32 i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "sub/./ready")
      (func $must (param i32) (if (local.get 0) (then unreachable)))
      (func (export "_start")
        ;; Below a directory that is shown, and below one that is open.
        (drop (call $stat (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 11) (i32.const 100)))
        (call $must (call $open (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 3) (i32.const 2)
          (i64.const 0x3fffffbf) (i64.const 0x3fffffff) (i32.const 0) (i32.const 64)))
        (drop (call $stat (i32.load (i32.const 64)) (i32.const 0) (i32.const 22) (i32.const 5) (i32.const 100)))
        (drop (call $stat (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 11) (i32.const 100)))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("sub")).unwrap();
    let mut plan = plan(&Arc::default());
    plan.host_dirs = vec![HostDir {
        dir: host.path().to_owned(),
        guest: "/side".to_owned(),
        rights: Rights::ReadWrite,
    }];
    let config = RunnerConfig::default();
    let at = |point: &str| {
        let point: Point = point.parse().unwrap();
        freeze(&guest, &Image::empty(), &plan, &config, &point).unwrap()
    };
    let Freezing::Frozen(first) = at("path:/side/sub/ready") else {
        panic!("it asks for it");
    };
    // What goes on asks by the open directory next.
    let again = |from: &Checkpoint, point: &str| {
        let mut after = from.plan();
        after.host_dirs.clone_from(&plan.host_dirs);
        from.freeze(from.image(), &after, &config, &point.parse().unwrap())
    };
    let second = again(&first, "call:path_filestat_get:2").unwrap();
    let Freezing::Frozen(second) = second else {
        panic!("it asks twice");
    };
    let third = again(&second, "path:/side/sub/ready").unwrap();
    assert!(matches!(third, Freezing::Frozen(_)), "{third:?}");
    // The same name below another directory is another path.
    let Freezing::Frozen(own) = at("path:/sub/ready") else {
        panic!("it asks for that as well");
    };
    assert_eq!(own.info().point, "path:/sub/ready");
    let ended = at("path:/side/ready");
    assert!(matches!(ended, Freezing::Ended(_)), "{ended:?}");
}
