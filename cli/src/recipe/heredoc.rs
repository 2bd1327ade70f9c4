//! Here-documents: where a line has them, and what they hold.

use super::words::raw_words;

/// A here-document of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it, and the file's name where it is copied.
    pub(crate) name: String,
    /// Whether variables in it are replaced: unless the word is quoted.
    pub(crate) expands: bool,
    /// Whether tabs before its lines go: `<<-`.
    pub(super) strips_tabs: bool,
    /// Its lines.
    pub(crate) content: String,
}

impl Heredoc {
    /// Returns what a copy of it is called: the last name of the path that its word is;
    /// `None` if that is none.
    pub(crate) fn file_name(&self) -> Option<&str> {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        (!matches!(last, "" | "." | "..")).then_some(last)
    }
}

/// Finds the here-documents that a line announces, with the offset of each.
pub(super) fn find(line: &str, escape: char) -> Vec<(usize, Heredoc)> {
    let words = raw_words(line, 0, escape).into_iter();
    words
        .filter_map(|(offset, word)| Some((offset, announced(&word)?)))
        .collect()
}

/// Reads `<<NAME`, `<<-NAME`, `<<"NAME"`, with a number before it or not.
pub(super) fn announced(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let name: String = rest
        .chars()
        .filter(|c| !matches!(c, '"' | '\'' | '\\'))
        .collect();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    Some(Heredoc {
        expands: name.len() == rest.len(),
        name,
        strips_tabs,
        content: String::new(),
    })
}
