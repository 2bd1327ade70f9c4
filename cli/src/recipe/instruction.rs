//! Instructions, as written: nothing is expanded and nothing looked up.

use super::heredoc::Heredoc;
use super::mounts::MountLine;
use super::problem::Position;
use super::transfer::TransferLine;

/// A word of an instruction, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) at: Position,
}

/// One instruction of a recipe.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// Where it begins.
    pub(crate) at: Position,
    /// Its line, continuations joined.
    pub(crate) text: String,
    pub(crate) body: InstructionBody,
}

/// What an instruction says.
#[derive(Clone, Debug)]
pub(crate) enum InstructionBody {
    From {
        image: Piece,
        platform: Option<Piece>,
        name: Option<String>,
    },
    Arg(Vec<(String, Option<Piece>)>),
    Env(Vec<(Piece, Piece)>),
    Label(Vec<(Piece, Piece)>),
    Copy(TransferLine),
    Add(TransferLine),
    Run(RunLine),
    Workdir(Piece),
    User(Piece),
    Expose(Vec<Piece>),
    Volume(Vec<Piece>),
    Entrypoint(CommandLine),
    Cmd(CommandLine),
    Shell(Vec<String>),
    StopSignal(Piece),
    Maintainer(Piece),
    /// OCI's configuration has no place for one.
    Healthcheck,
}

/// A program with arguments, or text for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandLine {
    Exec(Vec<String>),
    Shell(Piece),
}

/// What `RUN` says.
#[derive(Clone, Debug)]
pub(crate) struct RunLine {
    pub(crate) command: CommandLine,
    pub(crate) mounts: Vec<MountLine>,
    /// Whether it says that it gets no network, whatever is allowed.
    pub(crate) no_network: bool,
    /// Whether it says nothing but one here-document, which is the text for the shell then.
    pub(crate) is_script: bool,
    pub(crate) heredocs: Vec<Heredoc>,
}
