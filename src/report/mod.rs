//! From samples to figures: statistics, tables for people, JSON for programs.
//!
//! The keys of the JSON are a contract: adding one is free, renaming or
//! dropping one is not. Sizes are plain bytes, times nanoseconds.

mod memory;
mod run;
mod summary;
mod table;

pub use memory::{Resident, peak_bytes, reset_peak, resident_bytes};
pub use run::{BaseFigures, OverlayFigures, RunFigures};
pub use summary::{Spread, Summary};
pub use table::{Align, Table, bytes, count, nanos};
