//! `stratafs run`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use super::args::RunArgs;
use super::failure::{Failure, complain, say};
use super::outfile::OutFile;
use super::resolve::{Run, Stats};
use super::watch::{Memory, Terminal};
use crate::chunk::ChunkPool;
use crate::image::Image;
use crate::report::RunFigures;
use crate::runner::{Guest, Outcome, RunReport, Runner, RunnerConfig, Stdio};
use crate::source::{self, SourceOptions};
use crate::vfs::Fs;

/// What a shell shows for a program that aborted.
const TRAP_CODE: u8 = 134;

/// Failures that are named in the one line about many instances.
const NAMED_FAILURES: usize = 5;

pub(super) fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let mut run = Run::resolve(args)?;
    let diff = run.diff.as_deref().map(OutFile::create).transpose()?;
    let stats = run.stats.as_ref().map(Figures::open).transpose()?;
    let pool = ChunkPool::new();
    let guest = Guest::from_file(&run.guest)?;
    let (runner, image) = prepare(&guest, run.config.clone(), &run.layers, &pool)?;
    let terminal = Arc::new(Terminal::default());
    run.plan.stdio = match run.plan.instances {
        1 => Stdio::Inherit,
        _ => Stdio::Collect(terminal.clone()),
    };
    let memory = Memory::start();
    let report = runner.run_watched(&image, &run.plan, &memory)?;
    let memory = memory.end();
    if let Some(stats) = stats {
        stats.write(&RunFigures::new(&runner, image.stats(), &report, memory))?;
    }
    if let (Some(out), Some(fs)) = (diff, report.file_systems.first()) {
        write_diff(out, fs, &pool)?;
    }
    terminal.check()?;
    Ok(exit_code(&report))
}

/// Compiles the guest while the layers are read.
pub(super) fn prepare(
    guest: &Guest,
    config: RunnerConfig,
    layers: &[PathBuf],
    pool: &ChunkPool,
) -> Result<(Runner, Image), Failure> {
    thread::scope(|scope| {
        let runner = scope.spawn(|| Runner::new(guest, config));
        let image = stack(layers, pool);
        let runner = match runner.join() {
            Ok(runner) => runner?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((runner, image?))
    })
}

fn stack(sources: &[PathBuf], pool: &ChunkPool) -> Result<Image, Failure> {
    let mut layers = Vec::new();
    for path in sources {
        layers.extend(source::open(pool, path, &SourceOptions::default())?);
    }
    Ok(Image::new(&layers)?)
}

/// Where the figures go, opened before the run.
enum Figures {
    Stderr,
    File(OutFile),
}

impl Figures {
    fn open(to: &Stats) -> Result<Self, Failure> {
        match to {
            Stats::Stderr => Ok(Self::Stderr),
            Stats::File(path) => OutFile::create(path).map(Self::File),
        }
    }

    fn write(self, figures: &RunFigures) -> Result<(), Failure> {
        let text = serde_json::to_string(figures)?;
        match self {
            Self::Stderr => complain(&text),
            Self::File(file) => file.write(|out| Ok(writeln!(out, "{text}")?))?,
        }
        Ok(())
    }
}

fn write_diff(out: OutFile, fs: &Fs, pool: &ChunkPool) -> Result<(), Failure> {
    let layer = fs.diff(pool)?;
    out.write(|writer| Ok(source::write_layer(&layer, writer).map(drop)?))
}

/// Says how it ended, and turns that into an exit code.
fn exit_code(report: &RunReport) -> ExitCode {
    match report.instances.as_slice() {
        [one] => one_exit_code(&one.outcome),
        many => {
            let failed: Vec<_> = report.failed().collect();
            if failed.is_empty() {
                return ExitCode::SUCCESS;
            }
            let named: Vec<_> = failed
                .iter()
                .take(NAMED_FAILURES)
                .map(|one| format!("{} ({})", one.instance, one.outcome))
                .collect();
            let more = if failed.len() > NAMED_FAILURES {
                ", ..."
            } else {
                ""
            };
            let named = named.join(", ");
            say(&format!(
                "{} of {} instances failed: {named}{more}",
                failed.len(),
                many.len()
            ));
            ExitCode::FAILURE
        }
    }
}

fn one_exit_code(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::Exited(code) => u8::try_from(*code).map_or_else(
            |_| {
                say(&format!(
                    "the guest exited with {code}: no process can pass that on"
                ));
                ExitCode::FAILURE
            },
            ExitCode::from,
        ),
        Outcome::Trapped { message, backtrace } => {
            say(&format!("the guest trapped: {message}"));
            if !backtrace.is_empty() {
                complain(backtrace.trim_end());
            }
            ExitCode::from(TRAP_CODE)
        }
        Outcome::TimedOut(_) | Outcome::OutOfMemory(_) => {
            say(&format!("the guest was {outcome}"));
            ExitCode::FAILURE
        }
        Outcome::Failed(why) => {
            say(&format!("the guest does not run: {why}"));
            ExitCode::FAILURE
        }
    }
}
