//! The one way to the files of a store: every step that can fail passes a
//! hook, so that a test can make it fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::StoreError;
use super::opening::{Refused, regular};
use super::progress::{Progress, ProgressMeter, Watcher};
use super::recorder::{FileStep, Recorder};
use crate::staged::Unfinished;

/// A function that is called before each step on a file; if it returns an error, the
/// step fails with that.
pub type Hook = Arc<dyn Fn(&'static str, &Path) -> io::Result<()> + Send + Sync>;

/// The directory of a store.
#[derive(Clone)]
pub(super) struct Disk {
    root: PathBuf,
    hook: Option<Hook>,
    /// Gets each step that has succeeded.
    recorder: Option<Recorder>,
    /// Counts what is read from packs.
    watch: Option<Arc<ProgressMeter>>,
}

/// The directories of a store; see docs/FORMAT.md.
pub(super) const PACKS: &str = "packs";
pub(super) const INDEXES: &str = "indexes";
pub(super) const LAYERS: &str = "layers";
pub(super) const TMP: &str = "tmp";

/// The file that imports lock shared, and a collection alone.
pub(super) const IMPORTS: &str = "imports.lock";

/// The file that a collection locks while it waits for imports, so that no new
/// ones begin.
pub(super) const GATE: &str = "imports.gate";

impl Disk {
    pub(super) fn new(root: &Path, hook: Option<Hook>, recorder: Option<Recorder>) -> Self {
        let root = root.to_owned();
        Self {
            root,
            hook,
            recorder,
            watch: None,
        }
    }

    /// Returns a handle of the same directory that reports to `watcher` what is read
    /// from packs.
    pub(super) fn watched(&self, watcher: Watcher) -> Self {
        let watch = ProgressMeter::default();
        watch.set(watcher);
        Self {
            watch: Some(Arc::new(watch)),
            ..self.clone()
        }
    }

    /// Reports to the watcher, if there is one, that bytes of a pack were read.
    pub(super) fn report_read(&self, bytes: usize) {
        if let Some(watch) = &self.watch {
            watch.add(Progress::read(bytes as u64));
        }
    }

    /// Returns the path of a file of the store; `""` stands for the directory itself.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        match name {
            "" => self.root.clone(),
            name => self.root.join(name),
        }
    }

    pub(super) fn file_in(&self, dir: &str, name: &str) -> PathBuf {
        self.root.join(dir).join(name)
    }

    /// Asks the hook.
    pub(super) fn step(&self, action: &'static str, path: &Path) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook(action, path))
    }

    /// Passes a step that has succeeded to the recorder.
    pub(super) fn record(&self, step: FileStep<'_>) {
        if let Some(recorder) = &self.recorder {
            recorder(step);
        }
    }

    fn run<T>(
        &self,
        action: &'static str,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StoreError> {
        self.step(action, path)
            .and_then(|()| work())
            .map_err(StoreError::io(action, path))
    }

    pub(super) fn make_dir(&self, path: &Path) -> Result<(), StoreError> {
        self.run("make", path, || fs::create_dir_all(path))?;
        self.record(FileStep::MakeDir(path));
        Ok(())
    }

    /// Opens a regular file for reading. Anything else is refused.
    pub(super) fn open(&self, path: &Path) -> Result<File, StoreError> {
        self.open_with(path, OpenOptions::new().read(true))
    }

    /// Opens a regular file as `options` say. Anything else is refused.
    pub(super) fn open_with(
        &self,
        path: &Path,
        options: &mut OpenOptions,
    ) -> Result<File, StoreError> {
        let opened = self.step("open", path).map_err(Refused::Io);
        opened
            .and_then(|()| regular(path, options))
            .map_err(|refused| match refused {
                Refused::Io(error) => StoreError::io("open", path)(error),
                Refused::Kind(found) => StoreError::NotAFile {
                    path: path.to_owned(),
                    found,
                },
            })
    }

    pub(super) fn len(&self, file: &File, path: &Path) -> Result<u64, StoreError> {
        self.run("look at", path, || Ok(file.metadata()?.len()))
    }

    /// Opens the file, made if it is not there, for locking.
    pub(super) fn open_lock(&self, path: &Path) -> Result<File, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        self.open_with(path, &mut options)
    }

    /// Locks a file shared, for looking: it is not made, and one that is not
    /// there locks nothing.
    pub(super) fn lock_shared(&self, path: &Path) -> Result<Option<File>, StoreError> {
        let file = match self.open(path) {
            Ok(file) => file,
            Err(StoreError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        file.lock_shared().map_err(StoreError::io("lock", path))?;
        Ok(Some(file))
    }

    /// Opens a file that is there, to be written.
    pub(super) fn open_to_write(&self, path: &Path) -> Result<File, StoreError> {
        self.open_with(path, OpenOptions::new().read(true).write(true))
    }

    /// Opens a file to be written, made if it is not there.
    pub(super) fn open_or_make(&self, path: &Path) -> Result<File, StoreError> {
        let is_new = path.symlink_metadata().is_err();
        let file = self.open_lock(path)?;
        if is_new {
            self.record(FileStep::Make(path));
        }
        Ok(file)
    }

    /// Cuts a file, or makes it longer.
    pub(super) fn set_len(&self, file: &File, path: &Path, len: u64) -> Result<(), StoreError> {
        self.run("resize", path, || file.set_len(len))?;
        self.record(FileStep::Resize { path, len });
        Ok(())
    }

    /// Returns whether a regular file is there.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|meta| meta.is_file())
    }

    /// Makes a file of a name that no other has, to be written and read. Dropped before it is
    /// [renamed](TmpName::rename), it is removed.
    pub(super) fn create_tmp(&self) -> Result<(File, TmpName), StoreError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos());
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{now}-{next}", std::process::id());
        let path = self.file_in(TMP, &name);
        let (file, unfinished) = self.run("make", &path, || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create_new(true);
            Unfinished::make(&path, || options.open(&path))
        })?;
        self.record(FileStep::Make(&path));
        let name = TmpName {
            path,
            disk: self.clone(),
            unfinished: Some(unfinished),
        };
        Ok((file, name))
    }

    pub(super) fn write_at(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.run("write", path, || write_all_at(file, offset, bytes))?;
        self.record(FileStep::Write {
            path,
            offset,
            bytes,
        });
        Ok(())
    }

    /// Fills `buf`; a file that ends before is an error of its own.
    pub(super) fn read_at(
        &self,
        file: &File,
        path: &Path,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<(), StoreError> {
        let read = self.run("read", path, || match read_exact_at(file, offset, buf) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| true),
        })?;
        if read {
            return Ok(());
        }
        Err(StoreError::Length {
            file: path.to_owned(),
            found: file.metadata().map_or(0, |meta| meta.len()),
            expected: offset.saturating_add(buf.len() as u64),
        })
    }

    /// Reads a whole file.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut file = self.open(path)?;
        self.run("read", path, || {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<(), StoreError> {
        self.run("sync", path, || file.sync_all())?;
        self.record(FileStep::Sync(path));
        Ok(())
    }

    /// Makes the names in a directory durable. Windows has no such call: there
    /// a name is durable with its file.
    pub(super) fn sync_dir(&self, name: &str) -> Result<(), StoreError> {
        self.sync_dir_at(&self.path(name))
    }

    /// Makes the names in a directory durable that may lie outside the store.
    pub(super) fn sync_dir_at(&self, path: &Path) -> Result<(), StoreError> {
        self.run("sync", path, || {
            #[cfg(unix)]
            File::open(path)?.sync_all()?;
            Ok(())
        })?;
        self.record(FileStep::SyncDir(path));
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        self.run("rename", to, || fs::rename(from, to))?;
        self.record(FileStep::Rename { from, to });
        Ok(())
    }

    /// Removes a file. Returns the bytes it had; 0 if it was gone already.
    pub(super) fn remove(&self, path: &Path) -> Result<u64, StoreError> {
        let bytes = self.run("remove", path, || {
            let len = fs::metadata(path).map(|meta| meta.len());
            match len.and_then(|len| fs::remove_file(path).map(|()| len)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
                done => done,
            }
        })?;
        self.record(FileStep::Remove(path));
        Ok(bytes)
    }

    /// Lists the files of a directory of the store with their lengths.
    pub(super) fn list(&self, name: &str) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        let path = self.path(name);
        self.run("list", &path, || {
            let mut found = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                // One that goes away meanwhile is none.
                if let Ok(meta) = entry.metadata() {
                    found.push((entry.path(), meta.len()));
                }
            }
            Ok(found)
        })
    }

    /// Writes a file whole: under its own name it is complete and durable, or
    /// not there. The caller syncs the directory.
    pub(super) fn put(&self, dir: &str, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        // Should it fail, the room that the file takes may be what is missing: it goes.
        let (file, tmp) = self.create_tmp()?;
        self.write_at(&file, &tmp.path, 0, bytes)?;
        self.sync(&file, &tmp.path)?;
        drop(file);
        tmp.rename(&self.file_in(dir, name))
    }
}

/// The name of a file that is being written.
pub(super) struct TmpName {
    pub(super) path: PathBuf,
    disk: Disk,
    /// Held until the file has its name for good: it goes with the program before.
    unfinished: Option<Unfinished>,
}

impl TmpName {
    /// Renames the file to the name that it keeps. Should that fail, it is removed.
    pub(super) fn rename(mut self, to: &Path) -> Result<(), StoreError> {
        self.disk.rename(&self.path, to)?;
        self.unfinished = None;
        Ok(())
    }
}

impl Drop for TmpName {
    fn drop(&mut self) {
        if self.unfinished.is_some() {
            drop(self.disk.remove(&self.path));
        }
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                bytes = bytes.get(len..).unwrap_or_default();
                offset += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
    while !buf.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                buf = buf.get_mut(len..).unwrap_or_default();
                offset += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
