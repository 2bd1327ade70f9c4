//! The file system for the program that embeds it: std-like calls on
//! [`Fs`], usable while a guest runs.
//!
//! Every call takes its paths as [`IntoFsPath`](crate::IntoFsPath) has it, and its
//! [`Error`](crate::Error) names the operation and the path.
//!
//! A guest may make files of 16 TiB that hold nothing, directories 50,000 deep
//! and names of any bytes. Each call may be used on what it made: calls on names
//! and metadata cost O(path), and what reads, walks, copies or removes more says
//! in its own words what it costs and what it holds. Only [`Fs::read`],
//! [`Fs::read_to_string`] and [`Fs::read_dir`] take memory by what a guest says
//! or made: prefer [`Fs::read_up_to`] and [`Fs::walk`] there.
//!
//! [`Fs::read`]: crate::vfs::Fs::read
//! [`Fs::read_to_string`]: crate::vfs::Fs::read_to_string
//! [`Fs::read_dir`]: crate::vfs::Fs::read_dir
//! [`Fs::read_up_to`]: crate::vfs::Fs::read_up_to
//! [`Fs::walk`]: crate::vfs::Fs::walk
//!
//! ```
//! use stratafs::{image::Image, vfs::Fs};
//!
//! let fs = Fs::new(&Image::empty());
//! fs.create_dir_all("/var/log")?;
//! fs.write("/var/log/today", "started")?;
//! fs.hard_link("/var/log/today", "/latest")?;
//! assert_eq!(fs.read_to_string("/latest")?, "started");
//! assert_eq!(fs.metadata("/latest")?.nlink, 2);
//! let names: Vec<_> = fs.walk("/")?.map(|entry| entry.map(|e| e.to_string())).collect::<Result<_, _>>()?;
//! assert_eq!(names, ["/var", "/var/log", "/var/log/today", "/latest"]);
//! # Ok::<(), stratafs::Error>(())
//! ```

#[cfg(feature = "tokio")]
mod async_file;
#[cfg(any(feature = "dir", feature = "tar"))]
mod copy;
mod file;
mod list;
mod names;
#[cfg(feature = "dir")]
mod unpack;
mod whole;

#[cfg(feature = "tokio")]
pub use async_file::AsyncFile;
#[cfg(any(feature = "dir", feature = "tar"))]
pub use copy::CopyError;
pub use file::{File, OpenOptions};
pub use list::{Entry, Walk};

use crate::vfs::{Descriptor, Fs};

/// The root, and a path relative to it: the form descriptors take.
fn below_root<'a>(fs: &Fs, path: &'a [u8]) -> (Descriptor, &'a [u8]) {
    let from = path
        .iter()
        .position(|byte| *byte != b'/')
        .unwrap_or(path.len());
    let relative = match path.get(from..).unwrap_or_default() {
        [] if path.is_empty() => path,
        [] => b".",
        relative => relative,
    };
    (Descriptor::host_root(fs), relative)
}
