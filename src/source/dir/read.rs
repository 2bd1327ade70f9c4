//! Regular files that are open: hard links of what has been taken, or content
//! to read, holes left out.

use std::collections::HashMap;
use std::io::{self, Read};

use cap_std::fs::File;

use super::attributes;
use super::facts::{Facts, HostKind};
use super::overlayfs::OverlayfsMarks;
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::layer::LayerBuilder;
use crate::layer::entry_pos::{EntryPos, ObjectId};
use crate::limits::MAX_FILE_BYTES;
use crate::source::SourceErrorKind;

/// What reading a file needs of the walk.
pub(super) struct FileReader<'w> {
    pub(super) pool: &'w ChunkPool,
    pub(super) builder: &'w mut LayerBuilder,
    /// Files with several names, by device and inode.
    pub(super) files: &'w mut HashMap<(u64, u64), ObjectId>,
    /// Bytes of content that may still be read, of `limit`.
    pub(super) left: &'w mut u64,
    pub(super) limit: u64,
    pub(super) buf: &'w mut [u8],
}

impl FileReader<'_> {
    /// Takes a file into the layer, unless its directory's marks make it a
    /// whiteout.
    pub(super) fn take(
        self,
        file: &File,
        pos: EntryPos<'_>,
        marks: OverlayfsMarks,
    ) -> Result<(), SourceErrorKind> {
        let before = Facts::of(&file.metadata().map_err(SourceErrorKind::Io)?);
        if before.kind != HostKind::File {
            return Err(SourceErrorKind::Changed(
                "something else took the file's place",
            ));
        }
        if before.links > 1
            && let Some(first) = self.files.get(&before.identity())
        {
            return Ok(self.builder.link_in(pos, *first)?);
        }
        let (meta, own_marks) = attributes::of_file(file, &before, self.buf)?;
        if own_marks.whiteout && marks.holds_whiteouts && before.size == 0 {
            return Ok(self.builder.whiteout_in(pos)?);
        }
        let content = content(self.pool, file, &before, self.buf, self.left)?;
        let limit = SourceErrorKind::Limit {
            what: "bytes of content",
            limit: self.limit,
        };
        let content = content.ok_or(limit)?;
        let after = Facts::of(&file.metadata().map_err(SourceErrorKind::Io)?);
        before.check_unchanged(&after)?;
        let object = self.builder.file_in(pos, meta, content)?;
        if before.links > 1 {
            self.files.insert(before.identity(), object);
        }
        Ok(())
    }
}

/// Reads as many bytes as the file is said to have, no more: files of `/proc`
/// claim none, and some of them never end. `left` is what may still be read;
/// `None` when that is not enough.
fn content(
    pool: &ChunkPool,
    file: &File,
    facts: &Facts,
    buf: &mut [u8],
    left: &mut u64,
) -> Result<Option<Content>, SourceErrorKind> {
    if facts.size > MAX_FILE_BYTES {
        return Err(SourceErrorKind::Limit {
            what: "bytes in a file",
            limit: MAX_FILE_BYTES,
        });
    }
    let mut content = ContentBuilder::new(pool);
    while content.size() < facts.size {
        let (start, end) = next_data(file, facts, content.size())?;
        content.hole(start - content.size());
        match left.checked_sub(end - start) {
            Some(rest) => *left = rest,
            None => return Ok(None),
        }
        copy(file, &mut content, end, buf)?;
    }
    Ok(Some(content.finish()))
}

/// Reads on from where the file stands until `content` has `end` bytes.
fn copy(
    mut file: &File,
    content: &mut ContentBuilder<'_>,
    end: u64,
    buf: &mut [u8],
) -> Result<(), SourceErrorKind> {
    while content.size() < end {
        let want = usize::try_from(end - content.size())
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let buf = buf.get_mut(..want).unwrap_or_default();
        match file.read(buf) {
            Ok(0) => return Err(SourceErrorKind::Changed("it ends before its size")),
            Ok(len) => content.write(buf.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SourceErrorKind::Io(error)),
        }
    }
    Ok(())
}

/// Finds the next range with data from `at` on and goes there. Empty at the
/// file's end if only a hole is left.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn next_data(file: &File, facts: &Facts, at: u64) -> Result<(u64, u64), SourceErrorKind> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    let io = |error: Errno| SourceErrorKind::Io(error.into());
    if !facts.sparse {
        return Ok((at, facts.size));
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) if start < facts.size => start.max(at),
        Ok(_) | Err(Errno::NXIO) => return Ok((facts.size, facts.size)),
        // The file system knows no holes.
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok((at, facts.size)),
        Err(error) => return Err(io(error)),
    };
    let end = seek(file, SeekFrom::Hole(start)).map_err(io)?;
    seek(file, SeekFrom::Start(start)).map_err(io)?;
    Ok((start, end.clamp(start, facts.size)))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn next_data(_: &File, facts: &Facts, at: u64) -> Result<(u64, u64), SourceErrorKind> {
    Ok((at, facts.size))
}
