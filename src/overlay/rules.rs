//! Rules that a host makes for objects of an instance: what guests may do
//! with them, whatever the name or descriptor by which they reach them.
//!
//! A rule is on an object and all below it, and the nearest above an object
//! holds. For a directory that is found by walking up. A file may have names
//! in several directories and descriptors that know none, so files whose rule
//! cannot be derived from the path they were opened by are marked when a rule is
//! made: those of several names, and those that are open. All others can be
//! reached later only by a walk, which passes their one directory.
//!
//! No guest can move a directory that a rule is on or below. So which ones
//! these are is found out when a rule is made, and asked in one look-up.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::Overlay;
use super::maps::IdHasher;
use crate::errno::Errno;
use crate::limits::MAX_RULES;
use crate::meta::{FileId, Kind};

/// What a guest may do with an object and all below it. Each allows less than
/// the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// Everything: an exception below another rule, or the end of one.
    Free,
    /// Nothing that is there changes: files grow at their end, and directories
    /// get new entries. As `chattr +a`.
    AppendOnly,
    /// No change.
    ReadOnly,
    /// Not to be seen: no such entry.
    Hidden,
}

/// All rules of an instance.
#[derive(Clone, Default)]
pub(crate) struct Rules {
    /// In the order in which they were made. Few.
    tops: Vec<RuleRoot>,
    /// The rule of each top, and of each file that was marked.
    marks: Marks,
    /// What a rule is for, and all directories above such: they stay in place.
    above: HashSet<FileId, BuildHasherDefault<IdHasher>>,
}

type Marks = HashMap<FileId, Rule, BuildHasherDefault<IdHasher>>;

/// An object that a host made a rule for.
#[derive(Clone)]
struct RuleRoot {
    id: FileId,
    /// The branch that made it: with its number, its identity.
    birth: u64,
    rule: Rule,
}

impl Rules {
    /// Returns whether `id` is as if it were not there.
    pub(crate) fn hides(&self, id: FileId) -> bool {
        self.marks.get(&id) == Some(&Rule::Hidden)
    }

    /// The rule of a file whatever the name it was opened by, if it has one.
    pub(crate) fn mark(&self, id: FileId) -> Option<Rule> {
        self.marks.get(&id).copied()
    }
}

impl Overlay {
    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.rules.as_deref()
    }

    /// Makes a rule for `id` in place of the one it has. O(entries below all
    /// rules).
    ///
    /// # Errors
    ///
    /// [`Errno::BadDescriptor`] for what is gone, [`Errno::NoSpace`] past
    /// [`MAX_RULES`].
    pub(crate) fn set_rule(&mut self, id: FileId, rule: Rule) -> Result<(), Errno> {
        let birth = self.birth(id).ok_or(Errno::BadDescriptor)?;
        let mut tops = self
            .rules
            .as_ref()
            .map_or_else(Vec::new, |all| all.tops.clone());
        tops.retain(|top| top.id != id);
        if tops.len() >= MAX_RULES {
            return Err(Errno::NoSpace);
        }
        tops.push(RuleRoot { id, birth, rule });
        self.hold_rules(tops);
        self.check_undamaged()
    }

    /// Marks anew, after the tree changed in a way that no guest can: another
    /// state was taken over. O(entries below all rules).
    pub(crate) fn renew_rules(&mut self) {
        if let Some(rules) = self.rules.take() {
            self.hold_rules(rules.tops.clone());
        }
    }

    /// [`Errno::Busy`] if `state` lacks an object that a rule here is for.
    pub(crate) fn check_rules(&self, state: &Self) -> Result<(), Errno> {
        let tops = self.rules.iter().flat_map(|rules| &rules.tops);
        for top in tops {
            let birth = Some(top.birth);
            if self.birth(top.id) == birth && state.birth(top.id) != birth {
                return Err(Errno::Busy);
            }
        }
        Ok(())
    }

    fn hold_rules(&mut self, mut tops: Vec<RuleRoot>) {
        // What a host itself removed takes its rule along.
        tops.retain(|top| self.birth(top.id) == Some(top.birth));
        let mut rules = Rules {
            marks: tops.iter().map(|top| (top.id, top.rule)).collect(),
            above: self.above_all(&tops),
            tops,
        };
        // Those that are below no other: what is below them is walked once.
        let mut outermost = Vec::new();
        for top in &rules.tops {
            if self.kind(top.id) == Kind::Dir && !self.is_below_a_top(top.id, &rules.marks) {
                outermost.push((top.id, top.rule));
            }
        }
        for (id, rule) in self.marked_below(outermost, &rules.marks) {
            // A rule on the file itself is nearer than any of a directory.
            rules.marks.entry(id).or_insert(rule);
        }
        self.rules = Some(Arc::new(rules));
    }

    /// The tops and all directories above them. O(what it returns and `tops`).
    fn above_all(&self, tops: &[RuleRoot]) -> HashSet<FileId, BuildHasherDefault<IdHasher>> {
        let mut all = HashSet::default();
        for top in tops {
            all.insert(top.id);
            let dirs = match self.kind(top.id) {
                Kind::Dir if top.id == FileId::ROOT => Vec::new(),
                Kind::Dir => vec![self.parent(top.id)],
                Kind::File | Kind::Symlink => self.dirs_of(top.id),
            };
            for mut at in dirs {
                // The root is above all and never moves.
                while at != FileId::ROOT && all.insert(at) {
                    at = self.parent(at);
                }
            }
        }
        all
    }

    /// Returns whether a directory above `id` has a mark. O(depth).
    fn is_below_a_top(&self, id: FileId, marks: &Marks) -> bool {
        let mut at = id;
        loop {
            let up = self.parent(at);
            if up == at {
                return false;
            }
            if marks.contains_key(&up) {
                return true;
            }
            at = up;
        }
    }

    /// Returns the files below `tops` that have further names or are open, with
    /// the strictest rule among their directories'. O(entries below `tops`).
    fn marked_below(&self, tops: Vec<(FileId, Rule)>, own: &Marks) -> Marks {
        let mut marks = Marks::default();
        let mut todo = tops;
        while let Some((dir, rule)) = todo.pop() {
            self.list(dir, 0, u64::MAX, &mut |_, id, kind, _| {
                if kind == Kind::Dir {
                    todo.push((id, nearer(rule, own.get(&id))));
                } else if self.is_open(id) || self.stat(id).is_ok_and(|stat| stat.nlink > 1) {
                    let mark = marks.entry(id).or_insert(rule);
                    *mark = rule.max(*mark);
                }
                ControlFlow::Continue(())
            });
        }
        marks
    }

    /// Notes that an object was moved, or got or lost a name: only a host does
    /// that with what a rule is on or below.
    pub(super) fn moved_rules(&mut self, id: FileId) {
        if let Some(mut rules) = self.rules.take() {
            if rules.above.contains(&id) {
                let above = self.above_all(&rules.tops);
                Arc::make_mut(&mut rules).above = above;
            }
            self.rules = Some(rules);
        }
    }

    /// The rule that holds for a directory and for new entries in it: the
    /// nearest, but nothing shows below what is hidden. O(depth).
    pub(crate) fn rule_of_dir(&self, dir: FileId) -> Rule {
        let Some(rules) = &self.rules else {
            return Rule::Free;
        };
        let mut nearest = None;
        let mut at = dir;
        loop {
            match rules.marks.get(&at) {
                Some(Rule::Hidden) => return Rule::Hidden,
                other => nearest = nearest.or(other.copied()),
            }
            let up = self.parent(at);
            if up == at {
                return nearest.unwrap_or(Rule::Free);
            }
            at = up;
        }
    }

    /// The rule that holds for what a name in `dir` stands for. O(depth).
    pub(crate) fn rule_of(&self, dir: FileId, id: FileId) -> Rule {
        let Some(rules) = &self.rules else {
            return Rule::Free;
        };
        let above = self.rule_of_dir(dir);
        match rules.mark(id) {
            Some(own) if above != Rule::Hidden => own,
            Some(_) | None => above,
        }
    }

    /// Returns whether a rule is for `id` or for something below it, so that
    /// moving it would move what the rule is for. O(1).
    pub(crate) fn has_rule_within(&self, id: FileId) -> bool {
        self.rules
            .as_ref()
            .is_some_and(|rules| rules.above.contains(&id))
    }
}

/// The rule of a directory that has `own`, below one under `above`: nothing
/// shows below what is hidden.
fn nearer(above: Rule, own: Option<&Rule>) -> Rule {
    match (above, own) {
        (Rule::Hidden, _) => Rule::Hidden,
        (_, Some(own)) => *own,
        (above, None) => above,
    }
}
