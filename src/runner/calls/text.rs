//! A call on one line, as `strace` shows it.

use std::fmt::{self, Write as _};

use super::{CallResult, CallValue, Excerpt, FileCall};
use crate::name::drives_terminal;

impl fmt::Display for FileCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (at, arg) in self.args.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            arg.value.fmt(f)?;
        }
        f.write_str(") = ")?;
        match &self.result {
            CallResult::Done(CallValue::Nothing) => f.write_char('0'),
            CallResult::Done(value) => value.fmt(f),
            CallResult::Failed { errno, message } => write!(f, "-1 {errno} ({message})"),
            CallResult::Trapped(why) => {
                f.write_str("? trap: ")?;
                quote(f, why.as_bytes(), false)
            }
            CallResult::Unfinished => f.write_str("? <unfinished>"),
        }
    }
}

impl fmt::Display for CallValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Signed(number) => number.fmt(f),
            Self::Descriptor(number, None) => number.fmt(f),
            Self::Descriptor(number, Some(name)) => {
                write!(f, "{number} ")?;
                quote(f, name.as_bytes(), false)
            }
            Self::Word(word) => f.write_str(word),
            Self::Path(cut) | Self::Bytes(cut) => cut.fmt(f),
            Self::Record(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    f.write_str(if at == 0 { "{" } else { ", " })?;
                    write!(f, "{name}={value}")?;
                }
                f.write_char('}')
            }
            Self::Names(names) => {
                f.write_char('[')?;
                for (at, name) in names.iter().enumerate() {
                    if at > 0 {
                        f.write_str(", ")?;
                    }
                    name.fmt(f)?;
                }
                f.write_char(']')
            }
            Self::Nothing => f.write_char('?'),
        }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quote(f, &self.bytes, self.is_cut())
    }
}

/// Writes bytes in quotes, so that the line stays one and drives no terminal.
fn quote(f: &mut fmt::Formatter<'_>, bytes: &[u8], is_cut: bool) -> fmt::Result {
    f.write_char('"')?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if drives_terminal(c) || matches!(c, '"' | '\\') {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "\\x{byte:02x}")?;
        }
    }
    f.write_str(if is_cut { "\"..." } else { "\"" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Argument, WasiVersion};
    use super::*;

    fn line(args: Vec<CallValue>, result: CallResult) -> String {
        let args = args.into_iter();
        let call = FileCall {
            instance: 0,
            version: WasiVersion::Preview1,
            name: "path_open",
            args: args.map(|value| Argument { name: "x", value }).collect(),
            result,
            bytes: None,
            elapsed: Duration::ZERO,
        };
        call.to_string()
    }

    #[test]
    fn a_call_is_one_line_that_drives_no_terminal() {
        let args = vec![
            CallValue::Descriptor(3, Some("/".into())),
            CallValue::Path(Excerpt::path(b"a\n\x1b[2J\"\\\xff\xe2\x80\xae\xc3\xa9")),
            CallValue::Word("O_CREAT|O_TRUNC".to_owned()),
            CallValue::Signed(-1),
        ];
        let done = CallResult::Done(CallValue::Descriptor(5, None));
        assert_eq!(
            line(args, done),
            "path_open(3 \"/\", \"a\\n\\u{1b}[2J\\\"\\\\\\xff\\u{202e}\u{e9}\", \
             O_CREAT|O_TRUNC, -1) = 5"
        );
        let failed = CallResult::Failed {
            errno: "ENOENT",
            message: "no such file or directory",
        };
        assert_eq!(
            line(vec![], failed),
            "path_open() = -1 ENOENT (no such file or directory)"
        );
        let nothing = CallResult::Done(CallValue::Nothing);
        assert_eq!(line(vec![CallValue::Nothing], nothing), "path_open(?) = 0");
        assert_eq!(
            line(vec![], CallResult::Unfinished),
            "path_open() = ? <unfinished>"
        );
    }

    #[test]
    fn long_paths_and_contents_are_cut() {
        let long = vec![b'a'; 1 << 20];
        let text = line(
            vec![
                CallValue::Path(Excerpt::path(&long)),
                CallValue::Bytes(Excerpt::content(&long)),
            ],
            CallResult::Trapped("a\nb".to_owned()),
        );
        assert!(text.len() < 1200, "{} bytes", text.len());
        assert_eq!(text.matches("a\"...").count(), 2, "{text}");
        assert!(text.ends_with("= ? trap: \"a\\nb\""), "{text}");
    }
}
