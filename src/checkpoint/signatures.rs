//! The function types that are added to a module for blocks and continuations.

use std::collections::HashMap;

use wasm_encoder::{BlockType, ValType};

use super::error::Refusal;
use crate::bounded::bounded_u32;
use crate::limits::MAX_ADDED_TYPE_VALUES;

/// Parameters, or results, of one function type: the engine's own bound.
const MAX_VALUES: usize = 1000;

type Signature = (Vec<ValType>, Vec<ValType>);

/// Types behind those that the module has, each once.
pub(crate) struct Signatures {
    base: u32,
    added: Vec<Signature>,
    numbers: HashMap<Signature, u32>,
    /// The values of all that were added.
    values: usize,
}

impl Signatures {
    /// Counts on from the number of types that the module has.
    pub(crate) fn new(base: u32) -> Self {
        Self {
            base,
            added: Vec::new(),
            numbers: HashMap::new(),
            values: 0,
        }
    }

    /// Returns the number of a function type.
    ///
    /// Refuses a type of more values than the engine takes, and more types than
    /// [`MAX_ADDED_TYPE_VALUES`] has room for.
    pub(crate) fn number(
        &mut self,
        params: &[ValType],
        results: &[ValType],
    ) -> Result<u32, Refusal> {
        let signature = (params.to_vec(), results.to_vec());
        if let Some(number) = self.numbers.get(&signature) {
            return Ok(*number);
        }
        if params.len().max(results.len()) > MAX_VALUES {
            return Err(Refusal::new(format!(
                "more than {MAX_VALUES} operands lie on the stack at a call"
            )));
        }
        self.values += params.len() + results.len() + 1;
        if self.values > MAX_ADDED_TYPE_VALUES {
            return Err(Refusal::new(
                "too many calls with operands of different types below them",
            ));
        }
        let added = bounded_u32(self.added.len(), "the bound on added types");
        let number = self.base.saturating_add(added);
        self.added.push(signature.clone());
        self.numbers.insert(signature, number);
        Ok(number)
    }

    /// Returns the type of a block.
    pub(crate) fn block(
        &mut self,
        params: &[ValType],
        results: &[ValType],
    ) -> Result<BlockType, Refusal> {
        Ok(match (params, results) {
            ([], []) => BlockType::Empty,
            ([], [one]) => BlockType::Result(*one),
            _ => BlockType::FunctionType(self.number(params, results)?),
        })
    }

    /// Returns the types that were added, in the order of their numbers.
    pub(crate) fn added(&self) -> &[(Vec<ValType>, Vec<ValType>)] {
        &self.added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_added_have_a_bound() {
        let mut signatures = Signatures::new(7);
        let of = |count: usize, last: ValType| {
            let mut types = vec![ValType::I32; count];
            types.push(last);
            types
        };
        assert_eq!(signatures.number(&of(3, ValType::I64), &[]).unwrap(), 7);
        assert_eq!(signatures.number(&of(3, ValType::F32), &[]).unwrap(), 8);
        assert_eq!(signatures.number(&of(3, ValType::I64), &[]).unwrap(), 7);
        assert!(signatures.number(&of(1000, ValType::I64), &[]).is_err());
        signatures.values = MAX_ADDED_TYPE_VALUES - 11;
        assert!(signatures.number(&of(8, ValType::I64), &[]).is_ok());
        assert!(signatures.number(&of(9, ValType::I64), &[]).is_err());
        // Those that are there cost nothing.
        assert!(signatures.number(&of(8, ValType::I64), &[]).is_ok());
    }
}
