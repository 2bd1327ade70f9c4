//! Everything that is tested from outside the library, in one binary.
//!
//! One line a module; `tidy` fails when a file here is not listed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::type_complexity,
    unreachable_pub,
    reason = "a test stops at what it does not expect, and is no library"
)]

mod support; // fixtures' notation, reference model, random operations

#[cfg(feature = "tokio")]
mod async_file; // tokio's traits
#[cfg(feature = "runner")]
mod calls; // docs/semantics lists every call that a guest can make
mod cases_matrix; // what layered file systems were measured on, 01 to 45
#[cfg(feature = "runner")]
mod controls; // runs that their host stops, pauses, and gives streams
mod copy_up; // copy-up, merging, dedup, concurrency: attacks 81 to 110
#[cfg(feature = "dir")]
mod differential; // random operations on a real directory
mod errors; // in the order that docs/SEMANTICS.md gives
mod extremes; // the deepest trees, the highest stacks, churn
#[cfg(feature = "freeze")]
mod frozen; // each example guest, frozen at its calls and gone on with
#[cfg(feature = "freeze")]
mod frozen_by_hand; // hosts with a linker and data of their own
#[cfg(feature = "runner")]
mod fuzz; // the fuzz targets in plain loops
#[cfg(feature = "runner")]
mod guests; // each example guest under wasmtime-wasi and under stratafs
mod held; // what a host holds because of what guests did
mod host; // the std-like API for embedders
mod hosted; // components that a host calls itself
mod hostile; // host calls on what guests and archives made to harm
#[cfg(feature = "freeze")]
mod hostile_checkpoint; // checkpoints that claim what cannot be
mod image; // stacks of layers as one tree
#[cfg(feature = "runner")]
mod isolation; // a thousand guests that destroy what they see
mod late; // base content that is slow, or has to be fetched first
mod late_guests; // guests of one thread, whose base has to be fetched first
mod layers; // imports point down
mod licences; // of all that is built in
mod limits; // one test for each bound
mod merge; // three-way merges of live states
mod merge_states; // merges of states that hold bytes in different ways, and at random
mod model; // random operations against the reference model
mod mounts; // other file systems and the host's files at paths of an instance
#[cfg(all(feature = "dir", feature = "p1", feature = "p2"))]
mod moving; // what a host of wasmtime-wasi changes to come here
#[cfg(feature = "object")]
mod object; // images in object stores: a folder, an S3 of the tests' own
#[cfg(feature = "oci")]
mod oci_out; // images written as OCI layouts
mod overlay_states; // forks, snapshots, restores, and what changed between two
#[cfg(feature = "runner")]
mod p1; // preview1, call by call, in both kinds of linker
#[cfg(feature = "p2")]
mod p2; // wasi:filesystem 0.2 call by call, beside host directories
#[cfg(feature = "runner")]
mod p3; // wasi:filesystem 0.3: streams, futures, each call beside wasmtime-wasi
#[cfg(feature = "runner")]
mod placed; // networks of single runs, and threads that reach the host's directories
#[cfg(feature = "registry")]
mod registry; // images in registries, and what goes wrong with them
mod rules; // rights by path
#[cfg(feature = "runner")]
mod runner; // the runner as a library: what a run leaves, what it tells
mod semantics; // docs/SEMANTICS.md, by the cases that others got wrong
mod sharing; // sealing, scopes, budgets
#[cfg(feature = "runner")]
mod soak; // calls at random beside wasmtime-wasi, logs compared by rule
#[cfg(feature = "dir")]
mod source_dir; // host directories as layers
#[cfg(feature = "oci")]
mod source_oci; // OCI layouts and archives of `docker save`
#[cfg(feature = "tar")]
mod source_tar; // tar archives in and out
#[cfg(all(feature = "zip", feature = "oci"))]
mod source_zip; // zip archives and Debian packages
#[cfg(feature = "store")]
#[cfg(target_os = "linux")]
mod spill; // blocks past a budget live in a file
#[cfg(feature = "runner")]
mod started; // instances that share a thread
mod store; // images at rest: in and out, damage, crashes, several processes
mod tidy; // lengths, heads, ASCII, named tests, forgotten files
mod tidy_words; // words that were replaced, names of types, how docs begin
mod volumes; // random calls over mounts, rules and forks against a model
