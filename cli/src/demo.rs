//! `stratafs demo`: the main job on what the machine has, with proof.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use stratafs::chunk::ChunkPool;
use stratafs::digest::Digest;
use stratafs::image::Image;
use stratafs::runner::{Guest, RunPlan, Runner, RunnerConfig, Stdio};

use super::args::DemoArgs;
use super::failure::{Failure, print_json, print_lines};
use super::proof::{Proof, prove};
use super::sources::{self, Layers, SourceArgs};
use super::watch::{FirstWords, RunProgress};
use super::{base, guest_source, resolve};
use crate::report::{Align, RunFigures, Summary, Table, bytes, count, nanos};

const WHAT_IT_DOES: &str = "each instance writes 8 files of its own, appends to a file of the base, \
changes a byte of another, deletes a third, renames a directory, and looks for traces of the others";

/// What the demo found, as `--json` prints it.
#[derive(Serialize)]
struct DemoReport {
    guest: String,
    base_source: String,
    base_digest: BeforeAfter,
    isolation: Proof,
    #[serde(flatten)]
    figures: RunFigures,
    /// What the first instance that complained said.
    #[serde(skip)]
    complaint: String,
}

/// The base's fingerprint, from its bytes each time.
#[derive(Serialize)]
struct BeforeAfter {
    before: String,
    after: String,
    unchanged: bool,
}

pub(super) fn demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    let json = args.json;
    let note = |line: String| if json { Ok(()) } else { print_lines(&line) };
    let found = run(args, note)?;
    match json {
        true => print_json(&found)?,
        false => print_lines(found.table().trim_end())?,
    }
    found.verdict()
}

fn run(
    args: DemoArgs,
    note: impl Fn(String) -> Result<(), Failure>,
) -> Result<DemoReport, Failure> {
    let file = args.guest.map_or_else(guest_source::build, Ok)?;
    let guest = Guest::from_file(&file)?;
    let pool = ChunkPool::new();
    let start = Instant::now();
    let (image, base_source) = image(args.base, &args.sources, &pool)?;
    let stats = image.stats();
    note(format!(
        "base: {} files, {} in {} layers from {base_source}, read in {}",
        count(stats.files),
        bytes(stats.logical_bytes),
        stats.layers,
        since(start)
    ))?;
    note(WHAT_IT_DOES.to_owned())?;
    let mut config = RunnerConfig::default();
    config.threads = args.threads.min(args.instances);
    config.cache_dir = resolve::cache_dir(args.cache);
    let runner = Runner::new(&guest, config)?;
    let first_words = Arc::new(FirstWords::default());
    let mut plan = RunPlan::default();
    plan.args = resolve::guest_args(&file, std::iter::empty())?;
    plan.preopens = vec![resolve::root()];
    plan.instances = args.instances;
    plan.keep_file_systems = true;
    plan.stdio = Stdio::Collect(first_words.clone());
    let before = image.verify()?;
    let progress = RunProgress::start(args.instances.into());
    let start = Instant::now();
    let report = runner.run_watched(&image, &plan, &progress)?;
    let resident = progress.end();
    note(format!(
        "ran: {} instances, {} at a time, in {}",
        count(args.instances.into()),
        runner.threads(),
        since(start)
    ))?;
    let isolation = prove(&report, &pool)?;
    let figures = RunFigures::new(&runner, stats, &report, resident);
    Ok(DemoReport {
        guest: guest.name().to_owned(),
        base_source,
        base_digest: BeforeAfter::new(before, image.verify()?),
        isolation,
        figures,
        complaint: first_words.take(),
    })
}

fn image(
    dir: Option<PathBuf>,
    args: &SourceArgs,
    pool: &ChunkPool,
) -> Result<(Image, String), Failure> {
    let (layers, source) = match dir {
        Some(dir) => {
            let base = Layers::new(vec![dir.clone()], args)?;
            let layers = sources::open(&dir, &base.options)?.layers(pool, &base.options)?;
            base.report_left_out();
            (layers, dir.display().to_string())
        }
        None => {
            let base = base::make(pool)?;
            (base.layers, base.source)
        }
    };
    Ok((Image::new(&layers)?, source))
}

fn since(start: Instant) -> String {
    nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl BeforeAfter {
    fn new(before: Digest, after: Digest) -> Self {
        Self {
            before: before.to_string(),
            after: after.to_string(),
            unchanged: before == after,
        }
    }
}

impl DemoReport {
    /// Says yes only if everything that the demo claims was seen.
    fn verdict(&self) -> Result<ExitCode, Failure> {
        let failed = self.figures.failed;
        let isolation = &self.isolation;
        if failed > 0 {
            let said = self.complaint.trim();
            return Err(Failure::new(format_args!(
                "{failed} instances failed: {said}"
            )));
        }
        if !self.base_digest.unchanged {
            return Err(Failure::new("the base has changed"));
        }
        if isolation.foreign_marks > 0 {
            return Err(Failure::new("an instance holds what another wrote"));
        }
        if !isolation.holds() {
            return Err(Failure::new(
                "an instance left no mark: is it the demo's guest?",
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn table(&self) -> String {
        let mut proof = Table::new(&[("proved", Align::Left), ("", Align::Left)]);
        let isolation = &self.isolation;
        proof
            .row(["base fingerprint before", &self.base_digest.before])
            .row(["base fingerprint after", &self.base_digest.after])
            .row(["instances that did their work", &self.done()])
            .row([
                "instances that hold their own marks",
                &count(isolation.with_own_marks),
            ])
            .row(["marks of their own found", &count(isolation.own_marks)])
            .row(["marks of others found", &count(isolation.foreign_marks)]);
        format!("\n{proof}\n{}\n{}", self.times(), self.sizes())
    }

    fn done(&self) -> String {
        let figures = &self.figures;
        format!(
            "{} of {}",
            count(figures.instances - figures.failed),
            count(figures.instances)
        )
    }

    fn times(&self) -> Table {
        let right = Align::Right;
        let head = [
            ("time per instance", Align::Left),
            ("min", right),
            ("median", right),
            ("p99", right),
        ];
        let mut table = Table::new(&head);
        let mut row = |name: &str, summary: Summary| {
            let cells = [summary.min, summary.median, summary.p99].map(nanos);
            table.row(std::iter::once(name.to_owned()).chain(cells));
        };
        row("to create its file system", self.figures.fs_create_ns);
        row(
            "to start the guest, file system included",
            self.figures.start_ns,
        );
        row("to run it", self.figures.run_ns);
        table
    }

    fn sizes(&self) -> Table {
        let figures = &self.figures;
        let overlay = &figures.overlay;
        let known = |size: Option<u64>| size.map_or_else(|| "not known".to_owned(), bytes);
        let copies = figures.base.logical_bytes.saturating_mul(figures.instances);
        let mut table = Table::new(&[("memory", Align::Left), ("", Align::Right)]);
        table
            .row(["base, shared by all", &bytes(figures.base.stored_bytes)])
            .row([
                "private to an instance, median",
                &bytes(overlay.private_bytes.median),
            ])
            .row([
                "private to an instance, most",
                &bytes(overlay.private_bytes.max),
            ])
            .row(["changed by all instances", &bytes(overlay.logical_bytes)])
            .row(["a copy of the base for each would take", &bytes(copies)])
            .row(["resident before", &known(figures.rss_bytes.before)])
            .row([
                "resident with all file systems made",
                &known(figures.rss_bytes.after_create),
            ])
            .row(["resident at the most", &known(figures.rss_bytes.peak)]);
        table
    }
}
