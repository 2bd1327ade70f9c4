//! Comments that speak to this program, and to no other: `# stratafs: NAME=VALUE`.

use super::problem::{Position, Problem};

/// What such a comment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    pub(crate) at: Position,
    /// The line of the instruction that it stands at: the next one, or the one that it is in.
    pub(crate) about: usize,
    pub(crate) kind: RemarkKind,
    pub(crate) value: String,
}

/// What a [`Remark`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemarkKind {
    /// Rules of `image lint` that are off for one instruction.
    Ignore,
    /// Rules of `image lint` that are off for the whole recipe.
    IgnoreAll,
    /// The point from which the image that is built goes on.
    Prepare,
}

impl Remark {
    /// Reads a comment: `None` if it speaks to somebody else.
    pub(super) fn read(comment: &str, at: Position) -> Option<Result<Self, Problem>> {
        let text = comment.trim_start_matches('#').trim();
        let text = text.strip_prefix("stratafs:")?;
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let kind = match name.trim() {
            "ignore" => Some(RemarkKind::Ignore),
            "ignore-all" => Some(RemarkKind::IgnoreAll),
            "prepare" => Some(RemarkKind::Prepare),
            _ => None,
        };
        let value = value.trim();
        Some(match kind.filter(|_| !value.is_empty()) {
            Some(kind) => Ok(Self {
                at,
                about: 0,
                kind,
                value: value.to_owned(),
            }),
            None => Err(Problem::new(
                at,
                format_args!(
                    "{:?} says nothing here: write # stratafs: ignore=RULE, ignore-all=RULE or prepare=POINT",
                    text.trim()
                ),
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_comments_to_this_program_are_read() {
        let read = |text| Remark::read(text, Position { line: 2, column: 1 });
        let kind = |text| read(text).unwrap().unwrap();
        assert_eq!(kind("#stratafs:ignore=a , b").kind, RemarkKind::Ignore);
        assert_eq!(kind("# stratafs: ignore = a, b ").value, "a, b");
        assert_eq!(
            kind("## stratafs: ignore-all=a").kind,
            RemarkKind::IgnoreAll
        );
        assert_eq!(read("# stratafs is good"), None);
        assert_eq!(read("# hadolint ignore=DL3006"), None);
        for bad in [
            "# stratafs: x=1",
            "# stratafs: ignore",
            "# stratafs: ignore=",
        ] {
            let told = read(bad).unwrap().unwrap_err().to_string();
            assert!(
                told.starts_with("line 2, column 1: ") && told.contains("ignore=RULE"),
                "{told}"
            );
        }
    }
}
