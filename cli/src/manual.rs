//! `stratafs completions` and `stratafs man`: what the options say, for shells
//! and for `man`.

use std::process::ExitCode;

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs, ManArgs};
use super::failure::{Failure, print_own};

/// The program's name.
const NAME: &str = "stratafs";

pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut script);
    print_own(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn pages(args: &ManArgs) -> Result<ExitCode, Failure> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    written.map_err(|error| Failure::at(&args.dir, error))?;
    Ok(ExitCode::SUCCESS)
}
