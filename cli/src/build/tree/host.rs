//! A directory of the host, below which everything is looked up.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::cap_std::ambient_authority;
use stratafs::cap_std::fs::{Dir, Metadata, OpenOptions};
use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::limits::MAX_LAYER_ENTRIES;
use stratafs::meta::{Kind, Meta, Xattrs};
use stratafs::name::show;

use super::{TreeEntry, xattrs};
use crate::failure::Failure;
use crate::limits::MAX_RECIPE_BYTES;

/// Bytes of a file that are read at a time.
const READ_BYTES: usize = 256 * 1024;

/// A directory of the host.
pub(in crate::build) struct HostTree {
    root: Dir,
    /// What messages call it.
    name: PathBuf,
    /// Files with several names, by device and number there.
    objects: Mutex<HashMap<(u64, u64), u64>>,
}

impl HostTree {
    pub(in crate::build) fn open(path: &Path) -> Result<Self, Failure> {
        let root = Dir::open_ambient_dir(path, ambient_authority());
        Ok(Self {
            root: root.map_err(|error| Failure::at(path, error))?,
            name: path.to_owned(),
            objects: Mutex::new(HashMap::new()),
        })
    }

    /// Numbers files with several names as they are met.
    fn object(&self, file: (u64, u64)) -> u64 {
        let mut objects = self.objects.lock();
        let next = objects.len() as u64;
        *objects.entry(file).or_insert(next)
    }

    fn failed(&self, path: &[u8], why: impl std::fmt::Display) -> Failure {
        Failure::at(&self.name, format_args!("{}: {why}", show(path)))
    }

    fn host_path(&self, path: &[u8]) -> Result<PathBuf, Failure> {
        match path.is_empty() {
            true => Ok(PathBuf::from(".")),
            false => os_path(path).ok_or_else(|| self.failed(path, "the name is not Unicode")),
        }
    }

    pub(super) fn look(&self, path: &[u8]) -> Result<Option<TreeEntry>, Failure> {
        let host_path = self.host_path(path)?;
        let meta = match self.root.symlink_metadata(&host_path) {
            Ok(meta) => meta,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.failed(path, error)),
        };
        let kind = meta.file_type();
        let (kind, target) = if kind.is_dir() {
            (Kind::Dir, None)
        } else if kind.is_file() {
            (Kind::File, None)
        } else if kind.is_symlink() {
            let target = self.root.read_link_contents(&host_path);
            let target = target.map_err(|error| self.failed(path, error))?;
            let bytes = path_bytes(&target);
            (
                Kind::Symlink,
                Some(bytes.ok_or_else(|| self.failed(path, "what the link says is not Unicode"))?),
            )
        } else {
            return Err(self.failed(
                path,
                "a device, FIFO or socket: a layer has none: leave it out with .dockerignore or --exclude",
            ));
        };
        Ok(Some(TreeEntry {
            kind,
            meta: Meta::with_mode(mode(&meta, kind)),
            target,
            object: identity(&meta)
                .filter(|_| kind == Kind::File)
                .map(|file| self.object(file)),
        }))
    }

    pub(super) fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        let failed = |error| self.failed(path, error);
        let most = usize::try_from(MAX_LAYER_ENTRIES).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for entry in self.root.read_dir(self.host_path(path)?).map_err(failed)? {
            let name = PathBuf::from(entry.map_err(failed)?.file_name());
            let bytes = path_bytes(&name);
            found.push(bytes.ok_or_else(|| self.failed(path, "a name in it is not Unicode"))?);
            if found.len() > most {
                return Err(self.failed(path, format_args!("it has more than {most} entries")));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn content(
        &self,
        path: &[u8],
        pool: &ChunkPool,
    ) -> Result<(Content, Option<Arc<Xattrs>>), Failure> {
        let failed = |error| self.failed(path, error);
        let mut file = self.opened(path)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(self.failed(path, "it was a file and is not a file any more"));
        }
        let found = xattrs::read(&file).map_err(failed)?;
        let mut builder = ContentBuilder::new(pool);
        // One more than there should be, to see the end.
        let size = usize::try_from(meta.len()).unwrap_or(READ_BYTES);
        let mut buf = vec![0; size.saturating_add(1).min(READ_BYTES)];
        let mut bytes = 0_u64;
        loop {
            match file.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    bytes += len as u64;
                    builder.write(buf.get(..len).unwrap_or_default());
                    // There was room for one more than there should be.
                    if len < buf.len() && bytes == meta.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // Half of what it was and half of what it is now would be what it never held.
        let after = file.metadata().map_err(failed)?;
        let is_same = bytes == meta.len()
            && after.len() == meta.len()
            && after.modified().ok() == meta.modified().ok();
        match is_same {
            true => Ok((builder.finish(), found)),
            false => Err(self.failed(
                path,
                "it changed while it was read: build again once nobody writes it, or leave it out with .dockerignore or --exclude",
            )),
        }
    }

    /// Opens a file to be read. One that has become a FIFO meanwhile keeps nobody waiting.
    fn opened(&self, path: &[u8]) -> Result<stratafs::cap_std::fs::File, Failure> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use stratafs::cap_std::fs::OpenOptionsExt;
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        }
        let opened = self.root.open_with(self.host_path(path)?, &options);
        opened.map_err(|error| self.failed(path, error))
    }

    pub(super) fn dir_xattrs(&self, path: &[u8]) -> Result<Option<Arc<Xattrs>>, Failure> {
        let failed = |error| self.failed(path, error);
        if !cfg!(target_os = "linux") {
            return Ok(None);
        }
        // Opened to be read: what `open_dir` gives can be looked below alone.
        let dir = self.root.open(self.host_path(path)?).map_err(failed)?;
        xattrs::read(&dir).map_err(failed)
    }

    /// Reads a small file of text, if it is there.
    pub(in crate::build) fn small_text(&self, path: &str) -> Result<Option<String>, Failure> {
        match self.root.metadata(path) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(self.failed(path.as_bytes(), "it is not a file")),
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.failed(path.as_bytes(), error)),
        }
        let file = self.opened(path.as_bytes())?;
        let mut text = String::new();
        let read = file
            .take(MAX_RECIPE_BYTES as u64 + 1)
            .read_to_string(&mut text);
        read.map_err(|error| self.failed(path.as_bytes(), error))?;
        match text.len() > MAX_RECIPE_BYTES {
            true => Err(self.failed(
                path.as_bytes(),
                format_args!("it may have {MAX_RECIPE_BYTES} bytes"),
            )),
            false => Ok(Some(text)),
        }
    }

    /// Opens a file, for what looks at its beginning.
    pub(in crate::build) fn file(&self, path: &[u8]) -> Result<std::fs::File, Failure> {
        Ok(self.opened(path)?.into_std())
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

#[cfg(unix)]
fn os_path(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn os_path(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    Some(path.as_os_str().as_bytes().to_vec())
}

#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Option<Vec<u8>> {
    Some(path.to_str()?.replace('\\', "/").into_bytes())
}

/// What tells a file from all others, if it has several names.
#[cfg(unix)]
fn identity(meta: &Metadata) -> Option<(u64, u64)> {
    use stratafs::cap_std::fs::MetadataExt;
    (meta.nlink() > 1).then(|| (meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<(u64, u64)> {
    None
}

#[cfg(unix)]
fn mode(meta: &Metadata, _: Kind) -> u32 {
    use stratafs::cap_std::fs::MetadataExt;
    meta.mode() & 0o7777
}

#[cfg(not(unix))]
fn mode(_: &Metadata, kind: Kind) -> u32 {
    match kind {
        Kind::Dir => 0o755,
        Kind::File => 0o644,
        Kind::Symlink => 0o777,
    }
}
