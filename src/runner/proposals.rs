//! Which proposals of WebAssembly guests may use.

use std::collections::BTreeMap;
use std::fmt;

use wasmtime::Config;

/// Sets one proposal.
type Set = fn(&mut Config, bool);

/// What is switched, by wasmtime's own names, and whether
/// [`Proposals::set`] with `all-proposals` switches it too.
const KNOWN: &[(&str, bool, Set)] = &[
    ("branch-hinting", false, |c, on| {
        c.wasm_branch_hinting(on);
    }),
    ("bulk-memory", true, |c, on| {
        c.wasm_bulk_memory(on);
    }),
    ("component-model-async-stackful", true, |c, on| {
        c.wasm_component_model_async_stackful(on);
    }),
    ("component-model-error-context", true, |c, on| {
        c.wasm_component_model_error_context(on);
    }),
    ("component-model-fixed-length-lists", true, |c, on| {
        c.wasm_component_model_fixed_length_lists(on);
    }),
    ("component-model-gc", true, |c, on| {
        c.wasm_component_model_gc(on);
    }),
    ("component-model-implements", true, |c, on| {
        c.wasm_component_model_implements(on);
    }),
    ("component-model-map", true, |c, on| {
        c.wasm_component_model_map(on);
    }),
    ("component-model-memory64", true, |c, on| {
        c.wasm_component_model_memory64(on);
    }),
    ("component-model-more-async-builtins", true, |c, on| {
        c.wasm_component_model_more_async_builtins(on);
    }),
    ("component-model-threading", true, |c, on| {
        c.wasm_component_model_threading(on);
    }),
    ("custom-page-sizes", true, |c, on| {
        c.wasm_custom_page_sizes(on);
    }),
    ("exceptions", true, |c, on| {
        c.wasm_exceptions(on);
    }),
    ("extended-const", true, |c, on| {
        c.wasm_extended_const(on);
    }),
    ("function-references", true, |c, on| {
        c.wasm_function_references(on);
    }),
    ("gc", true, |c, on| {
        c.wasm_gc(on);
    }),
    ("gc-support", false, |c, on| {
        c.gc_support(on);
    }),
    ("memory64", true, |c, on| {
        c.wasm_memory64(on);
    }),
    ("multi-memory", true, |c, on| {
        c.wasm_multi_memory(on);
    }),
    ("multi-value", true, |c, on| {
        c.wasm_multi_value(on);
    }),
    ("nan-canonicalization", false, |c, on| {
        c.cranelift_nan_canonicalization(on);
    }),
    ("reference-types", true, |c, on| {
        c.wasm_reference_types(on);
    }),
    ("relaxed-simd", true, |c, on| {
        c.wasm_relaxed_simd(on);
    }),
    ("relaxed-simd-deterministic", false, |c, on| {
        c.relaxed_simd_deterministic(on);
    }),
    ("shared-everything-threads", false, |c, on| {
        c.wasm_shared_everything_threads(on);
    }),
    ("shared-memory", false, |c, on| {
        c.shared_memory(on);
    }),
    ("simd", true, |c, on| {
        c.wasm_simd(on);
    }),
    ("stack-switching", false, |c, on| {
        c.wasm_stack_switching(on);
    }),
    ("tail-call", true, |c, on| {
        c.wasm_tail_call(on);
    }),
    ("threads", true, |c, on| {
        c.wasm_threads(on);
    }),
    ("wide-arithmetic", true, |c, on| {
        c.wasm_wide_arithmetic(on);
    }),
];

/// The name that switches all but those that wasmtime leaves out of it.
const ALL: &str = "all-proposals";

/// Which proposals of WebAssembly are on or off, where that is not as wasmtime
/// has it: by default all that wasmtime's own command line has on.
///
/// ```
/// use stratafs::runner::Proposals;
///
/// let mut proposals = Proposals::default();
/// assert!(proposals.set("wide-arithmetic", true));
/// assert!(!proposals.set("telepathy", true));
/// assert_eq!(proposals.to_string(), "wide-arithmetic=y");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals(BTreeMap<&'static str, bool>);

impl Proposals {
    /// Turns a proposal on or off by the name that `wasmtime run -W` has for it;
    /// `all-proposals` is all that it has there. Returns whether there is one of
    /// that name.
    pub fn set(&mut self, name: &str, on: bool) -> bool {
        let before = self.0.len();
        let named = KNOWN.iter().filter(|(known, of_all, _)| match name {
            ALL => *of_all,
            name => *known == name,
        });
        let mut found = false;
        for (known, ..) in named {
            self.0.insert(known, on);
            found = true;
        }
        debug_assert!(found || self.0.len() == before);
        found
    }

    /// Returns the names that [`Self::set`] knows, `all-proposals` first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once(ALL).chain(KNOWN.iter().map(|(name, ..)| *name))
    }

    /// Changes the settings of an engine.
    pub(super) fn apply(&self, config: &mut Config) {
        for (name, on) in &self.0 {
            let known = KNOWN.iter().find(|(known, ..)| known == name);
            if let Some((_, _, set)) = known {
                set(config, *on);
            }
        }
    }
}

/// What was changed, as `wasmtime run -W` takes it.
impl fmt::Display for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, on)) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{name}={}", if *on { 'y' } else { 'n' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    #[test]
    fn every_name_is_known_and_in_order() {
        assert!(KNOWN.is_sorted_by_key(|(name, ..)| *name));
        for name in Proposals::names() {
            assert!(Proposals::default().set(name, true), "{name}");
        }
        assert!(!Proposals::default().set("", true));
    }

    #[test]
    fn what_is_off_is_refused_and_what_is_on_is_not() {
        let compiles = |proposals: &Proposals| {
            let mut config = Config::new();
            proposals.apply(&mut config);
            let engine = Engine::new(&config).unwrap();
            wasmtime::Module::new(&engine, "(module (memory i64 1))").is_ok()
        };
        let mut proposals = Proposals::default();
        assert!(compiles(&proposals));
        proposals.set("memory64", false);
        assert!(!compiles(&proposals));
        proposals.set("all-proposals", true);
        assert!(compiles(&proposals));
    }
}
