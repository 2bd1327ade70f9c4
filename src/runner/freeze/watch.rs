//! Freezing for hosts that have a linker and data of their own: the steps of
//! [`freeze`](super::freeze), one by one.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use wasmtime::WasmBacktrace;
use wasmtime::{Caller, Extern, FrameInfo, Func, Instance, Linker, Module, Store, Trap, Val};

use super::capture::{self, StoppedCall};
use super::import::{WatchState, watch, watch_all, watch_async};
use super::{Checkpoint, CheckpointInfo, FreezeError, FrozenFiles, GuestTold};
use crate::checkpoint::{CallGraph, CodeFeatures, CoreModule, Refusal, features, leavable_module};
use crate::digest::Digest;
use crate::limits::MAX_FRAME_PAGES;
use crate::runner::Outcome;
use crate::vfs::Fs;
use crate::wasi::p1::Ctx;

/// A program in a build that can leave its stack at any call of an import.
///
/// A host that has a linker and store data of its own freezes a guest in these steps, and
/// compiles and links everything itself:
///
/// 1. It compiles [`module`](Self::module) in place of the program.
/// 2. [`instantiate`](Self::instantiate) links that to the host's own functions, each behind a
///    look at whether the call is the one to freeze at.
/// 3. [`WatchedInstance::call`] calls an export, up to that call or to its end.
/// 4. [`StoppedInstance::bake`] writes the module that goes on from there. Any linker that
///    has the program's imports instantiates it, any number of times; its export of the
///    same name takes no arguments and makes the call at the point first.
///    [`StoppedInstance::checkpoint`] takes the files of the guest as well.
///
/// What the guest has open is kept and opened again by
/// [`FrozenFiles`](super::FrozenFiles), or forked in one go by
/// [`Ctx::fork`](crate::wasi::p1::Ctx::fork). What the host keeps for the guest besides is the host's
/// to keep. The engine needs what the program needs, and several memories and tables.
///
/// ```
/// use stratafs::runner::freeze::{Called, FreezableModule};
/// use stratafs::runner::Guest;
/// use wasmtime::{Engine, Linker, Module, Store};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = r#"(module (import "own" "next" (func $next (result i32)))
///   (func (export "sum") (result i32) (i32.add (call $next) (call $next))))"#;
/// let guest = Guest::from_bytes("sum", text)?;
/// let engine = Engine::default();
/// let mut linker = Linker::new(&engine);
/// linker.func_wrap("own", "next", |mut caller: wasmtime::Caller<'_, i32>| {
///     *caller.data_mut() += 1;
///     *caller.data()
/// })?;
///
/// let wasm = guest.wasm()?;
/// let program = FreezableModule::new(&wasm)?;
/// let module = Module::new(&engine, program.module())?;
/// let mut store = Store::new(&engine, 0);
/// let watched = program.instantiate(&mut store, &module, &linker, |_, call| call.nth == 2)?;
/// let mut results = [wasmtime::Val::I32(0)];
/// let Called::Stopped(stopped) = watched.call(&mut store, "sum", &[], &mut results)? else {
///     panic!("it calls twice");
/// };
/// let frozen = stopped.bake(&mut store)?;
///
/// let module = Module::new(&engine, frozen.bytes())?;
/// for first in [10, 20] {
///     let mut store = Store::new(&engine, first);
///     let instance = linker.instantiate(&mut store, &module)?;
///     let sum = instance.get_typed_func::<(), i32>(&mut store, "sum")?;
///     // One from before the point, and one from behind it.
///     assert_eq!(sum.call(&mut store, ())?, 1 + first + 1);
/// }
/// # Ok(())
/// # }
/// ```
pub struct FreezableModule<'p> {
    program: CoreModule<'p>,
    /// What is known of its code once that was read.
    code: OnceLock<Result<CodeRead, Refusal>>,
    /// The build that [`new`](Self::new) wrote; empty otherwise.
    module: Vec<u8>,
}

struct CodeRead {
    reach: CallGraph,
    features: CodeFeatures,
}

/// A call of an import, which a host may freeze its guest at.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ImportCall<'c> {
    /// The module of the import, such as `wasi_snapshot_preview1`.
    pub module: &'c str,
    /// Its name there.
    pub name: &'c str,
    /// Which call of this import it is, counted from 1.
    pub nth: u64,
    /// What the guest passes.
    pub arguments: &'c [Val],
    /// Whether the guest can be frozen here. It cannot in a start function, in a call of the
    /// host's that is none of [`WatchedInstance::call`], and in one that the host makes
    /// while the guest waits for it: the stack of the host cannot be left.
    pub can_stop: bool,
}

/// An instance whose calls of imports are watched.
pub struct WatchedInstance<'w> {
    program: &'w FreezableModule<'w>,
    instance: Instance,
    state: Arc<WatchState>,
}

/// How a call of a [`WatchedInstance`] ended.
#[derive(Debug)]
pub enum Called<'w> {
    /// It came back, with its results.
    Returned,
    /// The guest stands at the point. Its results are not known yet.
    Stopped(StoppedInstance<'w>),
}

/// An instance that has left its stack. It is of no use but to be [baked](Self::bake).
pub struct StoppedInstance<'w> {
    program: &'w FreezableModule<'w>,
    instance: Instance,
    entry: String,
    call: StoppedCall,
}

/// The module that goes on from where a guest was stopped.
#[derive(Clone)]
pub struct FrozenModule {
    bytes: Vec<u8>,
    point: String,
    program: Digest,
    frames: usize,
    memory_bytes: u64,
    features: Vec<&'static str>,
}

impl<'p> FreezableModule<'p> {
    /// Reads a core module in its binary form and writes the build that can leave its stack.
    /// O(size of the code).
    ///
    /// # Errors
    /// [`Refusal`] for a module that is not valid, and for what cannot be frozen wherever it
    /// stands: imported memories, tables and globals, and memories that threads share.
    pub fn new(wasm: &'p [u8]) -> Result<Self, Refusal> {
        let program = CoreModule::parse(wasm)?;
        let code = CodeRead::of(&program, CallGraph::with_host(&program)?)?;
        let module = leavable_module(&program, &code.reach)?;
        Ok(Self {
            program,
            code: OnceLock::from(Ok(code)),
            module,
        })
    }

    /// Takes a program that is offered functions of WASI alone, which change no tables. Its code
    /// is read when something of it is needed.
    pub(super) fn of(program: CoreModule<'p>) -> Self {
        Self {
            program,
            code: OnceLock::new(),
            module: Vec::new(),
        }
    }

    /// Reads the code, if nobody has.
    pub(super) fn read_code(&self) -> Result<(), Refusal> {
        self.code().map(drop)
    }

    /// Writes the build for a program that it was not written for by [`new`](Self::new).
    pub(super) fn write(&self) -> Result<Vec<u8>, Refusal> {
        leavable_module(&self.program, &self.code()?.reach)
    }

    fn code(&self) -> Result<&CodeRead, Refusal> {
        let read = self.code.get_or_init(|| {
            let reach = CallGraph::find(&self.program)?;
            CodeRead::of(&self.program, reach)
        });
        read.as_ref().map_err(Refusal::clone)
    }

    /// Returns the build that is compiled in place of the program: it has the program's imports
    /// and exports, and exports of its own whose names begin with `stratafs.checkpoint/`.
    #[must_use]
    pub fn module(&self) -> &[u8] {
        &self.module
    }

    /// Links the build to the functions of `linker` and makes an instance of it. `is_point` is
    /// asked before each call of an import; at the first one that it says `true` to, the
    /// guest is stopped, and the call is not made.
    ///
    /// The functions are called as if by the guest itself: they find its exports. `module` has
    /// to be what the engine makes of [`module`](Self::module).
    ///
    /// # Errors
    /// Those of [`Linker::get`] for an import that the linker lacks, which is named; those of
    /// [`Instance::new`].
    pub fn instantiate<T: 'static>(
        &self,
        store: &mut Store<T>,
        module: &Module,
        linker: &Linker<T>,
        is_point: impl Fn(&mut Caller<'_, T>, ImportCall<'_>) -> bool + Send + Sync + 'static,
    ) -> wasmtime::Result<WatchedInstance<'_>> {
        let watched = watch_all(store, module, linker, Arc::new(is_point))?;
        let imports: Vec<Extern> = watched
            .imports
            .into_iter()
            .map(|import| watch(store, import).into())
            .collect();
        let instance = Instance::new(&mut *store, module, &imports)?;
        Ok(WatchedInstance {
            program: self,
            instance,
            state: watched.state,
        })
    }

    /// Makes an instance likewise, with a linker that has asynchronous functions.
    ///
    /// # Errors
    /// Those of [`instantiate`](Self::instantiate) and of [`Instance::new_async`].
    pub async fn instantiate_async<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        module: &Module,
        linker: &Linker<T>,
        is_point: impl Fn(&mut Caller<'_, T>, ImportCall<'_>) -> bool + Send + Sync + 'static,
    ) -> wasmtime::Result<WatchedInstance<'_>> {
        let linked = self.link_async(store, module, linker, is_point)?;
        linked.instantiate(self, store, module).await
    }

    /// The first half of [`instantiate_async`](Self::instantiate_async): nothing of the guest runs.
    pub(super) fn link_async<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        module: &Module,
        linker: &Linker<T>,
        is_point: impl Fn(&mut Caller<'_, T>, ImportCall<'_>) -> bool + Send + Sync + 'static,
    ) -> wasmtime::Result<LinkedImports> {
        let watched = watch_all(store, module, linker, Arc::new(is_point))?;
        let imports = watched.imports.into_iter();
        Ok(LinkedImports {
            imports: imports
                .map(|import| watch_async(store, import).into())
                .collect(),
            state: watched.state,
        })
    }
}

impl CodeRead {
    fn of(program: &CoreModule<'_>, reach: CallGraph) -> Result<Self, Refusal> {
        // What goes on from one that went on already has fewer of its functions.
        let features = match program.origin {
            None => CodeFeatures::of(program.defined.iter().map(|defined| &defined.body))?,
            Some(_) => CodeFeatures::default(),
        };
        Ok(Self { reach, features })
    }
}

/// Imports that are watched, as the engine takes them.
pub(super) struct LinkedImports {
    imports: Vec<Extern>,
    state: Arc<WatchState>,
}

impl LinkedImports {
    pub(super) async fn instantiate<'w, T: Send + 'static>(
        self,
        program: &'w FreezableModule<'w>,
        store: &mut Store<T>,
        module: &Module,
    ) -> wasmtime::Result<WatchedInstance<'w>> {
        Ok(WatchedInstance {
            program,
            instance: Instance::new_async(&mut *store, module, &self.imports).await?,
            state: self.state,
        })
    }
}

impl<'w> WatchedInstance<'w> {
    /// Returns the instance, for all that a host does with one.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Calls an export up to the point, or to its end.
    ///
    /// # Errors
    /// Those of [`Func::call`]; a [`Refusal`], which `downcast_ref` finds in the error, if there is
    /// no such export, if a function on the stack cannot be left, or if the instance has left its
    /// stack before.
    pub fn call<T: 'static>(
        &self,
        store: &mut Store<T>,
        entry: &str,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<Called<'w>> {
        let function = self.begin(store, entry)?;
        let ended = function.call(&mut *store, params, results);
        self.end(entry, ended)
    }

    /// Calls an export likewise, of an instance with asynchronous functions.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub async fn call_async<T: Send + 'static>(
        &self,
        store: &mut Store<T>,
        entry: &str,
        params: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<Called<'w>> {
        let function = self.begin(store, entry)?;
        let ended = function.call_async(&mut *store, params, results).await;
        self.end(entry, ended)
    }

    fn begin<T: 'static>(&self, store: &mut Store<T>, entry: &str) -> wasmtime::Result<Func> {
        if self.state.has_left.load(Ordering::Relaxed) {
            let refusal =
                Refusal::of_call("the instance has left its stack: bake what was stopped");
            return Err(wasmtime::Error::new(refusal));
        }
        let found = self.instance.get_func(&mut *store, entry);
        let function = found.ok_or_else(|| {
            let refusal = Refusal::of_call(&format!("the guest exports no function {entry:?}"));
            wasmtime::Error::new(refusal)
        })?;
        self.state.is_called.store(true, Ordering::Relaxed);
        Ok(function)
    }

    fn end(&self, entry: &str, ended: wasmtime::Result<()>) -> wasmtime::Result<Called<'w>> {
        self.state.is_called.store(false, Ordering::Relaxed);
        let Some(call) = self.state.stopped.lock().take() else {
            return ended.map(|()| Called::Returned);
        };
        if let Err(error) = ended {
            let refusal = cannot_leave(&self.program.program, &error);
            return Err(wasmtime::Error::new(refusal));
        }
        Ok(Called::Stopped(StoppedInstance {
            program: self.program,
            instance: self.instance,
            entry: entry.to_owned(),
            call,
        }))
    }
}

/// Says which function could not be left, where it starts in the program, and why.
fn cannot_leave(program: &CoreModule<'_>, error: &wasmtime::Error) -> Refusal {
    let why = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => {
            "it gives a reference to an object that is never null, which cannot be made again"
                .to_owned()
        }
        Some(Trap::MemoryOutOfBounds) => format!(
            "the frames of the stack take more than {} bytes, or more than the guest may have",
            MAX_FRAME_PAGES << 16
        ),
        _ => Outcome::of_error(error).to_string(),
    };
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let frame = backtrace.and_then(|backtrace| backtrace.frames().first());
    // The build has the program's functions under their own numbers.
    let function = frame.map(FrameInfo::func_index);
    let defined = function.and_then(|function| program.defined(function).ok());
    Refusal {
        function,
        name: frame.and_then(|frame| frame.func_name().map(str::to_owned)),
        offset: defined.map(|defined| defined.body.range().start),
        ..Refusal::of_leaving(&why)
    }
}

impl StoppedInstance<'_> {
    /// Reads what the instance is, its memories, globals, tables and frames, and writes the
    /// module that goes on from there.
    ///
    /// # Errors
    /// [`Refusal`] for what cannot be made again, such as a reference to an object of the
    /// host in a local, with its place.
    pub fn bake<T: 'static>(&self, store: &mut Store<T>) -> Result<FrozenModule, Refusal> {
        let code = self.program.code()?;
        let program = (&self.program.program, &code.reach);
        let captured = capture::capture(store, self.instance, program, (&self.call, &self.entry))?;
        let features = features(&captured.module, &code.features)?;
        Ok(FrozenModule {
            bytes: captured.module,
            point: format!("call:{}:{}", self.call.name, self.call.nth),
            program: captured.program,
            frames: captured.frames,
            memory_bytes: captured.memory_bytes,
            features,
        })
    }

    /// Takes all of the guest: its module, as [`bake`](Self::bake) does, and its files, as
    /// [`FrozenFiles::of`] does. `fs` is its file system, `ctx` finds its table of descriptors in what
    /// the host keeps for it; the last is what it knows from its host.
    ///
    /// # Errors
    /// Those of [`bake`](Self::bake) and of [`FrozenFiles::of`].
    pub fn checkpoint<T: 'static>(
        &self,
        store: &mut Store<T>,
        fs: &Fs,
        ctx: impl FnOnce(&mut T) -> &mut Ctx,
        guest: GuestTold,
    ) -> Result<Checkpoint, FreezeError> {
        let module = self.bake(store)?;
        let files = FrozenFiles::of(ctx(store.data_mut()), fs)?;
        Ok(Checkpoint::of(module, files, guest))
    }
}

impl FrozenModule {
    /// Returns what is known of the point, with what the clocks read there.
    pub(super) fn info(
        &self,
        (monotonic_ns, wall_ns): (u64, u64),
        random_calls: u64,
    ) -> CheckpointInfo {
        CheckpointInfo {
            point: self.point.clone(),
            program_digest: self.program,
            frames: self.frames,
            memory_bytes: self.memory_bytes,
            own_bytes: self.bytes.len() as u64,
            monotonic_ns,
            wall_ns,
            features: self
                .features
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            random_calls,
            needed_dirs: Vec::new(),
            changed_volumes: Vec::new(),
        }
    }

    /// Returns the module: a program with the imports of the one that was frozen.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the module without copying it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns how many functions were on the stack.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Returns the bytes of the program's memories.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

impl fmt::Debug for FreezableModule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreezableModule")
            .field("program_bytes", &self.program.wasm.len())
            .field("module_bytes", &self.module.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchedInstance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedInstance")
            .field("has_left", &self.state.has_left)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoppedInstance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoppedInstance")
            .field("entry", &self.entry)
            .field("call", &self.call.name)
            .field("nth", &self.call.nth)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrozenModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenModule")
            .field("point", &self.point)
            .field("frames", &self.frames)
            .field("memory_bytes", &self.memory_bytes)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}
