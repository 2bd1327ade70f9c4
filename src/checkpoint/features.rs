//! Which proposals to WebAssembly an engine has to have for a program.

use std::collections::BTreeSet;

use wasmparser::{BlockType, FunctionBody, Operator, Parser, Payload, Validator, WasmFeatures};

use super::error::Refusal;

/// Proposals by name, and the flags without which a validator refuses what is declared by them:
/// a proposal that stands on another one is taken away with it. Those of instructions have
/// the same names.
const FEATURES: &[(&str, WasmFeatures)] = &[
    ("bulk-memory", WasmFeatures::BULK_MEMORY),
    ("custom-page-sizes", WasmFeatures::CUSTOM_PAGE_SIZES),
    ("exceptions", WasmFeatures::EXCEPTIONS),
    ("extended-const", WasmFeatures::EXTENDED_CONST),
    (
        "function-references",
        WasmFeatures::FUNCTION_REFERENCES.union(WasmFeatures::GC),
    ),
    ("gc", WasmFeatures::GC),
    ("legacy-exceptions", WasmFeatures::LEGACY_EXCEPTIONS),
    ("memory64", WasmFeatures::MEMORY64),
    ("multi-memory", WasmFeatures::MULTI_MEMORY),
    ("multi-value", WasmFeatures::MULTI_VALUE),
    ("mutable-global", WasmFeatures::MUTABLE_GLOBAL),
    (
        "reference-types",
        WasmFeatures::REFERENCE_TYPES
            .union(WasmFeatures::FUNCTION_REFERENCES)
            .union(WasmFeatures::GC),
    ),
    ("relaxed-simd", WasmFeatures::RELAXED_SIMD),
    (
        "saturating-float-to-int",
        WasmFeatures::SATURATING_FLOAT_TO_INT,
    ),
    ("sign-extension", WasmFeatures::SIGN_EXTENSION),
    ("simd", WasmFeatures::SIMD),
    ("tail-call", WasmFeatures::TAIL_CALL),
    ("threads", WasmFeatures::THREADS),
    ("wide-arithmetic", WasmFeatures::WIDE_ARITHMETIC),
];

/// Returns whether a proposal has a name here.
pub(crate) fn is_feature(name: &str) -> bool {
    FEATURES.iter().any(|(known, _)| *known == name)
}

/// What the first functions of a module need.
#[derive(Default)]
pub(crate) struct CodeFeatures {
    functions: usize,
    needed: BTreeSet<&'static str>,
}

impl CodeFeatures {
    /// Reads the instructions of functions. O(size of their code).
    pub(crate) fn of<'b>(
        bodies: impl Iterator<Item = &'b FunctionBody<'b>>,
    ) -> Result<Self, Refusal> {
        let mut found = Self::default();
        for body in bodies {
            found.add(body)?;
        }
        Ok(found)
    }

    fn add(&mut self, body: &FunctionBody<'_>) -> Result<(), Refusal> {
        self.functions += 1;
        for operator in body.get_operators_reader()? {
            self.needed.extend(of_operator(&operator?));
        }
        Ok(())
    }
}

/// Returns the proposals that a module needs, by name, in alphabetical order. Its first functions
/// are those that were read before. O(size of the code behind them).
///
/// # Errors
/// [`Refusal`] for a module that cannot be read.
pub(crate) fn features(wasm: &[u8], read: &CodeFeatures) -> Result<Vec<&'static str>, Refusal> {
    let mut code = CodeFeatures::default();
    let mut functions = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            functions += 1;
            if functions > read.functions {
                code.add(&body)?;
            }
        }
    }
    let mut needed = code.needed;
    needed.extend(&read.needed);
    let others = FEATURES.iter().filter(|(name, _)| !needed.contains(name));
    let others: Vec<_> = others.collect();
    let flags = others
        .iter()
        .fold(WasmFeatures::empty(), |all, (_, flag)| all | *flag);
    // Most modules need none of them: one look instead of one for each.
    if !declares(wasm, WasmFeatures::all().difference(flags)) {
        for (name, flag) in others {
            if !declares(wasm, WasmFeatures::all().difference(*flag)) {
                needed.insert(*name);
            }
        }
    }
    Ok(needed.into_iter().collect())
}

/// Returns whether all but the bodies of the functions is valid with these features alone.
fn declares(wasm: &[u8], features: WasmFeatures) -> bool {
    let mut validator = Validator::new_with_features(features);
    Parser::new(0)
        .parse_all(wasm)
        .all(|payload| payload.is_ok_and(|payload| validator.payload(&payload).is_ok()))
}

/// Returns the proposal that an instruction is of; `None` for one of the first version.
fn of_operator(operator: &Operator<'_>) -> Option<&'static str> {
    let block = match operator {
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
            Some(blockty)
        }
        _ => None,
    };
    match (block, proposal(operator)) {
        (Some(BlockType::FuncType(_)), _) => Some("multi-value"),
        (_, "mvp") => None,
        (_, proposal) => FEATURES.iter().map(|(name, _)| *name).find(|name| {
            name.bytes().eq(proposal.bytes().map(|byte| match byte {
                b'_' => b'-',
                other => other,
            }))
        }),
    }
}

/// Writes the function that knows the proposal of each instruction.
macro_rules! proposals {
    ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
        fn proposal(operator: &Operator<'_>) -> &'static str {
            match operator {
                $( Operator::$op { .. } => stringify!($proposal), )*
                _ => "mvp",
            }
        }
    };
}
wasmparser::for_each_operator!(proposals);

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> Vec<&'static str> {
        features(&wat::parse_str(text).unwrap(), &CodeFeatures::default()).unwrap()
    }

    #[test]
    fn a_module_of_the_first_version_needs_nothing() {
        let text = r#"(module (memory 1) (global (mut i32) (i32.const 1))
          (func (result i32) (block (result i32) (i32.add (i32.const 1) (global.get 0)))))"#;
        assert_eq!(needs(text), [""; 0]);
    }

    #[test]
    fn declarations_and_instructions_tell_what_is_needed() {
        for (text, want) in [
            ("(memory 1) (memory 1)", "multi-memory"),
            ("(memory i64 1)", "memory64"),
            ("(tag)", "exceptions"),
            ("(func (throw 0)) (tag)", "exceptions"),
            ("(func (result i32 i32) unreachable)", "multi-value"),
            (
                "(type $t (func (param i32))) (func (i32.const 1) (block (type $t) drop))",
                "multi-value",
            ),
            ("(func (return_call 0))", "tail-call"),
            ("(func (drop (v128.const i64x2 0 0)))", "simd"),
            ("(func (param v128))", "simd"),
            (
                "(func (drop (i32.extend8_s (i32.const 1))))",
                "sign-extension",
            ),
            (
                "(func (drop (i32.trunc_sat_f32_s (f32.const 1))))",
                "saturating-float-to-int",
            ),
            (
                "(memory 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 0)))",
                "bulk-memory",
            ),
            (
                "(global i32 (i32.add (i32.const 1) (i32.const 1)))",
                "extended-const",
            ),
            ("(func (param externref))", "reference-types"),
            (
                "(global (export \"g\") (mut i32) (i32.const 0))",
                "mutable-global",
            ),
            ("(type $s (struct (field i32)))", "gc"),
            ("(func (param anyref))", "gc"),
            (
                "(type $f (func)) (func (param (ref $f)))",
                "function-references",
            ),
            ("(memory 1 1 shared)", "threads"),
            (
                "(func (param i64 i64) (drop (drop (i64.mul_wide_u (local.get 0) (local.get 1)))))",
                "wide-arithmetic",
            ),
        ] {
            let found = needs(&format!("(module {text})"));
            assert!(found.contains(&want), "{text}: {found:?}");
            assert!(found.iter().all(|name| is_feature(name)), "{found:?}");
        }
    }

    #[test]
    fn functions_that_were_read_before_count() {
        let text = "(module (func (return_call 1)) (func (drop (v128.const i64x2 0 0))))";
        let wasm = wat::parse_str(text).unwrap();
        let program = crate::checkpoint::CoreModule::parse(&wasm).unwrap();
        for read in 0..=2 {
            let bodies = program.defined.iter().map(|defined| &defined.body);
            let read = CodeFeatures::of(bodies.take(read)).unwrap();
            assert_eq!(features(&wasm, &read).unwrap(), ["simd", "tail-call"]);
        }
        // Those behind them are read, no others.
        let read = CodeFeatures {
            functions: 1,
            needed: BTreeSet::new(),
        };
        assert_eq!(features(&wasm, &read).unwrap(), ["simd"]);
    }

    /// A proposal that is new in the reader has to have a name before a program needs it.
    #[test]
    fn each_proposal_of_instructions_has_a_name_or_is_known_to_have_none() {
        let unnamed = [
            "acquire_release_atomics",
            "custom_descriptors",
            "memory_control",
            "shared_everything_threads",
            "stack_switching",
        ];
        for proposal in all_proposals() {
            let name = proposal.replace('_', "-");
            let is_known = proposal == "mvp" || is_feature(&name);
            assert!(is_known != unnamed.contains(&proposal), "{proposal}");
        }
    }

    macro_rules! named {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
            fn all_proposals() -> BTreeSet<&'static str> {
                [$( stringify!($proposal), )*].into()
            }
        };
    }
    wasmparser::for_each_operator!(named);
}
