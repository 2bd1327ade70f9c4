//! Planning names: which entries go and which come.
//!
//! All names that theirs lost go first, and then all that it gained come, so
//! that nothing stands in the way of a swap. Between the two an object may have
//! no name; what has none in the end is gone.
//!
//! Nothing is changed here. What a name leads to when its turn comes is what
//! this state has, less what is to be detached: no two names that come fall
//! together, since each stands for one name of one directory of theirs, and
//! two of their directories never become one.

use std::collections::{BTreeMap, BTreeSet};

use super::super::delta::{DirEntryKey, ObjectKey};
use super::super::dir::FoundEntry;
use super::super::inode::Body;
use super::super::steps;
use super::Conflict;
use super::plan::{Attach, PlannedObject, Planner};
use crate::errno::Errno;
use crate::limits::MAX_LINKS;
use crate::meta::{FileId, Kind};
use crate::name::Name;

/// A name that an object of theirs has gained.
struct GainedName {
    key: ObjectKey,
    entry: DirEntryKey,
    /// Whether it has lost another.
    moved: bool,
}

/// Objects that both sides moved away from a name, each as a key, and whether
/// both gave one of them the same name.
type BothMoved = BTreeMap<ObjectKey, bool>;

impl Planner<'_, '_> {
    /// Plans which names go and which come, and notes all conflicts about names.
    ///
    /// Runs after [`Self::plan_objects`], which has noted a conflict for each object that
    /// theirs removed and this side changed: nothing here asks that again.
    ///
    /// The order is that of the head of this file, and each step needs the one before it:
    /// `detached` has to be complete before `stays_at` may say what is in the way of a
    /// name; a directory that theirs made has to be known (`stand_ins`) before a name in
    /// it can come; loops and the ends of objects show only in the complete plan.
    pub(super) fn plan_names(&mut self) -> Result<(), Errno> {
        let mut both_moved = BothMoved::new();
        let there = std::mem::take(&mut self.merger.there.names);
        for (key, names) in &there {
            let moved = !names.gained.is_empty();
            for entry in names.gone() {
                if !self.lose(*key, entry)? && moved && self.ours.is_alive(*key) {
                    both_moved.insert(*key, false);
                }
            }
        }
        let gains = there.iter().flat_map(|(key, names)| {
            let moved = !names.lost.is_empty();
            names.came().map(move |entry| GainedName {
                key: *key,
                entry: entry.clone(),
                moved,
            })
        });
        let gains: Vec<GainedName> = gains.collect();
        self.merger.there.names = there;
        self.gain_all(gains, &mut both_moved)?;
        // Both took it from the old name. Unless both gave it one and the same new name,
        // nobody can say which of the two is meant.
        for (key, agreed) in both_moved {
            if !agreed && self.moved_here(key) {
                self.conflicts.of(key.0, |path| Conflict::Renamed { path });
                self.refused.insert(PlannedObject::Here(key.0));
            }
        }
        self.check_loops();
        self.check_ends()
    }

    /// Returns whether this side gave an object of the common state a name that
    /// it had not there.
    fn moved_here(&self, key: ObjectKey) -> bool {
        let base = self.merger.base;
        let Some(here) = self.ours.living(key.0) else {
            return false;
        };
        here.given.iter().any(|(dir, name)| {
            let same_dir = base.birth(*dir) == self.ours.birth(*dir);
            let was = base.find(*dir, name.as_bytes());
            !same_dir || was.is_none_or(|was| was.id != key.0)
        })
    }

    /// Plans to take away a name that theirs has lost. Returns whether it is
    /// still here, so that false means that this side took it away as well, or gave
    /// it to something else, which stays.
    ///
    /// Numbers alone do not say that: a directory that went and one that was made since
    /// may share a number, so objects are compared with the branch that made them
    /// (`birth`, 0 for what the base has).
    fn lose(&mut self, key: ObjectKey, (dir, name): &DirEntryKey) -> Result<bool, Errno> {
        let dir_key = (*dir, self.merger.base.birth(*dir).unwrap_or(0));
        let here = self.ours.is_alive(dir_key);
        let found = here
            .then(|| self.ours.find(*dir, name.as_bytes()))
            .flatten();
        let is_it =
            |found: &FoundEntry| found.id == key.0 && self.ours.birth(found.id) == Some(key.1);
        if !found.as_ref().is_some_and(is_it) {
            return Ok(false);
        }
        if self.ours.check_pin(key.0).is_err() {
            self.conflicts.of(key.0, |path| Conflict::Busy { path });
            self.refused.insert(PlannedObject::Here(key.0));
            return Ok(true);
        }
        let entry = (*dir, name.clone());
        self.plan.detach.push((entry.clone(), key.0));
        self.detached.insert(entry);
        self.counts
            .entry(PlannedObject::Here(key.0))
            .or_default()
            .lost += 1;
        Ok(true)
    }

    /// Plans all names that theirs has gained, each after the name of the
    /// directory that it is in, if theirs made that. O(n log n): a name waits
    /// for its directory in a list of its own, and is looked at once.
    fn gain_all(
        &mut self,
        gains: Vec<GainedName>,
        both_moved: &mut BothMoved,
    ) -> Result<(), Errno> {
        let mut waiting: BTreeMap<FileId, Vec<GainedName>> = BTreeMap::new();
        let mut todo: Vec<GainedName> = Vec::new();
        for gain in gains {
            let dir = gain.entry.0;
            if self.dir_here(dir).is_some() {
                todo.push(gain);
            } else if self.merger.base.living(dir).is_some() {
                // It was there in the common state and is not here any more.
                self.conflicts.of(dir, |path| Conflict::Removed { path });
            } else {
                waiting.entry(dir).or_default().push(gain);
            }
        }
        todo.reverse();
        while let Some(gain) = todo.pop() {
            steps::add(1);
            let made = gain.key.0;
            self.gain(gain, both_moved)?;
            if self.dir_here(made).is_some()
                && let Some(freed) = waiting.remove(&made)
            {
                todo.extend(freed);
            }
        }
        // What waits still is in a directory that a conflict was noted of.
        Ok(())
    }

    /// What is here, by now, for a directory of theirs.
    fn dir_here(&self, dir: FileId) -> Option<PlannedObject> {
        self.here((dir, self.merger.theirs.birth(dir)?))
    }

    /// What a name is going to lead to before anything of theirs comes.
    fn stays_at(&self, dir: PlannedObject, name: &Name) -> Option<FoundEntry> {
        let PlannedObject::Here(dir) = dir else {
            return None;
        };
        let found = self.ours.find(dir, name.as_bytes())?;
        let goes = self.detached.contains(&(dir, name.clone()));
        (!goes).then_some(found)
    }

    /// Plans to give an object of theirs a name that it has there. In this order:
    ///
    /// 1. The name leads to this very object here already: nothing is to be done.
    /// 2. The object was there in the common state and is gone here: a conflict.
    /// 3. Another object has the name here and keeps it: if both sides made equal ones,
    ///    ours stands for both; otherwise a conflict.
    /// 4. It is a directory that would get a second name: see below.
    /// 5. It gets the name, and is made first if it is new.
    ///
    /// Precondition: `lose` has run for all names that theirs lost.
    fn gain(&mut self, gain: GainedName, both_moved: &mut BothMoved) -> Result<(), Errno> {
        let (key, (dir, name)) = (gain.key, &gain.entry);
        let Some(dir) = self.dir_here(*dir) else {
            return Ok(());
        };
        let there = self.stays_at(dir, name);
        let known = self.here(key);
        if let (Some(found), Some(PlannedObject::Here(id))) = (there, known)
            && found.id == id
        {
            // Both gave it this name, or it never went.
            both_moved.entry(key).and_modify(|agreed| *agreed = true);
            return Ok(());
        }
        let was_in_base = self.was_in_base(key);
        if was_in_base && known.is_none() {
            self.conflicts.of(key.0, |path| Conflict::Removed { path });
            return Ok(());
        }
        if let Some(found) = there {
            if !was_in_base && known.is_none() && self.made_alike(key, found)? {
                return Ok(());
            }
            self.conflicts
                .of_entry(&gain.entry, |path| Conflict::Name { path });
            self.refused.extend(known);
            return Ok(());
        }
        let kind = self.merger.theirs.kind(key.0);
        if let (Kind::Dir, Some(target)) = (kind, known) {
            // A directory has one name. If that is not to be taken away, then
            // this side moved it as well, or it is pinned: both were noted. Or
            // else it was made after the common state, and this side has it by
            // another name.
            let lost = self.counts.get(&target).map_or(0, |count| count.lost);
            if lost == 0 {
                if !gain.moved {
                    self.conflicts.of(key.0, |path| Conflict::Renamed { path });
                }
                return Ok(());
            }
        }
        let what = known.unwrap_or_else(|| self.make(key));
        self.counts.entry(what).or_default().gained += 1;
        self.plan.attach.push(Attach {
            what,
            kind,
            dir,
            name: name.clone(),
        });
        Ok(())
    }

    /// Plans to make an object of theirs here.
    fn make(&mut self, key: ObjectKey) -> PlannedObject {
        let target = PlannedObject::Made(self.plan.made.len());
        self.plan.made.push(key);
        self.stand_ins.insert(key, target);
        target
    }

    /// Both sides gave one name. Returns whether both made an object for it and
    /// the two are alike: two directories, whose entries are merged then, or
    /// equal files or links. Ours stands for both then.
    fn made_alike(&mut self, key: ObjectKey, found: FoundEntry) -> Result<bool, Errno> {
        let Some(birth) = self.ours.birth(found.id) else {
            return Ok(false);
        };
        if self.was_in_base((found.id, birth)) {
            return Ok(false);
        }
        let (theirs, ours) = (self.merger.theirs.living(key.0), self.ours.living(found.id));
        let (Some(theirs), Some(ours)) = (theirs, ours) else {
            return Ok(false);
        };
        let alike = match (&theirs.body, &ours.body) {
            (Body::Dir(_), Body::Dir(_)) => true,
            (Body::Symlink(one), Body::Symlink(two)) => one == two,
            (Body::File(_), Body::File(_)) => self.is_equal_file(&theirs, &ours)?,
            (Body::Dir(_) | Body::Symlink(_) | Body::File(_), _) => false,
        };
        if alike {
            self.stand_ins.insert(key, PlannedObject::Here(found.id));
        }
        Ok(alike)
    }

    /// Looks for directories that would lie in themselves: only those that are
    /// moved can. O(n log n) in the directories moved and those above them, each
    /// of which is passed once.
    fn check_loops(&mut self) {
        let dirs = self.plan.attach.iter().filter(|one| one.kind == Kind::Dir);
        let parents: BTreeMap<PlannedObject, PlannedObject> =
            dirs.map(|one| (one.what, one.dir)).collect();
        let above = |at: PlannedObject| match (parents.get(&at), at) {
            (Some(dir), _) => Some(*dir),
            (None, PlannedObject::Here(FileId::ROOT) | PlannedObject::Made(_)) => None,
            (None, PlannedObject::Here(id)) => Some(PlannedObject::Here(self.ours.parent(id))),
        };
        let mut passed: BTreeMap<PlannedObject, usize> = BTreeMap::new();
        let mut looped = BTreeSet::new();
        for (walk, start) in parents.keys().enumerate() {
            let mut next = Some(*start);
            while let Some(at) = next.filter(|at| !passed.contains_key(at)) {
                steps::add(1);
                passed.insert(at, walk);
                next = above(at);
            }
            // Met again on the same way up: all from there up to there is a loop.
            let Some(first) = next.filter(|at| passed.get(at) == Some(&walk)) else {
                continue;
            };
            let mut at = first;
            loop {
                if let (PlannedObject::Here(id), true) = (at, parents.contains_key(&at)) {
                    looped.insert(id);
                }
                match above(at).filter(|up| *up != first) {
                    Some(up) => at = up,
                    None => break,
                }
            }
        }
        for id in looped {
            self.conflicts.of(id, |path| Conflict::Loop { path });
        }
    }

    /// Holds what is left of each object against what it may be: files that
    /// have no name go, and so do directories, which must be empty then.
    fn check_ends(&mut self) -> Result<(), Errno> {
        let mut entries: BTreeMap<FileId, (u64, u64)> = BTreeMap::new();
        for ((dir, _), _) in &self.plan.detach {
            entries.entry(*dir).or_default().0 += 1;
        }
        for attach in &self.plan.attach {
            if let PlannedObject::Here(dir) = attach.dir {
                entries.entry(dir).or_default().1 += 1;
            }
        }
        for (target, count) in std::mem::take(&mut self.counts) {
            let PlannedObject::Here(id) = target else {
                // What is made has a name; a file may have many.
                if count.gained > MAX_LINKS {
                    return Err(Errno::TooManyLinks);
                }
                continue;
            };
            if self.ours.kind(id) == Kind::Dir {
                if count.gained > 0 || self.refused.contains(&target) {
                    continue;
                }
                let (lost, gained) = entries.get(&id).copied().unwrap_or_default();
                if self.ours.entry_count(id) + gained > lost {
                    // Something came into it here, or stayed.
                    self.conflicts.of(id, |path| Conflict::Removed { path });
                } else {
                    self.plan.gone.push(id);
                }
                continue;
            }
            let had = u64::from(self.ours.stat(id)?.nlink);
            let has = (had + u64::from(count.gained)).saturating_sub(u64::from(count.lost));
            if has > u64::from(MAX_LINKS) {
                return Err(Errno::TooManyLinks);
            }
            if has == 0 {
                self.plan.gone.push(id);
            }
        }
        Ok(())
    }
}
