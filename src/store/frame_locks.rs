//! Which process fetches which frames: `lazy/lock-NN`.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::StoreError;
use super::disk::Disk;
use super::lazy_pack::LAZY;
use crate::digest::Digest;

/// Files that frames are locked by: each by one, all of which are locked in order.
const STRIPES: u32 = 64;

/// Frames beside each other that are locked by the same file.
const FRAMES_A_STRIPE: u32 = 8;

/// The files that somebody of this process has locked. Those who fetch in one process fetch
/// different frames, and do not wait for each other.
pub(super) struct FrameLocks {
    disk: Disk,
    /// At most one for each stripe. The mutex is held for a look.
    held: Mutex<HashMap<u32, Weak<FrameLock>>>,
}

/// A file that keeps other processes from some frames, once it is locked. Its mutex is held while
/// they are waited for.
#[derive(Default)]
pub(super) struct FrameLock(Mutex<Option<File>>);

impl FrameLocks {
    pub(super) fn new(disk: &Disk) -> Self {
        Self {
            disk: disk.clone(),
            held: Mutex::default(),
        }
    }

    /// Keeps other processes from fetching some frames, and waits for those that do.
    pub(super) fn lock(
        &self,
        pack: Digest,
        frames: impl Iterator<Item = u32>,
    ) -> Result<Vec<Arc<FrameLock>>, String> {
        let first = pack.as_bytes().first().copied().unwrap_or(0);
        let stripe = |frame: u32| (u32::from(first) + frame / FRAMES_A_STRIPE) % STRIPES;
        let stripes: BTreeSet<u32> = frames.map(stripe).collect();
        // In order: so nobody waits for one who waits for him.
        stripes
            .into_iter()
            .map(|number| self.take(number))
            .collect()
    }

    fn take(&self, number: u32) -> Result<Arc<FrameLock>, String> {
        let own = self.find(number);
        let mut file = own.0.lock();
        if file.is_none() {
            let path = self.disk.file_in(LAZY, &format!("lock-{number:02}"));
            let opened = self.disk.open_lock(&path).map_err(|it| it.to_string())?;
            let locked = opened.lock().map_err(StoreError::io("lock", &path));
            locked.map_err(|error| error.to_string())?;
            *file = Some(opened);
        }
        drop(file);
        Ok(own)
    }

    fn find(&self, number: u32) -> Arc<FrameLock> {
        let mut held = self.held.lock();
        if let Some(own) = held.get(&number).and_then(Weak::upgrade) {
            return own;
        }
        let own = Arc::new(FrameLock::default());
        held.insert(number, Arc::downgrade(&own));
        own
    }
}
