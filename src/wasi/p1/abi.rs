//! Error codes and outcomes, as preview1 counts them.

use std::fmt;

use wasmtime_wasi::p1::types;
use wiggle::GuestError;

use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::vfs::NotDone;

/// Why a call did not succeed.
pub(super) enum CallFailure {
    /// The guest is told.
    Errno(types::Errno),
    /// The guest ends: it broke the calling convention.
    Trap(wasmtime::Error),
    /// Nothing has been done: the call is made again after this wait.
    Absent(Box<Ticket>),
}

/// The outcome of a call.
pub(super) type Result<T> = std::result::Result<T, CallFailure>;

impl From<types::Errno> for CallFailure {
    fn from(errno: types::Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Errno> for CallFailure {
    fn from(errno: Errno) -> Self {
        Self::Errno(code(errno))
    }
}

impl From<NotDone> for CallFailure {
    fn from(why: NotDone) -> Self {
        match why {
            NotDone::Errno(errno) => errno.into(),
            NotDone::Absent(ticket) => Self::Absent(ticket),
        }
    }
}

impl From<GuestError> for CallFailure {
    /// Pointers and values that preview1's calling convention forbids.
    #[cold]
    fn from(error: GuestError) -> Self {
        Self::Trap(error.into())
    }
}

impl From<types::Error> for CallFailure {
    /// What wasmtime-wasi's own preview1 answered.
    fn from(error: types::Error) -> Self {
        match error.downcast() {
            Ok(errno) => Self::Errno(errno),
            Err(trap) => Self::Trap(trap),
        }
    }
}

/// Returns preview1's number of an error.
fn code(errno: Errno) -> types::Errno {
    match errno {
        Errno::BadDescriptor => types::Errno::Badf,
        Errno::Busy => types::Errno::Busy,
        Errno::CrossDevice => types::Errno::Xdev,
        Errno::Exist => types::Errno::Exist,
        Errno::FileTooLarge => types::Errno::Fbig,
        Errno::IllegalByteSequence => types::Errno::Ilseq,
        Errno::Invalid => types::Errno::Inval,
        Errno::Io => types::Errno::Io,
        Errno::IsDirectory => types::Errno::Isdir,
        Errno::Loop => types::Errno::Loop,
        Errno::NameTooLong => types::Errno::Nametoolong,
        Errno::NoEntry => types::Errno::Noent,
        Errno::NoSpace => types::Errno::Nospc,
        Errno::NotDirectory => types::Errno::Notdir,
        Errno::NotEmpty => types::Errno::Notempty,
        Errno::NotPermitted => types::Errno::Perm,
        Errno::Overflow => types::Errno::Overflow,
        Errno::ReadOnly => types::Errno::Rofs,
        Errno::TooManyLinks => types::Errno::Mlink,
        Errno::TooManyOpen => types::Errno::Mfile,
        Errno::Unsupported => types::Errno::Notsup,
    }
}

/// Turns an outcome into what the guest's call returns.
#[inline]
pub(super) fn answer(outcome: Result<()>) -> wasmtime::Result<i32> {
    match outcome {
        Ok(()) => Ok(0),
        Err(CallFailure::Errno(errno)) => Ok(errno as i32),
        Err(CallFailure::Trap(trap)) => Err(trap),
        Err(CallFailure::Absent(ticket)) => Err(Waits(*ticket).into()),
    }
}

/// On its way to the function that the guest called, which waits in the manner
/// of its linker: a ticket travels as an error, so that calls that need not
/// wait pay nothing for those that do.
#[derive(Debug)]
struct Waits(Ticket);

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call that has to wait was not made again")
    }
}

impl std::error::Error for Waits {}

/// Returns what a call has to wait for before it is made again, or its error.
#[cold]
pub(super) fn waits(error: wasmtime::Error) -> wasmtime::Result<Ticket> {
    error.downcast().map(|Waits(ticket)| ticket)
}

/// Reads an enumeration or a set of flags from an argument. A value that
/// preview1 does not know is a trap.
#[inline]
pub(super) fn argument<T, V>(value: V) -> Result<T>
where
    T: TryFrom<V, Error = GuestError>,
{
    // Not `map_err`, which leaves code to drop an error that is not there.
    match T::try_from(value) {
        Ok(value) => Ok(value),
        Err(error) => Err(error.into()),
    }
}
