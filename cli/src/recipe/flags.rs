//! `--name=value` words between an instruction's name and its arguments.

use super::lexer::LogicalLine;
use super::problem::{Position, Problem};

/// Flags that may be given several times.
const SEVERAL: [&str; 2] = ["mount", "exclude"];

/// One flag as written.
#[derive(Clone, Debug)]
pub(super) struct Flag {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) at: Position,
}

/// Takes the flags off the front of the text at `start` of a line, and returns the offset
/// where the arguments begin.
pub(super) fn take(line: &LogicalLine, start: usize, escape: char) -> (Vec<Flag>, usize) {
    let mut flags = Vec::new();
    let mut offset = start;
    loop {
        let rest = line.text.get(offset..).unwrap_or_default();
        let blank = rest.len() - rest.trim_start().len();
        let (at, rest) = (offset + blank, rest.trim_start());
        if !rest.starts_with("--") {
            return (flags, at);
        }
        let (word, len) = word(rest, escape);
        offset = at + len;
        if word == "--" {
            return (flags, offset);
        }
        let text = word.trim_start_matches("--");
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        flags.push(Flag {
            name: name.to_owned(),
            value,
            at: line.position(at),
        });
    }
}

/// Refuses a flag that is given twice where one of them would be lost.
pub(super) fn check_once(flags: &[Flag]) -> Result<(), Problem> {
    for (number, flag) in flags.iter().enumerate() {
        let mut before = flags.iter().take(number);
        if !SEVERAL.contains(&flag.name.as_str()) && before.any(|other| other.name == flag.name) {
            return Err(Problem::new(
                flag.at,
                format_args!("--{} is given twice: leave one out", flag.name),
            ));
        }
    }
    Ok(())
}

/// Returns whether a word says yes or no, as Go reads it; `None` if it says neither.
pub(super) fn yes_or_no(word: &str) -> Option<bool> {
    match word {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Reads one word, quotes and escapes undone, and the bytes that it takes.
fn word(text: &str, escape: char) -> (String, usize) {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c.is_whitespace() => return (word, at),
            None if c == '"' || c == '\'' => quote = Some(c),
            _ if c == escape => {
                if let Some((_, next)) = chars.next() {
                    word.push(next);
                }
            }
            _ => word.push(c),
        }
    }
    (word, text.len())
}

impl Flag {
    /// Returns the value, which has to be there.
    pub(super) fn value(&self) -> Result<String, Problem> {
        match &self.value {
            Some(value) if !value.is_empty() => Ok(value.clone()),
            _ => Err(Problem::new(
                self.at,
                format_args!("--{} has no value: write --{}=VALUE", self.name, self.name),
            )),
        }
    }

    /// Returns what a flag that is on or off says.
    pub(super) fn on(&self) -> Result<bool, Problem> {
        let word = self.value.as_deref().unwrap_or("true");
        yes_or_no(word).ok_or_else(|| {
            let name = &self.name;
            Problem::new(
                self.at,
                format_args!("--{name}={word}: write --{name} or --{name}=false"),
            )
        })
    }

    /// The flag is none of this instruction.
    pub(super) fn unknown(&self, instruction: &str, known: &str) -> Problem {
        let takes = match known {
            "" => "takes no flags".to_owned(),
            known => format!("takes {known}"),
        };
        Problem::new(
            self.at,
            format_args!("--{}: unknown here: {instruction} {takes}", self.name),
        )
    }
}
