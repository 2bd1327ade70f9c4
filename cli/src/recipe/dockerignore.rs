//! `.dockerignore`: which names of a context nobody sees.

use super::wildcard::Wildcard;
use crate::limits::MAX_IGNORE_PATTERNS;

/// The patterns of a file, in order: the last that matches decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignore {
    patterns: Vec<IgnorePattern>,
}

#[derive(Clone, Debug)]
struct IgnorePattern {
    wildcard: Wildcard,
    /// `!`: what matches is seen again.
    brings_back: bool,
}

/// What the patterns said of a directory, for what lies in it: one answer for each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ignored(Vec<bool>);

impl Ignore {
    /// Reads a file. Fails with the line that is no pattern.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            if patterns.len() >= MAX_IGNORE_PATTERNS {
                return Err(format!("it may have {MAX_IGNORE_PATTERNS} patterns"));
            }
            let at_line = |why: String| format!("line {}: {why}", number + 1);
            let (brings_back, pattern) = match line.trim().strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line.trim()),
            };
            if pattern.is_empty() {
                return Err(at_line("`!` stands before a pattern".to_owned()));
            }
            patterns.push(IgnorePattern {
                wildcard: Wildcard::new(&cleaned(pattern), true).map_err(at_line)?,
                brings_back,
            });
        }
        Ok(Self { patterns })
    }

    /// Makes one of patterns that leave things out, such as those of `--exclude`.
    pub(crate) fn of(patterns: &[String]) -> Result<Self, String> {
        let compiled = patterns.iter().map(|pattern| {
            let (brings_back, text) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern.as_str()),
            };
            Ok(IgnorePattern {
                wildcard: Wildcard::new(&cleaned(text), true)?,
                brings_back,
            })
        });
        Ok(Self {
            patterns: compiled.collect::<Result<_, String>>()?,
        })
    }

    /// Returns whether nothing is left out.
    pub(crate) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Returns whether something that is left out may be brought back below.
    pub(crate) fn brings_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.brings_back)
    }

    /// Returns whether a path from the context's root is left out, and what its own entries
    /// have to know of it. `above` is what was said of the directory that it is in.
    pub(crate) fn look(&self, path: &str, above: &Ignored) -> (bool, Ignored) {
        let mut own = Vec::with_capacity(self.patterns.len());
        let mut left_out = false;
        for (number, pattern) in self.patterns.iter().enumerate() {
            let matched =
                above.0.get(number).copied().unwrap_or(false) || pattern.wildcard.matches(path);
            if matched {
                left_out = !pattern.brings_back;
            }
            own.push(matched);
        }
        (left_out, Ignored(own))
    }
}

/// A pattern without slashes at its ends, `.` and `..`, as Go's `filepath.Clean` leaves it.
fn cleaned(pattern: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in pattern.split('/') {
        match name {
            "" | "." => {}
            // One that leads above the context is the name of nothing in it.
            ".." if names.last().is_none_or(|name| *name == "..") => {
                if !pattern.starts_with('/') {
                    names.push("..");
                }
            }
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks from the root down, as a walk does.
    fn ignored(file: &str, path: &str) -> bool {
        let ignore = Ignore::parse(file).unwrap();
        let (mut above, mut out, mut at) = (Ignored::default(), false, String::new());
        for name in path.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(name);
            (out, above) = ignore.look(&at, &above);
        }
        out
    }

    #[test]
    fn patterns_leave_out_what_dockers_do() {
        for (file, path, want) in [
            ("a", "a", true),
            ("a", "a/b/c", true),
            ("a", "b/a", false),
            ("/a", "a", true),
            ("./a/", "a", true),
            ("a/../b", "b", true),
            ("*/a", "x/a", true),
            ("*/a", "a", false),
            ("*/a", "x/y/a", false),
            ("*/*/a", "x/y/a", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a/z", true),
            ("a?", "ab", true),
            ("a?", "a", false),
            ("*.md\n!README.md", "README.md", false),
            ("*.md\n!README.md", "x.md", true),
            (
                "*.md\n!README*.md\nREADME-secret.md",
                "README-secret.md",
                true,
            ),
            ("!x\nx", "x", true),
            ("*\n!a/b", "a/b", false),
            ("*\n!a/b", "a/c", true),
            ("a\n!a/b", "a/b/c", false),
            ("# a", "a", false),
            ("  a  ", "a", true),
            ("*", "a/b", true),
            ("**", "a/b", true),
            (".git", ".git/config", true),
            (".git", ".gitignore", false),
            ("x/**", "x/y", true),
            ("x/**", "x", false),
            ("", "a", false),
            ("\u{feff}a", "a", true),
            ("../a", "a", false),
            ("/../a", "a", true),
            ("b/../../a", "a", false),
            (".", "a", false),
            ("a/.", "a", true),
            (" # a", "# a", true),
            ("docs\n!docs/README.md", "docs/README.md", false),
            ("docs/\n!docs/README.md", "docs/README.md", false),
            ("docs/*\n!docs/README.md", "docs/README.md", false),
            ("docs\n  !docs/README.md  ", "docs/README.md", false),
            ("docs\n! docs/README.md", "docs/README.md", false),
            ("!f.go\n*.go", "f.go", true),
            ("**\n!util/web", "util/web/foo", false),
            ("**\n!util/web\nutil/web/foo", "util/web/foo", true),
            ("**\n!dist/*.whl", "dist/p-2.4+g08.whl", false),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file/x", true),
            ("a", "A", false),
            ("a/", "a", true),
            ("a//b", "a/b", true),
            ("a\r\nb\r\n", "b", true),
        ] {
            assert_eq!(ignored(file, path), want, "{file:?} {path}");
        }
    }

    #[test]
    fn invalid_patterns_are_named() {
        assert!(
            Ignore::parse("a\n!")
                .unwrap_err()
                .starts_with("line 2: `!`")
        );
        assert!(
            Ignore::parse("[")
                .unwrap_err()
                .starts_with("line 1: the pattern")
        );
        let many = "a\n".repeat(MAX_IGNORE_PATTERNS);
        assert!(Ignore::parse(&many).is_ok());
        assert!(
            Ignore::parse(&format!("{many}a"))
                .unwrap_err()
                .contains("may have")
        );
    }
}
