//! What the tests share.

#[cfg(feature = "tar")]
pub mod archive;
#[cfg(feature = "runner")]
pub mod p1;
pub mod rust;
