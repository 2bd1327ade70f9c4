//! What a guest has open below directories of the host, by name, so that it can be opened
//! once more.

use std::collections::HashMap;

use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use super::abi::{CallFailure, Result};
use super::ctx::Ctx;
use super::fork::{Described, OpenFile, flags_of};
use super::stock::block_on;
use super::table::Slot;
use crate::errno::Errno;
use crate::error::Error;
use crate::limits::MAX_PATH_BYTES;
use crate::vfs::Access;

/// wasmtime-wasi's number of its first directory.
const FIRST: u32 = 3;

/// The directories of the host that a guest is shown, and what it has open below them.
#[derive(Default)]
pub(super) struct HostFiles {
    /// The names that they are shown under, in order.
    names: Vec<String>,
    /// What was opened below them, by wasmtime-wasi's number; `None` for what has no name
    /// that is known. One that is closed is overwritten when its number is given out again.
    opened: HashMap<u32, Option<HostFile>>,
}

#[derive(Clone)]
struct HostFile {
    preopen: String,
    path: Vec<u8>,
    access: Access,
    /// What a file has, when it was last looked at.
    file: Option<OpenFile>,
}

impl HostFiles {
    /// Remembers what was opened below a directory.
    pub(super) fn opened(&mut self, dir: u32, path: &[u8], access: Access, opened: u32) {
        let opening = self.place(dir).and_then(|(preopen, above)| {
            let path = match above.is_empty() {
                true => path.to_vec(),
                false => [above, b"/", path].concat(),
            };
            (path.len() <= MAX_PATH_BYTES).then(|| HostFile {
                preopen: preopen.to_owned(),
                path,
                access,
                file: None,
            })
        });
        self.opened.insert(opened, opening);
    }

    /// Returns where an open directory lies: below which name, and at which path from there.
    fn place(&self, dir: u32) -> Option<(&str, &[u8])> {
        match self.opened.get(&dir) {
            Some(dir) => dir
                .as_ref()
                .map(|dir| (dir.preopen.as_str(), dir.path.as_slice())),
            None => self.name(dir).map(|name| (name, b"".as_slice())),
        }
    }

    /// Drops the names past those of as many directories: they are of none.
    pub(super) fn keep_names(&mut self, directories: usize) {
        self.names.truncate(directories);
    }

    /// The name of a directory that is shown, by wasmtime-wasi's number.
    fn name(&self, number: u32) -> Option<&str> {
        let at = number.checked_sub(FIRST)?;
        self.names.get(at as usize).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u32> {
        let at = self.names.iter().position(|shown| shown == name)?;
        u32::try_from(at).ok()?.checked_add(FIRST)
    }

    /// Returns what stands behind one of wasmtime-wasi's numbers.
    pub(super) fn describe(&self, number: u32) -> Option<Described> {
        match self.opened.get(&number) {
            Some(open) => open.as_ref().map(|open| Described::Open {
                preopen: open.preopen.clone(),
                path: open.path.clone(),
                access: open.access,
                file: open.file,
            }),
            None => self.name(number).map(|name| Described::Preopen {
                name: name.to_owned(),
            }),
        }
    }

    /// Opens in `theirs` what has the numbers `numbers` in `ours`, by name, and returns their
    /// numbers there by those here. `theirs` has to show directories under the same names in
    /// the same order, and each name has to lead to the same object.
    pub(super) fn open_in(
        &self,
        ours: &mut impl WasiSnapshotPreview1,
        theirs: &mut impl WasiSnapshotPreview1,
        numbers: &[u32],
    ) -> std::result::Result<(Self, HashMap<u32, u32>), Error> {
        let mut other = Self {
            names: self.names.clone(),
            opened: HashMap::new(),
        };
        let mut found = HashMap::new();
        for number in numbers {
            let opened = match self.opened.get(number) {
                None => {
                    let name = self.name(*number).unwrap_or_default();
                    if preopen_name(theirs, *number).as_deref() != Some(name) {
                        return Err(Error::new("fork", name.as_bytes(), Errno::BadDescriptor));
                    }
                    *number
                }
                Some(None) => return Err(nameless(*number)),
                Some(Some(open)) => {
                    let failed = |fail| error("fork", &open.path, fail);
                    let dir = other.number(&open.preopen);
                    let dir = dir.ok_or(CallFailure::Errno(types::Errno::Badf));
                    let place = (open.path.as_slice(), open.access);
                    let opened = dir.and_then(|dir| open_below(theirs, dir, place, open.file));
                    let opened = opened.map_err(failed)?;
                    let same = is_same((ours, *number), (theirs, opened)).map_err(failed)?;
                    if !same {
                        return Err(Error::new("fork", &open.path, Errno::NoEntry));
                    }
                    other.opened.insert(opened, Some(open.clone()));
                    opened
                }
            };
            found.insert(*number, opened);
        }
        Ok((other, found))
    }
}

/// Makes the refusal to fork what is open without a name that is known.
pub(super) fn nameless(number: u32) -> Error {
    let what = format!("descriptor {number} of wasmtime-wasi's");
    Error::new("fork", what.as_bytes(), Errno::Unsupported)
}

/// Returns the name that wasmtime-wasi shows a directory under.
pub(super) fn preopen_name(stock: &mut impl WasiSnapshotPreview1, number: u32) -> Option<String> {
    let mut bytes = vec![0; MAX_PATH_BYTES];
    let mut memory = GuestMemory::Unshared(&mut bytes);
    let types::Prestat::Dir(dir) = stock.fd_prestat_get(&mut memory, number.into()).ok()?;
    let length = dir.pr_name_len;
    let place = GuestPtr::new(0);
    let copied = stock.fd_prestat_dir_name(&mut memory, number.into(), place, length);
    copied.ok()?;
    bytes.truncate(length as usize);
    String::from_utf8(bytes).ok()
}

/// Returns whether two numbers are open on one object.
fn is_same(
    (ours, here): (&mut impl WasiSnapshotPreview1, u32),
    (theirs, there): (&mut impl WasiSnapshotPreview1, u32),
) -> Result<bool> {
    let mut memory = GuestMemory::Unshared(&mut []);
    let here = block_on(ours.fd_filestat_get(&mut memory, here.into()))?;
    let there = block_on(theirs.fd_filestat_get(&mut memory, there.into()))?;
    Ok((here.dev, here.ino) == (there.dev, there.ino))
}

impl Ctx {
    /// Has what the guest opens below directories of the host remembered by name, so that
    /// [`describe`](Self::describe) tells of it, and [`reopen`](Self::reopen) and
    /// [`fork`](Self::fork) open it once more.
    /// `names` are those that the directories are shown under, in the order in which
    /// wasmtime-wasi was given them; those past its directories mean nothing.
    ///
    /// The directories stay open as long as this context, so that what is open below one that the
    /// guest has closed is found all the same.
    ///
    /// Default: none is remembered, and [`describe`](Self::describe) and [`fork`](Self::fork)
    /// refuse them.
    #[must_use]
    pub fn name_host_dirs(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.host_files = Some(HostFiles {
            names: names.into_iter().collect(),
            opened: HashMap::new(),
        });
        self
    }

    /// Looks where files of the host's directories stand that are open, for
    /// [`describe`](Self::describe). May wait for them.
    ///
    /// # Errors
    ///
    /// What the host says of one.
    pub fn look_at_host_files(&mut self) -> std::result::Result<(), Error> {
        if self.host_files.is_none() {
            return Ok(());
        }
        self.complete()
            .map_err(|fail| error("look at", b"/", fail))?;
        let Some(files) = &mut self.host_files else {
            return Ok(());
        };
        for slot in self.table.slots() {
            let Slot::Host(number) = slot else { continue };
            let Some(Some(open)) = files.opened.get(number) else {
                continue;
            };
            let dir = files.number(&open.preopen);
            let looked = dir.map(|dir| look(&mut self.stock, *number, (dir, &open.path)));
            let looked = looked.transpose();
            let looked = looked.map_err(|fail| error("look at", &open.path, fail))?;
            let Some(entry) = files.opened.get_mut(number) else {
                continue;
            };
            match (looked, entry.as_mut()) {
                (Some(Looked::At(file)), Some(open)) => open.file = file,
                _ => *entry = None,
            }
        }
        Ok(())
    }

    /// Returns whether a directory is shown under a name.
    #[cfg(feature = "freeze")]
    pub(crate) fn shows(&self, name: &str) -> bool {
        self.preopened(name).is_some() || self.shows_of_host(name).is_some()
    }

    /// Returns whether one of wasmtime-wasi's numbers stays open there when the guest closes it: a
    /// directory by whose name others are found.
    pub(super) fn keeps_open(&self, number: i32) -> bool {
        let number = number.cast_unsigned();
        let files = self.host_files.as_ref();
        files.is_some_and(|files| {
            files.name(number).is_some() && !files.opened.contains_key(&number)
        })
    }

    /// Returns wasmtime-wasi's number of the directory that is shown under a name.
    pub(super) fn shows_of_host(&self, name: &str) -> Option<u32> {
        self.host_files.as_ref()?.number(name)
    }

    /// Opens a file or directory below a directory of the host.
    pub(super) fn open_of_host(
        &mut self,
        dir: u32,
        (path, access): (&[u8], Access),
        file: Option<OpenFile>,
    ) -> std::result::Result<Slot, Error> {
        let opened = open_below(&mut self.stock, dir, (path, access), file);
        let opened = opened.map_err(|fail| error("reopen", path, fail))?;
        if let Some(files) = &mut self.host_files {
            files.opened(dir, path, access, opened);
        }
        Ok(Slot::Host(opened))
    }
}

/// What is found out about something that is open.
enum Looked {
    /// Where a file stands; nothing for a directory.
    At(Option<OpenFile>),
    /// Another object has its name, or none.
    Nameless,
}

/// Reads the flags and the position of a file, and compares it with what has its name.
fn look(
    stock: &mut impl WasiSnapshotPreview1,
    number: u32,
    (dir, path): (u32, &[u8]),
) -> Result<Looked> {
    let fd = || types::Fd::from(number);
    let mut path = path.to_vec();
    let length = u32::try_from(path.len()).map_err(|_| types::Errno::Nametoolong)?;
    let mut memory = GuestMemory::Unshared(&mut path);
    let follow = types::Lookupflags::SYMLINK_FOLLOW;
    let name = GuestPtr::<str>::new((0, length));
    // What a call may read of a guest's memory, which this is in the place of.
    stock.set_hostcall_fuel(length as usize);
    let own = block_on(stock.fd_filestat_get(&mut memory, fd()))?;
    let named = block_on(stock.path_filestat_get(&mut memory, dir.into(), follow, name));
    match named.map_err(CallFailure::from) {
        Ok(named) if (named.dev, named.ino) == (own.dev, own.ino) => {}
        Ok(_) | Err(CallFailure::Errno(_)) => return Ok(Looked::Nameless),
        Err(fail) => return Err(fail),
    }
    let stat = block_on(stock.fd_fdstat_get(&mut memory, fd()))?;
    if stat.fs_filetype == types::Filetype::Directory {
        return Ok(Looked::At(None));
    }
    Ok(Looked::At(Some(OpenFile {
        offset: stock.fd_tell(&mut memory, fd())?,
        append: stat.fs_flags.contains(types::Fdflags::APPEND),
        nonblock: stat.fs_flags.contains(types::Fdflags::NONBLOCK),
        // None of wasmtime-wasi's has them.
        sync: Access::empty(),
    })))
}

fn open_below(
    stock: &mut impl WasiSnapshotPreview1,
    dir: u32,
    (path, access): (&[u8], Access),
    file: Option<OpenFile>,
) -> Result<u32> {
    let mut bytes = path.to_vec();
    let length = u32::try_from(bytes.len()).map_err(|_| types::Errno::Nametoolong)?;
    let mut memory = GuestMemory::Unshared(&mut bytes);
    let mut rights = types::Rights::empty();
    rights.set(types::Rights::FD_READ, access.contains(Access::READ));
    rights.set(types::Rights::FD_WRITE, access.contains(Access::WRITE));
    let (flags, fd_flags) = match file {
        Some(file) => (types::Oflags::empty(), flags_of(file)),
        None => (types::Oflags::DIRECTORY, types::Fdflags::empty()),
    };
    let follow = types::Lookupflags::SYMLINK_FOLLOW;
    let path = GuestPtr::<str>::new((0, length));
    stock.set_hostcall_fuel(length as usize);
    let opened = block_on(stock.path_open(
        &mut memory,
        dir.into(),
        follow,
        path,
        flags,
        rights,
        rights,
        fd_flags,
    ))?;
    let number = u32::from(opened);
    if let Some(file) = file {
        let stat = block_on(stock.fd_fdstat_get(&mut memory, number.into()))?;
        if stat.fs_filetype == types::Filetype::Directory {
            return Err(types::Errno::Isdir.into());
        }
        let offset = types::Filedelta::try_from(file.offset);
        let offset = offset.map_err(|_| types::Errno::Overflow)?;
        block_on(stock.fd_seek(&mut memory, number.into(), offset, types::Whence::Set))?;
    }
    Ok(number)
}

fn error(operation: &'static str, path: &[u8], fail: CallFailure) -> Error {
    let errno = match fail {
        CallFailure::Errno(types::Errno::Noent) => Errno::NoEntry,
        CallFailure::Errno(types::Errno::Notdir) => Errno::NotDirectory,
        CallFailure::Errno(types::Errno::Isdir) => Errno::IsDirectory,
        CallFailure::Errno(types::Errno::Loop) => Errno::Loop,
        CallFailure::Errno(types::Errno::Nametoolong) => Errno::NameTooLong,
        CallFailure::Errno(types::Errno::Overflow) => Errno::Overflow,
        CallFailure::Errno(types::Errno::Acces | types::Errno::Perm) => Errno::NotPermitted,
        CallFailure::Errno(_) | CallFailure::Trap(_) | CallFailure::Absent(_) => Errno::Io,
    };
    Error::new(operation, path, errno)
}
