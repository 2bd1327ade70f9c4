//! Errors of runs.

use std::path::PathBuf;

use crate::errno::Errno;

/// Why a guest could not be run. Nothing has run yet.
///
/// What a guest does wrong while it runs is no error here but an
/// [`Outcome`](super::Outcome).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunnerError {
    /// The guest's file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// The program of a checkpoint cannot be read, or is not what was written.
    #[error("{name}: {reason}")]
    Unreadable {
        /// The guest that was frozen.
        name: String,
        /// What is wrong, and in which file.
        reason: String,
    },
    /// The bytes are neither a WebAssembly binary nor its text.
    #[error("{name}: not WebAssembly: {reason}")]
    NotWasm {
        /// The guest.
        name: String,
        /// What is wrong, with its place in a text.
        reason: String,
    },
    /// The guest is a library, not a command.
    #[error("{name}: not a command: it does not export {wanted}")]
    NoEntry {
        /// The guest.
        name: String,
        /// The export that a command has.
        wanted: &'static str,
    },
    /// The guest is a core module, where a component is needed.
    #[error("{name}: not a component: it is a core module")]
    NotAComponent {
        /// The guest.
        name: String,
    },
    /// The call that [`RunnerConfig::invoke`](super::RunnerConfig::invoke) asks for is
    /// none that could be made.
    #[error("the call {call:?}: {reason}")]
    Call {
        /// The call as it was given.
        call: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The guest has no such function.
    #[error("{name}: {reason}")]
    NoFunction {
        /// The guest.
        name: String,
        /// What it lacks.
        reason: String,
    },
    /// The guest does not validate or compile.
    #[error("{name}: does not compile: {source:#}")]
    Compile {
        /// The guest.
        name: String,
        /// What the compiler said.
        source: wasmtime::Error,
    },
    /// The guest wants an import that nobody provides.
    #[error("{name}: does not link: {source:#}")]
    Link {
        /// The guest.
        name: String,
        /// What the linker said.
        source: wasmtime::Error,
    },
    /// The engine does not start on this machine.
    #[error("the WebAssembly engine does not start: {source:#}")]
    Engine {
        /// What the engine said.
        source: wasmtime::Error,
    },
    /// An argument or environment variable that WASI cannot pass on.
    #[error("{what}: {reason}")]
    Argument {
        /// Which one, such as `argument 3` or `environment variable "A"`.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Arguments and environment are larger than
    /// [`limits::MAX_ARGUMENT_BYTES`](crate::limits::MAX_ARGUMENT_BYTES).
    #[error("arguments and environment take {bytes} bytes, the limit is {limit}")]
    ArgumentsTooLong {
        /// Their size, a NUL for each included.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Two directories are shown to the guest under one name.
    #[error("the guest directory {name:?} is given twice")]
    TwoDirectories {
        /// The name.
        name: String,
    },
    /// A directory of the layered file system cannot be shown to the guest.
    #[error(
        "directory {:?} of the layered file system: {errno}",
        crate::name::show(path)
    )]
    Preopen {
        /// The directory.
        path: Vec<u8>,
        /// Why not.
        errno: Errno,
    },
    /// A rule cannot be made.
    #[error("rule for {path:?} of the layered file system: {errno}")]
    Rule {
        /// The path that it is for.
        path: String,
        /// Why not.
        errno: Errno,
    },
    /// A volume cannot be shown to the guest.
    #[error("volume {name:?}: {errno}")]
    Volume {
        /// Its name.
        name: String,
        /// Why not.
        errno: Errno,
    },
    /// A host directory cannot be shown to the guest.
    #[error("host directory {}: {source:#}", path.display())]
    HostDir {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        source: wasmtime::Error,
    },
    /// As many instances are there as the runner has room for.
    #[error(
        "{room} instances are there already, all that the runner has room for: wait until one has ended, or raise RunnerConfig::threads"
    )]
    Full {
        /// How many there may be.
        room: u32,
    },
    /// The host gives no thread or no runtime for it.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// What the host said.
        source: std::io::Error,
    },
}
