//! The tables of the module that goes on, and what says which functions its code may name.

use std::collections::BTreeSet;
use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ElementSection, Elements, Encode};
use wasmparser::{ElementItems, ElementKind, ElementSectionReader};

use super::call_graph::{CallGraph, SegmentKind};
use super::compose::{SectionChange, contents, id};
use super::core_module::CoreModule;
use super::error::Refusal;
use super::filled_tables::fill_tables;
use super::leave::items_of;
use super::stopped::Stopped;
use super::value::Value;

/// The functions that globals and tables held at the start. Code may name them because they
/// did, whatever stands there now.
fn first_held(program: &CoreModule<'_>) -> Result<BTreeSet<u32>, Refusal> {
    let mut named = BTreeSet::new();
    each_constant(program, |place, expression| {
        for operator in expression.get_operators_reader() {
            if let wasmparser::Operator::RefFunc { function_index } = operator?
                && !matches!(place, Constant::Element(_))
            {
                named.insert(function_index);
            }
        }
        Ok(())
    })?;
    Ok(named)
}

/// Where an expression stands that is computed when a module is made an instance.
#[derive(Clone, Copy)]
pub(super) enum Constant {
    Global(u32),
    Table(u32),
    Element(u32),
}

/// Reads what globals, tables and segments of elements are made with.
pub(super) fn each_constant(
    program: &CoreModule<'_>,
    mut look: impl FnMut(Constant, &wasmparser::ConstExpr<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let reader = |section| -> Result<Option<wasmparser::BinaryReader<'_>>, Refusal> {
        let own = contents(program, section)?;
        let start = program.section(section).map_or(0, |own| own.contents.start);
        Ok(own.map(|own| wasmparser::BinaryReader::new(own, start)))
    };
    if let Some(reader) = reader(id::GLOBAL)? {
        for (number, global) in (0..).zip(wasmparser::GlobalSectionReader::new(reader)?) {
            look(Constant::Global(number), &global?.init_expr)?;
        }
    }
    if let Some(reader) = reader(id::TABLE)? {
        for (number, table) in (0..).zip(wasmparser::TableSectionReader::new(reader)?) {
            if let wasmparser::TableInit::Expr(expression) = table?.init {
                look(Constant::Table(number), &expression)?;
            }
        }
    }
    if let Some(reader) = reader(id::ELEMENT)? {
        for (number, element) in (0..).zip(ElementSectionReader::new(reader)?) {
            if let ElementItems::Expressions(_, expressions) = element?.items {
                for expression in expressions {
                    look(Constant::Element(number), &expression?)?;
                }
            }
        }
    }
    Ok(())
}

/// The functions that constants of the continuations name, which has to be said.
fn named_functions(stopped: &Stopped<'_>) -> BTreeSet<u32> {
    let frames = stopped.frames.iter();
    let values = frames.flat_map(|frame| frame.locals.iter().chain(&frame.operands));
    let values = values.chain(&stopped.arguments);
    values
        .filter_map(|value| match value {
            Value::Function(number) => Some(*number),
            _ => None,
        })
        .collect()
}

/// Returns the segments of elements of the module that goes on, whose code names those functions
/// that stand for others.
pub(super) fn elements(
    program: &CoreModule<'_>,
    reach: &CallGraph,
    stopped: &Stopped<'_>,
    (entry, stand_ins): (Option<u32>, Range<u32>),
) -> Result<SectionChange<'static>, Refusal> {
    let mut named = named_functions(stopped);
    named.extend(stand_ins);
    if reach.uses().references {
        // Its export is another function's now.
        named.extend(entry);
        named.extend(first_held(program)?);
    }
    let own = contents(program, id::ELEMENT)?;
    let mut section = ElementSection::new();
    if !reach.uses().changes_tables {
        if named.is_empty() {
            return Ok(own.map_or(SectionChange::Leave, |own| SectionChange::put(own.to_vec())));
        }
        let declared: Vec<u32> = named.into_iter().collect();
        section.declared(Elements::Functions(declared.into()));
        return items_of(&section).behind(program, id::ELEMENT);
    }
    let start = program
        .section(id::ELEMENT)
        .map_or(0, |own| own.contents.start);
    if let Some(own) = own {
        let reader = wasmparser::BinaryReader::new(own, start);
        let reader = ElementSectionReader::new(reader)?;
        for (number, element) in (0..).zip(reader) {
            let is_dropped = stopped.dropped.contains(&(SegmentKind::Elements, number));
            keep_element(&mut section, element?, is_dropped, &mut named)?;
        }
    }
    if !named.is_empty() {
        let declared: Vec<u32> = named.into_iter().collect();
        section.declared(Elements::Functions(declared.into()));
    }
    fill_tables(&mut section, program, stopped)?;
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    let digits = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap_or(0);
    Ok(SectionChange::put(
        bytes.get(digits + 1..).unwrap_or_default().to_vec(),
    ))
}

/// Notes the functions that stand in a segment.
pub(super) fn note_functions(
    element: &wasmparser::Element<'_>,
    named: &mut BTreeSet<u32>,
) -> Result<(), Refusal> {
    if let ElementItems::Functions(functions) = &element.items {
        for function in functions.clone() {
            named.insert(function?);
        }
    }
    if let ElementItems::Expressions(_, expressions) = &element.items {
        for expression in expressions.clone() {
            for operator in expression?.get_operators_reader() {
                if let wasmparser::Operator::RefFunc { function_index } = operator? {
                    named.insert(function_index);
                }
            }
        }
    }
    Ok(())
}

/// A segment that was not dropped stays; one that was has nothing in it. What a segment
/// said to be a function that code names goes on to be one.
fn keep_element(
    section: &mut ElementSection,
    element: wasmparser::Element<'_>,
    is_dropped: bool,
    named: &mut BTreeSet<u32>,
) -> Result<(), Refusal> {
    note_functions(&element, named)?;
    let is_passive = matches!(element.kind, ElementKind::Passive);
    if is_passive && !is_dropped {
        return RoundtripReencoder
            .parse_element(section, element)
            .map_err(|error| Refusal::new(format!("a segment of elements: {error}")));
    }
    match element.items {
        ElementItems::Functions(_) => section.passive(Elements::Functions([].as_slice().into())),
        ElementItems::Expressions(ty, _) => {
            let ty = RoundtripReencoder
                .ref_type(ty)
                .map_err(|error| Refusal::new(format!("a segment of elements: {error}")))?;
            section.passive(Elements::Expressions(ty, [].as_slice().into()))
        }
    };
    Ok(())
}
