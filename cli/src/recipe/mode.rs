//! Modes as `--chmod` takes them: octal digits, or changes such as `u=rwX,go-w`.

use std::fmt;

/// The most that octal digits may come to.
const MOST: u32 = 0o7777;

/// What the class `o` has of the bits that all classes have.
const OTHERS: u32 = 0o007;

/// A mode, or what becomes of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// This one, whatever it was.
    Is(u32),
    /// Changes, one after another.
    Changes(Vec<ModeStep>),
}

/// One change: for whom, how, and which bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModeStep {
    /// The bits of those who are named.
    whose: u32,
    how: char,
    bits: ModeBits,
}

/// Which bits a change is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ModeBits {
    /// For all classes alike.
    given: u32,
    /// `X`: to execute what is a directory or can be executed already.
    execute_some: bool,
    /// `u`, `g` or `o`: how far to the left the class stands whose bits these are.
    of_class: Option<u32>,
}

impl ModeChange {
    /// Reads a mode; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok()?;
            return (mode <= MOST).then_some(Self::Is(mode));
        }
        let mut steps = Vec::new();
        for clause in text.split(',') {
            read_clause(clause, &mut steps)?;
        }
        Some(Self::Changes(steps))
    }

    /// Returns what a mode becomes.
    pub(crate) fn of(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Is(mode) => *mode,
            Self::Changes(steps) => steps.iter().fold(mode, |mode, step| step.of(mode, is_dir)),
        }
    }
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(mode) => write!(f, "{mode:o}"),
            Self::Changes(steps) => write!(f, "{steps:?}"),
        }
    }
}

impl ModeStep {
    fn of(self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = self.bits.given;
        if self.bits.execute_some && (is_dir || mode & 0o111 != 0) {
            bits |= 0o111;
        }
        if let Some(left) = self.bits.of_class {
            bits |= ((mode >> left) & OTHERS) * 0o111;
        }
        let bits = bits & self.whose;
        match self.how {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.whose) | bits,
        }
    }
}

/// Reads `ugo+rwx-st=u`.
fn read_clause(clause: &str, into: &mut Vec<ModeStep>) -> Option<()> {
    let at = clause.find(['+', '-', '='])?;
    let (who, mut rest) = clause.split_at(at);
    let mut whose = 0;
    for class in who.chars() {
        whose |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => MOST,
            _ => return None,
        };
    }
    // There is no mask of a user here that would hold bits back.
    let whose = if who.is_empty() { MOST } else { whose };
    while let Some(how) = rest.chars().next() {
        let after = rest.get(1..).unwrap_or_default();
        let end = after.find(['+', '-', '=']).unwrap_or(after.len());
        let (letters, next) = after.split_at(end);
        let bits = read_bits(letters)?;
        into.push(ModeStep { whose, how, bits });
        rest = next;
    }
    Some(())
}

fn read_bits(letters: &str) -> Option<ModeBits> {
    let mut bits = ModeBits::default();
    for letter in letters.chars() {
        match letter {
            'r' => bits.given |= 0o444,
            'w' => bits.given |= 0o222,
            'x' => bits.given |= 0o111,
            's' => bits.given |= 0o6000,
            't' => bits.given |= 0o1000,
            'X' => bits.execute_some = true,
            'u' | 'g' | 'o' if letters.len() == 1 => {
                bits.of_class = Some(match letter {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                });
            }
            _ => return None,
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_become_what_chmod_makes_of_them() {
        for (text, file, want_file, dir, want_dir) in [
            ("755", 0o600, 0o755, 0o700, 0o755),
            ("0", 0o600, 0, 0o700, 0),
            ("00644", 0o600, 0o644, 0o700, 0o644),
            ("7777", 0, 0o7777, 0, 0o7777),
            ("go-w", 0o666, 0o644, 0o124, 0o104),
            ("u=rw,g=r,o=r", 0o777, 0o644, 0o777, 0o644),
            ("a+X", 0o666, 0o666, 0o124, 0o135),
            ("a+X", 0o766, 0o777, 0o600, 0o711),
            ("u+rw,g+r,o-x,o+w", 0o124, 0o766, 0o124, 0o766),
            ("u=rwX,go=rX", 0o600, 0o644, 0o700, 0o755),
            ("+x", 0o644, 0o755, 0o644, 0o755),
            ("=", 0o4755, 0, 0o755, 0),
            ("o=", 0o757, 0o750, 0o757, 0o750),
            ("u+s", 0o755, 0o4755, 0o755, 0o4755),
            ("g+s", 0o755, 0o2755, 0o755, 0o2755),
            ("+t", 0o755, 0o1755, 0o755, 0o1755),
            ("g=u", 0o640, 0o660, 0o700, 0o770),
            ("o=g-w", 0o670, 0o675, 0o770, 0o775),
            ("ug+rw-x", 0o101, 0o661, 0o711, 0o661),
        ] {
            let change = ModeChange::parse(text).unwrap();
            let have = (change.of(file, false), change.of(dir, true));
            assert_eq!(have, (want_file, want_dir), "{text}");
        }
        for bad in [
            "",
            "64a",
            "10000",
            "999",
            "8",
            "-1x",
            "u",
            "u+",
            "u+q",
            "z+r",
            "u+r,",
            ",u+r",
            "u+ug",
            "0o755",
            "77777777777777",
        ] {
            // A change of nothing is one.
            assert_eq!(ModeChange::parse(bad).is_some(), bad == "u+", "{bad}");
        }
    }
}
