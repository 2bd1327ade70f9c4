//! What these tests share with those of the library and of the command line.

#![allow(dead_code, reason = "other tests use the rest")]

#[path = "../../../cli/tests/it/support/collector.rs"]
pub mod collector; // a collector of OpenTelemetry
#[path = "../../../tests/it/support/fake_registry.rs"]
pub mod fake_registry; // a registry that can be told to misbehave
#[path = "../../../tests/it/support/guest.rs"]
pub mod guest; // the guests of guest-examples
#[path = "../../../cli/tests/it/support/tls_door.rs"]
pub mod tls_door; // a door with TLS before it
