//! The guests of a host start, once it has what they need.

use crate::link::Cores;
use crate::network::Fetched;
use crate::plan::Plan;
use crate::program::Program;
use crate::queue::{Nanos, SECOND};
use crate::random::Random;
use crate::setup::{Arrivals, Before, Fleet, Way};

/// How long all guests of the fleet took, sorted.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// From being asked for to the first instruction.
    pub(crate) start: Vec<Nanos>,
    /// From being asked for to the first output. Guests run beside each other's starts.
    pub(crate) output: Vec<Nanos>,
    /// When the last guest of all had started.
    pub(crate) last: Nanos,
}

/// Draws when the guests of each host are asked for, in order.
pub(crate) fn arrivals(fleet: &Fleet) -> Vec<Vec<Nanos>> {
    let mut random = Random::new(fleet.seed ^ 0x6775_6573_7473);
    let of_host = |_| match fleet.arrivals {
        Arrivals::Together => vec![0; fleet.guests],
        Arrivals::PerSecond(rate) => {
            let rate = rate / fleet.hosts as f64;
            let mut at = 0.0;
            let next = |_| {
                at += random.wait(rate);
                (at * SECOND as f64) as Nanos
            };
            (0..fleet.guests).map(next).collect()
        }
    };
    (0..fleet.hosts).map(of_host).collect()
}

impl Starts {
    /// Starts all guests.
    pub(crate) fn of(
        (fleet, way, program, plan): (&Fleet, &Way, &Program, &Plan),
        hosts: &[Fetched],
        arrivals: &[Vec<Nanos>],
    ) -> Self {
        let create = (program.create_microseconds * 1_000.0) as Nanos;
        let guest = (program.guest_seconds * SECOND as f64) as Nanos;
        let mut starts = Self::default();
        for (fetched, arrivals) in hosts.iter().zip(arrivals) {
            let mut ready = fetched.content + plan.compile;
            let mut starting = Cores::new(fleet.cores);
            let mut running = Cores::new(fleet.cores);
            if way.before == Before::WholeForEachGuest {
                // Each compiles its own, and the cores share the work.
                ready = fetched.content + plan.compile / fleet.cores as u64;
            }
            for (number, asked) in arrivals.iter().enumerate() {
                let (_, started) = starting.run(ready.max(*asked), create);
                let (_, ran) = running.run(ready.max(*asked), create + guest);
                // What the first one has waited for is there for the others.
                let waited = if number == 0 { fetched.waited } else { 0 };
                starts.start.push(started - asked);
                starts.output.push(ran + waited - asked);
                starts.last = starts.last.max(started);
            }
        }
        starts.start.sort_unstable();
        starts.output.sort_unstable();
        starts
    }
}

/// Returns the value below which `part` of sorted values lie.
pub(crate) fn quantile(sorted: &[Nanos], part: f64) -> Nanos {
    let at = (part * sorted.len() as f64) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(at.min(last)).copied().unwrap_or(0)
}
