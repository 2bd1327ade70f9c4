//! Signatures of images, checked without asking anybody: those that cosign makes with a
//! key, in its older form ("simple signing") and in its newer one (a bundle with a DSSE
//! envelope around an in-toto statement). What a signature says is read once it holds.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use serde_json::Value;

use crate::source::BlobDigest;

/// What stands before the point of a key for ECDSA on P-256, in DER.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// What stands before a key for Ed25519, in DER.
const ED25519_HEAD: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What `critical.type` of a payload has to be.
const SIMPLE_TYPE: &str = "cosign container image signature";

/// What an envelope has to hold.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// What a statement has to be about: a signature, and no other claim by the same key.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// Signatures of one envelope that are looked at: as a rule it has one.
const MAX_OF_ENVELOPE: usize = 16;

/// A public key that signatures of images are checked with: ECDSA on P-256, as cosign makes
/// them, or Ed25519.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyKey {
    kind: KeyKind,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyKind {
    P256,
    Ed25519,
}

/// The bytes are no key that signatures can be checked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VerifyKeyError(&'static str);

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyKey")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl VerifyKey {
    /// Reads a public key in PEM, as `cosign generate-key-pair` and `openssl pkey -pubout`
    /// write it.
    ///
    /// # Errors
    ///
    /// For bytes without one, and for keys of other kinds.
    pub fn from_pem(pem: &[u8]) -> Result<Self, VerifyKeyError> {
        const NONE: &str = "expected a public key in PEM, between `-----BEGIN PUBLIC KEY-----` and `-----END PUBLIC KEY-----`";
        let text = std::str::from_utf8(pem).map_err(|_| VerifyKeyError(NONE))?;
        if text.contains("PRIVATE KEY-----") {
            let what = "expected a public key, found a private one: `openssl pkey -pubout` or cosign.pub has the public one";
            return Err(VerifyKeyError(what));
        }
        let inner = text.split_once("-----BEGIN PUBLIC KEY-----");
        let inner = inner.and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"));
        let (inner, rest) = inner.ok_or(VerifyKeyError(NONE))?;
        if rest.contains("-----BEGIN") {
            let what = "expected one public key, found more: give each its own file";
            return Err(VerifyKeyError(what));
        }
        let plain: String = inner.split_ascii_whitespace().collect();
        let der = STANDARD.decode(plain).map_err(|_| VerifyKeyError(NONE))?;
        let point = der.strip_prefix(&P256_HEAD);
        if let Some(point) = point.filter(|point| point.len() == 65 && point.first() == Some(&4)) {
            return Ok(Self {
                kind: KeyKind::P256,
                bytes: point.to_vec(),
            });
        }
        if let Some(key) = der
            .strip_prefix(&ED25519_HEAD)
            .filter(|key| key.len() == 32)
        {
            return Ok(Self {
                kind: KeyKind::Ed25519,
                bytes: key.to_vec(),
            });
        }
        let what = "expected a key for ECDSA on P-256, as cosign makes them, or for Ed25519, found one of another kind";
        Err(VerifyKeyError(what))
    }

    /// Returns whether a signature of these bytes was made with the key.
    fn holds(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.kind {
            KeyKind::P256 => &ECDSA_P256_SHA256_ASN1,
            KeyKind::Ed25519 => &ED25519,
        };
        let key = UnparsedPublicKey::new(algorithm, &self.bytes);
        key.verify(bytes, signature).is_ok()
    }
}

/// Why a signature is not one of the image by one of the keys.
pub(super) type Unfit = String;

fn by_another_key() -> Unfit {
    "made with another key, or not of these bytes".to_owned()
}

/// Checks a signature of a payload of "simple signing", in base64.
pub(super) fn check_simple(
    keys: &[VerifyKey],
    payload: &[u8],
    signature: &str,
    image: &BlobDigest,
) -> Result<(), Unfit> {
    let signature = STANDARD.decode(signature.trim());
    let signature = signature.map_err(|_| "its signature is not base64".to_owned())?;
    if !keys.iter().any(|key| key.holds(payload, &signature)) {
        return Err(by_another_key());
    }
    let payload: Value = parse(payload)?;
    let text = |keys: &[&str]| {
        let found = keys.iter().try_fold(&payload, |at, key| at.get(key));
        found.and_then(Value::as_str)
    };
    match text(&["critical", "type"]) {
        Some(SIMPLE_TYPE) => {}
        found => {
            let found = found.unwrap_or_default();
            return Err(format!("its type is {found:?}, not {SIMPLE_TYPE:?}"));
        }
    }
    // The first is what cosign writes, the second what its specification shows.
    let named = text(&["critical", "image", "docker-manifest-digest"])
        .or_else(|| text(&["critical", "image", "Docker-manifest-digest"]));
    match named {
        Some(named) if named == image.as_str() => Ok(()),
        Some(named) => Err(of_another_image(named)),
        None => Err("it names no image".to_owned()),
    }
}

/// Checks a bundle.
pub(super) fn check_bundle(
    keys: &[VerifyKey],
    bundle: &[u8],
    image: &BlobDigest,
) -> Result<(), Unfit> {
    let bundle: Value = parse(bundle)?;
    let envelope = bundle.get("dsseEnvelope");
    let envelope = envelope.ok_or("a bundle of another kind: it has no envelope".to_owned())?;
    let text = |key| envelope.get(key).and_then(Value::as_str);
    let kind = text("payloadType").unwrap_or_default();
    let payload = STANDARD.decode(text("payload").unwrap_or_default());
    let payload = payload.map_err(|_| "its payload is not base64".to_owned())?;
    let signed = authenticated(kind, &payload);
    let signatures = envelope.get("signatures").and_then(Value::as_array);
    let mut signatures = signatures.into_iter().flatten().filter_map(|one| {
        let text = one.get("sig").and_then(Value::as_str)?;
        STANDARD.decode(text).ok()
    });
    let mut signatures = signatures.by_ref().take(MAX_OF_ENVELOPE);
    if !signatures.any(|one| keys.iter().any(|key| key.holds(&signed, &one))) {
        return Err(by_another_key());
    }
    if kind != STATEMENT {
        return Err(format!("it holds {kind:?}, not {STATEMENT:?}"));
    }
    check_statement(&parse(&payload)?, image)
}

fn check_statement(statement: &Value, image: &BlobDigest) -> Result<(), Unfit> {
    match statement.get("predicateType").and_then(Value::as_str) {
        Some(SIGNED) => {}
        found => {
            let found = found.unwrap_or_default();
            return Err(format!("a statement of type {found:?}, not {SIGNED:?}"));
        }
    }
    let subjects = statement.get("subject").and_then(Value::as_array);
    let mut digests = subjects
        .into_iter()
        .flatten()
        .filter_map(|one| one.get("digest")?.get(image.algorithm())?.as_str());
    let first = digests.clone().next();
    match (digests.any(|hex| hex == image.hex()), first) {
        (true, _) => Ok(()),
        (false, Some(other)) => Err(of_another_image(other)),
        (false, None) => Err("it names no image".to_owned()),
    }
}

fn of_another_image(named: &str) -> Unfit {
    format!("it is of another image, {named}")
}

/// What an envelope's signatures are of: type and payload, each with its length before it.
fn authenticated(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

fn parse(bytes: &[u8]) -> Result<Value, Unfit> {
    serde_json::from_slice(bytes).map_err(|error| format!("it is not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_kinds_are_read() {
        let pem = |der: &[u8]| {
            let text = STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\r\n{text}\r\n-----END PUBLIC KEY-----\r\n")
        };
        let point = [&[4][..], &[7; 64]].concat();
        let p256 = [&P256_HEAD[..], &point].concat();
        let key = VerifyKey::from_pem(pem(&p256).as_bytes()).unwrap();
        assert_eq!((key.kind, key.bytes), (KeyKind::P256, point));
        let ed = [&ED25519_HEAD[..], &[7; 32]].concat();
        let key = VerifyKey::from_pem(pem(&ed).as_bytes()).unwrap();
        assert_eq!((key.kind, key.bytes.len()), (KeyKind::Ed25519, 32));
        for (pem, want) in [
            (pem(&p256[..90]), "of another kind"),
            (pem(&ed[..43]), "of another kind"),
            (pem(b""), "of another kind"),
            (pem(&ed) + &pem(&ed), "found more"),
            ("-----BEGIN EC PRIVATE KEY-----".to_owned(), "a private one"),
            ("-----BEGIN PUBLIC KEY-----".to_owned(), "in PEM"),
            (
                "-----BEGIN PUBLIC KEY-----!-----END PUBLIC KEY-----".to_owned(),
                "in PEM",
            ),
            (String::new(), "in PEM"),
        ] {
            let error = VerifyKey::from_pem(pem.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(want), "{pem}: {error}");
        }
        assert!(VerifyKey::from_pem(&[0xff]).is_err());
    }

    #[test]
    fn signatures_that_openssl_made_hold() {
        let image = BlobDigest::of(b"hello");
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"x"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let made = [
            (
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEyLxdinriJakuSRaSYcTf4vlG5N41mI9FO4riBTS7EsfLDnUG5CWCOxGrvaRsBDOZSGj6//BcPy1y2aennh15jw==",
                "MEUCIQDZAAMs5Rv0AJBsXjxDlYksLHTGHn7a3W6N3i2b9SeUxgIgE1TVNtyPDFYiPzw5TWCRKmI102AydLYQ6+6zFDvfd1k=",
            ),
            (
                "MCowBQYDK2VwAyEAENk0BBcwXz9qiStQozx5JkK/1Xi29kS7Jf2tSjXOUC8=",
                "qJi4p1j5Qg+33WxeZ3BbvlA7028moTvu220fyooMPh+3X9ZOLqt4VXbrtHnX4rseDt6LJox7gdxHVAHBDbCUAA==",
            ),
        ];
        for (key, signature) in made {
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n");
            let keys = [VerifyKey::from_pem(pem.as_bytes()).unwrap()];
            let check = |payload: &str| check_simple(&keys, payload.as_bytes(), signature, &image);
            assert_eq!(check(&payload), Ok(()));
            assert_eq!(check(&payload.replace('x', "y")), Err(by_another_key()));
        }
    }

    #[test]
    fn an_envelope_is_signed_with_its_type() {
        assert_eq!(authenticated("a/b", b"xyz"), b"DSSEv1 3 a/b 3 xyz");
    }
}
