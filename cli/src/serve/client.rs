//! One connection: what it waits for, and when it has waited long enough.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::RequestRecord;

/// Who is at the other end of a connection.
pub(super) struct Client {
    pub(super) address: SocketAddr,
    /// Held by the guest of a request of HTTP/1: the next one waits until all of it is gone.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Somebody else needs the room.
    pub(super) close: Notify,
    state: Mutex<ConnectionState>,
}

struct ConnectionState {
    /// Requests in progress.
    records: Vec<Weak<RequestRecord>>,
    /// When the last one ended, or the connection was made.
    idle: Instant,
}

/// What a look at a connection finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Requests are in progress, and the client takes its part.
    Busy,
    /// The client has time left to send a request.
    Idle,
    /// The client is too slow.
    TooSlow,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            turn: Arc::default(),
            close: Notify::new(),
            state: Mutex::new(ConnectionState {
                records: Vec::new(),
                idle: Instant::now(),
            }),
        })
    }

    /// A request is in progress until its record goes.
    pub(super) fn began(&self, record: &Arc<RequestRecord>) {
        let mut state = self.state.lock();
        state.records.retain(|one| one.strong_count() > 0);
        state.records.push(Arc::downgrade(record));
    }

    pub(super) fn ended(&self) {
        self.state.lock().idle = Instant::now();
    }

    /// Returns since when nothing has been in progress.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        let is_idle = state.records.iter().all(|one| one.strong_count() == 0);
        is_idle.then_some(state.idle)
    }

    /// Looks whether the client is too slow: in sending a head, in taking the rest of an
    /// answer, or in taking a part of one while its guest waits. Where several requests
    /// share the connection, the last costs only the request that it is of.
    pub(super) fn look(&self, patience: Duration, is_shared: bool) -> Verdict {
        // The last to let a record go takes this lock: none may be let go under it.
        let (records, idle): (Vec<Arc<RequestRecord>>, Instant) = {
            let state = self.state.lock();
            let records = state.records.iter().filter_map(Weak::upgrade).collect();
            (records, state.idle)
        };
        if records.is_empty() {
            return match idle.elapsed() > patience {
                true => Verdict::TooSlow,
                false => Verdict::Idle,
            };
        }
        let mut is_waited_for = true;
        for record in &records {
            let stuck = record.is_stuck(patience);
            if stuck && !is_shared {
                return Verdict::TooSlow;
            }
            if stuck {
                record.abandoned.notify_one();
            }
            let is_late = |since: Instant| since.elapsed() > patience;
            is_waited_for &= record.over_since().is_some_and(is_late);
        }
        match is_waited_for {
            true => Verdict::TooSlow,
            false => Verdict::Busy,
        }
    }
}
