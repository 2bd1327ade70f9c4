//! What a guest knows of its files that goes on from a checkpoint: inode numbers, and how
//! far it has listed a directory.
//!
//! What a guest changed until its checkpoint is a layer then, and an image numbers its
//! objects and orders its entries anew. A guest may hold both: it compares numbers to see
//! whether two paths lead to one file, and lists a directory in several calls. So each object
//! that was there goes on to have the number that it had, and each directory that was
//! changed is listed in the order that it had, with the cookies that the guest may hold.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
#[cfg(feature = "freeze")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::abi::CallFailure;
use super::ctx::Ctx;
use super::stat::DeviceInode;
use super::table::RestoredDir;
#[cfg(feature = "freeze")]
use super::table::Slot;
use crate::errno::Errno;
use crate::meta::{FileId, Stat, Time};
use crate::vfs::{Descriptor, Follow, Fs, Listed};

/// What stands above all numbers that an instance gives out by itself.
const UNKNOWN: u64 = 1 << 62;

/// Objects that follow each other in an image, and did so before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberRun {
    /// The place of the first one among the objects of the image, from 1.
    pub(crate) now: u64,
    /// The number that the guest knows it by.
    pub(crate) known: u64,
    /// How many they are.
    pub(crate) count: u64,
}

/// The entries of a directory as a guest knows them: each with the cookie behind it, by which
/// they are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownOrder {
    pub(crate) entries: Vec<(u64, Box<[u8]>)>,
}

/// The times of an object that a layer does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownTimes {
    pub(crate) atime: Time,
    pub(crate) ctime: Time,
}

impl KnownTimes {
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            atime: stat.atime,
            ctime: stat.ctime,
        }
    }
}

/// What a guest was told of one of its open directories.
#[cfg(feature = "freeze")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownDir {
    pub(crate) fd: u32,
    /// The cookie past which the list ends that it is in the middle of.
    pub(crate) until: u64,
    /// The number of the directory above, if it was removed.
    pub(crate) parent: Option<u64>,
}

impl RestoredDir {
    /// Returns the cookie past which a list ends that goes on from another one.
    pub(super) fn until(&self, from: u64) -> u64 {
        if from == 0 {
            self.until.store(u64::MAX, Ordering::Relaxed);
        }
        self.until.load(Ordering::Relaxed)
    }
}

/// What is known of an image, for all instances of it.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles {
    /// How many objects the image has.
    objects: u64,
    /// The numbers of those that the checkpoint itself put there, sorted.
    own: Vec<u64>,
    /// Sorted by place.
    runs: Vec<NumberRun>,
    /// By the number of the directory in the image.
    orders: HashMap<u64, DirOrder>,
    /// By the number of the object in the image: the times that it has there, and those
    /// that the guest knows.
    times: HashMap<u64, (KnownTimes, KnownTimes)>,
}

/// A directory that was changed.
#[derive(Debug)]
struct DirOrder {
    order: KnownOrder,
    names: HashSet<Box<[u8]>>,
    /// The cookie behind all of them.
    end: u64,
    /// How many entries the image has there.
    slots: u64,
}

impl KnownFiles {
    /// Puts together what the guest knows of an image of `objects` objects. `own` are the
    /// numbers of those that are the checkpoint's.
    pub(crate) fn new(objects: u64, mut own: Vec<u64>, mut runs: Vec<NumberRun>) -> Self {
        own.sort_unstable();
        runs.sort_unstable_by_key(|run| run.now);
        Self {
            objects,
            own,
            runs,
            orders: HashMap::new(),
            times: HashMap::new(),
        }
    }

    /// What a guest knows that starts: the image as it is.
    pub(crate) fn plain(objects: u64) -> Self {
        let all = NumberRun {
            now: 1,
            known: 1,
            count: objects,
        };
        Self::new(objects, Vec::new(), vec![all])
    }

    /// Has a directory, which has `slots` entries in the image, listed in an order.
    pub(crate) fn order(&mut self, dir: FileId, slots: u64, order: KnownOrder) {
        let last = order.entries.last().map_or(0, |(next, _)| *next);
        let ordered = DirOrder {
            names: order.entries.iter().map(|(_, name)| name.clone()).collect(),
            end: last.max(slots),
            slots,
            order,
        };
        self.orders.insert(dir.get(), ordered);
    }

    /// Has an object, which `stat` describes in the image, be told with other times.
    pub(crate) fn times(&mut self, stat: &Stat, known: KnownTimes) {
        self.times
            .insert(stat.id.get(), (KnownTimes::of(stat), known));
    }

    /// Returns whether the guest knows nothing but the image as it is.
    fn is_plain(&self) -> bool {
        let is_identity = |run: &NumberRun| run.now == run.known && run.count == self.objects;
        self.own.is_empty()
            && self.orders.is_empty()
            && self.times.is_empty()
            && self.runs.iter().all(is_identity)
    }

    /// Returns the number of an object of the image that has `id` now.
    fn number(&self, id: u64) -> u64 {
        let below = match self.own.binary_search(&id) {
            Ok(_) => return UNKNOWN | id,
            Err(below) => below as u64,
        };
        let place = id.saturating_sub(below);
        let at = self.runs.partition_point(|run| run.now <= place);
        let run = at.checked_sub(1).and_then(|at| self.runs.get(at));
        let known = run.and_then(|run| {
            let within = place.saturating_sub(run.now);
            (within < run.count).then(|| run.known.saturating_add(within))
        });
        known.unwrap_or(UNKNOWN | id)
    }
}

impl DirOrder {
    /// Lists the entries from a cookie on.
    fn list(
        &self,
        dir: &Descriptor,
        (cookie, until): (u64, u64),
        sink: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        if cookie == 0 {
            dir.begin_listing()?;
        }
        let first = self
            .order
            .entries
            .partition_point(|(next, _)| *next <= cookie);
        let entries = self.order.entries.get(first..).unwrap_or_default();
        for (next, name) in entries.iter().take_while(|(next, _)| *next <= until) {
            let stat = match dir.stat_at(Follow::No, name) {
                Ok(stat) => stat,
                Err(Errno::NoEntry) => continue,
                Err(errno) => return Err(errno),
            };
            let listed = Listed {
                name,
                id: stat.id,
                kind: stat.kind,
                is_device: stat.is_device,
                next: *next,
            };
            if sink(listed).is_break() {
                return Ok(());
            }
        }
        // What was made since then has places behind those of the image.
        let from = cookie.saturating_sub(self.end);
        dir.read_dir_with(self.slots.saturating_add(from), &mut |listed| {
            if self.names.contains(listed.name) {
                return ControlFlow::Continue(());
            }
            let next = listed.next.saturating_sub(self.slots);
            sink(Listed {
                next: next.saturating_add(self.end),
                ..listed
            })
        })
    }
}

/// What the guest of one context knows.
pub(super) struct KnownInstance {
    /// The file system that it is known of.
    fs: Fs,
    files: Arc<KnownFiles>,
    /// Numbers of objects that the host put there, in this instance.
    named: HashMap<u64, u64>,
    /// The first object that the guest makes, and the number that it is told for it.
    first: (u64, u64),
    /// Objects whose time of access the guest set itself.
    accessed: HashSet<u64>,
}

impl KnownInstance {
    pub(super) fn over(&self, fork: &Fs) -> Self {
        Self {
            fs: fork.clone(),
            files: Arc::clone(&self.files),
            named: self.named.clone(),
            first: self.first,
            accessed: self.accessed.clone(),
        }
    }

    /// Puts back the times that the guest knows, as far as they are still those of the image.
    fn put_times(&self, stat: &mut Stat) {
        let Some((image, known)) = self.files.times.get(&stat.id.get()) else {
            return;
        };
        // Nothing but a call that sets it moves a time of access, and everything else that
        // happens to an object the time of its change.
        if !self.accessed.contains(&stat.id.get()) {
            stat.atime = known.atime;
        }
        if stat.ctime == image.ctime {
            stat.ctime = known.ctime;
        }
    }

    fn is_of(&self, fs: &Fs, device: u64) -> bool {
        self.fs.device() == device && self.fs.is_same(fs)
    }

    /// Returns what the guest is told of what it has open: see [`Self::stat_of`].
    #[cold]
    pub(super) fn fd_stat(&self, open: &Descriptor) -> Result<(Stat, DeviceInode), CallFailure> {
        Ok(self.stat_of(open.fs(), open.fs().device(), open.stat()?))
    }

    /// Returns what the guest is told of an object: what `stat` says, but for what it knows
    /// from before a checkpoint.
    #[cold]
    pub(super) fn stat_of(&self, fs: &Fs, device: u64, mut stat: Stat) -> (Stat, DeviceInode) {
        let mut number = stat.id.get();
        if self.is_of(fs, device) {
            self.put_times(&mut stat);
            number = self.number(number);
        }
        (stat, DeviceInode { device, number })
    }

    fn number(&self, id: u64) -> u64 {
        let (first, known) = self.first;
        match self.named.get(&id) {
            Some(known) => *known,
            None if id <= self.files.objects => self.files.number(id),
            None if id >= first => known.saturating_add(id.saturating_sub(first)),
            None => UNKNOWN | id,
        }
    }
}

impl Ctx {
    /// Has objects of `fs` keep the numbers and the order that the guest knows, in an instance
    /// that is set up. `named` are numbers of objects by their path, of which some may
    /// not be there; `next` is told for the first object that the guest makes.
    pub(crate) fn know(
        &mut self,
        fs: &Fs,
        files: Arc<KnownFiles>,
        named: impl IntoIterator<Item = (Vec<u8>, u64)>,
        next: u64,
    ) {
        let found = named.into_iter().filter_map(|(path, known)| {
            let stat = fs.symlink_metadata(path.as_slice()).ok()?;
            Some((stat.id.get(), known))
        });
        self.known = Some(Box::new(KnownInstance {
            fs: fs.clone(),
            named: found.collect(),
            first: (fs.next_number(), next),
            accessed: HashSet::new(),
            files,
        }));
    }

    /// Has what is open and has no name keep the time of change that the guest knows, now that the
    /// host has taken the name away that it had for the checkpoint.
    #[cfg(feature = "freeze")]
    pub(crate) fn settle_unnamed(&self) -> Result<(), Errno> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let open = self.open_descriptors().map(|open| open.descriptor);
        for one in open.filter(|one| one.fs().is_same(&known.fs)) {
            let stat = one.stat()?;
            let times = known.files.times.get(&stat.id.get());
            if let (0, Some((_, times))) = (stat.nlink, times) {
                one.put_back_ctime(times.ctime)?;
            }
        }
        Ok(())
    }

    /// Returns the number that the guest would be told for what it makes next.
    pub(crate) fn next_number(&self) -> Option<u64> {
        let known = self.known.as_ref()?;
        Some(known.number(known.fs.next_number()))
    }

    /// Returns the inode number that the guest is told for an object.
    #[inline]
    pub(crate) fn number(&self, fs: &Fs, device: u64, id: FileId) -> u64 {
        match &self.known {
            None => id.get(),
            Some(known) if known.is_of(fs, device) => known.number(id.get()),
            Some(_) => id.get(),
        }
    }

    /// Returns the times that the guest is told of an object of `fs`.
    pub(crate) fn told_times(&self, fs: &Fs, stat: Stat) -> KnownTimes {
        let known = self.known.as_ref();
        let known = known.map(|known| known.stat_of(fs, fs.device(), stat).0);
        KnownTimes::of(&known.unwrap_or(stat))
    }

    /// Notes that the guest set the time of access of an object that is one of `fs`.
    pub(super) fn accessed(&mut self, fs: &Fs, id: FileId) {
        if let Some(known) = &mut self.known
            && known.files.times.contains_key(&id.get())
            && known.fs.is_same(fs)
        {
            known.accessed.insert(id.get());
        }
    }

    /// Returns whether some object is told with other times than the image has.
    pub(crate) fn knows_times(&self) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| !known.files.times.is_empty())
    }

    /// Lists a directory from a cookie on, as [`Descriptor::read_dir`] does. What a guest
    /// knows of it that goes on is listed as far as a second cookie.
    pub(crate) fn list(
        &self,
        dir: &Descriptor,
        (cookie, until): (u64, u64),
        sink: &mut dyn FnMut(Listed<'_>) -> ControlFlow<()>,
    ) -> Result<(), Errno> {
        match self.order_of(dir) {
            Some(order) => order.list(dir, (cookie, until), sink),
            None => dir.read_dir_with(cookie, sink),
        }
    }

    fn order_of(&self, dir: &Descriptor) -> Option<&DirOrder> {
        let known = self.known.as_ref()?;
        let is_its = known.fs.is_same(dir.fs());
        is_its.then(|| known.files.orders.get(&dir.id().get()))?
    }

    /// Returns what the guest was told of its open directories that no other instance would tell it.
    #[cfg(feature = "freeze")]
    pub(crate) fn told_dirs(&self) -> Vec<KnownDir> {
        let dirs = (0..).zip(self.table.slots()).filter_map(|(fd, slot)| {
            let Slot::Dir(dir) = slot else { return None };
            let restored = dir.restored.as_ref();
            let until =
                restored.map_or(u64::MAX, |restored| restored.until.load(Ordering::Relaxed));
            let until = match until {
                u64::MAX => self.list_end(&dir.descriptor),
                until => until,
            };
            let parent = match restored.and_then(|restored| restored.parent) {
                Some(parent) => Some(parent),
                None => self.removed_from(&dir.descriptor),
            };
            let is_plain = until == u64::MAX && parent.is_none();
            (!is_plain).then_some(KnownDir { fd, until, parent })
        });
        dirs.collect()
    }

    /// Returns where the list ends that a directory is in the middle of, as a cookie of the guest's.
    #[cfg(feature = "freeze")]
    fn list_end(&self, dir: &Descriptor) -> u64 {
        match (dir.begun_listing(), self.order_of(dir)) {
            (None, _) => u64::MAX,
            (Some(end), None) => end,
            (Some(end), Some(order)) => end.saturating_sub(order.slots).saturating_add(order.end),
        }
    }

    /// Returns the number of the directory that a removed one was in.
    #[cfg(feature = "freeze")]
    fn removed_from(&self, dir: &Descriptor) -> Option<u64> {
        let is_removed = dir.stat().is_ok_and(|stat| stat.nlink == 0);
        let parent = is_removed.then(|| dir.parent_id().ok())??;
        Some(self.number(dir.fs(), dir.fs().device(), parent))
    }

    /// Has open directories tell what they told before. Numbers that are no directory's are
    /// left out.
    #[cfg(feature = "freeze")]
    pub(crate) fn know_dirs(&mut self, dirs: impl IntoIterator<Item = KnownDir>) {
        for known in dirs {
            let Some(Slot::Dir(dir)) = self.table.slot_mut(known.fd) else {
                continue;
            };
            // What comes from now on is not in the list.
            if known.until == u64::MAX || dir.descriptor.begin_listing().is_ok() {
                dir.restored = Some(Box::new(RestoredDir {
                    until: AtomicU64::new(known.until),
                    parent: known.parent,
                }));
            }
        }
    }

    /// Returns whether the guest knows its files as the image has them.
    pub(crate) fn knows_plainly(&self) -> bool {
        let known = self.known.as_ref();
        known.is_none_or(|known| known.files.is_plain())
    }

    /// Returns the directories whose order the guest knows already.
    pub(crate) fn ordered(&self) -> Vec<FileId> {
        let known = self
            .known
            .iter()
            .flat_map(|known| known.files.orders.keys());
        known
            .filter_map(|id| std::num::NonZeroU64::new(*id).map(FileId::new))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;

    #[test]
    fn numbers_stay_what_they_were() {
        let run = |now, known, count| NumberRun { now, known, count };
        // Object 4 of 9 is the checkpoint's; the fifth of the others was made last.
        let runs = vec![run(1, 1, 4), run(5, 20, 1), run(6, 5, 3)];
        let files = KnownFiles::new(9, vec![4], runs);
        let restored: Vec<u64> = (1..10).map(|id| files.number(id)).collect();
        assert_eq!(restored, [1, 2, 3, UNKNOWN | 4, 4, 20, 5, 6, 7]);
        assert!(!files.is_plain() && KnownFiles::plain(9).is_plain());
        // Two things that the host put there have 10 and 11; one of them has a name.
        let known = KnownInstance {
            fs: Fs::new(&Image::empty()),
            files: Arc::new(files),
            named: HashMap::from([(11, 8)]),
            first: (12, 21),
            accessed: HashSet::new(),
        };
        let restored: Vec<u64> = (9..14).map(|id| known.number(id)).collect();
        assert_eq!(restored, [7, UNKNOWN | 10, 8, 21, 22]);
        // What nothing is known of has a number that nothing else has.
        let none = KnownFiles::new(2, Vec::new(), Vec::new());
        assert_eq!(none.number(2), UNKNOWN | 2);
        let huge = KnownFiles::new(1, Vec::new(), vec![run(1, u64::MAX, u64::MAX)]);
        assert_eq!(huge.number(1), u64::MAX);
    }
}
