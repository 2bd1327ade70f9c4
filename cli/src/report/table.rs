//! Tables of text, and numbers as people read them.

use std::fmt;

/// To which side of its column a cell goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a head, shown with aligned columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    head: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table with these columns.
    #[must_use]
    pub(crate) fn new(head: &[(&str, Align)]) -> Self {
        let head = head
            .iter()
            .map(|(name, align)| ((*name).to_owned(), *align))
            .collect();
        Self {
            head,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells are empty, surplus ones are not shown.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    fn width(&self, column: usize, name: &str) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .fold(name.chars().count(), usize::max)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<_> = self
            .head
            .iter()
            .enumerate()
            .map(|(column, (name, align))| (self.width(column, name), *align))
            .collect();
        let head = self.head.iter().map(|(name, _)| name.as_str());
        line(f, &columns, head)?;
        let rule: Vec<_> = columns
            .iter()
            .map(|(width, _)| "-".repeat(*width))
            .collect();
        line(f, &columns, rule.iter().map(String::as_str))?;
        self.rows
            .iter()
            .try_for_each(|row| line(f, &columns, row.iter().map(String::as_str)))
    }
}

fn line<'a>(
    f: &mut fmt::Formatter<'_>,
    columns: &[(usize, Align)],
    cells: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    let mut text = String::new();
    for ((width, align), cell) in columns.iter().zip(cells.chain(std::iter::repeat(""))) {
        if !text.is_empty() {
            text.push_str("  ");
        }
        match align {
            Align::Left => text.push_str(&format!("{cell:<width$}")),
            Align::Right => text.push_str(&format!("{cell:>width$}")),
        }
    }
    writeln!(f, "{}", text.trim_end())
}

/// Shows a time with three digits that count: `1.23 us`, `45.6 ms`.
#[must_use]
pub(crate) fn nanos(nanos: u64) -> String {
    scaled(nanos, 1000, &["ns", "us", "ms", "s"])
}

/// Shows a size with three digits that count: `1.23 KiB`, `45.6 MiB`.
#[must_use]
pub(crate) fn bytes(bytes: u64) -> String {
    scaled(bytes, 1024, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Says how often something was done: `once`, or `2 times`.
#[must_use]
pub(crate) fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// Shows a count with its thousands apart: `12,345`.
#[must_use]
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut scaled = value as f64;
    let mut units = units.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    let whole = value < step;
    for next in units {
        // As it would be shown: 999.96 is 1000.
        if scaled < step as f64 - 0.5 {
            break;
        }
        scaled /= step as f64;
        unit = next;
    }
    match scaled {
        _ if whole => format!("{value} {unit}"),
        small if small < 9.995 => format!("{small:.2} {unit}"),
        middle if middle < 99.95 => format!("{middle:.1} {unit}"),
        large => format!("{large:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(nanos(0), "0 ns");
        assert_eq!(nanos(999), "999 ns");
        assert_eq!(nanos(1_234), "1.23 us");
        assert_eq!(nanos(12_345_678), "12.3 ms");
        assert_eq!(nanos(999_999), "1.00 ms");
        assert_eq!(nanos(123_456_789_000), "123 s");
        assert_eq!(nanos(u64::MAX), "18446744074 s");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(123 << 20), "123 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.00 MiB");
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("what", Align::Left), ("time", Align::Right)]);
        table
            .row(["a", "1 ns"])
            .row(["longer", "100 ns"])
            .row(["odd"]);
        let lines = [
            "what      time",
            "------  ------",
            "a         1 ns",
            "longer  100 ns",
            "odd",
            "",
        ];
        assert_eq!(table.to_string(), lines.join("\n"));
    }
}
