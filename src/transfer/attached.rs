//! What is about an image and is copied with it: signatures, attestations, lists of parts.
//! They hang on a manifest by its digest: in OCI's list of referrers, or by a tag that is
//! made of the digest, as cosign has it.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::TransferError;
use super::copy::{CopySource, ManifestTree, listed, parsed};
use super::lanes::{self, Meter};
use super::layout_out::LayoutOut;
use crate::limits::MAX_OCI_NESTING;
use crate::registry::{Client, Manifest, RegistryRef, with_referrer};
use crate::source::{BlobDescriptor, BlobDigest};

/// What may follow the digest in a tag: signatures, attestations, lists of parts.
const WORDS: [&str; 3] = ["sig", "att", "sbom"];

/// A manifest that is about another.
pub(super) struct Attached {
    hook: AttachedBy,
    pub(super) manifest: Manifest,
}

/// How it hangs on the other.
enum AttachedBy {
    /// By a tag that is made of the other's digest.
    Tag(String),
    /// By naming it: it is in the list of its referrers.
    Subject(BlobDigest),
}

impl Attached {
    /// Whether there may be something about it in turn. Nobody signs signatures.
    fn may_have_more(&self) -> bool {
        match &self.hook {
            AttachedBy::Tag(tag) => tag.ends_with(".sbom"),
            AttachedBy::Subject(_) => true,
        }
    }
}

/// Finds what is about the manifests of `tree`, what is about that, and so on, and takes it
/// into the tree.
pub(super) fn find(
    from: &CopySource<'_>,
    tree: &mut ManifestTree,
    lanes: usize,
) -> Result<(), TransferError> {
    let by_subject = subjects(from)?;
    let mut asked = tree.digests();
    let mut round = asked.clone();
    for _ in 0..MAX_OCI_NESTING {
        let answers = Mutex::new(Vec::new());
        let jobs: Vec<_> = round.drain(..).enumerate().collect();
        lanes::all(lanes, jobs, &Meter::default(), |(at, digest)| {
            let found = about(from, &by_subject, &digest)?;
            answers.lock().push((at, found));
            Ok(())
        })?;
        let mut answers = answers.into_inner();
        answers.sort_by_key(|(at, _)| *at);
        for one in answers.into_iter().flat_map(|(_, found)| found) {
            let digest = &one.manifest.digest;
            if one.may_have_more() && !asked.contains(digest) {
                asked.push(digest.clone());
                round.push(digest.clone());
            }
            tree.attach(from, one)?;
        }
        if round.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Finds what is about one manifest.
fn about(
    from: &CopySource<'_>,
    by_subject: &HashMap<BlobDigest, Vec<BlobDescriptor>>,
    digest: &BlobDigest,
) -> Result<Vec<Attached>, TransferError> {
    let mut found: Vec<Attached> = Vec::new();
    for word in WORDS {
        let tag = format!("{}.{word}", digest.as_tag());
        if let Some(manifest) = from.tagged(&tag)? {
            let hook = AttachedBy::Tag(tag);
            found.push(Attached { hook, manifest });
        }
    }
    let own = by_subject.get(digest).into_iter().flatten();
    let own = own.map(|one| from.manifest(one).map(Some));
    let listed = from.referrers(digest)?;
    let listed = listed.into_iter().map(|one| from.by_digest(&one));
    for manifest in own.chain(listed) {
        // What is listed and gone cannot be copied.
        let Some(manifest) = manifest? else { continue };
        let is_new = |one: &Attached| one.manifest.digest != manifest.digest;
        if subject(&manifest).as_ref() == Some(digest) && found.iter().all(is_new) {
            let hook = AttachedBy::Subject(digest.clone());
            found.push(Attached { hook, manifest });
        }
    }
    Ok(found)
}

/// Returns what a manifest says that it is about.
fn subject(manifest: &Manifest) -> Option<BlobDigest> {
    let value = parsed(manifest).ok()?;
    let digest = value.get("subject")?.get("digest")?.as_str()?;
    digest.parse().ok()
}

/// Finds, in a layout, the manifests without a name that say what they are about.
fn subjects(
    from: &CopySource<'_>,
) -> Result<HashMap<BlobDigest, Vec<BlobDescriptor>>, TransferError> {
    let mut found: HashMap<BlobDigest, Vec<BlobDescriptor>> = HashMap::new();
    for one in from.unnamed()? {
        if let Some(subject) = subject(&from.manifest(&one)?) {
            found.entry(subject).or_default().push(one);
        }
    }
    Ok(found)
}

/// Reads the list of referrers that a layout has by a tag.
pub(super) fn listed_by_tag(list: &Manifest) -> Result<Vec<BlobDigest>, TransferError> {
    let value = parsed(list)?;
    let all = listed(&value, "manifests", &list.digest)?;
    Ok(all.into_iter().map(|(_, digest, _)| digest).collect())
}

/// Puts what is about an image into a registry that has the image by its digest.
pub(super) fn to_registry(
    client: &Client,
    name: &RegistryRef,
    attached: &[Attached],
) -> Result<(), TransferError> {
    for Attached { hook, manifest } in attached {
        match hook {
            AttachedBy::Tag(tag) => {
                let at = name.tagged(tag);
                client.put_manifest(&at, &manifest.media_type, &manifest.bytes)?;
            }
            AttachedBy::Subject(subject) => client.put_referrer(name, manifest, subject)?,
        }
    }
    Ok(())
}

/// Puts the manifests of what is about an image into a layout, and returns what its index
/// has to name: tags, with lists of referrers as one of them.
pub(super) fn to_layout(
    out: &LayoutOut,
    attached: &[Attached],
) -> Result<Vec<(Manifest, String)>, TransferError> {
    let mut named: Vec<(Manifest, String)> = Vec::new();
    for Attached { hook, manifest } in attached {
        out.manifest(manifest)?;
        let subject = match hook {
            AttachedBy::Tag(tag) => {
                named.push((manifest.clone(), tag.clone()));
                continue;
            }
            AttachedBy::Subject(subject) => subject.as_tag(),
        };
        let at = named.iter().position(|(_, tag)| *tag == subject);
        let before = match at.and_then(|at| named.get(at)) {
            Some((list, _)) => Some(list.bytes.clone()),
            None => out.named(&subject)?,
        };
        let Some(bytes) = with_referrer(before.as_deref(), manifest) else {
            continue;
        };
        let kind = "application/vnd.oci.image.index.v1+json".to_owned();
        let list = Manifest::new(BlobDigest::of(&bytes), kind, bytes);
        match at.and_then(|at| named.get_mut(at)) {
            Some(known) => known.0 = list,
            None => named.push((list, subject)),
        }
    }
    for (list, _) in &named {
        out.manifest(list)?;
    }
    Ok(named)
}
