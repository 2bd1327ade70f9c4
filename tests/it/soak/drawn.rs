//! What calls are drawn from: the guests' own sources.

#![allow(dead_code, reason = "the guests use more of it")]

#[path = "../../../guest-examples/src/random.rs"]
pub mod random;
#[path = "../../../guest-examples/src/soak.rs"]
pub mod soak;
