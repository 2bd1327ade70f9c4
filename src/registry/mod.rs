//! Images in registries: a client of OCI's distribution protocol, version 1.1, and of
//! Docker's before it.
//!
//! [`RegistryRef`] is a name as people type it. A [`Client`] knows one set of options: it
//! fetches manifests and blobs and sends them, logs in, lists tags and referrers. What
//! moves whole images is in [`transfer`](crate::transfer): `pull`, `push` and `copy`.
//!
//! Nothing that a registry says is taken on trust. Every body has a bound, every blob and
//! every manifest that has a digest is hashed while it is read, and no answer makes the
//! client speak to a host in plain text that was to be spoken to in secret. Credentials go
//! to the host that they are for, and to the token server that it names; never to where a
//! redirect leads. The client blocks the thread that calls it; the environment is not read.
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
mod retry;
mod uplink;
mod upload;
mod url;

pub use auth_file::AuthFile;
pub use client::{Client, Manifest, Referrer};
pub use download::BlobTarget;
pub use error::{RegistryError, RegistryErrorKind};
pub use name::{ParseRegistryRefError, RegistryRef};
pub use options::{ClientOptions, Credential, Credentials, NoCredentials, Proxies};
pub use upload::{BlobBytes, Sent};
