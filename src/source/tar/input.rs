//! The bytes of an archive: compression told by its magic and undone, with a
//! bound on how much may come of how little.

use std::cell::Cell;
use std::io::{self, BufReader, Cursor, Read};
use std::rc::Rc;

use crate::limits::RATIO_FLOOR_BYTES;
use crate::source::{SourceErrorKind, SourceOptions, Spent};

/// Bytes that are read ahead, before and after decompression.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes at the front that tell the format.
const MAGIC_BYTES: usize = 6;

pub(in crate::source) struct Input<'r> {
    inner: Box<dyn Read + 'r>,
    compressed: bool,
    /// Bytes taken from the source, and made of them.
    taken: Rc<Cell<u64>>,
    given: u64,
    /// Bytes taken that have been counted there.
    told: u64,
    /// What all layers of the image have used up.
    spent: Option<&'r Spent>,
    max_ratio: u64,
    tap: Option<Tap<'r>>,
}

/// Sees every byte once it is decompressed.
pub(in crate::source) type Tap<'r> = Box<dyn FnMut(&[u8]) + 'r>;

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Plain,
    Gzip,
    Zstd,
    Other(&'static str),
}

impl<'r> Input<'r> {
    pub(in crate::source) fn new(
        mut source: impl Read + 'r,
        options: &SourceOptions,
    ) -> Result<Self, SourceErrorKind> {
        let mut magic = Vec::new();
        let head = source
            .by_ref()
            .take(MAGIC_BYTES as u64)
            .read_to_end(&mut magic);
        head.map_err(SourceErrorKind::Io)?;
        if magic.is_empty() {
            return Err(SourceErrorKind::NoLayer(
                "empty: no archive has 0 bytes".into(),
            ));
        }
        let format = Format::of(&magic);
        let taken = Rc::new(Cell::new(0));
        let counted = Counted {
            inner: Cursor::new(magic).chain(source),
            taken: Rc::clone(&taken),
        };
        Ok(Self {
            inner: decoder(format, BufReader::with_capacity(BUFFER_BYTES, counted))?,
            compressed: format != Format::Plain,
            taken,
            given: 0,
            told: 0,
            spent: None,
            max_ratio: options.max_ratio,
            tap: None,
        })
    }

    /// Tells whether what is read is compressed.
    #[cfg(feature = "oci")]
    pub(in crate::source) fn compressed(&self) -> bool {
        self.compressed
    }

    /// Shows every byte to `tap`, those after the archive's end included.
    #[cfg(feature = "oci")]
    pub(in crate::source) fn tap(&mut self, tap: Tap<'r>) {
        self.tap = Some(tap);
    }

    /// Counts what is read from here on for all layers of the image together.
    pub(super) fn count_in(&mut self, spent: &'r Spent) {
        self.spent = Some(spent);
    }

    /// Gives how many bytes have been read.
    pub(in crate::source) fn given(&self) -> u64 {
        self.given
    }

    /// Reads until `buf` is full or the archive ends; gives the count.
    pub(in crate::source) fn read_full(
        &mut self,
        buf: &mut [u8],
    ) -> Result<usize, SourceErrorKind> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.inner.read(rest) {
                Ok(0) => break,
                Ok(len) => {
                    if let (Some(tap), Some(bytes)) = (&mut self.tap, rest.get(..len)) {
                        tap(bytes);
                    }
                    done += len;
                    self.given += len as u64;
                    self.check_ratio(len as u64)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(SourceErrorKind::Io(error)),
            }
        }
        Ok(done)
    }

    /// Reads what follows the end of the archive, so that a damaged or cut
    /// off compressed stream does not pass for a whole one. What is neither
    /// compressed nor tapped may go on for ever and is left alone.
    pub(super) fn drain(&mut self, buf: &mut [u8]) -> Result<(), SourceErrorKind> {
        while (self.compressed || self.tap.is_some()) && self.read_full(buf)? > 0 {}
        Ok(())
    }

    /// Holds the bound for this archive, and for all of its image together:
    /// many that are small could pass it one by one.
    fn check_ratio(&mut self, now: u64) -> Result<(), SourceErrorKind> {
        let past = |(taken, given): (u64, u64)| {
            given > RATIO_FLOOR_BYTES && given > taken.saturating_mul(self.max_ratio)
        };
        let own = (self.taken.get(), self.given);
        let all = self.spent.map_or(own, |spent| {
            let taken = spent.taken.add(own.0 - self.told);
            (taken, spent.given.add(now))
        });
        self.told = own.0;
        if self.compressed && (past(own) || past(all)) {
            return Err(SourceErrorKind::Limit {
                what: "bytes out of each byte of a compressed archive",
                limit: self.max_ratio,
            });
        }
        Ok(())
    }
}

impl Format {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Other("xz"),
            [b'B', b'Z', b'h', ..] => Self::Other("bzip2"),
            [b'P', b'K', 3, 4, ..] => Self::Other("zip"),
            _ => Self::Plain,
        }
    }
}

fn decoder<'r>(
    format: Format,
    source: BufReader<impl Read + 'r>,
) -> Result<Box<dyn Read + 'r>, SourceErrorKind> {
    match format {
        Format::Plain => Ok(Box::new(source)),
        Format::Gzip => gzip(source),
        Format::Zstd => zstd(source),
        Format::Other(name) => {
            let reason = format!("{name} is not supported: use a tar, plain or in gzip or zstd");
            Err(SourceErrorKind::NoLayer(reason))
        }
    }
}

#[cfg(feature = "gzip")]
fn gzip<'r>(source: BufReader<impl Read + 'r>) -> Result<Box<dyn Read + 'r>, SourceErrorKind> {
    let decoder = flate2::bufread::MultiGzDecoder::new(source);
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
}

#[cfg(not(feature = "gzip"))]
fn gzip<'r>(_: BufReader<impl Read + 'r>) -> Result<Box<dyn Read + 'r>, SourceErrorKind> {
    Err(SourceErrorKind::NoLayer(
        "gzip: built without the feature `gzip`".into(),
    ))
}

#[cfg(feature = "zstd")]
fn zstd<'r>(source: BufReader<impl Read + 'r>) -> Result<Box<dyn Read + 'r>, SourceErrorKind> {
    let mut decoder =
        ::zstd::stream::read::Decoder::with_buffer(source).map_err(SourceErrorKind::Io)?;
    decoder
        .window_log_max(crate::limits::MAX_ZSTD_WINDOW_LOG)
        .map_err(SourceErrorKind::Io)?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
}

#[cfg(not(feature = "zstd"))]
fn zstd<'r>(_: BufReader<impl Read + 'r>) -> Result<Box<dyn Read + 'r>, SourceErrorKind> {
    Err(SourceErrorKind::NoLayer(
        "zstd: built without the feature `zstd`".into(),
    ))
}

struct Counted<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buf)?;
        self.taken.set(self.taken.get() + len as u64);
        Ok(len)
    }
}
