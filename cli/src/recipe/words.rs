//! Words of a line: split at blanks, with or without regard to quotes, or as a JSON array.

use super::lexer::LogicalLine;
use super::problem::Problem;

/// Splits at blanks that stand in no quotes; quotes and escapes stay. Each word comes with
/// its offset, counted from `start`, which is where `text` begins in its line.
pub(super) fn raw_words(text: &str, start: usize, escape: char) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    let mut word: Option<(usize, String)> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let (_, word) = word.get_or_insert_with(|| (start + at, String::new()));
        word.push(c);
        match quote {
            Some(open) if c == open => quote = None,
            Some('\'') => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            _ if c == escape => {
                if let Some((_, next)) = chars.next() {
                    word.push(next);
                }
            }
            _ => {}
        }
    }
    words.extend(word);
    words
}

/// Splits at blanks.
pub(super) fn plain_words(text: &str, start: usize) -> Vec<(usize, String)> {
    let mut words = Vec::new();
    let mut from: Option<usize> = None;
    let ends = text.char_indices().chain([(text.len(), ' ')]);
    for (at, c) in ends {
        match (from, c.is_whitespace()) {
            (None, false) => from = Some(at),
            (Some(first), true) => {
                let word = text.get(first..at).unwrap_or_default();
                words.push((start + first, word.to_owned()));
                from = None;
            }
            _ => {}
        }
    }
    words
}

/// Reads the rest of a line from `start` on as a JSON array of strings; `None` if it is not JSON.
pub(super) fn json(line: &LogicalLine, start: usize) -> Result<Option<Vec<String>>, Problem> {
    let rest = line.text.get(start..).unwrap_or_default();
    let at = start + rest.len() - rest.trim_start().len();
    let text = rest.trim();
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        other => Err(Problem::new(
            line.position(at),
            format_args!("{other} is not a string: write \"{other}\" in double quotes"),
        )),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes_hold_words_together() {
        let of = |text: &str| -> Vec<String> {
            let words = raw_words(text, 0, '\\').into_iter();
            words.map(|(_, word)| word).collect()
        };
        assert_eq!(of(r#"a="b c" d='e "f' g\ h "i\" j""#).len(), 4);
        assert_eq!(of("  a\tb "), ["a", "b"]);
        assert_eq!(of(r#"a="open b"#), [r#"a="open b"#]);
        assert_eq!(raw_words(" a b", 10, '\\')[1].0, 13);
        assert_eq!(
            plain_words(" \"a b\" ", 5),
            [(6, "\"a".into()), (9, "b\"".into())]
        );
    }
}
