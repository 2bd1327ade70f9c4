//! One blob on its way in, see [`incoming`](super::incoming).

use std::fs::{File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::disk::Disk;
use super::incoming::{INCOMING, MAGIC, is_still};
use super::{Store, StoreError};
use crate::digest::Sha256;
use crate::limits::MAX_INCOMING_AGE_SECONDS;

/// Bytes before those of the blob.
const HEAD: u64 = 64;

/// The head of a file.
type HeadBytes = [u8; 64];

const VERSION: u32 = 1;

/// Where the head says whether the blob is whole.
const WHOLE_AT: u64 = 12;

/// Between two looks at a file that another process has.
const WAIT: Duration = Duration::from_millis(50);

/// Bytes that are read at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// A blob on its way in.
pub(crate) struct Incoming {
    disk: Disk,
    path: PathBuf,
    file: Arc<File>,
    len: u64,
    whole: bool,
}

impl Store {
    /// Takes the file of a blob of this size: what there is of it, or an empty one. Waits
    /// while another fetches it, unless `stopped` says that there is no need any more.
    pub(crate) fn incoming(
        &self,
        digest: Sha256,
        size: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Incoming>, StoreError> {
        self.check_writable()?;
        let disk = &self.0.packs.disk;
        let dir = disk.path(INCOMING);
        if !dir.is_dir() {
            disk.make_dir(&dir)?;
        }
        super::identity::check_dirs(disk)?;
        let path = disk.file_in(INCOMING, &blob_file_name(digest));
        let head = head(digest, size);
        loop {
            let file = disk.open_or_make(&path)?;
            let lock = |locked: Result<(), TryLockError>| match locked {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
            };
            // Who has it whole lets others read it.
            if lock(file.try_lock_shared())? {
                let read = read_head(disk, &file, &path)?;
                if read == Some((head, true)) && is_still(&file, &path) {
                    return Ok(Some(Incoming::new(disk, &path, file, (HEAD + size, true))));
                }
                drop(file);
                let file = disk.open_or_make(&path)?;
                if lock(file.try_lock())? && is_still(&file, &path) {
                    return begun(disk, &path, file, &head).map(Some);
                }
            }
            if stopped() {
                return Ok(None);
            }
            thread::sleep(WAIT);
        }
    }
}

/// Makes a head, as it is before the blob is whole.
fn head(digest: Sha256, size: u64) -> HeadBytes {
    let mut head = [0; 64];
    let parts: [&[u8]; 5] = [
        &MAGIC,
        &VERSION.to_le_bytes(),
        &[0; 4],
        &size.to_le_bytes(),
        digest.as_bytes(),
    ];
    for (to, from) in head.iter_mut().zip(parts.concat()) {
        *to = from;
    }
    head
}

/// Reads a head, and whether the blob is whole; `None` for a file that has none.
fn read_head(
    disk: &Disk,
    file: &File,
    path: &Path,
) -> Result<Option<(HeadBytes, bool)>, StoreError> {
    if disk.len(file, path)? < HEAD {
        return Ok(None);
    }
    let mut head = [0; 64];
    disk.read_at(file, path, 0, &mut head)?;
    let whole = head.get_mut(usize::try_from(WHOLE_AT).unwrap_or(0));
    let whole = whole.map(|byte| std::mem::take(byte) == 1);
    Ok(Some((head, whole.unwrap_or(false))))
}

/// Goes on with a file, which is locked alone, or begins it.
fn begun(disk: &Disk, path: &Path, file: File, head: &HeadBytes) -> Result<Incoming, StoreError> {
    let mut len = disk.len(&file, path)?;
    let read = read_head(disk, &file, path)?;
    if read.is_none_or(|(found, _)| found != *head) {
        let began = disk
            .set_len(&file, path, 0)
            .and_then(|()| disk.write_at(&file, path, 0, head));
        if began.is_err() {
            // Without a head nobody knows it for what it is.
            drop(disk.remove(path));
        }
        began?;
        len = HEAD;
    }
    Ok(Incoming::new(disk, path, file, (len, false)))
}

impl Incoming {
    fn new(disk: &Disk, path: &Path, file: File, (len, whole): (u64, bool)) -> Self {
        Self {
            disk: disk.clone(),
            path: path.to_owned(),
            file: Arc::new(file),
            len,
            whole,
        }
    }

    /// Returns whether all of it is there, checked by whoever fetched it.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Says that all of it is there and right, and lets others read it.
    pub(crate) fn set_whole(&mut self) -> Result<(), StoreError> {
        self.disk.write_at(&self.file, &self.path, WHOLE_AT, &[1])?;
        self.whole = true;
        // Whoever comes in between finds it whole. A lock is not turned into another one
        // everywhere.
        let shared = self.file.unlock().and_then(|()| self.file.lock_shared());
        shared.map_err(StoreError::io("lock", &self.path))
    }

    /// Returns the file, and where the blob is in it.
    pub(crate) fn place(&self) -> (Arc<File>, Range<u64>) {
        (Arc::clone(&self.file), HEAD..self.len)
    }

    /// Removes the file: the store has what was in it.
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        match is_still(&self.file, &self.path) {
            true => self.disk.remove(&self.path).map(drop),
            false => Ok(()),
        }
    }
}

impl Incoming {
    /// Returns the bytes of the blob that are there.
    pub(crate) fn len(&self) -> u64 {
        self.len - HEAD
    }

    /// Reads them from the beginning.
    pub(crate) fn read(&self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = HEAD;
        while at < self.len {
            let len = usize::try_from(self.len - at).unwrap_or(usize::MAX);
            let len = len.min(buffer.len());
            let part = buffer.get_mut(..len).unwrap_or_default();
            let read = self.disk.read_at(&self.file, &self.path, at, part);
            read.map_err(io::Error::other)?;
            take(part);
            at += len as u64;
        }
        Ok(())
    }

    /// Adds bytes.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.disk.write_at(&self.file, &self.path, self.len, bytes);
        written.map_err(io::Error::other)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Lets go of all bytes.
    pub(crate) fn restart(&mut self) -> io::Result<()> {
        let cut = self.disk.set_len(&self.file, &self.path, HEAD);
        cut.map_err(io::Error::other)?;
        self.len = HEAD;
        Ok(())
    }
}
/// Returns whether a blob has been lying for so long that nobody will go on with it.
pub(crate) fn is_old(path: &Path) -> bool {
    let changed = path.symlink_metadata().and_then(|meta| meta.modified());
    let age = changed.map(|changed| SystemTime::now().duration_since(changed));
    let age = age.ok().and_then(Result::ok);
    age.is_some_and(|age| age.as_secs() > MAX_INCOMING_AGE_SECONDS)
}

/// Returns the name of a blob's file.
pub(crate) fn blob_file_name(digest: Sha256) -> String {
    let hex = digest.to_string();
    hex.rsplit(':').next().unwrap_or_default().to_owned()
}
