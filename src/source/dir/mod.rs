//! Layers from host directories, read through cap-std handles.
//!
//! Every step opens one name below an open directory and follows no symbolic
//! link, so that nothing outside can come in, whatever others do to the
//! directory meanwhile. Directories are walked without recursion and with at
//! most [`OPEN_LEVELS`] handles, however deep they are. The directory is not
//! written: not even access times move where the system lets us say so.
//!
//! Symbolic links stay links, hard links one file; holes are not read. A
//! device, FIFO or socket is an error and is not opened; so is a mount point,
//! as a layer with a part missing would pass for a whole one. Files that
//! change while they are read are an error. Files of `/proc` and the like,
//! which claim 0 bytes, are empty.
//!
//! Whiteouts, besides those of [`marker`](super::marker), are those of
//! overlayfs (Documentation/filesystems/overlayfs.rst): a character device
//! 0/0; an empty file with the attribute `overlay.whiteout` in a directory
//! whose `overlay.opaque` is `x`; `overlay.opaque` being `y` makes a directory
//! opaque. The prefix is `trusted.` or `user.`. The attributes themselves are
//! left out; `overlay.redirect` and `overlay.metacopy`, which point into other
//! layers, are errors.

mod attributes;
mod facts;
mod host;
mod overlayfs;
mod read;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use self::facts::{Facts, HostKind};
use self::host::Host;
use self::overlayfs::Marks;
use super::error::At;
use super::marker::Marker;
use super::{SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::layer::{Layer, LayerBuilder};
use crate::name::{LayerPath, Name};

/// Handles of directories that are kept open on the way down. With the one
/// file that is open they fit below any sane `ulimit -n`.
const OPEN_LEVELS: usize = 16;

/// Makes a layer from an open directory and all below it.
///
/// Content is read now; what happens to the directory later does not matter.
/// Costs about what reading the files costs; holds one buffer of 128 KiB and
/// at most 20 descriptors.
///
/// # Errors
///
/// A [`SourceError`] that names the entry: unreadable, of a kind that a layer
/// cannot have, a mount point, changed meanwhile, past a bound of `options`.
pub fn dir(pool: &ChunkPool, dir: &Dir, options: &SourceOptions) -> Result<Layer, SourceError> {
    let mut walk = Walk {
        pool,
        options,
        builder: LayerBuilder::new().max_entries(options.max_entries),
        host: Host::new(),
        levels: Vec::new(),
        path: Vec::new(),
        files: HashMap::new(),
        content_bytes: 0,
        buf: vec![0; 128 * 1024],
    };
    let root = walk.host.reopen(dir).at(b".")?;
    walk.enter(root, OsString::new())?;
    while let Some(name) = walk.next_dir() {
        walk.descend(name)?;
    }
    Ok(walk.builder.finish().map_err(SourceErrorKind::from)?)
}

/// Makes a layer from the directory at a path of the host.
///
/// # Errors
///
/// As [`dir`]; names `path`.
pub fn dir_ambient(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Layer, SourceError> {
    let opened = Dir::open_ambient_dir(path, ambient_authority()).map_err(SourceErrorKind::Io);
    let opened = opened.map_err(|kind| SourceError::from(kind).of(path))?;
    dir(pool, &opened, options).map_err(|error| error.of(path))
}

struct Walk<'a> {
    pool: &'a ChunkPool,
    options: &'a SourceOptions,
    builder: LayerBuilder,
    host: Host,
    /// The directories from the root to where the walk is.
    levels: Vec<Level>,
    /// Their names, the root's left out.
    path: Vec<Name>,
    /// Files with several names, by device and inode: the first name.
    files: HashMap<(u64, u64), LayerPath>,
    content_bytes: u64,
    buf: Vec<u8>,
}

struct Level {
    /// Closed when the walk is far below; opened again on the way back.
    dir: Option<Dir>,
    name: OsString,
    identity: (u64, u64),
    /// Directories in it that are still to be walked.
    todo: Vec<OsString>,
}

impl Walk<'_> {
    /// Gives the next directory's name in the deepest one with any left.
    fn next_dir(&mut self) -> Option<OsString> {
        loop {
            match self.levels.last_mut()?.todo.pop() {
                Some(name) => return Some(name),
                None => {
                    self.levels.pop();
                    self.path.pop();
                }
            }
        }
    }

    /// Walks into a directory of the current one.
    fn descend(&mut self, name: OsString) -> Result<(), SourceError> {
        match self.open_below(&name) {
            Ok(Some((dir, own))) => {
                self.path.push(own);
                self.enter(dir, name)
            }
            Ok(None) => Ok(()),
            Err(kind) => Err(self.blame(&name, kind)),
        }
    }

    /// Opens a directory of the current one; `None` if it is to be left out.
    fn open_below(&mut self, name: &OsStr) -> Result<Option<(Dir, Name)>, SourceErrorKind> {
        let own = layer_name(name)?;
        match Marker::of(own.as_bytes())? {
            Marker::Plain => {}
            Marker::Reserved => return Ok(None),
            Marker::Whiteout(_) | Marker::Opaque => return Err(no_empty_file()),
        }
        self.reopen_last()?;
        let Some(Level {
            dir: Some(parent), ..
        }) = self.levels.last()
        else {
            return Ok(None);
        };
        Ok(Some((self.host.open_dir(parent, name)?, own)))
    }

    /// Takes a directory and the files in it.
    fn enter(&mut self, dir: Dir, name: OsString) -> Result<(), SourceError> {
        let here = |walk: &Self, kind: SourceErrorKind| kind.at(&walk.here());
        let (identity, marks) = self.take_dir(&dir).map_err(|kind| here(self, kind))?;
        let listed = self.host.list(&dir, self.options.max_entries);
        let mut todo = Vec::new();
        for (name, kind) in listed.map_err(|kind| here(self, kind))? {
            match self.take(&dir, &name, kind, marks) {
                Ok(Taken::Whole) => {}
                Ok(Taken::IsDir) => todo.push(name),
                Err(kind) => return Err(self.blame(&name, kind)),
            }
        }
        // Taken from the end, so that the walk is in the order of names.
        todo.reverse();
        self.levels.push(Level {
            dir: Some(dir),
            name,
            identity,
            todo,
        });
        self.close_far_levels();
        Ok(())
    }

    fn take_dir(&mut self, dir: &Dir) -> Result<((u64, u64), Marks), SourceErrorKind> {
        let facts = Facts::of(&dir.dir_metadata().map_err(SourceErrorKind::Io)?);
        let (meta, marks) = attributes::of_dir(dir, &facts, &mut self.buf)?;
        let path = LayerPath::from(self.path.clone());
        self.builder.dir(&path, meta)?;
        if marks.opaque {
            self.builder.opaque(&path)?;
        }
        Ok((facts.identity(), marks))
    }

    /// Takes one name of a directory, unless a directory stands there.
    fn take(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        kind: HostKind,
        marks: Marks,
    ) -> Result<Taken, SourceErrorKind> {
        let own = layer_name(name)?;
        let marker = match Marker::of(own.as_bytes())? {
            Marker::Reserved => return Ok(Taken::Whole),
            marker => marker,
        };
        let here = LayerPath::from(self.path.clone());
        let path = here.join(own);
        // A directory's listing knows the kind of most; the rest are asked.
        let kind = match kind {
            HostKind::Unknown | HostKind::Char => host::facts_at(dir, name)?.kind,
            kind => kind,
        };
        match (kind, marker) {
            (HostKind::Dir, _) => return Ok(Taken::IsDir),
            (HostKind::File, Marker::Plain) => self.file(dir, name, &path, marks)?,
            (HostKind::File, marker) => {
                let facts = host::facts_at(dir, name)?;
                if facts.size > 0 || facts.links > 1 {
                    return Err(no_empty_file());
                }
                match marker {
                    Marker::Whiteout(hidden) => self.builder.whiteout(&here.join(hidden))?,
                    _ => self.builder.opaque(&here)?,
                }
            }
            (_, Marker::Whiteout(_) | Marker::Opaque) => return Err(no_empty_file()),
            (HostKind::Symlink, _) => {
                let meta = host::facts_at(dir, name)?.meta();
                self.builder
                    .symlink(&path, meta, &host::read_link(dir, name)?)?;
            }
            (HostKind::WhiteoutDevice, _) => self.builder.whiteout(&path)?,
            (other, _) => return Err(SourceErrorKind::Special(other.name())),
        }
        Ok(Taken::Whole)
    }

    /// Takes a regular file: as a hard link if it has been taken before.
    fn file(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        path: &LayerPath,
        marks: Marks,
    ) -> Result<(), SourceErrorKind> {
        let file = self.host.open_file(dir, name)?;
        let before = Facts::of(&file.metadata().map_err(SourceErrorKind::Io)?);
        if before.kind != HostKind::File {
            return Err(SourceErrorKind::Changed(
                "something else took the file's place",
            ));
        }
        if before.links > 1
            && let Some(first) = self.files.get(&before.identity())
        {
            return Ok(self.builder.hard_link(path, first)?);
        }
        let (meta, file_marks) = attributes::of_file(&file, &before, &mut self.buf)?;
        if file_marks.whiteout && marks.holds_whiteouts && before.size == 0 {
            return Ok(self.builder.whiteout(path)?);
        }
        let limit = self.options.max_bytes;
        let mut left = limit.saturating_sub(self.content_bytes);
        let content = read::content(self.pool, &file, &before, &mut self.buf, &mut left);
        self.content_bytes = limit - left;
        let content = content?.ok_or(SourceErrorKind::Limit {
            what: "bytes of content",
            limit,
        })?;
        let after = Facts::of(&file.metadata().map_err(SourceErrorKind::Io)?);
        before.check_unchanged(&after)?;
        self.builder.file(path, meta, content)?;
        if before.links > 1 {
            self.files.insert(before.identity(), path.clone());
        }
        Ok(())
    }

    /// Closes what the way back will need last.
    fn close_far_levels(&mut self) {
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

    /// Opens the deepest directory again, with those above it that the way
    /// back needs next, if it has been closed.
    fn reopen_last(&mut self) -> Result<(), SourceErrorKind> {
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
            let dir = self.host.open_dir(parent, &level.name)?;
            let facts = Facts::of(&dir.dir_metadata().map_err(SourceErrorKind::Io)?);
            if facts.identity() != level.identity {
                return Err(SourceErrorKind::Changed(
                    "another directory took its parent's place",
                ));
            }
            level.dir = Some(dir);
            if at > 1 && at - 1 < keep_from {
                above.dir = None;
            }
        }
        Ok(())
    }

    /// The directory that the walk is in, for messages.
    fn here(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.path.iter().map(Name::as_bytes).collect();
        if names.is_empty() {
            b".".to_vec()
        } else {
            names.join(&b'/')
        }
    }

    fn blame(&self, name: &OsStr, kind: SourceErrorKind) -> SourceError {
        let names = self.path.iter().map(Name::as_bytes);
        let names: Vec<&[u8]> = names.chain([name.as_encoded_bytes()]).collect();
        kind.at(&names.join(&b'/'))
    }
}

/// What became of a name.
enum Taken {
    Whole,
    /// Still to be walked.
    IsDir,
}

fn no_empty_file() -> SourceErrorKind {
    SourceErrorKind::Whiteout("it is no empty regular file with one name")
}

/// The host's name as a layer's: its bytes where names are bytes, UTF-8
/// elsewhere.
fn layer_name(name: &OsStr) -> Result<Name, SourceErrorKind> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name);
    #[cfg(not(unix))]
    let bytes = match name.to_str() {
        Some(text) => text.as_bytes(),
        None => return Err(SourceErrorKind::NoLayer("the name is not Unicode".into())),
    };
    Name::new(bytes).map_err(|error| SourceErrorKind::Name {
        what: "the name".into(),
        error,
    })
}
