//! Images between a store and what other tools read.
//!
//! [`import`] makes an image of directories, archives and OCI images,
//! [`export`] writes one out, [`squash`] makes one layer of many, [`slim`] leaves out what is not needed, [`explain`]
//! tells where an entry of an image comes from, and [`analyze`] what each layer does. With the feature `registry`, `pull` and `push`
//! move images between a store and a registry, and `copy` between registries and layouts. [`Store::import_from`],
//! [`Store::export_to`] and [`Fs::commit`] are the same as methods. What is written appears whole
//! or not at all: a process that is killed leaves nothing under the name that
//! was asked for.
//!
//! [`Store::import_from`]: crate::store::Store::import_from
//! [`Store::export_to`]: crate::store::Store::export_to
//! [`Fs::commit`]: crate::vfs::Fs::commit

mod analyze;
mod artifact;
#[cfg(feature = "registry")]
mod attached;
mod commit;
#[cfg(feature = "registry")]
mod copy;
mod error;
mod explain;
mod export;
mod extend;
#[cfg(feature = "registry")]
mod fill;
mod framing;
mod import;
#[cfg(feature = "registry")]
mod lanes;
#[cfg(feature = "registry")]
mod layout_out;
#[cfg(feature = "registry")]
mod lazy;
#[cfg(feature = "object")]
mod objects;
#[cfg(feature = "registry")]
mod origins;
#[cfg(feature = "registry")]
mod packed;
mod platform;
#[cfg(feature = "registry")]
mod pull;
#[cfg(feature = "registry")]
mod push;
#[cfg(feature = "registry")]
mod remote;
mod slim;
mod slim_links;
mod squash;
mod staged;
#[cfg(feature = "registry")]
mod table_room;

pub use analyze::{
    AddedEntries, Analysis, AnalyzedEntry, FileSum, HiddenFile, LayerAnalysis, analyze,
};
pub use artifact::program;
pub use commit::{StagedCommit, commit, commit_for, stage};
#[cfg(feature = "registry")]
pub use copy::{CopyOptions, CopyPlace, copy};
pub use error::TransferError;
pub use explain::{EntryKind, Explanation, LowerEntry, Sharer, explain};
pub use export::{ExportOptions, Format, export, export_into};
pub use extend::{append, reconfigure};
#[cfg(feature = "registry")]
pub use fill::fill;
pub use import::{ImportOptions, import, import_opened};
#[cfg(feature = "registry")]
pub use lanes::{MovedWatcher, Moving};
#[cfg(feature = "registry")]
pub use lazy::fetch_from;
#[cfg(feature = "object")]
pub use objects::{pull_object, push_object};
#[cfg(feature = "registry")]
pub use origins::Origins;
#[cfg(feature = "registry")]
pub use pull::{PullOptions, Pulled, pull};
#[cfg(feature = "registry")]
pub use push::{PushOptions, Pushed, push};
pub use slim::{KeepList, RemovedEntry, Slimmed, slim};
pub use squash::{squash, squash_for};
