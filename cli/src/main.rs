//! The program `stratafs`: arguments as typed (`args`), then a resolved plan
//! (`resolve`), then the work. The only place that prints and that reads
//! the environment (invariant 10).

mod args;
mod base;
mod bench;
mod beside;
mod build;
mod build_args;
mod cached;
mod checkpoint;
mod demo;
mod failure;
mod from_image;
mod guest_source;
mod habits;
mod image;
mod instances;
mod limits;
mod manual;
mod memory;
mod outfile;
mod parse;
mod prepare;
mod prepared;
mod proof;
mod pulled;
mod reach;
mod recipe;
mod recipe_file;
mod report;
mod resolve;
mod run;
mod serve;
mod signals;
#[cfg(target_os = "linux")]
mod snapshotter;
mod sources;
mod spans;
mod store_dir;
mod strace;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{AnyImageCommand, Cli, Command};

fn main() -> ExitCode {
    quiet_panics();
    let typed = match Cli::try_parse() {
        Ok(typed) => typed,
        Err(error) => return answer(&error),
    };
    signals::end_cleanly();
    spans::begin();
    let store = typed.store.as_deref();
    let done = match typed.command {
        Command::Run(args) => run::run(*args, store),
        Command::Serve(args) => serve::serve(*args, store),
        #[cfg(target_os = "linux")]
        Command::Snapshotter(args) => snapshotter::snapshotter(*args, store),
        Command::Demo(args) => demo::demo(args),
        Command::Bench(args) => bench::bench(args),
        Command::Image(args) => match args.command {
            AnyImageCommand::Stored(command) => image::image(*command, store),
            AnyImageCommand::Prepare(args) => prepare::prepare(*args, store),
            AnyImageCommand::Build(args) => build::build(*args, store),
        },
        Command::Store(args) => image::store(args, store),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::pages(&args),
        Command::Docker(word) => Err(habits::point(&word)),
    };
    spans::end();
    done.unwrap_or_else(|failure| failure.report())
}

/// Prints what was asked for, such as help, or what is wrong with the
/// arguments, whose text is that of whoever typed them.
fn answer(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        let plain = error.render().to_string();
        match failure::printable(&plain) == plain {
            true => drop(error.print()),
            false => failure::complain(plain.trim_end()),
        }
        return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    }
    let printed = error.print().and_then(|()| io::stdout().flush());
    match failure::taken(printed) {
        Ok(_) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Says nothing of a panic that the store makes an error of: the error is told.
fn quiet_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !stratafs::store::is_panic_caught() {
            before(panic);
        }
    }));
}
