//! Does random file operations and holds each against a model in the guest.
//!
//! `exerciser SEED COUNT [DIR]`: COUNT operations below DIR (default `/`),
//! over whatever is there already. Prints a digest of all it saw: the same
//! for one SEED on every right file system. On a difference it prints the
//! operations that led there and fails.

mod model;

use std::collections::HashMap;

use guest_examples::check::{Fold, arg, number};
use guest_examples::posix::{self, Errno, Fd, Kind, Result};
use guest_examples::random::Random;
use guest_examples::tree::join;
use model::{Body, Id, Model, ROOT};

const NAMES: [&str; 8] = [
    "a",
    "b",
    "c",
    "dd",
    "e.txt",
    "f",
    ".wh.a",
    "long-name-long-name",
];
/// Objects above which more is removed than made.
const CROWD: usize = 120;
const HANDLES: usize = 12;
/// Offsets stay below this: some blocks and chunks, few enough to be quick.
const REACH: usize = 200_000;

struct Handle {
    fd: Fd,
    node: Id,
    flags: i32,
}

struct Run {
    random: Random,
    top: String,
    model: Model,
    handles: Vec<Handle>,
    /// The inode number by which each living node was first seen.
    seen: HashMap<Id, u64>,
    log: Vec<String>,
    fold: Fold,
}

fn main() {
    let (seed, count, top) = (number(1, 1), number(2, 2_000), arg(3, "/"));
    let model = Model::load(&top).expect("the tree can be read");
    let mut run = Run {
        random: Random::new(seed),
        top,
        model,
        handles: Vec::new(),
        seen: HashMap::new(),
        log: vec![format!("seed {seed}, {count} operations")],
        fold: Fold::default(),
    };
    for _ in 0..count {
        run.step();
    }
    run.verify();
    println!(
        "exerciser: seed {seed}, {count} operations, digest {:016x}",
        run.fold.get()
    );
}

impl Run {
    fn step(&mut self) {
        let crowded = self.model.live() > CROWD;
        match self.random.below(100) {
            0..12 => self.open(posix::O_CREAT),
            12..20 => self.open(0),
            20..24 => self.close(),
            24..40 => self.write(),
            40..54 => self.read(),
            54..60 => self.truncate(),
            60..66 if crowded => self.remove(),
            60..66 => self.mkdir(),
            66..71 => self.remove(),
            71..81 => self.rename(),
            81..86 if crowded => self.remove(),
            81..86 => self.link(),
            86..90 => self.symlink(),
            90..93 => self.readlink(),
            93..96 => self.list(),
            _ => self.stat(),
        }
    }

    /// Writes the operation down, and fails if the file system did other than
    /// the model.
    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: String, real: &T, model: &T) {
        self.fold.add(format!("{model:?}").as_bytes());
        self.log.push(what);
        if real != model {
            self.fail(&format!("gave {real:?}, should give {model:?}"));
        }
    }

    fn fail(&self, why: &str) -> ! {
        for line in &self.log {
            eprintln!("{line}");
        }
        eprintln!("exerciser: the last operation above {why}");
        std::process::exit(1);
    }

    /// A path that leads somewhere more often than not.
    fn path(&mut self) -> String {
        let (mut dir, mut path) = (ROOT, String::new());
        loop {
            let entries = self.model.entries(dir);
            let names: Vec<_> = entries
                .into_iter()
                .flat_map(|entries| entries.keys())
                .collect();
            let fresh = names.is_empty() || self.random.below(3) == 0;
            let name = if fresh {
                *self.random.pick(&NAMES)
            } else {
                *self.random.pick(&names)
            };
            path = join(&path, name);
            let next = entries.and_then(|entries| entries.get(name)).copied();
            match next {
                Some(next) if self.random.below(10) < 7 => dir = next,
                // One in thirty goes on below what is no directory.
                None if self.random.below(30) == 0 => return join(&path, "a"),
                _ => return path,
            }
            if self.model.entries(dir).is_none() && self.random.below(10) > 0 {
                return path;
            }
        }
    }

    fn real(&self, path: &str) -> String {
        join(self.top.trim_end_matches('/'), path.trim_start_matches('/'))
    }

    fn open(&mut self, create: i32) {
        if self.handles.len() == HANDLES {
            self.close();
        }
        let path = self.path();
        let access = [
            posix::O_RDONLY,
            posix::O_WRONLY,
            posix::O_RDWR,
            posix::O_RDWR,
        ];
        let extra = [0, 0, 0, posix::O_APPEND, posix::O_TRUNC, posix::O_NOFOLLOW];
        let mut flags = *self.random.pick(&access) | *self.random.pick(&extra) | create;
        if create != 0 {
            flags |= posix::O_RDWR | *self.random.pick(&[0, 0, posix::O_EXCL]);
        } else if flags & posix::O_WRONLY == 0 {
            flags &= !(posix::O_TRUNC | posix::O_APPEND);
        }
        let real = posix::open(&self.real(&path), flags);
        let model = self.model.open(&path, flags);
        let codes = (real.as_ref().err().copied(), model.err());
        self.same(format!("open {path} {flags:#x}"), &codes.0, &codes.1);
        if let (Ok(fd), Ok(node)) = (real, model)
            && self.model.kind(node) == Kind::File
        {
            self.model.open_change(node, 1);
            self.handles.push(Handle { fd, node, flags });
        }
    }

    fn close(&mut self) {
        if self.handles.is_empty() {
            return;
        }
        let at = self.random.below(self.handles.len());
        let handle = self.handles.swap_remove(at);
        self.log.push(format!("close {}", handle.fd.number()));
        self.model.open_change(handle.node, -1);
        self.forget(handle.node);
    }

    /// An object that is gone gives its number back.
    fn forget(&mut self, node: Id) {
        let node_is = self.model.node(node);
        if node_is.names == 0 && node_is.open == 0 {
            self.seen.remove(&node);
        }
    }

    fn forget_all(&mut self) {
        let model = &self.model;
        self.seen
            .retain(|node, _| model.node(*node).names + model.node(*node).open > 0);
    }

    /// Picks a handle that allows `access`.
    fn handle(&mut self, access: i32) -> Option<usize> {
        let able = |at: &usize| self.handles[*at].flags & access != 0;
        let able: Vec<_> = (0..self.handles.len()).filter(able).collect();
        if able.is_empty() {
            None
        } else {
            Some(*self.random.pick(&able))
        }
    }

    /// An offset: anywhere, or next to a block's border.
    fn offset(&mut self) -> usize {
        let border = *self.random.pick(&[0, 4096, 8192, 65536, 131_072]);
        match self.random.below(3) {
            0 => self.random.below(REACH),
            1 => border + self.random.below(3),
            _ => border + 4096 - self.random.below(3),
        }
    }

    fn write(&mut self) {
        let Some(at) = self.handle(posix::O_WRONLY) else {
            return;
        };
        let (offset, len) = (self.offset(), self.random.below(9_000));
        let bytes = self.random.bytes(len);
        let handle = &self.handles[at];
        let appends = handle.flags & posix::O_APPEND != 0;
        let model = self.model.bytes(handle.node);
        // WASI hosts differ in what `pwrite` does on an appending descriptor.
        let (real, offset) = if appends {
            (handle.fd.write_all(&bytes), model.len())
        } else {
            (handle.fd.pwrite_all(&bytes, offset as u64), offset)
        };
        if len > 0 {
            let end = offset + len;
            model.resize(model.len().max(end), 0);
            model[offset..end].copy_from_slice(&bytes);
        }
        let what = format!("write {} at {offset}, {len} bytes", handle.fd.number());
        self.same(what, &real, &Ok(()));
    }

    fn read(&mut self) {
        let Some(at) = self.handle(posix::O_RDONLY) else {
            return;
        };
        let (offset, len) = (self.offset(), self.random.below(70_000));
        let handle = &self.handles[at];
        let real = handle.fd.pread_all(len, offset as u64);
        let model = self.model.bytes(handle.node);
        let start = offset.min(model.len());
        let want = &model[start..model.len().min(start + len)];
        let equal = real.as_deref() == Ok(want);
        let sum = Fold::of(want);
        let what = format!("read {} at {offset}, {len} bytes", handle.fd.number());
        self.same(what, &(equal, sum), &(true, sum));
    }

    fn truncate(&mut self) {
        let Some(at) = self.handle(posix::O_WRONLY) else {
            return;
        };
        let size = self.offset();
        let handle = &self.handles[at];
        let real = handle.fd.truncate(size as u64);
        self.model.bytes(handle.node).resize(size, 0);
        let what = format!("truncate {} to {size}", handle.fd.number());
        self.same(what, &real, &Ok(()));
    }

    fn mkdir(&mut self) {
        let path = self.path();
        let real = posix::mkdir(&self.real(&path));
        let model = self.model.mkdir(&path);
        self.same(format!("mkdir {path}"), &real, &model);
    }

    fn remove(&mut self) {
        let path = self.path();
        if self.random.below(3) == 0 {
            let real = posix::rmdir(&self.real(&path));
            let model = self.model.rmdir(&path);
            self.same(format!("rmdir {path}"), &real, &model);
        } else {
            let real = posix::unlink(&self.real(&path));
            let model = self.model.unlink(&path);
            self.same(format!("unlink {path}"), &real, &model);
        }
        self.forget_all();
    }

    fn rename(&mut self) {
        let (from, to) = (self.path(), self.path());
        let real = posix::rename(&self.real(&from), &self.real(&to));
        let model = self.model.rename(&from, &to);
        self.same(format!("rename {from} {to}"), &real, &model);
        self.forget_all();
    }

    fn link(&mut self) {
        let (from, to) = (self.path(), self.path());
        let real = posix::link(&self.real(&from), &self.real(&to));
        let model = self.model.link(&from, &to);
        self.same(format!("link {from} {to}"), &real, &model);
    }

    fn symlink(&mut self) {
        let path = self.path();
        let name = *self.random.pick(&NAMES);
        let target = match self.random.below(4) {
            0 => format!("a/{name}"),
            // Below another directory it could lead out of the model.
            1 if self.top == "/" => format!("../{name}"),
            _ => name.to_owned(),
        };
        let real = posix::symlink(&target, &self.real(&path));
        let model = self.model.symlink(&target, &path);
        self.same(format!("symlink {target} {path}"), &real, &model);
    }

    fn readlink(&mut self) {
        let path = self.path();
        let real = posix::readlink(&self.real(&path));
        let model =
            self.model
                .find(&path, false)
                .and_then(|node| match &self.model.node(node).body {
                    Body::Symlink(target) => Ok(target.clone()),
                    _ => Err(Errno(libc::EINVAL)),
                });
        self.same(format!("readlink {path}"), &real, &model);
    }

    fn list(&mut self) {
        let path = self.path();
        let real = posix::list(&self.real(&path));
        let real = real.map(|found| found.into_iter().map(|e| (e.name, e.kind)).collect());
        let model: Result<Vec<_>> = self.model.find(&path, true).and_then(|node| {
            let entries = self.model.entries(node).ok_or(Errno(libc::ENOTDIR))?;
            Ok(entries
                .iter()
                .map(|(name, node)| (name.clone(), self.model.kind(*node)))
                .collect())
        });
        self.same(format!("list {path}"), &real, &model);
    }

    fn stat(&mut self) {
        if self.random.below(3) == 0 && !self.handles.is_empty() {
            let at = self.random.below(self.handles.len());
            let node = self.handles[at].node;
            let real = self.handles[at].fd.stat();
            let what = format!("fstat {}", self.handles[at].fd.number());
            return self.compare_stat(what, real, Ok(node), false);
        }
        let path = self.path();
        let follow = self.random.below(2) == 0;
        let real = if follow {
            posix::stat(&self.real(&path))
        } else {
            posix::lstat(&self.real(&path))
        };
        let model = self.model.find(&path, follow);
        let through = follow && self.model.find(&path, false) != model;
        self.compare_stat(
            format!("stat {path}, follow {follow}"),
            real,
            model,
            through,
        );
    }

    /// Compares kind, size and link count, and that the inode number is the
    /// one this object always had and nobody else's. `through`: the path ended
    /// in a symbolic link that was followed.
    fn compare_stat(
        &mut self,
        what: String,
        real: Result<posix::Stat>,
        model: Result<Id>,
        through: bool,
    ) {
        let ino = real.map(|stat| stat.ino).unwrap_or(0);
        let real = real.map(|stat| match stat.kind {
            Kind::Dir => (stat.kind, 0, 0),
            kind => (kind, stat.size, stat.nlink),
        });
        let want = model.map(|node| match &self.model.node(node).body {
            Body::Dir(_) => (Kind::Dir, 0, 0),
            Body::File(bytes) => (Kind::File, bytes.len() as u64, self.model.node(node).names),
            Body::Symlink(to) => (Kind::Symlink, to.len() as u64, self.model.node(node).names),
        });
        self.same(what, &real, &want);
        let Ok(node) = model else { return };
        if through && !posix::STAT_FOLLOWS_TO_INO {
            return;
        }
        let first = *self.seen.entry(node).or_insert(ino);
        if first != ino || ino == 0 {
            self.fail(&format!("shows inode {ino}, before it was {first}"));
        }
        if self
            .seen
            .iter()
            .any(|(other, number)| *number == ino && *other != node)
        {
            self.fail(&format!("shows inode {ino}, which another object has"));
        }
    }

    /// Compares the whole tree.
    fn verify(&mut self) {
        let mut waiting = vec![("/".to_owned(), ROOT)];
        while let Some((path, node)) = waiting.pop() {
            let stat = posix::lstat(&self.real(&path));
            self.compare_stat(format!("at the end, stat {path}"), stat, Ok(node), false);
            match &self.model.node(node).body {
                Body::Dir(entries) => {
                    let names: Vec<_> = entries.keys().cloned().collect();
                    waiting.extend(
                        entries
                            .iter()
                            .map(|(name, node)| (join(&path, name), *node)),
                    );
                    let real = posix::list(&self.real(&path));
                    let real = real.map(|found| found.into_iter().map(|e| e.name).collect());
                    self.same(format!("at the end, list {path}"), &real, &Ok(names));
                }
                Body::File(bytes) => {
                    let equal = posix::read_file(&self.real(&path)).as_deref() == Ok(bytes);
                    let sum = Fold::of(bytes);
                    self.same(
                        format!("at the end, read {path}"),
                        &(equal, sum),
                        &(true, sum),
                    );
                }
                Body::Symlink(target) => {
                    let target = target.clone();
                    let real = posix::readlink(&self.real(&path));
                    self.same(format!("at the end, readlink {path}"), &real, &Ok(target));
                }
            }
        }
    }
}

guest_examples::command!(main);
