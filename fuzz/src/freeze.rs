//! Programs that call an import in any place, frozen at one of these calls, against the plain
//! engine.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use stratafs::image::Image;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{Guest, Outcome, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream};

use super::feed::Feed;

/// How deep expressions and blocks are nested.
const DEPTH: u32 = 5;

/// How many pieces a function has at most.
const PIECES: u32 = 40;

/// The functions besides the entry.
const FUNCTIONS: usize = 4;

/// How often all loops of a program go round together.
const ROUNDS: u32 = 30;

/// How far apart the calls are that a program is frozen at.
const CALLS: usize = 60;

/// Makes a program of the bytes, and freezes it at one of its calls: it must go on as it
/// does when it is left alone.
pub fn run(data: &[u8]) {
    let mut feed = Feed::new(data);
    let nth = 1 + feed.below(CALLS) as u64;
    let wat = program(&mut feed);
    let guest = Guest::from_bytes("generated", wat.as_str());
    let guest = guest.unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let (plan, written) = plan();
    let runner = Runner::new(&guest, config()).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    let report = runner.run(&Image::empty(), &plan).expect("it runs");
    let want = told(&written, &report.instances[0].outcome);
    let point = Point::Call {
        function: "sched_yield".to_owned(),
        nth,
    };
    let (plan, written) = self::plan();
    let frozen = freeze(&guest, &Image::empty(), &plan, &config(), &point);
    let outcome = match frozen.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}")) {
        Freezing::Ended(outcome) => outcome,
        Freezing::Frozen(checkpoint) => {
            let runner = checkpoint.runner(config());
            let runner = runner.unwrap_or_else(|error| panic!("{point}: {error}\n{wat}"));
            let mut report = runner.run(checkpoint.image(), &plan).expect("it runs");
            report.instances.remove(0).outcome
        }
    };
    assert_eq!(told(&written, &outcome), want, "{point}\n{wat}");
}

fn config() -> RunnerConfig {
    RunnerConfig::default()
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl OutputSink for Sink {
    fn write(&self, _: u32, _: Stream, bytes: &[u8]) {
        self.0
            .lock()
            .expect("nobody panicked")
            .extend_from_slice(bytes);
    }
}

fn plan() -> (RunPlan, Arc<Mutex<Vec<u8>>>) {
    let written = Arc::<Mutex<Vec<u8>>>::default();
    let mut plan = RunPlan::default();
    plan.tell_number = false;
    plan.stdio = Stdio::Collect(Arc::new(Sink(Arc::clone(&written))));
    (plan, written)
}

fn told(written: &Mutex<Vec<u8>>, outcome: &Outcome) -> (Vec<u8>, String) {
    let written = written.lock().expect("nobody panicked").clone();
    (written, outcome.to_string())
}

/// The types of values.
#[derive(Clone, Copy, PartialEq)]
enum Type {
    I32,
    I64,
    F64,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

const TYPES: [Type; 3] = [Type::I32, Type::I64, Type::F64];

/// Writes a program: some functions that call only later ones, an entry, and what prints
/// all that is left.
fn program(feed: &mut Feed<'_>) -> String {
    let mut out = String::from(
        r#"(module
(import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
(memory (export "memory") 1)
(tag $tag (param i64))
(type $function (func (param i32 i64 f64) (result i64)))
(global $state (mut i64) (i64.const 1))
"#,
    );
    let _ = writeln!(out, "(global $rounds (mut i32) (i32.const {ROUNDS}))");
    let names: Vec<String> = (0..FUNCTIONS).map(|number| format!("$f{number}")).collect();
    let _ = writeln!(out, "(table funcref (elem {}))", names.join(" "));
    out.push_str(
        "(func $again (result i32)
(global.set $rounds (i32.sub (global.get $rounds) (i32.const 1)))
(i32.gt_s (global.get $rounds) (i32.const 0)))
(func $put (param i64)
(i64.store (i32.const 65000) (local.get 0))
(i32.store (i32.const 65016) (i32.const 65000)) (i32.store (i32.const 65020) (i32.const 8))
(drop (call $write (i32.const 1) (i32.const 65016) (i32.const 1) (i32.const 65024))))
",
    );
    for number in 0..FUNCTIONS {
        let mut function = Function {
            feed: &mut *feed,
            out: &mut out,
            number,
            pieces: PIECES,
        };
        function.write();
    }
    out.push_str(
        "(func (export \"_start\") (local $at i32) (local $sum i64)
(call $put (call $f0 (i32.const 3) (i64.const 5) (f64.const 1.5)))
(call $put (global.get $state))
(loop $words
(local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31)) (i64.load (local.get $at))))
(local.set $at (i32.add (local.get $at) (i32.const 8)))
(br_if $words (i32.lt_u (local.get $at) (i32.const 4096))))
(call $put (local.get $sum))))
",
    );
    out
}

/// One function while it is written.
struct Function<'w, 'f, 'd> {
    feed: &'w mut Feed<'d>,
    out: &'f mut String,
    number: usize,
    /// What it may still have.
    pieces: u32,
}

impl Function<'_, '_, '_> {
    fn write(&mut self) {
        let number = self.number;
        self.put(&format!(
            "(func $f{number} (type $function) (param i32 i64 f64) (result i64) (local i32 i64 f64)\n"
        ));
        let count = 1 + self.feed.below(6);
        for _ in 0..count {
            self.statement(0);
        }
        self.value(Type::I64, 0);
        self.put(")\n");
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push(' ');
    }

    /// Takes one more piece, if it may be something with parts.
    fn may_grow(&mut self, depth: u32) -> bool {
        self.pieces = self.pieces.saturating_sub(1);
        self.pieces > 0 && depth < DEPTH
    }

    /// A local of a type: a parameter, or one of its own.
    fn local(&mut self, ty: Type) -> usize {
        let first = TYPES.iter().position(|one| *one == ty).unwrap_or_default();
        first + self.feed.pick(&[0, 3])
    }

    fn statements(&mut self, depth: u32) {
        for _ in 0..self.feed.below(3) {
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: u32) {
        if !self.may_grow(depth) {
            return self.put("(drop (call $yield))");
        }
        match self.feed.below(11) {
            0 => self.put("(drop (call $yield))"),
            1 | 2 => {
                let ty = self.feed.pick(&TYPES);
                let local = self.local(ty);
                self.put(&format!("(local.set {local}"));
                self.value(ty, depth + 1);
                self.put(")");
            }
            3 => {
                self.put("(global.set $state");
                self.value(Type::I64, depth + 1);
                self.put(")");
            }
            4 => {
                self.put("(i64.store");
                self.address(depth + 1);
                self.value(Type::I64, depth + 1);
                self.put(")");
            }
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
            8 => self.table(depth),
            9 => {
                self.put("(call $put");
                self.value(Type::I64, depth + 1);
                self.put(")");
            }
            _ => {
                self.put("(if");
                self.value(Type::I32, depth + 1);
                self.put("(then (throw $tag");
                self.value(Type::I64, depth + 1);
                self.put(")))");
            }
        }
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
    fn table(&mut self, depth: u32) {
        self.put("(block (block (block (br_table 0 1 2 1");
        self.value(Type::I32, depth + 1);
        self.put("))");
        self.statements(depth + 1);
        self.put(")");
        self.statements(depth + 1);
        self.put(")");
    }

    fn address(&mut self, depth: u32) {
        self.put("(i32.and");
        self.value(Type::I32, depth);
        self.put("(i32.const 4088))");
    }

    fn value(&mut self, ty: Type, depth: u32) {
        if !self.may_grow(depth) {
            return self.leaf(ty);
        }
        let name = ty.name();
        match self.feed.below(10) {
            0 | 1 => self.leaf(ty),
            2 | 3 => self.two(ty, depth),
            4 => {
                self.put(&format!("(if (result {name})"));
                self.value(Type::I32, depth + 1);
                for arm in ["(then", "(else"] {
                    self.put(arm);
                    self.statements(depth + 1);
                    self.value(ty, depth + 1);
                    self.put(")");
                }
                self.put(")");
            }
            5 => {
                self.put(&format!("(block (result {name})"));
                self.put("(drop (br_if 0");
                self.value(ty, depth + 1);
                self.value(Type::I32, depth + 1);
                self.put("))");
                self.value(ty, depth + 1);
                self.put(")");
            }
            6 => {
                self.put(&format!("(select (result {name})"));
                self.value(ty, depth + 1);
                self.value(ty, depth + 1);
                self.value(Type::I32, depth + 1);
                self.put(")");
            }
            7 => self.of_i64(ty, |function| {
                function.put("(i64.load");
                function.address(depth + 1);
                function.put(")");
            }),
            8 => self.of_i64(ty, |function| function.called(depth)),
            _ => self.of_i64(ty, |function| {
                // What is thrown is caught here, or is not thrown.
                function.put(
                    "(block $caught (result i64) (try_table (result i64) (catch $tag $caught)",
                );
                function.statements(depth + 1);
                function.value(Type::I64, depth + 1);
                function.put("))");
            }),
        }
    }

    fn leaf(&mut self, ty: Type) {
        let name = ty.name();
        match self.feed.below(3) {
            0 => {
                let value = self.feed.byte();
                self.put(&format!("({name}.const {value})"));
            }
            1 => {
                let local = self.local(ty);
                self.put(&format!("(local.get {local})"));
            }
            _ => match ty {
                Type::I32 => self.put("(i32.add (call $yield) (local.get 0))"),
                Type::I64 => self.put("(i64.add (i64.extend_i32_u (call $yield)) (local.get 1))"),
                Type::F64 => self.put("(f64.add (f64.convert_i32_s (call $yield)) (local.get 2))"),
            },
        }
    }

    fn two(&mut self, ty: Type, depth: u32) {
        let whole = ["add", "sub", "mul", "xor", "rotl", "div_u", "shr_s"];
        let operation = match ty {
            Type::I32 | Type::I64 => self.feed.pick(&whole),
            Type::F64 => self.feed.pick(&["add", "sub", "mul", "min"]),
        };
        self.put(&format!("({}.{operation}", ty.name()));
        self.value(ty, depth + 1);
        self.value(ty, depth + 1);
        self.put(")");
    }

    /// Makes a value of a type out of one of 64 bits.
    fn of_i64(&mut self, ty: Type, write: impl FnOnce(&mut Self)) {
        let turned = match ty {
            Type::I32 => Some("(i32.wrap_i64"),
            Type::I64 => None,
            Type::F64 => Some("(f64.convert_i64_s"),
        };
        self.put(turned.unwrap_or_default());
        write(self);
        self.put(turned.map_or("", |_| ")"));
    }

    /// A call of a later function, by its name or through the table.
    fn called(&mut self, depth: u32) {
        let later = FUNCTIONS - 1 - self.number;
        if later == 0 {
            return self.put("(global.get $state)");
        }
        let callee = self.number + 1 + self.feed.below(later);
        let through_table = self.feed.coin();
        match through_table {
            true => self.put("(call_indirect (type $function)"),
            false => self.put(&format!("(call $f{callee}")),
        }
        self.value(Type::I32, depth + 1);
        self.value(Type::I64, depth + 1);
        self.value(Type::F64, depth + 1);
        if through_table {
            self.put(&format!("(i32.const {callee})"));
        }
        self.put(")");
    }
}
