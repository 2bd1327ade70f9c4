//! Opening the files of a store.
//!
//! Every file of a store is a regular one. Whoever can write to the directory
//! could put a named pipe, a device or a symbolic link in its place: opening a
//! pipe waits for a writer, and a link leads elsewhere. So a file is opened
//! without waiting and without following a link at its end, and what turns out
//! to be no regular file is refused before a byte of it is read.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::path::Path;

/// Why a file was not opened.
pub(super) enum Refused {
    /// The system said so.
    Io(io::Error),
    /// Something else than a regular file is there.
    Kind(&'static str),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Opens a regular file as `options` say, never waiting for it.
pub(super) fn regular(path: &Path, options: &mut OpenOptions) -> Result<File, Refused> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => return Err(refused(path, error)),
    };
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false => Err(Refused::Kind(kind_of(kind))),
    }
}

/// Says what is in the file's place, where that is why it does not open: a
/// link is not followed, and neither a socket nor a directory can be written.
fn refused(path: &Path, error: io::Error) -> Refused {
    match path.symlink_metadata() {
        Ok(meta) if !meta.is_file() => Refused::Kind(kind_of(meta.file_type())),
        _ => Refused::Io(error),
    }
}

fn kind_of(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return "a named pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a special file"
    }
}
