//! Images that are pulled from object stores by their tables, and fetched when they are read.

use stratafs::errno::Errno;
use stratafs::registry::Client;
use stratafs::transfer::Origins;
use stratafs::vfs::Fs;

use super::*;

const LEN: usize = 2_000_000;

fn pull_in_part(world: &World, name: &ObjectRef, store: &Store) -> Result<Pulled, TransferError> {
    let options = PullOptions {
        lazy: true,
        ..PullOptions::default()
    };
    let bucket = Bucket::open(name.home(), &world.options()).unwrap();
    transfer::pull_object(store, &bucket, name, None, &options)
}

fn origins(world: &World) -> Origins {
    let client = Client::new(ClientOptions::default()).unwrap();
    Origins::from(&client).with_buckets(world.options())
}

fn noise(world: &World) -> Vec<u8> {
    fs::read(world.dir.path().join("layer-1/noise")).unwrap()
}

fn read(store: &Store, name: &ObjectRef) -> Result<Vec<u8>, Errno> {
    let image = store.image(name.store_name().as_str()).unwrap();
    let read = Fs::new(&image).read("/noise");
    read.map_err(|error| error.errno())
}

/// Names of `app:1` in a folder, in an S3, and behind a web server.
fn everywhere() -> Vec<(World, ObjectRef)> {
    let [folder, s3] = World::both();
    let web = World::s3();
    let names = [
        folder.name("app:1"),
        s3.name("app:1"),
        format!("http://{}/bucket/team/app:1", web.fake().host)
            .parse()
            .unwrap(),
    ];
    [folder, s3, web].into_iter().zip(names).collect()
}

#[test]
fn what_is_read_is_fetched_and_the_rest_is_filled() {
    for (world, name) in everywhere() {
        world.image("app:1", 1, LEN);
        world.push("app:1", "app:1").unwrap();
        let other = world.other("other");
        let pulled = pull_in_part(&world, &name, &other).unwrap();
        assert_eq!((pulled.lazy_layers, pulled.fetched_bytes), (1, 0), "{name}");
        let stored = name.store_name();
        let absent = other.absent(stored.as_str()).unwrap();
        assert!(
            absent.bytes >= LEN as u64 && absent.blobs == 1,
            "{absent:?}"
        );
        assert_eq!(
            absent.from[0].parse::<ObjectRef>().unwrap().home(),
            name.home()
        );
        assert_eq!(read(&other, &name), Err(Errno::Io), "nobody fetches");
        let to = world.name("part:1");
        let bucket = Bucket::open(to.home(), &world.options()).unwrap();
        let sent = transfer::push_object(&other, &bucket, &stored, &to, &PushOptions::default());
        assert!(
            matches!(sent, Err(TransferError::Absent { .. })),
            "{sent:?}"
        );
        transfer::fetch_from(&other, origins(&world)).unwrap();
        if let Some(s3) = &world.s3 {
            s3.log();
        }
        assert_eq!(read(&other, &name).unwrap(), noise(&world), "{name}");
        if let Some(s3) = &world.s3 {
            let log = s3.log();
            assert!(
                log.iter()
                    .all(|it| it.starts_with("GET") && it.contains("/blobs/")),
                "nothing is listed: {log:?}"
            );
            assert!(log.len() <= 4, "{log:?}");
        }
        let left = other.absent(stored.as_str()).unwrap();
        assert_eq!((left.bytes, left.blobs), (0, 1));
        let options = PullOptions::default();
        transfer::fill(&other, origins(&world), &stored, &options).unwrap();
        assert!(other.absent(stored.as_str()).unwrap().is_whole());
        // Its blobs are those that are there.
        let to = world.name("again:1");
        let bucket = Bucket::open(to.home(), &world.options()).unwrap();
        let sent = transfer::push_object(&other, &bucket, &stored, &to, &PushOptions::default());
        assert_eq!(sent.unwrap().sent_bytes, 0);
    }
}

#[test]
fn a_place_that_nobody_asks_has_a_damaged_blob_or_lost_it_is_an_error_of_the_read() {
    for (world, name) in everywhere() {
        world.image("app:1", 1, LEN);
        world.push("app:1", "app:1").unwrap();
        let stores = ["one", "two", "three"].map(|store| world.other(store));
        for store in &stores {
            pull_in_part(&world, &name, store).unwrap();
        }
        let [one, two, three] = stores;
        let stored = name.store_name();
        let fill = |store: &Store, origins: Origins| {
            let filled = transfer::fill(store, origins, &stored, &PullOptions::default());
            filled.unwrap_err().to_string()
        };
        let client = Client::new(ClientOptions::default()).unwrap();
        transfer::fetch_from(&one, &client).unwrap();
        assert_eq!(read(&one, &name), Err(Errno::Io));
        let error = fill(&one, Origins::from(&client));
        assert!(
            error.contains("object stores are not asked here"),
            "{error}"
        );
        // The large ones are those of layers.
        world.change("/blobs/", |bytes| {
            if bytes.len() > LEN / 2 {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
        });
        transfer::fetch_from(&two, origins(&world)).unwrap();
        assert_eq!(read(&two, &name), Err(Errno::Io));
        let error = fill(&two, origins(&world));
        assert!(error.contains("the digest"), "{error}");
        world.change("/blobs/", |bytes| bytes.truncate(1000));
        transfer::fetch_from(&three, origins(&world)).unwrap();
        assert_eq!(read(&three, &name), Err(Errno::Io));
        assert!(!three.absent(stored.as_str()).unwrap().is_whole());
    }
}
