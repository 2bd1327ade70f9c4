//! Where a layout is written: a directory, or a tar archive.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::OciExportError;
use crate::meta::Meta;
use crate::name::LayerPath;
use crate::source::BlobDigest;
use crate::source::{ExportError, TarWriter};

pub(super) trait BlobSink {
    /// Returns whether a blob has been written.
    fn has(&self, digest: &BlobDigest) -> bool;

    /// Writes a blob of `size` bytes, which must be its reader's.
    fn blob(
        &mut self,
        digest: &BlobDigest,
        size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), OciExportError>;

    /// Makes a file for a blob whose digest is still to be found.
    fn scratch(&self) -> Result<NamedTempFile, OciExportError>;

    /// Takes such a file as a blob.
    fn adopt(
        &mut self,
        digest: &BlobDigest,
        size: u64,
        file: NamedTempFile,
    ) -> Result<(), OciExportError>;

    /// Writes a file that is no blob.
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), OciExportError>;
}

pub(super) fn write_error(path: &Path, error: io::Error) -> OciExportError {
    OciExportError::Write {
        path: path.to_owned(),
        error,
    }
}

pub(super) fn scratch_in(dir: &Path) -> Result<NamedTempFile, OciExportError> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".stratafs-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for any new file; the umask takes its part.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let made = builder.tempfile_in(dir);
    made.map_err(|error| write_error(dir, error))
}

/// A layout as a directory.
pub(super) struct DirSink<'a> {
    dir: &'a Path,
    blobs: BTreeSet<BlobDigest>,
}

impl<'a> DirSink<'a> {
    pub(super) fn new(dir: &'a Path) -> Result<Self, OciExportError> {
        let blobs = dir.join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(|error| write_error(&blobs, error))?;
        Ok(Self {
            dir,
            blobs: BTreeSet::new(),
        })
    }

    /// Where a blob belongs, its directory made.
    fn place(&self, digest: &BlobDigest) -> Result<PathBuf, OciExportError> {
        let dir = self.dir.join("blobs").join(digest.algorithm());
        fs::create_dir_all(&dir).map_err(|error| write_error(&dir, error))?;
        Ok(dir.join(digest.hex()))
    }
}

impl BlobSink for DirSink<'_> {
    fn has(&self, digest: &BlobDigest) -> bool {
        self.blobs.contains(digest)
    }

    fn blob(
        &mut self,
        digest: &BlobDigest,
        _size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), OciExportError> {
        let path = self.place(digest)?;
        let mut copy = || io::copy(bytes, &mut File::create(&path)?);
        copy().map_err(|error| write_error(&path, error))?;
        self.blobs.insert(digest.clone());
        Ok(())
    }

    fn scratch(&self) -> Result<NamedTempFile, OciExportError> {
        scratch_in(self.dir)
    }

    fn adopt(
        &mut self,
        digest: &BlobDigest,
        _size: u64,
        file: NamedTempFile,
    ) -> Result<(), OciExportError> {
        let path = self.place(digest)?;
        let kept = file.persist(&path);
        kept.map_err(|error| write_error(&path, error.error))?;
        self.blobs.insert(digest.clone());
        Ok(())
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), OciExportError> {
        let path = self.dir.join(name);
        fs::write(&path, bytes).map_err(|error| write_error(&path, error))
    }
}

/// A layout as an archive.
pub(super) struct ArchiveSink<'a, W> {
    tar: TarWriter<W>,
    scratch: &'a Path,
    blobs: BTreeSet<BlobDigest>,
    dirs: BTreeSet<String>,
}

impl<'a, W: Write> ArchiveSink<'a, W> {
    pub(super) fn new(out: W, scratch: &'a Path) -> Self {
        Self {
            tar: TarWriter::new(out),
            scratch,
            blobs: BTreeSet::new(),
            dirs: BTreeSet::new(),
        }
    }

    pub(super) fn finish(self) -> Result<W, OciExportError> {
        let done = self.tar.finish();
        done.map_err(|error| write_error(Path::new("index.json"), error))
    }

    fn member(
        &mut self,
        name: &str,
        size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), OciExportError> {
        let path = member_path(name)?;
        let done = self
            .tar
            .file_from(&path, &Meta::with_mode(0o644), size, bytes);
        done.map_err(|error| member_error(name, error))
    }

    /// Writes the directories above a blob, each once.
    fn above(&mut self, digest: &BlobDigest) -> Result<String, OciExportError> {
        let dir = format!("blobs/{}", digest.algorithm());
        for dir in ["blobs", &dir] {
            if self.dirs.insert(dir.to_owned()) {
                let done = self.tar.dir(&member_path(dir)?, &Meta::with_mode(0o755));
                done.map_err(|error| member_error(dir, error))?;
            }
        }
        Ok(format!("{dir}/{}", digest.hex()))
    }
}

impl<W: Write> BlobSink for ArchiveSink<'_, W> {
    fn has(&self, digest: &BlobDigest) -> bool {
        self.blobs.contains(digest)
    }

    fn blob(
        &mut self,
        digest: &BlobDigest,
        size: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), OciExportError> {
        let name = self.above(digest)?;
        self.member(&name, size, bytes)?;
        self.blobs.insert(digest.clone());
        Ok(())
    }

    fn scratch(&self) -> Result<NamedTempFile, OciExportError> {
        scratch_in(self.scratch)
    }

    fn adopt(
        &mut self,
        digest: &BlobDigest,
        size: u64,
        file: NamedTempFile,
    ) -> Result<(), OciExportError> {
        let reopened = file.reopen();
        let mut reopened = reopened.map_err(|error| write_error(file.path(), error))?;
        self.blob(digest, size, &mut reopened)
    }

    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), OciExportError> {
        self.member(name, bytes.len() as u64, &mut io::Cursor::new(bytes))
    }
}

fn member_path(name: &str) -> Result<LayerPath, OciExportError> {
    let parsed = LayerPath::parse(name.as_bytes());
    parsed.map_err(|error| write_error(Path::new(name), io::Error::other(error)))
}

fn member_error(name: &str, error: ExportError) -> OciExportError {
    let error = match error {
        ExportError::Read { error, .. } | ExportError::Write { error, .. } => error,
        other => io::Error::other(other),
    };
    write_error(Path::new(name), error)
}
