//! Layers into tar archives, as OCI writes them.
//!
//! The same layer gives the same bytes. Headers are ustar; what does not fit
//! them (long names, times before 1970 or with nanoseconds, large numbers,
//! extended attributes) goes into PAX headers. Whiteouts are `.wh.NAME`,
//! opaque directories hold `.wh..wh..opq`. Files with a MiB of holes and
//! more are sparse (see [`sparse`]); smaller holes are zeros, until an archive
//! has 64 MiB of them. So what is written is bounded by the bytes that the
//! files hold and what their entries cost.

mod header;
mod layer;
mod pax;
mod sparse;

use std::io::{self, Read, Write};
use std::sync::Arc;

pub use self::layer::write_layer;
#[cfg(all(feature = "oci", feature = "store"))]
pub(crate) use self::layer::write_layer_with;

use self::header::{EntryHeader, HeaderKind};
use self::sparse::{DataRuns, FileForm};
use super::marker::{is_marker, opaque_name, whiteout_name};
use crate::chunk::Content;
use crate::digest::Digest;
use crate::limits::{CHUNK_BYTES, MAX_NAME_BYTES, MAX_SPARSE_RATIO, MAX_SPARSE_RUNS};
use crate::meta::Meta;
use crate::name::LayerPath;

/// Why an entry cannot be written into an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A real name that a reader of the archive would take for a whiteout.
    #[error("{0}: a reader of the archive would take this name for a whiteout")]
    ReservedName(LayerPath),
    /// The whiteout's name, `.wh.` and the one it hides, would be too long.
    #[error("{0}: the name is too long to be hidden by an OCI whiteout")]
    WhiteoutTooLong(LayerPath),
    /// A sparse file's data lies in so many places that no map in an archive
    /// has them, and with zeros between it would be far larger than what the
    /// file holds.
    #[error(
        "{path}: {data} bytes of data lie so scattered that an archive, which tells \
         {MAX_SPARSE_RUNS} runs of a sparse file, would hold {stored}: more than \
         {MAX_SPARSE_RATIO} zeros for each byte; write it to a directory instead"
    )]
    Scattered {
        /// The file.
        path: LayerPath,
        /// Bytes in blocks that are not all zeros.
        data: u64,
        /// Bytes that the archive would hold.
        stored: u64,
    },
    /// The root can be a directory only.
    #[error("the root of an archive can only be a directory")]
    Root,
    /// A reader gave fewer bytes than were announced.
    #[error("{path}: {size} bytes were announced, the reader gave {given}")]
    Short {
        /// The file.
        path: LayerPath,
        /// Bytes announced.
        size: u64,
        /// Bytes read.
        given: u64,
    },
    /// The content of a file could not be read.
    #[error("{path}: cannot be read: {error}")]
    Read {
        /// The file.
        path: LayerPath,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The archive could not be written.
    #[error("{path}: cannot be written into the archive: {error}")]
    Write {
        /// The entry at which it happened.
        path: LayerPath,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

/// Is told what a writer is about to write: which bytes of the archive are those of files.
pub(crate) trait SpanSink: Send + Sync {
    /// What follows is a file with this content.
    fn file(&self, content: Digest);

    /// The next `len` bytes are those of the file from `at` on.
    fn span(&self, at: u64, len: u64);

    /// All files that are needed to start have been written.
    #[cfg_attr(
        not(all(feature = "oci", feature = "store")),
        expect(dead_code, reason = "start sets are of stores")
    )]
    fn start_ends(&self);
}

/// Writes a tar archive entry by entry.
///
/// Hard links come after what they name, as readers want it; the order is the
/// caller's. An archive without [`finish`](Self::finish) lacks its end.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
/// use stratafs::meta::Meta;
/// use stratafs::name::LayerPath;
/// use stratafs::source::{SourceOptions, TarWriter, tar};
///
/// let pool = ChunkPool::new();
/// let mut archive = TarWriter::new(Vec::new());
/// archive.dir(&LayerPath::parse(b"etc")?, &Meta::with_mode(0o755))?;
/// let hello = ContentBuilder::of(&pool, b"hello");
/// archive.file(&LayerPath::parse(b"etc/motd")?, &Meta::with_mode(0o644), &hello)?;
/// archive.whiteout(&LayerPath::parse(b"etc/issue")?)?; // hides it in lower layers
///
/// let layer = tar(&pool, &archive.finish()?[..], &SourceOptions::default())?;
/// assert_eq!(layer.entries().count(), 4); // the root as well
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TarWriter<W> {
    out: W,
    buf: Vec<u8>,
    /// Bytes of holes that were written as zeros.
    zeros: u64,
    spans: Option<Arc<dyn SpanSink>>,
}

impl<W: Write> TarWriter<W> {
    /// Starts an archive. Writes are small: hand in something buffered.
    pub fn new(out: W) -> Self {
        Self {
            out,
            buf: Vec::new(),
            zeros: 0,
            spans: None,
        }
    }

    /// Reports to `spans` which bytes are those of files.
    #[cfg(all(feature = "oci", feature = "store"))]
    fn with_spans(self, spans: Arc<dyn SpanSink>) -> Self {
        Self {
            spans: Some(spans),
            ..self
        }
    }

    fn span(&self, at: u64, len: u64) {
        if let Some(spans) = &self.spans {
            spans.span(at, len);
        }
    }

    /// Writes a directory; the root as `./`.
    ///
    /// # Errors
    ///
    /// [`ExportError::ReservedName`], [`ExportError::Write`].
    pub fn dir(&mut self, path: &LayerPath, meta: &Meta) -> Result<(), ExportError> {
        check_path(path)?;
        self.header(path, &EntryHeader::new(HeaderKind::Dir, path, meta))
    }

    /// Writes a regular file, as a sparse one if it has a MiB of holes, or if
    /// holes of files before it have come to 64 MiB of zeros. O(bytes outside
    /// holes), which are read twice for a sparse one.
    ///
    /// # Errors
    ///
    /// [`ExportError::Root`], [`ExportError::ReservedName`],
    /// [`ExportError::Scattered`], [`ExportError::Write`];
    /// [`ExportError::Read`] for content at rest.
    pub fn file(
        &mut self,
        path: &LayerPath,
        meta: &Meta,
        content: &Content,
    ) -> Result<(), ExportError> {
        check_below_root(path)?;
        let form = FileForm::of(content, &mut self.zeros);
        let form = form.map_err(|error| read_error(path, io::Error::other(error)))?;
        if let Some(spans) = &self.spans {
            spans.file(content.digest());
        }
        if let FileForm::Sparse(runs) = form {
            return self.sparse_file(path, meta, content, &runs);
        }
        self.file_header(path, meta, content.size())?;
        let mut end = 0;
        for piece in content.pieces() {
            let (offset, bytes) =
                piece.map_err(|error| read_error(path, io::Error::other(error)))?;
            self.zeros(path, offset - end)?;
            self.span(offset, bytes.len() as u64);
            self.bytes(path, &bytes)?;
            end = offset + bytes.len() as u64;
        }
        self.zeros(path, content.size() - end)?;
        self.padding(path, content.size())
    }

    fn sparse_file(
        &mut self,
        path: &LayerPath,
        meta: &Meta,
        content: &Content,
        runs: &DataRuns,
    ) -> Result<(), ExportError> {
        if runs.is_scattered() {
            return Err(ExportError::Scattered {
                path: path.clone(),
                data: runs.data(),
                stored: runs.stored(),
            });
        }
        let map = runs.map();
        let size = map.len() as u64 + runs.stored();
        let member = EntryHeader {
            size,
            real_size: Some(content.size()),
            ..EntryHeader::new(HeaderKind::File, path, meta)
        };
        self.header(path, &member)?;
        self.bytes(path, &map)?;
        self.buf.resize(CHUNK_BYTES, 0);
        let mut buf = std::mem::take(&mut self.buf);
        for (start, end) in runs.iter() {
            let mut at = start;
            while at < end {
                let want = usize::try_from(end - at).unwrap_or(usize::MAX);
                let want = want.min(buf.len());
                let piece = buf.get_mut(..want).unwrap_or_default();
                let read = content.read_at(piece, at);
                read.map_err(|error| read_error(path, io::Error::other(error)))?;
                self.span(at, want as u64);
                self.bytes(path, piece)?;
                at += want as u64;
            }
        }
        self.buf = buf;
        self.padding(path, size)
    }

    /// Writes a regular file of `size` bytes from a reader, which is read no
    /// further than that.
    ///
    /// # Errors
    ///
    /// As [`file`](Self::file); [`ExportError::Read`],
    /// [`ExportError::Short`]. The archive is of no use after these.
    pub fn file_from(
        &mut self,
        path: &LayerPath,
        meta: &Meta,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), ExportError> {
        self.file_header(path, meta, size)?;
        self.buf.resize(64 * 1024, 0);
        let mut given = 0;
        while given < size {
            let want = usize::try_from(size - given)
                .unwrap_or(usize::MAX)
                .min(self.buf.len());
            let buf = self.buf.get_mut(..want).unwrap_or_default();
            match content.read(buf) {
                Ok(0) => {
                    return Err(ExportError::Short {
                        path: path.clone(),
                        size,
                        given,
                    });
                }
                Ok(len) => {
                    let bytes = buf.get(..len).unwrap_or_default();
                    self.out
                        .write_all(bytes)
                        .map_err(|error| write_error(path, error))?;
                    given += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(path, error)),
            }
        }
        self.padding(path, size)
    }

    /// Writes a symbolic link.
    ///
    /// # Errors
    ///
    /// [`ExportError::Root`], [`ExportError::ReservedName`],
    /// [`ExportError::Write`].
    pub fn symlink(
        &mut self,
        path: &LayerPath,
        meta: &Meta,
        target: &[u8],
    ) -> Result<(), ExportError> {
        check_below_root(path)?;
        self.header(
            path,
            &EntryHeader {
                link: target,
                ..EntryHeader::new(HeaderKind::Symlink, path, meta)
            },
        )
    }

    /// Writes another name for an entry of a lower layer, or for an earlier one.
    ///
    /// The header says mode 0644, owner 0:0 and the epoch. Most readers look at
    /// none of it; buildah and podman give it to the file. Where the file is
    /// known, [`further_name`](Self::further_name) is for both.
    ///
    /// # Errors
    ///
    /// [`ExportError::Root`], [`ExportError::ReservedName`] for either path,
    /// [`ExportError::Write`].
    pub fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), ExportError> {
        self.further_name(path, target, &Meta::with_mode(0o644))
    }

    /// Writes another name for an earlier entry, whose metadata is `meta`; its
    /// extended attributes are not written again.
    ///
    /// # Errors
    ///
    /// As [`hard_link`](Self::hard_link).
    pub fn further_name(
        &mut self,
        path: &LayerPath,
        target: &LayerPath,
        meta: &Meta,
    ) -> Result<(), ExportError> {
        check_below_root(path)?;
        check_below_root(target)?;
        let meta = Meta {
            xattrs: None,
            ..meta.clone()
        };
        let target = header::path_bytes(target);
        self.header(
            path,
            &EntryHeader {
                link: &target,
                ..EntryHeader::new(HeaderKind::HardLink, path, &meta)
            },
        )
    }

    /// Writes a whiteout of `path`.
    ///
    /// # Errors
    ///
    /// [`ExportError::Root`], [`ExportError::ReservedName`],
    /// [`ExportError::WhiteoutTooLong`], [`ExportError::Write`].
    pub fn whiteout(&mut self, path: &LayerPath) -> Result<(), ExportError> {
        check_below_root(path)?;
        let Some((parents, name)) = path.split_last() else {
            return Err(ExportError::Root);
        };
        let name = whiteout_name(name.as_bytes());
        if name.len() > MAX_NAME_BYTES {
            return Err(ExportError::WhiteoutTooLong(path.clone()));
        }
        self.marker(path, &LayerPath::from(parents.to_vec()), &name)
    }

    /// Writes the mark that makes the directory at `path` opaque.
    ///
    /// # Errors
    ///
    /// [`ExportError::ReservedName`], [`ExportError::Write`].
    pub fn opaque(&mut self, path: &LayerPath) -> Result<(), ExportError> {
        check_path(path)?;
        self.marker(path, path, opaque_name())
    }

    /// Ends the archive and returns what it was written to, flushed.
    ///
    /// # Errors
    ///
    /// What the writer gives.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 1024])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn marker(
        &mut self,
        about: &LayerPath,
        dir: &LayerPath,
        name: &[u8],
    ) -> Result<(), ExportError> {
        let meta = Meta::with_mode(0o644);
        let mut member = EntryHeader::new(HeaderKind::File, dir, &meta);
        member.add_name(name);
        self.header(about, &member)
    }

    fn file_header(&mut self, path: &LayerPath, meta: &Meta, size: u64) -> Result<(), ExportError> {
        check_below_root(path)?;
        self.header(
            path,
            &EntryHeader {
                size,
                ..EntryHeader::new(HeaderKind::File, path, meta)
            },
        )
    }

    fn header(&mut self, path: &LayerPath, member: &EntryHeader<'_>) -> Result<(), ExportError> {
        self.buf.clear();
        member.encode(&mut self.buf);
        self.out
            .write_all(&self.buf)
            .map_err(|error| write_error(path, error))
    }

    fn bytes(&mut self, path: &LayerPath, bytes: &[u8]) -> Result<(), ExportError> {
        self.out
            .write_all(bytes)
            .map_err(|error| write_error(path, error))
    }

    fn zeros(&mut self, path: &LayerPath, len: u64) -> Result<(), ExportError> {
        let copied = io::copy(&mut io::repeat(0).take(len), &mut self.out);
        copied.map(drop).map_err(|error| write_error(path, error))
    }

    fn padding(&mut self, path: &LayerPath, size: u64) -> Result<(), ExportError> {
        self.zeros(path, size.next_multiple_of(512) - size)
    }
}

fn read_error(path: &LayerPath, error: io::Error) -> ExportError {
    ExportError::Read {
        path: path.clone(),
        error,
    }
}

fn write_error(path: &LayerPath, error: io::Error) -> ExportError {
    ExportError::Write {
        path: path.clone(),
        error,
    }
}

fn check_path(path: &LayerPath) -> Result<(), ExportError> {
    match path.names().iter().any(|name| is_marker(name.as_bytes())) {
        true => Err(ExportError::ReservedName(path.clone())),
        false => Ok(()),
    }
}

fn check_below_root(path: &LayerPath) -> Result<(), ExportError> {
    if path.is_root() {
        return Err(ExportError::Root);
    }
    check_path(path)
}
