//! Copying trees in and out of an instance.

use std::io;
#[cfg(feature = "tar")]
use std::io::{Read, Write};

use crate::chunk::ChunkPool;
use crate::error::Error;
use crate::layer::{Layer, LayerError};
use crate::name::LayerPath;
use crate::path::IntoFsPath;
#[cfg(feature = "tar")]
use crate::source::ExportError;
use crate::source::{SourceError, SourceOptions};
use crate::vfs::Fs;

/// Why a tree could not be copied in or out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source could not be read; the instance is as it was.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// An entry does not fit into the instance, which is as it was.
    #[error("copy in: {0}")]
    Apply(#[from] Error),
    /// The directory of the instance cannot be reached, or its tree cannot be told
    /// as a layer; nothing was written.
    #[error("copy out: {0}")]
    Layer(#[from] LayerError),
    /// The archive could not be written; it ends where the error came.
    #[cfg(feature = "tar")]
    #[error("copy out: {0}")]
    Export(#[from] ExportError),
    /// The directory of the host could not be made or opened; nothing was written.
    #[cfg(feature = "dir")]
    #[error("copy out: {}: {error}", path.display())]
    Into {
        /// The directory.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// An entry could not be written to the host; what came before it was.
    #[error("copy out: {path}: {error}")]
    Host {
        /// The entry.
        path: LayerPath,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Fs {
    pub(super) fn tree_at(&self, path: &[u8]) -> Result<Layer, CopyError> {
        Ok(self.tree(path, &ChunkPool::new())?)
    }

    /// Copies a host directory into the directory at `path`, all of it or
    /// nothing. Entries there are replaced, directories merge. Rules and
    /// bounds are those of a layer (see [`source::dir`](crate::source::dir)),
    /// whiteouts included; quotas count. O(bytes).
    ///
    /// # Errors
    ///
    /// [`CopyError::Source`], then [`CopyError::Apply`].
    #[cfg(feature = "dir")]
    pub fn import_dir(
        &self,
        path: impl IntoFsPath,
        dir: &cap_std::fs::Dir,
        options: &SourceOptions,
    ) -> Result<(), CopyError> {
        let layer = crate::source::dir(&ChunkPool::new(), dir, options)?;
        Ok(self.apply(path, &layer)?)
    }

    /// Copies a tar archive into the directory at `path`, all of it or
    /// nothing; as `import_dir` copies a directory.
    ///
    /// # Errors
    ///
    /// [`CopyError::Source`], then [`CopyError::Apply`].
    #[cfg(feature = "tar")]
    pub fn import_tar(
        &self,
        path: impl IntoFsPath,
        archive: impl Read,
        options: &SourceOptions,
    ) -> Result<(), CopyError> {
        let layer = crate::source::tar(&ChunkPool::new(), archive, options)?;
        Ok(self.apply(path, &layer)?)
    }

    /// Copies the tree below the directory at `path` into a tar archive:
    /// links as links, hard links as hard links. The instance may go on
    /// meanwhile: the archive is of one moment. Returns `archive`.
    ///
    /// Safe on a tree that a guest made: what is written is bounded by the bytes
    /// that its files hold and what their entries cost (see
    /// [`TarWriter::file`](crate::source::TarWriter::file)); a tree deeper than a
    /// layer can be is refused.
    ///
    /// # Errors
    ///
    /// [`CopyError::Layer`], [`CopyError::Export`].
    #[cfg(feature = "tar")]
    pub fn export_tar<W: Write>(&self, path: impl IntoFsPath, archive: W) -> Result<W, CopyError> {
        let layer = self.tree_at(&path.fs_path())?;
        Ok(crate::source::write_layer(&layer, archive)?)
    }
}
