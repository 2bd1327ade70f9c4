//! `image` and `store` as typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use stratafs::image::Reference;
use stratafs::object::ObjectHome;

use super::look_args::{AnalyzeArgs, LintArgs};
use super::make_args::{AppendArgs, MutateArgs, SlimArgs};
use super::remote_args::{
    CopyArgs, FillArgs, LoginArgs, LogoutArgs, LsRemoteArgs, PullArgs, PushArgs,
};
use crate::parse;
use crate::reach::{self, ReachArgs};
use crate::sources::{SourceArgs, StampArgs};

pub(crate) const IMAGE_EXAMPLE: &str = "\
Example:
  stratafs image import ./site --tag site:1
  stratafs image import base.oci.tar --layer ./app --tag app
  stratafs image tree app /srv
  stratafs image export app app.tar --format oci-archive
  stratafs image push app localhost:5000/app:1

REF is NAME[:TAG] (`latest` without a tag), or the image's own digest blake3:HEX, eight digits of which are
enough if no other image begins with them.";

const STORE_EXAMPLE: &str = "\
Example:
  stratafs store stat
  stratafs store verify --store /srv/images
  stratafs store gc --json
  stratafs store repair";

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    Import(ImportArgs),
    Ls(LsArgs),
    Inspect(InspectArgs),
    History(HistoryArgs),
    Tree(TreeArgs),
    Cat(CatArgs),
    Diff(DiffArgs),
    Explain(ExplainArgs),
    Analyze(AnalyzeArgs),
    Lint(LintArgs),
    Export(ExportArgs),
    Squash(SquashArgs),
    Slim(SlimArgs),
    Append(AppendArgs),
    Mutate(MutateArgs),
    Tag(TagArgs),
    Rm(RmArgs),
    Pull(PullArgs),
    Push(PushArgs),
    Copy(CopyArgs),
    #[command(name = "ls-remote")]
    LsRemote(LsRemoteArgs),
    Login(LoginArgs),
    Logout(LogoutArgs),
}

/// Makes an image of directories, archives and OCI images.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image import alpine.tar --layer ./app --tag app:1

SRC is a directory; a tar archive (plain, gzip, zstd, xz, bzip2); a zip (`.jar`, `.whl`); a Debian package; an OCI image
layout, what `docker save` writes or skopeo's `dir:`, as a directory or an archive; told apart by what it holds, never by its
name. `-` is an archive on stdin, and a FIFO is read to its end. The configuration is that of SRC. A layer that comes as a
blob is kept, so that it goes out again under its own digest.")]
pub(crate) struct ImportArgs {
    /// What to import
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,

    /// What to call it
    #[arg(long, value_name = "REF", value_parser = parse::tag)]
    pub(crate) tag: Reference,

    /// One more layer on top; repeat for several, bottom first
    #[arg(long = "layer", value_name = "SRC")]
    pub(crate) layers: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) sources: SourceArgs,

    #[command(flatten)]
    pub(crate) stamp: StampArgs,

    /// Bytes of content that a source may have, all its layers together (K, M, G: powers of 1024)
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(crate) max_bytes: Option<u64>,

    /// Entries that a source may have, all its layers together (K, M, G)
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub(crate) max_entries: Option<u64>,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Lists the images of the store.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image ls --json")]
pub(crate) struct LsArgs {
    /// List as well what `image build` keeps for the next build
    #[arg(long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Shows an image's configuration and layers.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stratafs image inspect app:1\n  stratafs image inspect ghcr.io/team/app:1 --referrers"
)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// List as well what refers to the image in the registry that REF names: signatures,
    /// lists of parts
    #[arg(long)]
    pub(crate) referrers: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Shows how an image came about, the latest step first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image history app:1")]
pub(crate) struct HistoryArgs {
    #[command(flatten)]
    pub(crate) image: One,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Lists what is in an image, all layers merged.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stratafs image tree app:1 /etc\n  stratafs image tree app:1 --depth 1 --sizes"
)]
pub(crate) struct TreeArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// Where to begin
    #[arg(value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// Show no more than N levels below PATH
    #[arg(long, value_name = "N")]
    pub(crate) depth: Option<usize>,
    /// Show of each directory how many bytes the files below it have
    #[arg(long)]
    pub(crate) sizes: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Writes a file of an image to stdout; links are followed inside the image.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image cat app:1 /etc/os-release")]
pub(crate) struct CatArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// The file
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Lists what differs between two images: A added, C changed, D deleted.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stratafs image diff app:1 app:2\n  stratafs image diff app:1 app:2 --stat"
)]
pub(crate) struct DiffArgs {
    /// The image to begin with
    #[arg(value_name = "REF_A")]
    pub(crate) from: Reference,
    /// The image to compare with it
    #[arg(value_name = "REF_B")]
    pub(crate) to: Reference,
    /// Count what was added, changed and deleted, with bytes before and after
    #[arg(long)]
    pub(crate) stat: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Explains why an image shows what it shows at a path: the layer it comes from,
/// what that hides, its chunks, and who shares them.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image explain app:1 /etc/os-release")]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// The path; links are not followed
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// Tell how many files and bytes at and below PATH come from each layer
    #[arg(long)]
    pub(crate) sizes: bool,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Writes an image where other tools read it. It appears whole or not at all.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image export app:1 app.tar --format oci-archive
  stratafs image export app:1 - --format tar | tar -tf -
  stratafs image export app:1 ./layout --compress gzip
  stratafs image export app:1 ./layout --compress zstd --start-set app.trace

A directory must not be there yet, or be empty; a file is replaced. `tar` and `dir` are the merged tree.")]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// The file or directory to write (`-`: an archive to stdout)
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// What to write [default: oci-archive if OUT ends in .tar or is `-`, else oci]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// How layers that have no blob yet are compressed
    #[arg(long, value_enum, default_value = "none", value_name = "HOW")]
    pub(crate) compress: Compress,
    /// A trace that `run --trace` wrote: what the program read comes first in layers that are
    /// compressed, so that it is fetched first
    #[arg(long, value_name = "TRACE")]
    pub(crate) start_set: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stamp: StampArgs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Makes an image of one layer that shows the same tree.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image squash app:1 --tag app:1-flat")]
pub(crate) struct SquashArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// What to call the new image
    #[arg(long, value_name = "REF2", value_parser = parse::tag)]
    pub(crate) tag: Reference,
    #[command(flatten)]
    pub(crate) stamp: StampArgs,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Adds another name of an image.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image tag app:1 app:stable")]
pub(crate) struct TagArgs {
    #[command(flatten)]
    pub(crate) image: One,
    /// The new name; an image that has it loses it
    #[arg(value_name = "REF2", value_parser = parse::tag)]
    pub(crate) tag: Reference,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// Removes names; what no name leads to any more goes with `store gc`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image rm app:1 && stratafs store gc")]
pub(crate) struct RmArgs {
    /// The images; a digest removes all names of its image
    #[arg(value_name = "REF", required = true)]
    pub(crate) images: Vec<Reference>,
    #[command(flatten)]
    pub(crate) form: Form,
}

/// An image of the store.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// The image: NAME[:TAG] or blake3:HEX
    #[arg(value_name = "REF")]
    pub(crate) reference: Reference,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Form {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to write an image as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// An OCI image layout, as a directory
    Oci,
    /// An OCI image layout, as a tar archive
    OciArchive,
    /// The merged tree, as a tar archive
    Tar,
    /// The merged tree, as a directory
    Dir,
    /// An OCI artifact of WebAssembly, for an image that is one program; an archive
    /// if OUT ends in .tar or is `-`
    Artifact,
    /// The program alone: of a prepared image the one that goes on from its point, without
    /// its open files
    Wasm,
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compress {
    /// Not at all
    None,
    /// For every reader
    Gzip,
    /// For readers of OCI 1.1
    Zstd,
}

/// The store as a whole.
#[derive(Debug, Args)]
#[command(after_help = STORE_EXAMPLE)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What a collection keeps.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("goal").multiple(true))]
pub(crate) struct GcArgs {
    /// Keep the latest cached steps of `image build`, up to N bytes of files (K, M, G); by
    /// default all of them are removed
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse::size)]
    pub(crate) keep_cache: u64,

    /// Drop images that were pulled, those used longest ago first, until the store takes N bytes
    /// at most (K, M, G). Images with a name that was given here stay, and so do those in use
    #[arg(long, value_name = "N", value_parser = parse::size, conflicts_with = "bucket", group = "goal")]
    pub(crate) max_size: Option<u64>,

    /// Drop images that were pulled and not used for longer than TIME: 90s, 30m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = parse::span, conflicts_with = "bucket", group = "goal")]
    pub(crate) older_than: Option<Duration>,

    /// Collect in a place of an object store instead: s3://BUCKET[/PREFIX], gs://, az://,
    /// a folder. What no tag leads to is removed. A push that is running there is not
    /// waited for: it makes this fail
    #[arg(
        long,
        value_name = "PLACE",
        value_parser = reach::place,
        conflicts_with = "keep_cache",
        group = "goal"
    )]
    pub(crate) bucket: Option<ObjectHome>,

    /// How old what goes has to be: 90s, 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse::span, requires = "bucket")]
    pub(crate) grace: Duration,

    /// Say what would go, and remove nothing
    #[arg(long, requires = "goal")]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

impl GcArgs {
    /// Returns whether images that were pulled may go.
    pub(crate) fn is_bounded(&self) -> bool {
        self.max_size.is_some() || self.older_than.is_some()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Counts what the store holds
    #[command(after_help = "Example:\n  stratafs store stat --json")]
    Stat(Form),
    /// Reads everything again and compares it with its digests
    #[command(after_help = "Example:\n  stratafs store verify")]
    Verify(Form),
    /// Frees what no tag leads to; others may use the store meanwhile
    #[command(
        after_help = "Examples:\n  stratafs store gc --keep-cache 10G\n  stratafs store gc --max-size 50G --older-than 30d --dry-run\n  stratafs store gc --bucket s3://images/team --grace 24h"
    )]
    Gc(GcArgs),
    Fill(FillArgs),
    /// Makes an empty store; one that is there already stays as it is
    #[command(
        after_help = "Example:\n  stratafs store init --store /srv/images\n\nThe directory must not be there yet, or be empty. `image import` makes the store as well."
    )]
    Init(Form),
    /// Rebuilds a catalog that is lost or damaged, tags included
    #[command(
        after_help = "Example:\n  stratafs store repair --store /srv/images\n\nNo image, layer or pack is removed. Exit code 1 if something is lost for good."
    )]
    Repair(Form),
}
