//! The calls of `posix`, made of WASI 0.3 itself: each waits for its call or
//! stream, so that a guest written for the C library runs on 0.3 as it stands.
//!
//! Built with the feature `three` in place of `posix`.

use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use libc::c_int;
pub use libc::{
    O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY,
};
use wasip3::clocks::system_clock::Instant;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::{StreamReader, StreamResult, block_on};
use wasip3::wit_stream;

/// An `errno`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub c_int);

/// Codes of 0.3, `errno` numbers and names.
macro_rules! codes {
    ($($code:ident $errno:ident)*) => {
        impl fmt::Debug for Errno {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(libc::$errno => f.write_str(stringify!($errno)),)*
                    other => write!(f, "errno {other}"),
                }
            }
        }

        impl From<ErrorCode> for Errno {
            fn from(code: ErrorCode) -> Self {
                match code {
                    $(ErrorCode::$code => Self(libc::$errno),)*
                    other => panic!("a code that no file gives: {other:?}"),
                }
            }
        }
    };
}

codes! {
    Access EACCES
    BadDescriptor EBADF
    Busy EBUSY
    Exist EEXIST
    FileTooLarge EFBIG
    Invalid EINVAL
    Io EIO
    IsDirectory EISDIR
    Loop ELOOP
    Quota EMFILE
    NameTooLong ENAMETOOLONG
    NoEntry ENOENT
    InsufficientSpace ENOSPC
    NotDirectory ENOTDIR
    NotEmpty ENOTEMPTY
    Unsupported ENOTSUP
    NotPermitted EPERM
    ReadOnly EROFS
    InvalidSeek ESPIPE
    CrossDevice EXDEV
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

impl From<DescriptorType> for Kind {
    fn from(kind: DescriptorType) -> Self {
        match kind {
            DescriptorType::RegularFile => Self::File,
            DescriptorType::Directory => Self::Dir,
            DescriptorType::SymbolicLink => Self::Symlink,
            _ => Self::Other,
        }
    }
}

/// What `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number: the lower half of the metadata hash.
    pub ino: u64,
    /// Device number: 0.3 has none.
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
    fn of(raw: DescriptorStat, ino: u64) -> Self {
        Self {
            ino,
            dev: 0,
            nlink: raw.link_count,
            kind: raw.type_.into(),
            size: raw.size,
            atime: nanos(raw.data_access_timestamp),
            mtime: nanos(raw.data_modification_timestamp),
            ctime: nanos(raw.status_change_timestamp),
        }
    }
}

/// Whether `stat` through a symbolic link shows the inode number of what the
/// link leads to.
pub const STAT_FOLLOWS_TO_INO: bool = true;

fn nanos(time: Option<Instant>) -> i128 {
    time.map_or(0, |time| {
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
    })
}

fn timestamp(nanos: Option<i64>) -> NewTimestamp {
    match nanos {
        Some(nanos) => NewTimestamp::Timestamp(Instant {
            seconds: nanos.div_euclid(1_000_000_000),
            nanoseconds: nanos.rem_euclid(1_000_000_000) as u32,
        }),
        None => NewTimestamp::NoChange,
    }
}

/// The directory that is nearest above a path, and the path below it.
fn root(path: &str) -> Result<(&'static Descriptor, &str)> {
    static ALL: OnceLock<Vec<(Descriptor, String)>> = OnceLock::new();
    if path.is_empty() {
        return Err(Errno(libc::ENOENT));
    }
    let below = |name: &str| {
        let rest = path.strip_prefix(name.trim_end_matches('/'))?;
        (rest.is_empty() || rest.starts_with('/') || name == "/").then_some(rest)
    };
    let all = ALL.get_or_init(get_directories).iter();
    let above = all.filter_map(|(dir, name)| Some((dir, name, below(name)?)));
    let nearest = above.max_by_key(|(_, name, _)| name.len());
    let (dir, _, below) = nearest.ok_or(Errno(libc::ENOENT))?;
    match below.trim_start_matches('/') {
        "" => Ok((dir, ".")),
        below => Ok((dir, below)),
    }
}

/// A descriptor with an offset of its own, as the C library keeps it.
#[derive(Debug)]
pub struct Fd {
    descriptor: Descriptor,
    number: c_int,
    at: Cell<u64>,
    appends: bool,
}

/// Opens a path.
pub fn open(path: &str, flags: c_int) -> Result<Fd> {
    let (dir, path) = root(path)?;
    open_below(dir, path, flags)
}

fn open_below(dir: &Descriptor, path: &str, flags: c_int) -> Result<Fd> {
    static NUMBER: AtomicI32 = AtomicI32::new(3);
    let has = |flag: c_int| flags & flag == flag;
    let mut open = OpenFlags::empty();
    for (flag, theirs) in [
        (O_CREAT, OpenFlags::CREATE),
        (O_DIRECTORY, OpenFlags::DIRECTORY),
        (O_EXCL, OpenFlags::EXCLUSIVE),
        (O_TRUNC, OpenFlags::TRUNCATE),
    ] {
        if has(flag) {
            open |= theirs;
        }
    }
    let mut access = DescriptorFlags::empty();
    if has(O_RDONLY) {
        access |= DescriptorFlags::READ;
    }
    if has(O_WRONLY) {
        access |= DescriptorFlags::WRITE;
    }
    let follow = follow(!has(O_NOFOLLOW));
    let opened = dir.open_at(follow, path.to_owned(), open, access);
    Ok(Fd {
        descriptor: block_on(opened)?,
        number: NUMBER.fetch_add(1, Ordering::Relaxed),
        at: Cell::new(0),
        appends: has(O_APPEND),
    })
}

fn follow(yes: bool) -> PathFlags {
    if yes {
        PathFlags::SYMLINK_FOLLOW
    } else {
        PathFlags::empty()
    }
}

impl Fd {
    /// A number that no other has.
    pub fn number(&self) -> c_int {
        self.number
    }

    /// Opens a path below this directory.
    pub fn open_at(&self, path: &str, flags: c_int) -> Result<Fd> {
        open_below(&self.descriptor, path, flags)
    }

    /// Makes a directory below this one.
    pub fn mkdir_at(&self, path: &str) -> Result<()> {
        Ok(block_on(
            self.descriptor.create_directory_at(path.to_owned()),
        )?)
    }

    /// Removes a name below this directory.
    pub fn unlink_at(&self, path: &str) -> Result<()> {
        Ok(block_on(self.descriptor.unlink_file_at(path.to_owned()))?)
    }

    /// Renames from below this directory to below another.
    pub fn rename_at(&self, from: &str, to_dir: &Fd, to: &str) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        Ok(block_on(self.descriptor.rename_at(
            from,
            &to_dir.descriptor,
            to,
        ))?)
    }

    /// Reads at the descriptor's offset.
    pub fn read(&self, buf: &mut [u8]) -> Result<usize> {
        let len = self.pread(buf, self.at.get())?;
        self.at.set(self.at.get() + len as u64);
        Ok(len)
    }

    /// Writes at the descriptor's offset.
    pub fn write(&self, buf: &[u8]) -> Result<usize> {
        let (data, end) = wit_stream::new();
        let end = if self.appends {
            self.descriptor.append_via_stream(end)
        } else {
            self.descriptor.write_via_stream(end, self.at.get())
        };
        let len = put(data, end, buf)?;
        self.at.set(self.at.get() + len as u64);
        Ok(len)
    }

    /// Writes all of it at the descriptor's offset.
    pub fn write_all(&self, mut buf: &[u8]) -> Result<()> {
        while !buf.is_empty() {
            let len = self.write(buf)?;
            buf = &buf[len..];
        }
        Ok(())
    }

    /// Reads at an offset, as much as there is: a stream may give it in
    /// pieces.
    pub fn pread(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        block_on(async {
            let (mut data, end) = self.descriptor.read_via_stream(offset);
            let mut have = 0;
            while have < buf.len() {
                let (result, piece) = data.read(Vec::with_capacity(buf.len() - have)).await;
                buf[have..have + piece.len()].copy_from_slice(&piece);
                have += piece.len();
                if result == StreamResult::Dropped {
                    break;
                }
            }
            drop(data);
            match end.await {
                Err(code) if have == 0 => Err(code.into()),
                _ => Ok(have),
            }
        })
    }

    /// Reads as much as there is at an offset, up to `len`.
    pub fn pread_all(&self, len: usize, offset: u64) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        let have = self.pread(&mut buf, offset)?;
        buf.truncate(have);
        Ok(buf)
    }

    /// Writes at an offset.
    pub fn pwrite(&self, buf: &[u8], offset: u64) -> Result<usize> {
        let (data, end) = wit_stream::new();
        let end = self.descriptor.write_via_stream(end, offset);
        put(data, end, buf)
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
        self.at.set(offset);
        Ok(offset)
    }

    /// Tells the descriptor's offset.
    pub fn tell(&self) -> Result<u64> {
        Ok(self.at.get())
    }

    /// Moves the descriptor's offset to `offset` past the end.
    pub fn seek_end(&self, offset: i64) -> Result<u64> {
        let end = self.stat()?.size.checked_add_signed(offset);
        self.seek(end.ok_or(Errno(libc::EINVAL))?)
    }

    /// Sets the size.
    pub fn truncate(&self, size: u64) -> Result<()> {
        Ok(block_on(self.descriptor.set_size(size))?)
    }

    /// Asks for the bytes to be kept.
    pub fn sync(&self) -> Result<()> {
        Ok(block_on(self.descriptor.sync())?)
    }

    /// What the open object is.
    pub fn stat(&self) -> Result<Stat> {
        let raw = block_on(self.descriptor.stat())?;
        let hash = block_on(self.descriptor.metadata_hash())?;
        Ok(Stat::of(raw, hash.lower))
    }

    /// Sets both times, in nanoseconds since 1970; `None` leaves one as it is.
    pub fn set_times(&self, atime: Option<i64>, mtime: Option<i64>) -> Result<()> {
        let (atime, mtime) = (timestamp(atime), timestamp(mtime));
        Ok(block_on(self.descriptor.set_times(atime, mtime))?)
    }
}

/// Writes bytes into a stream and tells how many went through.
fn put(
    mut data: wasip3::wit_bindgen::StreamWriter<u8>,
    end: wasip3::wit_bindgen::FutureReader<std::result::Result<(), ErrorCode>>,
    buf: &[u8],
) -> Result<usize> {
    block_on(async {
        let rest = data.write_all(buf.to_vec()).await;
        drop(data);
        let written = buf.len() - rest.len();
        match end.await {
            Err(code) if written == 0 => Err(code.into()),
            _ => Ok(written),
        }
    })
}

/// What a path leads to, symbolic links followed.
pub fn stat(path: &str) -> Result<Stat> {
    stat_flags(path, follow(true))
}

/// What a path leads to, the last symbolic link not followed.
pub fn lstat(path: &str) -> Result<Stat> {
    stat_flags(path, follow(false))
}

fn stat_flags(path: &str, flags: PathFlags) -> Result<Stat> {
    let (dir, path) = root(path)?;
    let raw = block_on(dir.stat_at(flags, path.to_owned()))?;
    let hash = block_on(dir.metadata_hash_at(flags, path.to_owned()))?;
    Ok(Stat::of(raw, hash.lower))
}

/// Sets times by path, the last symbolic link followed or not.
pub fn set_times(path: &str, atime: Option<i64>, mtime: Option<i64>, nofollow: bool) -> Result<()> {
    let (dir, path) = root(path)?;
    let (atime, mtime) = (timestamp(atime), timestamp(mtime));
    let set = dir.set_times_at(follow(!nofollow), path.to_owned(), atime, mtime);
    Ok(block_on(set)?)
}

/// Makes a directory.
pub fn mkdir(path: &str) -> Result<()> {
    let (dir, path) = root(path)?;
    Ok(block_on(dir.create_directory_at(path.to_owned()))?)
}

/// Removes an empty directory.
pub fn rmdir(path: &str) -> Result<()> {
    let (dir, path) = root(path)?;
    Ok(block_on(dir.remove_directory_at(path.to_owned()))?)
}

/// Removes a name of a file or symbolic link.
pub fn unlink(path: &str) -> Result<()> {
    let (dir, path) = root(path)?;
    Ok(block_on(dir.unlink_file_at(path.to_owned()))?)
}

/// Renames.
pub fn rename(from: &str, to: &str) -> Result<()> {
    let ((dir, from), (to_dir, to)) = (root(from)?, root(to)?);
    Ok(block_on(dir.rename_at(
        from.to_owned(),
        to_dir,
        to.to_owned(),
    ))?)
}

/// Gives a file another name.
pub fn link(from: &str, to: &str) -> Result<()> {
    let ((dir, from), (to_dir, to)) = (root(from)?, root(to)?);
    let linked = dir.link_at(follow(false), from.to_owned(), to_dir, to.to_owned());
    Ok(block_on(linked)?)
}

/// Makes a symbolic link.
pub fn symlink(target: &str, path: &str) -> Result<()> {
    let (dir, path) = root(path)?;
    let linked = dir.symlink_at(target.to_owned(), path.to_owned());
    Ok(block_on(linked)?)
}

/// Reads a symbolic link.
pub fn readlink(path: &str) -> Result<String> {
    let (dir, path) = root(path)?;
    Ok(block_on(dir.readlink_at(path.to_owned()))?)
}

/// Reads a whole file: one stream to its end.
pub fn read_file(path: &str) -> Result<Vec<u8>> {
    let file = open(path, O_RDONLY)?;
    block_on(async {
        let (mut data, end) = file.descriptor.read_via_stream(0);
        let mut all = Vec::new();
        loop {
            let (result, piece) = data.read(Vec::with_capacity(1 << 16)).await;
            all.extend(piece);
            if result == StreamResult::Dropped {
                end.await?;
                return Ok(all);
            }
        }
    })
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
    /// Its inode number, which 0.3 tells by path only.
    pub ino: u64,
    /// What it is, as the listing says.
    pub kind: Kind,
}

/// An open listing.
pub struct Listing {
    dir: Fd,
    dots: usize,
    entries: StreamReader<DirectoryEntry>,
}

/// Opens a listing.
pub fn listing(path: &str) -> Result<Listing> {
    let dir = open(path, O_RDONLY | O_DIRECTORY)?;
    let (entries, _) = dir.descriptor.read_directory();
    Ok(Listing {
        dir,
        dots: 0,
        entries,
    })
}

impl Listing {
    /// Starts over and sees the directory's present state.
    pub fn rewind(&mut self) {
        self.dots = 0;
        (self.entries, _) = self.dir.descriptor.read_directory();
    }
}

impl Iterator for Listing {
    type Item = Entry;

    /// `.` and `..` come first, as the C library adds them.
    fn next(&mut self) -> Option<Entry> {
        let (name, kind) = match [".", ".."].get(self.dots) {
            Some(dots) => {
                self.dots += 1;
                ((*dots).to_owned(), Kind::Dir)
            }
            None => {
                let entry = block_on(self.entries.next())?;
                (entry.name, entry.type_.into())
            }
        };
        let dir = &self.dir.descriptor;
        // `..` may lie outside of the directory; and what is listed may be
        // gone by now.
        let hash = block_on(dir.metadata_hash_at(follow(false), name.clone()));
        let ino = hash.map_or(0, |hash| hash.lower);
        Some(Entry { name, ino, kind })
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
