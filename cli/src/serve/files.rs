//! The file system that each request finds, and what becomes of it.

use std::time::{Duration, Instant};

use hyper::HeaderMap;
use stratafs::budget::Budget;
use stratafs::runner::{HostedState, InstanceTemplate, RunnerError};
use stratafs::vfs::Fs;

use super::keep::Keeper;
use super::sessions::{Sessions, Ticket};
use crate::args::Keep;
use crate::failure::Failure;

/// Bytes of a file system past which freeing it is left to a thread that may block.
const LARGE_BYTES: u64 = 16 << 20;

/// What requests find.
pub(super) struct RequestFiles {
    template: InstanceTemplate,
    keep: KeptFiles,
    keeper: Option<Keeper>,
}

/// What is kept from one request to the next.
enum KeptFiles {
    Nothing,
    Sessions(Sessions),
    All(Fs),
}

/// The file system of one request, until its guest has ended.
pub(super) struct Taken {
    pub(super) fs: Fs,
    /// The session that it is of, and whether the client has to be told.
    pub(super) session: Option<(Ticket, bool)>,
}

impl RequestFiles {
    pub(super) fn new(
        template: InstanceTemplate,
        keep: Keep,
        (ttl, most): (Duration, u32),
        budget: Option<Budget>,
        keeper: Option<Keeper>,
    ) -> Self {
        let keep = match keep {
            Keep::None => KeptFiles::Nothing,
            Keep::Session => KeptFiles::Sessions(Sessions::new(ttl, most, budget)),
            Keep::Shared => KeptFiles::All(template.fork()),
        };
        Self {
            template,
            keep,
            keeper,
        }
    }

    /// Returns the file system of a request, and takes the name of its session out of its head:
    /// no guest has to see it.
    pub(super) fn take(&self, head: &mut HeaderMap) -> Result<Taken, Failure> {
        match &self.keep {
            KeptFiles::Nothing => Ok(Taken {
                fs: self.template.fork(),
                session: None,
            }),
            KeptFiles::All(fs) => Ok(Taken {
                fs: fs.clone(),
                session: None,
            }),
            KeptFiles::Sessions(sessions) => {
                let (fs, ticket, is_new) = sessions.take(head, || self.template.fork())?;
                Ok(Taken {
                    fs,
                    session: Some((ticket, is_new)),
                })
            }
        }
    }

    /// Makes what an instance needs over its file system.
    pub(super) fn state(&self, fs: &Fs, request: u32) -> Result<HostedState, RunnerError> {
        self.template.state(fs, request)
    }

    /// Returns whether files go with their request, so that it is of no use to look for equal
    /// blocks in them.
    pub(super) fn go_with_request(&self) -> bool {
        matches!(self.keep, KeptFiles::Nothing)
    }

    /// Returns whether giving up a file system takes next to no time.
    pub(super) fn end_at_once(&self) -> bool {
        self.keeper.is_none()
    }

    /// Ends the file system of a request whose guest has ended. What goes with it is
    /// gone when this returns.
    pub(super) fn end(&self, taken: Taken, request: u64) {
        match (&self.keep, taken.session) {
            (KeptFiles::Nothing, _) => self.drop_fs(taken.fs, request),
            (KeptFiles::Sessions(sessions), Some((ticket, _))) => {
                sessions.give_back(&ticket, Instant::now());
            }
            _ => {}
        }
    }

    /// Lets sessions go whose time is up, or for which there is no room.
    pub(super) fn sweep(&self) {
        if let KeptFiles::Sessions(sessions) = &self.keep {
            for (number, fs) in sessions.sweep(Instant::now()) {
                self.drop_fs(fs, number);
            }
        }
    }

    /// Keeps what is to be kept when the server ends.
    pub(super) fn end_all(&self) {
        match &self.keep {
            KeptFiles::Nothing => {}
            KeptFiles::All(fs) => self.drop_fs(fs.clone(), 0),
            KeptFiles::Sessions(sessions) => {
                for (number, fs) in sessions.take_all() {
                    self.drop_fs(fs, number);
                }
            }
        }
    }

    /// Returns how many sessions there are.
    pub(super) fn sessions(&self) -> u64 {
        match &self.keep {
            KeptFiles::Sessions(sessions) => sessions.len(),
            KeptFiles::Nothing | KeptFiles::All(_) => 0,
        }
    }

    fn drop_fs(&self, fs: Fs, number: u64) {
        let is_large = fs.usage().held_bytes > LARGE_BYTES;
        match (&self.keeper, is_large) {
            (None, false) => drop(fs),
            (None, true) => tokio::task::block_in_place(|| drop(fs)),
            (Some(keeper), _) => tokio::task::block_in_place(|| {
                keeper.keep(&fs, number);
                drop(fs);
            }),
        }
    }
}
