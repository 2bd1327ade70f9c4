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

/// A word of a line: its offset, and what it is.
pub(super) type FoundWord = (usize, HeredocWord);

/// What a word of a line with here-documents is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HeredocWord {
    /// It announces one.
    Begins(Heredoc),
    /// A word like others, as written.
    Other(String),
    /// It begins to, and a quote in it does not end.
    Open(String),
}

/// Returns the words of a line, with those found that announce here-documents: `<<NAME`, `<<-NAME`,
/// `<<"NAME"`, with blanks before the name or not, and with a number in front or not.
pub(super) fn words(text: &str, start: usize, escape: char) -> Vec<FoundWord> {
    let mut found = Vec::new();
    let mut words = raw_words(text, start, escape).into_iter().peekable();
    while let Some((offset, word)) = words.next() {
        let Some((strips_tabs, mut name)) = begun(&word) else {
            found.push((offset, HeredocWord::Other(word)));
            continue;
        };
        if name.is_empty() {
            // The name is the next word, if that may be one: `1 << 2` is a shell's arithmetic.
            let may = |c: char| c.is_alphabetic() || "_-'\"".contains(c);
            match words.next_if(|(_, next)| next.starts_with(may) && !next.contains('<')) {
                Some((_, next)) => name = next,
                None => {
                    found.push((offset, HeredocWord::Other(word)));
                    continue;
                }
            }
        }
        let is = match unquoted(&name, escape) {
            Some((name, _)) if name.is_empty() => HeredocWord::Other(word),
            Some((name, is_quoted)) => HeredocWord::Begins(Heredoc {
                name,
                expands: !is_quoted,
                strips_tabs,
                content: String::new(),
            }),
            None => HeredocWord::Open(word),
        };
        found.push((offset, is));
    }
    found
}

/// Reads `<<` and `<<-`, and returns whether tabs go and what follows.
fn begun(word: &str) -> Option<(bool, String)> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = rest.strip_prefix("<<")?;
    let (strips_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    (!rest.contains('<')).then(|| (strips_tabs, rest.to_owned()))
}

/// Takes quotes and escapes off a name, and returns whether a quote was there; `None` if one does
/// not end.
fn unquoted(word: &str, escape: char) -> Option<(String, bool)> {
    let (mut name, mut is_quoted) = (String::new(), false);
    let mut quote = None;
    let mut chars = word.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => name.push(c),
            None if c == '"' || c == '\'' => (quote, is_quoted) = (Some(c), true),
            None if c == escape => name.extend(chars.next()),
            None => name.push(c),
        }
    }
    quote.is_none().then_some((name, is_quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that a line announces, `!` after those whose text stays as it is, `~` before
    /// those whose tabs go, `?` for one with an open quote.
    fn names(line: &str) -> Vec<String> {
        let words = words(line, 0, '\\').into_iter();
        words
            .filter_map(|(_, word)| match word {
                HeredocWord::Begins(doc) => Some(format!(
                    "{}{}{}",
                    if doc.strips_tabs { "~" } else { "" },
                    doc.name,
                    if doc.expands { "" } else { "!" }
                )),
                HeredocWord::Open(_) => Some("?".to_owned()),
                HeredocWord::Other(_) => None,
            })
            .collect()
    }

    #[test]
    fn words_announce_here_documents_as_with_buildkit() {
        for (line, want) in [
            ("RUN <<EOF", &["EOF"] as &[&str]),
            ("RUN <<-EOF", &["~EOF"]),
            ("RUN <<'EOF'", &["EOF!"]),
            ("RUN <<\"EOF\"", &["EOF!"]),
            ("RUN <<-'EOF'", &["~EOF!"]),
            ("RUN <<EO\"F\"", &["EOF!"]),
            ("RUN << EOF", &["EOF"]),
            ("RUN <<-  EOF > x", &["~EOF"]),
            ("RUN << -EOF", &["-EOF"]),
            ("RUN 3<<EOF", &["EOF"]),
            ("RUN <<A <<-B", &["A", "~B"]),
            ("RUN <<eo\\'f", &["eo'f"]),
            ("RUN <<'e'o\\'f", &["eo'f!"]),
            ("RUN <<'one two'", &["one two!"]),
            ("RUN <<$EOF", &["$EOF"]),
            ("RUN cat <<EOF | sort", &["EOF"]),
            ("COPY <<a/b.txt /x", &["a/b.txt"]),
            ("RUN '<<EOF'", &[]),
            ("RUN \"<<EOF\"", &[]),
            ("RUN [\"<<EOF\"]", &[]),
            ("RUN <<<EOF", &[]),
            ("RUN <EOF", &[]),
            ("RUN <<", &[]),
            ("RUN <<''", &[]),
            ("RUN echo $((1 << 2))", &[]),
            ("RUN echo $((1<<2))", &[]),
            ("RUN <<-", &[]),
            ("RUN <<'EOF", &["?"]),
            ("RUN <<EOF\"", &["?"]),
        ] {
            assert_eq!(names(line), want, "{line}");
        }
    }
}
