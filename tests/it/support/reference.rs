//! The reference model: a plain tree. No layers, no chunks, no locks; a file
//! is a vector of bytes. It says what each operation has to give.
//!
//! Beside it: `handles` opens, `paths` walks, `charge` bounds what counts against the quota, `judge` says whether a
//! listing is right, `seed` builds the tree that a run starts from.
//!
//! How much of a write fits is the library's to say: the model does as much,
//! and [`Model::settle`] says whether it may be that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use stratafs::errno::Errno;
use stratafs::limits::MAX_FILE_BYTES;
use stratafs::meta::{Kind, Time};
use stratafs::vfs::{Access, Quota, SetTime, Usage};

use super::charge::{Doing, File};
use super::handles::Handle;
use super::ops::{Op, Outcome, READ_ONLY, ROOT, SLOTS, Seen, Slot, StatSeen, salted};
use super::paths::trim;

/// An object's number: its place in [`Model::nodes`], never reused.
pub type Id = usize;

pub const TOP: Id = 0;

#[derive(Clone, Debug)]
pub struct Node {
    /// The same in all trees that it came into by a fork, and in no other object.
    pub uid: u64,
    pub body: Body,
    pub mode: u32,
    pub nlink: u32,
    /// Access, modification, change.
    pub times: [Time; 3],
    /// Made by the instance, not by a layer.
    pub own: bool,
    /// Was given a name since: a link is no longer one of the layer then.
    pub moved: bool,
    pub open: u32,
}

#[derive(Clone, Debug)]
pub enum Body {
    File(File),
    Dir(Dir),
    Symlink(Vec<u8>),
}

#[derive(Clone, Debug)]
pub struct Dir {
    pub parent: Id,
    /// What a name leads to, and when it came: no two entries share a serial.
    pub entries: BTreeMap<Vec<u8>, (Id, u64)>,
}

impl Body {
    pub fn empty_dir(parent: Id) -> Self {
        Self::Dir(Dir {
            parent,
            entries: BTreeMap::new(),
        })
    }
}

#[derive(Clone)]
pub struct Model {
    pub nodes: Vec<Node>,
    pub handles: Vec<Option<Handle>>,
    pub now: Time,
    pub usage: Usage,
    pub quota: Quota,
    /// What the last operation did to the bytes of files.
    pub doing: Doing,
    serial: u64,
}

impl Model {
    /// An empty tree with the two preopens.
    pub fn new(quota: Quota) -> Self {
        let root = Node::new(Body::empty_dir(TOP), 0o755);
        let mut model = Self {
            nodes: vec![root],
            handles: vec![None; SLOTS],
            now: Time::EPOCH,
            usage: Usage::default(),
            quota,
            doing: Doing::Nothing,
            serial: 0,
        };
        model.open_tops();
        model
    }

    /// Opens the two preopens.
    pub fn open_tops(&mut self) {
        let access = Access::READ | Access::WRITE;
        for (slot, read_only) in [(ROOT, false), (READ_ONLY, true)] {
            self.hold(slot, TOP, access, read_only);
        }
    }

    /// Does what the operation asks, or says why not. Of a write it does as much
    /// as `got` says, to be judged by [`Self::settle`]. A listing is not made but
    /// judged, by [`Self::judge_listing`].
    pub fn apply(&mut self, op: &Op, got: &Outcome) -> Outcome {
        match op {
            Op::Open {
                dir,
                path,
                follow,
                flags,
                access,
                into,
            } => self.open(*dir, path, *follow, *flags, *access, *into),
            Op::Close { slot } => self.close(*slot),
            Op::Read { slot, offset, len } => self.read(*slot, *offset, *len),
            Op::Write {
                slot,
                offset,
                len,
                salt,
            } => self.write(*slot, Some(*offset), &salted(*len, *salt), got),
            Op::Append { slot, len, salt } => self.write(*slot, None, &salted(*len, *salt), got),
            Op::SetSize { slot, size } => self.set_size(*slot, *size),
            Op::Stat { slot } => Ok(self.stat(self.handle(*slot)?.node)),
            Op::StatAt { dir, path, follow } => {
                let place = self.walk(self.dir(*dir)?, path, *follow)?;
                Ok(self.stat(place.node.ok_or(Errno::NoEntry)?))
            }
            Op::SetTimes { slot, atime, mtime } => {
                let handle = self.handle(*slot)?;
                let node = handle.node;
                refuse(handle.read_only, Errno::NotPermitted)?;
                self.set_times(node, *atime, *mtime)
            }
            Op::SetTimesAt {
                dir,
                path,
                follow,
                atime,
                mtime,
            } => {
                let start = self.writable_dir(*dir)?;
                let node = self
                    .walk(start, path, *follow)?
                    .node
                    .ok_or(Errno::NoEntry)?;
                self.set_times(node, *atime, *mtime)
            }
            Op::Mkdir { dir, path } => self.mkdir(*dir, path),
            Op::Rmdir { dir, path } => self.remove(*dir, path, true),
            Op::Unlink { dir, path } => self.remove(*dir, path, false),
            Op::Symlink { dir, path, target } => self.symlink(*dir, path, target),
            Op::Readlink { dir, path } => self.readlink(*dir, path),
            Op::Link { dir, path, to, new } => self.link(*dir, path, *to, new),
            Op::Rename { dir, path, to, new } => self.rename(*dir, path, *to, new),
            Op::List { slot, .. } => {
                self.dir(*slot)?;
                Ok(Seen::Done)
            }
        }
    }

    // Files.

    fn file(&self, slot: Slot, access: Access) -> Result<(Id, &File), Errno> {
        let handle = self.handle(slot)?;
        match &self.nodes[handle.node].body {
            Body::File(file) if handle.access.contains(access) => Ok((handle.node, file)),
            _ => Err(Errno::BadDescriptor),
        }
    }

    fn read(&self, slot: Slot, offset: u64, len: usize) -> Outcome {
        let (_, file) = self.file(slot, Access::READ)?;
        let size = file.bytes.len();
        let start = usize::try_from(offset).unwrap_or(size).min(size);
        Ok(Seen::Bytes(
            file.bytes[start..size.min(start + len)].to_vec(),
        ))
    }

    fn write(&mut self, slot: Slot, offset: Option<u64>, data: &[u8], got: &Outcome) -> Outcome {
        let (node, file) = self.file(slot, Access::WRITE)?;
        let offset = offset.unwrap_or(file.bytes.len() as u64);
        if data.is_empty() {
            return Ok(Seen::Count(0));
        }
        refuse(offset >= MAX_FILE_BYTES, Errno::FileTooLarge)?;
        let wrote = match got {
            Ok(Seen::Count(count)) => data.len().min(*count),
            Err(Errno::NoSpace) => 0,
            _ => data.len(),
        };
        self.write_some(node, offset, data, wrote);
        refuse(wrote == 0, Errno::NoSpace)?;
        self.touch(node);
        Ok(Seen::Count(wrote))
    }

    fn set_size(&mut self, slot: Slot, size: u64) -> Outcome {
        let (node, _) = self.file(slot, Access::empty())?;
        refuse(self.handle(slot)?.read_only, Errno::NotPermitted)?;
        self.file(slot, Access::WRITE).map_err(|_| Errno::Invalid)?;
        refuse(size > MAX_FILE_BYTES, Errno::FileTooLarge)?;
        self.resize(node, size);
        Ok(Seen::Done)
    }

    pub fn resize(&mut self, node: Id, size: u64) {
        if let Body::File(file) = &mut self.nodes[node].body {
            let grows = size >= file.bytes.len() as u64;
            file.resize(size);
            self.doing = if grows {
                Doing::Growing(node)
            } else {
                Doing::Cutting(node)
            };
        }
        self.touch(node);
    }

    // Names.

    fn mkdir(&mut self, slot: Slot, path: &[u8]) -> Outcome {
        let start = self.writable_dir(slot)?;
        let (dir, name) = self.parent(start, trim(path))?;
        self.check_free(dir, &name)?;
        self.make(dir, &name, Body::empty_dir(dir))?;
        Ok(Seen::Done)
    }

    fn symlink(&mut self, slot: Slot, path: &[u8], target: &[u8]) -> Outcome {
        let start = self.writable_dir(slot)?;
        refuse(target.is_empty(), Errno::NoEntry)?;
        refuse(target.contains(&0), Errno::Invalid)?;
        let (dir, name) = self.parent(start, path)?;
        self.check_free(dir, &name)?;
        self.make(dir, &name, Body::Symlink(target.to_vec()))?;
        Ok(Seen::Done)
    }

    fn readlink(&mut self, slot: Slot, path: &[u8]) -> Outcome {
        let (dir, name) = self.parent(self.dir(slot)?, path)?;
        match self.find(dir, &name)?.map(|node| &self.nodes[node].body) {
            Some(Body::Symlink(target)) => Ok(Seen::Target(target.clone())),
            Some(_) => Err(Errno::Invalid),
            None => Err(Errno::NoEntry),
        }
    }

    fn remove(&mut self, slot: Slot, path: &[u8], as_dir: bool) -> Outcome {
        let start = self.writable_dir(slot)?;
        let full = path;
        let path = if as_dir { trim(path) } else { path };
        let (dir, name) = self.parent(start, path)?;
        if as_dir && full.ends_with(b"/") && name != b"." {
            // A link with a slash after it that leads out is not even looked at.
            let found = self.find(dir, &name)?;
            let is_link = found.is_some_and(|node| self.kind_of(node) == Kind::Symlink);
            let led = self.walk(start, full, stratafs::vfs::Follow::Yes);
            let leads_out = is_link && matches!(led, Err(Errno::NotPermitted));
            refuse(leads_out, Errno::NotPermitted)?;
        }
        if name == b"." {
            return Err(if as_dir {
                Errno::Invalid
            } else {
                Errno::IsDirectory
            });
        }
        let node = self.find(dir, &name)?.ok_or(Errno::NoEntry)?;
        let is_dir = self.kind_of(node) == Kind::Dir;
        refuse(as_dir && !is_dir, Errno::NotDirectory)?;
        refuse(!as_dir && is_dir, Errno::IsDirectory)?;
        refuse(!self.is_empty(node), Errno::NotEmpty)?;
        self.detach(dir, &name);
        self.drop_name(node);
        Ok(Seen::Done)
    }

    fn link(&mut self, slot: Slot, path: &[u8], to: Slot, new: &[u8]) -> Outcome {
        let (start, to) = self.writable_pair(slot, to)?;
        let (old_dir, old_name) = self.parent(start, path)?;
        let (dir, name) = self.parent(to, new)?;
        let node = self.find(old_dir, &old_name)?.ok_or(Errno::NoEntry)?;
        self.check_free(dir, &name)?;
        refuse(self.is_gone(dir), Errno::NoEntry)?;
        refuse(self.kind_of(node) == Kind::Dir, Errno::NotPermitted)?;
        let full = i128::from(self.usage.links) >= i128::from(self.quota.max_inodes);
        refuse(full, Errno::NoSpace)?;
        self.nodes[node].nlink += 1;
        self.nodes[node].times[2] = self.now;
        self.usage.links += 1;
        self.nodes[node].moved = true;
        self.attach(dir, &name, node);
        Ok(Seen::Done)
    }

    fn rename(&mut self, slot: Slot, path: &[u8], to: Slot, new: &[u8]) -> Outcome {
        let (start, to) = self.writable_pair(slot, to)?;
        let slash = path.ends_with(b"/") || new.ends_with(b"/");
        let (old_dir, old_name) = self.parent(start, trim(path))?;
        let (dir, name) = self.parent(to, trim(new))?;
        refuse(old_name == b"." || name == b".", Errno::Busy)?;
        let node = self.find(old_dir, &old_name)?.ok_or(Errno::NoEntry)?;
        let target = self.find(dir, &name)?;
        let is_dir = self.kind_of(node) == Kind::Dir;
        refuse(slash && !is_dir, Errno::NotDirectory)?;
        refuse(self.is_gone(dir), Errno::NoEntry)?;
        refuse(is_dir && self.is_within(dir, node), Errno::Invalid)?;
        if let Some(target) = target {
            if target == node {
                return Ok(Seen::Done);
            }
            refuse(self.is_within(old_dir, target), Errno::NotEmpty)?;
            let target_is_dir = self.kind_of(target) == Kind::Dir;
            refuse(is_dir && !target_is_dir, Errno::NotDirectory)?;
            refuse(!is_dir && target_is_dir, Errno::IsDirectory)?;
            refuse(!self.is_empty(target), Errno::NotEmpty)?;
            self.detach(dir, &name);
            self.drop_name(target);
        }
        self.detach(old_dir, &old_name);
        self.attach(dir, &name, node);
        self.nodes[node].moved = true;
        self.nodes[node].times[2] = self.now;
        if let Body::Dir(moved) = &mut self.nodes[node].body {
            moved.parent = dir;
        }
        Ok(Seen::Done)
    }

    fn check_free(&self, dir: Id, name: &[u8]) -> Result<(), Errno> {
        refuse(
            name == b"." || self.find(dir, name)?.is_some(),
            Errno::Exist,
        )
    }

    pub fn make(&mut self, dir: Id, name: &[u8], body: Body) -> Result<Id, Errno> {
        refuse(self.is_gone(dir), Errno::NoEntry)?;
        refuse(self.usage.inodes >= self.quota.max_inodes, Errno::NoSpace)?;
        if let Body::Symlink(target) = &body {
            let used = self.usage.logical_bytes + target.len() as u64;
            refuse(used > self.quota.max_bytes, Errno::NoSpace)?;
            self.usage.logical_bytes = used;
        }
        let mode = match body {
            Body::File(_) => 0o644,
            Body::Dir(_) => 0o755,
            Body::Symlink(_) => 0o777,
        };
        self.nodes.push(Node {
            own: true,
            moved: false,
            times: [self.now; 3],
            ..Node::new(body, mode)
        });
        self.usage.inodes += 1;
        self.attach(dir, name, self.nodes.len() - 1);
        Ok(self.nodes.len() - 1)
    }

    /// Enters `node` under `name` into `dir`.
    pub fn attach(&mut self, dir: Id, name: &[u8], node: Id) {
        self.serial += 1;
        let entry = (node, self.serial);
        self.change_dir(dir, node, 1).insert(name.to_vec(), entry);
    }

    /// Takes the entry out of `dir`.
    pub fn detach(&mut self, dir: Id, name: &[u8]) {
        if let Ok(Some(node)) = self.find(dir, name) {
            self.change_dir(dir, node, -1).remove(name);
        }
    }

    fn change_dir(&mut self, dir: Id, node: Id, by: i32) -> &mut BTreeMap<Vec<u8>, (Id, u64)> {
        let by = if self.kind_of(node) == Kind::Dir {
            by
        } else {
            0
        };
        self.touch(dir);
        let parent = &mut self.nodes[dir];
        parent.nlink = parent.nlink.saturating_add_signed(by);
        match &mut parent.body {
            Body::Dir(dir) => &mut dir.entries,
            _ => unreachable!("the caller has looked the directory up"),
        }
    }

    /// Counts one name less.
    fn drop_name(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        node.times[2] = self.now;
        node.nlink = if matches!(node.body, Body::Dir(_)) {
            0
        } else {
            node.nlink - 1
        };
        if node.nlink > 0 {
            self.usage.links -= 1;
        }
        self.forget_if_gone(id);
    }

    fn touch(&mut self, node: Id) {
        self.nodes[node].times[1..].fill(self.now);
    }

    fn set_times(&mut self, node: Id, atime: SetTime, mtime: SetTime) -> Outcome {
        for (at, set) in [atime, mtime].into_iter().enumerate() {
            match set {
                SetTime::Keep => {}
                SetTime::Now => self.nodes[node].times[at] = self.now,
                SetTime::To(time) => self.nodes[node].times[at] = time,
            }
        }
        self.nodes[node].times[2] = self.now;
        Ok(Seen::Done)
    }

    /// The file that an object is.
    pub fn file_at(&self, node: Id) -> &File {
        match &self.nodes[node].body {
            Body::File(file) => file,
            Body::Dir(_) | Body::Symlink(_) => panic!("{node} is no file"),
        }
    }

    pub fn kind_of(&self, node: Id) -> Kind {
        match self.nodes[node].body {
            Body::File(_) => Kind::File,
            Body::Dir(_) => Kind::Dir,
            Body::Symlink(_) => Kind::Symlink,
        }
    }

    fn stat(&self, id: Id) -> Seen {
        let node = &self.nodes[id];
        let size = match &node.body {
            Body::File(file) => file.bytes.len() as u64,
            Body::Dir(_) => 0,
            Body::Symlink(target) => target.len() as u64,
        };
        let (kind, id) = (self.kind_of(id), id as u64);
        let (nlink, mode, times) = (node.nlink, node.mode, node.times);
        Seen::Stat(StatSeen {
            id,
            kind,
            size,
            nlink,
            mode,
            times,
        })
    }
}

impl Node {
    pub fn new(body: Body, mode: u32) -> Self {
        let nlink = if matches!(body, Body::Dir(_)) { 2 } else { 1 };
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            uid: NEXT.fetch_add(1, Ordering::Relaxed),
            body,
            mode,
            nlink,
            times: [Time::EPOCH; 3],
            own: false,
            moved: false,
            open: 0,
        }
    }
}

pub fn refuse(when: bool, errno: Errno) -> Result<(), Errno> {
    if when { Err(errno) } else { Ok(()) }
}
