//! What the tests share.

#[cfg(feature = "tar")]
pub mod archive;
pub mod rust;
