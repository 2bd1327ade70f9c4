//! Random runs over forks of forks that are merged into one another again, each
//! held against its own model, and each merge against the model in `merging`.

use std::rc::Rc;

use stratafs::errno::Errno;
use stratafs::vfs::{Access, Conflict, Follow, Fs, MergeError, OpenFlags, Sealing, Share};

use super::generator::{Generator, Lookout};
use super::merging::{Found, Merged, plan};
use super::ops::{Op, SLOTS, Seen};
use super::reference::{Body, Id};
use super::tree;
use super::twin::{Start, Taken, Twin};

/// States that a branch keeps of its past, to be merged from.
const PAST: usize = 8;

/// How merges ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    pub merged: usize,
    pub refused: usize,
    /// Past the quotas.
    pub full: usize,
    /// Whole or refused, but which was not predicted.
    pub unsure: usize,
    /// Those into or from a fork that is more than three forks away from the first.
    pub deep: usize,
    /// Those in which both sides changed the bytes of one file.
    pub mixed: usize,
    /// Those of which such a file is larger than a MiB.
    pub large: usize,
    /// Those into which a file went that was open and had no name.
    pub unlinked: usize,
}

impl Ends {
    /// Notes what a merge that was done has to do with.
    fn note(&mut self, merged: &Merged) {
        let model = &merged.model;
        let is_large = |id: &Id| model.file_at(*id).bytes.len() > 1 << 20;
        self.mixed += usize::from(!merged.mixed.is_empty());
        self.large += usize::from(merged.mixed.iter().any(is_large));
        let open = model.handles.iter().flatten();
        let mut nodes = open.map(|handle| &model.nodes[handle.node]);
        self.unlinked += usize::from(nodes.any(|node| node.nlink == 0));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Merged,
    Refused,
    Full,
    Unsure,
}

/// A file system beside its model, and the states that it came from.
struct Branch {
    twin: Twin,
    past: Vec<Rc<Taken>>,
    /// Forks between it and the first one.
    level: usize,
}

impl Branch {
    fn fork(&mut self, with_open: bool) -> Result<Self, String> {
        if self.past.len() == PAST {
            self.past.remove(0);
        }
        self.past.push(Rc::new(self.twin.snapshot()));
        let twin = self.twin.fork(with_open);
        twin.check()?;
        Ok(Self {
            twin,
            past: self.past.clone(),
            level: self.level + 1,
        })
    }

    /// States that both came from, the latest last.
    fn common(&self, other: &Self) -> Vec<Rc<Taken>> {
        let is_theirs = |state: &&Rc<Taken>| other.past.iter().any(|one| Rc::ptr_eq(one, state));
        self.past.iter().filter(is_theirs).cloned().collect()
    }

    fn restore(&mut self, at: usize) -> Result<(), String> {
        self.past.truncate(at + 1);
        let state = Rc::clone(&self.past[at]);
        self.twin.restore(&state)?;
        self.twin.check()
    }

    fn merge(&mut self, base: &Taken, theirs: &Taken, ends: &mut Ends) -> Result<End, String> {
        let twin = &mut self.twin;
        twin.tick();
        let plan = plan(&base.model, &twin.model, &theirs.model);
        let outcome = twin.subject.fs.merge(&base.state, &theirs.state);
        twin.check()?;
        if outcome.is_err() {
            twin.compare_usage()?;
            let fork = twin.subject.fs.fork();
            twin.compare_trees(&fork)?;
        }
        match outcome {
            Err(MergeError::Conflicts(_)) | Ok(()) if plan.unsure => Ok(End::Unsure),
            Err(MergeError::Conflicts(told)) => {
                let paths: Vec<Vec<u8>> = told.iter().map(path_of).collect();
                let is_told = |one: &Found| one.paths.iter().any(|path| paths.contains(path));
                if plan.conflicts.is_empty() || !plan.conflicts.iter().all(is_told) {
                    let wanted = shown(&plan.conflicts);
                    return Err(format!("conflicts: wanted {wanted}\n got {told:?}"));
                }
                Ok(End::Refused)
            }
            Ok(()) if !plan.conflicts.is_empty() => {
                Err(format!("merged over conflicts: {}", shown(&plan.conflicts)))
            }
            Ok(()) => {
                let merged = plan.carry_out(&twin.model, &theirs.model);
                ends.note(&merged);
                twin.succeed(merged).map(|()| End::Merged)
            }
            Err(MergeError::Errno(Errno::NoSpace)) => {
                let merged = plan.carry_out(&twin.model, &theirs.model);
                if plan_may_exceed(&merged) {
                    Ok(End::Full)
                } else {
                    Err("refused for want of room".into())
                }
            }
            Err(error) => Err(format!("merge: {error}")),
        }
    }
}

fn path_of(conflict: &Conflict) -> Vec<u8> {
    match conflict {
        Conflict::Content { path, .. }
        | Conflict::Meta { path }
        | Conflict::Removed { path }
        | Conflict::Renamed { path }
        | Conflict::Name { path }
        | Conflict::Loop { path }
        | Conflict::Busy { path } => path.to_bytes(),
        other => panic!("{other:?}"),
    }
}

fn shown(conflicts: &[Found]) -> String {
    let show = |found: &Found| {
        let paths = found.paths.iter().map(|path| stratafs::name::show(path));
        format!("{}: {}", found.why, paths.collect::<Vec<_>>().join(" or "))
    };
    conflicts.iter().map(show).collect::<Vec<_>>().join("; ")
}

/// Whether an outcome may be more than the quotas allow.
fn plan_may_exceed(merged: &Merged) -> bool {
    let (usage, quota) = (merged.model.usage, merged.model.quota);
    let most = merged.mixed.iter().map(|id| merged.model.file_at(*id));
    let most: u64 = most.map(|file| file.bounds().1).sum();
    usage.inodes > quota.max_inodes
        || usage.links > quota.max_inodes as i64
        || usage.logical_bytes + most > quota.max_bytes
}

impl Twin {
    /// Takes over what a merge made of both, if they are alike.
    fn succeed(&mut self, merged: Merged) -> Result<(), String> {
        self.model = merged.model;
        let fs = self.subject.fs.fork();
        for id in merged.mixed {
            self.find_cost(&fs, id)?;
        }
        let fs = self.subject.fs.fork();
        self.take_times(&fs)?;
        self.compare_trees(&fs)?;
        self.compare_usage()
    }

    /// Finds out what a file costs by cutting it to nothing in a fork.
    fn find_cost(&mut self, fork: &Fs, id: Id) -> Result<(), String> {
        let all = self.model.walk_all();
        let (path, _) = all.iter().find(|(_, one)| *one == id).ok_or("no path")?;
        let top = fork.root().map_err(|error| error.to_string())?;
        let file = top.open_at(Follow::No, path, OpenFlags::empty(), Access::WRITE);
        let before = fork.usage().logical_bytes;
        file.and_then(|file| file.set_size(0))
            .map_err(|errno| format!("cutting a file: {errno}"))?;
        let cost = before - fork.usage().logical_bytes;
        let (least, most) = self.model.file_at(id).bounds();
        if !(least..=most).contains(&cost) {
            return Err(format!("a merged file costs {cost}, not {least} to {most}"));
        }
        if let Body::File(file) = &mut self.model.nodes[id].body {
            self.model.usage.logical_bytes += cost;
            self.model.usage.logical_bytes -= file.cost;
            file.cost = cost;
        }
        Ok(())
    }

    /// Takes over the times that the model does not predict.
    fn take_times(&mut self, fs: &Fs) -> Result<(), String> {
        let (objects, wanted) = (tree::walk(fs), self.model.walk_all());
        for (object, (path, id)) in objects.iter().zip(&wanted) {
            let (node, stat) = (&mut self.model.nodes[*id], &object.stat);
            let is_dir = matches!(node.body, Body::Dir(_));
            if !is_dir && object.path == *path && node.times[1] != stat.mtime {
                let (name, mtime) = (stratafs::name::show(path), node.times[1]);
                return Err(format!("{name}: wanted {mtime:?}, got {:?}", stat.mtime));
            }
            node.times = [stat.atime, stat.mtime, stat.ctime];
        }
        for slot in 0..SLOTS {
            let Ok(node) = self.model.handle(slot).map(|handle| handle.node) else {
                continue;
            };
            if let Ok(Seen::Stat(stat)) = self.subject.apply(&Op::Stat { slot }) {
                self.model.nodes[node].times = stat.times;
            }
        }
        Ok(())
    }
}

/// Runs operations, forks, merges and restores in random order on a set of
/// branches that all come of one.
pub fn grow(seed: u64, steps: usize, ends: &mut Ends) {
    let mut generator = Generator::new(seed, false);
    generator.far = true;
    let start = Start::random(&mut generator);
    let image = start.image().expect("the generator keeps to the rules");
    let rng = &mut generator.rng;
    let share = rng.pick(&[Share::Own, Share::Own, Share::None]).clone();
    let sealing = *rng.pick(&[Sealing::AtClose, Sealing::OnDemand]);
    let mut all = vec![Branch {
        twin: Twin::sealed(&start, &image, share, sealing),
        past: Vec::new(),
        level: 0,
    }];
    for step in 0..steps {
        let done = go_on(&mut all, &mut generator, ends);
        done.unwrap_or_else(|error| panic!("STRATAFS_SEED={seed}, step {step}: {error}"));
    }
    for branch in &mut all {
        let twin = &mut branch.twin;
        let fork = twin.subject.fs.fork();
        let same = twin.check().and_then(|()| twin.compare_trees(&fork));
        same.unwrap_or_else(|error| panic!("STRATAFS_SEED={seed}, in the end: {error}"));
    }
}

/// Does one thing.
fn go_on(all: &mut Vec<Branch>, generator: &mut Generator, ends: &mut Ends) -> Result<(), String> {
    let at = generator.rng.below(all.len());
    match generator.rng.below(100) {
        0..=6 if all.len() < 6 => {
            let fork = all[at].fork(generator.rng.one_in(2))?;
            all.push(fork);
        }
        7..=13 if all.len() > 1 => {
            let other = (at + 1 + generator.rng.below(all.len() - 1)) % all.len();
            let common = all[at].common(&all[other]);
            let Some(last) = common.last() else {
                return Ok(());
            };
            let early = generator.rng.one_in(5);
            let base = if early {
                generator.rng.pick(&common)
            } else {
                last
            };
            let theirs = all[other].twin.snapshot();
            let end = all[at].merge(base, &theirs, ends)?;
            let is_deep = all[at].level.max(all[other].level) > 3;
            ends.deep += usize::from(is_deep && end == End::Merged);
            match end {
                End::Merged => ends.merged += 1,
                End::Refused => ends.refused += 1,
                End::Full => ends.full += 1,
                End::Unsure => {
                    ends.unsure += 1;
                    all.swap_remove(at);
                }
            }
        }
        14 => {
            all[at].twin.subject.fs.seal();
            all[at].twin.check()?;
            all[at].twin.compare_usage()?;
        }
        15 | 16 if all.len() > 2 => drop(all.swap_remove(at)),
        17 if !all[at].past.is_empty() && generator.rng.one_in(3) => {
            let from = generator.rng.below(all[at].past.len());
            all[at].restore(from)?;
        }
        _ => {
            let op = generator.next(&all[at].twin.model as &dyn Lookout);
            let done = all[at].twin.step(&op);
            done.map_err(|error| format!("{op:?}: {error}"))?;
        }
    }
    Ok(())
}
