//! Slots for guests: so many at a time, and who gives one up when all are taken.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::record::RequestRecord;

/// How long a request waits for one that is just ending before it is one too many.
const GRACE: Duration = Duration::from_millis(100);

/// How long a guest may have waited for its client, in all, before its slot is given to
/// somebody else who needs one.
const WAITED: Duration = Duration::from_secs(1);

/// The slots for guests.
pub(super) struct InFlight {
    most: usize,
    free: Arc<Semaphore>,
    /// The requests that have one, by number.
    taken: Mutex<HashMap<u64, Weak<RequestRecord>>>,
}

/// The slot of one request, until its guest is gone.
pub(super) struct GuestSlot {
    slots: Arc<InFlight>,
    number: u64,
    /// Given back after the rest.
    _permit: OwnedSemaphorePermit,
}

impl InFlight {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            free: Arc::new(Semaphore::new(most)),
            taken: Mutex::default(),
        }
    }

    /// Takes a slot for a request, once there is one: a request that is ending leaves one,
    /// and so does one whose client keeps its guest waiting. Returns none if there is none.
    pub(super) async fn take(self: &Arc<Self>, record: &Arc<RequestRecord>) -> Option<GuestSlot> {
        let permit = match self.wait().await {
            Some(permit) => permit,
            None if self.make_room() => self.wait().await?,
            None => return None,
        };
        self.taken
            .lock()
            .insert(record.number, Arc::downgrade(record));
        Some(GuestSlot {
            slots: Arc::clone(self),
            number: record.number,
            _permit: permit,
        })
    }

    async fn wait(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.free).acquire_owned();
        tokio::time::timeout(GRACE, permit).await.ok()?.ok()
    }

    /// Stops the guest that has waited longest for its client. Returns whether there was one.
    fn make_room(&self) -> bool {
        let records: Vec<Arc<RequestRecord>> = {
            let taken = self.taken.lock();
            taken.values().filter_map(Weak::upgrade).collect()
        };
        let waiting = records.iter().filter_map(|record| {
            let waited = record.waited_for()?;
            (waited >= WAITED).then_some((waited, record))
        });
        let mut waiting: Vec<_> = waiting.collect();
        waiting.sort_unstable_by_key(|(waited, _)| Reverse(*waited));
        waiting.iter().any(|(_, record)| record.leave())
    }

    /// Returns how many slots are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.lock().len()
    }

    /// Waits until no guest is left.
    pub(super) async fn all_left(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        drop(self.free.acquire_many(all).await);
    }
}

impl Drop for GuestSlot {
    fn drop(&mut self) {
        self.slots.taken.lock().remove(&self.number);
    }
}
