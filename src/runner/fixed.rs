//! Clocks and random numbers for a run that has to repeat byte for byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime_wasi::{Deterministic, HostMonotonicClock, HostWallClock, WasiCtxBuilder};

use crate::vfs::{Fs, VirtualClock};

/// Bytes of random numbers before they come again.
pub(super) const CYCLE_BYTES: usize = 64 * 1024;

/// Sets the guest's clocks to the clock of its file system, so that both agree, a monotonic
/// clock that counts its readings, and random numbers made from its number.
pub(super) fn fix(wasi: &mut WasiCtxBuilder, fs: &Fs, instance: u32) {
    let resolution = Duration::from_nanos(VirtualClock::STEP_NANOS);
    wasi.wall_clock(FileClock::new(fs, resolution))
        .monotonic_clock(Counter::default())
        .secure_random(random_from(0, instance))
        .insecure_random(Deterministic::new(bytes("insecure", instance)))
        .insecure_random_seed(u128::from(instance));
}

/// Bytes of random numbers that wasmtime takes for each one that it gives a guest.
const TAKEN_FOR_EACH: u64 = 4;

/// The random numbers of an instance behind so many bytes that it has drawn.
pub(super) fn random_from(drawn: u64, instance: u32) -> Deterministic {
    let mut bytes = bytes("secure", instance);
    let taken = drawn.wrapping_mul(TAKEN_FOR_EACH) % CYCLE_BYTES as u64;
    bytes.rotate_left(usize::try_from(taken).unwrap_or(0));
    Deterministic::new(bytes)
}

/// The clock of a file system.
pub(super) struct FileClock {
    fs: Fs,
    resolution: Duration,
}

impl FileClock {
    pub(super) fn new(fs: &Fs, resolution: Duration) -> Self {
        let fs = fs.clone();
        Self { fs, resolution }
    }
}

impl HostWallClock for FileClock {
    fn resolution(&self) -> Duration {
        self.resolution
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.fs.now().as_nanos_clamped())
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl HostMonotonicClock for Counter {
    fn resolution(&self) -> u64 {
        VirtualClock::STEP_NANOS
    }

    fn now(&self) -> u64 {
        let reads = self.0.fetch_add(1, Ordering::Relaxed);
        reads.saturating_mul(VirtualClock::STEP_NANOS)
    }
}

/// The same for the same instance, on every machine: blocks of SplitMix64.
pub(super) fn bytes(what: &str, instance: u32) -> Vec<u8> {
    let start = what.bytes().fold(u64::from(instance), |seed, byte| {
        seed.wrapping_mul(257).wrapping_add(byte.into())
    });
    let words = (1..=CYCLE_BYTES as u64 / 8).map(|step| {
        let mut word = start.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    });
    words.flat_map(u64::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_have_numbers_of_their_own_that_stay() {
        assert_eq!(bytes("secure", 3), bytes("secure", 3));
        assert_ne!(bytes("secure", 3), bytes("secure", 4));
        assert_ne!(bytes("secure", 3), bytes("insecure", 3));
        assert_eq!(bytes("secure", 3).len(), CYCLE_BYTES);
    }
}
