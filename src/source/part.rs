//! Archives as files that can be sought in, whatever they came from.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use super::{SourceErrorKind, SourceOptions};

/// A part of a file. Has a place of its own in it, whoever else reads.
pub(crate) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Part {
    /// All of a file.
    pub(super) fn whole(file: &Arc<File>) -> Self {
        Self::new(file, 0, u64::MAX)
    }

    pub(crate) fn new(file: &Arc<File>, at: u64, end: u64) -> Self {
        let file = Arc::clone(file);
        Self { file, at, end }
    }
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let read = read_at(&self.file, buf.get_mut(..len).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(not(any(unix, windows)))]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    use std::io::Seek;
    let mut file = file;
    file.seek(io::SeekFrom::Start(offset))?;
    file.read(buf)
}

/// Copies what `next` gives, piece by piece until it gives nothing, into a file
/// without a name, which goes with the process however that ends.
pub(super) fn spool(
    options: &SourceOptions,
    mut next: impl FnMut(&mut [u8]) -> Result<usize, SourceErrorKind>,
) -> Result<Arc<File>, SourceErrorKind> {
    let mut file = tempfile::tempfile().map_err(SourceErrorKind::Io)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut left = options.max_bytes;
    loop {
        let len = next(&mut buffer)?;
        let Some(rest) = left.checked_sub(len as u64) else {
            return Err(SourceErrorKind::Limit {
                what: "bytes of content",
                limit: options.max_bytes,
            });
        };
        left = rest;
        match buffer.get(..len) {
            Some([]) | None => return Ok(Arc::new(file)),
            Some(bytes) => file.write_all(bytes).map_err(SourceErrorKind::Io)?,
        }
    }
}
