//! From what was typed to what is to be done: defaults filled in, the
//! environment looked at, contradictions refused.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use stratafs::budget::Budget;
use stratafs::image::Reference;
use stratafs::runner::{GuestDir, RunPlan, RunnerConfig};
use stratafs::source::Platform;
use stratafs::store::InUse;
use stratafs::vfs::{Quota, Rights};

use super::args::{CacheArgs, RunArgs};
use super::failure::Failure;
use super::from_image::Wanted;
use super::memory;
use super::parse::{Saved, Variable, VolumeSource};
use super::reach::{LazyWhen, PullWhen, ReachArgs, VerifyArgs};
use super::sources::Layers;
use super::strace::StraceArgs;

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
    pub(super) stats_instances: Option<PathBuf>,
    pub(super) verbose: bool,
    pub(super) diff: Option<PathBuf>,
    pub(super) trace: Option<PathBuf>,
    pub(super) strace: StraceArgs,
    pub(super) commit: Option<Reference>,
    /// What that image says that it is for.
    pub(super) set_platform: Option<Platform>,
    /// The image of the store that is run, by its digest, once it is open.
    pub(super) base: Option<Reference>,
    /// The images of the store that volumes start from, by the volumes' names.
    pub(super) volume_bases: Vec<(String, Reference)>,
    /// What volumes are kept as.
    pub(super) save_volumes: Vec<Saved>,
    /// The guest's first argument, if it is not its name.
    pub(super) argv0: Option<String>,
    /// When a registry is asked for the image, if that was said, and how.
    pub(super) pull: (Option<PullWhen>, ReachArgs, VerifyArgs),
    /// When the parts of it come that are not here.
    pub(super) lazy: LazyWhen,
    /// The images of the store that the run uses: none of them is dropped meanwhile.
    pub(super) in_use: Vec<Arc<InUse>>,
}

/// Where the guest comes from.
pub(super) enum GuestFrom {
    /// A file of the host.
    File(PathBuf),
    /// An image, with what was typed beside it.
    Image(Reference, Wanted),
}

impl fmt::Display for GuestFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Image(reference, wanted) => match &wanted.over {
                Some(path) => write!(f, "{} over image {reference}", path.display()),
                None => write!(f, "image {reference}"),
            },
        }
    }
}

/// Where the figures go.
pub(super) enum Stats {
    Stderr,
    File(PathBuf),
}

impl Stats {
    fn of(path: PathBuf) -> Self {
        match path.as_os_str() == "-" {
            true => Self::Stderr,
            false => Self::File(path),
        }
    }
}

impl Run {
    pub(super) fn resolve(mut args: RunArgs) -> Result<Self, Failure> {
        let instances = args.instances.unwrap_or(1);
        refuse_several(&args, instances)?;
        let mut config = RunnerConfig::default();
        let asked = args.habits.apply(&mut config)?;
        let workdir = args.workdir.take().or(asked.workdir);
        let wanted = Wanted {
            typed: Vec::new(),
            workdir: workdir.clone(),
            entrypoint: args.entrypoint.take(),
            over: args.over.take(),
        };
        let (guest, words) = guest(args.image.take(), wanted, std::mem::take(&mut args.guest))?;
        let max_held = args.budget.or_else(memory::half);
        let budget = budget(max_held, args.spill.as_deref(), args.spill_max)?;
        let mut plan = RunPlan::default();
        plan.args = words;
        plan.env = last_of_each(std::mem::take(&mut args.env))?;
        if let (GuestFrom::File(_), Some(dir)) = (&guest, workdir) {
            // preview1 has no other way to say it.
            if !plan.env.iter().any(|(name, _)| name == "PWD") {
                plan.env.push(("PWD".to_owned(), dir.clone()));
            }
            plan.working_dir = Some(dir);
        }
        let volume_bases = show_all(&mut args, &mut plan)?;
        plan.deterministic = args.deterministic;
        plan.trace = args.trace.is_some();
        plan.quota = quota(&args);
        plan.budget = budget;
        plan.share = args.share;
        // Diff and commit read the one instance's file system after the run.
        plan.keep_file_systems = args.diff.is_some() || args.commit.is_some();
        plan.instances = instances;
        plan.tell_number = args.instances.is_some();
        config.threads = args.threads.min(instances);
        config.cache_dir = match asked.no_cache {
            true => None,
            false => cache_dir(args.cache),
        };
        config.timeout = args.timeout.or(config.timeout);
        config.max_memory = args.max_memory.or(config.max_memory);
        config.trap_unknown_imports |= args.trap_unknown_imports;
        config.invoke = args.invoke;
        let stats = args.stats.map(Stats::of);
        Ok(Self {
            guest,
            layers: Layers::new(args.layers, &args.sources)?,
            config,
            plan,
            stats,
            stats_instances: args.stats_instances,
            verbose: args.verbose,
            diff: args.diff,
            commit: args.commit,
            set_platform: args.set_platform,
            base: None,
            volume_bases,
            save_volumes: args.save_volumes,
            argv0: args.argv0,
            pull: (args.pull, args.reach, args.verify),
            lazy: args.lazy.unwrap_or_default(),
            in_use: Vec::new(),
            trace: args.trace,
            strace: args.strace,
        })
    }
}

/// Shows the directories that were asked for, or the usual one, with what the guest may do in them,
/// and returns what volumes start from.
fn show_all(args: &mut RunArgs, plan: &mut RunPlan) -> Result<Vec<(String, Reference)>, Failure> {
    let is_usual = args.preopens.is_empty() && !args.no_preopen;
    plan.preopens = match is_usual {
        true => vec![root()],
        false => std::mem::take(&mut args.preopens),
    };
    plan.furnished = is_usual && !args.bare;
    plan.rights = match args.read_only {
        true => Rights::ReadOnly,
        false => Rights::ReadWrite,
    };
    plan.rules = std::mem::take(&mut args.rules);
    plan.host_dirs = std::mem::take(&mut args.dirs);
    let volume_bases = show(std::mem::take(&mut args.volumes), plan)?;
    check_saved(&args.save_volumes, plan)?;
    if is_usual && plan.host_dirs.iter().any(|dir| dir.guest == "/") {
        return Err(Failure::new(
            "the guest directory \"/\" is given twice: show the layered file system elsewhere \
             with --preopen /::/layers, or not at all with --no-preopen",
        ));
    }
    Ok(volume_bases)
}

/// Refuses what makes sense for one instance only.
fn refuse_several(args: &RunArgs, instances: u32) -> Result<(), Failure> {
    let (option, what) = match (args.diff.is_some(), args.commit.is_some()) {
        (true, _) => ("--diff", "shows"),
        (false, true) => ("--commit", "keeps"),
        (false, false) => return Ok(()),
    };
    match instances {
        0 | 1 => Ok(()),
        _ => Err(Failure::usage(format_args!(
            "{option} {what} what one instance changed: leave --instances out"
        ))),
    }
}

/// What one instance may hold.
fn quota(args: &RunArgs) -> Quota {
    Quota {
        max_bytes: args.max_bytes.unwrap_or(MAX_BYTES),
        max_inodes: args.max_inodes.unwrap_or(MAX_INODES),
        max_open: args.max_open.unwrap_or(Quota::default().max_open),
        max_changed: args.max_changed.unwrap_or(MAX_CHANGED),
    }
}

/// Splits guest and arguments: an image brings its guest.
fn guest(
    image: Option<Reference>,
    mut wanted: Wanted,
    mut words: Vec<OsString>,
) -> Result<(GuestFrom, Vec<String>), Failure> {
    if let Some(image) = image {
        wanted.typed = texts(words.into_iter())?;
        return Ok((GuestFrom::Image(image, wanted), Vec::new()));
    }
    // One that comes before the guest is gone already.
    if words.get(1).is_some_and(|word| word == "--") {
        words.remove(1);
    }
    let mut words = words.into_iter();
    let file = PathBuf::from(words.next().unwrap_or_default());
    let args = guest_args(&file, words)?;
    Ok((GuestFrom::File(file), args))
}

/// Shows volumes and directories of the host, and returns what volumes start from.
fn show(shown: Vec<VolumeSource>, plan: &mut RunPlan) -> Result<Vec<(String, Reference)>, Failure> {
    let mut bases: Vec<(String, Reference)> = Vec::new();
    for shown in shown {
        let (volume, base) = match shown {
            VolumeSource::Dir(dir) => {
                plan.host_dirs.push(dir);
                continue;
            }
            VolumeSource::Volume(volume, base) => (volume, base),
        };
        if let Some(base) = base {
            let known = bases.iter().find(|(name, _)| *name == volume.name);
            match known {
                Some((name, known)) if *known != base => {
                    return Err(Failure::usage(format_args!(
                        "the volume {name} cannot start from both {known} and {base}"
                    )));
                }
                Some(_) => {}
                None => bases.push((volume.name.clone(), base)),
            }
        }
        plan.volumes.push(volume);
    }
    Ok(bases)
}

/// Refuses to keep what is no volume of the run.
fn check_saved(saved: &[Saved], plan: &RunPlan) -> Result<(), Failure> {
    let unknown = saved
        .iter()
        .find(|saved| !plan.volumes.iter().any(|volume| volume.name == saved.name));
    match unknown {
        Some(saved) => Err(Failure::usage(format_args!(
            "--save-volume {}={}: the run has no volume of that name: --volume {}::GUEST_DIR \
             makes one",
            saved.name, saved.tag, saved.name
        ))),
        None => Ok(()),
    }
}

/// The whole file system, as the guest's root.
pub(super) fn root() -> GuestDir {
    GuestDir {
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

/// A variable that is given twice has its last value, as in a shell; one without a
/// value has the host's, and is left out where the host has none.
fn last_of_each(variables: Vec<Variable>) -> Result<Vec<(String, String)>, Failure> {
    let mut all: Vec<(String, String)> = Vec::with_capacity(variables.len());
    for Variable { name, value } in variables {
        let value = match value {
            Some(value) => value,
            None => match env::var(&name) {
                Ok(value) => value,
                Err(env::VarError::NotPresent) => continue,
                Err(env::VarError::NotUnicode(_)) => {
                    return Err(Failure::new(format_args!(
                        "the host's value of {name} is not UTF-8"
                    )));
                }
            },
        };
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => all.push((name, value)),
        }
    }
    Ok(all)
}

/// Returns where compiled guests are kept if nobody says it.
pub(super) fn usual_cache_dir() -> Option<PathBuf> {
    cache_dir(CacheArgs {
        dir: None,
        off: false,
    })
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
