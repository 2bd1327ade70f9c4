//! SHA-2, which OCI names things by.

use sha2::{Digest as _, Sha256, Sha512};

use crate::source::BlobDigest;

/// A digest in the making, of the algorithm of another one.
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Begins a digest that can be compared with `like`.
    pub(crate) fn like(like: &BlobDigest) -> Self {
        match like.algorithm() {
            "sha512" => Self::Sha512(Sha512::new()),
            _ => Self::Sha256(Sha256::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// Begins a digest of the usual kind.
    pub(crate) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// Returns the digest.
    pub(crate) fn finish_digest(self) -> BlobDigest {
        BlobDigest::hashed(self.finish())
    }

    /// Returns the digest's text.
    pub(crate) fn finish(self) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        match self {
            Self::Sha256(hasher) => format!("sha256:{}", hex(&hasher.finalize())),
            Self::Sha512(hasher) => format!("sha512:{}", hex(&hasher.finalize())),
        }
    }
}

/// Names a document.
pub(crate) fn sha256(bytes: &[u8]) -> BlobDigest {
    let mut hasher = Hasher::sha256();
    hasher.update(bytes);
    hasher.finish_digest()
}
