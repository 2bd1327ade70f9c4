//! Entries of layers: those that an earlier version has published are not sent again.

use stratafs::chunk::ContentBuilder;
use stratafs::image::ImageConfig;
use stratafs::layer::Layer;
use stratafs::meta::Meta;
use stratafs::name::LayerPath;
use stratafs::store::LayerOrigin;

use super::*;

const LAYER: &str = "application/vnd.stratafs.layer.v1+zstd";
const PIECES: &str = "application/vnd.stratafs.layer.v2+zstd";
const ENTRIES: &str = "application/vnd.stratafs.entries.v1+zstd";

/// The blobs that layers copy entries from.
pub(super) fn copied(manifest: &Value) -> Vec<Value> {
    let all = manifest["layers"].as_array().unwrap().iter();
    all.filter(|it| it["mediaType"] == ENTRIES)
        .cloned()
        .collect()
}

/// A tree of small files, a hundred in each directory, which others replace or add to.
struct Tree {
    files: u64,
    /// Files by number with other bytes than at first.
    changed: Vec<(u64, u64)>,
    large: Vec<u8>,
}

impl Tree {
    fn new(files: u64) -> Self {
        Self {
            files,
            changed: Vec::new(),
            large: Vec::new(),
        }
    }

    fn take(&self, world: &World, name: &str) -> ImageInfo {
        let mut import = world.store.import().unwrap();
        let mut layer = Layer::builder();
        let mut put = |path: String, bytes: &[u8]| {
            let path = LayerPath::parse(path.as_bytes()).unwrap();
            let content = ContentBuilder::of(import.pool(), bytes);
            layer.file(&path, Meta::with_mode(0o644), content).unwrap();
        };
        let mut seeds: Vec<u64> = (0..self.files).collect();
        for (number, seed) in &self.changed {
            match seeds.get_mut(usize::try_from(*number).unwrap()) {
                Some(own) => *own = *seed,
                None => seeds.push(*seed),
            }
        }
        for (number, seed) in (0_u64..).zip(seeds) {
            let path = format!("dir-{:04}/file-{number}", number / 100);
            put(path, &noise(seed, 40));
        }
        put("large".to_owned(), &self.large);
        import.layer(layer.finish().unwrap(), LayerOrigin::new());
        let id = import.commit(ImageConfig::new(), Some(name)).unwrap();
        world.store.info(&id.to_string()).unwrap()
    }
}

/// Two versions of a tree: a file more, and one byte of 4 MB of noise is another. Returns what the second
/// push sent, its manifest included.
fn two_versions(world: &World, files: u64) -> u64 {
    let mut tree = Tree::new(files);
    tree.large = noise(1, 4 << 20);
    tree.take(world, "app:1");
    tree.large[2 << 20] ^= 1;
    tree.changed.push((files, u64::MAX));
    tree.take(world, "app:2");
    let first = world.pack("app:1", "app:1").sent_bytes;
    let second = world.pack("app:2", "app:2").sent_bytes;
    let manifest = world.fake.manifest("app", "2").unwrap().len() as u64;
    println!("{files} files: {first} bytes, then {second} and a manifest of {manifest}");
    second + manifest
}

#[test]
fn what_is_sent_of_entries_grows_with_what_changed_and_not_with_the_tree() {
    let few = two_versions(&World::new(), 500);
    let world = World::new();
    let many = two_versions(&world, 5_000);
    assert!(few < 60_000 && many < few + few / 4, "{few} and {many}");
    let manifest = world.manifest("2");
    assert_eq!(manifest["layers"][0]["mediaType"], PIECES);
    assert_eq!(copied(&manifest).len(), 1);
    assert_eq!(
        copied(&manifest)[0]["digest"],
        world.manifest("1")["layers"][0]["digest"]
    );
    same_everywhere(&world, "app:2");
}

/// Pulls an image whole and in part, and holds both against the one that was pushed.
fn same_everywhere(world: &World, name: &str) {
    let made = world.store.info(name).unwrap();
    let number = name.split_once(':').unwrap().1;
    let whole = world.other(&format!("whole-{number}"));
    let pulled = world.pull(&whole, name).unwrap();
    assert_eq!(layers(&pulled.image), layers(&made));
    assert!(whole.verify().unwrap().is_sound());
    let part = world.other(&format!("part-{number}"));
    let pulled = world.look(&part, name).unwrap();
    assert_eq!(layers(&pulled.image), layers(&made));
    transfer::fetch_from(&part, &client()).unwrap();
    let options = PullOptions::default();
    transfer::fill(&part, &client(), &tag(&world.full(name)), &options).unwrap();
    assert!(part.verify().unwrap().is_sound());
    let own = world.store.image(name).unwrap();
    for store in [&whole, &part] {
        let image = store.image(&world.full(name)).unwrap();
        assert_eq!(image.digest(), own.digest());
    }
}

#[test]
fn many_versions_copy_from_few_blobs_and_send_little() {
    let world = World::new();
    let mut tree = Tree::new(2_000);
    tree.take(&world, "app:0");
    let first = world.pack("app:0", "app:0").sent_bytes;
    let (mut sent, mut most) = (0, 0);
    let versions = 30_u64;
    for version in 1..=versions {
        tree.changed.push((version * 61, 10_000 + version));
        let name = format!("app:{version}");
        tree.take(&world, &name);
        sent += world.pack(&name, &name).sent_bytes;
        most = most.max(copied(&world.manifest(&version.to_string())).len());
    }
    println!("{first} bytes at first, {sent} in {versions} versions after that, {most} blobs");
    assert_eq!(most, 2);
    // Each sent its pack, and the tables of the small ones; all entries have 130 KB.
    assert!(sent < first, "{sent}");
    same_everywhere(&world, &format!("app:{versions}"));
    // The same again is the same manifest, from another store too.
    let last = versions.to_string();
    let digest = sha256(&world.fake.manifest("app", &last).unwrap());
    let from = tag(&world.full(&format!("app:{last}")));
    let whole = world.other(&format!("whole-{last}"));
    let to = world.name("app:31");
    let again = transfer::push(&whole, &client(), &from, &to, &packed()).unwrap();
    assert_eq!(
        (again.digest.as_str(), again.sent_bytes),
        (digest.as_str(), 0)
    );
}

#[test]
fn layers_that_did_not_change_are_named_as_they_are() {
    let world = World::new();
    let dirs: Vec<PathBuf> = (0..3)
        .map(|number| {
            let dir = world.dir.path().join(format!("own-{number}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..60_u64 {
                fs::write(dir.join(format!("{number}-{file}")), noise(file, 30)).unwrap();
            }
            dir
        })
        .collect();
    let take = |name: &str| {
        let options = ImportOptions::default();
        transfer::import(&world.store, &dirs, &tag(name), &options).unwrap();
        world.pack(name, name);
        world.manifest(name.split_once(':').unwrap().1)
    };
    let first = take("app:1");
    fs::write(dirs[1].join("added"), "more").unwrap();
    let second = take("app:2");
    fs::write(dirs[1].join("added-2"), "more still").unwrap();
    let third = take("app:3");
    for number in [0, 2] {
        assert_eq!(first["layers"][number], second["layers"][number]);
        assert_eq!(first["layers"][number], third["layers"][number]);
    }
    assert_eq!(third["layers"][1]["mediaType"], PIECES);
    same_everywhere(&world, "app:3");
    // Who has the others fetches nothing of them.
    let store = world.other("other");
    world.pull(&store, "app:2").unwrap();
    assert_eq!(world.pull(&store, "app:3").unwrap().fetched_layers, 1);
}

#[test]
fn what_was_published_without_pieces_is_built_upon() {
    let world = World::new();
    let mut tree = Tree::new(400);
    tree.take(&world, "app:1");
    world.pack("app:1", "app:1");
    // As it was written before: with nothing in the manifest itself.
    let before = world.manifest("1");
    world.put("1", &before);
    assert_eq!(before["layers"][0]["mediaType"], LAYER);
    same_everywhere(&world, "app:1");
    tree.changed.push((7, 777));
    tree.take(&world, "app:2");
    world.pack("app:2", "app:2");
    let layer = world.manifest("2")["layers"][0].clone();
    assert_eq!(layer["mediaType"], PIECES);
    assert!(layer["size"].as_u64().unwrap() < 400, "{layer}");
    same_everywhere(&world, "app:2");
}

#[test]
fn entries_of_a_registry_that_lies_are_sent_anew() {
    let world = World::new();
    let mut tree = Tree::new(400);
    tree.take(&world, "app:1");
    world.pack("app:1", "app:1");
    tree.changed.push((7, 777));
    tree.take(&world, "app:2");
    let good = world.manifest("1");
    for (number, bytes) in [&b"none"[..], &zstd::bulk::compress(b"stratpcs", 1).unwrap()]
        .into_iter()
        .enumerate()
    {
        let mut manifest = good.clone();
        manifest["layers"][0]["digest"] = json!(world.fake.put_blob("app", bytes));
        manifest["layers"][0]["size"] = json!(bytes.len());
        world.put("lie", &manifest);
        let since = PushOptions {
            since: vec!["lie".to_owned()],
            ..packed()
        };
        let to = format!("app:next-{number}");
        world.pack_with("app:2", &to, &since).unwrap();
        let manifest = world.manifest(&format!("next-{number}"));
        assert_eq!(manifest["layers"][0]["mediaType"], LAYER);
        assert!(copied(&manifest).is_empty());
        world
            .pull(&world.other(&format!("next-{number}")), &to)
            .unwrap();
    }
}

/// A blob of pieces: packs by their numbers, blobs that it copies from, pieces, and entries of its own.
struct Pieces {
    packs: Vec<u8>,
    sources: Vec<u8>,
    pieces: Vec<[u32; 3]>,
    own: Vec<u8>,
}

impl Pieces {
    fn read(blob: &[u8]) -> Self {
        let bytes = zstd::stream::decode_all(blob).unwrap();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let counts = [12, 16, 20].map(|at| number(at) as usize);
        let sources = 24 + 36 * counts[0];
        let pieces = sources + 32 * counts[1];
        let own = pieces + 12 * counts[2];
        let piece = |at: usize| [number(at), number(at + 4), number(at + 8)];
        Self {
            packs: bytes[24..sources].to_vec(),
            sources: bytes[sources..pieces].to_vec(),
            pieces: (pieces..own).step_by(12).map(piece).collect(),
            own: bytes[own..].to_vec(),
        }
    }

    fn write(&self) -> Vec<u8> {
        let count = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let mut out = b"stratpcs".to_vec();
        out.extend(1_u32.to_le_bytes());
        out.extend(count(self.packs.len() / 36));
        out.extend(count(self.sources.len() / 32));
        out.extend(count(self.pieces.len()));
        out.extend(&self.packs);
        out.extend(&self.sources);
        out.extend(self.pieces.iter().flatten().flat_map(|it| it.to_le_bytes()));
        out.extend(&self.own);
        zstd::bulk::compress(&out, 1).unwrap()
    }
}

/// A change of a blob of pieces, and a word of why it is refused.
type PiecesLie = (&'static str, Box<dyn Fn(&mut Pieces)>);

fn pieces_lies() -> Vec<PiecesLie> {
    vec![
        // One is missing, or cut in another place.
        ("expected blake3:", Box::new(|it| it.pieces.truncate(2))),
        ("cannot be used", Box::new(|it| it.pieces[0][2] -= 1)),
        ("cannot be used", Box::new(|it| it.pieces[2][1] -= 30)),
        // One is of a blob that there is not, or of more than there is.
        ("names 1", Box::new(|it| it.pieces[0][0] = 7)),
        ("bytes of entries", Box::new(|it| it.pieces[0][2] = 1 << 27)),
        (
            "bytes of entries",
            Box::new(|it| it.pieces[0][1] = u32::MAX),
        ),
        (
            "268435456 were expected",
            Box::new(|it| it.pieces[0][2] = u32::MAX),
        ),
        (
            "268435456 were expected",
            Box::new(|it| {
                let (all, most) = (it.pieces[0], 1 << 20);
                it.pieces = vec![all; most];
            }),
        ),
        ("does not name", Box::new(|it| it.sources[5] ^= 1)),
        ("names pack", Box::new(|it| it.packs.truncate(36))),
        (
            "which the manifest does not name",
            Box::new(|it| it.packs[10] ^= 1),
        ),
        ("the file of a layer", Box::new(|it| it.packs[0] = 9)),
        ("cannot be used", Box::new(|it| it.own[3] ^= 0x7f)),
        ("cannot be used", Box::new(|it| it.own.truncate(5))),
    ]
}

/// Publishes two versions, of which the second copies from the first; returns the second's manifest.
fn publish_pieces(world: &World) -> Value {
    let mut tree = Tree::new(400);
    tree.take(world, "app:1");
    world.pack("app:1", "app:1");
    tree.changed.push((150, 777));
    tree.take(world, "app:2");
    world.pack("app:2", "app:2");
    let manifest = world.manifest("2");
    assert_eq!(manifest["layers"][0]["mediaType"], PIECES);
    manifest
}

#[test]
fn pieces_that_lie_are_refused() {
    let world = World::new();
    let good = publish_pieces(&world);
    let digest = good["layers"][0]["digest"].as_str().unwrap();
    let blob = world.fake.blob("app", digest);
    assert_eq!(Pieces::read(&blob).pieces.len(), 3);
    for (number, (want, change)) in pieces_lies().into_iter().enumerate() {
        let mut pieces = Pieces::read(&blob);
        change(&mut pieces);
        let bytes = pieces.write();
        let mut manifest = good.clone();
        manifest["layers"][0]["digest"] = json!(world.fake.put_blob("app", &bytes));
        manifest["layers"][0]["size"] = json!(bytes.len());
        refused(&world, &manifest, want, number);
    }
}

#[test]
fn pieces_in_another_order_or_there_twice_make_no_other_tree() {
    let world = World::new();
    let good = publish_pieces(&world);
    let truth = layers(&world.store.info("app:2").unwrap());
    let digest = good["layers"][0]["digest"].as_str().unwrap();
    let blob = world.fake.blob("app", digest);
    let twice = |it: &mut Pieces| it.pieces.push(it.pieces[0]);
    let turned = |it: &mut Pieces| it.pieces.reverse();
    let within = |it: &mut Pieces| it.pieces.insert(1, [1, it.pieces[0][1], it.pieces[0][2]]);
    let changes: [&dyn Fn(&mut Pieces); 3] = [&twice, &turned, &within];
    for (number, change) in changes.into_iter().enumerate() {
        let mut pieces = Pieces::read(&blob);
        change(&mut pieces);
        let bytes = pieces.write();
        let mut manifest = good.clone();
        manifest["layers"][0]["digest"] = json!(world.fake.put_blob("app", &bytes));
        manifest["layers"][0]["size"] = json!(bytes.len());
        world.put("other", &manifest);
        let store = world.other(&format!("order-{number}"));
        match world.pull(&store, "app:other") {
            Ok(pulled) => assert_eq!(layers(&pulled.image), truth),
            Err(error) => assert!(error.to_string().contains("cannot be used"), "{error}"),
        }
        assert!(store.verify().unwrap().is_sound());
    }
}

/// A change of a manifest, and a word of why it is refused.
fn manifest_lies() -> Vec<Lie> {
    vec![
        (
            "which the manifest does not name",
            Box::new(|it| drop(it["layers"].as_array_mut().unwrap().remove(1))),
        ),
        (
            "is named twice",
            Box::new(|it| {
                let twice = it["layers"][1].clone();
                it["layers"].as_array_mut().unwrap().insert(1, twice);
            }),
        ),
        (
            "then entries that they copy",
            Box::new(|it| it["layers"].as_array_mut().unwrap().swap(0, 1)),
        ),
        (
            "the file of a layer",
            Box::new(|it| it["layers"][0]["mediaType"] = json!(LAYER)),
        ),
        (
            "no pieces of a layer",
            Box::new(|it| {
                let file = it["layers"][1]["digest"].clone();
                it["layers"][0]["size"] = it["layers"][1]["size"].clone();
                it["layers"][0]["digest"] = file;
                it["layers"].as_array_mut().unwrap().remove(1);
            }),
        ),
        (
            "the layers of an image have",
            Box::new(|it| it["layers"][1]["size"] = json!(1_u64 << 28)),
        ),
        (
            "not base64",
            Box::new(|it| it["layers"][0]["data"] = json!("?")),
        ),
        (
            "another digest or size",
            Box::new(|it| it["layers"][0]["data"] = json!("AAAA")),
        ),
        (
            "another digest or size",
            Box::new(|it| it["config"]["data"] = json!("e30=")),
        ),
    ]
}

#[test]
fn manifests_that_lie_of_entries_are_refused() {
    let world = World::new();
    let good = publish_pieces(&world);
    for (number, (want, change)) in manifest_lies().into_iter().enumerate() {
        let mut manifest = good.clone();
        change(&mut manifest);
        refused(&world, &manifest, want, number);
    }
    // Other bytes under the digest of what is copied from.
    world.put("lie", &good);
    let source = good["layers"][1]["digest"].as_str().unwrap().to_owned();
    world
        .fake
        .misbehave(move |head, _| match head.path.ends_with(&source) {
            true => Fault::Flip(100),
            false => Fault::No,
        });
    let error = world.look(&world.other("flipped"), "app:lie").unwrap_err();
    assert!(error.to_string().contains("sha256:"), "{error}");
    world.fake.behave();
    world.look(&world.other("flipped"), "app:lie").unwrap();
}

#[test]
fn small_blobs_come_with_the_manifest() {
    let world = World::new();
    publish_pieces(&world);
    let manifest = world.whole_manifest("2");
    for blob in [&manifest["config"], &manifest["layers"][0]] {
        assert!(blob["data"].is_string(), "{blob}");
    }
    let store = world.other("other");
    world.fake.log();
    world.look(&store, "app:2").unwrap();
    let log = world.fake.log();
    let asked = log.iter().filter(|head| head.path != "/v2/").count();
    // The manifest, what is copied from unless it is small, and the tables of two packs.
    let inline = |it: &Value| it["data"].is_string();
    let copied = copied(&manifest).iter().filter(|it| !inline(it)).count();
    let tables = manifest["layers"].as_array().unwrap().last().unwrap();
    let tables = if inline(tables) { 0 } else { 1 };
    println!("{asked} requests");
    assert_eq!(asked, 1 + copied + tables, "{log:?}");
}
