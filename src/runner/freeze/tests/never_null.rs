//! Guests with references that are never null: in locals, operands, results, and where a loop is
//! entered.

use wasmtime::{Engine, Func, FuncType, HeapType, Linker, Module, RefType, Store, ValType};

use super::generations::generations;
use super::*;
use crate::runner::freeze::{Called, FreezableModule, Refusal};

/// Freezes a guest at each call, and what goes on at each second one until it ends.
fn goes_on(body: &str, calls: u64) {
    let wat = command(body);
    assert_eq!(at_each(&wat, "fd_write"), calls);
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let first = guest.wasm().unwrap().into_owned();
    let (found, modules) = generations(first, usize::MAX, |_| {});
    assert_eq!(found, whole(&guest));
    assert_eq!(modules.len() as u64, calls);
}

/// Says why a guest is refused at one of its writes.
fn refused_at(wat: &str, nth: u64) -> String {
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = format!("call:fd_write:{nth}").parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point);
    frozen.unwrap_err().to_string()
}

#[test]
fn locals_that_are_never_null_go_on_before_and_after_they_are_set() {
    goes_on(
        r#"(type $f (func (result i32)))
           (elem declare func $one $two)
           (func $one (type $f) (call $said (i32.const 1)))
           (func $two (type $f) (call $said (i32.const 2)))
           (func (export "_start") (local $i i32) (local $r (ref $f)) (local $any (ref func)) (local $n (ref i31))
             (call $print (i32.const 0))
             (local.set $r (ref.func $one))
             (loop $again
               (call $print (call_ref $f (local.get $r)))
               (block
                 (local.set $any (local.tee $r (ref.func $two)))
                 (call $print (ref.is_null (local.get $any))))
               (local.set $n (ref.i31 (i32.const 5)))
               (call $print (i31.get_u (local.get $n)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $again (i32.lt_u (local.get $i) (i32.const 2)))))"#,
        9,
    );
}

/// Where it goes on a function has no parameters: they are locals as the others are.
#[test]
fn parameters_that_are_never_null_go_on_as_often_as_one_likes() {
    goes_on(
        r#"(type $f (func))
           (elem declare func $a)
           (func $a (call $print (i32.const 3)))
           (func $h (param $f (ref $f)) (param $n i32) (param $i (ref i31))
             (call $print (i32.const 1))
             (call $print (i31.get_u (local.get $i)))
             (call_ref $f (local.get $f))
             (if (local.get $n) (then
               (call $h (local.tee $f (local.get $f)) (i32.sub (local.get $n) (i32.const 1)) (ref.i31 (i32.const 6)))))
             (call_ref $f (local.get $f)))
           (func (export "_start") (call $h (ref.func $a) (i32.const 2) (ref.i31 (i32.const 9))))"#,
        12,
    );
    // What was frozen at one call of one import is frozen at the next one.
    let wat = r#"(module
      (import "wasi_snapshot_preview1" "sched_yield" (func $y (result i32)))
      (memory (export "memory") 1) (type $f (func)) (elem declare func $a) (func $a)
      (func $h (param (ref $f)) (drop (call $y)) (drop (call $y)) (call_ref $f (local.get 0)))
      (func (export "_start") (call $h (ref.func $a))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (plan, config) = (plan(&Arc::default()), RunnerConfig::default());
    let point = "call:sched_yield:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan, &config, &point).unwrap();
    let Freezing::Frozen(first) = frozen else {
        panic!("it yields");
    };
    let later = "call:sched_yield:2".parse().unwrap();
    let frozen = first.freeze(first.image(), &plan, &config, &later).unwrap();
    let Freezing::Frozen(second) = frozen else {
        panic!("it yields twice");
    };
    let runner = second.runner(RunnerConfig::default()).unwrap();
    let report = runner.run(second.image(), &plan).unwrap();
    assert_eq!(report.instances[0].outcome, Outcome::Exited(0));
}

#[test]
fn results_that_are_never_null_stand_in_for_nothing() {
    goes_on(
        r#"(type $f (func (result i32))) (type $g (func (param i32)))
           (elem declare func $a $print)
           (func $a (type $f) (call $said (i32.const 7)))
           (func $several (result (ref $f) i32 (ref func) (ref $g) (ref i31) (ref any))
             (ref.func $a)
             (call $said (i32.const 1))
             (ref.func $print) (ref.func $print)
             (ref.i31 (call $said (i32.const 2))) (ref.i31 (call $said (i32.const 3))))
           (func $handed (result (ref $f) i32 (ref func) (ref $g) (ref i31) (ref any))
             (call $several))
           (func (export "_start") (local $any (ref any)) (local $i (ref i31)) (local $g (ref $g)) (local $x i32)
             (call $handed)
             (local.set $any) (local.set $i) (local.set $g) (drop) (local.set $x)
             (call_ref $g (call_ref $f) (local.get $g))
             (call $print (i32.add (local.get $x) (i31.get_u (local.get $i))))
             (call $print (i31.get_u (ref.cast (ref i31) (local.get $any)))))"#,
        7,
    );
}

/// A loop that is entered in its middle is given what nobody looks at, and so are blocks in it.
#[test]
fn loops_that_take_references_that_are_never_null_are_entered_in_their_middle() {
    goes_on(
        r#"(type $f (func (result i32)))
           (elem declare func $a $b)
           (func $a (type $f) (call $said (i32.const 7)))
           (func $b (type $f) (call $said (i32.const 8)))
           (func (export "_start") (local $i i32) (local $late (ref $f))
             (i32.const 3) (ref.func $a) (i64.const 9)
             (loop $again (param i32 (ref $f) i64) (result i32)
               (drop) (local.set $late) (drop)
               (i32.const 1) (local.get $late)
               (block $out (param i32 (ref $f)) (result (ref $f))
                 (call $print (i32.const 2))
                 (local.set $late) (drop)
                 (local.get $late) (i32.and (local.get $i) (i32.const 1))
                 (if (param (ref $f)) (result (ref $f))
                   (then (call_ref $f) (call $print) (ref.func $b) (call $print (i32.const 3)))
                   (else (call $print (i32.const 4)) (call_ref $f) (call $print) (ref.func $a) (br $out))))
               (local.set $late)
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (i32.const 3) (local.get $late) (i64.const 2)
               (br_if $again (i32.lt_u (local.get $i) (i32.const 3)))
               (drop) (drop))
             (call $print))"#,
        13,
    );
    // One that never goes round again.
    goes_on(
        r#"(type $f (func)) (elem declare func $a) (func $a)
           (func (export "_start")
             (ref.func $a)
             (loop (param (ref $f)) (drop) (call $print (i32.const 1)) (call $print (i32.const 2))))"#,
        2,
    );
}

/// Objects cannot be made again, and nothing else is of their types.
#[test]
fn objects_that_are_never_null_are_refused_by_name_where_one_would_have_to_be_made() {
    let wat = command(
        r#"(type $s (struct (field i32)))
           (func $made (result (ref $s)) (call $print (i32.const 1)) (struct.new $s (i32.const 3)))
           (func $round
             (struct.new $s (i32.const 4))
             (loop (param (ref $s)) (drop) (call $print (i32.const 5))))
           (func (export "_start")
             (call $print (struct.get $s 0 (call $made)))
             (call $round)
             (call $print (i32.const 6)))"#,
    );
    let said = refused_at(&wat, 1);
    assert!(said.contains("function 4 (made) at offset 0x"), "{said}");
    assert!(
        said.contains("it gives a reference to an object that is never null"),
        "{said}"
    );
    let said = refused_at(&wat, 3);
    assert!(said.contains("function 5 (round) at offset 0x"), "{said}");
    assert!(said.contains("a loop that is not at its start"), "{said}");
    // Where they are not on the stack they harm nobody.
    let guest = Guest::from_bytes("guest", wat).unwrap();
    for nth in [2, 4] {
        let point = format!("call:fd_write:{nth}").parse().unwrap();
        assert_eq!(in_two(&guest, &point).unwrap(), whole(&guest), "{nth}");
    }
}

/// A function of the host's own may give what is never null as well.
#[test]
fn a_call_that_gives_a_reference_that_is_never_null_is_a_point() {
    let wat = r#"(module
      (type $f (func (result i32)))
      (import "own" "function" (func $function (result (ref $f))))
      (import "own" "object" (func $object (result (ref extern))))
      (export "given" (func $given))
      (func $given (type $f) (i32.const 42))
      (func (export "run") (result i32) (call_ref $f (call $function)))
      (func (export "hold") (drop (call $object))))"#;
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let engine = Engine::default();
    let mut linker = Linker::new(&engine);
    let function = HeapType::ConcreteFunc(FuncType::new(&engine, [], [ValType::I32]));
    for (name, heap_type) in [("function", function), ("object", HeapType::Extern)] {
        let result = ValType::Ref(RefType::new(false, heap_type));
        let ty = FuncType::new(&engine, [], [result]);
        linker
            .func_new("own", name, ty, |mut caller, _, results| {
                let given = caller
                    .get_export("given")
                    .and_then(|given| given.into_func());
                results[0] = given.into();
                Ok(())
            })
            .unwrap();
    }
    let wasm = guest.wasm().unwrap();
    let program = FreezableModule::new(&wasm).unwrap();
    let module = Module::new(&engine, program.module()).unwrap();
    let mut store = Store::new(&engine, ());
    let watched = program.instantiate(&mut store, &module, &linker, |_, _| true);
    let watched = watched.unwrap();
    let refused = watched.call(&mut store, "hold", &[], &mut []).unwrap_err();
    let said = refused.downcast_ref::<Refusal>().unwrap().to_string();
    assert!(
        said.contains("`own::object` gives a reference to an object"),
        "{said}"
    );
    let mut results = [wasmtime::Val::I32(0)];
    let called = watched.call(&mut store, "run", &[], &mut results).unwrap();
    let Called::Stopped(stopped) = called else {
        panic!("it calls");
    };
    let frozen = stopped.bake(&mut store).unwrap();
    let module = Module::new(&engine, frozen.bytes()).unwrap();
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let run: Func = instance.get_func(&mut store, "run").unwrap();
    let run = run.typed::<(), i32>(&store).unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), 42);
}
