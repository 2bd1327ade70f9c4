//! What is written beside a program's own code, and how much of it there may be.

use std::collections::HashMap;
use std::ops::Range;

use wasm_encoder::{AbstractHeapType, Encode, HeapType, Instruction, ValType};

use super::compose::{id, length};
use super::core_module::CoreModule;
use super::error::Refusal;
use super::signatures::Signatures;
use super::unwind::declare;
use crate::limits::{
    ADDED_CODE_BYTES, MAX_ADDED_CODE_RATIO, MAX_CHECKPOINT_PROGRAM, MAX_CONTINUATION_BYTES,
};

/// Bytes in the body of a function: the engine's own bound.
pub(crate) const MAX_BODY_BYTES: usize = 7_654_321;

/// Locals of a function, its parameters among them: the engine's own bound.
const MAX_LOCALS: usize = 50_000;

/// What functions that are written for a program need besides themselves.
pub(crate) struct Additions {
    pub(crate) signatures: Signatures,
    pub(crate) stand_ins: StandIns,
    pub(crate) room: CodeRoom,
}

impl Additions {
    /// For the build that can leave its stack.
    pub(crate) fn of_build(program: &CoreModule<'_>) -> Self {
        let own = program
            .section(id::CODE)
            .map_or(0, |section| section.contents.len() as u64);
        let limit = own.saturating_mul(MAX_ADDED_CODE_RATIO);
        let limit = limit.saturating_add(ADDED_CODE_BYTES);
        Self {
            signatures: Signatures::new(program.type_count()),
            // Behind its own functions there is one for each that it imports.
            stand_ins: StandIns::new(program.function_count() + program.import_count()),
            room: CodeRoom::new(
                // A larger module is none for the engine.
                limit.min(MAX_CHECKPOINT_PROGRAM),
                "what is added to the program so that it can leave its stack",
            ),
        }
    }

    /// For a module that goes on, which has so many continuations.
    pub(crate) fn of_continuations(program: &CoreModule<'_>, continuations: usize) -> Self {
        Self {
            signatures: Signatures::new(program.type_count()),
            stand_ins: StandIns::new(program.function_count() + length(continuations)),
            room: CodeRoom::new(
                MAX_CONTINUATION_BYTES,
                "the stack is too deep: the code that goes on from it",
            ),
        }
    }
}

/// Functions whose references stand where a value is needed that nobody looks at and that cannot
/// be null. They are never called.
pub(crate) struct StandIns {
    first: u32,
    /// The numbers of their types.
    types: Vec<u32>,
    numbers: HashMap<u32, u32>,
}

impl StandIns {
    fn new(first: u32) -> Self {
        Self {
            first,
            types: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Returns the function that stands for a value of type `ty` in function `within` of the
    /// program; `None` for a type that has null, or that no function is of.
    pub(crate) fn of(&mut self, ty: ValType, program: &CoreModule<'_>, within: u32) -> Option<u32> {
        let ValType::Ref(reference) = ty else {
            return None;
        };
        if reference.nullable {
            return None;
        }
        let ty = match reference.heap_type {
            HeapType::Concrete(index) | HeapType::Exact(index) => {
                program.func_type(index).is_ok().then_some(index)
            }
            // Any function will do.
            HeapType::Abstract {
                shared: false,
                ty: AbstractHeapType::Func,
            } => program.functions.get(within as usize).copied(),
            HeapType::Abstract { .. } => None,
        }?;
        let next = self.first.saturating_add(length(self.types.len()));
        let number = *self.numbers.entry(ty).or_insert(next);
        if number == next {
            self.types.push(ty);
        }
        Some(number)
    }

    /// Returns the types of those that are needed, in the order of their numbers.
    pub(crate) fn types(&self) -> &[u32] {
        &self.types
    }

    pub(crate) fn numbers(&self) -> Range<u32> {
        self.first..self.first.saturating_add(length(self.types.len()))
    }

    /// Returns the body that all of them have.
    pub(crate) fn body() -> Vec<u8> {
        let mut body = declare(std::iter::empty());
        Instruction::Unreachable.encode(&mut body);
        Instruction::End.encode(&mut body);
        body
    }
}

/// How many bytes of code may still be written besides those that a program has itself.
pub(crate) struct CodeRoom {
    what: &'static str,
    limit: u64,
    left: u64,
}

impl CodeRoom {
    fn new(limit: u64, what: &'static str) -> Self {
        Self {
            what,
            limit,
            left: limit,
        }
    }

    /// Refuses a body of so many bytes, in place of `own`, if it is too large, or if there is no
    /// room for what it adds.
    pub(crate) fn check(&self, written: usize, own: usize) -> Result<(), Refusal> {
        if written > MAX_BODY_BYTES {
            return Err(Refusal::new(format!(
                "once it can be left, or entered in its middle, it takes more than {MAX_BODY_BYTES} bytes, the most that the engine takes: too many operands lie below its blocks and calls"
            )));
        }
        self.rest_after(written.saturating_sub(own)).map(drop)
    }

    /// Takes the room of a body that was written.
    pub(crate) fn take(&mut self, written: usize, own: usize) -> Result<(), Refusal> {
        self.check(written, own)?;
        self.spend(written.saturating_sub(own))
    }

    /// Takes the room of what is written beside bodies.
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.left = self.rest_after(bytes)?;
        Ok(())
    }

    fn rest_after(&self, bytes: usize) -> Result<u64, Refusal> {
        let rest = self.left.checked_sub(bytes as u64);
        rest.ok_or_else(|| {
            Refusal::new(format!(
                "{} takes more than {} bytes",
                self.what, self.limit
            ))
        })
    }
}

/// Refuses a function that would have so many locals.
pub(crate) fn check_locals(count: usize) -> Result<(), Refusal> {
    if count > MAX_LOCALS {
        return Err(Refusal::new(format!(
            "it has more than {MAX_LOCALS} locals, the most that the engine takes, together with those that keep its operands"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_goes_on_has_a_bound() {
        let wasm = wat::parse_str("(module)").unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let mut room = Additions::of_continuations(&program, 1).room;
        let bodies = MAX_CONTINUATION_BYTES / MAX_BODY_BYTES as u64;
        for _ in 0..bodies {
            room.take(MAX_BODY_BYTES, 0).unwrap();
        }
        let left = MAX_CONTINUATION_BYTES - bodies * MAX_BODY_BYTES as u64;
        let left = usize::try_from(left).unwrap();
        assert!(room.check(left, 0).is_ok());
        let refusal = room.take(left + 1, 0).unwrap_err().to_string();
        assert!(refusal.contains("the stack is too deep"), "{refusal}");
        // What a body was before counts for nothing.
        assert!(room.take(left + 9, 9).is_ok());
        assert!(room.check(9, 9).is_ok());
        let refusal = room.check(MAX_BODY_BYTES + 1, MAX_BODY_BYTES).unwrap_err();
        assert!(
            refusal.to_string().contains("too many operands"),
            "{refusal}"
        );
    }

    #[test]
    fn functions_stand_for_types_of_functions_that_have_no_null() {
        let text = "(module (type $f (func)) (type $s (struct)) (func (result i32) (unreachable)))";
        let wasm = wat::parse_str(text).unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let mut stand_ins = Additions::of_continuations(&program, 3).stand_ins;
        let of = |nullable, heap_type| {
            ValType::Ref(wasm_encoder::RefType {
                nullable,
                heap_type,
            })
        };
        let mut found = |ty| stand_ins.of(ty, &program, 0);
        // Behind the function and three continuations.
        assert_eq!(found(of(false, HeapType::Concrete(0))), Some(4));
        assert_eq!(found(of(false, HeapType::FUNC)), Some(5));
        assert_eq!(found(of(false, HeapType::Concrete(0))), Some(4));
        for ty in [
            of(true, HeapType::Concrete(0)),
            of(false, HeapType::Concrete(1)),
            of(false, HeapType::EXTERN),
            ValType::I32,
        ] {
            assert_eq!(found(ty), None, "{ty:?}");
        }
        assert_eq!(stand_ins.types(), [0, 2]);
        assert_eq!(stand_ins.numbers(), 4..6);
    }
}
