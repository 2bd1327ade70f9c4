//! The file system as operations see it: path walk, descriptors, one file for
//! each family of operations. Every operation is one step under the one lock
//! of its instance (invariant 7) and gives an [`Errno`](crate::errno::Errno).
//!
//! The order of locks is in ARCHITECTURE.md. Two instances are never locked at
//! once.

mod apply;
mod clock;
mod data;
mod descriptor;
mod entries;
mod fork;
mod fs;
mod kept_dirs;
mod list;
mod merge;
mod mount;
mod open;
#[cfg(feature = "p1")]
mod pieces;
mod preopen;
mod resolve;
mod route;
mod rules;
mod seal;
mod stat;
mod state;
mod subtree;
mod trace;
mod virtual_file;
mod walk;
mod world;

pub use clock::{Clock, VirtualClock};
pub use descriptor::{Access, Descriptor, Rights};
pub use fork::Snapshot;
pub use fs::{Fs, FsBuilder};
pub use list::DirEntry;
#[cfg(any(feature = "p1", feature = "p2", feature = "p3"))]
pub(crate) use list::Listed;
pub use open::OpenFlags;
#[cfg(feature = "p1")]
pub(crate) use pieces::PendingPieces;
pub use preopen::Preopen;
pub use resolve::{Contested, Resolution};
pub use seal::{Sealing, Share, seal_until};
pub use stat::SetTime;
pub use trace::{Trace, TracedFile};
pub use virtual_file::{Filled, VirtualFile};
pub use walk::Follow;
#[cfg(feature = "runner")]
pub(crate) use world::DeviceDir;
pub use world::World;

pub(crate) use crate::overlay::NotDone;
pub use crate::overlay::{Change, Conflict, MergeError, Quota, Rule, TreePath, Usage};

#[cfg(test)]
mod diff_tests;
#[cfg(test)]
mod tests;
