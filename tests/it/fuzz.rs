//! The fuzz targets of `fuzz/`, in plain loops: bytes at random, kept inputs,
//! and kept inputs with some bytes changed. `tests/fuzz.sh` runs them with
//! libFuzzer; `STRATAFS_FUZZ=n` makes each loop here go on for n inputs.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[cfg(feature = "freeze")]
use crate::support::rng::is_long;
use crate::support::rng::{Rng, from_env, runs};

#[path = "../../fuzz/src/archive.rs"]
mod archive;
#[cfg(feature = "freeze")]
#[path = "../../fuzz/src/checkpoint.rs"]
mod checkpoint;
#[cfg(feature = "freeze")]
#[path = "../../fuzz/src/expressions.rs"]
mod expressions;
#[path = "../../fuzz/src/feed.rs"]
mod feed;
#[path = "../../fuzz/src/filesystem2.rs"]
mod filesystem2;
#[cfg(feature = "freeze")]
#[path = "../../fuzz/src/freeze.rs"]
mod freeze;
#[cfg(feature = "freeze")]
#[path = "../../fuzz/src/generated.rs"]
mod generated;
#[path = "../../fuzz/src/instance.rs"]
mod instance;
#[path = "../../fuzz/src/merge.rs"]
mod merge;
#[path = "../../fuzz/src/preview1.rs"]
mod preview1;
#[path = "../../fuzz/src/sealing.rs"]
mod sealing;
#[path = "../../fuzz/src/walk.rs"]
mod walk;

/// The inputs kept for a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(target);
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn random(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.below(256) as u8).collect()
}

/// Changes a few bytes, leaves some out, or puts some in.
fn change(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len().max(1));
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let more = random(rng, 8);
                bytes.splice(at..at, more);
            }
            2 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            _ if at < bytes.len() => bytes[at] = rng.below(256) as u8,
            _ => {}
        }
    }
}

/// Runs a target on its kept inputs and on as many made here of `all` as [`runs`]
/// says; an input that fails is shown in hex, to be kept in `fuzz/seeds`.
fn drive(name: &str, all: u64, target: fn(&[u8])) {
    drive_from(7, name, all, target);
}

/// As [`drive`], with inputs of their own for each seed, which `STRATAFS_SEED` adds to.
fn drive_from(seed: u64, name: &str, all: u64, target: fn(&[u8])) {
    let count = runs("STRATAFS_FUZZ", all);
    let kept = kept(name);
    let mut rng = Rng::new(from_env("STRATAFS_SEED").unwrap_or(0).wrapping_add(seed));
    let made = (0..count).map(|_| {
        if kept.is_empty() || rng.below(3) == 0 {
            let len = rng.below(900);
            return random(&mut rng, len);
        }
        let mut bytes = kept[rng.below(kept.len())].clone();
        change(&mut rng, &mut bytes);
        bytes
    });
    for bytes in kept.iter().cloned().chain(made) {
        if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{name} fails on {hex}");
        }
    }
}

#[test]
fn fuzz_instance_stays_sound_after_each_call() {
    drive("instance", 3_000, instance::run);
}

/// Programs with four pairs of points each: a hundred thousand pairs in a long run, in four parts
/// that run beside each other.
#[cfg(feature = "freeze")]
mod fuzz_frozen_programs_go_on_as_if_nothing_had_been {
    use super::*;

    fn part(seed: u64) {
        let all = match is_long() {
            true => 6_250,
            false => 80,
        };
        drive_from(seed, "freeze", all, freeze::run);
    }

    #[test]
    fn one() {
        part(7);
    }

    #[test]
    fn two() {
        part(8);
    }

    #[test]
    fn three() {
        part(9);
    }

    #[test]
    fn four() {
        part(10);
    }
}

#[cfg(feature = "freeze")]
#[test]
fn fuzz_changed_checkpoints_are_refused_or_run_within_bounds() {
    drive("checkpoint", 4_000, checkpoint::run);
}

#[test]
fn fuzz_merges_are_whole_or_refused() {
    drive("merge", 3_000, merge::run);
}

#[test]
fn fuzz_sealed_files_read_as_what_was_written() {
    drive("sealing", 100, sealing::run);
}

#[test]
fn fuzz_walks_never_leave_their_start() {
    drive("walk", 10_000, walk::run);
}

#[test]
fn fuzz_archives_are_refused_or_come_back() {
    drive("archive", 10_000, archive::run);
}

#[test]
fn fuzz_preview1_stays_sound_after_each_call() {
    drive("preview1", 5_000, preview1::run);
}

#[test]
fn fuzz_0_2_stays_sound_after_each_call() {
    drive("filesystem2", 5_000, filesystem2::run);
}
