//! The digests that OCI names its blobs by.

use std::fmt;
use std::str::FromStr;

/// The digest of a blob as OCI writes it: `sha256:` and 64 lower-case hex
/// digits, or `sha512:` and 128. Nothing else, so it is safe as part of a
/// path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest(Box<str>);

impl BlobDigest {
    /// Puts together a SHA-256 that was computed elsewhere.
    #[must_use]
    pub fn sha256(bytes: &[u8; 32]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}").into())
    }

    /// Names bytes by their SHA-256.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        super::oci::sha256(bytes)
    }

    /// Names bytes by the algorithm of another digest.
    #[cfg(feature = "registry")]
    pub(crate) fn like(other: &Self, bytes: &[u8]) -> Self {
        let mut hasher = super::oci::Hasher::like(other);
        hasher.update(bytes);
        hasher.finish_digest()
    }

    /// Returns whether it is the digest of these bytes.
    #[cfg(feature = "registry")]
    #[must_use]
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        Self::like(self, bytes) == *self
    }

    /// Takes a text that a hash was just written as.
    pub(super) fn hashed(text: String) -> Self {
        debug_assert!(text.parse::<Self>().is_ok());
        Self(text.into())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name of the algorithm.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0
            .split_once(':')
            .map_or("", |(algorithm, _)| algorithm)
    }

    /// Returns the tag that stands for what is about the digest: `sha256-HEX`.
    #[cfg(feature = "registry")]
    pub(crate) fn as_tag(&self) -> String {
        format!("{}-{}", self.algorithm(), self.hex())
    }

    /// Returns whether a name in a layout is such a tag, maybe with a word after a dot: what
    /// has it is about an image and is not an image itself.
    pub(crate) fn is_tag(name: &str) -> bool {
        let (tag, word) = name.split_once('.').unwrap_or((name, "sig"));
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        is_word && tag.replacen('-', ":", 1).parse::<Self>().is_ok()
    }

    /// Returns the hex digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a digest of a blob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid blob digest {0:?}: expected `sha256:` and 64 hex digits, or `sha512:` and 128")]
pub struct ParseBlobDigestError(String);

impl FromStr for BlobDigest {
    type Err = ParseBlobDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = |hex: &str| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.split_once(':') {
            Some(("sha256", hex)) if hex.len() == 64 && is_hex(hex) => Ok(Self(text.into())),
            Some(("sha512", hex)) if hex.len() == 128 && is_hex(hex) => Ok(Self(text.into())),
            _ => Err(ParseBlobDigestError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c1_46_a_blob_digest_is_no_path() {
        let good = format!("sha256:{}", "0a".repeat(32));
        let digest: BlobDigest = good.parse().unwrap();
        assert_eq!((digest.algorithm(), digest.hex().len()), ("sha256", 64));
        assert_eq!(digest.to_string(), good);
        assert!(
            format!("sha512:{}", "0a".repeat(64))
                .parse::<BlobDigest>()
                .is_ok()
        );
        for text in [
            "",
            "sha256:",
            "sha256:../../x",
            "sha256:0A",
            &good.to_uppercase(),
            &good.replace("sha256", "md5"),
            &format!("{good}0"),
            &format!("sha512:{}", "0a".repeat(32)),
        ] {
            let error = text.parse::<BlobDigest>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")));
        }
    }
}
