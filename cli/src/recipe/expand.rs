//! Variables and quotes, as BuildKit has them: `$A`, `${A}`, `${A:-word}` and its kin, `${A#pattern}`,
//! `${A%pattern}`, `${A/pattern/word}`.

mod pattern;

use std::iter::Peekable;
use std::str::Chars;

use self::pattern::Pattern;
use crate::limits::{MAX_EXPANDED_BYTES, MAX_EXPANSION_DEPTH, MAX_EXPANSION_STEPS};

/// Looks up the values of variables by their names.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// How text is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quoting {
    /// Quotes and escapes mean what they mean in a shell, and go.
    Words,
    /// Quotes are characters as all others: a here-document.
    Text,
}

/// Expands a word. Fails with what is wrong with it.
pub(crate) fn expand(
    text: &str,
    escape: char,
    quoting: Quoting,
    lookup: &Lookup<'_>,
) -> Result<String, String> {
    let mut expander = Expander {
        chars: text.chars().peekable(),
        escape,
        quoting,
        lookup,
        depth: 0,
        steps: MAX_EXPANSION_STEPS,
    };
    expander.until(None, false)
}

struct Expander<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    quoting: Quoting,
    lookup: &'a Lookup<'a>,
    depth: usize,
    /// What patterns may still look at.
    steps: u64,
}

impl Expander<'_> {
    /// Reads up to `stop`, which is taken as well, or to the end. With `raw`, escapes stay, for
    /// what reads the text next.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<String, String> {
        self.depth += 1;
        if self.depth > MAX_EXPANSION_DEPTH {
            return Err(format!(
                "variables within variables more than {MAX_EXPANSION_DEPTH} deep"
            ));
        }
        let mut out = String::new();
        loop {
            let Some(c) = self.chars.next() else {
                if let Some(stop) = stop {
                    return Err(format!("a `{stop}` is missing"));
                }
                break;
            };
            if Some(c) == stop {
                break;
            }
            match c {
                '$' => out.push_str(&self.dollar()?),
                '\'' if self.quoting == Quoting::Words => self.single(&mut out)?,
                '"' if self.quoting == Quoting::Words => self.double(&mut out, raw)?,
                c if c == self.escape => self.escaped(&mut out, raw),
                c => out.push(c),
            }
            check_size(&out)?;
        }
        self.depth -= 1;
        Ok(out)
    }

    /// Takes what follows the escape character. In a here-document it escapes `$` and itself
    /// alone.
    fn escaped(&mut self, out: &mut String, raw: bool) {
        let next = self.chars.peek().copied();
        let escapes = match self.quoting {
            Quoting::Words => true,
            Quoting::Text => next == Some('$') || next == Some(self.escape),
        };
        if raw || !escapes {
            out.push(self.escape);
        }
        if escapes {
            out.extend(self.chars.next());
        }
    }

    fn single(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.chars.next() {
                None => return Err("a single quote is missing".to_owned()),
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
            }
        }
    }

    fn double(&mut self, out: &mut String, raw: bool) -> Result<(), String> {
        loop {
            check_size(out)?;
            match self.chars.next() {
                None => return Err("a double quote is missing".to_owned()),
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.dollar()?),
                Some(c) if c == self.escape => {
                    if raw {
                        out.push(c);
                    }
                    match self.chars.peek() {
                        None => {}
                        Some(next) if "\"$".contains(*next) || *next == self.escape => {
                            out.extend(self.chars.next());
                        }
                        Some(_) => out.push(c),
                    }
                }
                Some(c) => out.push(c),
            }
        }
    }

    fn dollar(&mut self) -> Result<String, String> {
        if self.chars.peek() != Some(&'{') {
            let name = self.name();
            return Ok(match name.is_empty() {
                true => "$".to_owned(),
                false => (self.lookup)(&name).unwrap_or_default(),
            });
        }
        self.chars.next();
        let name = self.name();
        if name.is_empty() {
            return Err("`${` is followed by a name, as in ${NAME}".to_owned());
        }
        let value = (self.lookup)(&name);
        match self.chars.next() {
            None => Err(format!("${{{name}: a `}}` is missing")),
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => match self.chars.next() {
                Some(kind @ ('-' | '+' | '?')) => {
                    self.replaced(&name, value.filter(|value| !value.is_empty()), kind)
                }
                _ => Err(format!(
                    "${{{name}:...}}: write `:-`, `:+` or `:?` after the name"
                )),
            },
            Some(kind @ ('-' | '+' | '?')) => self.replaced(&name, value, kind),
            Some(kind @ ('#' | '%')) => self.trimmed(&value.unwrap_or_default(), kind),
            Some('/') => self.exchanged(&value.unwrap_or_default()),
            Some(other) => Err(format!(
                "${{{name}{other}...}}: expected one of `:-`, `:+`, `:?`, `#`, `%` and `/` after the name, found {other:?}"
            )),
        }
    }

    /// `${A-word}`, `${A+word}`, `${A?word}`.
    fn replaced(
        &mut self,
        name: &str,
        value: Option<String>,
        kind: char,
    ) -> Result<String, String> {
        let word = self.until(Some('}'), false)?;
        match (kind, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', Some(_)) => Ok(word),
            ('+', None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!(
                "{name} is not set or empty: give it with --build-arg {name}=VALUE"
            )),
            (_, None) => Err(format!("{name}: {word}")),
        }
    }

    /// `${A#pattern}`, `${A##pattern}`, `${A%pattern}`, `${A%%pattern}`.
    fn trimmed(&mut self, value: &str, kind: char) -> Result<String, String> {
        let longest = self.chars.next_if_eq(&kind).is_some();
        let word = self.until(Some('}'), true)?;
        let pattern = Pattern::of(&word, self.escape)?;
        let chars: Vec<char> = value.chars().collect();
        let cut = match kind {
            '#' => pattern.prefix(&chars, longest, &mut self.steps)?,
            _ => pattern.suffix(&chars, longest, &mut self.steps)?,
        };
        let kept = match (kind, cut) {
            (_, None) => chars.as_slice(),
            ('#', Some(len)) => chars.get(len..).unwrap_or_default(),
            (_, Some(len)) => chars.get(..chars.len() - len).unwrap_or_default(),
        };
        Ok(kept.iter().collect())
    }

    /// `${A/pattern/word}`, `${A//pattern/word}`.
    fn exchanged(&mut self, value: &str) -> Result<String, String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let word = self.until(Some('/'), true)?;
        // Escapes stay in what is put in, as with BuildKit.
        let with = self.until(Some('}'), true)?;
        let pattern = Pattern::of(&word, self.escape)?;
        let chars: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut at = 0;
        while let Some(rest) = chars.get(at..).filter(|rest| !rest.is_empty()) {
            match pattern.prefix(rest, true, &mut self.steps)? {
                Some(len) if len > 0 => {
                    out.push_str(&with);
                    at += len;
                    if !all {
                        break;
                    }
                }
                _ => {
                    out.extend(chars.get(at));
                    at += 1;
                }
            }
            check_size(&out)?;
        }
        out.extend(chars.get(at..).unwrap_or_default());
        Ok(out)
    }

    /// A name, the digits of a number, or one of a shell's special characters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(first) = self.chars.peek().copied() else {
            return name;
        };
        if "@*#?-$!".contains(first) {
            name.extend(self.chars.next());
            return name;
        }
        let is_number = first.is_ascii_digit();
        while let Some(c) = self.chars.next_if(|c| match is_number {
            true => c.is_ascii_digit(),
            false => c.is_alphanumeric() || *c == '_',
        }) {
            name.push(c);
        }
        name
    }
}

fn check_size(text: &str) -> Result<(), String> {
    match text.len() > MAX_EXPANDED_BYTES {
        true => Err(format!(
            "it has more than {MAX_EXPANDED_BYTES} bytes with its variables replaced"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
