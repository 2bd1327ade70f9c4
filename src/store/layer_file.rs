//! A layer as a file: its entries in order, read back through the same builder
//! that every source goes through.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::StoreError;
use super::codec::{ByteReader, count, narrow, put_meta, put_runs};
use super::file::StoredFile;
use super::packs::{PackList, Packs};
use crate::chunk::Content;
use crate::digest::Digest;
use crate::image::index_file::RunRecord;
use crate::layer::{EntryBody, Layer, LayerBuilder, LayerEntry};
use crate::meta::Meta;
use crate::name::{LayerPath, Name};

const MAGIC: [u8; 8] = *b"stratlay";

/// The version that is written, and the only one that is read.
const LAYER_VERSION: u32 = 1;

/// Kinds of entries; an opaque directory has `OPAQUE` as well.
const DIR: u8 = 0;
const IMPLIED: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const WHITEOUT: u8 = 4;
const LOWER_LINK: u8 = 5;
const HARD_LINK: u8 = 6;
const OPAQUE: u8 = 0x80;

/// Writes a layer. `runs` gives the runs of a content, `packs` the packs that
/// they name when all have been given.
pub(super) fn encode(
    layer: &Layer,
    runs: impl FnMut(&Content) -> Result<Vec<RunRecord>, StoreError>,
    packs: impl FnOnce() -> Result<Vec<Digest>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let entries = encode_entries(layer, runs)?;
    with_head(&packs()?, entries)
}

/// Writes the entries of a layer alone.
pub(super) fn encode_entries(
    layer: &Layer,
    mut runs: impl FnMut(&Content) -> Result<Vec<RunRecord>, StoreError>,
) -> Result<Vec<u8>, StoreError> {
    let mut encoder = Encoder::default();
    for entry in layer.entries() {
        encoder.entry(&entry, &mut runs)?;
    }
    Ok(encoder.body)
}

/// Makes the file of a layer from its entries.
pub(super) fn with_head(packs: &[Digest], mut entries: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    let mut file = Vec::with_capacity(entries.len() + 16 + 32 * packs.len());
    file.extend(MAGIC);
    file.extend(LAYER_VERSION.to_le_bytes());
    file.extend(count(packs.len(), "packs of a layer")?.to_le_bytes());
    packs.iter().for_each(|pack| file.extend(pack.as_bytes()));
    file.append(&mut entries);
    Ok(file)
}

#[derive(Default)]
struct Encoder {
    body: Vec<u8>,
    /// Numbers of the objects with several names that have been written.
    known: HashMap<u32, u32>,
}

impl Encoder {
    fn entry(
        &mut self,
        entry: &LayerEntry<'_>,
        runs: &mut dyn FnMut(&Content) -> Result<Vec<RunRecord>, StoreError>,
    ) -> Result<(), StoreError> {
        let path = &entry.path;
        match entry.body {
            EntryBody::Dir { meta, opaque } => {
                let kind = if meta.is_some() { DIR } else { IMPLIED };
                put_head(
                    &mut self.body,
                    if opaque { kind | OPAQUE } else { kind },
                    path,
                )?;
                if let Some(meta) = meta {
                    put_meta(&mut self.body, meta)?;
                }
            }
            EntryBody::File {
                meta,
                content,
                object,
                links,
            } => {
                if self.is_new(FILE, path, meta, (object, links))? {
                    self.body.extend(content.size().to_le_bytes());
                    self.body.extend(content.digest().as_bytes());
                    put_runs(&mut self.body, &runs(content)?)?;
                }
            }
            EntryBody::Symlink {
                meta,
                target,
                object,
                links,
            } => {
                if self.is_new(SYMLINK, path, meta, (object, links))? {
                    let len: u16 = narrow(target.len(), "bytes of a target", u16::MAX.into())?;
                    self.body.extend(len.to_le_bytes());
                    self.body.extend_from_slice(target);
                }
            }
            EntryBody::Whiteout => put_head(&mut self.body, WHITEOUT, path)?,
            EntryBody::LowerLink { target } => {
                put_head(&mut self.body, LOWER_LINK, path)?;
                put_path(&mut self.body, target)?;
            }
        }
        Ok(())
    }

    /// Writes the head of an object at its first name, and a hard link at each
    /// further one.
    fn is_new(
        &mut self,
        kind: u8,
        path: &LayerPath,
        meta: &Meta,
        (object, links): (u32, u32),
    ) -> Result<bool, StoreError> {
        if let Some(number) = self.known.get(&object) {
            put_head(&mut self.body, HARD_LINK, path)?;
            self.body.extend(number.to_le_bytes());
            return Ok(false);
        }
        if links > 1 {
            let number = count(self.known.len(), "files of several names")?;
            self.known.insert(object, number);
        }
        put_head(&mut self.body, kind, path)?;
        self.body.push(u8::from(links > 1));
        put_meta(&mut self.body, meta)?;
        Ok(true)
    }
}

/// The kind, how deep the path is, and its last name: what is in a directory
/// follows right after it, so the names above are those of the entry before.
fn put_head(body: &mut Vec<u8>, kind: u8, path: &LayerPath) -> Result<(), StoreError> {
    let names = path.names();
    body.push(kind);
    put_depth(body, names.len())?;
    names.last().map_or(Ok(()), |name| put_name(body, name))
}

fn put_depth(body: &mut Vec<u8>, names: usize) -> Result<(), StoreError> {
    let depth: u16 = narrow(names, "names in a path", u16::MAX.into())?;
    body.extend(depth.to_le_bytes());
    Ok(())
}

fn put_name(body: &mut Vec<u8>, name: &Name) -> Result<(), StoreError> {
    let bytes = name.as_bytes();
    body.push(narrow(bytes.len(), "bytes of a name", u8::MAX.into())?);
    body.extend_from_slice(bytes);
    Ok(())
}

fn put_path(body: &mut Vec<u8>, path: &LayerPath) -> Result<(), StoreError> {
    let names = path.names();
    put_depth(body, names.len())?;
    names.iter().try_for_each(|name| put_name(body, name))
}

/// Returns the packs that a layer's file names, if it is one, and where its entries begin.
#[cfg(any(feature = "registry", test))]
pub(super) fn head(bytes: &[u8]) -> Option<(Vec<Digest>, usize)> {
    let mut reader = ByteReader::new(bytes);
    let is_layer = reader.array() == Some(MAGIC) && reader.u32() == Some(LAYER_VERSION);
    let packs = is_layer.then(|| reader.digests()).flatten()?;
    Some((packs, reader.offset()))
}

/// Returns the packs that a layer's file names, if it is one.
#[cfg(any(feature = "registry", test))]
pub(super) fn packs_of(bytes: &[u8]) -> Option<Vec<Digest>> {
    Some(head(bytes)?.0)
}

/// Passes over an entry, and returns where its runs are, which are its last bytes; `None` for what is none.
#[cfg(feature = "registry")]
pub(super) fn pass_over(reader: &mut ByteReader<'_>) -> Option<std::ops::Range<usize>> {
    let kind = reader.u8()?;
    if reader.u16()? > 0 {
        pass_name(reader)?;
    }
    let mut runs = 0;
    match kind {
        FILE => {
            reader.u8()?;
            pass_meta(reader)?;
            reader.bytes(8 + 32)?;
            let count = reader.u32()? as usize;
            runs = count.checked_mul(size_of::<RunRecord>())?;
            reader.bytes(runs)?;
        }
        SYMLINK => {
            reader.u8()?;
            pass_meta(reader)?;
            let len = reader.u16()?.into();
            reader.bytes(len)?;
        }
        WHITEOUT => {}
        LOWER_LINK => {
            for _ in 0..reader.u16()? {
                pass_name(reader)?;
            }
        }
        HARD_LINK => {
            reader.u32()?;
        }
        _ => match kind & !OPAQUE {
            DIR => pass_meta(reader)?,
            IMPLIED => {}
            _ => return None,
        },
    }
    let end = reader.offset();
    Some(end - runs..end)
}

#[cfg(feature = "registry")]
fn pass_name(reader: &mut ByteReader<'_>) -> Option<()> {
    let len = reader.u8()?.into();
    reader.bytes(len).map(|_| ())
}

#[cfg(feature = "registry")]
fn pass_meta(reader: &mut ByteReader<'_>) -> Option<()> {
    reader.bytes(2 + 4 + 4 + 8 + 4)?;
    let len = reader.u32()? as usize;
    reader.bytes(len).map(|_| ())
}

/// Reads a layer back and holds it against its digest. Says whether what it names as the digests
/// of files has been held against their bytes.
pub(super) fn decode(
    bytes: &[u8],
    path: &Path,
    (expected, by_table): (Digest, bool),
    packs: &Arc<Packs>,
) -> Result<Layer, StoreError> {
    let mut reader = ByteReader::new(bytes);
    if reader.array() != Some(MAGIC) {
        return Err(StoreError::Magic {
            file: path.to_owned(),
            what: "layer",
        });
    }
    let version = reader.u32().unwrap_or(0);
    if version != LAYER_VERSION {
        return Err(StoreError::Version {
            file: path.to_owned(),
            found: version,
            supported: LAYER_VERSION,
        });
    }
    let wrong = |at: usize| StoreError::malformed(path, format!("no entry at byte {at}"));
    let names = reader.digests().ok_or_else(|| wrong(12))?;
    let mut decoder = Decoder {
        builder: LayerBuilder::new(),
        packs: Arc::new(PackList::fixed(names, packs, path, by_table)?),
        at: Vec::new(),
        objects: Vec::new(),
    };
    while !reader.is_at_end() {
        let at = reader.offset();
        decoder.entry(&mut reader).ok_or_else(|| wrong(at))??;
    }
    let layer = decoder.builder.finish()?;
    if layer.digest() != expected {
        return Err(StoreError::Damaged {
            file: path.to_owned(),
            offset: 0,
            expected,
            found: layer.digest(),
        });
    }
    Ok(layer)
}

struct Decoder {
    builder: LayerBuilder,
    packs: Arc<PackList>,
    /// The path of the entry before.
    at: Vec<Name>,
    /// The first names of objects that have several.
    objects: Vec<LayerPath>,
}

impl Decoder {
    /// Reads one entry: `None` for what is none.
    fn entry(&mut self, reader: &mut ByteReader<'_>) -> Option<Result<(), StoreError>> {
        let kind = reader.u8()?;
        let path = self.path(reader)?;
        let builder = &mut self.builder;
        let made = match kind {
            FILE => {
                let several = reader.u8()? != 0;
                let meta = reader.meta()?;
                let content = content(reader, &self.packs)?;
                if several {
                    self.objects.push(path.clone());
                }
                builder.file(&path, meta, content)
            }
            SYMLINK => {
                let several = reader.u8()? != 0;
                let meta = reader.meta()?;
                let len = reader.u16()?.into();
                let target = reader.bytes(len)?;
                if several {
                    self.objects.push(path.clone());
                }
                builder.symlink(&path, meta, target)
            }
            WHITEOUT => builder.whiteout(&path),
            LOWER_LINK => builder.hard_link(&path, &read_path(reader)?),
            HARD_LINK => {
                let number = reader.u32()? as usize;
                builder.hard_link(&path, self.objects.get(number)?)
            }
            _ => return self.dir(kind, &path, reader),
        };
        Some(made.map_err(StoreError::from))
    }

    fn dir(
        &mut self,
        kind: u8,
        path: &LayerPath,
        reader: &mut ByteReader<'_>,
    ) -> Option<Result<(), StoreError>> {
        let meta: Option<Meta> = match kind & !OPAQUE {
            DIR => Some(reader.meta()?),
            // What is in it, or its mark, implies it.
            IMPLIED => None,
            _ => return None,
        };
        let made = meta.map_or(Ok(()), |meta| self.builder.dir(path, meta));
        let marked = match kind & OPAQUE {
            0 => made,
            _ => made.and_then(|()| self.builder.opaque(path)),
        };
        Some(marked.map_err(StoreError::from))
    }

    fn path(&mut self, reader: &mut ByteReader<'_>) -> Option<LayerPath> {
        let depth = usize::from(reader.u16()?);
        if depth > self.at.len() + 1 {
            return None;
        }
        if let Some(above) = depth.checked_sub(1) {
            self.at.truncate(above);
            self.at.push(read_name(reader)?);
        } else {
            self.at.clear();
        }
        Some(self.at.clone().into())
    }
}

fn content(reader: &mut ByteReader<'_>, packs: &Arc<PackList>) -> Option<Content> {
    let (size, digest) = (reader.u64()?, reader.digest()?);
    StoredFile::content(size, digest, reader.runs()?, Arc::clone(packs))
}

fn read_name(reader: &mut ByteReader<'_>) -> Option<Name> {
    let len = reader.u8()?.into();
    Name::new(reader.bytes(len)?).ok()
}

fn read_path(reader: &mut ByteReader<'_>) -> Option<LayerPath> {
    let count = reader.u16()?;
    let names: Option<Vec<Name>> = (0..count).map(|_| read_name(reader)).collect();
    names.map(LayerPath::from)
}
