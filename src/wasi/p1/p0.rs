//! WASI preview0: `wasi_unstable`, which compilers made until 2020.
//!
//! Programs of that time still run: clang and SQLite are known as such. A
//! linker may have preview0 and preview1; both use the same [`Ctx`]:
//!
//! ```
//! # use stratafs::wasi::{p0, p1};
//! # fn main() -> wasmtime::Result<()> {
//! # let engine = wasmtime::Engine::default();
//! let mut linker: wasmtime::Linker<p1::Ctx> = wasmtime::Linker::new(&engine);
//! p1::add_to_linker_sync(&mut linker, |ctx| ctx)?;
//! p0::add_to_linker_sync(&mut linker, |ctx| ctx)?;
//! # Ok(())
//! # }
//! ```
//!
//! Most functions are preview1's to the bit. Another shape have `fd_seek`,
//! which counts the kinds of offset otherwise, `fd_filestat_get` and
//! `path_filestat_get`, whose record has a shorter link count, and
//! `poll_oneoff`, whose clock has one more field. `sock_accept` is missing.

use wasmtime::{AsContextMut, Caller, Linker};
use wasmtime_wasi::p0::types;
use wasmtime_wasi::p0::wasi_unstable as abi;
use wasmtime_wasi::p1::types as newer;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestMemory, GuestPtr};

use std::future::ready;

use super::abi::{Result, answer, argument, waits};
use super::ctx::Ctx;
use super::export::Exports;
use super::link::{add_common_async, add_common_sync, bare, boxed, define, later, now, split};
use super::memory::CallMemory;
use super::poll::Subscribe;
use super::stat::{DeviceInode, filetype, record};
use super::stock::block_on;
use crate::meta::Stat;

/// The module that guests import the functions from.
pub(crate) const MODULE: &str = "wasi_unstable";

/// Defines what preview1 has in another shape, for one kind of linker.
macro_rules! define_older {
    ($mode:ident, $linker:ident, $exports:ident, $get:ident) => {
        define!($mode, $linker, MODULE, $exports, $get, now,
            fd_seek(fd: i32, offset: i64, whence: i32, out: i32),
            |ctx, memory| {
                if ctx.is_host(fd)? {
                    Ok(None)
                } else {
                    answer(ctx.older_fd_seek(&mut CallMemory(memory), fd, offset, whence, out)).map(Some)
                }
            },
            {
                let fd = ctx.theirs(fd);
                abi::fd_seek(&mut ctx.stock, memory, fd, offset, whence, out)
            });
        define!($mode, $linker, MODULE, $exports, $get, now,
            fd_filestat_get(fd: i32, out: i32),
            |ctx, memory| {
                if ctx.is_host(fd)? {
                    Ok(None)
                } else {
                    answer(ctx.older_fd_filestat_get(&mut CallMemory(memory), fd, out)).map(Some)
                }
            },
            {
                let fd = ctx.theirs(fd);
                abi::fd_filestat_get(&mut ctx.stock, memory, fd, out)
            });
        define!($mode, $linker, MODULE, $exports, $get, now,
            path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32),
            |ctx, memory| {
                if ctx.is_host(fd)? {
                    Ok(None)
                } else {
                    let memory = &mut CallMemory(memory);
                    answer(ctx.older_path_filestat_get(memory, fd, flags, path, len, out)).map(Some)
                }
            },
            {
                let fd = ctx.theirs(fd);
                abi::path_filestat_get(&mut ctx.stock, memory, fd, flags, path, len, out)
            });
        define!($mode, $linker, MODULE, $exports, $get, bare,
            poll_oneoff(subscriptions: i32, events: i32, count: i32, out: i32),
            |_ctx, _memory| Ok(None),
            _ctx.older_poll_oneoff(_memory, subscriptions, events, count, out));
    };
}

/// Adds all of `wasi_unstable` to a linker for synchronous stores.
///
/// As [`p1::add_to_linker_sync`](super::add_to_linker_sync).
///
/// # Errors
///
/// When the linker has one of the functions already.
pub fn add_to_linker_sync<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let exports = Exports::default();
    define_older!(sync, linker, exports, get);
    add_common_sync(linker, MODULE, &exports, get)
}

/// Adds all of `wasi_unstable` to a linker for asynchronous stores.
///
/// As [`p1::add_to_linker_async`](super::add_to_linker_async).
///
/// # Errors
///
/// When the linker has one of the functions already.
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let exports = Exports::default();
    define_older!(async, linker, exports, get);
    add_common_async(linker, MODULE, &exports, get)
}

impl Ctx {
    fn older_fd_seek(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        offset: i64,
        whence: i32,
        out: i32,
    ) -> Result<()> {
        let whence = newer::Whence::from(argument::<types::Whence, _>(whence)?);
        self.fd_seek(memory, fd, offset, whence as i32, out)
    }

    fn older_fd_filestat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        out: i32,
    ) -> Result<()> {
        let (stat, place) = self.fd_stat(fd)?;
        memory.store(out.cast_unsigned(), 8, &filestat(&stat, &place))
    }

    fn older_path_filestat_get(
        &mut self,
        memory: &mut CallMemory<'_, '_>,
        fd: i32,
        flags: i32,
        path: i32,
        path_len: i32,
        out: i32,
    ) -> Result<()> {
        let (stat, place) = self.path_stat(memory, fd, flags, path, path_len)?;
        memory.store(out.cast_unsigned(), 8, &filestat(&stat, &place))
    }

    async fn older_poll_oneoff(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subscriptions: i32,
        events: i32,
        count: i32,
        out: i32,
    ) -> wasmtime::Result<i32> {
        let subscriptions = GuestPtr::<types::Subscription>::new(subscriptions.cast_unsigned());
        let outcome = async {
            let (events, count) = (events.cast_unsigned(), count.cast_unsigned());
            let events = GuestPtr::new(events);
            let ready = self.poll(memory, subscriptions, events, count).await?;
            CallMemory(memory).store_u32(out.cast_unsigned(), ready)
        };
        answer(outcome.await)
    }
}

impl Subscribe for types::Subscription {
    fn newest(self) -> newer::Subscription {
        newer::Subscription {
            userdata: self.userdata,
            u: match self.u {
                types::SubscriptionU::Clock(clock) => newer::SubscriptionU::Clock(clock.into()),
                types::SubscriptionU::FdRead(fd) => newer::SubscriptionU::FdRead(fd.into()),
                types::SubscriptionU::FdWrite(fd) => newer::SubscriptionU::FdWrite(fd.into()),
            },
        }
    }
}

/// Encodes a `filestat`. A link count past 32 bits cannot be: see
/// [`Stat::nlink`].
fn filestat(stat: &Stat, place: &DeviceInode) -> [u8; 56] {
    record!(56:
        0 => place.device.to_le_bytes(),
        8 => place.number.to_le_bytes(),
        16 => [filetype(stat.kind, stat.is_device) as u8],
        20 => stat.nlink.to_le_bytes(),
        24 => stat.size.to_le_bytes(),
        32 => stat.atime.as_nanos_clamped().to_le_bytes(),
        40 => stat.mtime.as_nanos_clamped().to_le_bytes(),
        48 => stat.ctime.as_nanos_clamped().to_le_bytes(),
    )
}
