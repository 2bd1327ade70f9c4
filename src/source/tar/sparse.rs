//! GNU's sparse files: which ranges of a file an archive holds.

use ::tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::blocks::{BLOCK, Blocks};
use super::fields;
use super::pax::{PaxRecords, SparseKeys};
use crate::limits::{MAX_FILE_BYTES, MAX_SPARSE_SEGMENTS, MAX_TAR_EXTENSION_BYTES};
use crate::source::SourceErrorKind;

/// The ranges that an archive holds of a sparse file, checked: in order,
/// apart from each other, within the file, and as many bytes as there are.
pub(super) struct SparseMap {
    /// Bytes of the file, holes included.
    pub(super) size: u64,
    pub(super) segments: Vec<(u64, u64)>,
}

const DAMAGED: &str = "its sparse map is damaged";

impl SparseMap {
    /// Checks a map against the bytes that the archive holds.
    fn new(size: u64, segments: Vec<(u64, u64)>, stored: u64) -> Result<Self, &'static str> {
        if size > MAX_FILE_BYTES {
            return Err("its sparse map says that it is larger than a file can be");
        }
        let (mut end, mut held) = (0, 0_u64);
        for (offset, len) in &segments {
            if *offset < end {
                return Err("its sparse map overlaps or goes back");
            }
            let next = offset.checked_add(*len).filter(|end| *end <= size);
            end = next.ok_or("its sparse map goes past the file's end")?;
            // At most the file's size in all, since they do not overlap.
            held += len;
        }
        if held != stored {
            return Err("its sparse map does not add up to the bytes in the archive");
        }
        Ok(Self { size, segments })
    }
}

/// Reads the map of an `S` entry, which goes on in blocks after the header.
pub(super) fn old_gnu(
    blocks: &mut Blocks<'_>,
    header: &Header,
    stored: u64,
) -> Result<SparseMap, SourceErrorKind> {
    let gnu = header
        .as_gnu()
        .ok_or_else(|| blocks.bad("a sparse file without GNU's magic"))?;
    let size = fields::size(&gnu.realsize).ok_or_else(|| blocks.bad(DAMAGED))?;
    let mut segments = Vec::new();
    let mut more = take_segments(&mut segments, &gnu.sparse).map_err(|why| blocks.bad(why))?
        && gnu.isextended[0] != 0;
    let mut bytes = 0;
    while more {
        bytes += BLOCK as u64;
        if bytes > MAX_TAR_EXTENSION_BYTES {
            return Err(too_long());
        }
        let mut extension = GnuExtSparseHeader::new();
        *extension.as_mut_bytes() = blocks.block()?;
        take_segments(&mut segments, &extension.sparse).map_err(|why| blocks.bad(why))?;
        more = extension.isextended[0] != 0;
    }
    check_count(&segments)?;
    SparseMap::new(size, segments, stored).map_err(|why| blocks.bad(why))
}

/// Takes the fields in use; returns whether all were.
fn take_segments(
    segments: &mut Vec<(u64, u64)>,
    fields: &[GnuSparseHeader],
) -> Result<bool, &'static str> {
    for field in fields {
        if field.offset[0] == 0 || field.numbytes[0] == 0 {
            return Ok(false);
        }
        let offset = fields::size(&field.offset).ok_or(DAMAGED)?;
        segments.push((offset, fields::size(&field.numbytes).ok_or(DAMAGED)?));
    }
    Ok(true)
}

/// Reads the map that PAX records give, or announce: in format 1.0 it stands
/// before the data. Returns it with the bytes it took of the `stored` ones.
pub(super) fn pax(
    blocks: &mut Blocks<'_>,
    records: &PaxRecords,
    stored: u64,
) -> Result<(SparseMap, u64), SourceErrorKind> {
    let keys = &records.sparse;
    let size = keys.size.get().copied();
    let size = size.ok_or_else(|| blocks.bad("its sparse map gives no size"))?;
    let version = (keys.major.get().copied(), keys.minor.get().copied());
    let (segments, taken) = match version {
        (Some(1), Some(0)) if keys.map.is_none() => map_in_data(blocks, stored)?,
        (None, None) | (Some(0), Some(0 | 1)) => (map_in_records(blocks, keys)?, 0),
        _ => return Err(blocks.bad("it is in an unknown sparse format")),
    };
    check_count(&segments)?;
    let map = SparseMap::new(size, segments, stored - taken).map_err(|why| blocks.bad(why))?;
    Ok((map, taken))
}

fn map_in_records(
    blocks: &Blocks<'_>,
    keys: &SparseKeys,
) -> Result<Vec<(u64, u64)>, SourceErrorKind> {
    let segments = keys.map.clone().unwrap_or_default();
    match keys.count.get() {
        Some(count) if *count == segments.len() as u64 => Ok(segments),
        None if keys.map.is_some() => Ok(segments),
        _ => Err(blocks.bad("its sparse map has not as many parts as it says")),
    }
}

/// Reads decimal lines: the number of segments, then offset and length of
/// each. Returns the bytes of the blocks that held them.
fn map_in_data(
    blocks: &mut Blocks<'_>,
    stored: u64,
) -> Result<(Vec<(u64, u64)>, u64), SourceErrorKind> {
    let mut lines = Lines {
        blocks,
        stored,
        taken: 0,
        block: [0; BLOCK],
        at: BLOCK,
    };
    let count = lines.number()?;
    if count > MAX_SPARSE_SEGMENTS as u64 {
        return Err(too_many());
    }
    let mut segments = Vec::new();
    for _ in 0..count {
        segments.push((lines.number()?, lines.number()?));
    }
    Ok((segments, lines.taken))
}

struct Lines<'a, 'r> {
    blocks: &'a mut Blocks<'r>,
    stored: u64,
    taken: u64,
    block: [u8; BLOCK],
    at: usize,
}

impl Lines<'_, '_> {
    fn number(&mut self) -> Result<u64, SourceErrorKind> {
        let mut digits = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                // Twenty digits hold any number.
                digit if digits.len() < 20 => digits.push(digit),
                _ => return Err(self.blocks.bad(DAMAGED)),
            }
        }
        fields::decimal(&digits).ok_or_else(|| self.blocks.bad(DAMAGED))
    }

    fn byte(&mut self) -> Result<u8, SourceErrorKind> {
        if self.at == BLOCK {
            self.taken += BLOCK as u64;
            if self.taken > self.stored {
                return Err(self.blocks.bad("its sparse map is longer than its data"));
            }
            if self.taken > MAX_TAR_EXTENSION_BYTES {
                return Err(too_long());
            }
            self.block = self.blocks.block()?;
            self.at = 0;
        }
        let byte = self.block.get(self.at).copied();
        self.at += 1;
        byte.ok_or_else(|| self.blocks.bad(DAMAGED))
    }
}

fn check_count(segments: &[(u64, u64)]) -> Result<(), SourceErrorKind> {
    if segments.len() > MAX_SPARSE_SEGMENTS {
        Err(too_many())
    } else {
        Ok(())
    }
}

fn too_many() -> SourceErrorKind {
    let limit = MAX_SPARSE_SEGMENTS as u64;
    SourceErrorKind::Limit {
        what: "segments in a sparse map",
        limit,
    }
}

fn too_long() -> SourceErrorKind {
    SourceErrorKind::Limit {
        what: "bytes of a sparse map",
        limit: MAX_TAR_EXTENSION_BYTES,
    }
}
