//! `stratafs image prepare`.

use std::path::Path;
use std::process::ExitCode;

use stratafs::chunk::ChunkPool;
use stratafs::image::Reference;
use stratafs::runner::freeze::{Checkpoint, Freezing, freeze};
use stratafs::runner::{CacheUse, Outcome, RunnerConfig, Stdio};
use stratafs::transfer::{self, StagedCommit};

use super::args::PrepareArgs;
use super::beside::beside;
use super::failure::{Failure, complain, say};
use super::instances::TIMEOUT_CODE;
use super::pulled::{complete, fetch};
use super::report::times;
use super::resolve::{GuestFrom, Run};
use super::run::{StartFrom, start_from, start_volumes};
use super::store_dir::{self, Use};

/// The guest ended before the point.
const ENDED_CODE: u8 = 3;

pub(super) fn prepare(args: PrepareArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    refuse(&args)?;
    let mut run = Run::resolve(args.run)?;
    fetch(&mut run, store)?;
    let how = match run.guest {
        GuestFrom::Image(..) => Use::Change,
        GuestFrom::File(_) => Use::Fill,
    };
    let store = complete(&mut run, store_dir::open(store, how)?, store)?;
    let pool = ChunkPool::new();
    start_volumes(&mut run, Some(&store))?;
    let start = start_from(&mut run, Some(&store), &pool)?;
    run.layers.report_left_out();
    run.plan.stdio = match args.quiet {
        true => Stdio::Null,
        false => Stdio::Output,
    };
    let tag = &args.tag;
    let (plan, config, at) = (&run.plan, &run.config, &args.at);
    let frozen = match &start {
        StartFrom::Guest(guest, image) => freeze(guest, image, plan, config, at)?,
        StartFrom::Checkpoint(before, image) => before.freeze(image, plan, config, at)?,
    };
    let checkpoint = match frozen {
        Freezing::Frozen(checkpoint) => checkpoint,
        Freezing::Ended(outcome) => {
            say(&format!(
                "{tag}: not made, since the guest ended before it came to {}: {outcome} (`stratafs run --strace -` shows its calls)",
                args.at
            ));
            return Ok(ExitCode::from(match outcome {
                Outcome::TimedOut(_) => TIMEOUT_CODE,
                Outcome::OutOfMemory(_) | Outcome::Failed(_) => 1,
                _ => ENDED_CODE,
            }));
        }
    };
    let by = format!("prepared at {}: {}", args.at, checkpoint.args().join(" "));
    let stage = || -> Result<StagedCommit, Failure> {
        let fs = checkpoint.to_fs()?;
        let (base, platform) = (run.base.as_ref(), run.set_platform.as_ref());
        Ok(transfer::stage(&store, &fs, base, &by, platform)?)
    };
    let (staged, compiled) = beside(stage, || compile(&checkpoint, &run.config));
    compiled?;
    let staged = staged?;
    warn_of_random(&checkpoint, tag);
    warn_of_volumes(&checkpoint, tag);
    staged.commit(tag)?;
    Ok(ExitCode::SUCCESS)
}

/// Says what all runs of the image would share that should be their own.
fn warn_of_random(checkpoint: &Checkpoint, tag: &Reference) {
    let calls = checkpoint.info().random_calls;
    if calls == 0 {
        return;
    }
    let times = times(calls);
    complain(&format!(
        "warning: the guest asked for random numbers before the point ({times}): all runs of {tag} share what it made of them, \
         such as seeds and keys, unless it draws them anew after the point"
    ));
}

/// Says what was written that is not in the image.
fn warn_of_volumes(checkpoint: &Checkpoint, tag: &Reference) {
    for name in &checkpoint.info().changed_volumes {
        complain(&format!(
            "warning: the guest wrote to the volume at {name:?}, which {tag} does not hold: show its runs a volume there that has what they need"
        ));
    }
}

/// Compiles the checkpoint as a run without limits does, so that the first one on this
/// machine finds its code in the cache.
fn compile(checkpoint: &Checkpoint, config: &RunnerConfig) -> Result<(), Failure> {
    if config.cache_dir.is_some() {
        let mut config = config.clone();
        (config.timeout, config.fuel) = (None, None);
        (config.calls, config.max_memory) = (None, None);
        if let CacheUse::Off {
            reason: Some(reason),
        } = checkpoint.compile(&config)?
        {
            complain(&format!(
                "warning: the first run compiles the checkpoint once more, since its code was not kept: {reason}"
            ));
        }
    }
    Ok(())
}

/// Refuses what is about running to an end, or about many.
fn refuse(args: &PrepareArgs) -> Result<(), Failure> {
    let run = &args.run;
    let given = [
        ("--instances", run.instances.is_some()),
        ("--commit", run.commit.is_some()),
        ("--diff", run.diff.is_some()),
        ("--trace", run.trace.is_some()),
        ("--strace, --strace-counts", run.strace.is_given()),
        ("--verbose", run.verbose),
        ("--stats", run.stats.is_some()),
        ("--stats-instances", run.stats_instances.is_some()),
        ("--save-volume", !run.save_volumes.is_empty()),
        ("--invoke", run.invoke.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::usage(format_args!(
            "{option} is for a run: `image prepare` runs one instance, up to the point and no further"
        ))),
    }
}
