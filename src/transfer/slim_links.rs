//! Where the symbolic links of a tree lead.

use std::collections::HashMap;

use super::slim::SlimEntry;
use crate::limits::MAX_SYMLINKS;
use crate::meta::Kind;
use crate::name::Name;

/// The entries of a tree by path.
pub(super) struct LinkMap<'a> {
    entries: &'a [SlimEntry<'a>],
    by_path: HashMap<&'a [Name], usize>,
}

impl<'a> LinkMap<'a> {
    pub(super) fn of(entries: &'a [SlimEntry<'a>]) -> Self {
        let by_path = entries.iter().enumerate();
        Self {
            entries,
            by_path: by_path
                .map(|(at, entry)| (entry.path.names(), at))
                .collect(),
        }
    }

    pub(super) fn at(&self, names: &[Name]) -> Option<usize> {
        self.by_path.get(names).copied()
    }

    /// Follows a link to what is no link; `None` if nothing is there. A link that climbs
    /// past the root ends there.
    pub(super) fn follow(&self, link: usize) -> Option<usize> {
        let entry = self.entries.get(link)?;
        let mut here: Vec<Name> = entry.path.names().to_vec();
        here.pop();
        let mut waiting = parts(entry.target?);
        if entry.target?.starts_with(b"/") {
            here.clear();
        }
        let mut followed = 1;
        while let Some(part) = waiting.pop() {
            match part.as_slice() {
                b"." => continue,
                b".." => {
                    here.pop();
                    continue;
                }
                name => here.push(Name::new(name).ok()?),
            }
            let found = self.entries.get(self.at(&here)?)?;
            match (found.kind, found.target) {
                (Kind::Symlink, Some(target)) => {
                    followed += 1;
                    if followed > MAX_SYMLINKS {
                        return None;
                    }
                    here.pop();
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    waiting.extend(parts(target));
                }
                (Kind::File, _) if !waiting.is_empty() => return None,
                _ => {}
            }
        }
        self.at(&here)
    }
}

/// The parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let mut parts: Vec<Vec<u8>> = parts
        .filter(|part| !part.is_empty())
        .map(<[u8]>::to_vec)
        .collect();
    parts.reverse();
    parts
}
