//! Whole files at once: read, write, copy.

use super::error::Error;
use crate::errno::Errno;
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

/// Bytes that a copy moves at a time.
const PIECE_BYTES: usize = 64 * 1024;

fn open(
    root: &Descriptor,
    path: &[u8],
    flags: OpenFlags,
    access: Access,
) -> Result<Descriptor, Errno> {
    let opened = root.open_at(Follow::Yes, path, flags, access)?;
    match opened.kind() {
        crate::meta::Kind::File => Ok(opened),
        crate::meta::Kind::Dir | crate::meta::Kind::Symlink => Err(Errno::IsDirectory),
    }
}

/// Writes all of `bytes` from `offset` on.
pub(super) fn write_all(file: &Descriptor, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        done += file.write_at(offset + done as u64, rest)?;
    }
    Ok(())
}

impl Fs {
    /// Reads a whole file. Allocates its size.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`], [`Errno::IsDirectory`].
    pub fn read(&self, path: impl AsRef<[u8]>) -> Result<Vec<u8>, Error> {
        self.at("read", path.as_ref(), |root, path| {
            let file = open(root, path, OpenFlags::empty(), Access::READ)?;
            let size = usize::try_from(file.stat()?.size).map_err(|_| Errno::FileTooLarge)?;
            let mut bytes = vec![0; size];
            let len = file.read_at(0, &mut bytes)?;
            bytes.truncate(len);
            Ok(bytes)
        })
    }

    /// Reads a whole file as text.
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; [`Errno::IllegalByteSequence`] if it is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<[u8]>) -> Result<String, Error> {
        let path = path.as_ref();
        let bytes = self.read(path)?;
        String::from_utf8(bytes).map_err(|_| Error::new("read", path, Errno::IllegalByteSequence))
    }

    /// Makes a file of these bytes, or replaces the bytes of the one there.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`] and [`Descriptor::write_at`]; past the
    /// quota the file keeps what fitted.
    pub fn write(&self, path: impl AsRef<[u8]>, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        self.at("write", path.as_ref(), |root, path| {
            let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
            write_all(&open(root, path, flags, Access::WRITE)?, 0, bytes.as_ref())
        })
    }

    /// Copies a file's bytes and permission bits to `to`, holes as holes.
    /// Gives the size.
    ///
    /// # Errors
    ///
    /// As [`Self::read`] for `from`; as [`Self::write`] for `to`;
    /// [`Errno::Invalid`] if they are one file. The error names the path it
    /// is about.
    pub fn copy(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> Result<u64, Error> {
        let source = self.at("copy", from.as_ref(), |root, path| {
            open(root, path, OpenFlags::empty(), Access::READ)
        })?;
        self.at("copy to", to.as_ref(), |root, path| {
            let target = open(root, path, OpenFlags::CREATE, Access::WRITE)?;
            if source.is_same_object(&target) {
                return Err(Errno::Invalid);
            }
            target.set_size(0)?;
            let stat = source.stat()?;
            copy_bytes(&source, &target, stat.size)?;
            root.set_owner_at(Follow::Yes, path, stat.mode, (stat.uid, stat.gid))?;
            Ok(stat.size)
        })
    }
}

fn copy_bytes(source: &Descriptor, target: &Descriptor, size: u64) -> Result<(), Errno> {
    let mut at = 0;
    while at < size {
        let hole = source.hole_at(at)?;
        if hole > 0 {
            at += hole;
            continue;
        }
        let piece = source.read_bytes(at, PIECE_BYTES)?;
        if piece.is_empty() {
            break;
        }
        write_all(target, at, &piece)?;
        at += piece.len() as u64;
    }
    target.set_size(size)
}
