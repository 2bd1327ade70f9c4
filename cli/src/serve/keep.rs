//! `--on-end`: keeping what was changed when its file system would go.

use std::fs;
use std::path::{Path, PathBuf};

use stratafs::chunk::ChunkPool;
use stratafs::image::Reference;
use stratafs::source;
use stratafs::store::Store;
use stratafs::transfer;
use stratafs::vfs::Fs;

use super::log::Log;
use crate::failure::Failure;
use crate::outfile::OutFile;

/// Where changes are kept, and who is told if they cannot be.
pub(super) struct Keeper {
    place: KeepTarget,
    by: String,
    errors: Log,
}

enum KeepTarget {
    Diff(PathBuf),
    Commit {
        store: Store,
        tag: Reference,
        base: Option<Reference>,
    },
}

impl Keeper {
    /// Keeps layers in a directory, which is made if it is missing.
    pub(super) fn diff(dir: &Path, by: String, errors: Log) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| Failure::at(dir, error))?;
        Ok(Self {
            place: KeepTarget::Diff(dir.to_owned()),
            by,
            errors,
        })
    }

    /// Keeps images whose tags begin with `tag`.
    pub(super) fn commit(
        store: Store,
        (tag, base): (Reference, Option<Reference>),
        by: String,
        errors: Log,
    ) -> Self {
        Self {
            place: KeepTarget::Commit { store, tag, base },
            by,
            errors,
        }
    }

    /// Keeps what was changed, if anything was. `number` is that of a request or session;
    /// 0 is the file system that all share.
    pub(super) fn keep(&self, fs: &Fs, number: u64) {
        if let Err(failure) = self.try_keep(fs, number) {
            self.errors.push(&format!("error: --on-end: {failure}"));
        }
    }

    fn try_keep(&self, fs: &Fs, number: u64) -> Result<(), Failure> {
        let layer = fs.diff(&ChunkPool::new())?;
        // The root is always there.
        if layer.node_count() <= 1 {
            return Ok(());
        }
        match &self.place {
            KeepTarget::Diff(dir) => {
                let out = OutFile::create(&dir.join(format!("{number}.tar")))?;
                out.write(|writer| Ok(source::write_layer(&layer, writer).map(drop)?))
            }
            KeepTarget::Commit { store, tag, base } => {
                let name = match number {
                    0 => Ok(tag.clone()),
                    number => format!("{tag}-{number}").parse().map_err(Failure::new),
                };
                name.and_then(|name| {
                    let made = (&name, self.by.as_str());
                    Ok(transfer::commit_for(store, fs, base.as_ref(), made, None).map(drop)?)
                })
            }
        }
    }
}
