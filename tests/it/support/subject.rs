//! Operations on a real file system of the library, through descriptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use stratafs::errno::Errno;
use stratafs::image::Image;
use stratafs::meta::{Stat, Time};
use stratafs::vfs::{Clock, Descriptor, Fs, FsBuilder, Quota, Rights, Sealing, Share};

use super::ops::{From, Op, Outcome, READ_ONLY, ROOT, SLOTS, Seen, Slot, StatSeen, salted};

/// A clock that stands still until it is set.
#[derive(Default)]
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn set(&self, secs: i64) -> Time {
        self.0.store(secs, Ordering::Relaxed);
        Time::new(secs, 1)
    }
}

impl Clock for HandClock {
    fn now(&self) -> Time {
        Time::new(self.0.load(Ordering::Relaxed), 1)
    }
}

/// An instance with the descriptors that operations opened.
pub struct Subject {
    pub fs: Fs,
    pub clock: Arc<HandClock>,
    slots: Vec<Option<Open>>,
    /// Others change the instance meanwhile.
    shared: bool,
}

struct Open {
    descriptor: Descriptor,
    cookie: u64,
    mark: u64,
}

impl Subject {
    /// An instance over `image` with the two preopens.
    pub fn new(image: &Image, quota: Quota, share: Share, sealing: Sealing) -> Self {
        Self::with(Fs::builder(image).share(share).sealing(sealing), quota)
    }

    /// As [`Self::new`], set up in part.
    pub fn with(builder: FsBuilder, quota: Quota) -> Self {
        let clock = Arc::new(HandClock::default());
        let fs = builder
            .max_bytes(quota.max_bytes)
            .max_inodes(quota.max_inodes)
            .max_changed(quota.max_changed)
            .max_open(quota.max_open)
            .clock(clock.clone())
            .build();
        Self {
            clock,
            ..Self::on(fs)
        }
    }

    /// Another set of descriptors on an instance that has its own clock.
    pub fn on(fs: Fs) -> Self {
        let mut slots: Vec<Option<Open>> = (0..SLOTS).map(|_| None).collect();
        slots[ROOT] = Some(Open::new(fs.root().unwrap().into()));
        slots[READ_ONLY] = Some(Open::new(
            fs.preopen(b"/", Rights::ReadOnly).unwrap().into(),
        ));
        Self {
            fs,
            clock: Arc::default(),
            slots,
            shared: false,
        }
    }

    /// Says that others change the instance meanwhile: two reads of one place
    /// need not agree.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// A fork with the same descriptors, or with the preopens only.
    pub fn fork(&self, with_open: bool) -> Result<Self, Errno> {
        if !with_open {
            let twin = Self::on(self.fs.fork());
            return Ok(Self {
                clock: Arc::clone(&self.clock),
                ..twin
            });
        }
        let open: Vec<&Open> = self.slots.iter().flatten().collect();
        let descriptors: Vec<&Descriptor> = open.iter().map(|open| &open.descriptor).collect();
        let (fs, twins) = self.fs.fork_with(&descriptors)?;
        let mut twins = twins.into_iter();
        let slots = self.slots.iter().map(|slot| {
            slot.as_ref().map(|open| Open {
                descriptor: twins.next().expect("one for each"),
                cookie: open.cookie,
                mark: open.mark,
            })
        });
        let slots = slots.collect();
        Ok(Self {
            fs,
            clock: Arc::clone(&self.clock),
            slots,
            shared: self.shared,
        })
    }

    /// Closes everything and opens the preopens anew.
    pub fn reopen(&mut self) {
        self.slots.clear();
        self.slots = Self::on(self.fs.clone()).slots;
    }

    fn slot(&self, slot: Slot) -> Result<&Descriptor, Errno> {
        self.slots[slot]
            .as_ref()
            .map(|open| &open.descriptor)
            .ok_or(Errno::BadDescriptor)
    }

    /// Closes everything but the root.
    pub fn close_all(&mut self) {
        self.slots.truncate(ROOT + 1);
    }

    /// Does what the operation asks.
    pub fn apply(&mut self, op: &Op) -> Outcome {
        let done = |()| Seen::Done;
        match op {
            Op::Open {
                dir,
                path,
                follow,
                flags,
                access,
                into,
            } => {
                let opened = self.slot(*dir)?.open_at(*follow, path, *flags, *access)?;
                self.slots[*into] = Some(Open::new(opened));
                Ok(Seen::Done)
            }
            Op::Close { slot } => {
                self.slots[*slot].take().ok_or(Errno::BadDescriptor)?;
                Ok(Seen::Done)
            }
            Op::Read { slot, offset, len } => self.read(*slot, *offset, *len),
            Op::Write {
                slot,
                offset,
                len,
                salt,
            } => self
                .slot(*slot)?
                .write_at(&salted(*len, *salt), *offset)
                .map(Seen::Count),
            Op::Append { slot, len, salt } => self
                .slot(*slot)?
                .append(&salted(*len, *salt))
                .map(Seen::Count),
            Op::SetSize { slot, size } => self.slot(*slot)?.set_size(*size).map(done),
            Op::Stat { slot } => self.slot(*slot)?.stat().map(stat),
            Op::StatAt { dir, path, follow } => self.slot(*dir)?.stat_at(*follow, path).map(stat),
            Op::SetTimes { slot, atime, mtime } => {
                self.slot(*slot)?.set_times(*atime, *mtime).map(done)
            }
            Op::SetTimesAt {
                dir,
                path,
                follow,
                atime,
                mtime,
            } => self
                .slot(*dir)?
                .set_times_at(*follow, path, *atime, *mtime)
                .map(done),
            Op::Mkdir { dir, path } => self.slot(*dir)?.create_dir_at(path).map(done),
            Op::Rmdir { dir, path } => self.slot(*dir)?.remove_dir_at(path).map(done),
            Op::Unlink { dir, path } => self.slot(*dir)?.unlink_at(path).map(done),
            Op::Symlink { dir, path, target } => {
                self.slot(*dir)?.symlink_at(target, path).map(done)
            }
            Op::Readlink { dir, path } => self
                .slot(*dir)?
                .readlink_at(path)
                .map(|target| Seen::Target(target.to_vec())),
            Op::Link { dir, path, to, new } => self
                .slot(*dir)?
                .link_at(path, self.slot(*to)?, new)
                .map(done),
            Op::Rename { dir, path, to, new } => self
                .slot(*dir)?
                .rename_at(path, self.slot(*to)?, new)
                .map(done),
            Op::List {
                slot,
                from,
                max,
                mark,
            } => self.list(*slot, *from, *max, *mark),
        }
    }

    /// Reads both ways, which have to agree where nobody writes in between.
    fn read(&self, slot: Slot, offset: u64, len: usize) -> Outcome {
        let file = self.slot(slot)?;
        let mut buf = vec![0xa5; len];
        let read = file.read_at(&mut buf, offset)?;
        buf.truncate(read);
        let piece = file.read_bytes(offset, len)?;
        if self.shared {
            return Ok(Seen::Bytes(buf));
        }
        assert!(buf.starts_with(&piece), "read_at and read_bytes differ");
        assert!(!piece.is_empty() || buf.is_empty(), "read_bytes ends early");
        Ok(Seen::Bytes(buf))
    }

    fn list(&mut self, slot: Slot, from: From, max: usize, mark: bool) -> Outcome {
        let open = self.slots[slot].as_mut().ok_or(Errno::BadDescriptor)?;
        match from {
            From::Start => (open.cookie, open.mark) = (0, 0),
            From::Next => {}
            From::Mark => open.cookie = open.mark,
        }
        // One more than is taken says whether there are any.
        let mut listed = open.descriptor.read_dir(open.cookie, max + 1)?;
        let end = listed.len() <= max;
        listed.truncate(max);
        if let Some(last) = listed.last() {
            open.cookie = last.next;
        }
        let entries = listed
            .into_iter()
            .map(|entry| (entry.name.into(), entry.kind, entry.id.get()))
            .collect();
        if mark {
            open.mark = open.cookie;
        }
        Ok(Seen::Listed { entries, end })
    }
}

impl Open {
    fn new(descriptor: Descriptor) -> Self {
        Self {
            descriptor,
            cookie: 0,
            mark: 0,
        }
    }
}

fn stat(stat: Stat) -> Seen {
    Seen::Stat(StatSeen {
        id: stat.id.get(),
        kind: stat.kind,
        size: stat.size,
        nlink: stat.nlink,
        mode: stat.mode,
        times: [stat.atime, stat.mtime, stat.ctime],
    })
}
