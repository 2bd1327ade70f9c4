//! Whole simulations.

use crate::program::Program;
use crate::queue::SECOND;
use crate::setup::{Arrivals, Fleet, WAYS, Way};
use crate::table::Row;

/// An image of 10 MB, of which a start needs 3 MB.
fn program() -> Program {
    let text = r#"{"name": "test", "layers": [8000000, 2000000], "table_bytes": 100000, "program_bytes": 2000000,
        "reads": [200000, 200000, 200000, 200000, 100000], "compiled_bytes": 2500000, "compile_seconds": 4.0,
        "guest_seconds": 0.1, "create_microseconds": 50.0, "process_mib": 20.0, "guest_mib": 1.0,
        "update": {"layer_bytes": 2000000, "file_bytes": 400000, "chunk_bytes": 100000}}"#;
    serde_json::from_str(text).unwrap()
}

fn fleet() -> Fleet {
    Fleet {
        hosts: 100,
        registry_bits: 1_000_000_000,
        host_bits: 1_000_000_000,
        ..Fleet::default()
    }
}

fn way(name: &str) -> &'static Way {
    WAYS.iter().find(|way| way.name == name).unwrap()
}

fn row(fleet: &Fleet, name: &str) -> Row {
    Row::of(fleet, way(name), &program()).unwrap()
}

fn is_near(found: f64, expected: f64, part: f64) -> bool {
    (found - expected).abs() <= expected * part
}

#[test]
fn the_registry_sends_the_image_once_to_each_host() {
    let row = row(&fleet(), "whole image for each host");
    assert!(
        is_near(row.registry_gigabytes, 100.0 * 0.01, 0.001),
        "{row:?}"
    );
    // 1 GB over 1 Gbit/s, then 4 s of compiling.
    assert!(is_near(row.start_p99_seconds, 8.0 + 4.0, 0.02), "{row:?}");
    // Four documents and two layers.
    assert_eq!(row.requests, 600);
}

#[test]
fn a_host_alone_is_held_up_by_its_own_line() {
    let fleet = Fleet {
        hosts: 1,
        host_bits: 100_000_000,
        ..fleet()
    };
    let row = row(&fleet, "whole image for each host");
    assert!(is_near(row.start_p50_seconds, 0.8 + 4.0, 0.02), "{row:?}");
}

#[test]
fn a_lazy_start_waits_for_its_part_and_the_rest_comes_behind() {
    let whole = row(&fleet(), "whole image for each host");
    let lazy = row(&fleet(), "lazy, start set");
    // 3 MB of 10 MB for each, while the rest of those before takes a part of the line.
    assert!(lazy.start_p50_seconds < whole.start_p50_seconds, "{lazy:?}");
    assert!(is_near(lazy.host_megabytes, 10.1, 0.01), "{lazy:?}");
    let compiled = row(&fleet(), "lazy, start set, compiled code");
    assert!(
        compiled.start_p99_seconds < lazy.start_p99_seconds - 2.0,
        "{compiled:?}"
    );
}

#[test]
fn without_a_start_set_the_first_guest_waits_for_each_frame() {
    let fleet = Fleet {
        hosts: 1,
        guests: 1,
        round_trip: SECOND / 10,
        ..fleet()
    };
    let with = row(&fleet, "lazy, start set");
    let without = row(&fleet, "lazy, no start set");
    // Five reads of a round trip each.
    let more = without.output_p99_seconds - with.output_p99_seconds;
    assert!((0.4..0.7).contains(&more), "{more}: {with:?} {without:?}");
}

#[test]
fn peers_take_the_load_off_the_registry() {
    let alone = row(&fleet(), "whole image for each host");
    let peers = row(&fleet(), "whole image, peers");
    assert!(
        peers.registry_gigabytes < alone.registry_gigabytes / 5.0,
        "{peers:?}"
    );
    assert!(
        is_near(peers.host_megabytes, alone.host_megabytes, 0.01),
        "{peers:?}"
    );
    assert!(
        peers.start_p99_seconds < alone.start_p99_seconds,
        "{peers:?}"
    );
}

#[test]
fn hosts_that_are_refused_come_again() {
    let fleet = Fleet {
        request_rate: Some(20),
        ..fleet()
    };
    let free = row(&self::fleet(), "lazy, start set, compiled code");
    let bound = row(&fleet, "lazy, start set, compiled code");
    assert!(bound.refused_requests > 0, "{bound:?}");
    assert_eq!(bound.registry_gigabytes, free.registry_gigabytes);
    let served = (bound.requests - bound.refused_requests) as f64;
    // The allowed rate, and a second's worth at once in the beginning.
    assert!(
        bound.last_start_seconds > (served / 20.0 - 1.0) * 0.3,
        "{bound:?}"
    );
}

#[test]
fn guests_that_come_one_by_one_wait_less_than_all_at_once() {
    let fleet = Fleet {
        arrivals: Arrivals::PerSecond(10.0),
        ..fleet()
    };
    let together = row(&self::fleet(), "lazy, start set, compiled code");
    let spread = row(&fleet, "lazy, start set, compiled code");
    assert!(
        spread.start_p50_seconds < together.start_p50_seconds / 10.0,
        "{spread:?}"
    );
}

#[test]
fn a_seed_has_one_outcome() {
    let text = |seed| {
        let fleet = Fleet {
            seed,
            arrivals: Arrivals::PerSecond(500.0),
            ..fleet()
        };
        serde_json::to_string(&row(&fleet, "whole image, peers")).unwrap()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
}

#[test]
fn twice_the_hosts_take_twice_the_time_of_the_registry() {
    let twice = Fleet {
        hosts: 200,
        ..fleet()
    };
    let once = row(&fleet(), "whole image for each host").start_p99_seconds - 4.0;
    let twice = row(&twice, "whole image for each host").start_p99_seconds - 4.0;
    assert!(is_near(twice / once, 2.0, 0.02), "{once} {twice}");
}

#[test]
fn recorded_programs_are_read() {
    for (name, text) in crate::program::RECORDED {
        let program: Program = serde_json::from_str(text).unwrap();
        let needed = program.table_bytes + program.program_bytes + program.read_bytes();
        assert!(needed <= program.image_bytes(), "{name}");
        assert!(
            program.update.chunk_bytes <= program.update.file_bytes,
            "{name}"
        );
    }
}
