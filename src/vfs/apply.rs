//! Writing a layer into an instance: how trees are copied in.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::Fs;
use super::fs::{find_dir, recheck};
use crate::chunk::Content;
use crate::errno::Errno;
use crate::error::Error;
use crate::layer::Layer;
use crate::layer::node::{Child, NodeBody, NodeId};
use crate::limits::BLOCK_BYTES;
use crate::meta::{FileId, Kind, Meta, Time};
use crate::name::{LayerPath, Name};
use crate::overlay::{FoundEntry, New, Overlay};
use crate::path::IntoFsPath;

impl Fs {
    /// Writes a layer into the directory at `path`, all of it or nothing: new
    /// entries replace old ones, directories merge, whiteouts and opaque
    /// marks remove what is there. One step, under the instance's quotas.
    ///
    /// Modes, owners and mtimes are the layer's, and those of a directory that it only leads
    /// through stay; extended attributes are not taken over, an instance keeps those of its base
    /// only. O(layer).
    ///
    /// Files of a layer from a store are read before the instance is locked, and
    /// held in memory meanwhile: at most as many bytes as its quota allows. The
    /// thread waits for what has to be fetched first.
    ///
    /// # Errors
    ///
    /// The errno of the walk to `path`, of the first entry that does not fit, with
    /// the entry's path, or [`Errno::ReadOnly`].
    pub fn apply(&self, path: impl IntoFsPath, layer: &Layer) -> Result<(), Error> {
        let path = path.fs_path();
        let at_top = |errno| Error::new("apply layer at", &path, errno);
        if self.is_read_only() {
            return Err(at_top(Errno::ReadOnly));
        }
        let now = self.now();
        let fetched = Fetched::of(layer, self.quota().max_bytes);
        let mut state = self.lock();
        let top = find_dir(&state, &path).map_err(at_top)?;
        let before = state.snapshot();
        let mut apply = Apply {
            state: &mut state,
            layer,
            top,
            now,
            fetched: &fetched,
            made: HashMap::new(),
            implied: Vec::new(),
        };
        let result = apply.run();
        if result.is_err() {
            state.roll_back(before);
        }
        recheck(&state);
        result.map_err(|(entry, errno)| {
            let below = entry.to_bytes();
            let path = match below.is_empty() || path.ends_with(b"/") {
                true => [&path, &*below].concat(),
                false => [&path, &b"/"[..], &below].concat(),
            };
            Error::new("apply layer at", &path, errno)
        })
    }
}

/// The bytes of the files of a layer that are not in memory, read before the
/// instance is locked.
#[derive(Default)]
struct Fetched {
    /// In the order in which files are written, up to the first that cannot be.
    files: HashMap<NodeId, Result<Vec<FetchedRun>, Errno>>,
}

/// Bytes and their offset: blocks that are not all zeros.
type FetchedRun = (u64, Box<[u8]>);

impl Fetched {
    /// Reads no more than `max` bytes: a layer that has more does not fit.
    fn of(layer: &Layer, max: u64) -> Self {
        let (mut fetched, mut left) = (Self::default(), max);
        let mut todo = vec![NodeId::ROOT];
        while let Some(node) = todo.pop() {
            let children = layer.dir(node).map(|dir| dir.children.iter());
            for (_, child) in children.into_iter().flatten() {
                let Child::Node(node) = child else {
                    continue;
                };
                match &layer.node(*node).body {
                    NodeBody::Dir(_) => todo.push(*node),
                    NodeBody::File(content) if content.stored().is_some() => {
                        let read = read(content, &mut left);
                        let failed = read.is_err();
                        fetched.files.insert(*node, read);
                        if failed {
                            return fetched;
                        }
                    }
                    NodeBody::File(_) | NodeBody::Symlink(_) => {}
                }
            }
        }
        fetched
    }

    fn get(&self, node: NodeId) -> Result<&[FetchedRun], Errno> {
        match self.files.get(&node) {
            Some(Ok(runs)) => Ok(runs),
            Some(Err(errno)) => Err(*errno),
            // Files come here in the order of `of`.
            None => Err(Errno::Io),
        }
    }
}

/// Reads a file, and takes its bytes off those that are `left`.
fn read(content: &Content, left: &mut u64) -> Result<Vec<FetchedRun>, Errno> {
    let mut runs: Vec<FetchedRun> = Vec::new();
    for piece in content.pieces() {
        let (offset, piece) = piece.map_err(|_| Errno::Io)?;
        for (block, bytes) in blocks(offset, &piece) {
            let rest = left.checked_sub(bytes.len() as u64);
            *left = rest.ok_or(Errno::NoSpace)?;
            runs.push((block, bytes.into()));
        }
    }
    Ok(runs)
}

/// The blocks of a piece that are not all zeros: a chunk may hold holes that
/// are smaller than itself.
fn blocks(offset: u64, piece: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let blocks = (offset..)
        .step_by(BLOCK_BYTES)
        .zip(piece.chunks(BLOCK_BYTES));
    blocks.filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
}

struct Apply<'a> {
    state: &'a mut Overlay,
    layer: &'a Layer,
    top: FileId,
    now: Time,
    fetched: &'a Fetched,
    /// Files and links written so far, for their further names.
    made: HashMap<NodeId, FileId>,
    /// Directories that the layer says nothing of, and their mtimes.
    implied: Vec<(FileId, Time)>,
}

impl Apply<'_> {
    /// Returns the entry that does not fit, and why.
    fn run(&mut self) -> Result<(), (LayerPath, Errno)> {
        let mut todo = vec![(LayerPath::root(), self.top, NodeId::ROOT)];
        let mut dirs = Vec::new();
        while let Some((path, id, node)) = todo.pop() {
            let Some(dir) = self.layer.dir(node) else {
                continue;
            };
            if dir.implied && node != NodeId::ROOT {
                let stat = self.state.stat(id);
                let stat = stat.map_err(|errno| (path.clone(), errno))?;
                self.implied.push((id, stat.mtime));
            }
            if dir.opaque {
                self.clear(id).map_err(|errno| (path.clone(), errno))?;
            }
            for (name, child) in &dir.children {
                let entry = path.join(name.clone());
                let below = self.child(id, name, child);
                let below = below.map_err(|errno| (entry.clone(), errno))?;
                todo.extend(below.map(|(id, node)| (entry, id, node)));
            }
            if !dir.implied {
                dirs.push((path, id, node));
            }
        }
        for (id, mtime) in self.implied.drain(..) {
            let kept = self.state.set_times(id, None, Some(mtime), self.now);
            kept.map_err(|errno| (LayerPath::root(), errno))?;
        }
        // Last, since what is written into a directory moves its mtime.
        for (path, id, node) in dirs {
            let meta = self.layer.node(node).meta.clone();
            self.set_meta(id, &meta).map_err(|errno| (path, errno))?;
        }
        Ok(())
    }

    /// Writes one entry. Returns the directory to go on with if it is one.
    fn child(
        &mut self,
        dir: FileId,
        name: &Name,
        child: &Child,
    ) -> Result<Option<(FileId, NodeId)>, Errno> {
        let node = match child {
            Child::Whiteout => return self.remove(dir, name).map(|()| None),
            Child::LowerLink(target) => {
                let id = self.find(target)?;
                self.remove(dir, name)?;
                self.state.link(id, dir, name.as_bytes(), self.now)?;
                return Ok(None);
            }
            Child::Node(node) => *node,
        };
        let NodeBody::Dir(_) = &self.layer.node(node).body else {
            return self.leaf(dir, name, node).map(|()| None);
        };
        let found = self.state.find(dir, name.as_bytes());
        let id = match found.filter(|found| found.kind == Kind::Dir) {
            Some(found) => found.id,
            None => {
                self.remove(dir, name)?;
                self.state
                    .create(dir, name.as_bytes(), New::Dir, self.now)?
            }
        };
        Ok(Some((id, node)))
    }

    /// Writes a file or link, or one more name of one.
    fn leaf(&mut self, dir: FileId, name: &Name, node: NodeId) -> Result<(), Errno> {
        self.remove(dir, name)?;
        let name = name.as_bytes();
        if let Some(id) = self.made.get(&node) {
            return self.state.link(*id, dir, name, self.now);
        }
        let from = self.layer.node(node).clone();
        let id = match &from.body {
            NodeBody::File(content) => {
                let id = self.state.create(dir, name, New::File, self.now)?;
                self.write(id, node, content)?;
                id
            }
            NodeBody::Symlink(target) => {
                self.state
                    .create(dir, name, New::Symlink(target), self.now)?
            }
            NodeBody::Dir(_) => return Err(Errno::IsDirectory),
        };
        self.made.insert(node, id);
        self.set_meta(id, &from.meta)
    }

    fn write(&mut self, id: FileId, node: NodeId, content: &Content) -> Result<(), Errno> {
        if content.stored().is_some() {
            let fetched = self.fetched;
            for (offset, bytes) in fetched.get(node)? {
                self.put(id, *offset, bytes)?;
            }
        } else {
            for (offset, chunk) in content.chunks() {
                for (block, bytes) in blocks(offset, &chunk.bytes()) {
                    self.put(id, block, bytes)?;
                }
            }
        }
        self.state.set_size(id, content.size(), self.now)
    }

    fn put(&mut self, id: FileId, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if self.state.write_at(id, offset, bytes, self.now)? < bytes.len() {
            return Err(Errno::NoSpace);
        }
        Ok(())
    }

    fn set_meta(&mut self, id: FileId, meta: &Meta) -> Result<(), Errno> {
        self.state
            .set_owner(id, meta.mode, meta.uid, meta.gid, self.now)?;
        self.state.set_times(id, None, Some(meta.mtime), self.now)
    }

    /// Finds an object of the instance by a layer's path; no link is followed.
    fn find(&self, path: &LayerPath) -> Result<FileId, Errno> {
        path.names().iter().try_fold(self.top, |dir, name| {
            self.state
                .find(dir, name.as_bytes())
                .map(|found| found.id)
                .ok_or(Errno::NoEntry)
        })
    }

    fn entry(&self, dir: FileId, name: &Name) -> Result<FoundEntry, Errno> {
        self.state.find(dir, name.as_bytes()).ok_or(Errno::NoEntry)
    }

    /// Removes an entry and all below it, if it is there.
    fn remove(&mut self, dir: FileId, name: &Name) -> Result<(), Errno> {
        match self.state.find(dir, name.as_bytes()) {
            None => Ok(()),
            Some(found) if found.kind == Kind::Dir => {
                self.clear(found.id)?;
                self.state.rmdir((dir, name.as_bytes(), found), self.now)
            }
            Some(found) => self.state.unlink((dir, name.as_bytes(), found), self.now),
        }
    }

    /// Empties a directory, the deepest first.
    fn clear(&mut self, top: FileId) -> Result<(), Errno> {
        let mut todo = vec![(top, None::<(FileId, Name)>)];
        while let Some((dir, place)) = todo.pop() {
            let mut entries = Vec::new();
            self.state.list(dir, 0, u64::MAX, &mut |name, id, kind, _| {
                entries.push((Name::from_checked(name), id, kind));
                ControlFlow::Continue(())
            });
            let has_dirs = entries.iter().any(|(_, _, kind)| *kind == Kind::Dir);
            if has_dirs {
                // Again once those in it are empty and gone.
                todo.push((dir, place));
            } else if let Some((parent, name)) = place {
                self.unlink_all(dir, &entries)?;
                let found = self.entry(parent, &name)?;
                self.state
                    .rmdir((parent, name.as_bytes(), found), self.now)?;
                continue;
            }
            self.unlink_all(dir, &entries)?;
            for (name, id, kind) in entries {
                if kind == Kind::Dir {
                    todo.push((id, Some((dir, name))));
                }
            }
        }
        Ok(())
    }

    fn unlink_all(&mut self, dir: FileId, entries: &[(Name, FileId, Kind)]) -> Result<(), Errno> {
        for (name, _, kind) in entries {
            if *kind != Kind::Dir {
                let found = self.entry(dir, name)?;
                self.state.unlink((dir, name.as_bytes(), found), self.now)?;
            }
        }
        Ok(())
    }
}
