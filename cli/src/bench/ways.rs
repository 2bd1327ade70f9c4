//! The ways to give each guest its own files, and two that do not.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stratafs::cap_std::ambient_authority;
use stratafs::cap_std::fs::Dir;
use stratafs::image::Image;
use stratafs::runner::{HostDir, RunPlan};
use stratafs::vfs::{Fs, Rights};

use super::mount::OverlayMount;
use super::work::{WorkDir, taken};
use super::{as_nanos, copy};
use crate::failure::Failure;
use crate::report::{Absent, Files};
use crate::resolve;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Strata,
    Copied,
    Mounted,
    Shared,
    Nothing,
}

/// The ways that this machine allows, with what each needed once.
pub(super) struct Ways {
    pub(super) ready: Vec<(Way, u64)>,
    pub(super) absent: Vec<Absent>,
}

/// What one instance was given and keeps.
pub(super) enum InstanceFiles {
    Nothing,
    /// Files of this process: known once the instance has run.
    Memory,
    Dir(PathBuf),
    Mount(OverlayMount),
}

/// The base as a directory, never written.
const BASE: &str = "base";

/// The copy that all instances of [`Way::Shared`] write.
const SHARED: &str = "shared";

impl Ways {
    /// Lays out the base as a directory for those that need one, and tries
    /// whether the kernel mounts an overlay for us. `read` is what making the
    /// image took.
    pub(super) fn set_up(image: &Image, work: &WorkDir, read: Duration) -> Result<Self, Failure> {
        let begin = Instant::now();
        let base = work.path(BASE);
        fs::create_dir(&base).map_err(|error| Failure::at(&base, error))?;
        let dir = Dir::open_ambient_dir(&base, ambient_authority())
            .map_err(|error| Failure::at(&base, error))?;
        Fs::new(image).export_dir("/", &dir)?;
        let laid_out = as_nanos(begin.elapsed());
        let shared = work.path(SHARED);
        copy::copy(&base, &shared).map_err(|error| Failure::at(&shared, error))?;
        let mut ways = Self {
            ready: vec![(Way::Strata, as_nanos(read)), (Way::Copied, laid_out)],
            absent: Vec::new(),
        };
        match OverlayMount::new(&base, work.path("try")).and_then(OverlayMount::remove) {
            Ok(()) => ways.ready.push((Way::Mounted, laid_out)),
            Err(error) => {
                let name = Way::Mounted.name();
                ways.absent.push(Absent::new(name, error.to_string()));
            }
        }
        ways.ready
            .extend([(Way::Shared, laid_out), (Way::Nothing, 0)]);
        Ok(ways)
    }
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Strata => "stratafs",
            Self::Copied => "copied directory",
            Self::Mounted => "kernel overlay mount",
            Self::Shared => "shared directory",
            Self::Nothing => "no file system",
        }
    }

    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Strata => "an overlay in this process over one base",
            Self::Copied => "the base copied, served by wasmtime-wasi",
            Self::Mounted => "overlayfs mounted, served by wasmtime-wasi; needs root",
            Self::Shared => "one host directory for all, unsafe: the lower bound of host files",
            Self::Nothing => "no files at all: the floor",
        }
    }

    pub(super) fn files(self) -> Files {
        match self {
            Self::Strata | Self::Copied | Self::Mounted => Files::Private,
            Self::Shared => Files::Shared,
            Self::Nothing => Files::None,
        }
    }

    /// Makes an instance its files, and the plan that shows them to it.
    pub(super) fn prepare(
        self,
        work: &WorkDir,
        number: u32,
        plan: &RunPlan,
    ) -> io::Result<(RunPlan, InstanceFiles)> {
        let mut plan = plan.clone();
        let own = || work.path(&format!("{number}-{self:?}"));
        let kept = match self {
            Self::Strata => {
                plan.preopens = vec![resolve::root()];
                InstanceFiles::Memory
            }
            Self::Copied => {
                copy::copy(&work.path(BASE), &own())?;
                InstanceFiles::Dir(own())
            }
            Self::Mounted => InstanceFiles::Mount(OverlayMount::new(&work.path(BASE), own())?),
            Self::Shared | Self::Nothing => InstanceFiles::Nothing,
        };
        let dir = match &kept {
            InstanceFiles::Dir(dir) => Some(dir.clone()),
            InstanceFiles::Mount(mount) => Some(mount.merged()),
            InstanceFiles::Nothing if self == Self::Shared => Some(work.path(SHARED)),
            InstanceFiles::Nothing | InstanceFiles::Memory => None,
        };
        plan.host_dirs.extend(dir.map(|dir| HostDir {
            dir,
            guest: "/".to_owned(),
            rights: Rights::ReadWrite,
        }));
        Ok((plan, kept))
    }
}

impl InstanceFiles {
    /// What it takes outside this process.
    pub(super) fn files_bytes(&self) -> io::Result<u64> {
        match self {
            Self::Nothing | Self::Memory => Ok(0),
            Self::Dir(dir) => taken(dir),
            Self::Mount(mount) => taken(&mount.upper()),
        }
    }

    /// Takes it away.
    pub(super) fn remove(self) -> io::Result<()> {
        match self {
            Self::Nothing | Self::Memory => Ok(()),
            Self::Dir(dir) => fs::remove_dir_all(dir),
            Self::Mount(mount) => mount.remove(),
        }
    }
}
