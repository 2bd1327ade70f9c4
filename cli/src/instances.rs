//! `--stats-instances`: a line of JSON for each instance; and `--verbose`: the
//! settings of a run.

use std::path::{Path, PathBuf};

use serde::Serialize;
use stratafs::runner::{Allocator, CacheUse, InstanceReport, Outcome, RunPlan, RunnerConfig};
use stratafs::vfs::Rights;

use super::failure::{Failure, complain, print_own};
use super::outfile::OutFile;

/// What a shell shows for a program that aborted.
pub(super) const TRAP_CODE: u8 = 134;

/// What `timeout` shows for a program that it stopped.
pub(super) const TIMEOUT_CODE: u8 = 124;

/// Where the lines go, opened before the run.
pub(super) enum InstanceLines {
    Stdout,
    File(OutFile),
}

/// One instance. docs/JSON.md has the meaning of each key.
#[derive(Debug, Serialize)]
struct InstanceLine<'a> {
    instance: u32,
    outcome: &'static str,
    exit_code: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    returned: Option<&'a str>,
    fs_create_ns: u64,
    start_ns: u64,
    run_ns: u64,
    usage: Used,
}

/// What its file system held when it ended.
#[derive(Debug, Serialize)]
struct Used {
    logical_bytes: u64,
    private_bytes: u64,
    exclusive_bytes: u64,
    held_bytes: u64,
    inodes: u64,
    changed: u64,
    links: i64,
}

impl InstanceLines {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        match path.as_os_str() == "-" {
            true => Ok(Self::Stdout),
            false => OutFile::create(path).map(Self::File),
        }
    }

    /// Writes a line for each instance, by number.
    pub(super) fn write(self, instances: &[InstanceReport]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for report in instances {
            serde_json::to_writer(&mut text, &InstanceLine::of(report))?;
            text.push(b'\n');
        }
        match self {
            Self::Stdout => print_own(&text),
            Self::File(file) => file.write(|out| Ok(out.write_all(&text)?)),
        }
    }
}

impl<'a> InstanceLine<'a> {
    fn of(report: &'a InstanceReport) -> Self {
        let (outcome, exit_code) = match &report.outcome {
            Outcome::Exited(code) => ("exited", *code),
            Outcome::Trapped { .. } => ("trapped", TRAP_CODE.into()),
            Outcome::TimedOut(_) => ("timed-out", TIMEOUT_CODE.into()),
            Outcome::OutOfMemory(_) => ("out-of-memory", 1),
            _ => ("failed", 1),
        };
        let ended = matches!(report.outcome, Outcome::Exited(_));
        let usage = report.usage;
        Self {
            instance: report.instance,
            outcome,
            exit_code,
            message: (!ended).then(|| report.outcome.to_string()),
            returned: report.returned.as_deref(),
            fs_create_ns: report.fs_create_ns,
            start_ns: report.start_ns,
            run_ns: report.run_ns,
            usage: Used {
                logical_bytes: usage.logical_bytes,
                private_bytes: usage.private_bytes,
                exclusive_bytes: report.exclusive_bytes,
                held_bytes: usage.held_bytes,
                inodes: usage.inodes,
                changed: usage.changed,
                links: usage.links,
            },
        }
    }
}

/// Says on stderr what the settings of a run are: `what: how`, a line each.
pub(super) fn report_settings(
    (guest, layers): (&str, &[PathBuf]),
    (allocator, cache, threads): (&Allocator, &CacheUse, u32),
    config: &RunnerConfig,
    plan: &RunPlan,
) {
    let none = || "none".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(none, |bytes| format!("{bytes} bytes"));
    let proposals = match config.proposals.to_string() {
        text if text.is_empty() => "as wasmtime 48 has them".to_owned(),
        text => format!("as wasmtime 48 has them, but {text}"),
    };
    let shown = directories(plan);
    let layers: Vec<_> = layers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let quota = plan.quota;
    let lines = [
        ("guest", guest.to_owned()),
        ("layers", or_none(&layers)),
        ("arguments", format!("{:?}", plan.args)),
        ("directories", or_none(&shown)),
        ("network", config.network.summary()),
        ("memory of guests", allocator.to_string()),
        ("cache of compiled code", cache.to_string()),
        ("proposals", proposals),
        (
            "fuel",
            config.fuel.map_or_else(none, |fuel| fuel.to_string()),
        ),
        (
            "timeout",
            config
                .timeout
                .map_or_else(none, |limit| format!("{} s", limit.as_secs_f64())),
        ),
        ("most memory", bytes(config.max_memory)),
        (
            "quotas of an instance",
            format!(
                "{} bytes, {} objects made, {} changed, {} open",
                quota.max_bytes, quota.max_inodes, quota.max_changed, quota.max_open
            ),
        ),
        (
            "budget of the run",
            bytes(
                plan.budget
                    .as_ref()
                    .map(stratafs::budget::Budget::max_bytes),
            ),
        ),
        (
            "instances",
            format!("{}, {} at a time", plan.instances, threads),
        ),
    ];
    let lines = lines.map(|(what, how)| format!("{what}: {}", how.replace('\n', " ")));
    complain(&lines.join("\n"));
}

/// What a guest is shown, and as what.
fn directories(plan: &RunPlan) -> Vec<String> {
    let shown = plan.preopens.iter().map(|preopen| {
        let read_only = preopen.rights == Rights::ReadOnly;
        let how = if read_only { " read-only" } else { "" };
        format!("{} as {}{how}", preopen.dir, preopen.guest)
    });
    let hosts = plan.host_dirs.iter().map(|dir| {
        let how = if dir.rights == Rights::ReadOnly {
            " read-only"
        } else {
            ""
        };
        format!("the host's {} as {}{how}", dir.dir.display(), dir.guest)
    });
    let volumes = plan.volumes.iter();
    let volumes = volumes.map(|volume| format!("volume {} as {}", volume.name, volume.guest));
    shown.chain(hosts).chain(volumes).collect()
}

fn or_none(parts: &[String]) -> String {
    match parts {
        [] => "none".to_owned(),
        parts => parts.join(", "),
    }
}
