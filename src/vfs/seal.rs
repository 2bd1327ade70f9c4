//! When what guests wrote is looked at for equals: see [`Sealing`].

use std::cell::Cell;
use std::time::Instant;

use super::Fs;
use crate::chunk::Scope;
use crate::overlay::Batch;

/// Blocks put in place under one hold of the instance's lock.
const STEP: usize = 1024;

/// Among whom equal blocks that a guest writes are held once. Set by
/// [`FsBuilder::share`](super::FsBuilder::share).
///
/// With `None` and `Own`, no time, count or file tells a guest what others hold.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Share {
    /// Nobody: what a guest writes is neither hashed nor compared.
    None,
    /// The instance by itself, with its forks and its base.
    #[default]
    Own,
    /// All instances of a scope that are alive at one time, and their bases. A
    /// guest can find out, by timing how long a file takes to close, whether
    /// another one holds the same block: only instances that may know of each
    /// other's content belong in one scope.
    Scope(Scope),
}

impl From<&Scope> for Share {
    fn from(scope: &Scope) -> Self {
        Self::Scope(scope.clone())
    }
}

/// When blocks that a guest wrote are sealed: looked up among those of its
/// base and of those it shares with, so that equal ones are held once. See
/// [`Share`] for whom that concerns.
///
/// A sealed block reads and counts as before; writing into it again copies
/// it. What it costs, and what it saves, is in docs/DECISIONS.md.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sealing {
    /// When the last descriptor of a file that was written is closed, in the call
    /// that closes it, without the instance's lock. That costs time for each
    /// byte that was written since: a look at samples of each block, and where
    /// those are known a hash of it; for a file that was written whole and is as
    /// large as one of the base, a hash of both. A file of which more than
    /// [`MAX_CLOSE_BLOCKS`](crate::limits::MAX_CLOSE_BLOCKS) were written waits
    /// for [`Fs::seal`]. [`seal_until`] bounds the time.
    #[default]
    AtClose,
    /// When the host calls [`Fs::seal`]: puts the work off.
    OnDemand,
}

thread_local! {
    /// When sealing on this thread ends.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `work`, on this thread, and seals nothing in it after `deadline`: a file
/// that is closed later stays as it was written, and one that is being
/// looked at then is left after the next 64 KiB. So neither a guest's close
/// of a large file nor dropping the descriptors of a guest that was stopped takes
/// longer than the guest may run. Within another call the earlier deadline
/// holds. Files of volumes are concerned as well as those of instances.
///
/// A host that bounds its guests by itself calls what runs a guest, and what
/// drops its store, in here, as the runner does.
pub fn seal_until<R>(deadline: Instant, work: impl FnOnce() -> R) -> R {
    let _before = Restore(DEADLINE.get());
    let earlier = DEADLINE.get().map_or(deadline, |outer| outer.min(deadline));
    DEADLINE.set(Some(earlier));
    work()
}

/// Puts a deadline back, after a panic too.
struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}

/// Returns whether there is time left to seal in.
fn in_time() -> bool {
    DEADLINE.get().is_none_or(|end| Instant::now() < end)
}

impl Fs {
    /// Seals all blocks written since they were sealed last, of files that are
    /// open too. Returns the bytes that need not be held by this instance any
    /// more. O(such bytes); the instance may be used meanwhile. Without effect
    /// under [`Share::None`].
    pub fn seal(&self) -> u64 {
        let private = || self.lock().usage().private_bytes;
        let before = private();
        // As many files as there are now: what a guest goes on to write while
        // this runs is for the next call.
        let mut files = self.lock().unsealed_files();
        while files > 0 && in_time() {
            let Some(batch) = self.lock().take_any() else {
                break;
            };
            self.seal_batch(batch);
            files -= 1;
        }
        before.saturating_sub(private())
    }

    /// Returns the scope in which this instance holds equal blocks once: the one
    /// of [`Share::Scope`], or its own and its forks'.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        self.setup().scope()
    }

    /// Adds up the bytes that this instance alone holds at this moment, its
    /// forks and snapshots taken as one with it: neither its base nor another
    /// instance of its scope has them. [`Usage::private_bytes`](super::Usage::private_bytes) is the
    /// figure that costs nothing. O(changed objects and blocks).
    #[must_use]
    pub fn count_exclusive_bytes(&self) -> u64 {
        self.lock().snapshot().count_exclusive_bytes()
    }

    pub(super) fn seal_batch(&self, batch: Batch) {
        let mut sealed = batch.seal(self.scope(), &in_time);
        while self.lock().put_sealed(&mut sealed, STEP) {}
        tracing::trace!(device = self.device(), "what was written has been sealed");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::image::Image;
    use crate::limits::MAX_CLOSE_BLOCKS;
    use crate::steps;
    use crate::vfs::{Access, Follow, OpenFlags};

    const BLOCK: u64 = 4096;

    #[test]
    fn a_close_costs_steps_for_what_was_written_since_and_never_more_than_a_bound() {
        let close = |blocks: u64, before: u64| {
            let fs = Fs::new(&Image::empty());
            let access = Access::READ | Access::WRITE;
            let open = || {
                let root = fs.root().unwrap();
                root.open_at(Follow::Yes, b"f", OpenFlags::CREATE, access)
                    .unwrap()
            };
            let write = |range: std::ops::Range<u64>| {
                let file = open();
                for number in range {
                    file.write_at(&number.to_le_bytes(), number * BLOCK)
                        .unwrap();
                }
                file
            };
            drop(write(0..before));
            let file = write(before..before + blocks);
            (steps::counted(|| drop(file)), fs)
        };
        let (once, twice) = (close(2_000, 0).0, close(4_000, 0).0);
        assert!(once >= 2_000 && 2 * twice <= 5 * once, "{once}, {twice}");
        // What was sealed before costs nothing again.
        assert!(close(2_000, 30_000).0 <= 2 * once);
        let most = close(MAX_CLOSE_BLOCKS, 0).0;
        assert!(most >= MAX_CLOSE_BLOCKS);
        let (past, fs) = close(MAX_CLOSE_BLOCKS + 1, 0);
        assert!(past < 100, "{past}");
        // It waits for the host.
        let sealed = steps::counted(|| assert!(fs.seal() > 0));
        assert!(sealed >= MAX_CLOSE_BLOCKS);
        fs.check().unwrap();
    }

    #[test]
    fn nothing_is_sealed_after_the_deadline() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3600);
        let held = |name: &str| {
            let fs = Fs::new(&Image::empty());
            fs.write(name, vec![0; 1 << 20]).unwrap();
            fs.usage().private_bytes
        };
        assert_eq!(held("/no-deadline"), 0);
        assert_eq!(seal_until(later, || held("/in-time")), 0);
        assert_eq!(seal_until(now, || held("/late")), 1 << 20);
        // The earlier one holds, and goes with its call.
        let within = |outer, inner| seal_until(outer, || seal_until(inner, || held("/x")));
        assert_eq!((within(now, later), within(later, now)), (1 << 20, 1 << 20));
        let after = seal_until(later, || {
            seal_until(now, || ());
            held("/x")
        });
        assert_eq!((after, held("/x")), (0, 0));
        let caught = std::panic::catch_unwind(|| seal_until(now, || assert_eq!(held("/x"), 0)));
        assert_eq!((caught.is_err(), held("/x")), (true, 0));
    }

    #[test]
    fn sealing_that_is_called_off_ends_at_the_next_block() {
        let fs = Fs::builder(&Image::empty())
            .sealing(Sealing::OnDemand)
            .build();
        let seal = |steps: u64| {
            let left = Cell::new(steps);
            let asked = Cell::new(0_u64);
            let batch = fs.lock().take_any().unwrap();
            let mut sealed = batch.seal(fs.scope(), &|| {
                asked.set(asked.get() + 1);
                left.replace(left.get().saturating_sub(1)) > 0
            });
            while fs.lock().put_sealed(&mut sealed, STEP) {}
            (asked.get(), fs.usage().private_bytes)
        };
        // Written whole: looked at as one, and left as one.
        fs.write("/whole", vec![0; 1 << 20]).unwrap();
        let (asked, held) = seal(10);
        assert_eq!(held, 1 << 20);
        assert!(asked <= 12, "{asked} pieces after 10");
        fs.remove_file("/whole").unwrap();
        // With a hole behind: block by block, and as far as it came.
        fs.write("/sparse", vec![0; 1 << 20]).unwrap();
        let root = fs.root().unwrap();
        let flags = OpenFlags::empty();
        let file = root.open_at(Follow::No, b"sparse", flags, Access::WRITE);
        file.unwrap().set_size(2 << 20).unwrap();
        let (asked, held) = seal(10);
        assert_eq!((asked, held), (11, (1 << 20) - 10 * BLOCK));
    }
}
