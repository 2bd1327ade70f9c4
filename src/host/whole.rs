//! Whole files at once: read, write, copy.

#[cfg(feature = "runner")]
use crate::chunk::Content;
use crate::errno::Errno;
use crate::error::Error;
use crate::limits::{MAX_PREFETCH_BYTES, MAX_WHOLE_READ_BYTES};
use crate::path::IntoFsPath;
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags};

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

/// Reads all bytes of a file, in memory that is asked for first: a guest says
/// how large its file is, and only the system knows what there is.
fn read_all(file: &Descriptor, max: u64) -> Result<Vec<u8>, Errno> {
    let size = file.stat()?.size;
    if size > max {
        return Err(Errno::FileTooLarge);
    }
    let size = usize::try_from(size).map_err(|_| Errno::FileTooLarge)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Errno::NoSpace)?;
    bytes.resize(size, 0);
    let len = file.read_at(&mut bytes, 0)?;
    bytes.truncate(len);
    Ok(bytes)
}

impl Fs {
    /// Reads a whole file. Takes memory for its size, holes included: of a tree
    /// that a guest made say with [`Self::read_up_to`] how much that may be.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`], [`Errno::IsDirectory`];
    /// [`Errno::FileTooLarge`] past [`MAX_WHOLE_READ_BYTES`];
    /// [`Errno::NoSpace`] if there is no memory for it.
    pub fn read(&self, path: impl IntoFsPath) -> Result<Vec<u8>, Error> {
        self.read_up_to(path, MAX_WHOLE_READ_BYTES)
    }

    /// Reads a whole file that has `max` bytes at most, holes included. Safe on
    /// a tree that a guest made: O(size), which is looked at before any memory
    /// is taken.
    ///
    /// ```
    /// use stratafs::{errno::Errno, image::Image, vfs::Fs};
    ///
    /// let fs = Fs::new(&Image::empty());
    /// fs.write("/result", "42")?;
    /// assert_eq!(fs.read_up_to("/result", 1024)?, b"42");
    /// let error = fs.read_up_to("/result", 1).unwrap_err();
    /// assert_eq!(error.errno(), Errno::FileTooLarge);
    /// # Ok::<(), stratafs::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`], [`Errno::IsDirectory`];
    /// [`Errno::FileTooLarge`] if there is more; [`Errno::NoSpace`] if there is
    /// no memory for it.
    pub fn read_up_to(&self, path: impl IntoFsPath, max: u64) -> Result<Vec<u8>, Error> {
        self.at("read", &path.fs_path(), |root, path| {
            let file = open(root, path, OpenFlags::empty(), Access::READ)?;
            read_all(&file, max)
        })
    }

    /// Returns the bytes of a file of the base, as the base has them. Links are followed.
    #[cfg(feature = "runner")]
    pub(crate) fn base_content(&self, path: impl IntoFsPath) -> Result<Content, Error> {
        self.at("read", &path.fs_path(), |root, path| {
            let id = root.stat_at(Follow::Yes, path)?.id;
            let node = id.node_below(self.image().nodes());
            let content = node.and_then(|node| self.image().content(node));
            content.cloned().ok_or(Errno::IsDirectory)
        })
    }

    /// Reads a file once, so that all of it is here when it is read again: what has to be
    /// fetched of it is fetched, in as few steps as can be. The thread waits for that. Returns
    /// the bytes of the file.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`], [`Errno::IsDirectory`]; [`Errno::Io`] for what cannot
    /// be fetched.
    pub fn prefetch(&self, path: impl IntoFsPath) -> Result<u64, Error> {
        self.at("prefetch", &path.fs_path(), |root, path| {
            let file = open(root, path, OpenFlags::empty(), Access::READ)?;
            let size = file.stat()?.size;
            let len = usize::try_from(size.min(MAX_PREFETCH_BYTES)).unwrap_or(0);
            let mut buf = vec![0; len];
            let mut at = 0;
            while at < size {
                match file.read_at(&mut buf, at)? {
                    0 => break,
                    read => at += read as u64,
                }
            }
            Ok(size)
        })
    }

    /// Reads a whole file as text. Takes memory for its size, as
    /// [`Self::read`].
    ///
    /// # Errors
    ///
    /// As [`Self::read`]; [`Errno::IllegalByteSequence`] if it is not UTF-8.
    pub fn read_to_string(&self, path: impl IntoFsPath) -> Result<String, Error> {
        let path = &path.fs_path();
        let bytes = self.read(path)?;
        String::from_utf8(bytes).map_err(|_| Error::new("read", path, Errno::IllegalByteSequence))
    }

    /// Makes a file of these bytes, or replaces the bytes of the one there.
    ///
    /// # Errors
    ///
    /// Those of [`Descriptor::open_at`] and [`Descriptor::write_at`]; past the
    /// quota the file keeps what fitted.
    pub fn write(&self, path: impl IntoFsPath, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        self.at("write", &path.fs_path(), |root, path| {
            let flags = OpenFlags::CREATE | OpenFlags::TRUNCATE;
            open(root, path, flags, Access::WRITE)?.write_all_at(bytes.as_ref(), 0)
        })
    }

    /// Copies a file's bytes and permission bits to `to`, holes as holes.
    /// Returns the size. Safe on a tree that a guest made: O(bytes outside holes),
    /// 64 KiB at a time.
    ///
    /// # Errors
    ///
    /// As [`Self::read`] for `from`; as [`Self::write`] for `to`;
    /// [`Errno::Invalid`] if they are one file. The error names the path it
    /// is about.
    pub fn copy(&self, from: impl IntoFsPath, to: impl IntoFsPath) -> Result<u64, Error> {
        let source = self.at("copy", &from.fs_path(), |root, path| {
            open(root, path, OpenFlags::empty(), Access::READ)
        })?;
        self.at("copy to", &to.fs_path(), |root, path| {
            let target = open(root, path, OpenFlags::CREATE, Access::WRITE)?;
            if source.is_same_object(&target) {
                return Err(Errno::Invalid);
            }
            let stat = source.stat()?;
            target.copy_content_of(&source)?;
            root.set_owner_at(Follow::Yes, path, stat.mode, (stat.uid, stat.gid))?;
            Ok(stat.size)
        })
    }
}
