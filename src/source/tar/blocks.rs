//! An archive as 512-byte blocks: headers and the data after them.

use super::input::Input;
use crate::source::SourceErrorKind;

pub(super) const BLOCK: usize = 512;

pub(super) struct Blocks<'r> {
    input: Input<'r>,
    /// Where the header read last begins.
    header_at: u64,
}

/// What stands where a header is due.
pub(super) enum Next {
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
        }
    }

    /// Makes an error that tells which header is to blame.
    pub(super) fn bad(&self, reason: impl Into<String>) -> SourceErrorKind {
        SourceErrorKind::Archive {
            offset: self.header_at,
            reason: reason.into(),
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.input.given()
    }

    pub(super) fn next_header(&mut self) -> Result<Next, SourceErrorKind> {
        self.header_at = self.input.given();
        let mut header = Box::new(::tar::Header::new_old());
        match self.input.read_full(header.as_mut_bytes())? {
            0 => Ok(Next::End),
            BLOCK if header.as_bytes().iter().all(|byte| *byte == 0) => Ok(Next::Zeros),
            BLOCK => Ok(Next::Header(header)),
            _ => Err(self.bad("the archive ends within a header")),
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
