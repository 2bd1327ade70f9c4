//! A reference model of several file systems that are mounted in each other,
//! under rules: plain trees, and one walk by name.
//!
//! Only what `reference` has none of is here: no descriptors, blocks or quotas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stratafs::errno::Errno;
use stratafs::limits::MAX_SYMLINKS;
use stratafs::meta::Kind;
use stratafs::vfs::Rule;

use super::reference::refuse;

/// An object's number in all trees of a world, never given again.
pub type Uid = usize;

#[derive(Clone)]
pub enum Body {
    Dir(BTreeMap<String, Uid>),
    File(Vec<u8>),
    Link(String),
}

/// One file system.
#[derive(Clone)]
pub struct Tree {
    pub top: Uid,
    pub nodes: BTreeMap<Uid, Body>,
    /// The rule of an object, and the directory of the name that it was made
    /// by. Absent until the first rule is made.
    pub rules: Option<BTreeMap<Uid, (Rule, Uid)>>,
    /// Rules of files that have further names, from when rules were last made.
    pub marks: BTreeMap<Uid, Rule>,
    /// What is mounted: the tree, the directory, and whether only for reading.
    pub mounts: BTreeMap<Uid, (usize, Uid, bool)>,
    /// Directories that stay: mounted on, or mounted elsewhere.
    pub pinned: BTreeSet<Uid>,
}

/// Where a walk is.
#[derive(Clone, Copy)]
pub struct At {
    pub tree: usize,
    pub dir: Uid,
    pub read_only: bool,
}

pub enum End {
    Dir(Uid),
    Entry {
        dir: Uid,
        name: String,
        found: Option<Uid>,
        slash: bool,
    },
}

/// How the last name is walked, as the library's operations do it.
#[derive(Clone, Copy, PartialEq)]
pub enum Last {
    Follow,
    NoFollow,
    Create,
    Keep,
}

/// A walk that ended: where it stood, whether it crossed, what it found.
pub struct Walked {
    pub at: At,
    pub crossed: bool,
    pub end: Result<End, Errno>,
}

impl Tree {
    pub fn new(top: Uid) -> Self {
        Self {
            top,
            nodes: BTreeMap::from([(top, Body::Dir(BTreeMap::new()))]),
            rules: None,
            marks: BTreeMap::new(),
            mounts: BTreeMap::new(),
            pinned: BTreeSet::new(),
        }
    }

    pub fn entries(&self, dir: Uid) -> &BTreeMap<String, Uid> {
        match &self.nodes[&dir] {
            Body::Dir(entries) => entries,
            _ => panic!("a directory"),
        }
    }

    pub fn entries_mut(&mut self, dir: Uid) -> &mut BTreeMap<String, Uid> {
        match self.nodes.get_mut(&dir) {
            Some(Body::Dir(entries)) => entries,
            _ => panic!("a directory"),
        }
    }

    pub fn kind(&self, id: Uid) -> Kind {
        match self.nodes[&id] {
            Body::Dir(_) => Kind::Dir,
            Body::File(_) => Kind::File,
            Body::Link(_) => Kind::Symlink,
        }
    }

    /// All names that lead to `id`, each with its directory.
    pub fn names(&self, id: Uid) -> Vec<(Uid, String)> {
        let mut all = Vec::new();
        for (dir, body) in &self.nodes {
            if let Body::Dir(entries) = body {
                let here = entries.iter().filter(|(_, to)| **to == id);
                all.extend(here.map(|(name, _)| (*dir, name.clone())));
            }
        }
        all
    }

    pub fn nlink(&self, id: Uid) -> usize {
        match &self.nodes[&id] {
            Body::Dir(entries) => {
                let dirs = entries.values().filter(|id| self.kind(**id) == Kind::Dir);
                2 + dirs.count()
            }
            _ => self.names(id).len(),
        }
    }

    /// `dir` and the directories above it, the root last.
    pub fn above(&self, dir: Uid) -> Vec<Uid> {
        let mut all = vec![dir];
        while let Some((up, _)) = self.names(all[all.len() - 1]).pop() {
            all.push(up);
        }
        all
    }

    /// The path of an object by one of its names.
    pub fn path(&self, id: Uid) -> String {
        let mut names = Vec::new();
        let mut at = id;
        while let Some((up, name)) = self.names(at).pop() {
            names.push(name);
            at = up;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }

    fn own_rule(&self, id: Uid) -> Option<Rule> {
        Some(self.rules.as_ref()?.get(&id)?.0)
    }

    fn mark(&self, id: Uid) -> Option<Rule> {
        self.own_rule(id).or(self.marks.get(&id).copied())
    }

    pub fn hides(&self, id: Uid) -> bool {
        self.mark(id) == Some(Rule::Hidden)
    }

    /// The nearest rule above a directory; what is hidden hides all below.
    pub fn rule_of_dir(&self, dir: Uid) -> Rule {
        let rules = self
            .above(dir)
            .into_iter()
            .filter_map(|at| self.own_rule(at));
        let rules: Vec<Rule> = rules.collect();
        match rules.contains(&Rule::Hidden) {
            true => Rule::Hidden,
            false => rules.first().copied().unwrap_or(Rule::Free),
        }
    }

    pub fn rule_of(&self, dir: Uid, id: Uid) -> Rule {
        match (self.rule_of_dir(dir), self.mark(id)) {
            (Rule::Hidden, _) | (_, None) => self.rule_of_dir(dir),
            (_, Some(own)) => own,
        }
    }

    pub fn set_rule(&mut self, dir: Uid, id: Uid, rule: Rule) {
        self.rules.get_or_insert_default().insert(id, (rule, dir));
        self.mark_files();
    }

    /// Marks files of several names with the strictest rule among those of
    /// their directories that lie below a rule.
    pub fn mark_files(&mut self) {
        let Some(rules) = &mut self.rules else {
            return;
        };
        rules.retain(|id, _| self.nodes.contains_key(id));
        let rules = rules.clone();
        let mut marks: BTreeMap<Uid, Rule> = BTreeMap::new();
        for (dir, body) in &self.nodes {
            let Body::Dir(entries) = body else { continue };
            if !self.above(*dir).iter().any(|at| rules.contains_key(at)) {
                continue;
            }
            for id in entries.values() {
                if self.kind(*id) != Kind::Dir && self.nlink(*id) > 1 {
                    let mark = marks.entry(*id).or_insert(Rule::Free);
                    *mark = self.rule_of_dir(*dir).max(*mark);
                }
            }
        }
        self.marks = marks;
    }

    /// Refuses to take a name out of `dir`.
    pub fn allow_departure(&self, dir: Uid, id: Uid) -> Result<(), Errno> {
        let Some(rules) = &self.rules else {
            return Ok(());
        };
        let free = self.rule_of_dir(dir) == Rule::Free && self.rule_of(dir, id) == Rule::Free;
        let holds = rules
            .iter()
            .any(|(top, (_, dir))| *top == id || self.above(*dir).contains(&id));
        refuse(!free || holds, Errno::NotPermitted)
    }

    pub fn allow_new(&self, dir: Uid, name: &str) -> Result<(), Errno> {
        let open = matches!(self.rule_of_dir(dir), Rule::Free | Rule::AppendOnly);
        let taken = self.entries(dir).contains_key(name);
        refuse(
            self.rules.is_some() && (!open || taken),
            Errno::NotPermitted,
        )
    }

    pub fn allow_arrival(&self, dir: Uid, name: &str, found: Option<Uid>) -> Result<(), Errno> {
        if let Some(id) = found {
            return self.allow_departure(dir, id);
        }
        let free = self.rule_of_dir(dir) == Rule::Free;
        refuse(self.rules.is_some() && !free, Errno::NotPermitted)?;
        self.allow_new(dir, name)
    }

    /// Takes a name out, and what has no other.
    pub fn take(&mut self, dir: Uid, name: &str) {
        if let Some(id) = self.entries_mut(dir).remove(name)
            && self.names(id).is_empty()
        {
            self.nodes.remove(&id);
        }
    }
}

/// Walks for a guest from the root of `trees[0]`.
pub fn walk(trees: &[Tree], read_only: bool, path: &str, last: Last) -> Walked {
    let first = At {
        tree: 0,
        dir: trees[0].top,
        read_only,
    };
    let mut stack = vec![first];
    let mut crossed = false;
    let end = steps(trees, &mut stack, &mut crossed, path, last);
    Walked {
        at: stack[stack.len() - 1],
        crossed,
        end,
    }
}

fn steps(
    trees: &[Tree],
    stack: &mut Vec<At>,
    crossed: &mut bool,
    path: &str,
    last: Last,
) -> Result<End, Errno> {
    refuse(path.is_empty(), Errno::NoEntry)?;
    refuse(path.starts_with('/'), Errno::NotPermitted)?;
    refuse(
        trees[0].rule_of_dir(trees[0].top) == Rule::Hidden,
        Errno::NoEntry,
    )?;
    let split = |path: &str| -> VecDeque<String> {
        let names = path.split('/').filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    };
    let (mut names, mut slash, mut links) = (split(path), path.ends_with('/'), 0);
    while let Some(name) = names.pop_front() {
        let at = stack[stack.len() - 1];
        let tree = &trees[at.tree];
        if name == "." {
            continue;
        }
        if name == ".." {
            refuse(stack.len() == 1, Errno::NotPermitted)?;
            stack.pop();
            continue;
        }
        let is_last = names.is_empty();
        refuse(last == Last::Create && is_last && slash, Errno::IsDirectory)?;
        let found = tree.entries(at.dir).get(&name).copied();
        let found = found.filter(|id| !tree.hides(*id));
        let follow = match last {
            _ if !is_last => true,
            Last::Follow | Last::Create => true,
            Last::NoFollow => slash,
            Last::Keep => false,
        };
        match found.map(|id| (id, &tree.nodes[&id])) {
            Some((_, Body::Link(target))) if follow => {
                links += 1;
                refuse(links > MAX_SYMLINKS, Errno::Loop)?;
                if target.starts_with('/') {
                    stack.truncate(1);
                }
                slash |= is_last && target.ends_with('/');
                let mut rest = std::mem::replace(&mut names, split(target));
                names.append(&mut rest);
            }
            Some((id, Body::Dir(_))) if !is_last || last != Last::Keep => {
                if let Some((other, dir, read_only)) = tree.mounts.get(&id) {
                    *crossed = true;
                    stack.push(At {
                        tree: *other,
                        dir: *dir,
                        read_only: at.read_only || *read_only,
                    });
                    let hidden = trees[*other].rule_of_dir(*dir) == Rule::Hidden;
                    refuse(hidden, Errno::NoEntry)?;
                } else if is_last {
                    return Ok(entry(at.dir, name, found, slash));
                } else {
                    stack.push(At { dir: id, ..at });
                }
            }
            _ if is_last => return Ok(entry(at.dir, name, found, slash)),
            Some(_) => return Err(Errno::NotDirectory),
            None => return Err(Errno::NoEntry),
        }
    }
    Ok(End::Dir(stack[stack.len() - 1].dir))
}

fn entry(dir: Uid, name: String, found: Option<Uid>, slash: bool) -> End {
    End::Entry {
        dir,
        name,
        found,
        slash,
    }
}
