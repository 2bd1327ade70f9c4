//! The figures of one run, as `--stats` writes them.

use serde::Serialize;

use super::{Resident, Spread, Summary};
use crate::image::ImageStats;
use crate::runner::{Allocator, CacheUse, InstanceReport, RunReport, Runner};

/// All figures of one run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunFigures {
    /// How many instances ran.
    pub instances: u64,
    /// How many at a time.
    pub threads: u64,
    /// How many did not exit with 0.
    pub failed: u64,
    /// What they shared.
    pub base: BaseFigures,
    /// To make one instance's file system from the shared base.
    pub fs_create_ns: Summary,
    /// To an instance's first instruction: file system, store, instantiation.
    pub start_ns: Summary,
    /// From there to its end.
    pub run_ns: Summary,
    /// What the instances changed.
    pub overlay: OverlayFigures,
    /// The most bytes of files that were in the file of `--spill` at a time.
    pub spilled_bytes: u64,
    /// Resident memory around the run.
    pub rss_bytes: Resident,
    /// `pooling`, or `on-demand: ` and why.
    pub allocator: String,
    /// How compiled code was come by: `hit`, `miss`, `off`, or `off: ` and why.
    pub cache: String,
}

/// What the instances of a run share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BaseFigures {
    /// Layers in the stack.
    pub layers: u64,
    /// Files that the merged tree has, a hard-linked one once.
    pub files: u64,
    /// Directories, the root included.
    pub dirs: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The sizes of all files, holes included.
    pub logical_bytes: u64,
    /// The bytes that the files' chunks take, equal ones once.
    pub stored_bytes: u64,
}

/// What the instances of a run changed, each as it was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OverlayFigures {
    /// Bytes that only one instance holds, per instance.
    pub private_bytes: Spread,
    /// Bytes held once for several instances.
    pub shared_bytes: u64,
    /// Bytes that the overlays would hold with no sharing.
    pub logical_bytes: u64,
}

impl From<ImageStats> for BaseFigures {
    fn from(stats: ImageStats) -> Self {
        Self {
            layers: stats.layers as u64,
            files: stats.files,
            dirs: stats.dirs,
            symlinks: stats.symlinks,
            logical_bytes: stats.logical_bytes,
            stored_bytes: stats.stored_bytes,
        }
    }
}

impl RunFigures {
    /// Sums up a run.
    #[must_use]
    pub fn new(runner: &Runner, base: ImageStats, report: &RunReport, rss_bytes: Resident) -> Self {
        let of =
            |figure: fn(&InstanceReport) -> u64| Summary::of(report.instances.iter().map(figure));
        Self {
            instances: report.instances.len() as u64,
            threads: u64::from(runner.threads()),
            failed: report.failed().count() as u64,
            base: base.into(),
            fs_create_ns: of(|instance| instance.fs_create_ns),
            start_ns: of(|instance| instance.start_ns),
            run_ns: of(|instance| instance.run_ns),
            overlay: OverlayFigures::of(report),
            spilled_bytes: 0,
            rss_bytes,
            allocator: match runner.allocator() {
                Allocator::Pooling => "pooling".to_owned(),
                Allocator::OnDemand { reason } => format!("on-demand: {reason}"),
            },
            cache: match runner.cache() {
                CacheUse::Hit => "hit".to_owned(),
                CacheUse::Miss => "miss".to_owned(),
                CacheUse::Off { reason: None } => "off".to_owned(),
                CacheUse::Off {
                    reason: Some(reason),
                } => format!("off: {reason}"),
            },
        }
    }
}

impl OverlayFigures {
    fn of(report: &RunReport) -> Self {
        let (mut held, mut logical) = (0_u64, 0_u64);
        for one in &report.instances {
            held = held.saturating_add(one.usage.private_bytes);
            logical = logical.saturating_add(one.usage.logical_bytes);
        }
        let alone = report.instances.iter().map(|one| one.exclusive_bytes);
        let alone: Vec<u64> = alone.collect();
        Self {
            // What is held is either somebody's alone or shared.
            shared_bytes: held.saturating_sub(alone.iter().sum()),
            private_bytes: Spread::of(alone),
            logical_bytes: logical,
        }
    }
}
