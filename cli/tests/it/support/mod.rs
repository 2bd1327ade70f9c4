//! What these tests share with those of the library.

#![allow(dead_code, reason = "the library's tests use the rest")]

#[path = "../../../../tests/it/support/archive.rs"]
pub mod archive; // tar archives byte by byte
#[path = "../../../../tests/it/support/base.rs"]
pub mod base; // the base that guests run on, as a directory
pub mod collector; // a collector of OpenTelemetry
#[path = "../../../../tests/it/support/fake_registry.rs"]
pub mod fake_registry; // a registry that can be told to misbehave
#[path = "../../../../tests/it/support/guest.rs"]
pub mod guest; // building the example guests
#[path = "../../../../tests/it/support/layout.rs"]
pub mod layout; // OCI layouts blob by blob
#[path = "../../../../tests/it/support/rng.rs"]
pub mod rng; // random numbers from a seed
#[path = "../../../../tests/it/support/script.rs"]
pub mod script; // guests as short lists of steps
#[path = "../../../../tests/it/support/signer.rs"]
pub mod signer; // somebody who signs images
pub mod tls_door; // a door with TLS before a registry
