//! What is known of a program that stands still.

use std::collections::HashSet;

use super::call_graph::SegmentKind;
use super::frames::Frame;
use super::value::Value;

/// A memory of a stopped program.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FrozenMemory<'b> {
    pub(crate) bytes: &'b [u8],
}

/// All that a program is while it waits for an import to come back.
pub(crate) struct Stopped<'b> {
    /// The outermost first.
    pub(crate) frames: Vec<Frame>,
    /// The import that was called, which is called again, and its arguments.
    pub(crate) import: u32,
    pub(crate) arguments: Vec<Value>,
    pub(crate) memories: Vec<FrozenMemory<'b>>,
    /// What the globals hold that can change, by number.
    pub(crate) globals: Vec<(u32, Value)>,
    /// What the tables hold, if the program changes tables; `None` for a table.
    pub(crate) tables: Vec<Vec<Value>>,
    /// Segments that are not there any more.
    pub(crate) dropped: HashSet<(SegmentKind, u32)>,
}
