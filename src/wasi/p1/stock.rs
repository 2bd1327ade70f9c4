//! Calls that wasmtime-wasi's preview1 answers, at least in part.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;

use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as abi, WasiSnapshotPreview1};
use wasmtime_wasi::runtime::{in_tokio, poll_noop, with_ambient_tokio_runtime};
use wiggle::{GuestMemory, GuestPtr};

use super::abi::{CallFailure, Result, argument};
use super::ctx::Ctx;
use super::memory::CallMemory;
use super::path::{access, text};
use super::table::Slot;

/// Waits for a call, as a host function of a synchronous linker has to.
///
/// Most calls are ready at once: only the others pay for entering tokio.
pub(super) fn block_on<F: Future>(call: F) -> F::Output {
    let mut call = pin!(call);
    match with_ambient_tokio_runtime(|| poll_noop(call.as_mut())) {
        Some(output) => output,
        None => in_tokio(call),
    }
}

impl Ctx {
    /// `fd_close` of a host descriptor.
    pub(super) async fn host_fd_close(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: i32,
    ) -> wasmtime::Result<i32> {
        let theirs = self.theirs(fd);
        match self.table.remove(fd.cast_unsigned()) {
            Ok(_) if self.keeps_open(theirs) => Ok(0),
            Ok(_) => abi::fd_close(&mut self.stock, memory, theirs).await,
            Err(fail) => super::abi::answer(Err(fail)),
        }
    }

    /// `fd_renumber` onto a host descriptor, which is closed.
    pub(super) async fn host_fd_renumber(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: i32,
        to: i32,
    ) -> wasmtime::Result<i32> {
        let theirs = self.theirs(to);
        match self
            .table
            .renumber(from.cast_unsigned(), to.cast_unsigned())
        {
            Ok(Some(_)) if self.keeps_open(theirs) => Ok(0),
            Ok(Some(_)) => abi::fd_close(&mut self.stock, memory, theirs).await,
            Ok(None) => Ok(0),
            Err(fail) => super::abi::answer(Err(fail)),
        }
    }

    /// `path_open` below a host directory: what it opens gets a number of ours.
    #[expect(clippy::too_many_arguments, reason = "preview1's signature")]
    pub(super) async fn host_path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dir: i32,
        follow: i32,
        path: i32,
        path_len: i32,
        flags: i32,
        rights: i64,
        inheriting: i64,
        fd_flags: i32,
        out: i32,
    ) -> wasmtime::Result<i32> {
        // The name is remembered by hosts that open the file once more.
        let name = self.host_files.as_ref().and_then(|_| {
            text(&CallMemory(memory), path, path_len)
                .ok()
                .map(Cow::into_owned)
        });
        let path = GuestPtr::new((path.cast_unsigned(), path_len.cast_unsigned()));
        let outcome = async {
            let follow = argument(follow)?;
            let flags = argument(flags)?;
            let rights = argument(rights)?;
            let inheriting = argument(inheriting)?;
            let fd_flags = argument(fd_flags)?;
            self.complete()?;
            self.table.check_room()?;
            let theirs = types::Fd::from(self.theirs(dir));
            let opened = self
                .stock
                .path_open(
                    memory, theirs, follow, path, flags, rights, inheriting, fd_flags,
                )
                .await?;
            let opened = u32::from(opened);
            if let (Some(files), Some(name)) = (&mut self.host_files, &name) {
                files.opened(theirs.into(), name, access(rights), opened);
            }
            let fd = self.table.insert(Slot::Host(opened));
            CallMemory(memory).store_u32(out.cast_unsigned(), fd)
        };
        super::abi::answer(outcome.await)
    }
}

/// Turns wasmtime-wasi's answer to a call into an outcome.
pub(super) fn outcome<T>(answer: std::result::Result<T, types::Error>) -> Result<T> {
    answer.map_err(CallFailure::from)
}
