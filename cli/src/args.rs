//! The arguments as typed: syntax only, nothing looked up.

mod serve;
#[cfg(target_os = "linux")]
mod snapshotter;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use stratafs::image::Reference;
use stratafs::runner::freeze::Point;
use stratafs::runner::{GuestDir, HostDir};
use stratafs::source::Platform;
use stratafs::vfs::{Rule, Share};

use super::build_args::BuildArgs;
use super::habits::{HabitArgs, Word};
use super::image::args::{IMAGE_EXAMPLE, ImageCommand, StoreArgs};
use super::parse::{self, Saved, Variable, VolumeSource};
use super::reach::{LazyWhen, PullWhen, ReachArgs, VerifyArgs};
use super::sources::SourceArgs;
use super::strace::StraceArgs;

pub(super) use serve::{Keep, ServeArgs};
#[cfg(target_os = "linux")]
pub(super) use snapshotter::{SnapshotterArgs, Unverified};

const EXAMPLE: &str = "\
Example:
  stratafs run --layer python.tar.gz --layer ./scripts python.wasm /hello.py";

const RUN_EXAMPLE: &str = "\
Examples:
  stratafs run --layer ./site guest.wasm --an-option-of-the-guest
  stratafs run --layer base.tar.gz --layer ./app --diff changes.tar guest.wasm
  stratafs run --layer ./site --instances 1000 --threads 2 --stats - guest.wasm
  stratafs run --image app:1 --commit app:2 -- --an-option-of-the-guest

Exit codes:
  the guest's own   with one instance; 134 if the guest trapped
  0, 1              with several instances: whether all of them exited with 0
  1                 the work failed
  2                 the arguments are wrong
  124               --timeout ended the guest
  130, 143          INT or TERM ended the run

With several instances, and with `--layer -`, the guests' stdin is empty. What a guest writes to stdout and stderr \
comes out in one piece when it ends, or in pieces of 1 MiB if it is longer.";

const PREPARE_EXAMPLE: &str = "\
Examples:
  stratafs image prepare --at stdin --tag py:warm --layer python.tar.gz --layer ./app python.wasm /serve.py
  echo 1+1 | stratafs run --image py:warm
  stratafs image prepare --at path:/.stratafs/checkpoint --tag app:warm --image app:1

Exit codes:
  0   the guest was frozen
  1   it cannot be frozen, or the work failed
  2   the arguments are wrong
  3   the guest ended before the point; nothing is tagged
  124 --timeout ended it";

const COMPLETIONS_EXAMPLE: &str = "\
Example:
  stratafs completions bash > ~/.local/share/bash-completion/completions/stratafs";

const DEMO_EXAMPLE: &str = "\
Example:
  stratafs demo --instances 1000 --threads 2";

const BENCH_EXAMPLE: &str = "\
Examples:
  stratafs bench
  stratafs bench --layer ./site --instances 1000 --out report guest.wasm its arguments";

/// Runs WebAssembly guests on a layered, copy-on-write file system.
///
/// A base of immutable layers is shared by all instances; what an instance
/// changes is private to it. No mount, no FUSE, no root.
#[derive(Debug, Parser)]
#[command(name = "stratafs", version, after_help = EXAMPLE)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,

    /// The store of images [default: $STRATAFS_STORE, or the platform's
    /// directory for a user's data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Run(Box<RunArgs>),
    Serve(Box<ServeArgs>),
    #[cfg(target_os = "linux")]
    Snapshotter(Box<SnapshotterArgs>),
    Demo(DemoArgs),
    Bench(BenchArgs),
    Image(ImageArgs),
    Store(StoreArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
    #[command(flatten)]
    Docker(Word),
}

/// Images in the store: brings them in, looks inside, takes them out, to registries as well.
#[derive(Debug, Args)]
#[command(after_help = IMAGE_EXAMPLE)]
pub(super) struct ImageArgs {
    #[command(subcommand)]
    pub(super) command: AnyImageCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum AnyImageCommand {
    #[command(flatten)]
    Stored(Box<ImageCommand>),
    Prepare(Box<PrepareArgs>),
    Build(Box<BuildArgs>),
}

/// Freezes a running guest: makes an image that continues from the middle of a run.
///
/// Runs one instance of a guest of WASI preview1 up to a call that it makes, and keeps
/// its state there: memory, stack, open files, and what it wrote. `run --image REF` continues
/// from there, any number of times, each with files of its own. The guest does not notice.
///
/// Standard input is not read. The image holds the memory of the guest, with the secrets
/// in it and its random state: docs/FREEZE.md says which random values to make again.
#[derive(Debug, Args)]
#[command(after_help = PREPARE_EXAMPLE, override_usage = "stratafs image prepare --at POINT --tag REF [OPTIONS] GUEST.wasm [GUEST ARGS...]\n       stratafs image prepare --at POINT --tag REF [OPTIONS] --image REF0 [GUEST ARGS...]\n       stratafs image prepare --at POINT --tag REF [OPTIONS] --image REF0 GUEST.wasm [GUEST ARGS...]", mut_args(hide_what_only_runs_take))]
pub(super) struct PrepareArgs {
    /// Where to freeze it: `stdin` (the first time that it reads its input or waits for it),
    /// `path:/NAME` (the first call that names this path), `call:FUNCTION:N` (the Nth call of
    /// this function of WASI, from 1)
    #[arg(long, value_name = "POINT")]
    pub(super) at: Point,
    /// What to call the image
    #[arg(long, value_name = "REF", value_parser = parse::tag)]
    pub(super) tag: Reference,
    /// Drop what the guest writes to stdout and stderr until then
    #[arg(long)]
    pub(super) quiet: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// Options of `run` that are about running to an end, or about many.
const ONLY_OF_RUNS: [&str; 11] = [
    "commit",
    "diff",
    "instances",
    "invoke",
    "save-volume",
    "stats",
    "stats-instances",
    "strace",
    "strace-counts",
    "trace",
    "verbose",
];

/// Leaves what is refused out of the help.
fn hide_what_only_runs_take(arg: clap::Arg) -> clap::Arg {
    match arg.get_long() {
        Some(name) if ONLY_OF_RUNS.contains(&name) => arg.hide(true),
        _ => arg,
    }
}

/// Prints the completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLE)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

/// Writes the man pages, one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Where to; it is made if it is missing
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
}

/// Runs a guest over layers: one instance, or many isolated ones.
///
/// The guest is a WASI preview1 module or a component of WASI 0.2 or 0.3,
/// binary or text. Everything after GUEST.wasm, or after the image's first
/// argument, belongs to the guest; a `--` right before that is dropped. An image
/// without an entry point runs a guest of the host that is named after it.
/// Guests have no network unless --allow-net or --inherit-network gives it.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLE, override_usage = "stratafs run [OPTIONS] GUEST.wasm [GUEST ARGS...]\n       stratafs run [OPTIONS] --image REF [--] [GUEST ARGS...]\n       stratafs run [OPTIONS] --image REF GUEST.wasm [GUEST ARGS...]")]
pub(super) struct RunArgs {
    /// A layer of the base, the lowest first: a directory; a tar archive (plain,
    /// gzip, zstd, xz, bzip2), or `-` or a FIFO with one; a zip (`.jar`, `.whl`); a
    /// Debian package; an OCI image layout, what `docker save` writes or skopeo's
    /// `dir:`, as a directory or an archive. None: an empty base
    #[arg(long = "layer", value_name = "SRC")]
    pub(super) layers: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) sources: SourceArgs,

    /// An image of the store to run, or HOST/NAME:TAG of a registry: entry point, arguments, environment and
    /// working directory are its own; layers go on top of it
    #[arg(long, value_name = "REF")]
    pub(super) image: Option<Reference>,

    /// When to ask the registry for an image with a name such as HOST/NAME:TAG
    /// [default: missing]; for other names no registry is asked
    #[arg(long, value_enum, value_name = "WHEN", requires = "image")]
    pub(super) pull: Option<PullWhen>,

    /// When the parts of an image come that are not here, of layers that can be fetched in
    /// parts [default: auto]
    #[arg(long, value_enum, value_name = "HOW", requires = "image")]
    pub(super) lazy: Option<LazyWhen>,

    #[command(flatten)]
    pub(super) verify: VerifyArgs,

    #[command(flatten)]
    pub(super) reach: ReachArgs,

    /// Make a new image of the base and what the one instance changed, if it
    /// exits with 0
    #[arg(long, value_name = "REF", value_parser = parse::tag)]
    pub(super) commit: Option<Reference>,

    /// What the image of `--commit`, or of `image prepare`, says that it is for, so that
    /// tools unpack it that do not know WebAssembly
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(super) set_platform: Option<Platform>,

    /// Show the directory FS_DIR of the layered file system to the guest as
    /// GUEST_DIR, read-only with `::ro` [default: /::/]
    #[arg(long = "preopen", value_name = "FS_DIR::GUEST_DIR[::ro]", value_parser = parse::preopen)]
    pub(super) preopens: Vec<GuestDir>,

    /// Show what the layers hold and nothing more: no `/dev/null` and its kin, no
    /// `/tmp`, which come with the default preopen
    #[arg(long)]
    pub(super) bare: bool,

    /// Show no directory of the layered file system
    #[arg(long, conflicts_with = "preopens")]
    pub(super) no_preopen: bool,

    /// Show a directory of the host beside the layered ones; one name stands for both
    #[arg(long = "dir", value_name = "HOST_DIR[::GUEST_DIR[::ro]]", value_parser = parse::host_dir)]
    pub(super) dirs: Vec<HostDir>,

    /// Show the volume NAME, writable, which all instances of this run share,
    /// empty at first or from the image REF of the store; the same NAME again shows
    /// it at a further place. Docker's NAME:GUEST_DIR and HOST_DIR:GUEST_DIR[:ro]
    /// are taken as well
    #[arg(short = 'v', long = "volume", value_name = "NAME[=REF]::GUEST_DIR", value_parser = parse::volume)]
    pub(super) volumes: Vec<VolumeSource>,

    /// Make an image of the volume NAME once the run has ended, if every instance
    /// exited with 0
    #[arg(long = "save-volume", value_name = "NAME=REF", value_parser = parse::saved)]
    pub(super) save_volumes: Vec<Saved>,

    /// Set an environment variable for the guest; NAME alone takes the host's value, if
    /// there is one. No other variable is inherited
    #[arg(short = 'e', long = "env", value_name = "NAME[=VALUE]", value_parser = parse::variable)]
    pub(super) env: Vec<Variable>,

    /// The directory that the guest starts in
    #[arg(short = 'w', long, value_name = "DIR", value_parser = parse::workdir)]
    pub(super) workdir: Option<String>,

    /// The guest's first argument, its own name
    #[arg(long, value_name = "NAME")]
    pub(super) argv0: Option<String>,

    /// The program of the image to run in place of its entry point; its usual
    /// arguments are left out
    #[arg(long, value_name = "PROG", requires = "image", conflicts_with = "over")]
    pub(super) entrypoint: Option<String>,

    /// A guest of the host to run over the image
    #[arg(id = "over", long = "guest", value_name = "FILE", requires = "image")]
    pub(super) over: Option<PathBuf>,

    /// Call one function in place of the guest's command: the name of an export of
    /// a module, whose arguments follow GUEST.wasm, or a call of a component's
    /// function, such as 'add(1, 2)'. Results are printed
    #[arg(long, value_name = "FUNCTION")]
    pub(super) invoke: Option<String>,

    #[command(flatten)]
    pub(super) habits: HabitArgs,

    /// Make every write fail with EROFS
    #[arg(long)]
    pub(super) read_only: bool,

    /// A rule for PATH of the layered file system and all below it, which stays where it is:
    /// `ro` (nothing changes), `append` (files grow at their end and directories get new
    /// names), `hidden` (guests find no such name), or `free`, an exception below another
    #[arg(long = "rule", value_name = "MODE:PATH", value_parser = parse::rule)]
    pub(super) rules: Vec<(String, Rule)>,

    /// The most bytes that one instance may write and keep (K, M, G: powers of
    /// 1024); past it writes fail with ENOSPC [default: 1G]
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(super) max_bytes: Option<u64>,

    /// The most files, directories and links that one instance may make (K, M,
    /// G); past it making one fails with ENOSPC [default: 200000]
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(super) max_inodes: Option<u64>,

    /// The most objects of the base that one instance may change (K, M, G); past
    /// it a change fails with ENOSPC, but what makes room is never refused
    /// [default: 200000]
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(super) max_changed: Option<u64>,

    /// The most descriptors that one instance may have open at a time (K, M,
    /// G); past it opening fails with EMFILE
    #[arg(long, value_name = "N", value_parser = parse::small_size)]
    pub(super) max_open: Option<u32>,

    /// The most bytes of memory that the run may hold for files: of all
    /// instances and volumes, and of the base that `--layer` reads (K, M, G)
    /// [default: half of the memory that this process may use, if the system
    /// says how much that is]
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(super) budget: Option<u64>,

    /// Keep blocks of files past three quarters of the budget in a file without a
    /// name in DIR, so that instances may hold more than fits in memory; once the
    /// file system of DIR is full, a write fails with ENOSPC. Nothing is left there
    /// when the run ends, however it ends
    #[arg(long, value_name = "DIR")]
    pub(super) spill: Option<PathBuf>,

    /// The most bytes that --spill may take (K, M, G) [default: what there is]
    #[arg(long, value_name = "N", value_parser = parse::size, requires = "spill")]
    pub(super) spill_max: Option<u64>,

    /// Where blocks that guests write are held once if they are equal: nowhere
    /// (none), within one instance and its base (own), or among all instances of
    /// the run (run). With `run` a guest can find out, by timing, whether another
    /// one wrote the same
    #[arg(long, value_name = "none|own|run", default_value = "own", value_parser = parse::share)]
    pub(super) share: Share,

    /// Run N isolated instances over one base; each sees its number, from 0,
    /// in STRATAFS_INSTANCE [default: 1, which sees none]
    #[arg(long, value_name = "N", value_parser = parse::instances)]
    pub(super) instances: Option<u32>,

    /// Run T instances at a time
    #[arg(long, value_name = "T", default_value = "1", value_parser = parse::threads)]
    pub(super) threads: u32,

    /// Write the run's figures as JSON into FILE (`-`: stderr)
    #[arg(long, value_name = "FILE")]
    pub(super) stats: Option<PathBuf>,

    /// Write a line of JSON for each instance into FILE (`-`: stdout): how it
    /// ended, its exit code, its times, what it held
    #[arg(long, value_name = "FILE")]
    pub(super) stats_instances: Option<PathBuf>,

    /// Print the settings of the run on stderr: engine, cache, network, directories,
    /// quotas
    #[arg(long)]
    pub(super) verbose: bool,

    /// Write what the one instance changed, as an OCI layer with whiteouts
    #[arg(long, value_name = "FILE.tar")]
    pub(super) diff: Option<PathBuf>,

    /// Write which files of the base each instance opened, and which bytes it
    /// read, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,

    #[command(flatten)]
    pub(super) strace: StraceArgs,

    /// Make two runs leave the same bytes: clocks start in 2000 and count
    /// their readings, random numbers follow from the instance's number
    #[arg(long)]
    pub(super) deterministic: bool,

    /// Stop an instance that runs longer (exit code 124)
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    pub(super) timeout: Option<std::time::Duration>,

    /// Stop an instance whose memories and tables grow past N bytes (K, M, G)
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(super) max_memory: Option<u64>,

    /// Run a guest that imports functions not offered here: calling one is a
    /// trap
    #[arg(long)]
    pub(super) trap_unknown_imports: bool,

    #[command(flatten)]
    pub(super) cache: CacheArgs,

    /// The guest, and its arguments
    #[arg(value_names = ["GUEST.wasm", "GUEST ARGS"], required_unless_present = "image", trailing_var_arg = true)]
    pub(super) guest: Vec<OsString>,
}

/// Shows the main job on what this machine has: many isolated instances of a
/// guest over one base of real size.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLE)]
pub(super) struct DemoArgs {
    /// How many instances
    #[arg(long, value_name = "N", default_value = "1000", value_parser = parse::instances)]
    pub(super) instances: u32,

    /// How many at a time
    #[arg(long, value_name = "T", default_value = "2", value_parser = parse::threads)]
    pub(super) threads: u32,

    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(super) json: bool,

    /// The directory to take the base from [default: what is found of the
    /// Rust documentation, the library's source, and the cargo registry]
    #[arg(long, value_name = "DIR")]
    pub(super) base: Option<PathBuf>,

    #[command(flatten)]
    pub(super) sources: SourceArgs,

    /// Another build of the guest [default: guest-examples/src/bin/marker.rs,
    /// built now]
    #[arg(long, value_name = "FILE")]
    pub(super) guest: Option<PathBuf>,

    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

/// Measures what a file system for each guest costs, beside the other ways
/// that this machine allows: a copied directory, a kernel overlay mount, one
/// shared host directory, and no file system at all.
///
/// All ways run the same guest over the same base, in turns of one run. What
/// each instance was given stays until the end, so that growth shows.
#[derive(Debug, Args)]
#[command(after_help = BENCH_EXAMPLE, override_usage = "stratafs bench [OPTIONS] [GUEST.wasm [GUEST ARGS...]]")]
pub(super) struct BenchArgs {
    /// A layer of the base, the lowest first [default: the demo's base]
    #[arg(long = "layer", value_name = "SRC")]
    pub(super) layers: Vec<PathBuf>,

    #[command(flatten)]
    pub(super) sources: SourceArgs,

    /// How many instances of each way
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse::instances)]
    pub(super) instances: u32,

    /// Write report.html and report.json into DIR
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,

    /// Measure as well how costs grow with files, layers, depth, changes, sizes,
    /// instances, threads and images in a store, up to MAX of each [default: a
    /// million, a minute and half a gigabyte of memory]
    #[arg(long, value_name = "MAX", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1000000", value_parser = parse::most)]
    pub(super) growth: Option<u64>,

    /// Print one JSON document instead of a table
    #[arg(long)]
    pub(super) json: bool,

    /// Stop adding instances of a way that has taken this long
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse::seconds)]
    pub(super) budget: std::time::Duration,

    /// Make copies and mounts below DIR [default: /dev/shm if there is room]
    #[arg(long, value_name = "DIR")]
    pub(super) work: Option<PathBuf>,

    #[command(flatten)]
    pub(super) cache: CacheArgs,

    /// The guest, and its arguments [default: the demo's guest]
    #[arg(value_names = ["GUEST.wasm", "GUEST ARGS"], trailing_var_arg = true)]
    pub(super) guest: Vec<OsString>,
}

/// Where compiled guests are kept.
#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    /// Keep compiled guests in DIR [default: $STRATAFS_CACHE, or the
    /// platform's cache directory]
    #[arg(long = "cache", value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,

    /// Keep and use no compiled guests
    #[arg(long = "no-cache", conflicts_with = "dir")]
    pub(super) off: bool,
}
