//! The calls of preview0 and preview1 on files: what their arguments are.

use wasmtime::ValType;

use super::WasiVersion;

/// A function, its arguments in order, and what it gives.
pub(super) struct FunctionRow {
    pub(super) name: &'static str,
    pub(super) args: &'static [(&'static str, ArgKind)],
    pub(super) gives: ResultKind,
}

/// What an argument is. A path and a list of buffers are two numbers each.
#[derive(Clone, Copy)]
pub(super) enum ArgKind {
    Descriptor,
    /// A path, or the target of a link, by address and length.
    Path,
    Long,
    Distance,
    /// Flags in 16 or 32 bits, the lowest first.
    Flags(&'static [&'static str]),
    Rights,
    /// One of these.
    Choice(&'static [&'static str]),
    /// Which place a seek counts from: preview0 has another order.
    Whence,
    /// Buffers that the guest fills: told with what the call took of them.
    Written,
    /// Buffers that the call fills.
    Read,
    /// A buffer, by address and length, that the call fills with text.
    Text,
    /// A buffer, by address and length, that the call fills with a listing.
    Listing,
    /// Where a result goes: not told.
    Out,
}

/// What stands where the last argument points after a call that succeeded.
#[derive(Clone, Copy)]
pub(super) enum ResultKind {
    Nothing,
    Descriptor,
    /// The bytes of content that were moved.
    Moved,
    /// A count of bytes that are no content.
    Size,
    Offset,
    Stat,
    Fdstat,
    /// The length of a preopen's name.
    Prestat,
}

impl ArgKind {
    /// The numbers that it is passed as.
    pub(super) fn types(self) -> &'static [ValType] {
        match self {
            Self::Descriptor | Self::Flags(_) | Self::Choice(_) | Self::Whence | Self::Out => {
                &[ValType::I32]
            }
            Self::Path | Self::Written | Self::Read | Self::Text | Self::Listing => {
                &[ValType::I32, ValType::I32]
            }
            Self::Long | Self::Distance | Self::Rights => &[ValType::I64],
        }
    }
}

pub(super) const FILE_TYPES: &[&str] = &[
    "UNKNOWN",
    "BLOCK_DEVICE",
    "CHARACTER_DEVICE",
    "DIRECTORY",
    "REGULAR_FILE",
    "SOCKET_DGRAM",
    "SOCKET_STREAM",
    "SYMBOLIC_LINK",
];

pub(super) const DESCRIPTOR_FLAGS: &[&str] =
    &["O_APPEND", "O_DSYNC", "O_NONBLOCK", "O_RSYNC", "O_SYNC"];

const OPEN_FLAGS: &[&str] = &["O_CREAT", "O_DIRECTORY", "O_EXCL", "O_TRUNC"];
const LOOKUP: &[&str] = &["SYMLINK_FOLLOW"];
const TIMES: &[&str] = &["ATIM", "ATIM_NOW", "MTIM", "MTIM_NOW"];
const ADVICE: &[&str] = &[
    "NORMAL",
    "SEQUENTIAL",
    "RANDOM",
    "WILLNEED",
    "DONTNEED",
    "NOREUSE",
];

/// Returns the names of the places that a seek counts from.
pub(super) fn whence(version: WasiVersion) -> &'static [&'static str] {
    match version {
        WasiVersion::Preview0 => &["SEEK_CUR", "SEEK_END", "SEEK_SET"],
        _ => &["SEEK_SET", "SEEK_CUR", "SEEK_END"],
    }
}

const fn row(
    name: &'static str,
    args: &'static [(&'static str, ArgKind)],
    gives: ResultKind,
) -> FunctionRow {
    FunctionRow { name, args, gives }
}

const FD: (&str, ArgKind) = ("fd", ArgKind::Descriptor);
const PATH: (&str, ArgKind) = ("path", ArgKind::Path);
const LOOK: (&str, ArgKind) = ("lookup", ArgKind::Flags(LOOKUP));
const OUT: (&str, ArgKind) = ("", ArgKind::Out);

pub(super) const ROWS: &[FunctionRow] = &[
    row(
        "fd_advise",
        &[
            FD,
            ("offset", ArgKind::Long),
            ("len", ArgKind::Long),
            ("advice", ArgKind::Choice(ADVICE)),
        ],
        ResultKind::Nothing,
    ),
    row(
        "fd_allocate",
        &[FD, ("offset", ArgKind::Long), ("len", ArgKind::Long)],
        ResultKind::Nothing,
    ),
    row("fd_close", &[FD], ResultKind::Nothing),
    row("fd_datasync", &[FD], ResultKind::Nothing),
    row("fd_fdstat_get", &[FD, OUT], ResultKind::Fdstat),
    row(
        "fd_fdstat_set_flags",
        &[FD, ("flags", ArgKind::Flags(DESCRIPTOR_FLAGS))],
        ResultKind::Nothing,
    ),
    row(
        "fd_fdstat_set_rights",
        &[
            FD,
            ("rights", ArgKind::Rights),
            ("inheriting", ArgKind::Rights),
        ],
        ResultKind::Nothing,
    ),
    row("fd_filestat_get", &[FD, OUT], ResultKind::Stat),
    row(
        "fd_filestat_set_size",
        &[FD, ("size", ArgKind::Long)],
        ResultKind::Nothing,
    ),
    row(
        "fd_filestat_set_times",
        &[
            FD,
            ("atim", ArgKind::Long),
            ("mtim", ArgKind::Long),
            ("flags", ArgKind::Flags(TIMES)),
        ],
        ResultKind::Nothing,
    ),
    row(
        "fd_pread",
        &[FD, ("buf", ArgKind::Read), ("offset", ArgKind::Long), OUT],
        ResultKind::Moved,
    ),
    row("fd_prestat_get", &[FD, OUT], ResultKind::Prestat),
    row(
        "fd_prestat_dir_name",
        &[FD, ("name", ArgKind::Text)],
        ResultKind::Nothing,
    ),
    row(
        "fd_pwrite",
        &[
            FD,
            ("buf", ArgKind::Written),
            ("offset", ArgKind::Long),
            OUT,
        ],
        ResultKind::Moved,
    ),
    row(
        "fd_read",
        &[FD, ("buf", ArgKind::Read), OUT],
        ResultKind::Moved,
    ),
    row(
        "fd_readdir",
        &[
            FD,
            ("entries", ArgKind::Listing),
            ("cookie", ArgKind::Long),
            OUT,
        ],
        ResultKind::Size,
    ),
    row(
        "fd_renumber",
        &[FD, ("to", ArgKind::Descriptor)],
        ResultKind::Nothing,
    ),
    row(
        "fd_seek",
        &[
            FD,
            ("offset", ArgKind::Distance),
            ("whence", ArgKind::Whence),
            OUT,
        ],
        ResultKind::Offset,
    ),
    row("fd_sync", &[FD], ResultKind::Nothing),
    row("fd_tell", &[FD, OUT], ResultKind::Offset),
    row(
        "fd_write",
        &[FD, ("buf", ArgKind::Written), OUT],
        ResultKind::Moved,
    ),
    row("path_create_directory", &[FD, PATH], ResultKind::Nothing),
    row(
        "path_filestat_get",
        &[FD, LOOK, PATH, OUT],
        ResultKind::Stat,
    ),
    row(
        "path_filestat_set_times",
        &[
            FD,
            LOOK,
            PATH,
            ("atim", ArgKind::Long),
            ("mtim", ArgKind::Long),
            ("flags", ArgKind::Flags(TIMES)),
        ],
        ResultKind::Nothing,
    ),
    row(
        "path_link",
        &[
            FD,
            LOOK,
            PATH,
            ("new_fd", ArgKind::Descriptor),
            ("new_path", ArgKind::Path),
        ],
        ResultKind::Nothing,
    ),
    row(
        "path_open",
        &[
            FD,
            LOOK,
            PATH,
            ("oflags", ArgKind::Flags(OPEN_FLAGS)),
            ("rights", ArgKind::Rights),
            ("inheriting", ArgKind::Rights),
            ("fdflags", ArgKind::Flags(DESCRIPTOR_FLAGS)),
            OUT,
        ],
        ResultKind::Descriptor,
    ),
    row(
        "path_readlink",
        &[FD, PATH, ("target", ArgKind::Text), OUT],
        ResultKind::Size,
    ),
    row("path_remove_directory", &[FD, PATH], ResultKind::Nothing),
    row(
        "path_rename",
        &[
            FD,
            PATH,
            ("new_fd", ArgKind::Descriptor),
            ("new_path", ArgKind::Path),
        ],
        ResultKind::Nothing,
    ),
    row(
        "path_symlink",
        &[("target", ArgKind::Path), FD, PATH],
        ResultKind::Nothing,
    ),
    row("path_unlink_file", &[FD, PATH], ResultKind::Nothing),
];
