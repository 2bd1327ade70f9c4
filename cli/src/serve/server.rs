//! What all requests of a server have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratafs::budget::Budget;
use stratafs::runner::Network;

use super::files::RequestFiles;
use super::in_flight::InFlight;
use super::log::Log;
use super::metrics::{Gauges, Metrics};
use super::proxy::Proxy;
use super::turns::Ticks;

/// A server.
pub(super) struct Server {
    pub(super) proxy: Proxy,
    pub(super) ticks: Ticks,
    pub(super) files: RequestFiles,
    pub(super) bounds: Bounds,
    pub(super) network: Network,
    pub(super) metrics: Metrics,
    pub(super) access_log: Option<Log>,
    /// What guests and the server itself have to say.
    pub(super) errors: Log,
    pub(super) budget: Option<Budget>,
    /// One for each request whose guest runs.
    pub(super) in_flight: Arc<InFlight>,
    requests: AtomicU64,
}

/// What requests and clients may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) timeout: Duration,
    pub(super) client_timeout: Duration,
    pub(super) max_body: u64,
    pub(super) max_in_flight: usize,
}

impl Server {
    pub(super) fn new(
        (proxy, ticks, files): (Proxy, Ticks, RequestFiles),
        (bounds, network): (Bounds, Network),
        (access_log, errors): (Option<Log>, Log),
        budget: Option<Budget>,
    ) -> Self {
        Self {
            proxy,
            ticks,
            files,
            in_flight: Arc::new(InFlight::new(bounds.max_in_flight)),
            bounds,
            network,
            metrics: Metrics::default(),
            access_log,
            errors,
            budget,
            requests: AtomicU64::new(0),
        }
    }

    /// Counts one more request.
    pub(super) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns what `/metrics` shows.
    pub(super) fn metrics_text(&self, connections: usize) -> String {
        let logs = self.access_log.iter().chain([&self.errors]);
        self.metrics.text(&Gauges {
            in_flight: self.in_flight.taken() as u64,
            connections: connections as u64,
            sessions: self.files.sessions(),
            held_bytes: self.budget.as_ref().map_or(0, Budget::held_bytes),
            lost_lines: logs.map(Log::lost).sum(),
        })
    }
}
