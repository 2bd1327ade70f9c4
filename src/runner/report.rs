//! The results of a run.

use super::Outcome;
use crate::vfs::{Fs, Usage};

/// One instance: how long each step took, how it ended, what it held then.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstanceReport {
    /// Its number, from [`RunPlan::first_instance`](super::RunPlan::first_instance) on.
    pub instance: u32,
    /// Nanoseconds to make its file system from the shared base.
    pub fs_create_ns: u64,
    /// Nanoseconds to the guest's first instruction: `fs_create_ns`, store,
    /// and instantiation.
    pub start_ns: u64,
    /// Nanoseconds from there to the end.
    pub run_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// What the function gave that [`RunnerConfig::invoke`](super::RunnerConfig::invoke)
    /// asked for, as text; a line for each result of a core function.
    pub returned: Option<String>,
    /// What its file system held when it ended.
    pub usage: Usage,
    /// Of what it held then, the bytes that no other instance held:
    /// [`Fs::count_exclusive_bytes`].
    pub exclusive_bytes: u64,
}

/// A whole run.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// The instances, by number.
    pub instances: Vec<InstanceReport>,
    /// Their file systems, by number, as the guests left them; none unless
    /// [`RunPlan::keep_file_systems`](super::RunPlan::keep_file_systems) is set.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub file_systems: Vec<Fs>,
    /// The volumes, by name, in the order the plan first names them.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub volumes: Vec<(String, Fs)>,
}

impl RunReport {
    /// Returns the instances that did not exit with 0.
    pub fn failed(&self) -> impl Iterator<Item = &InstanceReport> {
        self.instances
            .iter()
            .filter(|instance| !instance.outcome.is_success())
    }
}
