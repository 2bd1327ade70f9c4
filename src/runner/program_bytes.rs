//! The bytes of a program: held, or read where they lie each time they are needed.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::RunnerError;
use crate::chunk::{Content, digest_of_bytes};
use crate::digest::Digest;

/// How each binary of a core module begins.
const CORE_MAGIC: [u8; 8] = *b"\0asm\x01\0\0\0";

/// Bytes of a file that are read at a time for its digest.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Clone)]
pub(super) enum ProgramBytes {
    Held(Bytes),
    /// A file of the host that has this digest.
    File {
        path: PathBuf,
        digest: Digest,
    },
    /// A file of an image, which says what digest it has.
    Content(Content),
    /// One that goes on from a point, which was made here.
    #[cfg(feature = "freeze")]
    Made(Bytes),
    /// The same in an image, whose state says what digest the bytes have.
    #[cfg(feature = "freeze")]
    Frozen {
        content: Content,
        digest: Digest,
        /// Where it lies there, for messages.
        place: &'static str,
    },
}

impl ProgramBytes {
    /// Finds a program in a file; `None` if it is no binary of a core module.
    pub(super) fn in_file(path: &Path) -> Result<Option<Self>, RunnerError> {
        let failed = |source| RunnerError::Read {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut hasher = blake3::Hasher::new();
        let mut first = read_full(&mut file, &mut piece).map_err(failed)?;
        if !first.starts_with(&CORE_MAGIC) {
            return Ok(None);
        }
        while !first.is_empty() {
            hasher.update(first);
            first = read_full(&mut file, &mut piece).map_err(failed)?;
        }
        let (path, digest) = (path.to_owned(), hasher.finalize().into());
        Ok(Some(Self::File { path, digest }))
    }

    /// Finds a program in a file of an image. What is no binary of a core module is read.
    pub(super) fn in_content(content: Content) -> Result<Self, String> {
        let mut magic = [0; CORE_MAGIC.len()];
        let read = content.read_at(&mut magic, 0);
        read.map_err(|error| error.to_string())?;
        if magic == CORE_MAGIC {
            return Ok(Self::Content(content));
        }
        Ok(Self::Held(read_all(&content)?.into()))
    }

    /// Returns the bytes, if they are those that were found.
    pub(super) fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, RunnerError> {
        match self {
            Self::Held(bytes) => Ok(Cow::Borrowed(bytes)),
            #[cfg(feature = "freeze")]
            Self::Made(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File { path, digest } => {
                let found = std::fs::read(path).and_then(|bytes| match Digest::of(&bytes) {
                    found if found == *digest => Ok(bytes),
                    _ => Err(io::Error::other("it was changed while it was read")),
                });
                found.map(Cow::Owned).map_err(|source| RunnerError::Read {
                    path: path.clone(),
                    source,
                })
            }
            Self::Content(content) => {
                let expected = ("the program", content.digest());
                read_as(content, expected, digest_of_bytes, name)
            }
            #[cfg(feature = "freeze")]
            Self::Frozen {
                content,
                digest,
                place,
            } => read_as(content, (place, *digest), Digest::of, name),
        }
    }

    /// Returns a digest that stands for the program.
    pub(super) fn identity(&self) -> Digest {
        match self {
            Self::Held(bytes) => Digest::of(bytes),
            Self::File { digest, .. } => *digest,
            Self::Content(content) => content.digest(),
            #[cfg(feature = "freeze")]
            Self::Made(bytes) => of_frozen(digest_of_bytes(bytes), Digest::of(bytes)),
            #[cfg(feature = "freeze")]
            Self::Frozen {
                content, digest, ..
            } => of_frozen(content.digest(), *digest),
        }
    }
}

impl fmt::Debug for ProgramBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::File { path, .. } => write!(f, "in {}", path.display()),
            Self::Content(content) => write!(f, "{} bytes of an image", content.size()),
            #[cfg(feature = "freeze")]
            Self::Made(bytes) => write!(f, "{} bytes", bytes.len()),
            #[cfg(feature = "freeze")]
            Self::Frozen { content, .. } => write!(f, "{} bytes of an image", content.size()),
        }
    }
}

/// Returns what stands for a program that goes on from a point: by both digests, so that one that
/// was changed since is read and found out, and not taken for what it was.
#[cfg(feature = "freeze")]
fn of_frozen(content: Digest, bytes: Digest) -> Digest {
    Digest::of(format!("{content} {bytes}").as_bytes())
}

/// Reads until the buffer is full or the file ends.
fn read_full<'b>(file: &mut File, buf: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut len = 0;
    while let Some(rest) = buf.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buf.get(..len).unwrap_or_default())
}

fn read_all(content: &Content) -> Result<Vec<u8>, String> {
    let size = usize::try_from(content.size()).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let reserved = bytes.try_reserve_exact(size);
    reserved.map_err(|error| error.to_string())?;
    bytes.resize(size, 0);
    let mut at = 0;
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match content.read_at(rest, at as u64) {
            Ok(0) => return Err("it ends before its size".to_owned()),
            Ok(read) => at += read,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(bytes)
}

/// Reads a program of an image. What the image says of it may be somebody else's word, and code
/// is kept under it.
fn read_as<'b>(
    content: &Content,
    (place, expected): (&str, Digest),
    digest: impl Fn(&[u8]) -> Digest,
    name: &str,
) -> Result<Cow<'b, [u8]>, RunnerError> {
    let found = read_all(content).and_then(|bytes| match digest(&bytes) {
        found if found == expected => Ok(Cow::Owned(bytes)),
        found => Err(format!(
            "{place} is damaged: expected the digest {expected}, found {found}"
        )),
    });
    found.map_err(|reason| RunnerError::Unreadable {
        name: name.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::chunk::counted::CountedBytes;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::image::Image;
    use crate::layer::LayerBuilder;
    use crate::meta::Meta;
    use crate::name::LayerPath;
    use crate::runner::{CacheUse, Guest, GuestKind, Runner, RunnerConfig};

    const NAME: &str = "app.wasm";

    fn module(exit: u32) -> Vec<u8> {
        let text = format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1)
              (func (export "_start") (call $exit (i32.const {exit}))))"#
        );
        wat::parse_str(text).unwrap()
    }

    fn image(content: Content) -> Image {
        let mut layer = LayerBuilder::new();
        let path = |text: &str| LayerPath::parse(text.as_bytes()).unwrap();
        layer
            .file(&path(NAME), Meta::with_mode(0o755), content)
            .unwrap();
        layer
            .symlink(&path("link"), Meta::with_mode(0o777), NAME.as_bytes())
            .unwrap();
        Image::new(&[layer.finish().unwrap()]).unwrap()
    }

    fn of_bytes(bytes: &[u8]) -> Image {
        image(ContentBuilder::of(&ChunkPool::new(), bytes))
    }

    fn runner(guest: &Guest, cache: &tempfile::TempDir) -> Result<Runner, RunnerError> {
        Runner::new(
            guest,
            RunnerConfig {
                cache_dir: Some(cache.path().to_owned()),
                ..RunnerConfig::default()
            },
        )
    }

    fn ends(guest: &Guest, cache: &tempfile::TempDir) -> (String, CacheUse) {
        let runner = runner(guest, cache).unwrap();
        let report = runner.run(&Image::empty(), &crate::runner::RunPlan::default());
        let outcome = report.unwrap().instances[0].outcome.to_string();
        (outcome, runner.cache().clone())
    }

    #[test]
    fn a_program_in_a_file_has_the_code_of_its_bytes() {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = dir.path().join(NAME);
        std::fs::write(&path, module(7)).unwrap();
        let guest = Guest::in_file(&path).unwrap();
        assert_eq!(guest.kind(), GuestKind::Core);
        let (outcome, first) = ends(&guest, &cache);
        assert_eq!((outcome.as_str(), first), ("exit code 7", CacheUse::Miss));
        let held = Guest::from_bytes("app", module(7)).unwrap();
        assert_eq!(guest.identity(), held.identity());
        assert_eq!(ends(&held, &cache).1, CacheUse::Hit);
        // The bytes are not needed where the code is at hand, and are compared where they are.
        std::fs::write(&path, module(8)).unwrap();
        assert_eq!(ends(&guest, &cache), ("exit code 7".into(), CacheUse::Hit));
        let other = tempfile::tempdir().unwrap();
        let error = runner(&guest, &other).map(drop).unwrap_err().to_string();
        assert!(
            error.contains(NAME) && error.contains("it was changed"),
            "{error}"
        );
        assert!(guest.wasm().is_err());
        let again = Guest::in_file(&path).unwrap();
        assert_eq!(ends(&again, &cache), ("exit code 8".into(), CacheUse::Miss));
        std::fs::remove_file(&path).unwrap();
        assert!(Guest::in_file(&path).is_err());
    }

    #[test]
    fn what_is_no_binary_of_a_core_module_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        for (text, kind) in [
            ("(module)", GuestKind::Core),
            ("(component)", GuestKind::Component),
        ] {
            for bytes in [text.as_bytes().to_vec(), wat::parse_str(text).unwrap()] {
                std::fs::write(&path, &bytes).unwrap();
                let in_file = Guest::in_file(&path).unwrap();
                let in_image = Guest::in_image("app", &of_bytes(&bytes), "/link").unwrap();
                for guest in [in_file, in_image] {
                    assert_eq!(guest.kind(), kind, "{text}");
                    assert_eq!(*guest.wasm().unwrap(), wat::parse_str(text).unwrap());
                }
            }
        }
        for bytes in [&b"#!/bin/sh"[..], b"", b"\0asm"] {
            std::fs::write(&path, bytes).unwrap();
            for guest in [
                Guest::in_file(&path),
                Guest::in_image("app", &of_bytes(bytes), "/app.wasm"),
            ] {
                let error = guest.unwrap_err();
                assert!(matches!(error, RunnerError::NotWasm { .. }), "{error}");
            }
        }
        for path in ["/", "/none"] {
            let error = Guest::in_image("app", &of_bytes(b""), path).unwrap_err();
            assert!(matches!(error, RunnerError::Unreadable { .. }), "{error}");
        }
    }

    /// Whoever publishes an image says what digests its files have.
    #[test]
    fn a_program_under_the_digest_of_another_one_is_refused() {
        let cache = tempfile::tempdir().unwrap();
        let (honest, other) = (module(1), module(2));
        let asked = Arc::<AtomicUsize>::default();
        let at_rest = |bytes: &[u8], digest| {
            let stored = Box::new(CountedBytes::new(bytes.to_vec(), &asked));
            let image = image(Content::at_rest(bytes.len() as u64, digest, stored));
            Guest::in_image("app:1", &image, "/link").unwrap()
        };
        let forged = at_rest(&other, digest_of_bytes(&honest));
        let error = runner(&forged, &cache).map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("app:1: the program is damaged"),
            "{error}"
        );
        let guest = at_rest(&honest, digest_of_bytes(&honest));
        assert_eq!(ends(&guest, &cache), ("exit code 1".into(), CacheUse::Miss));
        // Its first bytes tell what it is.
        asked.store(0, Ordering::Relaxed);
        let guest = at_rest(&honest, digest_of_bytes(&honest));
        assert_eq!(ends(&guest, &cache), ("exit code 1".into(), CacheUse::Hit));
        assert_eq!(asked.load(Ordering::Relaxed), CORE_MAGIC.len());
    }
}
