//! The neutral words of `vfs` and `errno` in those of 0.3, and back.

use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;
use wasmtime_wasi::p3::bindings::filesystem::types::{
    self, DescriptorStat, DirectoryEntry, NewTimestamp,
};
use wasmtime_wasi::p3::filesystem::FilesystemError;

use crate::meta::{Stat, Time};
use crate::vfs::SetTime;
use crate::wasi::component::conversions::impl_conversions;
use crate::wasi::component::listing::ComponentEntry;

impl_conversions!(types, FilesystemError);

pub(super) fn stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(stat.kind, stat.is_device),
        link_count: stat.nlink.into(),
        size: stat.size,
        data_access_timestamp: Some(instant(stat.atime)),
        data_modification_timestamp: Some(instant(stat.mtime)),
        status_change_timestamp: Some(instant(stat.ctime)),
    }
}

/// Every time of ours is an instant, those before 1970 too.
fn instant(time: Time) -> Instant {
    Instant {
        seconds: time.secs(),
        nanoseconds: time.nanos(),
    }
}

/// Nanoseconds in a second.
const NANOS: u32 = 1_000_000_000;

/// Carries a nanosecond part of a second or more over. Refuses a second past what any of our times holds (`overflow`).
pub(super) fn set_time(time: NewTimestamp) -> Result<SetTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(SetTime::Keep),
        NewTimestamp::Now => Ok(SetTime::Now),
        NewTimestamp::Timestamp(Instant {
            seconds,
            nanoseconds,
        }) => {
            let secs = seconds.checked_add(i64::from(nanoseconds / NANOS));
            let secs = secs.ok_or(Errno::Overflow)?;
            Ok(SetTime::To(Time::new(secs, nanoseconds % NANOS)))
        }
    }
}

pub(super) fn entry(entry: ComponentEntry) -> DirectoryEntry {
    DirectoryEntry {
        type_: kind(entry.kind, entry.is_device),
        name: entry.name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_73_times_before_1970_are_told_and_taken() {
        let time = Time::new(-1, 999_999_999);
        let shown = instant(time);
        assert_eq!((shown.seconds, shown.nanoseconds), (-1, 999_999_999));
        let set = |seconds, nanoseconds| {
            set_time(NewTimestamp::Timestamp(Instant {
                seconds,
                nanoseconds,
            }))
        };
        for seconds in [i64::MIN, -1, 0, i64::MAX] {
            assert!(matches!(set(seconds, 999_999_999), Ok(SetTime::To(_))));
        }
        let is_carried =
            |set| matches!(set, Ok(SetTime::To(time)) if time == Time::new(0, 500_000_000));
        assert!(is_carried(set(-1, 1_500_000_000)));
        assert!(matches!(set(i64::MAX, NANOS), Err(Errno::Overflow)));
    }
}
