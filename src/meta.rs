//! What is known of an object besides its content.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What an object is. Devices, FIFOs and sockets do not exist here. It is closed:
/// what walks a tree has to know all of them.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// A point in time: seconds since 1970 (negative before) and nanoseconds
/// within that second. Any value of an archive can be held; what a front end
/// cannot show is clamped there.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    secs: i64,
    nanos: u32,
}

impl Time {
    /// 1970-01-01 00:00:00 UTC.
    pub const EPOCH: Self = Self { secs: 0, nanos: 0 };

    /// Makes a time. Nanoseconds past 999,999,999 are clamped to that.
    #[must_use]
    pub const fn new(secs: i64, nanos: u32) -> Self {
        let nanos = if nanos > 999_999_999 {
            999_999_999
        } else {
            nanos
        };
        Self { secs, nanos }
    }

    /// Reads the system clock. On Linux as its own file systems do, at the last
    /// tick of the kernel: up to 4 ms ago as a rule, for a quarter of the time.
    #[must_use]
    #[cfg(target_os = "linux")]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self::new(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    /// Reads the system clock.
    #[must_use]
    #[cfg(not(target_os = "linux"))]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns the whole seconds since 1970.
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.secs
    }

    /// Returns the nanoseconds within the second, below 1,000,000,000.
    #[must_use]
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    /// Returns the nanoseconds since 1970 as preview1 counts them: clamped to 0
    /// before 1970 and to `u64::MAX` after the year 2554.
    #[must_use]
    pub fn as_nanos_clamped(self) -> u64 {
        u64::try_from(self.secs).map_or(0, |secs| {
            secs.saturating_mul(1_000_000_000)
                .saturating_add(u64::from(self.nanos))
        })
    }

    /// Makes a time from nanoseconds since 1970, as [`Self::as_nanos_clamped`]
    /// returns them.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Self {
        let secs = nanos / 1_000_000_000;
        let rest = nanos % 1_000_000_000;
        // Both fit: u64::MAX nanoseconds are below 2^35 seconds.
        Self::new(secs.cast_signed(), u32::try_from(rest).unwrap_or(0))
    }
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self::new(
                i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                after.subsec_nanos(),
            ),
            Err(before) => {
                let before = before.duration();
                let secs = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self::new(-secs, 0),
                    nanos => Self::new((-secs).saturating_sub(1), 1_000_000_000 - nanos),
                }
            }
        }
    }
}

impl Time {
    /// Returns the same moment for `std`, clamped where the platform's clock ends.
    #[must_use]
    pub fn to_system(self) -> SystemTime {
        let whole = Duration::from_secs(self.secs.unsigned_abs());
        let base = if self.secs >= 0 {
            SystemTime::UNIX_EPOCH.checked_add(whole)
        } else {
            SystemTime::UNIX_EPOCH.checked_sub(whole)
        };
        base.and_then(|base| base.checked_add(Duration::from_nanos(self.nanos.into())))
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The number of an object within its file system, what guests see as inode
/// number: never 0, fixed from first sight on (invariant 6).
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(NonZeroU64);

impl FileId {
    /// The root directory of every tree.
    pub const ROOT: Self = Self(NonZeroU64::MIN);

    /// Makes the id of the base node with this index number (the root is 0).
    #[must_use]
    pub const fn of_node(node: u32) -> Self {
        Self(NonZeroU64::MIN.saturating_add(node as u64))
    }

    /// Returns the base node's index number, if it is one below `nodes`.
    #[must_use]
    pub fn node_below(self, nodes: u32) -> Option<u32> {
        u32::try_from(self.0.get() - 1)
            .ok()
            .filter(|node| *node < nodes)
    }

    /// Makes the id with this number.
    #[must_use]
    pub const fn new(number: NonZeroU64) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

/// Extended attributes: names and values, sorted by name.
pub type Xattrs = Vec<(Box<[u8]>, Box<[u8]>)>;

/// What a layer keeps of an entry besides its content. WASI shows only the
/// times; the rest is kept for the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of content.
    pub mtime: Time,
    /// Extended attributes; `None` when there are none.
    pub xattrs: Option<Arc<Xattrs>>,
}

impl Meta {
    /// Returns metadata with this mode, owned by 0:0, at the epoch, without
    /// attributes.
    #[must_use]
    pub const fn with_mode(mode: u32) -> Self {
        Self {
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime: Time::EPOCH,
            xattrs: None,
        }
    }

    /// Sets the time of the last change of content.
    #[must_use]
    pub fn at(mut self, mtime: Time) -> Self {
        self.mtime = mtime;
        self
    }
}

/// What `stat` tells.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// Inode number.
    pub id: FileId,
    /// What the object is.
    pub kind: Kind,
    /// Whether it is a character device provided by the host, such as `/dev/null`.
    /// Its kind is a file then.
    pub is_device: bool,
    /// Bytes of content; of a symbolic link, of its target; 0 for a directory.
    pub size: u64,
    /// Names that lead here; of a directory 2 and one for each directory in it.
    pub nlink: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last access. Reading does not move it (docs/SEMANTICS.md).
    pub atime: Time,
    /// Last change of content.
    pub mtime: Time,
    /// Last change of anything.
    pub ctime: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_clamp_and_round_trip() {
        assert_eq!(Time::new(-1, 5).as_nanos_clamped(), 0);
        assert_eq!(Time::new(i64::MAX, 0).as_nanos_clamped(), u64::MAX);
        assert_eq!(Time::new(1, 2_000_000_000).nanos(), 999_999_999);
        for nanos in [0, 1, 1_000_000_000, u64::MAX] {
            assert_eq!(Time::from_nanos(nanos).as_nanos_clamped(), nanos);
        }
        for time in [Time::new(-2, 500_000_000), Time::new(3, 7), Time::EPOCH] {
            assert_eq!(Time::from(time.to_system()), time);
        }
        let _ = Time::new(i64::MIN, 0).to_system();
        let _ = Time::new(i64::MAX, 999_999_999).to_system();
    }

    #[test]
    fn base_ids_map_to_nodes_and_back() {
        assert_eq!(FileId::of_node(0), FileId::ROOT);
        assert_eq!(FileId::of_node(9).node_below(10), Some(9));
        assert_eq!(FileId::of_node(10).node_below(10), None);
    }
}
