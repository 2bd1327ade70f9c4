//! Random calls of a guest over file systems that are mounted in each other,
//! under rules that come at random too, with forks, snapshots and restores:
//! step by step against the model in `support/world.rs`.
//!
//! `STRATAFS_SEED=n` starts at that seed, which a failure prints.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::meta::Kind;
use stratafs::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights, Rule, Snapshot};

use crate::support::reference::refuse;
use crate::support::rng::{Rng, from_env};
use crate::support::world::{Body, End, Last, Tree, Uid, Walked, walk};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Runs in one test.
const RUNS: u64 = 150;

/// Operations in one run.
const STEPS: usize = 300;

#[derive(Clone, Debug)]
enum Op {
    Put(String, Vec<u8>),
    Append(String, Vec<u8>),
    Get(String),
    Stat(String, bool),
    List(String),
    Mkdir(String),
    Rmdir(String),
    Unlink(String),
    Symlink(String, String),
    Link(String, String),
    Rename(String, String),
}

#[derive(Debug, PartialEq)]
enum Seen {
    Done,
    Bytes(Vec<u8>),
    Names(BTreeSet<String>),
    Stat(Kind, u64, usize, usize),
}

/// The file systems and what is known of them. The guest's is the first.
struct World {
    fs: Vec<Fs>,
    trees: Vec<Tree>,
    next: Uid,
    /// Forks and their parents that are not used any more, as they were left.
    left: Vec<(Fs, Tree)>,
    taken: Vec<(Snapshot, Tree)>,
}

impl World {
    fn new() -> Self {
        let make = |number: u64| {
            let device = NonZeroU64::new(number + 1).unwrap();
            Fs::builder(&Image::empty()).device(device).build()
        };
        Self {
            fs: (0..3).map(make).collect(),
            trees: (0..3).map(Tree::new).collect(),
            next: 3,
            left: Vec::new(),
            taken: Vec::new(),
        }
    }

    fn add(&mut self, tree: usize, dir: Uid, name: &str, body: Body) {
        let id = self.next;
        self.next += 1;
        self.trees[tree].nodes.insert(id, body);
        self.trees[tree]
            .entries_mut(dir)
            .insert(name.to_owned(), id);
    }

    /// Walks for a call that changes something.
    fn change(&self, read_only: bool, path: &str, last: Last) -> Result<(usize, End), Errno> {
        let walked = walk(&self.trees, read_only, path, last);
        looped(&walked)?;
        refuse(walked.at.read_only, Errno::NotPermitted)?;
        Ok((walked.at.tree, walked.end?))
    }

    fn expect(&mut self, op: &Op, read_only: bool) -> Result<Seen, Errno> {
        match op {
            Op::Put(path, bytes) => {
                let (at, end) = self.change(read_only, path, Last::Create)?;
                self.put(at, end, bytes)
            }
            Op::Append(path, bytes) => {
                let (at, end) = self.change(read_only, path, Last::Follow)?;
                let (dir, id) = self.file(at, end, true)?;
                let rule = self.trees[at].rule_of(dir, id);
                refuse(rule > Rule::AppendOnly, Errno::NotPermitted)?;
                if let Some(Body::File(file)) = self.trees[at].nodes.get_mut(&id) {
                    file.extend_from_slice(bytes);
                }
                Ok(Seen::Done)
            }
            Op::Get(path) => {
                let walked = walk(&self.trees, read_only, path, Last::Follow);
                let (_, id) = self.file(walked.at.tree, walked.end?, false)?;
                match &self.trees[walked.at.tree].nodes[&id] {
                    Body::File(bytes) => Ok(Seen::Bytes(bytes.clone())),
                    // A directory opens, and does not read.
                    _ => Err(Errno::BadDescriptor),
                }
            }
            Op::Stat(path, follow) => self.stat(read_only, path, *follow),
            Op::List(path) => {
                let walked = walk(&self.trees, read_only, path, Last::Follow);
                let tree = &self.trees[walked.at.tree];
                let (_, id) = self.file(walked.at.tree, walked.end?, false)?;
                refuse(tree.kind(id) != Kind::Dir, Errno::NotDirectory)?;
                let shown = tree.entries(id).iter().filter(|(_, id)| !tree.hides(**id));
                Ok(Seen::Names(shown.map(|(name, _)| name.clone()).collect()))
            }
            Op::Mkdir(path) => match self.change(read_only, path, Last::Keep)? {
                (
                    at,
                    End::Entry {
                        dir,
                        name,
                        found: None,
                        ..
                    },
                ) => {
                    self.trees[at].allow_new(dir, &name)?;
                    self.add(at, dir, &name, Body::Dir(Default::default()));
                    Ok(Seen::Done)
                }
                _ => Err(Errno::Exist),
            },
            Op::Symlink(target, path) => {
                let (at, end) = self.change(read_only, path, Last::NoFollow)?;
                let (dir, name, found) = self.spot(at, end)?.ok_or(Errno::Exist)?;
                refuse(found.is_some(), Errno::Exist)?;
                self.trees[at].allow_new(dir, &name)?;
                self.add(at, dir, &name, Body::Link(target.clone()));
                Ok(Seen::Done)
            }
            Op::Rmdir(path) => self.rmdir(read_only, path),
            Op::Unlink(path) => {
                let (at, end) = self.change(read_only, path, Last::NoFollow)?;
                let (dir, name, found) = self.spot(at, end)?.ok_or(Errno::IsDirectory)?;
                let id = found.ok_or(Errno::NoEntry)?;
                let tree = &mut self.trees[at];
                tree.allow_departure(dir, id)?;
                refuse(tree.kind(id) == Kind::Dir, Errno::IsDirectory)?;
                tree.take(dir, &name);
                Ok(Seen::Done)
            }
            Op::Link(from, to) => self.link(read_only, from, to),
            Op::Rename(from, to) => self.rename(read_only, from, to),
        }
    }

    fn put(&mut self, at: usize, end: End, bytes: &[u8]) -> Result<Seen, Errno> {
        let tree = &mut self.trees[at];
        match end {
            End::Dir(_) => Err(Errno::IsDirectory),
            End::Entry {
                dir, name, found, ..
            } => match found {
                None => {
                    tree.allow_new(dir, &name)?;
                    self.add(at, dir, &name, Body::File(bytes.to_vec()));
                    Ok(Seen::Done)
                }
                Some(id) => {
                    refuse(tree.kind(id) == Kind::Dir, Errno::IsDirectory)?;
                    refuse(tree.rule_of(dir, id) != Rule::Free, Errno::NotPermitted)?;
                    tree.nodes.insert(id, Body::File(bytes.to_vec()));
                    Ok(Seen::Done)
                }
            },
        }
    }

    /// What an open that makes nothing opens, and the directory of its name.
    fn file(&self, at: usize, end: End, to_write: bool) -> Result<(Uid, Uid), Errno> {
        let (dir, id, slash) = match end {
            End::Dir(id) => (id, id, false),
            End::Entry {
                dir, found, slash, ..
            } => (dir, found.ok_or(Errno::NoEntry)?, slash),
        };
        let is_dir = self.trees[at].kind(id) == Kind::Dir;
        refuse(is_dir && to_write, Errno::IsDirectory)?;
        refuse(!is_dir && slash, Errno::NotDirectory)?;
        Ok((dir, id))
    }

    /// The name that a walk ended at; `None` for a directory without one.
    #[allow(clippy::type_complexity, reason = "used once")]
    fn spot(&self, at: usize, end: End) -> Result<Option<(Uid, String, Option<Uid>)>, Errno> {
        match end {
            End::Dir(_) => Ok(None),
            End::Entry {
                found: None,
                slash: true,
                ..
            } => Err(Errno::NoEntry),
            End::Entry {
                found: Some(id),
                slash: true,
                ..
            } => {
                refuse(self.trees[at].kind(id) != Kind::Dir, Errno::NotDirectory)?;
                Ok(None)
            }
            End::Entry {
                dir, name, found, ..
            } => Ok(Some((dir, name, found))),
        }
    }

    fn stat(&self, read_only: bool, path: &str, follow: bool) -> Result<Seen, Errno> {
        let last = if follow { Last::Follow } else { Last::NoFollow };
        let walked = walk(&self.trees, read_only, path, last);
        let tree = &self.trees[walked.at.tree];
        let id = match walked.end? {
            End::Dir(id) => id,
            End::Entry { found, slash, .. } => {
                let id = found.ok_or(Errno::NoEntry)?;
                refuse(slash && tree.kind(id) != Kind::Dir, Errno::NotDirectory)?;
                id
            }
        };
        let size = match &tree.nodes[&id] {
            Body::Dir(_) => 0,
            Body::File(bytes) => bytes.len(),
            Body::Link(target) => target.len(),
        };
        let device = walked.at.tree + 1;
        Ok(Seen::Stat(
            tree.kind(id),
            size as u64,
            tree.nlink(id),
            device,
        ))
    }

    fn rmdir(&mut self, read_only: bool, path: &str) -> Result<Seen, Errno> {
        let (at, end) = self.change(read_only, path, Last::Keep)?;
        let End::Entry {
            dir, name, found, ..
        } = end
        else {
            return Err(Errno::Invalid);
        };
        let id = found.ok_or(Errno::NoEntry)?;
        if path.ends_with('/') && self.trees[at].kind(id) == Kind::Symlink {
            // Of one that leads out nothing else is told.
            let led = self.change(read_only, path, Last::Follow);
            refuse(matches!(led, Err(Errno::NotPermitted)), Errno::NotPermitted)?;
        }
        let tree = &mut self.trees[at];
        tree.allow_departure(dir, id)?;
        refuse(tree.kind(id) != Kind::Dir, Errno::NotDirectory)?;
        refuse(tree.pinned.contains(&id), Errno::Busy)?;
        refuse(!tree.entries(id).is_empty(), Errno::NotEmpty)?;
        tree.take(dir, &name);
        Ok(Seen::Done)
    }

    /// Walks both paths of a call that has two.
    fn pair(
        &self,
        read_only: bool,
        (from, to): (&str, &str),
        last: Last,
    ) -> Result<(usize, End, End), Errno> {
        let one = walk(&self.trees, read_only, from, last);
        looped(&one)?;
        let two = walk(&self.trees, read_only, to, last);
        looped(&two)?;
        refuse(one.at.read_only || two.at.read_only, Errno::NotPermitted)?;
        refuse(one.at.tree != two.at.tree, Errno::CrossDevice)?;
        // What is wrong with names is found in the call, path by path.
        if last == Last::NoFollow {
            let at = one.at.tree;
            let one_end = one.end?;
            if let End::Entry {
                found, slash: true, ..
            } = &one_end
            {
                let id = found.ok_or(Errno::NoEntry)?;
                refuse(self.trees[at].kind(id) != Kind::Dir, Errno::NotDirectory)?;
            }
            return Ok((at, one_end, two.end?));
        }
        Ok((one.at.tree, one.end?, two.end?))
    }

    fn link(&mut self, read_only: bool, from: &str, to: &str) -> Result<Seen, Errno> {
        let (at, one, two) = self.pair(read_only, (from, to), Last::NoFollow)?;
        let whole = match &one {
            End::Dir(id) => Some(*id),
            End::Entry {
                found, slash: true, ..
            } => *found,
            End::Entry { .. } => None,
        };
        let from = self.spot(at, one)?;
        let to = self.spot(at, two)?;
        let (dir, id) = match (from, whole) {
            (Some((dir, _, found)), _) => (dir, found.ok_or(Errno::NoEntry)?),
            (None, Some(id)) => (id, id),
            (None, None) => unreachable!("a name or a directory"),
        };
        let (new_dir, name, found) = to.ok_or(Errno::Exist)?;
        refuse(found.is_some(), Errno::Exist)?;
        let tree = &mut self.trees[at];
        refuse(tree.rule_of(dir, id) != Rule::Free, Errno::NotPermitted)?;
        tree.allow_arrival(new_dir, &name, None)?;
        refuse(tree.kind(id) == Kind::Dir, Errno::NotPermitted)?;
        tree.entries_mut(new_dir).insert(name, id);
        Ok(Seen::Done)
    }

    fn rename(&mut self, read_only: bool, from: &str, to: &str) -> Result<Seen, Errno> {
        let (at, one, two) = self.pair(read_only, (from, to), Last::Keep)?;
        let (
            End::Entry {
                dir,
                name,
                found,
                slash,
            },
            End::Entry {
                dir: new_dir,
                name: new,
                found: target,
                slash: new_slash,
            },
        ) = (one, two)
        else {
            return Err(Errno::Busy);
        };
        let tree = &mut self.trees[at];
        let id = found.ok_or(Errno::NoEntry)?;
        let is_dir = tree.kind(id) == Kind::Dir;
        refuse((slash || new_slash) && !is_dir, Errno::NotDirectory)?;
        tree.allow_departure(dir, id)?;
        tree.allow_arrival(new_dir, &new, target)?;
        refuse(is_dir && tree.above(new_dir).contains(&id), Errno::Invalid)?;
        if let Some(target) = target {
            if target == id {
                return Ok(Seen::Done);
            }
            refuse(tree.above(dir).contains(&target), Errno::NotEmpty)?;
            let onto_dir = tree.kind(target) == Kind::Dir;
            refuse(is_dir && !onto_dir, Errno::NotDirectory)?;
            refuse(!is_dir && onto_dir, Errno::IsDirectory)?;
            let pinned = tree.pinned.contains(&id) || tree.pinned.contains(&target);
            refuse(pinned, Errno::Busy)?;
            refuse(
                onto_dir && !tree.entries(target).is_empty(),
                Errno::NotEmpty,
            )?;
            tree.take(new_dir, &new);
        }
        refuse(tree.pinned.contains(&id), Errno::Busy)?;
        tree.entries_mut(dir).remove(&name);
        tree.entries_mut(new_dir).insert(new, id);
        Ok(Seen::Done)
    }

    // What the host does.

    /// An object of a tree.
    fn some(&self, tree: usize, rng: &mut Rng) -> Uid {
        let all: Vec<Uid> = self.trees[tree].nodes.keys().copied().collect();
        *rng.pick(&all)
    }

    fn some_dir(&self, tree: usize, rng: &mut Rng) -> Uid {
        let nodes = &self.trees[tree].nodes;
        let dirs = nodes
            .iter()
            .filter(|(_, body)| matches!(body, Body::Dir(_)));
        let dirs: Vec<Uid> = dirs.map(|(id, _)| *id).collect();
        *rng.pick(&dirs)
    }

    fn make_rule(&mut self, with_files: bool, rng: &mut Rng) {
        let at = rng.below(3);
        let mut id = self.some_dir(at, rng);
        if with_files && rng.one_in(3) {
            id = self.some(at, rng);
        }
        let tree = &mut self.trees[at];
        // A link is followed, so that no rule is for one.
        if tree.kind(id) == Kind::Symlink {
            return;
        }
        let rules = [
            Rule::Free,
            Rule::Free,
            Rule::AppendOnly,
            Rule::ReadOnly,
            Rule::Hidden,
        ];
        let rule = match *rng.pick(&rules) {
            Rule::Hidden if id == tree.top => Rule::Free,
            rule => rule,
        };
        let dir = match tree.names(id).pop() {
            Some((dir, _)) if tree.kind(id) != Kind::Dir => dir,
            _ => id,
        };
        assert_eq!(self.fs[at].set_rule(tree.path(id).as_bytes(), rule), Ok(()));
        tree.set_rule(dir, id, rule);
    }

    /// Tells whether a walk in one tree may lead into another.
    fn leads(&self, from: usize, to: usize) -> bool {
        let below = self.trees[from].mounts.values();
        from == to || below.into_iter().any(|(tree, ..)| self.leads(*tree, to))
    }

    fn mount(&mut self, rng: &mut Rng) {
        let (at, other) = (rng.below(2), rng.below(3));
        // The first one is forked and left, so nothing leads to it.
        if other == 0 && !self.leads(0, at) {
            return;
        }
        let (mut dir, there) = (self.some_dir(at, rng), self.some_dir(other, rng));
        let read_only = rng.one_in(3);
        let mut path = self.trees[at].path(dir);
        let name = *rng.pick(&NAMES);
        let is_loop = self.leads(other, at);
        if rng.one_in(2) && !is_loop && !self.trees[at].entries(dir).contains_key(name) {
            self.add(at, dir, name, Body::Dir(Default::default()));
            dir = self.trees[at].entries(dir)[name];
            path = self.trees[at].path(dir);
        }
        let rights = if read_only {
            Rights::ReadOnly
        } else {
            Rights::ReadWrite
        };
        let there_path = self.trees[other].path(there);
        let got = self.fs[at].mount(
            path.as_bytes(),
            &self.fs[other],
            there_path.as_bytes(),
            rights,
        );
        let got = got.map_err(Errno::from);
        let tree = &mut self.trees[at];
        if is_loop {
            assert_eq!(got, Err(Errno::Loop));
        } else if dir == tree.top || tree.mounts.contains_key(&dir) {
            assert_eq!(got, Err(Errno::Busy));
        } else {
            assert_eq!(got, Ok(()));
            tree.mounts.insert(dir, (other, there, read_only));
            tree.pinned.insert(dir);
            self.trees[other].pinned.insert(there);
        }
    }

    /// Goes on with a fork; the parent is left as it is.
    fn fork(&mut self) {
        let fork = self.fs[0].fork();
        let parent = std::mem::replace(&mut self.fs[0], fork);
        self.left.push((parent, self.trees[0].clone()));
    }

    fn restore(&mut self, rng: &mut Rng) {
        let (snapshot, then) = &self.taken[rng.below(self.taken.len())];
        let now = &self.trees[0];
        let rules = now.rules.iter().flatten().map(|(id, _)| id);
        let kept = now.mounts.keys().chain(rules);
        let lacks = kept.filter(|id| now.nodes.contains_key(*id));
        let lacks = lacks.into_iter().any(|id| !then.nodes.contains_key(id));
        let got = self.fs[0].restore(snapshot).map_err(Errno::from);
        if lacks {
            assert_eq!(got, Err(Errno::Busy));
            return;
        }
        assert_eq!(got, Ok(()));
        self.trees[0].nodes = then.nodes.clone();
        self.trees[0].mark_files();
    }
}

/// Past all links, a path that crosses fails before anything else is asked.
fn looped(walked: &Walked) -> Result<(), Errno> {
    let looped = walked.end.as_ref().err() == Some(&Errno::Loop);
    refuse(walked.crossed && looped, Errno::Loop)
}

/// Does it on the library.
fn apply(root: &Descriptor, op: &Op) -> Result<Seen, Errno> {
    let both = Access::READ | Access::WRITE;
    let open =
        |path: &str, flags, access| root.open_at(Follow::Yes, path.as_bytes(), flags, access);
    let none = OpenFlags::empty();
    match op {
        Op::Put(path, bytes) => {
            let file = open(path, OpenFlags::CREATE | OpenFlags::TRUNCATE, both)?;
            assert_eq!(file.write_at(bytes, 0)?, bytes.len());
        }
        Op::Append(path, bytes) => {
            assert_eq!(open(path, none, both)?.append(bytes)?, bytes.len());
        }
        Op::Get(path) => {
            let mut buf = vec![0; 4096];
            let read = open(path, none, Access::READ)?.read_at(&mut buf, 0)?;
            buf.truncate(read);
            return Ok(Seen::Bytes(buf));
        }
        Op::Stat(path, follow) => {
            let follow = if *follow { Follow::Yes } else { Follow::No };
            let (stat, device) = root.locate_at(follow, path.as_bytes())?;
            return Ok(Seen::Stat(
                stat.kind,
                stat.size,
                stat.nlink as usize,
                device as usize,
            ));
        }
        Op::List(path) => {
            let dir = open(path, none, Access::READ)?;
            let mut names = BTreeSet::new();
            for entry in dir.read_dir(0, usize::MAX)? {
                let name = String::from_utf8(entry.name.into()).unwrap();
                assert!(names.insert(name), "listed once");
            }
            return Ok(Seen::Names(names));
        }
        Op::Mkdir(path) => root.create_dir_at(path.as_bytes())?,
        Op::Rmdir(path) => root.remove_dir_at(path.as_bytes())?,
        Op::Unlink(path) => root.unlink_at(path.as_bytes())?,
        Op::Symlink(target, path) => root.symlink_at(target.as_bytes(), path.as_bytes())?,
        Op::Link(from, to) => root.link_at(from.as_bytes(), root, to.as_bytes())?,
        Op::Rename(from, to) => root.rename_at(from.as_bytes(), root, to.as_bytes())?,
    }
    Ok(Seen::Done)
}

fn path(rng: &mut Rng) -> String {
    let mut path = String::new();
    for part in 0..=rng.below(4) {
        if part > 0 {
            path.push_str(rng.pick::<&str>(&["/", "/", "/", "//", "/./"]));
        }
        let name = if rng.one_in(8) {
            ".."
        } else {
            rng.pick::<&str>(&NAMES)
        };
        path.push_str(name);
    }
    if rng.one_in(12) {
        path.push('/');
    }
    path
}

fn some_op(rng: &mut Rng) -> Op {
    let (one, two) = (path(rng), path(rng));
    let bytes = vec![b'x'; rng.below(40)];
    match rng.below(22) {
        0..=3 => Op::Put(one, bytes),
        4 => Op::Append(one, bytes),
        5 | 6 => Op::Get(one),
        7 | 8 => Op::Stat(one, rng.one_in(2)),
        9 | 10 => Op::List(one),
        11..=14 => Op::Mkdir(one),
        15 => Op::Rmdir(one),
        16 => Op::Unlink(one),
        17 if rng.one_in(4) => Op::Symlink(format!("/{two}"), one),
        17 => Op::Symlink(two, one),
        18 | 19 => Op::Link(one, two),
        _ => Op::Rename(one, two),
    }
}

/// Holds a whole tree against its model, as the host sees it.
fn compare(fs: &Fs, tree: &Tree) {
    assert_eq!(fs.check(), Ok(()));
    let mut todo = vec![(String::new(), tree.top)];
    while let Some((path, dir)) = todo.pop() {
        let shown = format!("/{path}");
        let entries = fs.read_dir(&shown).unwrap();
        let names: BTreeSet<String> = entries
            .into_iter()
            .map(|entry| String::from_utf8(entry.name().to_vec()).unwrap())
            .collect();
        assert!(
            names.iter().eq(tree.entries(dir).keys()),
            "{shown}: {names:?}"
        );
        for (name, id) in tree.entries(dir) {
            let path = format!("{path}/{name}");
            match &tree.nodes[id] {
                // What is mounted is another tree's.
                Body::Dir(_) if tree.mounts.contains_key(id) => {}
                Body::Dir(_) => todo.push((path, *id)),
                Body::File(bytes) => assert_eq!(&fs.read(&path).unwrap(), bytes, "{path}"),
                Body::Link(target) => {
                    assert_eq!(fs.read_link(&path).unwrap(), target.as_bytes(), "{path}");
                }
            }
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut world = World::new();
    let with_rules = !rng.one_in(4);
    let with_restores = rng.one_in(2);
    for step in 0..STEPS {
        match rng.below(60) {
            0 | 1 if with_rules => world.make_rule(!with_restores, &mut rng),
            2 | 3 => world.mount(&mut rng),
            4 if world.left.len() < 4 => world.fork(),
            5 if world.taken.len() < 4 => {
                let taken = (world.fs[0].snapshot(), world.trees[0].clone());
                world.taken.push(taken);
            }
            6 if with_restores && !world.taken.is_empty() => world.restore(&mut rng),
            7 => {
                for (fs, tree) in world.fs.iter().zip(&world.trees) {
                    compare(fs, tree);
                }
            }
            _ => {
                let op = some_op(&mut rng);
                let read_only = rng.one_in(6);
                let rights = if read_only {
                    Rights::ReadOnly
                } else {
                    Rights::ReadWrite
                };
                let root = world.fs[0].preopen(b"/", rights).unwrap();
                let (want, got) = (world.expect(&op, read_only), apply(&root, &op));
                assert_eq!(
                    got, want,
                    "STRATAFS_SEED={seed}, step {step}: {op:?}, read only: {read_only}"
                );
            }
        }
    }
    let World {
        fs, trees, left, ..
    } = world;
    for (fs, tree) in fs
        .iter()
        .zip(&trees)
        .chain(left.iter().map(|(fs, tree)| (fs, tree)))
    {
        compare(fs, tree);
    }
}

macro_rules! runs {
    ($($name:ident: $seed:expr;)*) => {$(
        #[test]
        fn $name() {
            let seed = from_env("STRATAFS_SEED").unwrap_or($seed << 32);
            for round in 0..from_env("STRATAFS_RUNS").unwrap_or(RUNS) {
                run(seed + round);
            }
        }
    )*};
}

runs! {
    volumes_rules_and_forks_agree_with_their_model_0: 0;
    volumes_rules_and_forks_agree_with_their_model_1: 1;
    volumes_rules_and_forks_agree_with_their_model_2: 2;
    volumes_rules_and_forks_agree_with_their_model_3: 3;
}
