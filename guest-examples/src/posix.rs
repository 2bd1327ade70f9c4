//! The C library's file calls, with errors that print as their names.
//!
//! `std::fs` hides what these guests are about: inode numbers, link counts,
//! `*at` calls, listing positions.

use std::ffi::{CStr, CString};
use std::fmt;

pub use libc::{
    O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};
use libc::{c_int, c_void};

/// An `errno`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EACCES => "EACCES",
            libc::EBADF => "EBADF",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::EFAULT => "EFAULT",
            libc::EFBIG => "EFBIG",
            libc::EINVAL => "EINVAL",
            libc::EIO => "EIO",
            libc::EISDIR => "EISDIR",
            libc::ELOOP => "ELOOP",
            libc::EMFILE => "EMFILE",
            libc::ENAMETOOLONG => "ENAMETOOLONG",
            libc::ENOENT => "ENOENT",
            libc::ENOSPC => "ENOSPC",
            libc::ENOTCAPABLE => "ENOTCAPABLE",
            libc::ENOTDIR => "ENOTDIR",
            libc::ENOTEMPTY => "ENOTEMPTY",
            libc::ENOTSUP => "ENOTSUP",
            libc::EPERM => "EPERM",
            libc::EROFS => "EROFS",
            libc::ESPIPE => "ESPIPE",
            libc::EXDEV => "EXDEV",
            other => return write!(f, "errno {other}"),
        };
        f.write_str(name)
    }
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, Errno>;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Anything else.
    Other,
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub ino: u64,
    /// Device number.
    pub dev: u64,
    /// Names that lead here.
    pub nlink: u64,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Last access in nanoseconds since 1970.
    pub atime: i128,
    /// Last change of content in nanoseconds since 1970.
    pub mtime: i128,
    /// Last change of anything in nanoseconds since 1970.
    pub ctime: i128,
}

impl Stat {
    fn of(raw: &libc::stat) -> Self {
        let kind = match raw.st_mode & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Dir,
            libc::S_IFLNK => Kind::Symlink,
            _ => Kind::Other,
        };
        Self {
            ino: raw.st_ino,
            dev: raw.st_dev,
            nlink: raw.st_nlink,
            kind,
            size: raw.st_size as u64,
            atime: nanos(&raw.st_atim),
            mtime: nanos(&raw.st_mtim),
            ctime: nanos(&raw.st_ctim),
        }
    }
}

/// Whether `stat` through a symbolic link shows the inode number of what the
/// link leads to. wasi-libc for 0.2 asks for the link's own instead.
pub const STAT_FOLLOWS_TO_INO: bool = cfg!(target_env = "p1");

fn nanos(time: &libc::timespec) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

fn last() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
}

fn done(code: c_int) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(last()) }
}

fn count(len: isize) -> Result<usize> {
    usize::try_from(len).map_err(|_| last())
}

/// A path for C. A NUL inside is `EINVAL`, as the host would say.
fn c(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Errno(libc::EINVAL))
}

/// A descriptor that closes itself.
#[derive(Debug)]
pub struct Fd(c_int);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the number was given by `open` and is closed once, here.
        unsafe { libc::close(self.0) };
    }
}

/// Opens a path. A mode of 0666 goes along where `O_CREAT` asks for one.
pub fn open(path: &str, flags: c_int) -> Result<Fd> {
    let path = c(path)?;
    // SAFETY: the string ends in NUL and outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags, 0o666) };
    if fd < 0 { Err(last()) } else { Ok(Fd(fd)) }
}

impl Fd {
    /// The number.
    pub fn number(&self) -> c_int {
        self.0
    }

    /// Opens a path below this directory.
    pub fn open_at(&self, path: &str, flags: c_int) -> Result<Fd> {
        let path = c(path)?;
        // SAFETY: as in `open`.
        let fd = unsafe { libc::openat(self.0, path.as_ptr(), flags, 0o666) };
        if fd < 0 { Err(last()) } else { Ok(Fd(fd)) }
    }

    /// Makes a directory below this one.
    pub fn mkdir_at(&self, path: &str) -> Result<()> {
        let path = c(path)?;
        // SAFETY: as in `open`.
        done(unsafe { libc::mkdirat(self.0, path.as_ptr(), 0o777) })
    }

    /// Removes a name below this directory.
    pub fn unlink_at(&self, path: &str) -> Result<()> {
        let path = c(path)?;
        // SAFETY: as in `open`.
        done(unsafe { libc::unlinkat(self.0, path.as_ptr(), 0) })
    }

    /// Renames from below this directory to below another.
    pub fn rename_at(&self, from: &str, to_dir: &Fd, to: &str) -> Result<()> {
        let (from, to) = (c(from)?, c(to)?);
        // SAFETY: as in `open`.
        done(unsafe { libc::renameat(self.0, from.as_ptr(), to_dir.0, to.as_ptr()) })
    }

    /// Reads at the descriptor's offset.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize> {
        // SAFETY: the buffer is valid for its length.
        count(unsafe { libc::read(self.0, buf.as_mut_ptr().cast::<c_void>(), buf.len()) })
    }

    /// Writes at the descriptor's offset.
    pub fn write(&self, buf: &[u8]) -> Result<usize> {
        // SAFETY: the buffer is valid for its length.
        count(unsafe { libc::write(self.0, buf.as_ptr().cast::<c_void>(), buf.len()) })
    }

    /// Writes all of it at the descriptor's offset.
    pub fn write_all(&self, mut buf: &[u8]) -> Result<()> {
        while !buf.is_empty() {
            let len = self.write(buf)?;
            buf = &buf[len..];
        }
        Ok(())
    }

    /// Reads at an offset.
    pub fn pread(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let ptr = buf.as_mut_ptr().cast::<c_void>();
        // SAFETY: the buffer is valid for its length.
        count(unsafe { libc::pread(self.0, ptr, buf.len(), offset as i64) })
    }

    /// Reads as much as there is at an offset, up to `len`.
    pub fn pread_all(&self, len: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let mut have = 0;
        while have < len {
            match self.pread(&mut buf[have..], offset + have as u64)? {
                0 => break,
                more => have += more,
            }
        }
        buf.truncate(have);
        Ok(buf)
    }

    /// Writes at an offset.
    pub fn pwrite(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let ptr = buf.as_ptr().cast::<c_void>();
        // SAFETY: the buffer is valid for its length.
        count(unsafe { libc::pwrite(self.0, ptr, buf.len(), offset as i64) })
    }

    /// Writes all of it at an offset.
    pub fn pwrite_all(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            done += self.pwrite(&buf[done..], offset + done as u64)?;
        }
        Ok(())
    }

    /// Moves the descriptor's offset, from the start of the file.
    pub fn seek(&self, offset: u64) -> Result<u64> {
        self.seek_from(offset as i64, libc::SEEK_SET)
    }

    /// Tells the descriptor's offset.
    pub fn tell(&self) -> Result<u64> {
        self.seek_from(0, libc::SEEK_CUR)
    }

    /// Moves the descriptor's offset to `offset` past the end.
    pub fn seek_end(&self, offset: i64) -> Result<u64> {
        self.seek_from(offset, libc::SEEK_END)
    }

    fn seek_from(&self, offset: i64, whence: c_int) -> Result<u64> {
        // SAFETY: no pointer is passed.
        u64::try_from(unsafe { libc::lseek(self.0, offset, whence) }).map_err(|_| last())
    }

    /// Sets the size.
    pub fn truncate(&self, size: u64) -> Result<()> {
        // SAFETY: no pointer is passed.
        done(unsafe { libc::ftruncate(self.0, size as i64) })
    }

    /// Asks for the bytes to be kept.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: no pointer is passed.
        done(unsafe { libc::fsync(self.0) })
    }

    /// What the open object is.
    pub fn stat(&self) -> Result<Stat> {
        // SAFETY: all-zero bytes are a value of this struct of integers.
        let mut raw = unsafe { std::mem::zeroed() };
        // SAFETY: the pointer is valid for a write.
        done(unsafe { libc::fstat(self.0, &raw mut raw) })?;
        Ok(Stat::of(&raw))
    }

    /// Sets both times, in nanoseconds since 1970; `None` leaves one as it is.
    pub fn set_times(&self, atime: Option<i64>, mtime: Option<i64>) -> Result<()> {
        let times = [timespec(atime), timespec(mtime)];
        // SAFETY: two timespecs, as the call wants.
        done(unsafe { libc::futimens(self.0, times.as_ptr()) })
    }
}

fn timespec(nanos: Option<i64>) -> libc::timespec {
    match nanos {
        Some(nanos) => libc::timespec {
            tv_sec: nanos.div_euclid(1_000_000_000),
            tv_nsec: nanos.rem_euclid(1_000_000_000) as _,
        },
        None => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
    }
}

/// What a path leads to, symbolic links followed.
pub fn stat(path: &str) -> Result<Stat> {
    stat_flags(path, 0)
}

/// What a path leads to, the last symbolic link not followed.
pub fn lstat(path: &str) -> Result<Stat> {
    stat_flags(path, libc::AT_SYMLINK_NOFOLLOW)
}

fn stat_flags(path: &str, flags: c_int) -> Result<Stat> {
    let path = c(path)?;
    // SAFETY: all-zero bytes are a value of this struct of integers.
    let mut raw = unsafe { std::mem::zeroed() };
    // SAFETY: the string ends in NUL, the pointer is valid for a write.
    done(unsafe { libc::fstatat(libc::AT_FDCWD, path.as_ptr(), &raw mut raw, flags) })?;
    Ok(Stat::of(&raw))
}

/// Sets times by path, the last symbolic link followed or not.
pub fn set_times(path: &str, atime: Option<i64>, mtime: Option<i64>, nofollow: bool) -> Result<()> {
    let path = c(path)?;
    let times = [timespec(atime), timespec(mtime)];
    let flags = if nofollow {
        libc::AT_SYMLINK_NOFOLLOW
    } else {
        0
    };
    // SAFETY: the string ends in NUL; two timespecs, as the call wants.
    done(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), flags) })
}

/// Makes a directory.
pub fn mkdir(path: &str) -> Result<()> {
    let path = c(path)?;
    // SAFETY: the string ends in NUL.
    done(unsafe { libc::mkdir(path.as_ptr(), 0o777) })
}

/// Removes an empty directory.
pub fn rmdir(path: &str) -> Result<()> {
    let path = c(path)?;
    // SAFETY: the string ends in NUL.
    done(unsafe { libc::rmdir(path.as_ptr()) })
}

/// Removes a name of a file or symbolic link.
pub fn unlink(path: &str) -> Result<()> {
    let path = c(path)?;
    // SAFETY: the string ends in NUL.
    done(unsafe { libc::unlink(path.as_ptr()) })
}

/// Renames.
pub fn rename(from: &str, to: &str) -> Result<()> {
    let (from, to) = (c(from)?, c(to)?);
    // SAFETY: the strings end in NUL.
    done(unsafe { libc::rename(from.as_ptr(), to.as_ptr()) })
}

/// Gives a file another name.
pub fn link(from: &str, to: &str) -> Result<()> {
    let (from, to) = (c(from)?, c(to)?);
    // SAFETY: the strings end in NUL.
    done(unsafe { libc::link(from.as_ptr(), to.as_ptr()) })
}

/// Makes a symbolic link.
pub fn symlink(target: &str, path: &str) -> Result<()> {
    let (target, path) = (c(target)?, c(path)?);
    // SAFETY: the strings end in NUL.
    done(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) })
}

/// Reads a symbolic link.
pub fn readlink(path: &str) -> Result<String> {
    let path = c(path)?;
    let mut buf = vec![0u8; 4096];
    let ptr = buf.as_mut_ptr().cast();
    // SAFETY: the string ends in NUL, the buffer is valid for its length.
    let len = count(unsafe { libc::readlink(path.as_ptr(), ptr, buf.len()) })?;
    buf.truncate(len);
    Ok(String::from_utf8_lossy(&buf).into_owned())
}

/// Reads a whole file.
pub fn read_file(path: &str) -> Result<Vec<u8>> {
    let file = open(path, O_RDONLY)?;
    let mut all = Vec::new();
    let mut buf = vec![0; 1 << 16];
    loop {
        match file.read(&mut buf)? {
            0 => return Ok(all),
            len => all.extend_from_slice(&buf[..len]),
        }
    }
}

/// Makes or replaces a file with these bytes.
pub fn write_file(path: &str, bytes: &[u8]) -> Result<()> {
    open(path, O_WRONLY | O_CREAT | O_TRUNC)?.write_all(bytes)
}

/// Adds bytes at the end of a file that is there.
pub fn append(path: &str, bytes: &[u8]) -> Result<()> {
    open(path, O_WRONLY | O_APPEND)?.write_all(bytes)
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its inode number, as the listing says.
    pub ino: u64,
    /// What it is, as the listing says.
    pub kind: Kind,
}

/// An open listing.
pub struct Listing(*mut libc::DIR);

impl Drop for Listing {
    fn drop(&mut self) {
        // SAFETY: given by `opendir`, closed once, here.
        unsafe { libc::closedir(self.0) };
    }
}

/// Opens a listing.
pub fn listing(path: &str) -> Result<Listing> {
    let path = c(path)?;
    // SAFETY: the string ends in NUL.
    let dir = unsafe { libc::opendir(path.as_ptr()) };
    if dir.is_null() {
        Err(last())
    } else {
        Ok(Listing(dir))
    }
}

impl Listing {
    /// Starts over and sees the directory's present state.
    pub fn rewind(&mut self) {
        // SAFETY: the listing is open.
        unsafe { libc::rewinddir(self.0) };
    }
}

impl Iterator for Listing {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        // SAFETY: the listing is open.
        let entry = unsafe { libc::readdir(self.0) };
        if entry.is_null() {
            return None;
        }
        // SAFETY: not null, so valid until the next call on this listing; the
        // name lies behind the struct and ends in NUL.
        let (ino, kind, name) = unsafe {
            let name = (&raw const (*entry).d_name).cast::<libc::c_char>();
            ((*entry).d_ino, (*entry).d_type, CStr::from_ptr(name))
        };
        let kind = match kind {
            libc::DT_REG => Kind::File,
            libc::DT_DIR => Kind::Dir,
            libc::DT_LNK => Kind::Symlink,
            _ => Kind::Other,
        };
        Some(Entry {
            name: name.to_string_lossy().into_owned(),
            ino,
            kind,
        })
    }
}

/// Lists a directory in order of names, without `.` and `..`.
pub fn list(path: &str) -> Result<Vec<Entry>> {
    let mut entries: Vec<_> = listing(path)?
        .filter(|entry| entry.name != "." && entry.name != "..")
        .collect();
    entries.sort();
    Ok(entries)
}
