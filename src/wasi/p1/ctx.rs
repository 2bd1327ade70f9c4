//! The state that a store keeps for its guest.

use std::fmt;

use wasmtime::{Extern, Memory};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p1::{WasiP1Ctx, types};
use wiggle::GuestMemory;

use super::abi::{CallFailure, Result, answer};
use super::host_files::HostFiles;
use super::known::KnownInstance;
#[cfg(feature = "freeze")]
use super::shown::ShownPreopen;
use super::table::{DescriptorTable, DirDescriptor, Slot};
use crate::vfs::Preopen;

/// Numbers of standard input, output and error, in both tables.
const STDIO: std::ops::Range<u32> = 0..3;

/// What preview1 needs for one guest: wasmtime-wasi's context, the directories
/// of stratafs that the guest may reach, and the table of its descriptors.
///
/// It stands in the store's data, as [`WasiP1Ctx`] does.
///
/// ```
/// use stratafs::{image::Image, vfs::{Fs, Rights}, wasi::p1};
/// use wasmtime::{Engine, Store};
/// use wasmtime_wasi::WasiCtxBuilder;
///
/// let fs = Fs::new(&Image::empty());
/// fs.create_dir("/etc")?;
/// let wasi = WasiCtxBuilder::new().arg("tool").inherit_stdio().build_p1();
/// let ctx = p1::Ctx::new(wasi)
///     .preopen(fs.root()?, "/")
///     .preopen(fs.preopen("/etc", Rights::ReadOnly)?, "/config");
/// let store = Store::new(&Engine::default(), ctx);
/// # drop(store);
/// # Ok::<(), stratafs::Error>(())
/// ```
pub struct Ctx {
    /// Answers what is not about files of stratafs. Its own table of
    /// descriptors is reached through [`Slot::Host`] only.
    pub(super) stock: WasiP1Ctx,
    pub(super) table: DescriptorTable,
    /// Whether `table` has `stock`'s preopens yet. Looking for them makes it
    /// set up its standard streams, so that waits for the guest's first call
    /// that could see them.
    complete: bool,
    /// Where the memory of who calls is found.
    memory: Callers,
    /// What is open below directories of the host, if that is to be remembered.
    pub(super) host_files: Option<HostFiles>,
    /// What the guest knows of its files from before a checkpoint.
    pub(super) known: Option<Box<KnownInstance>>,
    /// Directories that the guest was shown and has closed: what it opened below them is there still.
    #[cfg(feature = "freeze")]
    pub(super) closed_preopens: Vec<ShownPreopen>,
}

/// Who calls preview1 through a context.
enum Callers {
    /// Any instance of the store: each call asks whose it is.
    Any,
    /// One instance, which has not been heard of yet.
    One,
    /// One instance, whose memory this is.
    Known(Memory),
    /// The host calls, about this memory.
    #[cfg_attr(
        not(feature = "runner"),
        expect(dead_code, reason = "who traces calls calls so")
    )]
    Host(Memory),
    /// The host calls, about a memory that threads share.
    #[cfg(feature = "runner")]
    HostShared(wasmtime::SharedMemory),
}

impl fmt::Debug for Ctx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx")
            .field("descriptors", &self.table.end())
            .finish_non_exhaustive()
    }
}

impl Ctx {
    /// Makes a context whose guest sees what `wasi` gives it, and no file
    /// system of stratafs yet.
    ///
    /// Numbers 0 to 2 are `wasi`'s standard streams; then come the directories
    /// of [`Self::preopen`], then the host directories preopened in `wasi`.
    #[must_use]
    pub fn new(wasi: WasiP1Ctx) -> Self {
        let mut table = DescriptorTable::default();
        for fd in STDIO {
            table.insert(Slot::Host(fd));
        }
        Self {
            stock: wasi,
            table,
            complete: false,
            memory: Callers::Any,
            host_files: None,
            known: None,
            #[cfg(feature = "freeze")]
            closed_preopens: Vec::new(),
        }
    }

    /// Promises that one instance only calls preview1 through this context, so
    /// that its memory is looked up once and not in each call, which makes small
    /// calls twice as fast. Default: any instance of the store may call.
    ///
    /// The context then belongs to one store: moved to another, its calls panic.
    /// Calls of a second instance would read and write the memory of the first,
    /// which builds with debug assertions notice. Memories that threads share are
    /// looked up in each call all the same.
    #[must_use]
    pub fn for_one_instance(mut self) -> Self {
        self.memory = Callers::One;
        self
    }

    /// Makes a context of the same kind with another table.
    pub(super) fn beside(&self, stock: WasiP1Ctx, table: DescriptorTable) -> Self {
        let memory = match self.memory {
            Callers::Any => Callers::Any,
            Callers::One | Callers::Known(_) | Callers::Host(_) => Callers::One,
            #[cfg(feature = "runner")]
            Callers::HostShared(_) => Callers::One,
        };
        Self {
            stock,
            table,
            complete: self.complete,
            memory,
            host_files: None,
            known: None,
            #[cfg(feature = "freeze")]
            closed_preopens: Vec::new(),
        }
    }

    /// Has other slots from now on. Host directories that were not looked for yet are not
    /// among them.
    pub(super) fn replace_table(&mut self, slots: Vec<Slot>) {
        self.table = DescriptorTable::of(slots);
        self.complete = true;
    }

    /// The memory of the one instance that calls, once it is known.
    #[inline]
    pub(super) fn memory(&self) -> Option<Memory> {
        match self.memory {
            Callers::Known(memory) | Callers::Host(memory) => Some(memory),
            Callers::Any | Callers::One => None,
            #[cfg(feature = "runner")]
            Callers::HostShared(_) => None,
        }
    }

    /// As [`Self::memory`], also one that threads share, if the host calls about it.
    pub(super) fn export(&self) -> Option<Extern> {
        #[cfg(feature = "runner")]
        if let Callers::HostShared(memory) = &self.memory {
            return Some(Extern::SharedMemory(memory.clone()));
        }
        self.memory().map(Extern::Memory)
    }

    /// Says what the instance exports as its memory in whose stead the host calls.
    #[cfg(feature = "runner")]
    pub(crate) fn called_instead(&mut self, memory: Extern) {
        match memory {
            Extern::Memory(memory) => self.memory = Callers::Host(memory),
            Extern::SharedMemory(memory) => self.memory = Callers::HostShared(memory),
            Extern::Func(_) | Extern::Global(_) | Extern::Table(_) | Extern::Tag(_) => {}
        }
    }

    /// Returns whether the host makes the calls: no instance can be asked whose they are.
    pub(super) fn is_called_by_host(&self) -> bool {
        matches!(self.memory, Callers::Host(_))
    }

    /// Holds the memory of an instance that called, if it is the only one.
    pub(super) fn hold_memory(&mut self, memory: Memory) {
        if let Callers::One = self.memory {
            self.memory = Callers::Known(memory);
        }
    }

    /// Shows a directory of stratafs to the guest under a name, such as `/`.
    ///
    /// What the guest may do below it was said when it was opened: see
    /// [`Fs::preopen`](crate::vfs::Fs::preopen).
    #[must_use]
    pub fn preopen(mut self, dir: Preopen, name: impl Into<String>) -> Self {
        self.table.insert(Slot::Dir(DirDescriptor {
            descriptor: dir.into_descriptor(),
            preopen: Some(name.into().into_boxed_str()),
            restored: None,
        }));
        self
    }

    /// Returns wasmtime-wasi's context.
    pub fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.stock
    }

    /// Adds the host directories of `stock` to the table, once, before the
    /// first number behind ours is looked at or given out.
    #[inline]
    pub(super) fn complete(&mut self) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        self.find_host_directories()
    }

    #[cold]
    fn find_host_directories(&mut self) -> Result<()> {
        let mut found = 0_usize;
        for fd in STDIO.end.. {
            // A preopen's name has a length, which takes no memory to tell.
            let mut none = GuestMemory::Unshared(&mut []);
            match self.stock.fd_prestat_get(&mut none, fd.into()) {
                Ok(types::Prestat::Dir(_)) => {
                    self.table.insert(Slot::Host(fd));
                    found = found.saturating_add(1);
                }
                Err(error) => match CallFailure::from(error) {
                    CallFailure::Errno(_) => break,
                    fail @ (CallFailure::Trap(_) | CallFailure::Absent(_)) => return Err(fail),
                },
            }
        }
        if let Some(files) = &mut self.host_files {
            files.keep_names(found);
        }
        self.complete = true;
        Ok(())
    }

    /// Returns whether a number is one of wasmtime-wasi's.
    #[inline]
    pub(super) fn is_host(&mut self, fd: i32) -> wasmtime::Result<bool> {
        let fd = fd.cast_unsigned();
        if fd >= self.table.end() && !self.complete {
            match self.find_host_directories() {
                Ok(()) | Err(CallFailure::Errno(_)) => {}
                Err(fail) => {
                    answer(Err(fail))?;
                }
            }
        }
        Ok(matches!(self.table.slot(fd), Slot::Host(_)))
    }

    /// Returns wasmtime-wasi's number for one of the guest's; a number that is
    /// closed there too for what is not its own.
    pub(super) fn theirs(&self, fd: i32) -> i32 {
        match self.table.slot(fd.cast_unsigned()) {
            Slot::Host(theirs) => theirs.cast_signed(),
            Slot::Closed | Slot::File(_) | Slot::Dir(_) => -1,
        }
    }
}
