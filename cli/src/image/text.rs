//! How times, modes and answers are written.

use serde_json::Value;
use stratafs::meta::{Kind, Time};
use stratafs::name::{LayerPath, Name, show};

use super::args::Form;
pub(super) use crate::failure::put_bytes;
use crate::failure::{Failure, cut, print_json, print_lines};
use crate::limits::MAX_CELL_BYTES;

/// Prints one document, or lines of text.
pub(super) fn answer(
    form: Form,
    json: impl FnOnce() -> Value,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match form.json {
        true => print_json(&json()),
        false => {
            let text = text();
            match text.trim_end() {
                "" => Ok(()),
                text => print_lines(text),
            }
        }
    }
}

/// Text of an image in a cell of a table.
pub(super) fn cell(text: &str) -> String {
    cut(&show(text.as_bytes()), MAX_CELL_BYTES).into_owned()
}

/// A path's bytes from the root on.
pub(super) fn rooted_bytes(path: &LayerPath) -> Vec<u8> {
    let names = path.names().iter().map(Name::as_bytes);
    let bytes: Vec<u8> = names.flat_map(|name| [b"/", name].concat()).collect();
    match bytes.is_empty() {
        true => b"/".to_vec(),
        false => bytes,
    }
}

/// `2024-01-31 23:59:59`, in UTC.
pub(crate) fn date(time: Time) -> String {
    let (days, second) = (
        time.secs().div_euclid(86_400),
        time.secs().rem_euclid(86_400),
    );
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// The date of a day since 1970, by eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + carry, month, day)
}

/// `drwxr-xr-x`, as `ls` shows it.
pub(super) fn mode(kind: Kind, mode: u32) -> String {
    let mut out = String::from(match kind {
        Kind::Dir => "d",
        Kind::File => "-",
        Kind::Symlink => "l",
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// A path as people write it, from the root on.
pub(super) fn rooted(path: &LayerPath) -> String {
    match path.is_root() {
        true => "/".to_owned(),
        false => format!("/{path}"),
    }
}

/// The word that JSON has for a kind.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Dir => "dir",
        Kind::File => "file",
        Kind::Symlink => "symlink",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_the_calendars() {
        for (secs, want) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_709_251_199, "2024-02-29 23:59:59"),
            (4_102_444_800, "2100-01-01 00:00:00"),
            (-62_135_596_800, "0001-01-01 00:00:00"),
        ] {
            assert_eq!(date(Time::new(secs, 0)), want);
        }
        for secs in [i64::MIN, i64::MAX] {
            assert!(!date(Time::new(secs, 0)).is_empty());
        }
    }

    #[test]
    fn modes_are_those_of_ls() {
        assert_eq!(mode(Kind::Dir, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(Kind::File, 0o4640), "-rwSr-----");
        assert_eq!(mode(Kind::File, 0o2755), "-rwxr-sr-x");
        assert_eq!(mode(Kind::Symlink, 0o777), "lrwxrwxrwx");
    }
}
