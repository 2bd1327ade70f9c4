//! What is told of one instance: its calls, and what its descriptors were opened as.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use super::{Argument, CallResult, CallValue, Excerpt, FileCall, WasiVersion, WatchCalls};
use crate::limits::MAX_TRACED_PATH_BYTES;

/// Reports the calls of one instance, or none. Clones report those of the same one.
#[derive(Clone, Default)]
pub(in crate::runner) struct Tracer(Option<Arc<TracerInner>>);

struct TracerInner {
    instance: u32,
    watch: Arc<dyn WatchCalls>,
    /// What open descriptors are, as far as it was seen. The lock comes last.
    names: Mutex<HashMap<u32, Arc<str>>>,
}

/// A call that the guest waits for. Dropped before its end, it is told as one that
/// did not finish.
pub(super) struct Pending {
    tracer: Tracer,
    begun: Instant,
    version: WasiVersion,
    name: &'static str,
    pub(super) args: Vec<Argument>,
    bytes: Option<u64>,
    reported: bool,
}

impl Tracer {
    pub(in crate::runner) fn new(instance: u32, watch: Arc<dyn WatchCalls>) -> Self {
        Self(Some(Arc::new(TracerInner {
            instance,
            watch,
            names: Mutex::default(),
        })))
    }

    /// Returns whether calls are reported to anybody.
    pub(super) fn is_active(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a call.
    pub(super) fn begin(&self, version: WasiVersion, name: &'static str) -> Pending {
        Pending {
            tracer: self.clone(),
            begun: Instant::now(),
            version,
            name,
            args: Vec::new(),
            bytes: None,
            reported: false,
        }
    }

    /// A descriptor and its name, if that is known.
    pub(super) fn descriptor(&self, number: u32) -> CallValue {
        CallValue::Descriptor(number, self.name(number))
    }

    fn name(&self, number: u32) -> Option<Arc<str>> {
        self.0.as_ref()?.names.lock().get(&number).cloned()
    }

    /// Notes what a descriptor is.
    pub(in crate::runner) fn opened(&self, number: u32, name: &str) {
        let Some(inner) = &self.0 else { return };
        let name = name.get(..name.floor_char_boundary(MAX_TRACED_PATH_BYTES));
        let name = name.unwrap_or_default().into();
        inner.names.lock().insert(number, name);
    }

    /// Notes what a descriptor is that was opened below another.
    pub(super) fn opened_below(&self, dir: u32, path: &[u8], number: u32) {
        let above = self.name(dir);
        let mut name = above.as_deref().unwrap_or_default().to_owned();
        if matches!(path, b"" | b".") {
            return self.opened(number, &name);
        }
        if !name.is_empty() && !name.ends_with('/') {
            name.push('/');
        }
        name.push_str(&String::from_utf8_lossy(path));
        self.opened(number, &name);
    }

    pub(super) fn closed(&self, number: u32) {
        if let Some(inner) = &self.0 {
            inner.names.lock().remove(&number);
        }
    }

    pub(super) fn renumbered(&self, from: u32, to: u32) {
        let Some(inner) = &self.0 else { return };
        let mut names = inner.names.lock();
        match names.remove(&from) {
            Some(name) => names.insert(to, name),
            None => names.remove(&to),
        };
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer")
            .field("instance", &self.0.as_ref().map(|inner| inner.instance))
            .finish_non_exhaustive()
    }
}

impl Pending {
    /// Adds an argument.
    pub(super) fn arg(mut self, name: &'static str, value: CallValue) -> Self {
        self.args.push(Argument { name, value });
        self
    }

    pub(super) fn descriptor(self, name: &'static str, number: u32) -> Self {
        let value = self.tracer.descriptor(number);
        self.arg(name, value)
    }

    pub(super) fn number(self, name: &'static str, number: u64) -> Self {
        self.arg(name, CallValue::Number(number))
    }

    pub(super) fn path(self, name: &'static str, path: &str) -> Self {
        self.arg(name, CallValue::Path(Excerpt::path(path.as_bytes())))
    }

    pub(super) fn word(self, name: &'static str, word: String) -> Self {
        self.arg(name, CallValue::Word(word))
    }

    /// Says what an argument is now, which the call filled.
    pub(super) fn fill(&mut self, name: &'static str, value: CallValue) {
        if let Some(arg) = self.args.iter_mut().find(|arg| arg.name == name) {
            arg.value = value;
        }
    }

    /// Counts content that was moved.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.bytes = Some(bytes);
    }

    pub(super) fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Drops the call without a report.
    pub(super) fn forget(mut self) {
        self.reported = true;
    }

    /// Reports the call.
    pub(super) fn end(mut self, result: CallResult) {
        self.report(result);
    }

    fn report(&mut self, result: CallResult) {
        self.reported = true;
        let Some(inner) = &self.tracer.0 else { return };
        let call = FileCall {
            instance: inner.instance,
            version: self.version,
            name: self.name,
            args: std::mem::take(&mut self.args),
            result,
            bytes: self.bytes,
            elapsed: self.begun.elapsed(),
        };
        inner.watch.called(&call);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.reported {
            self.report(CallResult::Unfinished);
        }
    }
}
