//! `stratafs snapshotter`: a proxy plugin of containerd, by which the layers of images go to a store as
//! they are pulled, and never to the disk a second time. docs/CONTAINERD.md says how it is set up.

mod dirs;
mod filter;
mod listen;
mod metadata;
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
use snapshots::Snapshots;

/// Answers containerd until the program is told to end.
pub(super) fn snapshotter(
    args: SnapshotterArgs,
    store: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let reach = args.reach.with_auth_files(args.auth_file)?;
    let socket = ReadySocket::bind(&args.address)?;
    let snapshots = Snapshots::open(&args.root, store, reach, args.lazy)?;
    socket.answer(Arc::new(snapshots))?;
    Ok(ExitCode::SUCCESS)
}
