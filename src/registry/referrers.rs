//! What a registry has about a manifest: signatures, lists of parts. OCI's list of
//! referrers, and the tag that stands for one where the registry knows no such lists.

use serde_json::{Value, json};
use ureq::http::Method;
use ureq::http::header::ACCEPT;

use super::auth::TokenScope;
use super::client::{Client, MANIFESTS, Manifest, bad_json, next_page};
use super::error::{RegistryError, RegistryErrorKind};
use super::name::RegistryRef;
use super::retry::repeated;
use super::uplink::{RegistryCall, failed};
use crate::limits::{MAX_OCI_DOCUMENT_BYTES, MAX_REFERRERS};
use crate::source::BlobDigest;

/// The media type of a list of referrers.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// How registries say that they know no lists of referrers.
const NO_LISTS: [u16; 5] = [400, 404, 405, 406, 501];

/// What a registry has about an image: a signature, a list of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Referrer {
    /// The digest of its manifest.
    pub digest: BlobDigest,
    /// The bytes of its manifest.
    pub size: u64,
    /// What it is, as far as the registry says.
    pub artifact_type: Option<String>,
    /// What is noted of it, by name.
    pub annotations: Vec<(String, String)>,
}

impl Client {
    /// Lists what a registry has about the manifest of this digest. A registry that does not
    /// know such lists, or whose list is empty, is asked for the tag that stands for one.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::TooLarge`] past [`MAX_REFERRERS`].
    pub fn referrers(
        &self,
        name: &RegistryRef,
        digest: &BlobDigest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        let full = name.without_tag();
        let action = format!("cannot list what refers to {digest}");
        let context = (full.as_str(), action.as_str());
        let listed = self.listed_referrers(name, digest, context)?;
        if !listed.is_empty() {
            return Ok(listed);
        }
        match self.referrers_by_tag(name, digest, context)? {
            Some(bytes) => bounded(read_referrers(&bytes, context)?, context),
            None => Ok(Vec::new()),
        }
    }

    /// Asks for the registry's own list, all pages of it.
    fn listed_referrers(
        &self,
        name: &RegistryRef,
        digest: &BlobDigest,
        context: (&str, &str),
    ) -> Result<Vec<Referrer>, RegistryError> {
        let links = self.uplinks(name.host())?;
        let scope = TokenScope::pull(name.repository());
        let path = format!("/{}/referrers/{digest}", name.repository());
        let mut at = links.own.url(&path);
        let mut found = Vec::new();
        loop {
            let page = repeated(&self.0.options, || {
                let mut call = RegistryCall::new(Method::GET, at.clone(), &scope, context);
                call.headers.push((ACCEPT, INDEX.to_owned()));
                let mut answer = links.own.call(&self.0.options, call, &NO_LISTS)?;
                if NO_LISTS.contains(&answer.status) {
                    return Ok(None);
                }
                let bytes = answer.bytes("a list of referrers", MAX_OCI_DOCUMENT_BYTES);
                let bytes = bytes.map_err(|no| failed(context, no))?;
                let next = next_page(&answer).and_then(|link| at.join(&link));
                Ok(Some((read_referrers(&bytes, context)?, next)))
            })?;
            let Some((page, next)) = page else {
                return Ok(found);
            };
            let more = !page.is_empty();
            found = bounded([found, page].concat(), context)?;
            match next.filter(|next| more && next.is_same_host(&at)) {
                Some(next) => at = next,
                None => return Ok(found),
            }
        }
    }

    /// Fetches what the tag leads to that stands for a list of referrers.
    fn referrers_by_tag(
        &self,
        name: &RegistryRef,
        digest: &BlobDigest,
        context: (&str, &str),
    ) -> Result<Option<Vec<u8>>, RegistryError> {
        let links = self.uplinks(name.host())?;
        let scope = TokenScope::pull(name.repository());
        let tag = digest.as_tag();
        let url = format!("/{}/manifests/{tag}", name.repository());
        let url = links.own.url(&url);
        repeated(&self.0.options, || {
            let mut call = RegistryCall::new(Method::GET, url.clone(), &scope, context);
            call.headers.push((ACCEPT, MANIFESTS.join(", ")));
            let mut answer = links.own.call(&self.0.options, call, &[404])?;
            if answer.status == 404 {
                return Ok(None);
            }
            let bytes = answer.bytes("a list of referrers", MAX_OCI_DOCUMENT_BYTES);
            bytes.map(Some).map_err(|no| failed(context, no))
        })
    }

    /// Puts a manifest that refers to another, and sees to it that it is listed: a registry
    /// that takes no note of that itself gets the tag that stands for a list.
    pub(crate) fn put_referrer(
        &self,
        name: &RegistryRef,
        manifest: &Manifest,
        subject: &BlobDigest,
    ) -> Result<(), RegistryError> {
        let at = name.at(&manifest.digest);
        let (_, noted) = self.put(&at, &manifest.media_type, &manifest.bytes)?;
        if noted {
            return Ok(());
        }
        let action = format!("cannot list what refers to {subject}");
        let full = name.without_tag();
        let context = (full.as_str(), action.as_str());
        let before = self.referrers_by_tag(name, subject, context)?;
        let Some(bytes) = with_referrer(before.as_deref(), manifest) else {
            return Ok(());
        };
        let tag = name.tagged(&subject.as_tag());
        self.put(&tag, INDEX, &bytes).map(drop)
    }
}

/// Adds a manifest to a list of referrers, which is made if it is not there or is none.
/// `None` if the list has it.
pub(crate) fn with_referrer(list: Option<&[u8]>, manifest: &Manifest) -> Option<Vec<u8>> {
    let list: Option<Value> = list.and_then(|bytes| serde_json::from_slice(bytes).ok());
    let listed = list.and_then(|mut list| match list.get_mut("manifests")?.take() {
        Value::Array(all) => Some(all),
        _ => None,
    });
    let mut listed = listed.unwrap_or_default();
    let digest = manifest.digest.as_str();
    let known = |one: &Value| one.get("digest").and_then(Value::as_str) == Some(digest);
    if listed.iter().any(known) {
        return None;
    }
    listed.push(descriptor(manifest));
    let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    Some(list.to_string().into_bytes())
}

/// Describes a manifest as lists of referrers do: with what it is, and what is noted of it.
fn descriptor(manifest: &Manifest) -> Value {
    let mut made = json!({
        "mediaType": manifest.media_type,
        "digest": manifest.digest.as_str(),
        "size": manifest.bytes.len(),
    });
    let own: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let kind = own.get("artifactType").filter(|kind| kind.is_string());
    let kind = kind.or_else(|| own.get("config")?.get("mediaType"));
    if let Some(made) = made.as_object_mut() {
        made.extend(kind.map(|kind| ("artifactType".to_owned(), kind.clone())));
        let notes = own.get("annotations").filter(|notes| notes.is_object());
        made.extend(notes.map(|notes| ("annotations".to_owned(), notes.clone())));
    }
    made
}

fn bounded(found: Vec<Referrer>, context: (&str, &str)) -> Result<Vec<Referrer>, RegistryError> {
    if found.len() <= MAX_REFERRERS {
        return Ok(found);
    }
    let kind = RegistryErrorKind::TooLarge {
        what: "the referrers of one manifest, counted",
        limit: MAX_REFERRERS as u64,
    };
    Err(RegistryError::new(context.0, context.1, kind))
}

fn read_referrers(bytes: &[u8], context: (&str, &str)) -> Result<Vec<Referrer>, RegistryError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| bad_json(context, &error))?;
    let all = value.get("manifests").and_then(Value::as_array);
    let read = |value: &Value| {
        let annotations = value.get("annotations").and_then(Value::as_object);
        let annotations = annotations.into_iter().flatten();
        Some(Referrer {
            digest: value.get("digest")?.as_str()?.parse().ok()?,
            size: value.get("size").and_then(Value::as_u64).unwrap_or(0),
            artifact_type: value
                .get("artifactType")
                .and_then(Value::as_str)
                .map(str::to_owned),
            annotations: annotations
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
        })
    };
    Ok(all.into_iter().flatten().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_referrers_has_each_once() {
        let bytes = br#"{"artifactType":"sig","annotations":{"k":"v"}}"#.to_vec();
        let manifest = Manifest::new(BlobDigest::of(&bytes), "m".into(), bytes);
        let list = with_referrer(Some(b"no list"), &manifest).unwrap();
        let found = read_referrers(&list, ("", "")).unwrap();
        assert_eq!(found[0].artifact_type.as_deref(), Some("sig"));
        assert_eq!(found[0].annotations, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(with_referrer(Some(&list), &manifest), None);
        let other = br#"{"config":{"mediaType":"c"}}"#.to_vec();
        let other = Manifest::new(BlobDigest::of(&other), "m".into(), other);
        let both = with_referrer(Some(&list), &other).unwrap();
        let both = read_referrers(&both, ("", "")).unwrap();
        assert_eq!(both[0], found[0]);
        assert_eq!(both[1].artifact_type.as_deref(), Some("c"));
    }
}
