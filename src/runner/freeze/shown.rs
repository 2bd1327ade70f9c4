//! What a guest that is frozen or goes on finds in `/.stratafs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::errno::Errno;
use crate::error::Error;
use crate::runner::fixed;
use crate::vfs::{Fs, SetTime, VirtualFile};

/// The directory, in the root of the guest's file system.
pub(super) const DIR: &str = ".stratafs";

/// What a guest opens to say where it may be frozen.
const CHECKPOINT: &str = "checkpoint";

/// What tells a guest which instance it is.
const FORK: &str = "fork";

/// Returns whether it is the host that shows a name in the directory.
pub(super) fn is_shown(name: &[u8]) -> bool {
    [CHECKPOINT, FORK]
        .iter()
        .any(|shown| shown.as_bytes() == name)
}

/// Fresh bytes that each opening of `fork` gives.
const FRESH_BYTES: usize = 32;

/// Puts something into the directory that is no guest's: the root has the time that it had.
pub(super) fn put<R>(fs: &Fs, act: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    let mtime = fs.metadata("/")?.mtime;
    let done = act()?;
    fs.set_times("/", SetTime::Keep, SetTime::To(mtime))?;
    Ok(done)
}

/// Shows `checkpoint`, which a guest opens to say where it may be frozen, and `fork`, with
/// the number of the instance and random bytes that no other opening gives. In a run that
/// repeats they follow from the number of the instance.
pub(in crate::runner) fn show(
    fs: &Fs,
    (instance, is_deterministic): (u32, bool),
) -> Result<(), Errno> {
    let number = move || format!("{instance}\n").into_bytes();
    let openings = AtomicUsize::new(0);
    let fork = move || {
        let fresh = match is_deterministic {
            true => repeated(instance, openings.fetch_add(1, Ordering::Relaxed)),
            false => fresh(),
        };
        // Bytes that are not random are none at all.
        fresh.map_or_else(Vec::new, |fresh| {
            format!("{instance}\n{}\n", super::saved::hex(&fresh)).into_bytes()
        })
    };
    let files: Vec<(&'static str, Arc<dyn VirtualFile>)> =
        vec![(CHECKPOINT, Arc::new(number)), (FORK, Arc::new(fork))];
    fs.furnish_dir(DIR, files)
}

fn fresh() -> Option<[u8; FRESH_BYTES]> {
    let mut fresh = [0; FRESH_BYTES];
    getrandom::fill(&mut fresh).ok()?;
    Some(fresh)
}

/// The bytes of one opening in a run that repeats.
fn repeated(instance: u32, opening: usize) -> Option<[u8; FRESH_BYTES]> {
    let bytes = fixed::bytes("fork", instance);
    let (all, _) = bytes.as_chunks();
    all.get(opening % all.len().max(1)).copied()
}
