//! How a client speaks to registries.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::RegistryError;
use crate::limits::UPLOAD_CHUNK_BYTES;

/// The settings of a client. The default: TLS with Mozilla's roots, no credentials, no proxy,
/// five tries.
///
/// ```
/// use std::sync::Arc;
/// use stratafs::registry::{AuthFile, Client, ClientOptions};
///
/// # let dir = tempfile::tempdir()?;
/// # let home = dir.path();
/// let options = ClientOptions {
///     credentials: Arc::new(AuthFile::new(home.join(".docker/config.json"))),
///     hosts_dirs: vec!["/etc/containerd/certs.d".into()], // mirrors
///     tries: 2,
///     ..ClientOptions::default()
/// };
/// let client = Client::new(options)?; // connects to nobody yet
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    /// Speak plain HTTP to every registry. Default: to this machine alone.
    pub plain_http: bool,
    /// The root certificates to trust, in DER or PEM. Default: none, which means Mozilla's,
    /// which are built in.
    pub roots: Vec<Vec<u8>>,
    /// Which proxies are used. Default: none.
    pub proxies: Proxies,
    /// Where credentials come from. Default: there are none.
    pub credentials: Arc<dyn Credentials>,
    /// Directories with `HOST/hosts.toml`, which name mirrors, as containerd reads them. The
    /// first directory that has a file for a host is used. Default: none.
    pub hosts_dirs: Vec<PathBuf>,
    /// How often a request is retried that may succeed the next time. Default: 5. A transfer
    /// that has made progress has as many retries again.
    pub tries: u32,
    /// The first pause between two tries; later ones are longer, up to ten seconds, and all
    /// are spread at random. Default: 200 ms.
    pub first_pause: Duration,
    /// How long a transfer may make no progress. Default: 30 s.
    pub stall: Duration,
    /// Bytes of a blob that are sent at once, unless the registry wants more. Default:
    /// [`UPLOAD_CHUNK_BYTES`].
    pub upload_chunk: u64,
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions")
            .field("plain_http", &self.plain_http)
            .field("roots", &self.roots.len())
            .field("hosts_dirs", &self.hosts_dirs)
            .field("tries", &self.tries)
            .field("stall", &self.stall)
            .finish_non_exhaustive()
    }
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            plain_http: false,
            roots: Vec::new(),
            proxies: Proxies::default(),
            credentials: Arc::new(NoCredentials),
            hosts_dirs: Vec::new(),
            tries: 5,
            first_pause: Duration::from_millis(200),
            stall: Duration::from_secs(30),
            upload_chunk: UPLOAD_CHUNK_BYTES,
        }
    }
}

/// Which proxy is used for which address: `http://[USER:PASSWORD@]HOST:PORT`. Requests to
/// this machine never use one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `https` addresses.
    pub https: Option<String>,
    /// For `http` addresses.
    pub http: Option<String>,
    /// Hosts that are reached without a proxy: names, `.suffixes`, `*`, with commas between
    /// them.
    pub except: Option<String>,
}

/// The credentials for a registry.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, which a token server takes in place of them.
    Identity(String),
    /// A token for the registry itself.
    Bearer(String),
}

impl Credential {
    /// Puts a name and a password together.
    #[must_use]
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        }
    }
}

impl fmt::Debug for Credential {
    /// Shows who, never the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { user, .. } => write!(f, "Basic({user})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

/// A source of credentials.
pub trait Credentials: Send + Sync {
    /// Returns the credentials for a repository at `host` (with its port, `docker.io` for
    /// Docker's); `None` to use none. Called once for each host and repository.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Credentials`](super::RegistryErrorKind::Credentials).
    fn find(&self, host: &str, repository: &str) -> Result<Option<Credential>, RegistryError>;
}

/// Knows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCredentials;

impl Credentials for NoCredentials {
    fn find(&self, _: &str, _: &str) -> Result<Option<Credential>, RegistryError> {
        Ok(None)
    }
}
