//! Images in registries: a client of OCI's distribution protocol, version 1.1, and of
//! Docker's before it.
//!
//! [`RegistryRef`] is a name as people type it. A [`Client`] has one set of options: it
//! fetches and sends manifests and blobs, checks credentials, lists tags and referrers. The
//! calls that move whole images are in [`transfer`](crate::transfer): `pull`, `push` and `copy`.
//!
//! Nothing that a registry says is trusted. Every body has a bound, every blob and every
//! manifest that has a digest is hashed while it is read, and no answer makes the client use
//! plain HTTP for a host that was to be reached by TLS. Credentials are sent to the host that
//! they are for and to the token server that it names, and never to the address of a
//! redirect. The client blocks the thread that calls it; the environment is not read.
//!
//! ```no_run
//! use stratafs::registry::{Client, ClientOptions, RegistryRef};
//!
//! let name: RegistryRef = "localhost:5000/tools/python:3".parse()?;
//! let client = Client::new(ClientOptions::default())?;
//! println!("{}", client.manifest(&name)?.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod auth_file;
mod challenge;
mod client;
mod download;
mod error;
mod helper;
mod hosts;
mod http;
mod name;
mod options;
mod referrers;
mod retry;
mod signature;
mod uplink;
mod upload;
mod url;
mod verify;

pub use auth_file::AuthFile;
pub(crate) use client::HostsAsked;
pub use client::{Client, Manifest};
pub use download::BlobTarget;
pub use error::{RegistryError, RegistryErrorKind};
#[cfg(feature = "object")]
pub(crate) use http::Http;
#[cfg(feature = "object")]
pub(crate) use name::is_loopback;
pub use name::{ParseRegistryRefError, RegistryRef};
pub use options::{ClientOptions, Credential, Credentials, NoCredentials, Proxies};
pub use referrers::Referrer;
pub(crate) use referrers::with_referrer;
#[cfg(feature = "object")]
pub(crate) use retry::retry_after;
pub use signature::{VerifyKey, VerifyKeyError};
pub use upload::{BlobBytes, Sent};
