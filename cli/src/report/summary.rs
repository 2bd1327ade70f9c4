//! Order statistics of samples.

use serde::Serialize;

/// Smallest, middle and nearly largest of a set of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Summary {
    /// The smallest.
    pub(crate) min: u64,
    /// The middle; of an even number, half-way between the two.
    pub(crate) median: u64,
    /// The smallest that 99 of 100 do not exceed.
    pub(crate) p99: u64,
}

/// Middle and largest of a set of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Spread {
    /// The middle; of an even number, half-way between the two.
    pub(crate) median: u64,
    /// The largest.
    pub(crate) max: u64,
}

impl Summary {
    /// Sums up samples; all zeros if there are none. O(n log n).
    #[must_use]
    pub(crate) fn of(samples: impl IntoIterator<Item = u64>) -> Self {
        let sorted = sort(samples);
        Self {
            min: sorted.first().copied().unwrap_or(0),
            median: median(&sorted),
            p99: rank(&sorted, 99),
        }
    }
}

impl Spread {
    /// Sums up samples; all zeros if there are none. O(n log n).
    #[must_use]
    pub(crate) fn of(samples: impl IntoIterator<Item = u64>) -> Self {
        let sorted = sort(samples);
        Self {
            median: median(&sorted),
            max: sorted.last().copied().unwrap_or(0),
        }
    }
}

fn sort(samples: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut sorted: Vec<_> = samples.into_iter().collect();
    sorted.sort_unstable();
    sorted
}

fn median(sorted: &[u64]) -> u64 {
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let lower = sorted
        .get(sorted.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0);
    lower.midpoint(upper)
}

/// The nearest-rank percentile.
fn rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_of_few_and_many() {
        assert_eq!(
            Summary::of([]),
            Summary {
                min: 0,
                median: 0,
                p99: 0
            }
        );
        assert_eq!(
            Summary::of([7]),
            Summary {
                min: 7,
                median: 7,
                p99: 7
            }
        );
        assert_eq!(
            Summary::of([4, 2]),
            Summary {
                min: 2,
                median: 3,
                p99: 4
            }
        );
        assert_eq!(
            Summary::of([9, 1, 5]),
            Summary {
                min: 1,
                median: 5,
                p99: 9
            }
        );
        assert_eq!(
            Summary::of(1..=1000),
            Summary {
                min: 1,
                median: 500,
                p99: 990
            }
        );
        assert_eq!(Summary::of([u64::MAX; 2]).median, u64::MAX);
        assert_eq!(Spread::of([3, 1, 8]), Spread { median: 3, max: 8 });
    }
}
