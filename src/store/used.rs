//! When images were used last, and which are in use: `used/HEX` for each, whose time is that of
//! the last use, and which whoever uses the image has locked shared. docs/FORMAT.md has more.
//!
//! Nothing is lost with such a file: an image that has none was used when it was added.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::catalog::RecordKind;
use super::incoming::is_still;
use super::pack::file_name;
use super::record::ImageRecord;
use super::{Store, StoreError, identity};
use crate::image::ImageId;

/// The directory.
pub(super) const USED: &str = "used";

/// What is in a file of it.
pub(super) const MAGIC: [u8; 8] = *b"stratuse";

/// Keeps an image from being dropped by [`Store::trim`] until it is dropped itself.
#[derive(Debug)]
#[must_use = "the image is in use as long as this is held"]
pub struct InUse {
    /// The file of the image, locked, and where it lies.
    noted: Option<(File, PathBuf)>,
}

impl InUse {
    /// Returns whether the image has been in the store ever since it was marked. One that was removed, by
    /// [`Store::gc`] once no tag led to it, and pulled again since is another: what the one before
    /// lacks is not fetched any more, so that whoever keeps it for later opens it anew.
    ///
    /// `false` where nothing could be noted, and nobody knows. One look at a file.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let noted = self.noted.as_ref();
        noted.is_some_and(|(file, path)| is_still(file, path))
    }
}

impl Store {
    /// Notes that an image is used now, and from now on until what this returns is dropped:
    /// [`trim`](Self::trim) drops what was used longest ago, and nothing that is in use. A
    /// guest that reads an image that was pulled in part needs it: what is dropped is not fetched any
    /// more.
    ///
    /// A store that was opened to look only is written to by this alone: a file of 8 bytes
    /// and its time. Where that may not be, as on a read-only mount or for files of another user,
    /// nothing is noted, and that is no error.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn mark_used(&self, reference: &str) -> Result<InUse, StoreError> {
        let id = self.resolve(reference)?;
        let noted = self.note_use(id);
        let noted = noted.unwrap_or_else(|error| {
            tracing::debug!(%error, "that an image is used is not noted");
            None
        });
        // It may have been dropped before the lock was there.
        let key = id.as_bytes();
        let known = self
            .0
            .catalog
            .read(|view| view.get::<ImageRecord>(RecordKind::Image, key))?;
        match known {
            Some(_) => Ok(InUse { noted }),
            None => Err(StoreError::NoImage(reference.to_owned())),
        }
    }

    fn note_use(&self, id: ImageId) -> Result<Option<(File, PathBuf)>, StoreError> {
        let (file, path) = self.use_file(id)?;
        file.lock_shared().map_err(StoreError::io("lock", &path))?;
        let noted = file.set_modified(SystemTime::now());
        noted.map_err(StoreError::io("note the time of", &path))?;
        // Removed meanwhile with its image, which may have been pulled again.
        Ok(is_still(&file, &path).then_some((file, path)))
    }

    /// Opens the file of an image, made if it is not there.
    fn use_file(&self, id: ImageId) -> Result<(File, PathBuf), StoreError> {
        let disk = &self.0.packs.disk;
        let dir = disk.path(USED);
        if !dir.is_dir() {
            disk.make_dir(&dir)?;
        }
        identity::check_dirs(disk)?;
        let path = disk.file_in(USED, &file_name(id));
        let file = disk.open_or_make(&path)?;
        if disk.len(&file, &path)? == 0 {
            disk.write_at(&file, &path, 0, &MAGIC)?;
        }
        Ok((file, path))
    }

    /// Returns when an image was used last: when it was added, if nothing was noted since.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn last_used(&self, reference: &str) -> Result<SystemTime, StoreError> {
        let info = self.info(reference)?;
        Ok(self.used_at(info.id, info.added))
    }

    pub(super) fn used_at(&self, id: ImageId, added: i64) -> SystemTime {
        let added = Duration::from_secs(u64::try_from(added).unwrap_or(0));
        let added = SystemTime::UNIX_EPOCH.checked_add(added);
        let added = added.unwrap_or(SystemTime::UNIX_EPOCH);
        let path = self.0.packs.disk.file_in(USED, &file_name(id));
        let noted = path.symlink_metadata().and_then(|meta| meta.modified());
        noted.map_or(added, |noted| noted.max(added))
    }

    /// Keeps an image from being used until what this returns is dropped; `None` if it is in use.
    pub(super) fn lock_unused(&self, id: ImageId) -> Result<Option<File>, StoreError> {
        let (file, path) = self.use_file(id)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Returns whether an image is in use. Makes no file.
    pub(super) fn is_in_use(&self, id: ImageId) -> bool {
        let disk = &self.0.packs.disk;
        let opened = disk.open(&disk.file_in(USED, &file_name(id)));
        opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }
}
