//! From samples to figures: statistics, tables for people, JSON for programs.
//!
//! The keys of the JSON are a contract: adding one is free, renaming or
//! dropping one is not. Sizes are plain bytes, times nanoseconds.

mod compare;
mod html;
mod machine;
mod memory;
mod plot;
mod run;
mod summary;
mod table;

pub use compare::{Absent, Comparison, Files, Growth, Versions, WayFigures};
pub use html::page;
pub use machine::Machine;
pub use memory::{Resident, peak_bytes, reset_peak, resident_bytes, settled_bytes};
pub use plot::{Axis, Line, Plot, Scale, Unit};
pub use run::{BaseFigures, OverlayFigures, RunFigures};
pub use summary::{Spread, Summary};
pub use table::{Align, Table, bytes, count, nanos};
