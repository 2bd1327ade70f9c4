//! Commands that are killed at any moment: what was acknowledged stays, what
//! was half done does not show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stratafs::chunk::ChunkPool;
use stratafs::source::{SourceOptions, open};
use stratafs::store::Store;
use stratafs::vfs::Fs;

use super::Cli;
use crate::support::rng::{Rng, from_env};
use crate::support::script::Script;

/// The bytes of `/file` and `/made` in each image that has a tag.
type Tags = BTreeMap<String, Trees>;
type Trees = [Vec<u8>; 2];

/// What a command does if it is not killed.
enum After {
    /// The tags of the store are these.
    Tags(Tags),
    /// A file or directory is there, and shows this.
    Output(&'static str, Trees),
    /// A file is there and has this text.
    Text(&'static str, String),
    Nothing,
}

struct Work {
    cli: Cli,
    rng: Rng,
    tags: Tags,
    /// How long a command runs that is not killed, the last time it was not.
    took: BTreeMap<String, Duration>,
    killed: u64,
}

impl Work {
    fn new(seed: u64) -> Self {
        let cli = Cli::new();
        let mut rng = Rng::new(seed);
        let guest = Script::new().write("made", &[b'm'; 5000]).cat("file");
        for number in 0..4 {
            cli.file(&format!("src{number}/file"), noise(&mut rng, number));
            cli.file(&format!("src{number}/guest.wat"), guest.wat());
        }
        let mut work = Self {
            cli,
            rng,
            tags: Tags::new(),
            took: BTreeMap::new(),
            killed: 0,
        };
        for number in 0..3 {
            work.import(number, &format!("t{number}:1"));
        }
        // The compiled guest is in the cache from here on.
        work.cli.run("run --image t0:1 /guest.wat").fine();
        work
    }

    fn import(&mut self, number: usize, tag: &str) {
        let source = format!("src{number}");
        self.cli
            .run(&format!("image import {source} --tag {tag}"))
            .fine();
        let bytes = fs::read(self.cli.path(&source).join("file")).unwrap();
        self.tags.insert(tag.to_owned(), [bytes, Vec::new()]);
    }

    /// Picks a command, and tells what it does.
    fn command(&mut self) -> (String, After) {
        let tags: Vec<_> = self.tags.keys().cloned().collect();
        let old = self.rng.pick(&tags).clone();
        let new = format!("n{}:1", self.rng.below(5));
        let mut next = self.tags.clone();
        let shown = self.tags[&old].clone();
        match self.rng.below(11) {
            0 | 1 => {
                let number = self.rng.below(4);
                let bytes = fs::read(self.cli.path(&format!("src{number}/file"))).unwrap();
                next.insert(new.clone(), [bytes, Vec::new()]);
                (
                    format!("image import src{number} --tag {new}"),
                    After::Tags(next),
                )
            }
            2 => {
                next.insert(new.clone(), [shown[0].clone(), vec![b'm'; 5000]]);
                (
                    format!("run --image {old} --commit {new} /guest.wat"),
                    After::Tags(next),
                )
            }
            3 => {
                next.insert(new.clone(), shown);
                (format!("image squash {old} --tag {new}"), After::Tags(next))
            }
            4 => {
                next.insert(new.clone(), shown);
                (format!("image tag {old} {new}"), After::Tags(next))
            }
            5 if next.len() > 2 => {
                next.remove(&old);
                (format!("image rm {old}"), After::Tags(next))
            }
            5 | 6 => ("store gc".to_owned(), After::Nothing),
            7 => (
                format!("image export {old} out.tar --format tar"),
                After::Output("out.tar", shown),
            ),
            8 => (
                format!("image export {old} out-oci.tar"),
                After::Output("out-oci.tar", shown),
            ),
            9 => (
                format!("run --image {old} --diff diff.tar /guest.wat"),
                After::Output("diff.tar", [Vec::new(), vec![b'm'; 5000]]),
            ),
            _ => {
                let size = shown[0].len();
                (
                    format!("run --image {old} --trace trace /guest.wat"),
                    After::Text("trace", format!("\"size_bytes\":{size}")),
                )
            }
        }
    }

    /// Runs a command and kills it, most times, before it ends.
    fn step(&mut self) {
        let (words, after) = self.command();
        let kind = words.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let before = match &after {
            After::Output(name, _) | After::Text(name, _) => fs::read(self.cli.path(name)).ok(),
            _ => None,
        };
        let mut command = self.cli.command(&words);
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let started = Instant::now();
        let mut child = command.spawn().unwrap();
        let usual = *self.took.get(&kind).unwrap_or(&Duration::from_millis(30));
        let micros = usize::try_from(usual.as_micros()).unwrap().max(1);
        std::thread::sleep(Duration::from_micros(self.rng.below(micros * 5 / 4) as u64));
        drop(child.kill());
        let status = child.wait().unwrap();
        match status.code() {
            Some(0) => drop(self.took.insert(kind, started.elapsed())),
            Some(code) => panic!("{words}: exit code {code}"),
            None => self.killed += 1,
        }
        self.look(&words, &after, status.success(), before);
    }

    fn look(&mut self, words: &str, after: &After, done: bool, before: Option<Vec<u8>>) {
        let store = Store::open(&self.cli.path("store")).unwrap();
        let found = tags(&store);
        match after {
            After::Tags(next) if done || found != self.tags => {
                assert!(found == *next, "{words}: {done}, {:?}", found.keys());
                self.tags = found;
            }
            _ => assert!(found == self.tags, "{words}: {:?}", found.keys()),
        }
        match after {
            After::Output(name, expected) => {
                let path = self.cli.path(name);
                let now = fs::read(&path).ok();
                if done || now != before {
                    assert!(out(&path) == *expected, "{words}: {done}");
                }
            }
            After::Text(name, expected) => {
                let now = fs::read(self.cli.path(name)).ok();
                if done || now != before {
                    let text = String::from_utf8(now.unwrap()).unwrap();
                    let whole = text.contains(expected) && text.ends_with("}\n");
                    assert!(whole, "{words}: {text:?}");
                }
            }
            After::Tags(_) | After::Nothing => {}
        }
    }
}

fn noise(rng: &mut Rng, number: usize) -> Vec<u8> {
    // All begin alike.
    let mut same = Rng::new(1);
    let len = 200_000 + number * 50_000;
    (0..len)
        .map(|at| if at < 150_000 { &mut same } else { &mut *rng }.next() as u8)
        .collect()
}

fn tags(store: &Store) -> Tags {
    let mut found = Tags::new();
    for image in store.list().unwrap() {
        for tag in image.tags {
            let fs = Fs::new(&store.image(&tag).unwrap());
            let read = |path: &str| fs.read(path).unwrap_or_default();
            found.insert(tag, [read("/file"), read("/made")]);
        }
    }
    found
}

/// What an archive that came out shows.
fn out(path: &Path) -> Trees {
    let pool = ChunkPool::new();
    let layers = open(&pool, path, &SourceOptions::default()).unwrap();
    let fs = Fs::new(&stratafs::image::Image::new(&layers).unwrap());
    let read = |path: &str| fs.read(path).unwrap_or_default();
    [read("/file"), read("/made")]
}

/// `STRATAFS_TEST_KILLS` says how many; 300 is a long run.
#[test]
fn what_was_acknowledged_survives_kills_at_any_moment_of_any_command() {
    let kills = from_env("STRATAFS_TEST_KILLS").unwrap_or(40);
    let seed = from_env("STRATAFS_SEED").unwrap_or(3);
    let mut work = Work::new(seed);
    let mut steps = 0;
    while work.killed < kills {
        work.step();
        steps += 1;
        assert!(steps < 20 * kills + 100, "{} of {steps}", work.killed);
        if steps % 20 == 0 {
            check(&work);
        }
    }
    // What the dead left is gone once each command has ended in peace.
    work.cli.run("store gc").fine();
    check(&work);
    let store = work.cli.path("store");
    let left = names(&store.join("tmp"));
    assert!(left.is_empty(), "{left:?}");
    let stat = work.cli.run("store stat --json").fine().stdout.clone();
    let stat: serde_json::Value = serde_json::from_slice(&stat).unwrap();
    assert_eq!(names(&store.join("packs")).len() as u64, stat["packs"]);
    assert_eq!(names(&store.join("layers")).len() as u64, stat["layers"]);
    println!("{} killed of {steps} commands", work.killed);
}

fn check(work: &Work) {
    let report = Store::open(&work.cli.path("store"))
        .unwrap()
        .verify()
        .unwrap();
    assert!(report.is_sound(), "{:?} {:?}", report.errors, report.unread);
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[cfg(unix)]
#[test]
fn an_import_that_is_asked_to_end_leaves_nothing_in_the_store() {
    use std::process::Stdio;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let cli = Cli::new();
    cli.run("store init").fine();
    let mut rng = Rng::new(1);
    let bytes: Vec<u8> = (0..12 << 20)
        .flat_map(|_| rng.next().to_le_bytes())
        .collect();
    cli.file("src/big", bytes);
    let tmp = cli.path("store/tmp");
    let held = || {
        let entries = fs::read_dir(&tmp).unwrap();
        let lens = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        lens.sum::<u64>()
    };
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut child = cli
            .command("image import src --tag a")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while held() < 1 << 20 {
            assert!(child.try_wait().unwrap().is_none(), "it was too fast");
        }
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
        cli.run("store verify").fine();
    }
}
