//! The language of recipes: Dockerfile syntax, from text to stages of instructions, with the small
//! languages inside it. Pure text: nothing here reads a file or asks the environment.

pub(crate) mod dockerignore;
pub(crate) mod expand;
mod flags;
mod heredoc;
mod instruction;
mod lexer;
mod mode;
mod mounts;
mod parse;
mod problem;
mod remark;
mod stages;
mod transfer;
pub(crate) mod wildcard;
mod words;

pub(crate) use instruction::{CommandLine, Instruction, InstructionBody, Piece, RunLine};
pub(crate) use mode::ModeChange;
pub(crate) use mounts::{MountKind, MountLine};
pub(crate) use parse::parse;
pub(crate) use problem::{Position, Problem};
pub(crate) use remark::{Remark, RemarkKind};
pub(crate) use stages::{Recipe, Stage, StageSource};
pub(crate) use transfer::{TransferLine, check_local};

/// Endings of names that only archives have, which ADD unpacks.
pub(crate) const ARCHIVE_ENDINGS: [&str; 10] = [
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tbz2",
    ".tar.xz",
    ".txz",
    ".tar.zst",
    ".tzst",
    ".tar.zstd",
];
