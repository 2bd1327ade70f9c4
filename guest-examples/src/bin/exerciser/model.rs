//! A plain tree that says what each call has to give.

use std::collections::BTreeMap;

use guest_examples::posix::{self, Errno, Kind, Result};
use guest_examples::tree::join;

/// The number of a node in the model.
pub type Id = usize;

/// What a node is.
#[derive(Debug)]
pub enum Body {
    /// Its bytes.
    File(Vec<u8>),
    /// Names and the nodes they lead to.
    Dir(BTreeMap<String, Id>),
    /// Its target.
    Symlink(String),
}

/// An object of the tree.
#[derive(Debug)]
pub struct Node {
    /// What it is.
    pub body: Body,
    /// Names that lead to it; of a directory always 1.
    pub names: u64,
    /// Handles that are open on it.
    pub open: u64,
    /// The directory that holds it, for directories.
    parent: Id,
}

/// Where a path leads: the directory, the last name, and what is there.
pub struct Place {
    dir: Id,
    name: String,
    /// The object, if there is one.
    pub node: Option<Id>,
}

/// The tree.
pub struct Model {
    nodes: Vec<Node>,
}

/// The root's number.
pub const ROOT: Id = 0;

fn err<T>(code: i32) -> Result<T> {
    Err(Errno(code))
}

impl Model {
    /// Reads the real tree below `top` as it is now.
    pub fn load(top: &str) -> Result<Self> {
        let mut model = Self { nodes: Vec::new() };
        model.add(Body::Dir(BTreeMap::new()), ROOT);
        let mut known = BTreeMap::new();
        let mut waiting = vec![(top.to_owned(), ROOT)];
        while let Some((dir, id)) = waiting.pop() {
            for entry in posix::list(&dir)? {
                let path = join(&dir, &entry.name);
                let stat = posix::lstat(&path)?;
                let node = match (stat.kind, known.get(&stat.ino)) {
                    (Kind::Dir, _) => {
                        let node = model.add(Body::Dir(BTreeMap::new()), id);
                        waiting.push((path, node));
                        node
                    }
                    (_, Some(node)) => *node,
                    (Kind::Symlink, None) => model.add(Body::Symlink(posix::readlink(&path)?), id),
                    (_, None) => model.add(Body::File(posix::read_file(&path)?), id),
                };
                known.insert(stat.ino, node);
                model.put(id, entry.name, node);
            }
        }
        Ok(model)
    }

    fn add(&mut self, body: Body, parent: Id) -> Id {
        self.nodes.push(Node {
            body,
            names: 0,
            open: 0,
            parent,
        });
        self.nodes.len() - 1
    }

    fn put(&mut self, dir: Id, name: String, node: Id) {
        self.entries_mut(dir).insert(name, node);
        self.nodes[node].names += 1;
        if matches!(self.nodes[node].body, Body::Dir(_)) {
            self.nodes[node].parent = dir;
        }
    }

    fn take(&mut self, place: &Place) {
        if let Some(node) = self.entries_mut(place.dir).remove(&place.name) {
            self.nodes[node].names -= 1;
        }
    }

    /// A node.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    /// Counts a handle that opens or closes.
    pub fn open_change(&mut self, id: Id, by: i64) {
        let open = &mut self.nodes[id].open;
        *open = open.checked_add_signed(by).expect("closes what was opened");
    }

    /// What a node is.
    pub fn kind(&self, id: Id) -> Kind {
        match self.nodes[id].body {
            Body::File(_) => Kind::File,
            Body::Dir(_) => Kind::Dir,
            Body::Symlink(_) => Kind::Symlink,
        }
    }

    /// The bytes of a file; none for anything else.
    pub fn bytes(&mut self, id: Id) -> &mut Vec<u8> {
        match &mut self.nodes[id].body {
            Body::File(bytes) => bytes,
            other => panic!("the model has no bytes in {other:?}"),
        }
    }

    /// The entries of a directory.
    pub fn entries(&self, id: Id) -> Option<&BTreeMap<String, Id>> {
        match &self.nodes[id].body {
            Body::Dir(entries) => Some(entries),
            _ => None,
        }
    }

    fn entries_mut(&mut self, id: Id) -> &mut BTreeMap<String, Id> {
        match &mut self.nodes[id].body {
            Body::Dir(entries) => entries,
            other => panic!("the model has no entries in {other:?}"),
        }
    }

    /// Objects that have a name.
    pub fn live(&self) -> usize {
        self.nodes.iter().filter(|node| node.names > 0).count()
    }

    /// Walks a path from the root; the last link is followed if asked to.
    pub fn resolve(&self, path: &str, follow: bool) -> Result<Place> {
        let mut todo: Vec<String> = parts(path);
        let mut dir = ROOT;
        let mut hops = 0;
        loop {
            let Some(name) = todo.pop() else {
                return Ok(Place {
                    dir,
                    name: ".".to_owned(),
                    node: Some(dir),
                });
            };
            let Some(entries) = self.entries(dir) else {
                return err(libc::ENOTDIR);
            };
            if name == ".." {
                if dir == ROOT {
                    return err(libc::EPERM);
                }
                dir = self.nodes[dir].parent;
                continue;
            }
            let last = todo.is_empty();
            let Some(node) = entries.get(&name).copied() else {
                if last {
                    return Ok(Place {
                        dir,
                        name,
                        node: None,
                    });
                }
                return err(libc::ENOENT);
            };
            match &self.nodes[node].body {
                Body::Symlink(target) if !last || follow => {
                    hops += 1;
                    if hops > 40 {
                        return err(libc::ELOOP);
                    }
                    todo.extend(parts(target));
                }
                _ if last => {
                    return Ok(Place {
                        dir,
                        name,
                        node: Some(node),
                    });
                }
                Body::Dir(_) => dir = node,
                _ => return err(libc::ENOTDIR),
            }
        }
    }

    /// The object at a path.
    pub fn find(&self, path: &str, follow: bool) -> Result<Id> {
        self.resolve(path, follow)?.node.ok_or(Errno(libc::ENOENT))
    }

    /// `open` for reading or writing a file, with these flags.
    pub fn open(&mut self, path: &str, flags: i32) -> Result<Id> {
        let exclusive = flags & posix::O_EXCL != 0;
        let follow = flags & posix::O_NOFOLLOW == 0 && !exclusive;
        let place = self.resolve(path, follow)?;
        let writes = flags & posix::O_WRONLY != 0;
        let Some(node) = place.node else {
            if flags & posix::O_CREAT == 0 {
                return err(libc::ENOENT);
            }
            let node = self.add(Body::File(Vec::new()), place.dir);
            self.put(place.dir, place.name, node);
            return Ok(node);
        };
        match self.kind(node) {
            _ if exclusive => err(libc::EEXIST),
            Kind::Symlink => err(libc::ELOOP),
            Kind::Dir if writes => err(libc::EISDIR),
            _ => {
                if flags & posix::O_TRUNC != 0 {
                    self.bytes(node).clear();
                }
                Ok(node)
            }
        }
    }

    fn create(&mut self, path: &str, body: Body) -> Result<()> {
        let place = self.resolve(path, false)?;
        if place.node.is_some() {
            return err(libc::EEXIST);
        }
        let node = self.add(body, place.dir);
        self.put(place.dir, place.name, node);
        Ok(())
    }

    /// `mkdir`.
    pub fn mkdir(&mut self, path: &str) -> Result<()> {
        self.create(path, Body::Dir(BTreeMap::new()))
    }

    /// `symlink`.
    pub fn symlink(&mut self, target: &str, path: &str) -> Result<()> {
        self.create(path, Body::Symlink(target.to_owned()))
    }

    /// `rmdir`.
    pub fn rmdir(&mut self, path: &str) -> Result<()> {
        let place = self.resolve(path, false)?;
        let node = place.node.ok_or(Errno(libc::ENOENT))?;
        match self.entries(node) {
            None => err(libc::ENOTDIR),
            Some(entries) if !entries.is_empty() => err(libc::ENOTEMPTY),
            Some(_) => {
                self.take(&place);
                Ok(())
            }
        }
    }

    /// `unlink`.
    pub fn unlink(&mut self, path: &str) -> Result<()> {
        let place = self.resolve(path, false)?;
        let node = place.node.ok_or(Errno(libc::ENOENT))?;
        if self.kind(node) == Kind::Dir {
            return err(libc::EISDIR);
        }
        self.take(&place);
        Ok(())
    }

    /// `link`, which does not follow the last symbolic link.
    pub fn link(&mut self, from: &str, to: &str) -> Result<()> {
        let source = self.resolve(from, false)?;
        let place = self.resolve(to, false)?;
        let node = source.node.ok_or(Errno(libc::ENOENT))?;
        if place.node.is_some() {
            return err(libc::EEXIST);
        }
        if self.kind(node) == Kind::Dir {
            return err(libc::EPERM);
        }
        self.put(place.dir, place.name, node);
        Ok(())
    }

    /// `rename`.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let source = self.resolve(from, false)?;
        let target = self.resolve(to, false)?;
        let node = source.node.ok_or(Errno(libc::ENOENT))?;
        let dir = self.kind(node) == Kind::Dir;
        if dir && self.is_within(target.dir, node) {
            return err(libc::EINVAL);
        }
        if let Some(old) = target.node {
            if self.is_within(source.dir, old) {
                return err(libc::ENOTEMPTY);
            }
            if old == node {
                return Ok(());
            }
            match (dir, self.entries(old)) {
                (true, None) => return err(libc::ENOTDIR),
                (false, Some(_)) => return err(libc::EISDIR),
                (true, Some(entries)) if !entries.is_empty() => return err(libc::ENOTEMPTY),
                _ => {}
            }
        }
        self.take(&target);
        self.take(&source);
        self.put(target.dir, target.name, node);
        Ok(())
    }

    /// Tells whether `dir` is `top` or lies below it.
    fn is_within(&self, mut dir: Id, top: Id) -> bool {
        loop {
            if dir == top {
                return true;
            }
            if dir == ROOT {
                return false;
            }
            dir = self.nodes[dir].parent;
        }
    }
}

/// The names of a path, last first; `.` says nothing.
fn parts(path: &str) -> Vec<String> {
    let named = |part: &&str| !part.is_empty() && *part != ".";
    path.split('/')
        .filter(named)
        .map(str::to_owned)
        .rev()
        .collect()
}
