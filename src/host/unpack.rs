//! Writing a tree to a host directory, through cap-std.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::PathBuf;

use cap_fs_ext::{DirExt, SystemTimeSpec};
use cap_std::fs::{Dir, File, OpenOptions};
use cap_std::time::SystemTime;

use super::copy::CopyError;
use crate::chunk::Content;
use crate::layer::Layer;
use crate::layer::node::{Body, Child, NodeId};
use crate::meta::Meta;
use crate::name::{LayerPath, Name};
use crate::vfs::Fs;

impl Fs {
    /// Copies the tree below the directory at `path` into a host directory,
    /// which must not have the names yet: nothing there is replaced, and no
    /// link there is followed. Links are made as they are, absolute targets
    /// too; modes and mtimes are set, owners and attributes are not.
    ///
    /// # Errors
    ///
    /// [`CopyError::From`], [`CopyError::Layer`], [`CopyError::Host`] at the
    /// first entry that cannot be written; what came before it stays.
    pub fn export_dir(&self, path: impl AsRef<[u8]>, into: &Dir) -> Result<(), CopyError> {
        let layer = self.tree_at(path.as_ref())?;
        Unpack {
            layer: &layer,
            made: HashMap::new(),
        }
        .run(into)
    }

    /// The same into a directory that is made for it: `into` itself gets the
    /// permission bits and the time of the directory at `path` as well.
    ///
    /// # Errors
    ///
    /// As [`Self::export_dir`].
    pub fn export_dir_whole(&self, path: impl AsRef<[u8]>, into: &Dir) -> Result<(), CopyError> {
        let layer = self.tree_at(path.as_ref())?;
        Unpack {
            layer: &layer,
            made: HashMap::new(),
        }
        .run(into)?;
        let meta = &layer.node(NodeId::ROOT).meta;
        set_meta(into, std::path::Path::new("."), meta).map_err(|error| CopyError::Host {
            path: LayerPath::root(),
            error,
        })
    }
}

struct Unpack<'a> {
    layer: &'a Layer,
    /// Where each file was written first, for its further names.
    made: HashMap<NodeId, PathBuf>,
}

impl Unpack<'_> {
    fn run(&mut self, into: &Dir) -> Result<(), CopyError> {
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
            let host = host_path(&path);
            host.and_then(|host| set_meta(into, &host, meta))
                .map_err(|error| CopyError::Host { path, error })?;
        }
        Ok(())
    }

    fn write(&mut self, into: &Dir, path: &LayerPath, node: NodeId) -> io::Result<()> {
        let host = host_path(path)?;
        let from = self.layer.node(node);
        if let Some(first) = self.made.get(&node) {
            return into.hard_link(first, into, &host);
        }
        match &from.body {
            Body::Dir(_) => return into.create_dir(&host),
            Body::File(content) => {
                let mut options = OpenOptions::new();
                let file = into.open_with(&host, options.write(true).create_new(true))?;
                write_content(file, content)?;
                set_meta(into, &host, &from.meta)?;
            }
            Body::Symlink(target) => {
                symlink(into, &os_string(target)?, &host)?;
                let time =
                    SystemTimeSpec::Absolute(SystemTime::from_std(from.meta.mtime.to_system()));
                into.set_symlink_times(&host, None, Some(time))?;
            }
        }
        self.made.insert(node, host);
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
        into.set_permissions(path, Permissions::from_mode(meta.mode))?;
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

fn host_path(path: &LayerPath) -> io::Result<PathBuf> {
    path.names()
        .iter()
        .map(Name::as_bytes)
        .map(os_string)
        .collect()
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
