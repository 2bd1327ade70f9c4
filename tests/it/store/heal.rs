//! Imports over damage: what is brought in again is right again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use stratafs::chunk::ContentBuilder;
use stratafs::image::ImageConfig;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::store::{LayerOrigin, Progress, Store, StoreError, StoreOptions};

use super::support::{get_file, noise, path, put_file};

/// Puts an image of one file in, and tells how the import went.
fn put_told(store: &Store, tag: &str, bytes: &[u8]) -> Result<Progress, StoreError> {
    let told = Arc::new(Mutex::new(Progress::default()));
    let last = Arc::clone(&told);
    let mut import = store.import()?;
    import.watch(Arc::new(move |progress| *last.lock().unwrap() = progress));
    let mut layer = Layer::builder();
    let content = ContentBuilder::of(import.pool(), bytes);
    layer.file(&path("file"), Meta::with_mode(0o644), content)?;
    import.layer(layer.finish()?, LayerOrigin::new());
    import.commit(ImageConfig::new(), Some(tag))?;
    let told = *told.lock().unwrap();
    Ok(told)
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("packs")).unwrap();
    let mut found: Vec<_> = found.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// A store of one pack, and two images that share its first chunks.
fn shared(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let first = noise(1, 200_000);
    let second = [&first[..150_000], &noise(2, 1000)[..]].concat();
    let store = Store::open(dir).unwrap();
    put_file(&store, "first", &first).unwrap();
    put_file(&store, "second", &second).unwrap();
    (first, second)
}

#[test]
fn an_import_over_a_damaged_chunk_heals_it_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = shared(dir.path());
    let pack = packs(dir.path())
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap();
    let good = fs::read(&pack).unwrap();
    for at in [4096, 5000, 60_000, 140_000] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&pack, &bad).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(get_file(&store, "second").is_err(), "{at}");
        // The chunk, and what has it: two layers, two images.
        assert_eq!(store.verify().unwrap().errors.len(), 5, "{at}");
        let told = put_told(&store, "first", &first).unwrap();
        assert_eq!((told.healed_chunks, told.new_chunks), (1, 0), "{at}");
        // For all images that have it, in this process and in others.
        assert!(get_file(&store, "second").unwrap() == second, "{at}");
        let again = Store::open(dir.path()).unwrap();
        assert!(get_file(&again, "first").unwrap() == first, "{at}");
        assert!(again.verify().unwrap().is_sound(), "{at}");
        assert!(fs::read(&pack).unwrap() == good, "{at}");
        let told = put_told(&store, "first", &first).unwrap();
        assert_eq!((told.healed_chunks, told.new_chunks), (0, 0), "{at}");
    }
}

#[test]
fn every_byte_of_a_pack_can_be_lost_and_brought_in_again() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = shared(dir.path());
    for pack in packs(dir.path()) {
        let good = fs::read(&pack).unwrap();
        let end = good.len();
        let flipped = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            Some(bad)
        };
        let damaged = [
            flipped(0),          // magic
            flipped(9),          // version
            flipped(end - 1000), // table
            flipped(end - 60),   // foot
            flipped(end - 1),    // the name in the foot
            Some(good[..end / 2].to_vec()),
            Some(Vec::new()),
            Some([&good[..], b"more"].concat()),
            None, // removed
        ];
        for (which, bad) in damaged.into_iter().enumerate() {
            match &bad {
                Some(bad) => fs::write(&pack, bad).unwrap(),
                None => fs::remove_file(&pack).unwrap(),
            }
            let store = Store::open(dir.path()).unwrap();
            assert!(!store.verify().unwrap().is_sound(), "{which}");
            // One store handle for all: the first import must not make the
            // later ones believe in what it could not read.
            for _ in 0..2 {
                put_file(&store, "first", &first).unwrap();
                put_file(&store, "second", &second).unwrap();
                let now = Store::open(dir.path()).unwrap();
                assert!(get_file(&now, "first").unwrap() == first, "{which}");
                assert!(get_file(&now, "second").unwrap() == second, "{which}");
            }
            fs::write(&pack, &good).unwrap();
        }
    }
}

#[test]
fn a_chunk_is_read_once_when_it_is_met_again() {
    let reads = |len: usize| {
        let dir = tempfile::tempdir().unwrap();
        let bytes = noise(3, len);
        put_file(&Store::open(dir.path()).unwrap(), "a", &bytes).unwrap();
        let reads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reads);
        let packs = dir.path().join("packs");
        let hook = move |step: &str, path: &Path| {
            counted.fetch_add(
                u64::from(step == "read" && path.starts_with(&packs)),
                Ordering::Relaxed,
            );
            Ok(())
        };
        let store = StoreOptions::new().hook(Arc::new(hook));
        let store = store.open(dir.path()).unwrap();
        let told = put_told(&store, "b", &[&bytes[..], &bytes[..]].concat()).unwrap();
        assert!(told.chunks > 2 * len as u64 / 20_000, "{told:?}");
        (reads.load(Ordering::Relaxed), told.chunks)
    };
    let (one, chunks) = reads(300_000);
    assert!(one <= chunks, "{one} reads for {chunks} chunks");
    let (two, _) = reads(600_000);
    assert!(two * 2 <= one * 5, "{one} reads, {two} for twice as much");
}

/// What a crash leaves of a healing is no worse than the damage was.
#[test]
fn a_power_loss_while_a_chunk_is_healed_is_no_worse_than_the_damage() {
    use super::disk_model::{Disk, Kept, Log};
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("store");
    let log = Log::default();
    let store = StoreOptions::new()
        .recorder(log.recorder())
        .open(&from)
        .unwrap();
    let (bytes, other) = (noise(1, 100_000), noise(2, 30_000));
    put_file(&store, "a", &bytes).unwrap();
    put_file(&store, "other", &other).unwrap();
    let pack = packs(&from)
        .into_iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len())
        .unwrap();
    let mut bad = fs::read(&pack).unwrap();
    bad[20_000] ^= 1;
    fs::write(&pack, &bad).unwrap();
    log.push(Kept::Write(pack.clone(), 20_000, vec![bad[20_000]]));
    log.push(Kept::Sync(pack));
    let first = log.len();
    drop(store);
    let store = StoreOptions::new()
        .recorder(log.recorder())
        .open(&from)
        .unwrap();
    assert_eq!(put_told(&store, "a", &bytes).unwrap().healed_chunks, 1);
    let steps = log.steps();
    let mut rng = crate::support::rng::Rng::new(5);
    for step in first..=steps.len() {
        let after = tempfile::tempdir().unwrap();
        let to = after.path().join("store");
        Disk::play(&steps[..step]).cut(&mut rng, &from, &to);
        let store = Store::open(&to).unwrap();
        assert!(get_file(&store, "other").unwrap() == other, "{step}");
        let healed = get_file(&store, "a").is_ok_and(|read| read == bytes);
        assert!(healed || step < steps.len(), "it was acknowledged");
        put_file(&store, "a", &bytes).unwrap();
        assert!(get_file(&store, "a").unwrap() == bytes, "{step}");
        assert!(store.verify().unwrap().is_sound(), "{step}");
    }
}
