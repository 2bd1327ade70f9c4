//! Opening and listing, one name at a time, without following links.

use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::{Dir, File, FileType};

use super::facts::{Facts, HostKind};
use crate::source::SourceErrorKind;

#[cfg(unix)]
pub(super) use self::unix::Host;

#[cfg(not(unix))]
pub(super) use self::portable::Host;

/// What is at a name, a link itself included.
pub(super) fn facts_at(dir: &Dir, name: &OsStr) -> Result<Facts, SourceErrorKind> {
    dir.symlink_metadata(name)
        .map(|meta| Facts::of(&meta))
        .map_err(gone)
}

pub(super) fn read_link(dir: &Dir, name: &OsStr) -> Result<Vec<u8>, SourceErrorKind> {
    let target = dir.read_link_contents(name).map_err(gone)?;
    let target = target.into_os_string();
    #[cfg(unix)]
    return Ok(std::os::unix::ffi::OsStringExt::into_vec(target));
    #[cfg(not(unix))]
    match target.into_string() {
        Ok(text) => Ok(text.replace('\\', "/").into_bytes()),
        Err(_) => Err(SourceErrorKind::NotALayer(
            "the link's target is not Unicode".into(),
        )),
    }
}

/// Lists a directory by name, each with its kind if that is known.
fn list(dir: &Dir, max: u64) -> Result<Vec<(OsString, HostKind)>, SourceErrorKind> {
    let mut names = Vec::new();
    for entry in dir.entries().map_err(SourceErrorKind::Io)? {
        let entry = entry.map_err(SourceErrorKind::Io)?;
        let kind = entry.file_type().map_or(HostKind::Unknown, kind_of);
        if names.len() as u64 >= max {
            let what = "entries in a directory";
            return Err(SourceErrorKind::Limit { what, limit: max });
        }
        names.push((entry.file_name(), kind));
    }
    names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(names)
}

fn kind_of(kind: FileType) -> HostKind {
    if kind.is_file() {
        return HostKind::File;
    }
    if kind.is_dir() {
        return HostKind::Dir;
    }
    if kind.is_symlink() {
        return HostKind::Symlink;
    }
    HostKind::Unknown
}

/// Makes the error of a call that failed: what has changed since the listing is one of
/// its own.
fn gone(error: io::Error) -> SourceErrorKind {
    match error.kind() {
        io::ErrorKind::NotFound => SourceErrorKind::Changed("it is gone"),
        io::ErrorKind::NotADirectory => SourceErrorKind::Changed("it is not a directory any more"),
        _ => SourceErrorKind::Io(error),
    }
}

#[cfg(unix)]
mod unix {
    //! `openat2` where there is one: it alone sees bind mounts.

    use std::cell::Cell;
    use std::os::fd::OwnedFd;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    use super::*;

    pub(in super::super) struct Host {
        /// Whether access times may be left alone: the owner's right.
        noatime: Cell<bool>,
        openat2: Cell<bool>,
    }

    impl Host {
        pub(in super::super) fn new() -> Self {
            let linux = cfg!(any(target_os = "linux", target_os = "android"));
            Self {
                noatime: Cell::new(linux),
                openat2: Cell::new(linux),
            }
        }

        /// Opens the directory that a handle stands for.
        pub(in super::super) fn reopen(&self, dir: &Dir) -> Result<Dir, SourceErrorKind> {
            self.open_dir(dir, OsStr::new("."))
        }

        pub(in super::super) fn open_dir(
            &self,
            dir: &Dir,
            name: &OsStr,
        ) -> Result<Dir, SourceErrorKind> {
            let fd = self.open(dir, name, OFlags::DIRECTORY)?;
            let below = Dir::from_std_file(fd.into());
            if !self.openat2.get() {
                let dev = |dir: &Dir| dir.dir_metadata().map(|meta| Facts::of(&meta).identity().0);
                let same = dev(dir).and_then(|above| Ok(above == dev(&below)?));
                if !same.map_err(SourceErrorKind::Io)? {
                    return Err(SourceErrorKind::MountPoint);
                }
            }
            Ok(below)
        }

        pub(in super::super) fn open_file(
            &self,
            dir: &Dir,
            name: &OsStr,
        ) -> Result<File, SourceErrorKind> {
            let fd = self.open(dir, name, OFlags::empty())?;
            Ok(File::from_std(fd.into()))
        }

        pub(in super::super) fn list(
            &self,
            dir: &Dir,
            max: u64,
        ) -> Result<Vec<(OsString, HostKind)>, SourceErrorKind> {
            super::list(dir, max)
        }

        fn open(&self, dir: &Dir, name: &OsStr, extra: OFlags) -> Result<OwnedFd, SourceErrorKind> {
            // Should a FIFO or device have come here since the listing, then
            // opening it neither waits nor makes it our terminal.
            let flags = OFlags::RDONLY
                | OFlags::NOFOLLOW
                | OFlags::NONBLOCK
                | OFlags::CLOEXEC
                | OFlags::NOCTTY
                | extra;
            let opened = loop {
                match self.try_open(dir, name, flags) {
                    // Both may be refused: access times to all but the
                    // owner, new calls by old sandboxes.
                    Err(Errno::PERM) if self.noatime.take() => {}
                    Err(Errno::PERM | Errno::NOSYS) if self.openat2.take() => {
                        self.noatime.set(cfg!(target_os = "linux"));
                    }
                    Err(Errno::INTR) => {}
                    opened => break opened,
                }
            };
            opened.map_err(|error| match error {
                Errno::XDEV => SourceErrorKind::MountPoint,
                Errno::LOOP => SourceErrorKind::Changed("a symbolic link took its place"),
                error => gone(error.into()),
            })
        }

        #[cfg(any(target_os = "linux", target_os = "android"))]
        fn try_open(&self, dir: &Dir, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
            use rustix::fs::ResolveFlags;
            let quiet = if self.noatime.get() {
                OFlags::NOATIME
            } else {
                OFlags::empty()
            };
            let flags = flags | quiet;
            if !self.openat2.get() {
                return rustix::fs::openat(dir, name, flags, Mode::empty());
            }
            let stay = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
            rustix::fs::openat2(dir, name, flags, Mode::empty(), stay)
        }

        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        fn try_open(&self, dir: &Dir, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
            rustix::fs::openat(dir, name, flags, Mode::empty())
        }
    }
}

#[cfg(not(unix))]
mod portable {
    //! Through cap-std alone.

    use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
    use cap_std::fs::OpenOptions;

    use super::*;

    pub(in super::super) struct Host;

    impl Host {
        pub(in super::super) fn new() -> Self {
            Self
        }

        pub(in super::super) fn reopen(&self, dir: &Dir) -> Result<Dir, SourceErrorKind> {
            dir.try_clone().map_err(SourceErrorKind::Io)
        }

        pub(in super::super) fn open_dir(
            &self,
            dir: &Dir,
            name: &OsStr,
        ) -> Result<Dir, SourceErrorKind> {
            dir.open_dir_nofollow(name).map_err(gone)
        }

        pub(in super::super) fn open_file(
            &self,
            dir: &Dir,
            name: &OsStr,
        ) -> Result<File, SourceErrorKind> {
            let mut options = OpenOptions::new();
            options.read(true).follow(FollowSymlinks::No);
            dir.open_with(name, &options).map_err(gone)
        }

        pub(in super::super) fn list(
            &self,
            dir: &Dir,
            max: u64,
        ) -> Result<Vec<(OsString, HostKind)>, SourceErrorKind> {
            super::list(dir, max)
        }
    }
}
