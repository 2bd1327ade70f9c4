//! The body of one function, walked operator by operator beside the validator, which
//! knows what lies on the operand stack.

use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{Encode, Instruction, ValType};
use wasmparser::{
    BlockType, FrameKind, FuncToValidate, FuncValidator, Operator, TryTable, ValidatorResources,
};

use super::core_module::CoreModule;
use super::error::{Refusal, missing};
use crate::steps;

/// One operator, and where it stands in the binary.
pub(crate) struct Op<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) operator: Operator<'a>,
}

/// What a call leaves of the operands below it.
pub(crate) struct Callee {
    pub(crate) params: usize,
    pub(crate) results: Vec<ValType>,
}

/// A function and a place in it.
pub(crate) struct Function<'p, 'a> {
    pub(crate) program: &'p CoreModule<'a>,
    pub(crate) index: u32,
    pub(crate) ops: Vec<Op<'a>>,
    pub(crate) locals: Vec<ValType>,
    /// Those of `locals` that are parameters.
    pub(crate) params: usize,
    pub(crate) results: Vec<ValType>,
    check: FuncValidator<ValidatorResources>,
}

impl<'p, 'a> Function<'p, 'a> {
    /// Reads a function that the program has itself, up to its first operator.
    pub(crate) fn read(program: &'p CoreModule<'a>, index: u32) -> Result<Self, Refusal> {
        let read = || -> Result<Self, Refusal> {
            let defined = program.defined(index)?;
            let check = FuncToValidate {
                resources: defined.check.resources.clone(),
                index: defined.check.index,
                ty: defined.check.ty,
                features: defined.check.features,
            };
            let mut check = check.into_validator(wasmparser::FuncValidatorAllocations::default());
            check.read_locals(&mut defined.body.get_binary_reader())?;
            let mut ops = Vec::new();
            let mut reader = defined.body.get_operators_reader()?;
            while !reader.eof() {
                let start = reader.original_position();
                let operator = reader.read()?;
                let end = reader.original_position();
                ops.push(Op {
                    start,
                    end,
                    operator,
                });
            }
            steps::add(ops.len());
            let locals = (0..check.len_locals())
                .map(|local| {
                    let ty = check.get_local_type(local);
                    program.plain(ty.ok_or_else(|| missing("local"))?)
                })
                .collect::<Result<_, _>>()?;
            let ty = program.type_of(index)?;
            Ok(Self {
                program,
                index,
                ops,
                locals,
                params: ty.params().len(),
                results: program.plain_all(ty.results())?,
                check,
            })
        };
        read().map_err(|refusal| refusal.in_function(index, program.name(index)))
    }

    pub(crate) fn op(&self, at: usize) -> Result<&Op<'a>, Refusal> {
        self.ops.get(at).ok_or_else(|| missing("operator"))
    }

    /// Returns whether it has locals that hold nothing before they are set, so that they
    /// cannot be read just anywhere.
    pub(crate) fn has_uncertain_locals(&self) -> bool {
        let own = self.locals.get(self.params..).unwrap_or_default();
        own.iter().any(|ty| is_never_null(*ty))
    }

    /// Returns the local that an operator reads, if it is never null for the function. Where it
    /// is declared as one that may be, it is read with a look at whether it is: validation has
    /// seen to it that it was set.
    pub(crate) fn never_null_read(&self, operator: &Operator<'_>) -> Option<usize> {
        let (Operator::LocalGet { local_index } | Operator::LocalTee { local_index }) = operator
        else {
            return None;
        };
        let local = *local_index as usize;
        self.locals
            .get(local)
            .is_some_and(|ty| is_never_null(*ty))
            .then_some(local)
    }

    /// Moves behind the operator at `at`, which is the next one.
    pub(crate) fn step(&mut self, at: usize) -> Result<(), Refusal> {
        let op = self.ops.get(at).ok_or_else(|| missing("operator"))?;
        Ok(self.check.op(op.start, &op.operator)?)
    }

    /// Returns how many operands lie on the stack.
    pub(crate) fn height(&self) -> usize {
        self.check.operand_stack_height() as usize
    }

    /// Returns how many operands lay below the innermost open block when it was opened.
    pub(crate) fn base(&self) -> usize {
        self.check
            .get_control_frame(0)
            .map_or(0, |frame| frame.height)
    }

    /// Returns how many blocks are open, the function's own included.
    pub(crate) fn depth(&self) -> u32 {
        self.check.control_stack_height()
    }

    /// Returns whether the next operator can be reached.
    pub(crate) fn is_reachable(&self) -> bool {
        self.check
            .get_control_frame(0)
            .is_some_and(|frame| !frame.unreachable)
    }

    /// Returns the kind of the innermost open block.
    pub(crate) fn kind(&self) -> Option<FrameKind> {
        self.check.get_control_frame(0).map(|frame| frame.kind)
    }

    /// Returns the types of the operands from `bottom` on, counted from the bottom of
    /// the stack.
    pub(crate) fn operands(&self, bottom: usize) -> Result<Vec<ValType>, Refusal> {
        self.operands_within(bottom..self.height())
    }

    /// Returns those between two heights.
    pub(crate) fn operands_within(&self, heights: Range<usize>) -> Result<Vec<ValType>, Refusal> {
        let height = self.height();
        heights
            .map(|position| {
                let ty = self.check.get_operand_type(height - 1 - position).flatten();
                self.program.plain(ty.ok_or_else(|| missing("operand"))?)
            })
            .collect()
    }

    /// Returns the types that a block takes and leaves.
    pub(crate) fn block(&self, ty: BlockType) -> Result<(Vec<ValType>, Vec<ValType>), Refusal> {
        Ok(match ty {
            BlockType::Empty => (Vec::new(), Vec::new()),
            BlockType::Type(one) => (Vec::new(), vec![self.program.plain(one)?]),
            BlockType::FuncType(number) => {
                let ty = self.program.func_type(number)?;
                let params = self.program.plain_all(ty.params())?;
                (params, self.program.plain_all(ty.results())?)
            }
        })
    }

    /// Returns what a call takes and leaves; `None` for what is no call that comes back.
    pub(crate) fn callee(&self, operator: &Operator<'_>) -> Result<Option<Callee>, Refusal> {
        let (ty, own) = match operator {
            Operator::Call { function_index } => (self.program.type_of(*function_index)?, 0),
            Operator::CallIndirect { type_index, .. } | Operator::CallRef { type_index } => {
                (self.program.func_type(*type_index)?, 1)
            }
            _ => return Ok(None),
        };
        Ok(Some(Callee {
            params: ty.params().len() + own,
            results: self.program.plain_all(ty.results())?,
        }))
    }

    /// Copies one operator, with each label that it names changed by `label`.
    ///
    /// Refuses what has labels in another form.
    pub(crate) fn copy(
        &self,
        at: usize,
        out: &mut Vec<u8>,
        label: impl Fn(u32) -> u32,
    ) -> Result<(), Refusal> {
        let op = self.op(at)?;
        match &op.operator {
            Operator::Br { relative_depth } => Instruction::Br(label(*relative_depth)).encode(out),
            Operator::BrIf { relative_depth } => {
                Instruction::BrIf(label(*relative_depth)).encode(out);
            }
            Operator::BrOnNull { relative_depth } => {
                Instruction::BrOnNull(label(*relative_depth)).encode(out);
            }
            Operator::BrOnNonNull { relative_depth } => {
                Instruction::BrOnNonNull(label(*relative_depth)).encode(out);
            }
            Operator::BrTable { targets } => {
                let labels: Vec<u32> = targets
                    .targets()
                    .map(|target| target.map(&label))
                    .collect::<Result<_, _>>()?;
                Instruction::BrTable(labels.into(), label(targets.default())).encode(out);
            }
            Operator::TryTable { try_table } => {
                relabelled(try_table, label)?.encode(out);
            }
            Operator::BrOnCast { .. } | Operator::BrOnCastFail { .. } => {
                relabelled_cast(op, label)?.encode(out);
            }
            other => {
                if let Some(what) = refused(other) {
                    return Err(Refusal::new(what).at(op.start));
                }
                self.copy_raw(at, out)?;
            }
        }
        Ok(())
    }

    /// Copies one operator byte for byte.
    pub(crate) fn copy_raw(&self, at: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let op = self.op(at)?;
        let bytes = self.program.wasm.get(op.start..op.end);
        out.extend_from_slice(bytes.ok_or_else(|| missing("operator"))?);
        Ok(())
    }
}

/// Returns whether a type is one of references that has no null.
fn is_never_null(ty: ValType) -> bool {
    matches!(ty, ValType::Ref(reference) if !reference.nullable)
}

/// Returns how an operator changes how many blocks are open.
pub(crate) fn opens(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. }
            | Operator::Try { .. }
    )
}

/// Returns the type of the block that an operator opens.
pub(crate) fn block_type(operator: &Operator<'_>) -> Option<BlockType> {
    match operator {
        Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => {
            Some(*blockty)
        }
        Operator::TryTable { try_table } => Some(try_table.ty),
        _ => None,
    }
}

/// Returns why an operator cannot stand in a program that is frozen.
pub(crate) fn refused(operator: &Operator<'_>) -> Option<String> {
    let what = match operator {
        Operator::Try { .. }
        | Operator::Catch { .. }
        | Operator::CatchAll
        | Operator::Delegate { .. }
        | Operator::Rethrow { .. } => {
            "exceptions of the first proposal, which the engine does not run"
        }
        Operator::ContNew { .. }
        | Operator::ContBind { .. }
        | Operator::Resume { .. }
        | Operator::ResumeThrow { .. }
        | Operator::ResumeThrowRef { .. }
        | Operator::Suspend { .. }
        | Operator::Switch { .. } => {
            "a switch of stacks: frames of a stack that waits cannot be read"
        }
        Operator::BrOnCastDescEq { .. } | Operator::BrOnCastDescEqFail { .. } => {
            "a branch on a cast by descriptor"
        }
        _ => return None,
    };
    Some(what.to_owned())
}

/// Returns the operator that opens `try_table` with other labels.
pub(crate) fn relabelled(
    try_table: &TryTable,
    label: impl Fn(u32) -> u32,
) -> Result<Instruction<'static>, Refusal> {
    let mut changed = try_table.clone();
    for catch in &mut changed.catches {
        use wasmparser::Catch;
        match catch {
            Catch::One { label: one, .. }
            | Catch::OneRef { label: one, .. }
            | Catch::All { label: one }
            | Catch::AllRef { label: one } => *one = label(*one),
        }
    }
    let operator = Operator::TryTable { try_table: changed };
    RoundtripReencoder
        .instruction(operator)
        .map_err(|error| Refusal::new(format!("try_table: {error}")))
}

fn relabelled_cast(
    op: &Op<'_>,
    label: impl Fn(u32) -> u32,
) -> Result<Instruction<'static>, Refusal> {
    let mut changed = op.operator.clone();
    if let Operator::BrOnCast { relative_depth, .. }
    | Operator::BrOnCastFail { relative_depth, .. } = &mut changed
    {
        *relative_depth = label(*relative_depth);
    }
    let owned = RoundtripReencoder.instruction(changed);
    match owned.map_err(|error| Refusal::new(format!("a branch on a cast: {error}")))? {
        Instruction::BrOnCast {
            relative_depth,
            from_ref_type,
            to_ref_type,
        } => Ok(Instruction::BrOnCast {
            relative_depth,
            from_ref_type,
            to_ref_type,
        }),
        Instruction::BrOnCastFail {
            relative_depth,
            from_ref_type,
            to_ref_type,
        } => Ok(Instruction::BrOnCastFail {
            relative_depth,
            from_ref_type,
            to_ref_type,
        }),
        _ => Err(missing("branch on a cast")),
    }
}
