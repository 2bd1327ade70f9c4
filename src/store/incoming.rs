//! Blobs on their way in: what has come of them stays when a pull ends before its time, and
//! the next one goes on there. `DIR/incoming/HEX`, see docs/FORMAT.md.
//!
//! Whoever fetches a blob has its file locked alone; whoever reads it, shared. A file that
//! nobody has locked belongs to nobody: a collection removes it, and so does a pull if it
//! is old. Nothing here is believed: who reads a blob compares its digest.

use std::fs::File;
use std::path::Path;

use super::{Store, StoreError};

/// The directory.
pub(super) const INCOMING: &str = "incoming";

/// How a file begins: this, the version, whether the blob is whole, its size, its digest.
pub(super) const MAGIC: [u8; 8] = *b"stratinc";

impl Store {
    /// Removes those blobs of which `is_chosen` says so by the name, unless somebody fetches
    /// or reads them. Returns the bytes that are free now.
    pub(crate) fn drop_incoming(
        &self,
        is_chosen: &dyn Fn(&Path) -> bool,
    ) -> Result<u64, StoreError> {
        let disk = &self.0.packs.disk;
        if !disk.path(INCOMING).is_dir() {
            return Ok(0);
        }
        super::identity::check_dirs(disk)?;
        let mut freed = 0;
        for (path, _) in disk.list(INCOMING)? {
            let is_ours = super::sweep::is_written_by_a_store(disk, INCOMING, &path);
            if !is_ours || !is_chosen(&path) {
                continue;
            }
            let Ok(file) = disk.open(&path) else { continue };
            if file.try_lock().is_ok() && is_still(&file, &path) {
                freed += disk.remove(&path)?;
            }
        }
        Ok(freed)
    }
}

/// Returns whether a file is still the one of its name.
#[cfg(unix)]
pub(super) fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    let named = path.symlink_metadata().map(of);
    named.is_ok_and(|named| file.metadata().map(of).is_ok_and(|own| own == named))
}

/// Where a file that is open keeps its name it is.
#[cfg(not(unix))]
pub(super) fn is_still(_: &File, path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
