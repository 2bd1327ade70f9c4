//! The outcome of each way as a row.

use serde::Serialize;

use crate::guests::{Starts, arrivals, quantile};
use crate::network::Network;
use crate::plan::Plan;
use crate::program::Program;
use crate::queue::{Nanos, SECOND};
use crate::setup::{Before, Fleet, Way};

/// Past so many guests on a host an image for each of them is not simulated: it takes days, there and here.
const MAX_UNSHARED_GUESTS: usize = 10;
/// How many points of the curve of starts are kept.
const POINTS: usize = 100;

/// What a way costs, and how long guests wait.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) way: &'static str,
    pub(crate) host_megabytes: f64,
    pub(crate) registry_gigabytes: f64,
    pub(crate) peer_gigabytes: f64,
    pub(crate) requests: u64,
    pub(crate) refused_requests: u64,
    pub(crate) peak_requests_per_second: u64,
    pub(crate) start_p50_seconds: f64,
    pub(crate) start_p99_seconds: f64,
    pub(crate) last_start_seconds: f64,
    pub(crate) output_p50_seconds: f64,
    pub(crate) output_p99_seconds: f64,
    pub(crate) host_memory_gibibytes: f64,
    /// How long the guests of each hundredth had waited for their start.
    pub(crate) start_seconds: Vec<f64>,
}

impl Row {
    /// Simulates a way. Returns nothing for one that is out of proportion.
    pub(crate) fn of(fleet: &Fleet, way: &Way, program: &Program) -> Option<Self> {
        let unshared = way.before == Before::WholeForEachGuest;
        if unshared && fleet.guests > MAX_UNSHARED_GUESTS {
            return None;
        }
        let plan = Plan::of(way, program, fleet.guests);
        let asked = arrivals(fleet);
        let begins: Vec<Nanos> = asked
            .iter()
            .map(|host| host.first().copied().unwrap_or(0))
            .collect();
        let done = Network::run(fleet, way, &plan, &begins);
        let starts = Starts::of((fleet, way, program, &plan), &done.hosts, &asked);
        let hosts = fleet.hosts.max(1) as f64;
        let processes = if unshared { fleet.guests as f64 } else { 1.0 };
        let memory = processes * program.process_mib + fleet.guests as f64 * program.guest_mib;
        let point = |at: usize| seconds(quantile(&starts.start, at as f64 / POINTS as f64));
        Some(Self {
            way: way.name,
            host_megabytes: (done.registry_bytes + done.peer_bytes) as f64 / hosts / 1e6,
            registry_gigabytes: done.registry_bytes as f64 / 1e9,
            peer_gigabytes: done.peer_bytes as f64 / 1e9,
            requests: done.requests,
            refused_requests: done.refused,
            peak_requests_per_second: done.peak_requests,
            start_p50_seconds: seconds(quantile(&starts.start, 0.5)),
            start_p99_seconds: seconds(quantile(&starts.start, 0.99)),
            last_start_seconds: seconds(starts.last),
            output_p50_seconds: seconds(quantile(&starts.output, 0.5)),
            output_p99_seconds: seconds(quantile(&starts.output, 0.99)),
            host_memory_gibibytes: memory / 1024.0,
            start_seconds: (0..=POINTS).map(point).collect(),
        })
    }
}

fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

/// The head of each column, and its cell of a row.
type Column = (&'static str, fn(&Row) -> String);

const COLUMNS: [Column; 11] = [
    ("way", |row| row.way.to_owned()),
    ("MB a host", |row| format!("{:.1}", row.host_megabytes)),
    ("GB from registry", |row| {
        format!("{:.2}", row.registry_gigabytes)
    }),
    ("GB from peers", |row| format!("{:.2}", row.peer_gigabytes)),
    ("requests", |row| row.requests.to_string()),
    ("answered 429", |row| row.refused_requests.to_string()),
    ("most requests/s", |row| {
        row.peak_requests_per_second.to_string()
    }),
    ("start p50 s", |row| format!("{:.2}", row.start_p50_seconds)),
    ("start p99 s", |row| format!("{:.2}", row.start_p99_seconds)),
    ("output p99 s", |row| {
        format!("{:.2}", row.output_p99_seconds)
    }),
    ("GiB of memory a host", |row| {
        format!("{:.2}", row.host_memory_gibibytes)
    }),
];

/// Returns the heads of the columns.
pub(crate) fn heads() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|(head, _)| *head)
}

/// Returns the cells of a row.
pub(crate) fn cells(row: &Row) -> impl Iterator<Item = String> {
    COLUMNS.iter().map(move |(_, cell)| cell(row))
}

/// Returns the rows as a table in Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = format!("| {} |\n", heads().collect::<Vec<_>>().join(" | "));
    text.push_str(&format!("|{}\n", "---|".repeat(COLUMNS.len())));
    for row in rows {
        text.push_str(&format!(
            "| {} |\n",
            cells(row).collect::<Vec<_>>().join(" | ")
        ));
    }
    text
}
