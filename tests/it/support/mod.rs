//! What the tests share.

pub mod alloc; // an allocator that counts
#[cfg(feature = "tar")]
pub mod archive; // tar archives byte by byte
#[cfg(feature = "runner")]
pub mod base; // the base that guests run on, as a directory
pub mod charge; // a file of the reference model, and what it may cost of a quota
#[cfg(feature = "registry")]
pub mod fake_registry; // a registry that can be told to misbehave
pub mod far; // files whose bytes come late
pub mod generator; // random operations and layers
#[cfg(feature = "runner")]
pub mod guest; // building the example guests
pub mod handles; // the reference model's descriptors
pub mod judge; // whether a listing is right
#[cfg(feature = "oci")]
pub mod layout; // OCI layouts blob by blob
pub mod lineage; // forks of forks that are merged again
pub mod merging; // what a merge of three trees has to give
pub mod ops; // operations as data
#[cfg(feature = "runner")]
pub mod p1; // preview1 calls through guests made on the spot
pub mod paths; // the reference model's path walk
pub mod reference; // the reference model
pub mod rng; // random numbers from a seed
pub mod rust; // a lexer for tests that read the sources
#[cfg(feature = "runner")]
#[allow(dead_code, reason = "the command line's tests use the rest")]
pub mod script; // guests as short lists of steps
pub mod seed; // the tree a model starts from
#[cfg(feature = "registry")]
pub mod signer; // somebody who signs images
pub mod subject; // operations on the library
pub mod tree; // fixtures' notation
pub mod twin; // library and model side by side
#[cfg(feature = "runner")]
pub mod wasi_host; // guests under either host
pub mod world; // the reference model of mounts and rules
