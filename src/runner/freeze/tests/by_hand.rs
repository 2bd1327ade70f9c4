//! Programs that a host freezes by hand, with functions of its own.

use wasmtime::{Caller, Engine, Extern, Linker, Module, Store};

use super::*;
use crate::runner::freeze::{Called, FreezableModule};

fn counting(engine: &Engine) -> Linker<i32> {
    let mut linker = Linker::new(engine);
    let next = |mut caller: Caller<'_, i32>| {
        *caller.data_mut() += 1;
        *caller.data()
    };
    linker.func_wrap("own", "next", next).unwrap();
    let swap = |mut caller: Caller<'_, i32>| {
        let table = caller.get_export("table").and_then(Extern::into_table);
        let table = table.unwrap();
        let [one, two] = [0, 1].map(|at| table.get(&mut caller, at).unwrap());
        table.set(&mut caller, 0, two).unwrap();
        table.set(&mut caller, 1, one).unwrap();
    };
    linker.func_wrap("own", "swap", swap).unwrap();
    linker
}

/// Calls an export up to a call of the host's function, which counts on from `count`.
fn frozen_by_hand(
    wasm: &[u8],
    linker: &Linker<i32>,
    entry: &str,
    (count, nth): (i32, u64),
) -> Vec<u8> {
    let program = FreezableModule::new(wasm).unwrap();
    let module = Module::new(linker.engine(), program.module()).unwrap();
    let mut store = Store::new(linker.engine(), count);
    let watched = program.instantiate(&mut store, &module, linker, move |_, call| {
        (call.name, call.nth) == ("next", nth)
    });
    let mut results = [wasmtime::Val::I32(0)];
    let called = watched.unwrap().call(&mut store, entry, &[], &mut results);
    let Called::Stopped(stopped) = called.unwrap() else {
        panic!("{entry} makes {nth} calls");
    };
    stopped.bake(&mut store).unwrap().into_bytes()
}

fn called(wasm: &[u8], linker: &Linker<i32>, entry: &str, count: i32) -> i32 {
    let module = Module::new(linker.engine(), wasm).unwrap();
    let mut store = Store::new(linker.engine(), count);
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let entry = instance
        .get_typed_func::<(), i32>(&mut store, entry)
        .unwrap();
    entry.call(&mut store, ()).unwrap()
}

#[test]
fn a_call_that_stands_still_goes_on_when_another_one_was_frozen_since() {
    let guest = Guest::from_bytes(
        "guest",
        r#"(module
          (import "own" "next" (func $next (result i32)))
          (func (export "sum") (result i32) (i32.add (call $next) (call $next)))
          (func (export "product") (result i32) (i32.mul (call $next) (call $next))))"#,
    );
    let linker = counting(&Engine::default());
    let guest = guest.unwrap();
    let first = frozen_by_hand(&guest.wasm().unwrap(), &linker, "sum", (0, 2));
    let second = frozen_by_hand(&first, &linker, "product", (10, 2));
    assert_eq!(called(&second, &linker, "sum", 20), 1 + 21);
    assert_eq!(called(&second, &linker, "product", 30), 11 * 31);
    // Each of them may be frozen once more, and the other one stays.
    let third = frozen_by_hand(&second, &linker, "sum", (40, 1));
    assert_eq!(called(&third, &linker, "sum", 50), 1 + 51);
    assert_eq!(called(&third, &linker, "product", 60), 11 * 61);
}

#[test]
fn frames_that_were_handed_over_stay_so() {
    let guest = Guest::from_bytes(
        "guest",
        r#"(module
          (import "own" "next" (func $next (result i32)))
          (func $tail (result i32) (return_call $next))
          (func (export "only") (result i32) (return_call $next))
          (func (export "below") (result i32) (i32.add (i32.const 100) (call $tail))))"#,
    );
    let (linker, guest) = (counting(&Engine::default()), guest.unwrap());
    for (entry, more) in [("only", 0), ("below", 100)] {
        let mut sizes = Vec::new();
        let mut module = guest.wasm().unwrap().into_owned();
        for _ in 0..5 {
            module = frozen_by_hand(&module, &linker, entry, (0, 1));
            sizes.push(module.len());
        }
        assert_eq!(called(&module, &linker, entry, 7), more + 8, "{entry}");
        assert!(
            sizes.iter().all(|size| *size == sizes[0]),
            "{entry}: {sizes:?}"
        );
    }
}

/// No code of the program changes it, but the host finds it among the exports.
#[test]
fn a_table_that_the_host_changed_goes_on_as_it_is() {
    let guest = Guest::from_bytes(
        "guest",
        r#"(module
          (import "own" "next" (func $next (result i32)))
          (import "own" "swap" (func $swap))
          (table (export "table") 2 funcref)
          (elem (i32.const 0) $one $two)
          (func $one (result i32) (i32.const 1))
          (func $two (result i32) (i32.const 2))
          (func (export "pick") (result i32)
            (call $swap)
            (i32.add (call $next) (call_indirect (result i32) (i32.const 0)))))"#,
    );
    let (linker, guest) = (counting(&Engine::default()), guest.unwrap());
    assert_eq!(called(&guest.wasm().unwrap(), &linker, "pick", 5), 6 + 2);
    let first = frozen_by_hand(&guest.wasm().unwrap(), &linker, "pick", (0, 1));
    assert_eq!(called(&first, &linker, "pick", 5), 6 + 2);
    let second = frozen_by_hand(&first, &linker, "pick", (0, 1));
    assert_eq!(called(&second, &linker, "pick", 5), 6 + 2);
}
