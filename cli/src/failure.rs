//! Why a command could not do its work.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};
use stratafs::name::{drives_terminal, show, show_path};

use super::limits::MAX_LINE_BYTES;

/// One line for a person, and the exit code that goes with it.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// The work failed.
    pub(super) fn new(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    /// The work failed at a file or directory of the host.
    pub(super) fn at(path: &Path, error: impl Display) -> Self {
        Self::new(format_args!("{}: {error}", show_path(path)))
    }

    /// The arguments are wrong.
    pub(super) fn usage(message: impl Display) -> Self {
        Self {
            message: message.to_string(),
            code: 2,
        }
    }

    /// Returns the line without the code.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Says it on stderr.
    pub(super) fn report(self) -> ExitCode {
        say(&self.message);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// Writes one line that starts with `error: ` to stderr.
pub(super) fn say(message: &str) {
    complain(&format!("error: {}", message.trim_end().replace('\n', " ")));
}

/// Writes lines to stderr. Where nobody takes them there is nobody to tell.
pub(super) fn complain(lines: &str) {
    drop(writeln!(io::stderr(), "{}", printable(lines)));
}

/// Writes one JSON document to stderr, on one line.
pub(super) fn complain_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = json_text(serde_json::to_string(document)?);
    drop(writeln!(io::stderr(), "{text}"));
    Ok(())
}

/// Writes lines to stdout. A reader that has gone, as `head` does, has what it
/// wanted: that is no failure, and what is left is not written.
pub(super) fn print_lines(lines: &str) -> Result<(), Failure> {
    put(&[&printable(lines), "\n"])
}

/// Writes one JSON document to stdout.
pub(super) fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    put(&[&json_text(serde_json::to_string_pretty(document)?), "\n"])
}

/// Writes bytes of this program's own to stdout as they are: a script, a page.
pub(super) fn print_own(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes);
    taken(written.and_then(|()| stdout.flush())).map(drop)
}

fn put(parts: &[&str]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = parts
        .iter()
        .try_for_each(|part| stdout.write_all(part.as_bytes()));
    taken(written.and_then(|()| stdout.flush())).map(drop)
}

/// What came of writing to stdout: whether somebody still reads it.
pub(super) fn taken(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(format_args!("stdout: {error}"))),
    }
}

/// Lines as a terminal may get them: what would act on it is escaped, as
/// [`show`] does, and a line ends after [`MAX_LINE_BYTES`]. Whatever is
/// printed passes here, so that no text of an image, archive, guest or
/// registry is forgotten; what must not begin a line of its own is shown before.
pub(super) fn printable(lines: &str) -> String {
    let mut out = String::with_capacity(lines.len());
    for (number, line) in lines.split('\n').enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let parts = line.split('\t').map(|part| show(part.as_bytes()));
        let line = parts.collect::<Vec<_>>().join("\t");
        out.push_str(&cut(&line, MAX_LINE_BYTES));
    }
    out
}

/// Cuts text after `max` bytes, at a character's end, and says how much is
/// missing.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return text.into();
    }
    let (head, rest) = text.split_at(text.floor_char_boundary(max));
    format!("{head}... ({} more bytes)", rest.len()).into()
}

/// JSON as a terminal may get it: what acts on one stands inside strings only,
/// and has an escape there. Characters below U+0020 have theirs already.
pub(super) fn json_text(text: String) -> String {
    if !text.chars().any(|c| c != '\n' && drives_terminal(c)) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c != '\n' && drives_terminal(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Puts bytes that are mostly text into a document: as they are under `key`,
/// and what is not UTF-8 once more under `key` and `_bytes`, in base 64.
pub(super) fn put_bytes(document: &mut Value, key: &str, bytes: &[u8]) {
    let Some(map) = document.as_object_mut() else {
        return;
    };
    map.insert(key.to_owned(), json!(String::from_utf8_lossy(bytes)));
    if std::str::from_utf8(bytes).is_err() {
        map.insert(format!("{key}_bytes"), json!(base64(bytes)));
    }
}

const BASE64_DIGITS: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Returns the bytes of a text in base 64, as [`put_bytes`] writes it; `None` if it is none.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().take_while(|byte| **byte != b'=').count();
        let (digits, padding) = group.split_at(digits);
        if group.len() != 4 || digits.len() < 2 || padding.iter().any(|byte| *byte != b'=') {
            return None;
        }
        let mut bits = 0_u32;
        for digit in digits {
            let value = BASE64_DIGITS.iter().position(|known| known == digit)?;
            bits = bits << 6 | u32::try_from(value).ok()?;
        }
        bits <<= 6 * padding.len();
        out.extend(
            bits.to_be_bytes()
                .into_iter()
                .skip(1)
                .take(digits.len() - 1),
        );
    }
    Some(out)
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4_usize {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let digit = BASE64_DIGITS.get(digit).filter(|_| place <= group.len());
            out.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_escaped_and_end() {
        assert_eq!(
            printable("a\tb\u{1b}[2J\nc\u{202e}d"),
            "a\tb\\u{1b}[2J\nc\\u{202e}d"
        );
        let long = printable(&"\u{e9}".repeat(MAX_LINE_BYTES));
        assert!(long.ends_with(&format!("... ({MAX_LINE_BYTES} more bytes)")));
        assert!(long.len() < MAX_LINE_BYTES + 40);
    }

    #[test]
    fn json_means_the_same_escaped() {
        let text = "a\u{9b}\u{202e}\u{e0001}\n\u{7f}\u{5d0}";
        let json = json_text(serde_json::to_string_pretty(&[text]).unwrap());
        assert!(
            !json.chars().any(|c| c != '\n' && drives_terminal(c)),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }

    #[test]
    fn base_64_is_padded() {
        for (bytes, want) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\x00", "//79AA=="),
        ] {
            assert_eq!(base64(bytes), want);
            assert_eq!(from_base64(want).as_deref(), Some(bytes));
        }
        for wrong in ["Zg", "Zg=", "Z===", "Zg=a", "Z?==", "Zm9v====", "Zg==Zg"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }
}
