//! Removes from a place what no tag leads to.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use super::bucket::{Bucket, blob_key, read_tag};
use super::error::{ObjectError, ObjectErrorKind};
use super::lease::{Lease, LeaseKind};
use crate::limits::{MAX_OCI_DOCUMENT_BYTES, MAX_OCI_NESTING, MAX_TAGS};
use crate::source::BlobDigest;

/// Blobs that a collection marks, and that it removes in one go: half a gigabyte of names.
const MAX_COLLECTED_BLOBS: usize = 4_000_000;

/// What a collection found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Tags that lead to something.
    pub tags: u64,
    /// Blobs that they lead to.
    pub used_blobs: u64,
    /// Blobs that were removed, or would be.
    pub removed_blobs: u64,
    /// Bytes of these.
    pub freed_bytes: u64,
    /// Blobs that no tag leads to, and that are too young to be removed.
    pub young_blobs: u64,
}

/// What tags lead to.
#[derive(Default)]
struct Marked {
    keys: HashSet<String>,
}

impl Bucket {
    /// Removes the blobs that no tag leads to and that were written longer than `grace` ago by
    /// the store's clock; with `dry` it only says what it would remove. If anything that a
    /// tag leads to cannot be read, nothing is removed.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::Busy`] if somebody pushes or collects there;
    /// [`ObjectErrorKind::ReadOnly`]; those of the store.
    pub fn collect(&self, grace: Duration, dry: bool) -> Result<Collected, ObjectError> {
        let action = "cannot collect";
        let lease = self.begin(LeaseKind::Collect)?;
        if self.is_at_work(&lease, |_| true)? {
            let what = "somebody pushes or collects there: try again when that has ended";
            return Err(self.error(action, ObjectErrorKind::Busy(what.into())));
        }
        let now = self.now(&lease)?;
        let mut collected = Collected::default();
        let marked = self.mark_tags(&lease, &mut collected)?;
        let before = now.saturating_sub(grace.as_secs());
        let mut old: Vec<(String, u64)> = Vec::new();
        let listed = self.backend().list("blobs", &mut |key, meta| {
            // What is not named as a blob is, is none of ours.
            if !is_blob(key) || marked.keys.contains(key) {
                return Ok(());
            }
            match meta.written < before {
                true if old.len() < MAX_COLLECTED_BLOBS => old.push((key.to_owned(), meta.size)),
                // The next collection finds it.
                true => {}
                false => collected.young_blobs += 1,
            }
            Ok(())
        });
        listed.map_err(|kind| self.error(action, kind))?;
        for (key, size) in old {
            lease.keep()?;
            if !dry {
                let removed = self.backend().delete(&key);
                removed.map_err(|kind| self.error(action, kind))?;
            }
            collected.removed_blobs += 1;
            collected.freed_bytes += size;
        }
        Ok(collected)
    }

    /// Finds out what tags lead to.
    fn mark_tags(&self, lease: &Lease, collected: &mut Collected) -> Result<Marked, ObjectError> {
        let action = "cannot collect";
        let mut tags: Vec<String> = Vec::new();
        let listed = self.backend().list("tags", &mut |key, _| {
            if tags.len() >= MAX_TAGS {
                let (what, limit) = ("tags in one place", MAX_TAGS as u64);
                return Err(ObjectErrorKind::TooLarge { what, limit });
            }
            tags.push(key.to_owned());
            Ok(())
        });
        listed.map_err(|kind| self.error(action, kind))?;
        let mut marked = Marked::default();
        for key in tags {
            lease.keep()?;
            let failed = |kind| {
                let at = format!("{}/{key}", self.home());
                ObjectError::new(at, "cannot collect, nothing is removed", kind)
            };
            let found = self.backend().get(&key, MAX_OCI_DOCUMENT_BYTES);
            let Some((bytes, _)) = found.map_err(failed)? else {
                continue;
            };
            let tag = read_tag(&bytes);
            let none = || {
                failed(ObjectErrorKind::Document(
                    "it is not a tag: expected an index that names one image".into(),
                ))
            };
            let (_, digest, _) = tag.ok_or_else(none)?;
            self.mark_manifest(&digest, 0, &mut marked)?;
            collected.tags += 1;
        }
        collected.used_blobs = marked.keys.len() as u64;
        Ok(marked)
    }

    fn mark_manifest(
        &self,
        digest: &BlobDigest,
        depth: u32,
        marked: &mut Marked,
    ) -> Result<(), ObjectError> {
        if !marked.keys.insert(blob_key(digest)) {
            return Ok(());
        }
        let failed = |kind| self.error("cannot collect, nothing is removed", kind);
        if depth > MAX_OCI_NESTING {
            let (what, limit) = ("indexes inside each other", u64::from(MAX_OCI_NESTING));
            return Err(failed(ObjectErrorKind::TooLarge { what, limit }));
        }
        let manifest = self.document(digest, None)?;
        let value: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
        let named = |key: &str| {
            let all = value.get(key).and_then(Value::as_array);
            let all = all.cloned().unwrap_or_default();
            all.into_iter().filter_map(|one| digest_in(&one))
        };
        for child in named("manifests") {
            self.mark_manifest(&child, depth + 1, marked)?;
        }
        let config = value.get("config").and_then(digest_in);
        for blob in config.into_iter().chain(named("layers")) {
            marked.keys.insert(blob_key(&blob));
        }
        match marked.keys.len() <= MAX_COLLECTED_BLOBS {
            true => Ok(()),
            false => {
                let (what, limit) = ("blobs in one place", MAX_COLLECTED_BLOBS as u64);
                Err(failed(ObjectErrorKind::TooLarge { what, limit }))
            }
        }
    }
}

fn digest_in(descriptor: &Value) -> Option<BlobDigest> {
    descriptor.get("digest")?.as_str()?.parse().ok()
}

fn is_blob(key: &str) -> bool {
    let mut words = key.rsplitn(3, '/');
    let (hex, algorithm) = (words.next(), words.next());
    let digest = algorithm
        .zip(hex)
        .map(|(algorithm, hex)| format!("{algorithm}:{hex}"));
    digest.is_some_and(|digest| digest.parse::<BlobDigest>().is_ok())
}
