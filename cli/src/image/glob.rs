//! Patterns of paths.

use std::fmt;
use std::str::FromStr;

use crate::limits::MAX_GLOB_BYTES;

/// A pattern: `*`, `?` and `[a-z]` match within a name, `**` across directories, and a
/// backslash takes the next byte as it is. With a slash in it, it is about paths from the
/// root on; without one about the last name.
#[derive(Clone, Debug)]
pub(crate) struct Glob {
    text: String,
    parts: Vec<Part>,
    is_of_name: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Byte(u8),
    /// Any byte of a name.
    One,
    /// Any bytes of a name.
    Any,
    /// Any bytes.
    Deep,
    /// One of these, or with `true` none of these.
    Class(Vec<(u8, u8)>, bool),
}

impl Glob {
    /// Returns whether the pattern matches a path that begins with a slash. O(pattern x path).
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        let text = match self.is_of_name {
            true => path.rsplit(|byte| *byte == b'/').next().unwrap_or(path),
            false => path.strip_prefix(b"/").unwrap_or(path),
        };
        // Up to which parts what has been read of the text may go.
        let mut reached = vec![false; self.parts.len() + 1];
        mark(&mut reached, 0);
        self.skip(&mut reached);
        for byte in text {
            let mut next = vec![false; reached.len()];
            let parts = self.parts.iter().zip(&reached).enumerate();
            for (at, (part, _)) in parts.filter(|(_, (_, reached))| **reached) {
                match part {
                    Part::Any if *byte != b'/' => mark(&mut next, at),
                    Part::Deep => mark(&mut next, at),
                    part if part.takes(*byte) => mark(&mut next, at + 1),
                    _ => {}
                }
            }
            self.skip(&mut next);
            reached = next;
        }
        reached.last() == Some(&true)
    }

    /// Stars may match nothing.
    fn skip(&self, reached: &mut [bool]) {
        for (at, part) in self.parts.iter().enumerate() {
            let is_star = matches!(part, Part::Any | Part::Deep);
            if is_star && reached.get(at) == Some(&true) {
                mark(reached, at + 1);
            }
        }
    }
}

fn mark(reached: &mut [bool], at: usize) {
    if let Some(reached) = reached.get_mut(at) {
        *reached = true;
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::One => byte != b'/',
            Self::Class(ranges, negated) => {
                let is_in = ranges
                    .iter()
                    .any(|(from, to)| (*from..=*to).contains(&byte));
                byte != b'/' && is_in != *negated
            }
            Self::Any | Self::Deep => false,
        }
    }
}

impl FromStr for Glob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > MAX_GLOB_BYTES {
            return Err(format!("a pattern has 1 to {MAX_GLOB_BYTES} bytes"));
        }
        let mut rest = text.strip_prefix('/').unwrap_or(text).bytes().peekable();
        let mut parts = Vec::new();
        while let Some(byte) = rest.next() {
            parts.push(match byte {
                b'*' if rest.next_if_eq(&b'*').is_some() => {
                    // `a/**/b` is `a/b` as well.
                    let is_whole = matches!(parts.last(), None | Some(Part::Byte(b'/')));
                    if is_whole {
                        rest.next_if_eq(&b'/');
                    }
                    Part::Deep
                }
                b'*' => Part::Any,
                b'?' => Part::One,
                b'[' => class(&mut rest)?,
                b'\\' => Part::Byte(rest.next().ok_or("a backslash at the end")?),
                byte => Part::Byte(byte),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
            is_of_name: !text.contains('/'),
        })
    }
}

fn class(rest: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> Result<Part, String> {
    let open = || "a [ without its ]".to_owned();
    let negated = rest.next_if(|byte| matches!(byte, b'!' | b'^')).is_some();
    let mut ranges = Vec::new();
    loop {
        let mut byte = rest.next().ok_or_else(open)?;
        if byte == b']' && !ranges.is_empty() {
            return Ok(Part::Class(ranges, negated));
        }
        if byte == b'\\' {
            byte = rest.next().ok_or_else(open)?;
        }
        let mut to = byte;
        if rest.peek() == Some(&b'-') {
            rest.next();
            match rest.next().ok_or_else(open)? {
                b']' => {
                    ranges.extend([(byte, byte), (b'-', b'-')]);
                    return Ok(Part::Class(ranges, negated));
                }
                end => to = end,
            }
        }
        ranges.push((byte, to));
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_their_words_say() {
        for (pattern, path, want) in [
            ("/etc/*.conf", "/etc/a.conf", true),
            ("etc/*.conf", "/etc/a.conf", true),
            ("/etc/*.conf", "/etc/d/a.conf", false),
            ("*.conf", "/etc/d/a.conf", true),
            ("/etc/**", "/etc/d/a.conf", true),
            ("/**/a.conf", "/a.conf", true),
            ("/x/**/a", "/x/a", true),
            ("/x/**/a", "/x/y/z/a", true),
            ("/x/**/a", "/xa", false),
            ("/?", "/a", true),
            ("/?", "/ab", false),
            ("[a-c]x", "/d/bx", true),
            ("[!a-c]x", "/d/bx", false),
            ("[]a]", "/]", true),
            ("[a-]", "/-", true),
            ("\\*", "/a", false),
            ("\\*", "/*", true),
            ("a*b*c", "/axxbyyc", true),
            ("a*b*c", "/axxbyy", false),
        ] {
            let glob: Glob = pattern.parse().unwrap();
            assert_eq!(glob.matches(path.as_bytes()), want, "{pattern} {path}");
        }
        for bad in ["", "[a", "[", "[a-", "a\\"] {
            assert!(bad.parse::<Glob>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(MAX_GLOB_BYTES + 1).parse::<Glob>().is_err());
        // Stars cost no more than others.
        let stars: Glob = "**a".repeat(200).parse().unwrap();
        assert!(!stars.matches("a".repeat(150).as_bytes()));
    }
}
