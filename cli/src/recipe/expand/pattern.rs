//! A shell's patterns in variables: `*` any text, `?` one character, `\` before what is meant as
//! it stands.

/// A pattern, compiled.
pub(super) struct Pattern(Vec<PatternPart>);

#[derive(Clone, Copy)]
enum PatternPart {
    Char(char),
    Any,
    Star,
}

impl Pattern {
    pub(super) fn of(text: &str, escape: char) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => PatternPart::Star,
                '?' => PatternPart::Any,
                c if c == escape || c == '\\' => match chars.next() {
                    Some(next) if "*?/}\\".contains(next) || next == escape => {
                        PatternPart::Char(next)
                    }
                    Some(next) => {
                        return Err(format!(
                            "the pattern {text:?} has `{c}{next}`: only `*`, `?`, `/`, `}}` and the escape character are escaped"
                        ));
                    }
                    None => return Err(format!("the pattern {text:?} ends with an escape")),
                },
                c => PatternPart::Char(c),
            });
        }
        Ok(Self(parts))
    }

    /// Returns the length of the shortest or longest beginning of `text` that matches.
    pub(super) fn prefix(
        &self,
        text: &[char],
        longest: bool,
        steps: &mut u64,
    ) -> Result<Option<usize>, String> {
        measure(self.0.iter().copied(), text.iter().copied(), longest, steps)
    }

    /// Returns the length of the shortest or longest end of `text` that matches.
    pub(super) fn suffix(
        &self,
        text: &[char],
        longest: bool,
        steps: &mut u64,
    ) -> Result<Option<usize>, String> {
        let (parts, text) = (self.0.iter().rev().copied(), text.iter().rev().copied());
        measure(parts, text, longest, steps)
    }
}

/// Walks all ways through the pattern at once: O(parts) for each character, and each counts.
fn measure(
    parts: impl Iterator<Item = PatternPart>,
    text: impl Iterator<Item = char>,
    longest: bool,
    steps: &mut u64,
) -> Result<Option<usize>, String> {
    let parts: Vec<PatternPart> = parts.collect();
    let mut at = vec![false; parts.len() + 1];
    if let Some(first) = at.first_mut() {
        *first = true;
    }
    skip_stars(&parts, &mut at);
    let mut found = at.last().copied().unwrap_or(false).then_some(0);
    for (len, c) in text.enumerate() {
        if (found.is_some() && !longest) || !at.contains(&true) {
            break;
        }
        *steps = steps.saturating_sub(parts.len() as u64 + 1);
        if *steps == 0 {
            return Err("its patterns take too many steps".to_owned());
        }
        let mut next = vec![false; at.len()];
        for (place, part) in parts.iter().enumerate() {
            if !at.get(place).copied().unwrap_or(false) {
                continue;
            }
            let to = match part {
                PatternPart::Star => place,
                PatternPart::Char(own) if *own != c => continue,
                PatternPart::Any | PatternPart::Char(_) => place + 1,
            };
            if let Some(slot) = next.get_mut(to) {
                *slot = true;
            }
        }
        skip_stars(&parts, &mut next);
        at = next;
        if at.last().copied().unwrap_or(false) {
            found = Some(len + 1);
        }
    }
    Ok(found)
}

/// A star may stand for nothing.
fn skip_stars(parts: &[PatternPart], at: &mut [bool]) {
    for (place, part) in parts.iter().enumerate() {
        if matches!(part, PatternPart::Star)
            && at.get(place).copied().unwrap_or(false)
            && let Some(next) = at.get_mut(place + 1)
        {
            *next = true;
        }
    }
}
