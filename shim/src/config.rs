//! The configuration of the shim: a file that containerd's environment names, or the usual one.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::limits::MAX_CONFIG_BYTES;
use crate::log::{LogFormat, LogLevel};
use crate::reach::RegistryConfig;

/// The environment variable that names the file.
pub const CONFIG_VARIABLE: &str = "STRATAFS_SHIM_CONFIG";

/// The file that is read if it is there and none is named.
pub const USUAL_CONFIG: &str = "/etc/stratafs/shim.toml";

/// How the shim runs containers.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShimConfig {
    /// Which containers share a process.
    pub isolation: Isolation,
    /// Which network guests have.
    pub network: NetworkMode,
    /// Where the sockets lie.
    pub socket_dir: PathBuf,
    /// Where compiled programs are kept; empty for nowhere.
    pub cache_dir: PathBuf,
    /// Bytes of memories and tables of a container whose spec has no limit of memory.
    pub max_memory: u64,
    /// Bytes that a container may hold in files that it wrote; the limit of its spec holds
    /// where it is less.
    pub max_file_bytes: u64,
    /// Bytes of the content of a root file system.
    pub max_root_bytes: u64,
    /// Whether roots that containerd unpacked are refused, and with them all that the snapshotter did
    /// not hold to be signed.
    pub only_stored: bool,
    /// Where figures and health are answered by HTTP; empty for nowhere.
    pub metrics_address: String,
    /// How lines of the log look.
    pub log_format: LogFormat,
    /// Which lines of the log are written.
    pub log_level: LogLevel,
    /// How registries are reached, for content that is not on the node when it is read.
    pub registry: RegistryConfig,
}

/// Which containers share a process.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// All of a namespace of containerd.
    #[default]
    Node,
    /// Those of a pod; a container of no pod has its own.
    Pod,
}

/// Which network guests have.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// That of their pod, or of their own spec if they are in none.
    #[default]
    Pod,
    /// None, whatever their pod has.
    None,
}

impl Default for ShimConfig {
    fn default() -> Self {
        Self {
            isolation: Isolation::Node,
            network: NetworkMode::Pod,
            socket_dir: "/run/stratafs/shim".into(),
            cache_dir: "/var/cache/stratafs/shim".into(),
            max_memory: 4 << 30,
            max_file_bytes: 1 << 30,
            max_root_bytes: 4 << 30,
            only_stored: false,
            metrics_address: String::new(),
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
            registry: RegistryConfig::default(),
        }
    }
}

impl ShimConfig {
    /// Reads the file that is named, or the usual one if there is one.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn load(named: Option<&Path>) -> Result<Self, String> {
        let path = named.unwrap_or(Path::new(USUAL_CONFIG));
        let said = |error: &dyn std::fmt::Display| {
            let text = error.to_string();
            format!("{}: {}", path.display(), text.trim().replace('\n', " "))
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(said(&error)),
        };
        let mut text = String::new();
        let read = file.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text);
        if read.map_err(|error| said(&error))? as u64 > MAX_CONFIG_BYTES {
            return Err(said(&format!("more than {MAX_CONFIG_BYTES} bytes")));
        }
        let config: Self = toml::from_str(&text).map_err(|error| said(&error))?;
        for dir in [&config.socket_dir, &config.cache_dir] {
            if !dir.is_absolute() && !dir.as_os_str().is_empty() {
                return Err(said(&format!("{} is no absolute path", dir.display())));
            }
        }
        config.registry.check().map_err(|error| said(&error))?;
        if config.metrics_address.is_empty() {
            return Ok(config);
        }
        if let Err(error) = config.metrics_address.parse::<SocketAddr>() {
            let address = &config.metrics_address;
            return Err(said(&format!(
                "metrics-address {address:?}: {error}: expected an address and a port"
            )));
        }
        if config.isolation == Isolation::Pod {
            return Err(said(
                &"metrics-address: one process for all pods can answer there: expected isolation = \"node\"",
            ));
        }
        Ok(config)
    }

    /// Returns where compiled programs are kept.
    #[must_use]
    pub fn cache_dir(&self) -> Option<&Path> {
        (!self.cache_dir.as_os_str().is_empty()).then_some(&self.cache_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ShimConfig, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shim.toml");
        std::fs::write(&path, text).unwrap();
        let read = ShimConfig::load(Some(&path));
        read.map_err(|error| error.replace(&format!("{}: ", path.display()), ""))
    }

    #[test]
    fn a_file_says_what_is_not_as_usual() {
        assert_eq!(read(""), Ok(ShimConfig::default()));
        let config =
            read("isolation = \"pod\"\nmax-memory = 1000\ncache-dir = \"\"\nonly-stored = true\nnetwork = \"none\"\n")
                .unwrap();
        assert_eq!(config.network, NetworkMode::None);
        assert!(config.only_stored && !ShimConfig::default().only_stored);
        assert_eq!(
            (config.isolation, config.max_memory),
            (Isolation::Pod, 1000)
        );
        assert_eq!(config.cache_dir(), None);
        let text =
            "metrics-address = \"127.0.0.1:9464\"\nlog-format = \"json\"\nlog-level = \"info\"\n";
        let table = "[registry]\nca = [\"/ca.pem\"]\nplain-http = true\nhosts-dir = [\"/hosts\"]\nauth-file = [\"/auth.json\"]\n";
        let registry = RegistryConfig {
            ca: vec!["/ca.pem".into()],
            plain_http: true,
            hosts_dir: vec!["/hosts".into()],
            auth_file: vec!["/auth.json".into()],
        };
        assert_eq!(read(table).unwrap().registry, registry);
        let config = read(text).unwrap();
        assert_eq!(config.metrics_address, "127.0.0.1:9464");
        assert_eq!(
            (config.log_format, config.log_level),
            (LogFormat::Json, LogLevel::Info)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_name() {
        assert!(
            read("isolatoin = \"pod\"")
                .unwrap_err()
                .contains("isolatoin")
        );
        assert!(read("isolation = \"vm\"").unwrap_err().contains("vm"));
        assert!(read("network = \"host\"").unwrap_err().contains("host"));
        assert!(read("max-memory = -1").is_err());
        assert_eq!(
            read("socket-dir = \"run\""),
            Err("run is no absolute path".into())
        );
        for (table, words) in [
            ("plain_http = true", "plain_http"),
            ("hosts-dirs = []", "hosts-dirs"),
            ("ca = \"/ca.pem\"", "sequence"),
            (
                "ca = [\"ca.pem\"]",
                "registry.ca: ca.pem is no absolute path",
            ),
            (
                "auth-file = [\"a\"]",
                "registry.auth-file: a is no absolute",
            ),
        ] {
            let error = read(&format!("[registry]\n{table}")).unwrap_err();
            assert!(error.contains(words), "{table}: {error}");
        }
        let address = read("metrics-address = \"localhost\"").unwrap_err();
        assert!(address.contains("an address and a port"), "{address}");
        let pods = "isolation = \"pod\"\nmetrics-address = \"127.0.0.1:9464\"";
        assert!(read(pods).unwrap_err().contains("expected isolation"));
        assert!(read("log-level = \"loud\"").unwrap_err().contains("loud"));
        let long = "#".repeat(usize::try_from(MAX_CONFIG_BYTES).unwrap() + 1);
        assert_eq!(read(&long), Err("more than 65536 bytes".into()));
        assert!(ShimConfig::load(Some(Path::new("/nowhere/shim.toml"))).is_err());
    }
}
