//! Why a guest could not be frozen.

use crate::checkpoint::Refusal;
use crate::runner::RunnerError;

/// A guest could not be frozen, or a checkpoint not be made of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FreezeError {
    /// The guest, the plan or the machine does not allow the run.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The program, or the place where it stands, cannot be frozen.
    #[error("cannot freeze: {0}")]
    Refused(#[from] Refusal),
    /// Something is open that cannot be opened again.
    #[error("cannot freeze: descriptor {fd}: {reason}")]
    Files {
        /// The guest's number for it.
        fd: u32,
        /// What is open, and why it cannot be opened again.
        reason: String,
    },
    /// What the guest wrote cannot be made a layer.
    #[error("cannot freeze: {reason}")]
    Layer {
        /// What is wrong.
        reason: String,
    },
}

/// A checkpoint of an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is not what was written.
    #[error("the checkpoint is damaged: {reason}")]
    Damaged {
        /// What is wrong, and in which file.
        reason: String,
    },
    /// It was written by a newer version.
    #[error("the checkpoint has version {found}, this program knows {known}: prepare it again")]
    Version {
        /// What it says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// It needs what no engine here has.
    #[error(
        "the checkpoint needs the WebAssembly proposal {name:?}, which this program does not know: prepare it again, or run it with a newer version"
    )]
    Feature {
        /// The proposal.
        name: String,
    },
    /// What the guest had open, or was shown, is not there.
    #[error("the checkpoint: {reason}")]
    Reopen {
        /// What is missing.
        reason: String,
    },
    /// Its program cannot be read, or is not what was written.
    #[error(transparent)]
    Program(#[from] RunnerError),
    /// A file of it cannot be read.
    #[error("the checkpoint: {0}")]
    File(#[from] crate::error::Error),
}
