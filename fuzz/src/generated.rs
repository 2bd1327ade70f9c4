//! Programs made of bytes: every construct that the engine lets guests use by default, with
//! calls of an import wherever a call may stand.

use std::fmt::Write;

use super::feed::Feed;

/// How deep expressions and blocks are nested.
pub(super) const DEPTH: u32 = 5;

/// How many pieces a function has at most.
const PIECES: u32 = 50;

/// The functions besides the entry. Each may call each.
pub(super) const FUNCTIONS: usize = 4;

/// How often all loops of a program go round together.
const ROUNDS: u32 = 30;

/// How many calls of its own functions a program makes.
const CALLS: u32 = 40;

/// What stands before the functions that are made. `$yield` is the import that a program is
/// frozen at; `$put` prints a number.
const HEAD: &str = r#"(module
(type $function (func (param i32 i64 f64) (result i64)))
(type $many (func (param i64 i32) (result i64 i32 f32)))
(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(memory (export "memory") 1)
(memory $large i64 1 3)
(memory $other 1 3)
(tag $tag (param i64))
(global $state (mut i64) (i64.const 1))
(global $vector (mut v128) (v128.const i32x4 1 2 3 4))
(global $held (mut (ref null $function)) (ref.null $function))
(global $any (mut anyref) (ref.null any))
(table $numbers 2 eqref)
(table $called funcref (elem $f0 $f1 $f2 $f3))
(table $kept 3 9 (ref null $function))
(elem $few (ref null $function) (ref.func $f2) (ref.null $function) (ref.func $f1))
(data $bytes "some bytes to be copied")
(func $again (result i32)
(global.set $rounds (i32.sub (global.get $rounds) (i32.const 1)))
(i32.gt_s (global.get $rounds) (i32.const 0)))
(func $put (param i64)
(i64.store (i32.const 65000) (local.get 0))
(i32.store (i32.const 65016) (i32.const 65000)) (i32.store (i32.const 65020) (i32.const 8))
(drop (call $write (i32.const 1) (i32.const 65016) (i32.const 1) (i32.const 65024))))
(func $number (param anyref) (result i64)
(if (result i64) (ref.test (ref i31) (local.get 0))
(then (i64.extend_i32_u (i31.get_u (ref.cast (ref i31) (local.get 0))))) (else (i64.const -1))))
(func $sum (param $sum i64) (param $word i64) (result i64)
(i64.add (i64.mul (local.get $sum) (i64.const 31)) (local.get $word)))
(func $picked (param i32) (result (ref $function) i32) (local (ref $function))
(local.set 1 (ref.func $f3))
(if (i32.and (local.get 0) (i32.const 1)) (then (drop (call $yield)) (local.set 1 (ref.func $f1))))
(local.get 1) (call $yield))
(func $given (param (ref $function) i32 i64) (result i64)
(call_ref $function (call $yield) (local.get 2) (f64.const 2)
(if (result (ref $function)) (local.get 1)
(then (drop (call $yield)) (local.get 0))
(else (local.tee 0 (ref.func $f0)) (drop (call $yield))))))
"#;

/// Prints all that is left: what the functions say, memories, globals and tables.
const ENTRY: &str = r#"(func (export "_start") (local $at i32) (local $sum i64)
(call $put (call $f0 (i32.const 3) (i64.const 5) (f64.const 1.5)))
(call $put (call $f1 (call $yield) (i64.const 6) (f64.const -0.5)))
(call $put (global.get $state))
(call $put (i64x2.extract_lane 0 (global.get $vector)))
(call $put (i64x2.extract_lane 1 (global.get $vector)))
(call $put (i64.extend_i32_u (ref.is_null (global.get $held))))
(call $put (call $number (global.get $any)))
(call $put (call $number (table.get $numbers (i32.const 0))))
(call $put (call $number (table.get $numbers (i32.const 1))))
(loop $words
(local.set $sum (call $sum (local.get $sum) (i64.load (local.get $at))))
(local.set $sum (call $sum (local.get $sum) (i64.load $other (local.get $at))))
(local.set $sum (call $sum (local.get $sum) (i64.load $large (i64.extend_i32_u (local.get $at)))))
(local.set $at (i32.add (local.get $at) (i32.const 8)))
(br_if $words (i32.lt_u (local.get $at) (i32.const 4096))))
(local.set $at (i32.const 0))
(loop $elements
(local.set $sum (call $sum (local.get $sum)
(i64.extend_i32_u (ref.is_null (table.get $kept (local.get $at))))))
(local.set $at (i32.add (local.get $at) (i32.const 1)))
(br_if $elements (i32.lt_u (local.get $at) (table.size $kept))))
(call $put (local.get $sum))
(call $put (i64.extend_i32_u (i32.add (memory.size $other) (table.size $kept))))
(call $put (memory.size $large)))
"#;

/// The types of values.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Type {
    I32,
    I64,
    F64,
    F32,
    V128,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::V128 => "v128",
        }
    }
}

const TYPES: [Type; 5] = [Type::I32, Type::I64, Type::F64, Type::F32, Type::V128];

/// The local that holds a reference.
pub(super) const REFERENCE: usize = 8;

/// The local that holds a number of 31 bits as a reference, or null.
pub(super) const NUMBER: usize = 9;

/// The local that holds a reference which is never null.
pub(super) const FUNCTION: usize = 10;

/// Writes a program: some functions, an entry, and what prints all that is left.
pub(crate) fn program(feed: &mut Feed<'_>) -> String {
    let mut out = String::from(HEAD);
    let _ = writeln!(out, "(global $rounds (mut i32) (i32.const {ROUNDS}))");
    let _ = writeln!(out, "(global $calls (mut i32) (i32.const {CALLS}))");
    for number in 0..FUNCTIONS {
        let mut function = Function {
            feed: &mut *feed,
            out: &mut out,
            pieces: PIECES,
        };
        function.write(number);
    }
    let mut function = Function {
        feed,
        out: &mut out,
        pieces: PIECES / 2,
    };
    function.write_many();
    out.push_str(ENTRY);
    out.push_str(")\n");
    out
}

/// One function while it is written. Its locals are those of [`Function::local`].
pub(super) struct Function<'w, 'f, 'd> {
    pub(super) feed: &'w mut Feed<'d>,
    out: &'f mut String,
    /// What it may still have.
    pieces: u32,
}

impl Function<'_, '_, '_> {
    fn write(&mut self, number: usize) {
        self.put(&format!(
            "(func $f{number} (type $function) (param i32 i64 f64) (result i64) \
            (local i32 i64 f64 f32 v128 (ref null $function) anyref (ref $function))\n"
        ));
        self.count("(i64.const 7)");
        let count = 1 + self.feed.below(6);
        for _ in 0..count {
            self.statement(0);
        }
        self.value(Type::I64, 0);
        self.put(")\n");
    }

    /// The function that gives several values. Its first two parameters are not those of
    /// the others, its locals are made to be.
    fn write_many(&mut self) {
        self.put(
            "(func $many (type $many) (param i64 i32) (result i64 i32 f32) \
            (local f64 i32 i64 f64 f32 v128 (ref null $function) anyref)\n",
        );
        self.count("(i64.const 1) (i32.const 2) (f32.const 3)");
        self.put("(local.set 4 (local.get 0)) (local.set 3 (local.get 1))");
        let part = |function: &mut Self, value: &str| {
            function.put("(drop (call $yield))");
            function.put(value);
        };
        part(self, "(i64.add (local.get 4) (i64.const 9))");
        part(self, "(i32.xor (local.get 3) (call $yield))");
        part(self, "(f32.convert_i32_s (local.get 3))");
        self.put(")\n");
    }

    /// Returns `given` once a program has made as many calls as it may.
    fn count(&mut self, given: &str) {
        self.put(&format!(
            "(global.set $calls (i32.sub (global.get $calls) (i32.const 1)))\n\
            (if (i32.lt_s (global.get $calls) (i32.const 0)) (then (return {given})))\n"
        ));
    }

    pub(super) fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push(' ');
    }

    /// Takes one more piece, if it may be something with parts.
    pub(super) fn may_grow(&mut self, depth: u32) -> bool {
        self.pieces = self.pieces.saturating_sub(1);
        self.pieces > 0 && depth < DEPTH
    }

    /// A local of a type: a parameter, or one of its own.
    pub(super) fn local(&mut self, ty: Type) -> usize {
        match ty {
            Type::I32 => self.feed.pick(&[0, 3]),
            Type::I64 => self.feed.pick(&[1, 4]),
            Type::F64 => self.feed.pick(&[2, 5]),
            Type::F32 => 6,
            Type::V128 => 7,
        }
    }

    pub(super) fn statements(&mut self, depth: u32) {
        for _ in 0..self.feed.below(3) {
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: u32) {
        if !self.may_grow(depth) {
            return self.put("(drop (call $yield))");
        }
        match self.feed.below(18) {
            0 => self.put("(drop (call $yield))"),
            1 | 2 => {
                let ty = self.feed.pick(&TYPES);
                let local = self.local(ty);
                self.put(&format!("(local.set {local}"));
                self.value(ty, depth + 1);
                self.put(")");
            }
            3 => self.set_global(depth),
            4 => self.store(depth),
            5 => {
                self.put("(if");
                self.value(Type::I32, depth + 1);
                self.put("(then");
                self.statements(depth + 1);
                self.put(") (else");
                self.statements(depth + 1);
                self.put("))");
            }
            6 => {
                self.put("(loop");
                self.statements(depth + 1);
                self.put("(br_if 0 (call $again)))");
            }
            7 => self.jump(depth),
            8 => self.jump_table(depth),
            9 => {
                self.put("(call $put");
                self.value(Type::I64, depth + 1);
                self.put(")");
            }
            10 => {
                self.put("(if");
                self.value(Type::I32, depth + 1);
                self.put("(then (throw $tag");
                self.value(Type::I64, depth + 1);
                self.put(")))");
            }
            11 => self.tail_call(depth),
            12 => self.change_memory(depth),
            13 => self.change_table(depth),
            14 => {
                self.put(&format!("(local.set {REFERENCE}"));
                self.reference(depth + 1);
                self.put(")");
            }
            15 => self.branch_on_reference(depth),
            16 => self.set_number(depth),
            _ => self.catch_all(depth),
        }
    }

    /// Moves a number that is a reference.
    fn set_number(&mut self, depth: u32) {
        let element = self.feed.below(2);
        match self.feed.below(4) {
            0 => {
                self.put(&format!(
                    "(table.set $numbers (i32.const {element}) (ref.i31"
                ));
                self.value(Type::I32, depth + 1);
                self.put("))");
            }
            1 => self.put(&format!("(global.set $any (local.get {NUMBER}))")),
            2 => self.put(&format!(
                "(local.set {NUMBER} (table.get $numbers (i32.const {element})))"
            )),
            _ => {
                self.put(&format!("(local.set {NUMBER} (ref.i31"));
                self.value(Type::I32, depth + 1);
                self.put("))");
            }
        }
    }

    fn set_global(&mut self, depth: u32) {
        match self.feed.below(3) {
            0 => {
                self.put("(global.set $state");
                self.value(Type::I64, depth + 1);
            }
            1 => {
                self.put("(global.set $vector");
                self.value(Type::V128, depth + 1);
            }
            _ => {
                self.put("(global.set $held");
                self.reference(depth + 1);
            }
        }
        self.put(")");
    }

    fn store(&mut self, depth: u32) {
        match self.feed.below(4) {
            0 => {
                self.put("(i64.store $large (i64.extend_i32_u");
                self.address(depth + 1);
                self.put(")");
                self.value(Type::I64, depth + 1);
            }
            1 => {
                self.put("(v128.store $other");
                self.address(depth + 1);
                self.value(Type::V128, depth + 1);
            }
            _ => {
                self.put("(i64.store");
                self.address(depth + 1);
                self.value(Type::I64, depth + 1);
            }
        }
        self.put(")");
    }

    /// A block that is left in the middle.
    fn jump(&mut self, depth: u32) {
        self.put("(block");
        self.statements(depth + 1);
        self.put("(br_if 0");
        self.value(Type::I32, depth + 1);
        self.put(")");
        self.statements(depth + 1);
        self.put(")");
    }

    /// Blocks that one table of jumps leads out of.
    fn jump_table(&mut self, depth: u32) {
        self.put("(block (block (block (br_table 0 1 2 1");
        self.value(Type::I32, depth + 1);
        self.put("))");
        self.statements(depth + 1);
        self.put(")");
        self.statements(depth + 1);
        self.put(")");
    }

    /// A call that takes the place of the function, now and then.
    fn tail_call(&mut self, depth: u32) {
        let callee = self.feed.below(FUNCTIONS);
        self.put("(if");
        self.value(Type::I32, depth + 1);
        self.put("(then");
        let (head, tail) = match self.feed.below(3) {
            0 => (format!("(return_call $f{callee}"), ")".to_owned()),
            1 => (
                "(return_call_indirect $called (type $function)".to_owned(),
                format!("(i32.const {callee}))"),
            ),
            _ => (
                "(return_call_ref $function".to_owned(),
                format!("(ref.func $f{callee}))"),
            ),
        };
        self.put(&head);
        self.arguments(depth + 1);
        self.put(&tail);
        self.put("))");
    }

    fn change_memory(&mut self, depth: u32) {
        match self.feed.below(6) {
            0 => self.put("(drop (memory.grow $other (i32.const 1)))"),
            1 => self.put("(drop (memory.grow $large (i64.const 1)))"),
            2 => {
                self.put("(memory.init $other $bytes");
                self.address(depth + 1);
                self.put("(i32.const 5) (i32.const 7))");
            }
            3 => {
                self.put("(memory.copy $other 0");
                self.address(depth + 1);
                self.address(depth + 1);
                self.put("(i32.const 40))");
            }
            4 => {
                self.put("(memory.fill $other");
                self.address(depth + 1);
                self.value(Type::I32, depth + 1);
                self.put("(i32.const 9))");
            }
            _ => self.put("(if (i32.eqz (call $again)) (then (data.drop $bytes)))"),
        }
    }

    fn change_table(&mut self, depth: u32) {
        match self.feed.below(7) {
            0 => {
                self.put("(table.set $kept");
                self.element(depth + 1);
                self.reference(depth + 1);
                self.put(")");
            }
            1 => {
                let callee = self.feed.below(FUNCTIONS);
                self.put(&format!("(table.set $called (i32.const {callee})"));
                let other = self.feed.below(FUNCTIONS);
                self.put(&format!("(ref.func $f{other}))"));
            }
            2 => {
                self.put("(drop (table.grow $kept");
                self.reference(depth + 1);
                self.put("(i32.const 2)))");
            }
            3 => self.put("(table.init $kept $few (i32.const 0) (i32.const 1) (i32.const 2))"),
            4 => self.put("(table.copy $kept $kept (i32.const 1) (i32.const 0) (i32.const 2))"),
            5 => {
                self.put("(table.fill $kept (i32.const 1)");
                self.reference(depth + 1);
                self.put("(i32.const 2))");
            }
            _ => self.put("(if (i32.eqz (call $again)) (then (elem.drop $few)))"),
        }
    }

    fn branch_on_reference(&mut self, depth: u32) {
        match self.feed.coin() {
            true => {
                self.put(&format!("(block (br_on_null 0 (local.get {REFERENCE}))"));
                self.statements(depth + 1);
                self.put("(drop)");
                self.statements(depth + 1);
                self.put(")");
            }
            false => {
                let callee = self.feed.below(FUNCTIONS);
                self.put(&format!(
                    "(local.set {REFERENCE} (block (result (ref $function)) \
                    (br_on_non_null 0 (local.get {REFERENCE}))"
                ));
                self.statements(depth + 1);
                self.put(&format!("(ref.func $f{callee})))"));
            }
        }
    }

    /// Catches all, with the exception or without; throws it again or not.
    fn catch_all(&mut self, depth: u32) {
        match self.feed.coin() {
            true => {
                self.put("(block (try_table (catch_all 0)");
                self.statements(depth + 1);
                self.put("))");
            }
            false => {
                self.put("(block (throw_ref (block (result exnref) (try_table (catch_all_ref 0)");
                self.statements(depth + 1);
                self.put(") (br 1))))");
            }
        }
    }
}
