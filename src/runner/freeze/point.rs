//! Where a guest is frozen.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::{Caller, Extern, Val};
use wasmtime_wasi::p0::types as older;
use wasmtime_wasi::p1::types;
use wiggle::GuestType;

use super::checkpoint::parts;
use super::stop::StopHost;
use super::watch::ImportCall;
use crate::wasi::p0;
use crate::wasi::p1::{Ctx, Described, OpenDescriptor};

/// The call at which a guest is frozen. It has not been made then: each instance that
/// goes on from there makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Point {
    /// The first time that the guest reads its standard input or waits for it, also as
    /// `/dev/stdin`.
    Stdin,
    /// The first call that names this absolute path of the guest.
    Path(String),
    /// A call of a function of WASI, counted from 1.
    Call {
        /// The name of the function, such as `fd_read`.
        function: String,
        /// Which one.
        nth: u64,
    },
    /// The first call of any function of WASI after the host said so, from another thread as
    /// a rule. A guest that makes no call is not stopped; nor is one within a call.
    Signal(StopSignal),
}

/// Says when a guest is to be frozen: see [`Point::Signal`]. Clones are one signal.
#[derive(Clone, Debug, Default)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// Makes one that says nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the guest is to be frozen now. It stays said.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl PartialEq for StopSignal {
    /// Returns whether both are clones of one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for StopSignal {}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("stdin"),
            Self::Path(path) => write!(f, "path:{path}"),
            Self::Call { function, nth } => write!(f, "call:{function}:{nth}"),
            Self::Signal(_) => f.write_str("signal"),
        }
    }
}

impl FromStr for Point {
    type Err = String;

    /// Reads what [`Display`](fmt::Display) writes, but for a signal, which a host makes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected =
            || "expected stdin, path:/NAME or call:FUNCTION:N, such as call:fd_read:1".to_owned();
        if text == "stdin" {
            return Ok(Self::Stdin);
        }
        if let Some(path) = text.strip_prefix("path:") {
            return match path.starts_with('/') {
                true => Ok(Self::Path(as_compared(path)?)),
                false => Err(expected()),
            };
        }
        let call = text
            .strip_prefix("call:")
            .and_then(|call| call.rsplit_once(':'));
        let (function, nth) = call.ok_or_else(expected)?;
        let is_plain = nth.bytes().all(|digit| digit.is_ascii_digit()) && !nth.starts_with('0');
        let nth = nth.parse().ok().filter(|_| is_plain);
        match (function.is_empty(), nth) {
            (false, Some(_)) if !FUNCTIONS.contains(&function) => Err(unknown(function)),
            (false, Some(_)) if function == ENDS => Err(format!(
                "call:{function}: a guest cannot be frozen as it ends: name a call that it makes before"
            )),
            (false, Some(nth)) => Ok(Self::Call {
                function: function.to_owned(),
                nth,
            }),
            _ => Err(expected()),
        }
    }
}

/// Returns a path as it is compared: calls name it with any number of slashes and dots, and
/// none of them with a way back.
fn as_compared(path: &str) -> Result<String, String> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                return Err(format!(
                    "path:{path}: write the path without `..`, as the guest names it"
                ));
            }
            name => names.push(name),
        }
    }
    match names.is_empty() {
        true => Err(format!(
            "path:{path}: that is the root, which no call names: write a file or directory in it"
        )),
        false => Ok(format!("/{}", names.join("/"))),
    }
}

/// Says that no guest calls a function of this name.
fn unknown(function: &str) -> String {
    let known = FUNCTIONS.iter().copied().filter(|known| {
        let is_part = |part: &str| !part.is_empty() && known.split('_').any(|own| own == part);
        function.split('_').any(is_part)
    });
    let mut near: Vec<&str> = known.collect();
    // The likest first: by letters that stand at the same place, then by length.
    near.sort_by_key(|known| {
        let pairs = known.bytes().zip(function.bytes());
        let equal = pairs.filter(|(own, other)| own == other).count();
        (Reverse(equal), known.len().abs_diff(function.len()))
    });
    near.truncate(NEAR_NAMES);
    match near.is_empty() {
        true => format!(
            "call:{function}: WASI preview1 has no such function: write one such as fd_read or clock_time_get"
        ),
        false => format!(
            "call:{function}: WASI preview1 has no such function: it has {}",
            near.join(", ")
        ),
    }
}

/// How many names are told of those that have a word in common with a wrong one.
const NEAR_NAMES: usize = 6;

/// The functions of WASI preview1.
const FUNCTIONS: [&str; 46] = [
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// The function that does not come back.
pub(super) const ENDS: &str = "proc_exit";

/// Where a path stands among the arguments of a call: the descriptor, then the address of
/// the path, which its length follows.
fn path_arguments(function: &str) -> &'static [(usize, usize)] {
    match function {
        "path_open" | "path_filestat_get" | "path_filestat_set_times" => &[(0, 2)],
        "path_readlink"
        | "path_create_directory"
        | "path_unlink_file"
        | "path_remove_directory" => &[(0, 1)],
        "path_link" => &[(0, 2), (4, 5)],
        "path_rename" => &[(0, 1), (3, 4)],
        "path_symlink" => &[(2, 3)],
        _ => &[],
    }
}

/// Where the tag and the descriptor of a subscription of `poll_oneoff` are, in preview0 as well.
const TAG: usize = 8;
const FD: usize = 16;

/// The tag of a subscription that waits for a read.
const WAITS_TO_READ: u8 = 1;

impl Point {
    /// Returns whether a call, the `count`th of its function, is the point.
    pub(super) fn is_call(
        &self,
        caller: &mut Caller<'_, StopHost>,
        call: ImportCall<'_>,
        count: u64,
    ) -> bool {
        let (function, arguments) = (call.name, call.arguments);
        match self {
            Self::Call {
                function: name,
                nth,
            } => name == function && *nth == count,
            Self::Signal(signal) => signal.is_raised(),
            Self::Stdin => match function {
                "fd_read" | "fd_pread" => is_stdin(caller, number(arguments, 0)),
                "poll_oneoff" => waits_for_stdin(caller, call),
                _ => false,
            },
            Self::Path(path) => path_arguments(function)
                .iter()
                .any(|at| names(caller, path, arguments, *at)),
        }
    }
}

fn number(arguments: &[Val], at: usize) -> Option<u32> {
    arguments.get(at).and_then(Val::i32).map(i32::cast_unsigned)
}

fn is_stdin(caller: &mut Caller<'_, StopHost>, fd: Option<u32>) -> bool {
    let p1 = &caller.data().core.p1;
    fd.is_some_and(|fd| p1.is_stream(fd, 0) || p1.is_stdin_device(fd))
}

/// Copies a piece of the guest's memory, if there is such a piece.
fn memory(caller: &mut Caller<'_, StopHost>, start: u32, length: usize) -> Option<Vec<u8>> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return None;
    };
    let bytes = memory.data(&*caller).get(start as usize..)?;
    bytes.get(..length).map(<[u8]>::to_vec)
}

/// Returns how many bytes one subscription has for who imports from `module`.
fn subscription_bytes(module: &str) -> usize {
    let bytes = match module {
        p0::MODULE => older::Subscription::guest_size(),
        _ => types::Subscription::guest_size(),
    };
    bytes as usize
}

fn waits_for_stdin(caller: &mut Caller<'_, StopHost>, call: ImportCall<'_>) -> bool {
    let (start, count) = (number(call.arguments, 0), number(call.arguments, 2));
    let (Some(start), Some(count)) = (start, count) else {
        return false;
    };
    let bytes = subscription_bytes(call.module);
    let Some(length) = (count as usize).checked_mul(bytes) else {
        return false;
    };
    let Some(all) = memory(caller, start, length) else {
        return false;
    };
    all.chunks_exact(bytes).any(|one| {
        let fd = one.get(FD..).and_then(|rest| rest.first_chunk());
        let waits = one.get(TAG) == Some(&WAITS_TO_READ);
        waits && is_stdin(caller, fd.copied().map(u32::from_le_bytes))
    })
}

/// Returns whether a call draws random numbers, or opens what they are read from.
pub(super) fn asks_for_random(
    caller: &mut Caller<'_, StopHost>,
    function: &str,
    arguments: &[Val],
) -> bool {
    let mut opens = |path| names(caller, path, arguments, (0, 2));
    match function {
        "random_get" => true,
        "path_open" => opens("/dev/urandom") || opens("/dev/random"),
        _ => false,
    }
}

/// Returns how many bytes of random numbers a call gives if it goes well.
pub(super) fn drawn(function: &str, arguments: &[Val]) -> u64 {
    match function {
        "random_get" => number(arguments, 1).map_or(0, u64::from),
        _ => 0,
    }
}

/// Returns whether two arguments name a path below a descriptor that is `path`.
fn names(
    caller: &mut Caller<'_, StopHost>,
    path: &str,
    arguments: &[Val],
    (fd, start): (usize, usize),
) -> bool {
    let fd = number(arguments, fd);
    let start_and_length = number(arguments, start).zip(number(arguments, start + 1));
    let (Some(fd), Some((start, length))) = (fd, start_and_length) else {
        return false;
    };
    let Some(below) = memory(caller, start, length as usize) else {
        return false;
    };
    let p1 = &caller.data().core.p1;
    p1.is_path(fd, &below, path.as_bytes()) || is_path_of_host(p1, fd, &below, path)
}

/// Returns whether `below` a directory of the host's is `path`, by the names that the guest
/// has for both. O(what is open), where a directory of the host's is asked.
fn is_path_of_host(p1: &Ctx, fd: u32, below: &[u8], path: &str) -> bool {
    if p1.open_descriptors().any(|open| open.fd == fd) {
        return false;
    }
    // Those are placed elsewhere.
    let unplaced = |_: OpenDescriptor<'_>| Ok::<_, ()>((String::new(), Vec::new()));
    let table = p1.describe(unplaced, |_| ()).unwrap_or_default();
    let above = match table.get(fd as usize) {
        Some(Described::Preopen { name }) => name.as_bytes().to_vec(),
        Some(Described::Open { preopen, path, .. }) => [preopen.as_bytes(), b"/", path].concat(),
        Some(Described::Closed | Described::Stream(_)) | None => return false,
    };
    let whole = [above.as_slice(), b"/", below].concat();
    parts(&whole).eq(parts(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasi::p1::{self, Ctx};

    #[test]
    fn points_are_read_as_they_are_written() {
        for text in [
            "stdin",
            "path:/.stratafs/checkpoint",
            "call:clock_time_get:3",
        ] {
            assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "stdout",
            "path:",
            "path:x",
            "call:fd_read",
            "call:fd_read:0",
            "call:fd_read:+1",
            "call:fd_read:01",
            "call::1",
            "call:x:-1",
        ] {
            assert!(
                text.parse::<Point>().unwrap_err().contains("expected"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_no_guest_would_come_to_is_refused() {
        let refused = |text: &str| text.parse::<Point>().unwrap_err();
        let near = refused("call:fd_raed:1");
        assert!(
            near.contains("fd_read") && near.contains("no such"),
            "{near}"
        );
        assert!(refused("call:zzz:1").contains("such as fd_read"));
        assert!(refused("path:/a/../b").contains("without `..`"));
        assert!(refused("path://.").contains("the root"));
        let point: Point = "path://tmp/./ready/".parse().unwrap();
        assert_eq!(point, Point::Path("/tmp/ready".to_owned()));
        // The list is that of what a guest can be linked with.
        let mut linker = wasmtime::Linker::<Ctx>::new(&wasmtime::Engine::default());
        p1::add_to_linker_sync(&mut linker, |ctx| ctx).unwrap();
        let ctx = Ctx::new(wasmtime_wasi::WasiCtxBuilder::new().build_p1());
        let mut store = wasmtime::Store::new(&linker.engine().clone(), ctx);
        let names: std::collections::BTreeSet<String> = linker
            .iter(&mut store)
            .map(|(_, name, _)| name.to_owned())
            .collect();
        let known = FUNCTIONS.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(names, known);
    }
}
