//! Reading the frames that a program wrote while it left its stack.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use wasm_encoder::ValType;

use super::additions::Additions;
use super::call_graph::CallGraph;
use super::core_module::CoreModule;
use super::error::Refusal;
use super::function::Function;
use super::unwind::{Added, HEAD_BYTES, I31_FROM, Layout, NO_ROOM, bytes_of, leavable};
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

/// A call: where a frame has the operands that lie below its arguments, the lowest first, and
/// its offset in the binary.
struct CallSite {
    operands: Vec<usize>,
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
            let (program, calls, added) = (self.program, self.calls, self.added);
            let mut additions = Additions::of_build(program);
            let layout = leavable(program, function, calls, &mut additions, added)?;
            let (_, layout) = layout.ok_or_else(cut_off)?;
            self.layouts.insert(function, layout);
        }
        let layout = self.layouts.get(&function).ok_or_else(cut_off)?;
        let site = number(bytes, 4)? as usize;
        let call = *layout.sites.get(site).ok_or_else(cut_off)?;
        let site = match self.sites.entry((function, call)) {
            Entry::Occupied(known) => &*known.into_mut(),
            Entry::Vacant(new) => new.insert(site_of(self.program, layout, (function, call))?),
        };
        let values = read_values(layout, written, bytes)?;
        let (locals, saved) = values
            .split_at_checked(layout.locals.len())
            .ok_or_else(cut_off)?;
        let locals = locals
            .iter()
            .map(|value| value.map_err(|lost| lost.held_by("a local").at(site.offset)))
            .collect::<Result<_, _>>()?;
        let operands = site.operands.iter().map(|at| {
            let value = saved.get(*at).ok_or_else(cut_off)?;
            value.map_err(|lost| lost.held_by("an operand").at(site.offset))
        });
        let frame = Frame {
            function,
            call: u32::try_from(call).map_err(|_| cut_off())?,
            locals,
            operands: operands.collect::<Result<_, _>>()?,
        };
        let bytes = usize::try_from(layout.bytes()).map_err(|_| cut_off())?;
        Ok((frame, bytes))
    }
}

/// A reference that cannot be made again.
#[derive(Clone, Copy)]
enum LostReference {
    Object,
    /// One to a function, when the table of those had no room any more.
    PastTheTable,
}

impl LostReference {
    fn held_by(self, what: &str) -> Refusal {
        Refusal::new(match self {
            Self::Object => {
                format!("{what} holds a reference to an object, which cannot be made again")
            }
            Self::PastTheTable => format!(
                "{what} holds a reference to a function, and there are more of them on the stack than a table of the guest's may have elements"
            ),
        })
    }
}

fn number(bytes: &[u8], at: usize) -> Result<u32, Refusal> {
    Ok(u32::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Refusal> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().ok_or_else(cut_off)
}

/// Reads all values of a frame.
fn read_values(
    layout: &Layout,
    written: &Written<'_>,
    bytes: &[u8],
) -> Result<Vec<Result<Value, LostReference>>, Refusal> {
    let mut at = usize::try_from(HEAD_BYTES).map_err(|_| cut_off())?;
    let mut values = Vec::new();
    for ty in layout.values() {
        values.push(match ty {
            ValType::I32 => Ok(Value::I32(i32::from_le_bytes(array(bytes, at)?))),
            ValType::I64 => Ok(Value::I64(i64::from_le_bytes(array(bytes, at)?))),
            ValType::F32 => Ok(Value::F32(u32::from_le_bytes(array(bytes, at)?))),
            ValType::F64 => Ok(Value::F64(u64::from_le_bytes(array(bytes, at)?))),
            ValType::V128 => Ok(Value::V128(u128::from_le_bytes(array(bytes, at)?))),
            ValType::Ref(_) => {
                let number = i64::from_le_bytes(array(bytes, at)?);
                read_reference(number, written.references)
            }
        });
        at += usize::try_from(bytes_of(ty)).map_err(|_| cut_off())?;
    }
    Ok(values)
}

/// Reads what stands in a frame for a reference.
fn read_reference(number: i64, functions: &[Option<u32>]) -> Result<Value, LostReference> {
    let found = match number {
        0 => Some(Value::Null),
        NO_ROOM => return Err(LostReference::PastTheTable),
        number if number <= I31_FROM => u32::try_from(I31_FROM - number).ok().map(Value::I31),
        place => {
            let place = usize::try_from(place - 1).ok();
            let function = place.and_then(|place| functions.get(place));
            function.copied().flatten().map(Value::Function)
        }
    };
    found.ok_or(LostReference::Object)
}

fn site_of(
    program: &CoreModule<'_>,
    layout: &Layout,
    (function, call): (u32, usize),
) -> Result<CallSite, Refusal> {
    let mut function = Function::read(program, function)?;
    for at in 0..call {
        function.step(at)?;
    }
    let op = function.op(call)?;
    let offset = op.start;
    let callee = function.callee(&op.operator)?;
    let params = callee.ok_or_else(cut_off)?.params;
    let kept = function.height().checked_sub(params).ok_or_else(cut_off)?;
    let operands = function.operands_within(0..kept)?.into_iter().enumerate();
    let places = operands.map(|(height, ty)| layout.place_of(height, ty).ok_or_else(cut_off));
    Ok(CallSite {
        operands: places.collect::<Result<_, _>>()?,
        offset,
    })
}
