//! How a program of an image is to be started, and where the image is from.

use std::collections::BTreeMap;

/// The configuration of an image, in the words of OCI's image specification.
///
/// Plain data: nothing here is checked, and what a runner cannot do it says
/// itself. Everything is absent by default.
///
/// ```
/// use stratafs::image::{HistoryEntry, ImageConfig};
///
/// let mut config = ImageConfig::new();
/// config.entrypoint = Some(vec!["/bin/app.wasm".into()]);
/// config.env.push("MODE=test".into());
/// config.history.push(HistoryEntry::by("COPY app.wasm /bin/app.wasm"));
/// assert_eq!(config.cmd, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "store", serde(default))]
#[non_exhaustive]
pub struct ImageConfig {
    /// When the image was made, as RFC 3339 has it.
    pub created: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Operating system that it is for; `wasip1` and the like for guests.
    pub os: Option<String>,
    /// Processor that it is for; `wasm` for guests.
    pub architecture: Option<String>,
    /// Variant of the processor.
    pub variant: Option<String>,
    /// The program with its first arguments. `None` differs from none.
    pub entrypoint: Option<Vec<String>>,
    /// Arguments that a caller's own replace, or the program if there is no
    /// entry point.
    pub cmd: Option<Vec<String>>,
    /// Environment, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// Directory to start in.
    pub working_dir: Option<String>,
    /// User, and group after a colon, to run as.
    pub user: Option<String>,
    /// Signal that ends it.
    pub stop_signal: Option<String>,
    /// Ports that it listens on, such as `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories that are meant for data of their own.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How the image came about, the oldest step first.
    pub history: Vec<HistoryEntry>,
}

/// One step in the history of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "store", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "store", serde(default))]
#[non_exhaustive]
pub struct HistoryEntry {
    /// When, as RFC 3339 has it.
    pub created: Option<String>,
    /// The command that did it.
    pub created_by: Option<String>,
    /// Who did it.
    pub author: Option<String>,
    /// What it was for.
    pub comment: Option<String>,
    /// Whether it changed the configuration only and has no layer.
    pub empty_layer: bool,
}

impl ImageConfig {
    /// Makes a configuration that says nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl HistoryEntry {
    /// Makes a step that says what did it.
    #[must_use]
    pub fn by(command: impl Into<String>) -> Self {
        Self {
            created_by: Some(command.into()),
            ..Self::default()
        }
    }
}
