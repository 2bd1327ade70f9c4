//! Looks for a signature of an image in its registry, and checks it.

use serde_json::Value;

use super::client::{Client, Manifest};
use super::error::{RegistryError, RegistryErrorKind};
use super::name::RegistryRef;
use super::signature::{Unfit, VerifyKey, check_bundle, check_simple};
use crate::limits::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use crate::source::BlobDigest;

/// A payload of "simple signing".
const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// Where its signature stands.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// What the type of a bundle begins with, whatever its version.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// What the type of cosign's own artifacts begins with.
const COSIGN: &str = "application/vnd.dev.cosign.";

/// A search for a signature that fits.
struct Search<'s> {
    client: &'s Client,
    name: &'s RegistryRef,
    image: &'s BlobDigest,
    keys: &'s [VerifyKey],
    /// The last payload: signatures by several keys have the same one.
    last: Option<(BlobDigest, Vec<u8>)>,
    /// Signatures that have been looked at.
    seen: usize,
    /// Why those do not fit, each reason once.
    reasons: Vec<Unfit>,
}

impl Client {
    /// Sees whether the image of this digest is signed with one of `keys`: by a signature as
    /// `cosign sign --key` makes it, in the repository of `name`. Nobody else is asked.
    ///
    /// The signature has to be of this very digest: of an index, where a name leads to one,
    /// as `cosign verify` has it; what an index names is held by the digests in it. The name
    /// that a signature says the image has is not looked at.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Unsigned`] if there is none; those of the registry.
    pub fn verify_signature(
        &self,
        name: &RegistryRef,
        image: &BlobDigest,
        keys: &[VerifyKey],
    ) -> Result<(), RegistryError> {
        let mut search = Search {
            client: self,
            name,
            image,
            keys,
            last: None,
            seen: 0,
            reasons: Vec::new(),
        };
        if search.finds()? {
            return Ok(());
        }
        let reason = search.outcome();
        let full = name.without_tag();
        let action = format!("cannot verify {image}");
        Err(RegistryError::new(
            &full,
            action,
            RegistryErrorKind::Unsigned(reason),
        ))
    }
}

impl Search<'_> {
    fn finds(&mut self) -> Result<bool, RegistryError> {
        let tag = format!("{}.sig", self.image.as_tag());
        if let Some(manifest) = self.manifest(&self.name.tagged(&tag))?
            && self.fits(&manifest)?
        {
            return Ok(true);
        }
        for one in self.client.referrers(self.name, self.image)? {
            let kind = one.artifact_type.as_deref().unwrap_or_default();
            if !kind.starts_with(BUNDLE) && !kind.starts_with(COSIGN) {
                continue;
            }
            if self.seen >= MAX_SIGNATURES {
                break;
            }
            if let Some(manifest) = self.manifest(&self.name.at(&one.digest))?
                && self.fits(&manifest)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a manifest, if there is one that can be used.
    fn manifest(&mut self, at: &RegistryRef) -> Result<Option<Manifest>, RegistryError> {
        match self.client.manifest(at) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => self.unusable(error).map(|()| None),
        }
    }

    /// Looks at all signatures that a manifest names.
    fn fits(&mut self, manifest: &Manifest) -> Result<bool, RegistryError> {
        let value: Result<Value, _> = serde_json::from_slice(&manifest.bytes);
        let value = value.unwrap_or_default();
        let layers = value.get("layers").and_then(Value::as_array);
        let before = self.seen;
        for layer in layers.into_iter().flatten() {
            let kind = layer.get("mediaType").and_then(Value::as_str);
            let kind = kind.unwrap_or_default();
            if kind != SIMPLE && !kind.starts_with(BUNDLE) {
                continue;
            }
            if self.seen >= MAX_SIGNATURES {
                return Ok(false);
            }
            self.seen += 1;
            let Some((digest, payload)) = self.payload(layer)? else {
                continue;
            };
            let checked = match kind == SIMPLE {
                true => {
                    let notes = layer.get("annotations");
                    let signature = notes.and_then(|notes| notes.get(SIGNATURE)?.as_str());
                    let signature = signature.unwrap_or_default();
                    check_simple(self.keys, &payload, signature, self.image)
                }
                false => check_bundle(self.keys, &payload, self.image),
            };
            self.last = Some((digest, payload));
            match checked {
                Ok(()) => return Ok(true),
                Err(reason) => self.note(reason),
            }
        }
        if self.seen == before {
            // A manifest without any is counted too: it has cost a request.
            self.seen += 1;
            self.note("a manifest that holds no signature".to_owned());
        }
        Ok(false)
    }

    /// Fetches what was signed.
    fn payload(&mut self, layer: &Value) -> Result<Option<(BlobDigest, Vec<u8>)>, RegistryError> {
        let size = layer.get("size").and_then(Value::as_u64);
        let digest = layer.get("digest").and_then(Value::as_str);
        let digest = digest.and_then(|text| text.parse::<BlobDigest>().ok());
        let Some((digest, size)) = digest.zip(size) else {
            self.note("its payload has no digest or no size".to_owned());
            return Ok(None);
        };
        if size > MAX_SIGNATURE_BYTES {
            let most = MAX_SIGNATURE_BYTES;
            self.note(format!("{size} bytes, a signature has at most {most}"));
            return Ok(None);
        }
        if let Some(known) = self.last.take().filter(|(known, _)| *known == digest) {
            return Ok(Some(known));
        }
        let mut bytes = Vec::new();
        let mut watch = |_| true;
        let named = (&digest, size);
        let fetched = self
            .client
            .fetch_blob(self.name, named, &mut bytes, &mut watch);
        match fetched {
            Ok(()) => Ok(Some((digest, bytes))),
            Err(error) => self.unusable(error).map(|()| None),
        }
    }

    /// Notes what is wrong with something that a registry gave; what is wrong with the
    /// registry ends the search.
    fn unusable(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        let of_this_one = error.is_not_found()
            || matches!(
                error.kind(),
                RegistryErrorKind::Mismatch { .. } | RegistryErrorKind::TooLarge { .. }
            );
        if !of_this_one {
            return Err(error);
        }
        self.note(error.kind().to_string());
        Ok(())
    }

    fn note(&mut self, reason: Unfit) {
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Says what was found in place of a signature that fits.
    fn outcome(self) -> String {
        let mut reasons = self.reasons;
        let more = reasons.len().saturating_sub(3);
        reasons.truncate(3);
        if more > 0 {
            reasons.push(format!("{more} more reasons"));
        }
        match (reasons.is_empty(), self.seen) {
            (true, _) => "it has none".to_owned(),
            (false, seen) if seen >= MAX_SIGNATURES => format!(
                "none of {seen} fits, and no more are looked at: {}",
                reasons.join("; ")
            ),
            (false, seen) => format!("none of {seen} fits: {}", reasons.join("; ")),
        }
    }
}
