//! What tables of packs and layers may have together, whatever a manifest says of them.

use stratafs::digest::Digest;
use stratafs::limits::MAX_IMAGE_TABLES_BYTES;

use super::*;

/// What an honest table never has.
const LARGE: u64 = 127 << 20;

/// So many of them are more than an image's may have together.
const TABLES: u64 = MAX_IMAGE_TABLES_BYTES / LARGE + 1;

fn frame(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).unwrap()
}

/// A layer's file, or the beginning of one, over some packs.
fn entries(packs: &[Digest]) -> Vec<u8> {
    let mut out = b"stratlay".to_vec();
    out.extend(1_u32.to_le_bytes());
    out.extend(u32::try_from(packs.len()).unwrap().to_le_bytes());
    packs.iter().for_each(|pack| out.extend(pack.as_bytes()));
    out
}

/// The blob of a pack of one byte, whose table is as it should be and has `LARGE` bytes, zeros for
/// the most part: its name, the blob, where in it the table is.
fn pack_with_large_table(byte: u8) -> (Digest, Vec<u8>, String) {
    let chunk = Digest::of(&[byte]);
    let record = [&1_u32.to_le_bytes()[..], chunk.as_bytes()].concat();
    let name = [b"stratafs pack 1\0", &1_u64.to_le_bytes()[..], &record].concat();
    let name = Digest::of(&name);
    let front = frame(&[byte]);
    let mut table = b"stratfrm".to_vec();
    for number in [1_u32, 1, 1, 0] {
        table.extend(number.to_le_bytes());
    }
    table.extend([0; 32]);
    for number in [u32::try_from(front.len()).unwrap(), 1, 0, 0, 1] {
        table.extend(number.to_le_bytes());
    }
    table.extend(chunk.as_bytes());
    table.extend(entries(&[name]));
    table.resize(usize::try_from(LARGE).unwrap(), 0);
    let packed = frame(&table);
    let mut hidden = 0x184d_2a5e_u32.to_le_bytes().to_vec();
    hidden.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
    hidden.extend(packed);
    let place = format!("{}:{}:{}", front.len(), hidden.len(), Digest::of(&hidden));
    (name, [front, hidden].concat(), place)
}

/// What a manifest says of a blob with a table.
fn told(digest: &str, size: u64, name: Digest, table: &str) -> Value {
    json!({
        "mediaType": "application/vnd.stratafs.pack.v1+zstd", "digest": digest, "size": size,
        "annotations": {"dev.stratafs.name.v1": name.to_string(), "dev.stratafs.table.v1": table},
    })
}

#[test]
fn tables_of_an_image_have_a_bound_together() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    world.pack("app:1", "app:1");
    let mut manifest = world.manifest("1");
    let layers = manifest["layers"].as_array_mut().unwrap();
    layers.truncate(1);
    let mut names = Vec::new();
    for number in 0..TABLES {
        let (name, blob, table) = pack_with_large_table(u8::try_from(number).unwrap());
        // Small as it comes: what it says of itself has room.
        assert!(blob.len() < 1 << 20);
        let digest = world.fake.put_blob("app", &blob);
        layers.push(told(&digest, blob.len() as u64, name, &table));
        names.push(name);
    }
    let last = layers.last().unwrap()["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let layer = frame(&entries(&names));
    layers[0]["digest"] = json!(world.fake.put_blob("app", &layer));
    layers[0]["size"] = json!(layer.len());
    world.put("lie", &manifest);
    for lazy in [false, true] {
        let store = world.other(&format!("other-{lazy}"));
        let options = PullOptions {
            lazy,
            ..PullOptions::default()
        };
        let name = world.name("app:lie");
        let error = transfer::pull(&store, &client(), &name, None, &options).unwrap_err();
        let error = error.to_string();
        let want = format!("{} bytes together or more", MAX_IMAGE_TABLES_BYTES + 1);
        assert!(error.contains(&want) && error.contains(&last), "{error}");
        assert!(store.list().unwrap().is_empty() && store.verify().unwrap().is_sound());
    }
    // Nor does a push look at more: what it does not know it sends.
    world.put("1", &manifest);
    world.fake.log();
    let pushed = world.pack("app:1", "app:1");
    assert_eq!(pushed.new_packs, 1);
    assert!(pushed.known_packs < TABLES);
}

#[test]
fn tables_that_are_said_to_be_too_large_are_not_asked_for() {
    let world = World::new();
    world.image("app:1", 0..1, 1000);
    world.pack("app:1", "app:1");
    world.push("app:1", "plain:1").unwrap();
    let said = 128_u64 << 20;
    let table = format!("0:{said}:blake3:{}", "0".repeat(64));
    let mut packed = world.manifest("1");
    packed["layers"].as_array_mut().unwrap().truncate(1);
    let mut plain = world.fake.manifest("plain", "1").unwrap();
    let index: Value = serde_json::from_slice(&plain).unwrap();
    let of_index = index["manifests"][0]["digest"].as_str().unwrap();
    plain = world.fake.manifest("plain", of_index).unwrap();
    let mut plain: Value = serde_json::from_slice(&plain).unwrap();
    let layer = plain["layers"][0].clone();
    let config = plain["config"]["digest"].as_str().unwrap();
    let config = world.fake.blob("plain", config);
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    let count = usize::try_from(MAX_IMAGE_TABLES_BYTES / said).unwrap() + 1;
    config["rootfs"]["diff_ids"] = json!(vec![config["rootfs"]["diff_ids"][0].clone(); count]);
    config["history"] = json!([]);
    let config = config.to_string();
    plain["config"]["digest"] = json!(world.fake.put_blob("plain", config.as_bytes()));
    plain["config"]["size"] = json!(config.len());
    plain["layers"] = json!([]);
    for number in 0..=MAX_IMAGE_TABLES_BYTES / said {
        let digest = sha256(&number.to_le_bytes());
        let name = Digest::of(&number.to_le_bytes());
        let pack = told(&digest, said, name, &table);
        packed["layers"].as_array_mut().unwrap().push(pack);
        let mut layer = layer.clone();
        layer["digest"] = json!(digest);
        layer["size"] = json!(said);
        layer["annotations"] = json!({"dev.stratafs.table.v1": table});
        plain["layers"].as_array_mut().unwrap().push(layer);
    }
    let last = packed["layers"].as_array().unwrap().last().unwrap()["digest"].clone();
    for (manifest, repository, hint) in [
        (packed, "app", "without `--packs`"),
        (plain, "plain", "--lazy off"),
    ] {
        let bytes = manifest.to_string();
        world
            .fake
            .put_manifest(repository, "lie", MANIFEST, bytes.as_bytes());
        let store = world.other("other");
        world.fake.log();
        let error = world
            .look(&store, &format!("{repository}:lie"))
            .unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains(hint) && error.contains(last.as_str().unwrap()),
            "{error}"
        );
        assert!(
            error.contains(&MAX_IMAGE_TABLES_BYTES.to_string()),
            "{error}"
        );
        let log = world.fake.log();
        // The configuration, at most.
        let blobs = log.iter().filter(|head| head.is_blob_get()).count();
        assert!(blobs <= 1, "{log:?}");
    }
}
