//! What the guests share: POSIX calls with errors as `errno` names, random
//! numbers and digests that come out the same on every machine.

pub mod check;
#[cfg(not(feature = "three"))]
pub mod posix;
#[cfg(feature = "three")]
#[path = "posix3.rs"]
pub mod posix;
#[cfg(feature = "raw")]
pub mod preview1;
pub mod random;
pub mod soak;
#[cfg(feature = "three")]
pub mod three;
pub mod tree;

/// Makes a command of a program with a `main` where that takes more than a
/// `main`: for WASI 0.3 (feature `three`).
#[cfg(not(feature = "three"))]
#[macro_export]
macro_rules! command {
    ($main:path) => {};
}
