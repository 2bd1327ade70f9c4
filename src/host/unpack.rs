//! Writing a tree to a host directory, through cap-std.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use cap_fs_ext::{DirExt, SystemTimeSpec};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use cap_std::time::SystemTime;

use super::copy::CopyError;
use crate::chunk::Content;
use crate::layer::Layer;
use crate::layer::node::{Child, NodeBody, NodeId};
use crate::meta::Meta;
use crate::name::{LayerPath, Name};
use crate::path::IntoFsPath;
use crate::vfs::Fs;

impl Fs {
    /// Copies the tree below the directory at `path` into a host directory,
    /// which must not have the names yet: nothing there is replaced, and no
    /// link there is followed. Links are made as they are, absolute targets
    /// too; modes and mtimes are set, owners and attributes are not, and so
    /// setuid and setgid are left out. Holes stay holes.
    ///
    /// Safe on a tree that a guest made: O(entries and bytes outside holes), with
    /// O(depth) an entry for its path, and two descriptors of the host's; a tree
    /// deeper than a layer can be is refused before anything is written.
    ///
    /// # Errors
    ///
    /// [`CopyError::Layer`], [`CopyError::Host`] at the
    /// first entry that cannot be written; what came before it stays.
    pub fn export_dir(&self, path: impl IntoFsPath, into: &Dir) -> Result<(), CopyError> {
        let layer = self.tree_at(&path.fs_path())?;
        Unpack {
            layer: &layer,
            made: HashMap::new(),
            into,
        }
        .run()
    }

    /// Writes a tree as [`export_dir`](Self::export_dir) does, into the directory at a path of
    /// the host, which is made if it is missing (not those above it).
    ///
    /// # Errors
    ///
    /// [`CopyError::Into`] if the directory cannot be made or opened, then those of
    /// [`export_dir`](Self::export_dir).
    pub fn export_to(
        &self,
        path: impl IntoFsPath,
        into: impl AsRef<std::path::Path>,
    ) -> Result<(), CopyError> {
        let into = into.as_ref();
        let made = match std::fs::create_dir(into) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        let opened = made.and_then(|()| Dir::open_ambient_dir(into, ambient_authority()));
        let opened = opened.map_err(|error| CopyError::Into {
            path: into.to_owned(),
            error,
        })?;
        self.export_dir(path, &opened)
    }

    /// Writes a tree as [`export_dir`](Self::export_dir) does, into a directory that is made for
    /// it: `into` itself gets the permission bits and the time of the directory at `path` as well.
    ///
    /// # Errors
    ///
    /// As [`Self::export_dir`].
    pub fn export_dir_whole(&self, path: impl IntoFsPath, into: &Dir) -> Result<(), CopyError> {
        let layer = self.tree_at(&path.fs_path())?;
        Unpack {
            layer: &layer,
            made: HashMap::new(),
            into,
        }
        .run()?;
        let meta = &layer.node(NodeId::ROOT).meta;
        set_meta(into, std::path::Path::new("."), meta).map_err(|error| CopyError::Host {
            path: LayerPath::root(),
            error,
        })
    }
}

/// Setuid and setgid.
#[cfg(unix)]
const SET_OWNER: u32 = 0o6000;

struct Unpack<'a> {
    layer: &'a Layer,
    /// Where each file was written first, for its further names.
    made: HashMap<NodeId, LayerPath>,
    into: &'a Dir,
}

impl Unpack<'_> {
    fn run(&mut self) -> Result<(), CopyError> {
        let into = self.into;
        let mut todo = vec![(LayerPath::root(), NodeId::ROOT)];
        let mut dirs = Vec::new();
        while let Some((path, node)) = todo.pop() {
            let Some(dir) = self.layer.dir(node) else {
                continue;
            };
            for (name, child) in &dir.children {
                let Child::Node(below) = child else { continue };
                let entry = path.join(name.clone());
                self.write(into, &entry, *below)
                    .map_err(|error| CopyError::Host {
                        path: entry.clone(),
                        error,
                    })?;
                if self.layer.dir(*below).is_some() {
                    todo.push((entry, *below));
                }
            }
            if !path.is_root() {
                dirs.push((path, node));
            }
        }
        // The deepest first: a directory's own mtime and mode come last.
        for (path, node) in dirs.into_iter().rev() {
            let meta = &self.layer.node(node).meta;
            near(into, &path)
                .and_then(|(near, host)| set_meta(near.as_ref().unwrap_or(into), &host, meta))
                .map_err(|error| CopyError::Host { path, error })?;
        }
        Ok(())
    }

    fn write(&mut self, into: &Dir, path: &LayerPath, node: NodeId) -> io::Result<()> {
        let (near, host) = near(into, path)?;
        let into = near.as_ref().unwrap_or(into);
        let from = self.layer.node(node);
        if let Some(first) = self.made.get(&node) {
            let (first_near, first) = self::near(self.into, first)?;
            let first_in = first_near.as_ref().unwrap_or(self.into);
            return first_in.hard_link(first, into, &host);
        }
        match &from.body {
            NodeBody::Dir(_) => return into.create_dir(&host),
            NodeBody::File(content) => {
                let mut options = OpenOptions::new();
                let file = into.open_with(&host, options.write(true).create_new(true))?;
                write_content(file, content)?;
                set_meta(into, &host, &from.meta)?;
            }
            NodeBody::Symlink(target) => {
                symlink(into, &os_string(target)?, &host)?;
                let time =
                    SystemTimeSpec::Absolute(SystemTime::from_std(from.meta.mtime.to_system()));
                into.set_symlink_times(&host, None, Some(time))?;
            }
        }
        self.made.insert(node, path.clone());
        Ok(())
    }
}

/// Writes the chunks where they belong and leaves holes between them.
fn write_content(mut file: File, content: &Content) -> io::Result<()> {
    for piece in content.pieces() {
        let (offset, bytes) = piece.map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&bytes)?;
    }
    file.set_len(content.size())
}

fn set_meta(into: &Dir, path: &std::path::Path, meta: &Meta) -> io::Result<()> {
    let time = SystemTimeSpec::Absolute(SystemTime::from_std(meta.mtime.to_system()));
    into.set_times(path, None, Some(time))?;
    #[cfg(unix)]
    {
        use cap_std::fs::{Permissions, PermissionsExt};
        // These bits give who runs a file the rights of its owner, which is
        // whoever writes this, not the owner that was meant.
        let mode = meta.mode & !SET_OWNER;
        into.set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(unix)]
fn symlink(into: &Dir, target: &OsString, path: &std::path::Path) -> io::Result<()> {
    into.symlink_contents(target, path)
}

#[cfg(not(unix))]
fn symlink(into: &Dir, target: &OsString, path: &std::path::Path) -> io::Result<()> {
    DirExt::symlink(into, target, path)
}

/// Bytes of a path that one call of the host's takes, well below Linux's bound.
const NEAR_BYTES: usize = 3072;

/// Returns a path that the host takes, and where a longer one has to start: at a
/// directory above, which is opened on the way.
fn near(into: &Dir, path: &LayerPath) -> io::Result<(Option<Dir>, PathBuf)> {
    let mut dir: Option<Dir> = None;
    let mut names = path.names();
    loop {
        let mut bytes = 0;
        let fit = names.iter().take_while(|name| {
            bytes += name.as_bytes().len() + 1;
            bytes <= NEAR_BYTES
        });
        let (head, rest) = names.split_at(fit.count());
        if rest.is_empty() {
            return Ok((dir, host_path(head)?));
        }
        let opened = dir.as_ref().unwrap_or(into).open_dir(host_path(head)?)?;
        dir = Some(opened);
        names = rest;
    }
}

fn host_path(names: &[Name]) -> io::Result<PathBuf> {
    names.iter().map(Name::as_bytes).map(os_string).collect()
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> io::Result<OsString> {
    use std::os::unix::ffi::OsStringExt;
    Ok(OsString::from_vec(bytes.to_vec()))
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> io::Result<OsString> {
    let text = std::str::from_utf8(bytes);
    text.map(OsString::from)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidFilename, error))
}
