//! What cannot be frozen is refused by its name, before anything is compiled or written.

use wasmtime::{Engine, Func, Linker, Module, Store, StoreLimits, StoreLimitsBuilder};

use super::*;
use crate::limits::ADDED_CODE_BYTES;
use crate::runner::HostDir;
use crate::runner::freeze::{Called, FreezableModule};

/// Says why a module is refused wherever it stands.
fn refused(wat: &str) -> String {
    let guest = Guest::from_bytes("guest", wat).unwrap_or_else(|error| panic!("{error}"));
    let refusal = FreezableModule::new(&guest.wasm().unwrap())
        .map(drop)
        .unwrap_err();
    refusal.to_string()
}

/// Says why a guest is refused at its first write.
fn refused_at_its_write(wat: &str) -> String {
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:fd_write:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
    frozen.unwrap_err().to_string()
}

/// The host instantiates the guest there: its stack cannot be left.
#[test]
fn a_point_in_a_start_function_is_refused_and_not_passed_by() {
    let wat = command(
        r#"(import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
          (func $start
            (call $print (i32.const 1))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))))
          (start $start)
          (func (export "_start")
            (call $print (i32.const 2))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8))))"#,
    );
    // Imports come first.
    let (head, tail) = wat.split_once("(memory (export").unwrap();
    let import = tail.find("(import").unwrap();
    let end = import + tail[import..].find(")))").unwrap() + 3;
    let wat = [
        head,
        &tail[import..end],
        "(memory (export",
        &tail[..import],
        &tail[end..],
    ]
    .concat();
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let freeze_at = |point: &str| {
        let point = point.parse().unwrap();
        freeze(&guest, &Image::empty(), &plan(&written), &config, &point)
    };
    for point in ["stdin", "call:fd_read:1", "call:fd_write:1"] {
        let said = freeze_at(point).unwrap_err().to_string();
        assert!(said.contains("made by a start function"), "{point}: {said}");
    }
    // Those of the start function count.
    for point in ["call:fd_read:2", "call:fd_write:2"] {
        assert!(
            matches!(freeze_at(point), Ok(Freezing::Frozen(_))),
            "{point}"
        );
    }
}

#[test]
fn an_entry_that_returns_something_is_refused() {
    let said =
        refused_at_its_write(r#"(module (func (export "_start") (result i32) (i32.const 1)))"#);
    assert!(said.contains("`_start` takes or returns"), "{said}");
}

/// The build names more functions than the program does, so that its code would be taken.
#[test]
fn a_program_that_the_engine_does_not_take_is_refused() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (func $other)
      (func $takes (drop (ref.func $other)))
      (func (export "_start") (call $takes) (drop (call $yield))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let said = Runner::new(&guest, RunnerConfig::default()).unwrap_err();
    assert!(said.to_string().contains("undeclared"), "{said}");
    let (written, point) = (Arc::default(), "call:sched_yield:1".parse().unwrap());
    // Whether or not the build is in the cache.
    let home = tempfile::tempdir().unwrap();
    let config = RunnerConfig {
        cache_dir: Some(home.path().to_owned()),
        ..RunnerConfig::default()
    };
    for _ in 0..2 {
        let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
        let said = frozen.unwrap_err().to_string();
        assert!(
            said.contains("undeclared reference to function 1"),
            "{said}"
        );
        assert!(said.contains("takes"), "{said}");
    }
}

/// Where it goes on, the devices would lie in the directory that the guest made.
#[test]
fn a_guest_that_makes_a_dev_beside_the_devices_is_refused() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_create_directory" (func $make (param i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "dev")
      (func (export "_start")
        (if (call $make (i32.const 3) (i32.const 0) (i32.const 3)) (then unreachable))
        (drop (call $yield))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let plan = RunPlan {
        furnished: true,
        ..plan(&Arc::default())
    };
    let point = "call:sched_yield:1".parse().unwrap();
    let frozen = freeze(
        &guest,
        &Image::empty(),
        &plan,
        &RunnerConfig::default(),
        &point,
    );
    let said = frozen.unwrap_err().to_string();
    assert!(said.contains("made a /dev of its own"), "{said}");
}

#[test]
fn imports_that_are_no_functions_are_refused_by_their_names() {
    for (kind, import) in [
        ("memory", "(memory 1)"),
        ("global", "(global (mut i32))"),
        ("table", "(table 1 funcref)"),
        ("tag", "(tag)"),
    ] {
        let said = refused(&format!(r#"(module (import "host" "its own" {import}))"#));
        let wanted = format!(r#"the {kind} "its own" of "host" is imported"#);
        assert!(said.starts_with(&wanted), "{said}");
    }
    let said = refused(r#"(module (memory 1) (memory 1 2 shared))"#);
    assert!(said.starts_with("memory 1 is shared"), "{said}");
}

#[test]
fn names_that_the_build_takes_are_refused() {
    let said = refused(r#"(module (global (export "stratafs.checkpoint/top") i32 (i32.const 0)))"#);
    assert!(said.contains("stratafs.checkpoint/top"), "{said}");
}

/// Operators that stand in no frame that can be left harm nobody.
#[test]
fn operators_that_cannot_be_left_are_refused_with_function_and_offset() {
    let legacy = "try call $yield drop catch_all end";
    let switch = "(drop (call $yield)) (drop (cont.new $k (ref.func $f)))";
    for (code, what) in [(legacy, "first proposal"), (switch, "a switch of stacks")] {
        let said = refused(&format!(
            r#"(module
              (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
              (type $t (func)) (type $k (cont $t))
              (elem declare func $f) (func $f)
              (func $odd {code})
              (func (export "_start") (call $odd)))"#
        ));
        assert!(said.starts_with("function 2 (odd) at offset 0x"), "{said}");
        assert!(said.contains(what), "{said}");
    }
}

/// Objects may stand in all that a program is: each place is named.
#[test]
fn objects_are_refused_by_the_place_where_they_stand() {
    let types = "(type $s (struct (field i32)))";
    let made = "(struct.new $s (i32.const 3))";
    let write = "(call $print (i32.const 1))";
    let of = |items: &str, code: &str| {
        refused_at_its_write(&command(&format!(
            r#"{types} {items} (func $holds (export "_start") {code})"#
        )))
    };
    let global = of(
        "(global $held (mut anyref) (ref.null any))",
        &format!("(global.set $held {made}) {write}"),
    );
    assert!(
        global.contains("global 1 holds a reference to an object"),
        "{global}"
    );
    let table = of(
        "(table $kept 3 anyref)",
        &format!("(table.set $kept (i32.const 2) {made}) {write}"),
    );
    assert!(
        table.contains("element 2 of table 0 is a reference to an object"),
        "{table}"
    );
    let operand = of("", &format!("{made} {write} (drop)"));
    assert!(
        operand.contains("(holds) at offset 0x")
            && operand.contains("an operand holds a reference"),
        "{operand}"
    );
}

/// A file of the host's that has another name than it was opened by cannot be opened again.
#[test]
fn an_open_file_of_the_host_without_its_name_is_refused_by_its_number() {
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "path_rename"
        (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 16) "onetwo")
      (func $must (param i32) (if (local.get 0) (then unreachable)))
      (func $make (param $name i32)
        (call $must (call $open (i32.const 4) (i32.const 0) (local.get $name) (i32.const 3) (i32.const 1)
          (i64.const 0x3fffffbf) (i64.const 0x3fffffff) (i32.const 0) (i32.const 64))))
      (func (export "_start")
        (call $make (i32.const 16))
        (call $must (call $rename (i32.const 4) (i32.const 16) (i32.const 3)
          (i32.const 4) (i32.const 19) (i32.const 3)))
        (drop (call $yield))
        ;; Nor is another file that has the name it was opened by.
        (call $make (i32.const 16))
        (call $must (call $close (i32.load (i32.const 64))))
        (drop (call $yield))
        (call $must (call $close (i32.const 5)))
        (drop (call $yield))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let at = |nth: u64| {
        let host = tempfile::tempdir().unwrap();
        let mut plan = plan(&Arc::default());
        plan.host_dirs = vec![HostDir {
            dir: host.path().to_owned(),
            guest: "/side".to_owned(),
            rights: Rights::ReadWrite,
        }];
        let point = format!("call:sched_yield:{nth}").parse().unwrap();
        freeze(
            &guest,
            &Image::empty(),
            &plan,
            &RunnerConfig::default(),
            &point,
        )
    };
    for nth in [1, 2] {
        let said = at(nth).unwrap_err().to_string();
        assert!(said.contains("descriptor 5"), "{said}");
        assert!(said.contains("in a directory of the host"), "{said}");
    }
    // One that is closed keeps nobody.
    assert!(matches!(at(3).unwrap(), Freezing::Frozen(_)));
}

/// What a call passes to its host is made once more where it goes on.
#[test]
fn a_reference_to_a_function_as_an_argument_is_refused() {
    let wat = r#"(module
      (import "own" "take" (func $take (param funcref)))
      (elem declare func $given)
      (func $given)
      (func (export "run") (call $take (ref.null func)) (call $take (ref.func $given))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    linker
        .func_wrap("own", "take", |_: Option<Func>| {})
        .unwrap();
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    let at = |nth: u64| {
        let mut store = Store::new(&engine, ());
        let watched =
            program.instantiate(&mut store, &module, &linker, move |_, call| call.nth == nth);
        match watched
            .unwrap()
            .call(&mut store, "run", &[], &mut [])
            .unwrap()
        {
            Called::Stopped(stopped) => stopped.bake(&mut store).map(drop),
            Called::Returned => panic!("it calls twice"),
        }
    };
    assert!(at(1).is_ok(), "a null is no reference");
    let said = at(2).unwrap_err().to_string();
    assert!(
        said.contains("an argument is a reference to a function"),
        "{said}"
    );
}

/// Some kilobytes of code would become gigabytes.
#[test]
fn operands_that_each_block_would_save_again_are_refused_by_their_function() {
    let of = |operands: usize, blocks: usize| {
        let pushed = "(i32.const 0)".repeat(operands);
        let block = "(block (drop (call $yield)))".repeat(blocks);
        let dropped = "(drop)".repeat(operands);
        format!(
            r#"(module
              (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
              (func $other)
              (func $many {pushed} {block} {dropped})
              (func (export "_start") (call $many)))"#
        )
    };
    for (operands, blocks) in [(20_000, 100_000), (45_000, 1_000), (500, 10_000)] {
        let said = refused(&of(operands, blocks));
        assert!(said.starts_with("function 2 (many) at offset 0x"), "{said}");
        assert!(said.contains("too many operands lie below"), "{said}");
    }
    let said = refused(&of(60_000, 1));
    assert!(said.starts_with("function 2 (many) at offset 0x"), "{said}");
    assert!(said.contains("more than 50000 locals"), "{said}");
    // In front of few blocks many harm nobody.
    let guest = Guest::from_bytes("guest", of(20_000, 10)).unwrap();
    FreezableModule::new(&guest.wasm().unwrap()).unwrap();
}

/// Functions of some bytes may have thousands of locals.
#[test]
fn code_that_is_added_has_a_bound_for_the_whole_program() {
    const LOCALS: usize = 49_000;
    let of = |functions: usize| {
        let locals = "i64 ".repeat(LOCALS);
        let many = format!("(func (local {locals}) (drop (call $yield)))").repeat(functions);
        format!(
            r#"(module
              (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
              {many})"#
        )
    };
    // For each local: where the frame is, the local, and the place in the frame.
    let least = usize::try_from(ADDED_CODE_BYTES).unwrap() / (LOCALS * 20);
    let guest = Guest::from_bytes("guest", of(least)).unwrap();
    FreezableModule::new(&guest.wasm().unwrap()).unwrap();
    let said = refused(&of(least * 3));
    assert!(said.starts_with("function "), "{said}");
    assert!(said.contains("what is added to the program"), "{said}");
}

/// One that the table of those on the stack has no room for would go on as null.
#[test]
fn more_references_on_the_stack_than_a_table_may_have_are_refused() {
    let wat = r#"(module
      (import "own" "point" (func $point))
      (elem declare func $a)
      (func $a)
      (func (export "run") (local $one funcref) (local $two funcref)
        (local.set $one (ref.func $a))
        (call $point)
        (local.set $two (ref.func $a))
        (ref.func $a) (ref.func $a)
        (call $point)
        (drop) (drop)
        (call $point)))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let wasm = guest.wasm().unwrap();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    linker.func_wrap("own", "point", || {}).unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    // As many as the table of all functions has.
    let at = |nth: u64, elements: usize| {
        let limits = StoreLimitsBuilder::new().table_elements(elements).build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits: &mut StoreLimits| limits);
        let watched =
            program.instantiate(&mut store, &module, &linker, move |_, call| call.nth == nth);
        let called = watched.unwrap().call(&mut store, "run", &[], &mut []);
        let Called::Stopped(stopped) = called.unwrap() else {
            panic!("it calls three times");
        };
        stopped.bake(&mut store).map(drop)
    };
    at(1, 3).unwrap();
    at(2, 4).unwrap();
    let said = at(2, 3).unwrap_err().to_string();
    assert!(said.starts_with("function 2 at offset 0x"), "{said}");
    assert!(
        said.contains("an operand holds a reference to a function"),
        "{said}"
    );
    assert!(
        said.contains("more of them on the stack than a table"),
        "{said}"
    );
}
