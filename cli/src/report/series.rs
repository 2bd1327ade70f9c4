//! How the cost of one piece of work grows with one thing that there is more of.

use serde::Serialize;

use super::{Align, Summary, Table, count, nanos};

/// One piece of work at several sizes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    /// What there is more and more of.
    pub(crate) of: &'static str,
    /// The work.
    pub(crate) what: &'static str,
    /// Its cost, from the least to the most.
    pub(crate) points: Vec<Point>,
}

/// The cost at one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Point {
    /// How much there is.
    pub(crate) n: u64,
    /// Nanoseconds for one piece of work.
    pub(crate) ns: Summary,
}

impl Series {
    /// Makes one of sizes and what was measured there.
    pub(crate) fn new(
        of: &'static str,
        what: &'static str,
        points: impl IntoIterator<Item = (u64, Summary)>,
    ) -> Self {
        let points = points.into_iter().map(|(n, ns)| Point { n, ns });
        Self {
            of,
            what,
            points: points.collect(),
        }
    }

    /// The same for one of so many parts of the work.
    pub(crate) fn for_each_of(self, parts: impl Fn(u64) -> u64) -> Self {
        let point = |point: Point| {
            let parts = parts(point.n).max(1);
            let ns = Summary {
                min: point.ns.min / parts,
                median: point.ns.median / parts,
                p99: point.ns.p99 / parts,
            };
            Point { ns, ..point }
        };
        Self {
            points: self.points.into_iter().map(point).collect(),
            ..self
        }
    }
}

/// All series as a table: one size a row.
pub(crate) fn series_table(all: &[Series]) -> Table {
    let mut table = Table::new(&[
        ("grows", Align::Left),
        ("what", Align::Left),
        ("n", Align::Right),
        ("median", Align::Right),
        ("min", Align::Right),
        ("p99", Align::Right),
    ]);
    for series in all {
        for point in &series.points {
            let ns = point.ns;
            table.row([
                series.of.to_owned(),
                series.what.to_owned(),
                count(point.n),
                nanos(ns.median),
                nanos(ns.min),
                nanos(ns.p99),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_divided_by_the_parts_of_its_work_and_shown_row_by_row() {
        let sum = |ns| Summary::of([ns, 2 * ns, 3 * ns]);
        let series = Series::new("files", "merge", [(10, sum(100)), (0, sum(7))]);
        let series = series.for_each_of(|n| n);
        let medians: Vec<u64> = series.points.iter().map(|point| point.ns.median).collect();
        assert_eq!(medians, [20, 14]);
        let text = series_table(&[series]).to_string();
        assert!(
            text.lines().count() == 4 && text.contains("20 ns"),
            "{text}"
        );
    }
}
