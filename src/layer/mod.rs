//! The immutable layer: a tree of entries and whiteouts.
//!
//! Every source (a directory, a tar, a program) feeds entries to one
//! [`LayerBuilder`], which holds all rules about odd entries, and gets a
//! [`Layer`]. Whiteouts and opaque directories exist here and in a diff only:
//! an image has resolved them (invariant 2).

mod build_tree;
mod builder;
mod compare;
pub(crate) mod entry_pos;
mod error;
mod finish;
mod finished;
pub(crate) mod node;
pub(crate) mod walk;

pub use builder::LayerBuilder;
pub use compare::{ChangeKind, compare};
pub use error::LayerError;
pub use finished::Layer;
pub use walk::{Entries, EntryBody, LayerEntry};
