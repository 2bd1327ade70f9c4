//! The functions that stand in front of a guest's imports and look whether a call is the point.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use wasmtime::{AsContextMut, Caller, Extern, Func, FuncType, Linker, Module, Ref, Store, Val};

use super::capture::{StoppedCall, plain, unused};
use super::watch::ImportCall;
use crate::checkpoint::{PREFIX, Refusal, export, exported};

/// What the functions in front of the imports have in common.
#[derive(Default)]
pub(super) struct WatchState {
    /// Whether a call is made that can be left.
    pub(super) is_called: AtomicBool,
    /// How many functions of the host are at work for the guest.
    depth: AtomicU32,
    pub(super) stopped: Mutex<Option<StoppedCall>>,
    /// Whether the stack was left, once and for all.
    pub(super) has_left: AtomicBool,
}

/// Decides whether a call is the point.
pub(super) type IsPoint<T> = dyn Fn(&mut Caller<'_, T>, ImportCall<'_>) -> bool + Send + Sync;

/// One import, and who is asked at its calls.
pub(super) struct WatchedImport<T: 'static> {
    number: u32,
    module: String,
    name: String,
    ty: FuncType,
    /// The function of the host.
    own: Func,
    /// What calls that as the guest would, once the guest is there.
    calling: OnceLock<Func>,
    count: AtomicU64,
    is_point: Arc<IsPoint<T>>,
    state: Arc<WatchState>,
}

pub(super) struct WatchedImports<T: 'static> {
    pub(super) imports: Vec<WatchedImport<T>>,
    pub(super) state: Arc<WatchState>,
}

/// Finds the functions that the module imports, in its order.
pub(super) fn watch_all<T: 'static>(
    store: &mut Store<T>,
    module: &Module,
    linker: &Linker<T>,
    is_point: Arc<IsPoint<T>>,
) -> wasmtime::Result<WatchedImports<T>> {
    let state = Arc::<WatchState>::default();
    let mut imports = Vec::new();
    for (number, import) in (0..).zip(module.imports()) {
        let (of, name) = (import.module(), import.name());
        let own = linker.get(&mut *store, of, name);
        let own = own.map_err(|error| {
            error.context(format!(
                "the linker has no `{of}::{name}`, which the guest imports"
            ))
        })?;
        let Extern::Func(own) = own else {
            wasmtime::bail!("`{of}::{name}` is no function");
        };
        imports.push(WatchedImport {
            number,
            module: of.to_owned(),
            name: name.to_owned(),
            ty: own.ty(&*store),
            own,
            calling: OnceLock::new(),
            count: AtomicU64::new(0),
            is_point: Arc::clone(&is_point),
            state: Arc::clone(&state),
        });
    }
    Ok(WatchedImports { imports, state })
}

/// Makes a function that calls the host's, unless the call is the point.
pub(super) fn watch<T: 'static>(store: &mut Store<T>, import: WatchedImport<T>) -> Func {
    Func::new(
        &mut *store,
        import.ty.clone(),
        move |mut caller, arguments, results| {
            if import.stops(&mut caller, arguments, results)? {
                return Ok(());
            }
            let calling = import.calling(&mut caller)?;
            let _at_work = AtWork::new(&import.state);
            calling.call(&mut caller, arguments, results)
        },
    )
}

pub(super) fn watch_async<T: Send + 'static>(
    store: &mut Store<T>,
    import: WatchedImport<T>,
) -> Func {
    let (ty, import) = (import.ty.clone(), Arc::new(import));
    Func::new_async(&mut *store, ty, move |mut caller, arguments, results| {
        let import = Arc::clone(&import);
        Box::new(async move {
            if import.stops(&mut caller, arguments, results)? {
                return Ok(());
            }
            let calling = import.calling(&mut caller)?;
            let _at_work = AtWork::new(&import.state);
            calling.call_async(&mut caller, arguments, results).await
        })
    })
}

/// A function of the host is at work.
struct AtWork<'s>(&'s WatchState);

impl<'s> AtWork<'s> {
    fn new(state: &'s WatchState) -> Self {
        state.depth.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: 'static> WatchedImport<T> {
    /// Has the guest leave its stack if the call is the point, and says whether it is.
    fn stops(
        &self,
        caller: &mut Caller<'_, T>,
        arguments: &[Val],
        results: &mut [Val],
    ) -> wasmtime::Result<bool> {
        let nth = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let depth = self.state.depth.load(Ordering::Relaxed);
        let can_stop = depth == 0 && self.state.is_called.load(Ordering::Relaxed);
        let call = ImportCall {
            module: &self.module,
            name: &self.name,
            nth,
            arguments,
            can_stop,
        };
        if !(self.is_point)(caller, call) {
            return Ok(false);
        }
        let leaving = format!("{PREFIX}{}", export::LEAVING);
        let leaving = caller.get_export(&leaving).and_then(Extern::into_global);
        let Some(leaving) = leaving.filter(|_| can_stop) else {
            let refusal = Refusal::of_call(&format!(
                "call {nth} of `{}::{}` is made by a start function, or while the host is at work for the guest: the stack of the host cannot be left",
                self.module, self.name
            ));
            return Err(wasmtime::Error::new(refusal));
        };
        for (result, ty) in results.iter_mut().zip(self.ty.results()) {
            let value = unused(caller.as_context_mut(), &ty).ok_or_else(|| {
                let refusal = Refusal::of_call(&format!(
                    "call {nth} of `{}::{}` gives a reference to an object that is never null: no other stands for it while the stack is left",
                    self.module, self.name
                ));
                wasmtime::Error::new(refusal)
            })?;
            *result = value;
        }
        leaving.set(caller.as_context_mut(), Val::I32(1))?;
        self.state.has_left.store(true, Ordering::Relaxed);
        *self.state.stopped.lock() = Some(StoppedCall {
            import: self.number,
            arguments: arguments
                .iter()
                .map(|argument| plain(&*caller, argument))
                .collect(),
            name: self.name.clone(),
            nth,
        });
        Ok(true)
    }

    /// Returns what calls the host's function as the guest would: a function of the guest's
    /// own, so that the host finds the guest's exports. The host's function itself if the
    /// guest does not call.
    fn calling(&self, caller: &mut Caller<'_, T>) -> wasmtime::Result<Func> {
        if let Some(calling) = self.calling.get() {
            return Ok(*calling);
        }
        let owned = format!("{PREFIX}{}", export::OWNED);
        let table = caller.get_export(&owned).and_then(Extern::into_table);
        let calling = caller.get_export(&exported(export::CALL, self.number));
        let calling = calling.and_then(Extern::into_func);
        let (Some(table), Some(calling)) = (table, calling) else {
            return Ok(self.own);
        };
        table.set(
            caller.as_context_mut(),
            self.number.into(),
            Ref::Func(Some(self.own)),
        )?;
        Ok(*self.calling.get_or_init(|| calling))
    }
}
