//! Layers from tar archives: ustar, PAX, GNU, V7; plain, gzip, zstd, xz, bzip2.
//!
//! Headers and extensions are read here, block by block, since a reader that
//! skips what it does not understand shows other entries than its fellows.
//! What is damaged, or says one thing in two ways, is an error:
//!
//! - A PAX record wins over the header (CVE-2025-62518), a file's own over a
//!   global one. PAX path and GNU long name together must be equal. Two
//!   headers of one sort before one entry, or a global path or size: an error.
//! - Links, directories, devices and FIFOs have no data, whatever their size
//!   says. What GNU's incremental archives say of a directory is passed over.
//! - A hard link to itself changes nothing, as GNU tar writes one for a file
//!   that it is given twice. What goes on in another volume is an error.
//! - A name that ends in `/` is a directory's where the type says file.
//! - Blocks of zeros end the archive; they may be missing. What follows them
//!   is not looked at. One such block before more headers is an error.
//! - 0 bytes are a layer without entries, in an image and compressed. As an
//!   archive of its own they are an error: whatever should have written it failed.
//! - Behind what is compressed there may be zeros, and nothing else.
//! - Volume labels and names of owners are left out; ids that do not fit in
//!   32 bits become `u32::MAX`; times are clamped.
//! - Whiteouts are those of [`marker`](super::marker), and character devices
//!   0/0. Extended attributes are kept, and mean nothing here.

mod blocks;
mod entry;
mod fields;
mod format;
mod input;
mod pax;
mod sparse;
mod unpack;

use std::collections::{HashMap, HashSet};
use std::io::Read;

use ::tar::Header;

use self::blocks::{Blocks, NextBlock};
use self::entry::Extensions;
#[cfg(feature = "oci")]
pub(super) use self::entry::header_name;
#[cfg(feature = "oci")]
pub(super) use self::fields::{size_of, text};
pub(super) use self::format::ArchiveFormat;
pub(super) use self::input::Input;
pub(super) use self::pax::PaxRecords;
#[cfg(feature = "oci")]
pub(super) use self::pax::parse as pax_records;
#[cfg(feature = "zip")]
pub(super) use self::unpack::{Packed, Unpacked};
use super::{SourceError, SourceErrorKind, SourceOptions, Spent};
use crate::chunk::ChunkPool;
use crate::layer::entry_pos::ObjectId;
use crate::layer::{Layer, LayerBuilder};
use crate::limits::MAX_TAR_EXTENSION_BYTES;
use crate::name::LayerPath;

/// Makes a layer from a tar archive: ustar, PAX, GNU or V7, plain or
/// compressed with gzip, zstd, xz or bzip2, told apart by the first bytes.
///
/// Reads `reader` to the archive's end, and to its own if it is compressed.
/// Holds a few buffers of 64 KiB besides the layer itself, and what unpacking
/// takes, which has bounds in [`limits`](crate::limits).
///
/// ```no_run
/// use stratafs::chunk::ChunkPool;
/// use stratafs::source::{self, SourceOptions};
///
/// let archive = std::fs::File::open("app.tar.gz")?;
/// let layer = source::tar(&ChunkPool::new(), archive, &SourceOptions::default())?;
/// println!("{}", layer.digest());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// A [`SourceError`] that names the entry: what is damaged or ambiguous, what
/// a layer cannot have, what is past a bound of `options`.
pub fn tar(
    pool: &ChunkPool,
    reader: impl Read,
    options: &SourceOptions,
) -> Result<Layer, SourceError> {
    let spent = Spent::default();
    let input = Input::new(reader, options)?.not_empty()?;
    read(pool, input, options, &spent)
}

/// Makes a layer from bytes that have been looked at already. The bounds are
/// those of all layers that `spent` counts, and it counts this one as well, also
/// if it fails.
pub(super) fn read<'r>(
    pool: &ChunkPool,
    mut input: Input<'r>,
    options: &SourceOptions,
    spent: &'r Spent,
) -> Result<Layer, SourceError> {
    input.count_in(spent);
    let mut archive = TarReader {
        pool,
        blocks: Blocks::new(input),
        builder: LayerBuilder::new().max_entries(options.max_entries),
        pending: Extensions::default(),
        global: PaxRecords::default(),
        options,
        headers: 0,
        metadata: 0,
        spent,
        aside: HashMap::new(),
        left_out: HashSet::new(),
        buf: vec![0; 64 * 1024],
    };
    while let Some(header) = archive.next_header()? {
        archive.member(&header)?;
        archive.count_metadata()?;
    }
    archive.blocks.drain()?;
    let headers = archive.headers;
    let layer = archive.builder.finish().map_err(SourceErrorKind::from)?;
    // Parents that are only implied count as well; the root is no entry.
    let made = layer.node_count().saturating_sub(1) as u64;
    let entries = spent.entries.add(made.saturating_sub(headers));
    match entries > options.max_entries {
        true => Err(too_many(options).into()),
        false => Ok(layer),
    }
}

fn too_many(options: &SourceOptions) -> SourceErrorKind {
    SourceErrorKind::Limit {
        what: "entries in the archive",
        limit: options.max_entries,
    }
}

/// An archive that is being read.
struct TarReader<'a, 'r> {
    pool: &'a ChunkPool,
    blocks: Blocks<'r>,
    builder: LayerBuilder,
    /// What the headers before the next entry say of it.
    pending: Extensions,
    global: PaxRecords,
    options: &'a SourceOptions,
    headers: u64,
    /// Bytes of metadata that have been counted.
    metadata: u64,
    /// What all layers of the image have used up.
    spent: &'a Spent,
    /// Files that only hard links lead to.
    aside: HashMap<LayerPath, ObjectId>,
    /// What was left out, since further hard links to it are as well.
    left_out: HashSet<LayerPath>,
    buf: Vec<u8>,
}

impl TarReader<'_, '_> {
    fn next_header(&mut self) -> Result<Option<Box<Header>>, SourceErrorKind> {
        let header = match self.blocks.next_header()? {
            NextBlock::Header(header) => header,
            NextBlock::End => return self.end(),
            NextBlock::Zeros => {
                return match self.blocks.next_header()? {
                    NextBlock::Zeros | NextBlock::End => self.end(),
                    NextBlock::Header(_) => {
                        Err(self.blocks.bad("more headers after a block of zeros"))
                    }
                };
            }
        };
        if !fields::checksum_holds(&header) {
            return Err(self.bad_checksum());
        }
        if self.spent.entries.add(1) > self.options.max_entries {
            return Err(too_many(self.options));
        }
        self.headers += 1;
        Ok(Some(header))
    }

    /// Counts what the entries so far cost, before there can be many more.
    fn count_metadata(&mut self) -> Result<(), SourceErrorKind> {
        let all = self.builder.metadata_bytes();
        let sum = self.spent.metadata.add(all - self.metadata);
        self.metadata = all;
        let limit = self.spent.max_metadata();
        match sum > limit {
            true => Err(SourceErrorKind::Limit {
                what: "bytes of metadata for an archive of its size",
                limit,
            }),
            false => Ok(()),
        }
    }

    fn end(&self) -> Result<Option<Box<Header>>, SourceErrorKind> {
        if self.pending.any() {
            return Err(self.blocks.bad("the archive ends where an entry is due"));
        }
        Ok(None)
    }

    fn bad_checksum(&self) -> SourceErrorKind {
        if self.headers == 0 {
            return self
                .blocks
                .no_archive("the first header's checksum does not hold");
        }
        self.blocks.bad("the header's checksum does not hold")
    }

    /// Takes one header with what follows it.
    fn member(&mut self, header: &Header) -> Result<(), SourceError> {
        match header.as_old().linkflag[0] {
            b'x' | b'X' => {
                let records = self.records(header)?;
                self.pending
                    .set_pax(records)
                    .map_err(|why| self.blocks.bad(why))?;
            }
            b'g' => {
                let records = self.records(header)?;
                let merged = match self.pending.any() {
                    true => Err("a global header between an entry and its own header"),
                    false => self.global.add_global(records),
                };
                merged.map_err(|why| self.blocks.bad(why))?;
            }
            kind @ (b'L' | b'K') => {
                let data = self.extension(header)?;
                let name = fields::text(&data).to_vec();
                self.pending
                    .set_long(kind, name)
                    .map_err(|why| self.blocks.bad(why))?;
            }
            _ => return self.entry(header),
        }
        Ok(())
    }

    fn records(&mut self, header: &Header) -> Result<PaxRecords, SourceErrorKind> {
        let data = self.extension(header)?;
        pax::parse(&data).map_err(|why| self.blocks.bad(why))
    }

    /// Reads the data of a header that is about another entry.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, SourceErrorKind> {
        let size = fields::size(&header.as_old().size);
        let size = size.ok_or_else(|| self.blocks.bad("the size is not a number"))?;
        match usize::try_from(size) {
            Ok(len) if size <= MAX_TAR_EXTENSION_BYTES => self.blocks.data(len),
            _ => Err(SourceErrorKind::Limit {
                what: "bytes in an extended header or long name",
                limit: MAX_TAR_EXTENSION_BYTES,
            }),
        }
    }
}
