//! Images in packs, into a store.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::thread;

use super::gather::Gathering;
use super::listed::{ListedTables, NotedTables};
use crate::digest::Digest;
use crate::image::{ImageId, Reference};
use crate::layer::{EntryBody, Layer};
use crate::registry::HostsAsked;
use crate::source::packed::{NAME_ANNOTATION, TABLES_ANNOTATION};
use crate::source::part::Part;
use crate::source::{BlobDigest, BlobHome, LayerBlob, OciImage, SourceErrorKind};
use crate::store::frame_table::FrameTable;
use crate::store::packed::{PackPresence, named_packs};
use crate::store::{Blob, Import, LayerOrigin, LazyLayer, Store};
use crate::transfer::import::sha256;
use crate::transfer::lazy::{self, FetchRange, NotedTable, StartFrames, TablePlace};
use crate::transfer::remote::Remote;
use crate::transfer::table_room::{TableRoom, too_many};
use crate::transfer::{PullOptions, Pulled, TransferError, lanes};

/// What a pull of an image in packs works with.
struct PackedPull<'p> {
    store: &'p Store,
    remote: &'p Remote,
    image: &'p OciImage,
    options: &'p PullOptions,
}

/// What the store has to take in.
struct PackedPlan<'p> {
    layers: Vec<PlannedLayer>,
    /// Those that layers name which are not here, in the order of the manifest.
    packs: Vec<PlannedPack<'p>>,
    /// Bytes of layers that were fetched.
    fetched: u64,
}

enum PlannedLayer {
    /// The store has it.
    Known(Layer),
    /// Its name, and its file.
    File(Digest, Vec<u8>),
}

struct PlannedPack<'p> {
    /// Which of the manifest's packs it is.
    number: usize,
    blob: &'p LayerBlob,
    digest: &'p BlobDigest,
    name: Digest,
    presence: PackPresence,
}

/// Tables that have come, and what is left for others.
struct PulledTables {
    listed: ListedTables,
    room: TableRoom,
    /// Bytes of all chunks that they tell of.
    bytes: u64,
}

impl PulledTables {
    /// Reads the table of a pack, which `fetch` brings unless it has come with others.
    fn read(
        &mut self,
        pack: &PlannedPack<'_>,
        fetch: &FetchRange<'_>,
    ) -> Result<(FrameTable, TablePlace), TransferError> {
        let noted = NotedTable::of(pack.blob);
        let known = |range, asked| match self.listed.get(&noted) {
            Some(table) => Ok(table.to_vec()),
            None => fetch(range, asked),
        };
        let read = lazy::read_table(&noted, &mut self.room, &known)?;
        let (table, place) = read.map_err(|what| wrong(pack.blob, format!("its table: {what}")))?;
        if !matches!(&*table.packs, [one] if one.name == pack.name) {
            let what = format!("its chunks do not make pack {}", pack.name);
            return Err(wrong(pack.blob, what));
        }
        let lens = table.chunks.iter().map(|chunk| u64::from(chunk.len));
        self.bytes = lens.fold(self.bytes, u64::saturating_add);
        Ok((table, place))
    }
}

impl PlannedPack<'_> {
    fn is_fetched(&self, lazy: bool) -> bool {
        match self.presence {
            PackPresence::Absent => true,
            PackPresence::Lazy => !lazy,
            PackPresence::Whole => false,
        }
    }
}

/// Fetches an image in packs. Whole, it gets its name once each file was held against its digest.
pub(in crate::transfer) fn fetch(
    (store, remote, import): (&Store, &Remote, Import),
    (image, digest): (&OciImage, BlobDigest),
    (options, tag): (&PullOptions, Option<&Reference>),
) -> Result<Pulled, TransferError> {
    let pull = PackedPull {
        store,
        remote,
        image,
        options,
    };
    check_sizes(image, options.source.max_bytes)?;
    let plan = pull.plan().map_err(|error| remote.explained(error))?;
    let fetched = plan.packs.iter().filter(|it| it.is_fetched(options.lazy));
    let missing: Vec<_> = match options.lazy {
        true => Vec::new(),
        false => fetched
            .map(|pack| (pack.digest.clone(), pack.blob.size()))
            .collect(),
    };
    let sizes = missing.iter().map(|(_, size)| *size);
    let bytes = sizes.fold(0, u64::saturating_add);
    remote.expect(&missing);
    let files = plan.layers.iter();
    let files = files.filter(|layer| matches!(layer, PlannedLayer::File(..)));
    let fetched_layers = files.count() as u64;
    let known_layers = plan.layers.len() as u64 - fetched_layers;
    let fetched_bytes = bytes + plan.fetched;
    let taken = thread::scope(|scope| {
        let jobs = missing.clone();
        scope.spawn(|| lanes::all(options.lanes, jobs, &remote.meter, |job| remote.fetch(job)));
        let taken = pull.take(import, plan, tag);
        remote.stop();
        taken
    });
    let id = match taken {
        Ok(id) => {
            remote.forget()?;
            id
        }
        Err(error) => {
            return Err(crate::transfer::pull::given_up(
                store, remote, image, error,
            )?);
        }
    };
    let text = id.to_string();
    if !options.lazy {
        lazy::held(store, id, &store.image(&text)?)?;
        tag.map_or(Ok(id), |tag| store.tag(&text, tag.as_str()))?;
        // A pull that was killed once the packs were there has left their blobs.
        crate::transfer::pull::forget_blobs(store, image)?;
    }
    Ok(Pulled {
        in_use: std::sync::Arc::new(store.mark_used(&text)?),
        image: store.info(&text)?,
        lazy_layers: if options.lazy { fetched_layers } else { 0 },
        digest,
        fetched_layers,
        fetched_bytes,
        known_layers,
    })
}

fn bounded(bytes: u64, limit: u64) -> Result<(), TransferError> {
    let what = "bytes in the packs of an image";
    match bytes <= limit {
        true => Ok(()),
        false => Err(TransferError::Source(
            SourceErrorKind::Limit { what, limit }.into(),
        )),
    }
}

/// Refuses an image for what it says of its packs, before anything of them is fetched: more bytes
/// than may be taken in, which a registry that knows no ranges sends to their end, or larger tables.
fn check_sizes(image: &OciImage, limit: u64) -> Result<(), TransferError> {
    let packs = image.packs().unwrap_or_default();
    let sizes = packs.iter().map(LayerBlob::size);
    bounded(sizes.fold(0, u64::saturating_add), limit)?;
    let found = TableRoom::first_without(packs.iter().map(NotedTable::of));
    match found.and_then(|(number, sum)| Some((packs.get(number)?, sum))) {
        Some((pack, sum)) => {
            let what = too_many(sum, "");
            Err(wrong(
                pack,
                format!("its table: {what}; have the image pushed without `--packs`"),
            ))
        }
        None => Ok(()),
    }
}

pub(super) fn wrong(blob: &LayerBlob, what: impl Into<String>) -> TransferError {
    TransferError::Packed {
        blob: blob.diff_id().to_string(),
        what: what.into(),
    }
}

/// The name of what is in a blob.
fn name_of(blob: &LayerBlob) -> Result<Digest, TransferError> {
    let text = blob.annotation(NAME_ANNOTATION).unwrap_or_default();
    let expected = || format!("{NAME_ANNOTATION} is {text:?}: blake3:HEX was expected");
    text.parse().map_err(|_| wrong(blob, expected()))
}

impl<'p> PackedPull<'p> {
    /// Fetches the layers that the store does not have, and finds out which packs it lacks.
    fn plan(&self) -> Result<PackedPlan<'p>, TransferError> {
        let mut known = Vec::new();
        let mut missing = Vec::new();
        for blob in self.image.layers() {
            let name = name_of(blob)?;
            let layer = self.store.proved_layer(name)?;
            missing.extend(layer.is_none().then_some(blob));
            known.push((name, layer));
        }
        let gathering = Gathering::new(self.remote, self.image, self.options.lanes);
        let (files, fetched) = gathering.files(&missing)?;
        let mut named: HashSet<Digest> = HashSet::new();
        let mut files = missing.into_iter().zip(files);
        let mut layers = Vec::new();
        for (name, layer) in known {
            layers.push(match layer {
                Some(layer) => PlannedLayer::Known(layer),
                None => {
                    let (blob, file) = files.next().ok_or_else(|| self.incomplete())?;
                    let packs = named_packs(&file);
                    named
                        .extend(packs.ok_or_else(|| wrong(blob, "it is not the file of a layer"))?);
                    PlannedLayer::File(name, file)
                }
            });
        }
        let mut by_name = HashMap::new();
        let mut packs = Vec::new();
        for (number, blob) in self.image.packs().unwrap_or_default().iter().enumerate() {
            let name = name_of(blob)?;
            if by_name.insert(name, ()).is_some() {
                return Err(wrong(blob, format!("pack {name} is named twice")));
            }
            let digest = blob.digest().filter(|_| named.remove(&name));
            if let Some(digest) = digest {
                packs.push(PlannedPack {
                    number,
                    blob,
                    digest,
                    name,
                    presence: self.store.pack_presence(name)?,
                });
            }
        }
        match named.into_iter().next() {
            None => Ok(PackedPlan {
                layers,
                packs,
                fetched,
            }),
            // A name out of the store would show what is in other images.
            Some(name) => Err(TransferError::Packed {
                blob: self.remote.image_name(self.image),
                what: format!("a layer names pack {name}, which the manifest does not name"),
            }),
        }
    }

    fn incomplete(&self) -> TransferError {
        TransferError::Packed {
            blob: self.remote.image_name(self.image),
            what: "a layer did not come".to_owned(),
        }
    }

    /// Fetches the tables that the image has together, if several of them are needed.
    fn tables(&self, plan: &PackedPlan<'_>) -> Result<PulledTables, TransferError> {
        let mut tables = PulledTables {
            listed: ListedTables::default(),
            room: TableRoom::new(),
            bytes: 0,
        };
        let blob = self.image.pack_tables().filter(|_| self.options.lazy);
        let Some((blob, digest)) = blob.and_then(|blob| Some((blob, blob.digest()?))) else {
            return Ok(tables);
        };
        let noted = NotedTables {
            digest,
            size: blob.size(),
            packs: blob.annotation(TABLES_ANNOTATION),
            inline: self.image.inline(digest),
        };
        let wanted = plan.packs.iter().filter(|pack| pack.is_fetched(true));
        let wanted = wanted.map(|pack| pack.number).collect();
        let origin = self.remote.origin();
        let listed = ListedTables::fetch(origin, &noted, &mut tables.room, &wanted)?;
        tables.listed = listed.map_err(|what| wrong(blob, what))?;
        Ok(tables)
    }

    /// Takes in packs and layers, and makes the image.
    fn take(
        &self,
        mut import: Import,
        plan: PackedPlan<'_>,
        tag: Option<&Reference>,
    ) -> Result<ImageId, TransferError> {
        let mut tables = self.tables(&plan)?;
        for pack in &plan.packs {
            match pack.is_fetched(self.options.lazy) {
                true => self.pack(&mut import, pack, &mut tables)?,
                false => {
                    let own = sha256(pack.digest).ok_or_else(|| not_sha256(pack.blob))?;
                    import.known_pack(pack.name, (own, &self.remote.image_name(self.image)))?;
                }
            }
        }
        let mut files: HashMap<Digest, u64> = HashMap::new();
        for (planned, blob) in plan.layers.into_iter().zip(self.image.layers()) {
            let layer = match planned {
                PlannedLayer::Known(layer) => layer,
                PlannedLayer::File(name, file) => {
                    let made = import.packed_layer(&file, name);
                    made.map_err(|error| match error.is_damage() {
                        true => wrong(blob, error.to_string()),
                        false => error.into(),
                    })?
                }
            };
            for entry in layer.entries() {
                if let EntryBody::File { content, .. } = entry.body {
                    files.insert(content.digest(), content.stored_bytes());
                }
            }
            // A chunk may be named as often as a hostile layer likes.
            let stored = files
                .values()
                .fold(0, |sum: u64, len| sum.saturating_add(*len));
            bounded(stored, self.options.source.max_bytes)?;
            import.layer(layer, LayerOrigin::new());
        }
        if let Some(manifest) = self.image.manifest_bytes() {
            import.manifest(manifest)?;
        }
        let tag = tag.filter(|_| self.options.lazy);
        let config = self.image.config().clone();
        Ok(import.commit(config, tag.map(Reference::as_str))?)
    }

    /// Takes in a pack: by its table, or all of it.
    fn pack(
        &self,
        import: &mut Import,
        pack: &PlannedPack<'_>,
        tables: &mut PulledTables,
    ) -> Result<(), TransferError> {
        let (blob, size) = (pack.blob, pack.blob.size());
        let here;
        let remote = self.remote;
        let named = (pack.digest, size);
        let from_far =
            |range, asked| lazy::metered(remote.origin(), &remote.meter, named, (range, asked));
        let from_here;
        let fetch: &FetchRange<'_> = match self.options.lazy {
            true => &from_far,
            false => {
                let failed = |error| TransferError::Source(SourceErrorKind::Io(error).into());
                here = remote.blob(pack.digest).map_err(failed)?;
                from_here = move |range: Range<u64>, _: HostsAsked| {
                    let at = |offset| here.1.start + offset;
                    let mut part = Part::new(&here.0, at(range.start), at(range.end));
                    let mut bytes = Vec::new();
                    part.read_to_end(&mut bytes).map_err(failed)?;
                    Ok(bytes)
                };
                &from_here
            }
        };
        let (table, place) = tables.read(pack, fetch)?;
        bounded(tables.bytes, self.options.source.max_bytes)?;
        let from = remote.image_name(self.image);
        let taken = LazyLayer {
            table: &table,
            from: &from,
            blob: Blob::new(sha256(pack.digest).ok_or_else(|| not_sha256(blob))?, size),
            is_zstd: true,
        };
        let front = match self.options.lazy {
            true => place.start,
            // All frames.
            false => size,
        };
        let mut frames = StartFrames::new(&table, front, true);
        let mut failed = None;
        let mut frame = |number| {
            let got = frames.get(number, &|range| fetch(range, HostsAsked::Anybody));
            got.unwrap_or_else(|error| {
                failed.get_or_insert(error);
                None
            })
        };
        let is_right = match self.options.lazy {
            true => import.lazy_pack(&taken, &mut frame).map(|()| true)?,
            false => import.whole_pack(&taken, &mut frame)?,
        };
        match (failed, is_right) {
            (Some(error), _) => Err(error),
            (None, true) => Ok(()),
            (None, false) => Err(wrong(blob, "it has other bytes than its table says")),
        }
    }
}

fn not_sha256(blob: &LayerBlob) -> TransferError {
    wrong(blob, "it is not named by its SHA-256")
}
