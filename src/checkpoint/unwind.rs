//! A build of a program that can leave its stack: each function writes its frame down on
//! the way out.
//!
//! Behind each call that may reach an import stands a look at a global. While it is zero
//! the program runs as it is. Once the host has set it, in an import, each function on the
//! stack returns at once, the innermost first, and leaves in a memory of its own which
//! call it stood at, its locals and its operands. The stack is left once: the program goes
//! on as another module, which [`resume`](super::resume) makes.
//!
//! Operands lie where no instruction reaches them, but for those of the innermost block. So
//! a block that has such a call in it and operands below it saves those in locals when
//! it is entered, and a call saves those of its own block when it leaves.
//!
//! Where it leaves, a function reads all of its locals, set or not, and gives results that nobody
//! looks at. So its own locals are declared as ones that may be null, and the results that
//! may not are functions which [stand for others](super::additions::StandIns).

use std::collections::HashMap;
use std::ops::Range;

use wasm_encoder::{BlockType, Encode, HeapType, Instruction, MemArg, RefType, ValType};
use wasmparser::Operator;

use super::additions::{Additions, check_locals};
use super::call_graph::CallGraph;
use super::core_module::CoreModule;
use super::error::Refusal;
use super::function::{Function, block_type, opens, refused};
use super::value::{Holds, Value, holds_i31};
use crate::bounded::bounded_u32;

/// The numbers of what is added to the module, behind all that it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Added {
    /// The global that is 1 while the stack is left.
    pub(crate) leaving: u32,
    /// The global that says where the next frame is written.
    pub(crate) top: u32,
    /// The first of the globals that tell which segments were dropped.
    pub(crate) dropped: u32,
    /// The memory that frames are written to.
    pub(crate) memory: u32,
    /// The table of the references in frames.
    pub(crate) references: u32,
}

/// What a frame of one function holds, in the order in which it is written.
pub(crate) struct Layout {
    pub(crate) locals: Vec<ValType>,
    operands: Vec<ValType>,
    /// The locals of operands, by height and type.
    saved: HashMap<(usize, ValType), u32>,
    /// The calls, each by the position of its operator.
    pub(crate) sites: Vec<usize>,
}

/// Bytes before the values of a frame: the numbers of the function and of the call.
pub(crate) const HEAD_BYTES: u64 = 8;

/// What stands in a frame for a reference to an object, which cannot be made again.
const OBJECT: i64 = -1;

/// What stands in a frame for the reference that is the number 0; greater ones stand below.
pub(crate) const I31_FROM: i64 = -2;

/// What stands in a frame for a reference to a function that the table had no room for: one more
/// than the answer of `table.grow`, as a number without a sign.
pub(crate) const NO_ROOM: i64 = 1 << 32;

/// Returns how many bytes a value takes in a frame.
pub(crate) fn bytes_of(ty: ValType) -> u64 {
    if ty == ValType::V128 { 16 } else { 8 }
}

impl Layout {
    /// Returns the types of all values of a frame.
    pub(crate) fn values(&self) -> impl Iterator<Item = ValType> {
        self.locals.iter().chain(&self.operands).copied()
    }

    /// Returns where the operand of a height and type stands among those of a frame.
    pub(crate) fn place_of(&self, height: usize, ty: ValType) -> Option<usize> {
        let local = *self.saved.get(&(height, nullable(ty)))? as usize;
        // Between its own locals and these is the one with the number of the call.
        local.checked_sub(self.locals.len() + 1)
    }

    /// Returns how many bytes a frame takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.values().map(bytes_of).sum::<u64>() + HEAD_BYTES
    }
}

/// Writes a function so that it can be left. `None` if it never is: it calls nothing that
/// reaches an import.
pub(crate) fn leavable(
    program: &CoreModule<'_>,
    index: u32,
    reach: &CallGraph,
    additions: &mut Additions,
    added: Added,
) -> Result<Option<(Vec<u8>, Layout)>, Refusal> {
    if !reach.is_left(index) {
        return Ok(None);
    }
    let function = Function::read(program, index)?;
    let name = program.name(index);
    let Range { start, end } = program.defined(index)?.body.range();
    let writer = LeavableWriter {
        own_bytes: end - start,
        has_uncertain_locals: function.has_uncertain_locals(),
        function,
        reach,
        additions,
        added,
        calls_within: Vec::new(),
        saved: HashMap::new(),
        operands: Vec::new(),
        sites: Vec::new(),
        out: Vec::new(),
    };
    let written = writer.write();
    written
        .map(Some)
        .map_err(|refusal| refusal.at(start).in_function(index, name))
}

struct LeavableWriter<'s, 'p, 'a> {
    function: Function<'p, 'a>,
    /// Bytes of its body as the program has it.
    own_bytes: usize,
    has_uncertain_locals: bool,
    reach: &'s CallGraph,
    additions: &'s mut Additions,
    added: Added,
    /// Whether the block that is opened at this position has a call in it.
    calls_within: Vec<bool>,
    /// The locals of operands, by height and type.
    saved: HashMap<(usize, ValType), u32>,
    operands: Vec<ValType>,
    sites: Vec<usize>,
    out: Vec<u8>,
}

impl LeavableWriter<'_, '_, '_> {
    fn write(mut self) -> Result<(Vec<u8>, Layout), Refusal> {
        self.check_locals(0)?;
        self.calls_within = self.find_calls();
        Instruction::Block(BlockType::Empty).encode(&mut self.out);
        let last = self.function.ops.len().saturating_sub(1);
        for at in 0..last {
            self.write_op(at)?;
        }
        // In place of the end of the body.
        Instruction::Return.encode(&mut self.out);
        Instruction::End.encode(&mut self.out);
        self.write_frame()?;
        self.write_results();
        Instruction::End.encode(&mut self.out);
        let body = self.with_locals();
        self.additions.room.take(body.len(), self.own_bytes)?;
        let layout = Layout {
            locals: self.function.locals,
            operands: self.operands,
            saved: self.saved,
            sites: self.sites,
        };
        Ok((body, layout))
    }

    fn find_calls(&self) -> Vec<bool> {
        let ops = &self.function.ops;
        let mut within = vec![false; ops.len()];
        let mut open: Vec<(usize, bool)> = Vec::new();
        for (at, op) in ops.iter().enumerate() {
            if opens(&op.operator) {
                open.push((at, false));
            } else if matches!(op.operator, Operator::End) {
                if let Some((start, has)) = open.pop() {
                    if let Some(slot) = within.get_mut(start) {
                        *slot = has;
                    }
                    if let Some((_, outer)) = open.last_mut() {
                        *outer |= has;
                    }
                }
            } else if self.reach.may_leave(&op.operator)
                && let Some((_, has)) = open.last_mut()
            {
                *has = true;
            }
        }
        within
    }

    fn write_op(&mut self, at: usize) -> Result<(), Refusal> {
        let op = self.function.op(at)?;
        let start = op.start;
        if let Some(what) = refused(&op.operator) {
            return Err(Refusal::new(what).at(start));
        }
        let reachable = self.function.is_reachable();
        let saves = self.calls_within.get(at).copied().unwrap_or(false);
        if saves && reachable {
            let saved = self.save_below(at);
            saved.map_err(|refusal| refusal.at(start))?;
        }
        let depth = self.function.depth();
        // The function's own label is one further out.
        let label = |label: u32| if label + 1 >= depth { label + 1 } else { label };
        self.function.copy(at, &mut self.out, label)?;
        let op = self.function.op(at)?;
        // Those that are declared are null until they are set.
        if self.has_uncertain_locals {
            let read = self.function.never_null_read(&op.operator);
            if read.is_some_and(|local| local >= self.function.params) {
                Instruction::RefAsNonNull.encode(&mut self.out);
            }
        }
        let dropped = match op.operator {
            Operator::DataDrop { data_index } => Some(self.reach.dropped_data(data_index)),
            Operator::ElemDrop { elem_index } => Some(self.reach.dropped_elements(elem_index)),
            _ => None,
        };
        if let Some(number) = dropped {
            Instruction::I32Const(1).encode(&mut self.out);
            Instruction::GlobalSet(self.added.dropped + number).encode(&mut self.out);
        }
        let leaves = reachable && self.reach.may_leave(&op.operator);
        let results = match leaves {
            true => self
                .function
                .callee(&op.operator)?
                .map(|callee| callee.results.len()),
            false => None,
        };
        self.function.step(at)?;
        match results {
            Some(results) if self.function.is_reachable() => {
                let written = self.write_leave(at, results);
                written.map_err(|refusal| refusal.at(start))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Saves the operands that lie below the block which is opened at `at`.
    fn save_below(&mut self, at: usize) -> Result<(), Refusal> {
        let function = &self.function;
        let operator = &function.op(at)?.operator;
        let Some(ty) = block_type(operator) else {
            return Ok(());
        };
        let (params, _) = function.block(ty)?;
        let condition = usize::from(matches!(operator, Operator::If { .. }));
        let base = function.base();
        if function.height() <= base + params.len() + condition {
            return Ok(());
        }
        let types = function.operands(base)?;
        self.check_locals(types.len())?;
        self.pop_into_locals(base, &types);
        for (height, ty) in types.iter().enumerate() {
            let local = self.local_of(base + height, *ty);
            Instruction::LocalGet(local).encode(&mut self.out);
            if matches!(ty, ValType::Ref(reference) if !reference.nullable) {
                Instruction::RefAsNonNull.encode(&mut self.out);
            }
        }
        self.check_room()
    }

    /// Refuses a function to which too much was added.
    fn check_room(&self) -> Result<(), Refusal> {
        self.check_locals(self.operands.len())?;
        self.additions.room.check(self.out.len(), self.own_bytes)
    }

    /// Refuses a function that would need locals for so many operands.
    fn check_locals(&self, operands: usize) -> Result<(), Refusal> {
        check_locals(self.function.locals.len() + 1 + operands)
    }

    fn pop_into_locals(&mut self, base: usize, types: &[ValType]) {
        for (height, ty) in types.iter().enumerate().rev() {
            let local = self.local_of(base + height, *ty);
            Instruction::LocalSet(local).encode(&mut self.out);
        }
    }

    /// Returns the local that holds the operand of a height and type.
    fn local_of(&mut self, height: usize, ty: ValType) -> u32 {
        let ty = nullable(ty);
        let first = self.site_local() + 1;
        let next = first + bounded_u32(self.operands.len(), "the validation of the module");
        let local = *self.saved.entry((height, ty)).or_insert(next);
        if local == next {
            self.operands.push(ty);
        }
        local
    }

    /// Returns the local that holds the number of the call that is left.
    fn site_local(&self) -> u32 {
        bounded_u32(self.function.locals.len(), "the validation of the module")
    }

    /// Behind a call: if the stack is being left, saves the operands of its block and
    /// leaves the function.
    fn write_leave(&mut self, at: usize, results: usize) -> Result<(), Refusal> {
        let base = self.function.base();
        let types = self.function.operands(base)?;
        let block = self.additions.signatures.block(&types, &types)?;
        Instruction::GlobalGet(self.added.leaving).encode(&mut self.out);
        Instruction::If(block).encode(&mut self.out);
        for _ in 0..results {
            Instruction::Drop.encode(&mut self.out);
        }
        let kept = types.get(..types.len().saturating_sub(results));
        self.pop_into_locals(base, kept.unwrap_or_default());
        let site = Refusal::unless_i32(self.sites.len() as u64, "calls of a function")?;
        self.sites.push(at);
        Instruction::I32Const(site).encode(&mut self.out);
        Instruction::LocalSet(self.site_local()).encode(&mut self.out);
        Instruction::Br(self.function.depth()).encode(&mut self.out);
        Instruction::End.encode(&mut self.out);
        self.check_room()
    }

    /// Writes the frame behind those that are there.
    fn write_frame(&mut self) -> Result<(), Refusal> {
        let bytes = Refusal::unless_i32(self.frame_bytes(), "bytes of a frame")?;
        self.grow_for(bytes);
        let function = self.function.index.cast_signed();
        let site = self.site_local();
        self.at_top();
        Instruction::I32Const(function).encode(&mut self.out);
        Instruction::I32Store(self.at(0, 2)).encode(&mut self.out);
        self.at_top();
        Instruction::LocalGet(site).encode(&mut self.out);
        Instruction::I32Store(self.at(4, 2)).encode(&mut self.out);
        let mut offset = HEAD_BYTES;
        let locals = self.function.locals.clone();
        let operands = self.operands.clone();
        let numbered = (0..).zip(locals).chain((site + 1..).zip(operands));
        for (local, ty) in numbered {
            self.write_value(local, ty, offset);
            offset += bytes_of(ty);
        }
        self.at_top();
        Instruction::I32Const(bytes).encode(&mut self.out);
        Instruction::I32Add.encode(&mut self.out);
        Instruction::GlobalSet(self.added.top).encode(&mut self.out);
        Ok(())
    }

    fn frame_bytes(&self) -> u64 {
        let all = self.function.locals.iter().chain(&self.operands);
        all.copied().map(bytes_of).sum::<u64>() + HEAD_BYTES
    }

    /// Makes room for `bytes` more. If there is none, the store behind it traps.
    fn grow_for(&mut self, bytes: i32) {
        let memory = self.added.memory;
        let pages = bytes / 65_536 + 16;
        self.at_top();
        Instruction::I32Const(bytes).encode(&mut self.out);
        Instruction::I32Add.encode(&mut self.out);
        Instruction::MemorySize(memory).encode(&mut self.out);
        Instruction::I32Const(16).encode(&mut self.out);
        Instruction::I32Shl.encode(&mut self.out);
        Instruction::I32GtU.encode(&mut self.out);
        Instruction::If(BlockType::Empty).encode(&mut self.out);
        Instruction::I32Const(pages).encode(&mut self.out);
        Instruction::MemoryGrow(memory).encode(&mut self.out);
        Instruction::Drop.encode(&mut self.out);
        Instruction::End.encode(&mut self.out);
    }

    fn write_value(&mut self, local: u32, ty: ValType, offset: u64) {
        self.at_top();
        Instruction::LocalGet(local).encode(&mut self.out);
        let place = self.at(offset, 3);
        match ty {
            ValType::I32 => Instruction::I32Store(self.at(offset, 2)).encode(&mut self.out),
            ValType::I64 => Instruction::I64Store(place).encode(&mut self.out),
            ValType::F32 => Instruction::F32Store(self.at(offset, 2)).encode(&mut self.out),
            ValType::F64 => Instruction::F64Store(place).encode(&mut self.out),
            ValType::V128 => Instruction::V128Store(place).encode(&mut self.out),
            ValType::Ref(reference) => self.write_reference(local, reference, place),
        }
    }

    /// Writes a reference, which lies on the stack above its address: 0 for null; for a
    /// function one more than its place in the table, which is [`NO_ROOM`] if it has none; -2
    /// less the number for one that is a number; -1 for anything else.
    fn write_reference(&mut self, local: u32, reference: RefType, place: MemArg) {
        Instruction::RefIsNull.encode(&mut self.out);
        Instruction::If(BlockType::Result(ValType::I64)).encode(&mut self.out);
        Instruction::I64Const(0).encode(&mut self.out);
        Instruction::Else.encode(&mut self.out);
        if self.function.program.is_function(reference) {
            Instruction::LocalGet(local).encode(&mut self.out);
            Instruction::I32Const(1).encode(&mut self.out);
            Instruction::TableGrow(self.added.references).encode(&mut self.out);
            Instruction::I64ExtendI32U.encode(&mut self.out);
            Instruction::I64Const(1).encode(&mut self.out);
            Instruction::I64Add.encode(&mut self.out);
        } else {
            self.write_i31(local, reference);
        }
        Instruction::End.encode(&mut self.out);
        Instruction::I64Store(place).encode(&mut self.out);
    }

    /// Writes what stands for a reference that is a number, or else an object.
    fn write_i31(&mut self, local: u32, reference: RefType) {
        let holds = holds_i31(reference);
        if holds == Holds::Perhaps {
            Instruction::LocalGet(local).encode(&mut self.out);
            Instruction::RefTestNonNull(HeapType::I31).encode(&mut self.out);
            Instruction::If(BlockType::Result(ValType::I64)).encode(&mut self.out);
        }
        if holds != Holds::Never {
            Instruction::I64Const(I31_FROM).encode(&mut self.out);
            Instruction::LocalGet(local).encode(&mut self.out);
            if holds == Holds::Perhaps {
                Instruction::RefCastNonNull(HeapType::I31).encode(&mut self.out);
            }
            Instruction::I31GetU.encode(&mut self.out);
            Instruction::I64ExtendI32U.encode(&mut self.out);
            Instruction::I64Sub.encode(&mut self.out);
        }
        if holds == Holds::Perhaps {
            Instruction::Else.encode(&mut self.out);
        }
        if holds != Holds::Always {
            Instruction::I64Const(OBJECT).encode(&mut self.out);
        }
        if holds == Holds::Perhaps {
            Instruction::End.encode(&mut self.out);
        }
    }

    fn at_top(&mut self) {
        Instruction::GlobalGet(self.added.top).encode(&mut self.out);
    }

    fn at(&self, offset: u64, align: u32) -> MemArg {
        MemArg {
            offset,
            align,
            memory_index: self.added.memory,
        }
    }

    /// Pushes results that nobody looks at.
    fn write_results(&mut self) {
        let (program, index) = (self.function.program, self.function.index);
        for ty in self.function.results.clone() {
            if let Some(function) = self.additions.stand_ins.of(ty, program, index) {
                Instruction::RefFunc(function).encode(&mut self.out);
            } else if Value::zero_of(ty).push(ty, &mut self.out).is_err() {
                // No value of the type is at hand: whoever leaves here learns it.
                Instruction::Unreachable.encode(&mut self.out);
                return;
            }
        }
    }

    /// Returns the body with the locals that it declares.
    fn with_locals(&self) -> Vec<u8> {
        let own = self.function.locals.get(self.function.params..);
        let own = own.unwrap_or_default().iter().copied().map(nullable);
        let operands = self.operands.iter().copied();
        let mut body = declare(own.chain([ValType::I32]).chain(operands));
        body.extend_from_slice(&self.out);
        body
    }
}

/// Writes the declaration of locals.
pub(crate) fn declare(types: impl Iterator<Item = ValType>) -> Vec<u8> {
    let mut groups: Vec<(u32, ValType)> = Vec::new();
    for ty in types {
        match groups.last_mut() {
            Some((count, last)) if *last == ty => *count += 1,
            Some(_) | None => groups.push((1, ty)),
        }
    }
    let mut out = Vec::new();
    let count = bounded_u32(groups.len(), "the bound on locals");
    count.encode(&mut out);
    for (count, ty) in groups {
        count.encode(&mut out);
        ty.encode(&mut out);
    }
    out
}

pub(crate) fn nullable(ty: ValType) -> ValType {
    match ty {
        ValType::Ref(reference) => ValType::Ref(RefType {
            nullable: true,
            heap_type: reference.heap_type,
        }),
        other => other,
    }
}

/// The type of the table of references.
pub(crate) const REFERENCE: RefType = RefType {
    nullable: true,
    heap_type: HeapType::FUNC,
};
