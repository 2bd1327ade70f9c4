//! Files whose bytes a host makes when they are opened, and takes when they
//! are written: secrets, reports like those of `/proc`, sinks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::descriptor::{Access, Descriptor};
use super::mount::FileMount;
use crate::chunk::Ticket;
use crate::errno::Errno;
use crate::limits::{
    CHUNK_BYTES, MAX_DEVICE_STEP_BYTES, MAX_OPEN_VIRTUAL_BYTES, MAX_VIRTUAL_BYTES,
};
use crate::meta::Kind;
use crate::overlay::NotDone;

/// A virtual file provided by the host. Shown by [`Fs::mount_file`](super::Fs::mount_file).
///
/// No lock is held while it is called, by several threads at once if several
/// use the instance. A panic is [`Errno::Io`] for the guest, an error is what it
/// says. A closure that returns bytes is a file that can be read.
///
/// ```
/// use std::sync::Arc;
/// use stratafs::{image::Image, vfs::Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.mount_file("/motd", Arc::new(|| b"hello".to_vec()))?;
/// assert_eq!(fs.read("/motd")?, b"hello");
/// # Ok::<(), stratafs::Error>(())
/// ```
pub trait VirtualFile: Send + Sync {
    /// Returns the bytes that a descriptor shall read from now on; called once
    /// each time the file is opened for reading.
    ///
    /// # Errors
    ///
    /// What the one who opens the file is told. More than
    /// [`MAX_VIRTUAL_BYTES`] are [`Errno::FileTooLarge`]; what would make all
    /// open descriptors of the instance hold more than
    /// [`MAX_OPEN_VIRTUAL_BYTES`] is [`Errno::NoSpace`].
    ///
    /// Default: none, as for devices.
    fn content(&self) -> Result<Bytes, Errno> {
        Ok(Bytes::new())
    }

    /// Returns whether the file is a device: it is not asked for its content when it is
    /// opened but for the next bytes each time it is read, whatever the offset, and guests
    /// are told that it is a character device. Asked when it is mounted. Default: no.
    fn is_device(&self) -> bool {
        false
    }

    /// Fills `buf` with a device's next bytes: fewer than `buf` has room for, or none at an end, or
    /// a ticket for whoever reads to wait for. `buf` has at most
    /// [`MAX_DEVICE_STEP_BYTES`]. Default: none.
    ///
    /// # Errors
    ///
    /// What the one who reads is told.
    fn fill(&self, _buf: &mut [u8]) -> Result<Filled, Errno> {
        Ok(Filled::Bytes(0))
    }

    /// Returns whether the file may be opened for writing. Asked when it is
    /// mounted. Default: no, and opening it so is [`Errno::NotPermitted`].
    fn is_writable(&self) -> bool {
        false
    }

    /// Takes bytes of one write, at an offset or (`None`) at the end, and returns
    /// how many it took. Default: [`Errno::NotPermitted`].
    ///
    /// # Errors
    ///
    /// What the one who writes is told.
    fn write(&self, _offset: Option<u64>, _bytes: &[u8]) -> Result<usize, Errno> {
        Err(Errno::NotPermitted)
    }
}

/// What a read of a device gave.
#[derive(Clone, Debug)]
pub enum Filled {
    /// So many bytes.
    Bytes(usize),
    /// None yet: the read is to be made again once the wait is over.
    Later(Ticket),
}

impl<F: Fn() -> Vec<u8> + Send + Sync> VirtualFile for F {
    fn content(&self) -> Result<Bytes, Errno> {
        Ok(self().into())
    }
}

/// A host's file as one descriptor has it open.
pub(super) struct VirtualHandle {
    file: Arc<dyn VirtualFile>,
    is_device: bool,
    /// What the file held when it was opened; nothing if not to be read.
    content: Bytes,
    #[expect(dead_code, reason = "counts the content for as long as it is held")]
    shown: HeldContent,
}

/// Bytes that open descriptors of an instance hold of files of its host's
/// making. Absent until one is opened.
#[derive(Default)]
pub(super) struct VirtualBytes(OnceLock<Arc<AtomicU64>>);

impl VirtualBytes {
    /// Returns how many there are. O(1).
    pub(super) fn get(&self) -> u64 {
        let count = self.0.get();
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Counts `bytes` for as long as what it gives lives.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] past [`MAX_OPEN_VIRTUAL_BYTES`].
    fn hold(&self, bytes: u64) -> Result<HeldContent, Errno> {
        let more = |held: u64| {
            let sum = held.checked_add(bytes);
            sum.filter(|sum| *sum <= MAX_OPEN_VIRTUAL_BYTES)
        };
        let all = self.0.get_or_init(Arc::default);
        let taken = all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Errno::NoSpace)?;
        Ok(HeldContent {
            all: Arc::clone(all),
            bytes,
        })
    }
}

/// What one descriptor and its clones hold.
struct HeldContent {
    all: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for HeldContent {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl VirtualHandle {
    fn open(mount: FileMount, access: Access, all: &VirtualBytes) -> Result<Self, Errno> {
        let mut content = Bytes::new();
        if access.contains(Access::READ) && !mount.is_device {
            content = guarded(|| mount.file.content())?;
        }
        if content.len() > MAX_VIRTUAL_BYTES {
            return Err(Errno::FileTooLarge);
        }
        let shown = all.hold(content.len() as u64)?;
        Ok(Self {
            file: mount.file,
            is_device: mount.is_device,
            content,
            shown,
        })
    }

    pub(super) fn is_device(&self) -> bool {
        self.is_device
    }

    pub(super) fn size(&self) -> u64 {
        self.content.len() as u64
    }

    /// Returns up to `max` bytes from `offset` on, without a copy; of a device its next
    /// ones.
    pub(super) fn slice(&self, offset: u64, max: usize) -> Result<Bytes, NotDone> {
        if self.is_device {
            let mut bytes = vec![0; max.min(CHUNK_BYTES)];
            let len = self.fill(&mut bytes)?;
            bytes.truncate(len);
            return Ok(bytes.into());
        }
        Ok(self.piece(offset, max))
    }

    fn piece(&self, offset: u64, max: usize) -> Bytes {
        let len = self.content.len();
        let from = usize::try_from(offset).map_or(len, |offset| offset.min(len));
        self.content.slice(from..len.min(from.saturating_add(max)))
    }

    pub(super) fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, NotDone> {
        if self.is_device {
            return self.fill(buf);
        }
        let piece = self.piece(offset, buf.len());
        for (to, from) in buf.iter_mut().zip(&piece) {
            *to = *from;
        }
        Ok(piece.len())
    }

    /// Asks a device for its next bytes, a bounded piece of them.
    fn fill(&self, buf: &mut [u8]) -> Result<usize, NotDone> {
        let len = buf.len().min(MAX_DEVICE_STEP_BYTES);
        let room = buf.get_mut(..len).unwrap_or_default();
        match guarded(|| self.file.fill(room))? {
            Filled::Bytes(filled) => Ok(filled.min(len)),
            Filled::Later(ticket) => Err(NotDone::Absent(Box::new(ticket))),
        }
    }

    pub(super) fn write(&self, offset: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        let taken = guarded(|| self.file.write(offset, bytes))?;
        Ok(taken.min(bytes.len()))
    }
}

/// Runs a host's code on a guest's behalf: its panic ends here.
fn guarded<R>(call: impl FnOnce() -> Result<R, Errno>) -> Result<R, Errno> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(Err(Errno::Io))
}

impl Descriptor {
    /// Asks the host for what this is to read, if the file is one of its
    /// making. No lock is held.
    #[inline]
    pub(super) fn with_content(self) -> Result<Self, Errno> {
        if !self.fs().has_mounts() {
            return Ok(self);
        }
        self.with_mounted()
    }

    fn with_mounted(self) -> Result<Self, Errno> {
        match self.fs().mounted_file(self.id()) {
            Some(mount) if self.kind() == Kind::File => {
                let live = VirtualHandle::open(mount, self.access(), self.fs().virtual_bytes())?;
                Ok(self.with_virtual(Some(Arc::new(live))))
            }
            Some(_) | None => Ok(self),
        }
    }
}
