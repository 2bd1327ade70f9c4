//! What the front ends for components have in common: the store's context,
//! the table of descriptors, and each operation in the words of `vfs`.
//!
//! A component may import 0.2 and 0.3 at once, so both see one table and one
//! set of preopens. The bindings of each version have types of their own for
//! the same words; [`conversions`] writes the conversions for either.
#![deny(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

pub(super) mod conversions;
pub(super) mod ctx;
#[cfg(feature = "p2")]
pub(super) mod fetch;
pub(super) mod listing;
pub(super) mod ops;
pub(super) mod view;
#[cfg(feature = "p3")]
pub(crate) mod watch;
