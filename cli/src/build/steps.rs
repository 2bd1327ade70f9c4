//! The steps of a build: each line with its variables replaced and its names looked up.

use std::collections::BTreeMap;

use stratafs::image::ImageConfig;

use super::origins::Origin;
use crate::recipe::{ModeChange, Position};

/// One stage, ready to be built.
pub(super) struct StagePlan {
    /// Its name, or its number.
    pub(super) title: String,
    pub(super) at: Position,
    pub(super) text: String,
    pub(super) base: Origin,
    pub(super) steps: Vec<StepPlan>,
    /// What its image says in the end. The history is that of its base.
    pub(super) config: ImageConfig,
    /// What runs text, if something does.
    pub(super) shell: Option<Vec<String>>,
    /// What `ARG` declared: stages that begin with this one have it too.
    pub(super) args: BTreeMap<String, Option<String>>,
}

/// One step.
pub(super) struct StepPlan {
    pub(super) at: Position,
    /// As written.
    pub(super) text: String,
    /// What the history says of it.
    pub(super) said: String,
    pub(super) kind: StepKind,
}

/// What a step does.
pub(super) enum StepKind {
    /// It changes the configuration alone.
    Config,
    /// It makes a directory that is missing, for the user if one is named.
    Dir(String, Option<String>),
    Copy(Box<CopyPlan>),
    Run(Box<GuestPlan>),
}

/// `COPY` or `ADD`.
pub(super) struct CopyPlan {
    pub(super) is_add: bool,
    pub(super) from: Origin,
    pub(super) sources: Vec<String>,
    /// Here-documents, by name.
    pub(super) texts: Vec<(String, String)>,
    /// An absolute path.
    pub(super) to: String,
    pub(super) is_dir: bool,
    pub(super) owner: Option<String>,
    pub(super) mode: Option<ModeChange>,
    pub(super) excludes: Vec<String>,
    pub(super) parents: bool,
    pub(super) link: bool,
    pub(super) unpack: Option<bool>,
}

/// `RUN`.
pub(super) struct GuestPlan {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workdir: String,
    pub(super) mounts: Vec<MountPlan>,
    pub(super) no_network: bool,
}

/// One mount of a `RUN`.
pub(super) struct MountPlan {
    /// An absolute path, empty for a secret that is a variable alone.
    pub(super) target: String,
    pub(super) read_only: bool,
    pub(super) what: MountWhat,
}

/// What is mounted.
pub(super) enum MountWhat {
    Bind {
        from: Origin,
        source: String,
    },
    Cache {
        id: String,
        from: Option<(Origin, String)>,
        /// Whether one `RUN` at a time has it.
        locked: bool,
    },
    Tmpfs {
        /// Bytes that it may hold.
        size: Option<u64>,
    },
    Secret {
        id: String,
        variable: Option<String>,
    },
}
