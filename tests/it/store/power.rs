//! Power losses at any step of what a store does: nothing that was
//! acknowledged is lost, and what was half done is invisible and collected.

use std::collections::BTreeMap;
use std::path::Path;

use stratafs::store::{Store, StoreOptions};
use stratafs::vfs::Fs;

use super::disk_model::{Disk, Log};
use super::support::{get_file, noise, put_file};
use crate::support::rng::{Rng, from_env};

/// What each tag leads to: the bytes of the one file.
type Tags = BTreeMap<String, Vec<u8>>;

/// A moment at which an operation began, and what was acknowledged then.
struct Moment {
    step: usize,
    tags: Tags,
}

/// Makes images, tags, removals and collections at random, and notes when each
/// was begun and acknowledged.
struct Work {
    store: Store,
    log: Log,
    rng: Rng,
    tags: Tags,
    moments: Vec<Moment>,
}

impl Work {
    fn new(dir: &Path, seed: u64) -> Self {
        let log = Log::default();
        let store = StoreOptions::new().recorder(log.recorder());
        let mut work = Self {
            store: store.max_pack_bytes(150_000).open(dir).unwrap(),
            log,
            rng: Rng::new(seed),
            tags: Tags::new(),
            moments: Vec::new(),
        };
        work.acknowledge();
        work
    }

    fn acknowledge(&mut self) {
        let step = self.log.len();
        let tags = self.tags.clone();
        self.moments.push(Moment { step, tags });
    }

    /// Bytes of which some are those of others.
    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..=self.rng.below(3) {
            let seed = self.rng.below(6) as u64;
            bytes.extend(noise(seed, 20_000 + self.rng.below(60_000)));
        }
        bytes
    }

    fn tag(&mut self) -> Option<String> {
        let tags: Vec<_> = self.tags.keys().cloned().collect();
        (!tags.is_empty()).then(|| self.rng.pick(&tags).clone())
    }

    fn step(&mut self, number: usize) {
        let new = format!("t{}:1", self.rng.below(8));
        let old = self.tag();
        match (self.rng.below(8), old) {
            (0..=2, _) | (_, None) => {
                let bytes = self.bytes();
                put_file(&self.store, &new, &bytes).unwrap();
                self.tags.insert(new, bytes);
            }
            (3, Some(old)) => {
                self.store.tag(&old, &new).unwrap();
                self.tags.insert(new, self.tags[&old].clone());
            }
            (4, Some(old)) => {
                self.store.untag(&old).unwrap();
                self.tags.remove(&old);
            }
            (5 | 6, _) => drop(self.store.gc().unwrap()),
            (_, Some(old)) => self.commit(&old, &new, number),
        }
        self.acknowledge();
    }

    #[cfg(all(feature = "dir", feature = "oci"))]
    fn commit(&mut self, old: &str, new: &str, number: usize) {
        let tag = |tag: &str| tag.parse().unwrap();
        if self.rng.one_in(2) {
            stratafs::transfer::squash(&self.store, &tag(old), &tag(new)).unwrap();
            self.tags.insert(new.to_owned(), self.tags[old].clone());
            return;
        }
        let bytes = noise(number as u64, 50_000);
        let fs = Fs::new(&self.store.image(old).unwrap());
        fs.write("/file", &bytes).unwrap();
        fs.commit(&self.store, &tag(new), "a change").unwrap();
        self.tags.insert(new.to_owned(), bytes);
    }

    #[cfg(not(all(feature = "dir", feature = "oci")))]
    fn commit(&mut self, old: &str, _: &str, _: usize) {
        self.store.untag(old).unwrap();
        self.tags.remove(old);
    }
}

/// Which tags there are, with their bytes.
fn tags_of(store: &Store) -> Result<Tags, String> {
    let mut found = Tags::new();
    for image in store.list().map_err(|error| error.to_string())? {
        for tag in image.tags {
            let bytes = get_file(store, &tag)?;
            found.insert(tag, bytes);
        }
    }
    Ok(found)
}

/// Cuts the power after `step` steps, and looks at what the store makes of it.
fn lose(work: &Work, step: usize, rng: &mut Rng, from: &Path) {
    let steps = work.log.steps();
    let after = tempfile::tempdir().unwrap();
    let to = after.path().join("store");
    Disk::play(&steps[..step]).cut(rng, from, &to);
    let at = work.moments.partition_point(|moment| moment.step <= step);
    let before = &work.moments[at - 1].tags;
    let next = work.moments.get(at).map_or(before, |moment| &moment.tags);
    let what = format!(
        "after step {step} of {}, {:?}",
        steps.len(),
        steps.get(step - 1)
    );
    let what = what.chars().take(300).collect::<String>();
    let store = Store::open(&to).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = tags_of(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
    let keys = |tags: &Tags| tags.keys().cloned().collect::<Vec<_>>();
    assert!(
        found == *before || found == *next,
        "{what}: {:?} is neither {:?} nor {:?}",
        keys(&found),
        keys(before),
        keys(next),
    );
    let report = store.verify().unwrap();
    assert!(
        report.is_sound(),
        "{what}: {:?} {:?}",
        report.errors,
        report.unread
    );
    assert_eq!(store.stat().unwrap().unfinished_bytes, 0, "{what}");
    // It goes on as if nothing had been.
    put_file(&store, "again", &noise(77, 30_000)).unwrap();
    store.gc().unwrap();
    assert_eq!(get_file(&store, "again").unwrap(), noise(77, 30_000));
    store.untag("again").unwrap();
    assert_eq!(tags_of(&store).unwrap(), found, "{what}");
    store.gc().unwrap();
    assert!(store.verify().unwrap().is_sound(), "{what}");
}

/// `STRATAFS_TEST_POWER_LOSSES` says how many; 800 is a long run.
#[test]
fn what_was_acknowledged_survives_a_power_loss_at_any_step() {
    let losses = from_env("STRATAFS_TEST_POWER_LOSSES").unwrap_or(100);
    let seed = from_env("STRATAFS_SEED").unwrap_or(7);
    let mut done = 0;
    for round in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("store");
        let mut work = Work::new(&from, seed + round);
        for number in 0..14 {
            work.step(number);
        }
        let (first, end) = (work.moments[0].step, work.log.len());
        let mut rng = Rng::new(seed + round);
        for _ in 0..20 {
            let step = first + rng.below(end - first + 1);
            lose(&work, step, &mut rng, &from);
            done += 1;
            if done >= losses {
                return;
            }
        }
    }
}

/// Before a new store is acknowledged it may be anything, but what is left is
/// in nobody's way.
#[test]
fn a_power_loss_while_a_store_is_made_is_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("store");
    let work = Work::new(&from, 1);
    let (steps, mut rng) = (work.log.steps(), Rng::new(1));
    for step in 0..=steps.len() {
        for _ in 0..4 {
            let after = tempfile::tempdir().unwrap();
            let to = after.path().join("store");
            Disk::play(&steps[..step]).cut(&mut rng, &from, &to);
            let store = Store::open(&to).unwrap_or_else(|error| panic!("{step}: {error}"));
            put_file(&store, "a", b"a").unwrap();
            assert_eq!(get_file(&store, "a").unwrap(), b"a");
        }
    }
}
