//! What goes in comes out.

use std::io::Read;

use stratafs::chunk::{ChunkPool, ContentBuilder};
use stratafs::image::{HistoryEntry, Image, ImageConfig};
use stratafs::layer::{EntryBody, Layer};
use stratafs::limits::{
    MAX_PACK_BYTES, REST_CHUNK_AVERAGE_BYTES, REST_CHUNK_MAX_BYTES, REST_CHUNK_MIN_BYTES,
};
use stratafs::meta::Meta;
use stratafs::store::{LayerOrigin, Store, StoreError, StoreOptions};
use stratafs::transfer::stage;
use stratafs::vfs::Fs;

use super::support::{get_file, lower, noise, path, put, put_file, shown, upper};

#[test]
fn an_image_comes_out_as_it_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let pool = import.pool().clone();
    let layers = [lower(&pool), upper(&pool)];
    let memory = ChunkPool::new();
    let plain = [lower(&memory), upper(&memory)];
    assert_eq!(
        layers[0].digest(),
        plain[0].digest(),
        "chunking is no identity"
    );
    for layer in &layers {
        import.layer(layer.clone(), LayerOrigin::new());
    }
    import.commit(ImageConfig::new(), Some("a")).unwrap();
    let expected = Image::new(&plain).unwrap();
    // From another handle, as another process would.
    let store = Store::open(dir.path()).unwrap();
    let image = store.image("a").unwrap();
    assert_eq!(shown(&image).unwrap(), shown(&expected).unwrap());
    assert_eq!(image.digest(), expected.digest());
    assert_eq!(image.verify(), Ok(expected.digest()));
    assert_eq!(image.layer_count(), 2);
    let read = store.layers("a").unwrap();
    assert_eq!(read.len(), 2);
    for (read, plain) in read.iter().zip(&plain) {
        assert_eq!(read.digest(), plain.digest());
    }
    let again = Image::new(&read).unwrap();
    assert_eq!(shown(&again).unwrap(), shown(&expected).unwrap());
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn layers_from_memory_are_copied_and_shared() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let layer = lower(&ChunkPool::new());
    for tag in ["a", "b"] {
        let mut import = store.import().unwrap();
        import.layer(layer.clone(), LayerOrigin::new());
        import.commit(ImageConfig::new(), Some(tag)).unwrap();
    }
    let stat = store.stat().unwrap();
    assert_eq!(
        (stat.tags, stat.images, stat.layers, stat.packs),
        (2, 1, 1, 1)
    );
    assert!(stat.chunk_bytes < 31_000, "{stat:?}");
    let image = store.image("a").unwrap();
    assert_eq!(image.verify(), Ok(Image::new(&[layer]).unwrap().digest()));
}

#[test]
fn equal_parts_of_different_files_are_held_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut bytes = noise(7, 1 << 20);
    put_file(&store, "one", &bytes).unwrap();
    bytes.insert(500_000, 1);
    // Another handle: the packs' tables tell what is there.
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "two", &bytes).unwrap();
    let held = store.stat().unwrap().chunk_bytes;
    assert!(held < (1 << 20) + 200_000, "{held}");
    assert_eq!(get_file(&store, "two").unwrap(), bytes);
}

#[test]
fn tags_lead_to_images() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let id = put(&store, "app:latest").unwrap();
    let digits = id.to_string();
    for reference in ["app", "app:latest", &digits, &digits[..20], &digits[7..20]] {
        assert_eq!(store.resolve(reference).unwrap(), id, "{reference}");
    }
    assert_eq!(store.tag("app", "again").unwrap(), id);
    assert_eq!(store.info("again").unwrap().tags, ["again", "app:latest"]);
    assert_eq!(store.untag("app").unwrap(), id);
    assert_eq!(store.list().unwrap()[0].tags, ["again"]);
    assert!(matches!(store.untag("app"), Err(StoreError::NoImage(_))));
    assert!(matches!(
        store.image("nothing"),
        Err(StoreError::NoImage(_))
    ));
    for bad in ["", "a b", "-a", "blake3:a", "a\0", &"a".repeat(256)] {
        assert!(
            matches!(store.tag("again", bad), Err(StoreError::Tag { .. })),
            "{bad}"
        );
    }
}

#[test]
fn configuration_and_blobs_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let bytes = noise(3, 300_000);
    let blob = import.put_blob(&mut &bytes[..], None).unwrap();
    let wrong = import.put_blob(&mut &b"other"[..], Some(blob.digest));
    assert!(matches!(wrong, Err(StoreError::WrongBlob { .. })));
    let manifest = import.manifest(b"{\"manifest\": 1}").unwrap();
    let layer = lower(import.pool());
    import.layer(
        layer,
        LayerOrigin::of_blob(blob, "application/x", blob.digest),
    );
    let mut config = ImageConfig::new();
    config.entrypoint = Some(vec!["/bin/x".into()]);
    config.env = vec!["A=1".into()];
    config.labels.insert("k".into(), "v".into());
    config.history = vec![HistoryEntry::by("made")];
    import.commit(config.clone(), Some("a")).unwrap();
    let info = store.info("a").unwrap();
    assert_eq!(info.config, config);
    assert_eq!(info.manifest, Some(manifest.digest));
    assert_eq!(info.layers[0].origin.blob, Some(blob.digest));
    let mut read = Vec::new();
    store
        .blob(blob.digest)
        .unwrap()
        .read_to_end(&mut read)
        .unwrap();
    assert_eq!(read, bytes);
    store.gc().unwrap();
    assert!(store.blob(manifest.digest).is_ok());
    store.untag("a").unwrap();
    store.gc().unwrap();
    assert!(matches!(
        store.blob(blob.digest),
        Err(StoreError::NoBlob(_))
    ));
    assert_eq!(store.stat().unwrap().pack_bytes, 0);
}

#[test]
fn a_blob_that_is_named_must_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut first = store.import().unwrap();
    let blob = first.put_blob(&mut &b"blob"[..], None).unwrap();
    drop(first);
    let mut import = store.import().unwrap();
    let layer = lower(import.pool());
    import.layer(layer, LayerOrigin::of_blob(blob, "x", blob.digest));
    let none = import.commit(ImageConfig::new(), Some("a"));
    assert!(matches!(none, Err(StoreError::NoBlob(_))));
    assert!(store.list().unwrap().is_empty());
}

#[test]
fn collection_keeps_what_readers_and_tags_have() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (noise(1, 500_000), noise(2, 500_000));
    put_file(&store, "one", &one).unwrap();
    put_file(&store, "two", &two).unwrap();
    let reader = Fs::new(&store.image("one").unwrap());
    store.untag("one").unwrap();
    let report = store.gc().unwrap();
    assert_eq!((report.images, report.packs), (1, 1));
    assert!(report.freed_bytes > 500_000);
    assert_eq!(
        reader.read("/file").unwrap(),
        one,
        "read first after it was removed"
    );
    assert_eq!(get_file(&store, "two").unwrap(), two);
    // What is gone is not taken for known.
    put_file(&store, "one", &one).unwrap();
    assert_eq!(
        get_file(&Store::open(dir.path()).unwrap(), "one").unwrap(),
        one
    );
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn an_import_that_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let layer = lower(import.pool());
    import.layer(layer, LayerOrigin::new());
    drop(import);
    assert!(store.list().unwrap().is_empty());
    let store = Store::open(dir.path()).unwrap();
    let stat = store.stat().unwrap();
    assert_eq!((stat.pack_bytes, stat.unfinished_bytes), (0, 0));
}

#[test]
fn what_is_staged_is_no_image_before_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "base", b"below").unwrap();
    let before = store.stat().unwrap();
    let (base, tag) = ("base".parse().unwrap(), "new".parse().unwrap());
    let fs = Fs::new(&store.image("base").unwrap());
    fs.write("/large", noise(1, 4 << 20)).unwrap();
    let staged = || stage(&store, &fs, Some(&base), "by hand", None).unwrap();
    drop(staged());
    assert_eq!(store.list().unwrap().len(), 1);
    assert_eq!(store.stat().unwrap().pack_bytes, before.pack_bytes);
    // The thread that commits is not the one that wrote.
    let staged = std::thread::scope(|scope| scope.spawn(staged).join().unwrap());
    fs.write("/late", "is no part of it").unwrap();
    assert!(store.info("new").is_err());
    let info = staged.commit(&tag).unwrap();
    assert_eq!((info.layers.len(), info.config.history.len()), (2, 1));
    let new = Fs::new(&store.image("new").unwrap());
    assert_eq!(new.read("/file").unwrap(), b"below");
    assert!(new.metadata("/late").is_err());
    store.gc().unwrap();
    assert!(store.verify().unwrap().is_sound());
}

#[test]
fn a_store_is_made_only_where_it_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let none = StoreOptions::new().existing().open(dir.path());
    assert!(matches!(none, Err(StoreError::NoStore(_))));
    Store::open(dir.path()).unwrap();
    assert!(StoreOptions::new().existing().open(dir.path()).is_ok());
}

#[test]
fn chunks_at_rest_are_neither_small_nor_large() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "a", &noise(4, 4 << 20)).unwrap();
    let layers = store.layers("a").unwrap();
    let content = layers[0].entries().find_map(|entry| match entry.body {
        EntryBody::File { content, .. } => Some(content.clone()),
        _ => None,
    });
    let chunks = store.chunks(&content.unwrap()).unwrap();
    let (last, rest) = chunks.split_last().unwrap();
    assert_eq!(last.offset + u64::from(last.bytes), 4 << 20);
    for chunk in rest {
        let range = REST_CHUNK_MIN_BYTES..=REST_CHUNK_MAX_BYTES;
        assert!(range.contains(&(chunk.bytes as usize)), "{chunk:?}");
    }
    let average = (4 << 20) / chunks.len();
    let range = REST_CHUNK_AVERAGE_BYTES / 2..REST_CHUNK_AVERAGE_BYTES * 2;
    assert!(range.contains(&average), "{average}");
}

#[test]
fn a_pack_ends_at_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut import = store.import().unwrap();
    let pool = import.pool().clone();
    let mut content = ContentBuilder::new(&pool);
    let pieces = MAX_PACK_BYTES / (1 << 20) + 4;
    let piece = |n: u64| noise(1_000 + n, 1 << 20);
    for n in 0..pieces {
        content.write(&piece(n));
    }
    let content = content.finish();
    let mut layer = Layer::builder();
    let meta = Meta::with_mode(0o644);
    layer.file(&path("file"), meta, content.clone()).unwrap();
    import.layer(layer.finish().unwrap(), LayerOrigin::new());
    import.commit(ImageConfig::new(), Some("a")).unwrap();
    let stat = store.stat().unwrap();
    assert_eq!((stat.packs, stat.chunk_bytes), (2, pieces << 20));
    let image = store.image("a").unwrap();
    let mut last = vec![0; 1 << 20];
    let file = Fs::new(&image).open("/file").unwrap();
    assert_eq!(
        file.read_at(&mut last, (pieces - 1) << 20).unwrap(),
        1 << 20
    );
    assert!(last == piece(pieces - 1));
}

#[test]
fn any_number_of_indexes_is_mapped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    put_file(&store, "a", b"a").unwrap();
    let images: Vec<_> = (0..1500).map(|_| store.image("a").unwrap()).collect();
    for image in &images {
        assert_eq!(Fs::new(image).read("/file").unwrap(), b"a");
    }
    drop(images);
    assert_eq!(get_file(&store, "a").unwrap(), b"a");
}
