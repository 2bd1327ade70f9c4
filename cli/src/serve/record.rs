//! What is known of one request, from its head to the end of its guest and its answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::{Request, Version};
use parking_lot::Mutex;
use serde_json::json;
use stratafs::runner::Outcome;
use stratafs::vfs::Usage;
use tokio::sync::Notify;

use super::body::BodyFault;
use super::client::Client;
use super::guest::Ended;
use super::server::Server;
use crate::failure::json_text;

/// One request. It is in progress for as long as somebody holds it.
pub(super) struct RequestRecord {
    server: Arc<Server>,
    client: Arc<Client>,
    pub(super) number: u64,
    head: RequestHead,
    began: Instant,
    at: SystemTime,
    state: Mutex<RequestState>,
    received: AtomicU64,
    sent: AtomicU64,
    /// Notifies the guest's task that nobody waits for the answer.
    pub(super) abandoned: Notify,
    /// The guest has failed: its answer is not complete.
    has_failed: AtomicBool,
    /// What is wrong with the body, once the guest has come to it.
    fault: OnceLock<BodyFault>,
}

/// What the client asked for.
struct RequestHead {
    method: String,
    target: String,
    version: &'static str,
}

struct RequestState {
    status: u16,
    outcome: &'static str,
    message: Option<String>,
    start: Duration,
    run: Duration,
    usage: Option<Usage>,
    /// When the guest ended, or was not even started.
    over: Option<Instant>,
    /// Since when the client has been taking a part of the answer.
    handed: Option<Instant>,
    /// Since when the guest has waited for a part of the body.
    awaited: Option<Instant>,
    /// How long the client was waited for before.
    waited: Duration,
    /// Somebody else gets the place.
    is_leaving: bool,
}

impl RequestRecord {
    pub(super) fn new<B>(
        server: &Arc<Server>,
        client: &Arc<Client>,
        request: &Request<B>,
    ) -> Arc<Self> {
        let version = match request.version() {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        };
        let record = Arc::new(Self {
            server: Arc::clone(server),
            client: Arc::clone(client),
            number: server.next_request(),
            head: RequestHead {
                method: request.method().to_string(),
                target: request.uri().to_string(),
                version,
            },
            began: Instant::now(),
            at: SystemTime::now(),
            state: Mutex::new(RequestState {
                status: 0,
                outcome: "refused",
                message: None,
                start: Duration::ZERO,
                run: Duration::ZERO,
                usage: None,
                over: None,
                handed: None,
                awaited: None,
                waited: Duration::ZERO,
                is_leaving: false,
            }),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            abandoned: Notify::new(),
            has_failed: AtomicBool::new(false),
            fault: OnceLock::new(),
        });
        client.began(&record);
        record
    }

    pub(super) fn answered(&self, status: u16) {
        self.state.lock().status = status;
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The body is not what it is to be: what was first wrong with it counts.
    pub(super) fn broke(&self, fault: BodyFault) {
        self.fault.get_or_init(|| fault);
    }

    /// Returns what is wrong with the body.
    pub(super) fn body_fault(&self) -> Option<BodyFault> {
        self.fault.get().copied()
    }

    /// Counts a part of the answer that is handed to the client from here on.
    pub(super) fn hand(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.state.lock().handed = Some(Instant::now());
    }

    /// The client has taken what it was handed. Returns the bytes so far.
    pub(super) fn took(&self) -> u64 {
        let mut state = self.state.lock();
        let since = state.handed.take();
        state.waited += since.map_or(Duration::ZERO, |since| since.elapsed());
        self.sent.load(Ordering::Relaxed)
    }

    /// The guest waits for a part of the body, or has it, or wants no more.
    pub(super) fn awaits_body(&self, awaits: bool) {
        let mut state = self.state.lock();
        let since = state.awaited.take();
        state.waited += since.map_or(Duration::ZERO, |since| since.elapsed());
        state.awaited = awaits.then(Instant::now);
    }

    /// Returns how long the client has been waited for in all, if it is right now.
    pub(super) fn waited_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        let since = state.handed.or(state.awaited)?;
        Some(state.waited + since.elapsed())
    }

    /// Stops the guest, so that another has its place. Returns false if it was stopped for
    /// that before.
    pub(super) fn leave(&self) -> bool {
        let is_first = !std::mem::replace(&mut self.state.lock().is_leaving, true);
        if is_first {
            self.abandoned.notify_one();
        }
        is_first
    }

    /// Returns whether the client has not taken a part of the answer for so long.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let handed = self.state.lock().handed;
        handed.is_some_and(|since| since.elapsed() > patience)
    }

    /// The guest comes to its first instruction.
    pub(super) fn started(&self) {
        self.state.lock().start = self.began.elapsed();
    }

    /// The guest has ended; its store is still there, so that whoever waits for the rest of
    /// its answer learns of this first.
    pub(super) fn ended(&self, ended: &Ended, usage: Usage) {
        let mut state = self.state.lock();
        state.run = self.began.elapsed().saturating_sub(state.start);
        state.usage = Some(usage);
        state.outcome = match ended {
            Ended::Fine => "ended",
            Ended::TimedOut => "timed-out",
            Ended::Abandoned => "abandoned",
            Ended::Failed(Outcome::Trapped { .. }) => "trapped",
            Ended::Failed(Outcome::OutOfMemory(_)) => "out-of-memory",
            Ended::Failed(Outcome::Exited(_)) => "exited",
            Ended::Failed(_) => "failed",
        };
        state.message = match ended {
            Ended::Failed(outcome) => Some(outcome.to_string()),
            _ => None,
        };
        let has_failed = !matches!(ended, Ended::Fine);
        self.has_failed.store(has_failed, Ordering::Release);
    }

    /// Says why there is no guest.
    pub(super) fn refused(&self, why: &str) {
        self.state.lock().message = Some(why.to_owned());
    }

    /// Nothing of the guest is left, or there never was one.
    pub(super) fn over(&self) {
        self.state.lock().over = Some(Instant::now());
    }

    /// Returns since when only the client is waited for.
    pub(super) fn over_since(&self) -> Option<Instant> {
        self.state.lock().over
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// The line of the access log. docs/JSON.md has the meaning of each key.
    fn line(&self, state: &RequestState) -> String {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let address: SocketAddr = self.client.address;
        let usage = state.usage.map(|usage| {
            json!({
                "logical_bytes": usage.logical_bytes,
                "private_bytes": usage.private_bytes,
                "held_bytes": usage.held_bytes,
                "inodes": usage.inodes,
                "changed": usage.changed,
                "links": usage.links,
            })
        });
        let mut line = json!({
            "request": self.number,
            "time_ms": u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            "client": address.to_string(),
            "method": self.head.method,
            "target": self.head.target,
            "version": self.head.version,
            "status": state.status,
            "outcome": state.outcome,
            "received_bytes": self.received.load(Ordering::Relaxed),
            "sent_bytes": self.sent.load(Ordering::Relaxed),
            "start_ns": nanos(state.start),
            "run_ns": nanos(state.run),
            "total_ns": nanos(self.began.elapsed()),
        });
        if let Some(line) = line.as_object_mut() {
            if let Some(message) = &state.message {
                line.insert("message".to_owned(), json!(message));
            }
            if let Some(usage) = usage {
                line.insert("usage".to_owned(), usage);
            }
        }
        json_text(line.to_string())
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.client.ended();
        let state = self.state.lock();
        let metrics = &self.server.metrics;
        metrics.answered(state.status, state.outcome, self.began.elapsed());
        metrics.received.add(self.received.load(Ordering::Relaxed));
        metrics.sent.add(self.sent.load(Ordering::Relaxed));
        let written = state.usage.map_or(0, |usage| usage.logical_bytes);
        metrics.written.add(written);
        if let Some(log) = &self.server.access_log {
            log.push(&self.line(&state));
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
