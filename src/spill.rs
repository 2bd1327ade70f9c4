//! A file without a name, part of which is reserved piece by piece.
//!
//! A [`Budget`](crate::budget::Budget) with a place to spill to has one; pages of
//! private bytes are mapped from it. It has no name from the moment that it is
//! made, so nothing is left of it when the process ends, however it ends.

#![cfg_attr(
    any(not(unix), miri),
    allow(dead_code, reason = "no page is mapped from a file there")
)]

use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::Mutex;

/// A file in a directory of the host that no name leads to.
pub(crate) struct SpillFile {
    file: File,
    slots: Mutex<Slots>,
}

/// Which parts of the file are in use, counted in [`SLOT_BYTES`].
#[derive(Default)]
struct Slots {
    /// All below were given out at some time.
    next: u64,
    /// Those of them that came back.
    free: Vec<u64>,
}

/// Bytes of a slot: one slab of pages lies in each.
pub(crate) const SLOT_BYTES: u64 = 2 << 20;

impl SpillFile {
    /// Makes one in `dir`, and finds out whether room can be reserved there.
    ///
    /// # Errors
    ///
    /// That of the system if `dir` is no directory that this process may write
    /// to, or if its file system cannot reserve room; [`io::ErrorKind::Unsupported`]
    /// on systems other than Linux.
    pub(crate) fn create(dir: &Path) -> io::Result<Self> {
        let file = open(dir)?;
        let this = Self {
            file,
            slots: Mutex::default(),
        };
        this.reserve(0, 4096)?;
        this.release(0, 4096)?;
        Ok(this)
    }

    /// Returns the file, to map parts of it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Takes a slot that nobody has and returns where it begins. Nothing of it
    /// is reserved yet.
    pub(crate) fn take_slot(&self) -> u64 {
        let mut slots = self.slots.lock();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.next += 1;
            slots.next - 1
        });
        slot * SLOT_BYTES
    }

    /// Takes a slot back and releases what is reserved of it. The bytes that were
    /// in it are gone.
    pub(crate) fn give_slot(&self, start: u64) {
        // One that cannot be released stays reserved for its next user.
        self.release(start, SLOT_BYTES).ok();
        self.slots.lock().free.push(start / SLOT_BYTES);
    }

    /// Reserves room for `len` bytes, so that writing them cannot fail for want
    /// of it.
    ///
    /// # Errors
    ///
    /// That of the system, if the file system is full or reserves nothing.
    #[cfg(target_os = "linux")]
    pub(crate) fn reserve(&self, start: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};

        Ok(fallocate(&self.file, FallocateFlags::empty(), start, len)?)
    }

    /// Releases the room of `len` bytes, which are zeros afterwards.
    ///
    /// # Errors
    ///
    /// That of the system; the room stays reserved.
    #[cfg(target_os = "linux")]
    pub(crate) fn release(&self, start: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};

        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.file, hole, start, len)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn reserve(&self, _start: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn release(&self, _start: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Opens a file in `dir` that has no name and never gets one.
#[cfg(target_os = "linux")]
fn open(dir: &Path) -> io::Result<File> {
    use rustix::fs::{CWD, Mode, OFlags, openat, unlinkat};
    use rustix::io::Errno;

    let (flags, mode) = (
        OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL,
        Mode::RUSR | Mode::WUSR,
    );
    match openat(CWD, dir, flags | OFlags::TMPFILE, mode) {
        // Some file systems, such as NFS, make no file without a name.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
        opened => return Ok(opened?.into()),
    }
    let name = dir.join(format!(".stratafs-spill-{}", std::process::id()));
    let file = openat(CWD, &name, flags | OFlags::CREATE, mode)?;
    unlinkat(CWD, &name, rustix::fs::AtFlags::empty())?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
fn open(_dir: &Path) -> io::Result<File> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "room in files is reserved on Linux only",
    ))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn reserved(file: &SpillFile) -> u64 {
        file.file.metadata().map_or(0, |of| of.blocks() * 512)
    }

    #[test]
    fn a_slot_that_comes_back_releases_its_room_and_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let file = SpillFile::create(dir.path()).unwrap();
        assert_eq!(reserved(&file), 0);
        let (one, two) = (file.take_slot(), file.take_slot());
        assert_ne!(one, two);
        file.reserve(two, SLOT_BYTES).unwrap();
        assert!(reserved(&file) >= SLOT_BYTES);
        file.give_slot(two);
        assert_eq!(reserved(&file), 0);
        assert_eq!(file.take_slot(), two);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_is_not_a_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let none = SpillFile::create(&dir.path().join("none"));
        assert_eq!(none.err().unwrap().kind(), io::ErrorKind::NotFound);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = SpillFile::create(&file).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
