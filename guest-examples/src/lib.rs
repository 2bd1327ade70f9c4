//! What the guests share: POSIX calls with errors as `errno` names, random
//! numbers and digests that come out the same on every machine.

pub mod check;
pub mod posix;
#[cfg(feature = "raw")]
pub mod preview1;
pub mod random;
pub mod tree;
