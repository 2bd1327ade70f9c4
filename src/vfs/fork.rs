//! Forks and snapshots: an instance's state as a value.
//!
//! A state is maps that share structure, so taking one costs the same whatever
//! is in it. It is taken under the lock of the instance, between two
//! operations: nobody sees half a write.

use std::fmt;
use std::sync::Arc;

use super::fs::FsConfig;
use super::mount::Mounts;
use super::state::FsState;
use super::{Descriptor, Fs};
use crate::errno::Errno;
use crate::error::Error;
use crate::image::Image;
use crate::overlay::{Change, Overlay, Usage};

/// The state of an instance at one moment. Immutable; cloning is a reference
/// count. It holds the bytes that it shows, and nothing that has no name but
/// what a descriptor had open when it was taken.
///
/// ```
/// use stratafs::{image::Image, vfs::Fs};
///
/// let fs = Fs::new(&Image::empty());
/// fs.write("/plan", "one")?;
/// let before = fs.snapshot();
/// fs.write("/plan", "two")?;
/// let other = before.fork();
/// fs.restore(&before).expect("its own snapshot");
/// assert_eq!(fs.read("/plan")?, b"one");
/// assert_eq!(other.read("/plan")?, b"one");
/// # Ok::<(), stratafs::Error>(())
/// ```
#[derive(Clone)]
pub struct Snapshot(Arc<SnapshotState>);

struct SnapshotState {
    setup: FsConfig,
    mounts: Option<Mounts>,
    state: Overlay,
}

impl Snapshot {
    /// Makes an instance that starts from this state, with the quotas, clock
    /// and read-only flag of the one it was taken of, and no descriptor.
    ///
    /// O(1), and O(log objects) for each object without a name in it, which
    /// is freed in the fork.
    #[must_use]
    pub fn fork(&self) -> Fs {
        let mut state = self.0.state.fork();
        state.reap_orphans();
        let mounts = self.0.mounts.as_ref().map(Mounts::of_fork);
        Fs::of(self.0.setup.of_fork(), mounts, state)
    }

    /// Returns the image below.
    #[must_use]
    pub fn image(&self) -> &Image {
        self.0.setup.image()
    }

    /// Returns what the state holds; no descriptors. O(1).
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.state.usage()
    }

    /// Takes the state of an instance that has changed nothing: what an image
    /// holds, as one side of [`changes_to`](Self::changes_to).
    #[must_use]
    pub fn of(image: &Image) -> Self {
        Fs::new(image).snapshot()
    }

    /// Returns what differs from here to `later`, sorted by path: two states of
    /// one image, whichever instances they were taken of. An object keeps its
    /// identity through renames and forks; what two forks made apart are two
    /// objects, whatever their names and numbers.
    ///
    /// O(n log n) in the objects, entries and blocks that differ and the
    /// directories above them, in time and memory: paths are not spelt out, so
    /// it may be used on what a guest made, however deep. What a guest wrote
    /// without changing it is compared by its bytes; holes cost nothing. The
    /// first call over an image that has to name something of the base looks at
    /// each of the image's entries once.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::{Change, Fs, Snapshot}};
    ///
    /// let image = Image::empty();
    /// let fs = Fs::new(&image);
    /// fs.write("/new", "text")?;
    /// let changes = Snapshot::of(&image).changes_to(&fs.snapshot())?;
    /// assert!(matches!(&changes[..], [Change::Added { path, .. }] if path.to_string() == "new"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] for states of two images, [`Errno::Io`] once the
    /// image is known to be damaged.
    pub fn changes_to(&self, later: &Self) -> Result<Vec<Change>, Error> {
        let changes = self.0.state.changes(&later.0.state);
        changes.map_err(|errno| Error::new("compare states of", b"/", errno))
    }

    pub(super) fn state(&self) -> &Overlay {
        &self.0.state
    }
}

impl Fs {
    /// Returns what the instance changed of its image, sorted by path: with paths,
    /// kinds and sizes.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::Fs};
    ///
    /// let fs = Fs::new(&Image::empty());
    /// fs.write("/new", "text")?;
    /// for change in fs.changes()? {
    ///     println!("{}: {} bytes", change.path(), change.size());
    ///     assert_eq!(fs.read(change.path())?, b"text");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// It is what [`Snapshot::changes_to`] returns for [`Snapshot::of`] the image and
    /// the present state.
    ///
    /// # Errors
    ///
    /// [`Errno::Io`] once the image is known to be damaged.
    pub fn changes(&self) -> Result<Vec<Change>, Error> {
        Snapshot::of(self.image()).changes_to(&self.snapshot())
    }

    /// Takes the present state as a value. O(1), whatever the instance holds.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::new(self.taken(Overlay::snapshot)))
    }

    /// Makes an instance of its own with the present state, the same quotas,
    /// clock and read-only flag. Both go on and neither sees the other's
    /// changes. The fork has no descriptor, so that what is open here without
    /// a name is not in it.
    ///
    /// O(1), and O(log objects) for each object without a name; a fork of a
    /// fork costs the same at any depth.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut taken = self.taken(Overlay::fork);
        taken.state.reap_orphans();
        Self::of(taken.setup, taken.mounts, taken.state)
    }

    /// Takes the state and what belongs to it under one hold of the lock: what
    /// is mounted is in both or in neither.
    fn taken(&self, copy: impl FnOnce(&Overlay) -> Overlay) -> SnapshotState {
        let state = self.lock();
        SnapshotState {
            setup: self.setup().of_fork(),
            mounts: self.all_mounted(),
            state: copy(&state),
        }
    }

    /// Forks as [`Self::fork`] does, and opens the same objects in the fork, with the
    /// same rights, in the order given: files without a name too, which live on in
    /// both. O(1) for each descriptor beside.
    ///
    /// # Errors
    ///
    /// [`Errno::CrossDevice`] for a descriptor of another instance,
    /// [`Errno::BadDescriptor`] for one whose object a
    /// [`restore`](Self::restore) took away, [`Errno::TooManyOpen`].
    pub fn fork_with(&self, open: &[&Descriptor]) -> Result<(Self, Vec<Descriptor>), Error> {
        let forked = self.try_fork_with(open);
        forked.map_err(|errno| Error::new("fork", b"/", errno))
    }

    fn try_fork_with(&self, open: &[&Descriptor]) -> Result<(Self, Vec<Descriptor>), Errno> {
        if !open.iter().all(|one| one.fs().is_same(self)) {
            return Err(Errno::CrossDevice);
        }
        let taken = self.taken(Overlay::fork);
        let fork = Self::of(taken.setup, taken.mounts, taken.state);
        let opened: Vec<_> = {
            let mut state = fork.lock();
            open.iter()
                .map(|one| one.reopen(&fork, &mut state))
                .collect()
        };
        // Without the lock, which a descriptor takes when it is dropped.
        let opened = opened.into_iter().collect::<Result<_, _>>()?;
        fork.lock().reap_orphans();
        Ok((fork, opened))
    }

    /// Goes back, or over, to a state taken of this instance or of another of
    /// the same image. One step; quotas stay this instance's own.
    ///
    /// Open descriptors go on working on their object as it is in that state,
    /// under whatever name or none. One whose object is not in it gives
    /// [`Errno::BadDescriptor`] until closed. Inode numbers given since are not
    /// given again. Listings under way go on from a position that may mean
    /// another entry by now: start them over.
    ///
    /// O(1), and O(log objects) for each open descriptor.
    ///
    /// # Errors
    ///
    /// In this order, and nothing is changed: [`Errno::ReadOnly`];
    /// [`Errno::CrossDevice`] for another image; [`Errno::NoSpace`] if the
    /// state exceeds the quotas; [`Errno::Busy`] if a descriptor is open here
    /// on an object whose number another one has there, or if the state lacks
    /// an object that a [`Rule`](super::Rule) here is for, something is mounted
    /// on, or [`Self::keep_dir`] keeps.
    pub fn restore(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let restored = self.change(|state, _| Self::restore_in(state, snapshot));
        restored.map_err(|errno| Error::new("restore", b"/", errno))
    }

    pub(super) fn restore_in(state: &mut FsState, snapshot: &Snapshot) -> Result<(), Errno> {
        state.check_rules(snapshot.state())?;
        state.check_places(snapshot.state())?;
        state.restore(snapshot.state())?;
        state.renew_rules();
        Ok(())
    }

    /// Calls `work`, and puts the instance back to the state that it had before if
    /// `work` fails: whatever it did, nothing of it stays. Returns what `work`
    /// returned.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::Fs};
    ///
    /// let fs = Fs::new(&Image::empty());
    /// let failed = fs.attempt(|fs| {
    ///     fs.write("/half", "done")?;
    ///     fs.read("/missing")
    /// });
    /// assert!(failed.is_err() && !fs.exists("/half")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Volumes that are mounted are instances of their own and keep what was done
    /// to them. If `work` panics, what it did stays. O(1) beside `work`, and O(log objects) for each open descriptor if
    /// it fails.
    ///
    /// # Errors
    ///
    /// That of `work`; if the state cannot be put back, that of
    /// [`restore`](Self::restore), and what `work` did stays.
    pub fn attempt<R, E: From<Error>>(
        &self,
        work: impl FnOnce(&Self) -> Result<R, E>,
    ) -> Result<R, E> {
        let before = self.snapshot();
        let done = work(self);
        if done.is_err() {
            self.restore(&before)?;
        }
        done
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("image", self.image())
            .field("usage", &self.usage())
            .finish()
    }
}
