//! Where an export goes: a file or a directory that appears when it is
//! complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::TransferError;
use crate::staged::{StagedDir, StagedFile};

/// Bytes that are collected for one write.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes a file that appears under `path` when it is complete and on the
/// disk. What is there and is no regular file, such as a pipe, is written to as
/// it is. `write` is told where temporary files may be: a directory that goes
/// when this returns, and with the process if that is asked to end.
pub(super) fn file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let failed = |error| out(path, error);
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            let file = File::options().write(true).open(path).map_err(failed)?;
            stream(path, file, write)
        }
        _ => {
            let staged = StagedFile::create(path).map_err(failed)?;
            let scratch = scratch(staged.dir()).map_err(failed)?;
            let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, Noting::new(staged));
            let written = write(&mut buffered, scratch.path());
            buffered.get_mut().reported(written, failed)?;
            let staged = buffered.into_inner();
            let staged = staged.map_err(|error| failed(error.into_error()))?;
            staged.inner.commit().map_err(failed)
        }
    }
}

/// Writes into what is open already, and is called `name` where it fails.
pub(super) fn stream(
    name: &Path,
    to: impl Write,
    write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let failed = |error| out(name, error);
    let scratch = scratch(&std::env::temp_dir()).map_err(failed)?;
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, Noting::new(to));
    let written = write(&mut buffered, scratch.path());
    buffered.get_mut().reported(written, failed)?;
    buffered.flush().map_err(failed)
}

/// An output that notes why it took no more: whoever writes to it knows what he wrote, and
/// not where it goes.
struct Noting<W> {
    inner: W,
    error: Option<io::Error>,
}

impl<W> Noting<W> {
    fn new(inner: W) -> Self {
        Self { inner, error: None }
    }

    /// Returns how writing went, and where, if it was the output that failed.
    fn reported(
        &mut self,
        written: Result<(), TransferError>,
        failed: impl FnOnce(io::Error) -> TransferError,
    ) -> Result<(), TransferError> {
        match (written, self.error.take()) {
            (Err(_), Some(error)) => Err(failed(error)),
            (written, _) => written,
        }
    }
}

impl<W: Write> Write for Noting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).inspect_err(|error| {
            // An error cannot be had twice; one of the system can.
            self.error = error.raw_os_error().map(io::Error::from_raw_os_error);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Fills a directory that appears under `path` when it is complete and on the
/// disk. An empty directory that is there is replaced.
pub(super) fn dir(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let failed = |error| out(path, error);
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() => {}
        _ => return Err(TransferError::Occupied(path.to_owned())),
    }
    let staged = StagedDir::create(path).map_err(failed)?;
    fill(staged.path())?;
    staged.commit().map_err(failed)
}

/// Makes a directory in `dir` that never becomes an output.
fn scratch(dir: &Path) -> io::Result<StagedDir> {
    StagedDir::create(&dir.join("scratch"))
}

/// Makes a directory for what is needed for a while: it goes when it is dropped, and with the
/// process if that is asked to end.
#[cfg(feature = "registry")]
pub(super) fn temporary() -> Result<StagedDir, TransferError> {
    let dir = std::env::temp_dir();
    scratch(&dir).map_err(|error| out(&dir, error))
}

fn out(path: &Path, error: io::Error) -> TransferError {
    TransferError::Out {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_files_go_with_their_directory_beside_the_output() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("out");
        let write = |ends: Result<(), TransferError>| {
            file(&path, |out, scratch| {
                assert_eq!(scratch.parent(), Some(home.path()));
                // As a writer that is interrupted leaves it.
                fs::write(scratch.join("blob"), "half").unwrap();
                out.write_all(b"whole").unwrap();
                ends
            })
        };
        let names = || fs::read_dir(home.path()).unwrap().count();
        let refused = Err(TransferError::Occupied(path.clone()));
        assert!(write(refused).is_err());
        assert_eq!(names(), 0);
        write(Ok(())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(), 1);
    }
}
