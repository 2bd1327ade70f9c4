//! Every bound of the shim, with its unit and its reason.

/// Bytes of one message of the task service: what ttrpc allows.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Connections at a time. containerd keeps one for each container.
pub const MAX_CONNECTIONS: usize = 16_384;

/// Calls of one connection that are answered at a time; further ones wait to be read.
pub const MAX_CALLS: usize = 256;

/// Containers of one process, and so instances of one program.
pub const MAX_CONTAINERS: u32 = 8192;

/// Bytes of a bundle's `config.json`. Those of Kubernetes have 20 KB.
pub const MAX_SPEC_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of the configuration of the shim.
pub const MAX_CONFIG_BYTES: u64 = 64 * 1024;

/// Bytes of a file with roots of trust. Those of a whole system have 250 KB.
pub const MAX_ROOTS_BYTES: u64 = 4 * 1024 * 1024;

/// Mounts of one container.
pub const MAX_MOUNTS: usize = 256;

/// Settings of a network that a container asks for. Kubernetes lets pods have a few dozen.
pub const MAX_SYSCTLS: usize = 256;

/// Bytes of a container's name. containerd allows as many.
pub const MAX_ID_BYTES: usize = 76;

/// Groups of a user beside its own. Kubernetes gives those of the image and of its volumes.
pub const MAX_GROUPS: usize = 256;

/// Handles of a component that has a network: files, sockets, streams. A connection takes up to five; a
/// socket that hears datagrams holds 64 KiB of the process.
pub const MAX_HANDLES: u32 = 4096;

/// Names that one container looks up at a time; further ones wait.
pub const MAX_LOOKUPS: usize = 8;

/// Name servers that are asked: as many as elsewhere.
pub const MAX_NAME_SERVERS: usize = 3;

/// Domains in which a name is looked for. Kubernetes gives 32 at most.
pub const MAX_SEARCHED: usize = 32;

/// Records of an answer about a name that are looked at.
pub const MAX_NAME_RECORDS: usize = 512;

/// Addresses of a name that a guest is given, of each version.
pub const MAX_NAME_ADDRESSES: usize = 256;

/// Bytes of an image's `/etc/passwd`.
pub const MAX_USERS_BYTES: u64 = 1024 * 1024;

/// Bytes of the manifest of an artifact, and of its configuration. containerd takes as many.
pub const MAX_MANIFEST_BYTES: u64 = 4 * 1048 * 1048;

/// Bytes of a reason that a call is refused with, which may quote what was wrong. containerd takes
/// messages of 4 MiB.
pub const MAX_REASON_BYTES: usize = 4096;

/// Bytes of one message of containerd's: it sends content in parts of 1 MiB.
pub const MAX_CONTENT_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes of a guest's program. CPython has 30 MB.
pub const MAX_PROGRAM_BYTES: u64 = 256 * 1024 * 1024;

/// Compiled programs that are kept for the next container.
pub const MAX_PROGRAMS: usize = 64;

/// Root file systems that are kept for the next container.
pub const MAX_ROOTS: usize = 64;

/// Bytes of a file that is bound into a container, such as `/etc/resolv.conf`.
pub const MAX_BOUND_FILE_BYTES: u64 = 1024 * 1024;

/// Bytes of one line about a guest in its own errors: of a trap with its functions.
pub const MAX_LAST_WORDS: usize = 16 * 1024;

/// Bytes of input that a guest is given at a time: what a FIFO holds.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;

/// Bytes of output that wait while a FIFO is full.
pub const MAX_WAITING_OUTPUT_BYTES: usize = 64 * 1024;

/// Bytes of a request for figures: its line and its headers.
pub const MAX_HTTP_REQUEST_BYTES: usize = 8 * 1024;

/// Connections at a time that ask for figures.
pub const MAX_HTTP_CONNECTIONS: usize = 16;

/// Events that wait while containerd does not take them; the next ones are lost.
pub const MAX_WAITING_EVENTS: usize = 16_384;
