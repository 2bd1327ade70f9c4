//! `image push`, `pull`, `copy`, `login`, `logout`, `ls-remote` as typed.

use std::path::PathBuf;

use clap::Args;
use stratafs::image::Reference;
use stratafs::registry::RegistryRef;
use stratafs::source::Platform;

use super::args::{Compress, Form, One};
use crate::parse;
use crate::reach::{LazyWhen, ReachArgs, RemoteName, VerifyArgs};
use crate::sources::StampArgs;

/// Fetches an image from a registry. Layers that the store has are not fetched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stratafs image pull ghcr.io/team/app:1
  stratafs image pull localhost:5000/app --tag app:1
  stratafs image pull alpine@sha256:HEX --platform linux/arm64
  stratafs image pull ghcr.io/team/app:1 --verify-key cosign.pub
  stratafs image pull s3://images/team/app:1 --tag app:1

Names are Docker's: without a host docker.io is meant. The store shows the image when all of it is there; what has come of it
stays when a pull is interrupted, and the next one goes on there.")]
pub(crate) struct PullArgs {
    /// The image: HOST[:PORT]/NAME[:TAG][@DIGEST], or s3://BUCKET/[PREFIX/]NAME[:TAG], gs://,
    /// az://, http(s)://, file:/// or the path of one in a folder
    #[arg(value_name = "HOST/NAME:TAG")]
    pub(crate) name: RemoteName,

    /// What to call it in the store [default: its full name]
    #[arg(long, value_name = "REF", value_parser = parse::tag)]
    pub(crate) tag: Option<Reference>,

    /// Which image to take of an index [default: the only one, else the one
    /// for Linux on this architecture, else the one for WebAssembly]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// When the files come of layers that can be fetched in parts: `only`: when they are read, `auto`
    /// and `off`: now
    #[arg(long, value_enum, default_value = "off", value_name = "HOW")]
    pub(crate) lazy: LazyWhen,

    #[command(flatten)]
    pub(crate) verify: VerifyArgs,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Sends an image to a registry. What the registry has is not sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stratafs image push app:1 localhost:5000/team/app:1
  stratafs image push ghcr.io/team/app:1
  stratafs image push app:1 s3://images/team/app:1
  stratafs image push app:1 ./folder/app:1
  stratafs run --image app:1 --trace app.trace && stratafs image push app:1 ghcr.io/team/app:1 --start-set app.trace
  stratafs image push app:2 ghcr.io/team/app:2 --packs

Layers that came as blobs are sent unchanged, so that their digests stay; others are compressed with gzip. An image that was made
here for WebAssembly says that it is for Linux as well, so that tools that do not know WebAssembly unpack it.")]
pub(crate) struct PushArgs {
    #[command(flatten)]
    pub(crate) image: One,

    /// Where to: HOST[:PORT]/NAME[:TAG], or s3://BUCKET/[PREFIX/]NAME[:TAG], gs://, az://,
    /// file:/// or a path in a folder [default: REF, if that is such a name]
    #[arg(value_name = "HOST/NAME:TAG")]
    pub(crate) to: Option<RemoteName>,

    /// How layers that have no blob yet are compressed
    #[arg(long, value_enum, default_value = "gzip", value_name = "HOW")]
    pub(crate) compress: Compress,

    /// A trace that `run --trace` wrote: what the program read comes first in layers that have
    /// no blob yet, so that it is fetched first
    #[arg(long, value_name = "TRACE")]
    pub(crate) start_set: Option<PathBuf>,

    /// Push an OCI artifact of WebAssembly, of an image that is one program
    #[arg(long)]
    pub(crate) artifact: bool,

    /// Push packs of chunks, which stratafs alone reads: of a new version little more than its changed bytes
    /// is sent
    #[arg(long, conflicts_with_all = ["artifact", "compress"])]
    pub(crate) packs: bool,

    /// With --packs, a tag of the same repository whose image was pushed with --packs: what it has
    /// is not sent (repeat) [default: what the tag leads to now, else the tags nearest to it]
    #[arg(long, value_name = "TAG", requires = "packs")]
    pub(crate) since: Vec<String>,

    #[command(flatten)]
    pub(crate) stamp: StampArgs,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Copies an image between registries and image layouts, byte by byte; no store is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stratafs image copy ghcr.io/team/app:1 localhost:5000/app:1
  stratafs image copy alpine:3 ./layout:3
  stratafs image copy oci:layout.tar localhost:5000/app:1

A place is a layout if it begins with `oci:`, `/` or `.`, or is there as a directory or archive; the name of the image in it
may follow after a colon. Any other is a name in a registry. An index is copied with all its images unless --platform chooses.
Signatures, attestations and lists of parts go along.")]
pub(crate) struct CopyArgs {
    /// What to copy: HOST/NAME:TAG, or the PATH[:NAME] of a layout, a directory or an archive
    #[arg(value_name = "FROM")]
    pub(crate) from: String,

    /// Where to: HOST/NAME:TAG, or the PATH[:NAME] of a layout, a directory that is there or
    /// is made
    #[arg(value_name = "TO")]
    pub(crate) to: String,

    /// The one image of an index to copy
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<Platform>,

    /// Leave out what is about the image: signatures, attestations, lists of parts
    #[arg(long)]
    pub(crate) no_referrers: bool,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Saves credentials for a registry, once the registry has accepted them.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image login ghcr.io -u me
  echo \"$TOKEN\" | stratafs image login localhost:5000 -u me --password-stdin

They are saved where Docker saves them: in config.json, or by the credential helper that it names. Those that podman saved are
read as well.")]
pub(crate) struct LoginArgs {
    /// The registry: HOST[:PORT], docker.io for Docker's
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    /// The name of your account there [default: asked for]
    #[arg(short = 'u', long = "username", alias = "user", value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Read the password from stdin in place of asking for it
    #[arg(long, requires = "user")]
    pub(crate) password_stdin: bool,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Removes the saved credentials for a registry.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image logout ghcr.io")]
pub(crate) struct LogoutArgs {
    /// The registry: HOST[:PORT]
    #[arg(value_name = "HOST")]
    pub(crate) host: String,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Lists the tags that a repository of a registry has.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  stratafs image ls-remote ghcr.io/team/app")]
pub(crate) struct LsRemoteArgs {
    /// The repository: HOST[:PORT]/NAME
    #[arg(value_name = "HOST/NAME")]
    pub(crate) name: RegistryRef,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}

/// Fetches what is not here of an image that was pulled in part.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  stratafs image pull ghcr.io/team/app:1 --lazy only && stratafs store fill ghcr.io/team/app:1

It comes from where the image came from. What has come stays if this ends before its time. Each layer's archive is held against
the table that it was pulled by: an image where they differ loses its names.")]
pub(crate) struct FillArgs {
    #[command(flatten)]
    pub(crate) image: One,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,

    #[command(flatten)]
    pub(crate) form: Form,
}
