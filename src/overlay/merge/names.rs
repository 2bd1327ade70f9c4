//! Merging names: which entries went and came.
//!
//! First all names that theirs lost go, and the objects hang loose; then all
//! that it gained come, so that nothing stands in the way of a swap. What
//! hangs loose at the end is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::changes::{Key, NameDelta, Spot};
use super::super::dir::{DirBody, Found};
use super::super::inode::{Body, Inode};
use super::super::maps::Held;
use super::super::{Counts, Overlay};
use super::{Conflict, Merge};
use crate::budget::Hold;
use crate::errno::Errno;
use crate::limits::{MAX_LINKS, OBJECT_BYTES};
use crate::meta::{FileId, Kind};
use crate::name::LayerPath;

/// Objects that lost names, and how many each had here before.
type Loose = BTreeMap<FileId, u32>;

impl Merge<'_> {
    pub(super) fn merge_names(&mut self, delta: &NameDelta) -> Result<(), Errno> {
        let mut loose = Loose::new();
        for (key, (lost, gained)) in &delta.names {
            for spot in lost.difference(gained) {
                self.lose(*key, spot, !gained.is_empty(), &mut loose)?;
            }
        }
        // A directory of theirs that is not here yet comes before what is in it.
        let mut todo: VecDeque<(Key, &Spot, bool)> = VecDeque::new();
        for (key, (lost, gained)) in &delta.names {
            let moved = !lost.is_empty();
            todo.extend(gained.difference(lost).map(|spot| (*key, spot, moved)));
        }
        let mut waited = 0;
        while let Some((key, spot, moved)) = todo.pop_front() {
            if let Some(dir) = self.dir_here(spot.0) {
                self.gain(key, dir, spot, moved, &mut loose)?;
                waited = 0;
            } else if waited > todo.len() {
                // Its directory came into a conflict, which has been noted, or
                // was removed here.
                if self.base.living(spot.0).is_some() {
                    let path = self.path(spot.0);
                    self.conflicts.insert(Conflict::Removed { path });
                }
            } else {
                todo.push_back((key, spot, moved));
                waited += 1;
            }
        }
        self.settle_loose(&loose)
    }

    /// What `to` has for a directory of theirs.
    fn dir_here(&self, dir: FileId) -> Option<FileId> {
        self.here((dir, self.theirs.birth(dir)?))
    }

    /// Takes away a name that theirs has lost.
    fn lose(
        &mut self,
        key: Key,
        (dir, name): &Spot,
        moved: bool,
        loose: &mut Loose,
    ) -> Result<(), Errno> {
        let dir_key = (*dir, self.base.birth(*dir).unwrap_or(0));
        let here = self.to.is_alive(dir_key) || loose.contains_key(dir);
        let found = here.then(|| self.to.find(*dir, name.as_bytes())).flatten();
        let Some(found) =
            found.filter(|found| (found.id, self.to.birth(found.id)) == (key.0, Some(key.1)))
        else {
            // It went here as well. If both moved it, then to one place.
            if moved && self.to.is_alive(key) && !self.agrees(key) {
                let path = self.path(key.0);
                self.conflicts.insert(Conflict::Renamed { path });
            }
            return Ok(());
        };
        if self.to.check_pin(key.0).is_err() {
            let path = self.path(key.0);
            self.conflicts.insert(Conflict::Busy { path });
            return Ok(());
        }
        let nlink = self.to.stat(key.0)?.nlink;
        loose.entry(key.0).or_insert(nlink);
        self.take_name(*dir, found)
    }

    /// Tells whether ours has this object under a name that theirs has too.
    fn agrees(&self, key: Key) -> bool {
        let spot = self.to.spot_of(key.0);
        spot.is_some_and(|(dir, name)| {
            let found = self.theirs.find(dir, name.as_bytes());
            found.is_some_and(|found| found.id == key.0)
        })
    }

    /// Takes an entry out; its object stays, without that name.
    fn take_name(&mut self, dir: FileId, found: Found) -> Result<(), Errno> {
        let now = self.now;
        self.to.take_entry(dir, found, now)?;
        let inode = self.to.own(found.id)?;
        inode.ctime = now;
        if found.kind != Kind::Dir {
            inode.nlink -= 1;
        }
        Ok(())
    }

    /// Gives an object of theirs the name that it has there.
    fn gain(
        &mut self,
        key: Key,
        dir: FileId,
        (_, name): &Spot,
        moved: bool,
        loose: &mut Loose,
    ) -> Result<(), Errno> {
        let there = self.to.find(dir, name.as_bytes());
        let in_base = self
            .base
            .living(key.0)
            .is_some_and(|was| was.birth == key.1);
        let known = (in_base && loose.contains_key(&key.0)) || self.here(key).is_some();
        let id = self.here(key).unwrap_or(key.0);
        if there.is_some_and(|found| found.id == id && known) {
            return Ok(());
        }
        let path = || self.theirs.path_of(key.0);
        if in_base && !known {
            let path = self.path(key.0);
            self.conflicts.insert(Conflict::Removed { path });
            return Ok(());
        }
        if let Some(found) = there {
            if !in_base && self.made_alike(key, found)? {
                return Ok(());
            }
            let path = path().unwrap_or_else(LayerPath::root);
            self.conflicts.insert(Conflict::Name { path });
            if known {
                loose.remove(&id);
            }
            return Ok(());
        }
        let kind = self.theirs.kind(key.0);
        if kind == Kind::Dir && known && self.would_loop(id, dir, loose) {
            let path = self.path(key.0);
            self.conflicts.insert(Conflict::Loop { path });
            loose.remove(&id);
            return Ok(());
        }
        // A directory has one name: if it has one here, ours moved it too.
        if kind == Kind::Dir && moved && !loose.contains_key(&id) {
            return Ok(());
        }
        let id = if known { id } else { self.make(key)? };
        self.add_name(id, kind, dir, name, loose)
    }

    fn add_name(
        &mut self,
        id: FileId,
        kind: Kind,
        dir: FileId,
        name: &crate::name::Name,
        loose: &mut Loose,
    ) -> Result<(), Errno> {
        let now = self.now;
        if kind != Kind::Dir {
            let nlink = self.to.stat(id)?.nlink;
            if nlink >= MAX_LINKS {
                return Err(Errno::TooManyLinks);
            }
            // Counted with the objects that lost names: see `settle_loose`.
            loose.entry(id).or_insert(nlink.max(1));
        } else {
            loose.remove(&id);
        }
        self.to.add_entry(dir, name.clone(), id, kind, now)?;
        let inode = self.to.own(id)?;
        inode.place = Some((dir, name.clone()));
        inode.ctime = now;
        if kind == Kind::Dir {
            if let Body::Dir(body) = &mut inode.body {
                body.parent = dir;
            }
        } else {
            inode.nlink += 1;
        }
        Ok(())
    }

    /// Tells whether `dir` lies in the directory `id`. One that hangs loose
    /// lies nowhere.
    fn would_loop(&self, id: FileId, dir: FileId, loose: &Loose) -> bool {
        let mut at = dir;
        loop {
            if at == id {
                return true;
            }
            let up = self.to.parent(at);
            if up == at || loose.contains_key(&at) {
                return false;
            }
            at = up;
        }
    }

    /// Both sides made an object of one name. Tells whether they are alike:
    /// two directories, whose entries are merged then, or equal files or links.
    fn made_alike(&mut self, key: Key, found: Found) -> Result<bool, Errno> {
        let was_there = self.base.living(found.id);
        let is_new = was_there.is_none_or(|was| Some(was.birth) != self.to.birth(found.id));
        let Some(theirs) = self.theirs.living(key.0) else {
            return Ok(false);
        };
        if !is_new || theirs.body.kind() != found.kind {
            return Ok(false);
        }
        let alike = match &theirs.body {
            Body::Dir(_) => true,
            Body::Symlink(target) => self.to.target(found.id)? == &target[..],
            Body::File(_) => self.is_equal_file(key.0, found.id)?,
        };
        if alike {
            self.made.insert(key, found.id);
        }
        Ok(alike)
    }

    /// Compares a file of theirs with one of ours. O(bytes that are stored).
    fn is_equal_file(&self, theirs: FileId, ours: FileId) -> Result<bool, Errno> {
        let (a, b) = (self.theirs.stat(theirs)?, self.to.stat(ours)?);
        if (a.size, a.mode) != (b.size, b.mode) {
            return Ok(false);
        }
        let (Some(one), Some(two)) = (self.theirs.living(theirs), self.to.living(ours)) else {
            return Ok(false);
        };
        let (Body::File(one), Body::File(two)) = (&one.body, &two.body) else {
            return Ok(false);
        };
        Ok(self.theirs.reads_alike(one, (&self.to, two), 0..a.size))
    }

    /// Makes an object of theirs here, without a name: a directory empty, a
    /// file with all its bytes, which are shared.
    fn make(&mut self, key: Key) -> Result<FileId, Errno> {
        let theirs = self.theirs.living(key.0).ok_or(Errno::NoEntry)?;
        let id = self.to.next_id()?;
        let body = match &theirs.body {
            Body::Dir(_) => Body::Dir(DirBody::new(FileId::ROOT)),
            Body::File(_) | Body::Symlink(_) => theirs.body.clone(),
        };
        let nlink = if body.kind() == Kind::Dir { 2 } else { 0 };
        let target = body.target_bytes();
        let cost = OBJECT_BYTES.saturating_add(u32::try_from(target).unwrap_or(u32::MAX));
        let hold = Hold::take(self.to.account(), cost)?;
        if let Body::File(file) = &body {
            self.to.recount(Counts::none(), Counts::of(file));
        }
        let inode = Inode {
            nlink,
            birth: self.to.branch,
            ctime: self.now,
            place: None,
            hold,
            body,
            ..theirs
        };
        self.to.inodes.insert(id, Some(Held::new(inode)));
        self.to.usage.inodes += 1;
        self.to.usage.logical_bytes += target;
        self.to.usage.private_bytes += target;
        self.made.insert(key, id);
        Ok(id)
    }

    /// Frees what has no name in the end, and counts further names.
    fn settle_loose(&mut self, loose: &Loose) -> Result<(), Errno> {
        let mut kept = BTreeSet::new();
        for (id, had) in loose {
            if self.to.is_gone(*id) {
                continue;
            }
            if self.to.kind(*id) == Kind::Dir {
                kept.insert(*id);
                continue;
            }
            let has = self.to.stat(*id)?.nlink;
            self.to.usage.links += i64::from(has.max(1)) - i64::from(*had);
            if has == 0 {
                self.to.drop_loose(*id);
            }
        }
        for id in kept {
            // Something came into it here, or stayed.
            if !self.to.is_empty_dir(id) {
                let path = self.path(id);
                self.conflicts.insert(Conflict::Removed { path });
                continue;
            }
            self.to.own(id)?.nlink = 0;
            self.to.drop_loose(id);
        }
        Ok(())
    }
}

impl Overlay {
    /// Frees an object that lost its last name, unless it is open.
    fn drop_loose(&mut self, id: FileId) {
        if self.is_open(id) {
            self.orphans.insert(id);
        } else {
            self.free(id);
        }
    }
}
