//! How registries are reached by which content comes that is not on the node: the table `[registry]` of
//! the configuration, and what it does not say out of the environment, which is containerd's.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use stratafs::registry::{AuthFile, ClientOptions, Proxies};

use crate::limits::MAX_ROOTS_BYTES;

/// Where containerd and Docker keep what they know of registries.
const HOSTS_DIRS: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];

/// The table `[registry]`: keys are named as the options of the command line are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RegistryConfig {
    /// Files with certificates that are trusted as well as those of the system, in PEM or DER.
    pub ca: Vec<PathBuf>,
    /// Whether all registries are spoken to without TLS. One of this machine is anyway, if it
    /// does not use TLS; a single one is by `server = "http://..."` in its `hosts.toml`.
    pub plain_http: bool,
    /// Directories with `HOST/hosts.toml`; empty for those of containerd and Docker.
    pub hosts_dir: Vec<PathBuf>,
    /// Files with credentials, as Docker's `config.json`; empty for those that the environment
    /// leads to.
    pub auth_file: Vec<PathBuf>,
}

impl RegistryConfig {
    /// Refuses what no file could be.
    ///
    /// # Errors
    /// The key and the path.
    pub fn check(&self) -> Result<(), String> {
        let lists = [
            ("ca", &self.ca),
            ("hosts-dir", &self.hosts_dir),
            ("auth-file", &self.auth_file),
        ];
        for (key, paths) in lists {
            if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
                let path = path.display();
                return Err(format!("registry.{key}: {path} is no absolute path"));
            }
        }
        Ok(())
    }

    /// Says how registries are reached, as the command line does. Files are read now, but for
    /// credentials and `hosts.toml`, which are read when a registry is asked.
    ///
    /// # Errors
    /// A file that is named and cannot be read, by its key.
    pub fn options(&self) -> Result<ClientOptions, String> {
        let system = rustls_native_certs::load_native_certs().certs;
        let mut roots: Vec<Vec<u8>> = system.iter().map(|root| root.to_vec()).collect();
        for file in &self.ca {
            let said = |error| format!("registry.ca: {}: {error}", file.display());
            roots.push(roots_in(file).map_err(said)?);
        }
        for file in &self.auth_file {
            let said = |error| format!("registry.auth-file: {}: {error}", file.display());
            // One that is named and is not there would be a registry that lets nobody in.
            let _there = File::open(file).map_err(said)?;
        }
        let hosts_dirs = match self.hosts_dir.is_empty() {
            true => HOSTS_DIRS.map(PathBuf::from).to_vec(),
            false => self.hosts_dir.clone(),
        };
        let auth_files = match self.auth_file.is_empty() {
            true => usual_auth_files(),
            false => self.auth_file.iter().map(AuthFile::new).collect(),
        };
        Ok(ClientOptions {
            plain_http: self.plain_http,
            roots,
            proxies: Proxies {
                https: variable(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
                http: variable(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]),
                except: variable(&["NO_PROXY", "no_proxy"]),
            },
            credentials: Arc::new(auth_files),
            hosts_dirs,
            ..ClientOptions::default()
        })
    }
}

fn roots_in(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut bounded = File::open(file)?.take(MAX_ROOTS_BYTES + 1);
    bounded.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ROOTS_BYTES {
        let text = format!("more than {MAX_ROOTS_BYTES} bytes");
        return Err(io::Error::other(text));
    }
    Ok(bytes)
}

/// Returns the variable of one of these names.
fn variable(names: &[&str]) -> Option<String> {
    let mut found = names.iter().filter_map(|name| env::var(name).ok());
    found.find(|value| !value.is_empty())
}

/// Returns the files that may have credentials, in the order in which they are looked in.
fn usual_auth_files() -> Vec<AuthFile> {
    let named = |name: &str| variable(&[name]).map(PathBuf::from);
    let docker = named("DOCKER_CONFIG").or_else(|| named("HOME").map(|home| home.join(".docker")));
    let all = [
        named("REGISTRY_AUTH_FILE"),
        docker.map(|dir| dir.join("config.json")),
    ];
    all.into_iter().flatten().map(AuthFile::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_says_is_what_a_client_goes_by() {
        let dir = tempfile::tempdir().unwrap();
        let (ca, auth) = (dir.path().join("ca.pem"), dir.path().join("auth.json"));
        let usual = RegistryConfig::default().options().unwrap();
        assert_eq!(usual.hosts_dirs, HOSTS_DIRS.map(PathBuf::from));
        assert!(!usual.plain_http);
        let config = RegistryConfig {
            ca: vec![ca.clone()],
            plain_http: true,
            hosts_dir: vec!["/hosts".into()],
            auth_file: vec![auth.clone()],
        };
        let missing = config.options().unwrap_err();
        assert!(missing.starts_with("registry.ca: "), "{missing}");
        std::fs::write(&ca, "a root").unwrap();
        let missing = config.options().unwrap_err();
        assert!(missing.starts_with("registry.auth-file: "), "{missing}");
        let text = r#"{"auths": {"registry.test": {"username": "me", "password": "secret"}}}"#;
        std::fs::write(&auth, text).unwrap();
        let options = config.options().unwrap();
        assert_eq!(options.roots.len(), usual.roots.len() + 1);
        assert_eq!(options.roots.last().unwrap(), b"a root");
        assert!(options.plain_http);
        assert_eq!(options.hosts_dirs, [PathBuf::from("/hosts")]);
        let found = options.credentials.find("registry.test", "team/app");
        assert_eq!(format!("{:?}", found.unwrap()), "Some(Basic(me))");
        let large = File::create(&ca).unwrap();
        large.set_len(MAX_ROOTS_BYTES + 1).unwrap();
        assert!(config.options().unwrap_err().contains("more than"));
    }
}
