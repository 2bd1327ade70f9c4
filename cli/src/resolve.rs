//! From what was typed to what is to be done: defaults filled in, the
//! environment looked at, contradictions refused.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use stratafs::budget::Budget;
use stratafs::image::Reference;
use stratafs::runner::{Preopen, RunPlan, RunnerConfig};
use stratafs::source::Platform;
use stratafs::vfs::{Quota, Rights};

use super::args::{CacheArgs, RunArgs};
use super::failure::Failure;
use super::memory;
use super::parse::Variable;
use super::sources::Layers;

/// Bytes that an instance may hold when `--max-bytes` is not given.
const MAX_BYTES: u64 = 1 << 30;

/// Objects that an instance may create when `--max-inodes` is not given.
const MAX_INODES: u64 = 200_000;

/// Objects of the base that an instance may change when `--max-changed` is not
/// given.
const MAX_CHANGED: u64 = 200_000;

/// Everything `run` needs to know.
pub(super) struct Run {
    pub(super) guest: GuestFrom,
    pub(super) layers: Layers,
    pub(super) config: RunnerConfig,
    pub(super) plan: RunPlan,
    pub(super) stats: Option<Stats>,
    pub(super) diff: Option<PathBuf>,
    pub(super) trace: Option<PathBuf>,
    pub(super) commit: Option<Reference>,
    /// What that image says that it is for.
    pub(super) set_platform: Option<Platform>,
    /// The image of the store that is run, by its digest, once it is open.
    pub(super) base: Option<Reference>,
}

/// Where the guest comes from.
pub(super) enum GuestFrom {
    /// A file of the host.
    File(PathBuf),
    /// An image, with the arguments that were typed.
    Image(Reference, Vec<String>),
}

/// Where the figures go.
pub(super) enum Stats {
    Stderr,
    File(PathBuf),
}

impl Run {
    pub(super) fn resolve(args: RunArgs) -> Result<Self, Failure> {
        if args.diff.is_some() && args.instances > 1 {
            return Err(Failure::usage(
                "--diff shows what one instance changed: leave --instances away",
            ));
        }
        if args.commit.is_some() && args.instances > 1 {
            return Err(Failure::usage(
                "--commit keeps what one instance changed: leave --instances away",
            ));
        }
        let (guest, words) = guest(args.image, args.guest)?;
        let usual = Quota::default();
        let max_held = args.budget.or_else(memory::half);
        let budget = budget(max_held, args.spill.as_deref(), args.spill_max)?;
        let mut plan = RunPlan::default();
        plan.args = words;
        plan.env = last_of_each(args.env);
        plan.preopens = match args.preopens.is_empty() {
            true => vec![root()],
            false => args.preopens,
        };
        plan.host_dirs = args.dirs;
        plan.volumes = args.volumes;
        plan.deterministic = args.deterministic;
        plan.trace = args.trace.is_some();
        plan.quota = Quota {
            max_bytes: args.max_bytes.unwrap_or(MAX_BYTES),
            max_inodes: args.max_inodes.unwrap_or(MAX_INODES),
            max_open: args.max_open.unwrap_or(usual.max_open),
            max_changed: args.max_changed.unwrap_or(MAX_CHANGED),
        };
        plan.budget = budget;
        plan.share = args.share;
        // Diff and commit read the one instance's file system after the run.
        plan.keep_file_systems = args.diff.is_some() || args.commit.is_some();
        plan.rights = match args.read_only {
            true => Rights::ReadOnly,
            false => Rights::ReadWrite,
        };
        plan.instances = args.instances;
        let mut config = RunnerConfig::default();
        config.threads = args.threads.min(args.instances);
        config.cache_dir = cache_dir(args.cache);
        config.timeout = args.timeout;
        config.max_memory = args.max_memory;
        config.trap_unknown_imports = args.trap_unknown_imports;
        let stats = args.stats.map(|path| match path.as_os_str() == "-" {
            true => Stats::Stderr,
            false => Stats::File(path),
        });
        Ok(Self {
            guest,
            layers: Layers::new(args.layers, &args.sources)?,
            config,
            plan,
            stats,
            diff: args.diff,
            commit: args.commit,
            set_platform: args.set_platform,
            base: None,
            trace: args.trace,
        })
    }
}

/// Tells guest and arguments apart: an image brings its guest.
fn guest(
    image: Option<Reference>,
    words: Vec<OsString>,
) -> Result<(GuestFrom, Vec<String>), Failure> {
    let mut words = words.into_iter();
    if let Some(image) = image {
        return Ok((GuestFrom::Image(image, texts(words)?), Vec::new()));
    }
    let file = PathBuf::from(words.next().unwrap_or_default());
    let args = guest_args(&file, words)?;
    Ok((GuestFrom::File(file), args))
}

/// The whole file system, as the guest's root.
pub(super) fn root() -> Preopen {
    Preopen {
        dir: "/".to_owned(),
        guest: "/".to_owned(),
        rights: Rights::ReadWrite,
    }
}

/// Puts the guest's name before its arguments: the name of its file, without
/// the directories, as wasmtime's command line does.
pub(super) fn guest_args(
    guest: &Path,
    words: impl Iterator<Item = OsString>,
) -> Result<Vec<String>, Failure> {
    let name = guest.file_name().unwrap_or(guest.as_os_str()).to_owned();
    texts(std::iter::once(name).chain(words))
}

fn texts(words: impl Iterator<Item = OsString>) -> Result<Vec<String>, Failure> {
    let all = words.enumerate();
    all.map(|(number, word)| {
        word.into_string().map_err(|word| {
            let word = word.to_string_lossy();
            Failure::usage(format_args!(
                "argument {number} of the guest is not UTF-8: {word:?}"
            ))
        })
    })
    .collect()
}

/// A variable that is given twice has its last value, as in a shell.
fn last_of_each(variables: Vec<Variable>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::with_capacity(variables.len());
    for Variable { name, value } in variables {
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    all
}

/// Decides where compiled guests are kept.
pub(super) fn cache_dir(args: CacheArgs) -> Option<PathBuf> {
    if args.off {
        return None;
    }
    args.dir
        .or_else(|| {
            env::var_os("STRATAFS_CACHE")
                .filter(|dir| !dir.is_empty())
                .map(PathBuf::from)
        })
        .or_else(|| Some(platform_cache_dir()?.join("stratafs")))
}

/// Where this platform keeps what programs can make again.
fn platform_cache_dir() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    let variable = |name| env::var_os(name).map(PathBuf::from).and_then(absolute);
    if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        Some(env::home_dir().and_then(absolute)?.join("Library/Caches"))
    } else {
        variable("XDG_CACHE_HOME")
            .or_else(|| Some(env::home_dir().and_then(absolute)?.join(".cache")))
    }
}

/// Makes the budget of a run, with a place to spill to if there is one.
fn budget(
    max_held: Option<u64>,
    spill: Option<&Path>,
    max_spilled: Option<u64>,
) -> Result<Option<Budget>, Failure> {
    let Some(dir) = spill else {
        return Ok(max_held.map(Budget::new));
    };
    let Some(max_held) = max_held else {
        return Err(Failure::usage(
            "--spill needs --budget N: the system does not say how much memory there is",
        ));
    };
    let budget = Budget::with_spill(max_held, dir, max_spilled.unwrap_or(u64::MAX));
    budget.map(Some).map_err(|error| {
        let reason = format_args!("no file to spill to can be made here: {error}");
        Failure::at(dir, reason)
    })
}
