//! Pages of private bytes, cut from larger mappings: the one place with unsafe
//! code beside `store::map`.
//!
//! A block that is written costs no call of the allocator: an instance maps
//! memory in slabs, small ones first, and takes pages from them in order, so
//! that blocks written one after the other lie together. From the size of a
//! huge page on a slab is one. Each page has a count of its own holders, which
//! may be other instances; the last of them gives it back to its slab.
//!
//! Pages that nobody holds stay for the next writes of their instance, but
//! never more than it has in use and [`SPARE_PAGES`] besides: then the memory of
//! all of them goes back to the system, wherever in a slab they lie. Once the
//! instance is gone, a slab keeps less than [`LOOSE_PAGES`] that nobody holds,
//! and is unmapped with its last page.

#![allow(
    unsafe_code,
    reason = "pages of one mapping are shared and changed apart from each other"
)]

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering, fence};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::budget::Account;
use crate::errno::Errno;
use crate::limits::BLOCK_BYTES;

/// Pages of a slab at most: together the size of a huge page of most systems.
const MAX_SLAB_PAGES: usize = 512;

/// Pages of the first slab of an instance.
const MIN_SLAB_PAGES: usize = 16;

/// Unused pages that an instance may keep besides as many as it uses.
const SPARE_PAGES: i64 = 512;

/// Unused pages of one slab without an instance from which on giving them back is
/// worth a call of the system.
const LOOSE_PAGES: u32 = 64;

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
    counts: Option<Arc<Counts>>,
}

/// Counts of the pages of all slabs of an instance.
#[derive(Default)]
struct Counts {
    in_use: AtomicI64,
    /// Not in use, but their memory is there.
    idle: AtomicI64,
    /// Set when the instance is gone.
    orphaned: AtomicBool,
    /// Locked before the state of a slab.
    slabs: Mutex<Vec<Weak<Slab>>>,
}

impl Counts {
    /// Gives the memory of all idle pages back. O(slabs and ranges of such pages),
    /// once for [`SPARE_PAGES`] that went at least.
    fn give_back(&self) {
        for slab in self.slabs.lock().iter().filter_map(Weak::upgrade) {
            slab.give_back(&mut slab.state.lock());
        }
    }
}

/// A mapping, its pages, and how many holders each of them has.
struct Slab {
    memory: Memory,
    holders: Box<[AtomicU32]>,
    state: Mutex<State>,
    counts: Arc<Counts>,
    account: Account,
}

/// Which pages of a slab are free, and the memory of which of those is there.
struct State {
    free: [u64; WORDS],
    idle: [u64; WORDS],
    frees: u32,
    idles: u32,
}

/// A page that is held. Cloning it counts one holder more; the bytes can be
/// changed by a single holder only. As many of them count as the holder says.
pub(crate) struct Page {
    /// From `Arc::into_raw`; each page that is held keeps its slab once.
    slab: NonNull<Slab>,
    index: u16,
    len: u16,
    /// Always the same. An enum around this has its tag in the other values.
    _niche: bool,
}

impl Pages {
    /// Makes an empty one whose pages are paid from `account`.
    pub(crate) fn new(account: Account) -> Self {
        let mut pages = Self::default();
        pages.account = account;
        pages
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// Takes a page, of whose bytes none count yet.
    ///
    /// # Errors
    ///
    /// [`Errno::NoSpace`] if the budget has no room for it or the system has no
    /// memory.
    pub(crate) fn take(&mut self) -> Result<Page, Errno> {
        self.account.take(BLOCK_BYTES as u64)?;
        let page = self.find();
        if page.is_none() {
            self.account.give(BLOCK_BYTES as u64);
        }
        page.ok_or(Errno::NoSpace)
    }

    /// As [`take`](Self::take), whatever the budget has left.
    pub(crate) fn take_unasked(&mut self) -> Option<Page> {
        let page = self.find()?;
        self.account.overdraw(BLOCK_BYTES as u64);
        Some(page)
    }

    fn find(&mut self) -> Option<Page> {
        if let Some(page) = self.slabs.get(self.open).and_then(Slab::take) {
            return Some(page);
        }
        let (before, after) = self.slabs.split_at(self.open.min(self.slabs.len()));
        let mut others = (self.open..).zip(after).chain((0..).zip(before));
        if let Some((at, page)) = others.find_map(|(at, slab)| Some((at, Slab::take(slab)?))) {
            self.open = at;
            return Some(page);
        }
        self.open = self.slabs.len();
        let slab = Arc::new(self.map()?);
        slab.counts.slabs.lock().push(Arc::downgrade(&slab));
        self.slabs.push(slab);
        self.slabs.last().and_then(Slab::take)
    }

    /// Maps as much as there is already.
    fn map(&mut self) -> Option<Slab> {
        let had: usize = match self.slabs.len() {
            // From here on all are of the largest size.
            16.. => MAX_SLAB_PAGES,
            _ => self.slabs.iter().map(|slab| slab.holders.len()).sum(),
        };
        let pages = had
            .clamp(MIN_SLAB_PAGES, MAX_SLAB_PAGES)
            .next_power_of_two();
        let memory = Memory::map(pages)?;
        let mut free = [0; WORDS];
        let pages = memory.pages();
        (0..pages).for_each(|index| set(&mut free, index, true));
        let counts = self.counts.get_or_insert_default();
        Some(Slab {
            memory,
            holders: (0..pages).map(|_| AtomicU32::new(0)).collect(),
            state: Mutex::new(State {
                free,
                idle: [0; WORDS],
                frees: u32::try_from(pages).ok()?,
                idles: 0,
            }),
            counts: Arc::clone(counts),
            account: self.account.clone(),
        })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts.orphaned.store(true, Ordering::Relaxed);
        }
        for slab in &self.slabs {
            slab.give_back(&mut slab.state.lock());
        }
    }
}

impl Slab {
    /// Takes the first page that is free. O(1).
    fn take(this: &Arc<Self>) -> Option<Page> {
        let mut state = this.state.lock();
        if state.frees == 0 {
            return None;
        }
        let index = first(&state.free)?;
        set(&mut state.free, index, false);
        state.frees -= 1;
        this.counts.in_use.fetch_add(1, Ordering::Relaxed);
        if has(&state.idle, index) {
            set(&mut state.idle, index, false);
            state.idles -= 1;
            this.counts.idle.fetch_sub(1, Ordering::Relaxed);
        }
        drop(state);
        this.holders.get(index)?.store(1, Ordering::Relaxed);
        Some(Page {
            slab: NonNull::new(Arc::into_raw(Arc::clone(this)).cast_mut())?,
            index: u16::try_from(index).ok()?,
            len: 0,
            _niche: false,
        })
    }

    /// Takes back a page that nobody holds.
    fn release(&self, index: usize) {
        self.account.give(BLOCK_BYTES as u64);
        let mut state = self.state.lock();
        set(&mut state.free, index, true);
        set(&mut state.idle, index, true);
        state.frees += 1;
        state.idles += 1;
        let in_use = self.counts.in_use.fetch_sub(1, Ordering::Relaxed) - 1;
        let idle = self.counts.idle.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.counts.orphaned.load(Ordering::Relaxed) {
            drop(state);
            if idle > in_use + SPARE_PAGES {
                self.counts.give_back();
            }
        } else if state.idles >= LOOSE_PAGES && (state.frees as usize) < self.holders.len() {
            // One of which nothing is in use is about to be unmapped.
            self.give_back(&mut state);
        }
    }

    /// Gives the memory of all idle pages back to the system.
    fn give_back(&self, state: &mut State) {
        let mut from = 0;
        while let Some(range) = next_range(&state.idle, from..self.holders.len()) {
            self.memory.give_back(range.clone());
            from = range.end;
        }
        self.counts
            .idle
            .fetch_sub(state.idles.into(), Ordering::Relaxed);
        state.idle = [0; WORDS];
        state.idles = 0;
    }
}

impl Page {
    fn slab(&self) -> &Slab {
        // SAFETY: this page counts as an owner of its slab, so it is there.
        unsafe { self.slab.as_ref() }
    }

    fn holders(&self) -> Option<&AtomicU32> {
        self.slab().holders.get(usize::from(self.index))
    }

    fn start(&self) -> NonNull<u8> {
        self.slab().memory.page(usize::from(self.index))
    }

    /// Returns how many of the bytes count.
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    /// Lets the first `len` bytes count, whatever they are: at most all.
    pub(crate) fn set_len(&mut self, len: usize) {
        self.len = u16::try_from(len.min(BLOCK_BYTES)).unwrap_or(0);
    }

    /// Returns the bytes that count.
    pub(crate) fn bytes(&self) -> &[u8] {
        let len = self.len().min(BLOCK_BYTES);
        // SAFETY: the page is as long, lies in a mapping that is there as long
        // as `self`, and has been filled with zeros by the system. It is changed
        // through a unique reference to its only holder alone: not while this
        // one is borrowed.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), len) }
    }

    /// Returns all bytes of the page to change them, those that do not count
    /// too, if nothing else holds it.
    pub(crate) fn alone(&mut self) -> Option<&mut [u8]> {
        // Pairs with the release of those that held it before.
        if self.holders()?.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: as for `bytes`; this is the only holder, and borrowed
        // uniquely, so nobody reads, writes or clones it meanwhile.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), BLOCK_BYTES) })
    }

    /// Tells whether both are one page.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.slab == other.slab && self.index == other.index
    }
}

impl Clone for Page {
    fn clone(&self) -> Self {
        if let Some(holders) = self.holders() {
            let had = holders.fetch_add(1, Ordering::Relaxed);
            // As for `Arc`: so many clones that are leaked are no program.
            if had > u32::MAX / 2 {
                std::process::abort();
            }
        }
        Self { ..*self }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let Some(holders) = self.holders() else {
            return;
        };
        if holders.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        fence(Ordering::Acquire);
        self.slab().release(usize::from(self.index));
        // SAFETY: it came from `into_raw`, and goes once for each page taken.
        drop(unsafe { Arc::from_raw(self.slab.as_ptr().cast_const()) });
    }
}

// SAFETY: the bytes of a page are read by all holders or changed by its only
// one, and counts are atomic.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// Tells the first page of a set.
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

use memory::Memory;

/// Memory of the system, in pages.
#[cfg(all(unix, not(miri)))]
mod memory {
    use std::ops::Range;
    use std::ptr::NonNull;

    use memmap2::{MmapMut, MmapOptions, UncheckedAdvice};

    use super::MAX_SLAB_PAGES;
    use crate::limits::BLOCK_BYTES;

    pub(super) struct Memory {
        map: MmapMut,
        start: NonNull<u8>,
        offset: usize,
        pages: usize,
    }

    // SAFETY: the pointer is into the mapping, which any thread may use.
    unsafe impl Send for Memory {}
    // SAFETY: as above; who may touch which bytes when is for `Page` to say.
    unsafe impl Sync for Memory {}

    #[cfg(target_os = "linux")]
    const UNUSED: UncheckedAdvice = UncheckedAdvice::DontNeed;
    #[cfg(not(target_os = "linux"))]
    const UNUSED: UncheckedAdvice = UncheckedAdvice::Free;

    impl Memory {
        /// Maps `pages`, as a huge page if they are as many.
        pub(super) fn map(pages: usize) -> Option<Self> {
            let len = pages * BLOCK_BYTES;
            let is_huge = pages == MAX_SLAB_PAGES;
            // Twice as long, so that a part of it begins where a huge page can.
            let mapped = if is_huge { 2 * len } else { len };
            let mut map = MmapOptions::new().len(mapped).map_anon().ok()?;
            let first = map.as_mut_ptr();
            let offset = if is_huge { first.align_offset(len) } else { 0 };
            #[cfg(target_os = "linux")]
            if is_huge {
                // Where the system has none, pages of the usual size do.
                map.advise_range(memmap2::Advice::HugePage, offset, len)
                    .ok();
            }
            let start = NonNull::new(map.get_mut(offset..)?.as_mut_ptr())?;
            Some(Self {
                map,
                start,
                offset,
                pages,
            })
        }

        pub(super) fn pages(&self) -> usize {
            self.pages
        }

        pub(super) fn page(&self, index: usize) -> NonNull<u8> {
            let at = index.min(self.pages - 1) * BLOCK_BYTES;
            // SAFETY: it lies in the mapping.
            unsafe { self.start.add(at) }
        }

        /// Gives back the memory of pages that nobody holds: they read as
        /// anything afterwards.
        pub(super) fn give_back(&self, pages: Range<usize>) {
            let (at, len) = (pages.start * BLOCK_BYTES, pages.len() * BLOCK_BYTES);
            // SAFETY: no page of the range is held, so there is no reference to
            // its bytes.
            let done = unsafe {
                self.map
                    .unchecked_advise_range(UNUSED, self.offset + at, len)
            };
            // It fails where the system's pages are larger; the memory stays.
            done.ok();
        }
    }
}

/// Memory of the allocator, one page at a time: parts of more could not be
/// given back.
#[cfg(not(all(unix, not(miri))))]
mod memory {
    use std::ops::Range;
    use std::ptr::NonNull;

    use crate::limits::BLOCK_BYTES;

    pub(super) struct Memory {
        start: NonNull<[u8; BLOCK_BYTES]>,
    }

    // SAFETY: the pointer owns its bytes, which any thread may use.
    unsafe impl Send for Memory {}
    // SAFETY: as above; who may touch which bytes when is for `Page` to say.
    unsafe impl Sync for Memory {}

    impl Memory {
        pub(super) fn map(_pages: usize) -> Option<Self> {
            let bytes = Box::new([0; BLOCK_BYTES]);
            let start = NonNull::from(Box::leak(bytes));
            Some(Self { start })
        }

        pub(super) fn pages(&self) -> usize {
            1
        }

        pub(super) fn page(&self, _index: usize) -> NonNull<u8> {
            self.start.cast()
        }

        pub(super) fn give_back(&self, _pages: Range<usize>) {}
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: it was leaked when it was made, and goes here only.
            drop(unsafe { Box::from_raw(self.start.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn filled(pages: &mut Pages, byte: u8) -> Page {
        let mut page = pages.take().unwrap();
        page.alone().unwrap().fill(byte);
        page.set_len(BLOCK_BYTES);
        page
    }

    #[test]
    fn a_page_is_changed_by_its_only_holder_and_goes_with_the_last() {
        let budget = Budget::new(1 << 20);
        let mut pages = Pages::new(budget.account("one"));
        let mut page = filled(&mut pages, 7);
        let copy = page.clone();
        assert!(page.alone().is_none() && page.is_same(&copy));
        drop(page);
        assert_eq!(copy.bytes(), [7; BLOCK_BYTES]);
        assert_eq!(budget.held_bytes(), 4096);
        drop(pages);
        assert_eq!(copy.bytes(), [7; BLOCK_BYTES]);
        drop(copy);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn a_budget_refuses_a_page_and_nothing_is_taken() {
        let budget = Budget::new(5_000);
        let mut pages = Pages::new(budget.account("one"));
        let page = filled(&mut pages, 1);
        assert_eq!(pages.take().err(), Some(Errno::NoSpace));
        drop(page);
        assert!(pages.take().is_ok());
    }

    #[test]
    fn idle_pages_are_bounded_by_those_in_use() {
        let mut pages = Pages::default();
        for keep_each in [1_000_000, 100, 7] {
            let held: Vec<Page> = (0..3_000_u16)
                .map(|n| filled(&mut pages, n.to_le_bytes()[0]))
                .collect();
            let kept: Vec<Page> = (0..)
                .zip(held)
                .filter_map(|(n, page)| (n % keep_each == 0).then_some(page))
                .collect();
            let counts = pages.counts.as_ref().unwrap();
            let in_use = counts.in_use.load(Ordering::Relaxed);
            let idle = counts.idle.load(Ordering::Relaxed);
            assert_eq!(in_use, kept.len() as i64);
            assert!(idle <= in_use + SPARE_PAGES, "{idle} idle, {in_use} in use");
            for (n, page) in kept.iter().enumerate() {
                assert_eq!(
                    page.bytes(),
                    [(n * keep_each).to_le_bytes()[0]; BLOCK_BYTES]
                );
            }
        }
    }

    #[test]
    fn holders_in_many_threads_never_see_the_bytes_of_others() {
        let mut pages = Pages::default();
        let mut all: Vec<Page> = (0..40).map(|n| filled(&mut pages, n)).collect();
        std::thread::scope(|threads| {
            for _ in 0..3 {
                let own = all.clone();
                threads.spawn(move || {
                    for (n, mut page) in (0..).zip(own) {
                        assert_eq!(page.bytes(), [n; BLOCK_BYTES]);
                        let copy = page.clone();
                        assert!(page.alone().is_none());
                        drop(copy);
                    }
                });
            }
            for n in 0..40 {
                all.remove(0);
                let page = filled(&mut pages, n + 100);
                assert_eq!(page.bytes(), [n + 100; BLOCK_BYTES]);
            }
        });
        let counts = pages.counts.as_ref().unwrap();
        assert_eq!(counts.in_use.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_enum_around_a_page_is_no_larger() {
        assert_eq!(size_of::<Page>(), 16);
        assert_eq!(size_of::<Option<Result<Page, u16>>>(), 16);
    }
}
