//! Directories that a host keeps in their place: where it shows other file systems.

use super::Fs;
use super::fs::find_dir;
use super::state::FsState;
use crate::errno::Errno;
use crate::error::Error;
use crate::meta::{FileId, Time};
use crate::overlay::New;
use crate::path::IntoFsPath;

impl Fs {
    /// Keeps the directory at `path` in its place: it is made if it is missing, with those
    /// on the way to it, also in a read-only instance. It cannot be removed, replaced or
    /// moved as long as the instance lives ([`Errno::Busy`]), nor in its forks. So what a
    /// host shows to a guest under that path, such as a volume or a directory of the host,
    /// stays in the listing of the directory above. Links are followed.
    ///
    /// What is made counts against the quota and is in the diff, empty.
    ///
    /// # Errors
    ///
    /// Those of the walk, [`Errno::NotDirectory`] for another object or a link
    /// that leads nowhere, [`Errno::NoSpace`] by the quotas and past
    /// [`MAX_PLACES`](crate::limits::MAX_PLACES). What was made until then stays.
    pub fn keep_dir(&self, path: impl IntoFsPath) -> Result<(), Error> {
        let path = path.fs_path();
        let now = self.now();
        let mut state = self.lock();
        let kept = make_dirs(&mut state, &path, now).and_then(|dir| state.keep(dir));
        kept.map_err(|errno| Error::new("keep", &path, errno))
    }
}

/// Finds the directory at `path`, and makes it and those on the way that are
/// missing.
pub(super) fn make_dirs(state: &mut FsState, path: &[u8], now: Time) -> Result<FileId, Errno> {
    if path.is_empty() {
        return Err(Errno::NoEntry);
    }
    let mut dir = FileId::ROOT;
    let mut end = 0;
    for name in path.split(|byte| *byte == b'/') {
        end += name.len();
        let prefix = path.get(..end).unwrap_or_default();
        end += 1;
        if name.is_empty() {
            continue;
        }
        dir = match find_dir(state, prefix) {
            Ok(found) => found,
            Err(Errno::NoEntry) if state.find(dir, name).is_none() => {
                state.create(dir, name, New::Dir, now)?
            }
            Err(Errno::NoEntry) => return Err(Errno::NotDirectory),
            Err(errno) => return Err(errno),
        };
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::vfs::Rights;

    #[test]
    fn case_p10_a_place_is_listed_and_stays() {
        let fs = Fs::builder(&Image::empty()).build();
        fs.symlink("nowhere", "/dangling").unwrap();
        fs.write("/file", "x").unwrap();
        fs.keep_dir(b"/mnt//data").unwrap();
        let root = fs.preopen(b"/", Rights::ReadWrite).unwrap();
        assert_eq!(root.remove_dir_at(b"mnt/data"), Err(Errno::Busy));
        assert_eq!(root.rename_at(b"mnt/data", &root, b"x"), Err(Errno::Busy));
        root.create_dir_at(b"other").unwrap();
        assert_eq!(
            root.rename_at(b"other", &root, b"mnt/data"),
            Err(Errno::Busy)
        );
        assert_eq!(root.remove_dir_at(b"mnt"), Err(Errno::NotEmpty));
        let refused = |path: &str| fs.keep_dir(path).unwrap_err().errno();
        assert_eq!(refused("/dangling"), Errno::NotDirectory);
        assert_eq!(refused("/file/x"), Errno::NotDirectory);
        assert_eq!(refused("/.."), Errno::NotPermitted);
        assert_eq!(refused(""), Errno::NoEntry);
        assert_eq!(fs.check(), Ok(()));
        let closed = Fs::builder(&Image::empty()).read_only().build();
        closed.keep_dir(b"mnt").unwrap();
        assert!(closed.exists("/mnt").unwrap());
    }
}
