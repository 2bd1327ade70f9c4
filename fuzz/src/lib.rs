//! The fuzz targets: what each does with the bytes it is given.
//!
//! A target panics on what must never be, and on nothing else. The same
//! functions run in plain loops in the test binary (`tests/it/fuzz.rs`).

pub mod archive;
#[cfg(feature = "freeze")]
pub mod checkpoint;
#[cfg(feature = "freeze")]
mod expressions;
pub mod feed;
#[cfg(feature = "wasi")]
pub mod filesystem2;
#[cfg(feature = "freeze")]
pub mod freeze;
#[cfg(feature = "freeze")]
mod generated;
pub mod instance;
pub mod merge;
#[cfg(feature = "wasi")]
pub mod preview1;
pub mod sealing;
pub mod walk;
