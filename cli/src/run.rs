//! `stratafs run`.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use stratafs::budget::{Budget, Reservation};
use stratafs::chunk::ChunkPool;
use stratafs::image::{Image, Reference};
use stratafs::layer::Layer;
use stratafs::runner::freeze::Checkpoint;
use stratafs::runner::{
    Guest, InstanceReport, Outcome, RunReport, Runner, RunnerConfig, RunnerError, Stdio, Watch,
};
use stratafs::source::{self, Source, SourceError, SourceErrorKind};
use stratafs::store::Store;
use stratafs::transfer;
use stratafs::vfs::{Fs, TracedFile};

use super::args::RunArgs;
use super::beside::beside;
use super::checkpoint;
use super::failure::{Failure, complain, complain_json, print_lines, put_bytes, say};
use super::from_image;
use super::instances::{InstanceLines, TIMEOUT_CODE, TRAP_CODE, report_settings};
use super::outfile::OutFile;
use super::parse::Saved;
use super::prepared;
use super::pulled::{complete, fetch};
use super::resolve::{GuestFrom, Run, Stats};
use super::sources::{self, Layers};
use super::store_dir::{self, Use};
use super::strace::Strace;
use super::watch::{Memory, Terminal};
use crate::report::RunFigures;

/// Failures that are named in the one line about many instances.
const NAMED_FAILURES: usize = 5;

pub(super) fn run(args: RunArgs, store: Option<&Path>) -> Result<ExitCode, Failure> {
    if args.set_platform.is_some() && args.commit.is_none() {
        return Err(Failure::usage(
            "--set-platform is for the image of --commit, which is not given",
        ));
    }
    let mut run = Run::resolve(args)?;
    fetch(&mut run, store)?;
    let opened = open_store(&run, store)?;
    let store = opened.map(|opened| complete(&mut run, opened, store));
    let store = store.transpose()?;
    let diff = run.diff.as_deref().map(OutFile::create).transpose()?;
    let trace = run.trace.as_deref().map(OutFile::create).transpose()?;
    let stats = run.stats.as_ref().map(Figures::open).transpose()?;
    let lines = run
        .stats_instances
        .as_deref()
        .map(InstanceLines::open)
        .transpose()?;
    let strace = Strace::open(&run.strace, run.plan.tell_number)?;
    run.config.calls = strace.as_ref().map(Strace::watch);
    let pool = ChunkPool::new();
    start_volumes(&mut run, store.as_ref())?;
    let (runner, image) = ready(&mut run, store.as_ref(), &pool)?;
    run.layers.report_left_out();
    if run.verbose {
        let guest = run.guest.to_string();
        let how = (runner.allocator(), runner.cache(), runner.threads());
        report_settings((&guest, &run.layers.paths), how, &run.config, &run.plan);
    }
    let _base = reserve_base(&run, &pool)?;
    let terminal = Arc::new(Terminal::default());
    run.plan.stdio = match run.plan.instances {
        1 if run.layers.take_stdin() => Stdio::Output,
        1 => Stdio::Inherit,
        _ => Stdio::Collect(terminal.clone()),
    };
    let follower = Follower {
        memory: Memory::start(),
        traces: trace.is_some().then(Mutex::default),
    };
    let report = runner.run_watched(&image, &run.plan, &follower)?;
    let memory = follower.memory.end();
    let strace_end = strace.map_or(Ok(()), Strace::end);
    if let Some(stats) = stats {
        let mut figures = RunFigures::new(&runner, image.stats(), &report, memory);
        let budget = run.plan.budget.as_ref();
        figures.spilled_bytes = budget.map_or(0, Budget::most_spilled_bytes);
        stats.write(&figures)?;
    }
    if let Some(lines) = lines {
        lines.write(&report.instances)?;
    }
    if let (Some(out), Some(fs)) = (diff, report.file_systems.first()) {
        write_diff(out, fs, &pool)?;
    }
    if let (Some(out), Some(traces)) = (trace, follower.traces) {
        write_trace(out, traces.into_inner())?;
    }
    terminal.check()?;
    strace_end?;
    print_returned(&report)?;
    if let (Some(tag), Some(store)) = (&run.commit, &store) {
        commit(store, tag, &run, &report)?;
    }
    if let Some(store) = &store {
        save_volumes(store, &run, &report)?;
    }
    Ok(exit_code(&report))
}

/// Opens the store, if the run reads or writes images.
pub(super) fn open_store(run: &Run, store: Option<&Path>) -> Result<Option<Store>, Failure> {
    let reads = matches!(run.guest, GuestFrom::Image(..)) || !run.volume_bases.is_empty();
    let writes = run.commit.is_some() || !run.save_volumes.is_empty();
    let what = match (reads, writes) {
        (false, false) => return Ok(None),
        (true, false) => Use::Look,
        (false, true) => Use::Fill,
        (true, true) => Use::Change,
    };
    store_dir::open(store, what).map(Some)
}

/// Prints what functions gave that were called in place of the guest's command.
fn print_returned(report: &RunReport) -> Result<(), Failure> {
    let all = report.instances.iter();
    let returned = all.filter_map(|one| one.returned.as_ref());
    returned
        .filter(|text| !text.is_empty())
        .try_for_each(|text| print_lines(text))
}

/// Opens the images that volumes start from, by their digests from here on.
pub(super) fn start_volumes(run: &mut Run, store: Option<&Store>) -> Result<(), Failure> {
    let Some(store) = store else { return Ok(()) };
    for (name, reference) in &mut run.volume_bases {
        *reference = Reference::Digest(store.resolve(reference.as_str())?.to_string());
        let in_use = store.mark_used(reference.as_str())?;
        run.in_use.push(Arc::new(in_use));
        let image = store.image(reference.as_str())?;
        run.plan.volume_bases.push((name.clone(), image));
    }
    Ok(())
}

/// Keeps volumes as images, if all instances are content.
fn save_volumes(store: &Store, run: &Run, report: &RunReport) -> Result<(), Failure> {
    let failed = report.failed().next().is_some();
    for Saved { name, tag } in &run.save_volumes {
        if failed {
            say(&format!(
                "{tag}: not made, since not every guest exited with 0"
            ));
            continue;
        }
        let of_volume = report.volumes.iter().find(|(known, _)| known == name);
        let Some((_, fs)) = of_volume else { continue };
        let base = run.volume_bases.iter().find(|(known, _)| known == name);
        let by = format!("volume {name} of {}", run.plan.args.join(" "));
        let base = base.map(|(_, base)| base);
        transfer::commit_for(store, fs, base, (tag, &by), None)?;
    }
    Ok(())
}

/// Counts what was read of `--layer` against the run's budget.
pub(super) fn reserve_base(run: &Run, pool: &ChunkPool) -> Result<Option<Reservation>, Failure> {
    let (Some(budget), Some(last)) = (&run.plan.budget, run.layers.paths.last()) else {
        return Ok(None);
    };
    let reserved = budget.reserve(pool.count_held_bytes(), "base");
    reserved.map(Some).map_err(|_| too_large(last, budget))
}

/// Reads the base and compiles the guest.
fn ready(
    run: &mut Run,
    store: Option<&Store>,
    pool: &ChunkPool,
) -> Result<(Runner, Image), Failure> {
    let made = made(run, store, pool)?;
    if let Some(name) = run.argv0.take() {
        match run.plan.args.first_mut() {
            Some(first) => *first = name,
            None => run.plan.args.push(name),
        }
    }
    Ok(made)
}

fn made(
    run: &mut Run,
    store: Option<&Store>,
    pool: &ChunkPool,
) -> Result<(Runner, Image), Failure> {
    let config = run.config.clone();
    if let GuestFrom::File(path) = &run.guest {
        let budget = run.plan.budget.as_ref();
        return prepare(Guest::in_file(path)?, config, &run.layers, pool, budget);
    }
    let image = image(run, store, pool)?;
    if let Some(checkpoint) = checkpoint::open(&image, &run.guest)? {
        prepared::take_over(run, &checkpoint)?;
        return Ok((checkpoint.runner(config)?, image));
    }
    let guest = guest_of(run, store, &image)?;
    Ok((compiled(&guest, config)?, image))
}

/// What is run that is not run as it is, over which base.
pub(super) enum StartFrom {
    /// A program, from its start.
    Guest(Guest, Image),
    /// What a prepared image goes on from.
    Checkpoint(Checkpoint, Image),
}

/// Reads the base and the guest, for what does not run it as it is.
pub(super) fn start_from(
    run: &mut Run,
    store: Option<&Store>,
    pool: &ChunkPool,
) -> Result<StartFrom, Failure> {
    let (guest, image) = match &run.guest {
        GuestFrom::File(path) => {
            // One that cannot be read is told of before layers are.
            if File::open(path).is_err() {
                Guest::from_file(path)?;
            }
            let budget = run.plan.budget.as_ref();
            let (guest, layers) = beside(
                || Guest::from_file(path),
                || open_all(&run.layers, pool, budget),
            );
            let (guest, layers) = (guest?, layers?);
            (guest, Image::new(&layers)?)
        }
        GuestFrom::Image(..) => {
            let image = image(run, store, pool)?;
            if let Some(checkpoint) = checkpoint::open(&image, &run.guest)? {
                prepared::take_over(run, &checkpoint)?;
                return Ok(StartFrom::Checkpoint(checkpoint, image));
            }
            (guest_of(run, store, &image)?, image)
        }
    };
    if let (Some(name), Some(first)) = (run.argv0.take(), run.plan.args.first_mut()) {
        *first = name;
    }
    Ok(StartFrom::Guest(guest, image))
}

/// Reads the base and the guest, for what runs it from its start.
pub(super) fn guest_and_image(
    run: &mut Run,
    store: Option<&Store>,
    pool: &ChunkPool,
) -> Result<(Guest, Image), Failure> {
    match start_from(run, store, pool)? {
        StartFrom::Guest(guest, image) => Ok((guest, image)),
        StartFrom::Checkpoint(..) => Err(Failure::new(format_args!(
            "{}: the image is prepared: `stratafs run --image` continues the command of preview1 that it holds, which cannot answer requests",
            run.guest
        ))),
    }
}

/// Opens the image that is run, by its digest from here on: a tag may move while the
/// guest runs.
fn image(run: &mut Run, store: Option<&Store>, pool: &ChunkPool) -> Result<Image, Failure> {
    let GuestFrom::Image(reference, _) = &run.guest else {
        return Err(Failure::new("the guest is of no image"));
    };
    let Some(store) = store else {
        return Err(Failure::new(format_args!("{reference}: no store is open")));
    };
    let id = Reference::Digest(store.resolve(reference.as_str())?.to_string());
    let image = stacked(store, &id, &run.layers, pool, run.plan.budget.as_ref())?;
    run.base = Some(id);
    Ok(image)
}

/// Reads the program that the image says, and fills in how it is started.
fn guest_of(run: &mut Run, store: Option<&Store>, image: &Image) -> Result<Guest, Failure> {
    let (GuestFrom::Image(reference, wanted), Some(store), Some(id)) =
        (&run.guest, store, &run.base)
    else {
        return Err(Failure::new("no store is open"));
    };
    let info = store.info(id.as_str())?;
    let program = transfer::program(store, &info)?;
    let parts = (image, &info.config);
    from_image::guest(reference, parts, (program, wanted), &mut run.plan)
}

/// An image of the store, with layers on top of it.
fn stacked(
    store: &Store,
    reference: &Reference,
    sources: &Layers,
    pool: &ChunkPool,
    budget: Option<&Budget>,
) -> Result<Image, Failure> {
    if sources.paths.is_empty() {
        return Ok(store.image(reference.as_str())?);
    }
    let mut layers = store.layers(reference.as_str())?;
    layers.extend(open_all(sources, pool, budget)?);
    Ok(Image::new(&layers)?)
}

/// Compiles a guest. A call that cannot be read was typed wrongly.
fn compiled(guest: &Guest, config: RunnerConfig) -> Result<Runner, Failure> {
    Runner::new(guest, config).map_err(|error| match error {
        RunnerError::Call { .. } => Failure::usage(format_args!("--invoke: {error}")),
        error => error.into(),
    })
}

/// Compiles the guest while the layers are read. Its bytes are not kept.
pub(super) fn prepare(
    guest: Guest,
    config: RunnerConfig,
    layers: &Layers,
    pool: &ChunkPool,
    budget: Option<&Budget>,
) -> Result<(Runner, Image), Failure> {
    thread::scope(|scope| {
        let runner = scope.spawn(move || compiled(&guest, config));
        let image = open_all(layers, pool, budget).and_then(|layers| Ok(Image::new(&layers)?));
        let runner = match runner.join() {
            Ok(runner) => runner?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((runner, image?))
    })
}

/// Reads layers into memory: no more of them than `budget` has room for.
fn open_all(
    sources: &Layers,
    pool: &ChunkPool,
    budget: Option<&Budget>,
) -> Result<Vec<Layer>, Failure> {
    let mut layers = Vec::new();
    for path in &sources.paths {
        let mut options = sources.options.clone();
        let left = budget.map(|budget| budget.max_bytes().saturating_sub(pool.count_held_bytes()));
        options.max_bytes = left.map_or(options.max_bytes, |left| left.min(options.max_bytes));
        let read = |source: Source| source.layers(pool, &options);
        let opened = sources::open(path, &options)
            .and_then(read)
            .map_err(|error| match (error.kind(), budget) {
                (SourceErrorKind::Limit { limit, .. }, Some(budget)) if Some(*limit) == left => {
                    too_large(path, budget)
                }
                _ => no_source(path, error),
            });
        layers.extend(opened?);
    }
    Ok(layers)
}

/// A source that cannot be read, which may be meant for an image of the store.
fn no_source(path: &Path, error: SourceError) -> Failure {
    let text = path.to_str().unwrap_or_default();
    let is_image = text.contains([':', '@']) && text.parse::<Reference>().is_ok();
    match is_image && !path.exists() {
        true => Failure::new(format_args!(
            "{error}: if it is an image of the store, use --image {text}"
        )),
        false => error.into(),
    }
}

/// The base does not fit into the memory that the run may hold.
fn too_large(path: &Path, budget: &Budget) -> Failure {
    Failure::new(format_args!(
        "{}: with this layer the base takes more memory than the run's budget of {} bytes: raise \
         --budget, or import the layers with `stratafs image import` and run the image with \
         --image, which reads it from disk",
        path.display(),
        budget.max_bytes()
    ))
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
        match self {
            Self::Stderr => complain_json(figures),
            Self::File(file) => {
                let text = serde_json::to_string(figures)?;
                file.write(|out| Ok(writeln!(out, "{text}")?))
            }
        }
    }
}

fn write_diff(out: OutFile, fs: &Fs, pool: &ChunkPool) -> Result<(), Failure> {
    let layer = fs.diff(pool)?;
    out.write(|writer| Ok(source::write_layer(&layer, writer).map(drop)?))
}

/// Keeps base and changes as a new image, if the instance is content.
fn commit(store: &Store, tag: &Reference, run: &Run, report: &RunReport) -> Result<(), Failure> {
    let [one] = report.instances.as_slice() else {
        return Ok(());
    };
    let (Outcome::Exited(0), Some(fs)) = (&one.outcome, report.file_systems.first()) else {
        say(&format!(
            "{tag}: not made, since the guest did not exit with 0"
        ));
        return Ok(());
    };
    if Checkpoint::remove_from(fs)? {
        complain(&format!(
            "warning: {tag} starts from the beginning: the state that the guest went on from is not part of it"
        ));
    }
    let by = run.plan.args.join(" ");
    let (base, platform) = (run.base.as_ref(), run.set_platform.as_ref());
    Ok(transfer::commit_for(store, fs, base, (tag, &by), platform).map(drop)?)
}

/// What an instance opened and read of the base.
type Traced = (u32, Vec<TracedFile>);

/// Follows a run: notes memory, and keeps the traces of instances that have
/// ended, whose file systems are gone by then.
struct Follower {
    memory: Memory,
    traces: Option<Mutex<Vec<Traced>>>,
}

impl Watch for Follower {
    fn created(&self) {
        self.memory.created();
    }

    fn finished(&self, report: &InstanceReport, fs: &Fs) {
        if let Some(traces) = &self.traces {
            let files = fs.collect_trace().unwrap_or_default();
            traces.lock().push((report.instance, files));
        }
    }
}

/// One line for each file of the base that an instance opened: instances by
/// number, files in the order of first touch.
fn write_trace(out: OutFile, mut traces: Vec<Traced>) -> Result<(), Failure> {
    traces.sort_by_key(|(instance, _)| *instance);
    out.write(|writer| {
        for (instance, files) in &traces {
            for file in files {
                let ranges = file.ranges.iter().map(|range| (range.start, range.end));
                let mut line = serde_json::json!({
                    "instance": instance,
                    "size_bytes": file.size,
                    "opens": file.opens,
                    "read_bytes": file.read_bytes(),
                    "ranges": ranges.collect::<Vec<_>>(),
                });
                let path = [b"/", file.path.to_bytes().as_slice()].concat();
                put_bytes(&mut line, "path", &path);
                writeln!(writer, "{line}")?;
            }
        }
        Ok(())
    })
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
        Outcome::TimedOut(_) => {
            say(&format!("the guest was {outcome}"));
            ExitCode::from(TIMEOUT_CODE)
        }
        Outcome::Failed(why) => {
            say(&format!("the guest does not run: {why}"));
            ExitCode::FAILURE
        }
        // Out of memory.
        stopped => {
            say(&format!("the guest was {stopped}"));
            ExitCode::FAILURE
        }
    }
}
