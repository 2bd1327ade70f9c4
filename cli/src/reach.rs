//! How registries are reached: what was typed, the environment, and the files of the
//! machine and its user.

use std::borrow::Cow;
use std::env;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use clap::{Args, ValueEnum};
use stratafs::image::Reference;
use stratafs::object::{Bucket, BucketOptions, ObjectHome, ObjectRef, ParseObjectRefError};
use stratafs::registry::{
    AuthFile, Client, ClientOptions, Credentials, NoCredentials, ParseRegistryRefError, Proxies,
    RegistryRef, VerifyKey,
};
use stratafs::transfer::Origins;

use super::failure::Failure;
use super::limits::MAX_KEY_BYTES;

/// Where containerd and Docker keep what they know of registries.
const HOSTS_DIRS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// What names of variables begin with that object stores and their keys are known by.
const BUCKET_SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// How registries are reached.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ReachArgs {
    /// Use plain HTTP for the registry; for one on this machine it is used anyway, if that
    /// does not use TLS
    #[arg(long)]
    pub(crate) plain_http: bool,

    /// Trust the certificates in FILE (PEM or DER) as well as those of the system; repeat
    /// for several
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Vec<PathBuf>,

    /// Look for mirrors in DIR/HOST/hosts.toml, as containerd does [default:
    /// /etc/containerd/certs.d, /etc/docker/certs.d]
    #[arg(long, value_name = "DIR")]
    pub(crate) hosts_dir: Vec<PathBuf>,

    /// Files with credentials, in place of those that the environment leads to.
    #[arg(skip)]
    auth_files: Vec<PathBuf>,

    /// The client, once there is one: connections and tokens are used again.
    #[arg(skip)]
    made: OnceLock<Client>,
}

/// Whose images are taken from registries.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct VerifyArgs {
    /// Take the image only if it is signed, as `cosign sign --key` does, with the key whose
    /// public part is in FILE (PEM); nobody but the registry is asked. Repeat for several, of
    /// which one is enough
    #[arg(long, value_name = "FILE")]
    pub(crate) verify_key: Vec<PathBuf>,
}

impl VerifyArgs {
    /// Reads the keys.
    pub(crate) fn keys(&self) -> Result<Vec<VerifyKey>, Failure> {
        self.verify_key.iter().map(|file| key(file)).collect()
    }
}

/// Reads a public key.
pub(crate) fn key(file: &Path) -> Result<VerifyKey, Failure> {
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|opened| {
        let mut bounded = opened.take(MAX_KEY_BYTES + 1);
        bounded.read_to_end(&mut pem)
    });
    read.map_err(|error| Failure::at(file, error))?;
    if pem.len() as u64 > MAX_KEY_BYTES {
        let what = format!("a key has at most {MAX_KEY_BYTES} bytes");
        return Err(Failure::at(file, what));
    }
    VerifyKey::from_pem(&pem).map_err(|error| Failure::at(file, error))
}

/// When `run` asks a registry for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// If the store does not have it
    #[default]
    Missing,
    /// Each time; what has not changed is not fetched
    Always,
    /// Never
    Never,
}

/// When layers come that can be fetched in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LazyWhen {
    /// What is needed to start first, the rest while the guest runs or when it is read
    #[default]
    Auto,
    /// What is needed to start first, the rest when it is read
    Only,
    /// All before anything is run
    Off,
}

/// An image somewhere else: in a registry, or in an object store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemoteName {
    /// `HOST/NAME:TAG`.
    Registry(RegistryRef),
    /// `s3://BUCKET/NAME:TAG` and the like, or a path.
    Object(ObjectRef),
}

impl RemoteName {
    /// Returns whether a name of an image is that of one somewhere else.
    pub(crate) fn names(text: &str) -> bool {
        RegistryRef::names_registry(text) || ObjectRef::names_object_store(text)
    }

    /// Returns the name under which a store keeps the image.
    pub(crate) fn store_name(&self) -> Reference {
        match self {
            Self::Registry(name) => name.store_name(),
            Self::Object(name) => name.store_name(),
        }
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(name) => name.fmt(f),
            Self::Object(name) => name.fmt(f),
        }
    }
}

/// Returns the address of a folder that was named by its path; any other text as it is.
fn address(text: &str) -> Result<Cow<'_, str>, String> {
    if !text.starts_with(['/', '.']) {
        return Ok(text.into());
    }
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    let path = path.to_str().ok_or("a path of an image is in UTF-8")?;
    Ok(format!("file://{path}").into())
}

/// Reads a place in an object store, or the path of a folder that is one.
pub(crate) fn place(text: &str) -> Result<ObjectHome, String> {
    let home = address(text)?.parse();
    home.map_err(|error: ParseObjectRefError| error.to_string())
}

impl FromStr for RemoteName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = &*address(text)?;
        if ObjectRef::names_object_store(text) {
            let name = text.parse().map(Self::Object);
            return name.map_err(|error: ParseObjectRefError| error.to_string());
        }
        let name = text.parse().map(Self::Registry);
        name.map_err(|error: ParseRegistryRefError| error.to_string())
    }
}

impl ReachArgs {
    /// Returns whether anything was typed.
    pub(crate) fn is_given(&self) -> bool {
        self.plain_http || !self.ca.is_empty() || !self.hosts_dir.is_empty()
    }

    /// Takes credentials out of these files alone, if there are any. They are read when a registry asks.
    ///
    /// # Errors
    /// One of them cannot be read.
    #[cfg(target_os = "linux")] // as the snapshotter, which alone asks for it
    pub(crate) fn with_auth_files(mut self, files: Vec<PathBuf>) -> Result<Self, Failure> {
        for file in &files {
            // One that is not there would be a registry that lets nobody in.
            let _there = File::open(file).map_err(|error| Failure::at(file, error))?;
        }
        self.auth_files = files;
        Ok(self)
    }

    /// Makes a client of a place in an object store, with the keys that the environment has.
    pub(crate) fn bucket(&self, home: &ObjectHome) -> Result<Bucket, Failure> {
        Ok(Bucket::open(home, &self.bucket_options()?)?)
    }

    fn bucket_options(&self) -> Result<BucketOptions, Failure> {
        let known = |name: &str| BUCKET_SETTINGS.iter().any(|begin| name.starts_with(begin));
        let settings = env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            known(&name).then_some((name, value))
        });
        Ok(BucketOptions {
            settings: settings.collect(),
            http: self.options(Arc::new(NoCredentials))?,
        })
    }

    /// Makes what images are fetched with that were pulled in part.
    pub(crate) fn origins(&self) -> Result<Origins, Failure> {
        let origins = Origins::from(&self.client()?);
        Ok(origins.with_buckets(self.bucket_options()?))
    }

    /// Makes a client that logs in with what is known.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        if let Some(client) = self.made.get() {
            return Ok(client.clone());
        }
        let files = match self.auth_files.is_empty() {
            true => auth_files(),
            false => self.auth_files.iter().map(AuthFile::new).collect(),
        };
        let client = self.client_with(Arc::new(files))?;
        Ok(self.made.get_or_init(|| client).clone())
    }

    /// Makes a client that logs in with `credentials`.
    pub(crate) fn client_with(&self, credentials: Arc<dyn Credentials>) -> Result<Client, Failure> {
        Ok(Client::new(self.options(credentials)?)?)
    }

    fn options(&self, credentials: Arc<dyn Credentials>) -> Result<ClientOptions, Failure> {
        let dirs = match self.hosts_dir.is_empty() {
            true => HOSTS_DIRS.map(PathBuf::from).to_vec(),
            false => self.hosts_dir.clone(),
        };
        Ok(ClientOptions {
            plain_http: self.plain_http,
            roots: self.roots()?,
            proxies: proxies(),
            credentials,
            hosts_dirs: dirs,
            ..ClientOptions::default()
        })
    }

    /// Reads the roots that the system trusts, and those of `--ca`. None at all: those that
    /// are built in.
    fn roots(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let system = rustls_native_certs::load_native_certs();
        let asked = env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty());
        if let (Some(file), Some(error), true) =
            (asked, system.errors.first(), system.certs.is_empty())
        {
            let text = format!("SSL_CERT_FILE: {error}");
            return Err(Failure::at(Path::new(&file), text));
        }
        let mut roots: Vec<Vec<u8>> = system.certs.iter().map(|root| root.to_vec()).collect();
        for file in &self.ca {
            roots.push(std::fs::read(file).map_err(|error| Failure::at(file, error))?);
        }
        Ok(roots)
    }
}

/// Returns the variable of one of these names.
fn variable(names: &[&str]) -> Option<String> {
    let mut found = names.iter().filter_map(|name| env::var(name).ok());
    found.find(|value| !value.is_empty())
}

/// Reads which proxies the environment names, as curl does.
fn proxies() -> Proxies {
    let all = variable(&["ALL_PROXY", "all_proxy"]);
    Proxies {
        https: variable(&["HTTPS_PROXY", "https_proxy"]).or(all.clone()),
        http: variable(&["HTTP_PROXY", "http_proxy"]).or(all),
        except: variable(&["NO_PROXY", "no_proxy"]),
    }
}

/// Returns the files that may have credentials, in the order in which they are looked in:
/// `REGISTRY_AUTH_FILE`, Docker's `config.json`, podman's `auth.json`.
pub(crate) fn auth_files() -> Vec<AuthFile> {
    let named = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let home = env::home_dir();
    let below = |dir: &Option<PathBuf>, name: &str| dir.as_ref().map(|dir| dir.join(name));
    let docker = named("DOCKER_CONFIG").or(below(&home, ".docker"));
    let config = named("XDG_CONFIG_HOME").or(below(&home, ".config"));
    let all = [
        named("REGISTRY_AUTH_FILE"),
        below(&docker, "config.json"),
        below(&named("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(&config, "containers/auth.json"),
    ];
    all.into_iter().flatten().map(AuthFile::new).collect()
}
