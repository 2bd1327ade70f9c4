//! Reading what a guest is that has left its stack.

use std::collections::{HashMap, HashSet};

use wasmtime::{
    AnyRef, AsContext, AsContextMut, Caller, Extern, Func, FuncType, HeapType, I31, Instance,
    Memory as Linear, Ref, Store, Table, Trap, Val, ValType,
};

use crate::bounded::bounded_u32;
use crate::checkpoint::{
    CallGraph, CoreModule, FrozenMemory, OriginSummary, OriginalProgram, PREFIX, Refusal,
    SegmentKind, Stopped, Value, Written, added, bake, export, exported, read_frames,
};
use crate::digest::Digest;

/// The call that a guest stands at.
pub(super) struct StoppedCall {
    /// Its number among the imported functions.
    pub(super) import: u32,
    /// What it was called with; `None` for what cannot be made again.
    pub(super) arguments: Vec<Option<Value>>,
    pub(super) name: String,
    /// Which call of the function it is.
    pub(super) nth: u64,
}

/// What was read.
pub(super) struct Captured {
    /// The module that goes on from there.
    pub(super) module: Vec<u8>,
    /// The digest of the program.
    pub(super) program: Digest,
    pub(super) frames: usize,
    pub(super) memory_bytes: u64,
}

/// Reads an instance whose stack was left, and writes the module whose export `entry` goes on from
/// there.
pub(super) fn capture<T: 'static>(
    store: &mut Store<T>,
    instance: Instance,
    (program, reach): (&CoreModule<'_>, &CallGraph),
    (call, entry): (&StoppedCall, &str),
) -> Result<Captured, Refusal> {
    let mut reader = InstanceReader {
        store,
        instance,
        functions: HashMap::new(),
    };
    reader.read_functions()?;
    let references = reader.references()?;
    let frames = reader.written()?;
    let written = Written {
        bytes: &frames,
        references: &references,
    };
    let origin = origin_of(program, entry);
    let frames = read_frames(program, (reach, added(program)), origin, &written)?;
    let frames = match origin {
        Some(origin) => origin.frames(program, frames)?,
        None => frames,
    };
    let globals = reader.globals(program)?;
    let tables = match reach.uses().changes_tables {
        true => reader.tables(program)?,
        false => Vec::new(),
    };
    let dropped = reader.dropped(reach)?;
    let memories = (0..program.memories.len())
        .map(|number| reader.memory(&exported_number("memory", number)))
        .collect::<Result<Vec<Linear>, _>>()?;
    let memories: Vec<FrozenMemory<'_>> = memories
        .iter()
        .map(|memory| FrozenMemory {
            bytes: memory.data(&*reader.store),
        })
        .collect();
    let memory_bytes = memories
        .iter()
        .map(|memory| memory.bytes.len() as u64)
        .sum();
    let stopped = Stopped {
        frames,
        import: call.import,
        arguments: arguments(call)?,
        memories,
        globals,
        tables,
        dropped,
    };
    let (module, digest) = baked((program, reach), origin, &stopped, entry)?;
    Ok(Captured {
        module,
        program: digest,
        frames: stopped.frames.len(),
        memory_bytes,
    })
}

/// Returns what the program was made of, if the call that was stopped is of its outermost
/// continuation. Another call leaves that one standing where it stood: it is kept as it is.
fn origin_of<'p>(program: &'p CoreModule<'_>, entry: &str) -> Option<&'p OriginalProgram<'p>> {
    let origin = program.origin.as_ref()?;
    let called = program.exported_function(entry)?;
    (called >= origin.functions).then_some(origin)
}

/// Writes the module, and returns it with the digest of the program: of the one that went on
/// already as it was before.
fn baked(
    (program, reach): (&CoreModule<'_>, &CallGraph),
    origin: Option<&OriginalProgram<'_>>,
    stopped: &Stopped<'_>,
    entry: &str,
) -> Result<(Vec<u8>, Digest), Refusal> {
    let Some(origin) = origin else {
        let source = OriginSummary::of(program);
        let module = bake(program, reach, stopped, (entry, &source))?;
        return Ok((module, source.digest));
    };
    let original = origin.program(program)?;
    let original = CoreModule::parse(&original)?;
    let source = OriginSummary {
        digest: origin.program,
        elements: origin.elements,
    };
    let reach = CallGraph::find(&original)?.using(reach);
    let module = bake(&original, &reach, stopped, (entry, &source))?;
    Ok((module, source.digest))
}

/// Returns the arguments of a call, if all of them can be made again.
fn arguments(call: &StoppedCall) -> Result<Vec<Value>, Refusal> {
    let values = call.arguments.iter().map(|argument| {
        argument.ok_or_else(|| {
            Refusal::of_call(
                "an argument is a reference to a function or an object, which cannot be made again",
            )
        })
    });
    values.collect()
}

fn own(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn exported_number(kind: &str, number: usize) -> String {
    exported(kind, bounded_u32(number, "the validation of the module"))
}

/// Returns a value that is no reference to a function or an object.
pub(super) fn plain(store: impl AsContext, value: &Val) -> Option<Value> {
    match value {
        Val::I32(value) => Some(Value::I32(*value)),
        Val::I64(value) => Some(Value::I64(*value)),
        Val::F32(bits) => Some(Value::F32(*bits)),
        Val::F64(bits) => Some(Value::F64(*bits)),
        Val::V128(bits) => Some(Value::V128(bits.as_u128())),
        Val::FuncRef(None)
        | Val::ExternRef(None)
        | Val::AnyRef(None)
        | Val::ExnRef(None)
        | Val::ContRef(None) => Some(Value::Null),
        Val::AnyRef(Some(any)) => {
            let number = any.as_i31(store).ok().flatten()?;
            Some(Value::I31(number.get_u32()))
        }
        _ => None,
    }
}

/// Returns a value of a type that nobody looks at; `None` if it is one of references to objects
/// that are never null.
pub(super) fn unused(mut store: impl AsContextMut, ty: &ValType) -> Option<Val> {
    Some(match ty {
        ValType::I32 => Val::I32(0),
        ValType::I64 => Val::I64(0),
        ValType::F32 => Val::F32(0),
        ValType::F64 => Val::F64(0),
        ValType::V128 => Val::V128(0.into()),
        ValType::Ref(reference) if reference.is_nullable() => Val::null_ref(reference.heap_type()),
        ValType::Ref(reference) => {
            let ty = match reference.heap_type() {
                HeapType::Func => FuncType::new(store.as_context().engine(), [], []),
                HeapType::ConcreteFunc(ty) => ty.clone(),
                HeapType::Any | HeapType::Eq | HeapType::I31 => {
                    let zero = AnyRef::from_i31(&mut store, I31::wrapping_u32(0));
                    return Some(Val::AnyRef(Some(zero)));
                }
                _ => return None,
            };
            let never_called = |_: Caller<'_, _>, _: &[Val], _: &mut [Val]| {
                Err(wasmtime::Error::new(Trap::UnreachableCodeReached))
            };
            Val::FuncRef(Some(Func::new(store, ty, never_called)))
        }
    })
}

struct InstanceReader<'s, T: 'static> {
    store: &'s mut Store<T>,
    instance: Instance,
    /// The numbers of functions, by what the engine calls them.
    functions: HashMap<usize, u32>,
}

impl<T: 'static> InstanceReader<'_, T> {
    fn export(&mut self, name: &str) -> Result<Extern, Refusal> {
        let found = self.instance.get_export(&mut *self.store, name);
        found.ok_or_else(|| Refusal::of_call(&format!("the engine does not show {name:?}")))
    }

    fn memory(&mut self, name: &str) -> Result<Linear, Refusal> {
        let found = self.export(name)?.into_memory();
        found.ok_or_else(|| Refusal::of_call(&format!("{name:?} is no memory")))
    }

    fn table(&mut self, name: &str) -> Result<Table, Refusal> {
        let found = self.export(name)?.into_table();
        found.ok_or_else(|| Refusal::of_call(&format!("{name:?} is not a table")))
    }

    fn value(&mut self, name: &str) -> Result<Val, Refusal> {
        let found = self.export(name)?.into_global();
        let global = found.ok_or_else(|| Refusal::of_call(&format!("{name:?} is no global")))?;
        Ok(global.get(&mut *self.store))
    }

    fn identity(&mut self, function: &Func) -> usize {
        function.to_raw(&mut *self.store) as usize
    }

    fn read_functions(&mut self) -> Result<(), Refusal> {
        let table = self.table(&own(export::FUNCTIONS))?;
        for number in 0..table.size(&*self.store) {
            if let Some(Ref::Func(Some(function))) = table.get(&mut *self.store, number) {
                let identity = self.identity(&function);
                let number = u32::try_from(number)
                    .map_err(|_| Refusal::new("a table has more than 2^32 functions"))?;
                self.functions.entry(identity).or_insert(number);
            }
        }
        Ok(())
    }

    fn function(&mut self, function: &Func) -> Option<u32> {
        let identity = self.identity(function);
        self.functions.get(&identity).copied()
    }

    fn references(&mut self) -> Result<Vec<Option<u32>>, Refusal> {
        let table = self.table(&own(export::REFERENCES))?;
        let mut references = Vec::new();
        for number in 0..table.size(&*self.store) {
            references.push(match table.get(&mut *self.store, number) {
                Some(Ref::Func(Some(function))) => self.function(&function),
                _ => None,
            });
        }
        Ok(references)
    }

    fn written(&mut self) -> Result<Vec<u8>, Refusal> {
        let top = self.value(&own(export::TOP))?.i32();
        let top = top.unwrap_or(0).cast_unsigned() as usize;
        let memory = self.memory(&own(export::FRAMES))?;
        let bytes = memory.data(&*self.store).get(..top);
        let bytes = bytes.ok_or_else(|| Refusal::of_call("the frames are cut off"))?;
        Ok(bytes.to_vec())
    }

    fn globals(&mut self, program: &CoreModule<'_>) -> Result<Vec<(u32, Value)>, Refusal> {
        let mut held = Vec::new();
        for (number, ty) in (0..).zip(&program.globals) {
            if !ty.mutable {
                continue;
            }
            let value = self.value(&exported("global", number))?;
            let value = self.held(&value).ok_or_else(|| {
                Refusal::of_call(&format!(
                    "global {number} holds a reference to an object, which cannot be made again"
                ))
            })?;
            held.push((number, value));
        }
        Ok(held)
    }

    fn held(&mut self, value: &Val) -> Option<Value> {
        match value {
            Val::FuncRef(Some(function)) => self.function(function).map(Value::Function),
            value => plain(&*self.store, value),
        }
    }

    fn tables(&mut self, program: &CoreModule<'_>) -> Result<Vec<Vec<Value>>, Refusal> {
        let mut tables = Vec::new();
        for number in 0..program.tables.len() {
            let table = self.table(&exported_number("table", number))?;
            let mut held = Vec::new();
            for at in 0..table.size(&*self.store) {
                let value = table.get(&mut *self.store, at).map(Val::from);
                let value = value.and_then(|value| self.held(&value)).ok_or_else(|| {
                    Refusal::of_call(&format!(
                        "element {at} of table {number} is a reference to an object, which cannot be made again"
                    ))
                })?;
                held.push(value);
            }
            tables.push(held);
        }
        Ok(tables)
    }

    fn dropped(&mut self, reach: &CallGraph) -> Result<HashSet<(SegmentKind, u32)>, Refusal> {
        let mut dropped = HashSet::new();
        for (number, segment) in (0..).zip(reach.dropped()) {
            if self.value(&exported("dropped", number))?.i32() == Some(1) {
                dropped.insert(*segment);
            }
        }
        Ok(dropped)
    }
}
