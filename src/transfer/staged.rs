//! Output that appears under its name when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::TransferError;

/// Bytes that are collected for one write.
const BUFFER_BYTES: usize = 256 * 1024;

/// What begins the names of what is not complete.
const PREFIX: &str = ".stratafs-";

/// Writes a file beside `path` and renames it. What is there and is no
/// regular file, such as a pipe, is written to as it is. `write` is told
/// where temporary files may be.
pub(super) fn file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write, &Path) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let failed = |error| out(path, error);
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(failed(io::ErrorKind::IsADirectory.into())),
        Ok(meta) if !meta.is_file() => {
            let file = File::options().write(true).open(path).map_err(failed)?;
            let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, file);
            write(&mut buffered, &std::env::temp_dir())?;
            buffered.flush().map_err(failed)
        }
        _ => {
            let dir = parent(path)?;
            let staged = builder(0o666).tempfile_in(dir).map_err(failed)?;
            let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, staged);
            write(&mut buffered, dir)?;
            let staged = buffered.into_inner();
            let staged = staged.map_err(|error| failed(error.into_error()))?;
            let kept = staged.persist(path);
            kept.map(drop).map_err(|error| failed(error.error))
        }
    }
}

/// Fills a directory beside `path` and renames it.
pub(super) fn dir(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<(), TransferError>,
) -> Result<(), TransferError> {
    let failed = |error| out(path, error);
    let replaced = match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => true,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            false
        }
        _ => return Err(TransferError::Occupied(path.to_owned())),
    };
    let staged = builder(0o777).tempdir_in(parent(path)?).map_err(failed)?;
    fill(staged.path())?;
    if replaced {
        fs::remove_dir(path).map_err(failed)?;
    }
    // The guard goes only when the name is there, so nothing stays if not.
    fs::rename(staged.path(), path).map_err(failed)?;
    let _renamed: PathBuf = staged.keep();
    Ok(())
}

fn builder(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As for anything new; the umask takes its part.
        builder.permissions(fs::Permissions::from_mode(mode));
    }
    let _ = mode;
    builder
}

fn parent(path: &Path) -> Result<&Path, TransferError> {
    if path.file_name().is_none() {
        return Err(out(path, io::ErrorKind::InvalidFilename.into()));
    }
    Ok(match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    })
}

fn out(path: &Path, error: io::Error) -> TransferError {
    TransferError::Out {
        path: path.to_owned(),
        error,
    }
}
