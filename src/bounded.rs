//! Counts that an invariant keeps below 2^32.

use std::io;

/// A count past a bound that should have been kept: a bug here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} is more than 32 bits hold, which {keeper} should have refused: a bug of stratafs")]
pub(crate) struct BrokenBound {
    count: usize,
    keeper: &'static str,
}

impl From<BrokenBound> for io::Error {
    fn from(broken: BrokenBound) -> Self {
        Self::other(broken)
    }
}

/// Returns `count` in 32 bits. `keeper` names what keeps it in bounds.
///
/// # Errors
///
/// A count past the bound is a bug here, never a guest's or an image's doing. A
/// debug build panics and says so; a release build returns the error.
#[cfg(any(test, all(feature = "oci", feature = "store")))]
pub(crate) fn try_bounded_u32(count: usize, keeper: &'static str) -> Result<u32, BrokenBound> {
    let narrow = u32::try_from(count);
    debug_assert!(narrow.is_ok(), "{}", BrokenBound { count, keeper });
    narrow.map_err(|_| BrokenBound { count, keeper })
}

/// Returns `count` in 32 bits, for callers that cannot fail since a check refuses
/// more before they are reached. `keeper` names that check.
///
/// A debug build panics if it did not. A release build returns `u32::MAX`, which no
/// object and no entry has as its number: whoever looks it up finds nothing.
pub(crate) fn bounded_u32(count: usize, keeper: &'static str) -> u32 {
    let narrow = u32::try_from(count);
    debug_assert!(narrow.is_ok(), "{}", BrokenBound { count, keeper });
    narrow.unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_bounds_are_themselves() {
        assert_eq!(bounded_u32(7, "the test"), 7);
        assert_eq!(bounded_u32(u32::MAX as usize, "the test"), u32::MAX);
        assert_eq!(try_bounded_u32(7, "the test"), Ok(7));
    }

    #[cfg(all(not(debug_assertions), target_pointer_width = "64"))]
    #[test]
    fn a_broken_bound_is_an_error_in_a_release() {
        let broken = try_bounded_u32(1 << 32, "the test").unwrap_err();
        let text = io::Error::from(broken).to_string();
        assert!(
            text.starts_with("4294967296 is more than 32 bits hold"),
            "{text}"
        );
    }

    #[cfg(all(debug_assertions, target_pointer_width = "64"))]
    #[test]
    #[should_panic(expected = "which the test should have refused")]
    fn a_broken_bound_that_is_an_error_is_a_panic_while_debugging() {
        assert!(try_bounded_u32(1 << 32, "the test").is_err());
    }

    #[cfg(all(debug_assertions, target_pointer_width = "64"))]
    #[test]
    #[should_panic(expected = "which the test should have refused")]
    fn a_broken_bound_is_a_panic_while_debugging() {
        bounded_u32(1 << 32, "the test");
    }
}
