//! Images in object stores: S3, Google's and Azure's, a folder, and, to read, a web server.
//!
//! An [`ObjectHome`] is a place with images: a bucket and a prefix in it, or a folder. An
//! [`ObjectRef`] names an image there, `s3://BUCKET/PREFIX/NAME:TAG`. A [`Bucket`] reads and
//! writes; [`transfer`](crate::transfer) has `push_object` and `pull_object`. What lies there
//! is an image layout of OCI with a small document for each tag: docs/FORMAT.md.
//!
//! Blobs are written once, by their digests, and checked when they are read. A tag moves by
//! compare-and-swap: of two who move one at once, one is told. Nothing is listed to read an
//! image. What no tag leads to is removed by [`Bucket::collect`], which keeps out of the way
//! of those who push. The environment is not read: [`BucketOptions`] has what is in it.

mod backend;
mod bucket;
mod cloud;
mod collect;
mod connect;
mod error;
mod folder;
mod lease;
mod name;
mod web;

pub use bucket::{Bucket, BucketOptions};
pub use collect::Collected;
pub use error::{ObjectError, ObjectErrorKind};
pub use lease::Lease;
pub use name::{ObjectHome, ObjectRef, ParseObjectRefError};
