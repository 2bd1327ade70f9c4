//! Filling a linker with the functions of `wasi_snapshot_preview1`.
//!
//! A call on files of stratafs runs to its end inside the host function, in both
//! kinds of linker. A call that wasmtime-wasi answers becomes a future: a
//! synchronous linker blocks on it, an asynchronous one awaits it. So does a
//! call that meets content which has to be fetched first; it has done nothing
//! then, and is made again.

use std::future::{Future, ready};

use wasmtime::{AsContextMut, Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as abi, WasiSnapshotPreview1};
use wiggle::GuestMemory;

use super::abi::{answer, argument, waits};
use super::ctx::Ctx;
use super::export::Exports;
use super::memory::CallMemory;
use super::stock::block_on;

/// The module that guests import the functions from.
const MODULE: &str = "wasi_snapshot_preview1";

/// Splits a store into the guest's memory and its context.
#[inline]
pub(super) fn split<'a, T: 'static>(
    export: &'a Option<Extern>,
    caller: &'a mut Caller<'_, T>,
    get: impl Fn(&mut T) -> &mut Ctx,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Ctx)> {
    match export {
        Some(Extern::Memory(memory)) => {
            let (bytes, data) = memory.data_and_store_mut(caller);
            Ok((GuestMemory::Unshared(bytes), get(data)))
        }
        Some(Extern::SharedMemory(memory)) => {
            Ok((GuestMemory::Shared(memory.data()), get(caller.data_mut())))
        }
        Some(_) | None => wasmtime::bail!("missing required memory export"),
    }
}

/// Runs a call that never waits.
#[inline]
pub(super) fn now<T: 'static, R>(
    caller: &mut Caller<'_, T>,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx,
    call: impl FnOnce(&mut Ctx, &mut GuestMemory<'_>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    if let Some(memory) = get(caller.data_mut()).memory() {
        debug_assert!(
            get(caller.data_mut()).is_called_by_host() || is_of(memory, exports, caller),
            "a second instance calls"
        );
        let (bytes, data) = memory.data_and_store_mut(&mut *caller);
        return call(get(data), &mut GuestMemory::Unshared(bytes));
    }
    // A host that calls in a guest's stead has no exports.
    let export = get(caller.data_mut()).export();
    let export = export.or_else(|| exports.memory(caller));
    if let Some(Extern::Memory(memory)) = &export {
        get(caller.data_mut()).hold_memory(*memory);
    }
    let (mut memory, ctx) = split(&export, caller, get)?;
    call(ctx, &mut memory)
}

/// Returns the memory of the one instance that calls, or what the caller exports.
pub(super) fn known_or_exported<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: impl Fn(&mut T) -> &mut Ctx,
) -> Option<Extern> {
    let known = get(caller.data_mut()).export();
    known.or_else(|| caller.get_export("memory"))
}

/// Returns whether a memory is that of the calling instance.
fn is_of<T: 'static>(
    memory: wasmtime::Memory,
    exports: &Exports,
    caller: &mut Caller<'_, T>,
) -> bool {
    let Some(Extern::Memory(other)) = exports.memory(caller) else {
        return false;
    };
    memory.data_ptr(&*caller) == other.data_ptr(&*caller)
}

/// As [`now`], for a call without pointers: it does without the memory.
#[inline]
pub(super) fn bare<T: 'static, R>(
    caller: &mut Caller<'_, T>,
    _: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx,
    call: impl FnOnce(&mut Ctx, &mut GuestMemory<'_>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    call(get(caller.data_mut()), &mut GuestMemory::Unshared(&mut []))
}

/// A call as a future of wasmtime-wasi's. `$host` is an expression over `$ctx`
/// and `$memory` that gives a future.
macro_rules! later {
    ($caller:ident, $get:ident, |$ctx:ident, $memory:ident| $host:expr) => {
        async move {
            let fuel = $caller.as_context_mut().hostcall_fuel();
            let export = $crate::wasi::p1::link::known_or_exported(&mut $caller, $get);
            let (mut memory, $ctx) = split(&export, &mut $caller, $get)?;
            // What the guest makes wasmtime-wasi copy at most in this call.
            $ctx.stock.set_hostcall_fuel(fuel);
            let $memory = &mut memory;
            $host.await
        }
    };
}

pub(super) fn boxed<'a, F>(future: F) -> Box<dyn Future<Output = F::Output> + Send + 'a>
where
    F: Future + Send + 'a,
{
    Box::new(future)
}

/// Defines a function that may have to wait. `$ours` answers it at once, or
/// gives `None` to let `$host` do so. `$run` is [`now`] or [`bare`].
macro_rules! define {
    (sync, $linker:ident, $module:expr, $exports:ident, $get:ident, $run:ident, $name:ident ($($arg:ident: $type:ty),*),
        |$ctx:ident, $memory:ident| $ours:expr, $host:expr) => {
        let exports = $exports.clone();
        $linker.func_wrap(
            $module,
            stringify!($name),
            move |mut caller: Caller<'_, T>, $($arg: $type),*| -> wasmtime::Result<i32> {
                loop {
                    match $run(&mut caller, &exports, $get, |$ctx, $memory| $ours) {
                        Ok(Some(done)) => return Ok(done),
                        Ok(None) => {
                            return block_on(later!(caller, $get, |$ctx, $memory| $host));
                        }
                        Err(error) => waits(error)?.wait(),
                    }
                }
            },
        )?;
    };
    (async, $linker:ident, $module:expr, $exports:ident, $get:ident, $run:ident, $name:ident ($($arg:ident: $type:ty),*),
        |$ctx:ident, $memory:ident| $ours:expr, $host:expr) => {
        let exports = $exports.clone();
        $linker.func_wrap_async(
            $module,
            stringify!($name),
            move |mut caller: Caller<'_, T>, ($($arg,)*): ($($type,)*)| {
                match $run(&mut caller, &exports, $get, |$ctx, $memory| $ours) {
                    Ok(Some(done)) => boxed(ready(Ok(done))),
                    Ok(None) => boxed(later!(caller, $get, |$ctx, $memory| $host)),
                    Err(error) => match waits(error) {
                        Err(error) => boxed(ready(Err(error))),
                        Ok(mut ticket) => {
                            let exports = exports.clone();
                            boxed(async move {
                                loop {
                                    ticket.await;
                                    match $run(&mut caller, &exports, $get, |$ctx, $memory| $ours) {
                                        Ok(Some(done)) => return Ok(done),
                                        Ok(None) => {
                                            return later!(caller, $get, |$ctx, $memory| $host).await;
                                        }
                                        Err(error) => ticket = waits(error)?,
                                    }
                                }
                            })
                        }
                    },
                }
            },
        )?;
    };
}

pub(super) use {define, later};

/// Defines functions that are wasmtime-wasi's when all the descriptors in
/// brackets are, which are then replaced by its own numbers.
macro_rules! by_descriptor {
    ($mode:ident, $linker:ident, $module:expr, $exports:ident, $get:ident, $run:ident;
        $($name:ident [$($fd:ident),+] ($($arg:ident: $type:ty),*);)+) => {
        $(define!($mode, $linker, $module, $exports, $get, $run, $name ($($arg: $type),*),
            |ctx, memory| {
                if true $(&& ctx.is_host($fd)?)+ {
                    Ok(None)
                } else {
                    answer(ctx.$name(&mut CallMemory(memory), $($arg),*)).map(Some)
                }
            },
            {
                $(let $fd = ctx.theirs($fd);)+
                abi::$name(&mut ctx.stock, memory, $($arg),*)
            });)+
    };
}

/// As [`by_descriptor`], with a method of [`Ctx`] for the host's side.
macro_rules! by_descriptor_with {
    ($mode:ident, $linker:ident, $module:expr, $exports:ident, $get:ident, $run:ident;
        $($name:ident or $host:ident [$fd:ident] ($($arg:ident: $type:ty),*);)+) => {
        $(define!($mode, $linker, $module, $exports, $get, $run, $name ($($arg: $type),*),
            |ctx, memory| {
                if ctx.is_host($fd)? {
                    Ok(None)
                } else {
                    answer(ctx.$name(&mut CallMemory(memory), $($arg),*)).map(Some)
                }
            },
            ctx.$host(memory, $($arg),*));)+
    };
}

/// Defines the functions that may have to wait and are alike in preview0, for
/// one kind of linker.
macro_rules! define_waiting {
    ($mode:ident, $linker:ident, $module:expr, $exports:ident, $get:ident) => {
        by_descriptor! { $mode, $linker, $module, $exports, $get, bare;
            fd_advise[fd](fd: i32, offset: i64, len: i64, advice: i32);
            fd_datasync[fd](fd: i32);
            fd_filestat_set_size[fd](fd: i32, size: i64);
            fd_filestat_set_times[fd](fd: i32, atim: i64, mtim: i64, flags: i32);
            fd_sync[fd](fd: i32);
        }
        by_descriptor! { $mode, $linker, $module, $exports, $get, now;
            fd_fdstat_get[fd](fd: i32, out: i32);
            fd_pread[fd](fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
            fd_pwrite[fd](fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
            fd_read[fd](fd: i32, iovs: i32, count: i32, out: i32);
            fd_readdir[fd](fd: i32, buf: i32, len: i32, cookie: i64, out: i32);
            fd_write[fd](fd: i32, iovs: i32, count: i32, out: i32);
            path_create_directory[fd](fd: i32, path: i32, len: i32);
            path_filestat_set_times[fd](fd: i32, flags: i32, path: i32, len: i32,
                atim: i64, mtim: i64, time_flags: i32);
            path_link[old, new](old: i32, flags: i32, old_path: i32, old_len: i32,
                new: i32, new_path: i32, new_len: i32);
            path_readlink[fd](fd: i32, path: i32, len: i32, buf: i32, buf_len: i32, out: i32);
            path_remove_directory[fd](fd: i32, path: i32, len: i32);
            path_rename[old, new](old: i32, old_path: i32, old_len: i32,
                new: i32, new_path: i32, new_len: i32);
            path_symlink[fd](target: i32, target_len: i32, fd: i32, path: i32, len: i32);
            path_unlink_file[fd](fd: i32, path: i32, len: i32);
        }
        by_descriptor_with! { $mode, $linker, $module, $exports, $get, bare;
            fd_close or host_fd_close[fd](fd: i32);
            fd_renumber or host_fd_renumber[to](from: i32, to: i32);
        }
        by_descriptor_with! { $mode, $linker, $module, $exports, $get, now;
            path_open or host_path_open[fd](fd: i32, dir_flags: i32, path: i32, len: i32,
                flags: i32, rights: i64, inheriting: i64, fd_flags: i32, out: i32);
        }
    };
}

/// Defines what preview0 has in another shape, as preview1 has it.
macro_rules! define_newer {
    ($mode:ident, $linker:ident, $exports:ident, $get:ident) => {
        by_descriptor! { $mode, $linker, MODULE, $exports, $get, now;
            fd_filestat_get[fd](fd: i32, out: i32);
            fd_seek[fd](fd: i32, offset: i64, whence: i32, out: i32);
            path_filestat_get[fd](fd: i32, flags: i32, path: i32, len: i32, out: i32);
        }
        define!($mode, $linker, MODULE, $exports, $get, bare,
            poll_oneoff(subscriptions: i32, events: i32, count: i32, out: i32),
            |_ctx, _memory| Ok(None),
            _ctx.poll_oneoff(_memory, subscriptions, events, count, out));
    };
}

/// Defines functions that never wait, whoever answers them.
macro_rules! define_plain {
    ($linker:ident, $module:expr, $exports:ident, $get:ident;
        $($name:ident ($($arg:ident: $type:ty),*) |$ctx:ident, $memory:ident| $call:expr;)+) => {
        $(let exports = $exports.clone();
        $linker.func_wrap(
            $module,
            stringify!($name),
            move |mut caller: Caller<'_, T>, $($arg: $type),*| -> wasmtime::Result<i32> {
                now(&mut caller, &exports, $get, |$ctx, $memory| $call)
            },
        )?;)+
    };
}

/// Adds all of `wasi_snapshot_preview1` to a linker for synchronous stores.
///
/// `get` finds the context in the store's data; it runs at every call, so it
/// should be a field access. Like wasmtime-wasi's function of that name, this
/// blocks the thread while standard input or a slow host directory does.
///
/// # Errors
///
/// When the linker has one of the functions already.
pub fn add_to_linker_sync<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let exports = Exports::default();
    define_newer!(sync, linker, exports, get);
    add_sock_accept(linker, &exports, get)?;
    add_common_sync(linker, MODULE, &exports, get)
}

/// Adds all of `wasi_snapshot_preview1` to a linker for asynchronous stores.
///
/// As [`add_to_linker_sync`], but what has to wait is awaited and never blocks
/// the executor's thread.
///
/// # Errors
///
/// When the linker has one of the functions already.
pub fn add_to_linker_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    let exports = Exports::default();
    define_newer!(async, linker, exports, get);
    add_sock_accept(linker, &exports, get)?;
    add_common_async(linker, MODULE, &exports, get)
}

/// Adds what preview0 and preview1 have alike, under a name.
pub(super) fn add_common_sync<T: Send + 'static>(
    linker: &mut Linker<T>,
    module: &str,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    define_waiting!(sync, linker, module, exports, get);
    add_plain(linker, module, exports, get)
}

/// As [`add_common_sync`], for asynchronous stores.
pub(super) fn add_common_async<T: Send + 'static>(
    linker: &mut Linker<T>,
    module: &str,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    define_waiting!(async, linker, module, exports, get);
    add_plain(linker, module, exports, get)
}

/// Preview0 does not have this one.
fn add_sock_accept<T: Send + 'static>(
    linker: &mut Linker<T>,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    define_plain! { linker, MODULE, exports, get;
        sock_accept(fd: i32, flags: i32, _out: i32) |ctx, _memory|
            answer(argument::<types::Fdflags, _>(flags).and_then(|_| ctx.not_a_socket(fd)));
    }
    Ok(())
}

fn add_plain<T: Send + 'static>(
    linker: &mut Linker<T>,
    module: &str,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    define_plain! { linker, module, exports, get;
        args_get(argv: i32, buf: i32)
            |ctx, memory| abi::args_get(&mut ctx.stock, memory, argv, buf);
        args_sizes_get(count: i32, size: i32)
            |ctx, memory| abi::args_sizes_get(&mut ctx.stock, memory, count, size);
        environ_get(environ: i32, buf: i32)
            |ctx, memory| abi::environ_get(&mut ctx.stock, memory, environ, buf);
        environ_sizes_get(count: i32, size: i32)
            |ctx, memory| abi::environ_sizes_get(&mut ctx.stock, memory, count, size);
        clock_res_get(id: i32, out: i32)
            |ctx, memory| abi::clock_res_get(&mut ctx.stock, memory, id, out);
        clock_time_get(id: i32, precision: i64, out: i32)
            |ctx, memory| abi::clock_time_get(&mut ctx.stock, memory, id, precision, out);
        random_get(buf: i32, len: i32)
            |ctx, memory| abi::random_get(&mut ctx.stock, memory, buf, len);
        proc_raise(signal: i32)
            |ctx, memory| abi::proc_raise(&mut ctx.stock, memory, signal);
        sched_yield()
            |ctx, memory| abi::sched_yield(&mut ctx.stock, memory);
        sock_recv(fd: i32, _data: i32, _count: i32, flags: i32, _size: i32, _out: i32) |ctx, _memory|
            answer(argument::<types::Riflags, _>(flags).and_then(|_| ctx.not_a_socket(fd)));
        sock_send(fd: i32, _data: i32, _count: i32, _flags: i32, _size: i32) |ctx, _memory|
            answer(ctx.not_a_socket(fd));
        sock_shutdown(fd: i32, how: i32) |ctx, _memory|
            answer(argument::<types::Sdflags, _>(how).and_then(|_| ctx.not_a_socket(fd)));
    }
    add_plain_by_descriptor(linker, module, exports, get)?;
    // wasmtime-wasi refuses a status above 125; a process may exit with any.
    linker.func_wrap(
        module,
        "proc_exit",
        |_: Caller<'_, T>, status: i32| -> wasmtime::Result<()> { Err(I32Exit(status).into()) },
    )?;
    Ok(())
}

/// Defines functions that never wait, answered by whom the descriptor `fd` is.
macro_rules! define_plain_by_descriptor {
    ($linker:ident, $module:expr, $exports:ident, $get:ident; $($name:ident ($fd:ident: i32 $(, $arg:ident: $type:ty)*);)+) => {
        define_plain! { $linker, $module, $exports, $get;
            $($name($fd: i32 $(, $arg: $type)*) |ctx, memory| {
                if ctx.is_host($fd)? {
                    let $fd = ctx.theirs($fd);
                    abi::$name(&mut ctx.stock, memory, $fd $(, $arg)*)
                } else {
                    answer(ctx.$name(&mut CallMemory(memory), $fd $(, $arg)*))
                }
            };)+
        }
    };
}

fn add_plain_by_descriptor<T: Send + 'static>(
    linker: &mut Linker<T>,
    module: &str,
    exports: &Exports,
    get: impl Fn(&mut T) -> &mut Ctx + Copy + Send + Sync + 'static,
) -> wasmtime::Result<()> {
    define_plain_by_descriptor! { linker, module, exports, get;
        fd_allocate(fd: i32, offset: i64, len: i64);
        fd_fdstat_set_flags(fd: i32, flags: i32);
        fd_fdstat_set_rights(fd: i32, rights: i64, inheriting: i64);
        fd_prestat_get(fd: i32, out: i32);
        fd_prestat_dir_name(fd: i32, path: i32, len: i32);
        fd_tell(fd: i32, out: i32);
    }
    Ok(())
}
