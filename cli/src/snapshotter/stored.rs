//! The layers of pulled images, in the store: brought in when a layer is asked for, held by a name as
//! long as a snapshot needs them, collected after that.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use stratafs::errno::Errno;
use stratafs::image::{ImageConfig, Reference};
use stratafs::registry::RegistryRef;
use stratafs::source::{BlobDigest, SourceOptions};
use stratafs::store::{ImageInfo, Store, StoreError, StoredLayer};
use stratafs::transfer::{self, PullOptions};
use stratafs::vfs::Fs;
use tonic::Status;

use super::policy::Policy;
use super::record::Body;
use crate::failure::{Failure, say};
use crate::limits::MAX_USERS_BYTES;
use crate::reach::{LazyWhen, ReachArgs};
use crate::spans;
use crate::store_dir;

/// What names begin with that snapshots hold images by. Names that are typed have small letters.
const PREFIX: &str = "SNAPSHOT/";

/// The labels by which CRI, and clients that do as it does, say what is unpacked.
const IMAGE_LABEL: &str = "containerd.io/snapshot/cri.image-ref";
const MANIFEST_LABEL: &str = "containerd.io/snapshot/cri.manifest-digest";

/// How images are taken.
pub(super) struct PullSettings {
    /// How registries are reached.
    pub(super) reach: ReachArgs,
    /// When the parts of layers come.
    pub(super) lazy: LazyWhen,
    /// Whose images are taken.
    pub(super) policy: Policy,
}

/// A layer that is asked for, and the image that it is of.
pub(super) struct WantedLayer {
    /// The image as whoever pulls calls it.
    image: RegistryRef,
    /// The manifest that is pulled.
    manifest: Option<BlobDigest>,
    /// The image in its registry: that manifest, if it is known.
    name: RegistryRef,
    /// The digest of the layer and of all below it: SHA-256 over the digests of the archives.
    chain: String,
}

impl WantedLayer {
    /// Reads the labels of a snapshot that is to become `chain`; `None` where they do not say of
    /// which image it is a layer.
    pub(super) fn of(
        chain: &str,
        labels: &BTreeMap<String, String>,
    ) -> Option<Result<Self, Failure>> {
        let image = labels.get(IMAGE_LABEL)?;
        let read = || {
            let image: RegistryRef = image
                .parse()
                .map_err(|error| Failure::new(format_args!("label {IMAGE_LABEL}: {error}")))?;
            let manifest = labels.get(MANIFEST_LABEL).map(|text| text.parse());
            let manifest: Option<BlobDigest> = manifest
                .transpose()
                .map_err(|error| Failure::new(format_args!("label {MANIFEST_LABEL}: {error}")))?;
            let name = match &manifest {
                Some(digest) => image.at(digest),
                None => image.clone(),
            };
            Ok(Self {
                image,
                manifest,
                name,
                chain: chain.to_owned(),
            })
        };
        Some(read())
    }
}

/// Images in the store, for snapshots.
pub(super) struct StoredImages {
    store: Store,
    dir: PathBuf,
    terms: PullSettings,
    prefix: String,
    /// One pull of an image at a time.
    pulls: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// Whether something was let go since the last collection.
    collectable: AtomicBool,
    /// Images that are filled in the background.
    filling: Mutex<HashSet<String>>,
}

impl StoredImages {
    /// Opens the store, made if it is missing. `identity` tells snapshotters of one store apart.
    pub(super) fn open(
        dir: Option<&Path>,
        terms: PullSettings,
        identity: u64,
    ) -> Result<Self, Failure> {
        let store = store_dir::open(dir, store_dir::Use::Fill)?;
        let dir = store_dir::of(dir)?;
        let dir = std::fs::canonicalize(&dir).map_err(|error| Failure::at(&dir, error))?;
        if terms.lazy != LazyWhen::Off {
            transfer::fetch_from(&store, terms.reach.origins()?)?;
        }
        Ok(Self {
            store,
            dir,
            terms,
            prefix: format!("{PREFIX}{identity:016x}/"),
            pulls: Mutex::default(),
            // A killed process may not have come to it.
            collectable: AtomicBool::new(true),
            filling: Mutex::default(),
        })
    }

    /// Returns the directory of the store.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Refuses a layer of an image that is not signed as it has to be, or of one that nobody names; and
    /// says so. Nothing is asked where no keys are given.
    pub(super) fn admit(
        &self,
        chain: &str,
        wanted: Option<&Result<WantedLayer, Failure>>,
    ) -> Result<(), Status> {
        let policy = &self.terms.policy;
        if !policy.is_given() {
            return Ok(());
        }
        let (of, refused) = match wanted {
            Some(Ok(wanted)) => {
                let client = self.terms.reach.client();
                let admitted = client.and_then(|client| {
                    policy.admit(&client, &wanted.image, wanted.manifest.as_ref())
                });
                match admitted {
                    Ok(()) => return Ok(()),
                    Err(failure) => (format!("image {}", wanted.image), failure.to_string()),
                }
            }
            Some(Err(failure)) => (format!("layer {chain}"), failure.to_string()),
            None => (
                format!("layer {chain}"),
                format!(
                    "no label {IMAGE_LABEL} says of which image it is, so that no key could be for it"
                ),
            ),
        };
        say(&format!("{of} is refused: {refused}"));
        Err(Status::permission_denied(format!(
            "{of} is refused: {refused}"
        )))
    }

    /// Brings a layer in with its image, or finds it in the store. The image has a name of its own
    /// once this returns: see [`hold`](Self::hold).
    pub(super) fn bring(self: &Arc<Self>, wanted: &WantedLayer) -> Result<Body, Failure> {
        let key = wanted.name.to_string();
        let turn = Arc::clone(self.pulls.lock().entry(key.clone()).or_default());
        let brought = {
            let _turn = turn.lock();
            self.pull(wanted)
        };
        drop(turn);
        let mut pulls = self.pulls.lock();
        if pulls
            .get(&key)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            pulls.remove(&key);
        }
        brought
    }

    fn pull(self: &Arc<Self>, wanted: &WantedLayer) -> Result<Body, Failure> {
        // Another layer of the image has brought it, as a rule.
        for info in self.store.list()? {
            if self.holds(&info)
                && let Some(body) = body_of(&info, &wanted.chain)
            {
                return Ok(body);
            }
        }
        let options = PullOptions {
            source: SourceOptions::default(),
            lazy: self.terms.lazy != LazyWhen::Off,
            ..PullOptions::default()
        };
        // The name that it has until it is known whether a snapshot needs it.
        let key = BlobDigest::of(wanted.name.to_string().as_bytes());
        let meanwhile = Reference::Tag(format!("{}pull-{}", self.prefix, key.hex()));
        let client = self.terms.reach.client()?;
        let pulled = spans::of_pull(&wanted.image, || {
            let (name, tag) = (&wanted.name, Some(&meanwhile));
            transfer::pull(&self.store, &client, name, tag, &options)
        })?;
        let body = body_of(&pulled.image, &wanted.chain).ok_or_else(|| {
            Failure::new(format_args!(
                "{}: the image of manifest {} has no layer {}",
                wanted.name, pulled.digest, wanted.chain
            ))
        });
        if body.is_ok() {
            self.hold(&pulled.image.id.to_string())?;
        }
        self.let_go(meanwhile.as_str())?;
        let body = body?;
        if self.terms.lazy == LazyWhen::Auto && pulled.lazy_layers > 0 {
            self.fill_meanwhile(vec![pulled.image.id.to_string()]);
        }
        Ok(body)
    }

    /// Fetches the rest of images while containers begin. What it does not fetch is fetched by who
    /// reads it.
    fn fill_meanwhile(self: &Arc<Self>, mut images: Vec<String>) {
        {
            let mut filling = self.filling.lock();
            images.retain(|image| filling.insert(image.clone()));
        }
        if images.is_empty() {
            return;
        }
        let stored = Arc::clone(self);
        let fill = move || {
            for image in images {
                if let Err(failure) = stored.fill(&image) {
                    say(&format!("{image}: its rest was not fetched: {failure}"));
                }
                stored.filling.lock().remove(&image);
            }
        };
        let thread = std::thread::Builder::new().name("stratafs-fill".to_owned());
        if let Err(error) = thread.spawn(fill) {
            say(&format!("no thread to fetch the rest of an image: {error}"));
        }
    }

    fn fill(&self, image: &str) -> Result<(), Failure> {
        let (origins, options) = (self.terms.reach.origins()?, PullOptions::default());
        transfer::fill(&self.store, origins, &image.parse()?, &options)?;
        Ok(())
    }

    /// Fetches the rest of images, one after the other: what a process that has ended had not come to.
    pub(super) fn resume(self: &Arc<Self>, images: &HashSet<&str>) {
        if self.terms.lazy != LazyWhen::Auto {
            return;
        }
        let lacking = images
            .iter()
            .filter(|image| self.store.may_lack(image).unwrap_or(false));
        let lacking: Vec<String> = lacking.map(|image| (*image).to_owned()).collect();
        self.fill_meanwhile(lacking);
    }

    /// Returns whether snapshots hold an image.
    fn holds(&self, info: &ImageInfo) -> bool {
        info.tags.iter().any(|tag| tag.starts_with(&self.prefix))
    }

    /// Keeps an image from being collected.
    pub(super) fn hold(&self, image: &str) -> Result<(), Failure> {
        self.store.tag(image, &self.name_of(image))?;
        Ok(())
    }

    fn name_of(&self, image: &str) -> String {
        format!("{}{}", self.prefix, image.trim_start_matches("blake3:"))
    }

    fn let_go(&self, name: &str) -> Result<(), Failure> {
        match self.store.untag(name) {
            Ok(_) => {
                self.collectable.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(StoreError::NoImage(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets go of an image that no snapshot needs any more.
    pub(super) fn release(&self, image: &str) -> Result<(), Failure> {
        self.let_go(&self.name_of(image))
    }

    /// Returns the image for containers over the lowest `layers` of one: itself, if it has no others.
    pub(super) fn image_of(&self, image: &str, layers: usize) -> Result<String, Failure> {
        let info = self.store.info(image)?;
        if info.layers.len() == layers {
            return Ok(info.id.to_string());
        }
        let mut import = self.store.import()?;
        let lower = self.store.layers(image)?.into_iter().zip(info.layers);
        for (layer, known) in lower.take(layers) {
            import.layer(layer, known.origin);
        }
        // One image by its layers: the same again is the same.
        let id = import.commit(ImageConfig::new(), None)?.to_string();
        self.hold(&id)?;
        Ok(id)
    }

    /// Reads a file of users of an image, wherever links within it lead; `None` if there is none of that
    /// name.
    pub(super) fn users_of(&self, image: &str, path: &str) -> Result<Option<Vec<u8>>, Failure> {
        let fs = Fs::new(&self.store.image(image)?);
        match fs.read_up_to(path, MAX_USERS_BYTES) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.errno(), Errno::NoEntry | Errno::NotDirectory) => Ok(None),
            Err(error) => Err(Failure::new(format_args!("{image}: {error}"))),
        }
    }

    /// Lets go of all images that no snapshot needs: what a killed process had not come to.
    pub(super) fn release_others(&self, needed: &HashSet<&str>) -> Result<(), Failure> {
        let needed: HashSet<String> = needed.iter().map(|image| self.name_of(image)).collect();
        for info in self.store.list()? {
            let own = info.tags.iter().filter(|tag| tag.starts_with(&self.prefix));
            for tag in own.filter(|tag| !needed.contains(*tag)) {
                self.let_go(tag)?;
            }
        }
        Ok(())
    }

    /// Frees what nobody names any more, if something was let go.
    pub(super) fn collect(&self) -> Result<(), Failure> {
        if !self.collectable.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let collected = self.store.gc();
        if collected.is_err() {
            self.collectable.store(true, Ordering::Relaxed);
        }
        collected?;
        Ok(())
    }
}

/// Finds a layer among those of an image by the digest of it and all below it.
fn body_of(info: &ImageInfo, wanted: &str) -> Option<Body> {
    let mut chain: Option<String> = None;
    for (number, layer) in info.layers.iter().enumerate() {
        chain = Some(next_chain(chain.as_deref(), layer)?);
        if chain.as_deref() == Some(wanted) {
            return Some(Body::Stored {
                image: info.id.to_string(),
                layers: number + 1,
                bytes: layer.origin.blob_bytes,
            });
        }
    }
    None
}

/// As OCI's specification of images has it: the digest of the layer for the lowest, else that of both
/// digests with a space between them.
fn next_chain(below: Option<&str>, layer: &StoredLayer) -> Option<String> {
    let own = layer.origin.diff_id?.to_string();
    Some(match below {
        None => own,
        Some(below) => BlobDigest::of(format!("{below} {own}").as_bytes())
            .as_str()
            .to_owned(),
    })
}

/// Says why a layer is left to containerd, which fetches and unpacks it then.
pub(super) fn report_left(chain: &str, failure: &Failure) {
    say(&format!("layer {chain} is left to containerd: {failure}"));
}

/// Returns the status for containerd of a failure of the store.
pub(super) fn internal(failure: &Failure) -> Status {
    Status::internal(format!("the store: {failure}"))
}
