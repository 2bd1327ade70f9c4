//! A guest program as bytes, and what kind of guest the bytes are.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use wasmparser::{CanonicalFunction, CanonicalOption, Encoding, Parser, Payload};

use super::RunnerError;

/// The export that makes a core module a command.
pub(super) const CORE_ENTRY: &str = "_start";

/// A guest program: WebAssembly, told apart by its bytes.
///
/// ```
/// use stratafs::runner::{Guest, GuestKind};
///
/// let command = Guest::from_bytes("command.wat", "(module)")?;
/// let component = Guest::from_bytes("component.wat", "(component)")?;
/// assert_eq!((command.kind(), component.kind()), (GuestKind::Core, GuestKind::Component));
/// let error = Guest::from_bytes("notes.txt", "two words").unwrap_err();
/// assert!(error.to_string().contains("notes.txt"));
/// # Ok::<(), stratafs::runner::RunnerError>(())
/// ```
#[derive(Clone)]
pub struct Guest {
    name: String,
    wasm: Vec<u8>,
    kind: GuestKind,
}

/// A guest that is compiled unless its code is at hand: its bytes may lie elsewhere until then.
pub(super) trait GuestSource {
    /// Returns the name for messages.
    fn name(&self) -> &str;

    /// Returns what the guest speaks.
    fn kind(&self) -> GuestKind;

    /// Returns what stands for the guest among compiled ones: no other guest has the same.
    fn identity(&self) -> Cow<'_, [u8]>;

    /// Returns the guest, with its bytes.
    fn guest(&self) -> Result<Cow<'_, Guest>, RunnerError>;
}

impl GuestSource for Guest {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> GuestKind {
        self.kind
    }

    fn identity(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.wasm)
    }

    fn guest(&self) -> Result<Cow<'_, Guest>, RunnerError> {
        Ok(Cow::Borrowed(self))
    }
}

/// What a guest speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuestKind {
    /// A core module: WASI preview1.
    Core,
    /// A component: WASI 0.2.
    Component,
    /// A component that uses WASI 0.3 or the asynchronous component model, alone or
    /// beside 0.2.
    AsyncComponent,
}

impl Guest {
    /// Takes a binary, or a text that becomes one. A `Vec` with a binary is not
    /// copied. `name` is for messages.
    ///
    /// # Errors
    /// [`RunnerError::NotWasm`] if the bytes are neither.
    pub fn from_bytes(
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self, RunnerError> {
        Self::from_vec(name.into(), bytes.into())
    }

    fn from_vec(name: String, bytes: Vec<u8>) -> Result<Self, RunnerError> {
        let text = match wat::parse_bytes(&bytes) {
            Ok(Cow::Owned(wasm)) => Some(wasm),
            Ok(Cow::Borrowed(_)) => None,
            Err(error) => return Err(not_text(name, &bytes, &error)),
        };
        let wasm = text.unwrap_or(bytes);
        let kind = kind_of(&name, &wasm)?;
        Ok(Self { name, wasm, kind })
    }

    /// Reads a guest from a file of the host.
    ///
    /// # Errors
    /// [`RunnerError::Read`], and those of [`Self::from_bytes`].
    pub fn from_file(path: &Path) -> Result<Self, RunnerError> {
        let bytes = std::fs::read(path).map_err(|source| RunnerError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::from_vec(path.display().to_string(), bytes)
    }

    /// Returns the name for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the WebAssembly binary.
    #[must_use]
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// Returns what the guest speaks.
    #[must_use]
    pub fn kind(&self) -> GuestKind {
        self.kind
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Guest({:?}, {:?}, {} bytes)",
            self.name,
            self.kind,
            self.wasm.len()
        )
    }
}

/// Says on one line why bytes without the magic number are no text either.
fn not_text(name: String, bytes: &[u8], error: &wat::Error) -> RunnerError {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim);
    let what = lines.next().unwrap_or_default();
    let place = lines.find_map(|line| line.strip_prefix("--> <anon>:"));
    let reason = match (std::str::from_utf8(bytes), place) {
        (Err(_), _) => "neither a binary (it does not start with \\0asm) nor a text".to_owned(),
        (Ok(_), Some(place)) => format!("{what} at {place}"),
        (Ok(_), None) => what.to_owned(),
    };
    RunnerError::NotWasm { name, reason }
}

/// Returns whether a canonical function is one of the asynchronous component model.
fn is_async(function: &CanonicalFunction) -> bool {
    match function {
        CanonicalFunction::Lift { options, .. } | CanonicalFunction::Lower { options, .. } => {
            options.contains(&CanonicalOption::Async)
        }
        CanonicalFunction::ResourceNew { .. }
        | CanonicalFunction::ResourceDrop { .. }
        | CanonicalFunction::ResourceRep { .. } => false,
        _ => true,
    }
}

fn is_wasi_3(interface: &str) -> bool {
    interface.starts_with("wasi:") && interface.contains("@0.3.")
}

/// Reads headers, imports and exports.
fn kind_of(name: &str, wasm: &[u8]) -> Result<GuestKind, RunnerError> {
    let not_wasm = |error: wasmparser::BinaryReaderError| RunnerError::NotWasm {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    let mut kind = GuestKind::Core;
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(not_wasm)? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } if depth == 0 => {
                kind = GuestKind::Component;
            }
            // A core module has no nested parts, and its code is long.
            Payload::ImportSection(_) if depth == 0 => return Ok(GuestKind::Core),
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    if is_async(&function.map_err(not_wasm)?) {
                        kind = GuestKind::AsyncComponent;
                    }
                }
            }
            Payload::ComponentImportSection(imports) if depth == 0 => {
                for import in imports {
                    if is_wasi_3(import.map_err(not_wasm)?.name.name) {
                        kind = GuestKind::AsyncComponent;
                    }
                }
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                for export in exports {
                    if is_wasi_3(export.map_err(not_wasm)?.name.name) {
                        kind = GuestKind::AsyncComponent;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<GuestKind, String> {
        Guest::from_bytes("g", text.as_bytes())
            .map(|g| g.kind())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn bytes_tell_the_kind() {
        assert_eq!(kind("(module)"), Ok(GuestKind::Core));
        assert_eq!(
            kind("(module (import \"a\" \"b\" (func)))"),
            Ok(GuestKind::Core)
        );
        assert_eq!(kind("(component)"), Ok(GuestKind::Component));
        assert_eq!(
            kind("(component (core module (import \"a\" \"b\" (func))))"),
            Ok(GuestKind::Component)
        );
        let two = r#"(component (component) (import "wasi:io/poll@0.2.6" (instance)))"#;
        assert_eq!(kind(two), Ok(GuestKind::Component));
    }

    #[test]
    fn wasi_3_among_the_imports_or_exports_tells_too() {
        for version in ["0.3.0", "0.3.2", "0.3.0-rc-2025-09-16"] {
            let three = format!(
                r#"(component (component) (core module)
                    (import "wasi:io/poll@0.2.6" (instance))
                    (import "wasi:cli/environment@{version}" (instance $e))
                    (export "x" (instance $e)))"#
            );
            assert_eq!(kind(&three), Ok(GuestKind::AsyncComponent));
            let out = format!(
                r#"(component (import "x" (instance $x)) (export "wasi:cli/run@{version}" (instance $x)))"#
            );
            assert_eq!(kind(&out), Ok(GuestKind::AsyncComponent));
        }
        // Somebody else's package may count as it likes.
        let other = r#"(component (import "mine:own/thing@0.3.0" (instance)))"#;
        assert_eq!(kind(other), Ok(GuestKind::Component));
    }

    #[test]
    fn other_bytes_are_refused_on_one_line() {
        for bytes in [
            &b"\x7fELF\xff"[..],
            b"(module",
            b"hello",
            b"\0asm\x09\0\0\0",
            b"\0as",
            b"\0asm",
        ] {
            let error = Guest::from_bytes("g.wasm", bytes).unwrap_err().to_string();
            assert!(error.starts_with("g.wasm: not WebAssembly: "), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
