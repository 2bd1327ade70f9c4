//! Directories that are shown to guests.

use std::ops::Deref;

use super::descriptor::{Access, Descriptor, Rights};
use super::fs::{Fs, find_dir};
use crate::errno::Errno;
use crate::error::Error;
use crate::meta::FileId;
use crate::path::IntoFsPath;

/// A directory that is open to be shown to a guest: [`Fs::root`] and
/// [`Fs::preopen`] make it, and the contexts of [`wasi`] take it.
///
/// As long as it lives, the directory cannot be removed, replaced or moved
/// ([`Errno::Busy`]): a guest that sees it in two places keeps both. A listing
/// shows the directory itself as its `..`. It is a [`Descriptor`] besides.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::vfs::{Fs, Rights};
///
/// let fs = Fs::new(&Image::empty());
/// fs.create_dir_all("/srv/data")?;
/// let shown = fs.preopen("/srv/data", Rights::ReadOnly)?;
/// assert!(fs.remove_dir("/srv/data").is_err());
/// drop(shown);
/// fs.remove_dir("/srv/data")?;
/// # Ok::<(), stratafs::Error>(())
/// ```
///
#[cfg_attr(not(feature = "wasi"), doc = "[`wasi`]: crate#features")]
#[cfg_attr(feature = "wasi", doc = "[`wasi`]: crate::wasi")]
#[derive(Debug)]
pub struct Preopen(Descriptor);

impl Preopen {
    /// Opens the same directory once more, with the same rights.
    ///
    /// # Errors
    ///
    /// [`Errno::TooManyOpen`].
    pub fn try_clone(&self) -> Result<Self, Errno> {
        self.0.try_clone().map(Self)
    }

    /// Returns the descriptor, which stays what a preopen is.
    #[must_use]
    pub fn into_descriptor(self) -> Descriptor {
        self.0
    }
}

impl Deref for Preopen {
    type Target = Descriptor;

    fn deref(&self) -> &Descriptor {
        &self.0
    }
}

impl From<Preopen> for Descriptor {
    fn from(preopen: Preopen) -> Self {
        preopen.0
    }
}

impl TryFrom<Descriptor> for Preopen {
    type Error = Descriptor;

    /// Takes back what [`Preopen::into_descriptor`] or [`Fs::fork_with`] returned
    /// of a preopen.
    ///
    /// # Errors
    ///
    /// The descriptor, if it was not opened as a preopen.
    fn try_from(descriptor: Descriptor) -> Result<Self, Descriptor> {
        match descriptor.is_preopen() {
            true => Ok(Self(descriptor)),
            false => Err(descriptor),
        }
    }
}

impl Fs {
    /// Opens the root with all rights.
    ///
    /// # Errors
    ///
    /// [`Errno::TooManyOpen`].
    pub fn root(&self) -> Result<Preopen, Error> {
        self.preopen("/", Rights::ReadWrite)
    }

    /// Opens the directory at `path` to be shown to a guest. Links are followed.
    /// With [`Rights::ReadOnly`] no change can be made through it or through
    /// anything opened through it.
    ///
    /// # Errors
    ///
    /// Those of the walk (see [`Descriptor::stat_at`]), then
    /// [`Errno::NotDirectory`], then [`Errno::TooManyOpen`].
    pub fn preopen(&self, path: impl IntoFsPath, rights: Rights) -> Result<Preopen, Error> {
        let path = path.fs_path();
        let opened = self.open_preopen(&path, rights);
        opened.map_err(|errno| Error::new("preopen", &path, errno))
    }

    fn open_preopen(&self, path: &[u8], rights: Rights) -> Result<Preopen, Errno> {
        let mut state = self.lock();
        let id = match path {
            // The root is there whatever is damaged or hidden.
            b"/" => FileId::ROOT,
            path => find_dir(&state, path)?,
        };
        let access = match rights {
            Rights::ReadWrite => Access::READ | Access::WRITE,
            Rights::ReadOnly => Access::READ,
        };
        let opened = Descriptor::open(self, &mut state, id, access, rights)?;
        Ok(Preopen(opened.into_preopen(&mut state)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::vfs::{Follow, OpenFlags};

    #[test]
    fn only_what_was_opened_as_a_preopen_becomes_one_again() {
        let fs = Fs::new(&Image::empty());
        fs.create_dir("/d").unwrap();
        let root = fs.root().unwrap();
        let (read, none) = (Access::READ, OpenFlags::empty());
        let opened = root.open_at(Follow::Yes, b"d", none, read).unwrap();
        assert!(Preopen::try_from(opened).is_err());
        let preopen = fs.preopen("/d", Rights::ReadOnly).unwrap();
        let (fork, open) = fs.fork_with(&[&preopen]).unwrap();
        let again = Preopen::try_from(open.into_iter().next().unwrap()).unwrap();
        // Its directory stays as long as it is open.
        assert_eq!(fork.remove_dir("/d").unwrap_err(), Errno::Busy);
        drop(again);
        assert!(fork.remove_dir("/d").is_ok());
    }
}
