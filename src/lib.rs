//! A layered, copy-on-write file system for WebAssembly guests.
//!
//! A base of immutable layers is read once and shared; each instance over it
//! is private, writable, and costs what it changes. There is no mount, no
//! FUSE, no root, and no host path that a guest could reach.
//!
//! ```
//! use stratafs::chunk::{ChunkPool, ContentBuilder};
//! use stratafs::image::Image;
//! use stratafs::layer::LayerBuilder;
//! use stratafs::meta::Meta;
//! use stratafs::name::LayerPath;
//! use stratafs::vfs::Fs;
//!
//! // A layer, made once. `source` reads directories and tar archives.
//! let pool = ChunkPool::new();
//! let mut layer = LayerBuilder::new();
//! let greeting = ContentBuilder::of(&pool, b"hello");
//! layer.file(&LayerPath::parse(b"etc/motd")?, Meta::with_mode(0o644), greeting)?;
//! let base = Image::new(&[layer.finish()?])?;
//!
//! // Instances over it: about a microsecond and a few hundred bytes each.
//! let (one, two) = (Fs::new(&base), Fs::new(&base));
//! one.write("/etc/motd", b"goodbye")?;
//! assert_eq!(one.read("/etc/motd")?, b"goodbye");
//! assert_eq!(two.read("/etc/motd")?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! - [`source`]: layers from directories, archives and OCI images
//! - [`image::Image`]: a stack of layers, merged once
//! - [`store::Store`]: images at rest; [`transfer`]: images in and out of it
//! - [`registry`]: images in registries; [`transfer`] pulls, pushes and copies them
//! - [`object`]: images in object stores, which [`transfer`] pulls and pushes as well
//! - [`vfs::Fs`]: one instance; [`host`] adds `read`, `write`, `walk` and the
//!   like to it for embedders
//! - [`wasi::p1`], [`wasi::p2`], [`wasi::p3`]: the same for guests, in wasmtime's idiom
//! - [`runner`]: many instances of one guest
//! - [`staged`]: files and directories of the host that appear when they are complete
//!
//! # Events
//!
//! The crate `tracing` tells of damage (at the level `error`), merges that ended in conflicts and
//! commits (`info`), merges, and quotas and budgets that are full (`debug`), with the module as target. What a
//! guest can bring about as often as it likes is never above `debug`. A subscriber must not use the
//! instance that an event is of, which may be locked.
//!
//! # What may take long
//!
//! Calls of a host on [`vfs::Fs`] and [`host::File`] do not wait, except for content of a base in a
//! store that is read for the first time. What depends on the size of a tree belongs on a thread that
//! may block: [`vfs::Fs::diff`], `commit`, [`vfs::Fs::merge`], `import_*` and `export_*`,
//! `apply`, `collect_trace`, everything of [`source`], [`store`], [`registry`], [`object`] and [`transfer`], and dropping a
//! [`vfs::Descriptor`] of a large file that was written, which looks for equal blocks
//! ([`vfs::Sealing`] puts that off).
//!
//! # Features
//!
//! | feature | brings |
//! |---|---|
//! | `dir` (default) | layers from host directories, copies in and out of them |
//! | `tar` (default) | layers from archives, copies out to them |
//! | `gzip`, `zstd`, `xz`, `bzip2` | the same for compressed archives |
//! | `zip` | layers from zip archives |
//! | `oci` | layers from OCI image layouts and `docker save` |
//! | `store` | images at rest, shared by processes |
//! | `registry` | a client of registries: pull, push, copy |
//! | `object` | images in object stores: pull, push, collect |
//! | `p1`, `p2`, `p3` (default) | WASI preview1, 0.2 and 0.3 for wasmtime 48 |
//! | `merge-lines` | `Contested::merge_lines`: texts that both sides of a merge changed, line by line |
//! | `serde` | `Serialize` for quotas, usage, stat, statistics and reports of runs |
//! | `runner` | running guests: engine, cache of compiled code, many instances |
//! | `freeze` | freezing a running guest, and instances that continue from there |
//! | `tokio` | `host::AsyncFile`: tokio's `AsyncRead`, `AsyncWrite` and `AsyncSeek` |
//!
//! The command line is a package of its own, `stratafs-cli`, over this library.
//!
// Links to what a feature brings lead to the table of features in a build without it.
#![cfg_attr(not(feature = "store"), doc = "[`store::Store`]: #features")]
#![cfg_attr(not(feature = "store"), doc = "[`store`]: #features")]
#![cfg_attr(
    not(all(feature = "dir", feature = "oci", feature = "store")),
    doc = "[`transfer`]: #features"
)]
#![cfg_attr(not(feature = "registry"), doc = "[`registry`]: #features")]
#![cfg_attr(not(feature = "object"), doc = "[`object`]: #features")]
#![cfg_attr(not(feature = "p1"), doc = "[`wasi::p1`]: #features")]
#![cfg_attr(not(feature = "p2"), doc = "[`wasi::p2`]: #features")]
#![cfg_attr(not(feature = "p3"), doc = "[`wasi::p3`]: #features")]
#![cfg_attr(not(feature = "runner"), doc = "[`runner`]: #features")]
#![cfg_attr(
    not(any(feature = "dir", feature = "store")),
    doc = "[`staged`]: #features"
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
#![deny(missing_docs)]

mod bounded;
pub mod budget;
#[cfg(feature = "freeze")]
mod checkpoint;
pub mod chunk;
pub mod digest;
pub mod errno;
mod error;
pub mod host;
pub mod image;
pub mod layer;
pub mod limits;
pub mod meta;
pub mod name;
#[cfg(feature = "object")]
pub mod object;
mod overlay;
mod path;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "runner")]
pub mod runner;
pub mod source;
mod spill;
#[cfg(any(feature = "dir", feature = "store"))]
pub mod staged;
mod steps;
#[cfg(feature = "store")]
pub mod store;
#[cfg(all(feature = "dir", feature = "oci", feature = "store"))]
pub mod transfer;
mod tree;
pub mod vfs;
#[cfg(feature = "wasi")]
pub mod wasi;
mod weak_table;

/// The version of cap-std whose directories stand in this library's signatures.
#[cfg(feature = "dir")]
pub use cap_std;
pub use error::Error;
pub use path::IntoFsPath;
/// The version of wasmtime whose types stand in this library's signatures.
#[cfg(feature = "wasi")]
pub use wasmtime;
/// The version of wasmtime-wasi whose types stand in this library's signatures.
#[cfg(feature = "wasi")]
pub use wasmtime_wasi;

/// What hosts move from thread to thread, and what they share.
const _: () = {
    const fn send<T: Send>() {}
    const fn share<T: Send + Sync>() {}
    share::<vfs::Fs>();
    share::<vfs::Snapshot>();
    share::<vfs::Descriptor>();
    share::<vfs::Preopen>();
    share::<image::Image>();
    share::<layer::Layer>();
    share::<chunk::ChunkPool>();
    share::<chunk::Scope>();
    share::<budget::Budget>();
    share::<host::File>();
    share::<Error>();
    send::<vfs::FsBuilder>();
    #[cfg(feature = "p1")]
    send::<wasi::p1::Ctx>();
    #[cfg(any(feature = "p2", feature = "p3"))]
    share::<wasi::StratafsCtx>();
    #[cfg(any(feature = "p2", feature = "p3"))]
    send::<wasi::StratafsState>();
    #[cfg(feature = "runner")]
    share::<runner::Runner>();
    #[cfg(feature = "store")]
    share::<store::Store>();
};

/// The code of the guide, as tests.
#[cfg(all(
    doctest,
    feature = "freeze",
    feature = "merge-lines",
    feature = "registry",
    feature = "tokio"
))]
#[doc = include_str!("../docs/GUIDE.md")]
struct Guide;

/// The programs of the first page, as tests.
#[cfg(all(
    doctest,
    feature = "dir",
    feature = "oci",
    feature = "p1",
    feature = "store"
))]
#[doc = include_str!("../README.md")]
struct FirstPage;
