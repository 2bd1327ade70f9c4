//! The program that a module which goes on was made of, and its frames.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ElementSection, Elements, Encode};
use wasmparser::{BinaryReader, Data, Element, ElementKind, FromReader, FunctionBody, RecGroup};
use wasmparser::{ElementSectionReader, SectionLimited};

use super::compose::{Items, SectionChange, compose, contents, id, names};
use super::core_module::CoreModule;
use super::elements::note_functions;
use super::error::Refusal;
use super::frames::Frame;
use super::function::Function;
use super::leave::items_of;
use super::origin::{Continued, CopiedRun, OriginalProgram};
use crate::bounded::bounded_u32;

fn cannot_be() -> Refusal {
    Refusal::new("what the program says of the one that it was made of cannot be")
}

/// Where a frame of a continuation stands in its function.
#[derive(Clone, Copy)]
struct FunctionPos {
    function: u32,
    call: u32,
    /// How many locals the function has.
    locals: usize,
}

impl OriginalProgram<'_> {
    /// Returns frames of the module as frames of the program's functions.
    pub(crate) fn frames(
        &self,
        module: &CoreModule<'_>,
        frames: Vec<Frame>,
    ) -> Result<Vec<Frame>, Refusal> {
        // Each function is read once, however many frames it has.
        let mut continued: BTreeMap<u32, BTreeMap<u32, Option<FunctionPos>>> = BTreeMap::new();
        for frame in &frames {
            if frame.function >= self.functions {
                let calls = continued.entry(frame.function).or_default();
                calls.insert(frame.call, None);
            }
        }
        for (function, calls) in &mut continued {
            self.place(module, *function, calls)?;
        }
        let mut own = Vec::new();
        for mut frame in frames {
            if let Some(calls) = continued.get(&frame.function) {
                let place = calls.get(&frame.call).copied().flatten();
                // What calls the import alone stands for a frame that was handed over.
                let Some(place) = place else { continue };
                (frame.function, frame.call) = (place.function, place.call);
                frame.locals.truncate(place.locals);
            }
            own.push(frame);
        }
        Ok(own)
    }

    /// Finds for calls of a continuation where they stand in its function.
    fn place(
        &self,
        module: &CoreModule<'_>,
        continuation: u32,
        calls: &mut BTreeMap<u32, Option<FunctionPos>>,
    ) -> Result<(), Refusal> {
        let at = continuation.checked_sub(self.functions);
        let continued = at.and_then(|at| self.continuations.get(at as usize));
        let continued = *continued.ok_or_else(cannot_be)?;
        let Some(function) = continued.function else {
            return Ok(());
        };
        let original = Function::read(module, function)?;
        let runs = PlacedRuns::of(module, continuation, continued)?;
        for (call, place) in calls {
            let call = runs.call(*call as usize)?.ok_or_else(cannot_be)?;
            let op = original.op(call as usize)?;
            original.callee(&op.operator)?.ok_or_else(cannot_be)?;
            *place = Some(FunctionPos {
                function,
                call,
                locals: original.locals.len(),
            });
        }
        Ok(())
    }

    /// Writes the program, with memories, globals and tables as the module begins with them.
    pub(crate) fn program(&self, module: &CoreModule<'_>) -> Result<Vec<u8>, Refusal> {
        let own = self.functions.checked_sub(module.import_count());
        let own = own.ok_or_else(cannot_be)?;
        let names = names(module, self.functions, &[]);
        compose(module, &names, |section| {
            let items = match section {
                id::TYPE => first::<RecGroup>(module, section, self.types)?,
                id::FUNCTION => first::<u32>(module, section, own)?,
                id::EXPORT => return self.exports(module),
                id::ELEMENT => self.elements(module)?,
                id::DATA_COUNT if module.section(section).is_some() => {
                    let mut count = Vec::new();
                    self.data.encode(&mut count);
                    return Ok(SectionChange::put(count));
                }
                id::CODE => first::<FunctionBody<'_>>(module, section, own)?,
                id::DATA => first::<Data<'_>>(module, section, self.data)?,
                _ => return Ok(SectionChange::Keep),
            };
            Ok(items.map_or(SectionChange::Leave, |items| {
                SectionChange::put(items.alone())
            }))
        })
    }

    fn exports(&self, module: &CoreModule<'_>) -> Result<SectionChange<'static>, Refusal> {
        let mut items = Items::default();
        for export in &module.exports {
            let kind = RoundtripReencoder.export_kind(export.kind);
            let kind = kind.map_err(|_| cannot_be())?;
            let is_continuation =
                export.kind == wasmparser::ExternalKind::Func && export.index >= self.functions;
            let index = match is_continuation {
                true => self.entry,
                false => export.index,
            };
            items.add(|out| {
                export.name.encode(out);
                kind.encode(out);
                index.encode(out);
            });
        }
        Ok(SectionChange::put(items.alone()))
    }

    /// The program's own segments, and one that says which functions code may name.
    fn elements(&self, module: &CoreModule<'_>) -> Result<Option<Items>, Refusal> {
        let Some(mut items) = first::<Element<'_>>(module, id::ELEMENT, self.elements)? else {
            return Ok(None);
        };
        let own = contents(module, id::ELEMENT)?.unwrap_or_default();
        let mut named = BTreeSet::new();
        let reader = ElementSectionReader::new(BinaryReader::new(own, 0))?;
        for element in reader.into_iter().skip(self.elements as usize) {
            let element = element?;
            if matches!(element.kind, ElementKind::Declared) {
                note_functions(&element, &mut named)?;
            }
        }
        // What stood for others was the module's.
        named.retain(|function| *function < self.functions);
        if !named.is_empty() {
            let named: Vec<u32> = named.into_iter().collect();
            let mut section = ElementSection::new();
            section.declared(Elements::Functions(named.into()));
            items.append(&items_of(&section));
        }
        Ok(Some(items))
    }
}

/// A continuation, and which of its operators are those of its function.
struct PlacedRuns<'p, 'a> {
    continuation: Function<'p, 'a>,
    /// Where its body begins.
    start: usize,
    runs: Vec<CopiedRun>,
}

impl<'p, 'a> PlacedRuns<'p, 'a> {
    fn of(
        module: &'p CoreModule<'a>,
        function: u32,
        continued: Continued<'_>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            continuation: Function::read(module, function)?,
            start: module.defined(function)?.body.range().start,
            runs: continued.runs_by_start().ok_or_else(cannot_be)?,
        })
    }

    /// Returns the call of the function that a call of the continuation stands for.
    fn call(&self, call: usize) -> Result<Option<u32>, Refusal> {
        let offset = self.continuation.op(call)?.start - self.start;
        let Some(run) = CopiedRun::at(&self.runs, offset) else {
            return Ok(None);
        };
        let first = self.start + run.start as usize;
        let ops = &self.continuation.ops;
        let Ok(first) = ops.binary_search_by_key(&first, |op| op.start) else {
            return Ok(None);
        };
        let behind = call.checked_sub(first);
        let behind = behind.filter(|behind| *behind < run.count as usize);
        let behind = behind.map(|behind| bounded_u32(behind, "the count of the run"));
        Ok(behind.map(|behind| run.first.saturating_add(behind)))
    }
}

/// Returns the first items of a section, if the module has it.
fn first<'m, T: FromReader<'m>>(
    module: &'m CoreModule<'_>,
    section: u8,
    count: u32,
) -> Result<Option<Items>, Refusal> {
    let Some(own) = contents(module, section)? else {
        return Ok(None);
    };
    let items = SectionLimited::<T>::new(BinaryReader::new(own, 0))?;
    if count > items.count() {
        return Err(cannot_be());
    }
    let start = items.original_position();
    let end = match items.into_iter_with_offsets().nth(count as usize) {
        Some(behind) => behind?.0,
        None => own.len(),
    };
    let bytes = own.get(start..end).unwrap_or_default().to_vec();
    Ok(Some(Items { count, bytes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::steps;

    /// Who read both functions for each frame would read for minutes.
    #[test]
    fn a_continuation_is_read_once_for_all_of_its_frames() {
        const CALLS: u32 = 5_000;
        const NOPS: usize = 1_000_000;
        let calls = "call $call ".repeat(CALLS as usize);
        let nops = "nop ".repeat(NOPS);
        let text = format!(
            r#"(module (import "own" "call" (func $call))
              (func (param i32) {calls}) (func (local i32 i32) {nops} {calls}))"#
        );
        let wasm = wat::parse_str(text).unwrap();
        let module = CoreModule::parse(&wasm).unwrap();
        let first = length_of_head(&module) + NOPS;
        let runs = CopiedRun::write_all(&[CopiedRun {
            start: u32::try_from(first).unwrap(),
            first: 0,
            count: CALLS,
        }]);
        let origin = OriginalProgram {
            program: Digest::of(b"the program"),
            functions: 2,
            types: 1,
            elements: 0,
            data: 0,
            entry: 1,
            continuations: vec![Continued {
                function: Some(1),
                runs: &runs,
            }],
        };
        let frames = || {
            let all = (0..CALLS).map(|call| Frame {
                function: 2,
                call: u32::try_from(NOPS).unwrap() + call,
                locals: vec![crate::checkpoint::Value::I32(0); 2],
                operands: Vec::new(),
            });
            let own = origin.frames(&module, all.collect()).unwrap();
            for (call, frame) in (0..CALLS).zip(&own) {
                assert_eq!((frame.function, frame.call), (1, call));
                assert_eq!(frame.locals.len(), 1);
            }
            assert_eq!(own.len(), CALLS as usize);
        };
        assert!(steps::counted(frames) < 2 * NOPS as u64);
    }

    /// Bytes of the locals that the last function declares.
    fn length_of_head(module: &CoreModule<'_>) -> usize {
        let body = &module.defined(2).unwrap().body;
        let reader = body.get_operators_reader().unwrap();
        reader.original_position() - body.range().start
    }
}
