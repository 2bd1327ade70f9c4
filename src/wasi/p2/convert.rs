//! The neutral words of `vfs` and `errno` in those of 0.2, and back.

use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{self, DescriptorStat, NewTimestamp};

use crate::meta::{Stat, Time};
use crate::vfs::SetTime;
use crate::wasi::component::conversions::impl_conversions;

impl_conversions!(types, FsError);

pub(super) fn stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(stat.kind, stat.is_device),
        link_count: stat.nlink.into(),
        size: stat.size,
        data_access_timestamp: Some(datetime(stat.atime)),
        data_modification_timestamp: Some(datetime(stat.mtime)),
        status_change_timestamp: Some(datetime(stat.ctime)),
    }
}

/// Times before 1970, which 0.2 cannot say, show as 1970.
fn datetime(time: Time) -> Datetime {
    match u64::try_from(time.secs()) {
        Ok(seconds) => Datetime {
            seconds,
            nanoseconds: time.nanos(),
        },
        Err(_) => Datetime {
            seconds: 0,
            nanoseconds: 0,
        },
    }
}

/// Nanoseconds in a second.
const NANOS: u32 = 1_000_000_000;

/// Carries a nanosecond part of a second or more over. Refuses a second past what any of our times holds (`overflow`).
pub(super) fn set_time(time: NewTimestamp) -> Result<SetTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(SetTime::Keep),
        NewTimestamp::Now => Ok(SetTime::Now),
        NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        }) => {
            let carried = seconds.checked_add(u64::from(nanoseconds / NANOS));
            let secs = carried.and_then(|secs| i64::try_from(secs).ok());
            let secs = secs.ok_or(Errno::Overflow)?;
            Ok(SetTime::To(Time::new(secs, nanoseconds % NANOS)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_73_times_outside_the_range_clamp_or_fail() {
        let shown = |time| (datetime(time).seconds, datetime(time).nanoseconds);
        assert_eq!(shown(Time::new(-1, 5)), (0, 0));
        assert_eq!(
            shown(Time::new(i64::MAX, 999_999_999)),
            (i64::MAX as u64, 999_999_999)
        );
        let set = |seconds, nanoseconds| {
            set_time(NewTimestamp::Timestamp(Datetime {
                seconds,
                nanoseconds,
            }))
        };
        assert!(matches!(set(u64::MAX, 0), Err(Errno::Overflow)));
        assert!(matches!(set(u64::MAX, NANOS), Err(Errno::Overflow)));
        assert!(matches!(set(i64::MAX as u64, NANOS), Err(Errno::Overflow)));
        let is_carried = |set| matches!(set, Ok(SetTime::To(time)) if time == Time::new(3, 500));
        assert!(is_carried(set(1, 2 * NANOS + 500)));
        assert!(matches!(set(1, 999_999_999), Ok(SetTime::To(_))));
    }
}
