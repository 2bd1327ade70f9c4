//! Images that are pulled by their tables, and fetched when they are read.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use stratafs::errno::Errno;
use stratafs::limits::{FAILED_FETCH_SECONDS, MAX_FETCHED_BYTES, MAX_FETCHES, MIN_FETCHED_BYTES};
use stratafs::transfer::{ExportOptions, Format};
use stratafs::vfs::Fs;

use super::*;
use crate::support::fake_registry::Fault;

const LEN: usize = 3_000_000;

/// A registry with `app:1`, two layers with a large file each, and a store that has it by its
/// tables.
fn pulled_in_part(world: &World) -> Store {
    world.image("app:1", 0..2, LEN);
    world.push("app:1", "app:1").unwrap();
    let other = world.other("other");
    let pulled = pull_in_part(world, &other).unwrap();
    assert_eq!((pulled.lazy_layers, pulled.fetched_layers), (2, 0));
    other
}

fn pull_in_part(world: &World, store: &Store) -> Result<Pulled, TransferError> {
    let options = PullOptions {
        lazy: true,
        ..PullOptions::default()
    };
    transfer::pull(store, &client(), &world.name("app:1"), None, &options)
}

fn full(world: &World) -> String {
    world.name("app:1").store_name().to_string()
}

fn fs(world: &World, store: &Store) -> Fs {
    Fs::new(&store.image(&full(world)).unwrap())
}

fn fill(world: &World, store: &Store) -> Result<stratafs::store::AbsentStat, TransferError> {
    let options = PullOptions::default();
    transfer::fill(store, &client(), &tag(&full(world)), &options)
}

fn ranges(log: &[Head]) -> Vec<String> {
    let blobs = log.iter().filter(|head| head.is_blob_get());
    blobs
        .filter_map(|head| head.header("range").map(str::to_owned))
        .collect()
}

#[test]
fn what_is_read_is_fetched_and_nothing_else() {
    let world = World::new();
    let other = pulled_in_part(&world);
    let name = full(&world);
    let absent = other.absent(&name).unwrap();
    assert!(
        absent.bytes > 2 * LEN as u64 - 100 && absent.blobs == 2,
        "{absent:?}"
    );
    assert!(absent.from[0].contains("/app@sha256:"));
    assert_eq!(other.stat().unwrap().absent_bytes, absent.bytes);
    let report = other.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.absent_bytes, absent.bytes);
    // Nobody fetches: names and sizes are there, bytes are not.
    let guest = fs(&world, &other);
    assert_eq!(guest.metadata("/file-0").unwrap().size, LEN as u64);
    assert_eq!(guest.read("/file-0").unwrap_err().errno(), Errno::Io);
    transfer::fetch_from(&other, &client()).unwrap();
    world.fake.log();
    // What was sent until now is not counted again.
    world.fake.served();
    let small = guest.read("/who").unwrap();
    assert_eq!(small, b"1");
    let served = world.fake.served();
    assert!(served < MIN_FETCHED_BYTES + 10_000, "{served}");
    assert_eq!(ranges(&world.fake.log()).len(), 1);
    assert_eq!(guest.read("/who").unwrap(), b"1");
    assert_eq!(ranges(&world.fake.log()).len(), 0, "it is here");
    assert_eq!(guest.prefetch("/file-0").unwrap(), LEN as u64);
    let fetched = ranges(&world.fake.log()).len();
    assert!((1..=2).contains(&fetched), "{fetched} requests for 3 MB");
    assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN));
    // A second process finds it.
    let again = Store::open(&world.dir.path().join("other")).unwrap();
    assert_eq!(fs(&world, &again).read("/file-0").unwrap(), noise(0, LEN));
    assert_eq!(
        fs(&world, &again).read("/file-1").unwrap_err().errno(),
        Errno::Io
    );
    let left = again.absent(&name).unwrap();
    assert!(left.bytes < absent.bytes - LEN as u64 + 1000 && left.blobs == 2);
    assert!(MAX_FETCHED_BYTES > LEN as u64);
}

#[test]
fn the_rest_is_filled_and_goes_out_as_it_came() {
    let world = World::new();
    let other = pulled_in_part(&world);
    let name = full(&world);
    let out = world.dir.path().join("out");
    let export = |store: &Store, format| {
        let options = ExportOptions {
            format,
            ..ExportOptions::default()
        };
        store.export_to(&tag(&name), &out, options)
    };
    for format in [Format::Oci, Format::Dir, Format::Tar] {
        let refused = export(&other, format).unwrap_err().to_string();
        assert!(refused.contains("`stratafs store fill"), "{refused}");
    }
    let to = world.name("back:1");
    let push =
        |store: &Store| transfer::push(store, &client(), &tag(&name), &to, &PushOptions::default());
    assert!(matches!(push(&other), Err(TransferError::Absent { .. })));
    // A collection takes none of it, and an image that is made on top keeps it.
    other.gc().unwrap();
    let guest = fs(&world, &other);
    guest.write("/new", "mine").unwrap();
    guest.commit(&other, &tag("mine:1"), "new").unwrap();
    assert!(!other.absent("mine:1").unwrap().is_whole());
    let filled = fill(&world, &other).unwrap();
    assert!(filled.bytes > LEN as u64 && filled.blobs == 2);
    assert!(other.absent(&name).unwrap().is_whole());
    assert!(!other.may_lack(&name).unwrap() && other.may_lack("mine:1").unwrap());
    let mine = other.absent("mine:1").unwrap();
    assert_eq!((mine.bytes, mine.blobs, mine.unchecked), (0, 0, 1));
    world.fake.log();
    transfer::fill(&other, &client(), &tag("mine:1"), &PullOptions::default()).unwrap();
    assert!(world.fake.log().is_empty(), "nothing was to be fetched");
    assert!(other.absent("mine:1").unwrap().is_whole());
    // What was open sees it.
    assert_eq!(guest.read("/file-1").unwrap(), noise(1, LEN));
    let report = other.verify().unwrap();
    assert!(report.is_sound() && report.absent_chunks == 0, "{report:?}");
    let lazy = fs::read_dir(world.dir.path().join("other/lazy")).unwrap();
    let left = lazy.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.len() == 64
    });
    assert_eq!(left.count(), 0);
    let made = world.store.info("app:1").unwrap();
    assert_eq!(layers(&other.info(&name).unwrap()), layers(&made));
    push(&other).unwrap();
    assert_eq!(
        world.fake.manifest("back", "1").unwrap(),
        other_manifest(&world, &other)
    );
    assert_eq!(fill(&world, &other).unwrap().bytes, 0);
    other.gc().unwrap();
    assert!(other.verify().unwrap().is_sound());
    assert_eq!(fs(&world, &other).read("/file-0").unwrap(), noise(0, LEN));
}

/// The manifest of the image as the store keeps it.
fn other_manifest(world: &World, store: &Store) -> Vec<u8> {
    let digest = store.info(&full(world)).unwrap().manifest.unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut store.blob(digest).unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn a_whole_pull_completes_what_was_pulled_in_part() {
    let world = World::new();
    let other = pulled_in_part(&world);
    let again = pull_in_part(&world, &other).unwrap();
    assert_eq!((again.lazy_layers, again.fetched_layers), (0, 0));
    let id = other.resolve(&full(&world)).unwrap();
    let pulled = world.pull(&other, "app:1").unwrap();
    assert_eq!((pulled.lazy_layers, pulled.fetched_layers), (0, 2));
    assert_eq!(pulled.image.id, id, "it is the same image");
    assert!(other.absent(&full(&world)).unwrap().is_whole() || fill(&world, &other).is_ok());
    assert_eq!(fs(&world, &other).read("/file-1").unwrap(), noise(1, LEN));
}

#[test]
fn many_who_read_the_same_fetch_it_once() {
    let world = World::new();
    let other = pulled_in_part(&world);
    transfer::fetch_from(&other, &client()).unwrap();
    let second = Store::open(&world.dir.path().join("other")).unwrap();
    transfer::fetch_from(&second, &client()).unwrap();
    world.fake.log();
    world
        .fake
        .misbehave(|_, _| Fault::Delay(Duration::from_millis(50)));
    thread::scope(|scope| {
        for number in 0..8 {
            let store = if number % 2 == 0 { &other } else { &second };
            let world = &world;
            scope.spawn(move || {
                assert_eq!(fs(world, store).read("/file-0").unwrap(), noise(0, LEN));
                assert_eq!(fs(world, store).read("/file-1").unwrap(), noise(1, LEN));
            });
        }
    });
    let asked = ranges(&world.fake.log());
    let mut once = asked.clone();
    once.sort();
    once.dedup();
    assert!(asked.len() <= 2 * MAX_FETCHES, "{asked:?}");
    assert!(world.fake.served() < 14_000_000, "{}", world.fake.served());
}

#[test]
fn a_registry_that_goes_away_is_an_error_and_heals() {
    let world = World::new();
    let other = pulled_in_part(&world);
    transfer::fetch_from(&other, &client()).unwrap();
    let guest = fs(&world, &other);
    for fault in [Fault::Drop, Fault::status(500), Fault::status(404)] {
        let shown = format!("{fault:?}");
        world.fake.misbehave(move |_, _| fault.clone());
        assert_eq!(
            guest.read("/file-0").unwrap_err().errno(),
            Errno::Io,
            "{shown}"
        );
        // Others go on.
        assert_eq!(guest.metadata("/file-1").unwrap().size, LEN as u64);
        guest.write("/own", "x").unwrap();
        thread::sleep(Duration::from_secs(FAILED_FETCH_SECONDS));
    }
    world.fake.behave();
    assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN));
}

#[test]
fn what_is_damaged_on_its_way_is_fetched_again_and_told() {
    for fault in [
        Fault::Flip(1000),
        Fault::Cut(100_000),
        Fault::Truncate(50_000),
        Fault::WholeForRange,
        Fault::status(503),
    ] {
        let world = World::new();
        let other = pulled_in_part(&world);
        transfer::fetch_from(&other, &client()).unwrap();
        let shown = format!("{fault:?}");
        let stays = matches!(fault, Fault::WholeForRange);
        let mut left = 1;
        world.fake.misbehave(move |head, _| {
            if head.is_blob_get() && (left > 0 || stays) {
                left -= 1;
                return fault.clone();
            }
            Fault::No
        });
        let guest = fs(&world, &other);
        assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN), "{shown}");
    }
    let world = World::new();
    let other = pulled_in_part(&world);
    transfer::fetch_from(&other, &client()).unwrap();
    world.fake.damage_blobs(|blob| {
        if let Some(byte) = blob.get_mut(500_000) {
            *byte ^= 1;
        }
    });
    let guest = fs(&world, &other);
    assert_eq!(guest.read("/file-0").unwrap_err().errno(), Errno::Io);
    let layers = other.layers(&full(&world)).unwrap();
    let told = layers[0].entries().find_map(|entry| match entry.body {
        stratafs::layer::EntryBody::File { content, .. } if content.size() == LEN as u64 => {
            content.read_at(&mut vec![0; LEN], 0).err()
        }
        _ => None,
    });
    let told = told.unwrap().to_string();
    assert!(
        told.contains("blob sha256:") && told.contains("twice"),
        "{told}"
    );
    assert!(told.contains("from byte"), "{told}");
}

#[test]
fn a_chunk_that_is_damaged_on_disk_is_fetched_again() {
    let world = World::new();
    let other = pulled_in_part(&world);
    transfer::fetch_from(&other, &client()).unwrap();
    assert_eq!(fs(&world, &other).read("/file-0").unwrap(), noise(0, LEN));
    for entry in fs::read_dir(world.dir.path().join("other/packs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.len() > LEN {
            bytes[1_000_000..1_000_100].fill(9);
            fs::write(&path, bytes).unwrap();
        }
    }
    let again = Store::open(&world.dir.path().join("other")).unwrap();
    assert_eq!(
        fs(&world, &again).read("/file-0").unwrap_err().errno(),
        Errno::Io
    );
    transfer::fetch_from(&again, &client()).unwrap();
    assert_eq!(fs(&world, &again).read("/file-0").unwrap(), noise(0, LEN));
}

/// The manifest for `wasip1/wasm` of what was pushed as an index, as JSON.
fn manifest_of(world: &World, repository: &str) -> serde_json::Value {
    let top = world.fake.manifest(repository, "1").unwrap();
    let top: serde_json::Value = serde_json::from_slice(&top).unwrap();
    let digest = top["manifests"][0]["digest"].as_str().unwrap();
    let bytes = world.fake.manifest(repository, digest).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn annotations_and_tables_that_lie_are_refused() {
    let world = World::new();
    world.image("app:1", 0..1, 500_000);
    world.push("app:1", "app:1").unwrap();
    let good = manifest_of(&world, "app");
    let told = good["layers"][0]["annotations"]["dev.stratafs.table.v1"]
        .as_str()
        .unwrap()
        .to_owned();
    let parts: Vec<&str> = told.splitn(3, ':').collect();
    let (place, len): (u64, u64) = (parts[0].parse().unwrap(), parts[1].parse().unwrap());
    let zeros = "0".repeat(64);
    for lie in [
        "nonsense".to_owned(),
        format!("{place}:{len}"),
        format!("{}:{len}:{}", place + 1, parts[2]),
        format!("{place}:{}:{}", len + 1, parts[2]),
        format!("{}:{}:{}", u64::MAX, u64::MAX, parts[2]),
        format!("0:{}:{}", 1_u64 << 40, parts[2]),
        format!("{place}:{len}:blake3:{zeros}"),
        format!("0:{len}:{}", parts[2]),
    ] {
        let mut bad = good.clone();
        bad["layers"][0]["annotations"]["dev.stratafs.table.v1"] = lie.clone().into();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let bytes = serde_json::to_vec(&bad).unwrap();
        world.fake.put_manifest("app", "1", kind, &bytes);
        let other = world.other("lies");
        let error = pull_in_part(&world, &other).unwrap_err();
        assert!(
            matches!(error, TransferError::Table { .. }),
            "{lie}: {error}"
        );
        assert!(error.to_string().contains("--lazy off"));
        assert!(other.list().unwrap().is_empty());
        // The archive is right, whatever the table says.
        world.pull(&other, "app:1").unwrap();
        other.untag(&full(&world)).unwrap();
        other.gc().unwrap();
    }
}

#[test]
fn an_image_whose_table_and_archive_differ_is_refused() {
    let world = World::new();
    // Layers of the same shape, and other bytes.
    let names: Vec<String> = (1..20).map(|seed| format!("app{seed}")).collect();
    for (name, seed) in names.iter().zip(1_u8..) {
        let dir = world.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        let file = dir.join("file");
        let mut bytes = noise(1, 600_000);
        bytes[300_000] ^= seed;
        fs::write(&file, bytes).unwrap();
        let when = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
        fs::File::open(&file).unwrap().set_modified(when).unwrap();
        fs::File::open(&dir).unwrap().set_modified(when).unwrap();
        let made = format!("{name}:1");
        transfer::import(&world.store, &[dir], &tag(&made), &ImportOptions::default()).unwrap();
        world.push(&made, &made).unwrap();
    }
    let parts = |name: &str| {
        let manifest = manifest_of(&world, name);
        let layer = manifest["layers"][0].clone();
        let digest = layer["digest"].as_str().unwrap().to_owned();
        let blob = world.fake.blob(name, &digest);
        let told = layer["annotations"]["dev.stratafs.table.v1"]
            .as_str()
            .unwrap()
            .to_owned();
        let place: usize = told.split(':').next().unwrap().parse().unwrap();
        (manifest, blob, told, place)
    };
    let (_, one, told, place) = parts(&names[0]);
    // Compressed, they differ by a byte now and then.
    let of_same_size = names[1..].iter().find(|name| parts(name).3 == place);
    let of_same_size = of_same_size.expect("two of a size");
    let (mut manifest, two, ..) = parts(of_same_size);
    let mixed = [&two[..place], &one[place..]].concat();
    let digest = world.fake.put_blob("app", &mixed);
    let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
    world
        .fake
        .put_blob("app", &world.fake.blob(of_same_size, &config));
    manifest["layers"][0]["digest"] = digest.into();
    manifest["layers"][0]["size"] = mixed.len().into();
    manifest["layers"][0]["annotations"]["dev.stratafs.table.v1"] = told.into();
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let bytes = serde_json::to_vec(&manifest).unwrap();
    world.fake.put_manifest("app", "1", kind, &bytes);
    let other = world.other("faces");
    pull_in_part(&world, &other).unwrap();
    transfer::fetch_from(&other, &client()).unwrap();
    assert_eq!(
        fs(&world, &other).read("/file").unwrap_err().errno(),
        Errno::Io
    );
    let error = fill(&world, &other).unwrap_err();
    assert!(matches!(error, TransferError::TwoFaces(_)), "{error}");
    assert!(other.info(&full(&world)).is_err(), "its name is gone");
    other.gc().unwrap();
    assert!(other.list().unwrap().is_empty());
}

/// When blobs were asked for while a file was read, each answer a while later.
fn asked_at(world: &World, store: &Store, path: &str, delay: Duration) -> (Vec<Instant>, Vec<u8>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    world.fake.misbehave(move |head, _| {
        if !head.is_blob_get() {
            return Fault::No;
        }
        seen.lock().unwrap().push(Instant::now());
        Fault::Delay(delay)
    });
    let bytes = fs(world, store).read(path).unwrap();
    world.fake.behave();
    let times = times.lock().unwrap().clone();
    (times, bytes)
}

#[test]
fn a_long_read_is_fetched_in_parts_at_once() {
    const DELAY: Duration = Duration::from_secs(2);
    let world = World::new();
    let large = usize::try_from(MAX_FETCHED_BYTES).unwrap() * 2 + 1_000_000;
    let common = noise(5, 900_000);
    let mixed = [
        &noise(6, LEN / 2),
        &common[300_000..600_000],
        &noise(7, LEN / 2),
    ]
    .concat();
    let dir = world.dir.path().join("mixed");
    fs::create_dir(&dir).unwrap();
    for (name, bytes) in [("a", common), ("b", mixed.clone()), ("c", noise(8, large))] {
        fs::write(dir.join(name), bytes).unwrap();
    }
    let options = ImportOptions::default();
    transfer::import(&world.store, &[dir], &tag("app:1"), &options).unwrap();
    world.push("app:1", "app:1").unwrap();
    let other = world.other("other");
    pull_in_part(&world, &other).unwrap();
    transfer::fetch_from(&other, &client()).unwrap();
    // One has chunks of another between its own, one is longer than what is fetched at once.
    for (path, bytes) in [("/b", mixed), ("/c", noise(8, large))] {
        let (times, found) = asked_at(&world, &other, path, DELAY);
        assert!(found == bytes, "{path}");
        assert!((2..=4).contains(&times.len()), "{path}: {}", times.len());
        let all = times[times.len() - 1].duration_since(times[0]);
        assert!(all < DELAY, "{path}: one after the other, {all:?}");
    }
}
