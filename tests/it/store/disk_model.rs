//! A disk as a power loss shows it: what was not synced is there in part, in
//! any order, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use stratafs::store::{FileStep, Recorder};

use crate::support::rng::Rng;

/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A step on a file, kept.
#[derive(Clone, Debug)]
pub enum Kept {
    MakeDir(PathBuf),
    Make(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Resize(PathBuf, u64),
    Sync(PathBuf),
    SyncDir(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// The steps of a store so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<Kept>>>);

impl Log {
    pub fn recorder(&self) -> Recorder {
        let log = self.clone();
        Arc::new(move |step| {
            let path = Path::to_owned;
            log.push(match step {
                FileStep::MakeDir(at) => Kept::MakeDir(path(at)),
                FileStep::Make(at) => Kept::Make(path(at)),
                FileStep::Write {
                    path: at,
                    offset,
                    bytes,
                } => Kept::Write(path(at), offset, bytes.to_vec()),
                FileStep::Resize { path: at, len } => Kept::Resize(path(at), len),
                FileStep::Sync(at) => Kept::Sync(path(at)),
                FileStep::SyncDir(at) => Kept::SyncDir(path(at)),
                FileStep::Rename { from, to } => Kept::Rename(path(from), path(to)),
                FileStep::Remove(at) => Kept::Remove(path(at)),
                other => panic!("the model does not know {other:?}"),
            });
        })
    }

    pub fn push(&self, step: Kept) {
        self.0.lock().unwrap().push(step);
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn steps(&self) -> Vec<Kept> {
        self.0.lock().unwrap().clone()
    }
}

/// A change of a file's bytes that is not durable yet.
#[derive(Clone)]
enum Edit {
    Write(u64, Vec<u8>),
    Resize(u64),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, new) => {
                let start = usize::try_from(*offset).unwrap();
                if bytes.len() < start + new.len() {
                    bytes.resize(start + new.len(), 0);
                }
                bytes[start..start + new.len()].copy_from_slice(new);
            }
            Self::Resize(len) => bytes.resize(usize::try_from(*len).unwrap(), 0),
        }
    }

    /// The sectors of a write, apart.
    fn pieces(&self) -> Vec<Self> {
        let Self::Write(offset, bytes) = self else {
            return vec![self.clone()];
        };
        let first = SECTOR - usize::try_from(*offset).unwrap() % SECTOR;
        let (head, rest) = bytes.split_at(first.min(bytes.len()));
        let mut at = *offset;
        let pieces = std::iter::once(head).chain(rest.chunks(SECTOR));
        pieces
            .map(|piece| {
                let edit = Self::Write(at, piece.to_vec());
                at += piece.len() as u64;
                edit
            })
            .collect()
    }
}

#[derive(Clone, Default)]
struct Inode {
    durable: Vec<u8>,
    pending: Vec<Edit>,
}

/// A change of names that is not durable yet: one step of the file system.
#[derive(Clone)]
struct Naming {
    /// The directories whose sync makes it durable.
    dirs: BTreeSet<PathBuf>,
    sets: Vec<(PathBuf, Option<usize>)>,
}

/// What is on the disk, and what is only in memory.
#[derive(Default)]
pub struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    pending: Vec<Naming>,
}

impl Disk {
    pub fn play(steps: &[Kept]) -> Self {
        let mut disk = Self::default();
        steps.iter().for_each(|step| disk.step(step));
        disk
    }

    fn step(&mut self, step: &Kept) {
        match step {
            Kept::MakeDir(path) => drop(self.dirs.insert(path.clone())),
            Kept::Make(path) => {
                self.inodes.push(Inode::default());
                self.name(&[(path, Some(self.inodes.len() - 1))]);
            }
            Kept::Write(path, offset, bytes) => {
                self.edit(path, Edit::Write(*offset, bytes.clone()));
            }
            Kept::Resize(path, len) => self.edit(path, Edit::Resize(*len)),
            Kept::Sync(path) => {
                let inode = &mut self.inodes[self.names[path]];
                for edit in std::mem::take(&mut inode.pending) {
                    edit.apply(&mut inode.durable);
                }
            }
            Kept::SyncDir(path) => {
                let (done, left) = std::mem::take(&mut self.pending)
                    .into_iter()
                    .partition(|naming: &Naming| naming.dirs.contains(path));
                self.pending = left;
                let done: Vec<Naming> = done;
                done.iter()
                    .for_each(|naming| set(&mut self.durable, naming));
            }
            Kept::Rename(from, to) => {
                let inode = self.names[from];
                self.name(&[(from, None), (to, Some(inode))]);
            }
            Kept::Remove(path) => {
                if self.names.contains_key(path) {
                    self.name(&[(path, None)]);
                }
            }
        }
    }

    fn name(&mut self, sets: &[(&PathBuf, Option<usize>)]) {
        let naming = Naming {
            dirs: sets
                .iter()
                .map(|(path, _)| path.parent().unwrap().to_owned())
                .collect(),
            sets: sets
                .iter()
                .map(|(path, inode)| ((*path).clone(), *inode))
                .collect(),
        };
        set(&mut self.names, &naming);
        self.pending.push(naming);
    }

    fn edit(&mut self, path: &Path, edit: Edit) {
        let inode = self.names.get(path);
        let inode = *inode.unwrap_or_else(|| panic!("{} was not made", path.display()));
        self.inodes[inode].pending.push(edit);
    }

    /// Cuts the power, and puts what is left below `to`: of what was not
    /// synced, each change of names and each sector by chance.
    pub fn cut(&self, rng: &mut Rng, from: &Path, to: &Path) {
        // All, nothing, the first ones, or any.
        let style = rng.below(4);
        let mut stopped = false;
        let mut keeps = |rng: &mut Rng| match style {
            0 => true,
            1 => false,
            2 => {
                stopped = stopped || rng.one_in(4);
                !stopped
            }
            _ => rng.one_in(2),
        };
        let mut names = self.durable.clone();
        for naming in &self.pending {
            if keeps(rng) {
                set(&mut names, naming);
            }
        }
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|path| to.join(path));
        for dir in self.dirs.iter().filter_map(|dir| moved(dir)) {
            fs::create_dir_all(dir).unwrap();
        }
        for (path, inode) in names {
            let inode = &self.inodes[inode];
            let mut bytes = inode.durable.clone();
            for piece in inode.pending.iter().flat_map(Edit::pieces) {
                if keeps(rng) {
                    piece.apply(&mut bytes);
                }
            }
            if let Some(path) = moved(&path) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

fn set(names: &mut BTreeMap<PathBuf, usize>, naming: &Naming) {
    for (path, inode) in &naming.sets {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}
