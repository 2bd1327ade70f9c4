//! A store as a cache: what was pulled and not used for long goes, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use stratafs::store::{StoreError, StoreOptions, TrimOptions, TrimReport};
use stratafs::vfs::Fs;

use super::*;

const LEN: usize = 1_000_000;

/// A registry with an image of a megabyte for each name, none of which another one has.
fn pushed(names: &[&str]) -> World {
    let world = World::new();
    for (number, name) in (0..).zip(names) {
        world.image(name, number..number + 1, LEN);
        world.push(name, name).unwrap();
    }
    world
}

fn full(world: &World, name: &str) -> String {
    world.name(name).store_name().to_string()
}

fn within(max_bytes: u64) -> TrimOptions {
    TrimOptions {
        max_bytes: Some(max_bytes),
        ..TrimOptions::default()
    }
}

fn unused_for(seconds: u64) -> TrimOptions {
    TrimOptions {
        unused_for: Some(Duration::from_secs(seconds)),
        ..TrimOptions::default()
    }
}

fn dropped(report: &TrimReport) -> Vec<String> {
    let tags = report.dropped.iter().flat_map(|image| image.tags.clone());
    tags.collect()
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let names = ["a:1", "b:1", "c:1"];
    let world = pushed(&names);
    let other = world.other("other");
    for name in names {
        world.pull(&other, name).unwrap();
    }
    // A handle that only looks notes it as well.
    let dir = world.dir.path().join("other");
    let look = StoreOptions::new().read_only().open(&dir).unwrap();
    let before = other.last_used(&full(&world, "a:1")).unwrap();
    drop(look.mark_used(&full(&world, "a:1")).unwrap());
    assert!(other.last_used(&full(&world, "a:1")).unwrap() > before);
    let total = other.stat().unwrap().total_bytes();
    let options = within(total - 1);
    let dry = TrimOptions {
        dry_run: true,
        ..options
    };
    let told = look.trim(&dry).unwrap();
    assert_eq!(other.stat().unwrap().total_bytes(), total);
    assert!(look.trim(&options).is_err(), "it only looks");
    let report = other.trim(&options).unwrap();
    assert_eq!(dropped(&report), [full(&world, "b:1")]);
    assert_eq!((&told.dropped, told.collected.images), (&report.dropped, 1));
    let freed = report.collected.freed_bytes;
    assert!(freed > LEN as u64 && told.collected.freed_bytes <= freed);
    assert!(report.bytes < total - LEN as u64);
    assert_eq!(report.bytes, other.stat().unwrap().total_bytes());
    assert!(other.verify().unwrap().is_sound());
    assert!(matches!(
        other.mark_used(&full(&world, "b:1")),
        Err(StoreError::NoImage(_))
    ));
    // What went comes back, and is what was used last then.
    assert_eq!(world.pull(&other, "b:1").unwrap().fetched_layers, 1);
    let report = other.trim(&within(total - 1)).unwrap();
    assert_eq!(dropped(&report), [full(&world, "c:1")]);
    // In bounds nothing goes.
    assert!(other.trim(&within(total)).unwrap().dropped.is_empty());
    assert!(other.trim(&unused_for(3600)).unwrap().dropped.is_empty());
    let report = other.trim(&unused_for(0)).unwrap();
    assert_eq!(
        dropped(&report),
        ["a:1", "b:1"].map(|name| full(&world, name))
    );
    assert!(other.list().unwrap().is_empty());
    assert!(fs::read_dir(dir.join("used")).unwrap().next().is_none());
}

#[test]
fn a_name_that_was_given_here_keeps_an_image() {
    let names = ["a:1", "b:1", "c:1"];
    let world = pushed(&names);
    // What was made here has no other name than its own, even one of a registry.
    let own = full(&world, "own:1");
    world.image(&own, 9..10, LEN);
    assert!(dropped(&world.store.trim(&within(0)).unwrap()).is_empty());
    let other = world.other("other");
    for name in names {
        world.pull(&other, name).unwrap();
    }
    other.tag(&full(&world, "a:1"), "mine:1").unwrap();
    let options = PullOptions::default();
    let by = tag("b:mine");
    transfer::pull(&other, &client(), &world.name("b:1"), Some(&by), &options).unwrap();
    let report = other.trim(&within(0)).unwrap();
    assert_eq!(dropped(&report), [full(&world, "c:1")]);
    assert!(report.bytes > 2 * LEN as u64);
    // Given up, they go; named here by the name of a registry, they stay.
    other.untag("mine:1").unwrap();
    other.tag("b:mine", &full(&world, "b:1")).unwrap();
    other.untag("b:mine").unwrap();
    let report = other.trim(&within(0)).unwrap();
    assert_eq!(dropped(&report), [full(&world, "a:1")]);
    // Until a pull says that it is there.
    world.pull(&other, "b:1").unwrap();
    assert_eq!(
        dropped(&other.trim(&within(0)).unwrap()),
        [full(&world, "b:1")]
    );
}

#[test]
fn an_image_in_use_stays_and_what_is_not_here_takes_no_room() {
    let world = pushed(&["a:1"]);
    let other = world.other("other");
    let options = PullOptions {
        lazy: true,
        ..PullOptions::default()
    };
    let name = full(&world, "a:1");
    transfer::pull(&other, &client(), &world.name("a:1"), None, &options).unwrap();
    transfer::fetch_from(&other, &client()).unwrap();
    let small = other.stat().unwrap().total_bytes();
    assert!(small < LEN as u64, "{small}");
    let half = LEN as u64 / 2;
    assert!(
        other
            .trim(&within(small.max(half)))
            .unwrap()
            .dropped
            .is_empty()
    );
    let in_use = other.mark_used(&name).unwrap();
    let guest = Fs::new(&other.image(&name).unwrap());
    let report = other.trim(&within(0)).unwrap();
    assert_eq!((report.dropped.len(), report.in_use), (0, 1));
    assert_eq!(guest.read("/file-0").unwrap(), noise(0, LEN));
    // It has come, and takes room.
    assert!(other.stat().unwrap().total_bytes() > LEN as u64);
    let dry = TrimOptions {
        dry_run: true,
        ..within(half)
    };
    assert_eq!(other.trim(&dry).unwrap().in_use, 1);
    drop(in_use);
    assert_eq!(other.trim(&dry).unwrap().in_use, 0);
    assert_eq!(dropped(&other.trim(&within(half)).unwrap()), [name]);
}

#[test]
fn pulls_and_guests_go_on_while_a_cache_is_kept_small() {
    let names = ["a:1", "b:1"];
    let world = pushed(&names);
    let other = world.other("other");
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let trimmer = scope.spawn(|| {
            let mut count = 0;
            while !ended.load(Ordering::Relaxed) {
                count += other.trim(&within(0)).unwrap().dropped.len();
                // Imports pass a collection that is waited for; they need a moment for it.
                thread::sleep(Duration::from_millis(20));
            }
            count
        });
        let users = (0_u64..).zip(names).map(|(number, name)| {
            let (world, other) = (&world, &other);
            scope.spawn(move || {
                for _ in 0..10 {
                    // What was pulled is in use until this goes.
                    let _pulled = world.pull(other, name).unwrap();
                    let guest = Fs::new(&other.image(&full(world, name)).unwrap());
                    let path = format!("/file-{number}");
                    assert_eq!(guest.read(path).unwrap(), noise(number, LEN));
                }
            })
        });
        let users: Vec<_> = users.collect();
        let all: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        ended.store(true, Ordering::Relaxed);
        assert!(trimmer.join().unwrap() > 0, "nothing was dropped");
        assert!(all.iter().all(Result::is_ok));
    });
    other.trim(&within(0)).unwrap();
    assert!(other.list().unwrap().is_empty() && other.verify().unwrap().is_sound());
}
