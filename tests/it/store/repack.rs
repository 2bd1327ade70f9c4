//! Collections that take packs apart: what is in use stays readable and is
//! held once, what is not goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stratafs::chunk::ContentBuilder;
use stratafs::image::ImageConfig;
use stratafs::layer::Layer;
use stratafs::limits::MIN_PACK_USE_PERCENT;
use stratafs::meta::Meta;
use stratafs::store::{Import, LayerOrigin, Store};
use stratafs::vfs::Fs;

use super::support::{get_file, noise, path, put, put_file, shown};

/// Reads files into an import, in this order.
fn take(import: &mut Import, files: &[(&str, &[u8])]) {
    let mut layer = Layer::builder();
    for (at, bytes) in files {
        let content = ContentBuilder::of(import.pool(), bytes);
        layer
            .file(&path(at), Meta::with_mode(0o644), content)
            .unwrap();
    }
    import.layer(layer.finish().unwrap(), LayerOrigin::new());
}

#[test]
fn packs_mostly_dead_are_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (large, rest) = (noise(1, 900_000), noise(2, 50_000));
    put_file(&store, "large", &large).unwrap();
    // Of the same pack, with something of its own.
    let small = [&large[..100_000], &rest].concat();
    let id = put_file(&store, "small", &small).unwrap();
    let before = store.info("small").unwrap();
    let reader = Fs::new(&store.image("small").unwrap());
    let large_reader = Fs::new(&store.image("large").unwrap());
    store.untag("large").unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.images, report.repacked), (1, 1));
    let stat = store.stat().unwrap();
    assert!(stat.chunk_bytes < 170_000, "{stat:?}");
    assert!(report.freed_bytes > 700_000, "{report:?}");
    assert_eq!(store.info("small").unwrap(), before);
    assert_eq!(store.resolve("small").unwrap(), id);
    assert!(get_file(&store, "small").unwrap() == small);
    let again = Store::open(dir.path()).unwrap();
    assert!(get_file(&again, "small").unwrap() == small);
    // Readers from before go on, of what is gone as well.
    assert!(reader.read("/file").unwrap() == small);
    assert!(large_reader.read("/file").unwrap() == large);
    assert!(store.verify().unwrap().is_sound());
    // What is good is left alone.
    let second = store.gc().unwrap();
    assert_eq!((second.repacked, second.freed_bytes), (0, 0));
    // And it is known to the next import.
    put_file(&store, "again", &small).unwrap();
    assert_eq!(store.stat().unwrap().chunk_bytes, stat.chunk_bytes);
}

#[test]
fn the_share_in_use_decides() {
    for (used, apart) in [(MIN_PACK_USE_PERCENT + 7, 0), (MIN_PACK_USE_PERCENT - 7, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let bytes = noise(7, 2_000_000);
        let part = bytes.len() * usize::try_from(used).unwrap() / 100;
        put_file(&store, "whole", &bytes).unwrap();
        put_file(&store, "part", &bytes[..part]).unwrap();
        store.untag("whole").unwrap();
        assert_eq!(store.gc().unwrap().repacked, apart, "{used} %");
        assert!(get_file(&store, "part").unwrap() == bytes[..part]);
    }
}

#[test]
fn everything_a_layer_has_and_its_blob_move_along() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let dead = noise(5, 2_000_000);
    let blob_bytes = noise(6, 70_000);
    let mut import = store.import().unwrap();
    let pool = import.pool().clone();
    let layers = [super::support::lower(&pool), super::support::upper(&pool)];
    let blob = import.put_blob(&mut &blob_bytes[..], None).unwrap();
    import.raw_config(b"raw").unwrap();
    for layer in &layers {
        let origin = LayerOrigin::of_blob(blob, "x", blob.digest);
        import.layer(layer.clone(), origin);
    }
    // Bytes in the same pack that no image will have.
    let unused = ContentBuilder::of(&pool, &dead);
    import.commit(ImageConfig::new(), Some("a")).unwrap();
    drop(unused);
    let digests = |store: &Store| {
        let layers = store.layers("a").unwrap();
        layers.iter().map(Layer::digest).collect::<Vec<_>>()
    };
    let (before, known) = (shown(&store.image("a").unwrap()).unwrap(), digests(&store));
    assert_eq!(store.gc().unwrap().repacked, 1);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(shown(&store.image("a").unwrap()).unwrap(), before);
    assert_eq!(digests(&store), known);
    let mut read = Vec::new();
    std::io::Read::read_to_end(&mut store.blob(blob.digest).unwrap(), &mut read).unwrap();
    assert!(read == blob_bytes);
    assert!(store.verify().unwrap().is_sound());
    assert!(store.stat().unwrap().chunk_bytes < 500_000);
}

#[test]
fn two_imports_of_the_same_at_once_keep_one_copy() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (noise(1, 400_000), noise(2, 400_000));
    // Neither sees what the other has, and they come in another order, so that
    // their packs are two.
    let (mut first, mut second) = (store.import().unwrap(), store.import().unwrap());
    take(&mut first, &[("a", &one), ("b", &two)]);
    take(&mut second, &[("c", &two), ("d", &one)]);
    first.commit(ImageConfig::new(), Some("first")).unwrap();
    second.commit(ImageConfig::new(), Some("second")).unwrap();
    assert_eq!(store.stat().unwrap().chunk_bytes, 1_600_000);
    assert_eq!(store.gc().unwrap().repacked, 1);
    let stat = store.stat().unwrap();
    assert_eq!((stat.packs, stat.images), (1, 2));
    assert_eq!(stat.chunk_bytes, 800_000);
    for (tag, file, bytes) in [
        ("first", "/a", &one),
        ("first", "/b", &two),
        ("second", "/c", &two),
        ("second", "/d", &one),
    ] {
        let fs = Fs::new(&store.image(tag).unwrap());
        assert!(fs.read(file).unwrap() == *bytes, "{tag} {file}");
    }
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn damage_is_not_carried_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = noise(1, 500_000);
    put_file(&store, "whole", &bytes).unwrap();
    put_file(&store, "part", &bytes[..100_000]).unwrap();
    store.untag("whole").unwrap();
    for entry in std::fs::read_dir(dir.path().join("packs")).unwrap() {
        let pack = entry.unwrap().path();
        let mut damaged = std::fs::read(&pack).unwrap();
        damaged[4096 + 10] ^= 1;
        std::fs::write(&pack, damaged).unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.images, report.repacked), (1, 0));
    assert!(report.damaged > 0);
    let errors = store.verify().unwrap().errors;
    let errors = errors.iter().map(ToString::to_string);
    assert!(
        errors
            .into_iter()
            .any(|error| error.contains("damaged at byte 4096"))
    );
    assert!(store.image("part").is_ok());
    // Once it is right again, it is taken apart.
    put_file(&store, "part", &bytes[..100_000]).unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.repacked, report.damaged), (1, 0));
    assert!(get_file(&store, "part").unwrap() == bytes[..100_000]);
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn damage_keeps_nothing_else_from_being_collected() {
    // A layer, a chunk and a table, each damaged in an image of its own.
    for which in ["layers", "chunk", "table", "gone"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (bad, good) = (noise(1, 300_000), noise(2, 300_000));
        put_file(&store, "bad", &bad).unwrap();
        let files = |name: &str| {
            let entries = std::fs::read_dir(dir.path().join(name)).unwrap();
            entries
                .map(|entry| entry.unwrap().path())
                .collect::<Vec<_>>()
        };
        let (pack, layer) = (files("packs").remove(0), files("layers").remove(0));
        put_file(&store, "large", &good).unwrap();
        put_file(&store, "part", &good[..50_000]).unwrap();
        // Little of the bad pack is in use as well.
        put_file(&store, "bad", &bad[..50_000]).unwrap();
        let layer = match which {
            "layers" => files("layers")
                .into_iter()
                .filter(|file| *file != layer)
                .max_by_key(|file| std::fs::metadata(file).unwrap().modified().unwrap())
                .unwrap(),
            _ => layer,
        };
        let flip = |file: &std::path::Path, at: usize| {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[at] ^= 1;
            std::fs::write(file, bytes).unwrap();
        };
        let end = usize::try_from(std::fs::metadata(&pack).unwrap().len()).unwrap();
        match which {
            "layers" => flip(&layer, 20),
            "chunk" => flip(&pack, 5000),
            "table" => flip(&pack, end - 100),
            _ => std::fs::remove_file(&pack).unwrap(),
        }
        store.untag("large").unwrap();
        let store = Store::open(dir.path()).unwrap();
        let report = store.gc().unwrap();
        assert!(report.damaged > 0, "{which}");
        assert!(report.repacked >= 1, "{which}");
        assert!(get_file(&store, "part").unwrap() == good[..50_000]);
        // Nothing that could still be read has gone.
        assert_eq!(pack.exists(), which != "gone", "{which}");
        assert_eq!(store.list().unwrap().len(), 2, "{which}");
    }
}

#[test]
fn a_watched_store_tells_what_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put(&store, "a").unwrap();
    let bytes = noise(3, 5 << 20);
    put_file(&store, "b", &bytes).unwrap();
    let told = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&told);
    let watched = store.watched(Arc::new(move |progress| {
        assert!(progress.bytes >= seen.fetch_max(progress.bytes, Ordering::Relaxed));
    }));
    assert!(get_file(&watched, "b").unwrap() == bytes);
    let told = told.load(Ordering::Relaxed);
    assert!((4 << 20..=5 << 20).contains(&told), "{told}");
}
