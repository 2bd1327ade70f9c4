//! What guests speak: WASI, translated to and from [`crate::vfs`].
//!
//! Translation only: what an operation does is decided in `vfs`.

#[cfg(feature = "p2")]
pub mod p2;
