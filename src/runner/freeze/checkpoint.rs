//! A frozen guest as a value.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime_wasi::{HostMonotonicClock, WasiCtxBuilder};

use super::dirs::{DEVICES, is_of_devices};
use super::files::{HIDDEN, HIDDEN_PLACES};
use super::info::{CheckpointInfo, needed_dirs};
use super::known::SavedKnown;
use super::shown::DIR;
use super::{CheckpointError, FreezeError, Freezing, MonotonicFrom, Point};
use super::{FrozenFiles, FrozenModule, GuestTold};
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::layer::Layer;
use crate::meta::{FileId, Kind, Time};
use crate::name::show;
use crate::runner::engine::compile_checkpoint;
use crate::runner::{CacheUse, Guest, GuestDir, RunPlan, Runner, RunnerConfig, RunnerError};
use crate::vfs::{Fs, Preopen, Rights};
use crate::wasi::p1::{Ctx, Described, KnownFiles};

/// A guest that stands still: a program that goes on from there, its files, and what it
/// has open. Immutable; cloning is a reference count.
///
/// It holds the memory of the guest once, as part of the program; instances share it until
/// they write to it.
///
/// ```no_run
/// use stratafs::runner::RunnerConfig;
/// use stratafs::runner::freeze::Checkpoint;
/// use stratafs::store::Store;
///
/// let store = Store::open("images".as_ref())?;
/// if let Some(checkpoint) = Checkpoint::open(&store.image("py:warm")?)? {
///     let report = checkpoint
///         .runner(RunnerConfig::default())?
///         .run(checkpoint.image(), &checkpoint.plan())?;
///     assert_eq!(report.failed().count(), 0);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Checkpoint(pub(super) Arc<FrozenParts>);

/// What a checkpoint is made of.
pub(super) struct FrozenParts {
    /// The module that goes on from the point.
    pub(super) program: Guest,
    /// The base of instances that go on.
    pub(super) image: Image,
    /// The base of the guest, and what it changed.
    pub(super) base: Image,
    pub(super) changes: Layer,
    pub(super) table: Vec<Described>,
    pub(super) hidden: bool,
    /// Whether the guest needs a `/dev` that is not the devices' own.
    pub(super) other_dev: bool,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) preopens: Vec<GuestDir>,
    pub(super) furnished: bool,
    /// Bytes of random numbers that the guest asked the host for.
    pub(super) random_bytes: u64,
    /// Where in the random numbers of its devices a guest stands that repeats.
    pub(super) device_bytes: u64,
    pub(super) known: SavedKnown,
    /// What is known of the first image that instances ran over.
    pub(super) known_image: OnceLock<KnownImage>,
    pub(super) info: CheckpointInfo,
}

/// What a guest knows of an image that goes on from its checkpoint, for all instances of it.
pub(super) struct KnownImage {
    image: Image,
    files: Option<Arc<KnownFiles>>,
    /// The links that it made.
    links: Arc<BTreeSet<FileId>>,
}

impl Checkpoint {
    pub(super) fn new(mut parts: FrozenParts) -> Self {
        let named = parts.table.iter().filter_map(Described::shown);
        let own = parts.preopens.iter().map(|shown| shown.guest.as_str());
        parts.info.needed_dirs = needed_dirs(named, own.collect());
        Self(Arc::new(parts))
    }

    /// Makes a checkpoint of what a host froze by hand. It is kept and opened like any other.
    ///
    /// A host that offers the guest functions of its own has to link [`module`](Self::module)
    /// itself: [`runner`](Self::runner) has those of WASI alone, and names what it lacks.
    #[must_use]
    pub fn of(module: FrozenModule, files: FrozenFiles, guest: GuestTold) -> Self {
        let mut info = module.info((guest.monotonic_ns, 0), guest.random_calls);
        info.changed_volumes = files.kept.changed_volumes;
        Self::new(FrozenParts {
            program: Guest::made(guest.name, module.into_bytes()),
            image: files.kept.image,
            base: files.base,
            changes: files.kept.changes,
            table: files.kept.table,
            hidden: files.kept.hidden,
            other_dev: files.kept.other_dev,
            args: guest.args,
            env: guest.env,
            preopens: files.kept.preopens,
            furnished: false,
            random_bytes: 0,
            device_bytes: 0,
            known: files.kept.known,
            known_image: OnceLock::new(),
            info,
        })
    }

    /// Opens what the guest had open in a context of a host's own, which has the directories
    /// that the guest was shown, under their names, and has not been used. `fs` is an instance
    /// of [`image`](Self::image), which it shows. The guest finds the inode numbers and the
    /// order of names that it knew.
    ///
    /// # Errors
    /// [`CheckpointError::Reopen`] with the name of what is not there.
    pub fn reopen(&self, ctx: &mut Ctx, fs: &Fs) -> Result<(), CheckpointError> {
        Resumed(Arc::clone(&self.0))
            .reopen(ctx, fs)
            .map_err(|reason| CheckpointError::Reopen { reason })
    }

    /// Makes an instance of [`image`](Self::image), and of `wasi` the context in which the
    /// guest goes on there: it shows the directories of the guest's own file system under
    /// their names, its monotonic clock goes on, and all is open that was. For a guest that was shown
    /// other directories as well, volumes or those of a host, a host makes the context itself,
    /// and calls [`reopen`](Self::reopen). Arguments and environment are those of `wasi`: give it
    /// [`args`](Self::args) and [`env`](Self::env), which the guest may read again.
    ///
    /// # Errors
    /// [`CheckpointError::File`] for a directory that the image lacks;
    /// [`CheckpointError::Reopen`] with the name of what else is not there.
    pub fn context(&self, wasi: &mut WasiCtxBuilder) -> Result<(Ctx, Fs), CheckpointError> {
        let fs = Fs::new(self.image());
        let wasi = wasi.monotonic_clock(self.monotonic_clock()).build_p1();
        let mut ctx = Ctx::new(wasi);
        for shown in &self.0.preopens {
            let dir = fs.preopen(&shown.dir, shown.rights)?;
            ctx = ctx.preopen(dir, shown.guest.as_str());
        }
        self.reopen(&mut ctx, &fs)?;
        Ok((ctx, fs))
    }

    /// Returns a monotonic clock that goes on from the last reading of the guest, for
    /// [`WasiCtxBuilder::monotonic_clock`](wasmtime_wasi::WasiCtxBuilder::monotonic_clock).
    #[must_use]
    pub fn monotonic_clock(&self) -> impl HostMonotonicClock + Sync + use<> {
        MonotonicFrom::new(self.0.info.monotonic_ns)
    }

    /// Returns the base of instances that go on from here: the base of the guest, and a
    /// layer of what it changed until then.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.0.image
    }

    /// Returns the program that goes on from the point: a command of preview1 like any
    /// other, which another runtime can run as well, without the guest's open files. That of
    /// an image is read each time.
    ///
    /// # Errors
    /// [`RunnerError::Unreadable`] if it cannot be read, or is not what was written.
    pub fn module(&self) -> Result<Cow<'_, [u8]>, RunnerError> {
        self.0.program.wasm()
    }

    /// Returns what the guest has open, for hosts that make contexts themselves:
    /// [`reopen`](Self::reopen) opens it in one that has the preopens of [`plan`](Self::plan).
    #[must_use]
    pub fn table(&self) -> &[Described] {
        &self.0.table
    }

    /// Returns the environment of the guest that was frozen, as [`args`](Self::args).
    #[must_use]
    pub fn env(&self) -> &[(String, String)] {
        &self.0.env
    }

    /// Returns what is known of the point.
    #[must_use]
    pub fn info(&self) -> &CheckpointInfo {
        &self.0.info
    }

    /// Returns the arguments of the guest that was frozen, which all that goes on from here
    /// has.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.0.args
    }

    pub(super) fn parts(&self) -> &FrozenParts {
        &self.0
    }

    /// Returns the name of a directory that the guest was shown, or has something open below, and
    /// that a run by `plan` would not show it; `None` if there is none. A run that lacks one is
    /// refused.
    #[must_use]
    pub fn missing_dir(&self, plan: &RunPlan) -> Option<&str> {
        let preopens = plan.preopens.iter().map(|shown| &shown.guest);
        let volumes = plan.volumes.iter().map(|shown| &shown.guest);
        let hosts = plan.host_dirs.iter().map(|shown| &shown.guest);
        let shown = preopens.chain(volumes).chain(hosts);
        let shown: HashSet<&str> = shown.map(String::as_str).collect();
        let mut needed = self.0.needed_dirs();
        needed.find(|name| {
            let is_devices = *name == DEVICES && self.0.has_devices_apart(plan);
            !shown.contains(name) && !is_devices
        })
    }

    /// Returns the plan of a run that shows the guest what it was shown before.
    #[must_use]
    pub fn plan(&self) -> RunPlan {
        let mut plan = RunPlan::default();
        plan.preopens.clone_from(&self.0.preopens);
        plan.furnished = self.0.furnished;
        plan
    }

    /// Compiles what goes on from here, or maps it from [`RunnerConfig::cache_dir`].
    /// Checkpoints of one program have most functions in common: with a cache, each of
    /// them is compiled once. [`Runner::run`] over [`image`](Self::image) then
    /// starts any number of instances at the point, each with files of its own.
    ///
    /// A run has the arguments and the environment of the guest that was frozen: a plan
    /// that brings its own is refused. It must show the guest the directories that it
    /// had, as [`plan`](Self::plan) does.
    ///
    /// The program of an image is read if its code is not in the cache, and not held.
    ///
    /// # Errors
    /// [`RunnerError::Unreadable`] if the program has to be read and cannot be, or is not what was
    /// written; then as [`Runner::new`].
    pub fn runner(&self, config: RunnerConfig) -> Result<Runner, RunnerError> {
        let program = &self.0.info.program_digest;
        let resumed = Resumed(Arc::clone(&self.0));
        Runner::going_on(&self.0.program, config, program, resumed)
    }

    /// Compiles what goes on from here into [`RunnerConfig::cache_dir`], so that a later
    /// [`runner`](Self::runner) with an equal configuration, in this process or another, maps it.
    ///
    /// Takes the time that `runner` takes, without the part in which what was compiled is mapped and
    /// made ready for instances, and holds nothing afterwards. Code that is there already is mapped
    /// once, to see that it can be. [`CacheUse::Off`] says that the code was not kept: there is no
    /// directory, or it was refused or full, for the reason that is named.
    ///
    /// # Errors
    /// [`RunnerError::Unreadable`] if the program has to be read and cannot be, or is not what was
    /// written; [`RunnerError::Engine`] and [`RunnerError::Compile`] as [`Runner::new`].
    pub fn compile(&self, config: &RunnerConfig) -> Result<CacheUse, RunnerError> {
        let mut config = config.clone();
        config.threads = config.threads.max(1);
        compile_checkpoint(&self.0.program, &config, &self.0.info.program_digest)
    }
}

impl Checkpoint {
    /// Goes on from here in one instance, up to another point, and freezes it there: as
    /// [`freeze`](super::freeze), with a plan as for a run of [`runner`](Self::runner). What
    /// comes of it goes on as this one would have, and may be frozen again.
    ///
    /// The call that the guest stands at is made again, so it is the first one that can
    /// be the point.
    ///
    /// # Errors
    /// As [`freeze`](super::freeze); [`RunnerError::Argument`] for a plan with arguments or
    /// environment.
    pub fn freeze(
        &self,
        image: &Image,
        plan: &RunPlan,
        config: &RunnerConfig,
        point: &Point,
    ) -> Result<Freezing, FreezeError> {
        let resumed = Resumed(Arc::clone(&self.0));
        resumed.check(plan)?;
        let plan = resumed.plan(plan);
        super::stop::freeze(
            (&self.0.program, Some(&resumed)),
            image,
            &plan,
            config,
            point,
        )
    }
}

impl FrozenParts {
    /// Returns the guest's names of the directories that have to be shown again, each once.
    fn needed_dirs(&self) -> impl Iterator<Item = &str> {
        let mut seen = HashSet::new();
        let named = self.table.iter().filter_map(Described::shown);
        named.filter(move |name| !is_hidden_place(name) && seen.insert(*name))
    }

    /// Returns whether the guest needs no other `/dev` than the devices' own, and a run by `plan`
    /// shows that: where the base has none, or where nothing can be shown in it.
    fn has_devices_apart(&self, plan: &RunPlan) -> bool {
        if !plan.furnished || self.other_dev {
            return false;
        }
        let fs = Fs::new(&self.image);
        let is_dir = || {
            fs.metadata(DEVICES)
                .is_ok_and(|stat| stat.kind == Kind::Dir)
        };
        fs.symlink_metadata(DEVICES).is_err() || (plan.rights == Rights::ReadOnly && is_dir())
    }
}

pub(super) fn is_hidden_place(name: &str) -> bool {
    HIDDEN_PLACES.iter().any(|(place, _)| *place == name)
}

/// Returns the name in [`HIDDEN`] of what lies at a path below a directory that is shown.
fn hidden_name<'p>(
    shown: &HashMap<&str, &GuestDir>,
    preopen: &str,
    path: &'p [u8],
) -> Option<&'p [u8]> {
    if is_hidden_place(preopen) {
        return parts(path).eq([path]).then_some(path);
    }
    let name = parts(path).last()?;
    let whole = parts(shown.get(preopen)?.dir.as_bytes()).chain(parts(path));
    let hidden = parts(HIDDEN.as_bytes()).chain([name]);
    whole.eq(hidden).then_some(name)
}

/// The names of a path.
pub(super) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".")
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("name", &self.0.program.name())
            .field("info", &self.0.info)
            .finish_non_exhaustive()
    }
}

/// What instances of a runner go on from.
#[derive(Clone)]
pub(in crate::runner) struct Resumed(Arc<FrozenParts>);

impl Resumed {
    pub(in crate::runner) fn args(&self) -> &[String] {
        &self.0.args
    }

    pub(in crate::runner) fn env(&self) -> &[(String, String)] {
        &self.0.env
    }

    pub(in crate::runner) fn clock(&self, is_deterministic: bool) -> MonotonicFrom {
        let reading = self.0.info.monotonic_ns;
        match is_deterministic {
            true => MonotonicFrom::counting(reading),
            false => MonotonicFrom::new(reading),
        }
    }

    /// Refuses what the guest has been told already.
    pub(in crate::runner) fn check(&self, plan: &RunPlan) -> Result<(), RunnerError> {
        match plan.args.is_empty() && plan.env.is_empty() {
            true => Ok(()),
            false => Err(RunnerError::Argument {
                what: "arguments and environment".to_owned(),
                reason: "they are part of the state that the guest was frozen in",
            }),
        }
    }

    /// Makes a checkpoint of an instance that went on from here one of the same program.
    pub(super) fn continued(&self, parts: FrozenParts) -> FrozenParts {
        let before = &*self.0;
        FrozenParts {
            args: before.args.clone(),
            env: before.env.clone(),
            random_bytes: before.random_bytes.saturating_add(parts.random_bytes),
            info: CheckpointInfo {
                program_digest: before.info.program_digest,
                random_calls: before
                    .info
                    .random_calls
                    .saturating_add(parts.info.random_calls),
                ..parts.info
            },
            ..parts
        }
    }

    /// Returns how many random numbers the guest has drawn, in bytes.
    pub(in crate::runner) fn random_bytes(&self) -> u64 {
        self.0.random_bytes
    }

    /// Returns where it stands in the random numbers of its devices.
    pub(in crate::runner) fn device_bytes(&self) -> u64 {
        self.0.device_bytes
    }

    /// Returns the plan of a run that goes on: its wall clock never goes back.
    pub(in crate::runner) fn plan<'p>(&self, plan: &'p RunPlan) -> Cow<'p, RunPlan> {
        let wall = self.0.info.wall_ns;
        let starts = match plan.deterministic {
            true => plan.clock_start,
            false => Time::now().as_nanos_clamped(),
        };
        if starts >= wall {
            return Cow::Borrowed(plan);
        }
        let mut later = plan.clone();
        match plan.deterministic {
            true => later.clock_start = wall,
            false => later.wall_from = Some(wall),
        }
        Cow::Owned(later)
    }

    /// Makes what was there besides the layers, before an instance is furnished.
    pub(in crate::runner) fn furnish(&self, fs: &Fs) -> Result<(), RunnerError> {
        let made = self.0.furnished.then(|| self.0.known.furnish(fs));
        made.unwrap_or(Ok(()))
            .map_err(|errno| RunnerError::Preopen {
                path: b"/tmp".to_vec(),
                errno,
            })
    }

    /// Takes the names of files away that have one for the checkpoint alone: those of what is
    /// open, and no others that somebody put beside them.
    fn unname_hidden(&self, fs: &Fs) -> Result<(), Error> {
        let mut shown = HashMap::new();
        for dir in &self.0.preopens {
            shown.entry(dir.guest.as_str()).or_insert(dir);
        }
        let hidden = self.0.table.iter().filter_map(|one| match one {
            Described::Open {
                preopen,
                path,
                file,
                ..
            } => Some((hidden_name(&shown, preopen, path)?, file.is_some())),
            Described::Closed | Described::Stream(_) | Described::Preopen { .. } => None,
        });
        let hidden: BTreeMap<&[u8], bool> = hidden.collect();
        for (name, is_file) in hidden {
            let path = [HIDDEN.as_bytes(), b"/", name].concat();
            match is_file {
                true => fs.remove_file(path.as_slice())?,
                false => fs.remove_dir(path.as_slice())?,
            }
        }
        fs.remove_dir(HIDDEN)
    }

    /// Opens the directory of what has no other name, if there is something in it that lies below
    /// none that the guest is shown.
    fn hidden_places(&self, fs: &Fs) -> Result<Vec<(&'static str, Preopen)>, Error> {
        let is_used = |place: &str| {
            let mut table = self.0.table.iter();
            table.any(|one| matches!(one, Described::Open { preopen, .. } if preopen == place))
        };
        let places = HIDDEN_PLACES.iter().filter(|(place, _)| is_used(place));
        let opened = places.map(|(place, rights)| Ok((*place, fs.preopen(HIDDEN, *rights)?)));
        opened.collect()
    }

    /// Has the guest find the numbers, the order and the links that it knows. What has to be looked
    /// up for that is looked up once, for the first image that instances run over; over another one
    /// the links alone are.
    fn know(&self, ctx: &mut Ctx, fs: &Fs) {
        let (saved, image) = (&self.0.known, fs.image());
        let known = self.0.known_image.get_or_init(|| KnownImage {
            image: image.clone(),
            files: saved.about(image),
            links: Arc::new(saved.links_in(image)),
        });
        if !known.image.is_same(image) {
            fs.claim_links(Arc::new(saved.links_in(image)));
            return;
        }
        fs.claim_links(Arc::clone(&known.links));
        if let Some(files) = &known.files {
            ctx.know(fs, Arc::clone(files), saved.named(), saved.next());
        }
    }

    /// Opens what the guest had open, in a context that has its preopens.
    pub(in crate::runner) fn reopen(&self, ctx: &mut Ctx, fs: &Fs) -> Result<(), String> {
        // Nothing of the devices stands for what had their name.
        let has_only_devices = self.0.other_dev && {
            let shown = ctx.shown_preopens();
            shown.iter().any(|shown| is_of_devices(shown, fs))
        };
        let mut needed = self.0.needed_dirs();
        let missing =
            needed.find(|name| !ctx.shows(name) || (has_only_devices && *name == DEVICES));
        if let Some(name) = missing {
            return Err(format!(
                "{name:?} was shown to the guest when it was frozen and is not now: give the directory or volume again under this name"
            ));
        }
        fs.unlist_dir(DIR);
        // What is changed from here on is none of the guest's own.
        let changed = fs.usage().changed;
        if self.0.furnished {
            let unfurnished = self.0.known.unfurnish(fs);
            unfurnished.map_err(|error| error.to_string())?;
        }
        self.know(ctx, fs);
        let hidden = self.hidden_places(fs).map_err(|error| error.to_string())?;
        let known = self.0.preopens.iter().map(|shown| shown.guest.as_str());
        let reopened = ctx.reopen_beside(&self.0.table, &hidden, known.collect());
        // It is removed next.
        drop(hidden);
        let reopened = reopened.and_then(|()| {
            ctx.know_dirs(self.0.known.dirs());
            if self.0.hidden && !fs.is_read_only() && fs.exists(HIDDEN)? {
                self.unname_hidden(fs)?;
                let failed = |errno| Error::new("settle", HIDDEN.as_bytes(), errno);
                ctx.settle_unnamed().map_err(failed)?;
            }
            fs.forgive(changed);
            fs.start_clock_over();
            Ok(())
        });
        reopened.map_err(|error| match error.operation() {
            "reopen" => format!(
                "{}: the guest had it open when it was frozen, and it cannot be opened now ({}){}",
                show(error.path()),
                error.errno(),
                match error.errno() {
                    Errno::TooManyOpen => ": allow more open files",
                    Errno::ReadOnly => ": let it be written to",
                    Errno::NotPermitted =>
                        ": a rule of this run, or a directory that it shows read-only, forbids it",
                    _ => ": give the directory or volume with what it held then",
                }
            ),
            _ => error.to_string(),
        })
    }
}
