//! One instance: an image and what is changed over it.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::mount::Mounts;
use super::state::FsState;
use super::virtual_file::VirtualBytes;
use super::walk::{Follow, Last, Start, WalkTarget, resolve};
use super::{Clock, Sealing, Share, Trace, VirtualClock};
use crate::budget::{Account, Budget};
use crate::chunk::{ChunkPool, Scope};
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::layer::{Layer, LayerError};
use crate::meta::{FileId, Kind, Time};
use crate::overlay::{Overlay, Quota, Usage};
use crate::path::IntoFsPath;

/// A private, writable file system over a shared [`Image`].
///
/// Making one copies nothing, walks nothing, opens no host descriptor and
/// takes about a microsecond and less than a kilobyte, whatever the image
/// holds (invariant 3). Cloning gives another handle on the same instance;
/// it is freed with its last handle and descriptor.
///
/// ```
/// use stratafs::{image::Image, vfs::Fs};
///
/// let base = Image::empty();
/// let (one, two) = (Fs::new(&base), Fs::new(&base));
/// one.root()?.create_dir_at(b"mine")?;
/// assert!(two.root()?.create_dir_at(b"mine").is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Fs(Arc<Inner>);

struct Inner {
    /// Immutable.
    setup: FsConfig,
    /// The one lock of the instance.
    state: Mutex<FsState>,
    /// Absent until something is mounted. Its lock comes after the instance's,
    /// and nothing comes after it.
    mounts: OnceLock<RwLock<Mounts>>,
    /// Atomic.
    virtual_bytes: VirtualBytes,
}

/// What an instance has besides its state: its forks have the same.
#[derive(Clone)]
pub(super) struct FsConfig {
    image: Image,
    pub(super) read_only: bool,
    /// The system's clock if absent.
    clock: Option<Arc<dyn Clock>>,
    device: u64,
    trace: Option<Trace>,
    sealing: Sealing,
    /// Whether what is written is ever sealed.
    seals: bool,
    /// The instance's own is made when it is first needed.
    scope: OnceLock<Scope>,
}

impl FsConfig {
    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    pub(super) fn scope(&self) -> &Scope {
        self.scope.get_or_init(Scope::single)
    }

    pub(super) fn seals_at_close(&self) -> bool {
        self.seals && self.sealing == Sealing::AtClose
    }

    /// What a fork has: the scope too, which is made if it was not, and its own
    /// clock if the clock is of that kind.
    pub(super) fn of_fork(&self) -> Self {
        if self.seals {
            self.scope();
        }
        let clock = self.clock.as_ref();
        Self {
            clock: clock.map(|clock| clock.of_fork().unwrap_or_else(|| Arc::clone(clock))),
            ..self.clone()
        }
    }
}

/// The device number of what is shown beside an instance: volumes count from 2 on.
const BESIDE: NonZeroU64 = NonZeroU64::MAX;

/// Sets up an instance. Made by [`Fs::builder`]. Clones of one make instances of
/// the same kind, which pay on accounts of their own and share a clock, trace and scope that
/// were set.
///
/// ```
/// use stratafs::errno::Errno;
/// use stratafs::image::Image;
/// use stratafs::vfs::Fs;
///
/// let builder = Fs::builder(&Image::empty()).max_bytes(1 << 20).max_inodes(1000);
/// let (one, two) = (builder.clone().build(), builder.build());
/// let error = one.write("/large", vec![1; 2 << 20]).unwrap_err();
/// assert_eq!(error.errno(), Errno::NoSpace);
/// two.write("/small", "each has a quota of its own")?;
/// # Ok::<(), stratafs::Error>(())
/// ```
pub struct FsBuilder {
    setup: FsConfig,
    quota: Quota,
    account: Account,
}

impl Clone for FsBuilder {
    /// A builder of another instance, which pays on an account of its own.
    fn clone(&self) -> Self {
        Self {
            setup: self.setup.clone(),
            quota: self.quota,
            account: self.account.another(),
        }
    }
}

impl fmt::Debug for FsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsBuilder")
            .field("image", &self.setup.image)
            .field("quota", &self.quota)
            .field("read_only", &self.setup.read_only)
            .finish_non_exhaustive()
    }
}

impl FsBuilder {
    /// Bounds private bytes. Default:
    /// [`DEFAULT_MAX_BYTES`](crate::limits::DEFAULT_MAX_BYTES).
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.quota.max_bytes = bytes;
        self
    }

    /// Bounds created objects. Default:
    /// [`DEFAULT_MAX_INODES`](crate::limits::DEFAULT_MAX_INODES).
    #[must_use]
    pub fn max_inodes(mut self, inodes: u64) -> Self {
        self.quota.max_inodes = inodes;
        self
    }

    /// Bounds objects of the base that are changed. Default:
    /// [`DEFAULT_MAX_CHANGED`](crate::limits::DEFAULT_MAX_CHANGED).
    #[must_use]
    pub fn max_changed(mut self, objects: u64) -> Self {
        self.quota.max_changed = objects;
        self
    }

    /// Bounds open descriptors. Default:
    /// [`DEFAULT_MAX_OPEN`](crate::limits::DEFAULT_MAX_OPEN).
    #[must_use]
    pub fn max_open(mut self, descriptors: u32) -> Self {
        self.quota.max_open = descriptors;
        self
    }

    /// Sets all bounds of the instance at once. Default: [`Quota::default`].
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Counts what the instance holds against `budget` too, under `label`; its
    /// forks have accounts of their own of the same label. Making and dropping
    /// the instance takes one short lock of a shard of the budget's list.
    /// Default: no budget.
    #[must_use]
    pub fn budget(mut self, budget: &Budget, label: &str) -> Self {
        self.account = budget.account(label);
        self
    }

    /// Sets among whom equal blocks are held once; a [`Scope`] stands for all its
    /// instances. Default: [`Share::Own`].
    #[must_use]
    pub fn share(mut self, among: impl Into<Share>) -> Self {
        let among = among.into();
        self.setup.seals = !matches!(among, Share::None);
        self.setup.scope = match among {
            Share::None | Share::Own => OnceLock::new(),
            Share::Scope(scope) => OnceLock::from(scope),
        };
        self
    }

    /// Sets when what is written is looked up among what others hold. Default:
    /// [`Sealing::AtClose`].
    #[must_use]
    pub fn sealing(mut self, when: Sealing) -> Self {
        self.setup.sealing = when;
        self
    }

    /// Makes every change fail with [`Errno::ReadOnly`], the host's too.
    /// Default: changes are allowed.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.setup.read_only = true;
        self
    }

    /// Takes times from `clock`. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.setup.clock = Some(clock);
        self
    }

    /// Makes two runs of the same calls leave the same bytes: times come from a
    /// [`VirtualClock`], and each fork has its own. Inode numbers and the order of listings follow from
    /// base and calls alone in any case. Default: the system's clock.
    #[must_use]
    pub fn deterministic(self) -> Self {
        self.clock(Arc::new(VirtualClock::new()))
    }

    /// Sets the device number (preview1's `filestat.dev`), which is mixed into
    /// the metadata hashes of 0.2 and 0.3 as well. Default: 1.
    #[must_use]
    pub fn device(mut self, number: NonZeroU64) -> Self {
        self.setup.device = number.get();
        self
    }

    /// Notes in `trace` which files of the base are opened, and what is read of
    /// them. Default: nothing is noted.
    #[must_use]
    pub fn trace(mut self, trace: Trace) -> Self {
        self.setup.trace = Some(trace);
        self
    }

    /// Makes the instance.
    #[must_use]
    pub fn build(self) -> Fs {
        let (image, seals) = (self.setup.image.clone(), self.setup.seals);
        let state = Overlay::new(image, self.quota, self.account, seals);
        Fs::of(self.setup, None, state)
    }
}

impl Fs {
    /// Makes an instance over `image` with default quotas, writable.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self::builder(image).build()
    }

    /// Starts an instance over `image`; see [`FsBuilder`] for the defaults.
    #[must_use]
    pub fn builder(image: &Image) -> FsBuilder {
        FsBuilder {
            setup: FsConfig {
                image: image.clone(),
                read_only: false,
                clock: None,
                device: 1,
                trace: None,
                sealing: Sealing::default(),
                seals: true,
                scope: OnceLock::new(),
            },
            quota: Quota::default(),
            account: Account::default(),
        }
    }

    /// Makes a file system for what is shown beside this one: it has the same clock and
    /// bound on descriptors, a device number that no other has, and room for nothing else.
    pub(super) fn beside(&self, image: &Image) -> Self {
        let Quota { max_open, .. } = self.lock().quota();
        let mut builder = Self::builder(image).device(BESIDE).quota(Quota {
            max_bytes: 0,
            max_inodes: 0,
            max_changed: 0,
            max_open,
        });
        builder.setup.clock.clone_from(&self.0.setup.clock);
        builder.build()
    }

    #[inline]
    pub(super) fn of(setup: FsConfig, mounts: Option<Mounts>, state: Overlay) -> Self {
        let shown = OnceLock::new();
        if let Some(mounts) = mounts {
            shown.get_or_init(|| RwLock::new(mounts));
        }
        Self(Arc::new(Inner {
            setup,
            state: Mutex::new(FsState::new(state)),
            mounts: shown,
            virtual_bytes: VirtualBytes::default(),
        }))
    }

    /// Returns whether a path may lead through a mount.
    #[inline]
    pub(super) fn has_mounts(&self) -> bool {
        self.0.mounts.get().is_some()
    }

    /// What is mounted here, if anything was.
    pub(super) fn mounted(&self) -> Option<&RwLock<Mounts>> {
        self.0.mounts.get()
    }

    /// What is mounted here, to be changed.
    pub(super) fn mounts(&self) -> &RwLock<Mounts> {
        self.0.mounts.get_or_init(RwLock::default)
    }

    pub(super) fn setup(&self) -> &FsConfig {
        &self.0.setup
    }

    /// Returns the image below.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.0.setup.image
    }

    /// Returns memory to the system that the instance keeps for its next writes:
    /// [`Usage::held_bytes`] then counts none. Worth it for an instance that is
    /// left alone for a while. O(pieces that such memory lies in).
    pub fn shrink_to_fit(&self) {
        self.lock().shrink_to_fit();
    }

    /// Returns what the instance holds now. O(1).
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = self.lock().usage();
        usage.held_bytes += self.0.virtual_bytes.get();
        usage
    }

    pub(super) fn virtual_bytes(&self) -> &VirtualBytes {
        &self.0.virtual_bytes
    }

    /// Returns what the instance may hold.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.lock().quota()
    }

    /// Returns the objects of the base that were copied up.
    #[cfg(feature = "freeze")]
    pub(crate) fn copied_up(&self) -> std::collections::HashSet<FileId> {
        self.lock().copied_up().collect()
    }

    /// Returns whether a link was made here, or renamed or given a further name.
    #[cfg(feature = "freeze")]
    pub(crate) fn is_own_link(&self, link: FileId) -> bool {
        !self.lock().is_of_base(link)
    }

    /// Has links of the base be as those that were made here. O(1).
    #[cfg(feature = "freeze")]
    pub(crate) fn claim_links(&self, links: Arc<std::collections::BTreeSet<FileId>>) {
        self.lock().claim_links(links);
    }

    /// Returns whether links were claimed.
    #[cfg(feature = "freeze")]
    pub(crate) fn has_claimed_links(&self) -> bool {
        self.lock().has_claimed_links()
    }

    /// Lets what its host changed count against no quota: all since there were `changed`
    /// changed objects.
    #[cfg(feature = "freeze")]
    pub(crate) fn forgive(&self, changed: u64) {
        self.lock().forgive(changed);
    }

    /// Returns whether every change is refused.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.0.setup.read_only
    }

    /// Returns the number that [`FsBuilder::device`] set.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.0.setup.device
    }

    /// Returns the trace that [`FsBuilder::trace`] set.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.0.setup.trace.as_ref()
    }

    /// Returns what the instance changed as a layer: new and changed entries
    /// whole, whiteouts for what is gone, opaque directories for what was
    /// replaced. The instance may go on meanwhile: the layer is of one moment.
    ///
    /// O(changes and the names of their paths, which a layer spells out); the first
    /// one over an image that changes something of the base also looks at each of
    /// the image's entries once. Chunks of the layer go into `pool`.
    ///
    /// # Errors
    ///
    /// [`LayerError`] when the tree breaks a bound of layers, such as a path
    /// longer than [`MAX_LAYER_PATH_BYTES`](crate::limits::MAX_LAYER_PATH_BYTES).
    pub fn diff(&self, pool: &ChunkPool) -> Result<Layer, LayerError> {
        let snapshot = self.lock().snapshot();
        snapshot.diff(pool)
    }

    /// Returns the whole tree below the directory at `path`, base and changes,
    /// as one layer without whiteouts. Otherwise as [`Self::diff`]; O(tree).
    ///
    /// # Errors
    ///
    /// [`LayerError::Unreachable`] with the errno of the walk to `path`, then as there.
    pub fn tree(&self, path: impl IntoFsPath, pool: &ChunkPool) -> Result<Layer, LayerError> {
        let path = path.fs_path();
        let (top, snapshot) = {
            let state = self.lock();
            let top = find_dir(&state, &path);
            let top = top.map_err(|errno| Error::new("read tree", &path, errno))?;
            (top, state.snapshot())
        };
        snapshot.tree(top, pool)
    }

    /// Begins an operation: one step under the one lock. What it finds damaged
    /// in the base is its own to report.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, FsState> {
        let state = self.0.state.lock();
        self.image().begin();
        state
    }

    /// Runs one change as one step.
    pub(super) fn change<R>(
        &self,
        step: impl FnOnce(&mut FsState, Time) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        self.change_at(|| self.now(), step)
    }

    /// As [`Self::change`] at the time that `now` gives.
    pub(super) fn change_at<R>(
        &self,
        now: impl FnOnce() -> Time,
        step: impl FnOnce(&mut FsState, Time) -> Result<R, Errno>,
    ) -> Result<R, Errno> {
        if self.0.setup.read_only {
            return Err(Errno::ReadOnly);
        }
        let now = now();
        let mut state = self.lock();
        let result = step(&mut state, now);
        recheck(&state);
        drop(state);
        if let Err(Errno::NoSpace) = result {
            tracing::debug!(device = self.device(), "a quota or a budget is full");
        }
        result
    }

    /// Returns whether times come from a clock of the host's.
    pub(super) fn has_clock(&self) -> bool {
        self.0.setup.clock.is_some()
    }

    /// The present time. Read before locking.
    pub(crate) fn now(&self) -> Time {
        self.0
            .setup
            .clock
            .as_ref()
            .map_or_else(Time::now, |clock| clock.now())
    }

    /// Returns the number that the next object gets which is made.
    #[cfg_attr(
        not(feature = "freeze"),
        allow(dead_code, reason = "guests that are frozen are told it")
    )]
    pub(crate) fn next_number(&self) -> u64 {
        self.lock().next_number()
    }

    /// Has the clock start over: see [`Clock::start_over`].
    #[cfg(feature = "freeze")]
    pub(crate) fn start_clock_over(&self) {
        if let Some(clock) = &self.0.setup.clock {
            clock.start_over();
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns a number that no other instance has while this one lives.
    pub(super) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Recounts everything the instance counts and ties together, for tests
    /// and fuzzing. O(tree).
    ///
    /// # Errors
    ///
    /// What is wrong, in words. It never is: anything else is a bug here.
    pub fn check(&self) -> Result<(), String> {
        self.lock().check()
    }
}

/// With the feature `checks`: recounts all, after a change.
#[inline]
pub(super) fn recheck(state: &Overlay) {
    if cfg!(feature = "checks") {
        assert_eq!(state.check(), Ok(()), "the instance is not sound");
    }
}

/// A path of the host's as a walk from the root takes it. The empty path names
/// nothing.
pub(super) fn below_root(path: &[u8]) -> Result<&[u8], Errno> {
    let from = path.iter().position(|byte| *byte != b'/');
    match from.and_then(|from| path.get(from..)) {
        Some(relative) => Ok(relative),
        None if path.is_empty() => Err(Errno::NoEntry),
        None => Ok(b"."),
    }
}

pub(super) fn find_dir(state: &FsState, path: &[u8]) -> Result<FileId, Errno> {
    let relative = below_root(path)?;
    match resolve(state, Start::of_host(), relative, Last::Walk(Follow::Yes))? {
        WalkTarget::Dir(id) => Ok(id),
        WalkTarget::Entry {
            found: Some(found), ..
        } if found.kind == Kind::Dir => Ok(found.id),
        WalkTarget::Entry { found: Some(_), .. } => Err(Errno::NotDirectory),
        WalkTarget::Entry { found: None, .. } => Err(Errno::NoEntry),
    }
}

impl fmt::Debug for Fs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fs")
            .field("image", &self.0.setup.image)
            .field("read_only", &self.0.setup.read_only)
            .finish_non_exhaustive()
    }
}
