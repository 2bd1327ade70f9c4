//! A bound on what all instances of a host hold together.
//!
//! Quotas bound each instance by what it wrote; what a thousand of them may
//! cost together is another question. A [`Budget`] counts the memory that is
//! really held, each shared block once, wherever it is held from: instances,
//! forks, snapshots. So its count follows allocations, not calls.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::{fmt, io};

use parking_lot::Mutex;

use crate::errno::Errno;
use crate::limits::{BLOCK_BYTES, SPILL_RESERVE};
use crate::spill::SpillFile;
use crate::weak_table::WeakTable;

/// A bound on the memory of many instances, in bytes. Cloning gives another
/// handle on the same one.
///
/// Counted are the blocks of files, each once however many instances, forks
/// and snapshots hold it, and [`OBJECT_BYTES`](crate::limits::OBJECT_BYTES)
/// for each object that an instance made or changed, targets of symbolic
/// links, further names and removed ones beside; also memory that an instance
/// keeps for its next writes, which all of them give back before any is refused.
/// A call that has no room gives [`Errno::NoSpace`], and a write may be cut short,
/// as past a quota. What makes room, such as removing a name, is counted but never
/// refused.
///
/// ```
/// use stratafs::{budget::Budget, image::Image, vfs::Fs};
///
/// let budget = Budget::new(1 << 20);
/// let fs = Fs::builder(&Image::empty()).budget(&budget, "one").build();
/// assert!(fs.write("/big", vec![1; 2 << 20]).is_err());
/// let holders = budget.holders();
/// assert_eq!((&*holders[0].label, holders[0].bytes), ("one", budget.held_bytes()));
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Ledger>);

struct Ledger {
    max: u64,
    /// As many of them as blocks of files may take: what is left is for objects
    /// if blocks can go elsewhere.
    max_blocks: u64,
    spill: Option<Spill>,
    /// Atomic, never above `max` but by what must not be refused.
    held: AtomicU64,
    /// The most of them that [`Account::note_peak`] saw. Atomic.
    peak: AtomicU64,
    /// Those of them that are kept for the next writes. Atomic.
    spare: AtomicU64,
    /// Numbers of accounts. Atomic.
    next: AtomicU64,
    /// By number: all accounts that somebody holds something on.
    tabs: WeakTable<u64, Tab>,
}

/// Where blocks go that have no room, and who took how much of that.
struct Spill {
    file: Arc<SpillFile>,
    /// Counts bytes of the file.
    ledger: Budget,
}

/// What one instance took, wherever it is held by now.
struct Tab {
    ledger: Arc<Ledger>,
    number: u64,
    label: Box<str>,
    /// Atomic.
    held: AtomicU64,
    /// What holds spare memory on this account.
    keepers: Mutex<Vec<Weak<dyn Keeper>>>,
}

/// Holds memory that nothing is in.
pub(crate) trait Keeper: Send + Sync {
    /// Releases it, and takes it off the account that paid.
    fn give_back(&self);
}

/// One instance and what it has taken of a [`Budget`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The name that the host gave it; its forks have the same.
    pub label: Box<str>,
    /// Bytes that it took and that it, a fork or a snapshot still holds.
    pub bytes: u64,
}

impl Budget {
    /// Makes a budget of `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: u64) -> Self {
        Self::with(max_bytes, None)
    }

    /// Makes a budget of `max_bytes` of memory, past which blocks of files live in
    /// a file without a name in the directory `dir` of the host: `max_spilled`
    /// bytes of them at most. A guest does not notice but for the time; once the
    /// file or its file system is full, a write fails with [`Errno::NoSpace`].
    ///
    /// Blocks of files take three quarters of `max_bytes`, and what is left is for
    /// objects, which never go to the file. The file is mapped, so that what was
    /// read or written of it lies in the system's cache as long as there is room,
    /// and counts as the cache of a control group and as shared memory of the
    /// process. Room is reserved before it is written. It is given back when its
    /// blocks are, within the bound for memory kept for the next writes; nothing
    /// is left of the file when the process ends, however it ends. Dropped with
    /// the last instance, fork and snapshot that is counted here and the last
    /// handle.
    ///
    /// A block that is not in the cache is read while its instance is locked. A
    /// disk that fails to read or write it ends the process with SIGBUS, as it does
    /// for each mapped file.
    ///
    /// # Errors
    ///
    /// That of the system if no file can be made in `dir` or its file system does
    /// not reserve room; [`io::ErrorKind::Unsupported`] on systems other than Linux.
    ///
    /// ```no_run
    /// use stratafs::{budget::Budget, image::Image, vfs::Fs};
    ///
    /// let budget = Budget::with_spill(64 << 20, "/var/tmp".as_ref(), 10 << 30)?;
    /// let fs = Fs::builder(&Image::empty()).max_bytes(1 << 30).budget(&budget, "one").build();
    /// fs.write("/big", vec![1; 200 << 20])?;
    /// assert!(budget.held_bytes() <= 64 << 20 && budget.spilled_bytes() >= 136 << 20);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_spill(max_bytes: u64, dir: &Path, max_spilled: u64) -> io::Result<Self> {
        let file = Arc::new(SpillFile::create(dir)?);
        let ledger = Self::new(max_spilled);
        Ok(Self::with(max_bytes, Some(Spill { file, ledger })))
    }

    fn with(max_bytes: u64, spill: Option<Spill>) -> Self {
        let reserve = spill.as_ref().map_or(0, |_| max_bytes / SPILL_RESERVE);
        Self(Arc::new(Ledger {
            max: max_bytes,
            max_blocks: max_bytes - reserve,
            spill,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            spare: AtomicU64::new(0),
            next: AtomicU64::new(0),
            tabs: WeakTable::default(),
        }))
    }

    /// Returns the bound, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        self.0.max
    }

    /// Returns what all instances hold now, each shared block once, what they keep
    /// for their next writes included. O(1).
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Returns how many bytes of the file hold blocks that memory had no room for,
    /// each once, those kept for the next writes included; 0 without such a file.
    /// O(1).
    #[must_use]
    pub fn spilled_bytes(&self) -> u64 {
        let spill = self.0.spill.as_ref();
        spill.map_or(0, |spill| spill.ledger.held_bytes())
    }

    /// Returns the most that [`spilled_bytes`](Self::spilled_bytes) ever was. O(1).
    #[must_use]
    pub fn most_spilled_bytes(&self) -> u64 {
        let spill = self.0.spill.as_ref();
        spill.map_or(0, |spill| spill.ledger.0.peak.load(Ordering::Relaxed))
    }

    /// Returns which instance took what, in the order in which they were made:
    /// each that lives, and each that is gone but has left something to a fork
    /// or a snapshot. The bytes add up to [`held_bytes`](Self::held_bytes) when
    /// nothing is under way. O(instances).
    #[must_use]
    pub fn holders(&self) -> Vec<Holder> {
        let mut tabs = self.0.tabs.live();
        tabs.sort_by_key(|tab| tab.number);
        tabs.iter()
            .map(|tab| Holder {
                label: tab.label.clone(),
                bytes: tab.held.load(Ordering::Relaxed),
            })
            .collect()
    }

    /// Takes `bytes` for something that a host holds beside its instances, such
    /// as a base read into memory, until the reservation is dropped. It stands
    /// under `label` among the [`holders`](Self::holders).
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has not so many bytes left.
    pub fn reserve(&self, bytes: u64, label: &str) -> Result<Reservation, Errno> {
        let account = self.account(label);
        account.take(bytes)?;
        Ok(Reservation { account, bytes })
    }

    /// Opens an account. One short lock of a shard of the list of accounts.
    pub(crate) fn account(&self, label: &str) -> Account {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let tab = Arc::new(Tab {
            ledger: Arc::clone(&self.0),
            number,
            label: label.into(),
            held: AtomicU64::new(0),
            keepers: Mutex::default(),
        });
        self.0.tabs.insert(number, &tab);
        Account(Some(tab))
    }
}

impl Ledger {
    /// Lets all instances give their spare memory back, if no more than `max` are
    /// held with `bytes` then. Returns whether they did. O(instances), and no more
    /// often than memory was kept that would have been enough.
    fn reclaim(&self, bytes: u64, max: u64) -> bool {
        let spare = self.spare.load(Ordering::Relaxed);
        let in_use = self.held.load(Ordering::Relaxed).saturating_sub(spare);
        let sum = in_use.checked_add(bytes);
        let is_enough = spare > 0 && sum.is_some_and(|sum| sum <= max);
        if is_enough {
            for tab in self.tabs.live() {
                let keepers = tab.keepers.lock().clone();
                let keepers = keepers.iter().filter_map(Weak::upgrade);
                keepers.for_each(|keeper| keeper.give_back());
            }
        }
        is_enough
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {} bytes)", self.held_bytes(), self.0.max)
    }
}

impl Tab {
    /// Takes `bytes`, if no more than `max` are held then.
    fn take(&self, bytes: u64, max: u64) -> Result<(), Errno> {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= max);
        let taken = self
            .ledger
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Errno::NoSpace)?;
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.ledger.tabs.forget_dead(&self.number);
    }
}

/// Whether what costs something may be refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    Yes,
    /// It makes room in the end, or was asked for before.
    No,
}

/// Who pays for what is allocated; nobody where the host set no budget.
#[derive(Clone, Default)]
pub(crate) struct Account(Option<Arc<Tab>>);

impl Account {
    /// An account of the same budget under the same label.
    pub(crate) fn another(&self) -> Self {
        self.0.as_ref().map_or_else(Self::default, |tab| {
            Budget(Arc::clone(&tab.ledger)).account(&tab.label)
        })
    }

    /// Takes `bytes`, or nothing. What others keep for their next writes goes
    /// first: nothing of theirs may be locked.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has not so many left.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), Errno> {
        let Some(tab) = &self.0 else {
            return Ok(());
        };
        let max = tab.ledger.max;
        match tab.take(bytes, max) {
            Err(_) if tab.ledger.reclaim(bytes, max) => tab.take(bytes, max),
            taken => taken,
        }
    }

    /// As [`take`](Self::take), for bytes of blocks.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has not so many left for blocks.
    pub(crate) fn take_block(&self, bytes: u64) -> Result<(), Errno> {
        match self.take_block_at_once(bytes) {
            Err(_) if self.reclaim_block(bytes) => self.take_block_at_once(bytes),
            taken => taken,
        }
    }

    /// Lets all instances of the budget give their spare memory back, if `bytes`
    /// of a block have room then. Returns whether they did.
    pub(crate) fn reclaim_block(&self, bytes: u64) -> bool {
        let tab = self.0.as_ref();
        tab.is_some_and(|tab| tab.ledger.reclaim(bytes, tab.ledger.max_blocks))
    }

    /// Takes `bytes` of what is left for blocks now, or nothing.
    ///
    /// # Errors
    ///
    /// As [`take_block`](Self::take_block).
    pub(crate) fn take_block_at_once(&self, bytes: u64) -> Result<(), Errno> {
        let tab = self.0.as_ref();
        tab.map_or(Ok(()), |tab| tab.take(bytes, tab.ledger.max_blocks))
    }

    /// Where blocks go that have no room, and an account for bytes of that; none
    /// if there is no such place.
    pub(crate) fn spill(&self) -> Option<(Arc<SpillFile>, Self)> {
        let tab = self.0.as_ref()?;
        let spill = tab.ledger.spill.as_ref()?;
        Some((Arc::clone(&spill.file), spill.ledger.account(&tab.label)))
    }

    /// Notes how much is held now, if it never was more.
    pub(crate) fn note_peak(&self) {
        if let Some(tab) = &self.0 {
            let held = tab.ledger.held.load(Ordering::Relaxed);
            tab.ledger.peak.fetch_max(held, Ordering::Relaxed);
        }
    }

    /// Returns whether a block more has room now.
    pub(crate) fn has_room_for_block(&self) -> bool {
        self.0.as_ref().is_none_or(|tab| {
            let held = tab.ledger.held.load(Ordering::Relaxed);
            held.saturating_add(BLOCK_BYTES as u64) <= tab.ledger.max_blocks
        })
    }

    /// Returns whether there is a place for blocks that have no room.
    pub(crate) fn has_spill(&self) -> bool {
        let tab = self.0.as_ref();
        tab.is_some_and(|tab| tab.ledger.spill.is_some())
    }

    /// Takes `bytes` whatever is left.
    pub(crate) fn overdraw(&self, bytes: u64) {
        if let Some(tab) = &self.0 {
            tab.ledger.held.fetch_add(bytes, Ordering::Relaxed);
            tab.held.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Notes that `bytes` of those taken are kept for the next writes.
    pub(crate) fn keep(&self, bytes: u64) {
        if let Some(tab) = &self.0 {
            tab.ledger.spare.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Notes that `bytes` of those kept are in use, or given back.
    pub(crate) fn unkeep(&self, bytes: u64) {
        if let Some(tab) = &self.0 {
            tab.ledger.spare.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Returns whether nobody pays.
    pub(crate) fn is_nobody(&self) -> bool {
        self.0.is_none()
    }

    /// Notes what holds spare memory on this account.
    pub(crate) fn add_keeper(&self, keeper: Weak<dyn Keeper>) {
        if let Some(tab) = &self.0 {
            let mut keepers = tab.keepers.lock();
            keepers.retain(|keeper| keeper.strong_count() > 0);
            keepers.push(keeper);
        }
    }

    /// Puts what was taken back into the budget.
    pub(crate) fn give(&self, bytes: u64) {
        if let Some(tab) = &self.0 {
            tab.ledger.held.fetch_sub(bytes, Ordering::Relaxed);
            tab.held.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// Bytes of a [`Budget`] that a host holds for itself; dropping it gives them
/// back. Made by [`Budget::reserve`].
#[must_use = "the bytes are given back when this is dropped"]
pub struct Reservation {
    account: Account,
    bytes: u64,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reservation({} bytes)", self.bytes)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.give(self.bytes);
    }
}

/// Bytes taken for as long as this lives. A clone takes as many again, and is
/// not refused.
#[derive(Default)]
pub(crate) struct Charge {
    account: Account,
    bytes: u64,
}

impl Charge {
    /// Takes `bytes`.
    ///
    /// # Errors
    ///
    /// As [`Account::take`].
    pub(crate) fn take(account: &Account, bytes: u32) -> Result<Self, Errno> {
        account.take(bytes.into())?;
        Ok(Self {
            account: account.clone(),
            bytes: bytes.into(),
        })
    }

    /// Takes `bytes` whatever is left.
    pub(crate) fn overdraw(account: &Account, bytes: u32) -> Self {
        let mut hold = Self {
            account: account.clone(),
            bytes: 0,
        };
        hold.overdraw_more(bytes.into());
        hold
    }

    /// Takes as many bytes from `account`, whatever is left: whoever makes a
    /// copy to change it pays for the copy.
    pub(crate) fn copy_for(&self, account: &Account) -> Self {
        let mut hold = Self::overdraw(account, 0);
        hold.overdraw_more(self.bytes);
        hold
    }

    /// Returns the bytes taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `bytes` more.
    ///
    /// # Errors
    ///
    /// As [`Account::take`].
    pub(crate) fn take_more(&mut self, bytes: u32) -> Result<(), Errno> {
        self.account.take(bytes.into())?;
        self.bytes += u64::from(bytes);
        Ok(())
    }

    /// Takes `bytes` more whatever is left.
    pub(crate) fn overdraw_more(&mut self, bytes: u64) {
        self.account.overdraw(bytes);
        self.bytes += bytes;
    }

    /// Puts `bytes` of those taken back into the budget.
    pub(crate) fn give_back(&mut self, bytes: u32) {
        let given = u64::from(bytes).min(self.bytes);
        self.account.give(given);
        self.bytes -= given;
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        self.copy_for(&self.account)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_whoever_holds_it() {
        let budget = Budget::new(100);
        let (one, two) = (budget.account("one"), budget.account("two"));
        let hold = Charge::take(&one, 60).unwrap();
        assert!(Charge::take(&two, 41).is_err());
        let rest = Charge::take(&two, 40).unwrap();
        assert_eq!(budget.held_bytes(), 100);
        // A copy of what is there is not refused.
        let copy = hold.clone();
        assert_eq!(budget.held_bytes(), 160);
        drop((one, hold));
        let shares: Vec<_> = budget.holders().into_iter().map(|one| one.bytes).collect();
        assert_eq!(shares, [60, 40]);
        drop((copy, rest, two));
        assert_eq!((budget.held_bytes(), budget.holders().len()), (0, 0));
    }

    #[test]
    fn a_reservation_leaves_less_for_instances_until_it_is_dropped() {
        let budget = Budget::new(100);
        let base = budget.reserve(70, "base").unwrap();
        let one = budget.account("one");
        assert!(one.take(31).is_err());
        assert!(budget.reserve(31, "more").is_err());
        assert_eq!(budget.held_bytes(), 70);
        drop(base);
        assert!(one.take(100).is_ok());
        one.give(100);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn threads_that_race_never_take_more_than_there_is() {
        let budget = Budget::new(1_000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let account = budget.account("t");
                let budget = &budget;
                scope.spawn(move || {
                    for _ in 0..10_000 {
                        if account.take(7).is_ok() {
                            assert!(budget.held_bytes() <= 1_000);
                            account.give(7);
                        }
                    }
                });
            }
        });
        assert_eq!(budget.held_bytes(), 0);
    }
}
