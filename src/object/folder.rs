//! A folder as an object store: files appear whole by renaming, and a lock on a file makes
//! conditions hold.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::backend::{Backend, ObjectMeta, ObjectVersion, Swap, stopped};
use super::error::ObjectErrorKind;
use crate::limits::OBJECT_PART_BYTES;
use crate::staged::StagedFile;

/// The file whose lock is held while a condition is looked at and acted on.
const LOCK: &str = ".lock";

pub(super) struct Folder {
    root: PathBuf,
}

/// Makes of a file that is not there none.
fn there<T>(result: io::Result<T>) -> Result<Option<T>, ObjectErrorKind> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(ObjectErrorKind::Local(error)),
    }
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn write(
        &self,
        key: &str,
        fill: impl FnOnce(&mut StagedFile) -> Result<(), ObjectErrorKind>,
    ) -> Result<(), ObjectErrorKind> {
        let path = self.path(key);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(ObjectErrorKind::Local)?;
        }
        let mut staged = StagedFile::create(&path).map_err(ObjectErrorKind::Local)?;
        fill(&mut staged)?;
        staged.commit().map_err(ObjectErrorKind::Local)
    }

    fn visit(
        &self,
        dir: &Path,
        key: &str,
        visit: &mut dyn FnMut(&str, ObjectMeta) -> Result<(), ObjectErrorKind>,
    ) -> Result<(), ObjectErrorKind> {
        let Some(entries) = there(fs::read_dir(dir))? else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry.map_err(ObjectErrorKind::Local)?;
            let name = entry.file_name();
            // What is being written has such a name, and the lock.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let Some(meta) = there(entry.metadata())? else {
                continue;
            };
            let key = format!("{key}/{name}");
            // A link is neither: nothing is followed.
            if meta.is_dir() {
                self.visit(&entry.path(), &key, visit)?;
            } else if meta.is_file() {
                visit(&key, of(&meta))?;
            }
        }
        Ok(())
    }
}

fn of(meta: &fs::Metadata) -> ObjectMeta {
    let written = meta.modified().ok();
    let written = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    ObjectMeta {
        size: meta.len(),
        written: written.map_or(0, |time| time.as_secs()),
    }
}

impl Backend for Folder {
    fn get(
        &self,
        key: &str,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, ObjectVersion)>, ObjectErrorKind> {
        let Some(file) = there(File::open(self.path(key)))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(ObjectErrorKind::Local)?;
        if bytes.len() as u64 > limit {
            let what = "bytes in a document";
            return Err(ObjectErrorKind::TooLarge { what, limit });
        }
        Ok(Some((bytes.clone(), ObjectVersion::Bytes(bytes))))
    }

    fn range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectErrorKind> {
        let Some(mut file) = there(File::open(self.path(key)))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(range.start)).and_then(|_| {
            file.take(range.end.saturating_sub(range.start))
                .read_to_end(&mut bytes)
        });
        read.map_err(ObjectErrorKind::Local)?;
        Ok(Some(bytes))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectErrorKind> {
        let meta = there(self.path(key).metadata())?;
        Ok(meta.filter(fs::Metadata::is_file).map(|meta| of(&meta)))
    }

    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectErrorKind> {
        self.write(key, |file| {
            file.write_all(&bytes).map_err(ObjectErrorKind::Local)
        })
    }

    fn swap(
        &self,
        key: &str,
        bytes: Vec<u8>,
        old: Option<&ObjectVersion>,
    ) -> Result<Swap, ObjectErrorKind> {
        fs::create_dir_all(&self.root).map_err(ObjectErrorKind::Local)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join(LOCK))
            .map_err(ObjectErrorKind::Local)?;
        lock.lock().map_err(ObjectErrorKind::Local)?;
        let known = match old {
            Some(ObjectVersion::Bytes(bytes)) => Some(bytes),
            _ => None,
        };
        let limit = known.map_or(0, |known| known.len() as u64) + bytes.len() as u64;
        let is_same = match self.get(key, limit) {
            Ok(found) => found.map(|(bytes, _)| bytes).as_ref() == known,
            Err(ObjectErrorKind::TooLarge { .. }) => false,
            Err(error) => return Err(error),
        };
        match is_same {
            true => self.put(key, bytes).map(|()| Swap::Done),
            false => Ok(Swap::Refused),
        }
    }

    fn upload(
        &self,
        key: &str,
        (reader, size): (&mut dyn Read, u64),
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ObjectErrorKind> {
        self.write(key, |file| {
            let mut left = size;
            while left > 0 {
                let part = left.min(OBJECT_PART_BYTES);
                let copied = io::copy(&mut (&mut *reader).take(part), file);
                if copied.map_err(ObjectErrorKind::Local)? < part {
                    return Err(ObjectErrorKind::Local(io::ErrorKind::UnexpectedEof.into()));
                }
                if !watch(part) {
                    return Err(stopped());
                }
                left -= part;
            }
            Ok(())
        })
    }

    fn list(
        &self,
        dir: &str,
        visit: &mut dyn FnMut(&str, ObjectMeta) -> Result<(), ObjectErrorKind>,
    ) -> Result<(), ObjectErrorKind> {
        self.visit(&self.path(dir), dir, visit)
    }

    fn delete(&self, key: &str) -> Result<(), ObjectErrorKind> {
        there(fs::remove_file(self.path(key))).map(drop)
    }
}
