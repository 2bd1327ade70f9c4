//! An image that lies in a registry, read as one that lies in a layout is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use oci_spec::image::Descriptor;
use parking_lot::{Condvar, Mutex};

use super::TransferError;
use super::export::bytes;
use super::import::sha256;
use super::lanes::Meter;
use crate::digest::Sha256;
use crate::image::Reference;
use crate::limits::MAX_OCI_DOCUMENT_BYTES;
use crate::registry::{BlobTarget, Client, HostsAsked, Manifest, RegistryRef};
use crate::source::packed::inline_data;
use crate::source::{BlobDigest, BlobHome, OciImage};
use crate::store::{Incoming, Store};

/// Where an image comes from.
pub(super) trait Origin: Send + Sync {
    /// Returns the image's name there, or that of the manifest with this digest.
    fn name(&self, digest: Option<&BlobDigest>) -> String;

    /// Returns the name that a store keeps it under if no other is said.
    fn store_name(&self) -> Reference;

    /// Fetches what the name leads to, and checks it.
    fn top(&self) -> Result<Manifest, TransferError>;

    /// Fetches a manifest or an index, and checks it.
    fn document(&self, digest: &BlobDigest) -> Result<Vec<u8>, TransferError>;

    /// Fetches a blob, and checks it; see [`Client::fetch_blob`].
    fn fetch(
        &self,
        named: (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), TransferError>;

    /// Fetches bytes of a blob: as many as the range has, no more and no less. What they should
    /// be is for the caller to know, who says so if others have come before.
    fn range(
        &self,
        named: (&BlobDigest, u64),
        range: Range<u64>,
        asked: HostsAsked,
    ) -> Result<Vec<u8>, TransferError>;
}

/// A repository of a registry.
pub(super) struct OfRegistry(pub(super) Client, pub(super) RegistryRef);

impl Origin for OfRegistry {
    fn name(&self, digest: Option<&BlobDigest>) -> String {
        let at = |digest| self.1.at(digest).to_string();
        digest.map_or_else(|| self.1.to_string(), at)
    }

    fn store_name(&self) -> Reference {
        self.1.store_name()
    }

    fn top(&self) -> Result<Manifest, TransferError> {
        Ok(self.0.manifest(&self.1)?)
    }

    fn document(&self, digest: &BlobDigest) -> Result<Vec<u8>, TransferError> {
        Ok(self.0.manifest(&self.1.at(digest))?.bytes)
    }

    fn fetch(
        &self,
        named: (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), TransferError> {
        Ok(self.0.fetch_blob(&self.1, named, target, watch)?)
    }

    fn range(
        &self,
        named: (&BlobDigest, u64),
        range: Range<u64>,
        asked: HostsAsked,
    ) -> Result<Vec<u8>, TransferError> {
        Ok(self.0.fetch_range(&self.1, named, range, asked)?)
    }
}

/// The registry's side of a pull: documents are fetched when they are asked for, blobs by
/// [`fetch_all`](Self::fetch_all) while others are read.
pub(super) struct Remote {
    origin: Arc<dyn Origin>,
    store: Store,
    pub(super) meter: Meter,
    /// Protected by itself: blobs that have come, and the first thing that went wrong.
    state: Mutex<RemoteState>,
    /// Is told when a blob has come, and when none will come any more.
    arrived: Condvar,
}

#[derive(Default)]
struct RemoteState {
    blobs: HashMap<BlobDigest, Incoming>,
    expected: HashSet<BlobDigest>,
    ended: bool,
    error: Option<TransferError>,
}

impl Remote {
    pub(super) fn new(origin: Arc<dyn Origin>, store: &Store, meter: Meter) -> Self {
        Self {
            origin,
            store: store.clone(),
            meter,
            state: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    pub(super) fn origin(&self) -> &dyn Origin {
        &*self.origin
    }

    /// Names the image by its manifest, so that it can be found again.
    pub(super) fn image_name(&self, image: &OciImage) -> String {
        let digest = image.manifest_bytes().map(BlobDigest::of);
        self.origin.name(digest.as_ref())
    }

    /// Puts what went wrong at the registry in the place of what that led to.
    pub(super) fn explained(&self, error: TransferError) -> TransferError {
        self.state.lock().error.take().unwrap_or(error)
    }

    /// Lets whoever waits for a blob wait no longer.
    pub(super) fn stop(&self) {
        self.meter.stop();
        self.state.lock().ended = true;
        self.arrived.notify_all();
    }

    /// Says which blobs will come.
    pub(super) fn expect(&self, blobs: &[(BlobDigest, u64)]) {
        let mut state = self.state.lock();
        for (digest, size) in blobs {
            state.expected.insert(digest.clone());
            self.meter.expect(*size);
        }
    }

    /// Fetches a blob into the store's own place for what is on its way.
    pub(super) fn fetch(&self, (digest, size): (BlobDigest, u64)) -> Result<(), TransferError> {
        let fetched = self.fetched(&digest, size);
        let mut state = self.state.lock();
        match fetched {
            Ok(Some(incoming)) => {
                state.blobs.insert(digest, incoming);
            }
            Ok(None) => {}
            Err(error) => {
                state.error.get_or_insert(error);
                state.ended = true;
                self.meter.stop();
            }
        }
        self.arrived.notify_all();
        Ok(())
    }

    fn fetched(&self, digest: &BlobDigest, size: u64) -> Result<Option<Incoming>, TransferError> {
        let stopped = || self.meter.is_stopped();
        let taken = self.store.incoming(key(digest), size, &stopped)?;
        let Some(mut incoming) = taken else {
            return Ok(None);
        };
        if incoming.is_whole() {
            self.meter.moved(size);
            return Ok(Some(incoming));
        }
        self.meter.moved(incoming.len());
        let mut target = IncomingTarget(&mut incoming);
        let mut watch = |more| self.meter.moved(more);
        let done = self.origin.fetch((digest, size), &mut target, &mut watch);
        match done {
            Err(_) if self.meter.is_stopped() => return Ok(None),
            done => done?,
        }
        incoming.set_whole()?;
        Ok(Some(incoming))
    }

    /// Removes what has been on its way: the store has it now, or it was not right.
    pub(super) fn forget(&self) -> Result<(), TransferError> {
        let blobs = std::mem::take(&mut self.state.lock().blobs);
        for incoming in blobs.into_values() {
            incoming.remove()?;
        }
        Ok(())
    }

    fn failed(&self, error: impl Into<TransferError>) -> io::Error {
        self.state.lock().error.get_or_insert(error.into());
        io::Error::other("it did not come")
    }
}

/// The name that the file of a blob has on its way.
fn key(digest: &BlobDigest) -> Sha256 {
    let own = sha256(digest);
    let named = || sha256(&BlobDigest::of(digest.as_str().as_bytes()));
    own.or_else(named)
        .unwrap_or_else(|| Sha256::from_bytes([0; 32]))
}

impl BlobHome for Remote {
    fn document(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        let digest = descriptor.digest().as_ref();
        let digest: BlobDigest = digest.parse().map_err(io::Error::other)?;
        let size = descriptor.size();
        if size > MAX_OCI_DOCUMENT_BYTES {
            let what = format!("{size} bytes, a document has at most {MAX_OCI_DOCUMENT_BYTES}");
            return Err(io::Error::other(what));
        }
        if let Some(known) = sha256(&digest)
            && let Ok(found) = bytes(&self.store, known)
        {
            return Ok(found);
        }
        if let Some(data) = descriptor.data() {
            return inline_data((&digest, size), data).map_err(io::Error::other);
        }
        let media_type = descriptor.media_type().to_string();
        if media_type.contains(".manifest.") || media_type.contains(".index.") {
            let fetched = self.origin.document(&digest);
            return fetched.map_err(|error| self.failed(error));
        }
        let mut found = Vec::new();
        let mut watch = |_| !self.meter.is_stopped();
        let fetched = self.origin.fetch((&digest, size), &mut found, &mut watch);
        fetched.map(|()| found).map_err(|error| self.failed(error))
    }

    fn blob(&self, digest: &BlobDigest) -> io::Result<(Arc<File>, Range<u64>)> {
        let mut state = self.state.lock();
        loop {
            if let Some(incoming) = state.blobs.get(digest) {
                return Ok(incoming.place());
            }
            if state.ended || !state.expected.contains(digest) {
                return Err(io::Error::other("it did not come"));
            }
            self.arrived.wait(&mut state);
        }
    }
}

struct IncomingTarget<'i>(&'i mut Incoming);

impl BlobTarget for IncomingTarget<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.0.read(take)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn restart(&mut self) -> io::Result<()> {
        self.0.restart()
    }
}
