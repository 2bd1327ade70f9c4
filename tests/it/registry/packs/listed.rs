//! Tables of small packs, which an image has together: what a first start asks for.

use stratafs::limits::{MAX_LISTED_TABLE_BYTES, MAX_LISTED_TABLES_BYTES};

use super::*;

const BASE: usize = 6 << 20;
const MORE: usize = 20_000;

/// Publishes versions, each of which adds a small file to a large base. Returns the last one's tag, and what
/// the last push sent.
fn publish(world: &World, versions: u64) -> (String, Pushed) {
    let dir = world.dir();
    fs::write(dir.join("base"), noise(0, BASE)).unwrap();
    let mut last = None;
    for number in 1..=versions {
        fs::write(dir.join(format!("more-{number}")), noise(number, MORE)).unwrap();
        let name = format!("app:{number}");
        world.take(&name);
        last = Some(world.pack(&name, &name));
    }
    (versions.to_string(), last.unwrap())
}

fn tables(manifest: &Value) -> Vec<Value> {
    let all = manifest["layers"].as_array().unwrap().iter();
    let of_tables = all.filter(|it| it["mediaType"] == "application/vnd.stratafs.tables.v1");
    of_tables.cloned().collect()
}

/// Bytes of the tables of packs.
fn stated(packs: &[Value]) -> Vec<usize> {
    let told = packs.iter().map(|pack| {
        pack["annotations"]["dev.stratafs.table.v1"]
            .as_str()
            .unwrap()
    });
    told.map(|it| it.split(':').nth(1).unwrap().parse().unwrap())
        .collect()
}

/// The manifest as it was written before tables were put together.
fn older(manifest: &Value) -> Value {
    let mut older = manifest.clone();
    let layers = older["layers"].as_array_mut().unwrap();
    layers.retain(|it| it["mediaType"] != "application/vnd.stratafs.tables.v1");
    older
}

/// Requests of a first pull in part, but for the one that finds out how the registry is spoken to.
fn asked_by_first_start(world: &World, name: &str) -> usize {
    let store = world.other(&format!("first-{}", name.replace(':', "-")));
    world.fake.log();
    world.look(&store, name).unwrap();
    let log = world.fake.log();
    log.iter().filter(|head| head.path != "/v2/").count()
}

#[test]
fn a_first_start_asks_as_often_whatever_the_number_of_versions() {
    let mut asked = Vec::new();
    for versions in [1, 2, 3, 10, 30] {
        let world = World::new();
        let (tag, pushed) = publish(&world, versions);
        let manifest = world.manifest(&tag);
        let packs = packs(&manifest);
        let tables = tables(&manifest);
        let copied = entries::copied(&manifest).len();
        world.put("older", &older(&manifest));
        let before = asked_by_first_start(&world, "app:older");
        let now = asked_by_first_start(&world, &format!("app:{tag}"));
        let large = stated(&packs)
            .into_iter()
            .filter(|len| *len > MAX_LISTED_TABLE_BYTES);
        let size = tables.first().map_or(0, |it| it["size"].as_u64().unwrap());
        println!(
            "{versions} versions: {} packs; {before} requests each by itself, {now} now; tables together \
             {size} bytes, each {:?}; the last push sent {} bytes, its manifest {}",
            packs.len(),
            stated(&packs),
            pushed.sent_bytes,
            manifest.to_string().len(),
        );
        // Manifest, configuration, layer and what it copies, and a table for each pack.
        assert_eq!(before, 3 + copied + packs.len());
        assert_eq!(large.count(), 1, "the base");
        assert!(size <= MAX_LISTED_TABLES_BYTES);
        asked.push(now);
    }
    assert_eq!(asked, [2, 3, 2, 2, 3]);
}

#[test]
fn what_was_published_before_is_read_and_built_upon() {
    let world = World::new();
    let (tag, _) = publish(&world, 4);
    let manifest = world.manifest(&tag);
    world.put(&tag, &older(&manifest));
    let store = world.other("other");
    world.pull(&store, "app:4").unwrap();
    assert_eq!(world.read(&store, "app:4", "/more-2"), noise(2, MORE));
    // The next version has tables together again, of those that came one by one too.
    fs::write(world.dir().join("more-5"), noise(5, MORE)).unwrap();
    world.take("app:5");
    let pushed = world.pack("app:5", "app:5");
    assert_eq!(pushed.known_packs, 4);
    let told = tables(&world.manifest("5"));
    assert_eq!(told[0]["annotations"]["dev.stratafs.packs.v1"], "1,2,3,4");
    // Who has most of it asks the new pack alone, and a push the table of the large one: the manifest has
    // those of the others.
    world.fake.log();
    world.look(&store, "app:5").unwrap();
    let log = world.fake.log();
    assert_eq!(
        log.iter().filter(|head| head.is_blob_get()).count(),
        1,
        "{log:?}"
    );
    fs::write(world.dir().join("more-6"), noise(6, MORE)).unwrap();
    world.take("app:6");
    world.fake.log();
    let since = PushOptions {
        since: vec!["5".to_owned()],
        ..packed()
    };
    assert_eq!(
        world
            .pack_with("app:6", "app:6", &since)
            .unwrap()
            .known_packs,
        5
    );
    let log = world.fake.log();
    assert_eq!(
        log.iter().filter(|head| head.is_blob_get()).count(),
        1,
        "{log:?}"
    );
    transfer::fetch_from(&store, &client()).unwrap();
    assert_eq!(world.read(&store, "app:5", "/more-5"), noise(5, MORE));
}

#[test]
fn invalid_joined_tables_are_refused() {
    let world = World::new();
    let (tag, _) = publish(&world, 4);
    let good = world.manifest(&tag);
    let number = good["layers"].as_array().unwrap().len() - 1;
    let blob = world
        .fake
        .blob("app", good["layers"][number]["digest"].as_str().unwrap());
    let mut changed = blob.clone();
    changed[100] ^= 1;
    let too_long = vec![0; usize::try_from(MAX_LISTED_TABLES_BYTES).unwrap() + 1];
    let twice = good["layers"][number].clone();
    for (what, bytes) in [
        ("", changed.as_slice()),
        ("nothing but tables", &blob[..blob.len() - 1]),
        ("nothing but tables", b"else"),
        ("at most", &too_long),
    ] {
        let mut manifest = good.clone();
        manifest["layers"][number]["digest"] = json!(world.fake.put_blob("app", bytes));
        manifest["layers"][number]["size"] = json!(bytes.len());
        world.put("lie", &manifest);
        let store = world.other(&format!("other-{}", bytes.len()));
        let pulled = world.look(&store, "app:lie");
        if what.is_empty() {
            // One that is not what its pack says of it is asked for there.
            pulled.unwrap();
            continue;
        }
        let error = pulled.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
        assert!(store.list().unwrap().is_empty());
        // Who fetches all of it needs none of them.
        world.pull(&store, "app:lie").unwrap();
    }
    let mut manifest = good.clone();
    manifest["layers"][number]["annotations"]["dev.stratafs.packs.v1"] = json!("1,x");
    world.put("lie", &manifest);
    let error = world.look(&world.other("numbers"), "app:lie").unwrap_err();
    assert!(error.to_string().contains("numbers of packs"), "{error}");
    let mut manifest = good;
    manifest["layers"].as_array_mut().unwrap().push(twice);
    world.put("lie", &manifest);
    let error = world.look(&world.other("twice"), "app:lie").unwrap_err();
    assert!(error.to_string().contains("their tables once"), "{error}");
}
