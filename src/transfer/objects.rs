//! Between a store and an object store.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::lanes::{self, Meter};
use super::packed::{self, PackHome};
use super::pull::bring;
use super::push::{PushOptions, Pushed, expect_tag, made};
use super::remote::Origin;
use super::{PullOptions, Pulled, TransferError, staged};
use crate::image::Reference;
use crate::object::{Bucket, ObjectRef};
use crate::registry::{BlobBytes, BlobTarget, HostsAsked, Manifest, Sent};
use crate::source::{BlobDigest, OutBlob, OutImage};
use crate::store::Store;

/// Sends the image `reference` to where `to` says in the place of `bucket`. Blobs that the
/// place has are not sent.
///
/// Blobs are written first, the tag last: until then it leads to what it led to before. If
/// somebody else moves it meanwhile, it stays where they moved it, and that is an error. A
/// process that is killed leaves blobs that no tag leads to, which [`Bucket::collect`] removes.
///
/// # Errors
///
/// [`TransferError::Place`] if `to` has a digest; [`TransferError::Absent`] for an image that is
/// here in part; both before anything is sent. [`TransferError::Object`],
/// [`TransferError::Store`], [`TransferError::Oci`], [`TransferError::Artifact`].
pub fn push_object(
    store: &Store,
    bucket: &Bucket,
    reference: &Reference,
    to: &ObjectRef,
    options: &PushOptions,
) -> Result<Pushed, TransferError> {
    expect_tag(to, to.digest())?;
    if options.packs {
        // What is named again stays until this is over.
        let _lease = bucket.lease()?;
        let scratch = staged::temporary()?;
        let packed = packed::pack((store, reference), &(bucket, to), scratch.path(), options)?;
        let pushed = send(bucket, &packed.image, to, options)?;
        return Ok(packed.reported(pushed));
    }
    made(store, reference, options, |image| {
        send(bucket, image, to, options)
    })
}

fn send(
    bucket: &Bucket,
    image: &OutImage<'_>,
    to: &ObjectRef,
    options: &PushOptions,
) -> Result<Pushed, TransferError> {
    let top = image.top();
    let mut pushed = Pushed::of(top.digest.clone());
    // What is there now stays until this is over.
    let lease = bucket.lease()?;
    let before = bucket.tagged(to)?;
    if before
        .as_ref()
        .is_some_and(|before| before.digest == top.digest)
    {
        pushed.known_blobs = image.blobs.len() as u64;
        return Ok(pushed);
    }
    bucket.mark()?;
    let meter = Meter::new(options.watcher.clone());
    image.blobs.iter().for_each(|blob| meter.expect(blob.size));
    let counts = Mutex::new(pushed);
    let blobs = image.blobs.iter().collect();
    lanes::all(options.lanes, blobs, &meter, |blob: &OutBlob<'_>| {
        lease.keep()?;
        // An error of the lease is told by the next blob, or before the tag moves.
        let mut watch = |more| meter.moved(more) && lease.keep().is_ok();
        let sent = bucket.send_blob((&blob.digest, blob.size), &ObjectBlob(blob), &mut watch)?;
        counts.lock().count(sent, blob.size);
        Ok(())
    })?;
    for manifest in &image.manifests {
        let named = (&manifest.digest, manifest.bytes.len() as u64);
        let sent: Sent = bucket.send_blob(named, &ManifestBytes(&manifest.bytes), &mut |_| true)?;
        tracing::debug!(digest = %manifest.digest, ?sent, "a manifest");
    }
    lease.keep()?;
    let manifest = Manifest::new(
        top.digest.clone(),
        top.media_type.clone(),
        top.bytes.clone(),
    );
    bucket.set_tag(to, &manifest, before)?;
    Ok(counts.into_inner())
}

impl PackHome for (&Bucket, &ObjectRef) {
    fn own_tag(&self) -> String {
        self.1.tag().to_owned()
    }

    fn tags(&self) -> Result<Vec<String>, TransferError> {
        Ok(self.0.tags(self.1)?)
    }

    fn at(&self, tag: &str) -> Arc<dyn Origin> {
        Arc::new(OfBucket(self.0.clone(), self.1.tagged(tag)))
    }
}

struct ObjectBlob<'b, 'a>(&'b OutBlob<'a>);

impl BlobBytes for ObjectBlob<'_, '_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        self.0.open()
    }
}

struct ManifestBytes<'b>(&'b [u8]);

impl BlobBytes for ManifestBytes<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0))
    }
}

/// Fetches the image `name` from the place of `bucket` into the store, as
/// [`pull`](super::pull) does from a registry.
///
/// # Errors
///
/// [`TransferError::Object`], [`TransferError::Source`], [`TransferError::Store`];
/// [`TransferError::Place`] if a signature is asked for: object stores keep none.
pub fn pull_object(
    store: &Store,
    bucket: &Bucket,
    name: &ObjectRef,
    tag: Option<&Reference>,
    options: &PullOptions,
) -> Result<Pulled, TransferError> {
    if !options.verify_keys.is_empty() {
        let what = format!("{name}: an object store keeps no signatures that could be verified");
        return Err(TransferError::Place(what));
    }
    let full = name.store_name();
    let origin = Arc::new(OfBucket(bucket.clone(), name.clone()));
    let manifest = origin.top()?;
    bring(store, origin, manifest, Some(tag.unwrap_or(&full)), options)
}

/// An image in an object store, and the place that its blobs are in.
pub(super) struct OfBucket(pub(super) Bucket, pub(super) ObjectRef);

impl Origin for OfBucket {
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
        Ok(self.0.document(digest, None)?.bytes)
    }

    fn fetch(
        &self,
        named: (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), TransferError> {
        Ok(self.0.fetch_blob(named, target, watch)?)
    }

    fn range(
        &self,
        named: (&BlobDigest, u64),
        range: Range<u64>,
        // A place has no mirrors.
        _: HostsAsked,
    ) -> Result<Vec<u8>, TransferError> {
        Ok(self.0.fetch_range(named, range)?)
    }
}
