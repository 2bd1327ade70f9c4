//! Reading the frames that a program wrote while it left its stack.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use wasm_encoder::ValType;

use super::additions::Additions;
use super::call_graph::CallGraph;
use super::core_module::CoreModule;
use super::error::Refusal;
use super::function::Function;
use super::origin::OriginalProgram;
use super::unwind::{Added, HEAD_BYTES, I31_FROM, Layout, NO_ROOM, bytes_of, leavable};
use super::value::Value;
use crate::limits::MAX_CONTINUED_BYTES;

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

/// Returns the frames, the outermost first. `origin` is what the program was made of, if its
/// frames are told as those of that one.
///
/// O(code and frames): each function is read once, however many frames it has. A stack that is
/// too deep to go on is refused by the heads of its frames alone.
pub(crate) fn read_frames(
    program: &CoreModule<'_>,
    (calls, added): (&CallGraph, Added),
    origin: Option<&OriginalProgram<'_>>,
    written: &Written<'_>,
) -> Result<Vec<Frame>, Refusal> {
    let mut known = KnownFunctions {
        program,
        calls,
        added,
        layouts: HashMap::new(),
        sites: HashMap::new(),
    };
    let heads = known.heads(written.bytes)?;
    let functions = heads.iter().filter_map(|head| match origin {
        Some(origin) => origin.function_of(head.function),
        None => Some(head.function),
    });
    check_depth(program, functions)?;
    known.find_sites(&heads)?;
    let frames = heads.iter().rev().map(|head| {
        let read = known.read_frame(head, written);
        read.map_err(|refusal| refusal.in_function(head.function, program.name(head.function)))
    });
    frames.collect()
}

/// Refuses a stack whose continuations would take more code than a program: `functions` are those
/// of its frames.
pub(crate) fn check_depth(
    program: &CoreModule<'_>,
    functions: impl Iterator<Item = u32>,
) -> Result<(), Refusal> {
    let (mut frames, mut bytes) = (0_u64, 0_u64);
    for function in functions {
        frames += 1;
        bytes += program.defined(function)?.body.range().len() as u64;
    }
    if bytes > MAX_CONTINUED_BYTES {
        return Err(Refusal::new(format!(
            "the stack is too deep: the functions of its {frames} frames have {bytes} bytes together, the limit is {MAX_CONTINUED_BYTES}"
        )));
    }
    Ok(())
}

/// Which call a frame stands at, and where its bytes begin.
struct FrameHead {
    function: u32,
    call: usize,
    start: usize,
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
    /// Finds the frames, the innermost first.
    fn heads(&mut self, bytes: &[u8]) -> Result<Vec<FrameHead>, Refusal> {
        let (mut heads, mut start) = (Vec::new(), 0);
        while let Some(rest) = bytes.get(start..).filter(|rest| !rest.is_empty()) {
            let function = number(rest, 0)?;
            let head = self.head(function, rest);
            let (call, length) =
                head.map_err(|refusal| refusal.in_function(function, self.program.name(function)))?;
            heads.push(FrameHead {
                function,
                call,
                start,
            });
            start += length;
        }
        Ok(heads)
    }

    /// Returns which call a frame stands at, and how many bytes it takes.
    fn head(&mut self, function: u32, bytes: &[u8]) -> Result<(usize, usize), Refusal> {
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
        let length = usize::try_from(layout.bytes()).map_err(|_| cut_off())?;
        Ok((call, length))
    }

    /// Finds out about the calls that frames stand at, those of one function in one walk.
    fn find_sites(&mut self, heads: &[FrameHead]) -> Result<(), Refusal> {
        let mut calls: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
        for head in heads {
            calls.entry(head.function).or_default().insert(head.call);
        }
        for (function, calls) in calls {
            let layout = self.layouts.get(&function).ok_or_else(cut_off)?;
            let found = sites_of(self.program, layout, (function, &calls));
            let found = found
                .map_err(|refusal| refusal.in_function(function, self.program.name(function)))?;
            let found = found.into_iter().zip(calls);
            self.sites
                .extend(found.map(|(site, call)| ((function, call), site)));
        }
        Ok(())
    }

    fn read_frame(&self, head: &FrameHead, written: &Written<'_>) -> Result<Frame, Refusal> {
        let (function, call) = (head.function, head.call);
        let layout = self.layouts.get(&function).ok_or_else(cut_off)?;
        let site = self.sites.get(&(function, call)).ok_or_else(cut_off)?;
        let bytes = written.bytes.get(head.start..).ok_or_else(cut_off)?;
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
        Ok(Frame {
            function,
            call: u32::try_from(call).map_err(|_| cut_off())?,
            locals,
            operands: operands.collect::<Result<_, _>>()?,
        })
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

/// Finds out about calls of a function, in their order.
fn sites_of(
    program: &CoreModule<'_>,
    layout: &Layout,
    (function, calls): (u32, &BTreeSet<usize>),
) -> Result<Vec<CallSite>, Refusal> {
    let mut function = Function::read(program, function)?;
    let (mut sites, mut at) = (Vec::new(), 0);
    for call in calls {
        while at < *call {
            function.step(at)?;
            at += 1;
        }
        let op = function.op(*call)?;
        let offset = op.start;
        let callee = function.callee(&op.operator)?;
        let params = callee.ok_or_else(cut_off)?.params;
        let kept = function.height().checked_sub(params).ok_or_else(cut_off)?;
        let operands = function.operands_within(0..kept)?.into_iter().enumerate();
        let places = operands.map(|(height, ty)| layout.place_of(height, ty).ok_or_else(cut_off));
        sites.push(CallSite {
            operands: places.collect::<Result<_, _>>()?,
            offset,
        });
    }
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::checkpoint::leave::added;
    use crate::steps;

    /// A function that does nothing for a while and then calls itself at many places, and a stack
    /// on which it stands at each of them.
    fn read(nops: usize, calls: u32) -> Result<Vec<Frame>, Refusal> {
        let mut code = "nop ".repeat(nops);
        for _ in 0..calls {
            write!(code, "call $run ").unwrap();
        }
        let text =
            format!(r#"(module (import "own" "call" (func $call)) (func $run call $call {code}))"#);
        let wasm = wat::parse_str(text).unwrap();
        let program = CoreModule::parse(&wasm).unwrap();
        let graph = CallGraph::find(&program).unwrap();
        let mut bytes = Vec::new();
        for site in 0..=calls {
            bytes.extend([1_u32, site].iter().flat_map(|number| number.to_le_bytes()));
        }
        let written = Written {
            bytes: &bytes,
            references: &[],
        };
        read_frames(&program, (&graph, added(&program)), None, &written)
    }

    #[test]
    fn a_stack_that_is_too_deep_is_refused_by_the_heads_of_its_frames() {
        let read = || {
            let refusal = read(2_000_000, 5_000).unwrap_err().to_string();
            assert!(refusal.starts_with("the stack is too deep"), "{refusal}");
            assert!(refusal.contains("its 5001 frames"), "{refusal}");
        };
        // The function is read for the layout of its frames alone.
        assert!(steps::counted(read) < 3_000_000);
    }

    #[test]
    fn a_function_is_read_once_for_all_of_its_frames() {
        steps::assert_linear(1_000, |calls| {
            steps::counted(|| {
                let frames = read(10_000, u32::try_from(calls).unwrap()).unwrap();
                assert_eq!(frames.len(), calls + 1);
                // The outermost first, each at a call of its own.
                let last = frames.iter().map(|frame| frame.call as usize);
                assert!(last.eq([0].into_iter().chain(10_001..=10_000 + calls).rev()));
            })
        });
    }
}
