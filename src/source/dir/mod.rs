//! Layers from host directories, read through cap-std handles.
//!
//! Every step opens one name below an open directory and follows no symbolic
//! link, so that nothing outside can come in, whatever others do to the
//! directory meanwhile. Directories are walked without recursion and with at
//! most [`OPEN_LEVELS`](levels::OPEN_LEVELS) handles, however deep they are. The directory is not
//! written: not even access times move where the system lets us say so.
//!
//! Symbolic links stay links, hard links one file; holes are not read. A
//! device, FIFO or socket is an error, or left out, and is not opened; so is a mount point,
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
mod levels;
mod overlayfs;
mod read;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use self::facts::{Facts, HostKind};
use self::host::Host;
use self::levels::Levels;
use self::overlayfs::OverlayfsMarks;
use self::read::FileReader;
use super::error::At;
use super::marker::Marker;
use super::{SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::layer::entry_pos::{DirId, EntryPos, ObjectId};
use crate::layer::{Layer, LayerBuilder};
use crate::meta::Meta;
use crate::name::Name;

/// Makes a layer from an open directory and all below it.
///
/// Content is read now; what happens to the directory later does not matter.
/// Costs about what reading the files costs; holds one buffer of 128 KiB and
/// at most 20 descriptors.
///
/// ```no_run
/// use stratafs::cap_std::{ambient_authority, fs::Dir};
/// use stratafs::chunk::ChunkPool;
/// use stratafs::source::{self, SourceOptions};
///
/// let dir = Dir::open_ambient_dir("app", ambient_authority())?;
/// let layer = source::dir(&ChunkPool::new(), &dir, &SourceOptions::default())?;
/// println!("{}", layer.digest());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// A [`SourceError`] that names the entry: unreadable, of a kind that a layer
/// cannot have, a mount point, changed meanwhile, past a bound of `options`.
pub fn dir(pool: &ChunkPool, dir: &Dir, options: &SourceOptions) -> Result<Layer, SourceError> {
    let mut walk = DirWalk {
        pool,
        options,
        builder: LayerBuilder::new().max_entries(options.max_entries),
        host: Host::new(),
        levels: Levels::default(),
        files: HashMap::new(),
        left: options.max_bytes,
        buf: vec![0; 128 * 1024],
    };
    walk.root(dir)?;
    while let Some(name) = walk.levels.next_dir() {
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

struct DirWalk<'a> {
    pool: &'a ChunkPool,
    options: &'a SourceOptions,
    builder: LayerBuilder,
    host: Host,
    /// Where the walk is.
    levels: Levels,
    /// Files with several names, by device and inode.
    files: HashMap<(u64, u64), ObjectId>,
    /// Bytes of content that may still be read.
    left: u64,
    buf: Vec<u8>,
}

/// A directory that is open, and what is known of it.
struct OpenedDir {
    dir: Dir,
    facts: Facts,
    meta: Meta,
    marks: OverlayfsMarks,
}

impl DirWalk<'_> {
    fn root(&mut self, root: &Dir) -> Result<(), SourceError> {
        let opened = self
            .host
            .reopen(root)
            .and_then(|dir| self.look_at(dir))
            .at(b".")?;
        self.builder.root(opened.meta.clone()).at(b".")?;
        self.enter(opened, DirId::ROOT, None)
    }

    /// Walks into a directory of the current one.
    fn descend(&mut self, name: OsString) -> Result<(), SourceError> {
        let blame = |walk: &Self, kind| walk.levels.blame(&name, kind);
        let own = match plain_name(&name).map_err(|kind| blame(self, kind))? {
            Some(own) => own,
            None => return Ok(()),
        };
        let found = self
            .open_below(&name, &own)
            .map_err(|kind| blame(self, kind))?;
        let Some((opened, place)) = found else {
            return Ok(());
        };
        self.enter(opened, place, Some((own, name)))
    }

    /// Opens a directory of the current one and notes its place.
    fn open_below(
        &mut self,
        name: &OsStr,
        own: &Name,
    ) -> Result<Option<(OpenedDir, DirId)>, SourceErrorKind> {
        let Some((parent, place)) = self.levels.reopened(&self.host)? else {
            return Ok(None);
        };
        let dir = self.host.open_dir(parent, name)?;
        let opened = self.look_at(dir)?;
        self.levels.check_depth(own)?;
        let path = || self.levels.path(own);
        let pos = EntryPos {
            dir: place,
            name: own,
            path: &path,
        };
        let place = self.builder.dir_in(pos, opened.meta.clone())?;
        Ok(Some((opened, place)))
    }

    fn look_at(&mut self, dir: Dir) -> Result<OpenedDir, SourceErrorKind> {
        let facts = Facts::of(&dir.dir_metadata().map_err(SourceErrorKind::Io)?);
        let (meta, marks) = attributes::of_dir(&dir, &facts, &mut self.buf)?;
        Ok(OpenedDir {
            dir,
            facts,
            meta,
            marks,
        })
    }

    /// Takes the names in a directory and makes it the current one.
    fn enter(
        &mut self,
        opened: OpenedDir,
        place: DirId,
        name: Option<(Name, OsString)>,
    ) -> Result<(), SourceError> {
        let OpenedDir {
            dir, facts, marks, ..
        } = opened;
        if marks.opaque {
            self.builder.opaque_in(place);
        }
        self.levels.go_down(name, facts.identity(), place);
        let listed = self.host.list(&dir, self.options.max_entries);
        let mut todo = Vec::new();
        for (name, kind) in listed.map_err(|kind| self.levels.blame_here(kind))? {
            match self.take(&dir, &name, kind, marks) {
                Ok(TakenEntry::Whole) => {}
                Ok(TakenEntry::IsDir) => todo.push(name),
                Err(kind) => return Err(self.levels.blame(&name, kind)),
            }
        }
        self.levels.keep(dir, todo);
        Ok(())
    }

    /// Takes one name of the current directory, unless a directory stands
    /// there.
    fn take(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        kind: HostKind,
        marks: OverlayfsMarks,
    ) -> Result<TakenEntry, SourceErrorKind> {
        // A directory's listing knows the kind of most; the rest are asked.
        let kind = match kind {
            HostKind::Unknown => host::facts_at(dir, name)?.kind,
            kind => kind,
        };
        if kind == HostKind::Dir {
            return Ok(TakenEntry::IsDir);
        }
        let own = layer_name(name)?;
        let marker = Marker::of(own.as_bytes())?;
        if marker != Marker::Plain {
            return self.take_marker(dir, name, kind, marker);
        }
        self.levels.check_depth(&own)?;
        let path = || self.levels.path(&own);
        let pos = EntryPos {
            dir: self.levels.place(),
            name: &own,
            path: &path,
        };
        match kind {
            HostKind::File => {
                let file = self.host.open_file(dir, name)?;
                let reader = FileReader {
                    pool: self.pool,
                    builder: &mut self.builder,
                    files: &mut self.files,
                    left: &mut self.left,
                    limit: self.options.max_bytes,
                    buf: &mut self.buf,
                };
                reader.take(&file, pos, marks)?;
            }
            HostKind::Symlink => {
                let meta = host::facts_at(dir, name)?.meta();
                self.builder
                    .symlink_in(pos, meta, &host::read_link(dir, name)?)?;
            }
            HostKind::WhiteoutDevice => self.builder.whiteout_in(pos)?,
            other => match &self.options.skip_special {
                Some(left_out) => left_out.note(&path()),
                None => return Err(SourceErrorKind::Special(other.name())),
            },
        }
        Ok(TakenEntry::Whole)
    }

    /// Takes a whiteout by name.
    fn take_marker(
        &mut self,
        dir: &Dir,
        name: &OsStr,
        kind: HostKind,
        marker: Marker,
    ) -> Result<TakenEntry, SourceErrorKind> {
        if marker == Marker::Reserved {
            return Ok(TakenEntry::Whole);
        }
        let facts = host::facts_at(dir, name)?;
        if kind != HostKind::File || facts.size > 0 || facts.links > 1 {
            return Err(no_empty_file());
        }
        match marker {
            Marker::Whiteout(hidden) => {
                let path = || self.levels.path(&hidden);
                let pos = EntryPos {
                    dir: self.levels.place(),
                    name: &hidden,
                    path: &path,
                };
                self.builder.whiteout_in(pos)?;
            }
            Marker::Opaque | Marker::Plain | Marker::Reserved => {
                self.builder.opaque_in(self.levels.place());
            }
        }
        Ok(TakenEntry::Whole)
    }
}

/// What became of a name.
enum TakenEntry {
    Whole,
    /// Still to be walked.
    IsDir,
}

fn no_empty_file() -> SourceErrorKind {
    SourceErrorKind::Whiteout("it is not an empty regular file with one name")
}

/// The name of a directory; `None` if it is to be left out.
fn plain_name(name: &OsStr) -> Result<Option<Name>, SourceErrorKind> {
    let own = layer_name(name)?;
    match Marker::of(own.as_bytes())? {
        Marker::Plain => Ok(Some(own)),
        Marker::Reserved => Ok(None),
        Marker::Whiteout(_) | Marker::Opaque => Err(no_empty_file()),
    }
}

/// The host's name as a layer's: its bytes where names are bytes, UTF-8
/// elsewhere.
fn layer_name(name: &OsStr) -> Result<Name, SourceErrorKind> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(name);
    #[cfg(not(unix))]
    let bytes = match name.to_str() {
        Some(text) => text.as_bytes(),
        None => return Err(SourceErrorKind::NotALayer("the name is not Unicode".into())),
    };
    Name::new(bytes).map_err(|error| SourceErrorKind::Name {
        what: "the name".into(),
        error,
    })
}
