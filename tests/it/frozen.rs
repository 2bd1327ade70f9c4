//! Every guest of `guest-examples` for preview1, frozen at its calls and gone on with: output,
//! end and tree are those of a run that was left alone, byte for byte.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex};

use stratafs::chunk::ChunkPool;
use stratafs::digest::Digest;
use stratafs::image::Image;
use stratafs::meta::Kind;
use stratafs::runner::freeze::{Checkpoint, Freezing, Point, freeze};
use stratafs::runner::{
    Guest, GuestDir, Outcome, OutputSink, RunPlan, Runner, RunnerConfig, Stdio, Stream,
};
use stratafs::source::{self, SourceOptions};
use stratafs::vfs::{Fs, Rights};

#[cfg(target_os = "linux")]
use crate::soak::tree;
use crate::support::base::Base;
use crate::support::guest::{World, guest};
use crate::support::rng::is_long;

/// Calls of one function that a long run freezes at, each of them; further ones are taken
/// with gaps that grow.
const EACH: u64 = 400;

/// Bytes of the largest file that is compared byte by byte.
const MOST_READ: u64 = 64 << 20;

/// What a guest left.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    out: String,
    err: String,
    outcome: String,
    tree: Vec<String>,
}

#[derive(Default)]
struct Written(Mutex<[Vec<u8>; 2]>);

impl OutputSink for Written {
    fn write(&self, _: u32, stream: Stream, bytes: &[u8]) {
        let number = usize::from(stream == Stream::Stderr);
        self.0.lock().unwrap()[number].extend_from_slice(bytes);
    }
}

/// One guest over the base, with what it has to leave.
struct Watched {
    guest: Guest,
    image: Image,
    args: Vec<String>,
    /// The directories that it is shown.
    shown: Vec<GuestDir>,
    /// Holds the build that can be stopped.
    cache: tempfile::TempDir,
}

impl Watched {
    fn new(name: &str, args: &[&str]) -> Self {
        Self::over(Base::new().path(), name, args)
    }

    fn over(base: &Path, name: &str, args: &[&str]) -> Self {
        let options = SourceOptions::default();
        let layer = source::dir_ambient(&ChunkPool::new(), base, &options).unwrap();
        let words = [name].into_iter().chain(args.iter().copied());
        Self {
            guest: Guest::from_file(&guest(name, World::P1)).unwrap(),
            image: Image::new(&[layer]).unwrap(),
            args: words.map(str::to_owned).collect(),
            shown: vec![GuestDir {
                dir: "/".into(),
                guest: "/".into(),
                rights: Rights::ReadWrite,
            }],
            cache: tempfile::tempdir().unwrap(),
        }
    }

    fn plan(&self, written: &Arc<Written>) -> RunPlan {
        let mut plan = RunPlan::default();
        plan.args.clone_from(&self.args);
        plan.tell_number = false;
        plan.furnished = true;
        plan.deterministic = true;
        plan.keep_file_systems = true;
        plan.preopens.clone_from(&self.shown);
        plan.stdio = Stdio::Collect(Arc::clone(written) as Arc<dyn OutputSink>);
        plan
    }

    fn left_alone(&self) -> Left {
        let written = Arc::default();
        let runner = Runner::new(&self.guest, RunnerConfig::default()).unwrap();
        let report = runner.run(&self.image, &self.plan(&written)).unwrap();
        let outcome = &report.instances[0].outcome;
        left(&written, outcome, &report.file_systems[0])
    }

    /// Runs it in two parts; `None` if it does not come to the point.
    fn in_two(&self, point: &Point) -> Option<Left> {
        let written = Arc::default();
        let mut config = RunnerConfig::default();
        config.cache_dir = Some(self.cache.path().to_owned());
        let plan = self.plan(&written);
        let frozen = freeze(&self.guest, &self.image, &plan, &config, point);
        let frozen = frozen.unwrap_or_else(|error| panic!("{point}: {error}"));
        let Freezing::Frozen(checkpoint) = frozen else {
            return None;
        };
        let checkpoint = match point {
            Point::Call { nth, .. } if nth % 2 == 0 => at_rest(&checkpoint),
            _ => checkpoint,
        };
        // What was compiled for one point is found at the next.
        let runner = checkpoint.runner(config).unwrap();
        let mut after = checkpoint.plan();
        (after.deterministic, after.keep_file_systems) = (true, true);
        after.tell_number = false;
        after.stdio = plan.stdio;
        let report = runner.run(checkpoint.image(), &after).unwrap();
        let outcome = &report.instances[0].outcome;
        Some(left(&written, outcome, &report.file_systems[0]))
    }

    /// The functions that it imports.
    fn functions(&self) -> BTreeSet<String> {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, self.guest.wasm().unwrap()).unwrap();
        let imports = module.imports();
        imports.map(|import| import.name().to_owned()).collect()
    }
}

/// Returns a checkpoint as it is read from the image that it was kept in.
fn at_rest(checkpoint: &Checkpoint) -> Checkpoint {
    let kept = checkpoint.to_fs().unwrap();
    let mut layers = kept.image().layers().to_vec();
    layers.push(kept.diff(&ChunkPool::new()).unwrap());
    let image = Image::new(&layers).unwrap();
    Checkpoint::open(&image).unwrap().unwrap()
}

fn left(written: &Written, outcome: &Outcome, fs: &Fs) -> Left {
    let [out, err] = &*written.0.lock().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Left {
        out: text(out),
        err: text(err),
        outcome: outcome.to_string(),
        tree: tree(fs),
    }
}

/// A line for each object but for what belongs to a checkpoint.
fn tree(fs: &Fs) -> Vec<String> {
    let entries = fs.walk("/").unwrap().map(|entry| entry.unwrap());
    let paths = entries.map(|entry| entry.path());
    let paths = [b"/".to_vec()].into_iter().chain(paths).filter(|path| {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        !path.starts_with(b".stratafs")
    });
    let mut lines: Vec<String> = paths
        .map(|path| {
            let stat = fs.symlink_metadata(path.as_slice()).unwrap();
            let content = match stat.kind {
                Kind::File if stat.size > MOST_READ => stat.size.to_string(),
                Kind::File => Digest::of(&fs.read(path.as_slice()).unwrap()).to_string(),
                Kind::Symlink => format!("{:?}", fs.read_link(path.as_slice()).unwrap()),
                Kind::Dir => String::new(),
            };
            format!(
                "{} {:?} {:o} {} {:?} {content}",
                path.escape_ascii(),
                stat.kind,
                stat.mode,
                stat.nlink,
                stat.mtime
            )
        })
        .collect();
    lines.sort();
    lines
}

/// Which call comes after the `nth`: every one, or fewer and fewer.
fn next(nth: u64) -> u64 {
    match is_long() {
        true if nth < EACH => nth + 1,
        true => nth + nth / 8,
        false => nth * 40 + 1,
    }
}

/// Functions that a short run freezes at.
const FEW: usize = 12;

/// Freezes a guest at the calls of each function that it imports.
fn same(name: &str, args: &[&str]) {
    same_as_left_alone(&Watched::new(name, args), &format!("{name} {args:?}"));
}

fn same_as_left_alone(watched: &Watched, name: &str) {
    let want = watched.left_alone();
    assert!(!want.out.is_empty(), "{name}: {want:?}");
    let mut points = 0;
    let functions = watched.functions();
    let gap = match is_long() {
        true => 1,
        false => functions.len().div_ceil(FEW),
    };
    for function in functions.into_iter().step_by(gap) {
        let mut nth = 1;
        loop {
            let point = call(&function, nth);
            let Some(left) = watched.in_two(&point) else {
                break;
            };
            assert_same(&left, &want, &format!("{name} at {point}"));
            points += 1;
            nth = next(nth);
        }
    }
    assert!(points > 1, "{name}: {points} points");
}

/// Says what differs, and not all that does not.
fn assert_same(left: &Left, want: &Left, what: &str) {
    assert_eq!(
        (&left.outcome, &left.err),
        (&want.outcome, &want.err),
        "{what}"
    );
    for (number, (ours, theirs)) in left.out.lines().zip(want.out.lines()).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", number + 1);
    }
    assert_eq!(left.out, want.out, "{what}");
    let gone: Vec<_> = want
        .tree
        .iter()
        .filter(|line| !left.tree.contains(line))
        .collect();
    let new: Vec<_> = left
        .tree
        .iter()
        .filter(|line| !want.tree.contains(line))
        .collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "{what}: {new:#?} for {gone:#?}"
    );
}

macro_rules! frozen {
    ($($name:ident: $args:expr;)*) => {$(
        #[test]
        fn $name() {
            same(stringify!($name), &$args);
        }
    )*};
}

frozen! {
    append_two_handles: [];
    bench_writes: ["/", "65536", "1"];
    deep_tree: ["12"];
    dot_entries: [];
    edit_one_byte: [];
    exerciser: ["2", "60"];
    hard_links: [];
    hello: [];
    iovecs: [];
    list_walk: [];
    many_open: [];
    marker: [];
    may: ["list:/data", "read:/data/big.bin", "mkdir:/made", "write:/made/new", "read:/none"];
    ravage: [];
    raw_p1: [];
    read_through: ["/data/big.bin", "60000"];
    readdir_delete: [];
    rename_matrix: [];
    sparse: [];
    symlinks: [];
    times: [];
    unlink_open: [];
    wordcount: [];
}

/// A file that was moved away and back is as it was but for its time of change, and in no layer.
#[test]
fn times_of_what_was_moved_back_go_on() {
    goes_on_at(&Watched::new("halfway", &["all"]), "fd_write", 30..=45);
}

/// A link of the base that the guest renamed and that climbs past the root is refused where one of a
/// layer ends at the root.
#[cfg(target_os = "linux")]
#[test]
fn links_of_the_guest_stay_its_own() {
    goes_on_at(&soak("3", "400"), "args_get", 5..=5);
}

/// A directory that was opened below a preopen that is read-only, and removed, is so behind the point.
#[cfg(target_os = "linux")]
#[test]
fn what_was_opened_read_only_stays_read_only() {
    goes_on_at(&soak("5", "400"), "args_get", 4..=4);
}

/// Freezes a guest at these calls of a function, each of which it makes.
fn goes_on_at(watched: &Watched, function: &str, calls: RangeInclusive<u64>) {
    let want = watched.left_alone();
    for nth in calls {
        let point = call(function, nth);
        let left = watched.in_two(&point).unwrap();
        assert_same(&left, &want, &point.to_string());
    }
}

fn call(function: &str, nth: u64) -> Point {
    Point::Call {
        function: function.to_owned(),
        nth,
    }
}

#[cfg(target_os = "linux")]
fn soak(seed: &str, count: &str) -> Watched {
    let base = tree::fresh();
    tree::fill(base.path());
    let mut watched = Watched::over(base.path(), "soak_p1", &[seed, count]);
    watched.shown.push(GuestDir {
        dir: "/".into(),
        guest: "/ro".into(),
        rights: Rights::ReadOnly,
    });
    watched
}

/// Calls at random, with what they open, move and renumber before and after the point.
#[cfg(target_os = "linux")]
#[test]
fn soak_p1() {
    let (seeds, count) = match is_long() {
        true => (20, "400"),
        false => (2, "80"),
    };
    for seed in 1..=seeds {
        let watched = soak(&seed.to_string(), count);
        same_as_left_alone(&watched, &format!("soak_p1 {seed} {count}"));
    }
}

/// One guest, in the middle of what is easily lost.
mod halfway {
    macro_rules! halfway {
        ($($part:ident)*) => {$(
            #[test]
            fn $part() {
                super::same("halfway", &[stringify!($part)]);
            }
        )*};
    }

    halfway! { recursion listing appending removed renamed numbers waiting drawn flags all }
}
