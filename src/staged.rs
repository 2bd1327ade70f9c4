//! Output that appears under its name when it is complete, and stays there.
//!
//! Exports of images go this way, and so can what a program writes beside them.
//! A file or directory is made beside its place under a name of its own, and
//! renamed once its content is on the disk. An error, a panic or a signal that the
//! program answers with [`abandon_all`] leaves nothing, nor what a store was writing. What a killed process
//! left is removed by the next one that makes something in that directory:
//! a live process holds a lock on what it makes, and a dead one does not.
//!
//! ```
//! use std::io::Write;
//! use stratafs::staged::StagedFile;
//!
//! # let dir = tempfile::tempdir()?;
//! let target = dir.path().join("report.json");
//! let mut report = StagedFile::create(&target)?;
//! report.write_all(b"{}")?;
//! assert!(!target.exists());
//! report.commit()?;
//! assert!(target.exists());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// What begins the name of output that is not complete; 16 hexadecimal digits
/// follow.
const PREFIX: &str = ".stratafs-";

/// How often a name is drawn that something else takes at the same moment.
const TRIES: u32 = 16;

/// How often a tree is removed into which another thread puts files meanwhile.
const REMOVALS: u32 = 1000;

/// All that this process makes now. Held while something gets its name, so
/// that [`abandon_all`] finds it either complete or removable.
static PENDING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A file that is written beside its place. Dropped before it is
/// [committed](Self::commit), it is removed.
///
/// ```
/// use std::io::Write;
/// use stratafs::staged::StagedFile;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("report");
/// let mut file = StagedFile::create(&path)?;
/// file.write_all(b"all of it")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"all of it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedFile {
    /// Locked as long as it is open.
    file: File,
    staged: Staged,
}

/// A directory that is filled beside its place, as [`StagedFile`].
///
/// ```
/// use stratafs::staged::StagedDir;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("results");
/// let staged = StagedDir::create(&path)?;
/// std::fs::write(staged.path().join("report"), "all of it")?;
/// assert!(!path.exists());
/// staged.commit()?;
/// assert_eq!(std::fs::read(path.join("report"))?, b"all of it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct StagedDir {
    /// Open and locked, where the system can lock directories.
    lock: Option<File>,
    staged: Staged,
}

/// A name that is to become another.
#[derive(Debug)]
struct Staged {
    path: PathBuf,
    target: PathBuf,
}

impl StagedFile {
    /// Makes an empty file beside `target`, with the permissions of any new
    /// file. Looks at all names of the directory for what killed processes
    /// left there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidFilename`] if `target` has no last name; what
    /// making a file gives.
    pub fn create(target: &Path) -> io::Result<Self> {
        let (file, staged) = make(target, new_file)?;
        Ok(Self { file, staged })
    }

    /// Returns the directory that the file is made in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        parent(&self.staged.path)
    }

    /// Returns the file itself.
    #[cfg(feature = "registry")]
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Waits until the content is on the disk, renames the file to its name,
    /// replacing what has it, and waits until the name is on the disk.
    ///
    /// # Errors
    ///
    /// What writing, renaming or syncing gives. The target is as it was, but
    /// for the last step: then it is complete, and may be gone after a crash of
    /// the machine.
    pub fn commit(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.staged.rename()
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StagedDir {
    /// Makes an empty directory beside `target`, otherwise as
    /// [`StagedFile::create`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(target: &Path) -> io::Result<Self> {
        let (lock, staged) = make(target, |path| {
            DirBuilder::new().create(path)?;
            if cfg!(not(unix)) {
                return Ok(Some(None));
            }
            let dir = match File::open(path) {
                // Taken for a leftover before it was opened.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            Ok(is_mine(&dir)?.then_some(Some(dir)))
        })?;
        Ok(Self { lock, staged })
    }

    /// Returns where the directory is until it is committed: what is made there
    /// moves with it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.staged.path
    }

    /// Waits until all that lies in the directory is on the disk, and renames
    /// it as [`StagedFile::commit`] does. Its target is missing or an empty
    /// directory.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn commit(self) -> io::Result<()> {
        sync_tree(self.lock.as_ref())?;
        #[cfg(windows)]
        if self.staged.target.is_dir() {
            fs::remove_dir(&self.staged.target)?;
        }
        self.staged.rename()
    }
}

/// Makes a file that was not there, and locks it.
fn new_file(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    Ok(is_mine(&file)?.then_some(file))
}

/// Makes something under a free name beside `target`. `create` returns `None`
/// for what another process took for a leftover and removed before it was
/// locked.
fn make<T>(
    target: &Path,
    create: impl Fn(&Path) -> io::Result<Option<T>>,
) -> io::Result<(T, Staged)> {
    if target.file_name().is_none() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    remove_leftovers(parent(target));
    let random = || RandomState::new().build_hasher().finish();
    make_by(target, random, create)
}

/// The same, with names from numbers that `draw` gives.
fn make_by<T>(
    target: &Path,
    draw: impl Fn() -> u64,
    create: impl Fn(&Path) -> io::Result<Option<T>>,
) -> io::Result<(T, Staged)> {
    for _ in 0..TRIES {
        let path = parent(target).join(format!("{PREFIX}{:016x}", draw()));
        let mut pending = PENDING.lock();
        match create(&path) {
            Ok(Some(made)) => {
                pending.push(path.clone());
                let target = target.to_owned();
                return Ok((made, Staged { path, target }));
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Locks what was just made. Returns `false` if it has been removed meanwhile.
fn is_mine(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(has_name(file)?),
        // Somebody who looks for leftovers holds it, and removes it.
        Err(fs::TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: nobody can remove it by mistake there.
        Err(fs::TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
            Ok(true)
        }
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(unix)]
fn has_name(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(file.metadata()?.nlink() > 0)
}

#[cfg(not(unix))]
fn has_name(_: &File) -> io::Result<bool> {
    // An open file cannot be removed there.
    Ok(true)
}

/// Removes what processes that are dead left in `dir`. What cannot be looked
/// at, locked or removed stays.
fn remove_leftovers(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(is_staged_name);
        let Some(kind) = entry.file_type().ok().filter(|_| ours) else {
            continue;
        };
        let path = entry.path();
        if kind.is_file() {
            remove_unlocked(&path, |path| fs::remove_file(path));
        } else if kind.is_dir() && cfg!(unix) {
            remove_unlocked(&path, |path| fs::remove_dir_all(path));
        }
    }
}

fn is_staged_name(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Removes what nobody has locked. The lock is held until it is gone, so
/// that whoever made it at this moment notices.
fn remove_unlocked(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) {
    if let Ok(file) = open_plain(path)
        && file.try_lock().is_ok()
    {
        drop(remove(path));
    }
}

#[cfg(unix)]
fn open_plain(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    // A link or a FIFO that took the place of a file is not followed and
    // not waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
}

#[cfg(not(unix))]
fn open_plain(path: &Path) -> io::Result<File> {
    File::open(path)
}

impl Staged {
    fn rename(self) -> io::Result<()> {
        let mut pending = PENDING.lock();
        fs::rename(&self.path, &self.target)?;
        pending.retain(|path| *path != self.path);
        drop(pending);
        sync_dir(parent(&self.target))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let mut pending = PENDING.lock();
        let before = pending.len();
        pending.retain(|path| *path != self.path);
        if pending.len() < before {
            remove(&self.path);
        }
    }
}

/// A file that goes if [`abandon_all`] is called while this is held.
#[cfg(feature = "store")]
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

#[cfg(feature = "store")]
impl Unfinished {
    /// Makes a file with `create`, unless the program ends already.
    pub(crate) fn make<T>(
        path: &Path,
        create: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Self)> {
        let mut pending = PENDING.lock();
        let made = create()?;
        pending.push(path.to_owned());
        Ok((made, Self(path.to_owned())))
    }
}

#[cfg(feature = "store")]
impl Drop for Unfinished {
    fn drop(&mut self) {
        PENDING.lock().retain(|path| *path != self.0);
    }
}

/// Removes all that this process has not completed, and keeps it from making
/// or completing anything else: for a program that ends now because of a signal.
/// It is for a thread that waits for signals, not for a handler: it takes a lock.
pub fn abandon_all() {
    let mut pending = PENDING.lock();
    for path in pending.drain(..) {
        remove(&path);
    }
    // Other threads wait at this lock until the process has ended.
    std::mem::forget(pending);
}

/// Removes a file or a tree, also one that another thread is still filling:
/// that thread fails once its directories are gone. What stays is found by the
/// next process.
fn remove(path: &Path) {
    if fs::remove_file(path).is_ok() {
        return;
    }
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Waits until the names in `dir` are on the disk.
#[cfg(unix)]
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    // Directories cannot be synced there.
    Ok(())
}

/// Waits until all of the file system that `dir` lies on is on the disk: one
/// call, whatever the tree's size and depth.
#[cfg(target_os = "linux")]
fn sync_tree(dir: Option<&File>) -> io::Result<()> {
    dir.map_or(Ok(()), |dir| Ok(rustix::fs::syncfs(dir)?))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn sync_tree(_: Option<&File>) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

#[cfg(not(unix))]
fn sync_tree(_: Option<&File>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_it_is_committed_and_leaves_nothing_when_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        fs::write(&target, "old").unwrap();
        let mut staged = StagedFile::create(&target).unwrap();
        staged.write_all(b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        drop(staged);
        assert_eq!(names(dir.path()), ["out"]);
        let mut staged = StagedFile::create(&target).unwrap();
        staged.write_all(b"new").unwrap();
        staged.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["out"]);
        assert!(StagedFile::create(Path::new("/")).is_err());
    }

    #[test]
    fn a_directory_appears_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let staged = StagedDir::create(&target).unwrap();
        fs::create_dir(staged.path().join("sub")).unwrap();
        fs::write(staged.path().join("sub/file"), "x").unwrap();
        drop(staged);
        assert_eq!(names(dir.path()), [""; 0]);
        fs::create_dir(&target).unwrap();
        let staged = StagedDir::create(&target).unwrap();
        fs::write(staged.path().join("file"), "x").unwrap();
        staged.commit().unwrap();
        assert_eq!(names(&target), ["file"]);
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn those_who_make_directories_at_the_same_time_take_none_for_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let target = dir.path().join(number.to_string());
                scope.spawn(move || {
                    for _ in 0..300 {
                        let staged = StagedDir::create(&target).unwrap();
                        fs::write(staged.path().join("file"), "x").unwrap();
                    }
                });
            }
        });
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn only_what_a_dead_process_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // As a killed process leaves them: nobody holds a lock.
        fs::write(at(".stratafs-0123456789abcdef"), "half").unwrap();
        fs::create_dir_all(at(".stratafs-fedcba9876543210/sub")).unwrap();
        // Not made by anything here.
        let foreign = [
            ".stratafs-0123456789abcde",
            ".stratafs-0123456789abcdeg",
            ".stratafs-notes",
            "stratafs-0123456789abcdef",
        ];
        for name in foreign {
            fs::write(at(name), "mine").unwrap();
        }
        std::os::unix::fs::symlink("/nowhere", at(".stratafs-aaaaaaaaaaaaaaaa")).unwrap();
        let live = StagedFile::create(&at("one")).unwrap();
        let live_dir = StagedDir::create(&at("two")).unwrap();
        // A further one looks for leftovers, and leaves the live ones alone.
        StagedFile::create(&at("three")).unwrap().commit().unwrap();
        live.commit().unwrap();
        live_dir.commit().unwrap();
        let mut want: Vec<_> = foreign.iter().map(|name| (*name).to_owned()).collect();
        want.extend(["one", "two", "three", ".stratafs-aaaaaaaaaaaaaaaa"].map(str::to_owned));
        want.sort();
        assert_eq!(names(dir.path()), want);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_in_the_way_is_neither_opened_nor_followed() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let guessed = |number: u64| at(&format!("{PREFIX}{number:016x}"));
        fs::write(at("victim"), "precious").unwrap();
        symlink(at("victim"), guessed(0)).unwrap();
        symlink(at("made"), guessed(1)).unwrap();
        fs::hard_link(at("victim"), guessed(2)).unwrap();
        fs::create_dir(guessed(3)).unwrap();
        let next = std::cell::Cell::new(0);
        let draw = || next.replace(next.get() + 1);
        let (mut file, staged) = make_by(&at("out"), draw, new_file).unwrap();
        assert_eq!(staged.path, guessed(4));
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        assert!(!at("made").exists());
        drop(staged);
        assert!(!guessed(4).exists());
        // Every name is taken: it gives up.
        let always = make_by(&at("out"), || 0, new_file);
        let error = always.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
    }
}
