//! Expressions of programs that are made: what gives a value.

use super::generated::{DEPTH, FUNCTION, FUNCTIONS, Function, NUMBER, REFERENCE, Type};

impl Function<'_, '_, '_> {
    pub(super) fn address(&mut self, depth: u32) {
        self.put("(i32.and");
        self.value(Type::I32, depth);
        self.put("(i32.const 4080))");
    }

    pub(super) fn value(&mut self, ty: Type, depth: u32) {
        if !self.may_grow(depth) {
            return self.leaf(ty);
        }
        let name = ty.name();
        match self.feed.below(15) {
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
            7 => self.of_i64(ty, |function| function.load(depth)),
            8 | 9 => self.of_i64(ty, |function| function.called(depth)),
            10 => self.of_i64(ty, |function| function.several(depth)),
            11 => self.of_i64(ty, |function| {
                // What is thrown is caught here, or is not thrown.
                function.put(
                    "(block $caught (result i64) (try_table (result i64) (catch $tag $caught)",
                );
                function.statements(depth + 1);
                function.value(Type::I64, depth + 1);
                function.put("))");
            }),
            12 => self.of_i64(ty, |function| {
                function.put("(block (result i64) (block (result i64) (br_table 0 1 0");
                function.value(Type::I64, depth + 1);
                function.value(Type::I32, depth + 1);
                function.put("))");
                function.statements(depth + 1);
                function.put("(i64.rotl (i64.const 3)))");
            }),
            13 => self.of_i64(ty, |function| function.number(depth)),
            _ => self.of_i64(ty, |function| function.turned(depth)),
        }
    }

    /// Numbers that are references: one in a local, or two that are compared.
    fn number(&mut self, depth: u32) {
        if self.feed.coin() {
            return self.put(&format!("(call $number (local.get {NUMBER}))"));
        }
        self.put("(i64.extend_i32_u (ref.eq (ref.i31");
        self.value(Type::I32, depth + 1);
        self.put(") (block (result eqref)");
        self.statements(depth + 1);
        self.put("(ref.i31");
        self.value(Type::I32, depth + 1);
        self.put("))))");
    }

    fn load(&mut self, depth: u32) {
        match self.feed.below(3) {
            0 => {
                self.put("(i64.load $large (i64.extend_i32_u");
                self.address(depth + 1);
                self.put("))");
            }
            1 => {
                self.put("(i64.load $other");
                self.address(depth + 1);
                self.put(")");
            }
            _ => {
                self.put("(i64.load");
                self.address(depth + 1);
                self.put(")");
            }
        }
    }

    /// Blocks, loops, arms and calls with several values.
    fn several(&mut self, depth: u32) {
        self.put("(block (result i64)");
        match self.feed.below(4) {
            0 => {
                self.put("(call $many");
                self.value(Type::I64, depth + 1);
                self.value(Type::I32, depth + 1);
                self.put(") (local.set 6) (local.set 3)");
                self.statements(depth + 1);
            }
            1 => {
                self.value(Type::I64, depth + 1);
                self.value(Type::I32, depth + 1);
                self.put("(loop (param i64 i32) (result i64) (local.set 3) (local.set 4)");
                self.statements(depth + 1);
                self.value(Type::I64, depth + 1);
                self.value(Type::I32, depth + 1);
                self.put("(br_if 0 (call $again)) (drop))");
            }
            2 => self.round_with_function(depth),
            _ => {
                self.value(Type::I64, depth + 1);
                self.value(Type::F32, depth + 1);
                self.put("(if (param i64 f32) (result i64)");
                self.value(Type::I32, depth + 1);
                self.put("(then (local.set 6)");
                self.statements(depth + 1);
                self.put(") (else");
                self.statements(depth + 1);
                self.put("(drop)))");
            }
        }
        self.put(")");
    }

    /// A loop that is given a reference which is never null.
    fn round_with_function(&mut self, depth: u32) {
        self.value(Type::I64, depth + 1);
        self.put("(call $picked");
        self.value(Type::I32, depth + 1);
        self.put(") (local.set 3) (loop (param i64 (ref $function)) (result i64)");
        self.put(&format!("(local.set {FUNCTION}) (local.set 4)"));
        self.statements(depth + 1);
        self.put("(call_ref $function");
        self.arguments(depth + 1);
        self.put(&format!(
            "(local.get {FUNCTION})) (local.get {FUNCTION}) (br_if 0 (call $again)) (drop))"
        ));
    }

    /// A value of another type, as one of 64 bits.
    fn turned(&mut self, depth: u32) {
        match self.feed.below(4) {
            0 => {
                self.put("(i64.trunc_sat_f64_s");
                self.value(Type::F64, depth + 1);
            }
            1 => {
                self.put("(i64.trunc_sat_f32_s");
                self.value(Type::F32, depth + 1);
            }
            2 => {
                self.put("(i64x2.extract_lane 1");
                self.value(Type::V128, depth + 1);
            }
            _ => {
                self.put("(i64.extend_i32_u");
                self.value(Type::I32, depth + 1);
            }
        }
        self.put(")");
    }

    fn leaf(&mut self, ty: Type) {
        let name = ty.name();
        match (self.feed.below(3), ty) {
            (0, Type::V128) => {
                let value = self.feed.byte();
                self.put(&format!("(v128.const i64x2 {value} 77)"));
            }
            (0, _) => {
                let value = self.feed.byte();
                self.put(&format!("({name}.const {value})"));
            }
            (1, _) => {
                let local = self.local(ty);
                self.put(&format!("(local.get {local})"));
            }
            (_, Type::I32) => self.put("(i32.add (call $yield) (local.get 3))"),
            (_, Type::I64) => {
                self.put("(i64.add (i64.extend_i32_u (call $yield)) (local.get 4))");
            }
            (_, Type::F64) => {
                self.put("(f64.add (f64.convert_i32_s (call $yield)) (local.get 5))");
            }
            (_, Type::F32) => {
                self.put("(f32.add (f32.convert_i32_s (call $yield)) (local.get 6))");
            }
            (_, Type::V128) => {
                self.put("(i32x4.add (i32x4.splat (call $yield)) (local.get 7))");
            }
        }
    }

    fn two(&mut self, ty: Type, depth: u32) {
        let whole = ["add", "sub", "mul", "xor", "rotl", "div_u", "shr_s"];
        let operation = match ty {
            Type::I32 | Type::I64 => self.feed.pick(&whole),
            Type::F64 | Type::F32 => self.feed.pick(&["add", "sub", "mul", "min"]),
            Type::V128 => self
                .feed
                .pick(&["i64x2.add", "i32x4.mul", "i8x16.sub", "v128.xor"]),
        };
        match ty {
            Type::V128 => self.put(&format!("({operation}")),
            _ => self.put(&format!("({}.{operation}", ty.name())),
        }
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
            Type::F32 => Some("(f32.convert_i64_s"),
            Type::V128 => Some("(i64x2.splat"),
        };
        self.put(turned.unwrap_or_default());
        write(self);
        self.put(turned.map_or("", |_| ")"));
    }

    pub(super) fn arguments(&mut self, depth: u32) {
        self.value(Type::I32, depth + 1);
        self.value(Type::I64, depth + 1);
        self.value(Type::F64, depth + 1);
    }

    /// A call of a function, by its name, through a table, or by a reference.
    fn called(&mut self, depth: u32) {
        let callee = self.feed.below(FUNCTIONS);
        match self.feed.below(6) {
            0 => {
                self.put("(call_indirect $called (type $function)");
                self.arguments(depth);
                self.put(&format!("(i32.const {callee})"));
            }
            1 => {
                self.put("(call_ref $function");
                self.arguments(depth);
                self.put(&format!("(ref.func $f{callee})"));
            }
            2 => {
                self.put(&format!(
                    "(if (result i64) (ref.is_null (local.get {REFERENCE})) (then"
                ));
                self.value(Type::I64, depth + 1);
                self.put(") (else (call_ref $function");
                self.arguments(depth);
                self.put(&format!("(local.get {REFERENCE})))"));
            }
            3 => {
                self.put(&format!("(call $given (ref.func $f{callee})"));
                self.value(Type::I32, depth + 1);
                self.value(Type::I64, depth + 1);
            }
            4 => {
                self.put(&format!(
                    "(block (result i64) (local.set {FUNCTION} (ref.func $f{callee}))"
                ));
                self.statements(depth + 1);
                self.put("(call_ref $function");
                self.arguments(depth);
                self.put(&format!("(local.tee {FUNCTION} (local.get {FUNCTION})))"));
            }
            _ => {
                self.put(&format!("(call $f{callee}"));
                self.arguments(depth);
            }
        }
        self.put(")");
    }

    /// The index of something in `$kept`, which has 3 elements at least.
    pub(super) fn element(&mut self, depth: u32) {
        self.put("(i32.rem_u");
        self.value(Type::I32, depth);
        self.put("(i32.const 3))");
    }

    /// A reference to one of the functions, or to none.
    pub(super) fn reference(&mut self, depth: u32) {
        let callee = self.feed.below(FUNCTIONS);
        match self.feed.below(6) {
            0 => self.put("(ref.null $function)"),
            1 => self.put(&format!("(local.get {REFERENCE})")),
            2 => self.put("(global.get $held)"),
            3 if depth < DEPTH => {
                self.put("(table.get $kept");
                self.element(depth + 1);
                self.put(")");
            }
            4 if depth < DEPTH => {
                self.put("(block (result (ref null $function))");
                self.put(&format!("(ref.func $f{callee})"));
                self.statements(depth + 1);
                self.put(")");
            }
            _ => self.put(&format!("(ref.func $f{callee})")),
        }
    }
}
