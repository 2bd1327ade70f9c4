//! `stratafs snapshotter`: a proxy plugin of containerd, by which the layers of images go to a store as
//! they are pulled, and never to the disk a second time. docs/CONTAINERD.md says how it is set up.

mod dirs;
mod filter;
mod listen;
mod metadata;
mod policy;
mod proto;
mod record;
mod service;
mod snapshots;
mod stored;
mod users;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::SnapshotterArgs;
use crate::failure::Failure;
use listen::ReadySocket;
use policy::Policy;
use snapshots::Snapshots;
use stored::PullSettings;

/// Answers containerd until the program is told to end.
pub(super) fn snapshotter(
    args: SnapshotterArgs,
    store: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let terms = PullSettings {
        policy: Policy::of(&args)?,
        reach: args.reach.with_auth_files(args.auth_file)?,
        lazy: args.lazy,
    };
    let socket = ReadySocket::bind(&args.address)?;
    let snapshots = Snapshots::open(&args.root, store, terms)?;
    socket.answer(Arc::new(snapshots))?;
    Ok(ExitCode::SUCCESS)
}
