//! Files that a command writes: whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use stratafs::image::Reference;
use stratafs::staged::StagedFile;
use stratafs::store::Store;
use stratafs::transfer::{self, ExportOptions};

use super::failure::Failure;

/// A file that appears under its name only when it is complete. Dropped
/// before, it leaves no trace.
pub(super) struct OutFile {
    path: PathBuf,
    sink: OutTarget,
}

enum OutTarget {
    /// Beside the target, to be renamed onto it.
    Beside(StagedFile),
    /// The target itself, where it is no regular file: a pipe, `/dev/null`.
    Direct(File),
    /// Standard output, which `-` stands for.
    Stdout,
}

/// Returns whether a file that is named is standard output.
pub(super) fn is_stdout(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Writes an image as a file or directory. Standard output takes archives alone.
pub(super) fn export(
    store: &Store,
    image: &Reference,
    out: &Path,
    options: ExportOptions,
) -> Result<(), Failure> {
    if !is_stdout(out) {
        return Ok(transfer::export(store, image, out, options)?);
    }
    OutFile::create(out)?.write(|out| Ok(transfer::export_into(store, image, out, options)?))
}

impl OutFile {
    /// Makes sure that the file can be written, before any work is done.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        Self::open(path).map_err(|error| Failure::at(path, error))
    }

    fn open(path: &Path) -> io::Result<Self> {
        let sink = match path.metadata() {
            _ if is_stdout(path) => OutTarget::Stdout,
            Ok(meta) if meta.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(meta) if !meta.is_file() => {
                OutTarget::Direct(File::options().write(true).open(path)?)
            }
            _ => OutTarget::Beside(StagedFile::create(path)?),
        };
        Ok(Self {
            path: path.to_owned(),
            sink,
        })
    }

    /// Writes the content and renames the file to its name, both of which are on the
    /// disk when this returns.
    pub(super) fn write(
        self,
        content: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let name = match self.sink {
            OutTarget::Stdout => Path::new("stdout"),
            _ => &self.path,
        };
        let at = |error: io::Error| Failure::at(name, error);
        match self.sink {
            OutTarget::Stdout => written(io::BufWriter::new(io::stdout().lock()), name, content),
            OutTarget::Direct(file) => written(file, name, content),
            OutTarget::Beside(mut file) => {
                written(io::BufWriter::new(&mut file), name, content)?;
                file.commit().map_err(at)
            }
        }
    }
}

/// Writes all of it. What the output refuses is told with its name.
fn written(
    to: impl Write,
    name: &Path,
    content: impl FnOnce(&mut dyn Write) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut noting = Noting { to, failed: None };
    let done = content(&mut noting);
    if let Some(why) = noting.failed {
        return Err(Failure::at(name, why));
    }
    done?;
    noting.to.flush().map_err(|error| Failure::at(name, error))
}

/// Notes why the output took no more.
struct Noting<W> {
    to: W,
    failed: Option<String>,
}

impl<W: Write> Write for Noting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes);
        written.inspect_err(|error| self.failed = Some(error.to_string()))
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.to.flush();
        flushed.inspect_err(|error| self.failed = Some(error.to_string()))
    }
}
