//! Out of a registry into a store.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::TransferError;
use super::import::{keep_documents, sha256, take_layer};
use super::lanes::{self, Meter, MovedWatcher};
use super::lazy::{self, NotedTable, has_table, take_table};
use super::packed;
use super::remote::{OfRegistry, Origin, Remote};
use super::table_room::{TableRoom, too_many};
use crate::digest::{Digest, Sha256};
use crate::image::{ImageId, Reference};
use crate::registry::{Client, Manifest, RegistryRef, VerifyKey};
use crate::source::{BlobDigest, LayerBlob, OciImage, SourceErrorKind, SourceOptions};
use crate::store::{ImageInfo, Import, InUse, LayerOrigin, Store, blob_file_name, is_old};

/// How an image is pulled.
#[derive(Clone)]
pub struct PullOptions {
    /// Bounds, and which image to take of an index.
    pub source: SourceOptions,
    /// Blobs that are fetched at once. Default: 3.
    pub lanes: usize,
    /// Is told how many bytes have come.
    pub watcher: Option<MovedWatcher>,
    /// Of layers that have a table, fetch that and what is needed to start, and nothing else:
    /// what is read later is fetched then, if [`fetch_from`](super::fetch_from) says from where,
    /// and [`fill`](super::fill) fetches the rest. Default: no.
    pub lazy: bool,
    /// Keys of which one has to have signed the image; see [`Client::verify_signature`].
    /// Default: none, and no signature is asked for.
    pub verify_keys: Vec<VerifyKey>,
}

impl std::fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PullOptions")
            .field("source", &self.source)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            source: SourceOptions::default(),
            lanes: 3,
            watcher: None,
            lazy: false,
            verify_keys: Vec::new(),
        }
    }
}

/// What a pull brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulled {
    /// The image.
    pub image: ImageInfo,
    /// The digest of what the name leads to in the registry: a manifest, or an index.
    pub digest: BlobDigest,
    /// Layers that were fetched, or had been by an earlier pull that was interrupted.
    pub fetched_layers: u64,
    /// Bytes of these.
    pub fetched_bytes: u64,
    /// Layers that the store had.
    pub known_layers: u64,
    /// Layers of which only the table was fetched, and what is needed to start.
    pub lazy_layers: u64,
    /// Keeps [`Store::trim`] from dropping the image again, as long as somebody has it.
    pub in_use: Arc<InUse>,
}

/// Fetches the image `name` into the store and tags it `tag`, or else with its full name.
/// Layers that the store has are not fetched.
///
/// Blobs are fetched into a directory of the store, several at once, and read into the
/// image in order as they arrive; no layer is held in memory. All or nothing: until the last
/// step succeeds the store shows none of it, and bytes without the right digest are never
/// visible. Parts of blobs stay if the pull fails or the process is killed, unless the disk is
/// full, and the next pull of any image with these blobs continues there; [`Store::gc`] removes
/// them.
///
/// ```no_run
/// use stratafs::registry::{Client, ClientOptions};
/// use stratafs::store::Store;
/// use stratafs::transfer::{PullOptions, pull};
///
/// let store = Store::open("images".as_ref())?;
/// let client = Client::new(ClientOptions::default())?;
/// let name = "ghcr.io/team/app:1".parse()?;
/// pull(&store, &client, &name, Some(&"app:1".parse()?), &PullOptions::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Registry`], [`TransferError::Source`], [`TransferError::Store`];
/// [`TransferError::Table`], [`TransferError::TwoFaces`].
pub fn pull(
    store: &Store,
    client: &Client,
    name: &RegistryRef,
    tag: Option<&Reference>,
    options: &PullOptions,
) -> Result<Pulled, TransferError> {
    let full = name.store_name();
    let manifest = client.manifest(name)?;
    if !options.verify_keys.is_empty() {
        client.verify_signature(name, &manifest.digest, &options.verify_keys)?;
    }
    let origin = Arc::new(OfRegistry(client.clone(), name.clone()));
    bring(store, origin, manifest, Some(tag.unwrap_or(&full)), options)
}

/// Fetches an image whose manifest, or index, is there already; without a tag nothing leads to
/// it but what did before. A name that says where it came from is noted as such: from then on the
/// image may be dropped, once it is not in use.
pub(super) fn bring(
    store: &Store,
    origin: Arc<dyn Origin>,
    manifest: Manifest,
    tag: Option<&Reference>,
    options: &PullOptions,
) -> Result<Pulled, TransferError> {
    let full = origin.store_name();
    let pulled = fetch(store, origin, manifest, tag, options)?;
    if let Some(tag) = tag.filter(|tag| **tag == full) {
        store.set_pulled(tag.as_str())?;
    }
    Ok(pulled)
}

fn fetch(
    store: &Store,
    origin: Arc<dyn Origin>,
    manifest: Manifest,
    tag: Option<&Reference>,
    options: &PullOptions,
) -> Result<Pulled, TransferError> {
    store.drop_incoming(&is_old)?;
    let meter = Meter::new(options.watcher.clone());
    let name = origin.name(None);
    let remote = Arc::new(Remote::new(origin, store, meter));
    let top = (
        manifest.media_type.as_str(),
        &manifest.digest,
        manifest.bytes,
    );
    let home = Arc::clone(&remote);
    let image = OciImage::remote(home, top, &options.source).map_err(|error| {
        let error = error.of(Path::new(&name));
        remote.explained(error.into())
    })?;
    // Not before what is in the store is looked at: nothing of it is collected from here on.
    let import = store.import()?;
    let same = same_image(store, &image)?;
    if let Some(known) = &same
        && (options.lazy || store.absent(&known.id.to_string())?.is_whole())
    {
        let home = remote.image_name(&image);
        store.add_home(&known.id.to_string(), &blobs_of(&image), &home)?;
        return already_here(store, (known, &image), manifest.digest, options, tag);
    }
    if image.packs().is_some() {
        let (from, how) = ((store, &*remote, import), (options, tag));
        return packed::fetch(from, (&image, manifest.digest), how);
    }
    // What guests may have read of it until now.
    let before = same.filter(|_| !options.lazy).map(|known| known.id);
    let before = before.map(|id| store.image(&id.to_string())).transpose()?;
    let plan = PullPlan::new(store, &image, options)?;
    remote.expect(&plan.missing);
    let (fetched_layers, known_layers) = plan.counts();
    let taken = together(store, &remote, import, (&image, &plan), options, tag);
    let id = match taken {
        Ok(id) => {
            remote.forget()?;
            id
        }
        Err(error) => return Err(given_up(store, &remote, &image, error)?),
    };
    if let Some(before) = before {
        lazy::held(store, id, &before)?;
    } else if !options.lazy {
        store.finish_packs(id)?;
    }
    Ok(Pulled {
        in_use: Arc::new(store.mark_used(&id.to_string())?),
        image: store.info(&id.to_string())?,
        lazy_layers: plan.lazy.len() as u64,
        digest: manifest.digest,
        fetched_layers,
        fetched_bytes: plan.missing.iter().map(|(_, size)| size).sum(),
        known_layers,
    })
}

/// Lets what has come go where nobody goes on with it, and says what went wrong.
pub(super) fn given_up(
    store: &Store,
    remote: &Remote,
    image: &OciImage,
    error: TransferError,
) -> Result<TransferError, TransferError> {
    // It was whole when it came, and is not right.
    let is_wrong = is_mismatch(&error);
    let error = remote.explained(error);
    let is_full = is_full(&error);
    if is_wrong || is_full {
        remote.forget()?;
    }
    if is_full {
        // What has come takes the room that is missing.
        forget_blobs(store, image)?;
    }
    Ok(error)
}

/// Names an image that the store has.
fn already_here(
    store: &Store,
    (known, image): (&ImageInfo, &OciImage),
    digest: BlobDigest,
    options: &PullOptions,
    tag: Option<&Reference>,
) -> Result<Pulled, TransferError> {
    let id = known.id.to_string();
    tag.map_or(Ok(known.id), |tag| store.tag(&id, tag.as_str()))?;
    if !options.lazy {
        forget_blobs(store, image)?;
    }
    Ok(Pulled {
        in_use: Arc::new(store.mark_used(&id)?),
        known_layers: known.layers.len() as u64,
        lazy_layers: 0,
        image: store.info(&id)?,
        digest,
        fetched_layers: 0,
        fetched_bytes: 0,
    })
}

fn is_mismatch(error: &TransferError) -> bool {
    match error {
        TransferError::Source(error) => matches!(error.kind(), SourceErrorKind::Mismatch { .. }),
        TransferError::Packed { .. } => true,
        _ => false,
    }
}

/// Returns whether something failed because there is no room left on the disk.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        let kind = error.downcast_ref().map(io::Error::kind);
        if matches!(
            kind,
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        ) {
            return true;
        }
        at = error.source();
    }
    false
}

/// Fetches and reads at the same time.
fn together(
    store: &Store,
    remote: &Remote,
    import: Import,
    (image, plan): (&OciImage, &PullPlan),
    options: &PullOptions,
    tag: Option<&Reference>,
) -> Result<ImageId, TransferError> {
    thread::scope(|scope| {
        let jobs = plan.missing.clone();
        scope.spawn(|| lanes::all(options.lanes, jobs, &remote.meter, |job| remote.fetch(job)));
        let taken = take(store, import, remote, (image, plan), (options, tag));
        remote.stop();
        taken
    })
}

/// Reads layer after layer, and makes the image.
fn take(
    store: &Store,
    mut import: Import,
    remote: &Remote,
    (image, plan): (&OciImage, &PullPlan),
    (options, tag): (&PullOptions, Option<&Reference>),
) -> Result<ImageId, TransferError> {
    let mut room = TableRoom::new();
    for (number, (blob, known)) in image.layers().iter().zip(&plan.known).enumerate() {
        if let Some((layer, origin)) = known {
            import.layer(layer.clone(), origin.clone());
        } else if plan.lazy.contains(&number) {
            let name = remote.image_name(image);
            let parts = (remote.origin(), &remote.meter, &options.source);
            let (layer, origin) = take_table(&mut import, parts, &mut room, &name, blob)?;
            import.layer(layer, origin);
        } else {
            let found = take_layer(&mut import, image, blob, &options.source)?;
            if let Some(own) = blob.digest().and_then(sha256) {
                let manifest = image.manifest_bytes().map(BlobDigest::of);
                let manifest = manifest.as_ref().and_then(sha256);
                lazy::refuse_others(store, (own, found), manifest)?;
            }
        }
    }
    keep_documents(&mut import, image)?;
    Ok(import.commit(image.config().clone(), tag.map(Reference::as_str))?)
}

/// The blobs of an image's layers and packs.
fn blobs_of(image: &OciImage) -> BTreeSet<Sha256> {
    let packs = image.packs().unwrap_or_default();
    let blobs = image.layers().iter().chain(packs);
    let blobs = blobs.filter_map(|blob| blob.digest());
    blobs.filter_map(sha256).collect()
}

/// Removes the blobs of an image that the store has: a pull that was killed once the image
/// was there has left them.
pub(super) fn forget_blobs(store: &Store, image: &OciImage) -> Result<(), TransferError> {
    let names: HashSet<String> = blobs_of(image).into_iter().map(blob_file_name).collect();
    let is_of_image = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(name))
    };
    store.drop_incoming(&is_of_image)?;
    Ok(())
}

/// Returns the image of the store that came with the same manifest.
fn same_image(store: &Store, image: &OciImage) -> Result<Option<ImageInfo>, TransferError> {
    let manifest = image.manifest_bytes().map(BlobDigest::of);
    let Some(manifest) = manifest.as_ref().and_then(sha256) else {
        return Ok(None);
    };
    let mut all = store.list()?.into_iter();
    Ok(all.find(|info| info.manifest == Some(manifest)))
}

/// What has to be fetched, and what is there.
struct PullPlan {
    /// For each layer of the image what the store has of it.
    known: Vec<Option<(crate::layer::Layer, LayerOrigin)>>,
    /// Blobs, each once, in the order in which they are read.
    missing: Vec<(BlobDigest, u64)>,
    /// Layers that are taken in by their tables, by number.
    lazy: HashSet<usize>,
}

impl PullPlan {
    fn new(store: &Store, image: &OciImage, pull: &PullOptions) -> Result<Self, TransferError> {
        let options = &pull.source;
        let stored = stored_layers(store)?;
        let mut plan = Self {
            known: Vec::new(),
            missing: Vec::new(),
            lazy: HashSet::new(),
        };
        let mut seen = HashSet::new();
        for (number, blob) in image.layers().iter().enumerate() {
            let pair = blob.digest().and_then(sha256).zip(sha256(blob.diff_id()));
            let found = pair.and_then(|pair| stored.get(&pair));
            let found = found.map(|(digest, origin)| {
                let layer = store.layer(*digest)?;
                Ok::<_, TransferError>(layer.map(|layer| (layer, origin.clone())))
            });
            let found = found.transpose()?.flatten();
            if found.is_none() && pull.lazy && has_table(blob) {
                plan.lazy.insert(number);
            } else if let (None, Some(digest)) = (&found, blob.digest())
                && seen.insert(digest.clone())
            {
                plan.missing.push((digest.clone(), blob.size()));
            }
            plan.known.push(found);
        }
        let lazy = image.layers().iter().zip(0..);
        let lazy = lazy.filter(|(_, number)| plan.lazy.contains(number));
        let lazy: Vec<&LayerBlob> = lazy.map(|(blob, _)| blob).collect();
        // What lies before a table may have to be passed over.
        let parts = lazy.iter().map(|blob| blob.size());
        let sizes = plan.missing.iter().map(|(_, size)| *size).chain(parts);
        if sizes.fold(0, u64::saturating_add) > options.max_bytes {
            let kind = SourceErrorKind::Limit {
                what: "bytes in the layers, compressed as they are",
                limit: options.max_bytes,
            };
            return Err(TransferError::Source(kind.into()));
        }
        let noted = lazy.iter().map(|blob| NotedTable::of(blob));
        if let Some((number, sum)) = TableRoom::first_without(noted) {
            let blob = lazy.get(number).and_then(|blob| blob.digest());
            return Err(TransferError::Table {
                blob: blob.map_or_else(String::new, BlobDigest::to_string),
                what: too_many(sum, ""),
            });
        }
        Ok(plan)
    }

    /// Counts layers that are fetched, and those that are known.
    fn counts(&self) -> (u64, u64) {
        let known = self.known.iter().flatten().count() as u64;
        (self.missing.len() as u64, known)
    }
}

/// A blob, and what is in it.
type BlobKey = (Sha256, Sha256);

/// Lists the layers of the store that it has the blobs of.
fn stored_layers(store: &Store) -> Result<HashMap<BlobKey, (Digest, LayerOrigin)>, TransferError> {
    let mut found = HashMap::new();
    // What a table says of a blob is said of the image alone that it is of.
    let by_table = store.layers_by_table()?;
    for info in store.list()? {
        for layer in info.layers {
            if let Some(key) = layer.origin.blob.zip(layer.origin.diff_id)
                && !by_table.contains(&(key.0, layer.digest))
            {
                found.insert(key, (layer.digest, layer.origin));
            }
        }
    }
    Ok(found)
}
