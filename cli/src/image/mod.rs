//! `stratafs image` and `stratafs store`.

mod analyze;
pub(super) mod args;
mod cat;
mod check;
mod diff;
mod explain;
mod extend;
mod glob;
mod lint;
mod list;
mod look_args;
mod make_args;
mod moving;
pub(super) mod remote;
mod remote_args;
mod show;
mod slim;
mod text;
mod trace;
mod tree;
mod trim;
mod whole;

pub(super) use self::text::date;

use std::path::Path;
use std::process::ExitCode;

use self::args::{ImageCommand, StoreArgs, StoreCommand};
use super::failure::Failure;
use super::store_dir::{self, Use};

pub(super) fn image(command: ImageCommand, store: Option<&Path>) -> Result<ExitCode, Failure> {
    let command = match command {
        ImageCommand::Lint(args) => return lint::lint(args, store),
        other => other,
    };
    let Some(how) = use_of(&command) else {
        return without_store(command);
    };
    let store = store_dir::open(store, how)?;
    match command {
        ImageCommand::Import(args) => moving::import(&store, args),
        ImageCommand::Pull(args) => remote::pull(&store, args),
        ImageCommand::Push(args) => remote::push(&store, args),
        ImageCommand::Ls(args) => list::ls(&store, args),
        ImageCommand::Inspect(args) => show::inspect(&store, args),
        ImageCommand::History(args) => show::history(&store, args),
        ImageCommand::Tree(args) => tree::tree(&store, args),
        ImageCommand::Cat(args) => cat::cat(&store, args),
        ImageCommand::Diff(args) => diff::diff(&store, args),
        ImageCommand::Explain(args) => explain::explain(&store, args),
        ImageCommand::Analyze(args) => analyze::analyze(&store, args),
        ImageCommand::Export(args) => moving::export(&store, args),
        ImageCommand::Append(args) => extend::append(&store, args),
        ImageCommand::Mutate(args) => extend::mutate(&store, args),
        ImageCommand::Slim(args) => slim::slim(&store, args),
        ImageCommand::Squash(args) => moving::squash(&store, args),
        ImageCommand::Tag(args) => moving::tag(&store, args),
        ImageCommand::Rm(args) => moving::rm(&store, args),
        other => return without_store(other),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Does what needs no store.
fn without_store(command: ImageCommand) -> Result<ExitCode, Failure> {
    match command {
        ImageCommand::Copy(args) => remote::copy(args),
        ImageCommand::LsRemote(args) => remote::ls_remote(args),
        ImageCommand::Login(args) => remote::login(args),
        ImageCommand::Logout(args) => remote::logout(args),
        _ => Err(Failure::new("no store is open")),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// What a command does with the store, if it needs one.
fn use_of(command: &ImageCommand) -> Option<Use> {
    Some(match command {
        ImageCommand::Copy(_)
        | ImageCommand::Lint(_)
        | ImageCommand::LsRemote(_)
        | ImageCommand::Login(_)
        | ImageCommand::Logout(_) => return None,
        ImageCommand::Import(_) | ImageCommand::Pull(_) => Use::Fill,
        ImageCommand::Append(_)
        | ImageCommand::Mutate(_)
        | ImageCommand::Slim(_)
        | ImageCommand::Squash(_)
        | ImageCommand::Tag(_)
        | ImageCommand::Rm(_) => Use::Change,
        ImageCommand::Ls(_)
        | ImageCommand::Inspect(_)
        | ImageCommand::History(_)
        | ImageCommand::Tree(_)
        | ImageCommand::Cat(_)
        | ImageCommand::Diff(_)
        | ImageCommand::Explain(_)
        | ImageCommand::Analyze(_)
        | ImageCommand::Export(_)
        | ImageCommand::Push(_) => Use::Look,
    })
}

pub(super) fn store(args: StoreArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    let open = |how| store_dir::open(store, how);
    match args.command {
        StoreCommand::Stat(form) => whole::stat(&open(Use::Look)?, form),
        StoreCommand::Verify(form) => whole::verify(&open(Use::Look)?, form),
        StoreCommand::Gc(args) => match &args.bucket {
            Some(home) => whole::collect(home, &args),
            None if args.reach.is_given() => Err(Failure::usage(
                "--plain-http, --ca and --hosts-dir say how --bucket is reached, which is not there",
            )),
            None if args.dry_run => trim::trim(&open(Use::Look)?, &args),
            None if args.is_bounded() => trim::trim(&open(Use::Change)?, &args),
            None => whole::gc(&open(Use::Change)?, &args),
        },
        StoreCommand::Fill(args) => remote::fill(&open(Use::Change)?, args),
        StoreCommand::Init(form) => whole::init(store, form),
        StoreCommand::Repair(form) => whole::repair(store, form),
    }?;
    Ok(ExitCode::SUCCESS)
}
