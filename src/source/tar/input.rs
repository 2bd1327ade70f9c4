//! The bytes of an archive: compression told by its magic and undone, with a
//! bound on how much may come of how little.

use std::io::Read;
use std::rc::Rc;

use super::format::ArchiveFormat;
use super::unpack::{ByteCount, Packed, Unpacked};
use crate::limits::RATIO_FLOOR_BYTES;
use crate::source::{SourceErrorKind, SourceOptions, Spent};

pub(in crate::source) struct Input<'r> {
    inner: Unpacked<'r>,
    format: ArchiveFormat,
    is_empty: bool,
    /// Bytes taken from the source, and made of them.
    count: Rc<ByteCount>,
    given: u64,
    /// Bytes taken that have been counted there.
    reported: u64,
    /// What all layers of the image have used up.
    spent: Option<&'r Spent>,
    max_ratio: u64,
    tap: Option<Tap<'r>>,
}

/// Sees every byte once it is decompressed.
pub(in crate::source) type Tap<'r> = Box<dyn FnMut(&[u8]) + 'r>;

impl<'r> Input<'r> {
    pub(in crate::source) fn new(
        source: impl Read + 'r,
        options: &SourceOptions,
    ) -> Result<Self, SourceErrorKind> {
        let mut source = Packed::new(source);
        let head = source.peek(ArchiveFormat::MAGIC_BYTES);
        let head = head.map_err(SourceErrorKind::Io)?;
        let (format, is_empty) = (ArchiveFormat::of(head), head.is_empty());
        Ok(Self {
            is_empty,
            count: source.count(),
            inner: Unpacked::new(format, source)?,
            format,
            given: 0,
            reported: 0,
            spent: None,
            max_ratio: options.max_ratio,
            tap: None,
        })
    }

    /// Refuses 0 bytes, which are a layer of an image, but no archive that anybody
    /// means: something that should have written one failed.
    pub(in crate::source) fn not_empty(self) -> Result<Self, SourceErrorKind> {
        match self.is_empty {
            true => Err(SourceErrorKind::NotALayer(
                "empty: no archive has 0 bytes".into(),
            )),
            false => Ok(self),
        }
    }

    /// Returns whether what is read is compressed.
    pub(in crate::source) fn compressed(&self) -> bool {
        self.format.is_packed()
    }

    /// Returns how it is compressed, if it is.
    pub(super) fn format(&self) -> ArchiveFormat {
        self.format
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

    /// Returns how many bytes have been read.
    pub(in crate::source) fn given(&self) -> u64 {
        self.given
    }

    /// Reads until `buf` is full or the archive ends; returns the count.
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
                Err(kind) => return Err(kind),
            }
        }
        Ok(done)
    }

    /// Reads what follows the end of the archive, so that a damaged or cut
    /// off compressed stream does not pass for a whole one. What is neither
    /// compressed nor tapped may go on for ever and is left alone.
    pub(super) fn drain(&mut self, buf: &mut [u8]) -> Result<(), SourceErrorKind> {
        while (self.compressed() || self.tap.is_some()) && self.read_full(buf)? > 0 {}
        Ok(())
    }

    /// Holds the bound for this archive, and for all of its image together:
    /// many that are small could pass it one by one.
    fn check_ratio(&mut self, now: u64) -> Result<(), SourceErrorKind> {
        let past = |(taken, given): (u64, u64)| {
            given > RATIO_FLOOR_BYTES && given > taken.saturating_mul(self.max_ratio)
        };
        let own = (self.count.taken.get(), self.given);
        let all = self.spent.map_or(own, |spent| {
            let taken = spent.taken.add(own.0 - self.reported);
            (taken, spent.given.add(now))
        });
        self.reported = own.0;
        if self.compressed() && (past(own) || past(all)) {
            return Err(SourceErrorKind::Limit {
                what: "bytes out of each byte of a compressed archive",
                limit: self.max_ratio,
            });
        }
        Ok(())
    }
}
