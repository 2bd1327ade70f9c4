//! Who is at work in a place: those who push say so, and so does who collects. Both say it
//! before they look who else is there, so that one of the two sees the other.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::bucket::Bucket;
use super::error::{ObjectError, ObjectErrorKind};
use crate::limits::OBJECT_LEASE_SECONDS;

/// Where leases lie.
pub(super) const LEASES: &str = "leases";

/// How often a collection is waited for, and how long each time.
const WAITS: u32 = 15;
const WAIT: Duration = Duration::from_secs(2);

/// Says that somebody is at work in a place, until it is dropped.
pub struct Lease {
    bucket: Bucket,
    key: String,
    /// When it was last written.
    written: Mutex<Instant>,
}

/// What somebody does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseKind {
    Push,
    Collect,
}

impl LeaseKind {
    fn word(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Collect => "gc",
        }
    }
}

impl Bucket {
    /// Says that an image is pushed, so that nothing of it is collected meanwhile. Waits for
    /// a collection that is running, up to half a minute.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::Busy`] if it runs longer; those of the store.
    pub fn lease(&self) -> Result<Lease, ObjectError> {
        let lease = self.begin(LeaseKind::Push)?;
        for _ in 0..WAITS {
            if !self.is_at_work(&lease, |work| work == LeaseKind::Collect)? {
                return Ok(lease);
            }
            thread::sleep(WAIT);
            lease.keep()?;
        }
        let what = "a collection is running there: try again when it has ended";
        Err(self.error("cannot push", ObjectErrorKind::Busy(what.into())))
    }

    pub(super) fn begin(&self, work: LeaseKind) -> Result<Lease, ObjectError> {
        let id = RandomState::new().hash_one(std::process::id());
        let key = format!("{LEASES}/{}-{id:016x}", work.word());
        let lease = Lease {
            bucket: self.clone(),
            key,
            written: Mutex::new(Instant::now()),
        };
        lease.write()?;
        Ok(lease)
    }

    /// Returns whether somebody else does such work. Leases that have ended are removed.
    pub(super) fn is_at_work(
        &self,
        own: &Lease,
        such: impl Fn(LeaseKind) -> bool,
    ) -> Result<bool, ObjectError> {
        let action = "cannot see who is at work";
        let now = self.now(own)?;
        let (mut found, mut ended) = (false, Vec::new());
        let listed = self.backend().list(LEASES, &mut |key, meta| {
            let word = key.rsplit('/').next().unwrap_or_default();
            let work = [LeaseKind::Push, LeaseKind::Collect]
                .into_iter()
                .find(|work| word.starts_with(&format!("{}-", work.word())));
            match work {
                _ if key == own.key => {}
                Some(work) if meta.written.saturating_add(OBJECT_LEASE_SECONDS) > now => {
                    found |= such(work);
                }
                Some(_) => ended.push(key.to_owned()),
                None => {}
            }
            Ok(())
        });
        listed.map_err(|kind| self.error(action, kind))?;
        for key in ended {
            let removed = self.backend().delete(&key);
            removed.map_err(|kind| self.error(action, kind))?;
        }
        Ok(found)
    }

    /// Returns what the store's clock said when a lease was last written.
    pub(super) fn now(&self, lease: &Lease) -> Result<u64, ObjectError> {
        let action = "cannot read the store's clock";
        let meta = self.backend().head(&lease.key);
        let meta = meta.map_err(|kind| self.error(action, kind))?;
        let gone = || ObjectErrorKind::Busy("somebody has removed the lease".into());
        let meta = meta.ok_or_else(|| self.error(action, gone()))?;
        Ok(meta.written)
    }
}

impl Lease {
    fn write(&self) -> Result<(), ObjectError> {
        let bytes = b"{}".to_vec();
        let written = self.bucket.backend().put(&self.key, bytes);
        written.map_err(|kind| self.bucket.error("cannot say that it is in use", kind))?;
        *self.written.lock() = Instant::now();
        Ok(())
    }

    /// Writes the lease anew when its time is half over.
    ///
    /// # Errors
    ///
    /// [`ObjectErrorKind::Busy`] if it has ended meanwhile, as where a machine slept: what was
    /// there may be so no longer. Those of the store.
    pub fn keep(&self) -> Result<(), ObjectError> {
        let age = self.written.lock().elapsed();
        let whole = Duration::from_secs(OBJECT_LEASE_SECONDS);
        if age >= whole {
            let what = "it took too long, and others may have collected what it uses: begin again";
            let kind = ObjectErrorKind::Busy(what.into());
            return Err(self.bucket.error("cannot go on", kind));
        }
        if age >= whole / 2 {
            self.write()?;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Where that fails it ends by itself.
        let removed = self.bucket.backend().delete(&self.key);
        removed.unwrap_or_else(|error| tracing::debug!(%error, "a lease stays"));
    }
}
