//! preview1's own calls, as the host has them: no C library in between.

use std::fmt;

/// An errno of preview1; 0 is success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub u16);

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // preview1 and wasi-libc count alike.
        match self.0 {
            0 => f.write_str("success"),
            code => write!(f, "{:?}", crate::posix::Errno(code.into())),
        }
    }
}

/// What a call gives.
pub type Result<T> = std::result::Result<T, Errno>;

/// Piece of memory to write from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ciovec {
    /// Where it starts.
    pub buf: *const u8,
    /// Its bytes.
    pub len: usize,
}

/// Piece of memory to read into.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Iovec {
    /// Where it starts.
    pub buf: *mut u8,
    /// Its bytes.
    pub len: usize,
}

/// What `fd_fdstat_get` tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fdstat {
    /// Kind of object.
    pub filetype: u8,
    /// Flags of the descriptor.
    pub flags: u16,
    /// What may be done with it.
    pub rights_base: u64,
    /// What may be done with what it opens.
    pub rights_inheriting: u64,
}

/// What `fd_filestat_get` tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Filestat {
    /// Device.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Kind of object.
    pub filetype: u8,
    /// Names.
    pub nlink: u64,
    /// Bytes.
    pub size: u64,
    /// Last access.
    pub atim: u64,
    /// Last change of content.
    pub mtim: u64,
    /// Last change.
    pub ctim: u64,
}

/// What `poll_oneoff` is to wait for: a clock, or a descriptor in `id`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscription {
    /// Comes back with the event.
    pub userdata: u64,
    /// 0 for a clock, 1 for reading, 2 for writing; a byte in preview1, with
    /// seven behind it that nobody looks at.
    pub tag: u64,
    /// The clock or the descriptor.
    pub id: u32,
    /// Of a clock: when, in nanoseconds.
    pub timeout: u64,
    /// Of a clock: how exact.
    pub precision: u64,
    /// Of a clock: 1 for an absolute time.
    pub flags: u16,
}

/// What `poll_oneoff` tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// The subscription's.
    pub userdata: u64,
    /// An errno.
    pub error: u16,
    /// As the subscription's tag.
    pub tag: u8,
    /// Bytes there are.
    pub nbytes: u64,
    /// 1 for the end.
    pub flags: u16,
}

/// The imports themselves, by their names in preview1. Pointers and lengths
/// are the caller's to answer for.
#[allow(missing_docs, reason = "preview1's documentation has them")]
pub mod raw {
    use super::{Ciovec, Event, Fdstat, Filestat, Iovec, Subscription};

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn fd_advise(fd: u32, offset: u64, len: u64, advice: u32) -> u32;
        pub fn fd_allocate(fd: u32, offset: u64, len: u64) -> u32;
        pub fn fd_close(fd: u32) -> u32;
        pub fn fd_datasync(fd: u32) -> u32;
        pub fn fd_fdstat_get(fd: u32, out: *mut Fdstat) -> u32;
        pub fn fd_fdstat_set_flags(fd: u32, flags: u32) -> u32;
        pub fn fd_fdstat_set_rights(fd: u32, base: u64, inheriting: u64) -> u32;
        pub fn fd_filestat_get(fd: u32, out: *mut Filestat) -> u32;
        pub fn fd_filestat_set_size(fd: u32, size: u64) -> u32;
        pub fn fd_filestat_set_times(fd: u32, atim: u64, mtim: u64, flags: u32) -> u32;
        pub fn fd_pread(
            fd: u32,
            iovs: *const Iovec,
            len: usize,
            offset: u64,
            out: *mut usize,
        ) -> u32;
        pub fn fd_prestat_get(fd: u32, out: *mut [u32; 2]) -> u32;
        pub fn fd_prestat_dir_name(fd: u32, buf: *mut u8, len: usize) -> u32;
        pub fn fd_pwrite(
            fd: u32,
            iovs: *const Ciovec,
            len: usize,
            offset: u64,
            out: *mut usize,
        ) -> u32;
        pub fn fd_read(fd: u32, iovs: *const Iovec, len: usize, out: *mut usize) -> u32;
        pub fn fd_readdir(fd: u32, buf: *mut u8, len: usize, cookie: u64, out: *mut usize) -> u32;
        pub fn fd_renumber(fd: u32, to: u32) -> u32;
        pub fn fd_seek(fd: u32, offset: i64, whence: u32, out: *mut u64) -> u32;
        pub fn fd_sync(fd: u32) -> u32;
        pub fn fd_tell(fd: u32, out: *mut u64) -> u32;
        pub fn fd_write(fd: u32, iovs: *const Ciovec, len: usize, out: *mut usize) -> u32;
        pub fn path_create_directory(fd: u32, path: *const u8, len: usize) -> u32;
        pub fn path_filestat_get(
            fd: u32,
            flags: u32,
            path: *const u8,
            len: usize,
            out: *mut Filestat,
        ) -> u32;
        pub fn path_filestat_set_times(
            fd: u32,
            flags: u32,
            path: *const u8,
            len: usize,
            atim: u64,
            mtim: u64,
            fst: u32,
        ) -> u32;
        pub fn path_link(
            fd: u32,
            flags: u32,
            path: *const u8,
            len: usize,
            to: u32,
            new: *const u8,
            new_len: usize,
        ) -> u32;
        pub fn path_open(
            fd: u32,
            dirflags: u32,
            path: *const u8,
            len: usize,
            oflags: u32,
            base: u64,
            inheriting: u64,
            fdflags: u32,
            out: *mut u32,
        ) -> u32;
        pub fn path_readlink(
            fd: u32,
            path: *const u8,
            len: usize,
            buf: *mut u8,
            buf_len: usize,
            out: *mut usize,
        ) -> u32;
        pub fn path_remove_directory(fd: u32, path: *const u8, len: usize) -> u32;
        pub fn path_rename(
            fd: u32,
            path: *const u8,
            len: usize,
            to: u32,
            new: *const u8,
            new_len: usize,
        ) -> u32;
        pub fn path_symlink(
            target: *const u8,
            len: usize,
            fd: u32,
            path: *const u8,
            path_len: usize,
        ) -> u32;
        pub fn path_unlink_file(fd: u32, path: *const u8, len: usize) -> u32;
        pub fn args_get(argv: *mut *mut u8, buf: *mut u8) -> u32;
        pub fn args_sizes_get(count: *mut usize, size: *mut usize) -> u32;
        pub fn clock_res_get(clock: u32, out: *mut u64) -> u32;
        pub fn clock_time_get(clock: u32, precision: u64, out: *mut u64) -> u32;
        pub fn environ_get(environ: *mut *mut u8, buf: *mut u8) -> u32;
        pub fn environ_sizes_get(count: *mut usize, size: *mut usize) -> u32;
        pub fn poll_oneoff(
            subscriptions: *const Subscription,
            events: *mut Event,
            count: usize,
            out: *mut usize,
        ) -> u32;
        pub fn proc_exit(code: u32) -> !;
        pub fn proc_raise(signal: u32) -> u32;
        pub fn random_get(buf: *mut u8, len: usize) -> u32;
        pub fn sched_yield() -> u32;
        pub fn sock_accept(fd: u32, flags: u32, out: *mut u32) -> u32;
        pub fn sock_recv(
            fd: u32,
            iovs: *const Iovec,
            len: usize,
            flags: u32,
            out: *mut usize,
            out_flags: *mut u32,
        ) -> u32;
        pub fn sock_send(
            fd: u32,
            iovs: *const Ciovec,
            len: usize,
            flags: u32,
            out: *mut usize,
        ) -> u32;
        pub fn sock_shutdown(fd: u32, how: u32) -> u32;
    }
}

/// The only preopen of these guests.
pub const ROOT: u32 = 3;
/// `fd_read`: the right to read.
pub const READ: u64 = 1 << 1;
/// `fd_write`: the right to write.
pub const WRITE: u64 = 1 << 6;
/// `oflags.creat`.
pub const CREAT: u32 = 1;
/// `oflags.directory`.
pub const DIRECTORY: u32 = 2;
/// `oflags.excl`.
pub const EXCL: u32 = 4;
/// `oflags.trunc`.
pub const TRUNC: u32 = 8;
/// `lookupflags.symlink_follow`.
pub const FOLLOW: u32 = 1;
/// `fdflags.append`.
pub const APPEND: u32 = 1;

/// Makes a result of a code.
pub fn done(code: u32) -> Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(Errno(code as u16))
    }
}

/// `path_open` below a descriptor, following links.
pub fn open(dir: u32, path: &str, oflags: u32, rights: u64, fdflags: u32) -> Result<u32> {
    let mut fd = 0;
    // SAFETY: the path is valid for its length, the pointer for a write.
    let code = unsafe {
        raw::path_open(
            dir,
            FOLLOW,
            path.as_ptr(),
            path.len(),
            oflags,
            rights,
            0,
            fdflags,
            &raw mut fd,
        )
    };
    done(code).map(|()| fd)
}

/// `fd_close`.
pub fn close(fd: u32) -> Result<()> {
    // SAFETY: no pointer is passed.
    done(unsafe { raw::fd_close(fd) })
}

/// `fd_read` into one piece.
pub fn read(fd: u32, buf: &mut [u8]) -> Result<usize> {
    let iovec = Iovec {
        buf: buf.as_mut_ptr(),
        len: buf.len(),
    };
    let mut len = 0;
    // SAFETY: one piece that is valid for its length.
    done(unsafe { raw::fd_read(fd, &raw const iovec, 1, &raw mut len) }).map(|()| len)
}

/// `fd_pread` into one piece.
pub fn pread(fd: u32, buf: &mut [u8], offset: u64) -> Result<usize> {
    let iovec = Iovec {
        buf: buf.as_mut_ptr(),
        len: buf.len(),
    };
    let mut len = 0;
    // SAFETY: one piece that is valid for its length.
    done(unsafe { raw::fd_pread(fd, &raw const iovec, 1, offset, &raw mut len) }).map(|()| len)
}

/// `fd_write` from one piece.
pub fn write(fd: u32, buf: &[u8]) -> Result<usize> {
    let iovec = Ciovec {
        buf: buf.as_ptr(),
        len: buf.len(),
    };
    let mut len = 0;
    // SAFETY: one piece that is valid for its length.
    done(unsafe { raw::fd_write(fd, &raw const iovec, 1, &raw mut len) }).map(|()| len)
}

/// `fd_pwrite` from one piece.
pub fn pwrite(fd: u32, buf: &[u8], offset: u64) -> Result<usize> {
    let iovec = Ciovec {
        buf: buf.as_ptr(),
        len: buf.len(),
    };
    let mut len = 0;
    // SAFETY: one piece that is valid for its length.
    done(unsafe { raw::fd_pwrite(fd, &raw const iovec, 1, offset, &raw mut len) }).map(|()| len)
}

/// `fd_seek`.
pub fn seek(fd: u32, offset: i64, whence: u32) -> Result<u64> {
    let mut out = 0;
    // SAFETY: the pointer is valid for a write.
    done(unsafe { raw::fd_seek(fd, offset, whence, &raw mut out) }).map(|()| out)
}

/// `fd_tell`.
pub fn tell(fd: u32) -> Result<u64> {
    let mut out = 0;
    // SAFETY: the pointer is valid for a write.
    done(unsafe { raw::fd_tell(fd, &raw mut out) }).map(|()| out)
}

/// `fd_filestat_get`.
pub fn fstat(fd: u32) -> Result<Filestat> {
    let mut out = Filestat::default();
    // SAFETY: the pointer is valid for a write.
    done(unsafe { raw::fd_filestat_get(fd, &raw mut out) }).map(|()| out)
}

/// `path_filestat_get`.
pub fn stat(dir: u32, flags: u32, path: &str) -> Result<Filestat> {
    let mut out = Filestat::default();
    // SAFETY: the path is valid for its length, the pointer for a write.
    done(unsafe { raw::path_filestat_get(dir, flags, path.as_ptr(), path.len(), &raw mut out) })
        .map(|()| out)
}

/// `fd_fdstat_get`.
pub fn fdstat(fd: u32) -> Result<Fdstat> {
    let mut out = Fdstat::default();
    // SAFETY: the pointer is valid for a write.
    done(unsafe { raw::fd_fdstat_get(fd, &raw mut out) }).map(|()| out)
}

/// `fd_readdir`: the bytes it gave.
pub fn readdir(fd: u32, buf: &mut [u8], cookie: u64) -> Result<usize> {
    let mut len = 0;
    // SAFETY: the buffer is valid for its length.
    done(unsafe { raw::fd_readdir(fd, buf.as_mut_ptr(), buf.len(), cookie, &raw mut len) })
        .map(|()| len)
}

/// `path_create_directory`.
pub fn mkdir(dir: u32, path: &str) -> Result<()> {
    // SAFETY: the path is valid for its length.
    done(unsafe { raw::path_create_directory(dir, path.as_ptr(), path.len()) })
}

/// `path_remove_directory`.
pub fn rmdir(dir: u32, path: &str) -> Result<()> {
    // SAFETY: the path is valid for its length.
    done(unsafe { raw::path_remove_directory(dir, path.as_ptr(), path.len()) })
}

/// `path_unlink_file`.
pub fn unlink(dir: u32, path: &str) -> Result<()> {
    // SAFETY: the path is valid for its length.
    done(unsafe { raw::path_unlink_file(dir, path.as_ptr(), path.len()) })
}

/// `path_rename` below one descriptor.
pub fn rename(dir: u32, from: &str, to: &str) -> Result<()> {
    // SAFETY: the paths are valid for their lengths.
    done(unsafe { raw::path_rename(dir, from.as_ptr(), from.len(), dir, to.as_ptr(), to.len()) })
}

/// `path_link` below one descriptor.
pub fn link(dir: u32, flags: u32, from: &str, to: &str) -> Result<()> {
    // SAFETY: the paths are valid for their lengths.
    done(unsafe {
        raw::path_link(
            dir,
            flags,
            from.as_ptr(),
            from.len(),
            dir,
            to.as_ptr(),
            to.len(),
        )
    })
}

/// Nanoseconds of the monotonic clock.
pub fn now() -> u64 {
    let mut out = 0;
    // SAFETY: the pointer is valid for a write.
    unsafe { raw::clock_time_get(1, 0, &raw mut out) };
    out
}
