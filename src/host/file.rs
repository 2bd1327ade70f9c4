//! Open files, with std's traits.

use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::errno::Errno;
use crate::error::Error;
use crate::meta::{Kind, Stat};
use crate::path::IntoFsPath;
use crate::vfs::{Access, Descriptor, Follow, Fs, NotDone, OpenFlags};

/// How to open a file, as [`std::fs::OpenOptions`]. All options start off, and
/// each is on or off by itself: turning one off leaves the others.
///
/// ```
/// use std::io::{Read, Seek, Write};
/// use stratafs::host::OpenOptions;
/// use stratafs::{image::Image, vfs::Fs};
///
/// # fn main() -> std::io::Result<()> {
/// let fs = Fs::new(&Image::empty());
/// let options = OpenOptions::new().read(true).write(true).create(true);
/// let mut file = options.open(&fs, "/notes")?;
/// file.write_all(b"first, second")?;
/// file.rewind()?;
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert_eq!(text, "first, second");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions(Options);

bitflags::bitflags! {
    #[derive(Clone, Copy, Debug, Default)]
    struct Options: u8 {
        const READ = 1;
        const WRITE = 2;
        const APPEND = 4;
        const TRUNCATE = 8;
        const CREATE = 16;
        const CREATE_NEW = 32;
    }
}

impl OpenOptions {
    /// Starts with all options off.
    #[must_use]
    pub const fn new() -> Self {
        Self(Options::empty())
    }

    /// Asks for reading.
    #[must_use]
    pub fn read(self, on: bool) -> Self {
        self.set(Options::READ, on)
    }

    /// Asks for writing.
    #[must_use]
    pub fn write(self, on: bool) -> Self {
        self.set(Options::WRITE, on)
    }

    /// Asks for writing, always at the end.
    #[must_use]
    pub fn append(self, on: bool) -> Self {
        self.set(Options::APPEND, on)
    }

    /// Cuts the file to no bytes.
    #[must_use]
    pub fn truncate(self, on: bool) -> Self {
        self.set(Options::TRUNCATE, on)
    }

    /// Makes the file if it is missing.
    #[must_use]
    pub fn create(self, on: bool) -> Self {
        self.set(Options::CREATE, on)
    }

    /// Makes the file, and fails if the name is taken: `create` and `truncate`
    /// then say nothing.
    #[must_use]
    pub fn create_new(self, on: bool) -> Self {
        self.set(Options::CREATE_NEW, on)
    }

    fn set(mut self, option: Options, on: bool) -> Self {
        self.0.set(option, on);
        self
    }

    fn has(self, option: Options) -> bool {
        self.0.contains(option)
    }

    /// What the options come to, by the rules of std.
    fn resolve(self) -> Result<(OpenFlags, Access, Mode), Errno> {
        let (append, new) = (self.has(Options::APPEND), self.has(Options::CREATE_NEW));
        let writes = append || self.has(Options::WRITE);
        let (create, truncate) = (self.has(Options::CREATE), self.has(Options::TRUNCATE));
        let changes = create || truncate || new;
        if (changes && !writes) || (append && truncate && !new) {
            return Err(Errno::Invalid);
        }
        let mut access = Access::empty();
        access.set(Access::READ, self.has(Options::READ));
        access.set(Access::WRITE, writes);
        if access.is_empty() {
            return Err(Errno::Invalid);
        }
        let mut flags = OpenFlags::empty();
        flags.set(OpenFlags::CREATE, create || new);
        flags.set(OpenFlags::EXCLUSIVE, new);
        flags.set(OpenFlags::TRUNCATE, truncate && !new);
        let mode = if append { Mode::Append } else { Mode::AtOffset };
        Ok((flags, access, mode))
    }

    /// Opens the file at `path`; links are followed.
    ///
    /// # Errors
    ///
    /// [`Errno::Invalid`] without reading or writing, for creating or cutting
    /// without writing, and for cutting what is appended to (as std); those of
    /// [`Descriptor::open_at`]; [`Errno::IsDirectory`].
    pub fn open(self, fs: &Fs, path: impl IntoFsPath) -> Result<File, Error> {
        let whole = path.fs_path();
        fs.at("open", &whole, |root, path| {
            let (flags, access, mode) = self.resolve()?;
            let descriptor = root.open_at(Follow::Yes, path, flags, access)?;
            if descriptor.kind() != Kind::File {
                return Err(Errno::IsDirectory);
            }
            Ok(File {
                descriptor,
                path: whole.as_ref().into(),
                offset: 0,
                mode,
            })
        })
    }
}

impl Fs {
    /// Opens a file for reading. See [`OpenOptions`] for other ways.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn open(&self, path: impl IntoFsPath) -> Result<File, Error> {
        OpenOptions::new().read(true).open(self, path)
    }

    /// Makes a file, or cuts the one there, for writing.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn create(&self, path: impl IntoFsPath) -> Result<File, Error> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self, path)
    }
}

/// Where writes go.
#[derive(Clone, Copy, Debug)]
enum Mode {
    AtOffset,
    Append,
}

/// An open file with an offset: [`Read`], [`Write`] and [`Seek`]. A write in
/// append mode leaves the offset past what it wrote, as Linux does. Errors are
/// std's, and hold an [`Error`] with the path by which the file was opened.
///
/// ```
/// use std::io::{Read, Seek, SeekFrom, Write};
///
/// use stratafs::{image::Image, vfs::Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.create("/log")?.write_all(b"one\ntwo\n")?;
/// let mut file = fs.open("/log")?;
/// file.seek(SeekFrom::Start(4))?;
/// let mut rest = String::new();
/// file.read_to_string(&mut rest)?;
/// assert_eq!(rest, "two\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct File {
    descriptor: Descriptor,
    /// As it was opened, for errors.
    path: Box<[u8]>,
    offset: u64,
    mode: Mode,
}

impl File {
    /// Returns what is known of the file.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat`].
    pub fn metadata(&self) -> io::Result<Stat> {
        self.descriptor.stat().map_err(self.failed("stat"))
    }

    /// Cuts or grows the file.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::set_size`].
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        let set = self.descriptor.set_size(size);
        set.map_err(self.failed("set length of"))
    }

    /// Reads at an offset, leaving the file's own as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::read_at`].
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.descriptor.read_at(buf, offset);
        read.map_err(self.failed("read"))
    }

    /// Writes at an offset, leaving the file's own as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::write_at`].
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let written = self.descriptor.write_at(buf, offset);
        written.map_err(self.failed("write"))
    }

    /// Waits until all content is where the instance keeps it: at once, since that
    /// is memory.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::sync`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.descriptor.sync().map_err(self.failed("sync"))
    }

    /// Reads at the file's offset and moves it past what was read. Never waits.
    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> Result<usize, NotDone> {
        let len = self.descriptor.try_read_at(buf, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }

    /// Writes where the file's mode says and moves the offset past what was written.
    /// Never waits.
    pub(super) fn try_write(&mut self, buf: &[u8]) -> Result<usize, NotDone> {
        match self.mode {
            Mode::Append if buf.is_empty() => Ok(0),
            Mode::Append => {
                let (len, end) = self.descriptor.try_append(buf)?;
                self.offset = end;
                Ok(len)
            }
            Mode::AtOffset => {
                let len = self.descriptor.try_write_at(buf, self.offset)?;
                self.offset += len as u64;
                Ok(len)
            }
        }
    }

    /// What [`Self::try_write`] does, for errors.
    pub(super) fn writing(&self) -> &'static str {
        match self.mode {
            Mode::Append => "append to",
            Mode::AtOffset => "write",
        }
    }

    /// What becomes of a descriptor's error.
    pub(super) fn failed(&self, operation: &'static str) -> impl Fn(Errno) -> io::Error {
        move |errno| Error::new(operation, &self.path, errno).into()
    }

    /// Returns the descriptor below.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = NotDone::wait_for(|| self.try_read(buf));
        read.map_err(self.failed("read"))
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let wrote = NotDone::wait_for(|| self.try_write(buf));
        wrote.map_err(self.failed(self.writing()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.metadata()?.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
        };
        let target = target.ok_or(Errno::Invalid);
        self.offset = target.map_err(self.failed("seek in"))?;
        Ok(self.offset)
    }
}
