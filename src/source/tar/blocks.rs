//! An archive as 512-byte blocks: headers and the data after them.

use super::format::ArchiveFormat;
use super::input::Input;
use crate::source::SourceErrorKind;
use crate::source::looks_like::looks_like;

pub(super) const BLOCK: usize = 512;

pub(super) struct Blocks<'r> {
    input: Input<'r>,
    /// Where the header read last begins.
    header_at: u64,
    /// What the archive begins with.
    front: Vec<u8>,
}

/// What stands where a header is due.
pub(super) enum NextBlock {
    Header(Box<::tar::Header>),
    /// A block of zeros.
    Zeros,
    /// No more bytes.
    End,
}

impl<'r> Blocks<'r> {
    pub(super) fn new(input: Input<'r>) -> Self {
        Self {
            input,
            header_at: 0,
            front: Vec::new(),
        }
    }

    /// Makes an error that tells which header is to blame.
    pub(super) fn bad(&self, reason: impl Into<String>) -> SourceErrorKind {
        SourceErrorKind::Archive {
            offset: self.header_at,
            reason: reason.into(),
        }
    }

    /// Makes an error of what is no archive, for this reason if it does not
    /// look like something else.
    pub(super) fn no_archive(&self, reason: &str) -> SourceErrorKind {
        let place = match self.input.format() {
            ArchiveFormat::Plain => {
                "not a tar archive, neither plain nor in gzip, zstd, xz or bzip2".into()
            }
            packed => format!("not a tar archive in the {} data", packed.name()),
        };
        let like = looks_like(&self.front).map(|like| format!("it looks like {like}"));
        let reason = like.unwrap_or_else(|| reason.to_owned());
        SourceErrorKind::NotALayer(format!("{place}: {reason}"))
    }

    pub(super) fn next_header(&mut self) -> Result<NextBlock, SourceErrorKind> {
        self.header_at = self.input.given();
        let mut header = Box::new(::tar::Header::new_old());
        let len = self.input.read_full(header.as_mut_bytes())?;
        if self.header_at == 0 {
            let front = header.as_bytes().get(..len).unwrap_or_default();
            front.clone_into(&mut self.front);
        }
        match len {
            0 => Ok(NextBlock::End),
            BLOCK if header.as_bytes().iter().all(|byte| *byte == 0) => Ok(NextBlock::Zeros),
            BLOCK => Ok(NextBlock::Header(header)),
            _ if self.header_at > 0 => Err(self.bad("the archive ends within a header")),
            _ => Err(self.no_archive("it ends within the first header")),
        }
    }

    /// Reads one block of an entry.
    pub(super) fn block(&mut self) -> Result<[u8; BLOCK], SourceErrorKind> {
        let mut block = [0; BLOCK];
        self.exactly(&mut block)?;
        Ok(block)
    }

    /// Fills `buf` from an entry's data.
    pub(super) fn exactly(&mut self, buf: &mut [u8]) -> Result<(), SourceErrorKind> {
        if self.input.read_full(buf)? < buf.len() {
            return Err(self.bad("the archive ends within this entry's data"));
        }
        Ok(())
    }

    /// Passes the zeros that fill up the last block of an entry's data.
    pub(super) fn padding(&mut self, size: u64) -> Result<(), SourceErrorKind> {
        let mut rest = [0; BLOCK];
        // Below BLOCK, so it fits.
        let len = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        self.exactly(rest.get_mut(..len).unwrap_or_default())
    }

    /// Reads all data of an extension header, whose size has been bounded.
    pub(super) fn data(&mut self, size: usize) -> Result<Vec<u8>, SourceErrorKind> {
        let mut data = vec![0; size];
        self.exactly(&mut data)?;
        self.padding(size as u64)?;
        Ok(data)
    }

    /// Takes in what follows the end.
    pub(super) fn drain(&mut self) -> Result<(), SourceErrorKind> {
        self.input.drain(&mut [0; 16 * 1024])
    }
}
