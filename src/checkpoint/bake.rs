//! The module that goes on from where a program was stopped.

use std::collections::HashMap;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ConstExpr, Encode};
use wasmparser::{DataKind, DataSectionReader};

use super::additions::{Additions, StandIns};
use super::call_graph::{CallGraph, SegmentKind};
use super::compose::{Items, SectionChange, compose, contents, id, length, names, types};
use super::core_module::CoreModule;
use super::elements::{Constant, each_constant, elements};
use super::error::{Refusal, missing};
use super::frames::check_depth;
use super::origin::{Continued, CopiedRun, OriginalProgram};
use super::resume::{NextCall, continuation, push_call};
use super::stopped::Stopped;
use super::unwind::declare;
use super::value::Value;
use crate::digest::Digest;
use crate::limits::MAX_CHECKPOINT_MEMORY;

/// Bytes that are looked at together: those of a page of most systems.
const PAGE: usize = 4096;

/// Data segments that one module may have, with the program's own, as engines bound them.
const MAX_SEGMENTS: usize = 100_000;

/// What a module says of the program that it was made of, if the program is not there as it
/// was any more.
pub(crate) struct OriginSummary {
    pub(crate) digest: Digest,
    /// How many of its segments of elements are those of the program.
    pub(crate) elements: u32,
}

impl OriginSummary {
    /// Returns what there is to say of a program that was made of no other.
    pub(crate) fn of(program: &CoreModule<'_>) -> Self {
        Self {
            digest: program.digest(),
            elements: count(program, id::ELEMENT),
        }
    }
}

fn count(program: &CoreModule<'_>, section: u8) -> u32 {
    program.section(section).map_or(0, |own| own.count)
}

/// Writes the module whose command goes on from where the program was stopped.
pub(crate) fn bake(
    program: &CoreModule<'_>,
    reach: &CallGraph,
    stopped: &Stopped<'_>,
    (entry, source): (&str, &OriginSummary),
) -> Result<Vec<u8>, Refusal> {
    refuse_objects(program)?;
    // What hands the last frame over takes one as well.
    let mut additions = Additions::of_continuations(program, stopped.frames.len().max(1));
    let continuations = continuations(program, stopped, &mut additions)?;
    let data = data(program, stopped)?;
    let first = program.function_count();
    let names = names(program, first, &stopped.frames);
    let mut data = Some(data);
    let origin = origin(program, &continuations, (entry, source))?;
    let mut module = compose(program, &names, |section| {
        Ok(match section {
            id::TYPE => types(&additions.signatures).behind(program, section)?,
            id::FUNCTION => function_types(&continuations).behind(program, section)?,
            id::TABLE if reach.uses().changes_tables => tables(program, stopped)?,
            id::MEMORY => memories(program, stopped)?,
            id::GLOBAL => globals(program, stopped)?,
            id::EXPORT => exports(program, entry, first)?,
            id::START => SectionChange::Leave,
            id::ELEMENT => {
                let entry = program.exported_function(entry);
                elements(
                    program,
                    reach,
                    stopped,
                    (entry, additions.stand_ins.numbers()),
                )?
            }
            id::DATA_COUNT => data_count(program, data.as_ref()),
            id::CODE => bodies(&continuations).behind(program, section)?,
            id::DATA => data.take().map_or(SectionChange::Leave, |data| {
                SectionChange::put(data.items.alone())
            }),
            _ => SectionChange::Keep,
        })
    })?;
    origin.append_to(&mut module);
    Ok(module)
}

/// Says what the module is made of.
fn origin<'c>(
    program: &CoreModule<'_>,
    continuations: &'c [Continuation],
    (entry, source): (&str, &OriginSummary),
) -> Result<OriginalProgram<'c>, Refusal> {
    let entry = program.exported_function(entry);
    let continued = continuations.iter().map(|one| Continued {
        function: one.function,
        runs: &one.runs,
    });
    Ok(OriginalProgram {
        program: source.digest,
        functions: program.function_count(),
        types: count(program, id::TYPE),
        elements: source.elements,
        data: match program.section(id::DATA_COUNT) {
            Some(_) => count(program, id::DATA),
            None => 0,
        },
        entry: entry.ok_or_else(|| missing("export"))?,
        continuations: continued.collect(),
    })
}

/// What stands before a table that says what its elements are at first.
const TABLE_WITH_INIT: [u8; 2] = [0x40, 0];

/// A function behind those of the program: the number of its type, and its body.
struct Continuation {
    ty: u32,
    body: Vec<u8>,
    /// The function of its frame, if it has one.
    function: Option<u32>,
    /// What of its body is the function's, as [`CopiedRun::write_all`] has it.
    runs: Vec<u8>,
}

fn continuations(
    program: &CoreModule<'_>,
    stopped: &Stopped<'_>,
    additions: &mut Additions,
) -> Result<Vec<Continuation>, Refusal> {
    let first = program.function_count();
    let mut made = Vec::new();
    check_depth(program, stopped.frames.iter().map(|frame| frame.function))?;
    for (at, frame) in stopped.frames.iter().enumerate() {
        let next = match at + 1 == stopped.frames.len() {
            true => NextCall::Import(stopped.import, &stopped.arguments),
            false => NextCall::Continuation(first + length(at) + 1),
        };
        let (body, runs) = continuation(program, frame, &next, additions)?;
        let results = program.plain_all(program.type_of(frame.function)?.results())?;
        made.push(Continuation {
            ty: additions.signatures.number(&[], &results)?,
            body,
            function: Some(frame.function),
            runs: CopiedRun::write_all(&runs),
        });
    }
    if made.is_empty() {
        // The program handed its last frame over to the import.
        let mut body = declare(std::iter::empty());
        push_call(program, stopped.import, &stopped.arguments, &mut body)?;
        wasm_encoder::Instruction::End.encode(&mut body);
        let results = program.plain_all(program.type_of(stopped.import)?.results())?;
        made.push(Continuation {
            ty: additions.signatures.number(&[], &results)?,
            body,
            function: None,
            runs: Vec::new(),
        });
    }
    // These continue nothing either.
    made.extend(additions.stand_ins.types().iter().map(|ty| Continuation {
        ty: *ty,
        body: StandIns::body(),
        function: None,
        runs: Vec::new(),
    }));
    Ok(made)
}

fn function_types(continuations: &[Continuation]) -> Items {
    let mut items = Items::default();
    for one in continuations {
        items.add(|out| one.ty.encode(out));
    }
    items
}

fn bodies(continuations: &[Continuation]) -> Items {
    let mut items = Items::default();
    for one in continuations {
        items.add(|out| one.body.encode(out));
    }
    items
}

fn memories(
    program: &CoreModule<'_>,
    stopped: &Stopped<'_>,
) -> Result<SectionChange<'static>, Refusal> {
    let mut items = Items::default();
    for (ty, memory) in program.memories.iter().zip(&stopped.memories) {
        let mut ty = RoundtripReencoder
            .memory_type(*ty)
            .map_err(|error| Refusal::new(format!("a memory: {error}")))?;
        let page = 1_u64 << ty.page_size_log2.unwrap_or(16);
        ty.minimum = memory.bytes.len() as u64 / page;
        items.add(|out| ty.encode(out));
    }
    Ok(put_unless_empty(items))
}

fn put_unless_empty(items: Items) -> SectionChange<'static> {
    match items.count {
        0 => SectionChange::Leave,
        _ => SectionChange::put(items.alone()),
    }
}

fn tables(
    program: &CoreModule<'_>,
    stopped: &Stopped<'_>,
) -> Result<SectionChange<'static>, Refusal> {
    let Some(section) = program.section(id::TABLE) else {
        return Ok(SectionChange::Leave);
    };
    let own = contents(program, id::TABLE)?.unwrap_or_default();
    let reader = wasmparser::BinaryReader::new(own, section.contents.start);
    let reader = wasmparser::TableSectionReader::new(reader)?;
    let mut items = Items::default();
    for (number, (table, held)) in (0..).zip(reader.into_iter().zip(&stopped.tables)) {
        let named = |error| Refusal::new(format!("table {number}: {error}"));
        let table = table?;
        let mut ty = RoundtripReencoder.table_type(table.ty).map_err(named)?;
        ty.minimum = held.len() as u64;
        // Elements that are never null have to be there before a segment sets them.
        let first = match table.init {
            wasmparser::TableInit::RefNull => None,
            wasmparser::TableInit::Expr(_)
                if program.first_elements.get(number as usize) == Some(&Some(Value::Null)) =>
            {
                None
            }
            wasmparser::TableInit::Expr(first) => {
                Some(RoundtripReencoder.const_expr(first).map_err(named)?)
            }
        };
        items.add(|out| {
            if first.is_some() {
                out.extend_from_slice(&TABLE_WITH_INIT);
            }
            ty.encode(out);
            if let Some(first) = &first {
                first.encode(out);
            }
        });
    }
    Ok(put_unless_empty(items))
}

fn globals(
    program: &CoreModule<'_>,
    stopped: &Stopped<'_>,
) -> Result<SectionChange<'static>, Refusal> {
    let Some(section) = program.section(id::GLOBAL) else {
        return Ok(SectionChange::Keep);
    };
    let own = contents(program, id::GLOBAL)?.unwrap_or_default();
    let reader = wasmparser::BinaryReader::new(own, section.contents.start);
    let reader = wasmparser::GlobalSectionReader::new(reader)?;
    let all_held: HashMap<u32, Value> = stopped.globals.iter().copied().collect();
    let mut items = Items::default();
    for (number, global) in (0..).zip(reader) {
        let global = global?;
        let ty = RoundtripReencoder
            .global_type(global.ty)
            .map_err(|error| Refusal::new(format!("global {number}: {error}")))?;
        let init = match all_held.get(&number) {
            Some(value) => value.to_const(ty.val_type)?,
            None => RoundtripReencoder
                .const_expr(global.init_expr)
                .map_err(|error| Refusal::new(format!("global {number}: {error}")))?,
        };
        items.add(|out| {
            ty.encode(out);
            init.encode(out);
        });
    }
    Ok(SectionChange::put(items.alone()))
}

fn exports(
    program: &CoreModule<'_>,
    entry: &str,
    first: u32,
) -> Result<SectionChange<'static>, Refusal> {
    let mut items = Items::default();
    for export in &program.exports {
        let kind = RoundtripReencoder
            .export_kind(export.kind)
            .map_err(|error| Refusal::new(format!("export {:?}: {error}", export.name)))?;
        let index = match export.name == entry {
            true => first,
            false => export.index,
        };
        items.add(|out| {
            export.name.encode(out);
            kind.encode(out);
            index.encode(out);
        });
    }
    Ok(put_unless_empty(items))
}

/// Refuses a program that is made with objects that it may have changed since: they would be
/// made anew. What a global that can change holds is looked at where it stands.
fn refuse_objects(program: &CoreModule<'_>) -> Result<(), Refusal> {
    use wasmparser::Operator;
    each_constant(program, |place, expression| {
        for operator in expression.get_operators_reader() {
            let ty = match operator? {
                Operator::StructNew { struct_type_index }
                | Operator::StructNewDefault { struct_type_index } => struct_type_index,
                Operator::ArrayNew { array_type_index }
                | Operator::ArrayNewDefault { array_type_index }
                | Operator::ArrayNewFixed {
                    array_type_index, ..
                } => array_type_index,
                _ => continue,
            };
            if !program.can_change(ty) {
                continue;
            }
            let place = match place {
                Constant::Global(number) => format!("global {number}"),
                Constant::Table(number) => format!("table {number}"),
                Constant::Element(number) => format!("segment {number} of elements"),
            };
            return Err(Refusal::new(format!(
                "{place} is made with an object that can change, which cannot be made again as it is now"
            )));
        }
        Ok(())
    })
}

/// The data section, and how many segments it has.
struct DataSegments {
    items: Items,
}

fn data_count(program: &CoreModule<'_>, data: Option<&DataSegments>) -> SectionChange<'static> {
    match (program.section(id::DATA_COUNT), data) {
        (Some(_), Some(data)) => {
            let mut out = Vec::new();
            data.items.count.encode(&mut out);
            SectionChange::put(out)
        }
        _ => SectionChange::Leave,
    }
}

/// The program's own segments keep their numbers where code names them; those that are in
/// memory already are empty. The memories follow.
fn data(program: &CoreModule<'_>, stopped: &Stopped<'_>) -> Result<DataSegments, Refusal> {
    let mut section = Items::default();
    let own = contents(program, id::DATA)?;
    if let (Some(own), Some(_)) = (own, program.section(id::DATA_COUNT)) {
        let start = program
            .section(id::DATA)
            .map_or(0, |own| own.contents.start);
        let reader = DataSectionReader::new(wasmparser::BinaryReader::new(own, start))?;
        for (number, segment) in (0..).zip(reader) {
            let segment = segment?;
            let is_there = matches!(segment.kind, DataKind::Passive)
                && !stopped.dropped.contains(&(SegmentKind::Data, number));
            section.add(|out| {
                out.push(1);
                let bytes: &[u8] = if is_there { segment.data } else { &[] };
                bytes.encode(out);
            });
        }
    }
    let left = MAX_SEGMENTS.saturating_sub(section.count as usize);
    let each = left / stopped.memories.len().max(1);
    for (number, memory) in (0..).zip(&stopped.memories) {
        if memory.bytes.len() as u64 > MAX_CHECKPOINT_MEMORY {
            return Err(Refusal::new(format!(
                "memory {number} has {} bytes, the limit is {MAX_CHECKPOINT_MEMORY}",
                memory.bytes.len()
            )));
        }
        let is_64 = program
            .memories
            .get(number as usize)
            .is_some_and(|ty| ty.memory64);
        for (start, bytes) in pieces(memory.bytes, each) {
            if each == 0 {
                return Err(Refusal::new(format!(
                    "memory {number} needs a segment of data, and the program has {} of at most {MAX_SEGMENTS}",
                    section.count
                )));
            }
            let start = offset(start, is_64)?;
            section.add(|out| {
                out.push(2);
                number.encode(out);
                start.encode(out);
                bytes.encode(out);
            });
        }
    }
    Ok(DataSegments { items: section })
}

/// Returns where a segment starts, as a constant of its memory's kind of address.
fn offset(start: usize, is_64: bool) -> Result<ConstExpr, Refusal> {
    // The limit on memories refuses more.
    let narrow = u32::try_from(start);
    debug_assert!(narrow.is_ok(), "a segment at {start}");
    let start = narrow.map_err(|_| {
        Refusal::new(format!(
            "a segment of a memory: expected an offset of 32 bits, found {start}"
        ))
    })?;
    Ok(match is_64 {
        true => ConstExpr::i64_const(start.into()),
        // The bits of an unsigned number.
        false => ConstExpr::i32_const(start.cast_signed()),
    })
}

/// Returns what is not zero of a memory, in pieces with their offsets. Few zeros between
/// two pieces join them; as many more as it takes to have at most `most` pieces, or one.
fn pieces(memory: &[u8], most: usize) -> Vec<(usize, &[u8])> {
    let mut gap = 1;
    loop {
        let found = pieces_with(memory, gap);
        if found.len() <= most.max(1) {
            return found;
        }
        gap *= 2;
    }
}

fn pieces_with(memory: &[u8], gap: usize) -> Vec<(usize, &[u8])> {
    let is_zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (number, page) in memory.chunks(PAGE).enumerate() {
        if is_zero(page) {
            continue;
        }
        let start = number * PAGE;
        match runs.last_mut() {
            Some((_, end)) if start - *end < gap * PAGE => *end = start + page.len(),
            Some(_) | None => runs.push((start, start + page.len())),
        }
    }
    let trimmed = |(start, end): (usize, usize)| {
        let run = memory.get(start..end)?;
        let head = run.iter().position(|byte| *byte != 0)?;
        let tail = run.iter().rposition(|byte| *byte != 0)?;
        Some((start + head, run.get(head..=tail)?))
    };
    runs.into_iter().filter_map(trimmed).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::checkpoint::stopped::FrozenMemory;

    /// Globals and segments are found by their numbers: who looked through all of them for
    /// each would look for minutes.
    #[test]
    fn many_globals_and_segments_are_written_as_they_are() {
        const GLOBALS: u32 = 400_000;
        const SEGMENTS: u32 = 90_000;
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut imports = wasm_encoder::ImportSection::new();
        imports.import("own", "call", wasm_encoder::EntityType::Function(0));
        let mut globals = wasm_encoder::GlobalSection::new();
        let ty = wasm_encoder::GlobalType {
            val_type: wasm_encoder::ValType::I32,
            mutable: true,
            shared: false,
        };
        for _ in 0..GLOBALS {
            globals.global(ty, &ConstExpr::i32_const(0));
        }
        let mut exports = wasm_encoder::ExportSection::new();
        exports.export("run", wasm_encoder::ExportKind::Func, 0);
        let mut data = wasm_encoder::DataSection::new();
        for _ in 0..SEGMENTS {
            data.passive([7]);
        }
        let mut module = wasm_encoder::Module::new();
        module.section(&types).section(&imports).section(&globals);
        module.section(&exports);
        module.section(&wasm_encoder::DataCountSection { count: SEGMENTS });
        module.section(&data);
        let wasm = module.finish();
        let program = CoreModule::parse(&wasm).unwrap();
        let reach = CallGraph::find(&program).unwrap();
        let odd = |number: &u32| number % 2 == 1;
        let stopped = Stopped {
            frames: Vec::new(),
            import: 0,
            arguments: Vec::new(),
            memories: Vec::new(),
            globals: (0..GLOBALS)
                .map(|number| (number, Value::I32(number.cast_signed())))
                .collect(),
            tables: Vec::new(),
            dropped: (0..SEGMENTS)
                .filter(odd)
                .map(|number| (SegmentKind::Data, number))
                .collect::<HashSet<_>>(),
        };
        let source = OriginSummary::of(&program);
        let baked = bake(&program, &reach, &stopped, ("run", &source)).unwrap();
        let baked = CoreModule::parse(&baked).unwrap();
        let reader = |section| {
            let own = contents(&baked, section).unwrap().unwrap();
            wasmparser::BinaryReader::new(own, 0)
        };
        let globals = wasmparser::GlobalSectionReader::new(reader(id::GLOBAL)).unwrap();
        for (number, global) in (0..).zip(globals) {
            let first = global.unwrap().init_expr.get_operators_reader().read();
            let wasmparser::Operator::I32Const { value } = first.unwrap() else {
                panic!("global {number}");
            };
            assert_eq!(value, number);
        }
        let data = DataSectionReader::new(reader(id::DATA)).unwrap();
        for (number, segment) in (0..).zip(data) {
            assert_eq!(segment.unwrap().data.is_empty(), odd(&number), "{number}");
        }
    }

    /// A program with so many segments of its own, frozen where every second page of its
    /// memory holds something.
    fn baked_with(segments: u32, pages: usize) -> Result<Vec<u8>, Refusal> {
        let mut text = String::from(
            "(module (import \"own\" \"call\" (func)) (memory 64) (func (export \"run\"))",
        );
        for _ in 0..segments {
            text.push_str("(data \"x\")");
        }
        text.push_str("(func (data.drop 0)))");
        let wasm = wat::parse_str(&text).unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let reach = CallGraph::find(&program).unwrap();
        let mut bytes = vec![0; 64 << 16];
        for page in bytes.chunks_mut(PAGE).step_by(2).take(pages) {
            page.fill(1);
        }
        let stopped = Stopped {
            frames: Vec::new(),
            import: 0,
            arguments: Vec::new(),
            memories: vec![FrozenMemory { bytes: &bytes }],
            globals: Vec::new(),
            tables: Vec::new(),
            dropped: HashSet::new(),
        };
        let source = OriginSummary::of(&program);
        bake(&program, &reach, &stopped, ("run", &source))
    }

    #[test]
    fn the_pieces_of_a_memory_have_the_segments_that_the_program_leaves() {
        for (own, pages, want) in [
            (10, 300, 310),
            (99_700, 300, 100_000),
            // As few as there have to be.
            (99_990, 300, 99_991),
        ] {
            let baked = baked_with(own, pages).unwrap();
            wasmparser::validate(&baked).unwrap();
            let baked = CoreModule::parse(&baked).unwrap();
            assert_eq!(count(&baked, id::DATA), want, "{own} {pages}");
        }
        baked_with(100_000, 0).unwrap();
        let error = baked_with(100_000, 1).unwrap_err().to_string();
        assert!(
            error.contains("memory 0 needs a segment of data"),
            "{error}"
        );
        assert!(error.contains("100000"), "{error}");
    }
}
