//! Images as packs: chunks in frames without an archive around them, and layers that say where
//! their files lie in these. docs/FORMAT.md has the bytes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::blob::{BUFFER_BYTES, Hashing};
use super::documents::{self, WrittenBlob};
use super::frames::{FrameChunk, FrameMap};
use super::members::{MemberCompression, Members};
use super::prepared::{OutBlob, OutBytes, OutManifest};
use super::sink::{scratch_in, write_error};
use super::{Compression, OciExportError, OutImage};
use crate::bounded::{BrokenBound, try_bounded_u32};
use crate::digest::Digest;
use crate::image::ImageConfig;
use crate::limits::{
    FRAME_BYTES, MAX_FRAME_CHUNKS, MAX_INLINE_BLOB_BYTES, MAX_INLINE_BYTES, MAX_LISTED_TABLE_BYTES,
    MAX_LISTED_TABLES_BYTES, MAX_PACK_BYTES,
};
use crate::source::packed::{
    NAME_ANNOTATION, PACK_BLOB, PACK_TABLES, PACKED_CONFIG, TABLES_ANNOTATION, as_data,
};
use crate::source::{BlobDigest, START_ANNOTATION, TABLE_ANNOTATION};

/// How hard the entries of a layer are compressed, which is part of what comes out.
const LAYER_LEVEL: i32 = 9;

/// A pack that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackBlob {
    pub(crate) digest: BlobDigest,
    pub(crate) size: u64,
    /// The name that it has in a store.
    pub(crate) name: Digest,
    /// Where its table is, as [`TABLE_ANNOTATION`] says it.
    pub(crate) table: String,
    /// Bytes at its beginning that hold the start set, as [`START_ANNOTATION`] says it.
    pub(crate) start: Option<String>,
    /// The table as it lies there, if it is small.
    pub(crate) small_table: Option<Vec<u8>>,
}

impl PackBlob {
    fn written(&self) -> WrittenBlob {
        let mut annotations = vec![
            (NAME_ANNOTATION, self.name.to_string()),
            (TABLE_ANNOTATION, self.table.clone()),
        ];
        annotations.extend(self.start.clone().map(|start| (START_ANNOTATION, start)));
        WrittenBlob {
            annotations,
            ..WrittenBlob::plain(self.digest.clone(), self.size, PACK_BLOB)
        }
    }
}

/// Makes the name and the table of a pack.
type MakePackTable = dyn Fn(&FrameMap) -> io::Result<(Digest, Vec<u8>)>;

/// Writes chunks into packs, in files in `scratch` that have no name. A pack ends once it has
/// as many bytes as a store's, or as many chunks as a table.
pub(crate) struct PackBlobWriter<'s> {
    scratch: &'s Path,
    table: &'s MakePackTable,
    open: Option<OpenPackBlob>,
    done: Vec<(PackBlob, Arc<File>)>,
    /// Whether what comes is needed to start.
    in_start: bool,
}

/// A pack that is being written.
struct OpenPackBlob {
    path: PathBuf,
    members: Members<Hashing<BufWriter<NamedTempFile>>>,
    map: FrameMap,
    /// Bytes in the frame that is open.
    open: usize,
    /// Bytes of all chunks.
    bytes: u64,
}

impl OpenPackBlob {
    fn cut(&mut self) -> io::Result<()> {
        if self.open > 0 {
            let raw = try_bounded_u32(self.open, "the bytes of a frame")?;
            self.map.frames.push((0, raw));
            self.open = 0;
            self.members.cut()?;
        }
        Ok(())
    }
}

impl<'s> PackBlobWriter<'s> {
    /// Makes one. `in_start` says that the first chunks are needed to start.
    pub(crate) fn new(scratch: &'s Path, table: &'s MakePackTable, in_start: bool) -> Self {
        Self {
            scratch,
            table,
            open: None,
            done: Vec::new(),
            in_start,
        }
    }

    /// Adds a chunk. Returns the number of the pack that it is in, of those that are written
    /// here, and how many bytes of chunks come before it there.
    pub(crate) fn chunk(
        &mut self,
        digest: Digest,
        bytes: &[u8],
    ) -> Result<(usize, u64), OciExportError> {
        if self.open.is_none() {
            let file = scratch_in(self.scratch)?;
            let path = file.path().to_owned();
            let out = Hashing::new(BufWriter::with_capacity(BUFFER_BYTES, file));
            self.open = Some(OpenPackBlob {
                path,
                members: Members::new(out, MemberCompression::Zstd),
                map: FrameMap::default(),
                open: 0,
                bytes: 0,
            });
        }
        let number = self.done.len();
        let Some(pack) = &mut self.open else {
            return Err(write_error(self.scratch, io::ErrorKind::NotFound.into()));
        };
        let place = pack.bytes;
        let broken = |broken: BrokenBound| write_error(&pack.path, broken.into());
        pack.map.chunks.push(FrameChunk {
            frame: try_bounded_u32(pack.map.frames.len(), "the frames of a pack")
                .map_err(broken)?,
            place: try_bounded_u32(pack.open, "the bytes of a frame").map_err(broken)?,
            len: try_bounded_u32(bytes.len(), "the bytes of a chunk").map_err(broken)?,
            digest,
        });
        pack.members.append(bytes);
        pack.open += bytes.len();
        pack.bytes += bytes.len() as u64;
        if pack.open >= FRAME_BYTES {
            let cut = pack.cut();
            cut.map_err(|error| write_error(&pack.path, error))?;
        }
        if pack.bytes >= MAX_PACK_BYTES || pack.map.chunks.len() >= MAX_FRAME_CHUNKS {
            self.end_pack()?;
        }
        Ok((number, place))
    }

    /// Says that what comes from here on is not needed to start.
    pub(crate) fn end_start(&mut self) -> Result<(), OciExportError> {
        if let Some(pack) = self.open.as_mut().filter(|_| self.in_start) {
            let cut = pack.cut();
            cut.map_err(|error| write_error(&pack.path, error))?;
            pack.map.start_frames = pack.map.frames.len();
        }
        self.in_start = false;
        Ok(())
    }

    fn end_pack(&mut self) -> Result<(), OciExportError> {
        if let Some(pack) = self.open.take() {
            let path = pack.path.clone();
            let ended = end(pack, self.table, self.in_start);
            self.done
                .push(ended.map_err(|error| write_error(&path, error))?);
        }
        Ok(())
    }

    /// Ends the last pack. Returns all.
    pub(crate) fn finish(mut self) -> Result<Vec<(PackBlob, Arc<File>)>, OciExportError> {
        self.end_pack()?;
        Ok(self.done)
    }
}

/// Writes what is left of a pack, and its table.
fn end(
    mut pack: OpenPackBlob,
    table: &MakePackTable,
    in_start: bool,
) -> io::Result<(PackBlob, Arc<File>)> {
    pack.cut()?;
    if in_start {
        pack.map.start_frames = pack.map.frames.len();
    }
    let (mut out, sizes) = pack.members.finish()?;
    for (frame, compressed) in pack.map.frames.iter_mut().zip(sizes) {
        frame.0 = compressed;
    }
    let (name, bytes) = table(&pack.map)?;
    let hidden = crate::source::hidden::hide(&bytes, Compression::Zstd)?;
    let place = out.len;
    out.write_all(&hidden)?;
    let start = pack.map.frames.iter().take(pack.map.start_frames);
    let start: u64 = start.map(|(compressed, _)| u64::from(*compressed)).sum();
    let (out, digest, size) = out.into_parts();
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let (file, path) = file.into_parts();
    path.close()?;
    let blob = PackBlob {
        digest,
        size,
        name,
        table: format!("{place}:{}:{}", hidden.len(), Digest::of(&hidden)),
        start: (start > 0).then(|| start.to_string()),
        small_table: (hidden.len() <= MAX_LISTED_TABLE_BYTES).then_some(hidden),
    };
    Ok((blob, Arc::new(file)))
}

/// A blob with entries, as an image in packs names it.
pub(crate) struct EntriesOut {
    media_type: &'static str,
    /// The digest of the layer's tree, if it is one.
    name: Option<Digest>,
    body: EntriesBody,
}

enum EntriesBody {
    /// As it is before it is compressed.
    New(Vec<u8>),
    /// It is there. If it is small, its bytes are known.
    Known(BlobDigest, u64, Option<Vec<u8>>),
}

impl EntriesOut {
    /// Makes one that is sent.
    pub(crate) fn new(media_type: &'static str, bytes: Vec<u8>, name: Option<Digest>) -> Self {
        Self {
            media_type,
            name,
            body: EntriesBody::New(bytes),
        }
    }

    /// Names one that is there.
    pub(crate) fn known(
        media_type: &'static str,
        (digest, size): (BlobDigest, u64),
        name: Option<Digest>,
        bytes: Option<Vec<u8>>,
    ) -> Self {
        Self {
            media_type,
            name,
            body: EntriesBody::Known(digest, size, bytes),
        }
    }

    /// Returns whether it is sent.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self.body, EntriesBody::New(_))
    }

    /// Returns what the manifest says of it, its bytes if they are known, and whether they are sent.
    fn written(self) -> io::Result<(WrittenBlob, Option<Vec<u8>>, bool)> {
        let (mut blob, bytes, is_new) = match self.body {
            EntriesBody::New(bytes) => {
                let bytes = zstd::bulk::compress(&bytes, LAYER_LEVEL)?;
                (WrittenBlob::of(&bytes, self.media_type), Some(bytes), true)
            }
            EntriesBody::Known(digest, size, bytes) => {
                let blob = WrittenBlob::plain(digest, size, self.media_type);
                (blob, bytes, false)
            }
        };
        let name = self.name.map(|name| (NAME_ANNOTATION, name.to_string()));
        blob.annotations.extend(name);
        Ok((blob, bytes, is_new))
    }
}

/// Puts small blobs into the manifest, as long as there is room: each saves a first start a request.
struct InlineRoom(usize);

impl InlineRoom {
    fn put(&mut self, blob: &mut WrittenBlob, bytes: &[u8]) {
        if bytes.len() <= MAX_INLINE_BLOB_BYTES && bytes.len() <= self.0 {
            self.0 -= bytes.len();
            blob.data = Some(as_data(bytes));
        }
    }
}

impl<'b> OutImage<'b> {
    /// Makes what is sent of an image in packs: its layers, what of these is not there, and those of its
    /// packs that are `new`. The manifest names these and the `known` ones, which come first.
    pub(crate) fn packed(
        config: &ImageConfig,
        (layers, sources): (Vec<EntriesOut>, Vec<EntriesOut>),
        (known, new): (&[PackBlob], Vec<(PackBlob, Arc<File>)>),
    ) -> io::Result<Self> {
        let mut out = Self {
            blobs: Vec::new(),
            manifests: Vec::new(),
        };
        let mut room = InlineRoom(MAX_INLINE_BYTES);
        let bytes = documents::packed_config(config);
        let mut config = WrittenBlob::of(&bytes, PACKED_CONFIG);
        room.put(&mut config, &bytes);
        let mut listed: Vec<WrittenBlob> = Vec::new();
        let own = layers.len();
        for (number, entries) in layers.into_iter().chain(sources).enumerate() {
            let (mut blob, bytes, is_new) = entries.written()?;
            // A layer that another one copies from is named once.
            if number >= own && listed.iter().any(|it| it.digest == blob.digest) {
                continue;
            }
            if let Some(bytes) = bytes {
                room.put(&mut blob, &bytes);
                if is_new {
                    out.send(&blob, OutBytes::Memory(bytes));
                }
            }
            listed.push(blob);
        }
        let tables = tables_of(known.iter().chain(new.iter().map(|(pack, _)| pack)));
        listed.extend(known.iter().map(PackBlob::written));
        for (pack, file) in new {
            let pack = pack.written();
            out.send(&pack, OutBytes::File(file));
            listed.push(pack);
        }
        if let Some((mut tables, bytes)) = tables {
            room.put(&mut tables, &bytes);
            out.send(&tables, OutBytes::Memory(bytes));
            listed.push(tables);
        }
        let (manifest, media_type) = documents::packed_manifest(&config, &listed);
        out.send(&config, OutBytes::Memory(bytes));
        out.manifests.push(OutManifest {
            digest: BlobDigest::of(&manifest),
            media_type: media_type.to_owned(),
            bytes: manifest,
        });
        Ok(out)
    }

    fn send(&mut self, blob: &WrittenBlob, bytes: OutBytes<'b>) {
        if !self.blobs.iter().any(|known| known.digest == blob.digest) {
            self.blobs.push(OutBlob {
                digest: blob.digest.clone(),
                size: blob.size,
                bytes,
            });
        }
    }
}

/// Puts the tables of small packs together, so that a first start asks for them once; `None` for
/// fewer than two.
fn tables_of<'p>(packs: impl Iterator<Item = &'p PackBlob>) -> Option<(WrittenBlob, Vec<u8>)> {
    let (mut bytes, mut numbers) = (Vec::new(), Vec::new());
    for (number, pack) in packs.enumerate() {
        let table = pack.small_table.as_deref().unwrap_or_default();
        let has_room = (bytes.len() + table.len()) as u64 <= MAX_LISTED_TABLES_BYTES;
        if !table.is_empty() && has_room {
            bytes.extend_from_slice(table);
            numbers.push(number.to_string());
        }
    }
    let mut blob = WrittenBlob::of(&bytes, PACK_TABLES);
    blob.annotations
        .push((TABLES_ANNOTATION, numbers.join(",")));
    (numbers.len() > 1).then_some((blob, bytes))
}
