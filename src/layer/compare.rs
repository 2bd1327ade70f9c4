//! What differs between two trees.

use std::cmp::Ordering;

use super::{EntryBody, Layer, LayerEntry};
use crate::name::LayerPath;

/// How a path differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Only the second tree has it.
    Added,
    /// Both have it: kind, content, target or metadata differ.
    Changed,
    /// Only the first tree has it.
    Deleted,
}

impl ChangeKind {
    /// Returns the letter that `docker diff` shows: `A`, `C`, `D`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// Lists what differs between two trees, by path; what only one of them has
/// is listed with everything below. Both are taken as whole trees: a whiteout
/// is an entry like others. Which names are hard links of each other is not
/// compared.
///
/// O(entries): contents are compared by digest.
#[must_use]
pub fn compare(from: &Layer, to: &Layer) -> Vec<(ChangeKind, LayerPath)> {
    let (mut old, mut new) = (from.entries().peekable(), to.entries().peekable());
    let mut changes = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.path.cmp(&new.path),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        changes.extend(match (before, after) {
            (Some(before), Some(after)) if is_same(&before, &after) => None,
            (Some(_), Some(after)) => Some((ChangeKind::Changed, after.path)),
            (Some(before), None) => Some((ChangeKind::Deleted, before.path)),
            (None, Some(after)) => Some((ChangeKind::Added, after.path)),
            (None, None) => None,
        });
    }
}

fn is_same(one: &LayerEntry<'_>, other: &LayerEntry<'_>) -> bool {
    use EntryBody::{Dir, File, LowerLink, Symlink, Whiteout};
    match (&one.body, &other.body) {
        (Dir { meta: a, opaque: x }, Dir { meta: b, opaque: y }) => a == b && x == y,
        (
            File {
                meta: a,
                content: x,
                ..
            },
            File {
                meta: b,
                content: y,
                ..
            },
        ) => a == b && x.digest() == y.digest(),
        (
            Symlink {
                meta: a, target: x, ..
            },
            Symlink {
                meta: b, target: y, ..
            },
        ) => a == b && x == y,
        (Whiteout, Whiteout) => true,
        (LowerLink { target: x }, LowerLink { target: y }) => x == y,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{ChunkPool, ContentBuilder};
    use crate::layer::LayerBuilder;
    use crate::meta::{Meta, Time};

    fn layer(files: &[(&str, &str, u32)]) -> Layer {
        let pool = ChunkPool::new();
        let mut builder = LayerBuilder::new();
        for (path, text, mode) in files {
            let path = LayerPath::parse(path.as_bytes()).unwrap();
            let meta = Meta::with_mode(*mode).at(Time::EPOCH);
            let content = ContentBuilder::of(&pool, text.as_bytes());
            builder.file(&path, meta, content).unwrap();
        }
        builder.finish().unwrap()
    }

    fn text(from: &Layer, to: &Layer) -> String {
        let changes = compare(from, to);
        let lines = changes
            .iter()
            .map(|(change, path)| format!("{} {path}", change.letter()));
        lines.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn trees_differ_by_path_in_order() {
        let one = layer(&[("a", "1", 0o644), ("d/x", "1", 0o644), ("same", "", 0o644)]);
        let two = layer(&[("a", "2", 0o644), ("d-", "", 0o644), ("same", "", 0o600)]);
        assert_eq!(text(&one, &two), "C a,D d,D d/x,A d-,C same");
        assert_eq!(text(&two, &one), "C a,A d,A d/x,D d-,C same");
        assert_eq!(text(&one, &one), "");
        let dir_for_file = layer(&[("a/b", "", 0o644)]);
        assert_eq!(
            text(&layer(&[("a", "", 0o644)]), &dir_for_file),
            "C a,A a/b"
        );
    }
}
