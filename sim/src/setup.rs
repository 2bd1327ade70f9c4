//! The knobs: the fleet, and the ways to bring an image to it.

use crate::queue::{Nanos, SECOND};

/// When guests are asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Arrivals {
    /// All at the beginning.
    Together,
    /// By a Poisson process, so many a second in the whole fleet.
    PerSecond(f64),
}

/// The fleet and its registry.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) hosts: usize,
    /// Guests of each host.
    pub(crate) guests: usize,
    /// The registry's link, and that of each mirror.
    pub(crate) registry_bits: u64,
    /// How many have the image besides the registry. Hosts divide among all.
    pub(crate) mirrors: usize,
    /// Each host's link, in each direction.
    pub(crate) host_bits: u64,
    /// From a host to the registry or to another host, and back.
    pub(crate) round_trip: Nanos,
    /// Requests a second past which the registry, or a mirror, answers 429. No bound without one.
    pub(crate) request_rate: Option<u64>,
    pub(crate) cores: usize,
    pub(crate) arrivals: Arrivals,
    /// Transfers at once that the registry serves where hosts are peers of each other.
    pub(crate) seeds: usize,
    /// Transfers at once that a host serves to its peers.
    pub(crate) uploads: usize,
    /// Bytes on their way in one transfer.
    pub(crate) window: u64,
    pub(crate) seed: u64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            hosts: 1_000,
            guests: 10,
            registry_bits: 10_000_000_000,
            mirrors: 0,
            host_bits: 1_000_000_000,
            round_trip: SECOND / 1_000,
            request_rate: None,
            cores: 2,
            arrivals: Arrivals::Together,
            seeds: 8,
            uploads: 4,
            window: 1 << 20,
            seed: 1,
        }
    }
}

/// Which content has to be there before a guest starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// The whole image, once for each guest: nothing is shared.
    WholeForEachGuest,
    /// The whole image.
    Whole,
    /// Tables, start set and program. The rest comes behind.
    StartSet,
    /// Tables and program. What is read comes when it is read, the rest behind.
    TableAlone,
    /// What the next version brings to a host that has the one before.
    NextVersion(Parts),
}

/// What is told apart between two versions of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    Layers,
    Files,
    Chunks,
}

/// One way to bring the image to the hosts.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) before: Before,
    /// The compiled program comes instead of the program.
    pub(crate) compiled: bool,
    /// Hosts fetch from each other.
    pub(crate) peers: bool,
}

/// All ways that are compared.
pub(crate) const WAYS: [Way; 10] = [
    way(
        "whole image for each guest",
        Before::WholeForEachGuest,
        false,
        false,
    ),
    way("whole image for each host", Before::Whole, false, false),
    way("whole image, peers", Before::Whole, false, true),
    way("lazy, no start set", Before::TableAlone, false, false),
    way("lazy, start set", Before::StartSet, false, false),
    way(
        "lazy, start set, compiled code",
        Before::StartSet,
        true,
        false,
    ),
    way(
        "lazy, start set, compiled code, peers",
        Before::StartSet,
        true,
        true,
    ),
    way(
        "next version: changed layers",
        Before::NextVersion(Parts::Layers),
        false,
        false,
    ),
    way(
        "next version: changed files",
        Before::NextVersion(Parts::Files),
        false,
        false,
    ),
    way(
        "next version: changed chunks",
        Before::NextVersion(Parts::Chunks),
        false,
        false,
    ),
];

const fn way(name: &'static str, before: Before, compiled: bool, peers: bool) -> Way {
    Way {
        name,
        before,
        compiled,
        peers,
    }
}
