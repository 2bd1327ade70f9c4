//! The file system for the program that embeds it: std-like calls on
//! [`Fs`], usable while a guest runs.
//!
//! Paths are bytes separated by `/`, on every platform. `/x` and `x` both mean
//! `x` below the root; `..` and links, absolute ones too, resolve in the
//! instance as in a chroot. Errors name the operation and the path.
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
//! # Ok::<(), stratafs::host::Error>(())
//! ```

#[cfg(any(feature = "dir", feature = "tar"))]
mod copy;
mod error;
mod file;
mod list;
mod names;
#[cfg(feature = "dir")]
mod unpack;
mod whole;

#[cfg(any(feature = "dir", feature = "tar"))]
pub use copy::CopyError;
pub use error::Error;
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
