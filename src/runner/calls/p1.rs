//! preview0 and preview1: a function in front of each that is about files.
//!
//! It reads the arguments off the guest's memory, calls the one behind it, and reads
//! what that gave. A guest that points outside of its memory is told as such, and
//! answered by the function behind as ever.

use std::sync::Arc;

use wasmtime::{Caller, Extern, Func, FuncType, Linker, Val, ValType};
use wiggle::{GuestMemory, GuestPtr};

use super::rows::{ArgKind, DESCRIPTOR_FLAGS, FILE_TYPES, FunctionRow, ROWS, ResultKind, whence};
use super::tracer::{Pending, Tracer};
use super::{CallResult, CallValue, Excerpt, WasiVersion, errnos};
use crate::limits::{MAX_TRACED_BUFFERS, MAX_TRACED_CONTENT_BYTES, MAX_TRACED_PATH_BYTES};
use crate::runner::host::CoreHost;

const MODULES: [(&str, WasiVersion); 2] = [
    ("wasi_snapshot_preview1", WasiVersion::Preview1),
    ("wasi_unstable", WasiVersion::Preview0),
];

/// What a store keeps of it: nothing, if nobody is told.
#[derive(Default)]
pub(in crate::runner) struct CoreCalls {
    tracer: Tracer,
    /// The functions behind, once they were called, by module and row.
    funcs: [Vec<Option<Func>>; 2],
}

impl CoreCalls {
    /// Takes the names of the directories that are shown, in order.
    pub(in crate::runner) fn new<'a>(
        tracer: Tracer,
        shown: impl Iterator<Item = &'a String>,
    ) -> Self {
        if !tracer.is_active() {
            return Self::default();
        }
        let streams = ["stdin", "stdout", "stderr"].into_iter();
        for (number, name) in (0..).zip(streams.chain(shown.map(String::as_str))) {
            tracer.opened(number, name);
        }
        let none = vec![None; ROWS.len()];
        Self {
            tracer,
            funcs: [none.clone(), none],
        }
    }
}

/// Puts functions that tell in front of those of a linker for async stores.
pub(in crate::runner) fn interpose(linker: Linker<CoreHost>) -> wasmtime::Result<Linker<CoreHost>> {
    let behind = Arc::new(linker.clone());
    let mut traced = linker;
    traced.allow_shadowing(true);
    for (module_at, (module, _)) in MODULES.into_iter().enumerate() {
        for (row_at, row) in ROWS.iter().enumerate() {
            let behind = Arc::clone(&behind);
            let params = row.args.iter().flat_map(|(_, kind)| kind.types()).cloned();
            let ty = FuncType::new(traced.engine(), params, [ValType::I32]);
            traced.func_new_async(module, row.name, ty, move |caller, params, results| {
                let behind = Arc::clone(&behind);
                let at = (module_at, row_at);
                Box::new(async move { call(caller, (params, results), at, &behind).await })
            })?;
        }
    }
    traced.allow_shadowing(false);
    Ok(traced)
}

async fn call(
    mut caller: Caller<'_, CoreHost>,
    (params, results): (&[Val], &mut [Val]),
    (module_at, row_at): (usize, usize),
    behind: &Linker<CoreHost>,
) -> wasmtime::Result<()> {
    let (Some((module, version)), Some(row)) = (MODULES.get(module_at), ROWS.get(row_at)) else {
        wasmtime::bail!("a call of a function that was not linked");
    };
    let memory = caller.get_export("memory");
    if let Some(memory) = &memory {
        caller.data_mut().p1.called_instead(memory.clone());
    }
    let calls = &caller.data().calls;
    let tracer = calls.tracer.clone();
    let known = calls
        .funcs
        .get(module_at)
        .and_then(|funcs| funcs.get(row_at));
    let func = match known.copied().flatten() {
        Some(func) => func,
        None => {
            let found = behind.get(&mut caller, module, row.name)?;
            let func = found
                .into_func()
                .ok_or_else(|| wasmtime::format_err!("{module}::{}: no function", row.name))?;
            let funcs = caller.data_mut().calls.funcs.get_mut(module_at);
            if let Some(place) = funcs.and_then(|funcs| funcs.get_mut(row_at)) {
                *place = Some(func);
            }
            func
        }
    };
    let seen = TracedCall {
        row,
        params,
        version: *version,
    };
    let pending = tracer.begin(*version, row.name);
    let mut pending = MemoryView::with(memory.as_ref(), &mut caller, |view| {
        seen.before(&view, pending)
    });
    let done = func.call_async(&mut caller, params, results).await;
    let result = match &done {
        Err(error) => CallResult::Trapped(error.root_cause().to_string()),
        Ok(()) => match results.first() {
            Some(Val::I32(0)) => MemoryView::with(memory.as_ref(), &mut caller, |view| {
                seen.after(&view, &mut pending)
            }),
            Some(Val::I32(errno)) => errnos::of_number(*errno),
            _ => CallResult::Done(CallValue::Nothing),
        },
    };
    pending.end(result);
    done
}

/// The guest's memory, to be looked at.
struct MemoryView<'a>(Option<GuestMemory<'a>>);

impl MemoryView<'_> {
    fn with<R>(
        memory: Option<&Extern>,
        caller: &mut Caller<'_, CoreHost>,
        look: impl FnOnce(MemoryView<'_>) -> R,
    ) -> R {
        look(MemoryView(match memory {
            Some(Extern::Memory(memory)) => Some(GuestMemory::Unshared(memory.data_mut(caller))),
            Some(Extern::SharedMemory(memory)) => Some(GuestMemory::Shared(memory.data())),
            _ => None,
        }))
    }

    /// At most `max` of `len` bytes, or `None` if they lie outside.
    fn bytes(&self, start: u32, len: u32, max: usize) -> Option<Vec<u8>> {
        let len = len.min(u32::try_from(max).unwrap_or(u32::MAX));
        let at = GuestPtr::<[u8]>::new((start, len));
        self.0.as_ref()?.to_vec(at).ok()
    }

    fn array<const N: usize>(&self, start: u32) -> Option<[u8; N]> {
        self.bytes(start, u32::try_from(N).ok()?, N)?
            .try_into()
            .ok()
    }

    fn number(&self, start: u32) -> Option<u32> {
        self.array(start).map(u32::from_le_bytes)
    }

    fn long(&self, start: u32) -> Option<u64> {
        self.array(start).map(u64::from_le_bytes)
    }

    fn cut(&self, start: u32, len: u32, max: usize) -> Option<Excerpt> {
        Some(Excerpt {
            bytes: self.bytes(start, len, max)?,
            len: len.into(),
        })
    }

    /// The beginning of what lies in a list of buffers, of which `len` bytes count.
    fn gathered(&self, start: u32, count: u32, len: u64) -> Option<Excerpt> {
        let mut bytes = Vec::new();
        if count > 0 {
            self.buffers(start, count).next()?;
        }
        for (at, room) in self.buffers(start, count) {
            let missing = MAX_TRACED_CONTENT_BYTES.saturating_sub(bytes.len()) as u64;
            let left = len.saturating_sub(bytes.len() as u64).min(missing);
            let left = u32::try_from(left).unwrap_or(u32::MAX).min(room);
            if left == 0 && room > 0 {
                break;
            }
            bytes.extend(self.bytes(at, left, MAX_TRACED_CONTENT_BYTES)?);
        }
        Some(Excerpt { bytes, len })
    }

    /// The first buffers of a list, by address and length.
    fn buffers(&self, start: u32, count: u32) -> impl Iterator<Item = (u32, u32)> {
        (0..count.min(MAX_TRACED_BUFFERS)).map_while(move |n| {
            let at = start.checked_add(n.checked_mul(8)?)?;
            Some((self.number(at)?, self.number(at.checked_add(4)?)?))
        })
    }

    fn room(&self, start: u32, count: u32) -> u64 {
        self.buffers(start, count)
            .map(|(_, len)| u64::from(len))
            .sum()
    }

    /// The names in a listing of preview1: 24 bytes and the name, for each.
    fn names(&self, start: u32, len: u32) -> Option<Vec<Excerpt>> {
        let bytes = self.bytes(start, len, MAX_TRACED_PATH_BYTES)?;
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<24>() {
            let name_len = head.get(16..20)?.try_into().ok().map(u32::from_le_bytes)?;
            let Some((name, next)) = tail.split_at_checked(name_len as usize) else {
                break;
            };
            names.push(Excerpt::path(name));
            rest = next;
        }
        Some(names)
    }
}

/// A call of a function, with what it is passed.
struct TracedCall<'a> {
    row: &'static FunctionRow,
    params: &'a [Val],
    version: WasiVersion,
}

impl TracedCall<'_> {
    /// The arguments, each with its first number and its second.
    fn args(&self) -> impl Iterator<Item = (&'static str, ArgKind, u64, u32)> {
        let mut at = 0;
        self.row.args.iter().map(move |(name, kind)| {
            let of = |place: usize| match self.params.get(place) {
                Some(Val::I32(number)) => u64::from(number.cast_unsigned()),
                Some(Val::I64(number)) => number.cast_unsigned(),
                _ => 0,
            };
            let (first, second) = (of(at), of(at.saturating_add(1)));
            at = at.saturating_add(kind.types().len());
            (*name, *kind, first, low(second))
        })
    }

    fn before(&self, view: &MemoryView<'_>, mut pending: Pending) -> Pending {
        for (name, kind, first, second) in self.args() {
            let start = low(first);
            let value = match kind {
                ArgKind::Descriptor => pending.tracer().descriptor(start),
                ArgKind::Path => {
                    let path = view.cut(start, second, MAX_TRACED_PATH_BYTES);
                    path.map_or(CallValue::Nothing, CallValue::Path)
                }
                ArgKind::Long => CallValue::Number(first),
                ArgKind::Distance => CallValue::Signed(first.cast_signed()),
                ArgKind::Flags(names) => CallValue::Word(flags(first, names)),
                ArgKind::Rights => CallValue::Word(rights(first)),
                ArgKind::Choice(names) => CallValue::Word(choice(first, names)),
                ArgKind::Whence => CallValue::Word(choice(first, whence(self.version))),
                ArgKind::Written => {
                    let len = view.room(start, second);
                    let content = view.gathered(start, second, len);
                    content.map_or(CallValue::Nothing, CallValue::Bytes)
                }
                ArgKind::Read | ArgKind::Text | ArgKind::Listing => CallValue::Nothing,
                ArgKind::Out => continue,
            };
            pending = pending.arg(name, value);
            match kind {
                ArgKind::Written | ArgKind::Read => {
                    pending = pending.number("len", view.room(start, second));
                }
                ArgKind::Text | ArgKind::Listing => pending = pending.number("len", second.into()),
                _ => {}
            }
        }
        pending
    }

    /// Fills in what the call gave, once it has succeeded.
    fn after(&self, view: &MemoryView<'_>, pending: &mut Pending) -> CallResult {
        let args: Vec<_> = self.args().collect();
        let out = args.last().map_or(0, |arg| low(arg.2));
        let given = self.given(view, out, pending);
        let len = match given {
            CallValue::Number(len) => Some(low(len)),
            _ => None,
        };
        for (name, kind, first, second) in args {
            let start = low(first);
            let filled = len.unwrap_or(second).min(second);
            let value = match kind {
                ArgKind::Read => view
                    .gathered(start, second, len.unwrap_or(0).into())
                    .map(CallValue::Bytes),
                ArgKind::Text => view
                    .cut(start, filled, MAX_TRACED_PATH_BYTES)
                    .map(CallValue::Path),
                ArgKind::Listing => view.names(start, filled).map(CallValue::Names),
                _ => continue,
            };
            pending.fill(name, value.unwrap_or(CallValue::Nothing));
        }
        self.note(view, out, pending.tracer());
        CallResult::Done(given)
    }

    fn given(&self, view: &MemoryView<'_>, out: u32, pending: &mut Pending) -> CallValue {
        let traced = match self.row.gives {
            ResultKind::Nothing => None,
            ResultKind::Descriptor => view.number(out).map(|fd| CallValue::Descriptor(fd, None)),
            ResultKind::Moved => view.number(out).map(|len| {
                pending.moved(len.into());
                CallValue::Number(len.into())
            }),
            ResultKind::Size => view.number(out).map(|len| CallValue::Number(len.into())),
            ResultKind::Offset => view.long(out).map(CallValue::Number),
            ResultKind::Stat => self.stat(view, out),
            ResultKind::Fdstat => fdstat(view, out),
            ResultKind::Prestat => view
                .number(out.saturating_add(4))
                .map(|len| CallValue::Record(vec![("name_len", CallValue::Number(len.into()))])),
        };
        traced.unwrap_or(CallValue::Nothing)
    }

    /// A `filestat`, whose link count is shorter in preview0.
    fn stat(&self, view: &MemoryView<'_>, out: u32) -> Option<CallValue> {
        let at = |offset: u32| out.saturating_add(offset);
        let [kind] = view.array(at(16))?;
        let (links, size, mtime) = match self.version {
            WasiVersion::Preview0 => (view.number(at(20))?.into(), at(24), at(40)),
            _ => (view.long(at(24))?, at(32), at(48)),
        };
        Some(CallValue::Record(vec![
            ("type", CallValue::Word(choice(kind.into(), FILE_TYPES))),
            ("ino", CallValue::Number(view.long(at(8))?)),
            ("nlink", CallValue::Number(links)),
            ("size", CallValue::Number(view.long(size)?)),
            ("mtim", CallValue::Number(view.long(mtime)?)),
        ]))
    }

    /// Keeps in mind what descriptors are.
    fn note(&self, view: &MemoryView<'_>, out: u32, tracer: &Tracer) {
        let args: Vec<_> = self.args().collect();
        let first = args.first().map_or(0, |arg| low(arg.2));
        match self.row.name {
            "path_open" => {
                let path = args.iter().find(|arg| matches!(arg.1, ArgKind::Path));
                let path = path.and_then(|(_, _, start, len)| {
                    view.bytes(low(*start), *len, MAX_TRACED_PATH_BYTES)
                });
                if let (Some(path), Some(fd)) = (path, view.number(out)) {
                    tracer.opened_below(first, &path, fd);
                }
            }
            "fd_close" => tracer.closed(first),
            "fd_renumber" => {
                let to = args.get(1).map_or(0, |arg| low(arg.2));
                tracer.renumbered(first, to);
            }
            _ => {}
        }
    }
}

/// The 32 bits of an argument that has no more.
fn low(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn fdstat(view: &MemoryView<'_>, out: u32) -> Option<CallValue> {
    let [kind] = view.array(out)?;
    let bits = view.array(out.saturating_add(2)).map(u16::from_le_bytes)?;
    let right = view.long(out.saturating_add(8))?;
    Some(CallValue::Record(vec![
        ("type", CallValue::Word(choice(kind.into(), FILE_TYPES))),
        (
            "flags",
            CallValue::Word(flags(bits.into(), DESCRIPTOR_FLAGS)),
        ),
        ("rights", CallValue::Word(rights(right))),
    ]))
}

fn choice(number: u64, names: &[&str]) -> String {
    let name = usize::try_from(number).ok().and_then(|at| names.get(at));
    name.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

/// Flags by name, the lowest first, and what has none in hexadecimal.
fn flags(bits: u64, names: &[&str]) -> String {
    let mut rest = bits;
    let mut words = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let bit = 1 << at;
        if rest & bit != 0 {
            words.push((*name).to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 || words.is_empty() {
        words.push(match rest {
            0 => "0".to_owned(),
            rest => format!("{rest:#x}"),
        });
    }
    words.join("|")
}

/// Of rights the two by name that decide anything.
fn rights(bits: u64) -> String {
    const READ: u64 = 1 << 1;
    const WRITE: u64 = 1 << 6;
    let mut words = Vec::new();
    for (bit, name) in [(READ, "FD_READ"), (WRITE, "FD_WRITE")] {
        if bits & bit != 0 {
            words.push(name.to_owned());
        }
    }
    let rest = bits & !(READ | WRITE);
    if rest != 0 || words.is_empty() {
        words.push(match rest {
            0 => "0".to_owned(),
            rest => format!("{rest:#x}"),
        });
    }
    words.join("|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_buffers_are_looked_at_in_part() {
        let mut bytes = vec![0; 8 * MAX_TRACED_BUFFERS as usize * 2];
        for room in bytes.iter_mut().skip(4).step_by(8) {
            *room = 1;
        }
        let view = MemoryView(Some(GuestMemory::Unshared(&mut bytes)));
        assert_eq!(
            view.room(0, MAX_TRACED_BUFFERS),
            u64::from(MAX_TRACED_BUFFERS)
        );
        assert_eq!(view.room(0, u32::MAX), u64::from(MAX_TRACED_BUFFERS));
        let some = view.gathered(0, MAX_TRACED_BUFFERS, 1000).unwrap();
        assert_eq!(
            (some.bytes.len(), some.len),
            (MAX_TRACED_CONTENT_BYTES, 1000)
        );
        // Nothing outside of the memory is told.
        assert_eq!(view.buffers(u32::MAX - 3, 5).count(), 0);
        assert!(view.bytes(u32::MAX - 3, 8, 8).is_none());
        assert!(MemoryView(None).bytes(0, 1, 1).is_none());
    }

    #[test]
    fn flags_and_rights_are_told_by_name() {
        assert_eq!(flags(0, &["A"]), "0");
        assert_eq!(flags(0b101, &["A", "B"]), "A|0x4");
        assert_eq!(rights(0), "0");
        assert_eq!(rights(0b1_0000_0111), "FD_READ|0x105");
        assert_eq!(rights(1 << 6), "FD_WRITE");
        assert_eq!(choice(1, &["A", "B"]), "B");
        assert_eq!(choice(u64::MAX, &["A"]), u64::MAX.to_string());
    }
}
