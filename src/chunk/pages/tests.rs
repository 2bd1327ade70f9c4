//! What is taken comes back, and is paid for once.

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
    let next = filled(&mut pages, 9);
    assert_eq!((budget.held_bytes(), pages.idle_bytes()), (8192, 0));
    drop(next);
    // It is kept for the next write, and paid for.
    assert_eq!((budget.held_bytes(), pages.idle_bytes()), (8192, 4096));
    pages.give_back();
    assert_eq!((budget.held_bytes(), pages.idle_bytes()), (4096, 0));
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
fn pages_that_are_kept_do_not_stand_in_the_way_of_the_next() {
    let budget = Budget::new(4 * BLOCK_BYTES as u64);
    let mut pages = Pages::new(budget.account("one"));
    let mut held: Vec<Page> = (0..4).map(|n| filled(&mut pages, n)).collect();
    drop(held.remove(0));
    pages.give_back();
    let other = budget.account("other");
    other.take(BLOCK_BYTES as u64).unwrap();
    drop(held.pop());
    assert_eq!(budget.held_bytes(), budget.max_bytes());
    // The first page that is free is not the one that is kept.
    held.push(filled(&mut pages, 9));
    assert_eq!(pages.take().err(), Some(Errno::NoSpace));
    assert_eq!(pages.idle_bytes(), 0);
    // Nor in the way of others.
    drop(held.pop());
    assert!(other.take(1).is_ok() && pages.idle_bytes() == 0);
    other.give(1);
    other.give(BLOCK_BYTES as u64);
    drop(held);
    drop(pages);
    assert_eq!(budget.held_bytes(), 0);
}

#[test]
fn a_slab_without_its_instance_keeps_fewer_idle_pages_than_are_held() {
    let mut pages = Pages::default();
    let mut held: Vec<Page> = (0..2_000).map(|_| filled(&mut pages, 1)).collect();
    let counts = Arc::clone(pages.counts.as_ref().unwrap());
    drop(pages);
    while !held.is_empty() {
        held.swap_remove(held.len() * 7 / 11);
        let idle = counts.idle();
        assert!(idle <= held.len() as i64, "{idle} of {} held", held.len());
    }
    assert_eq!(counts.idle(), 0);
}

#[test]
fn a_huge_page_is_paid_for_as_a_whole_or_not_used() {
    for (max, huge) in [(64 << 20, true), (3 << 20, false)] {
        let budget = Budget::new(max);
        let mut pages = Pages::new(budget.account("one"));
        let held: Vec<Page> = (0..513_u16)
            .map(|n| filled(&mut pages, n.to_le_bytes()[0]))
            .collect();
        let is_whole = huge && Memory::HAS_HUGE;
        let expected: u64 = if is_whole { 1_024 } else { 513 };
        assert_eq!(budget.held_bytes(), expected * BLOCK_BYTES as u64);
        drop(held);
        drop(pages);
        assert_eq!(budget.held_bytes(), 0);
    }
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
        let in_use = counts.in_use();
        let idle = counts.idle();
        assert_eq!(in_use, kept.len() as i64);
        let bound = in_use + SPARE_PAGES + counts.spare.as_ref().map_or(0, Spare::pages);
        assert!(idle <= bound, "{idle} idle, {in_use} in use");
        for (n, page) in kept.iter().enumerate() {
            assert_eq!(
                page.bytes(),
                [u8::try_from(n * keep_each % 256).unwrap(); BLOCK_BYTES]
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
    assert_eq!(counts.in_use(), 0);
}

#[test]
fn an_enum_around_a_page_is_no_larger() {
    assert_eq!(size_of::<Page>(), 16);
    assert_eq!(size_of::<Option<Result<Page, u16>>>(), 16);
}

/// Writes so many pages and lets them go.
fn used(count: usize) -> Pages {
    let mut pages = Pages::default();
    let held: Vec<Page> = (0..count).map(|_| filled(&mut pages, 1)).collect();
    drop(held);
    pages
}

#[test]
fn what_one_writes_again_and_again_stays_and_what_many_wrote_is_bounded() {
    let idle = |pages: &Pages| pages.idle_bytes() / BLOCK_BYTES as u64;
    let one = used(4_000);
    assert!(idle(&one) >= 4_000);
    let many: Vec<Pages> = (0..20).map(|_| used(4_000)).collect();
    let all: u64 = many.iter().chain([&one]).map(idle).sum();
    let bound = u64::try_from(spare::PROCESS_PAGES + 21 * SPARE_PAGES).unwrap();
    assert!(all <= bound, "{all} idle pages, at most {bound}");
    // What one gives back or leaves behind is there for the next.
    one.give_back();
    drop(many);
    assert_eq!(idle(&one), 0);
    assert!(idle(&used(8_000)) >= 8_000);
}

#[test]
fn pages_taken_beforehand_cost_nothing_and_what_is_left_goes_back() {
    let budget = Budget::new(16 * BLOCK_BYTES as u64);
    let mut pages = Pages::new(budget.account("one"));
    drop(filled(&mut pages, 1));
    // One page is paid for, and no more are taken unasked.
    pages.stock(8);
    assert_eq!((pages.stock.len(), pages.idle_bytes()), (1, 0));
    assert_eq!(budget.held_bytes(), BLOCK_BYTES as u64);
    pages.give_stock_back();
    assert_eq!(pages.idle_bytes(), BLOCK_BYTES as u64);

    let mut pages = Pages::default();
    drop(filled(&mut pages, 1));
    pages.stock(8);
    let held: Vec<Page> = (0..3).map(|n| filled(&mut pages, n)).collect();
    pages.give_stock_back();
    let counts = Arc::clone(pages.counts.as_ref().unwrap());
    assert_eq!(counts.in_use(), 3);
    if Memory::IS_MAPPED {
        let at: Vec<usize> = held.iter().map(Page::address).collect();
        assert!(at.is_sorted_by(|one, next| one + BLOCK_BYTES == *next));
    }
    drop(pages);
    assert!(
        (0..)
            .zip(&held)
            .all(|(n, page)| page.bytes() == [n; BLOCK_BYTES])
    );
    let mut gone = GonePages::default();
    held.into_iter().for_each(|page| gone.take(page));
    drop(gone);
    assert_eq!((counts.in_use(), counts.idle()), (0, 0));
}
