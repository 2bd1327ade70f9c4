//! Docker's commands, and what does the same here.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// A command that Docker has at the top level.
#[derive(Debug, Subcommand)]
pub(crate) enum Word {
    #[command(hide = true)]
    Build(TrailingWords),
    #[command(hide = true)]
    Images(TrailingWords),
    #[command(hide = true)]
    Rmi(TrailingWords),
    #[command(hide = true)]
    Pull(TrailingWords),
    #[command(hide = true)]
    Push(TrailingWords),
    #[command(hide = true)]
    Inspect(TrailingWords),
    #[command(hide = true)]
    History(TrailingWords),
    #[command(hide = true)]
    Load(TrailingWords),
    #[command(hide = true)]
    Save(TrailingWords),
    #[command(hide = true)]
    Tag(TrailingWords),
}

/// What follows such a command.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct TrailingWords {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _words: Vec<OsString>,
}

/// Says which command is meant.
pub(crate) fn point(word: &Word) -> Failure {
    let (typed, meant) = match word {
        Word::Build(_) => ("build", "stratafs image build CONTEXT --tag REF"),
        Word::Images(_) => ("images", "stratafs image ls"),
        Word::Rmi(_) => ("rmi", "stratafs image rm REF"),
        Word::Pull(_) => ("pull", "stratafs image pull HOST/NAME:TAG"),
        Word::Push(_) => ("push", "stratafs image push REF HOST/NAME:TAG"),
        Word::Inspect(_) => ("inspect", "stratafs image inspect REF"),
        Word::History(_) => ("history", "stratafs image history REF"),
        Word::Load(_) => ("load", "stratafs image import SRC --tag REF"),
        Word::Save(_) => ("save", "stratafs image export REF OUT --format oci-archive"),
        Word::Tag(_) => ("tag", "stratafs image tag FROM TO"),
    };
    Failure::usage(format_args!("there is no `stratafs {typed}`: use {meant}"))
}
