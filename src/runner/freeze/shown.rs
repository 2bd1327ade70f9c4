//! What a guest that is frozen or goes on finds in `/.stratafs`.

use std::sync::Arc;

use crate::errno::Errno;
use crate::error::Error;
use crate::vfs::{Fs, SetTime, VirtualFile};

/// The directory, in the root of the guest's file system.
pub(super) const DIR: &str = ".stratafs";

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
/// the number of the instance and random bytes that no other opening gives.
pub(in crate::runner) fn show(fs: &Fs, instance: u32) -> Result<(), Errno> {
    let number = move || format!("{instance}\n").into_bytes();
    let fork = move || {
        let mut fresh = [0; FRESH_BYTES];
        // Bytes that are not random are none at all.
        match getrandom::fill(&mut fresh) {
            Ok(()) => format!("{instance}\n{}\n", super::saved::hex(&fresh)).into_bytes(),
            Err(_) => Vec::new(),
        }
    };
    let files: Vec<(&'static str, Arc<dyn VirtualFile>)> =
        vec![("checkpoint", Arc::new(number)), ("fork", Arc::new(fork))];
    fs.furnish_dir(DIR, files)
}
