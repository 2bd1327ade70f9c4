//! Compression undone: members one after the other, and zeros after the last.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use super::format::ArchiveFormat;
use crate::source::SourceErrorKind;

/// Bytes that are read ahead, before and after decompression.
const BUFFER_BYTES: usize = 64 * 1024;

/// What is compressed, or plain, read ahead so that one can look at it.
pub(in crate::source) struct Packed<'r> {
    inner: Box<dyn Read + 'r>,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
    count: Rc<ByteCount>,
}

/// How far a source has been read; shared with whoever holds it packed in.
#[derive(Default)]
pub(super) struct ByteCount {
    /// Bytes that the source gave.
    pub(super) taken: Cell<u64>,
    /// Bytes of them that have been used.
    used: Cell<u64>,
    /// The source itself failed, not what it holds.
    failed: Cell<bool>,
}

impl<'r> Packed<'r> {
    pub(in crate::source) fn new(inner: impl Read + 'r) -> Self {
        Self {
            inner: Box::new(inner),
            buf: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            count: Rc::default(),
        }
    }

    pub(super) fn count(&self) -> Rc<ByteCount> {
        Rc::clone(&self.count)
    }

    /// Shows the next bytes: `len` of them, or what is left.
    pub(super) fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        while self.end < len.min(self.buf.len()) && self.more()? > 0 {}
        Ok(self.buf.get(..self.end).unwrap_or_default())
    }

    /// Reads behind what is there; returns how many bytes came.
    fn more(&mut self) -> io::Result<usize> {
        loop {
            let room = self.buf.get_mut(self.end..).unwrap_or_default();
            match self.inner.read(room) {
                Ok(len) => {
                    self.end += len;
                    let taken = &self.count.taken;
                    taken.set(taken.get() + len as u64);
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.count.failed.set(true);
                    return Err(error);
                }
            }
        }
    }
}

impl BufRead for Packed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.more()?;
        }
        Ok(self.buf.get(self.start..self.end).unwrap_or_default())
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.count.used.set(self.count.used.get() + len as u64);
    }
}

impl Read for Packed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut there = self.fill_buf()?;
        let len = there.read(buf)?;
        self.consume(len);
        Ok(len)
    }
}

/// A decoder of one member, which ends where the member does.
trait MemberDecoder<'r>: Read {
    /// Returns what it reads from, just behind the member.
    fn into_packed(self: Box<Self>) -> Packed<'r>;
}

/// What comes out of a source.
pub(in crate::source) struct Unpacked<'r> {
    format: ArchiveFormat,
    stage: Stage<'r>,
    count: Rc<ByteCount>,
    buf: Box<[u8]>,
    start: usize,
    end: usize,
}

enum Stage<'r> {
    Plain(Packed<'r>),
    MemberDecoder(Box<dyn MemberDecoder<'r> + 'r>),
    Over,
}

impl<'r> Unpacked<'r> {
    /// Begins to unpack what is in this format. Nothing at all is nothing
    /// unpacked, too.
    pub(in crate::source) fn new(
        format: ArchiveFormat,
        source: Packed<'r>,
    ) -> Result<Self, SourceErrorKind> {
        let count = source.count();
        let (stage, len) = match format.is_packed() {
            true => (Stage::MemberDecoder(member(format, source)?), BUFFER_BYTES),
            false => (Stage::Plain(source), 0),
        };
        Ok(Self {
            format,
            stage,
            count,
            buf: vec![0; len].into(),
            start: 0,
            end: 0,
        })
    }

    pub(in crate::source) fn read(&mut self, buf: &mut [u8]) -> Result<usize, SourceErrorKind> {
        if let Stage::Plain(source) = &mut self.stage {
            return source.read(buf).map_err(SourceErrorKind::Io);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, self.fill()?);
        }
        let mut there = self.buf.get(self.start..self.end).unwrap_or_default();
        let len = there.read(buf).map_err(SourceErrorKind::Io)?;
        self.start += len;
        Ok(len)
    }

    /// Fills the buffer from the first member that still has something.
    fn fill(&mut self) -> Result<usize, SourceErrorKind> {
        loop {
            let Stage::MemberDecoder(member) = &mut self.stage else {
                return Ok(0);
            };
            match member.read(&mut self.buf) {
                Ok(0) => self.next()?,
                Ok(len) => return Ok(len),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.bad(error)),
            }
        }
    }

    /// Goes on behind a member: with the next one, or past zeros to the end.
    fn next(&mut self) -> Result<(), SourceErrorKind> {
        let Stage::MemberDecoder(done) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Ok(());
        };
        let mut source = done.into_packed();
        let zeros = pass_zeros(&mut source).map_err(SourceErrorKind::Io)?;
        let head = source.peek(ArchiveFormat::MAGIC_BYTES);
        let head = head.map_err(SourceErrorKind::Io)?;
        if head.is_empty() {
            return Ok(());
        }
        // Only xz has zeros between members, whole words of them: readers of
        // the other formats stop there, or do not.
        let apart = zeros == 0 || self.format == ArchiveFormat::Xz && zeros.is_multiple_of(4);
        if !apart || ArchiveFormat::of(head) != self.format {
            let what = match zeros {
                0 => "what follows the end is neither more of it nor zeros",
                _ => "unexpected data after the zeros at its end",
            };
            return Err(self.damaged(format!("{what}: cut it off, or pack the archive again")));
        }
        self.stage = Stage::MemberDecoder(member(self.format, source)?);
        Ok(())
    }

    fn bad(&self, error: io::Error) -> SourceErrorKind {
        if self.count.failed.get() {
            return SourceErrorKind::Io(error);
        }
        #[cfg(feature = "xz")]
        if let Some(limit) = xz::past_limit(&error) {
            return limit;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends too early".into()),
            _ => self.damaged(error.to_string()),
        }
    }

    fn damaged(&self, reason: String) -> SourceErrorKind {
        SourceErrorKind::Compressed {
            format: self.format.name(),
            offset: self.count.used.get(),
            reason,
        }
    }
}

/// Passes zeros; returns how many there were.
fn pass_zeros(source: &mut Packed<'_>) -> io::Result<u64> {
    let mut zeros = 0;
    loop {
        let there = source.fill_buf()?;
        let len = there.iter().take_while(|byte| **byte == 0).count();
        let all = len == there.len() && len > 0;
        source.consume(len);
        zeros += len as u64;
        if !all {
            return Ok(zeros);
        }
    }
}

fn member<'r>(
    format: ArchiveFormat,
    source: Packed<'r>,
) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    match format {
        ArchiveFormat::Gzip => gzip(source),
        ArchiveFormat::Zstd => zstd(source),
        ArchiveFormat::Xz => xz(source),
        ArchiveFormat::Bzip2 => bzip2(source),
        #[cfg(feature = "zip")]
        ArchiveFormat::Deflate => Ok(Box::new(flate2::bufread::DeflateDecoder::new(source))),
        #[cfg(not(feature = "zip"))]
        ArchiveFormat::Deflate => without("zip"),
        ArchiveFormat::Plain | ArchiveFormat::Zip | ArchiveFormat::Ar => {
            Err(SourceErrorKind::NotALayer(format!(
                "{}, where a tar archive was expected",
                format.name()
            )))
        }
    }
}

/// The decoder is not built in.
#[cfg(not(all(
    feature = "gzip",
    feature = "zstd",
    feature = "xz",
    feature = "bzip2",
    feature = "zip"
)))]
fn without<'r>(name: &str) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    let reason = format!("{name}: built without the feature `{name}`");
    Err(SourceErrorKind::NotALayer(reason))
}

#[cfg(feature = "gzip")]
fn gzip<'r>(source: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    Ok(Box::new(flate2::bufread::GzDecoder::new(source)))
}

#[cfg(feature = "gzip")]
impl<'r> MemberDecoder<'r> for flate2::bufread::GzDecoder<Packed<'r>> {
    fn into_packed(self: Box<Self>) -> Packed<'r> {
        self.into_inner()
    }
}

#[cfg(feature = "zip")]
impl<'r> MemberDecoder<'r> for flate2::bufread::DeflateDecoder<Packed<'r>> {
    fn into_packed(self: Box<Self>) -> Packed<'r> {
        self.into_inner()
    }
}

#[cfg(not(feature = "gzip"))]
fn gzip<'r>(_: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    without("gzip")
}

#[cfg(feature = "zstd")]
fn zstd<'r>(source: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    let decoder = ::zstd::stream::read::Decoder::with_buffer(source);
    let mut decoder = decoder.map_err(SourceErrorKind::Io)?.single_frame();
    decoder
        .window_log_max(crate::limits::MAX_ZSTD_WINDOW_LOG)
        .map_err(SourceErrorKind::Io)?;
    Ok(Box::new(decoder))
}

#[cfg(feature = "zstd")]
impl<'r> MemberDecoder<'r> for ::zstd::stream::read::Decoder<'static, Packed<'r>> {
    fn into_packed(self: Box<Self>) -> Packed<'r> {
        self.finish()
    }
}

#[cfg(not(feature = "zstd"))]
fn zstd<'r>(_: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    without("zstd")
}

#[cfg(feature = "bzip2")]
fn bzip2<'r>(source: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    Ok(Box::new(::bzip2::bufread::BzDecoder::new(source)))
}

#[cfg(feature = "bzip2")]
impl<'r> MemberDecoder<'r> for ::bzip2::bufread::BzDecoder<Packed<'r>> {
    fn into_packed(self: Box<Self>) -> Packed<'r> {
        self.into_inner()
    }
}

#[cfg(not(feature = "bzip2"))]
fn bzip2<'r>(_: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    without("bzip2")
}

#[cfg(feature = "xz")]
use self::xz::xz;

#[cfg(feature = "xz")]
mod xz {
    use std::io;

    use liblzma::bufread::XzDecoder;
    use liblzma::stream::{Error, Stream, TELL_UNSUPPORTED_CHECK};

    use super::{MemberDecoder, Packed};
    use crate::limits::MAX_XZ_MEMORY_BYTES;
    use crate::source::SourceErrorKind;

    pub(super) fn xz<'r>(
        source: Packed<'r>,
    ) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
        let stream = Stream::new_stream_decoder(MAX_XZ_MEMORY_BYTES, TELL_UNSUPPORTED_CHECK);
        let stream = stream.map_err(|error| SourceErrorKind::Io(error.into()))?;
        Ok(Box::new(XzDecoder::new_stream(source, stream)))
    }

    impl<'r> MemberDecoder<'r> for XzDecoder<Packed<'r>> {
        fn into_packed(self: Box<Self>) -> Packed<'r> {
            self.into_inner()
        }
    }

    /// Returns whether the decoder would have taken too much memory.
    pub(super) fn past_limit(error: &io::Error) -> Option<SourceErrorKind> {
        match error.get_ref()?.downcast_ref::<Error>()? {
            Error::MemLimit => Some(SourceErrorKind::Limit {
                what: "bytes of memory to unpack xz",
                limit: MAX_XZ_MEMORY_BYTES,
            }),
            _ => None,
        }
    }
}

#[cfg(not(feature = "xz"))]
fn xz<'r>(_: Packed<'r>) -> Result<Box<dyn MemberDecoder<'r> + 'r>, SourceErrorKind> {
    without("xz")
}
