//! Programs that stand still: leaving a stack, and modules that go on from there.
//!
//! A core module is rewritten twice. [`leave`] makes the build that runs until the point:
//! each of its functions can write its frame down and return. From what that build left,
//! [`bake`] writes a module with the program's own functions, byte for byte, the memory,
//! globals and tables as they were, and one function for each frame that goes on where the
//! frame stood. Nothing here runs code or knows an engine. A module that goes on says what
//! it was made of ([`origin`]): frozen itself, it is made anew of the program.
//!
//! Every construct is either carried over or refused by name, with function and offset:
//! see [`Refusal`].

mod additions;
mod bake;
mod call_graph;
mod compose;
mod core_module;
mod elements;
mod error;
mod features;
mod filled_tables;
mod frames;
mod function;
mod leave;
mod origin;
mod original;
mod resume;
mod signatures;
mod stopped;
mod unwind;
mod value;

pub(crate) use bake::{OriginSummary, bake};
pub(crate) use call_graph::{CallGraph, SegmentKind};
pub(crate) use core_module::CoreModule;
pub use error::Refusal;
pub(crate) use features::{CodeFeatures, features, is_feature};
pub(crate) use frames::{Written, read_frames};
pub(crate) use leave::{PREFIX, added, export, exported, identity_of_build, leavable_module};
pub(crate) use origin::OriginalProgram;
pub(crate) use stopped::{FrozenMemory, Stopped};
pub(crate) use value::Value;
