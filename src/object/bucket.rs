//! A place with images: tags, manifests, blobs.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Value, json};

use super::backend::{Backend, ObjectVersion, Swap};
use super::cloud::Cloud;
use super::connect::Wire;
use super::error::{ObjectError, ObjectErrorKind};
use super::folder::Folder;
use super::name::{ObjectHome, ObjectRef, Scheme};
use super::web::Web;
use crate::limits::{MAX_OCI_DOCUMENT_BYTES, MAX_TAGS, OBJECT_PART_BYTES};
use crate::registry::{BlobBytes, BlobTarget, ClientOptions, Manifest, Sent};
use crate::source::{BlobDigest, Hasher};

/// What a tag leads to is named in a document of this type.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How often a tag is moved anew that nobody else has moved, though the store says so.
const SWAPS: u32 = 3;

/// How object stores are reached.
#[derive(Clone, Default)]
pub struct BucketOptions {
    /// What is known of object stores and their keys: names and values as in the environment
    /// of their own tools, `AWS_ACCESS_KEY_ID` and so on. Default: nothing.
    pub settings: Vec<(String, String)>,
    /// Roots, proxies, tries and waiting, as for registries. The rest of it says nothing here.
    pub http: ClientOptions,
}

/// Reads and writes images in one place. Cloning is a reference count; several threads may
/// use one. It blocks the thread that calls it.
///
/// ```
/// use stratafs::object::{Bucket, BucketOptions, ObjectErrorKind, ObjectRef};
///
/// let dir = tempfile::tempdir()?;
/// let name: ObjectRef = format!("file://{}/images/app:1", dir.path().display()).parse()?;
/// let bucket = Bucket::open(name.home(), &BucketOptions::default())?;
/// assert!(bucket.tags(&name)?.is_empty());
/// let error = bucket.manifest(&name).unwrap_err();
/// assert!(matches!(error.kind(), ObjectErrorKind::NotFound));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Bucket(Arc<BucketState>);

struct BucketState {
    home: ObjectHome,
    backend: Box<dyn Backend>,
}

/// What a tag leads to, and what it was when that was read.
pub(crate) struct Tagged {
    pub(crate) digest: BlobDigest,
    media_type: String,
    size: u64,
    version: ObjectVersion,
}

pub(super) fn blob_key(digest: &BlobDigest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn tag_key(name: &ObjectRef) -> String {
    format!("tags/{}/{}", name.name(), name.tag())
}

impl Bucket {
    /// Makes a client of a place. No connection is opened yet.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::Options`] for settings and options that do not make one.
    pub fn open(home: &ObjectHome, options: &BucketOptions) -> Result<Self, ObjectError> {
        let made = backend(home, options);
        let backend = made.map_err(|kind| ObjectError::new(home, "cannot be reached", kind))?;
        let home = home.clone();
        Ok(Self(Arc::new(BucketState { home, backend })))
    }

    /// Returns the place.
    #[must_use]
    pub fn home(&self) -> &ObjectHome {
        &self.0.home
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    pub(super) fn error(&self, action: &'static str, kind: ObjectErrorKind) -> ObjectError {
        ObjectError::new(&self.0.home, action, kind)
    }

    /// Reads what the tag or the digest of `name` leads to, and checks it.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::NotFound`], [`ObjectErrorKind::Mismatch`]; those of the store.
    pub fn manifest(&self, name: &ObjectRef) -> Result<Manifest, ObjectError> {
        if let Some(digest) = name.digest() {
            return self.document(digest, None);
        }
        let none = || ObjectError::new(name, "cannot read the tag", ObjectErrorKind::NotFound);
        let tagged = self.tagged(name)?.ok_or_else(none)?;
        let mut manifest = self.document(&tagged.digest, Some(tagged.size))?;
        manifest.media_type = tagged.media_type;
        Ok(manifest)
    }

    /// Reads a manifest or another document of an image.
    pub(crate) fn document(
        &self,
        digest: &BlobDigest,
        size: Option<u64>,
    ) -> Result<Manifest, ObjectError> {
        let action = "cannot read a document";
        let failed = |kind| {
            ObjectError::new(
                format_args!("{}/{}", self.0.home, blob_key(digest)),
                action,
                kind,
            )
        };
        let found = self
            .backend()
            .get(&blob_key(digest), MAX_OCI_DOCUMENT_BYTES);
        let (bytes, _) = found
            .map_err(failed)?
            .ok_or_else(|| failed(ObjectErrorKind::NotFound))?;
        let found = BlobDigest::like(digest, &bytes);
        let wrong = |what, promised: String, found: String| {
            failed(ObjectErrorKind::Mismatch {
                what,
                promised,
                found,
            })
        };
        if let Some(size) = size.filter(|size| *size != bytes.len() as u64) {
            return Err(wrong("the size", size.to_string(), bytes.len().to_string()));
        }
        if found != *digest {
            return Err(wrong("the digest", digest.to_string(), found.to_string()));
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let kind = value.get("mediaType").and_then(Value::as_str);
        let kind = kind.unwrap_or("application/vnd.oci.image.manifest.v1+json");
        Ok(Manifest::new(found, kind.to_owned(), bytes))
    }

    /// Lists the tags of a name, at most [`MAX_TAGS`].
    ///
    /// # Errors
    ///
    /// Those of the store; [`ObjectErrorKind::TooLarge`].
    pub fn tags(&self, name: &ObjectRef) -> Result<Vec<String>, ObjectError> {
        let dir = format!("tags/{}", name.name());
        let mut tags = Vec::new();
        let listed = self.backend().list(&dir, &mut |key, _| {
            if tags.len() >= MAX_TAGS {
                let (what, limit) = ("tags of one name", MAX_TAGS as u64);
                return Err(ObjectErrorKind::TooLarge { what, limit });
            }
            let tag = key
                .strip_prefix(&dir)
                .and_then(|rest| rest.strip_prefix('/'));
            tags.extend(tag.filter(|tag| !tag.contains('/')).map(str::to_owned));
            Ok(())
        });
        listed.map_err(|kind| ObjectError::new(name, "cannot list the tags", kind))?;
        Ok(tags)
    }

    /// Reads a tag.
    pub(crate) fn tagged(&self, name: &ObjectRef) -> Result<Option<Tagged>, ObjectError> {
        let failed = |kind| ObjectError::new(name, "cannot read the tag", kind);
        let found = self.backend().get(&tag_key(name), MAX_OCI_DOCUMENT_BYTES);
        let Some((bytes, version)) = found.map_err(failed)? else {
            return Ok(None);
        };
        match read_tag(&bytes) {
            Some((media_type, digest, size)) => Ok(Some(Tagged {
                digest,
                media_type,
                size,
                version,
            })),
            None => {
                let what = "it is not a tag: expected an index that names one image";
                Err(failed(ObjectErrorKind::Document(what.into())))
            }
        }
    }

    /// Lets a tag lead to a manifest, if it is still what it was when it was read. A tag that
    /// leads there already stays.
    pub(crate) fn set_tag(
        &self,
        name: &ObjectRef,
        manifest: &Manifest,
        mut old: Option<Tagged>,
    ) -> Result<(), ObjectError> {
        let failed = |kind| ObjectError::new(name, "cannot move the tag", kind);
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": manifest.media_type,
                "digest": manifest.digest.as_str(),
                "size": manifest.bytes.len(),
                "annotations": {"org.opencontainers.image.ref.name": name.tag()},
            }],
        });
        let bytes = index.to_string().into_bytes();
        let mut now = None;
        for _ in 0..SWAPS {
            let version = old.as_ref().map(|old| &old.version);
            let swapped = self.backend().swap(&tag_key(name), bytes.clone(), version);
            if swapped.map_err(failed)? == Swap::Done {
                return Ok(());
            }
            now = self.tagged(name)?;
            match (&now, &old) {
                // The answer to the write may have been lost on its way.
                (Some(now), _) if now.digest == manifest.digest => return Ok(()),
                (Some(now), Some(old)) if now.version == old.version => {}
                (None, None) => {}
                _ => break,
            }
            old = now.take();
        }
        let now = now.or(old);
        let to = now.map_or("nothing".to_owned(), |now| now.digest.to_string());
        Err(failed(ObjectErrorKind::Moved { to }))
    }

    /// Sees to it that the place says what it is: a layout of images.
    pub(crate) fn mark(&self) -> Result<(), ObjectError> {
        let bytes = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
        let marked = self.backend().swap("oci-layout", bytes, None);
        marked
            .map_err(|kind| self.error("cannot write", kind))
            .map(drop)
    }

    /// Fetches a blob of `size` bytes into `target`, and goes on where an earlier try ended.
    /// `watch` is told how many bytes have come since it was called last, and ends the
    /// download by `false`. When this returns, the target has the bytes of the digest; bytes
    /// that turn out to be others are fetched anew once.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::NotFound`], [`ObjectErrorKind::Mismatch`],
    /// [`ObjectErrorKind::Local`] for the target's, and if `watch` says no; those of the store.
    pub fn fetch_blob(
        &self,
        (digest, size): (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ObjectError> {
        let failed = |kind| {
            let at = format!("{}/{}", self.0.home, blob_key(digest));
            ObjectError::new(at, "cannot fetch the blob", kind)
        };
        if target.len() > size {
            target
                .restart()
                .map_err(|error| failed(ObjectErrorKind::Local(error)))?;
        }
        for last in [false, true] {
            let found = self.fill((digest, size), target, watch).map_err(failed)?;
            if found == *digest {
                return Ok(());
            }
            target
                .restart()
                .map_err(|error| failed(ObjectErrorKind::Local(error)))?;
            if last {
                return Err(failed(ObjectErrorKind::Mismatch {
                    what: "the digest",
                    promised: digest.to_string(),
                    found: found.to_string(),
                }));
            }
        }
        Ok(())
    }

    /// Fetches bytes of a blob of `size` bytes: as many as `range` has, no more and no less.
    /// What they should be is for the caller to know.
    pub(crate) fn fetch_range(
        &self,
        (digest, size): (&BlobDigest, u64),
        range: Range<u64>,
    ) -> Result<Vec<u8>, ObjectError> {
        let failed = |kind| {
            let at = format!("{}/{}", self.0.home, blob_key(digest));
            ObjectError::new(at, "cannot fetch bytes of the blob", kind)
        };
        let range = range.start..range.end.min(size);
        let wanted = range.end.saturating_sub(range.start);
        let start = range.start;
        let bytes = self.backend().range(&blob_key(digest), range);
        let bytes = bytes.map_err(failed)?;
        let bytes = bytes.ok_or_else(|| failed(ObjectErrorKind::NotFound))?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(failed(ObjectErrorKind::Mismatch {
                what: "the size",
                promised: size.to_string(),
                found: (start + bytes.len() as u64).to_string(),
            })),
        }
    }

    /// Fetches what is missing, and returns the digest of all of it.
    fn fill(
        &self,
        (digest, size): (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<BlobDigest, ObjectErrorKind> {
        let mut hasher = Hasher::like(digest);
        let read = target.read(&mut |bytes| hasher.update(bytes));
        read.map_err(ObjectErrorKind::Local)?;
        while target.len() < size {
            let end = size.min(target.len().saturating_add(OBJECT_PART_BYTES));
            let range = target.len()..end;
            let wanted = range.end - range.start;
            let bytes = self.backend().range(&blob_key(digest), range)?;
            let bytes = bytes.ok_or(ObjectErrorKind::NotFound)?;
            if bytes.len() as u64 != wanted {
                return Err(ObjectErrorKind::Mismatch {
                    what: "the size",
                    promised: size.to_string(),
                    found: (target.len() + bytes.len() as u64).to_string(),
                });
            }
            target.append(&bytes).map_err(ObjectErrorKind::Local)?;
            hasher.update(&bytes);
            if !watch(wanted) {
                return Err(super::backend::stopped());
            }
        }
        Ok(hasher.finish_digest())
    }

    /// Sees to it that the place has a blob. It is sent only if it is not there with this
    /// size. `watch` is told how many bytes have gone, and ends the upload by `false`.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::Local`] for those of `bytes`, and if `watch` says no; those of the
    /// store.
    pub fn send_blob(
        &self,
        (digest, size): (&BlobDigest, u64),
        bytes: &dyn BlobBytes,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, ObjectError> {
        let key = blob_key(digest);
        let send = |watch: &mut dyn FnMut(u64) -> bool| {
            let known = self.backend().head(&key)?;
            if known.is_some_and(|known| known.size == size) {
                watch(size);
                return Ok(Sent::AlreadyThere);
            }
            let mut reader = bytes.open().map_err(ObjectErrorKind::Local)?;
            self.backend().upload(&key, (&mut *reader, size), watch)?;
            Ok(Sent::Uploaded)
        };
        send(watch).map_err(|kind| {
            let at = format!("{}/{key}", self.0.home);
            ObjectError::new(at, "cannot send the blob", kind)
        })
    }
}

fn backend(
    home: &ObjectHome,
    options: &BucketOptions,
) -> Result<Box<dyn Backend>, ObjectErrorKind> {
    if let Some(folder) = home.folder() {
        return Ok(Box::new(Folder::new(folder)));
    }
    let wire = Wire::new(&options.http)?;
    Ok(match home.scheme {
        Scheme::Http | Scheme::Https => Box::new(Web::new(home.to_string(), wire)),
        _ => Box::new(Cloud::new(home, &options.settings, wire)?),
    })
}

/// Reads a tag: an index that names one thing.
pub(super) fn read_tag(bytes: &[u8]) -> Option<(String, BlobDigest, u64)> {
    let index: Value = serde_json::from_slice(bytes).ok()?;
    let [one] = index.get("manifests")?.as_array()?.as_slice() else {
        return None;
    };
    Some((
        one.get("mediaType")?.as_str()?.to_owned(),
        one.get("digest")?.as_str()?.parse().ok()?,
        one.get("size")?.as_u64()?,
    ))
}
