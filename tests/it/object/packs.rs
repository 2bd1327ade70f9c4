//! Images that are published as packs, in a folder and in an S3.

use stratafs::vfs::Fs;

use super::*;

fn packed() -> PushOptions {
    PushOptions {
        packs: true,
        ..PushOptions::default()
    }
}

/// Two versions of an image: a small file more, and a large one that stays.
fn two_versions(world: &World) {
    world.image("app:1", 1, 1 << 20);
    let dir = world.dir.path().join("layer-1");
    fs::write(dir.join("added"), "more").unwrap();
    let options = ImportOptions::default();
    transfer::import(&world.store, &[dir], &tag("app:2"), &options).unwrap();
}

#[test]
fn a_version_costs_its_difference_and_its_packs_are_not_collected() {
    for world in World::both() {
        two_versions(&world);
        let first = world.push_with("app:1", "app:1", &packed()).unwrap();
        assert!(first.sent_bytes > 1 << 20);
        let second = world.push_with("app:2", "app:2", &packed()).unwrap();
        assert_eq!((second.known_packs, second.new_packs), (1, 1));
        assert!(second.sent_bytes < 20_000, "{}", second.sent_bytes);
        // Another name of the place is another image's: nothing of it is named.
        let apart = world.push_with("app:2", "apart:2", &packed()).unwrap();
        assert_eq!(apart.known_packs, 0);
        // The first version goes, and its pack stays: the second one names it.
        let gone = |key: &str| key.contains("tags/app/1") || key.contains("tags/apart");
        remove(&world, &gone);
        world.age(7200);
        let collected = world.bucket().collect(Duration::from_secs(3600), false);
        assert!(collected.unwrap().removed_blobs > 0);
        let whole = world.other("whole");
        world.pull(&whole, &world.name("app:2")).unwrap();
        assert!(whole.verify().unwrap().is_sound());
        let name = world.name("app:2").store_name().to_string();
        let read = |store: &Store, path: &str| Fs::new(&store.image(&name).unwrap()).read(path);
        assert_eq!(read(&whole, "/added").unwrap(), b"more");
        let noise = Fs::new(&world.store.image("app:2").unwrap()).read("/noise");
        assert_eq!(read(&whole, "/noise").unwrap(), noise.unwrap());
    }
}

/// Removes objects by their keys.
fn remove(world: &World, is_gone: &dyn Fn(&str) -> bool) {
    if let Some(s3) = &world.s3 {
        s3.change(|objects| objects.retain(|key, _| !is_gone(key)));
        return;
    }
    for path in files(&world.path()) {
        if is_gone(path.to_str().unwrap()) {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn packs_are_fetched_when_they_are_read() {
    for world in World::both() {
        two_versions(&world);
        world.push_with("app:2", "app:2", &packed()).unwrap();
        let store = world.other("part");
        let options = PullOptions {
            lazy: true,
            ..PullOptions::default()
        };
        let name = world.name("app:2");
        transfer::pull_object(&store, &world.bucket(), &name, None, &options).unwrap();
        let full = name.store_name().to_string();
        assert!(store.absent(&full).unwrap().bytes > 1 << 20);
        let client = stratafs::registry::Client::new(ClientOptions::default()).unwrap();
        let origins = transfer::Origins::from(&client).with_buckets(world.options());
        transfer::fetch_from(&store, origins).unwrap();
        let guest = Fs::new(&store.image(&full).unwrap());
        assert_eq!(guest.read("/added").unwrap(), b"more");
        assert_eq!(guest.read("/noise").unwrap().len(), 1 << 20);
    }
}

#[test]
fn entries_that_a_version_copies_are_not_collected() {
    for world in World::both() {
        let dir = world.dir.path().join("tree");
        fs::create_dir(&dir).unwrap();
        for number in 0..200 {
            fs::write(dir.join(format!("file-{number}")), format!("{number}")).unwrap();
        }
        for version in 1..=3 {
            fs::write(dir.join(format!("added-{version}")), "more").unwrap();
            let name = format!("app:{version}");
            let options = ImportOptions::default();
            let sources = [dir.clone()];
            transfer::import(&world.store, &sources, &tag(&name), &options).unwrap();
            let pushed = world.push_with(&name, &name, &packed()).unwrap();
            let most = if version == 1 { 30_000 } else { 3_000 };
            assert!(pushed.sent_bytes < most, "{version}: {}", pushed.sent_bytes);
        }
        remove(&world, &|key| {
            key.contains("tags/app/1") || key.contains("tags/app/2")
        });
        world.age(7200);
        let collected = world.bucket().collect(Duration::from_secs(3600), false);
        assert!(collected.unwrap().removed_blobs > 0);
        for lazy in [false, true] {
            let store = world.other(&format!("other-{lazy}"));
            let options = PullOptions {
                lazy,
                ..PullOptions::default()
            };
            let name = world.name("app:3");
            transfer::pull_object(&store, &world.bucket(), &name, None, &options).unwrap();
            let digest = |store: &Store, name: &str| store.image(name).unwrap().digest();
            let full = name.store_name().to_string();
            assert_eq!(digest(&store, &full), digest(&world.store, "app:3"));
        }
    }
}
