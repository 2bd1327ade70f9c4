//! The build of a program that can leave its stack, as a module.

use wasm_encoder::{
    ConstExpr, Elements, Encode, ExportKind, GlobalType, Instruction, MemoryType, TableType,
    ValType,
};

use super::additions::{Additions, StandIns};
use super::call_graph::CallGraph;
use super::compose::{Items, SectionChange, compose, contents, id, length, names, types};
use super::core_module::CoreModule;
use super::error::{Refusal, missing};
use super::unwind::{Added, REFERENCE, declare, leavable};
use crate::digest::Digest;
use crate::limits::MAX_FRAME_PAGES;

/// What every name begins with that is exported beside the program's own.
pub(crate) const PREFIX: &str = "stratafs.checkpoint/";

/// The names under which the host finds what it reads.
pub(crate) mod export {
    pub(crate) const LEAVING: &str = "leaving";
    pub(crate) const TOP: &str = "top";
    pub(crate) const FRAMES: &str = "frames";
    pub(crate) const REFERENCES: &str = "references";
    pub(crate) const FUNCTIONS: &str = "functions";
    /// The table that the host puts the imported functions into, by number.
    pub(crate) const OWNED: &str = "owned";
    /// The functions, by number, that call what stands there.
    pub(crate) const CALL: &str = "call";
}

/// Returns the name under which an item is exported.
pub(crate) fn exported(kind: &str, number: u32) -> String {
    format!("{PREFIX}{kind}{number}")
}

/// Returns the numbers that the added items get.
pub(crate) fn added(program: &CoreModule<'_>) -> Added {
    let leaving = length(program.globals.len());
    Added {
        leaving,
        top: leaving + 1,
        dropped: leaving + 2,
        memory: length(program.memories.len()),
        references: length(program.tables.len()),
    }
}

/// The number of the way in which builds are written. Compiled code of them is kept under it, and
/// each change of what is written here or in [`unwind`](super::unwind) needs another one.
const BUILD: u32 = 2;

/// Returns what stands for the build of a program, which `program` stands for.
pub(crate) fn identity_of_build(program: Digest) -> Digest {
    Digest::of(format!("leaves its stack, build {BUILD}: {program}").as_bytes())
}

/// Writes the build of a program that can leave its stack.
pub(crate) fn leavable_module(
    program: &CoreModule<'_>,
    reach: &CallGraph,
) -> Result<Vec<u8>, Refusal> {
    if let Some(taken) = program
        .exports
        .iter()
        .find(|export| export.name.starts_with(PREFIX))
    {
        return Err(Refusal::new(format!(
            "the program exports {:?}: names that begin with {PREFIX:?} are taken",
            taken.name
        )));
    }
    let added = added(program);
    let mut additions = Additions::of_build(program);
    let code = code(program, reach, added, &mut additions)?;
    let mut code = Some(code);
    let names = names(program, program.function_count(), &[]);
    compose(program, &names, |section| {
        Ok(match section {
            id::TYPE => types(&additions.signatures).behind(program, section)?,
            id::FUNCTION => added_types(program, &additions).behind(program, section)?,
            id::TABLE => tables(program, reach).behind(program, section)?,
            id::MEMORY => memories().behind(program, section)?,
            id::GLOBAL => globals(reach).behind(program, section)?,
            id::EXPORT => exports(program, reach, added).behind(program, section)?,
            id::ELEMENT => {
                elements(program, reach, added, &additions.stand_ins).behind(program, section)?
            }
            id::CODE => code.take().map_or(SectionChange::Leave, SectionChange::put),
            _ => SectionChange::Keep,
        })
    })
}

fn code(
    program: &CoreModule<'_>,
    reach: &CallGraph,
    added: Added,
    additions: &mut Additions,
) -> Result<Vec<u8>, Refusal> {
    let own = contents(program, id::CODE)?.map_or(0, <[u8]>::len);
    let mut items = Items::default();
    items.bytes.reserve(own * 2);
    for (at, defined) in (program.import_count()..).zip(&program.defined) {
        match leavable(program, at, reach, additions, added)? {
            Some((body, _)) => items.add(|out| body.encode(out)),
            None => {
                let body = program.wasm.get(defined.body.range()).unwrap_or_default();
                items.add(|out| body.encode(out));
            }
        }
    }
    for number in 0..program.import_count() {
        let body = calling(program, number, added)?;
        let taken = additions.room.take(body.len(), 0);
        taken.map_err(|refusal| refusal.in_function(number, program.name(number)))?;
        items.add(|out| body.encode(out));
    }
    for _ in additions.stand_ins.types() {
        items.add(|out| StandIns::body().encode(out));
    }
    Ok(items.alone())
}

/// The types of the functions that call what the host put into the table, one for each import,
/// and of those that stand for others.
fn added_types(program: &CoreModule<'_>, additions: &Additions) -> Items {
    let mut items = Items::default();
    let calling = program.functions.iter().take(program.imports.len());
    for ty in calling.chain(additions.stand_ins.types()) {
        items.add(|out| ty.encode(out));
    }
    items
}

/// Writes a function that calls what the host put into the table for an import, with its own
/// arguments. A function of the host that is called so is called by the program's own
/// instance, whose exports it may look for.
fn calling(program: &CoreModule<'_>, number: u32, added: Added) -> Result<Vec<u8>, Refusal> {
    let params = program.type_of(number)?.params().len();
    let ty = program.functions.get(number as usize);
    let mut body = declare(std::iter::empty());
    for param in 0..length(params) {
        Instruction::LocalGet(param).encode(&mut body);
    }
    Instruction::I32Const(number.cast_signed()).encode(&mut body);
    let call = Instruction::CallIndirect {
        type_index: *ty.ok_or_else(|| missing("import"))?,
        table_index: added.references + 2,
    };
    call.encode(&mut body);
    Instruction::End.encode(&mut body);
    Ok(body)
}

/// The table of references in frames, one of all functions by their numbers, which is
/// empty if the program never has a function in its hands, and one that the host puts the
/// imported functions into.
fn tables(program: &CoreModule<'_>, reach: &CallGraph) -> Items {
    let functions = match reach.uses().references {
        true => program.functions.len() as u64,
        false => 0,
    };
    let table = |minimum| TableType {
        element_type: REFERENCE,
        table64: false,
        minimum,
        maximum: None,
        shared: false,
    };
    let mut items = Items::default();
    items.add(|out| table(0).encode(out));
    items.add(|out| table(functions).encode(out));
    items.add(|out| table(program.imports.len() as u64).encode(out));
    items
}

fn memories() -> Items {
    let frames = MemoryType {
        minimum: 1,
        maximum: Some(MAX_FRAME_PAGES),
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    let mut items = Items::default();
    items.add(|out| frames.encode(out));
    items
}

fn globals(reach: &CallGraph) -> Items {
    let mut items = Items::default();
    for _ in 0..2 + reach.dropped().len() {
        items.add(|out| {
            let ty = GlobalType {
                val_type: ValType::I32,
                mutable: true,
                shared: false,
            };
            ty.encode(out);
            ConstExpr::i32_const(0).encode(out);
        });
    }
    items
}

fn exports(program: &CoreModule<'_>, reach: &CallGraph, added: Added) -> Items {
    let mut items = Items::default();
    let mut add = |name: &str, kind: ExportKind, index: u32| {
        items.add(|out| {
            name.encode(out);
            kind.encode(out);
            index.encode(out);
        });
    };
    for (kind, word, count) in [
        (ExportKind::Memory, "memory", program.memories.len()),
        (ExportKind::Table, "table", program.tables.len()),
        (ExportKind::Global, "global", program.globals.len()),
    ] {
        for index in 0..length(count) {
            add(&exported(word, index), kind, index);
        }
    }
    for (number, _) in (0..).zip(reach.dropped()) {
        add(
            &exported("dropped", number),
            ExportKind::Global,
            added.dropped + number,
        );
    }
    let own = |name: &str| format!("{PREFIX}{name}");
    add(&own(export::LEAVING), ExportKind::Global, added.leaving);
    add(&own(export::TOP), ExportKind::Global, added.top);
    add(&own(export::FRAMES), ExportKind::Memory, added.memory);
    add(
        &own(export::REFERENCES),
        ExportKind::Table,
        added.references,
    );
    add(
        &own(export::FUNCTIONS),
        ExportKind::Table,
        added.references + 1,
    );
    add(&own(export::OWNED), ExportKind::Table, added.references + 2);
    for number in 0..program.import_count() {
        let function = program.function_count() + number;
        add(&exported(export::CALL, number), ExportKind::Func, function);
    }
    items
}

/// The functions in the table of all, and those whose references stand for others.
fn elements(
    program: &CoreModule<'_>,
    reach: &CallGraph,
    added: Added,
    stand_ins: &StandIns,
) -> Items {
    let mut items = Items::default();
    if reach.uses().references {
        let functions: Vec<u32> = (0..program.function_count()).collect();
        let mut section = wasm_encoder::ElementSection::new();
        section.active(
            Some(added.references + 1),
            &ConstExpr::i32_const(0),
            Elements::Functions(functions.into()),
        );
        items.append(&items_of(&section));
    }
    let declared: Vec<u32> = stand_ins.numbers().collect();
    if !declared.is_empty() {
        let mut section = wasm_encoder::ElementSection::new();
        section.declared(Elements::Functions(declared.into()));
        items.append(&items_of(&section));
    }
    items
}

/// Returns the one item of a section that was written with one.
pub(crate) fn items_of(section: &wasm_encoder::ElementSection) -> Items {
    let mut bytes = Vec::new();
    section.encode(&mut bytes);
    // The length of the section, then the number of items, which is one digit.
    let digits = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap_or(0);
    let bytes = bytes.get(digits + 2..).unwrap_or_default().to_vec();
    Items { count: 1, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code that was compiled of another build would be taken for that of this one.
    #[test]
    fn another_build_has_another_number() {
        let text = r#"(module
          (import "own" "call" (func $call (param i32 i64) (result f64)))
          (type $unary (func (param i32) (result i32)))
          (memory (export "memory") 1)
          (table 2 funcref)
          (global $level (mut i32) (i32.const 3))
          (elem $passive func $run $plain)
          (elem (i32.const 0) func $plain)
          (data $text "abc")
          (start $begin)
          (func $begin (memory.init $text (i32.const 0) (i32.const 0) (i32.const 3)) (data.drop $text))
          (func $plain (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
          (func $run (export "run") (param $n i32) (param $v v128) (result i32)
            (local $held funcref)
            (local.set $held (ref.func $plain))
            (table.init 0 $passive (i32.const 0) (i32.const 0) (i32.const 2))
            (elem.drop $passive)
            (loop $again (result i32)
              (i32.const 9)
              (block (param i32) (result i32)
                (drop (call $call (local.get $n) (i64.const 1)))
                (call_indirect (type $unary) (local.get $n)))
              (call $plain)
              (br_if $again (i32.eqz (global.get $level))))
            (if (param i32) (result i32) (local.get $n)
              (then (return_call $plain))
              (else (call $run (local.get $v))))
            (drop (local.get $held))
            (br_table 0 0 (local.get $n)))
          (func $picked (param (ref $unary)) (result (ref $unary)) (local $kept (ref $unary))
            (local.set $kept (local.get 0))
            (drop (call $call (i32.const 1) (i64.const 1)))
            (local.get $kept))
        )"#;
        let wasm = wat::parse_str(text).unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let reach = CallGraph::find(&program).unwrap();
        let module = leavable_module(&program, &reach).unwrap();
        wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
            .validate_all(&module)
            .unwrap();
        let written = (BUILD, Digest::of(&module).to_string());
        let known = "blake3:194615d5731e8eb5a1e3b2623cecbc0550ef60e5b9b0b38eed26ce76f2ca0a7a";
        assert_eq!(written, (2, known.to_owned()), "raise BUILD with it");
    }
}
