//! What the tables held, as segments of elements.

use std::ops::Range;

use wasm_encoder::{
    AbstractHeapType, ConstExpr, ElementSection, Elements, HeapType, RefType, ValType,
};

use super::compose::id;
use super::core_module::CoreModule;
use super::error::{Refusal, missing};
use super::stopped::Stopped;
use super::value::Value;
use crate::bounded::bounded_u32;

/// Segments of elements that an engine takes.
const MAX_SEGMENTS: usize = 100_000;

/// Segments that name functions by their numbers, and as many that do not. A table with more runs
/// of elements than are left is filled one by one, with some that start so among them.
const MAX_RUNS: usize = 4096;

/// Elements that are named by expressions. An engine runs code of its own for each of them, and
/// wasmtime takes 45 microseconds and 3.5 KB to compile it.
const MAX_EXPRESSIONS: usize = 1 << 16;

/// What a table held.
struct FilledTable<'s> {
    number: u32,
    is_64: bool,
    ty: RefType,
    /// What its elements are unless a segment sets them, if that is known.
    first: Option<Value>,
    held: &'s [Value],
}

/// Fills the tables: with numbers of functions where they hold nothing else, which engines read
/// without running code, and with expressions behind those.
pub(super) fn fill_tables(
    section: &mut ElementSection,
    program: &CoreModule<'_>,
    stopped: &Stopped<'_>,
) -> Result<(), Refusal> {
    let mut named_one_by_one = Vec::new();
    let own = program.section(id::ELEMENT).map_or(0, |own| own.count);
    let left = MAX_SEGMENTS.saturating_sub(own as usize + program.tables.len() + 1) / 2;
    let (mut runs_left, mut few_left) = (left.min(MAX_RUNS), left.min(MAX_RUNS));
    let mut expressions = 0;
    for (number, held) in (0..).zip(&stopped.tables) {
        let table = FilledTable::new(program, number, held)?;
        let runs = runs_of(&table.set_elements(), 0);
        if table.is_of_functions() && runs.len() <= runs_left {
            runs_left -= runs.len();
            runs.into_iter()
                .for_each(|run| table.name_functions(section, run));
            continue;
        }
        let runs = few_runs(&table.set_elements(), few_left);
        few_left = few_left.saturating_sub(runs.len());
        expressions += runs.iter().map(Range::len).sum::<usize>();
        if expressions > MAX_EXPRESSIONS {
            return Err(Refusal::new(format!(
                "table {number} has to be filled one by one: {expressions} elements with those of the tables before it, the limit is {MAX_EXPRESSIONS}"
            )));
        }
        named_one_by_one.push((table, runs));
    }
    for (table, runs) in named_one_by_one {
        for run in runs {
            table.name_each(section, run)?;
        }
    }
    Ok(())
}

impl<'s> FilledTable<'s> {
    fn new(program: &CoreModule<'_>, number: u32, held: &'s [Value]) -> Result<Self, Refusal> {
        let table = program.tables.get(number as usize);
        let table = table.ok_or_else(|| missing("table"))?;
        let ty = program.plain(wasmparser::ValType::Ref(table.element_type))?;
        let ValType::Ref(ty) = ty else {
            return Err(missing("table"));
        };
        Ok(Self {
            number,
            is_64: table.table64,
            ty: RefType {
                nullable: ty.nullable,
                heap_type: match ty.heap_type {
                    HeapType::Exact(index) => HeapType::Concrete(index),
                    other => other,
                },
            },
            first: program
                .first_elements
                .get(number as usize)
                .copied()
                .flatten(),
            held,
        })
    }

    /// Returns the elements that a segment has to set.
    fn set_elements(&self) -> Vec<usize> {
        let is_set = |value: &Value| self.first != Some(*value);
        let held = self.held.iter().enumerate();
        held.filter_map(|(at, value)| is_set(value).then_some(at))
            .collect()
    }

    /// Returns whether segments can name its functions by their numbers.
    fn is_of_functions(&self) -> bool {
        let is_general = matches!(
            self.ty.heap_type,
            HeapType::Abstract {
                ty: AbstractHeapType::Func,
                ..
            }
        );
        let is_named = |value: &Value| match value {
            Value::Function(_) => true,
            other => self.first == Some(*other),
        };
        // wasmtime runs code for all tables behind one that it cannot know at first.
        self.first.is_some() && is_general && self.held.iter().all(is_named)
    }

    fn name_functions(&self, section: &mut ElementSection, run: Range<usize>) {
        let held = self.held.get(run.clone()).unwrap_or_default();
        let functions: Vec<u32> = held
            .iter()
            .filter_map(|value| match value {
                Value::Function(number) => Some(*number),
                _ => None,
            })
            .collect();
        self.set(section, run.start, Elements::Functions(functions.into()));
    }

    fn name_each(&self, section: &mut ElementSection, run: Range<usize>) -> Result<(), Refusal> {
        let held = self.held.get(run.clone()).unwrap_or_default();
        let expressions = held
            .iter()
            .map(|value| value.to_const(ValType::Ref(self.ty)))
            .collect::<Result<Vec<_>, _>>()?;
        let elements = Elements::Expressions(self.ty, expressions.into());
        self.set(section, run.start, elements);
        Ok(())
    }

    fn set(&self, section: &mut ElementSection, start: usize, elements: Elements<'_>) {
        // The host lets no table have as many elements as do not fit.
        let start = bounded_u32(start, "the limit on tables");
        let start = match self.is_64 {
            true => ConstExpr::i64_const(start.into()),
            false => ConstExpr::i32_const(start.cast_signed()),
        };
        section.active(Some(self.number), &start, elements);
    }
}

/// Returns runs of elements between which there are more than `gap` others.
fn runs_of(elements: &[usize], gap: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for &at in elements {
        match runs.last_mut() {
            Some(run) if at - run.end <= gap => run.end = at + 1,
            Some(_) | None => runs.push(at..at + 1),
        }
    }
    runs
}

/// Returns at most `most` runs of elements, or one, with as few others between them as that takes.
fn few_runs(elements: &[usize], most: usize) -> Vec<Range<usize>> {
    let mut gap = 1;
    loop {
        let runs = runs_of(elements, gap);
        if runs.len() <= most.max(1) {
            return runs;
        }
        gap *= 2;
    }
}
