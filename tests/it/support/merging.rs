//! What a merge of three trees of the reference model has to give: object by
//! object, name by name, block by block. An object is the same in two trees if
//! its [`Node::uid`] is.
//!
//! Written from docs/SEMANTICS.md and the documentation of `Fs::merge`, over
//! whole trees, without what the library knows of what differs. What is not
//! predicted: the times of directories, and access and change times; all paths
//! of conflicts that follow from others (those found here have to be told); and
//! the outcome where a file that theirs made under several names meets names of
//! ours, since that depends on the order of names ([`Plan::unsure`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Range;

use stratafs::limits::BLOCK_BYTES;
use stratafs::meta::{Kind, Time};

use super::charge::File;
use super::reference::{Body, Id, Model, Node, TOP};

/// An object in all trees.
type Uid = u64;

/// A directory and a name in it.
type Entry = (Uid, Vec<u8>);

/// A tree, by its objects that have a name.
struct Side<'a> {
    model: &'a Model,
    at: HashMap<Uid, Id>,
    /// Directories, those above first.
    dirs: Vec<Uid>,
    entries: BTreeMap<Entry, Uid>,
    names: HashMap<Uid, BTreeSet<Entry>>,
    paths: HashMap<Uid, Vec<Vec<u8>>>,
}

impl<'a> Side<'a> {
    fn of(model: &'a Model) -> Self {
        let mut side = Self {
            model,
            at: HashMap::new(),
            dirs: Vec::new(),
            entries: BTreeMap::new(),
            names: HashMap::new(),
            paths: HashMap::new(),
        };
        side.at.insert(model.nodes[TOP].uid, TOP);
        let mut todo = VecDeque::from([(TOP, Vec::new())]);
        while let Some((id, path)) = todo.pop_front() {
            let uid = model.nodes[id].uid;
            let Body::Dir(dir) = &model.nodes[id].body else {
                continue;
            };
            side.dirs.push(uid);
            for (name, (child, _)) in &dir.entries {
                let below = model.nodes[*child].uid;
                let path = join(&path, name);
                let entry = (uid, name.clone());
                side.at.insert(below, *child);
                side.entries.insert(entry.clone(), below);
                side.names.entry(below).or_default().insert(entry);
                side.paths.entry(below).or_default().push(path.clone());
                todo.push_back((*child, path));
            }
        }
        side
    }

    fn has(&self, uid: Uid) -> bool {
        self.at.contains_key(&uid)
    }

    fn node(&self, uid: Uid) -> &'a Node {
        &self.model.nodes[self.at[&uid]]
    }

    fn kind(&self, uid: Uid) -> Kind {
        self.model.kind_of(self.at[&uid])
    }

    fn file(&self, uid: Uid) -> Option<&'a File> {
        match &self.node(uid).body {
            Body::File(file) => Some(file),
            Body::Dir(_) | Body::Symlink(_) => None,
        }
    }

    fn names(&self, uid: Uid) -> BTreeSet<Entry> {
        self.names.get(&uid).cloned().unwrap_or_default()
    }

    /// The names of a directory that is here.
    fn listed(&self, dir: Uid) -> BTreeSet<Vec<u8>> {
        let from = (dir, Vec::new());
        let all = self.entries.range(from..(dir + 1, Vec::new()));
        all.map(|((_, name), _)| name.clone()).collect()
    }

    /// Whether anything but names and the names in it differs in another tree.
    fn differs(&self, other: &Self, uid: Uid) -> bool {
        let (one, two) = (self.node(uid), other.node(uid));
        match (&one.body, &two.body) {
            (Body::File(a), Body::File(b)) => a.bytes != b.bytes || one.times[1] != two.times[1],
            (Body::Symlink(_), Body::Symlink(_)) => one.times[1] != two.times[1],
            _ => false,
        }
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, slash, name].concat()
}

/// A conflict that has to be told.
pub struct Found {
    pub why: &'static str,
    /// The paths that it may be told by: those of an object with several names.
    pub paths: Vec<Vec<u8>>,
}

/// What is to be done to ours.
#[derive(Default)]
pub struct Plan {
    pub conflicts: Vec<Found>,
    /// The outcome depends on the order in which names are looked at.
    pub unsure: bool,
    bytes: Vec<(Uid, NewBytes)>,
    times: Vec<(Uid, Time)>,
    made: Vec<Uid>,
    detach: Vec<(Entry, Uid)>,
    attach: Vec<(Entry, Uid)>,
}

enum NewBytes {
    Theirs(File),
    Both(File),
}

/// What came of a merge.
pub struct Merged {
    pub model: Model,
    /// Files whose bytes both sides changed: what they cost is not known.
    pub mixed: Vec<Id>,
}

struct Planner<'a> {
    base: Side<'a>,
    ours: Side<'a>,
    theirs: Side<'a>,
    plan: Plan,
    /// What stands in ours for an object that theirs made.
    stand_ins: HashMap<Uid, Uid>,
    /// Objects with a conflict about their names.
    refused: HashSet<Uid>,
    /// Directories that theirs gave a name to.
    moved: BTreeSet<Uid>,
}

/// Plans the merge of what `theirs` changed since `base` into `ours`.
pub fn plan(base: &Model, ours: &Model, theirs: &Model) -> Plan {
    let mut planner = Planner {
        base: Side::of(base),
        ours: Side::of(ours),
        theirs: Side::of(theirs),
        plan: Plan::default(),
        stand_ins: HashMap::new(),
        refused: HashSet::new(),
        moved: BTreeSet::new(),
    };
    planner.look_at_objects();
    planner.find_lost();
    for dir in planner.theirs.dirs.clone() {
        planner.look_at_names(dir);
    }
    planner.find_renamed();
    planner.look_at_ends();
    planner.plan
}

impl Planner<'_> {
    /// Notes a conflict about an object, by its paths in the first tree that has
    /// it.
    fn conflict(&mut self, why: &'static str, uid: Uid) {
        let sides = [&self.base, &self.theirs, &self.ours];
        let paths = sides.iter().find_map(|side| side.paths.get(&uid));
        let paths = paths.cloned().unwrap_or_default();
        self.plan.conflicts.push(Found { why, paths });
    }

    fn look_at_objects(&mut self) {
        let mut all: Vec<Uid> = self.theirs.at.keys().copied().collect();
        all.extend(self.base.at.keys());
        all.sort_unstable();
        all.dedup();
        for uid in all {
            let (was, is) = (self.base.has(uid), self.theirs.has(uid));
            let here = self.ours.has(uid);
            let differs = match (was, here, is) {
                (true, true, false) => {
                    let (was, here) = (self.base.names(uid), self.ours.names(uid));
                    let is_renamed = here.difference(&was).next().is_some();
                    is_renamed || self.base.differs(&self.ours, uid)
                }
                (true, false, true) => self.base.differs(&self.theirs, uid),
                (true, true, true) => {
                    self.merge_object(uid);
                    false
                }
                // Ours came of theirs after the common state.
                (false, true, true) => match (self.ours.file(uid), self.theirs.file(uid)) {
                    (Some(one), Some(two)) => one.bytes != two.bytes,
                    _ => false,
                },
                _ => false,
            };
            if differs {
                self.conflict("removed or made apart", uid);
            }
        }
    }

    fn merge_object(&mut self, uid: Uid) {
        let mtime = |side: &Side<'_>| side.node(uid).times[1];
        let (was, here, there) = (mtime(&self.base), mtime(&self.ours), mtime(&self.theirs));
        if self.ours.kind(uid) != Kind::Dir && there != was {
            let time = if here == was { there } else { here.max(there) };
            self.plan.times.push((uid, time));
        }
        let files = [&self.base, &self.ours, &self.theirs].map(|side| side.file(uid));
        let [Some(was), Some(here), Some(there)] = files else {
            return;
        };
        if there.bytes == was.bytes {
            return;
        }
        let new = if here.bytes == was.bytes {
            Some(NewBytes::Theirs(there.clone()))
        } else {
            let bytes = merge_bytes(&was.bytes, &here.bytes, &there.bytes);
            bytes.map(|bytes| NewBytes::Both(File::merged(bytes, here, there)))
        };
        match new {
            Some(new) => self.plan.bytes.push((uid, new)),
            None => self.conflict("bytes", uid),
        }
    }

    /// Names that theirs took away and that ours still has.
    fn find_lost(&mut self) {
        for (entry, uid) in &self.base.entries {
            let gone = self.theirs.entries.get(entry) != Some(uid);
            if gone && self.ours.entries.get(entry) == Some(uid) {
                self.plan.detach.push((entry.clone(), *uid));
            }
        }
    }

    /// What is in ours for an object of theirs.
    fn here(&self, uid: Uid) -> Option<Uid> {
        let stand_in = self.stand_ins.get(&uid).copied();
        stand_in.or_else(|| self.ours.has(uid).then_some(uid))
    }

    /// Names that theirs gave in one of its directories. Those above came before.
    fn look_at_names(&mut self, dir: Uid) {
        for name in self.theirs.listed(dir) {
            let entry = (dir, name);
            let uid = self.theirs.entries[&entry];
            if self.base.entries.get(&entry) == Some(&uid) {
                continue;
            }
            match self.here(dir) {
                Some(here) => self.gain(uid, &entry, here),
                // Else a conflict about a directory that theirs made.
                None if self.base.has(dir) => self.conflict("entry of a removed directory", dir),
                None => {}
            }
        }
    }

    fn gain(&mut self, uid: Uid, entry: &Entry, dir: Uid) {
        let at = (dir, entry.1.clone());
        let lost = |found: &Uid| self.plan.detach.contains(&(at.clone(), *found));
        let there = self.ours.entries.get(&at).copied();
        let there = there.filter(|found| !lost(found));
        let known = self.here(uid);
        if there.is_some() && there == known {
            return;
        }
        let is_new = !self.base.has(uid);
        if !is_new && known.is_none() {
            return self.conflict("renamed and removed", uid);
        }
        if is_new && !self.ours.has(uid) && there.is_some() {
            self.plan.unsure |= self.theirs.names(uid).len() > 1;
        }
        if let Some(found) = there {
            if is_new && known.is_none() && self.is_alike(uid, found) {
                self.stand_ins.insert(uid, found);
                return;
            }
            let paths = self.theirs.paths[&uid].clone();
            self.plan.conflicts.push(Found { why: "name", paths });
            self.refused.extend(known);
            return;
        }
        let what = known.unwrap_or(uid);
        if known.is_none() {
            self.stand_ins.insert(uid, uid);
            self.plan.made.push(uid);
        } else if self.theirs.kind(uid) == Kind::Dir {
            self.moved.insert(what);
        }
        self.plan.attach.push((at, what));
    }

    /// Whether what theirs made and what ours made for one name become one.
    fn is_alike(&self, theirs: Uid, ours: Uid) -> bool {
        if self.base.has(ours) {
            return false;
        }
        let (there, here) = (self.theirs.node(theirs), self.ours.node(ours));
        match (&there.body, &here.body) {
            (Body::Dir(_), Body::Dir(_)) => true,
            (Body::Symlink(one), Body::Symlink(two)) => one == two,
            (Body::File(one), Body::File(two)) => one.bytes == two.bytes && there.mode == here.mode,
            _ => false,
        }
    }

    /// Objects that both sides took from a name and gave different ones.
    fn find_renamed(&mut self) {
        let all: Vec<Uid> = self.base.at.keys().copied().collect();
        for uid in all {
            let [was, here, there] =
                [&self.base, &self.ours, &self.theirs].map(|side| side.names(uid));
            let both_took = was
                .iter()
                .any(|name| !here.contains(name) && !there.contains(name));
            let came_here = here.difference(&was).next().is_some();
            let came: Vec<Entry> = there.difference(&was).cloned().collect();
            let agreed = came.iter().any(|(dir, name)| {
                let dir = self.here(*dir).unwrap_or(*dir);
                here.contains(&(dir, name.clone()))
            });
            if both_took && came_here && !came.is_empty() && !agreed {
                self.conflict("renamed twice", uid);
                self.refused.insert(uid);
            }
        }
    }

    /// What is left in the end: no directory with two names, none in itself,
    /// none without a name that has something in it.
    fn look_at_ends(&mut self) {
        let mut entries = self.ours.entries.clone();
        for (entry, _) in &self.plan.detach {
            entries.remove(entry);
        }
        entries.extend(self.plan.attach.iter().cloned());
        let mut above: HashMap<Uid, Vec<Uid>> = HashMap::new();
        for ((dir, _), uid) in &entries {
            above.entry(*uid).or_default().push(*dir);
        }
        let full: HashSet<Uid> = entries.keys().map(|(dir, _)| *dir).collect();
        for dir in self.ours.dirs.clone().into_iter().skip(1) {
            let names = above.get(&dir).map_or(0, Vec::len);
            let left = names == 0 && full.contains(&dir) && !self.refused.contains(&dir);
            if names > 1 || left {
                self.conflict("directory with two names, or full and without one", dir);
            }
        }
        for dir in self.moved.clone() {
            let mut passed = HashSet::new();
            let mut at = dir;
            while let Some([up]) = above.get(&at).map(Vec::as_slice)
                && passed.insert(*up)
            {
                at = *up;
            }
            if passed.contains(&dir) {
                self.conflict("directory in itself", dir);
            }
        }
    }
}

/// The bytes of a file that both sides changed, block by block; `None` if they
/// changed the same bytes of a block, or the size, in different ways.
fn merge_bytes(was: &[u8], here: &[u8], there: &[u8]) -> Option<Vec<u8>> {
    let sizes = (was.len(), here.len(), there.len());
    if sizes.0 != sizes.1 && sizes.0 != sizes.2 && sizes.1 != sizes.2 {
        return None;
    }
    let size = if sizes.2 == sizes.0 { sizes.1 } else { sizes.2 };
    let mut bytes = here.to_vec();
    bytes.resize(size, 0);
    for start in (0..sizes.0.max(sizes.1).max(sizes.2)).step_by(BLOCK_BYTES) {
        let (one, two) = (changed(was, here, start), changed(was, there, start));
        let both = one.start.max(two.start)..one.end.min(two.end);
        if !both.is_empty() && part(here, &both) != part(there, &both) {
            return None;
        }
        let new = part(there, &(two.start..two.end.min(size)));
        bytes[two.start.min(size)..][..new.len()].copy_from_slice(new);
    }
    Some(bytes)
}

/// Where a side changed the block at `start`: all of it if bytes differ that it
/// had before and still has, else those that came or went with its size.
fn changed(was: &[u8], is: &[u8], start: usize) -> Range<usize> {
    let block = start..start + BLOCK_BYTES;
    let (short, long) = (was.len().min(is.len()), was.len().max(is.len()));
    let kept = start..block.end.min(short).max(start);
    if part(was, &kept) != part(is, &kept) {
        return start..block.end.min(long);
    }
    kept.end..block.end.min(long).max(kept.end)
}

/// The bytes of a range, as far as there are any.
fn part<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    let from = bytes.get(range.start..).unwrap_or_default();
    &from[..from.len().min(range.len())]
}

impl Plan {
    /// Carries it out on a copy of ours.
    pub fn carry_out(self, ours: &Model, theirs: &Model) -> Merged {
        let mut at = Side::of(ours).at;
        let there = Side::of(theirs);
        let mut model = ours.clone();
        let mut mixed = Vec::new();
        for (uid, new) in self.bytes {
            let (Body::File(file), NewBytes::Theirs(new) | NewBytes::Both(new)) =
                (&mut model.nodes[at[&uid]].body, &new)
            else {
                continue;
            };
            model.usage.logical_bytes -= file.cost;
            model.usage.logical_bytes += new.cost;
            if new.is_mixed() {
                mixed.push(at[&uid]);
            }
            *file = new.clone();
        }
        for (uid, time) in self.times {
            model.nodes[at[&uid]].times[1] = time;
        }
        for uid in self.made {
            let id = model.make_like(there.node(uid));
            at.insert(uid, id);
        }
        let changed = self.detach.iter().chain(&self.attach);
        let changed: BTreeSet<Id> = changed.map(|(_, uid)| at[uid]).collect();
        let links = |model: &Model| -> i64 {
            let all = changed.iter().map(|id| &model.nodes[*id]);
            let files = all.filter(|node| !matches!(node.body, Body::Dir(_)));
            files.map(|node| i64::from(node.nlink.max(1))).sum()
        };
        let had = links(&model);
        for ((dir, name), uid) in &self.detach {
            model.detach(at[dir], name);
            model.count_name(at[uid], -1);
        }
        for ((dir, name), uid) in &self.attach {
            model.attach(at[dir], name, at[uid]);
            model.count_name(at[uid], 1);
            if let Body::Dir(moved) = &mut model.nodes[at[uid]].body {
                moved.parent = at[dir];
            }
        }
        model.usage.links += links(&model) - had;
        let named = Side::of(&model).at;
        for id in changed {
            if !named.contains_key(&model.nodes[id].uid) {
                model.nodes[id].nlink = 0;
                model.forget_if_gone(id);
            }
        }
        Merged { model, mixed }
    }
}

impl Model {
    /// Makes an object like one of another tree, without a name yet.
    fn make_like(&mut self, node: &Node) -> Id {
        let body = match &node.body {
            Body::Dir(_) => Body::empty_dir(TOP),
            other => other.clone(),
        };
        let (times, is_dir) = (node.times, matches!(body, Body::Dir(_)));
        self.usage.inodes += 1;
        self.usage.logical_bytes += match &body {
            Body::File(file) => file.cost,
            Body::Symlink(target) => target.len() as u64,
            Body::Dir(_) => 0,
        };
        self.nodes.push(Node {
            own: true,
            moved: false,
            nlink: if is_dir { 2 } else { 0 },
            times,
            ..Node::new(body, node.mode)
        });
        self.nodes.len() - 1
    }

    fn count_name(&mut self, id: Id, by: i32) {
        let node = &mut self.nodes[id];
        if !matches!(node.body, Body::Dir(_)) {
            node.nlink = node.nlink.saturating_add_signed(by);
        }
    }
}
