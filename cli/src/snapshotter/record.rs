//! What is kept of a snapshot.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tonic::Status;

use super::proto::{Info, Timestamp};
use crate::limits::{MAX_LABEL_BYTES, MAX_SNAPSHOT_KEY_BYTES, MAX_SNAPSHOT_LABELS};

/// The label of what is to be committed under a name that is known from the beginning: a layer.
pub(super) const TARGET_LABEL: &str = "containerd.io/snapshot.ref";

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SnapshotKind {
    /// It is looked at.
    View = 1,
    /// It is written to.
    Active = 2,
    /// It does not change any more.
    Committed = 3,
}

impl SnapshotKind {
    /// Returns its name in filters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Active => "active",
            Self::Committed => "committed",
        }
    }
}

/// Where the files of a snapshot are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Body {
    /// In a directory of its own, over those of its parents.
    Dir,
    /// In an image of the store, which has the parents' files as well: its lowest `layers`.
    Stored {
        /// The digest of the image.
        image: String,
        /// How many of its layers.
        layers: usize,
        /// Bytes of the topmost of them, as the registry has it.
        bytes: u64,
    },
    /// For a container, over an image of the store: nothing is written to its directory.
    Over {
        /// The digest of the image.
        image: String,
    },
}

impl Body {
    /// Returns the image that it needs.
    pub(super) fn image(&self) -> Option<&str> {
        match self {
            Self::Dir => None,
            Self::Stored { image, .. } | Self::Over { image } => Some(image),
        }
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moment(i64, i32);

impl Moment {
    pub(super) fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self(seconds, i32::try_from(since.subsec_nanos()).unwrap_or(0))
    }

    fn timestamp(self) -> Timestamp {
        Timestamp {
            seconds: self.0,
            nanos: self.1,
        }
    }
}

/// What is kept of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// The name of its directory.
    pub(super) number: u64,
    pub(super) kind: SnapshotKind,
    /// The name of its parent, or nothing.
    pub(super) parent: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: Moment,
    pub(super) updated: Moment,
    pub(super) body: Body,
    /// Bytes and inodes of a directory that does not change any more.
    pub(super) usage: (u64, u64),
}

impl SnapshotRecord {
    /// Returns what is told of it.
    pub(super) fn info(&self, name: &str) -> Info {
        let labels: HashMap<_, _> = self.labels.clone().into_iter().collect();
        Info {
            name: name.to_owned(),
            parent: self.parent.clone(),
            kind: self.kind as i32,
            created_at: Some(self.created.timestamp()),
            updated_at: Some(self.updated.timestamp()),
            labels,
        }
    }
}

/// Refuses what can be no name of a snapshot. A name is never part of a path.
pub(super) fn check_key(what: &str, key: &str) -> Result<(), Status> {
    if key.is_empty() {
        return Err(Status::invalid_argument(format!("{what}: it is empty")));
    }
    if key.len() > MAX_SNAPSHOT_KEY_BYTES {
        let text = format!(
            "{what}: it has {} bytes, the limit is {MAX_SNAPSHOT_KEY_BYTES}",
            key.len()
        );
        return Err(Status::invalid_argument(text));
    }
    if key.contains('\0') {
        let text = format!("{what} {key:?}: there is a zero byte in it");
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// Takes labels over, if they are as containerd itself allows them.
pub(super) fn checked_labels(
    labels: HashMap<String, String>,
) -> Result<BTreeMap<String, String>, Status> {
    if labels.len() > MAX_SNAPSHOT_LABELS {
        let text = format!(
            "labels: {} of them, the limit is {MAX_SNAPSHOT_LABELS}",
            labels.len()
        );
        return Err(Status::invalid_argument(text));
    }
    for (key, value) in &labels {
        if key.is_empty() {
            return Err(Status::invalid_argument("labels: one has no name"));
        }
        if key.len() + value.len() > MAX_LABEL_BYTES {
            let shown: String = key.chars().take(40).collect();
            let text = format!(
                "labels: {shown:?} and its value have {} bytes, the limit is {MAX_LABEL_BYTES}",
                key.len() + value.len()
            );
            return Err(Status::invalid_argument(text));
        }
    }
    let given = labels.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(given.collect())
}
