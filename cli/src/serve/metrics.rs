//! What a server counts, in the text format of Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// The upper bounds of the histogram of durations, in seconds.
const BUCKETS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0,
];

/// One number that only grows.
#[derive(Default)]
pub(super) struct AtomicCounter(AtomicU64);

impl AtomicCounter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What has happened since the start.
#[derive(Default)]
pub(super) struct Metrics {
    /// Answers by status.
    statuses: Mutex<BTreeMap<u16, u64>>,
    /// Guests by how they ended.
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    buckets: [AtomicCounter; BUCKETS.len()],
    nanos: AtomicCounter,
    pub(super) connections: AtomicCounter,
    pub(super) received: AtomicCounter,
    pub(super) sent: AtomicCounter,
    /// Bytes that guests had written to their files when they ended.
    pub(super) written: AtomicCounter,
}

/// What there is at one moment.
pub(super) struct Gauges {
    pub(super) in_flight: u64,
    pub(super) connections: u64,
    pub(super) sessions: u64,
    pub(super) held_bytes: u64,
    pub(super) lost_lines: u64,
}

impl Metrics {
    /// Counts an answer that was given in full or broken off.
    pub(super) fn answered(&self, status: u16, outcome: &'static str, took: Duration) {
        *self.statuses.lock().entry(status).or_default() += 1;
        *self.outcomes.lock().entry(outcome).or_default() += 1;
        let seconds = took.as_secs_f64();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket.and_then(|at| self.buckets.get(at)) {
            bucket.add(1);
        }
        self.nanos
            .add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Writes all of it, each metric with what it means.
    pub(super) fn text(&self, now: &Gauges) -> String {
        let mut out = String::new();
        let statuses = self.statuses.lock().clone();
        let all: u64 = statuses.values().sum();
        head(
            &mut out,
            "requests_total",
            "counter",
            "Requests, by the status of the answer",
        );
        for (status, count) in &statuses {
            line(
                &mut out,
                &format!("requests_total{{status=\"{status}\"}}"),
                count,
            );
        }
        head(
            &mut out,
            "outcomes_total",
            "counter",
            "Requests, by how their guests ended",
        );
        for (outcome, count) in self.outcomes.lock().iter() {
            line(
                &mut out,
                &format!("outcomes_total{{outcome=\"{outcome}\"}}"),
                count,
            );
        }
        let what = "Seconds from the head of a request to the end of its guest and answer";
        head(&mut out, "request_seconds", "histogram", what);
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            below += bucket.get();
            line(
                &mut out,
                &format!("request_seconds_bucket{{le=\"{bound}\"}}"),
                below,
            );
        }
        line(&mut out, "request_seconds_bucket{le=\"+Inf\"}", all);
        let seconds = Duration::from_nanos(self.nanos.get()).as_secs_f64();
        line(&mut out, "request_seconds_sum", seconds);
        line(&mut out, "request_seconds_count", all);
        self.plain(&mut out, now);
        out
    }

    /// The metrics without labels.
    fn plain(&self, out: &mut String, now: &Gauges) {
        let counters = [
            (
                "connections_total",
                "Connections that were accepted",
                self.connections.get(),
            ),
            (
                "received_bytes_total",
                "Bytes of the bodies of requests",
                self.received.get(),
            ),
            (
                "sent_bytes_total",
                "Bytes of the bodies of answers",
                self.sent.get(),
            ),
            (
                "written_bytes_total",
                "Bytes in the files of guests that ended, of what they wrote",
                self.written.get(),
            ),
            (
                "lost_log_lines_total",
                "Lines that a log did not take in time",
                now.lost_lines,
            ),
        ];
        for (name, what, value) in counters {
            head(out, name, "counter", what);
            line(out, name, value);
        }
        let gauges = [
            ("in_flight", "Requests whose guest runs", now.in_flight),
            ("connections", "Connections that are open", now.connections),
            ("sessions", "Sessions that are kept", now.sessions),
            (
                "held_bytes",
                "Bytes that file systems hold of the budget",
                now.held_bytes,
            ),
        ];
        for (name, what, value) in gauges {
            head(out, name, "gauge", what);
            line(out, name, value);
        }
    }
}

fn head(out: &mut String, name: &str, kind: &str, what: &str) {
    let name = format!("stratafs_{name}");
    let _: std::fmt::Result = writeln!(out, "# HELP {name} {what}.\n# TYPE {name} {kind}");
}

fn line(out: &mut String, name: &str, value: impl std::fmt::Display) {
    let _: std::fmt::Result = writeln!(out, "stratafs_{name} {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        metrics.answered(200, "ended", Duration::from_millis(1));
        metrics.answered(200, "ended", Duration::from_millis(3));
        metrics.answered(504, "timed-out", Duration::from_secs(100));
        let gauges = Gauges {
            in_flight: 1,
            connections: 2,
            sessions: 3,
            held_bytes: 4,
            lost_lines: 5,
        };
        let text = metrics.text(&gauges);
        for line in [
            "stratafs_requests_total{status=\"200\"} 2",
            "stratafs_outcomes_total{outcome=\"timed-out\"} 1",
            "stratafs_request_seconds_bucket{le=\"0.001\"} 1",
            "stratafs_request_seconds_bucket{le=\"0.005\"} 2",
            "stratafs_request_seconds_bucket{le=\"60\"} 2",
            "stratafs_request_seconds_bucket{le=\"+Inf\"} 3",
            "stratafs_request_seconds_count 3",
            "stratafs_in_flight 1",
            "stratafs_sessions 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
