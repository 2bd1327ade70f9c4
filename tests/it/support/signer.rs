//! Somebody who signs images as `cosign sign --key` does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use stratafs::registry::VerifyKey;
use stratafs::source::BlobDigest;

use super::fake_registry::FakeRegistry;

/// What the signed bytes are.
pub const SIMPLE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Somebody who signs.
pub enum Signer {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub fn p256() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap())
    }

    pub fn ed25519() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    pub fn sign(&self, bytes: &[u8]) -> String {
        STANDARD.encode(match self {
            Self::P256(key) => key
                .sign(&SystemRandom::new(), bytes)
                .unwrap()
                .as_ref()
                .to_vec(),
            Self::Ed25519(key) => key.sign(bytes).as_ref().to_vec(),
        })
    }

    pub fn pem(&self) -> String {
        let (head, key) = match self {
            Self::P256(key) => (
                "3059301306072a8648ce3d020106082a8648ce3d030107034200",
                key.public_key().as_ref(),
            ),
            Self::Ed25519(key) => ("302a300506032b6570032100", key.public_key().as_ref()),
        };
        let digits = (0..head.len()).step_by(2);
        let mut der: Vec<u8> = digits
            .map(|at| u8::from_str_radix(&head[at..at + 2], 16).unwrap())
            .collect();
        der.extend(key);
        let der = STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    pub fn key(&self) -> VerifyKey {
        VerifyKey::from_pem(self.pem().as_bytes()).unwrap()
    }
}

/// What cosign signs.
pub fn payload(digest: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": {"docker-reference": "somewhere/else"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// A layer of a manifest of signatures.
pub fn signature(fake: &FakeRegistry, payload: &[u8], signature: &str) -> Value {
    json!({
        "mediaType": SIMPLE, "size": payload.len(), "digest": fake.put_blob("app", payload),
        "annotations": {"dev.cosignproject.cosign/signature": signature},
    })
}

/// Puts a manifest of signatures where cosign looks for it.
pub fn put_signatures(fake: &FakeRegistry, digest: &BlobDigest, layers: Vec<Value>) -> Vec<u8> {
    let config = fake.put_blob("app", b"{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": config},
    });
    let tag = format!("{}.sig", digest.as_str().replace(':', "-"));
    let bytes = manifest.to_string().into_bytes();
    fake.put_manifest("app", &tag, MANIFEST, &bytes);
    bytes
}

/// Signs as cosign did up to its third version.
pub fn sign(fake: &FakeRegistry, digest: &BlobDigest, by: &Signer) {
    let payload = payload(digest.as_str());
    let layer = signature(fake, &payload, &by.sign(&payload));
    put_signatures(fake, digest, vec![layer]);
}
