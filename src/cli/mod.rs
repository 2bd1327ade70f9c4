//! The command line: arguments as typed (`args`), then a resolved plan
//! (`resolve`), then the work. The only place that prints and that reads
//! the environment (invariant 10).

mod args;
mod base;
mod bench;
mod demo;
mod failure;
mod from_image;
mod guest_source;
mod image;
mod memory;
mod outfile;
mod parse;
mod place;
mod proof;
mod resolve;
mod run;
mod signals;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use args::{Command, Typed};

/// Runs the program `stratafs` with the process's arguments, and gives its
/// exit code. Not for embedding: it prints, and it ends the process itself if
/// the arguments are wrong or ask for help.
#[must_use]
pub fn main() -> ExitCode {
    let typed = Typed::parse();
    signals::end_cleanly();
    let store = typed.store.as_deref();
    let done = match typed.command {
        Command::Run(args) => run::run(*args, store),
        Command::Demo(args) => demo::demo(args),
        Command::Bench(args) => bench::bench(args),
        Command::Image(args) => image::image(args, store),
        Command::Store(args) => image::store(args, store),
    };
    done.unwrap_or_else(|failure| failure.report())
}
