//! Counting what calls look at, in tests: a cost that is stated is a count
//! that a test compares at n and 2n. Outside of tests this is nothing.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Notes `steps` steps.
#[inline(always)]
pub(crate) fn add(steps: usize) {
    #[cfg(test)]
    STEPS.with(|count| count.set(count.get() + steps as u64));
    #[cfg(not(test))]
    let _ = steps;
}

/// Counts the steps that `run` takes on this thread.
#[cfg(test)]
pub(crate) fn counted(run: impl FnOnce()) -> u64 {
    let before = STEPS.with(std::cell::Cell::get);
    run();
    STEPS.with(std::cell::Cell::get) - before
}

/// Asserts that twice as much takes 2.5 times the steps at most.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_linear(size: usize, run: impl Fn(usize) -> u64) {
    let (one, two) = (run(size), run(2 * size));
    assert!(
        one > 0 && 2 * two <= 5 * one,
        "{one} steps for {size}, {two} for twice as much"
    );
}
