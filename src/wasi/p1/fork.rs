//! Contexts that go on from another one: forks, and tables of descriptors as data.

use std::collections::{HashMap, HashSet};

use wasmtime_wasi::p1::{WasiP1Ctx, types};

use super::ctx::Ctx;
use super::host_files::{HostFiles, nameless, preopen_name};
use super::table::{DirDescriptor, FileDescriptor, Slot};
use crate::errno::Errno;
use crate::error::Error;
use crate::limits::MAX_TABLE_SLOTS;
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Preopen, Rights};

/// What a number of a guest's table stands for, as data.
///
/// [`Ctx::describe`] makes these, and [`Ctx::reopen`] opens them again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Described {
    /// Nothing.
    Closed,
    /// Standard input (0), output (1) or error (2).
    Stream(u32),
    /// A directory that is shown to the guest under a name.
    Preopen {
        /// The guest's name for it.
        name: String,
    },
    /// A file or directory that the guest opened.
    Open {
        /// The name of the preopen that it lies below.
        preopen: String,
        /// Its path from there.
        path: Vec<u8>,
        /// What may be done with it.
        access: Access,
        /// What a file adds; `None` for a directory.
        file: Option<OpenFile>,
    },
}

impl Described {
    /// Returns the name of the directory that this is, or lies below.
    pub(crate) fn shown(&self) -> Option<&str> {
        match self {
            Self::Preopen { name } | Self::Open { preopen: name, .. } => Some(name),
            Self::Closed | Self::Stream(_) => None,
        }
    }
}

/// What an open file has besides what it is open on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Where the next read or write starts.
    pub offset: u64,
    /// Whether each write goes to the end.
    pub append: bool,
    /// Whether the guest asked for calls that do not wait.
    pub nonblock: bool,
    /// Which of [`Access::SYNC`], [`Access::DSYNC`] and [`Access::RSYNC`] the guest
    /// asked for.
    pub sync: Access,
}

/// A descriptor of a guest that something has to be found out about.
#[derive(Debug)]
pub struct OpenDescriptor<'c> {
    /// Its number.
    pub fd: u32,
    /// What is open.
    pub descriptor: &'c Descriptor,
    /// Of a file, where the next read or write starts, and its flags.
    pub file: Option<OpenFile>,
    /// The guest's name for a preopened directory.
    pub preopen: Option<&'c str>,
}

impl Ctx {
    /// Makes a context that goes on from this one over a fork of `fs`, and returns both.
    ///
    /// Files and directories keep their numbers, offsets, flags, rights and the names
    /// that they are shown under, and so does the next number that is given out. Those of
    /// other instances, such as a volume, are opened once more on the same instance. Numbers
    /// 0 to 2 go to the streams of `wasi`. O(1) for each descriptor.
    ///
    /// What is open in directories of the host is opened once more by name, if
    /// [`name_host_dirs`](Self::name_host_dirs) was called: `wasi` has to show directories
    /// under the same names in the same order. Seven system calls at most for each, and it may
    /// wait for them.
    ///
    /// # Errors
    ///
    /// In this order: those of [`look_at_host_files`](Self::look_at_host_files); of what is open
    /// in directories of the host, [`Errno::Unsupported`] if
    /// [`name_host_dirs`](Self::name_host_dirs) was not called or a file has lost its name,
    /// [`Errno::BadDescriptor`] with the name of a directory that `wasi` does not show,
    /// [`Errno::NoEntry`] with the path of a file whose name another one has, and what the host
    /// says to the opening; those of [`Fs::fork_with`] and [`Descriptor::try_clone`].
    pub fn fork(&mut self, fs: &Fs, mut wasi: WasiP1Ctx) -> Result<(Fs, Self), Error> {
        self.look_at_host_files()?;
        let (host_files, numbers) = self.host_files_in(&mut wasi)?;
        let failed = |errno| Error::new("fork", b"/", errno);
        let own: Vec<&Descriptor> = self.opened().filter(|one| one.fs().is_same(fs)).collect();
        let (fork, again) = fs.fork_with(&own)?;
        let mut again = again.into_iter();
        let mut other = |descriptor: &Descriptor| match descriptor.fs().is_same(fs) {
            true => again.next().ok_or(Errno::BadDescriptor),
            false => descriptor.try_clone(),
        };
        let table = self.table.map(|slot| {
            Ok(match slot {
                Slot::Closed => Slot::Closed,
                Slot::Host(number) => Slot::Host(*numbers.get(number).unwrap_or(number)),
                Slot::File(file) => Slot::File(FileDescriptor {
                    descriptor: other(&file.descriptor)?,
                    offset: file.offset,
                    flags: file.flags,
                }),
                Slot::Dir(dir) => Slot::Dir(DirDescriptor {
                    descriptor: other(&dir.descriptor)?,
                    preopen: dir.preopen.clone(),
                    restored: dir.restored.clone(),
                }),
            })
        });
        let mut beside = self.beside(wasi, table.map_err(failed)?);
        beside.host_files = host_files;
        beside.known = self.known.as_ref().map(|known| Box::new(known.over(&fork)));
        #[cfg(feature = "freeze")]
        {
            let closed = self.closed_preopens.iter();
            beside.closed_preopens = closed.map(|shown| shown.over(fs, &fork)).collect();
        }
        Ok((fork, beside))
    }

    /// Opens once more in `wasi` what is open in directories of the host, and returns it with
    /// the numbers that it has there by those that it has here.
    fn host_files_in(
        &mut self,
        wasi: &mut WasiP1Ctx,
    ) -> Result<(Option<HostFiles>, HashMap<u32, u32>), Error> {
        let slots = self.table.slots();
        let foreign = slots.filter_map(|slot| match slot {
            Slot::Host(number) if *number > 2 => Some(*number),
            Slot::Closed | Slot::Host(_) | Slot::File(_) | Slot::Dir(_) => None,
        });
        let foreign: Vec<u32> = foreign.collect();
        match &self.host_files {
            Some(files) => {
                let (files, numbers) = files.open_in(&mut self.stock, wasi, &foreign)?;
                Ok((Some(files), numbers))
            }
            None => match foreign.first() {
                None => Ok((None, HashMap::new())),
                Some(number) => Err(match preopen_name(&mut self.stock, *number) {
                    Some(name) => Error::new("fork", name.as_bytes(), Errno::Unsupported),
                    None => nameless(*number),
                }),
            },
        }
    }

    fn opened(&self) -> impl Iterator<Item = &Descriptor> {
        self.table.slots().filter_map(|slot| match slot {
            Slot::File(file) => Some(&file.descriptor),
            Slot::Dir(dir) => Some(&dir.descriptor),
            Slot::Closed | Slot::Host(_) => None,
        })
    }

    /// Returns the table as data. `place` returns under which preopen, and at which path
    /// below it, an open file or directory is found again.
    ///
    /// # Errors
    ///
    /// What `place` fails with, and what `refuse` makes of the number of a descriptor of
    /// wasmtime-wasi's that is no standard stream and of which no name is known: see
    /// [`name_host_dirs`](Self::name_host_dirs).
    pub fn describe<E>(
        &self,
        mut place: impl FnMut(OpenDescriptor<'_>) -> Result<(String, Vec<u8>), E>,
        refuse: impl Fn(u32) -> E,
    ) -> Result<Vec<Described>, E> {
        let mut described = Vec::new();
        for (fd, slot) in (0..).zip(self.table.slots()) {
            let (descriptor, file) = match slot {
                Slot::Closed => {
                    described.push(Described::Closed);
                    continue;
                }
                Slot::Host(number) if *number <= 2 => {
                    described.push(Described::Stream(*number));
                    continue;
                }
                Slot::Host(number) => {
                    let known = self.host_files.as_ref();
                    let known = known.and_then(|files| files.describe(*number));
                    described.push(known.ok_or_else(|| refuse(fd))?);
                    continue;
                }
                Slot::Dir(DirDescriptor {
                    preopen: Some(name),
                    ..
                }) => {
                    let name = name.to_string();
                    described.push(Described::Preopen { name });
                    continue;
                }
                Slot::Dir(dir) => (&dir.descriptor, None),
                Slot::File(file) => (&file.descriptor, Some(open_file(file))),
            };
            let (preopen, path) = place(OpenDescriptor {
                fd,
                descriptor,
                file,
                preopen: None,
            })?;
            described.push(Described::Open {
                preopen,
                path,
                access: descriptor.access(),
                file,
            });
        }
        Ok(described)
    }

    /// Returns the descriptors of stratafs's that are open.
    pub fn open_descriptors(&self) -> impl Iterator<Item = OpenDescriptor<'_>> {
        (0..)
            .zip(self.table.slots())
            .filter_map(|(fd, slot)| match slot {
                Slot::Closed | Slot::Host(_) => None,
                Slot::File(file) => Some(OpenDescriptor {
                    fd,
                    descriptor: &file.descriptor,
                    file: Some(open_file(file)),
                    preopen: None,
                }),
                Slot::Dir(dir) => Some(OpenDescriptor {
                    fd,
                    descriptor: &dir.descriptor,
                    file: None,
                    preopen: dir.preopen.as_deref(),
                }),
            })
    }

    /// Replaces the table of a context that has its preopens and has not been used by the
    /// one that `described` tells of: each is opened below the preopen of its name, with no
    /// more rights than that has.
    ///
    /// `described` may come from anywhere: what it asks for is what a guest could open.
    ///
    /// # Errors
    ///
    /// In this order: [`Errno::TooManyOpen`] for more numbers than a table has; for each,
    /// in order, with its path: [`Errno::BadDescriptor`] for a stream past 2 and for a preopen
    /// that this context lacks, those of [`Descriptor::open_at`], and
    /// [`Errno::IsDirectory`] and [`Errno::NotDirectory`] for what is of the other kind.
    /// Nothing is changed then.
    pub fn reopen(&mut self, described: &[Described]) -> Result<(), Error> {
        self.reopen_beside(described, &[], HashSet::new())
    }

    /// The same with further directories by name, which the guest is not shown. `known` are names of
    /// directories that it was shown, besides those that `described` has.
    pub(crate) fn reopen_beside<'n>(
        &mut self,
        described: &'n [Described],
        beside: &[(&str, Preopen)],
        #[cfg_attr(
            not(feature = "freeze"),
            allow(
                unused_mut,
                unused_variables,
                reason = "what is closed is remembered for a checkpoint alone"
            )
        )]
        mut known: HashSet<&'n str>,
    ) -> Result<(), Error> {
        if described.len() > MAX_TABLE_SLOTS {
            return Err(Error::new("reopen", b"/", Errno::TooManyOpen));
        }
        let shown = self.numbers_of_shown();
        let slots = described
            .iter()
            .map(|one| self.open_again(one, beside, &shown));
        let slots = slots.collect::<Result<Vec<_>, _>>()?;
        #[cfg(feature = "freeze")]
        {
            known.extend(described.iter().filter_map(Described::shown));
            self.note_replaced(&slots, known);
        }
        self.replace_table(slots);
        Ok(())
    }

    /// Returns the numbers of the directories that are shown, by their names.
    fn numbers_of_shown(&self) -> HashMap<Box<str>, u32> {
        let mut numbers = HashMap::new();
        for (fd, slot) in (0..).zip(self.table.slots()) {
            if let Slot::Dir(DirDescriptor {
                preopen: Some(name),
                ..
            }) = slot
            {
                numbers.entry(name.clone()).or_insert(fd);
            }
        }
        numbers
    }

    fn open_again(
        &mut self,
        described: &Described,
        beside: &[(&str, Preopen)],
        shown: &HashMap<Box<str>, u32>,
    ) -> Result<Slot, Error> {
        if let Some(slot) = self.open_host_again(described, shown)? {
            return Ok(slot);
        }
        let bad = |name: &[u8]| Error::new("reopen", name, Errno::BadDescriptor);
        let shown_dir = |name: &str| match self.table.slot(*shown.get(name)?) {
            Slot::Dir(dir) => Some(&dir.descriptor),
            Slot::Closed | Slot::Host(_) | Slot::File(_) => None,
        };
        match described {
            Described::Closed => Ok(Slot::Closed),
            Described::Stream(number @ 0..=2) => Ok(Slot::Host(*number)),
            Described::Stream(number) => Err(bad(number.to_string().as_bytes())),
            Described::Preopen { name } => {
                let dir = shown_dir(name).ok_or_else(|| bad(name.as_bytes()))?;
                let descriptor = dir.try_clone();
                Ok(Slot::Dir(DirDescriptor {
                    descriptor: descriptor
                        .map_err(|errno| Error::new("reopen", name.as_bytes(), errno))?,
                    preopen: Some(name.clone().into_boxed_str()),
                    restored: None,
                }))
            }
            Described::Open {
                preopen,
                path,
                access,
                file,
            } => {
                let hidden = beside.iter().find(|(name, _)| name == preopen);
                let dir = hidden
                    .map(|(_, dir)| &**dir)
                    .or_else(|| shown_dir(preopen))
                    .ok_or_else(|| bad(preopen.as_bytes()))?;
                let shown = preopen.trim_end_matches('/').as_bytes();
                let whole = [shown, b"/", path.as_slice()].concat();
                let failed = |errno| Error::new("reopen", &whole, errno);
                let flags = match file {
                    Some(_) => OpenFlags::empty(),
                    None => OpenFlags::DIRECTORY,
                };
                let access = match (file, dir.rights()) {
                    (None, _) | (_, Rights::ReadOnly) => *access & !Access::WRITE,
                    (Some(_), Rights::ReadWrite) => *access,
                };
                let descriptor = dir
                    .open_at(Follow::No, path, flags, access)
                    .map_err(failed)?;
                match (file, descriptor.kind()) {
                    (Some(_), crate::meta::Kind::Dir) => Err(failed(Errno::IsDirectory)),
                    (Some(file), _) => Ok(Slot::File(FileDescriptor {
                        descriptor,
                        offset: file.offset,
                        flags: flags_of(*file),
                    })),
                    (None, _) => Ok(Slot::Dir(DirDescriptor {
                        descriptor,
                        preopen: None,
                        restored: None,
                    })),
                }
            }
        }
    }

    /// Opens what lies in a directory of the host, unless one of ours has the name.
    fn open_host_again(
        &mut self,
        described: &Described,
        shown: &HashMap<Box<str>, u32>,
    ) -> Result<Option<Slot>, Error> {
        let number = match described.shown() {
            Some(name) if !shown.contains_key(name) => self.shows_of_host(name),
            Some(_) | None => None,
        };
        match (number, described) {
            (
                Some(dir),
                Described::Open {
                    path, access, file, ..
                },
            ) => self.open_of_host(dir, (path, *access), *file).map(Some),
            (number, _) => Ok(number.map(Slot::Host)),
        }
    }

    /// Returns whether a number is one of the standard streams.
    #[cfg(feature = "freeze")]
    pub(crate) fn is_stream(&self, fd: u32, stream: u32) -> bool {
        matches!(self.table.slot(fd), Slot::Host(number) if *number == stream)
    }

    /// Returns whether a number is an open `/dev/stdin`, which reads what standard input has.
    #[cfg(feature = "freeze")]
    pub(crate) fn is_stdin_device(&self, fd: u32) -> bool {
        let Slot::File(file) = self.table.slot(fd) else {
            return false;
        };
        let (fs, id) = (file.descriptor.fs(), file.descriptor.id());
        let is_at = |path: &str| fs.symlink_metadata(path).is_ok_and(|stat| stat.id == id);
        // Devices may have a file system of their own.
        file.descriptor.is_device() && (is_at("/dev/stdin") || is_at("/stdin"))
    }

    /// Returns whether `below` a directory is the absolute path `path` of the guest.
    #[cfg(feature = "freeze")]
    pub(crate) fn is_path(&self, fd: u32, below: &[u8], path: &[u8]) -> bool {
        let Slot::Dir(dir) = self.table.slot(fd) else {
            return false;
        };
        match &dir.preopen {
            Some(name) => {
                let whole = [name.as_bytes(), b"/", below].concat();
                parts(&whole).eq(parts(path))
            }
            None => self.is_same_name(&dir.descriptor, below, path),
        }
    }

    /// Compares the directories that two names lie in, and the names.
    #[cfg(feature = "freeze")]
    fn is_same_name(&self, dir: &Descriptor, below: &[u8], path: &[u8]) -> bool {
        let Some(name) = parts(path).next_back() else {
            return false;
        };
        if parts(below).next_back() != Some(name) {
            return false;
        }
        let parent = |dir: &Descriptor, path: &[u8]| {
            let above: Vec<&[u8]> = parts(path).collect();
            let above = above.split_last().map(|(_, above)| above.join(&b'/'));
            let above = above.filter(|above| !above.is_empty());
            let above = above.unwrap_or_else(|| b".".to_vec());
            dir.open_at(Follow::Yes, &above, OpenFlags::DIRECTORY, Access::READ)
                .ok()
        };
        let Some(here) = parent(dir, below) else {
            return false;
        };
        self.table.slots().any(|slot| {
            let Slot::Dir(DirDescriptor {
                descriptor,
                preopen: Some(shown),
                ..
            }) = slot
            else {
                return false;
            };
            let whole: Vec<&[u8]> = parts(path).collect();
            let shown: Vec<&[u8]> = parts(shown.as_bytes()).collect();
            let Some(rest) = whole.strip_prefix(shown.as_slice()) else {
                return false;
            };
            parent(descriptor, &rest.join(&b'/')).is_some_and(|there| there.is_same_object(&here))
        })
    }

    #[cfg(feature = "freeze")]
    pub(super) fn preopened(&self, name: &str) -> Option<&Descriptor> {
        self.table.slots().find_map(|slot| match slot {
            Slot::Dir(dir) if dir.preopen.as_deref() == Some(name) => Some(&dir.descriptor),
            Slot::Closed | Slot::Host(_) | Slot::File(_) | Slot::Dir(_) => None,
        })
    }
}

/// The names of a path.
#[cfg(feature = "freeze")]
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
}

fn open_file(file: &FileDescriptor) -> OpenFile {
    OpenFile {
        offset: file.offset,
        append: file.flags.contains(types::Fdflags::APPEND),
        nonblock: file.flags.contains(types::Fdflags::NONBLOCK),
        sync: sync_of(file.flags),
    }
}

/// preview1's flags of synchronised calls, and what stands for them.
const SYNC_FLAGS: [(types::Fdflags, Access); 3] = [
    (types::Fdflags::SYNC, Access::SYNC),
    (types::Fdflags::DSYNC, Access::DSYNC),
    (types::Fdflags::RSYNC, Access::RSYNC),
];

/// Returns which synchronised calls were asked for.
pub(super) fn sync_of(flags: types::Fdflags) -> Access {
    let asked = SYNC_FLAGS.iter().filter(|(flag, _)| flags.contains(*flag));
    asked.fold(Access::empty(), |all, (_, one)| all | *one)
}

pub(super) fn flags_of(file: OpenFile) -> types::Fdflags {
    let mut flags = types::Fdflags::empty();
    flags.set(types::Fdflags::APPEND, file.append);
    flags.set(types::Fdflags::NONBLOCK, file.nonblock);
    for (flag, asked) in SYNC_FLAGS {
        flags.set(flag, file.sync.contains(asked));
    }
    flags
}
