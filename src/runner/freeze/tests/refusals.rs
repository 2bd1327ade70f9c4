//! What cannot be frozen is refused by its name, before anything is compiled or written.

use super::*;
use crate::runner::freeze::FreezableModule;

/// Says why a module is refused wherever it stands.
fn refused(wat: &str) -> String {
    let guest = Guest::from_bytes("guest", wat).unwrap_or_else(|error| panic!("{error}"));
    let refusal = FreezableModule::new(guest.wasm()).map(drop).unwrap_err();
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
