//! Whose images are taken: public keys, by what names of images begin with.

use std::collections::HashSet;
use std::path::PathBuf;
use std::str::FromStr;

use parking_lot::Mutex;
use serde_json::Value;
use stratafs::registry::{Client, RegistryErrorKind, RegistryRef, VerifyKey};
use stratafs::source::BlobDigest;

use crate::args::{SnapshotterArgs, Unverified};
use crate::failure::Failure;
use crate::limits::MAX_ADMITTED;
use crate::reach;

/// `PREFIX=FILE`: a key for all images whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyFor {
    prefix: String,
    file: PathBuf,
}

impl FromStr for KeyFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected HOST[/REPOSITORY]=FILE, or *=FILE for all");
        let (prefix, file) = text.split_once('=').ok_or_else(expected)?;
        let prefix = prefix.trim_end_matches('/');
        // One that no name of an image could begin with would be a key for nothing, unnoticed.
        let host = prefix.split('/').next().unwrap_or_default();
        let is_host = host.contains(['.', ':']) || host == "localhost";
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/".contains(c);
        let could_be = is_host && prefix.chars().all(fits) && !prefix.contains("//");
        if file.is_empty() || !(prefix == "*" || could_be) {
            return Err(expected());
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            file: file.into(),
        })
    }
}

/// What has to hold of an image before a layer of it is taken.
pub(super) struct Policy {
    /// What names begin with, and the keys of which one has to have signed.
    rules: Vec<(String, Vec<VerifyKey>)>,
    others: Unverified,
    /// Images that were found to be signed: whose keys they are does not change.
    admitted: Mutex<HashSet<String>>,
}

impl Policy {
    /// Reads the keys.
    pub(super) fn of(args: &SnapshotterArgs) -> Result<Self, Failure> {
        let mut rules: Vec<(String, Vec<VerifyKey>)> = Vec::new();
        for text in &args.verify_key {
            let KeyFor { prefix, file } = text.parse().map_err(Failure::usage)?;
            let key = reach::key(&file)?;
            match rules.iter_mut().find(|(known, _)| *known == prefix) {
                Some((_, keys)) => keys.push(key),
                None => rules.push((prefix, vec![key])),
            }
        }
        Ok(Self {
            rules,
            others: args.unverified,
            admitted: Mutex::default(),
        })
    }

    /// Returns whether anything is asked of images.
    pub(super) fn is_given(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Returns the keys for an image: those of the longest beginning of its name.
    fn keys(&self, image: &RegistryRef) -> Option<&[VerifyKey]> {
        let name = format!("{}/{}", image.host(), image.repository());
        let fits = |prefix: &str| {
            let rest = name.strip_prefix(prefix);
            prefix == "*" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let fitting = self.rules.iter().filter(|(prefix, _)| fits(prefix));
        // `*` is shorter than any.
        let longest = fitting.max_by_key(|(prefix, _)| (prefix != "*", prefix.len()));
        longest.map(|(_, keys)| keys.as_slice())
    }

    /// Refuses an image that has no signature by a key for it: of its manifest, or of the index by which
    /// its name leads there. A registry that does not answer is no reason to take it.
    pub(super) fn admit(
        &self,
        client: &Client,
        image: &RegistryRef,
        manifest: Option<&BlobDigest>,
    ) -> Result<(), Failure> {
        let Some(keys) = self.keys(image) else {
            return match self.others {
                Unverified::Allow => Ok(()),
                Unverified::Refuse => Err(Failure::new(
                    "no --verify-key is for images of this name: give one, or --unverified allow",
                )),
            };
        };
        let manifest = manifest.ok_or_else(|| {
            Failure::new(
                "the pull does not say which manifest it is of, so that no signature could be",
            )
        })?;
        let known = format!("{}@{manifest}", image.without_tag());
        if self.admitted.lock().contains(&known) {
            return Ok(());
        }
        verify(client, image, manifest, keys)?;
        self.remember(known);
        Ok(())
    }

    fn remember(&self, known: String) {
        let mut admitted = self.admitted.lock();
        if admitted.len() >= MAX_ADMITTED {
            admitted.clear();
        }
        admitted.insert(known);
    }
}

fn verify(
    client: &Client,
    image: &RegistryRef,
    manifest: &BlobDigest,
    keys: &[VerifyKey],
) -> Result<(), Failure> {
    let Err(unsigned) = client.verify_signature(image, manifest, keys) else {
        return Ok(());
    };
    if !matches!(unsigned.kind(), RegistryErrorKind::Unsigned(_)) {
        return Err(unsigned.into());
    }
    // What is signed of an image for several platforms is the index, and it names the manifest.
    match client.manifest(image) {
        Ok(top) if top.digest != *manifest && names(&top.bytes, manifest) => {
            client.verify_signature(image, &top.digest, keys)?;
            Ok(())
        }
        _ => Err(unsigned.into()),
    }
}

/// Returns whether an index names a manifest.
fn names(index: &[u8], manifest: &BlobDigest) -> bool {
    let index: Value = serde_json::from_slice(index).unwrap_or_default();
    let manifests = index.get("manifests").and_then(Value::as_array);
    let mut digests = manifests
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("digest")?.as_str());
    digests.any(|digest| digest == manifest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_whole_parts_of_names() {
        let of = |text: &str| text.parse::<KeyFor>();
        let key = of("registry.test:5000/team/=/keys/a=b.pub").unwrap();
        assert_eq!(key.prefix, "registry.test:5000/team");
        assert_eq!(key.file, PathBuf::from("/keys/a=b.pub"));
        for wrong in [
            "",
            "a.test",
            "=file",
            "/=file",
            "a.test=",
            "a.test/b c=file",
            "a.test/*=file",
            "*/app=file",
            "https://a.test/app=file",
            "team/app=file",
            "a.test/app@sha256:00=file",
        ] {
            assert!(of(wrong).unwrap_err().contains("expected HOST"), "{wrong}");
        }
        assert_eq!(of("localhost/app=f").unwrap().prefix, "localhost/app");
        assert_eq!(of("*=f").unwrap().prefix, "*");
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAENk0BBcwXz9qiStQozx5JkK/1Xi29kS7Jf2tSjXOUC8=\n-----END PUBLIC KEY-----\n";
        let key = VerifyKey::from_pem(pem.as_bytes()).unwrap();
        let rule = |prefix: &str, keys: usize| (prefix.to_owned(), vec![key.clone(); keys]);
        let policy = Policy {
            rules: vec![rule("r.test", 1), rule("r.test/team", 2), rule("*", 3)],
            others: Unverified::Refuse,
            admitted: Mutex::default(),
        };
        for (name, keys) in [
            ("r.test/app:1", 1),
            ("r.test/team:1", 2),
            ("r.test/team/app:1", 2),
            ("r.test/teams/app", 1),
            ("r.test.evil/app", 3),
            ("alpine", 3),
        ] {
            let name: RegistryRef = name.parse().unwrap();
            assert_eq!(policy.keys(&name).unwrap().len(), keys, "{name}");
        }
    }

    #[test]
    fn images_that_are_signed_are_remembered_up_to_a_bound() {
        let policy = Policy {
            rules: Vec::new(),
            others: Unverified::Refuse,
            admitted: Mutex::default(),
        };
        for number in 0..=MAX_ADMITTED {
            policy.remember(number.to_string());
        }
        assert_eq!(policy.admitted.lock().len(), 1);
    }
}
