//! Many pulls into one store at once, each of an image of its own.

use std::thread;

use super::*;

const PULLS: u64 = 60;
const BYTES: usize = 100_000;

/// A pull that begins looks at the packs of the catalog anew, where those that another one has
/// taken in are not before it ends: that one must find them all the same.
#[test]
fn pulls_that_begin_meanwhile_take_nothing_from_each_other() {
    let world = World::new();
    let options = PushOptions {
        packs: true,
        ..PushOptions::default()
    };
    for number in 0..PULLS {
        let name = format!("app{number}:1");
        world.image(&name, number..number + 1, BYTES);
        let to = world.name(&name);
        transfer::push(&world.store, &client(), &tag(&name), &to, &options).unwrap();
    }
    let (other, client) = (world.other("other"), client());
    thread::scope(|scope| {
        for number in 0..PULLS {
            let name = world.name(&format!("app{number}:1"));
            let (client, other) = (&client, &other);
            scope.spawn(move || pull_with(client, other, &name).unwrap());
        }
    });
    assert_eq!(other.list().unwrap().len() as u64, PULLS);
    // What was taken in as a pack is not stored once more.
    let stored = other.stat().unwrap().pack_bytes;
    let all = PULLS * BYTES as u64;
    assert!((all..all * 5 / 4).contains(&stored), "{stored} of {all}");
}
