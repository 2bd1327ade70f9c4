//! What an instance changed, as a layer.
//!
//! A layer speaks of paths, the overlay of objects. So each directory of the
//! instance is held against the base's at the same path: where it is the same
//! object its changes are told one by one, where it is another its whole tree
//! is told and what was there is hidden by an opaque mark.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::data::content_below;
use super::inode::Body;
use super::{Object, Overlay};
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::errno::Errno;
use crate::layer::{Layer, LayerBuilder, LayerError};
use crate::limits::{CHUNK_BYTES, MAX_LAYER_DEPTH};
use crate::meta::{FileId, Kind, Meta};
use crate::name::{LayerPath, Name};

impl Overlay {
    /// Returns the changes as a layer. See [`Fs::diff`](crate::vfs::Fs::diff).
    pub(crate) fn diff(&self, pool: &ChunkPool) -> Result<Layer, LayerError> {
        let whole = Task {
            path: LayerPath::root(),
            id: FileId::ROOT,
            below: Some(0),
        };
        self.build(&whole, pool)
    }

    /// Returns all below a directory as a layer.
    pub(crate) fn tree(&self, top: FileId, pool: &ChunkPool) -> Result<Layer, LayerError> {
        let whole = Task {
            path: LayerPath::root(),
            id: top,
            below: None,
        };
        self.build(&whole, pool)
    }

    fn build(&self, whole: &Task, pool: &ChunkPool) -> Result<Layer, LayerError> {
        // Files with several names have to be told under all of them. Those
        // that turn up in a moved tree are known only once it has been told,
        // so that round is thrown away; each names at least one more file.
        let mut retold = HashSet::new();
        self.image.begin();
        loop {
            let mut diff = Diff::new(self, pool, retold);
            diff.links_below = whole.below.is_some();
            diff.todo.push(whole.clone());
            diff.run()?;
            self.check_undamaged()
                .map_err(|errno| LayerError::Unreadable {
                    path: LayerPath::root(),
                    errno,
                })?;
            if diff.more.is_empty() || whole.below.is_none() {
                return diff.builder.finish();
            }
            retold = diff.retold;
            retold.extend(diff.more);
        }
    }
}

struct Diff<'a> {
    tree: &'a Overlay,
    pool: &'a ChunkPool,
    builder: LayerBuilder,
    /// Unchanged base files to tell as if they had changed.
    retold: HashSet<FileId>,
    /// Such files found in this round.
    more: HashSet<FileId>,
    /// Directories that have a change in or below them.
    dirty: HashSet<FileId>,
    /// For each base directory its slots that lead to something changed.
    touched: HashMap<u32, BTreeSet<u32>>,
    /// Where a file with several names was told first.
    written: HashMap<FileId, LayerPath>,
    todo: Vec<Task>,
    /// Whether the layer will lie on the base, so that its links may name what is there.
    links_below: bool,
}

/// A directory to compare: at `path` the instance has `id`, the base the
/// directory `below`.
#[derive(Clone)]
struct Task {
    path: LayerPath,
    id: FileId,
    below: Option<u32>,
}

impl<'a> Diff<'a> {
    fn new(tree: &'a Overlay, pool: &'a ChunkPool, retold: HashSet<FileId>) -> Self {
        let mut diff = Self {
            tree,
            pool,
            builder: LayerBuilder::new(),
            retold,
            more: HashSet::new(),
            dirty: HashSet::new(),
            touched: HashMap::new(),
            written: HashMap::new(),
            todo: Vec::new(),
            links_below: false,
        };
        diff.find_dirty();
        diff
    }

    fn run(&mut self) -> Result<(), LayerError> {
        while let Some(task) = self.todo.pop() {
            // A damaged base may have directories within themselves.
            self.tree
                .check_undamaged()
                .map_err(|errno| LayerError::Unreadable {
                    path: task.path.clone(),
                    errno,
                })?;
            let lineage = self.base_of(task.id);
            match task.below {
                Some(below) if lineage == Some(below) => self.emit_changes(&task, below)?,
                Some(_) => {
                    self.emit_whole(&task)?;
                    self.builder.opaque(&task.path)?;
                }
                None => self.emit_whole(&task)?,
            }
        }
        Ok(())
    }

    /// Marks each directory with a change, and all above it. O(changes).
    fn find_dirty(&mut self) {
        let tree = self.tree;
        for (id, held) in tree.inodes.iter() {
            let Some(inode) = held.as_ref().filter(|inode| inode.nlink > 0) else {
                continue;
            };
            if tree.is_as_furnished(*id) || tree.is_only_furnished(*id) {
                continue;
            }
            match inode.body {
                Body::Dir(_) => self.mark(*id),
                Body::File(_) | Body::Symlink(_) => self.mark_names(*id),
            }
        }
        for id in self.retold.clone() {
            self.mark_names(id);
        }
    }

    /// Marks the directories in which the base names a file or link.
    fn mark_names(&mut self, id: FileId) {
        let Some(node) = self.tree.node(id) else {
            return;
        };
        for slot in self.tree.image.slots_of(node) {
            let dir = self.tree.image.dir_of(slot);
            self.touched.entry(dir).or_default().insert(slot);
            self.mark(FileId::of_node(dir));
        }
    }

    fn mark(&mut self, dir: FileId) {
        let mut at = dir;
        while self.dirty.insert(at) {
            if let Some(node) = self.tree.node(at) {
                for slot in self.tree.image.slots_of(node) {
                    let above = self.tree.image.dir_of(slot);
                    self.touched.entry(above).or_default().insert(slot);
                }
            }
            at = self.tree.parent(at);
        }
    }

    fn is_changed(&self, id: FileId) -> bool {
        self.retold.contains(&id) || self.differs(id)
    }

    /// Returns whether a layer could say how a file or link differs from the base's.
    /// One that lost a name does not: that name has a whiteout.
    fn differs(&self, id: FileId) -> bool {
        let Object::Own(inode) = self.tree.object(id) else {
            return false;
        };
        let Some(node) = self.tree.node(id) else {
            return true;
        };
        let was = self.tree.image.stat(node);
        let is_same = (inode.mode, inode.uid, inode.gid, inode.mtime)
            == (was.mode, was.uid, was.gid, was.mtime);
        !is_same || self.is_rewritten(id)
    }

    /// The base directory whose entries show through in `id`.
    fn base_of(&self, id: FileId) -> Option<u32> {
        match self.tree.object(id) {
            Object::Base(node) => Some(node),
            Object::Own(inode) => match &inode.body {
                Body::Dir(dir) => dir.base(),
                Body::File(_) | Body::Symlink(_) => None,
            },
            Object::Gone => None,
        }
    }

    /// Adds the changes of a directory that stands where it stood to the layer.
    fn emit_changes(&mut self, task: &Task, below: u32) -> Result<(), LayerError> {
        let image = &self.tree.image;
        let mut dir = None;
        if let Object::Own(inode) = self.tree.object(task.id)
            && let Body::Dir(changed) = &inode.body
        {
            dir = Some(changed);
            if !self.tree.is_only_furnished(task.id) {
                self.builder.dir(&task.path, self.meta(task.id))?;
            }
            for own in changed.own_entries() {
                if self.tree.is_as_furnished(own.id) {
                    continue;
                }
                let old = image
                    .lookup(below, own.name.as_bytes())
                    .map(|old| (old.node, old.kind));
                self.emit_entry(task.path.join(own.name.clone()), own.id, own.kind, old)?;
            }
            for slot in changed.hidden() {
                let Some(entry) = image.slot(slot) else {
                    continue;
                };
                if changed.find(image, entry.name).is_none() {
                    self.builder
                        .whiteout(&task.path.join(Name::from_checked(entry.name)))?;
                }
            }
        }
        for slot in self.touched.remove(&below).unwrap_or_default() {
            let Some(entry) = image.slot(slot) else {
                continue;
            };
            let id = FileId::of_node(entry.node);
            if dir.is_some_and(|dir| dir.is_hidden(slot)) {
                continue;
            }
            let path = || task.path.join(Name::from_checked(entry.name));
            match entry.kind {
                Kind::Dir if self.dirty.contains(&id) => {
                    self.todo.push(Task {
                        path: path(),
                        id,
                        below: Some(entry.node),
                    });
                }
                Kind::Dir => {}
                Kind::File | Kind::Symlink if self.is_changed(id) => {
                    self.emit_object(path(), id, entry.kind)?;
                }
                Kind::File | Kind::Symlink => {}
            }
        }
        Ok(())
    }

    /// Adds a directory that the base does not have here, with all in it.
    fn emit_whole(&mut self, task: &Task) -> Result<(), LayerError> {
        self.builder.dir(&task.path, self.meta(task.id))?;
        let mut entries = Vec::new();
        self.tree
            .list(task.id, 0, u64::MAX, &mut |name, id, kind, _| {
                entries.push((Name::from_checked(name), id, kind));
                std::ops::ControlFlow::Continue(())
            });
        let tree = self.tree;
        let own = entries.into_iter();
        for (name, id, kind) in own.filter(|(_, id, _)| !tree.is_as_furnished(*id)) {
            self.emit_entry(task.path.join(name), id, kind, None)?;
        }
        Ok(())
    }

    /// Adds an entry at a place where the base has `old`.
    fn emit_entry(
        &mut self,
        path: LayerPath,
        id: FileId,
        kind: Kind,
        old: Option<(u32, Kind)>,
    ) -> Result<(), LayerError> {
        if kind == Kind::Dir {
            let below = old.and_then(|(node, kind)| (kind == Kind::Dir).then_some(node));
            self.todo.push(Task { path, id, below });
            return Ok(());
        }
        let came_back = old.is_some_and(|(node, _)| FileId::of_node(node) == id);
        if came_back && !self.is_changed(id) {
            return Ok(());
        }
        self.emit_object(path, id, kind)
    }

    /// Adds a file or link; a further name of one added before as a hard link.
    fn emit_object(&mut self, path: LayerPath, id: FileId, kind: Kind) -> Result<(), LayerError> {
        let nlink = self.tree.stat(id).map_or(1, |stat| stat.nlink);
        if nlink > 1 {
            if let Some(first) = self.written.get(&id) {
                return self.builder.hard_link(&path, first);
            }
            if !self.is_changed(id) {
                // Without a byte, if the base has it under another name still.
                if let Some(standing) = self.standing_name(id) {
                    self.written.insert(id, standing.clone());
                    return self.builder.hard_link(&path, &standing);
                }
                self.more.insert(id);
            }
            self.written.insert(id, path.clone());
        }
        let meta = self.meta(id);
        if kind == Kind::Symlink {
            let target = self.tree.target(id).unwrap_or_default();
            return self.builder.symlink(&path, meta, target);
        }
        let content = self.content(id).map_err(|errno| LayerError::Unreadable {
            path: path.clone(),
            errno,
        })?;
        self.builder.file(&path, meta, content)
    }

    /// A name of the base that a file or link still has, at the place where the base has
    /// it. O(names of the base, and directories above them).
    fn standing_name(&self, id: FileId) -> Option<LayerPath> {
        let node = self.tree.node(id).filter(|_| self.links_below)?;
        let mut slots = self.tree.image.slots_of(node);
        slots.find_map(|slot| self.standing_path(slot))
    }

    /// The path of an entry of the base, if neither it nor a directory above it was
    /// taken from its place.
    fn standing_path(&self, slot: u32) -> Option<LayerPath> {
        let image = &self.tree.image;
        let mut names = Vec::new();
        let mut at = slot;
        loop {
            names.push(Name::from_checked(image.slot(at)?.name));
            let dir = image.dir_of(at);
            let stands = match self.tree.object(FileId::of_node(dir)) {
                Object::Base(_) => true,
                Object::Own(inode) => match &inode.body {
                    Body::Dir(body) => body.base() == Some(dir) && !body.is_hidden(at),
                    Body::File(_) | Body::Symlink(_) => false,
                },
                Object::Gone => false,
            };
            // A damaged base may have directories within themselves.
            if !stands || names.len() > MAX_LAYER_DEPTH {
                return None;
            }
            if FileId::of_node(dir) == FileId::ROOT {
                names.reverse();
                return Some(names.into());
            }
            at = image.slots_of(dir).next()?;
        }
    }

    fn meta(&self, id: FileId) -> Meta {
        let node = self.tree.node(id);
        let mut xattrs = node
            .and_then(|node| self.tree.image.meta_xattrs(node))
            .cloned();
        if let Some(kept) = &mut xattrs
            && self.is_rewritten(id)
        {
            // The privilege was given to other bytes. Linux drops it, too, at
            // the first write, whoever writes (`cap_inode_killpriv`).
            Arc::make_mut(kept).retain(|(name, _)| **name != *b"security.capability");
        }
        let mut meta = Meta::with_mode(0);
        if let Ok(stat) = self.tree.stat(id) {
            meta = Meta {
                mode: stat.mode,
                uid: stat.uid,
                gid: stat.gid,
                mtime: stat.mtime,
                xattrs,
            };
        }
        meta
    }

    /// Returns whether a base file's bytes may differ from the base's.
    fn is_rewritten(&self, id: FileId) -> bool {
        match (self.tree.object(id), self.tree.node(id)) {
            (Object::Own(inode), Some(node)) => match &inode.body {
                Body::File(file) => {
                    let size = self.tree.image.content(node).map_or(0, Content::size);
                    !file.is_base(node, size)
                }
                Body::Dir(_) | Body::Symlink(_) => false,
            },
            (Object::Own(_) | Object::Base(_) | Object::Gone, _) => false,
        }
    }

    /// The bytes of a file: the base's own chunks if none was changed.
    fn content(&self, id: FileId) -> Result<Content, Errno> {
        let size = match self.tree.object(id) {
            Object::Own(inode) => match &inode.body {
                Body::File(file) => {
                    let base = content_below(&self.tree.image, file);
                    if let Some(base) = base.filter(|base| file.is_whole(base.size())) {
                        return Ok(base.clone());
                    }
                    file.size()
                }
                Body::Dir(_) | Body::Symlink(_) => 0,
            },
            Object::Base(node) => {
                let base = self.tree.image.content(node).cloned();
                return Ok(base.unwrap_or_else(Content::empty));
            }
            Object::Gone => return Ok(Content::empty()),
        };
        let mut builder = ContentBuilder::new(self.pool);
        let mut buf = vec![0; CHUNK_BYTES];
        while builder.size() < size {
            let at = builder.size();
            let hole = self.tree.hole_at(id, at);
            if hole > 0 {
                builder.hole(hole);
                continue;
            }
            // To the chunk's end, so that a hole in the next one is seen.
            let left = (CHUNK_BYTES as u64 - at % CHUNK_BYTES as u64).min(size - at);
            let want = usize::try_from(left).unwrap_or(CHUNK_BYTES);
            let piece = buf.get_mut(..want).unwrap_or_default();
            match self.tree.read_at(id, at, piece)? {
                0 => break,
                len => builder.write(piece.get(..len).unwrap_or_default()),
            }
        }
        Ok(builder.finish())
    }
}
