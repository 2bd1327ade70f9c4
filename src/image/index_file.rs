//! An index as a file: written once, then mapped and used as it stands.
//!
//! docs/FORMAT.md has the byte tables. A page of header, the digests of the
//! blocks of what follows, then that: the tables. The file's name is the
//! digest of header and block digests, so a block that holds against its
//! digest is what was written.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub(crate) use super::attributes::{ContentSource, decode as decode_xattrs, encode_xattrs};
use super::attributes::{ContentTable, XattrTable};
use super::checked::CheckedEntries;
use super::entry::is_valid_node;
use super::guard::{GUARD_BLOCK, Guard};
use super::index::Index;
use super::lazy::Lazy;
pub(crate) use super::record::{ContentRecord, RunRecord};
use super::record::{DIR, SlotRecord};
use super::records::{FixedRecord, GuardedBytes, Records};
use super::table::NameTable;
use super::{Image, ImageId, IndexFile, Inner};
use crate::bounded::bounded_u32;
use crate::chunk::Content;
use crate::digest::Digest;

const MAGIC: [u8; 8] = *b"stratidx";

/// The version that is written, and the only one that is read.
pub(crate) const INDEX_VERSION: u32 = 1;

/// Bytes of the header, and what sections of the file align to.
const PAGE: usize = 4096;

/// Tables in the file.
const SECTIONS: usize = 10;

/// Where a byte of each table lies, as messages say it.
pub(super) const TABLES: [&str; SECTIONS] = [
    "in the names of packs",
    "in the objects",
    "in the names in directories",
    "in the bytes of names",
    "in the targets of links",
    "in the buckets of the hash table",
    "in the contents",
    "in the runs",
    "in the ends of attributes",
    "in the attributes",
];

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct IndexHeader {
    magic: [u8; 8],
    version: U32,
    block: U32,
    /// Bytes from the start of the file to the tables.
    start: U64,
    /// Bytes of the tables.
    len: U64,
    layers: U32,
    reserved: U32,
    /// Where in the tables each one lies: packs, nodes, slots, names, targets,
    /// places, contents, runs, ends of attributes, attributes.
    sections: [SectionSpan; SECTIONS],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SectionSpan {
    start: U64,
    len: U64,
}

/// Why a file was refused as an index. The caller adds the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum IndexError {
    Magic,
    Version(u32),
    /// Bytes that there are, and that there should be.
    Length(u64, u64),
    /// What header and block digests hash to.
    Digest(Digest),
    /// What is wrong although the digest holds.
    Table(&'static str),
}

/// Where the runs of contents come from when an index is written.
pub(crate) trait RunSource {
    /// Why a content has none.
    type Error;

    /// Returns the runs of a content, by numbers of packs.
    fn runs(&mut self, content: &Content) -> Result<Vec<RunRecord>, Self::Error>;

    /// Returns the names of the packs that runs have named so far, by number.
    ///
    /// # Errors
    ///
    /// Where one has no name yet.
    fn packs(&self) -> Result<Vec<Digest>, Self::Error>;

    /// Makes the error for more of something than an index can number.
    fn too_many(what: &'static str, found: usize) -> Self::Error;
}

impl Image {
    /// Writes the index of an image that was made in memory. Returns the file's
    /// bytes and name.
    pub(crate) fn to_index<S: RunSource>(
        &self,
        source: &mut S,
    ) -> Result<(Vec<u8>, Digest), S::Error> {
        let index = &self.0.index;
        let (mut contents, mut runs) = (Vec::new(), Vec::new());
        let held: &[Content] = match &index.contents {
            ContentTable::InMemory(held) => held,
            ContentTable::Mapped { .. } => &[],
        };
        for content in held {
            let own = source.runs(content)?;
            let number = |len: usize| {
                u32::try_from(len).map_err(|_| S::too_many("runs of the files of an image", len))
            };
            contents.push(ContentRecord {
                digest: *content.digest().as_bytes(),
                first: number(runs.len())?.into(),
                count: number(own.len())?.into(),
            });
            runs.extend(own);
        }
        let (ends, xattrs) = xattrs(&index.xattrs);
        let packs = source.packs()?;
        let packs: Vec<[u8; 32]> = packs.iter().map(|pack| *pack.as_bytes()).collect();
        Ok(assemble(
            self.layer_count(),
            sections(
                index,
                [packs.as_bytes(), contents.as_bytes(), runs.as_bytes()],
                [ends.as_bytes(), &xattrs],
            ),
        ))
    }

    /// Takes an index over as it stands in a file. `cut` is set by whoever
    /// mapped it once it has become shorter; `open` gets the packs.
    pub(crate) fn from_index_file<E>(
        file: Bytes,
        name: String,
        cut: Arc<AtomicBool>,
        expected: Digest,
        id: ImageId,
        open: impl FnOnce(Vec<Digest>) -> Result<Arc<dyn ContentSource>, E>,
    ) -> Result<Result<Self, E>, IndexError> {
        let header = header(&file, expected)?;
        let start = usize::try_from(header.start.get()).unwrap_or(usize::MAX);
        let body = file.slice(start..);
        let guard = Guard::new(
            body.clone(),
            file.slice(PAGE..),
            cut,
            name.clone(),
            start as u64,
        );
        let tables = Tables {
            header,
            guard: Arc::new(guard),
            body,
        };
        let origin = match open(tables.packs()?) {
            Ok(origin) => origin,
            Err(error) => return Ok(Err(error)),
        };
        let index = tables.index(origin)?;
        Ok(Ok(Self(Arc::new(Inner {
            layers: Box::default(),
            layer_count: header.layers.get() as usize,
            index_file: Some(IndexFile { id, file, name }),
            index,
            slots_by_node: std::sync::OnceLock::new(),
            files_by_size: std::sync::OnceLock::new(),
            digest: std::sync::OnceLock::new(),
            stats: std::sync::OnceLock::new(),
        }))))
    }
}

/// Reads the header and holds it and the block digests against the name.
fn header(file: &[u8], expected: Digest) -> Result<IndexHeader, IndexError> {
    let short = |expected| IndexError::Length(file.len() as u64, expected);
    let page = file.get(..PAGE).ok_or_else(|| short(PAGE as u64))?;
    let (header, _) = IndexHeader::read_from_prefix(page).map_err(|_| short(PAGE as u64))?;
    if header.magic != MAGIC {
        return Err(IndexError::Magic);
    }
    if header.version.get() != INDEX_VERSION {
        return Err(IndexError::Version(header.version.get()));
    }
    let (start, len) = (header.start.get(), header.len.get());
    if start.checked_add(len) != Some(file.len() as u64) {
        return Err(short(start.saturating_add(len)));
    }
    let blocks = len.div_ceil(GUARD_BLOCK as u64);
    let digests = blocks
        .checked_mul(32)
        .and_then(|len| len.checked_add(PAGE as u64));
    let digests = digests.filter(|end| *end <= start && header.block.get() as usize == GUARD_BLOCK);
    let head = digests.and_then(|end| file.get(..usize::try_from(end).ok()?));
    let head = head.ok_or(IndexError::Table("the block digests"))?;
    match name_of(head) {
        found if found == expected => Ok(header),
        found => Err(IndexError::Digest(found)),
    }
}

pub(super) fn name_of(head: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"stratafs index 1\0");
    hasher.update(head);
    hasher.finalize().into()
}

/// The tables of a file whose header held.
struct Tables {
    header: IndexHeader,
    guard: Arc<Guard>,
    body: Bytes,
}

impl Tables {
    fn packs(&self) -> Result<Vec<Digest>, IndexError> {
        let [packs, ..] = self.header.sections;
        let packs: Records<[u8; 32]> = self.records(packs, "packs")?;
        let names = packs
            .slice(0..packs.len())
            .ok_or(IndexError::Table("packs"))?;
        Ok(names.iter().copied().map(Digest::from_bytes).collect())
    }

    fn index(&self, origin: Arc<dyn ContentSource>) -> Result<Index, IndexError> {
        let [
            packs,
            nodes,
            slots,
            names,
            targets,
            buckets,
            contents,
            runs,
            ends,
            xattrs,
        ] = self.header.sections;
        let contents: Records<ContentRecord> = self.records(contents, "contents")?;
        let ends: Records<U64> = self.records(ends, "ends of attributes")?;
        let slots: Records<SlotRecord> = self.records(slots, "names in directories")?;
        let checked = CheckedEntries::new(slots.len());
        let buckets = self.records(buckets, "buckets")?;
        let table = u32::try_from(slots.len())
            .ok()
            .and_then(|slots| NameTable::over(buckets, slots))
            .ok_or(IndexError::Table("buckets"))?;
        let index = Index {
            nodes: self.records(nodes, "objects")?,
            slots,
            names: self.view(names, "names")?,
            targets: self.view(targets, "targets")?,
            contents: ContentTable::Mapped {
                made: Lazy::new(contents.len()),
                records: contents,
                runs: self.records(runs, "runs")?,
                packs: self.records(packs, "packs")?,
                origin,
            },
            xattrs: XattrTable::Mapped {
                made: Lazy::new(ends.len()),
                ends,
                bytes: self.view(xattrs, "attributes")?,
            },
            table,
            guard: Some(Arc::clone(&self.guard)),
            checked,
        };
        // `Index::nodes` counts them in 32 bits.
        u32::try_from(index.nodes.len()).map_err(|_| IndexError::Table("objects"))?;
        match index.nodes.get(0) {
            Some(root) if root.kind == DIR && root.parent.get() == 0 && is_valid_node(root) => {
                Ok(index)
            }
            // Its block is damaged, which the image tells of.
            None if index.nodes() > 0 && index.damage().is_some() => Ok(index),
            _ => Err(IndexError::Table("objects")),
        }
    }

    fn records<T: FixedRecord>(
        &self,
        span: SectionSpan,
        what: &'static str,
    ) -> Result<Records<T>, IndexError> {
        let records = Records::over(self.view(span, what)?);
        match span.len.get() % size_of::<T>() as u64 {
            0 => Ok(records),
            _ => Err(IndexError::Table(what)),
        }
    }

    fn view(&self, span: SectionSpan, what: &'static str) -> Result<GuardedBytes, IndexError> {
        let start = usize::try_from(span.start.get()).ok();
        let range = start.zip(usize::try_from(span.len.get()).ok());
        let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let range = range.filter(|range| range.end <= self.body.len());
        let range = range.ok_or(IndexError::Table(what))?;
        let start = range.start;
        Ok(GuardedBytes::mapped(
            self.body.slice(range),
            Arc::clone(&self.guard),
            start,
        ))
    }
}

/// Puts the tables of a file in their order: those that lie in `index` as they are, and those
/// that are made for the file.
pub(super) fn sections<'a>(
    index: &'a Index,
    [packs, contents, runs]: [&'a [u8]; 3],
    [ends, xattrs]: [&'a [u8]; 2],
) -> [&'a [u8]; SECTIONS] {
    [
        packs,
        index.nodes.bytes().unwrap_or_default(),
        index.slots.bytes().unwrap_or_default(),
        index.names.get(0..index.names.len()).unwrap_or_default(),
        index
            .targets
            .get(0..index.targets.len())
            .unwrap_or_default(),
        index.table.buckets.bytes().unwrap_or_default(),
        contents,
        runs,
        ends,
        xattrs,
    ]
}

/// Lays the tables out behind a header and the digests of their blocks.
pub(super) fn assemble(layers: usize, tables: [&[u8]; SECTIONS]) -> (Vec<u8>, Digest) {
    let mut end = 0;
    let sections = tables.map(|table| {
        let start = end;
        // Apart by a cache line's end, so that none begins within one.
        end = (start + table.len()).next_multiple_of(64);
        SectionSpan {
            start: (start as u64).into(),
            len: (table.len() as u64).into(),
        }
    });
    let blocks = end.div_ceil(GUARD_BLOCK);
    let start = (PAGE + blocks * 32).next_multiple_of(PAGE);
    let header = IndexHeader {
        magic: MAGIC,
        version: INDEX_VERSION.into(),
        block: count(GUARD_BLOCK).into(),
        start: (start as u64).into(),
        len: (end as u64).into(),
        layers: count(layers).into(),
        reserved: U32::ZERO,
        sections,
    };
    let mut file = Vec::with_capacity(start + end);
    file.resize(start, 0);
    for table in tables {
        file.extend_from_slice(table);
        file.resize(start + (file.len() - start).next_multiple_of(64), 0);
    }
    let (head, body) = file.split_at_mut(start);
    if let Some(bucket) = head.get_mut(..size_of::<IndexHeader>()) {
        bucket.copy_from_slice(header.as_bytes());
    }
    let digests = head.get_mut(PAGE..).unwrap_or_default();
    for (block, bucket) in body.chunks(GUARD_BLOCK).zip(digests.chunks_mut(32)) {
        bucket.copy_from_slice(Digest::of(block).as_bytes());
    }
    let named = head.get(..PAGE + blocks * 32).unwrap_or_default();
    let name = name_of(named);
    (file, name)
}

pub(super) fn xattrs(attributes: &XattrTable) -> (Vec<U64>, Vec<u8>) {
    let (mut ends, mut bytes) = (Vec::new(), Vec::new());
    let held: &[_] = match attributes {
        XattrTable::InMemory(held) => held,
        XattrTable::Mapped { .. } => &[],
    };
    for xattrs in held {
        encode_xattrs(xattrs, &mut bytes);
        ends.push((bytes.len() as u64).into());
    }
    (ends, bytes)
}

/// Returns a count as the file has it: `Parts` has refused what 32 bits do not hold.
fn count(count: usize) -> u32 {
    bounded_u32(count, "`Parts`")
}
