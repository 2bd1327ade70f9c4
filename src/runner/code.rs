//! A guest's compiled code: made from its bytes, or mapped from a file. One of
//! three places with unsafe code.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::GuestKind;

pub(super) enum Code {
    Core(Module),
    Component(Component),
}

impl Code {
    /// Compiles a guest. Takes seconds for a large one.
    pub(super) fn compile(engine: &Engine, kind: GuestKind, wasm: &[u8]) -> wasmtime::Result<Self> {
        let code = match kind {
            GuestKind::Core => Self::Core(Module::from_binary(engine, wasm)?),
            GuestKind::Component | GuestKind::AsyncComponent => {
                Self::Component(Component::from_binary(engine, wasm)?)
            }
        };
        code.prepared()
    }

    /// Maps the code of a guest of this kind from a file that
    /// [`serialize`](Self::serialize) gave. Code that is not run takes no memory, and
    /// processes that map one file share what they run.
    ///
    /// wasmtime believes what it maps: other bytes could do anything. Only files
    /// of the cache may come here, whose seal has just been checked, in a directory
    /// that nobody but this user can write to. No process of stratafs changes
    /// such a file: it writes another one and renames it.
    ///
    /// # Errors
    ///
    /// What wasmtime says of code that another version compiled or for other
    /// settings, or that the engine's allocator has no room for.
    #[allow(unsafe_code, reason = "wasmtime cannot check the code that it maps")]
    pub(super) fn load(engine: &Engine, kind: GuestKind, file: &Path) -> wasmtime::Result<Self> {
        let code = match kind {
            // SAFETY: by its seal, the file holds what `Module::serialize` gave.
            GuestKind::Core => Self::Core(unsafe { Module::deserialize_file(engine, file) }?),
            GuestKind::Component | GuestKind::AsyncComponent => {
                // SAFETY: by its seal, it holds what `Component::serialize` gave.
                Self::Component(unsafe { Component::deserialize_file(engine, file) }?)
            }
        };
        code.prepared()
    }

    /// Makes ready what the first instance would have to wait for.
    fn prepared(self) -> wasmtime::Result<Self> {
        match &self {
            Self::Core(module) => module.initialize_copy_on_write_image()?,
            Self::Component(component) => component.initialize_copy_on_write_image()?,
        }
        Ok(self)
    }

    /// Returns the code as a file that [`load`](Self::load) maps.
    pub(super) fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Core(module) => module.serialize(),
            Self::Component(component) => component.serialize(),
        }
    }
}
