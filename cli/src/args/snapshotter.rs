//! The arguments of `snapshotter`.

use std::path::PathBuf;

use clap::Args;

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

    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}
