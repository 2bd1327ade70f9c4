//! What to run: everything about a run but the guest and the base.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use super::file_systems::check_volumes;
use super::{HostThreads, Network, RunControl, RunnerConfig, RunnerError, Stdio};
use crate::budget::Budget;
use crate::image::Image;
use crate::limits::{MAX_ARGUMENT_BYTES, MAX_SHOWN_DIRS};
use crate::vfs::{Quota, Rights, Rule, Share, VirtualClock};

/// The environment variable that tells a guest its number.
pub const INSTANCE_VARIABLE: &str = "STRATAFS_INSTANCE";

/// What each instance gets. The default is one instance with nothing: no
/// arguments, no environment, no directory, no input, no output.
///
/// ```
/// use stratafs::runner::{GuestDir, RunPlan, Stdio};
/// use stratafs::vfs::Rights;
///
/// let mut plan = RunPlan::default();
/// plan.args = vec!["tool".into(), "--check".into()];
/// plan.env = vec![("LANG".into(), "C".into())];
/// plan.preopens = vec![GuestDir { dir: "/srv".into(), guest: "/".into(), rights: Rights::ReadOnly }];
/// plan.instances = 10;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunPlan {
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// The guest's environment.
    pub env: Vec<(String, String)>,
    /// Adds [`INSTANCE_VARIABLE`] to it. Guests that count their variables are told
    /// apart by other means.
    pub tell_number: bool,
    /// The directory that a component starts in, and that `PWD` should name:
    /// preview1 has no way to say it, and a guest's libc starts in `/`.
    pub working_dir: Option<String>,
    /// Directories of the layered file system that the guest is shown.
    pub preopens: Vec<GuestDir>,
    /// Shows guests `/dev/null` and its kin and a `/tmp`, as [`Fs::furnish`](crate::vfs::Fs::furnish)
    /// does. The default: they have what the layers hold.
    pub furnished: bool,
    /// Directories of the host that the guest is shown beside those.
    pub host_dirs: Vec<HostDir>,
    /// What is done on each thread that reaches those, before it does. The runner is one with
    /// [`RunnerConfig::controllable`](super::RunnerConfig::controllable) or a timeout.
    pub host_threads: Option<HostThreads>,
    /// Writable trees that all instances of the run share.
    pub volumes: Vec<Volume>,
    /// What volumes start from, by name; the others are empty.
    pub volume_bases: Vec<(String, Image)>,
    /// What one volume may hold, whoever writes it; its descriptors are those
    /// of all instances together, and count in no instance's own quota.
    pub volume_quota: Quota,
    /// What single volumes may hold, by name, in place of [`volume_quota`](Self::volume_quota).
    pub volume_quotas: Vec<(String, Quota)>,
    /// Volumes, by name, in which every change of a guest fails with `EROFS`.
    pub read_only_volumes: Vec<String>,
    /// Files that guests may read and that are no part of the file system: what it holds
    /// under their paths is in its diff, empty if there was nothing.
    pub files: Vec<GivenFile>,
    /// Clocks count their readings and random numbers follow from the
    /// instance's number, so that two runs leave the same bytes. A volume's
    /// content depends on which of several threads comes first all the same.
    pub deterministic: bool,
    /// Where the wall clock of a [deterministic](Self::deterministic) run starts, in nanoseconds
    /// since 1970. Default: [`VirtualClock::START_NANOS`]. A run that goes on from a checkpoint
    /// starts no earlier than where that stopped.
    pub clock_start: u64,
    /// Where wall clocks start that would read less otherwise: a guest that was frozen has
    /// read this already.
    #[cfg(feature = "freeze")]
    pub(super) wall_from: Option<u64>,
    /// Each instance's file system has a [`Trace`](crate::vfs::Trace).
    pub trace: bool,
    /// What one instance may hold.
    pub quota: Quota,
    /// Stops an instance whose memories and tables together grow past this many bytes,
    /// where that is less than [`RunnerConfig::max_memory`](super::RunnerConfig::max_memory)
    /// says.
    pub max_memory: Option<u64>,
    /// Bounds the handles that a component has at a time, such as files, sockets and streams: one that
    /// asks for more ends. A connection takes one to five. `None`, the default: 100,000.
    /// Descriptors of core modules are bounded by [`quota`](Self::quota) alone.
    pub max_handles: Option<u32>,
    /// What guests of this run may reach of the network, in place of
    /// [`RunnerConfig::network`](super::RunnerConfig::network). The runner is one with
    /// [`RunnerConfig::network_of_plan`](super::RunnerConfig::network_of_plan).
    pub network: Option<Network>,
    /// Pauses and stops the instances of the run from outside. The runner is one with
    /// [`RunnerConfig::controllable`](super::RunnerConfig::controllable).
    pub control: Option<RunControl>,
    /// Bounds what all instances and volumes of the run hold together; a host
    /// may give several runs the same budget. `None`, the default: nothing
    /// bounds them together, and N instances may hold N times their quota.
    pub budget: Option<Budget>,
    /// Among whom equal blocks that instances write are held once. With a scope all
    /// instances of the run share, and those of other runs with the same one.
    /// Volumes keep to themselves.
    pub share: Share,
    /// Keeps each instance's file system until the report is dropped, in
    /// [`RunReport::file_systems`](super::RunReport::file_systems). Without it what
    /// an instance wrote is freed when the instance ends.
    pub keep_file_systems: bool,
    /// [`Rights::ReadOnly`]: every change fails with `EROFS`.
    pub rights: Rights,
    /// Rules for paths of each instance's file system, made in this order before its guest starts;
    /// see [`Fs::set_rule`](crate::vfs::Fs::set_rule), also for what they cost. A path that is not there is an error.
    pub rules: Vec<(String, Rule)>,
    /// How many instances; at least one runs.
    pub instances: u32,
    /// The number of the first instance; the others count on from it.
    pub first_instance: u32,
    /// The standard streams.
    pub stdio: Stdio,
}

impl Default for RunPlan {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            env: Vec::new(),
            tell_number: true,
            working_dir: None,
            preopens: Vec::new(),
            furnished: false,
            host_dirs: Vec::new(),
            host_threads: None,
            volumes: Vec::new(),
            volume_bases: Vec::new(),
            volume_quota: Quota::default(),
            volume_quotas: Vec::new(),
            read_only_volumes: Vec::new(),
            files: Vec::new(),
            deterministic: false,
            clock_start: VirtualClock::START_NANOS,
            #[cfg(feature = "freeze")]
            wall_from: None,
            trace: false,
            quota: Quota::default(),
            max_memory: None,
            max_handles: None,
            network: None,
            control: None,
            budget: None,
            share: Share::default(),
            keep_file_systems: false,
            rights: Rights::ReadWrite,
            rules: Vec::new(),
            instances: 1,
            first_instance: 0,
            stdio: Stdio::Null,
        }
    }
}

/// A directory of the layered file system, and what the guest calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDir {
    /// Where it lies, from the root of the file system.
    pub dir: String,
    /// The guest's name for it.
    pub guest: String,
    /// Whether the guest may change what is below.
    pub rights: Rights,
}

/// A virtual file provided by the host that guests may read, such as a secret. Its bytes are
/// in no diff, and `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenFile {
    /// Where it lies, from the root of the file system.
    pub path: String,
    /// Its bytes: [`MAX_VIRTUAL_BYTES`](crate::limits::MAX_VIRTUAL_BYTES) at most.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for GivenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GivenFile({:?}, {} bytes)", self.path, self.bytes.len())
    }
}

/// A directory of the host, and what the guest calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDir {
    /// The host's path.
    pub dir: PathBuf,
    /// The guest's name for it.
    pub guest: String,
    /// Whether the guest may change what is below.
    pub rights: Rights,
}

/// A writable tree that all instances of a run share live, and what the guest
/// calls it. It starts empty or from [`RunPlan::volume_bases`]; the same name twice is one volume at two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Which one.
    pub name: String,
    /// The guest's name for its root.
    pub guest: String,
}

impl RunPlan {
    /// Refuses what no instance could be given.
    pub(super) fn check(&self) -> Result<(), RunnerError> {
        let mut bytes = 0_usize;
        for (number, arg) in self.args.iter().enumerate() {
            no_nul(arg, || format!("argument {number}"))?;
            bytes = bytes.saturating_add(arg.len()).saturating_add(1);
        }
        for (key, value) in &self.env {
            let what = || format!("environment variable {key:?}");
            no_nul(key, what)?;
            no_nul(value, what)?;
            if self.tell_number && key == INSTANCE_VARIABLE {
                let reason = "the runner sets it";
                return Err(RunnerError::Argument {
                    what: what(),
                    reason,
                });
            }
            if key.is_empty() || key.contains('=') {
                let reason = "the name is empty or holds `=`";
                return Err(RunnerError::Argument {
                    what: what(),
                    reason,
                });
            }
            bytes = bytes
                .saturating_add(key.len())
                .saturating_add(value.len())
                .saturating_add(2);
        }
        if bytes > MAX_ARGUMENT_BYTES {
            return Err(RunnerError::ArgumentsTooLong {
                bytes,
                limit: MAX_ARGUMENT_BYTES,
            });
        }
        check_volumes(self)?;
        self.check_names()
    }

    /// Refuses what a runner of this configuration has no way to do.
    pub(super) fn check_for(&self, config: &RunnerConfig) -> Result<(), RunnerError> {
        let refused = |what: &str, reason| {
            Err(RunnerError::Argument {
                what: what.to_owned(),
                reason,
            })
        };
        let is_controllable = "the runner was made without RunnerConfig::controllable";
        if self.control.is_some() && !config.controllable {
            return refused("control", is_controllable);
        }
        if self.host_threads.is_some() && !config.is_interruptible() {
            return refused("host_threads", is_controllable);
        }
        if self.network.is_some() && !config.network_of_plan {
            let reason = "the runner was made without RunnerConfig::network_of_plan";
            return refused("network", reason);
        }
        Ok(())
    }

    /// Refuses what is done on threads of a [run](super::Runner::run), where there are others.
    pub(super) fn check_shares_threads(&self) -> Result<(), RunnerError> {
        match self.host_threads {
            None => Ok(()),
            Some(_) => Err(RunnerError::Argument {
                what: "host_threads".to_owned(),
                reason: "only Runner::run has threads of its own",
            }),
        }
    }

    /// Refuses more directories than a guest is shown, and two under one name: which one a guest's libc
    /// picks would be anybody's guess.
    fn check_names(&self) -> Result<(), RunnerError> {
        if self.preopens.len() > MAX_SHOWN_DIRS {
            return Err(RunnerError::Argument {
                what: format!("{} directories", self.preopens.len()),
                reason: "more than one run can have",
            });
        }
        let mut seen = HashSet::new();
        let layered = self.preopens.iter().map(|preopen| &preopen.guest);
        let hosts = self.host_dirs.iter().map(|dir| &dir.guest);
        let volumes = self.volumes.iter().map(|volume| &volume.guest);
        for guest in layered.chain(hosts).chain(volumes) {
            no_nul(guest, || format!("guest directory {guest:?}"))?;
            let plain = match guest.trim_end_matches('/') {
                "" => "/",
                plain => plain,
            };
            if !seen.insert(plain) {
                return Err(RunnerError::TwoDirectories {
                    name: guest.clone(),
                });
            }
        }
        Ok(())
    }
}

fn no_nul(text: &str, what: impl FnOnce() -> String) -> Result<(), RunnerError> {
    if text.contains('\0') {
        return Err(RunnerError::Argument {
            what: what(),
            reason: "it holds a NUL byte",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(change: impl FnOnce(&mut RunPlan)) -> String {
        let mut plan = RunPlan::default();
        change(&mut plan);
        plan.check()
            .map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    fn preopen(guest: &str) -> GuestDir {
        GuestDir {
            dir: "/".into(),
            guest: guest.into(),
            rights: Rights::ReadWrite,
        }
    }

    #[test]
    fn case_80_arguments_that_wasi_cannot_pass_are_refused_by_name() {
        assert_eq!(
            refusal(|plan| plan.args = vec!["a".into(), "b\0c".into()]),
            "argument 1: it holds a NUL byte"
        );
        assert_eq!(
            refusal(|plan| plan.env = vec![("K".into(), "\0".into())]),
            "environment variable \"K\": it holds a NUL byte"
        );
        for key in ["", "A=B"] {
            let text = refusal(|plan| plan.env = vec![(key.into(), "v".into())]);
            assert!(text.ends_with("the name is empty or holds `=`"), "{text}");
        }
        let text = refusal(|plan| plan.args = vec!["x".repeat(10 << 20)]);
        assert_eq!(
            text,
            "arguments and environment take 10485761 bytes, the limit is 2097152"
        );
        let text = refusal(|plan| plan.env = vec![(INSTANCE_VARIABLE.into(), "7".into())]);
        assert_eq!(
            text,
            "environment variable \"STRATAFS_INSTANCE\": the runner sets it"
        );
        // The near miss.
        assert_eq!(
            refusal(|plan| plan.args = vec!["x".repeat(MAX_ARGUMENT_BYTES - 1)]),
            "fine"
        );
        assert_eq!(
            refusal(|plan| plan.env = vec![("K".into(), "a=b".into())]),
            "fine"
        );
    }

    #[test]
    fn volumes_have_a_bound_and_names() {
        let of = |count: usize, name: &str| {
            let volume = |at| Volume {
                name: name.into(),
                guest: format!("/{at}"),
            };
            refusal(|plan| plan.volumes = (0..count).map(volume).collect())
        };
        assert_eq!(of(crate::limits::MAX_VOLUMES, "v"), "fine");
        assert_eq!(
            of(crate::limits::MAX_VOLUMES + 1, "v"),
            "1025 volumes: more than one run can have"
        );
        assert_eq!(of(1, ""), "volume: its name is empty");
        let twice = refusal(|plan| {
            plan.preopens = vec![preopen("/v")];
            plan.volumes = vec![Volume {
                name: "v".into(),
                guest: "/v/".into(),
            }];
        });
        assert_eq!(twice, "the guest directory \"/v/\" is given twice");
    }

    #[test]
    fn directories_that_are_shown_have_a_bound() {
        let of = |count: usize| {
            let shown = (0..count).map(|at| preopen(&format!("/{at}")));
            refusal(|plan| plan.preopens = shown.collect())
        };
        assert_eq!(of(MAX_SHOWN_DIRS), "fine");
        assert_eq!(
            of(MAX_SHOWN_DIRS + 1),
            "4097 directories: more than one run can have"
        );
    }

    #[test]
    fn two_directories_of_one_name_are_refused() {
        let two = |a, b| refusal(|plan| plan.preopens = vec![preopen(a), preopen(b)]);
        assert_eq!(
            two("/a", "/a/"),
            "the guest directory \"/a/\" is given twice"
        );
        assert_eq!(two("/", "//"), "the guest directory \"//\" is given twice");
        assert_eq!(two("/a", "/a/b"), "fine");
    }
}
