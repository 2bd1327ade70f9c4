//! Programs that are frozen again and again.

use super::*;
use crate::digest::Digest;

/// Sections in front of this one are numbered and sized; behind it comes the module.
const HEADER_BYTES: usize = 8;

/// Recursion, loops within loops, operands below calls, and a table that changes.
fn winding() -> Guest {
    let wat = command(
        r#"(type $f (func (param i32) (result i32)))
           (table $t 4 8 funcref) (elem declare func $said $deep)
           (data $word "5")
           (func $deep (param $n i32) (result i32) (local $i i32)
             (if (i32.eqz (local.get $n)) (then (return (call $said (i32.const 1)))))
             (table.set $t (local.get $n) (ref.func $said))
             (local.get $n)
             (loop $rounds (param i32) (result i32)
               (block $out (param i32) (result i32)
                 (i32.add (call_indirect $t (type $f) (i32.const 2) (local.get $n)))
                 (if (param i32) (result i32) (i32.and (local.get $i) (i32.const 1))
                   (then (i32.add (call $deep (i32.sub (local.get $n) (i32.const 1)))))
                   (else (i32.const 3) (call $said) (i32.add))))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $rounds (i32.lt_u (local.get $i) (i32.const 4)))))
           (func (export "_start") (local $i i32)
             (loop $all
               (drop (call $deep (i32.const 2)))
               (memory.init $word (i32.const 200) (i32.const 0) (i32.const 1))
               (call $print (i32.sub (i32.load8_u (i32.const 200)) (i32.const 48)))
               (local.set $i (i32.add (local.get $i) (i32.const 1)))
               (br_if $all (i32.lt_u (local.get $i) (i32.const 6)))))"#,
    );
    Guest::from_bytes("guest", wat).unwrap()
}

/// Freezes a module at its second call, and what goes on at its second one, and so on, until it
/// ends or has been frozen `most` times. Returns what all of them wrote together, and
/// the modules.
pub(super) fn generations(
    first: Vec<u8>,
    most: usize,
    mut check: impl FnMut(&Checkpoint),
) -> (Ran, Vec<Vec<u8>>) {
    let point: Point = "call:fd_write:2".parse().unwrap();
    let (mut text, mut modules) = (String::new(), vec![first]);
    let mut outcome = String::new();
    while outcome.is_empty() && modules.len() <= most {
        let written = Arc::default();
        let guest = Guest::from_bytes("guest", modules.last().unwrap().clone()).unwrap();
        let config = RunnerConfig::default();
        let frozen = freeze(&guest, &Image::empty(), &plan(&written), &config, &point).unwrap();
        text += &ran(&written, &Outcome::Exited(0)).text;
        match frozen {
            Freezing::Frozen(checkpoint) => {
                check(&checkpoint);
                modules.push(checkpoint.module().unwrap().to_vec());
            }
            Freezing::Ended(ended) => outcome = ended.to_string(),
        }
    }
    (Ran { text, outcome }, modules)
}

#[test]
fn a_program_that_is_frozen_again_and_again_does_not_grow() {
    let guest = winding();
    let (want, program) = (whole(&guest), Digest::of(&guest.wasm().unwrap()));
    let (found, modules) = generations(
        guest.wasm().unwrap().into_owned(),
        usize::MAX,
        |checkpoint| {
            assert_eq!(checkpoint.info().program_digest, program);
        },
    );
    assert_eq!(found, want);
    assert!(modules.len() > 100, "{} generations", modules.len());
    let largest = |modules: &[Vec<u8>]| modules.iter().map(Vec::len).max().unwrap();
    // By then it has stood at all of its places. Numbers in it may take a few digits more.
    let (early, late) = modules.split_at(modules.len() / 3);
    assert!(
        largest(late) <= largest(early) + 64,
        "{} bytes, and then {}",
        largest(early),
        largest(late)
    );
}

/// Tools that rewrite modules may leave the section that tells of the program as it was.
#[test]
fn a_module_that_was_changed_since_is_a_program_of_its_own() {
    let guest = winding();
    let want = whole(&guest);
    let (_, modules) = generations(guest.wasm().unwrap().into_owned(), 2, |_| {});
    let (header, rest) = modules.last().unwrap().split_at(HEADER_BYTES);
    // A section of no meaning, whose name is one letter.
    let changed = [header, &[0, 2, 1, b'x'], rest].concat();
    let digest = Digest::of(&changed);
    let (found, modules) = generations(changed, 30, |checkpoint| {
        // What comes of it is made of it.
        assert_eq!(checkpoint.info().program_digest, digest);
    });
    assert_eq!(modules.len(), 31);
    // Two bytes had been written before.
    assert_eq!(found.text, want.text[2..32]);
}
