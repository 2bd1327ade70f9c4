//! Secrets that a `RUN` was shown: none of their bytes may stay behind.

use memchr::memmem;
use stratafs::layer::{EntryBody, Layer};
use stratafs::name::{LayerPath, show};

use crate::failure::Failure;

/// Shorter secrets are in many files by chance.
const MIN_SECRET_BYTES: usize = 6;

/// Why a search ended before all was looked at.
pub(super) enum SecretLeak {
    /// The secret of this id is in the file.
    InFile(String, LayerPath),
    /// It is in a name, or in what a link says.
    InName(String),
    /// A file could not be read.
    Unread(Failure),
}

impl SecretLeak {
    /// Says it of what becomes a layer.
    pub(super) fn in_layer(self) -> Failure {
        self.describe("", "what it {} is part of the image")
    }

    /// Says it of the cache that is shown at `target`.
    pub(super) fn in_cache(self, target: &str) -> Failure {
        let place = format!(" of the cache at {target}");
        self.describe(&place, "what it {} there other builds find")
    }

    fn describe(self, place: &str, why: &str) -> Failure {
        let advice = "let it keep the secret to itself";
        match self {
            Self::InFile(id, path) => Failure::new(format_args!(
                "the guest wrote the secret {id:?} into /{}{place}: {}: {advice}",
                show(&path.to_bytes()),
                why.replace("{}", "writes")
            )),
            Self::InName(id) => Failure::new(format_args!(
                "the guest made a name or a link{place} with the secret {id:?} in it: {}: {advice}",
                why.replace("{}", "makes")
            )),
            Self::Unread(failure) => failure,
        }
    }
}

/// Looks for secrets, by id, in names, links and files.
pub(super) fn search(layer: &Layer, secrets: &[(String, Vec<u8>)]) -> Result<(), SecretLeak> {
    for (id, secret) in secrets {
        let secret = secret.trim_ascii();
        if secret.len() < MIN_SECRET_BYTES {
            continue;
        }
        for entry in layer.entries() {
            let target = match entry.body {
                EntryBody::Symlink { target, .. } => target,
                _ => &[],
            };
            let has = |bytes: &[u8]| memmem::find(bytes, secret).is_some();
            if has(&entry.path.to_bytes()) || has(target) {
                return Err(SecretLeak::InName(id.clone()));
            }
            if let EntryBody::File { content, .. } = entry.body
                && content.size() >= secret.len() as u64
                && holds(content, secret).map_err(SecretLeak::Unread)?
            {
                return Err(SecretLeak::InFile(id.clone(), entry.path));
            }
        }
    }
    Ok(())
}

fn holds(content: &stratafs::chunk::Content, secret: &[u8]) -> Result<bool, Failure> {
    // What crosses the end of a piece is seen with the next one.
    let mut held: Vec<u8> = Vec::new();
    let mut end = 0;
    for piece in content.pieces() {
        let (at, bytes) = piece?;
        if at != end {
            held.clear();
        }
        end = at + bytes.len() as u64;
        held.extend_from_slice(&bytes);
        if memmem::find(&held, secret).is_some() {
            return Ok(true);
        }
        let keep = held.len().saturating_sub(secret.len());
        held.drain(..keep);
    }
    Ok(false)
}
