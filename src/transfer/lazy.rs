//! Layers of which only the table is fetched, and their frames when they are read.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::TransferError;
use super::import::sha256;
use super::lanes::Meter;
use super::origins::Origins;
use super::remote::Origin;
use super::table_room::TableRoom;
use crate::digest::{Digest, Sha256};
use crate::image::{Image, ImageId};
use crate::layer::Layer;
use crate::limits::{MAX_FETCHED_BYTES, MAX_FRAME_TABLE_BYTES};
use crate::registry::HostsAsked;
use crate::source::{
    BlobDigest, LayerBlob, START_ANNOTATION, SourceErrorKind, SourceOptions, TABLE_ANNOTATION,
    hidden,
};
use crate::store::frame_table::FrameTable;
use crate::store::{
    Blob, FrameSource, ImageInfo, Import, LayerOrigin, LazyLayer, Store, StoreError,
};

/// Frames out of registries and object stores.
struct OriginFrames(Origins);

impl FrameSource for OriginFrames {
    fn fetch(
        &self,
        from: &str,
        (blob, size): (Sha256, u64),
        range: Range<u64>,
        is_again: bool,
    ) -> Result<Vec<u8>, String> {
        let digest = BlobDigest::sha256(blob.as_bytes());
        let asked = match is_again {
            true => HostsAsked::Registry,
            false => HostsAsked::Anybody,
        };
        let fetch = || self.0.find(from)?.range((&digest, size), range, asked);
        fetch().map_err(|error| error.to_string())
    }

    fn unpack(&self, frame: &[u8], is_zstd: bool, raw: usize) -> io::Result<Vec<u8>> {
        unpack(frame, is_zstd, raw)
    }
}

/// Decompresses a frame, of which `raw` bytes are expected.
fn unpack(frame: &[u8], is_zstd: bool, raw: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(raw);
    let limit = raw as u64 + 1;
    match is_zstd {
        true => zstd::Decoder::new(frame)?.take(limit).read_to_end(&mut out),
        false => flate2::read::GzDecoder::new(frame)
            .take(limit)
            .read_to_end(&mut out),
    }?;
    match out.len() == raw {
        true => Ok(out),
        false => Err(io::Error::other(format!(
            "{raw} bytes were expected, found {} or more",
            out.len()
        ))),
    }
}

/// Lets reads of images that were pulled in part wait for what is not here, and fetch it:
/// without this they fail. `origins` is a client of registries, or [`Origins`].
///
/// # Errors
///
/// [`TransferError::Store`] for a store that was opened to look only.
pub fn fetch_from(store: &Store, origins: impl Into<Origins>) -> Result<(), TransferError> {
    Ok(store.fetch_from(Arc::new(OriginFrames(origins.into())))?)
}

/// Holds an image that was pulled in part against its files, all of which are here or can be
/// fetched: as it was before it was completed, and as it is.
pub(super) fn held(store: &Store, id: ImageId, before: &Image) -> Result<(), TransferError> {
    match store.prove(id, before) {
        Err(error) if is_a_lie(&error) => {
            let info = store.info(&id.to_string())?;
            refuse(store, &info)?;
            let blobs = info.layers.iter().filter_map(|layer| layer.origin.blob);
            let blobs: Vec<String> = blobs.map(|blob| blob.to_string()).collect();
            match info.manifest.filter(|_| blobs.is_empty()) {
                Some(manifest) => Err(TransferError::Packed {
                    blob: manifest.to_string(),
                    what: format!("{error}: it has no names any more; do not trust who made it"),
                }),
                None => Err(TransferError::TwoFaces(blobs.join(" or "))),
            }
        }
        proved => Ok(proved?),
    }
}

/// Returns whether bytes that are what their chunks' digests say are another file than is said.
fn is_a_lie(error: &StoreError) -> bool {
    match error {
        StoreError::WrongContent { .. } => true,
        StoreError::Within { error, .. } => is_a_lie(error),
        _ => false,
    }
}

/// Takes an image's names from it.
pub(super) fn refuse(store: &Store, info: &ImageInfo) -> Result<(), TransferError> {
    for tag in &info.tags {
        store.untag(tag)?;
    }
    Ok(())
}

/// Takes their names from images that say, by a table, of a blob that it has another tree than
/// was found in it.
///
/// # Errors
///
/// [`TransferError::TwoFaces`] if one of them came with the manifest that is being pulled.
pub(super) fn refuse_others(
    store: &Store,
    (blob, found): (Sha256, Digest),
    manifest: Option<Sha256>,
) -> Result<(), TransferError> {
    let mut by_table = store.layers_by_table()?;
    by_table.retain(|(own, tree)| *own == blob && *tree != found);
    if by_table.is_empty() {
        return Ok(());
    }
    let mut is_own = false;
    for info in store.list()? {
        let pairs = info.layers.iter();
        let mut pairs = pairs.filter_map(|layer| Some((layer.origin.blob?, layer.digest)));
        if pairs.any(|pair| by_table.contains(&pair)) {
            refuse(store, &info)?;
            is_own |= info.manifest.is_some() && info.manifest == manifest;
        }
    }
    match is_own {
        true => Err(TransferError::TwoFaces(blob.to_string())),
        false => Ok(()),
    }
}

/// Where the table of a layer is.
pub(super) struct TablePlace {
    span: Range<u64>,
    digest: Digest,
    /// Bytes at the front of the blob that hold the start set.
    pub(super) start: u64,
}

/// Fetches bytes of a blob.
pub(super) type FetchRange<'f> =
    dyn Fn(Range<u64>, HostsAsked) -> Result<Vec<u8>, TransferError> + 'f;

/// Fetches the table of a blob and reads it; says what is wrong with it, if something is. One that
/// has no `room` beside those before it is not fetched, or not read to its end. One that is not what it
/// should be is fetched once more, and then not from a mirror.
pub(super) fn read_table(
    noted: &NotedTable<'_>,
    room: &mut TableRoom,
    fetch: &FetchRange<'_>,
) -> Result<Result<(FrameTable, TablePlace), String>, TransferError> {
    let place = match place_of(noted) {
        Ok(place) => place,
        Err(what) => return Ok(Err(what)),
    };
    if let Err(what) = room.fetch(place.span.end - place.span.start) {
        return Ok(Err(what));
    }
    let mut bytes = fetch(place.span.clone(), HostsAsked::Anybody)?;
    if Digest::of(&bytes) != place.digest {
        bytes = fetch(place.span.clone(), HostsAsked::Registry)?;
    }
    let found = Digest::of(&bytes);
    if found != place.digest {
        let expected = place.digest;
        return Ok(Err(format!("expected {expected}, found {found}")));
    }
    let table = match hidden::reveal(&bytes, room.raw_limit()) {
        Ok(table) => table,
        Err(why) => return Ok(Err(room.too_long(why))),
    };
    room.count(table.len());
    let table = FrameTable::read(&table, place.span.start);
    Ok(table.map(|table| (table, place)))
}

/// Returns whether a layer may be fetched in part.
pub(super) fn has_table(blob: &LayerBlob) -> bool {
    blob.annotation(TABLE_ANNOTATION).is_some()
        && blob.digest().and_then(sha256).is_some()
        && sha256(blob.diff_id()).is_some()
}

/// What a manifest says of a blob that has a table.
pub(super) struct NotedTable<'n> {
    /// [`TABLE_ANNOTATION`].
    pub(super) stated: Option<&'n str>,
    /// [`START_ANNOTATION`].
    pub(super) start: Option<&'n str>,
    /// Bytes of the blob.
    pub(super) size: u64,
}

impl<'n> NotedTable<'n> {
    pub(super) fn of(blob: &'n LayerBlob) -> Self {
        Self {
            stated: blob.annotation(TABLE_ANNOTATION),
            start: blob.annotation(START_ANNOTATION),
            size: blob.size(),
        }
    }

    /// Returns how many bytes the table is said to have, if that is said as it should be.
    pub(super) fn stated_bytes(&self) -> Option<u64> {
        self.stated?.split(':').nth(1)?.parse().ok()
    }
}

fn place_of(noted: &NotedTable<'_>) -> Result<TablePlace, String> {
    let stated = noted.stated.unwrap_or_default();
    let none = || format!("{TABLE_ANNOTATION} is {stated:?}: PLACE:BYTES:blake3:HEX was expected");
    let mut parts = stated.splitn(3, ':');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (place, bytes) = (number().ok_or_else(none)?, number().ok_or_else(none)?);
    let digest = parts.next().and_then(|text| text.parse().ok());
    let end = place.checked_add(bytes).filter(|end| *end <= noted.size);
    if bytes > MAX_FRAME_TABLE_BYTES as u64 {
        return Err(format!(
            "it has {bytes} bytes, a table has {MAX_FRAME_TABLE_BYTES} at most"
        ));
    }
    let start = noted
        .start
        .map_or(Ok(0), |text| text.parse::<u64>().map_err(|_| none()))?;
    Ok(TablePlace {
        span: place..end.ok_or_else(none)?,
        digest: digest.ok_or_else(none)?,
        start: start.min(place),
    })
}

/// Takes a layer in by its table, and what comes first of its frames.
pub(super) fn take_table(
    import: &mut Import,
    (origin, meter, options): (&dyn Origin, &Meter, &SourceOptions),
    room: &mut TableRoom,
    from: &str,
    blob: &LayerBlob,
) -> Result<(Layer, LayerOrigin), TransferError> {
    let (Some(digest), Some(diff_id)) = (blob.digest(), sha256(blob.diff_id())) else {
        return Err(TransferError::Place("a layer without a digest".into()));
    };
    let wrong = |what: String| TransferError::Table {
        blob: digest.to_string(),
        what,
    };
    let fetch =
        |range: Range<u64>, asked| metered(origin, meter, (digest, blob.size()), (range, asked));
    let (table, place) = read_table(&NotedTable::of(blob), room, &fetch)?.map_err(wrong)?;
    check_size(&table, options)?;
    let lazy = LazyLayer {
        table: &table,
        from,
        blob: Blob::new(sha256(digest).unwrap_or(diff_id), blob.size()),
        is_zstd: blob.media_type().ends_with("zstd"),
    };
    let mut front = StartFrames::new(&table, place.start, lazy.is_zstd);
    let mut failed = None;
    let layer = import.lazy_layer(&lazy, &mut |frame| {
        if failed.is_some() {
            return None;
        }
        let fetch = |range| fetch(range, HostsAsked::Anybody);
        front.get(frame, &fetch).unwrap_or_else(|error| {
            failed = Some(error);
            None
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let layer = layer.map_err(|error| match error.is_damage() {
        true => wrong(error.to_string()),
        false => error.into(),
    })?;
    let origin = LayerOrigin::of_blob(lazy.blob, blob.media_type(), diff_id);
    Ok((layer, origin))
}

/// Fetches bytes of a blob, and lets it be seen.
pub(super) fn metered(
    origin: &dyn Origin,
    meter: &Meter,
    named: (&BlobDigest, u64),
    (range, asked): (Range<u64>, HostsAsked),
) -> Result<Vec<u8>, TransferError> {
    let len = range.end - range.start;
    meter.expect(len);
    let fetched = origin.range(named, range, asked);
    meter.moved(len);
    fetched
}

/// Refuses a layer with more bytes than may be taken in: they are only said to be there so far,
/// but are read one day.
fn check_size(table: &FrameTable, options: &SourceOptions) -> Result<(), TransferError> {
    let lens = table.chunks.iter().map(|chunk| u64::from(chunk.len));
    if lens.sum::<u64>() > options.max_bytes {
        let kind = SourceErrorKind::Limit {
            what: "bytes of content",
            limit: options.max_bytes,
        };
        return Err(TransferError::Source(kind.into()));
    }
    Ok(())
}

/// The frames at the front of a blob, fetched some at a time.
pub(super) struct StartFrames {
    /// Where each begins, its bytes decompressed; at the end where the last one ends.
    places: Vec<(u64, u32)>,
    is_zstd: bool,
    held: Range<u64>,
    bytes: Vec<u8>,
}

impl StartFrames {
    pub(super) fn new(table: &FrameTable, start: u64, is_zstd: bool) -> Self {
        let mut places = Vec::new();
        let mut at = 0;
        for (compressed, raw) in &table.frames {
            if at + u64::from(*compressed) > start {
                break;
            }
            places.push((at, *raw));
            at += u64::from(*compressed);
        }
        places.push((at, 0));
        Self {
            places,
            is_zstd,
            held: 0..0,
            bytes: Vec::new(),
        }
    }

    /// Returns a frame, decompressed; `None` for one that is not at the front, or is damaged:
    /// it is fetched when it is read, and told of then.
    pub(super) fn get<E>(
        &mut self,
        frame: u32,
        fetch: &dyn Fn(Range<u64>) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let pair = self
            .places
            .get(frame as usize..)
            .and_then(<[_]>::first_chunk);
        let Some([(start, raw), (end, _)]) = pair.copied() else {
            return Ok(None);
        };
        if start < self.held.start || end > self.held.end {
            let last = self.places.last().map_or(end, |(last, _)| *last);
            let until = last.min(start + MAX_FETCHED_BYTES).max(end);
            self.bytes = fetch(start..until)?;
            self.held = start..until;
        }
        let at = |offset: u64| usize::try_from(offset - self.held.start).unwrap_or(usize::MAX);
        let own = self.bytes.get(at(start)..at(end)).unwrap_or_default();
        Ok(unpack(own, self.is_zstd, raw as usize).ok())
    }
}
