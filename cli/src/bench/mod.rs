//! `stratafs bench`: what a file system for each guest costs, for the user's
//! own base and guest, beside the other ways that this machine allows.

mod copy;
mod growth;
mod mount;
mod turns;
mod ways;
mod work;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use stratafs::chunk::ChunkPool;
use stratafs::image::Image;
use stratafs::runner::{Guest, RunPlan, RunnerConfig};

use super::args::BenchArgs;
use super::failure::{Failure, print_json, print_lines};
use super::outfile::OutFile;
use super::sources::Layers;
use super::{base, guest_source, resolve, run};
use crate::report::{Comparison, bytes, count, nanos, page, series_table};
use turns::{Limits, TurnContext};
use ways::Ways;
use work::WorkDir;

pub(super) fn bench(args: BenchArgs) -> Result<ExitCode, Failure> {
    let json = args.json;
    let note = |line: String| if json { Ok(()) } else { print_lines(&line) };
    let reports = args.out.as_deref().map(Reports::create).transpose()?;
    let grows = args.growth;
    let mut figures = measure(args, note)?;
    if let Some(max) = grows {
        figures.growth = growth::measure(max)?;
    }
    match json {
        true => print_json(&figures)?,
        false => {
            let notes = figures.notes().join("\n");
            print_lines(format!("\n{}\n{notes}", figures.table()).trim_end())?;
            if grows.is_some() {
                print_lines(format!("\n{}", series_table(&figures.growth)).trim_end())?;
            }
        }
    }
    if let Some(reports) = reports {
        note(reports.write(&figures)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    args: BenchArgs,
    note: impl Fn(String) -> Result<(), Failure>,
) -> Result<Comparison, Failure> {
    let command = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let (file, words) = guest(args.guest)?;
    let guest = Guest::from_file(&file)?;
    let name = guest.name().to_owned();
    let mut config = RunnerConfig::default();
    config.cache_dir = resolve::cache_dir(args.cache);
    let pool = ChunkPool::new();
    let begin = Instant::now();
    let (runner, image, base_source) = match args.layers.is_empty() {
        true => {
            let base = base::make(&pool)?;
            let image = Image::new(&base.layers)?;
            let (runner, _) = run::prepare(guest, config, &Layers::default(), &pool, None)?;
            (runner, image, base.source)
        }
        false => {
            let layers = Layers::new(args.layers.clone(), &args.sources)?;
            let (runner, image) = run::prepare(guest, config, &layers, &pool, None)?;
            layers.report_left_out();
            (runner, image, names(&args.layers))
        }
    };
    let read = begin.elapsed();
    let stats = image.stats();
    note(format!(
        "base: {} files, {} in {} layers from {base_source}, read in {}",
        count(stats.files),
        bytes(stats.logical_bytes),
        stats.layers,
        nanos(as_nanos(read))
    ))?;
    let work = WorkDir::create(args.work.as_deref(), stats.logical_bytes)?;
    note(format!("copies and mounts: in {}", work.place()))?;
    let mut plan = RunPlan::default();
    plan.args = resolve::guest_args(&file, words.into_iter())?;
    let limits = Limits {
        instances: args.instances,
        budget: args.budget,
        room: work.room() / 2,
    };
    let began = SystemTime::now();
    let ways = Ways::set_up(&image, &work, read)?;
    let (ways, absent) = TurnContext::new(&runner, &image, &plan, &work, limits).run(ways)?;
    Ok(Comparison {
        command,
        guest: name,
        base_source,
        base: stats.into(),
        work_dir: work.place(),
        instances: args.instances.into(),
        turns: limits.turns().into(),
        began_unix_s: began
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        ways,
        absent,
        ..Comparison::here()
    })
}

/// The user's guest and its arguments, or the demo's.
fn guest(typed: Vec<OsString>) -> Result<(PathBuf, Vec<OsString>), Failure> {
    let mut words = typed.into_iter();
    match words.next() {
        Some(file) => Ok((file.into(), words.collect())),
        None => Ok((guest_source::build()?, Vec::new())),
    }
}

fn names(layers: &[PathBuf]) -> String {
    let names: Vec<_> = layers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

fn as_nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The files of `--out`, made sure of before the work.
struct Reports {
    dir: PathBuf,
    json: OutFile,
    html: OutFile,
}

impl Reports {
    fn create(dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| Failure::at(dir, error))?;
        Ok(Self {
            dir: dir.to_owned(),
            json: OutFile::create(&dir.join("report.json"))?,
            html: OutFile::create(&dir.join("report.html"))?,
        })
    }

    /// Writes them and says so.
    fn write(self, figures: &Comparison) -> Result<String, Failure> {
        let json = serde_json::to_string_pretty(figures)?;
        self.json.write(|out| Ok(writeln!(out, "{json}")?))?;
        let html = page(figures);
        self.html.write(|out| Ok(out.write_all(html.as_bytes())?))?;
        let dir = self.dir.display();
        Ok(format!("wrote {dir}/report.html and {dir}/report.json"))
    }
}
