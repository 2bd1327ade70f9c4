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
mod series;
mod summary;
mod table;

pub(crate) use compare::{Absent, Comparison, Files, Growth, WayFigures};
pub(crate) use html::page;
pub(crate) use machine::Machine;
pub(crate) use memory::{Resident, peak_bytes, reset_peak, resident_bytes, settled_bytes};
pub(crate) use plot::{Axis, Line, Plot, Scale, Unit, escape};
pub(crate) use run::{BaseFigures, RunFigures};
pub(crate) use series::{Series, series_table};
pub(crate) use summary::{Spread, Summary};
pub(crate) use table::{Align, Table, bytes, count, nanos, times};
