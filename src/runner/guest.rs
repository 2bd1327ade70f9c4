//! A guest program as bytes, and what kind of guest the bytes are.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use wasmparser::{CanonicalFunction, CanonicalOption, Encoding, Parser, Payload};

use super::RunnerError;
use super::program_bytes::ProgramBytes;
use crate::digest::Digest;
use crate::image::Image;
use crate::path::IntoFsPath;
use crate::vfs::Fs;

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
    kind: GuestKind,
    program: ProgramBytes,
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
        let program = ProgramBytes::Held(wasm.into());
        Ok(Self {
            name,
            kind,
            program,
        })
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

    /// Finds a guest in a file of the host, whose bytes are read when they are needed: where a
    /// [`Runner`](super::Runner) finds its code in a cache they are not, and never held. The file is
    /// read once here, piece by piece, for its digest. What is no binary of a core module is
    /// read and held, as [`from_file`](Self::from_file) does.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file). Later, [`RunnerError::Read`] for a file that was changed
    /// since.
    pub fn in_file(path: &Path) -> Result<Self, RunnerError> {
        match ProgramBytes::in_file(path)? {
            Some(program) => Ok(Self::core(path.display().to_string(), program)),
            None => Self::from_file(path),
        }
    }

    /// Finds a guest in an image, whose bytes are read when they are needed: where a
    /// [`Runner`](super::Runner) finds its code in a cache they are not, and never held. What is no
    /// binary of a core module is read and held. Links are followed. `name` is for messages.
    ///
    /// ```
    /// use stratafs::image::Image;
    /// use stratafs::layer::Layer;
    /// use stratafs::runner::{Guest, RunnerError};
    ///
    /// let image = Image::new(&[Layer::builder().finish()?])?;
    /// let error = Guest::in_image("app:1", &image, "/app.wasm").unwrap_err();
    /// assert!(matches!(error, RunnerError::Unreadable { .. }));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`RunnerError::Unreadable`] if there is no such file or it cannot be read; those of
    /// [`from_bytes`](Self::from_bytes).
    pub fn in_image(
        name: impl Into<String>,
        image: &Image,
        path: impl IntoFsPath,
    ) -> Result<Self, RunnerError> {
        let name = name.into();
        let unreadable = |reason: String| RunnerError::Unreadable {
            name: name.clone(),
            reason,
        };
        let content = Fs::new(image).base_content(path);
        let content = content.map_err(|error| unreadable(error.to_string()))?;
        let program = ProgramBytes::in_content(content).map_err(unreadable)?;
        match program {
            ProgramBytes::Held(bytes) => Self::from_vec(name, bytes.into()),
            program => Ok(Self::core(name, program)),
        }
    }

    /// Makes a guest of a program that goes on from a point.
    #[cfg(feature = "freeze")]
    pub(super) fn made(name: String, wasm: Vec<u8>) -> Self {
        Self::core(name, ProgramBytes::Made(wasm.into()))
    }

    /// Makes a guest of a program that is known to be a core module.
    pub(super) fn core(name: String, program: ProgramBytes) -> Self {
        let kind = GuestKind::Core;
        Self {
            name,
            kind,
            program,
        }
    }

    /// Returns the name for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the WebAssembly binary. That of [`in_file`](Self::in_file) and
    /// [`in_image`](Self::in_image) is read each time.
    ///
    /// # Errors
    /// [`RunnerError::Read`] and [`RunnerError::Unreadable`] if it has to be read and cannot be, or
    /// is not what it was.
    pub fn wasm(&self) -> Result<Cow<'_, [u8]>, RunnerError> {
        self.program.read(&self.name)
    }

    /// Returns a digest that stands for the program: no other one has it. O(bytes) for a program
    /// that is held.
    ///
    /// What an image says of its files may be wrong. Whatever is kept for a program under its
    /// identity is to be made of its [bytes](Self::wasm), which are compared with it.
    #[must_use]
    pub fn identity(&self) -> Digest {
        self.program.identity()
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
            "Guest({:?}, {:?}, {:?})",
            self.name, self.kind, self.program
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
