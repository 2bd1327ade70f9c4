//! What is known of a checkpoint without reading its program.

use std::collections::BTreeSet;

use super::checkpoint::is_hidden_place;
use super::dirs::DEVICES;
use crate::digest::Digest;

/// What is known of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CheckpointInfo {
    /// The point, as [`Point`](super::Point) is written; of a guest that a host froze by hand, the
    /// call that it stands at, which may be of a function of the host's own.
    pub point: String,
    /// The digest of the program that was frozen.
    #[cfg_attr(feature = "serde", serde(serialize_with = "as_text"))]
    pub program_digest: Digest,
    /// How many functions were on the stack.
    pub frames: usize,
    /// Bytes of the program's memories.
    pub memory_bytes: u64,
    /// Bytes of the program that goes on, which holds the memories but for their zeros.
    pub own_bytes: u64,
    /// What the monotonic clock read, in nanoseconds.
    pub monotonic_ns: u64,
    /// What the wall clock read, in nanoseconds since 1970; 0 if a host froze the guest by hand.
    pub wall_ns: u64,
    /// The proposals to WebAssembly that the engine has to have, such as `simd`, in alphabetical
    /// order.
    pub features: Vec<String>,
    /// How often the guest asked for random numbers: calls of `random_get`, and openings of
    /// `/dev/random` and `/dev/urandom`. All that goes on from here shares what it got.
    pub random_calls: u64,
    /// The guest's names of the volumes and directories of the host that a run has to show it, in
    /// alphabetical order.
    pub needed_dirs: Vec<String>,
    /// The guest's names of the volumes that it changed before the point. What it wrote there is
    /// no part of the checkpoint.
    pub changed_volumes: Vec<String>,
}

#[cfg(feature = "serde")]
fn as_text<S: serde::Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

/// Returns which of the directories that a guest has something open in are neither its own nor the
/// host's to show anyway.
pub(super) fn needed_dirs<'n>(
    named: impl Iterator<Item = &'n str>,
    own: BTreeSet<&str>,
) -> Vec<String> {
    let needed = named.filter(|name| {
        let is_shown = own.contains(name) || *name == DEVICES;
        !is_shown && !is_hidden_place(name)
    });
    let needed: BTreeSet<&str> = needed.collect();
    needed.into_iter().map(str::to_owned).collect()
}
