//! Where a walk is: the directories from the root down to the current one.

use std::ffi::{OsStr, OsString};

use cap_std::fs::Dir;

use super::facts::Facts;
use super::host::Host;
use crate::layer::LayerError;
use crate::layer::entry_pos::{DirId, fits};
use crate::name::{LayerPath, Name};
use crate::source::{SourceError, SourceErrorKind};

/// Handles of directories that are kept open on the way down. With the one
/// file that is open they fit below any sane `ulimit -n`.
pub(super) const OPEN_LEVELS: usize = 16;

#[derive(Default)]
pub(super) struct Levels {
    levels: Vec<DirLevel>,
    /// Names of all but the root.
    names: Vec<Name>,
}

struct DirLevel {
    /// Closed when the walk is far below; opened again on the way back.
    dir: Option<Dir>,
    /// The host's name for it.
    name: OsString,
    identity: (u64, u64),
    place: DirId,
    /// Bytes of its path, a slash for each name counted.
    bytes: usize,
    /// Directories in it that are still to be walked, the next one last.
    todo: Vec<OsString>,
}

impl Levels {
    /// Goes up to the deepest directory with any left to walk, and returns the
    /// next one's name.
    pub(super) fn next_dir(&mut self) -> Option<OsString> {
        loop {
            match self.levels.last_mut()?.todo.pop() {
                Some(name) => return Some(name),
                None => {
                    self.levels.pop();
                    self.names.pop();
                }
            }
        }
    }

    /// Makes a directory of the current one the current one; the first is
    /// the root and has no name.
    pub(super) fn go_down(
        &mut self,
        name: Option<(Name, OsString)>,
        identity: (u64, u64),
        place: DirId,
    ) {
        let above = self.levels.last().map_or(0, |level| level.bytes);
        let (bytes, name) = match name {
            Some((own, name)) => {
                let bytes = above + own.as_bytes().len() + 1;
                self.names.push(own);
                (bytes, name)
            }
            None => (0, OsString::new()),
        };
        self.levels.push(DirLevel {
            dir: None,
            name,
            identity,
            place,
            bytes,
            todo: Vec::new(),
        });
    }

    /// Keeps the current directory open, for those in it that are still to be
    /// walked, sorted by name; closes what the way back needs last.
    pub(super) fn keep(&mut self, dir: Dir, mut todo: Vec<OsString>) {
        todo.reverse();
        if let Some(level) = self.levels.last_mut() {
            (level.dir, level.todo) = (Some(dir), todo);
        }
        // The root stays open: the way back starts there.
        let far = self
            .levels
            .len()
            .checked_sub(OPEN_LEVELS + 1)
            .filter(|far| *far > 0);
        if let Some(level) = far.and_then(|far| self.levels.get_mut(far)) {
            level.dir = None;
        }
    }

    /// Returns the current directory, opened again, if it has been closed, with
    /// those above it that the way back needs next.
    pub(super) fn reopened(
        &mut self,
        host: &Host,
    ) -> Result<Option<(&Dir, DirId)>, SourceErrorKind> {
        let open = self
            .levels
            .iter()
            .rposition(|level| level.dir.is_some())
            .unwrap_or(0);
        let keep_from = self.levels.len().saturating_sub(OPEN_LEVELS);
        for at in open + 1..self.levels.len() {
            let Some([above, level, ..]) = self.levels.get_mut(at - 1..) else {
                break;
            };
            let Some(parent) = &above.dir else { break };
            let dir = host.open_dir(parent, &level.name)?;
            let facts = Facts::of(&dir.dir_metadata().map_err(SourceErrorKind::Io)?);
            if facts.identity() != level.identity {
                let reason = "another directory took its parent's place";
                return Err(SourceErrorKind::Changed(reason));
            }
            level.dir = Some(dir);
            if at > 1 && at - 1 < keep_from {
                above.dir = None;
            }
        }
        Ok(self
            .levels
            .last()
            .and_then(|level| Some((level.dir.as_ref()?, level.place))))
    }

    /// The current directory's place in the layer.
    pub(super) fn place(&self) -> DirId {
        self.levels.last().map_or(DirId::ROOT, |level| level.place)
    }

    /// Refuses a name of the current directory that would be too deep.
    pub(super) fn check_depth(&self, name: &Name) -> Result<(), LayerError> {
        let above = self.levels.last().map_or(0, |level| level.bytes);
        if !fits(self.names.len() + 1, above + name.as_bytes().len() + 1) {
            return Err(LayerError::PathTooLong {
                path: self.path(name),
            });
        }
        Ok(())
    }

    /// The path of a name of the current directory. O(depth): for messages.
    pub(super) fn path(&self, name: &Name) -> LayerPath {
        LayerPath::from(self.names.clone()).join(name.clone())
    }

    /// Blames a name of the current directory.
    pub(super) fn blame(&self, name: &OsStr, kind: SourceErrorKind) -> SourceError {
        let names = self.names.iter().map(Name::as_bytes);
        let names: Vec<&[u8]> = names.chain([name.as_encoded_bytes()]).collect();
        kind.at(&names.join(&b'/'))
    }

    /// Blames the current directory itself.
    pub(super) fn blame_here(&self, kind: SourceErrorKind) -> SourceError {
        let names: Vec<&[u8]> = self.names.iter().map(Name::as_bytes).collect();
        if names.is_empty() {
            return kind.at(b".");
        }
        kind.at(&names.join(&b'/'))
    }
}
