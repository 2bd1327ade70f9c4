//! Images that several registries have: what one does not give, of layers or of packs, another does.

use std::thread;

use stratafs::errno::Errno;
use stratafs::limits::FAILED_FETCH_SECONDS;
use stratafs::vfs::Fs;

use super::*;
use crate::support::fake_registry::Fault;

const LEN: usize = 1_500_000;

/// A registry and a mirror of it, and a store that has the image of the first in part.
struct Mirrored {
    world: World,
    mirror: FakeRegistry,
    store: Store,
}

impl Mirrored {
    /// Publishes an image of three layers, as packs or as such.
    fn new(packs: bool) -> Self {
        let world = World::new();
        world.image("app:1", 0..3, LEN);
        let options = PushOptions {
            packs,
            ..PushOptions::default()
        };
        let name = world.name("app:1");
        transfer::push(&world.store, &client(), &tag("app:1"), &name, &options).unwrap();
        let mirror = FakeRegistry::start();
        let from = CopyPlace::Registry(name.clone());
        let to = CopyPlace::Registry(mirror.name("mirrored/app:1").parse().unwrap());
        transfer::copy(&client(), &from, &to, &CopyOptions::default()).unwrap();
        let store = world.other("other");
        let made = Self {
            world,
            mirror,
            store,
        };
        made.look(&name).unwrap();
        made
    }

    fn look(&self, name: &RegistryRef) -> Result<Pulled, TransferError> {
        let options = PullOptions {
            lazy: true,
            ..PullOptions::default()
        };
        transfer::pull(&self.store, &client(), name, None, &options)
    }

    fn look_at_mirror(&self) {
        let name = self.mirror.name("mirrored/app:1").parse().unwrap();
        let pulled = self.look(&name).unwrap();
        assert_eq!(pulled.fetched_bytes, 0);
    }

    fn full(&self) -> String {
        self.world.name("app:1").store_name().to_string()
    }

    fn guest(&self, store: &Store) -> Fs {
        transfer::fetch_from(store, &client()).unwrap();
        Fs::new(&store.image(&self.full()).unwrap())
    }

    fn fill(&self) -> Result<stratafs::store::AbsentStat, TransferError> {
        let options = PullOptions::default();
        transfer::fill(&self.store, &client(), &tag(&self.full()), &options)
    }
}

fn blobs_asked(registry: &FakeRegistry) -> usize {
    let log = registry.log();
    log.iter().filter(|head| head.is_blob_get()).count()
}

fn is_gone(registry: &FakeRegistry) {
    registry.misbehave(|_, _| Fault::status(404));
}

#[test]
fn a_registry_that_is_gone_is_an_error_until_another_home_is_known() {
    for packs in [false, true] {
        let made = Mirrored::new(packs);
        let guest = made.guest(&made.store);
        is_gone(&made.world.fake);
        let read = |number: u64| guest.read(format!("/file-{number}"));
        assert_eq!(read(0).unwrap_err().errno(), Errno::Io);
        let absent = made.store.absent(&made.full()).unwrap();
        assert_eq!(absent.from.len(), 1, "{absent:?}");
        // The guest that runs already has it as well.
        made.look_at_mirror();
        thread::sleep(Duration::from_secs(FAILED_FETCH_SECONDS));
        assert_eq!(read(0).unwrap(), noise(0, LEN));
        let absent = made.store.absent(&made.full()).unwrap();
        assert_eq!(absent.from.len(), 2, "{absent:?}");
        // Another process asks the one that was used last, though the first answers again.
        made.world.fake.behave();
        let again = Store::open(&made.world.dir.path().join("other")).unwrap();
        let second = made.guest(&again);
        made.world.fake.log();
        made.mirror.log();
        assert_eq!(second.read("/file-1").unwrap(), noise(1, LEN));
        assert_eq!(blobs_asked(&made.world.fake), 0);
        assert!(blobs_asked(&made.mirror) > 0);
        // And the other one when that fails.
        is_gone(&made.mirror);
        assert_eq!(second.read("/file-2").unwrap(), noise(2, LEN));
        assert!(made.store.verify().unwrap().is_sound());
    }
}

#[test]
fn what_a_home_sends_damaged_comes_from_the_next() {
    for packs in [false, true] {
        let made = Mirrored::new(packs);
        made.look_at_mirror();
        made.mirror.misbehave(|head, _| match head.is_blob_get() {
            true => Fault::Flip(2000),
            false => Fault::No,
        });
        let guest = made.guest(&made.store);
        made.mirror.log();
        assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN));
        // Once is enough: the other is asked first from then on.
        assert!((1..=4).contains(&blobs_asked(&made.mirror)));
        assert_eq!(guest.read("/file-2").unwrap(), noise(2, LEN));
        assert_eq!(blobs_asked(&made.mirror), 0);
        // If no home has it, that is told of each.
        is_gone(&made.world.fake);
        assert_eq!(guest.read("/file-1").unwrap_err().errno(), Errno::Io);
    }
}

#[test]
fn an_image_is_filled_from_the_home_that_has_it() {
    for packs in [false, true] {
        let made = Mirrored::new(packs);
        is_gone(&made.world.fake);
        let error = made.fill().unwrap_err().to_string();
        assert!(!error.is_empty() && !made.store.absent(&made.full()).unwrap().is_whole());
        made.look_at_mirror();
        thread::sleep(Duration::from_secs(FAILED_FETCH_SECONDS));
        made.fill().unwrap();
        assert!(made.store.absent(&made.full()).unwrap().is_whole());
        let guest = Fs::new(&made.store.image(&made.full()).unwrap());
        assert_eq!(guest.read("/file-1").unwrap(), noise(1, LEN));
    }
    // Of two homes the first that answers is enough.
    for packs in [false, true] {
        let made = Mirrored::new(packs);
        made.look_at_mirror();
        is_gone(&made.mirror);
        made.fill().unwrap();
        assert!(made.store.absent(&made.full()).unwrap().is_whole());
    }
}

#[test]
fn an_image_over_the_same_layers_brings_their_homes() {
    for packs in [false, true] {
        let made = Mirrored::new(packs);
        let world = &made.world;
        world.image("app:2", 0..4, LEN);
        let options = PushOptions {
            packs,
            ..PushOptions::default()
        };
        let name: RegistryRef = made.mirror.name("mirrored/app:2").parse().unwrap();
        transfer::push(&world.store, &client(), &tag("app:2"), &name, &options).unwrap();
        made.look(&name).unwrap();
        is_gone(&world.fake);
        let guest = made.guest(&made.store);
        assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN), "{packs}");
    }
}
