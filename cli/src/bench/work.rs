//! The directory that copies and mounts are made in.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::failure::Failure;

/// Memory where Linux keeps it as a directory: no disk is measured there.
const MEMORY: &str = "/dev/shm";

/// Copies of the base that have to fit for memory to be chosen.
const COPIES: u64 = 8;

/// A directory of this run, gone with this value.
pub(super) struct WorkDir {
    dir: TempDir,
    kind: &'static str,
}

impl WorkDir {
    /// Makes one below `asked`, or else in memory if that has room, or else
    /// where temporary files go.
    pub(super) fn create(asked: Option<&Path>, base_bytes: u64) -> Result<Self, Failure> {
        let memory = Path::new(MEMORY);
        let wanted = base_bytes.saturating_mul(COPIES);
        let (below, kind) = match asked {
            Some(dir) => (dir.to_owned(), "as asked"),
            None if memory.is_dir() && room(memory) > wanted => {
                (memory.to_owned(), "in memory (tmpfs)")
            }
            None => (std::env::temp_dir(), "where temporary files go"),
        };
        let dir = tempfile::Builder::new()
            .prefix("stratafs-bench-")
            .tempdir_in(&below)
            .map_err(|error| Failure::at(&below, error))?;
        Ok(Self { dir, kind })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Says where it is.
    pub(super) fn place(&self) -> String {
        let below = self.dir.path().parent().unwrap_or(self.dir.path());
        format!("{}, {}", below.display(), self.kind)
    }

    /// Bytes that are free there.
    pub(super) fn room(&self) -> u64 {
        room(self.dir.path())
    }
}

#[cfg(unix)]
fn room(dir: &Path) -> u64 {
    rustix::fs::statvfs(dir).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(not(unix))]
fn room(_: &Path) -> u64 {
    // Not told: the time bound has to do.
    u64::MAX
}

/// Adds up what the files below a directory take. Links are not followed.
pub(super) fn taken(top: &Path) -> io::Result<u64> {
    let mut sum = 0_u64;
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            sum = sum.saturating_add(blocks(&meta));
            if meta.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(sum)
}

#[cfg(unix)]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(meta).saturating_mul(512)
}

#[cfg(not(unix))]
fn blocks(meta: &std::fs::Metadata) -> u64 {
    meta.len()
}
