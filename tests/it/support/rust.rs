//! Just enough of a Rust lexer for the tests that read the sources.

use std::fs;
use std::path::{Path, PathBuf};

/// A token and the line (from 1) it starts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    pub fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Cuts source text into words, `::` and single marks. Comments, strings and
/// characters are left out, so that what they say never counts as code.
pub fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let mut out = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = text.get(at) {
        let next = text.get(at + 1).copied();
        let end = match (c, next) {
            ('/', Some('/')) => find(&text, at, |rest| rest.starts_with(&['\n'])),
            ('/', Some('*')) => block_comment_end(&text, at),
            ('"', _) => string_end(&text, at + 1),
            ('r' | 'b' | 'c', _) if literal_prefix(&text, at).is_some() => {
                literal_prefix(&text, at).unwrap_or(at)
            }
            ('\'', _) => char_or_lifetime_end(&text, at),
            (':', Some(':')) => {
                out.push(Token {
                    text: "::".into(),
                    line,
                });
                at + 2
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let end = find(&text, at, |rest| {
                    !rest[0].is_alphanumeric() && rest[0] != '_'
                });
                out.push(Token {
                    text: text[at..end].iter().collect(),
                    line,
                });
                end
            }
            _ if c.is_whitespace() => at + 1,
            _ => {
                out.push(Token {
                    text: c.into(),
                    line,
                });
                at + 1
            }
        };
        line += text[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    out
}

/// The first place from `at` on where `stop` holds, or the end.
fn find(text: &[char], at: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (at..text.len())
        .find(|at| stop(&text[*at..]))
        .unwrap_or(text.len())
}

fn block_comment_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < text.len() {
        match text[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(text: &[char], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The end of `r".."`, `r#".."#`, `b".."`, `br".."`, `c".."`, `b'.'`, if one
/// starts here.
fn literal_prefix(text: &[char], start: usize) -> Option<usize> {
    if start > 0 && (text[start - 1].is_alphanumeric() || text[start - 1] == '_') {
        return None;
    }
    let quote = find(text, start, |rest| !matches!(rest[0], 'r' | 'b' | 'c'));
    let raw = text[start..quote].contains(&'r');
    let open = find(text, quote, |rest| rest[0] != '#');
    match text.get(open)? {
        '"' if raw => {
            let mut close = vec!['"'];
            close.resize(open - quote + 1, '#');
            Some(find(text, open + 1, |rest| rest.starts_with(&close)) + close.len())
        }
        '"' if open == quote => Some(string_end(text, open + 1)),
        '\'' if open == quote && !raw => Some(char_or_lifetime_end(text, open)),
        _ => None,
    }
}

fn char_or_lifetime_end(text: &[char], at: usize) -> usize {
    match text[at + 1..] {
        ['\\', _, ..] => find(text, at + 3, |rest| rest[0] == '\'') + 1,
        [_, '\'', ..] => at + 3,
        _ => at + 1,
    }
}

/// Gives the files below `dir` that end in `.rs`, by path, with their text.
pub fn sources(dir: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut dirs = vec![root.join(dir)];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push((name.replace('\\', "/"), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Gives the source without its `mod tests` at the end.
pub fn without_tests(source: &str) -> &str {
    source
        .find("\n#[cfg(test)]\nmod tests")
        .map_or(source, |at| &source[..=at])
}

#[test]
fn the_lexer_sees_code_only() {
    let source = r###"
        // crate::a
        /* crate::b /* nested */ crate::c */
        use crate::d; "crate::e\"" r#"crate::f""# b'x' '\'' 'a: b"crate::g"
        rb::x 'static
    "###;
    let seen: Vec<String> = tokens(source).into_iter().map(|token| token.text).collect();
    assert_eq!(
        seen,
        [
            "use", "crate", "::", "d", ";", "a", ":", "rb", "::", "x", "static"
        ]
    );
    let lines: Vec<usize> = tokens("a\n/*\n*/ b \"\n\" c")
        .iter()
        .map(|t| t.line)
        .collect();
    assert_eq!(lines, [1, 3, 4]);
}
