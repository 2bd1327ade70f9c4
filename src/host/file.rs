//! Open files, with std's traits.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::error::{Error, kind};
use crate::errno::Errno;
use crate::meta::{Kind, Stat};
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

/// How to open a file, as [`std::fs::OpenOptions`]. All options start off.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    flags: OpenFlags,
    access: Access,
    mode: Mode,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    AtOffset,
    Append,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Starts with all options off.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            flags: OpenFlags::empty(),
            access: Access::empty(),
            mode: Mode::AtOffset,
        }
    }

    /// Asks for reading.
    #[must_use]
    pub fn read(mut self, on: bool) -> Self {
        self.access.set(Access::READ, on);
        self
    }

    /// Asks for writing.
    #[must_use]
    pub fn write(mut self, on: bool) -> Self {
        self.access.set(Access::WRITE, on);
        self
    }

    /// Asks for writing, always at the end.
    #[must_use]
    pub fn append(mut self, on: bool) -> Self {
        self.mode = if on { Mode::Append } else { Mode::AtOffset };
        self.write(on)
    }

    /// Cuts the file to no bytes.
    #[must_use]
    pub fn truncate(mut self, on: bool) -> Self {
        self.flags.set(OpenFlags::TRUNCATE, on);
        self
    }

    /// Makes the file if it is missing.
    #[must_use]
    pub fn create(mut self, on: bool) -> Self {
        self.flags.set(OpenFlags::CREATE, on);
        self
    }

    /// Makes the file, and fails if the name is taken.
    #[must_use]
    pub fn create_new(mut self, on: bool) -> Self {
        self.flags.set(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, on);
        self
    }

    /// Opens the file at `path`; links are followed.
    ///
    /// # Errors
    ///
    /// [`Errno::Invalid`] without reading or writing, or for creating or
    /// cutting without writing (as std); those of [`Descriptor::open_at`];
    /// [`Errno::IsDirectory`].
    pub fn open(self, fs: &Fs, path: impl AsRef<[u8]>) -> Result<File, Error> {
        fs.at("open", path.as_ref(), |root, path| {
            let changes = OpenFlags::CREATE | OpenFlags::TRUNCATE;
            let writes = self.access.contains(Access::WRITE);
            if self.access.is_empty() || (self.flags.intersects(changes) && !writes) {
                return Err(Errno::Invalid);
            }
            let descriptor = root.open_at(Follow::Yes, path, self.flags, self.access)?;
            if descriptor.kind() != Kind::File {
                return Err(Errno::IsDirectory);
            }
            Ok(File {
                descriptor,
                offset: 0,
                mode: self.mode,
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
    pub fn open(&self, path: impl AsRef<[u8]>) -> Result<File, Error> {
        OpenOptions::new().read(true).open(self, path)
    }

    /// Makes a file, or cuts the one there, for writing.
    ///
    /// # Errors
    ///
    /// Those of [`OpenOptions::open`].
    pub fn create(&self, path: impl AsRef<[u8]>) -> Result<File, Error> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(self, path)
    }
}

/// An open file with an offset: [`Read`], [`Write`] and [`Seek`].
#[derive(Debug)]
pub struct File {
    descriptor: Descriptor,
    offset: u64,
    mode: Mode,
}

impl File {
    /// Tells what is known of the file.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::stat`].
    pub fn metadata(&self) -> io::Result<Stat> {
        self.descriptor.stat().map_err(to_io)
    }

    /// Cuts or grows the file.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::set_size`].
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.descriptor.set_size(size).map_err(to_io)
    }

    /// Reads at an offset, leaving the file's own as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::read_at`].
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.descriptor.read_at(offset, buf).map_err(to_io)
    }

    /// Writes at an offset, leaving the file's own as it is.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::write_at`].
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.descriptor.write_at(offset, buf).map_err(to_io)
    }

    /// Gives the descriptor below.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }
}

fn to_io(errno: Errno) -> io::Error {
    io::Error::new(kind(errno), errno)
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.read_at(buf, self.offset)?;
        self.offset += len as u64;
        Ok(len)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self.mode {
            Mode::Append => self.descriptor.append(buf).map_err(to_io),
            Mode::AtOffset => {
                let len = self.write_at(buf, self.offset)?;
                self.offset += len as u64;
                Ok(len)
            }
        }
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
        self.offset = target.ok_or_else(|| to_io(Errno::Invalid))?;
        Ok(self.offset)
    }
}
