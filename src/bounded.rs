//! Counts that an invariant keeps below 2^32.

/// Returns `count` in 32 bits. `keeper` names what keeps it in bounds.
///
/// A count past the bound is a bug here, never a guest's or an image's doing. A
/// debug build panics and says so. A release build returns `u32::MAX`, which no
/// object and no entry has as its number: whoever looks it up finds nothing.
pub(crate) fn bounded_u32(count: usize, keeper: &str) -> u32 {
    let narrow = u32::try_from(count);
    debug_assert!(
        narrow.is_ok(),
        "{count} is more than 32 bits hold, which {keeper} should have refused"
    );
    narrow.unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_bounds_are_themselves() {
        assert_eq!(bounded_u32(7, "the test"), 7);
        assert_eq!(bounded_u32(u32::MAX as usize, "the test"), u32::MAX);
    }

    #[cfg(all(debug_assertions, target_pointer_width = "64"))]
    #[test]
    #[should_panic(expected = "which the test should have refused")]
    fn a_broken_bound_is_a_panic_while_debugging() {
        bounded_u32(1 << 32, "the test");
    }
}
