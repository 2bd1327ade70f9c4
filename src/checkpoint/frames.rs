//! Reading the frames that a program wrote while it left its stack.

use std::collections::HashMap;

use wasm_encoder::ValType;

use super::call_graph::CallGraph;
use super::core_module::CoreModule;
use super::error::Refusal;
use super::function::Function;
use super::signatures::Signatures;
use super::unwind::{Added, HEAD_BYTES, I31_FROM, Layout, leavable};
use super::value::Value;

/// One function on the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) function: u32,
    /// The position of the call that it stands at, counted in operators.
    pub(crate) call: u32,
    pub(crate) locals: Vec<Value>,
    /// The operands below the arguments of the call, the lowest first.
    pub(crate) operands: Vec<Value>,
}

/// What frames were written to.
pub(crate) struct Written<'b> {
    /// The memory up to its top, the innermost frame first.
    pub(crate) bytes: &'b [u8],
    /// The functions in the table of references.
    pub(crate) references: &'b [Option<u32>],
}

/// Returns the frames, the outermost first.
pub(crate) fn read_frames(
    program: &CoreModule<'_>,
    calls: &CallGraph,
    added: Added,
    written: &Written<'_>,
) -> Result<Vec<Frame>, Refusal> {
    let mut known = KnownFunctions {
        program,
        calls,
        added,
        layouts: HashMap::new(),
        sites: HashMap::new(),
    };
    let mut frames = Vec::new();
    let mut rest = written.bytes;
    while !rest.is_empty() {
        let function = number(rest, 0)?;
        let read = known.read_frame(function, written, rest);
        let (frame, bytes) =
            read.map_err(|refusal| refusal.in_function(function, program.name(function)))?;
        rest = rest.get(bytes..).unwrap_or_default();
        frames.push(frame);
    }
    frames.reverse();
    Ok(frames)
}

fn cut_off() -> Refusal {
    Refusal::new("the frames that the program wrote are cut off")
}

/// What frames of a function look like, found out once for each function and each call.
struct KnownFunctions<'k, 'a> {
    program: &'k CoreModule<'a>,
    calls: &'k CallGraph,
    added: Added,
    layouts: HashMap<u32, Layout>,
    sites: HashMap<(u32, usize), CallSite>,
}

/// A call: the operands that lie below its arguments, and its offset in the binary.
#[derive(Clone)]
struct CallSite {
    operands: Vec<ValType>,
    offset: usize,
}

impl KnownFunctions<'_, '_> {
    fn read_frame(
        &mut self,
        function: u32,
        written: &Written<'_>,
        bytes: &[u8],
    ) -> Result<(Frame, usize), Refusal> {
        if !self.layouts.contains_key(&function) {
            let mut signatures = Signatures::new(self.program.type_count());
            let (program, calls, added) = (self.program, self.calls, self.added);
            let layout = leavable(program, function, calls, &mut signatures, added)?;
            let (_, layout) = layout.ok_or_else(cut_off)?;
            self.layouts.insert(function, layout);
        }
        let layout = self.layouts.get(&function).ok_or_else(cut_off)?;
        let site = number(bytes, 4)? as usize;
        let call = *layout.sites.get(site).ok_or_else(cut_off)?;
        let site = match self.sites.get(&(function, call)) {
            Some(site) => site.clone(),
            None => {
                let site = site_of(self.program, function, call)?;
                self.sites.insert((function, call), site.clone());
                site
            }
        };
        let values = read_values(layout, written, bytes)?;
        let (locals, saved) = values
            .split_at_checked(layout.locals.len())
            .ok_or_else(cut_off)?;
        let locals = locals
            .iter()
            .map(|value| value.ok_or_else(|| opaque("a local").at(site.offset)))
            .collect::<Result<_, _>>()?;
        let frame = Frame {
            function,
            call: u32::try_from(call).map_err(|_| cut_off())?,
            locals,
            operands: operands_at(&site, layout, saved)?,
        };
        let bytes = usize::try_from(layout.bytes()).map_err(|_| cut_off())?;
        Ok((frame, bytes))
    }
}

fn opaque(what: &str) -> Refusal {
    Refusal::new(format!(
        "{what} holds a reference to an object, which cannot be made again"
    ))
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Refusal> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Refusal> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(cut_off)
}

/// Reads all values of a frame; `None` for a reference that cannot be made again.
fn read_values(
    layout: &Layout,
    written: &Written<'_>,
    bytes: &[u8],
) -> Result<Vec<Option<Value>>, Refusal> {
    let mut at = usize::try_from(HEAD_BYTES).map_err(|_| cut_off())?;
    let mut values = Vec::new();
    for ty in layout.values() {
        values.push(match ty {
            ValType::I32 => Some(Value::I32(i32::from_le_bytes(array(bytes, at)?))),
            ValType::I64 => Some(Value::I64(i64::from_le_bytes(array(bytes, at)?))),
            ValType::F32 => Some(Value::F32(u32::from_le_bytes(array(bytes, at)?))),
            ValType::F64 => Some(Value::F64(u64::from_le_bytes(array(bytes, at)?))),
            ValType::V128 => Some(Value::V128(u128::from_le_bytes(array(bytes, at)?))),
            ValType::Ref(_) => match i64::from_le_bytes(array(bytes, at)?) {
                0 => Some(Value::Null),
                number if number <= I31_FROM => {
                    u32::try_from(I31_FROM - number).ok().map(Value::I31)
                }
                place => {
                    let place = usize::try_from(place - 1).ok();
                    let function = place.and_then(|place| written.references.get(place));
                    function.copied().flatten().map(Value::Function)
                }
            },
        });
        at += if ty == ValType::V128 { 16 } else { 8 };
    }
    Ok(values)
}

fn site_of(program: &CoreModule<'_>, function: u32, call: usize) -> Result<CallSite, Refusal> {
    let mut function = Function::read(program, function)?;
    for at in 0..call {
        function.step(at)?;
    }
    let op = function.op(call)?;
    let offset = op.start;
    let callee = function.callee(&op.operator)?;
    let params = callee.ok_or_else(cut_off)?.params;
    let mut operands = function.operands(0)?;
    let kept = operands.len().checked_sub(params).ok_or_else(cut_off)?;
    operands.truncate(kept);
    Ok(CallSite { operands, offset })
}

/// Picks the operands of a call out of all that the frame saved.
fn operands_at(
    site: &CallSite,
    layout: &Layout,
    saved: &[Option<Value>],
) -> Result<Vec<Value>, Refusal> {
    let pick = |(height, ty): (usize, &ValType)| {
        let ty = super::unwind::nullable(*ty);
        let at = layout.operands.iter().position(|one| *one == (height, ty));
        let value = at.and_then(|at| saved.get(at)).ok_or_else(cut_off)?;
        value.ok_or_else(|| opaque("an operand").at(site.offset))
    };
    site.operands.iter().enumerate().map(pick).collect()
}
