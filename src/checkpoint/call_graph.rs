//! Which functions can be on the stack while an import is called.

use std::collections::HashMap;

use wasm_encoder::ValType;
use wasmparser::{Operator, WasmModuleResources};

use super::core_module::CoreModule;
use super::error::Refusal;
use crate::bounded::bounded_u32;

/// What is known of all functions of a program.
pub(crate) struct CallGraph {
    /// Whether a call of the function may come to an import.
    reaches: Vec<bool>,
    /// Whether the function makes such a call that comes back to it.
    left: Vec<bool>,
    dropped: DroppedSegments,
    uses: Uses,
}

/// Segments of data and of elements that are dropped somewhere.
#[derive(Default)]
struct DroppedSegments {
    /// In the order in which they were found.
    found: Vec<(SegmentKind, u32)>,
    /// Their places there.
    numbers: HashMap<(SegmentKind, u32), u32>,
}

impl DroppedSegments {
    fn note(&mut self, kind: SegmentKind, segment: u32) {
        let next = bounded_u32(self.found.len(), "the validation of the module");
        let number = *self.numbers.entry((kind, segment)).or_insert(next);
        if number == next {
            self.found.push((kind, segment));
        }
    }
}

/// What the code does with references.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uses {
    /// It takes references to functions into its hands.
    pub(crate) references: bool,
    /// It changes tables.
    pub(crate) changes_tables: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SegmentKind {
    Data,
    Elements,
}

/// What one function calls.
#[derive(Default)]
struct Calls {
    direct: Vec<u32>,
    /// Calls that hand over the frame.
    tail: Vec<u32>,
    /// Whether it calls through a table or a reference, which may be any function.
    any: bool,
    any_tail: bool,
}

impl CallGraph {
    /// Reads all bodies. O(size of the code).
    pub(crate) fn find(program: &CoreModule<'_>) -> Result<Self, Refusal> {
        let imports = program.import_count() as usize;
        let mut dropped = DroppedSegments::default();
        let mut uses = Uses {
            references: holds_functions(program)?,
            changes_tables: false,
        };
        let calls = program
            .defined
            .iter()
            .zip(bounded_u32(imports, "the validation of the module")..)
            .map(|(defined, number)| {
                let calls = calls_of(defined, &mut dropped, &mut uses);
                calls.map_err(|refusal| refusal.in_function(number, program.name(number)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut reaches = vec![false; program.functions.len()];
        reaches
            .iter_mut()
            .take(imports)
            .for_each(|slot| *slot = true);
        // Who is called by whom, to go from the imports upwards once.
        let mut callers: Vec<Vec<usize>> = vec![Vec::new(); program.functions.len()];
        for (at, calls) in calls.iter().enumerate() {
            for callee in calls.direct.iter().chain(&calls.tail) {
                if let Some(callers) = callers.get_mut(*callee as usize) {
                    callers.push(imports + at);
                }
            }
        }
        let any =
            |(at, calls): (usize, &Calls)| (calls.any || calls.any_tail).then_some(imports + at);
        let mut open: Vec<usize> = (0..imports)
            .chain(calls.iter().enumerate().filter_map(any))
            .collect();
        for function in &open {
            if let Some(slot) = reaches.get_mut(*function) {
                *slot = true;
            }
        }
        while let Some(function) = open.pop() {
            for caller in callers.get(function).into_iter().flatten() {
                if let Some(slot) = reaches.get_mut(*caller).filter(|slot| !**slot) {
                    *slot = true;
                    open.push(*caller);
                }
            }
        }
        let leaves = |calls: &Calls| {
            calls.any
                || calls
                    .direct
                    .iter()
                    .any(|callee| reaches.get(*callee as usize) == Some(&true))
        };
        let left = (0..imports)
            .map(|_| false)
            .chain(calls.iter().map(leaves))
            .collect();
        Ok(Self {
            reaches,
            left,
            dropped,
            uses,
        })
    }

    /// Reads all bodies of a program whose host may change the tables that it exports.
    pub(crate) fn with_host(program: &CoreModule<'_>) -> Result<Self, Refusal> {
        let mut found = Self::find(program)?;
        let exports = &mut program.exports.iter();
        if exports.any(|export| export.kind == wasmparser::ExternalKind::Table) {
            found.uses = Uses {
                references: true,
                changes_tables: true,
            };
        }
        Ok(found)
    }

    /// Has the program do with references what another one does as well.
    pub(crate) fn using(mut self, other: &Self) -> Self {
        self.uses.references |= other.uses.references;
        self.uses.changes_tables |= other.uses.changes_tables;
        self
    }

    /// Returns whether a function can be in the middle of a call that comes to an import.
    pub(crate) fn is_left(&self, function: u32) -> bool {
        self.left.get(function as usize).copied().unwrap_or(false)
    }

    /// Returns whether an operator is a call that may come to an import and then comes back.
    pub(crate) fn may_leave(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => {
                let reaches = self.reaches.get(*function_index as usize);
                reaches.copied().unwrap_or(false)
            }
            Operator::CallIndirect { .. } | Operator::CallRef { .. } => true,
            _ => false,
        }
    }

    /// Returns what the code does with references.
    pub(crate) fn uses(&self) -> Uses {
        self.uses
    }

    /// Returns the segments that are dropped somewhere.
    pub(crate) fn dropped(&self) -> &[(SegmentKind, u32)] {
        &self.dropped.found
    }

    pub(crate) fn dropped_data(&self, segment: u32) -> u32 {
        self.number(SegmentKind::Data, segment)
    }

    pub(crate) fn dropped_elements(&self, segment: u32) -> u32 {
        self.number(SegmentKind::Elements, segment)
    }

    fn number(&self, kind: SegmentKind, segment: u32) -> u32 {
        let number = self.dropped.numbers.get(&(kind, segment));
        debug_assert!(number.is_some(), "{kind:?} {segment} is dropped nowhere");
        // A module that names a segment past all others is refused by the engine.
        number.copied().unwrap_or(u32::MAX)
    }
}

/// Returns whether a global can have a function in it, which no code need have put there.
fn holds_functions(program: &CoreModule<'_>) -> Result<bool, Refusal> {
    for global in &program.globals {
        if let ValType::Ref(reference) = program.plain(global.content_type)?
            && program.is_function(reference)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn calls_of(
    defined: &super::core_module::Defined<'_>,
    dropped: &mut DroppedSegments,
    uses: &mut Uses,
) -> Result<Calls, Refusal> {
    let mut calls = Calls::default();
    let operators = defined.body.get_operators_reader()?;
    for operator in operators.into_iter_with_offsets() {
        let (operator, offset) = operator?;
        match operator {
            Operator::Call { function_index } => calls.direct.push(function_index),
            Operator::ReturnCall { function_index } => calls.tail.push(function_index),
            Operator::CallIndirect { .. } | Operator::CallRef { .. } => calls.any = true,
            Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. } => {
                calls.any_tail = true;
            }
            // The build that leaves its stack names all functions, so that the engine would take it.
            Operator::RefFunc { function_index }
                if !defined
                    .check
                    .resources
                    .is_function_referenced(function_index) =>
            {
                let undeclared = format!("undeclared reference to function {function_index}");
                return Err(Refusal::new(undeclared).at(offset));
            }
            // Objects that a program is made with may hold functions.
            Operator::RefFunc { .. }
            | Operator::TableGet { .. }
            | Operator::StructGet { .. }
            | Operator::ArrayGet { .. } => uses.references = true,
            // What an element segment holds may be looked at by other ways than tables, so
            // that it has to be kept as it stands.
            Operator::ArrayNewElem { .. }
            | Operator::ArrayInitElem { .. }
            | Operator::TableSet { .. }
            | Operator::TableInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. } => {
                *uses = Uses {
                    references: true,
                    changes_tables: true,
                };
            }
            Operator::DataDrop { data_index } => dropped.note(SegmentKind::Data, data_index),
            Operator::ElemDrop { elem_index } => dropped.note(SegmentKind::Elements, elem_index),
            _ => {}
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of many segments is dropped many times: who compared each drop with all segments
    /// would compare for minutes.
    #[test]
    fn segments_that_are_dropped_are_found_once() {
        const SEGMENTS: u32 = 90_000;
        const ROUNDS: u32 = 8;
        let mut module = wasm_encoder::Module::new();
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut functions = wasm_encoder::FunctionSection::new();
        functions.function(0);
        let mut code = wasm_encoder::Function::new([]);
        for _ in 0..ROUNDS {
            for segment in (0..SEGMENTS).rev() {
                code.instructions().data_drop(segment);
            }
        }
        code.instructions().elem_drop(0).end();
        let mut elements = wasm_encoder::ElementSection::new();
        elements.passive(wasm_encoder::Elements::Functions((&[]).into()));
        let mut data = wasm_encoder::DataSection::new();
        for _ in 0..SEGMENTS {
            data.passive([]);
        }
        module
            .section(&types)
            .section(&functions)
            .section(&elements);
        module.section(&wasm_encoder::DataCountSection { count: SEGMENTS });
        module.section(wasm_encoder::CodeSection::new().function(&code));
        module.section(&data);
        let wasm = module.finish();
        let program = CoreModule::parse(&wasm).unwrap();
        let found = CallGraph::find(&program).unwrap();
        assert_eq!(found.dropped().len(), SEGMENTS as usize + 1);
        let last = SEGMENTS - 1;
        assert_eq!(found.dropped().first(), Some(&(SegmentKind::Data, last)));
        assert_eq!(found.dropped_data(last), 0);
        assert_eq!(found.dropped_data(0), last);
        assert_eq!(found.dropped_elements(0), SEGMENTS);
    }
}
