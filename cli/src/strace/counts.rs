//! How many calls of each kind there were, as `strace -c` has it.

use std::collections::BTreeMap;
use std::fmt::Write;

use parking_lot::Mutex;
use serde_json::json;
use stratafs::runner::FileCall;

/// By the name of the call.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<BTreeMap<&'static str, CallCount>>);

#[derive(Clone, Copy, Debug, Default)]
struct CallCount {
    calls: u64,
    errors: u64,
    bytes: u64,
    elapsed_ns: u64,
}

impl CallCount {
    fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.elapsed_ns = self.elapsed_ns.saturating_add(other.elapsed_ns);
    }

    fn seconds(self) -> String {
        let micros = self.elapsed_ns / 1000;
        format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl Counts {
    pub(super) fn add(&self, call: &FileCall) {
        let one = CallCount {
            calls: 1,
            errors: call.result.is_error().into(),
            bytes: call.bytes.unwrap_or(0),
            elapsed_ns: u64::try_from(call.elapsed.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.lock().entry(call.name).or_default().add(one);
    }

    /// All counts, those first that took the longest.
    fn sorted(&self) -> Vec<(&'static str, CallCount)> {
        let all = self.0.lock();
        let mut all: Vec<_> = all.iter().map(|(name, count)| (*name, *count)).collect();
        all.sort_by_key(|(name, count)| (std::cmp::Reverse(count.elapsed_ns), *name));
        all
    }

    pub(super) fn table(&self) -> String {
        let all = self.sorted();
        let mut total = CallCount::default();
        for (_, count) in &all {
            total.add(*count);
        }
        let mut out = format!(
            "{:>6} {:>11} {:>11} {:>9} {:>9} {:>13} call\n",
            "% time", "seconds", "usecs/call", "calls", "errors", "bytes"
        );
        let whole = total.elapsed_ns.max(1);
        for (name, count) in all.into_iter().chain([("total", total)]) {
            // In hundredths of a percent.
            let part = u128::from(count.elapsed_ns) * 10_000 / u128::from(whole);
            let each = count.elapsed_ns / count.calls.max(1) / 1000;
            let part = format!("{}.{:02}", part / 100, part % 100);
            // A `String` takes what it is given.
            let _ = writeln!(
                out,
                "{part:>6} {:>11} {each:>11} {:>9} {:>9} {:>13} {name}",
                count.seconds(),
                count.calls,
                count.errors,
                count.bytes
            );
        }
        out
    }

    /// A line for each call.
    pub(super) fn json(&self) -> String {
        let lines = self.sorted().into_iter().map(|(name, count)| {
            let CallCount {
                calls,
                errors,
                bytes,
                elapsed_ns,
            } = count;
            let line = json!({
                "call": name, "calls": calls, "errors": errors, "bytes": bytes,
                "elapsed_ns": elapsed_ns,
            });
            format!("{line}\n")
        });
        lines.collect()
    }
}
