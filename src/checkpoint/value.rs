//! The values that stand in locals, operands, globals and tables.

use wasm_encoder::{ConstExpr, Encode, HeapType, Instruction, RefType, ValType};

use super::error::Refusal;

/// One value of a frozen program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    I32(i32),
    I64(i64),
    /// The bits of a 32-bit float: a NaN keeps its payload.
    F32(u32),
    F64(u64),
    V128(u128),
    /// A reference to no object, of whatever type.
    Null,
    /// A reference to the function of this number.
    Function(u32),
    /// A reference that is a number itself, of 31 bits.
    I31(u32),
}

impl Value {
    /// Returns what a local of a type holds before it is set; of a type that has no such
    /// value, one that it has, if one can be made of nothing.
    pub(crate) fn zero_of(ty: ValType) -> Self {
        match ty {
            ValType::I32 => Self::I32(0),
            ValType::I64 => Self::I64(0),
            ValType::F32 => Self::F32(0),
            ValType::F64 => Self::F64(0),
            ValType::V128 => Self::V128(0),
            ValType::Ref(ty) if !ty.nullable && holds_i31(ty) != Holds::Never => Self::I31(0),
            ValType::Ref(_) => Self::Null,
        }
    }

    /// Returns whether a local of a type holds the value without being set.
    pub(crate) fn is_default_of(self, ty: ValType) -> bool {
        let has_default = !matches!(ty, ValType::Ref(reference) if !reference.nullable);
        has_default && self == Self::zero_of(ty)
    }

    /// Writes the instruction that pushes the value as one of type `ty`.
    ///
    /// Refuses a null where the type has none.
    pub(crate) fn push(self, ty: ValType, out: &mut Vec<u8>) -> Result<(), Refusal> {
        match (self, ty) {
            (Self::I32(value), ValType::I32) => Instruction::I32Const(value).encode(out),
            (Self::I64(value), ValType::I64) => Instruction::I64Const(value).encode(out),
            (Self::F32(bits), ValType::F32) => {
                Instruction::F32Const(f32::from_bits(bits).into()).encode(out);
            }
            (Self::F64(bits), ValType::F64) => {
                Instruction::F64Const(f64::from_bits(bits).into()).encode(out);
            }
            (Self::V128(bits), ValType::V128) => {
                Instruction::V128Const(bits.cast_signed()).encode(out);
            }
            (Self::Null, ValType::Ref(ty)) if ty.nullable => {
                Instruction::RefNull(ty.heap_type).encode(out);
            }
            (Self::Function(index), ValType::Ref(_)) => Instruction::RefFunc(index).encode(out),
            (Self::I31(value), ValType::Ref(ty)) if holds_i31(ty) != Holds::Never => {
                Instruction::I32Const(value.cast_signed()).encode(out);
                Instruction::RefI31.encode(out);
            }
            (value, ty) => {
                return Err(Refusal::new(format!(
                    "{value:?} stands where {ty:?} belongs"
                )));
            }
        }
        Ok(())
    }

    /// Returns the expression that sets a global of type `ty` to the value.
    pub(crate) fn to_const(self, ty: ValType) -> Result<ConstExpr, Refusal> {
        let mut code = Vec::new();
        self.push(ty, &mut code)?;
        Ok(ConstExpr::raw(code))
    }
}

/// Whether references of a type are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// All of them but null.
    Always,
    /// Some are, and others are objects.
    Perhaps,
    Never,
}

/// Returns whether references of a type are numbers of 31 bits.
pub(crate) fn holds_i31(ty: RefType) -> Holds {
    use wasm_encoder::AbstractHeapType as Abstract;
    match ty.heap_type {
        HeapType::Abstract {
            ty: Abstract::I31, ..
        } => Holds::Always,
        HeapType::Abstract {
            ty: Abstract::Any | Abstract::Eq,
            ..
        } => Holds::Perhaps,
        HeapType::Abstract { .. } | HeapType::Concrete(_) | HeapType::Exact(_) => Holds::Never,
    }
}

/// Returns whether a type is one of references to functions.
pub(crate) fn is_function(ty: RefType, concrete_function: impl Fn(u32) -> bool) -> bool {
    use wasm_encoder::AbstractHeapType as Abstract;
    match ty.heap_type {
        HeapType::Abstract { ty, .. } => matches!(ty, Abstract::Func | Abstract::NoFunc),
        HeapType::Concrete(index) | HeapType::Exact(index) => concrete_function(index),
    }
}
