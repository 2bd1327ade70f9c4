//! Tables that were changed cost what they hold, not what they could.

use super::*;

/// A command that calls `$fill`, stops where it prints, and calls what stands in its table.
fn with_table(table: &str, fill: &str, look: &str) -> String {
    command(&format!(
        r#"(type $f (func (result i32)))
           (func $one (result i32) (i32.const 1))
           (func $two (result i32) (i32.const 2))
           (elem declare func $one $two)
           {table}
           (func $fill (local $at i32) {fill})
           (func (export "_start")
             (call $fill)
             (call $print (i32.const 0))
             {look})"#
    ))
}

fn frozen_at_first_write(wat: &str) -> Result<Checkpoint, FreezeError> {
    let guest = Guest::from_bytes("guest", wat).unwrap();
    let (written, config) = (Arc::default(), RunnerConfig::default());
    let point = "call:fd_write:1".parse().unwrap();
    let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point)?;
    let Freezing::Frozen(checkpoint) = frozen else {
        panic!("the guest did not come to the point");
    };
    Ok(checkpoint)
}

#[test]
fn a_table_that_is_nearly_all_null_takes_next_to_nothing() {
    let wat = with_table(
        "(table $t 1000000 funcref)",
        "(table.set $t (i32.const 5) (ref.func $one)) (table.set $t (i32.const 999999) (ref.func $two))",
        r#"(call $print (call_indirect (type $f) (i32.const 5)))
           (call $print (call_indirect (type $f) (i32.const 999999)))
           (call $print (ref.is_null (table.get $t (i32.const 6))))
           (call $print (i32.eq (table.size $t) (i32.const 1000000)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 5);
    let checkpoint = frozen_at_first_write(&wat).unwrap();
    let bytes = checkpoint.module().unwrap().len();
    assert!(bytes < 4096, "{bytes}");
}

#[test]
fn a_table_whose_every_other_element_is_null_is_kept() {
    let every_other = r#"(loop $next
        (table.set $t (local.get $at) (ref.func $two))
        (br_if $next (i32.lt_u
          (local.tee $at (i32.add (local.get $at) (i32.const 2))) (table.size $t))))"#;
    let look = r#"(call $print (ref.is_null (table.get $t (i32.const 9997))))
        (call $print (ref.is_null (table.get $t (i32.const 9998))))
        (call $print (ref.is_null (table.get $t (i32.const 9999))))"#;
    for ty in ["funcref", "(ref null $f)"] {
        let table = format!("(table $t 10000 {ty})");
        let wat = with_table(&table, every_other, look);
        assert_eq!(at_each(&wat, "fd_write"), 4, "{ty}");
    }
}

#[test]
fn tables_that_start_with_a_function_are_null_where_the_guest_says_so() {
    let wat = with_table(
        "(table $t 9 funcref (ref.func $one)) (table $u 9 (ref func) (ref.func $two))",
        "(table.set $t (i32.const 3) (ref.null func)) (table.set $u (i32.const 3) (ref.func $one))",
        r#"(call $print (ref.is_null (table.get $t (i32.const 3))))
           (call $print (call_indirect $t (type $f) (i32.const 4)))
           (call $print (call_indirect $u (type $f) (i32.const 3)))
           (call $print (call_indirect $u (type $f) (i32.const 4)))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 5);
}

/// An engine runs code for each of them, which takes three thousand times their bytes to compile.
#[test]
fn more_elements_that_are_filled_one_by_one_than_the_limit_are_refused() {
    let with = |elements: usize| {
        let table = format!("(table $t {elements} i31ref)");
        let fill = "(table.fill $t (i32.const 0) (ref.i31 (i32.const 7)) (table.size $t))";
        frozen_at_first_write(&with_table(&table, fill, ""))
    };
    assert!(with(2000).is_ok());
    let said = with(70_000).unwrap_err().to_string();
    assert!(said.contains("table 0") && said.contains("70000"), "{said}");
}

#[test]
fn elements_that_are_as_their_table_starts_cost_nothing() {
    let small = |table: &str, fill: &str| {
        let wat = with_table(
            table,
            fill,
            "(call $print (call_indirect $t (type $f) (i32.const 1)))",
        );
        assert_eq!(at_each(&wat, "fd_write"), 2, "{table}");
        let bytes = frozen_at_first_write(&wat).unwrap().module().unwrap().len();
        assert!(bytes < 4096, "{table}: {bytes}");
    };
    let one = "(table.set $t (i32.const 1) (ref.func $one))";
    small("(table $t 500000 funcref (ref.null func))", one);
    small("(table $t 500000 (ref null $f) (ref.null $f))", one);
    small("(table $t 500000 (ref $f) (ref.func $two))", one);
    small("(table $t 500000 funcref (ref.func $two))", one);
}

#[test]
fn tables_in_pieces_share_the_segments_that_there_are() {
    let tables: String = (0..5)
        .map(|table| format!("(table $t{table} 3000 (ref null $f)) (table $u{table} 3000 funcref)"))
        .collect();
    let fill: String = (0..5)
        .map(|table| {
            format!(
                r#"(local.set $at (i32.const 0))
                (loop $next
                  (table.set $t{table} (local.get $at) (ref.func $two))
                  (table.set $u{table} (local.get $at) (ref.func $two))
                  (br_if $next (i32.lt_u
                    (local.tee $at (i32.add (local.get $at) (i32.const 3))) (i32.const 3000))))"#
            )
        })
        .collect();
    let look = "(call $print (call_indirect $t4 (type $f) (i32.const 2997)))
        (call $print (call_indirect $u4 (type $f) (i32.const 2997)))
        (call $print (ref.is_null (table.get $u4 (i32.const 2998))))
        (call $print (ref.is_null (table.get $t4 (i32.const 2998))))";
    assert_eq!(at_each(&with_table(&tables, &fill, look), "fd_write"), 5);
}

/// The export of the entry leads elsewhere in what goes on.
#[test]
fn a_program_that_takes_a_reference_to_its_entry_goes_on() {
    let wat = command(
        r#"(func $start (export "_start")
             (call $print (i32.const 1))
             (call $print (ref.is_null (ref.func $start))))"#,
    );
    assert_eq!(at_each(&wat, "fd_write"), 2);
}
