//! Out of a store into a registry.

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, Read};

use parking_lot::Mutex;

use super::export::{oci_image, whole};
use super::lanes::{self, Meter, MovedWatcher};
use super::{TransferError, framing, packed, staged};
use crate::image::Reference;
use crate::registry::{BlobBytes, Client, RegistryRef, Sent};
use crate::source::{BlobDigest, Compression, Framing, OutBlob, OutImage, Platform, StartSet};
use crate::store::{ImageInfo, Store};

/// How an image is pushed.
#[derive(Clone)]
pub struct PushOptions {
    /// How layers are compressed that have no blob. Default: gzip, which every reader knows.
    pub compression: Compression,
    /// What comes first in layers that have no blob, so that it is fetched first where an image
    /// is pulled in parts.
    pub start_set: StartSet,
    /// What the image says that it is for. Default: what it says; and of one that was made
    /// here for WebAssembly, an index says that it is for Linux as well, so that tools that
    /// do not know WebAssembly unpack it.
    pub set_platform: Option<Platform>,
    /// Pushes an OCI artifact of WebAssembly, of an image that is nothing but one program.
    pub artifact: bool,
    /// Sends the image as packs, which stratafs alone reads: what is sent of a version is the
    /// chunks that earlier ones do not have. `compression` says nothing then. Default: no.
    pub packs: bool,
    /// With `packs`, further tags of the same repository, or the same name in an object store, whose images'
    /// packs may be named again. Default: none; then those of the image that the tag leads to, or else of
    /// tags near to it.
    pub since: Vec<String>,
    /// Blobs that are sent at once. Default: 3.
    pub lanes: usize,
    /// Is told how many bytes have gone.
    pub watcher: Option<MovedWatcher>,
}

impl std::fmt::Debug for PushOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushOptions")
            .field("compression", &self.compression)
            .field("set_platform", &self.set_platform)
            .field("artifact", &self.artifact)
            .field("packs", &self.packs)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Default for PushOptions {
    fn default() -> Self {
        Self {
            compression: Compression::Gzip,
            start_set: StartSet::new(),
            set_platform: None,
            artifact: false,
            packs: false,
            since: Vec::new(),
            lanes: 3,
            watcher: None,
        }
    }
}

/// What a push sent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The digest of what the name leads to now: a manifest, or an index.
    pub digest: BlobDigest,
    /// Blobs that were sent.
    pub sent_blobs: u64,
    /// Bytes of these.
    pub sent_bytes: u64,
    /// Blobs that another repository of the registry had.
    pub mounted_blobs: u64,
    /// Blobs that were there.
    pub known_blobs: u64,
    /// Manifests about the image that were copied with it: signatures, attestations, lists of
    /// parts. A push has none to send.
    pub attached: u64,
    /// Of an image in packs: packs that were there, and are named again.
    pub known_packs: u64,
    /// Of an image in packs: packs that are new.
    pub new_packs: u64,
}

impl Pushed {
    pub(super) fn of(digest: BlobDigest) -> Self {
        Self {
            digest,
            sent_blobs: 0,
            sent_bytes: 0,
            mounted_blobs: 0,
            known_blobs: 0,
            attached: 0,
            known_packs: 0,
            new_packs: 0,
        }
    }

    /// Counts a blob.
    pub(super) fn count(&mut self, sent: Sent, size: u64) {
        match sent {
            Sent::AlreadyThere => self.known_blobs += 1,
            Sent::Mounted => self.mounted_blobs += 1,
            Sent::Uploaded => {
                self.sent_blobs += 1;
                self.sent_bytes += size;
            }
        }
    }
}

/// Sends the image `reference` to the repository and tag `to`. What the registry has is not sent.
///
/// Layers that came in as blobs, and an image that has not been changed since it came in, are
/// sent byte by byte, so that digests stay. Other layers are written as archives, into temporary
/// files: O(bytes) for each of these, in bounded memory. The manifest is sent last: until then
/// the tag leads to the image that it led to before.
///
/// Blobs that another repository of the same registry has are mounted from there, if the
/// store has an image that is named after that repository and has them.
///
/// ```no_run
/// use stratafs::registry::{Client, ClientOptions};
/// use stratafs::store::Store;
/// use stratafs::transfer::{PushOptions, push};
///
/// let store = Store::open("images".as_ref())?;
/// let client = Client::new(ClientOptions::default())?;
/// let to = "localhost:5000/team/app:1".parse()?;
/// push(&store, &client, &"app:1".parse()?, &to, &PushOptions::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Place`] if `to` has a digest; [`TransferError::Absent`] for an image that is
/// here in part; both before anything is sent. [`TransferError::Registry`],
/// [`TransferError::Store`], [`TransferError::Oci`], [`TransferError::Artifact`].
pub fn push(
    store: &Store,
    client: &Client,
    reference: &Reference,
    to: &RegistryRef,
    options: &PushOptions,
) -> Result<Pushed, TransferError> {
    expect_tag(to, to.digest())?;
    if options.packs {
        let scratch = staged::temporary()?;
        let packed = packed::pack((store, reference), &(client, to), scratch.path(), options)?;
        let pushed = send((store, client), &packed.image, to, options)?;
        return Ok(packed.reported(pushed));
    }
    made(store, reference, options, |image| {
        send((store, client), image, to, options)
    })
}

/// Refuses a name with a digest as the place that an image is pushed to.
pub(super) fn expect_tag(
    to: &dyn Display,
    digest: Option<&BlobDigest>,
) -> Result<(), TransferError> {
    match digest {
        None => Ok(()),
        Some(_) => Err(TransferError::Place(format!(
            "{to}: an image is pushed to a tag; its digest follows from it"
        ))),
    }
}

/// Makes what is sent of an image, all of which has to be here, and sends it by `send`.
pub(super) fn made(
    store: &Store,
    reference: &Reference,
    options: &PushOptions,
    send: impl FnOnce(&OutImage<'_>) -> Result<Pushed, TransferError>,
) -> Result<Pushed, TransferError> {
    whole(store, reference)?;
    let scratch = staged::temporary()?;
    let form = (
        options.compression,
        options.set_platform.as_ref(),
        options.artifact,
    );
    oci_image(store, reference, form, |image, platforms| {
        let framing = Framing {
            start: &options.start_set,
            table: &framing::table,
        };
        send(&image.prepare(scratch.path(), platforms, &framing)?)
    })
}

fn send(
    (store, client): (&Store, &Client),
    image: &OutImage<'_>,
    to: &RegistryRef,
    options: &PushOptions,
) -> Result<Pushed, TransferError> {
    let mut pushed = Pushed::of(image.top().digest.clone());
    let top = image.top();
    if client.look_up(&to.at(&top.digest))?.is_some() {
        // It is there, and so is all that it names.
        pushed.known_blobs = image.blobs.len() as u64;
        client.put_manifest(to, &top.media_type, &top.bytes)?;
        return Ok(pushed);
    }
    let from = neighbours(&store.list()?, to);
    let meter = Meter::new(options.watcher.clone());
    image.blobs.iter().for_each(|blob| meter.expect(blob.size));
    let counts = Mutex::new(pushed);
    let blobs = image.blobs.iter().collect();
    lanes::all(options.lanes, blobs, &meter, |blob: &OutBlob<'_>| {
        let from = from.get(&blob.digest).map_or(&[][..], Vec::as_slice);
        let mut watch = |more| meter.moved(more);
        let named = (&blob.digest, blob.size);
        let sent = client.send_blob(to, named, &Bytes(blob), from, &mut watch)?;
        counts.lock().count(sent, blob.size);
        Ok(())
    })?;
    for manifest in &image.manifests {
        let at = match std::ptr::eq(manifest, image.top()) {
            true => to.clone(),
            false => to.at(&manifest.digest),
        };
        client.put_manifest(&at, &manifest.media_type, &manifest.bytes)?;
    }
    Ok(counts.into_inner())
}

struct Bytes<'b, 'a>(&'b OutBlob<'a>);

impl BlobBytes for Bytes<'_, '_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        self.0.open()
    }
}

/// Finds out which repositories of a registry have which blobs: those of images that are
/// called by a name of it.
fn neighbours(images: &[ImageInfo], to: &RegistryRef) -> HashMap<BlobDigest, Vec<String>> {
    let mut found: HashMap<BlobDigest, Vec<String>> = HashMap::new();
    for info in images {
        let tags = info.tags.iter();
        let names = tags.filter(|tag| RegistryRef::names_registry(tag));
        let names = names.filter_map(|tag| tag.parse::<RegistryRef>().ok());
        let own: Vec<_> = names.filter(|name| name.host() == to.host()).collect();
        for layer in &info.layers {
            let Some(blob) = layer.origin.blob else {
                continue;
            };
            let known = found
                .entry(BlobDigest::sha256(blob.as_bytes()))
                .or_default();
            for name in &own {
                if !known.iter().any(|known| known == name.repository()) {
                    known.push(name.repository().to_owned());
                }
            }
        }
    }
    found
}
