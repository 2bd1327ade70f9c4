//! Images that are published as packs: what is sent of a version, and who sees what.

mod at_once; // pulls beside each other
mod entries; // names and digests of files: what is sent of them again
mod listed; // tables of small packs, which come at once
mod tables; // what tables may have together

use std::path::PathBuf;

use serde_json::{Value, json};
use stratafs::limits::{KEPT_PACKS, MAX_PUSHED_PACKS, MIN_PUSHED_USE_PERCENT};
use stratafs::vfs::Fs;

use super::*;
use crate::support::fake_registry::{Fault, sha256};
use crate::support::layout::MANIFEST;
use crate::support::signer::{Signer, sign};

fn packed() -> PushOptions {
    PushOptions {
        packs: true,
        ..PushOptions::default()
    }
}

fn lazily() -> PullOptions {
    PullOptions {
        lazy: true,
        ..PullOptions::default()
    }
}

impl World {
    fn pack(&self, from: &str, to: &str) -> Pushed {
        self.pack_with(from, to, &packed()).unwrap()
    }

    fn pack_with(
        &self,
        from: &str,
        to: &str,
        options: &PushOptions,
    ) -> Result<Pushed, TransferError> {
        transfer::push(&self.store, &client(), &tag(from), &self.name(to), options)
    }

    /// Pulls by tables alone.
    fn look(&self, store: &Store, name: &str) -> Result<Pulled, TransferError> {
        transfer::pull(store, &client(), &self.name(name), None, &lazily())
    }

    fn dir(&self) -> PathBuf {
        let dir = self.dir.path().join("tree");
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Imports what is in the tree, as one layer.
    fn take(&self, name: &str) -> ImageInfo {
        let options = ImportOptions::default();
        transfer::import(&self.store, &[self.dir()], &tag(name), &options).unwrap()
    }

    /// What a tag leads to, byte by byte.
    fn whole_manifest(&self, of: &str) -> Value {
        let bytes = self.fake.manifest("app", of).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// What a tag leads to, without the blobs that the manifest has itself: so that others can be put
    /// in their place.
    fn manifest(&self, of: &str) -> Value {
        let mut manifest = self.whole_manifest(of);
        let strip = |it: &mut Value| it.as_object_mut().unwrap().remove("data");
        strip(&mut manifest["config"]);
        for blob in manifest["layers"].as_array_mut().unwrap() {
            strip(blob);
        }
        manifest
    }

    fn put(&self, of: &str, manifest: &Value) {
        let bytes = manifest.to_string();
        self.fake
            .put_manifest("app", of, MANIFEST, bytes.as_bytes());
    }

    fn full(&self, name: &str) -> String {
        self.name(name).store_name().to_string()
    }

    fn read(&self, store: &Store, name: &str, path: &str) -> Vec<u8> {
        let fs = Fs::new(&store.image(&self.full(name)).unwrap());
        fs.read(path).unwrap()
    }
}

fn is_pack(blob: &&Value) -> bool {
    blob["mediaType"] == "application/vnd.stratafs.pack.v1+zstd"
}

fn packs(manifest: &Value) -> Vec<Value> {
    let all = manifest["layers"].as_array().unwrap().iter();
    all.filter(is_pack).cloned().collect()
}

/// How many bytes of blobs were asked for by ranges.
fn asked_bytes(log: &[Head]) -> u64 {
    let ranges = log.iter().filter_map(|head| head.header("range"));
    let ends = ranges.map(|range| range.trim_start_matches("bytes=").split_once('-').unwrap());
    let number = |text: &str| text.parse::<u64>().unwrap();
    ends.map(|(from, to)| number(to) + 1 - number(from)).sum()
}

#[test]
fn what_is_pushed_as_packs_is_pulled_whole_and_in_part() {
    let world = World::new();
    let made = world.image("app:1", 0..3, 300_000);
    let pushed = world.pack("app:1", "app:1");
    // Three layers, a pack, a configuration.
    assert_eq!((pushed.sent_blobs, pushed.known_blobs), (5, 0));
    assert_eq!((pushed.new_packs, pushed.known_packs), (1, 0));
    let whole = world.other("whole");
    let pulled = world.pull(&whole, "app:1").unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(layers(&pulled.image), layers(&made));
    assert_eq!(pulled.image.config.history, made.config.history);
    assert_eq!((pulled.fetched_layers, pulled.lazy_layers), (3, 0));
    assert!(whole.absent(&world.full("app:1")).unwrap().is_whole());
    assert!(!whole.may_lack(&world.full("app:1")).unwrap());
    assert_eq!(whole.stat().unwrap().absent_bytes, 0);
    assert!(whole.verify().unwrap().is_sound());
    assert!(is_empty(&world.dir.path().join("whole/incoming")));
    assert_eq!(world.read(&whole, "app:1", "/file-2"), noise(2, 300_000));
    // The same again is known, wherever it is asked for.
    assert_eq!(world.pack("app:1", "app:1").sent_bytes, 0);
    assert_eq!(world.pull(&whole, "app:1").unwrap().fetched_bytes, 0);
    // Of one that came as packs the same goes out, as packs and as layers.
    let from = tag(&world.full("app:1"));
    let to = world.name("app:again");
    let again = transfer::push(&whole, &client(), &from, &to, &packed()).unwrap();
    assert_eq!((again.digest, again.sent_bytes), (pushed.digest, 0));
    let plain = world.push("app:1", "plain:1").unwrap();
    let to = world.name("plain:2");
    let again = transfer::push(&whole, &client(), &from, &to, &PushOptions::default()).unwrap();
    assert_eq!(again.digest, plain.digest);

    let part = world.other("part");
    let pulled = world.look(&part, "app:1").unwrap();
    assert_eq!(
        (pulled.lazy_layers, layers(&pulled.image)),
        (3, layers(&made))
    );
    let absent = part.absent(&world.full("app:1")).unwrap();
    assert!(absent.bytes > 890_000 && absent.blobs == 0, "{absent:?}");
    assert!(part.verify().unwrap().is_sound());
    let guest = Fs::new(&part.image(&world.full("app:1")).unwrap());
    assert!(guest.read("/who").is_err(), "nobody fetches");
    transfer::fetch_from(&part, &client()).unwrap();
    world.fake.log();
    assert_eq!(guest.read("/who").unwrap(), b"2");
    assert!(asked_bytes(&world.fake.log()) < 300_000);
    let options = PullOptions::default();
    transfer::fill(&part, &client(), &from, &options).unwrap();
    let log = world.fake.log();
    let ranges = log.iter().filter(|head| head.header("range").is_some());
    assert!((1..=2).contains(&ranges.count()), "{log:?}");
    assert!(part.absent(&world.full("app:1")).unwrap().is_whole());
    assert_eq!(part.stat().unwrap().absent_bytes, 0);
    assert!(part.verify().unwrap().is_sound());
}

#[test]
fn a_start_set_comes_first() {
    let world = World::new();
    let dir = world.dir();
    fs::write(dir.join("a"), noise(1, 900_000)).unwrap();
    fs::write(dir.join("start"), noise(2, 100_000)).unwrap();
    fs::write(dir.join("part"), noise(3, 300_000)).unwrap();
    world.take("app:1");
    let mut options = packed();
    let path = |name: &[u8]| stratafs::name::LayerPath::parse(name).unwrap();
    options.start_set.add(path(b"part"), false);
    options.start_set.add(path(b"start"), true);
    world.pack_with("app:1", "app:1", &options).unwrap();
    let other = world.other("other");
    world.look(&other, "app:1").unwrap();
    // It is here, though nobody fetches any more.
    assert_eq!(world.read(&other, "app:1", "/start"), noise(2, 100_000));
    let guest = Fs::new(&other.image(&world.full("app:1")).unwrap());
    assert!(guest.read("/a").is_err());
    // What is read in part comes as far as it is read.
    assert!(guest.read("/part").is_err());
}

/// Two versions: one byte of 4 MB is another, and there is a small file more.
fn two_versions(world: &World) {
    let dir = world.dir();
    let mut large = noise(1, 4 << 20);
    fs::write(dir.join("large"), &large).unwrap();
    for number in 0..300 {
        fs::write(
            dir.join(format!("small-{number}")),
            noise(1000 + number, 2000),
        )
        .unwrap();
    }
    world.take("app:1");
    large[2 << 20] ^= 1;
    fs::write(dir.join("large"), &large).unwrap();
    fs::write(dir.join("added"), noise(2, 2400)).unwrap();
    world.take("app:2");
}

#[test]
fn a_changed_byte_costs_little() {
    let world = World::new();
    two_versions(&world);
    let first = world.pack("app:1", "app:1");
    assert!(first.sent_bytes > 4 << 20);
    // The tag before is found without being named.
    let second = world.pack("app:2", "app:2");
    assert_eq!((second.known_packs, second.new_packs), (1, 1));
    let manifest = world.fake.manifest("app", "2").unwrap().len() as u64;
    let sent = second.sent_bytes + manifest;
    println!("v2 as packs: {sent} bytes; v1: {}", first.sent_bytes);
    assert!(sent < 150_000, "{sent}");
    assert_eq!(
        packs(&world.manifest("2"))[..1],
        packs(&world.manifest("1"))
    );
    let plain = |from: &str, to: &str| world.push(from, to).unwrap().sent_bytes;
    plain("app:1", "plain:1");
    let layers = plain("app:2", "plain:2");
    println!("v2 as layers: {layers} bytes");
    assert!(layers > 4_000_000);
    // Named, it is found from anywhere in the repository; where there is none, all is sent.
    let named = PushOptions {
        since: vec!["1".to_owned()],
        ..packed()
    };
    let named = world.pack_with("app:2", "app:other", &named).unwrap();
    assert_eq!((named.digest.clone(), named.sent_bytes), (second.digest, 0));
    let apart = world.pack("app:2", "apart:2");
    assert!(apart.sent_bytes > 4 << 20 && apart.known_packs == 0);
    let missing = PushOptions {
        since: vec!["none".to_owned()],
        ..packed()
    };
    let error = world.pack_with("app:2", "app:3", &missing).unwrap_err();
    assert!(error.to_string().contains("app:none"), "{error}");
    let wrong = PushOptions {
        since: vec!["../../x".to_owned()],
        ..packed()
    };
    let error = world.pack_with("app:2", "app:3", &wrong).unwrap_err();
    assert!(error.to_string().contains("invalid tag"), "{error}");
    let both = PushOptions {
        artifact: true,
        ..packed()
    };
    let error = world.pack_with("app:2", "app:3", &both).unwrap_err();
    assert!(error.to_string().contains("choose one"), "{error}");

    // Who has the first version fetches as little.
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap();
    let pulled = world.pull(&other, "app:2").unwrap();
    assert!(pulled.fetched_bytes < 150_000, "{}", pulled.fetched_bytes);
    assert_eq!(world.read(&other, "app:2", "/added"), noise(2, 2400));
    let mut large = noise(1, 4 << 20);
    assert_eq!(world.read(&other, "app:1", "/large"), large);
    large[2 << 20] ^= 1;
    assert_eq!(world.read(&other, "app:2", "/large"), large);
    assert!(other.verify().unwrap().is_sound());
}

#[test]
fn packs_hold_nothing_of_other_images() {
    let world = World::new();
    let dir = world.dir();
    // The store has both in one pack.
    fs::write(dir.join("secret"), noise(7, 100_000)).unwrap();
    fs::write(dir.join("open"), noise(8, 100_000)).unwrap();
    world.take("both:1");
    fs::remove_file(dir.join("secret")).unwrap();
    world.take("app:1");
    world.pack("app:1", "app:1");
    let has = |piece: &[u8]| {
        let manifest = world.manifest("1");
        let listed = manifest["layers"].as_array().unwrap().iter();
        let mut all = listed.map(|it| world.fake.blob("app", it["digest"].as_str().unwrap()));
        all.any(|blob| blob.windows(piece.len()).any(|window| window == piece))
    };
    // Noise does not compress, so that it is seen in a frame as it is.
    assert!(has(&noise(8, 100_000)[50_000..50_032]));
    assert!(!has(&noise(7, 100_000)[50_000..50_032]));
}

#[test]
fn many_pushes_name_few_packs() {
    let world = World::new();
    let dir = world.dir();
    let (base, more, pushes) = (400_000, 20_000, 60);
    fs::write(dir.join("base"), noise(0, base)).unwrap();
    world.take("app:0");
    let mut sent = world.pack("app:0", "app:live").sent_bytes;
    let mut most = 0;
    for number in 1..=pushes {
        fs::write(dir.join(format!("more-{number}")), noise(number, more)).unwrap();
        world.take(&format!("app:{number}"));
        let pushed = world.pack(&format!("app:{number}"), "app:live");
        assert!(pushed.new_packs == 1 && pushed.known_packs >= 1);
        sent += pushed.sent_bytes;
        most = most.max(packs(&world.manifest("live")).len());
    }
    assert_eq!(most, MAX_PUSHED_PACKS);
    let left = packs(&world.manifest("live")).len();
    assert!(left > KEPT_PACKS && left <= MAX_PUSHED_PACKS);
    let bytes = (base as u64) + pushes * more as u64;
    println!("{pushes} pushes of {more} bytes each upon {base}: {sent} sent, {left} packs");
    assert!(sent < 3 * bytes, "{sent} sent for {bytes}");
    let other = world.other("other");
    world.pull(&other, "app:live").unwrap();
    assert_eq!(world.read(&other, "app:live", "/base"), noise(0, base));
    assert_eq!(world.read(&other, "app:live", "/more-1"), noise(1, more));
    assert!(other.verify().unwrap().is_sound());
}

#[test]
fn a_pack_that_is_mostly_unused_is_not_named_again() {
    let world = World::new();
    let dir = world.dir();
    fs::write(dir.join("a"), noise(1, 600_000)).unwrap();
    fs::write(dir.join("b"), noise(2, 300_000)).unwrap();
    world.take("both:1");
    world.pack("both:1", "app:1");
    fs::remove_file(dir.join("b")).unwrap();
    world.take("a:1");
    let since = PushOptions {
        since: vec!["1".to_owned()],
        ..packed()
    };
    let most = world.pack_with("a:1", "app:a", &since).unwrap();
    assert_eq!((most.known_packs, most.new_packs), (1, 0));
    fs::write(dir.join("b"), noise(2, 300_000)).unwrap();
    fs::remove_file(dir.join("a")).unwrap();
    world.take("b:1");
    let least = world.pack_with("b:1", "app:b", &since).unwrap();
    assert_eq!((least.known_packs, least.new_packs), (0, 1));
    const { assert!(MIN_PUSHED_USE_PERCENT > 33 && MIN_PUSHED_USE_PERCENT < 66) };
}

#[test]
fn a_pull_that_breaks_off_goes_on_where_it_was() {
    let world = World::new();
    world.image("app:1", 0..2, 400_000);
    world.pack("app:1", "app:1");
    let pack = packs(&world.manifest("1"))[0]["digest"].to_string();
    let pack = pack.trim_matches('"').to_owned();
    let of_pack = move |head: &Head| head.is_blob_get() && head.path.ends_with(&pack);
    let is_pack = of_pack.clone();
    let mut count = 0;
    world.fake.misbehave(move |head, _| match is_pack(head) {
        true if count == 0 => {
            count += 1;
            Fault::Cut(300_000)
        }
        true => Fault::status(404),
        false => Fault::No,
    });
    let other = world.other("other");
    world.pull(&other, "app:1").unwrap_err();
    assert!(other.list().unwrap().is_empty());
    world.fake.behave();
    world.fake.log();
    world.pull(&other, "app:1").unwrap();
    let log = world.fake.log();
    let asked: Vec<_> = log.iter().filter(|head| of_pack(head)).collect();
    let range = asked[0].header("range").unwrap();
    assert!(
        range.starts_with("bytes=") && !range.starts_with("bytes=0-"),
        "{range}"
    );
    assert_eq!(world.read(&other, "app:1", "/file-1"), noise(1, 400_000));
    // What came in part before is completed by the whole.
    let part = world.other("part");
    world.look(&part, "app:1").unwrap();
    transfer::fetch_from(&part, &client()).unwrap();
    assert_eq!(world.read(&part, "app:1", "/who"), b"1");
    world.pull(&part, "app:1").unwrap();
    assert!(part.absent(&world.full("app:1")).unwrap().is_whole());
    assert_eq!(part.stat().unwrap().absent_bytes, 0);
}

/// A change of a manifest, and a word of why it is refused.
type Lie = (&'static str, Box<dyn Fn(&mut Value)>);

fn lies() -> Vec<Lie> {
    let name = "dev.stratafs.name.v1";
    let table = "dev.stratafs.table.v1";
    let zeros = format!("blake3:{}", "0".repeat(64));
    let lie = zeros.clone();
    vec![
        (
            "is named twice",
            Box::new(|it| {
                let pack = it["layers"][1].clone();
                it["layers"].as_array_mut().unwrap().push(pack);
            }),
        ),
        (
            "which the manifest does not name",
            Box::new(|it| {
                it["layers"].as_array_mut().unwrap().pop();
            }),
        ),
        (
            "which the manifest does not name",
            Box::new(move |it| {
                it["layers"][1]["annotations"][name] = json!(lie);
            }),
        ),
        (
            "blake3:HEX was expected",
            Box::new(move |it| {
                it["layers"][1]["annotations"][name] = json!("blake3:00");
            }),
        ),
        (
            "blake3:HEX was expected",
            Box::new(move |it| {
                it["layers"][0]["annotations"] = json!({});
            }),
        ),
        (
            "expected blake3:",
            Box::new(move |it| {
                it["layers"][0]["annotations"][name] = json!(zeros);
            }),
        ),
        (
            "PLACE:BYTES:blake3:HEX was expected",
            Box::new(move |it| {
                it["layers"][1]["annotations"][table] = json!("0:99999999:blake3:00");
            }),
        ),
        (
            "its table: expected blake3:",
            Box::new(move |it| {
                let told = it["layers"][1]["annotations"][table].as_str().unwrap();
                let (place, rest) = told.split_once(':').unwrap();
                let moved = place.parse::<u64>().unwrap() - 1;
                it["layers"][1]["annotations"][table] = json!(format!("{moved}:{rest}"));
            }),
        ),
        (
            "has layers",
            Box::new(|it| {
                it["layers"].as_array_mut().unwrap().reverse();
            }),
        ),
        (
            "has layers",
            Box::new(|it| {
                it["layers"][1]["mediaType"] = json!("application/octet-stream");
            }),
        ),
        (
            "the layers of an image have",
            Box::new(|it| {
                it["layers"][0]["size"] = json!(1_u64 << 40);
            }),
        ),
        (
            "bytes in the packs of an image",
            Box::new(|it| {
                it["layers"][1]["size"] = json!(1_u64 << 40);
            }),
        ),
        (
            "packs of an image",
            Box::new(|it| {
                let all = it["layers"].as_array_mut().unwrap();
                let pack = all[1].clone();
                for number in 0..1024_u32 {
                    let mut more = pack.clone();
                    more["digest"] = json!(sha256(&number.to_le_bytes()));
                    all.push(more);
                }
            }),
        ),
        (
            "malformed document",
            Box::new(|it| {
                it["config"]["digest"] = it["layers"][0]["digest"].clone();
                it["config"]["size"] = it["layers"][0]["size"].clone();
            }),
        ),
    ]
}

/// Sees that an image is refused, whole and in part.
fn refused(world: &World, manifest: &Value, want: &str, number: usize) {
    world.put("lie", manifest);
    for lazy in [false, true] {
        let store = world.other(&format!("other-{number}-{lazy}"));
        let options = PullOptions {
            lazy,
            ..PullOptions::default()
        };
        let name = world.name("app:lie");
        let error = transfer::pull(&store, &client(), &name, None, &options).unwrap_err();
        let error = error.to_string();
        assert!(error.contains(want), "{number}: {want}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(store.list().unwrap().is_empty(), "{error}");
        assert!(store.verify().unwrap().is_sound(), "{error}");
    }
}

#[test]
fn manifests_of_packs_that_lie_are_refused() {
    let world = World::new();
    world.image("app:1", 0..1, 200_000);
    world.pack("app:1", "app:1");
    let good = world.manifest("1");
    for (number, (want, change)) in lies().into_iter().enumerate() {
        let mut manifest = good.clone();
        change(&mut manifest);
        refused(&world, &manifest, want, number);
    }
}

/// Puts another blob in the place of one of the manifest's, with its digest.
fn replace(world: &World, number: usize, bytes: &[u8]) {
    let mut manifest = world.manifest("1");
    manifest["layers"][number]["digest"] = json!(world.fake.put_blob("app", bytes));
    manifest["layers"][number]["size"] = json!(bytes.len());
    world.put("lie", &manifest);
}

fn blob(world: &World, number: usize) -> Vec<u8> {
    let manifest = world.manifest("1");
    let digest = manifest["layers"][number]["digest"].as_str().unwrap();
    world.fake.blob("app", digest)
}

#[test]
fn chunks_that_are_others_than_the_table_says_are_not_taken() {
    let world = World::new();
    world.image("app:1", 0..1, 200_000);
    world.pack("app:1", "app:1");
    let mut pack = blob(&world, 1);
    pack[1000] ^= 1;
    replace(&world, 1, &pack);
    let store = world.other("whole");
    let error = world.pull(&store, "app:lie").unwrap_err().to_string();
    assert!(error.contains("other bytes than its table says"), "{error}");
    assert!(store.list().unwrap().is_empty());
    assert!(is_empty(&world.dir.path().join("whole/incoming")));
    let store = world.other("part");
    world.look(&store, "app:lie").unwrap();
    transfer::fetch_from(&store, &client()).unwrap();
    let guest = Fs::new(&store.image(&world.full("app:lie")).unwrap());
    let error = guest.read("/file-0").unwrap_err();
    assert_eq!(error.errno(), stratafs::errno::Errno::Io);
    // The same pack as it should be heals it.
    world.pack("app:1", "app:1");
    world.pull(&store, "app:1").unwrap();
    assert_eq!(world.read(&store, "app:1", "/file-0"), noise(0, 200_000));
}

#[test]
fn invalid_and_endless_layers_are_refused() {
    let world = World::new();
    world.image("app:1", 0..1, 10_000);
    world.pack("app:1", "app:1");
    let bomb = zstd::bulk::compress(&vec![0; 300 << 20], 1).unwrap();
    let nothing = zstd::bulk::compress(b"stratlay", 1).unwrap();
    for (bytes, want) in [
        (bomb.as_slice(), "more than 268435456 bytes"),
        (&nothing, "the file of a layer"),
        (b"not compressed", "does not decompress"),
    ] {
        replace(&world, 0, bytes);
        let store = world.other("other");
        let error = world.pull(&store, "app:lie").unwrap_err().to_string();
        assert!(error.contains(want), "{want}: {error}");
        assert!(store.list().unwrap().is_empty());
    }
}

/// Makes everything in a directory, and itself, equally old.
fn set_times(dir: &Path) {
    let files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in files.chain([dir.to_owned()]) {
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
}

#[test]
fn a_layer_that_lies_of_its_files_is_found_out() {
    let world = World::new();
    let dir = world.dir();
    let (one, other) = (noise(1, 50_000), noise(2, 50_000));
    fs::write(dir.join("a"), &one).unwrap();
    fs::write(dir.join("b"), &other).unwrap();
    set_times(&dir);
    let truth = world.take("app:1");
    world.pack("app:1", "app:1");
    // The tree in which they have changed places, over the bytes as they are.
    fs::write(dir.join("a"), &other).unwrap();
    fs::write(dir.join("b"), &one).unwrap();
    set_times(&dir);
    let swapped = world.take("app:swapped");
    let digest = |image: &ImageInfo, path: &str| {
        let fs = Fs::new(&world.store.image(&image.id.to_string()).unwrap());
        let read = fs.read(path).unwrap();
        *stratafs::chunk::ContentBuilder::of(&stratafs::chunk::ChunkPool::new(), &read)
            .digest()
            .as_bytes()
    };
    let (a, b) = (digest(&truth, "/a"), digest(&truth, "/b"));
    let mut file = zstd::stream::decode_all(blob(&world, 0).as_slice()).unwrap();
    let find = |file: &[u8], digest: &[u8; 32]| {
        file.windows(32)
            .position(|window| window == digest)
            .unwrap()
    };
    let (at_a, at_b) = (find(&file, &a), find(&file, &b));
    file[at_a..at_a + 32].copy_from_slice(&b);
    file[at_b..at_b + 32].copy_from_slice(&a);
    replace(&world, 0, &zstd::bulk::compress(&file, 3).unwrap());
    let mut manifest = world.manifest("lie");
    manifest["layers"][0]["annotations"]["dev.stratafs.name.v1"] =
        json!(swapped.layers[0].digest.to_string());
    world.put("lie", &manifest);

    let store = world.other("whole");
    let error = world.pull(&store, "app:lie").unwrap_err().to_string();
    assert!(error.contains("do not trust who made it"), "{error}");
    assert!(
        store
            .list()
            .unwrap()
            .iter()
            .all(|info| info.tags.is_empty())
    );
    store.gc().unwrap();
    assert!(store.list().unwrap().is_empty() && store.verify().unwrap().is_sound());

    let store = world.other("part");
    world.look(&store, "app:lie").unwrap();
    transfer::fetch_from(&store, &client()).unwrap();
    // Until it is found out the bytes are what the chunks say.
    assert_eq!(world.read(&store, "app:lie", "/a"), one);
    let options = PullOptions::default();
    let filled = transfer::fill(&store, &client(), &tag(&world.full("app:lie")), &options);
    let error = filled.unwrap_err().to_string();
    assert!(error.contains("do not trust who made it"), "{error}");
    assert!(store.info(&world.full("app:lie")).is_err());
    // Who has the tree as it is, takes that.
    let options = PullOptions::default();
    let name = world.name("app:lie");
    transfer::pull(&world.store, &client(), &name, None, &options).unwrap();
    assert_eq!(world.read(&world.store, "app:lie", "/a"), other);
}

#[test]
fn packs_are_copied_and_signed_like_any_other() {
    let world = World::new();
    world.image("app:1", 0..2, 50_000);
    let digest = world.pack("app:1", "app:1").digest;
    let signer = Signer::p256();
    let pull = |store: &Store| {
        let options = PullOptions {
            verify_keys: vec![signer.key()],
            ..PullOptions::default()
        };
        transfer::pull(store, &client(), &world.name("app:1"), None, &options)
    };
    let error = pull(&world.other("other")).unwrap_err().to_string();
    assert!(error.contains("no signature that fits the key"), "{error}");
    sign(&world.fake, &digest, &signer);
    pull(&world.other("other")).unwrap();
    let layout = world.dir.path().join("layout");
    let there = CopyPlace::Layout(layout.clone(), Some("1".to_owned()));
    let from = CopyPlace::Registry(world.name("app:1"));
    let options = CopyOptions::default();
    let copied = transfer::copy(&client(), &from, &there, &options).unwrap();
    assert_eq!((copied.digest, copied.attached), (digest.clone(), 1));
    let to = CopyPlace::Registry(world.name("copy:1"));
    let copied = transfer::copy(&client(), &there, &to, &options).unwrap();
    assert_eq!(copied.digest, digest);
    world.pull(&world.other("copied"), "copy:1").unwrap();
    // A layout is read by tools that read layers: an import says what it is.
    let options = ImportOptions::default();
    let error = transfer::import(&world.store, &[layout], &tag("x:1"), &options).unwrap_err();
    assert!(error.to_string().contains("published as packs"), "{error}");
}

#[test]
fn packs_of_a_registry_that_lies_are_not_built_upon() {
    let world = World::new();
    world.image("app:1", 0..1, 200_000);
    world.pack("app:1", "app:1");
    let mut manifest = world.manifest("1");
    let table = manifest["layers"][1]["annotations"]["dev.stratafs.table.v1"].take();
    let (front, _) = table.as_str().unwrap().rsplit_once(':').unwrap();
    manifest["layers"][1]["annotations"]["dev.stratafs.table.v1"] =
        json!(format!("{front}:{}", "0".repeat(64)));
    world.put("1", &manifest);
    let pushed = world.pack("app:1", "app:1");
    assert_eq!((pushed.known_packs, pushed.new_packs), (0, 1));
    world.pull(&world.other("other"), "app:1").unwrap();
}
