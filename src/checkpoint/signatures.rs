//! The function types that are added to a module for blocks and continuations.

use std::collections::HashMap;

use wasm_encoder::{BlockType, ValType};

type Signature = (Vec<ValType>, Vec<ValType>);

/// Types behind those that the module has, each once.
pub(crate) struct Signatures {
    base: u32,
    added: Vec<Signature>,
    numbers: HashMap<Signature, u32>,
}

impl Signatures {
    /// Counts on from the number of types that the module has.
    pub(crate) fn new(base: u32) -> Self {
        Self {
            base,
            added: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Returns the number of a function type.
    pub(crate) fn number(&mut self, params: &[ValType], results: &[ValType]) -> u32 {
        let signature = (params.to_vec(), results.to_vec());
        if let Some(number) = self.numbers.get(&signature) {
            return *number;
        }
        let number = u32::try_from(self.added.len())
            .map_or(u32::MAX, |added| self.base.saturating_add(added));
        self.added.push(signature.clone());
        self.numbers.insert(signature, number);
        number
    }

    /// Returns the type of a block.
    pub(crate) fn block(&mut self, params: &[ValType], results: &[ValType]) -> BlockType {
        match (params, results) {
            ([], []) => BlockType::Empty,
            ([], [one]) => BlockType::Result(*one),
            _ => BlockType::FunctionType(self.number(params, results)),
        }
    }

    /// Returns the types that were added, in the order of their numbers.
    pub(crate) fn added(&self) -> &[(Vec<ValType>, Vec<ValType>)] {
        &self.added
    }
}
