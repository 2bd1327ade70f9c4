//! An allocator that counts, so that tests can compare what calls cost.
//!
//! It counts for each thread on its own: tests that run beside one another do
//! not see each other's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// What a thread has asked its allocator for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocated {
    /// Calls that give memory or make it larger or smaller.
    pub calls: u64,
    /// Bytes given, those of blocks that were made anew included.
    pub bytes: u64,
}

thread_local! {
    static SO_FAR: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, bytes: 0 }) };
}

fn note(bytes: usize) {
    // A thread that is ending has no count any more.
    let _ = SO_FAR.try_with(|so_far| {
        let Allocated { calls, bytes: sum } = so_far.get();
        so_far.set(Allocated {
            calls: calls + 1,
            bytes: sum + bytes as u64,
        });
    });
}

// SAFETY: every call is passed on to the system's allocator as it came in, and
// what is counted beside it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Tells what this thread allocates in `run`.
pub fn counted(run: impl FnOnce()) -> Allocated {
    let before = SO_FAR.get();
    run();
    let after = SO_FAR.get();
    Allocated {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    }
}

/// Asserts that twice as much allocates 2.5 times as often and as much at most.
#[track_caller]
pub fn assert_linear(size: usize, run: impl Fn(usize) -> Allocated) {
    let (one, two) = (run(size), run(2 * size));
    assert!(
        one.calls > 0 && 2 * two.calls <= 5 * one.calls && 2 * two.bytes <= 5 * one.bytes,
        "{one:?} for {size}, {two:?} for twice as much"
    );
}

#[test]
fn what_grows_faster_than_its_input_is_found() {
    let copies = |count: usize| {
        counted(|| {
            for len in 0..count {
                drop(std::hint::black_box(vec![1u8; len + 1]));
            }
        })
    };
    assert_eq!(copies(3), Allocated { calls: 3, bytes: 6 });
    let refused = std::panic::catch_unwind(|| assert_linear(1000, copies));
    assert!(refused.is_err());
    assert_linear(1000, |count| {
        counted(|| drop(std::hint::black_box(vec![1u8; count])))
    });
}
