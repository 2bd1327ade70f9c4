//! The arguments of `snapshotter`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::reach::{LazyWhen, ReachArgs};

const SNAPSHOTTER_EXAMPLE: &str = "\
Example:
  stratafs snapshotter --root /var/lib/stratafs/snapshotter --address /run/stratafs/snapshotter.sock --store /var/lib/stratafs/store

In /etc/containerd/config.toml:
  [proxy_plugins.stratafs]
    type = \"snapshot\"
    address = \"/run/stratafs/snapshotter.sock\"

Exit codes:
  0          INT or TERM: calls that were in progress have been answered
  1          the work failed: the socket is taken, the root is another's
  2          the arguments are wrong
  130, 143   INT or TERM for the second time";

/// Keeps the layers of containerd's images in the store: a snapshotter, as a proxy plugin.
///
/// Layers of images that are pulled by Kubernetes for the runtime io.containerd.stratafs.v1 come to the
/// store by their tables, and containerd fetches and unpacks nothing of them. Layers that it is not told
/// the image of are unpacked into directories. docs/CONTAINERD.md says how it is set up.
#[derive(Debug, Args)]
#[command(after_help = SNAPSHOTTER_EXAMPLE)]
pub(crate) struct SnapshotterArgs {
    /// Where snapshots are kept that are not in the store; made if it is missing
    #[arg(long, value_name = "DIR")]
    pub(crate) root: PathBuf,

    /// The Unix socket to listen at
    #[arg(long, value_name = "SOCKET")]
    pub(crate) address: PathBuf,

    /// When the parts of layers come that can be fetched in parts
    #[arg(long, value_enum, value_name = "HOW", default_value = "auto")]
    pub(crate) lazy: LazyWhen,

    /// Look for credentials in FILE, which is as Docker's config.json; repeat for several, of which the first
    /// that has some for a registry is used [default: $REGISTRY_AUTH_FILE, Docker's, podman's]
    #[arg(long, value_name = "FILE")]
    pub(crate) auth_file: Vec<PathBuf>,

    /// Take images whose name begins with HOST[/REPOSITORY] only if they are signed, as `cosign sign --key` does,
    /// with the key whose public part is in FILE (PEM); `*` is for all. Repeat for several: of the longest
    /// beginning that fits one key is enough
    #[arg(long, value_name = "PREFIX=FILE")]
    pub(crate) verify_key: Vec<String>,

    /// With --verify-key, whether images are taken that none is for
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value = "refuse",
        requires = "verify_key"
    )]
    pub(crate) unverified: Unverified,

    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// What becomes of images that no key is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unverified {
    /// They are not taken
    #[default]
    Refuse,
    /// They are taken as if there were no keys; layers of no known image are refused all the same
    Allow,
}
