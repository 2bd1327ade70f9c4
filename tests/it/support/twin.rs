//! Runs one list of operations on a file system and on the reference model,
//! and cuts a list that fails down to what is needed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use stratafs::budget::Budget;
use stratafs::chunk::ChunkPool;
use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::limits::SPILL_RESERVE;
use stratafs::meta::Kind;
use stratafs::vfs::{Change, Fs, Quota, Sealing, Share, Snapshot, TreePath};

use super::generator::{Generator, Lookout, layer};
use super::ops::{Op, Outcome, ROOT, SLOTS, Seen, Slot};
use super::reference::{Body, Model};
use super::subject::Subject;
use super::tree::{self, Entry, layer_of};

/// What a run starts from.
pub struct Start {
    pub layers: Vec<Vec<Entry>>,
    pub quota: Quota,
}

impl Start {
    /// A random stack of 1 to 5 layers, with tight quotas in one of three.
    pub fn random(generator: &mut Generator) -> Self {
        let rng = &mut generator.rng;
        let quota = if rng.one_in(3) {
            Quota {
                max_bytes: rng.below(300_000) as u64,
                max_inodes: rng.below(30) as u64,
                max_open: 4 + rng.below(8) as u32,
                ..Quota::default()
            }
        } else {
            Quota::default()
        };
        let mut layers: Vec<Vec<Entry>> = Vec::new();
        for _ in 0..=rng.below(5) {
            let below = Model::over(&layers, Quota::default()).files();
            layers.push(layer(rng, &below));
        }
        Self { layers, quota }
    }

    /// The same image for the library, unless it breaks a rule of layers.
    pub fn image(&self) -> Option<Image> {
        let pool = ChunkPool::new();
        let mut layers = Vec::new();
        for lines in &self.layers {
            layers.push(layer_of(&pool, lines).ok()?);
        }
        Image::new(&layers).ok()
    }
}

/// Which object of the library stands for which of the model.
#[derive(Clone, Default)]
struct Pairs {
    to: HashMap<u64, u64>,
    from: HashMap<u64, u64>,
}

impl Pairs {
    /// Whether the two are one object; the first sight settles it.
    fn same(&mut self, model: u64, real: u64) -> bool {
        real != 0
            && *self.to.entry(model).or_insert(real) == real
            && *self.from.entry(real).or_insert(model) == model
    }
}

/// A file system and a model side by side.
pub struct Twin {
    pub subject: Subject,
    pub model: Model,
    pairs: Pairs,
    step: i64,
}

impl Twin {
    fn new(start: &Start, image: &Image) -> Self {
        Self::sealed(start, image, Share::Own, Sealing::AtClose)
    }

    /// As [`Self::new`], sealed in another way.
    pub fn sealed(start: &Start, image: &Image, share: Share, sealing: Sealing) -> Self {
        Self::of(start, Subject::new(image, start.quota, share, sealing))
    }

    /// As [`Self::new`], counted in a budget.
    fn within(start: &Start, image: &Image, budget: &Budget) -> Self {
        let builder = Fs::builder(image).budget(budget, "twin");
        Self::of(start, Subject::with(builder, start.quota))
    }

    fn of(start: &Start, subject: Subject) -> Self {
        let model = Model::over(&start.layers, start.quota);
        Self {
            subject,
            model,
            pairs: Pairs::default(),
            step: 0,
        }
    }

    /// Goes on to the next moment.
    pub fn tick(&mut self) {
        self.step += 1;
        self.model.now = self.subject.clock.set(1_000_000_000 + self.step);
    }

    /// Has the library check all that it counts.
    pub fn check(&self) -> Result<(), String> {
        self.subject.fs.check()
    }

    /// Runs one operation on both; an error says how they differ.
    pub fn step(&mut self, op: &Op) -> Result<(), String> {
        self.tick();
        if op
            .needs()
            .iter()
            .any(|slot| self.model.handle(*slot).is_err())
        {
            return Ok(());
        }
        let got = self.subject.apply(op);
        let want = self.model.apply(op, &got);
        let cut_short = is_cut_short(op, &got);
        self.compare(op, want, got)?;
        let usage = self.subject.fs.usage();
        self.model.settle(usage.logical_bytes)?;
        self.compare_usage()?;
        match op {
            Op::Write { slot, .. } | Op::Append { slot, .. } if cut_short => self.look(*slot),
            _ => Ok(()),
        }
    }

    /// Compares all of an open file at once.
    fn look(&mut self, slot: Slot) -> Result<(), String> {
        let (offset, len) = (0, self.model.size(slot) as usize + 1);
        for op in [Op::Stat { slot }, Op::Read { slot, offset, len }] {
            let got = self.subject.apply(&op);
            let want = self.model.apply(&op, &got);
            self.compare(&op, want, got)?;
        }
        Ok(())
    }

    /// The model knows nothing of sharing and of what a host holds: only what
    /// counts against quotas. The bytes that count are the sum of what each
    /// change of a file was seen to cost, less what went with it, and of targets.
    pub fn compare_usage(&self) -> Result<(), String> {
        let (want, got) = (self.model.usage, self.subject.fs.usage());
        let mut known = got;
        known.private_bytes = want.private_bytes;
        (known.held_bytes, known.changed) = (want.held_bytes, want.changed);
        if want == known && got.private_bytes <= got.logical_bytes {
            Ok(())
        } else {
            Err(format!("usage: wanted {want:?}, got {got:?}"))
        }
    }

    fn compare(&mut self, op: &Op, want: Outcome, got: Outcome) -> Result<(), String> {
        match (&want, &got) {
            (Ok(Seen::Stat(one)), Ok(Seen::Stat(two))) => {
                let paired = self.pairs.same(one.id, two.id);
                let mut two = two.clone();
                two.id = one.id;
                if paired && *one == two {
                    return Ok(());
                }
            }
            (Ok(Seen::Done), Ok(Seen::Listed { entries, end })) => {
                let Op::List {
                    slot, from, mark, ..
                } = op
                else {
                    return Err("a listing".into());
                };
                let pairs = &mut self.pairs;
                return self.model.judge_listing(
                    *slot,
                    (*from, *mark),
                    (entries, *end),
                    &mut |model, real| pairs.same(model as u64, real),
                );
            }
            _ if want == got => return Ok(()),
            _ => {}
        }
        Err(format!("wanted {}, got {}", brief(&want), brief(&got)))
    }

    /// A fork of both, with the same descriptors or with none.
    pub fn fork(&mut self, with_open: bool) -> Self {
        let mut model = self.model.clone();
        if !with_open {
            reopen(&mut model);
        }
        Self {
            subject: self.subject.fork(with_open).expect("room for as many"),
            model,
            pairs: self.pairs.clone(),
            step: self.step,
        }
    }

    pub fn snapshot(&mut self) -> Taken {
        let mut model = self.model.clone();
        reopen(&mut model);
        Taken {
            state: self.subject.fs.snapshot(),
            model,
            pairs: self.pairs.clone(),
        }
    }

    /// Goes back, with nothing but the preopens open.
    pub fn restore(&mut self, taken: &Taken) -> Result<(), String> {
        self.subject.reopen();
        self.subject
            .fs
            .restore(&taken.state)
            .map_err(|errno| format!("restore: {errno}"))?;
        self.model = taken.model.clone();
        self.pairs = taken.pairs.clone();
        // A fork has the descriptors that a look at all of it needs.
        let fork = self.subject.fs.fork();
        self.compare_trees(&fork)
    }

    /// Compares the whole trees: names, kinds, bytes, metadata, identity.
    pub fn compare_trees(&mut self, fs: &Fs) -> Result<(), String> {
        let objects = tree::walk(fs);
        let wanted = self.model.walk_all();
        let paths = |paths: &mut dyn Iterator<Item = &Vec<u8>>| {
            paths
                .map(|path| stratafs::name::show(path))
                .collect::<Vec<_>>()
                .join(" ")
        };
        if !objects
            .iter()
            .map(|object| &object.path)
            .eq(wanted.iter().map(|(path, _)| path))
        {
            let (want, got) = (
                paths(&mut wanted.iter().map(|(path, _)| path)),
                paths(&mut objects.iter().map(|object| &object.path)),
            );
            return Err(format!("trees: wanted {want}\n got {got}"));
        }
        for (object, (path, id)) in objects.iter().zip(&wanted) {
            let name = stratafs::name::show(path);
            let node = &self.model.nodes[*id];
            let same = match (&node.body, &object.body) {
                (Body::File(file), tree::Seen::Bytes(bytes)) => file.bytes == *bytes,
                (Body::Symlink(one), tree::Seen::Target(two)) => one == two,
                (Body::Dir(_), tree::Seen::Dir) => true,
                _ => false,
            };
            let stat = &object.stat;
            let times = [stat.atime, stat.mtime, stat.ctime];
            if !same || !self.pairs.same(*id as u64, stat.id.get()) {
                return Err(format!("{name} differs"));
            }
            let (want, got) = (
                (node.nlink, node.mode, node.times),
                (stat.nlink, stat.mode, times),
            );
            if want != got {
                return Err(format!("{name}: wanted {want:?}, got {got:?}"));
            }
        }
        Ok(())
    }

    /// What has to hold when a run is over.
    fn finish(mut self, image: &Image) -> Result<(), String> {
        self.subject.close_all();
        for slot in ROOT + 1..SLOTS {
            drop(self.model.close(slot));
        }
        self.compare_usage()?;
        let fs = self.subject.fs.clone();
        self.compare_trees(&fs)?;
        remove_all(&fs.fork())?;
        let text = tree::tree(&self.subject.fs);
        let pool = ChunkPool::new();
        let diff = self
            .subject
            .fs
            .diff(&pool)
            .map_err(|error| format!("diff: {error}"))?;
        let layers: Vec<Layer> = image.layers().iter().cloned().chain([diff]).collect();
        let stacked = Image::new(&layers).map_err(|error| format!("diff on top: {error}"))?;
        let again = tree::tree(&Fs::new(&stacked));
        if text == again {
            Ok(())
        } else {
            Err(format!("base and diff: wanted\n{text}got\n{again}"))
        }
    }
}

/// A snapshot and the model at that moment, nothing open but the preopens.
pub struct Taken {
    pub state: Snapshot,
    pub model: Model,
    pairs: Pairs,
}

/// Closes everything and opens the preopens anew.
fn reopen(model: &mut Model) {
    for slot in ROOT..SLOTS {
        drop(model.close(slot));
    }
    model.open_tops();
}

/// The most bytes of files that a [`herd`] had in a file.
pub static SPILLED: AtomicU64 = AtomicU64::new(0);

/// A set of instances that operations, forks, snapshots and restores come
/// over in random order, each held against a model of its own. Gives how many
/// forks and restores there were.
///
/// In one of three all blocks live in a file, where there are such files.
pub fn herd(seed: u64, steps: usize) -> (usize, usize) {
    let mut generator = Generator::new(seed, false);
    let start = Start::random(&mut generator);
    let image = start.image().expect("the generator keeps to the rules");
    let before = image.digest();
    let (memory, all) = (64 << 20, (64 << 20) * (SPILL_RESERVE - 1) / SPILL_RESERVE);
    let budget = match seed % 3 {
        0 => Budget::with_spill(memory, &std::env::temp_dir(), u64::MAX).ok(),
        _ => None,
    };
    let blocks = budget.as_ref().map(|budget| budget.reserve(all, "blocks"));
    let mut herd = vec![match &budget {
        Some(budget) => Twin::within(&start, &image, budget),
        None => Twin::new(&start, &image),
    }];
    // All come of the first, so they share its scope.
    let scope = herd[0].subject.fs.scope().clone();
    let mut taken: Vec<Taken> = Vec::new();
    let (mut forks, mut restores) = (0, 0);
    let say = |step: usize, error: String| panic!("seed {seed}, step {step}: {error}");
    for step in 0..steps {
        let at = generator.rng.below(herd.len());
        match generator.rng.below(100) {
            0 | 1 if herd.len() < 6 => {
                let with_open = generator.rng.one_in(2);
                let fork = herd[at].fork(with_open);
                fork.subject
                    .fs
                    .check()
                    .unwrap_or_else(|error| say(step, error));
                herd.push(fork);
                forks += 1;
            }
            2 if taken.len() < 6 => taken.push(herd[at].snapshot()),
            3 if !taken.is_empty() => {
                let from = generator.rng.below(taken.len());
                herd[at]
                    .restore(&taken[from])
                    .unwrap_or_else(|error| say(step, error));
                herd[at]
                    .subject
                    .fs
                    .check()
                    .unwrap_or_else(|error| say(step, error));
                restores += 1;
            }
            6 => {
                let fs = &herd[at].subject.fs;
                fs.seal();
                fs.check().unwrap_or_else(|error| say(step, error));
            }
            4 if herd.len() > 1 => drop(herd.swap_remove(at)),
            5 if !taken.is_empty() => {
                let from = generator.rng.below(taken.len());
                drop(taken.swap_remove(from));
            }
            _ => {
                let op = generator.next(&herd[at].model as &dyn Lookout);
                herd[at].step(&op).unwrap_or_else(|error| say(step, error));
            }
        }
    }
    if let [.., one, two] = &taken[..] {
        judge_changes(&one.state, &two.state).unwrap_or_else(|error| say(steps, error));
    }
    for twin in herd {
        let now = twin.subject.fs.snapshot();
        judge_changes(&Snapshot::of(&image), &now).unwrap_or_else(|error| say(steps, error));
        twin.subject
            .fs
            .check()
            .unwrap_or_else(|error| say(steps, error));
        twin.finish(&image)
            .unwrap_or_else(|error| say(steps, error));
    }
    assert_eq!(image.digest(), before, "the base has changed");
    drop(taken);
    assert_eq!((scope.len(), scope.held_bytes()), (0, 0), "seed {seed}");
    drop(blocks);
    if let Some(budget) = budget {
        let left = (budget.held_bytes(), budget.spilled_bytes());
        assert_eq!(left, (0, 0), "seed {seed}");
        SPILLED.fetch_max(budget.most_spilled_bytes(), Ordering::Relaxed);
    }
    (forks, restores)
}

/// Holds what is told of two states against both whole trees.
fn judge_changes(one: &Snapshot, two: &Snapshot) -> Result<(), String> {
    let changes = one.changes_to(two).map_err(|errno| errno.to_string())?;
    let (before, after) = (tree::walk(&one.fork()), tree::walk(&two.fork()));
    let trees = [&before, &after].map(|objects| {
        objects
            .iter()
            .map(|object| (object.path.clone(), object))
            .collect::<HashMap<_, _>>()
    });
    let mut ends: [HashSet<Vec<u8>>; 2] = Default::default();
    let mut edited = HashMap::new();
    let bytes = TreePath::to_bytes;
    for change in &changes {
        let (from, to) = match change {
            Change::Added { path, .. } => (None, Some(path)),
            Change::Removed { path, .. } => (Some(path), None),
            Change::Renamed { from, to, .. } => (Some(from), Some(to)),
            Change::Content { path, ranges, .. } => {
                edited.insert(bytes(path), ranges.clone());
                continue;
            }
            Change::Meta { .. } => continue,
            other => return Err(format!("{other:?}")),
        };
        for (end, path) in [from, to].into_iter().enumerate() {
            if let Some(path) = path.map(bytes) {
                if !trees[end].contains_key(&path) {
                    return Err(format!("{change:?} is not so"));
                }
                ends[end].insert(path);
            }
        }
    }
    for (end, other) in [(0, 1), (1, 0)] {
        for path in trees[end]
            .keys()
            .filter(|path| !trees[other].contains_key(*path))
        {
            let told = (0..=path.len())
                .filter(|at| *at == path.len() || path[*at] == b'/')
                .any(|at| ends[end].contains(&path[..at]));
            if !told {
                let name = stratafs::name::show(path);
                return Err(format!("nothing is told of {name}: {changes:?}"));
            }
        }
    }
    for (path, now) in &trees[1] {
        let Some(then) = trees[0].get(path) else {
            continue;
        };
        let is_told = ends.iter().any(|ends| {
            (0..=path.len())
                .filter(|at| *at == path.len() || path[*at] == b'/')
                .any(|at| ends.contains(&path[..at]))
        });
        let (tree::Seen::Bytes(old), tree::Seen::Bytes(new)) = (&then.body, &now.body) else {
            continue;
        };
        let ranges = edited.get(path).cloned().unwrap_or_default();
        let outside = |at: usize| !ranges.iter().any(|range| range.contains(&(at as u64)));
        let differ =
            (0..old.len().max(new.len())).find(|at| old.get(*at) != new.get(*at) && outside(*at));
        if then.stat.nlink == 1 && now.stat.nlink == 1 && !is_told && differ.is_some() {
            let name = stratafs::name::show(path);
            return Err(format!("{name} differs at {differ:?}, told {ranges:?}"));
        }
    }
    Ok(())
}

/// Whether a write was refused for want of room, or did not write all.
fn is_cut_short(op: &Op, got: &Outcome) -> bool {
    let (Op::Write { len, .. } | Op::Append { len, .. }) = op else {
        return false;
    };
    match got {
        Ok(Seen::Count(count)) => count < len,
        other => *other == Err(Errno::NoSpace),
    }
}

/// Removes everything: nothing is left that counts.
fn remove_all(fs: &Fs) -> Result<(), String> {
    for entry in fs.read_dir("/").map_err(|errno| errno.to_string())? {
        let path = [b"/", entry.name()].concat();
        let removed = match entry.kind() {
            Kind::Dir => fs.remove_dir_all(&path),
            Kind::File | Kind::Symlink => fs.remove_file(&path),
        };
        removed.map_err(|errno| format!("removing all: {errno}"))?;
    }
    match fs.usage().logical_bytes {
        0 => Ok(()),
        left => Err(format!("{left} bytes count when all is removed")),
    }
}

fn brief(outcome: &Outcome) -> String {
    let text = format!("{outcome:?}");
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}... ({} characters)", &text[..at], text.len()),
        None => text,
    }
}

/// Runs a list of operations; an error names the step.
pub fn run(start: &Start, ops: &[Op]) -> Result<(), String> {
    let Some(image) = start.image() else {
        return Ok(());
    };
    let mut twin = Twin::new(start, &image);
    for (at, op) in ops.iter().enumerate() {
        twin.step(op)
            .map_err(|error| format!("step {at}: {error}"))?;
    }
    twin.finish(&image)
}

/// Makes `count` random operations and runs them as they come.
fn run_random(
    start: &Start,
    generator: &mut Generator,
    count: usize,
) -> Result<(), (Vec<Op>, String)> {
    let image = start.image().expect("the generator keeps to the rules");
    let before = image.digest();
    let mut twin = Twin::new(start, &image);
    let mut ops = Vec::new();
    for _ in 0..count {
        let op = generator.next(&twin.model as &dyn Lookout);
        ops.push(op);
        if let Some(Err(error)) = ops.last().map(|op| twin.step(op)) {
            return Err((ops, error));
        }
    }
    twin.finish(&image).map_err(|error| (ops, error))?;
    assert_eq!(image.digest(), before, "the base has changed");
    Ok(())
}

/// Runs `runs` random lists of `count` operations each, in a short run of all
/// tests a quarter of them; panics with the seed
/// and the shortest list found that fails.
pub fn hunt(seed: u64, runs: u64, count: usize) {
    let seed = super::rng::from_env("STRATAFS_SEED").unwrap_or(seed);
    for round in 0..super::rng::runs("STRATAFS_RUNS", runs) {
        let own = seed.wrapping_add(round);
        let mut generator = Generator::new(own, false);
        let start = Start::random(&mut generator);
        if let Err((ops, error)) = run_random(&start, &mut generator, count) {
            eprintln!("STRATAFS_SEED={own}: {error}");
            let (start, ops) = shrink(start, ops);
            let now = run(&start, &ops).err().unwrap_or_else(|| error.clone());
            panic!(
                "STRATAFS_SEED={own}: {error}\nshrunk: {now}\nlayers: {:#?}\nquota: {:?}\nops:\n{}",
                start.layers,
                start.quota,
                ops.iter()
                    .map(|op| format!("  {op:?}\n"))
                    .collect::<String>()
            );
        }
    }
}

/// Leaves out what is not needed for a failure.
fn shrink(mut start: Start, mut ops: Vec<Op>) -> (Start, Vec<Op>) {
    let fails = |start: &Start, ops: &[Op]| {
        let start = std::panic::AssertUnwindSafe(start);
        std::panic::catch_unwind(|| run(*start, ops).is_err()).unwrap_or(true)
    };
    let mut size = ops.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + size).min(ops.len()));
            if fails(&start, &fewer) {
                ops = fewer
            } else {
                at += size
            }
        }
        size /= 2;
    }
    for layer in (0..start.layers.len()).rev() {
        for line in (0..start.layers[layer].len()).rev() {
            let taken = start.layers[layer].remove(line);
            if !fails(&start, &ops) {
                start.layers[layer].insert(line, taken);
            }
        }
    }
    (start, ops)
}
