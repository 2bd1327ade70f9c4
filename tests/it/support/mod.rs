//! What the tests share.

pub mod rust;
