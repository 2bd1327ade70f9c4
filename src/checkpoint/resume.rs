//! Functions that go on from a frame.
//!
//! A continuation is the function itself, entered in the middle: it sets the locals, opens
//! the blocks that the call stands in, pushes the operands of each, and calls the next
//! continuation in place of the call. What follows is the function's own code.
//!
//! Code before the call that can never run again is left out. Where the call stands in a
//! loop the code before it runs again in the next round, so it stays, in the other arm of
//! an `if` whose condition is true the first time only. A loop has one head, and its code
//! is there once. What it takes it is given the first time as well, and drops.

use wasm_encoder::{Encode, Instruction, ValType};
use wasmparser::{BlockType, FrameKind, Operator};

use super::additions::{Additions, check_locals};
use super::compose::length;
use super::core_module::CoreModule;
use super::error::{Refusal, missing};
use super::frames::Frame;
use super::function::{Function, block_type, opens, relabelled};
use super::origin::CopiedRun;
use super::unwind::{declare, nullable};
use super::value::Value;
use crate::bounded::bounded_u32;

/// What a continuation calls first.
pub(crate) enum NextCall<'c> {
    /// The continuation of the frame that was called.
    Continuation(u32),
    /// The import at which the program was stopped, with its arguments.
    Import(u32, &'c [Value]),
}

/// Returns the body of the continuation of a frame, and which of its operators are those of
/// the function.
pub(crate) fn continuation(
    program: &CoreModule<'_>,
    frame: &Frame,
    next: &NextCall<'_>,
    additions: &mut Additions,
) -> Result<(Vec<u8>, Vec<CopiedRun>), Refusal> {
    let call = frame.call as usize;
    let mut write = || {
        let mut function = Function::read(program, frame.function)?;
        let offset = function.op(call)?.start;
        let levels = find_levels(&mut function, call)?;
        let continues_a_loop = levels.last().is_some_and(|level| level.in_loop);
        let writer = ContinuationWriter {
            function,
            frame,
            call,
            levels,
            additions: &mut *additions,
            out: Vec::new(),
            runs: Vec::new(),
            run_end: 0,
        };
        let written = writer.write(next, continues_a_loop);
        written.map_err(|refusal| refusal.at(offset))
    };
    write().map_err(|refusal: Refusal| {
        refusal.in_function(frame.function, program.name(frame.function))
    })
}

/// A block that the call stands in. The first is the function itself.
struct EnclosingBlock {
    kind: FrameKind,
    /// Whether its code runs again: it is a loop, or stands in one.
    in_loop: bool,
    /// What it takes and leaves; `None` for the function, which takes nothing.
    ty: Option<BlockType>,
    /// The position of the operator that opens it.
    open: usize,
    /// The position of the first operator in it, behind `else` if it stands there.
    first: usize,
    /// How many operands lie below it.
    base: usize,
    /// The types of its operands below those that the operator takes which opens the next
    /// level, or the call.
    operands: Vec<ValType>,
}

/// Returns the positions of the operators that open the blocks which `call` stands in, the
/// outermost first.
fn enclosing(function: &Function<'_, '_>, call: usize) -> Vec<usize> {
    let mut open = Vec::new();
    for (at, op) in function.ops.iter().enumerate().take(call) {
        if opens(&op.operator) {
            open.push(at);
        } else if matches!(op.operator, Operator::End) {
            open.pop();
        }
    }
    open
}

fn find_levels(
    function: &mut Function<'_, '_>,
    call: usize,
) -> Result<Vec<EnclosingBlock>, Refusal> {
    let mut levels = vec![EnclosingBlock {
        kind: FrameKind::Block,
        in_loop: false,
        ty: None,
        open: 0,
        first: 0,
        base: 0,
        operands: Vec::new(),
    }];
    let mut opened = enclosing(function, call).into_iter().peekable();
    for at in 0..call {
        let operator = &function.op(at)?.operator;
        let is_else = matches!(operator, Operator::Else);
        if opened.next_if_eq(&at).is_some() {
            let ty = block_type(operator).ok_or_else(|| missing("block type"))?;
            let condition = usize::from(matches!(operator, Operator::If { .. }));
            let taken = function.block(ty)?.0.len() + condition;
            let operands = operands_below(function, taken)?;
            if let Some(last) = levels.last_mut() {
                last.operands = operands;
            }
            function.step(at)?;
            let kind = function.kind().unwrap_or(FrameKind::Block);
            let is_above = levels.last().is_some_and(|above| above.in_loop);
            levels.push(EnclosingBlock {
                kind,
                in_loop: is_above || kind == FrameKind::Loop,
                ty: Some(ty),
                open: at,
                first: at + 1,
                base: function.base(),
                operands: Vec::new(),
            });
            continue;
        }
        function.step(at)?;
        if is_else
            && function.depth() as usize == levels.len()
            && let Some(last) = levels.last_mut()
        {
            last.kind = FrameKind::Else;
            last.first = at + 1;
        }
    }
    let callee = function.callee(&function.op(call)?.operator)?;
    let taken = callee.ok_or_else(|| missing("call"))?.params;
    let operands = operands_below(function, taken)?;
    if let Some(last) = levels.last_mut() {
        last.operands = operands;
    }
    Ok(levels)
}

/// Returns the types of the operands of the innermost block, without the uppermost ones. In
/// code that cannot be reached there are none.
fn operands_below(function: &Function<'_, '_>, taken: usize) -> Result<Vec<ValType>, Refusal> {
    if !function.is_reachable() {
        return Ok(Vec::new());
    }
    let until = function.height().saturating_sub(taken);
    function.operands_within(function.base()..until)
}

struct ContinuationWriter<'s, 'p, 'a> {
    function: Function<'p, 'a>,
    frame: &'s Frame,
    call: usize,
    levels: Vec<EnclosingBlock>,
    additions: &'s mut Additions,
    out: Vec<u8>,
    runs: Vec<CopiedRun>,
    /// Where the last of them ends in `out`.
    run_end: usize,
}

impl ContinuationWriter<'_, '_, '_> {
    fn write(
        mut self,
        next: &NextCall<'_>,
        continues_a_loop: bool,
    ) -> Result<(Vec<u8>, Vec<CopiedRun>), Refusal> {
        let locals = self.function.locals.iter().zip(&self.frame.locals);
        // One that is not set yet may be of a type without null.
        let locals = locals.map(|(ty, value)| match value {
            Value::Null => nullable(*ty),
            _ => *ty,
        });
        let locals: Vec<ValType> = locals.collect();
        if self.function.locals.len() != self.frame.locals.len() {
            return Err(missing("local"));
        }
        let first = continues_a_loop.then_some(ValType::I32);
        check_locals(locals.len() + usize::from(continues_a_loop))?;
        let mut body = declare(locals.iter().copied().chain(first));
        for (local, (ty, value)) in (0..).zip(locals.iter().zip(&self.frame.locals)) {
            if !value.is_default_of(*ty) {
                value.push(*ty, &mut self.out)?;
                Instruction::LocalSet(local).encode(&mut self.out);
            }
        }
        if continues_a_loop {
            Instruction::I32Const(1).encode(&mut self.out);
            Instruction::LocalSet(self.first_time()).encode(&mut self.out);
        }
        for number in 0..self.levels.len() {
            self.write_level(number, next)?;
            self.additions.room.check(self.out.len(), 0)?;
        }
        self.write_rest()?;
        for run in &mut self.runs {
            run.start += length(body.len());
        }
        body.extend_from_slice(&self.out);
        let room = &mut self.additions.room;
        room.take(body.len(), 0)?;
        room.spend(self.runs.len() * CopiedRun::MAX_BYTES)?;
        Ok((body, self.runs))
    }

    /// Notes that the operator at `at` was written from `start` on.
    fn note(&mut self, at: usize, start: usize) {
        let at = length(at);
        match self.runs.last_mut() {
            Some(run) if self.run_end == start && run.first + run.count == at => run.count += 1,
            Some(_) | None => self.runs.push(CopiedRun {
                start: length(start),
                first: at,
                count: 1,
            }),
        }
        self.run_end = self.out.len();
    }

    /// Copies one operator of the function as it stands.
    fn copy_raw(&mut self, at: usize) -> Result<(), Refusal> {
        let start = self.out.len();
        self.function.copy_raw(at, &mut self.out)?;
        self.note(at, start);
        self.assert_read(at)
    }

    /// Behind an operator that reads a local which is never null for the function, and was not
    /// set yet: it has been since.
    fn assert_read(&mut self, at: usize) -> Result<(), Refusal> {
        let read = self
            .function
            .never_null_read(&self.function.op(at)?.operator);
        let value = read.and_then(|local| self.frame.locals.get(local));
        if value == Some(&Value::Null) {
            Instruction::RefAsNonNull.encode(&mut self.out);
        }
        Ok(())
    }

    /// The local that is 1 until the call has come back once.
    fn first_time(&self) -> u32 {
        bounded_u32(self.function.locals.len(), "the validation of the module")
    }

    fn level(&self, number: usize) -> Result<&EnclosingBlock, Refusal> {
        self.levels.get(number).ok_or_else(|| missing("block"))
    }

    /// Returns the types that a level takes and leaves.
    fn types(&self, number: usize) -> Result<(Vec<ValType>, Vec<ValType>), Refusal> {
        match self.level(number)?.ty {
            Some(ty) => self.function.block(ty),
            None => Ok((Vec::new(), self.function.results.clone())),
        }
    }

    /// Writes what comes before the next level, or the call, and opens or calls it.
    fn write_level(&mut self, number: usize, next: &NextCall<'_>) -> Result<(), Refusal> {
        let is_last = number + 1 == self.levels.len();
        let again = self.level(number)?.in_loop;
        match (again, is_last) {
            (false, true) => {
                self.push_operands(number, None)?;
                self.call_next(next)
            }
            (false, false) => {
                let enters_loop = self.level(number + 1)?.kind == FrameKind::Loop;
                self.push_operands(number, enters_loop.then_some(number + 1))?;
                self.open(number + 1, enters_loop)
            }
            (true, true) => self.write_guarded_call(number, next),
            (true, false) => {
                self.write_guarded(number)?;
                self.open(number + 1, true)
            }
        }
    }

    /// Pushes the operands of a level that lie below the next one, and zeros for what
    /// the next one takes if it is given.
    fn push_operands(&mut self, number: usize, takes: Option<usize>) -> Result<(), Refusal> {
        let level = self.levels.get(number).ok_or_else(|| missing("block"))?;
        let until = match self.levels.get(number + 1) {
            Some(next) => next.base,
            None => self.frame.operands.len(),
        };
        let values = self.frame.operands.get(level.base..until);
        let values = values.ok_or_else(|| missing("operand"))?;
        for (value, ty) in values.iter().zip(&level.operands) {
            value.push(*ty, &mut self.out)?;
        }
        if let Some(taken) = takes {
            self.push_unused(taken)?;
        }
        Ok(())
    }

    /// Pushes what a level takes where nobody looks at it.
    fn push_unused(&mut self, number: usize) -> Result<(), Refusal> {
        let open = self.level(number)?.open;
        let (program, within) = (self.function.program, self.function.index);
        for ty in self.types(number)?.0 {
            if let Some(function) = self.additions.stand_ins.of(ty, program, within) {
                Instruction::RefFunc(function).encode(&mut self.out);
            } else if Value::zero_of(ty).push(ty, &mut self.out).is_err() {
                let refusal = Refusal::new(
                    "a loop that is not at its start, or a block in one, takes a reference to an object that is never null, which cannot be made again",
                );
                return Err(refusal.at(self.function.op(open)?.start));
            }
        }
        Ok(())
    }

    /// Opens a level: as it stands, or if its head never runs again as a plain block.
    fn open(&mut self, number: usize, as_it_is: bool) -> Result<(), Refusal> {
        let level = self.level(number)?;
        let (open, kind) = (level.open, level.kind);
        if as_it_is {
            self.copy_raw(open)?;
            if kind == FrameKind::Else {
                let first = self.level(number)?.first;
                for at in open + 1..first {
                    self.copy_raw(at)?;
                }
            }
            return Ok(());
        }
        let (_, results) = self.types(number)?;
        let ty = self.additions.signatures.block(&[], &results)?;
        if let Operator::TryTable { try_table } = &self.function.op(open)?.operator {
            let opened = relabelled(try_table, |label| label)?;
            if let Instruction::TryTable(_, catches) = opened {
                Instruction::TryTable(ty, catches).encode(&mut self.out);
            }
        } else {
            Instruction::Block(ty).encode(&mut self.out);
        }
        Ok(())
    }

    /// In a loop: the operands of a level the first time, its code every other time.
    fn write_guarded(&mut self, number: usize) -> Result<(), Refusal> {
        let level = self.level(number)?;
        let next = self.level(number + 1)?;
        let (first, until, kind) = (level.first, next.open, next.kind);
        let (params, _) = self.types(number)?;
        if first == until && params.is_empty() {
            return Ok(());
        }
        let mut operands = level.operands.clone();
        operands.extend(self.types(number + 1)?.0);
        operands.extend(matches!(kind, FrameKind::If | FrameKind::Else).then_some(ValType::I32));
        self.open_guard(&params, &operands)?;
        self.push_operands(number, Some(number + 1))?;
        match kind {
            FrameKind::If => Instruction::I32Const(1).encode(&mut self.out),
            FrameKind::Else => Instruction::I32Const(0).encode(&mut self.out),
            _ => {}
        }
        Instruction::Else.encode(&mut self.out);
        self.copy_inside(first, until)?;
        Instruction::End.encode(&mut self.out);
        Ok(())
    }

    /// In a loop: the next continuation the first time, the call every other time.
    fn write_guarded_call(&mut self, number: usize, next: &NextCall<'_>) -> Result<(), Refusal> {
        let level = self.level(number)?;
        let (params, _) = self.types(number)?;
        let first = level.first;
        let callee = self
            .function
            .callee(&self.function.op(self.call)?.operator)?;
        let callee = callee.ok_or_else(|| missing("call"))?;
        let mut results = level.operands.clone();
        results.extend(callee.results);
        self.open_guard(&params, &results)?;
        Instruction::I32Const(0).encode(&mut self.out);
        Instruction::LocalSet(self.first_time()).encode(&mut self.out);
        self.push_operands(number, None)?;
        self.call_next(next)?;
        Instruction::Else.encode(&mut self.out);
        self.copy_inside(first, self.call + 1)?;
        Instruction::End.encode(&mut self.out);
        Ok(())
    }

    /// Begins the arm of the first time, without what the level was given.
    fn open_guard(&mut self, params: &[ValType], results: &[ValType]) -> Result<(), Refusal> {
        let ty = self.additions.signatures.block(params, results)?;
        Instruction::LocalGet(self.first_time()).encode(&mut self.out);
        Instruction::If(ty).encode(&mut self.out);
        for _ in params {
            Instruction::Drop.encode(&mut self.out);
        }
        Ok(())
    }

    /// Copies code into the arm of a guard, one block further in.
    fn copy_inside(&mut self, from: usize, until: usize) -> Result<(), Refusal> {
        let mut open = 0;
        for at in from..until {
            let function = &self.function;
            let operator = &function.op(at)?.operator;
            let label = |label: u32| if label >= open { label + 1 } else { label };
            let opened = opens(operator);
            let closed = matches!(operator, Operator::End);
            let start = self.out.len();
            function.copy(at, &mut self.out, label)?;
            self.note(at, start);
            self.assert_read(at)?;
            if opened {
                open += 1;
            } else if closed {
                open -= 1;
            }
        }
        Ok(())
    }

    fn call_next(&mut self, next: &NextCall<'_>) -> Result<(), Refusal> {
        let start = match next {
            NextCall::Continuation(function) => {
                let start = self.out.len();
                Instruction::Call(*function).encode(&mut self.out);
                start
            }
            NextCall::Import(import, arguments) => {
                let program = self.function.program;
                push_call(program, *import, arguments, &mut self.out)?
            }
        };
        // It stands for the call that the function made.
        self.note(self.call, start);
        Ok(())
    }

    /// Copies what follows the call, out of one level after the other.
    fn write_rest(&mut self) -> Result<(), Refusal> {
        let mut at = self.call + 1;
        for number in (0..self.levels.len()).rev() {
            let keeps_else = self.level(number)?.in_loop;
            let mut open = 0_u32;
            let mut skips = false;
            loop {
                let operator = &self.function.op(at)?.operator;
                let is_end = open == 0 && matches!(operator, Operator::End);
                if open == 0 && matches!(operator, Operator::Else) && !keeps_else {
                    skips = true;
                }
                if opens(operator) {
                    open += 1;
                } else if matches!(operator, Operator::End) {
                    open = open.saturating_sub(1);
                }
                if !skips || is_end {
                    self.copy_raw(at)?;
                }
                at += 1;
                if is_end {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Pushes arguments and calls an import with them. Returns where the call begins.
pub(crate) fn push_call(
    program: &CoreModule<'_>,
    import: u32,
    arguments: &[Value],
    out: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let types = program.plain_all(program.type_of(import)?.params())?;
    if types.len() != arguments.len() {
        return Err(missing("argument"));
    }
    for (value, ty) in arguments.iter().zip(types) {
        value.push(ty, out)?;
    }
    let start = out.len();
    Instruction::Call(import).encode(out);
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loops in each other, each of which takes as many values as one may.
    fn nested(loops: usize) -> Result<(Vec<u8>, Vec<CopiedRun>), Refusal> {
        let values = "i32 ".repeat(1000);
        let opened = "loop (type $takes)\n".repeat(loops);
        let text = format!(
            "(module
              (import \"own\" \"call\" (func $call))
              (type $takes (func (param {values})))
              (func $run
                {} {opened} {} call $call {}))",
            "i32.const 0 ".repeat(1000),
            "drop ".repeat(1000),
            "end ".repeat(loops)
        );
        let wasm = wat::parse_str(text).unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let frame = Frame {
            function: 1,
            call: length(1000 + loops + 1000),
            locals: Vec::new(),
            operands: Vec::new(),
        };
        let next = NextCall::Import(0, &[]);
        let mut additions = Additions::of_continuations(&program, 1);
        continuation(&program, &frame, &next, &mut additions)
    }

    /// Who looked at all levels above for each would look for hours.
    #[test]
    fn a_call_in_a_million_blocks_goes_on() {
        const BLOCKS: usize = 1_000_000;
        let mut types = wasm_encoder::TypeSection::new();
        types.ty().function([], []);
        let mut imports = wasm_encoder::ImportSection::new();
        imports.import("own", "call", wasm_encoder::EntityType::Function(0));
        let mut functions = wasm_encoder::FunctionSection::new();
        functions.function(0);
        let mut body = wasm_encoder::Function::new([]);
        for _ in 0..BLOCKS {
            body.instruction(&Instruction::Block(wasm_encoder::BlockType::Empty));
        }
        body.instruction(&Instruction::Call(0));
        for _ in 0..=BLOCKS {
            body.instruction(&Instruction::End);
        }
        let mut code = wasm_encoder::CodeSection::new();
        code.function(&body);
        let mut module = wasm_encoder::Module::new();
        module.section(&types).section(&imports);
        let wasm = module.section(&functions).section(&code).clone().finish();
        let program = CoreModule::parse(&wasm).unwrap();
        let frame = Frame {
            function: 1,
            call: length(BLOCKS),
            locals: Vec::new(),
            operands: Vec::new(),
        };
        let mut additions = Additions::of_continuations(&program, 1);
        let next = NextCall::Import(0, &[]);
        let (body, runs) = continuation(&program, &frame, &next, &mut additions).unwrap();
        assert!(body.len() > 3 * BLOCKS, "{} bytes", body.len());
        // The call, and the ends behind it.
        assert_eq!(
            runs.iter().map(|run| run.count).sum::<u32>(),
            length(BLOCKS + 2)
        );
    }

    /// A function of some kilobytes would go on as one of megabytes.
    #[test]
    fn a_function_that_would_be_too_large_where_it_goes_on_is_refused() {
        let (body, _) = nested(100).unwrap();
        assert!(body.len() > 300_000, "{} bytes", body.len());
        let refusal = nested(10_000).unwrap_err().to_string();
        assert!(
            refusal.starts_with("function 1 (run) at offset 0x"),
            "{refusal}"
        );
        assert!(
            refusal.contains("the most that the engine takes"),
            "{refusal}"
        );
    }
}
