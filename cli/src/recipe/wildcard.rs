//! Wildcards of paths, as Go's `filepath.Match` has them: `*` and `?` within a name, classes, `\`
//! before what is meant as it stands; and `**` across names where that is allowed.

use crate::limits::MAX_WILDCARD_BYTES;

/// A pattern, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Wildcard {
    parts: Vec<WildPart>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WildPart {
    Char(char),
    /// One character that is no slash.
    Any,
    /// Any characters but slashes.
    Star,
    /// Anything.
    Globstar,
    /// What follows, a [`Dirs`](Self::Dirs), may be left out.
    MaybeDirs,
    /// Anything that ends with a slash.
    Dirs,
    /// One character of these ranges, or of none of them.
    Class(bool, Vec<(char, char)>),
}

impl Wildcard {
    /// Compiles a pattern. Without `globstar`, `**` is one star twice, as for Go.
    pub(crate) fn new(pattern: &str, globstar: bool) -> Result<Self, String> {
        if pattern.len() > MAX_WILDCARD_BYTES {
            return Err(format!(
                "a pattern may have {MAX_WILDCARD_BYTES} bytes, and this one has {}",
                pattern.len()
            ));
        }
        let mut parts = Vec::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' if globstar && chars.next_if_eq(&'*').is_some() => {
                    let is_first = parts.is_empty();
                    let has_slash = chars.next_if_eq(&'/').is_some();
                    let mut rest = chars.clone();
                    let is_plain = rest.all(|c| !"*?[\\".contains(c));
                    // At the end anything; before plain text alone whatever ends with it; else
                    // whole names. Docker's are the same.
                    match chars.peek().is_none() || (is_first && !has_slash && is_plain) {
                        true => parts.push(WildPart::Globstar),
                        false => parts.extend([WildPart::MaybeDirs, WildPart::Dirs]),
                    }
                }
                '*' => parts.push(WildPart::Star),
                '?' => parts.push(WildPart::Any),
                '[' => parts.push(class(&mut chars).ok_or_else(|| malformed(pattern))?),
                '\\' => parts.push(WildPart::Char(
                    chars.next().ok_or_else(|| malformed(pattern))?,
                )),
                c => parts.push(WildPart::Char(c)),
            }
        }
        Ok(Self { parts })
    }

    /// Returns the path that the pattern spells, if it has no wildcard.
    pub(crate) fn literal(&self) -> Option<String> {
        let parts = self.parts.iter().map(|part| match part {
            WildPart::Char(c) => Some(*c),
            _ => None,
        });
        parts.collect()
    }

    /// Returns whether the whole path matches. O(pattern) for each character at most.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let parts = &self.parts;
        let mut at = vec![false; parts.len() + 1];
        if let Some(first) = at.first_mut() {
            *first = true;
        }
        skip_empty(parts, &mut at, false);
        let mut next = vec![false; at.len()];
        for c in path.chars() {
            next.fill(false);
            let mut alive = false;
            for (place, part) in parts.iter().enumerate() {
                if !at.get(place).copied().unwrap_or(false) {
                    continue;
                }
                let Some(to) = part.step(c, place) else {
                    continue;
                };
                if let Some(slot) = next.get_mut(to) {
                    (*slot, alive) = (true, true);
                }
            }
            if !alive {
                return false;
            }
            skip_empty(parts, &mut next, c == '/');
            std::mem::swap(&mut at, &mut next);
        }
        at.last().copied().unwrap_or(false)
    }
}

impl WildPart {
    /// Returns where the pattern goes on after this character.
    fn step(&self, c: char, place: usize) -> Option<usize> {
        match self {
            Self::Char(own) => (*own == c).then_some(place + 1),
            Self::Any => (c != '/').then_some(place + 1),
            Self::Star => (c != '/').then_some(place),
            Self::Globstar | Self::Dirs => Some(place),
            Self::MaybeDirs => None,
            Self::Class(not, ranges) => {
                let is_in = ranges.iter().any(|(low, high)| (low..=high).contains(&&c));
                (is_in != *not).then_some(place + 1)
            }
        }
    }
}

/// What may stand for nothing is passed over; directories end behind a slash.
fn skip_empty(parts: &[WildPart], at: &mut [bool], is_slash: bool) {
    for (place, part) in parts.iter().enumerate() {
        let ways: &[usize] = match part {
            WildPart::Star | WildPart::Globstar => &[1],
            WildPart::Dirs if is_slash => &[1],
            WildPart::MaybeDirs => &[1, 2],
            _ => &[],
        };
        if !at.get(place).copied().unwrap_or(false) {
            continue;
        }
        for way in ways {
            if let Some(next) = at.get_mut(place + way) {
                *next = true;
            }
        }
    }
}

/// Reads a class after its bracket.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<WildPart> {
    let not = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match chars.next()? {
            ']' if !ranges.is_empty() => return Some(WildPart::Class(not, ranges)),
            ']' | '-' => return None,
            '\\' => chars.next()?,
            c => c,
        };
        let mut high = low;
        if chars.next_if_eq(&'-').is_some() {
            high = match chars.next()? {
                ']' | '-' => return None,
                '\\' => chars.next()?,
                c => c,
            };
        }
        ranges.push((low, high));
    }
}

fn malformed(pattern: &str) -> String {
    format!(
        "the pattern {pattern:?} is malformed: a class is closed with `]`, and `\\` stands before a character"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, globstar: bool) -> bool {
        Wildcard::new(pattern, globstar).unwrap().matches(path)
    }

    #[test]
    fn paths_match_as_with_go() {
        for (pattern, path, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a\u{263a}b", true),
            ("a[^a]b", "a\u{263a}b", true),
            ("a???b", "a\u{263a}b", false),
            ("[a-\u{3b6}]*", "\u{3b1}", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("a**b", "a/b", false),
            ("*.txt", "a.txt", true),
        ] {
            assert_eq!(matches(pattern, path, false), want, "{pattern} {path}");
        }
        for bad in [
            "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "\\",
        ] {
            let told = Wildcard::new(bad, true).unwrap_err();
            assert!(told.contains("malformed"), "{bad}");
        }
    }

    #[test]
    fn two_stars_cross_names() {
        for (pattern, path, want) in [
            ("**", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "a/bc", false),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/bz", false),
            ("**/*.go", "x/y.go", true),
            ("**/*.go", "y.go", true),
            ("a**", "abc/d", true),
            ("**/a/**/b", "x/a/y/b", true),
            ("**", "file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/*", "dir2/file/x", false),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            // Before plain text alone anything that ends with it.
            ("**file", "file", true),
            ("**file", "dir/file", true),
            ("**file", "dir/myfile", true),
            ("**/file", "dir/myfile", false),
            ("**file*", "dir/myfile", false),
            ("**file*", "dir/file2", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt", "file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a**/*.txt", "abc.txt", true),
            ("a**b", "axb", false),
            ("a**b", "ab", true),
            ("a**b", "ax/b", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/*.whl", "dist/p-2.4+g08-py3.whl", true),
            ("a\\\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern, path, true), want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_is_bounded_and_never_slow() {
        let many = "*a".repeat(MAX_WILDCARD_BYTES / 2);
        assert!(!matches(&many, &"a".repeat(1000), true));
        let told = Wildcard::new(&format!("{many}*"), true).unwrap_err();
        assert!(told.contains("may have 4096 bytes"), "{told}");
        assert_eq!(
            Wildcard::new("a\\*", true).unwrap().literal().unwrap(),
            "a*"
        );
        assert!(Wildcard::new("a*", true).unwrap().literal().is_none());
    }
}
