//! The figures of one run, as `--stats` writes them.

use serde::Serialize;
use stratafs::image::ImageStats;
use stratafs::runner::{InstanceReport, RunReport, Runner};

use super::{Resident, Spread, Summary};

/// All figures of one run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub(crate) struct RunFigures {
    /// How many instances ran.
    pub(crate) instances: u64,
    /// How many at a time.
    pub(crate) threads: u64,
    /// How many did not exit with 0.
    pub(crate) failed: u64,
    /// What they shared.
    pub(crate) base: BaseFigures,
    /// To make one instance's file system from the shared base.
    pub(crate) fs_create_ns: Summary,
    /// To an instance's first instruction: file system, store, instantiation.
    pub(crate) start_ns: Summary,
    /// From there to its end.
    pub(crate) run_ns: Summary,
    /// What the instances changed.
    pub(crate) overlay: OverlayFigures,
    /// The most bytes of files that were in the file of `--spill` at a time.
    pub(crate) spilled_bytes: u64,
    /// Resident memory around the run.
    pub(crate) rss_bytes: Resident,
    /// `pooling`, or `on-demand: ` and why.
    pub(crate) allocator: String,
    /// How compiled code was obtained: `hit`, `miss`, `off`, or `off: ` and why.
    pub(crate) cache: String,
}

/// What the instances of a run share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct BaseFigures {
    /// Layers in the stack.
    pub(crate) layers: u64,
    /// Files that the merged tree has, a hard-linked one once.
    pub(crate) files: u64,
    /// Directories, the root included.
    pub(crate) dirs: u64,
    /// Symbolic links.
    pub(crate) symlinks: u64,
    /// The sizes of all files, holes included.
    pub(crate) logical_bytes: u64,
    /// The bytes that the files' chunks take, equal ones once.
    pub(crate) stored_bytes: u64,
}

/// What the instances of a run changed, each as it was when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub(crate) struct OverlayFigures {
    /// Bytes that only one instance holds, per instance.
    pub(crate) private_bytes: Spread,
    /// Bytes held once for several instances.
    pub(crate) shared_bytes: u64,
    /// Bytes that the overlays would hold with no sharing.
    pub(crate) logical_bytes: u64,
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
    pub(crate) fn new(
        runner: &Runner,
        base: ImageStats,
        report: &RunReport,
        rss_bytes: Resident,
    ) -> Self {
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
            allocator: runner.allocator().to_string(),
            cache: runner.cache().to_string(),
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
