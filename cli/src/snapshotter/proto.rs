//! The messages of containerd's snapshots service, by the numbers of its protocol
//! (`containerd.services.snapshots.v1`). Which snapshotter is meant is of no interest here: there is one.

use std::collections::HashMap;

use prost::Message;

/// A point in time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

/// An answer without content.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Nothing {}

/// Which fields are meant.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct FieldMask {
    #[prost(string, repeated, tag = "1")]
    pub(super) paths: Vec<String>,
}

/// What is to be mounted.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, tag = "3")]
    pub(super) target: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) options: Vec<String>,
}

/// Asks for a snapshot to write to, or to look at: `Prepare` and `View`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PrepareRequest {
    #[prost(string, tag = "2")]
    pub(super) key: String,
    #[prost(string, tag = "3")]
    pub(super) parent: String,
    #[prost(map = "string, string", tag = "4")]
    pub(super) labels: HashMap<String, String>,
}

/// The answer to `Prepare`, `View` and `Mounts`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MountsAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(super) mounts: Vec<Mount>,
}

/// Names a snapshot: `Mounts`, `Remove`, `Stat` and `Usage`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct KeyRequest {
    #[prost(string, tag = "2")]
    pub(super) key: String,
}

/// Asks for what was written to be kept under a name.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct CommitRequest {
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) key: String,
    #[prost(map = "string, string", tag = "4")]
    pub(super) labels: HashMap<String, String>,
}

/// What is known of a snapshot.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) parent: String,
    /// The number of a kind.
    #[prost(int32, tag = "3")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "4")]
    pub(super) created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "5")]
    pub(super) updated_at: Option<Timestamp>,
    #[prost(map = "string, string", tag = "6")]
    pub(super) labels: HashMap<String, String>,
}

/// The answer to `Stat` and `Update`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct InfoAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) info: Option<Info>,
}

/// Asks for labels to be changed.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct UpdateRequest {
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<Info>,
    #[prost(message, optional, tag = "3")]
    pub(super) update_mask: Option<FieldMask>,
}

/// Asks for all snapshots that one of the filters matches.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListRequest {
    #[prost(string, repeated, tag = "2")]
    pub(super) filters: Vec<String>,
}

/// A part of the answer to `List`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ListAnswer {
    #[prost(message, repeated, tag = "1")]
    pub(super) info: Vec<Info>,
}

/// The answer to `Usage`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct UsageAnswer {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
    #[prost(int64, tag = "2")]
    pub(super) inodes: i64,
}
