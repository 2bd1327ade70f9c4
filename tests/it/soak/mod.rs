//! Calls at random under wasmtime-wasi on a host directory and under
//! stratafs: the logs agree, call by call, except where [`rules`] says why not.
//!
//! A run is cut into episodes, each a guest of its own on a fresh tree. With
//! `STRATAFS_SOAK=1000000` in the environment the runs make so many calls
//! instead of what the test command has time for; `STRATAFS_SEED` starts
//! them elsewhere. A difference that no rule excuses is cut down to the calls
//! it takes and printed with the guest's arguments.
//!
//! What went wrong once is kept by name beside the tests of the calls it was
//! about.
//!
//! Linux only: what the twin says is what Linux says.
#![cfg(target_os = "linux")]

pub mod drawn;
mod p1;
mod p3;
pub mod rules;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rules::Rule;

use crate::support::rng::runs;

/// Calls of one episode.
const CALLS: u64 = 250;

/// What a guest is told to do.
#[derive(Clone, Debug)]
pub struct Episode {
    pub seed: u64,
    pub count: u64,
    /// The numbers of the calls to make; all if absent.
    pub only: Option<Vec<u64>>,
}

impl Episode {
    fn args(&self) -> Vec<String> {
        let mut args = vec![self.seed.to_string(), self.count.to_string()];
        if let Some(only) = &self.only {
            let only: Vec<String> = only.iter().map(u64::to_string).collect();
            args.push(only.join(","));
        }
        args
    }
}

/// A guest under both hosts.
pub trait Twins {
    /// What is excused.
    fn rules(&self) -> &'static [Rule];
    /// The log under stratafs, then that under wasmtime-wasi.
    fn logs(&self, episode: &Episode) -> [Vec<String>; 2];
}

/// One call under both hosts, as its guest told of it.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its number in the episode.
    number: u64,
    /// Its name and arguments.
    pub asked: String,
    pub ours: String,
    pub theirs: String,
}

/// How an episode went.
#[derive(Default)]
struct Outcome {
    /// Calls whose answers were compared.
    calls: u64,
    /// How often each rule was needed, by its reason.
    excused: BTreeMap<&'static str, u64>,
    /// The first difference without an excuse.
    wrong: Option<Call>,
}

/// Compares two logs up to a difference that leaves different trees.
fn judge(rules: &'static [Rule], [ours, theirs]: &[Vec<String>; 2]) -> Outcome {
    let mut outcome = Outcome::default();
    let lines = ours.len().max(theirs.len());
    for at in 0..lines {
        let call = call(ours.get(at), theirs.get(at));
        outcome.calls += 1;
        if call.ours == call.theirs {
            continue;
        }
        let Some(rule) = rules.iter().find(|rule| (rule.excuses)(&call)) else {
            outcome.wrong = Some(call);
            break;
        };
        *outcome.excused.entry(rule.why).or_default() += 1;
        if !rule.harmless && (call.ours.starts_with("ok") || call.theirs.starts_with("ok")) {
            break;
        }
    }
    outcome
}

/// Pairs two lines of the form `NUMBER CALL = ANSWER`.
fn call(ours: Option<&String>, theirs: Option<&String>) -> Call {
    let parts = |line: Option<&String>| {
        let line = line.map_or("- nothing more = -", String::as_str);
        let (asked, answer) = line.split_once(" = ").unwrap_or((line, ""));
        let (number, asked) = asked.split_once(' ').unwrap_or(("-", asked));
        (
            number.parse().unwrap_or(u64::MAX),
            asked.to_owned(),
            answer.to_owned(),
        )
    };
    let (number, asked, ours) = parts(ours);
    let (other, also_asked, theirs) = parts(theirs);
    if asked != also_asked {
        return Call {
            number: number.min(other),
            asked: format!("{asked} / {also_asked}"),
            ours,
            theirs,
        };
    }
    Call {
        number,
        asked,
        ours,
        theirs,
    }
}

/// Cuts an episode down: leaves calls out as long as its last call still
/// differs without an excuse.
fn shrink(twins: &dyn Twins, seed: u64, count: u64, wrong: &Call) -> (Episode, Call) {
    let last = wrong.number.min(count);
    let fails = |only: &[u64]| {
        let episode = Episode {
            seed,
            count,
            only: Some(only.to_vec()),
        };
        let outcome = judge(twins.rules(), &twins.logs(&episode));
        outcome.wrong.filter(|call| call.number == last)
    };
    let mut kept: Vec<u64> = (0..=last).collect();
    let mut seen = fails(&kept).unwrap_or_else(|| wrong.clone());
    let mut piece = kept.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at + 1 < kept.len() {
            let end = (at + piece).min(kept.len() - 1);
            let fewer = [&kept[..at], &kept[end..]].concat();
            match fails(&fewer) {
                Some(call) => (kept, seen) = (fewer, call),
                None => at = end,
            }
        }
        piece /= 2;
    }
    let episode = Episode {
        seed,
        count,
        only: Some(kept),
    };
    (episode, seen)
}

/// Calls to make of `all`, as [`runs`] has it.
pub fn calls(all: u64) -> u64 {
    runs("STRATAFS_SOAK", all)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Runs episodes until so many calls were compared. Panics with all that
/// differed, cut down.
pub fn soak(twins: &dyn Twins, calls: u64) {
    let mut seed = number("STRATAFS_SEED").unwrap_or(1);
    let mut all = Outcome::default();
    let mut report = String::new();
    let mut failures = 0;
    while all.calls < calls && failures < number("STRATAFS_SOAK_FAILURES").unwrap_or(5) {
        let episode = Episode {
            seed,
            count: CALLS,
            only: None,
        };
        let outcome = judge(twins.rules(), &twins.logs(&episode));
        all.calls += outcome.calls;
        for (why, count) in outcome.excused {
            *all.excused.entry(why).or_default() += count;
        }
        if let Some(wrong) = outcome.wrong {
            failures += 1;
            let (least, call) = shrink(twins, seed, CALLS, &wrong);
            writeln!(report, "arguments {}", least.args().join(" ")).unwrap();
            let [ours, _] = twins.logs(&least);
            for line in ours.iter().take(least.only.map_or(0, |only| only.len())) {
                writeln!(report, "    {line}").unwrap();
            }
            writeln!(report, "  ours:   {}\n  theirs: {}", call.ours, call.theirs).unwrap();
        }
        seed += 1;
    }
    println!("{} calls compared", all.calls);
    for (why, count) in &all.excused {
        println!("{count:8} {why}");
    }
    assert!(failures == 0, "{report}");
}
