//! Pages of private bytes, cut from larger mappings. One of three places with
//! unsafe code.
//!
//! A block that is written costs no call of the allocator: an instance maps
//! memory in slabs, small ones first, and takes pages from them in order, so
//! that blocks written one after the other lie together. From the size of a
//! huge page on a slab is one. Each page has a count of its own holders, which
//! may be other instances; the last of them gives it back to its slab.
//!
//! Pages that nobody holds stay for the next writes of their instance, but
//! never more than it has in use, [`SPARE_PAGES`], and what it has got of the
//! pages that the whole process may keep ([`spare`]): then the memory of all of
//! them goes back to the system, wherever in a slab they lie. Once the
//! instance is gone, a slab keeps fewer that nobody holds than are in use, and is
//! unmapped with its last page. Whoever made the slab pays for each page whose
//! memory is there, held or not; a huge page is there as a whole.
//!
//! Bytes of a base lie in mappings of their own: see [`arena`].
//!
//! Where a budget has a file to spill to, pages that it has no memory for are cut
//! from mappings of that file in the same way, and paid in bytes of the file.

#![allow(
    unsafe_code,
    reason = "pages of one mapping are shared and changed apart from each other"
)]

mod arena;
#[cfg(not(all(unix, not(miri))))]
mod heap;
#[cfg(all(unix, not(miri)))]
mod mapped;
mod page;
mod spare;

#[cfg(not(all(unix, not(miri))))]
use heap::Memory;
#[cfg(all(unix, not(miri)))]
use mapped::Memory;

pub(super) use arena::Arena;
pub(crate) use page::{GonePages, Page};
use spare::Spare;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::budget::{Account, Asking, Keeper};
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;
use crate::spill::SpillFile;

/// Pages of a slab at most: together the size of a huge page of most systems.
const MAX_SLAB_PAGES: usize = 512;

/// Pages of the first slab of an instance.
const MIN_SLAB_PAGES: usize = 16;

/// Unused pages that an instance may keep besides as many as it uses.
const SPARE_PAGES: i64 = 256;

/// Pages of a file for which room is reserved at once.
const RESERVED_PAGES: usize = 16;

/// Pages from which on those of one write are taken together, and how many at most.
const MIN_STOCK_PAGES: usize = 4;
const MAX_STOCK_PAGES: usize = 64;

/// What a page in use counts in [`PageCounts::both`]: more than there can be idle.
const IN_USE: u64 = 1 << 32;

/// Words of a set of the pages of a slab.
const WORDS: usize = MAX_SLAB_PAGES / 64;

/// The slabs of one instance, and who pays for what is taken from them. Holds
/// nothing before the first page is taken.
#[derive(Default)]
pub(crate) struct Pages {
    account: Account,
    slabs: Vec<Arc<Slab>>,
    /// The slab that pages are taken from, by its place in `slabs`.
    open: usize,
    counts: Option<Arc<PageCounts>>,
    /// Where slabs are mapped from, if they are not memory.
    file: Option<Arc<SpillFile>>,
    /// Pages of a file, for those that there is no memory for.
    spilled: Option<Box<Pages>>,
    /// Taken beforehand for one write, the last to come first.
    stock: Vec<Page>,
}

/// Counts of the pages of all slabs of an instance.
#[derive(Default)]
struct PageCounts {
    /// Those in use, times [`IN_USE`], and those that are not, but whose memory is
    /// there: in one word, since most steps change both. Each slab's part is changed
    /// under its lock.
    both: AtomicU64,
    /// Set when the instance is gone.
    orphaned: AtomicBool,
    /// What it may keep beyond its own bound. Absent for pages of a file.
    spare: Option<Spare>,
    /// Locked before the state of a slab.
    slabs: Mutex<Vec<Weak<Slab>>>,
}

impl PageCounts {
    fn in_use(&self) -> i64 {
        i64::try_from(self.both.load(Ordering::Relaxed) / IN_USE).unwrap_or(0)
    }

    fn idle(&self) -> i64 {
        i64::try_from(self.both.load(Ordering::Relaxed) % IN_USE).unwrap_or(0)
    }

    /// Takes note of `in_use` pages more in use, and `idle` more that are not.
    fn add(&self, in_use: i64, idle: i64) {
        let both = in_use.wrapping_mul(IN_USE.cast_signed()).wrapping_add(idle);
        self.both.fetch_add(both.cast_unsigned(), Ordering::Relaxed);
    }

    /// Returns how many idle pages an instance may keep.
    fn bound(&self) -> i64 {
        let spare = self.spare.as_ref().map_or(0, Spare::pages);
        self.in_use() + SPARE_PAGES + spare
    }

    fn is_past_bound(&self) -> bool {
        self.idle() > self.bound()
    }

    /// Raises the bound if the process has pages to spare, else gives memory back.
    #[cold]
    fn keep_to_bound(&self) {
        let is_raised = self.spare.as_ref().is_some_and(Spare::grow);
        if !is_raised {
            self.sweep();
        }
    }

    /// Releases memory until half of the bound is idle: of slabs that are idle as
    /// a whole, which stay as good for huge pages as they were, and where that is
    /// not enough to keep the bound, of all. O(slabs and ranges of idle pages), for
    /// so many pages that went.
    fn sweep(&self) {
        let target = self.bound() / 2;
        for slab in self.slabs.lock().iter().filter_map(Weak::upgrade) {
            let mut state = slab.state.lock();
            if state.idles as usize == slab.holders.len() {
                slab.give_back(&mut state);
            }
            if self.idle() <= target {
                return;
            }
        }
        if self.is_past_bound() {
            self.give_back();
        }
    }
}

impl Keeper for PageCounts {
    /// Releases the memory of all idle pages. O(slabs and ranges of such pages).
    fn give_back(&self) {
        for slab in self.slabs.lock().iter().filter_map(Weak::upgrade) {
            slab.give_back(&mut slab.state.lock());
        }
        if let Some(spare) = &self.spare {
            spare.give_back();
        }
    }
}

/// A mapping, its pages, and how many holders each of them has.
struct Slab {
    memory: Memory,
    holders: Box<[AtomicU32]>,
    state: Mutex<SlabState>,
    counts: Arc<PageCounts>,
    account: Account,
}

/// Which pages of a slab are free, and the memory of which of those is there.
struct SlabState {
    free: [u64; WORDS],
    idle: [u64; WORDS],
    frees: u32,
    idles: u32,
}

impl Pages {
    /// Makes an empty one whose pages are paid from `account`.
    #[inline]
    pub(crate) fn new(account: Account) -> Self {
        Self {
            account,
            slabs: Vec::new(),
            open: 0,
            counts: None,
            file: None,
            spilled: None,
            stock: Vec::new(),
        }
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Takes a page, of whose bytes none count yet.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has no room for it or the system has no
    /// memory, and there is no file to spill to or that one is full too.
    pub(crate) fn take(&mut self) -> Result<Page, Errno> {
        if let Some(page) = self.stock.pop() {
            return Ok(page);
        }
        let is_full = self.spilled.is_some()
            && self.own_idle_bytes() == 0
            && !self.account.has_room_for_block();
        let mut found = match is_full {
            true => Err(Errno::NoSpace),
            false => self.find(Asking::Yes),
        };
        // What is kept for other writes stands in the way of this one.
        if found.is_err() && self.account.reclaim_block(BLOCK_BYTES as u64) {
            found = self.find(Asking::Yes);
        }
        match self.spilled() {
            Some(spilled) if found.is_err() => spilled.take(),
            _ => found,
        }
    }

    /// Takes up to `count` pages beforehand where that takes one lock and asks
    /// nobody. [`give_stock_back`](Self::give_stock_back) is to follow.
    #[inline]
    pub(crate) fn stock(&mut self, count: usize) {
        if count >= MIN_STOCK_PAGES && self.stock.is_empty() {
            self.stock_more(count.min(MAX_STOCK_PAGES));
        }
    }

    fn stock_more(&mut self, count: usize) {
        if let Some(slab) = self.slabs.get(self.open) {
            Slab::take_more(slab, count, &mut self.stock);
            self.stock.reverse();
        }
    }

    /// Frees what was taken beforehand and is left.
    #[inline]
    pub(crate) fn give_stock_back(&mut self) {
        if !self.stock.is_empty() {
            let mut gone = GonePages::default();
            self.stock.drain(..).for_each(|page| gone.take(page));
        }
    }

    /// Where pages are taken from that there is no memory for.
    fn spilled(&mut self) -> Option<&mut Self> {
        if self.spilled.is_none() && self.account.has_spill() {
            let (file, account) = self.account.spill()?;
            let mut pages = Self::new(account);
            pages.file = Some(file);
            self.spilled = Some(Box::new(pages));
        }
        self.spilled.as_deref_mut()
    }

    /// As [`take`](Self::take), whatever the budget has left.
    pub(crate) fn take_unasked(&mut self) -> Option<Page> {
        if self.account.has_spill()
            && let Ok(page) = self.take()
        {
            return Some(page);
        }
        self.find(Asking::No).ok()
    }

    /// Returns the bytes of pages that are kept for the next writes. O(1).
    pub(crate) fn idle_bytes(&self) -> u64 {
        let spilled = self.spilled.as_ref();
        self.own_idle_bytes() + spilled.map_or(0, |spilled| spilled.own_idle_bytes())
    }

    fn own_idle_bytes(&self) -> u64 {
        let idle = self.counts.as_ref();
        let idle = idle.map_or(0, |counts| counts.idle());
        u64::try_from(idle).unwrap_or(0) * BLOCK_BYTES as u64
    }

    /// Releases to the system the memory of pages that nobody holds, and room in
    /// a file too.
    pub(crate) fn give_back(&self) {
        let counts = self.counts.iter();
        let spilled = self.spilled.iter();
        let counts = counts.chain(spilled.filter_map(|spilled| spilled.counts.as_ref()));
        counts.for_each(|counts| counts.give_back());
    }

    fn find(&mut self, asking: Asking) -> Result<Page, Errno> {
        let open = self.slabs.get(self.open);
        if let Some(found) = open.and_then(|slab| Slab::take(slab, asking)) {
            return found;
        }
        let (before, after) = self.slabs.split_at(self.open.min(self.slabs.len()));
        let mut others = (self.open..).zip(after).chain((0..).zip(before));
        let found = others.find_map(|(at, slab)| Some((at, Slab::take(slab, asking)?)));
        if let Some((at, found)) = found {
            self.open = at;
            return found;
        }
        let slab = Arc::new(self.map().ok_or(Errno::NoSpace)?);
        slab.counts.slabs.lock().push(Arc::downgrade(&slab));
        let found = Slab::take(&slab, asking).ok_or(Errno::NoSpace)?;
        self.open = self.slabs.len();
        self.slabs.push(slab);
        found
    }

    /// Maps a slab. Returns none if the system has no memory.
    fn map(&mut self) -> Option<Slab> {
        if let Some(file) = &self.file {
            let memory = Memory::in_file(file, MAX_SLAB_PAGES)?;
            return self.slab(memory, false);
        }
        self.map_memory()
    }

    /// Maps as much memory as there is already.
    fn map_memory(&mut self) -> Option<Slab> {
        let had: usize = match self.slabs.len() {
            // From here on all are of the largest size.
            16.. => MAX_SLAB_PAGES,
            _ => self.slabs.iter().map(|slab| slab.holders.len()).sum(),
        };
        let pages = had
            .clamp(MIN_SLAB_PAGES, MAX_SLAB_PAGES)
            .next_power_of_two();
        let whole = (MAX_SLAB_PAGES * BLOCK_BYTES) as u64;
        // The first write to a huge page brings all of it.
        let is_huge = Memory::HAS_HUGE
            && pages == MAX_SLAB_PAGES
            && self.account.take_block_at_once(whole).is_ok();
        let mapped = Memory::map(pages, is_huge);
        if mapped.is_none() && is_huge {
            self.account.give(whole);
        }
        self.slab(mapped?, is_huge)
    }

    /// Makes a slab of a mapping none of whose pages is taken. If `is_there`, the
    /// memory of all of them is and has been paid for.
    fn slab(&mut self, memory: Memory, is_there: bool) -> Option<Slab> {
        let pages = memory.pages();
        let mut free = [0; WORDS];
        (0..pages).for_each(|index| set(&mut free, index, true));
        let account = &self.account;
        let counts = self.counts.get_or_insert_with(|| {
            let spare = (!memory.is_in_file()).then(Spare::default);
            let counts = Arc::new(PageCounts {
                spare,
                ..PageCounts::default()
            });
            let keeper: Weak<PageCounts> = Arc::downgrade(&counts);
            account.add_keeper(keeper);
            counts
        });
        let frees = u32::try_from(pages).ok()?;
        let idles = if is_there { frees } else { 0 };
        counts.add(0, idles.into());
        account.keep(u64::from(idles) * BLOCK_BYTES as u64);
        Some(Slab {
            memory,
            holders: (0..pages).map(|_| AtomicU32::new(0)).collect(),
            state: Mutex::new(SlabState {
                free,
                idle: if is_there { free } else { [0; WORDS] },
                frees,
                idles,
            }),
            counts: Arc::clone(counts),
            account: account.clone(),
        })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts.orphaned.store(true, Ordering::Relaxed);
            counts.spare.iter().for_each(Spare::give_back);
        }
        for slab in &self.slabs {
            slab.give_back(&mut slab.state.lock());
        }
    }
}

impl Slab {
    /// Takes the first page that is free, or returns none if no page is. O(1).
    fn take(this: &Arc<Self>, asking: Asking) -> Option<Result<Page, Errno>> {
        let mut state = this.state.lock();
        if state.frees == 0 {
            return None;
        }
        let index = first(&state.free)?;
        let mut idles = 0;
        if has(&state.idle, index) {
            set(&mut state.idle, index, false);
            state.idles -= 1;
            idles = 1;
            this.account.unkeep(BLOCK_BYTES as u64);
        } else if let Err(errno) = this.bring(&mut state, index, asking) {
            return Some(Err(errno));
        }
        let page = Self::hand_out(this, &mut state, index);
        this.counts.add(1, -idles);
        page.map(Ok)
    }

    /// Takes some pages that cost nothing, or have been paid for.
    fn take_more(this: &Arc<Self>, count: usize, pages: &mut Vec<Page>) {
        let mut state = this.state.lock();
        let (mut taken, mut idles) = (0, 0);
        let is_free = this.account.is_nobody() && !this.memory.is_in_file();
        while taken < count
            && let Some(index) = first(&state.free)
        {
            let is_idle = has(&state.idle, index);
            if !is_idle && !is_free {
                break;
            }
            if is_idle {
                set(&mut state.idle, index, false);
                state.idles -= 1;
                idles += 1;
            }
            pages.extend(Self::hand_out(this, &mut state, index));
            taken += 1;
        }
        this.account.unkeep(idles * BLOCK_BYTES as u64);
        let idles = i64::try_from(idles).unwrap_or(0);
        this.counts.add(i64::try_from(taken).unwrap_or(0), -idles);
    }

    /// Makes a free page one that is held.
    fn hand_out(this: &Arc<Self>, state: &mut SlabState, index: usize) -> Option<Page> {
        let holders = this.holders.get(index)?;
        if state.frees as usize == this.holders.len() {
            // The count that all held pages have together: see `release`.
            let _ = Arc::into_raw(Arc::clone(this));
        }
        set(&mut state.free, index, false);
        state.frees -= 1;
        holders.store(1, Ordering::Relaxed);
        Page::new(this, index)
    }

    /// Pays for a page whose memory is not there.
    fn bring(&self, state: &mut SlabState, index: usize, asking: Asking) -> Result<(), Errno> {
        if self.memory.is_in_file() {
            // Those that follow come along, so that the system is called less often.
            let follow = (index..self.holders.len()).take(RESERVED_PAGES);
            let follow = follow.take_while(|at| has(&state.free, *at) && !has(&state.idle, *at));
            let end = index + follow.count();
            let brought = self.reserve(state, index..end);
            return brought.or_else(|_| self.reserve(state, index..index + 1));
        }
        match asking {
            Asking::Yes => self.account.take_block_at_once(BLOCK_BYTES as u64),
            Asking::No => {
                self.account.overdraw(BLOCK_BYTES as u64);
                Ok(())
            }
        }
    }

    /// Reserves room in the file for some pages. All but the first are idle then.
    fn reserve(&self, state: &mut SlabState, pages: Range<usize>) -> Result<(), Errno> {
        let bytes = (pages.len() * BLOCK_BYTES) as u64;
        self.account.take_block_at_once(bytes)?;
        if self.memory.reserve(pages.clone()).is_err() {
            self.account.give(bytes);
            return Err(Errno::NoSpace);
        }
        self.account.note_peak();
        for index in pages.skip(1) {
            set(&mut state.idle, index, true);
            state.idles += 1;
            self.counts.add(0, 1);
            self.account.keep(BLOCK_BYTES as u64);
        }
        Ok(())
    }

    /// Takes back pages that nobody holds. Returns whether none is held now: then
    /// the caller has the count that held pages had, and is to let it go.
    fn release(&self, gone: &[u64; WORDS], count: u32) -> bool {
        self.account.keep(u64::from(count) * BLOCK_BYTES as u64);
        let mut state = self.state.lock();
        let SlabState { free, idle, .. } = &mut *state;
        for ((free, idle), gone) in free.iter_mut().zip(idle).zip(gone) {
            *free |= gone;
            *idle |= gone;
        }
        state.frees += count;
        state.idles += count;
        self.counts.add(-i64::from(count), count.into());
        let held = self.holders.len() - state.frees as usize;
        if !self.counts.orphaned.load(Ordering::Relaxed) {
            drop(state);
            if self.counts.is_past_bound() {
                self.counts.keep_to_bound();
            }
        } else if held > 0 && state.idles as usize >= held {
            // One of which nothing is in use is about to be unmapped.
            self.give_back(&mut state);
        }
        held == 0
    }

    /// Releases to the system the memory of all idle pages.
    fn give_back(&self, state: &mut SlabState) {
        if state.idles == 0 {
            return;
        }
        let is_all = state.idles as usize == self.holders.len();
        self.memory.let_be_huge(is_all);
        let mut from = 0;
        while let Some(range) = next_range(&state.idle, from..self.holders.len()) {
            self.memory.give_back(range.clone());
            from = range.end;
        }
        let bytes = u64::from(state.idles) * BLOCK_BYTES as u64;
        self.account.give(bytes);
        self.account.unkeep(bytes);
        self.counts.add(0, -i64::from(state.idles));
        state.idle = [0; WORDS];
        state.idles = 0;
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        let idles = self.state.get_mut().idles;
        self.counts.add(0, -i64::from(idles));
        let bytes = u64::from(idles) * BLOCK_BYTES as u64;
        self.account.give(bytes);
        self.account.unkeep(bytes);
    }
}

/// Returns the first page of a set.
fn first(set: &[u64; WORDS]) -> Option<usize> {
    let (at, word) = (0..).zip(set).find(|(_, word)| **word != 0)?;
    let bit = usize::try_from(word.trailing_zeros()).ok()?;
    Some(at * 64 + bit)
}

fn has(set: &[u64; WORDS], index: usize) -> bool {
    let word = set.get(index / 64);
    word.is_some_and(|word| word & (1 << (index % 64)) != 0)
}

fn set(set: &mut [u64; WORDS], index: usize, to: bool) {
    if let Some(word) = set.get_mut(index / 64) {
        let bit = 1 << (index % 64);
        *word = if to { *word | bit } else { *word & !bit };
    }
}

/// The first pages in `range` that follow each other in a set.
fn next_range(set: &[u64; WORDS], mut range: Range<usize>) -> Option<Range<usize>> {
    let start = range.find(|index| has(set, *index))?;
    let end = range.find(|index| !has(set, *index)).unwrap_or(range.end);
    Some(start..end)
}

#[cfg(test)]
mod tests;
