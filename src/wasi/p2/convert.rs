//! The neutral words of `vfs` and `errno` in those of 0.2, and back.
//!
//! Each conversion names every variant, so that a new one does not compile
//! before it has an answer here.

use wasmtime_wasi::p2::FsError;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorStat, DescriptorType, ErrorCode, MetadataHashValue, NewTimestamp,
    OpenFlags as WasiOpenFlags, PathFlags,
};

use crate::errno::Errno;
use crate::meta::{FileId, Kind, Stat, Time};
use crate::vfs::{Access, Follow, OpenFlags, SetTime};

/// 0.2 has no code for `EMFILE`: a guest that has no descriptor left is told
/// that a quota is used up.
impl From<Errno> for ErrorCode {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::BadDescriptor => Self::BadDescriptor,
            Errno::Busy => Self::Busy,
            Errno::CrossDevice => Self::CrossDevice,
            Errno::Exist => Self::Exist,
            Errno::FileTooLarge => Self::FileTooLarge,
            Errno::IllegalByteSequence => Self::IllegalByteSequence,
            Errno::Invalid => Self::Invalid,
            Errno::Io => Self::Io,
            Errno::IsDirectory => Self::IsDirectory,
            Errno::Loop => Self::Loop,
            Errno::NameTooLong => Self::NameTooLong,
            Errno::NoEntry => Self::NoEntry,
            Errno::NoSpace => Self::InsufficientSpace,
            Errno::NotDirectory => Self::NotDirectory,
            Errno::NotEmpty => Self::NotEmpty,
            Errno::NotPermitted => Self::NotPermitted,
            Errno::Overflow => Self::Overflow,
            Errno::ReadOnly => Self::ReadOnly,
            Errno::TooManyLinks => Self::TooManyLinks,
            Errno::TooManyOpen => Self::Quota,
            Errno::Unsupported => Self::Unsupported,
        }
    }
}

impl From<Errno> for FsError {
    fn from(errno: Errno) -> Self {
        ErrorCode::from(errno).into()
    }
}

pub(super) fn kind(kind: Kind) -> DescriptorType {
    match kind {
        Kind::File => DescriptorType::RegularFile,
        Kind::Dir => DescriptorType::Directory,
        Kind::Symlink => DescriptorType::SymbolicLink,
    }
}

pub(super) fn stat(stat: &Stat) -> DescriptorStat {
    DescriptorStat {
        type_: kind(stat.kind),
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

/// Refuses a nanosecond part of a second or more (`invalid`) and a second
/// past what any of our times holds (`overflow`).
pub(super) fn set_time(time: NewTimestamp) -> Result<SetTime, Errno> {
    match time {
        NewTimestamp::NoChange => Ok(SetTime::Keep),
        NewTimestamp::Now => Ok(SetTime::Now),
        NewTimestamp::Timestamp(Datetime {
            seconds,
            nanoseconds,
        }) => {
            if nanoseconds >= 1_000_000_000 {
                return Err(Errno::Invalid);
            }
            let secs = i64::try_from(seconds).map_err(|_| Errno::Overflow)?;
            Ok(SetTime::To(Time::new(secs, nanoseconds)))
        }
    }
}

pub(super) fn follow(flags: PathFlags) -> Follow {
    if flags.contains(PathFlags::SYMLINK_FOLLOW) {
        Follow::Yes
    } else {
        Follow::No
    }
}

pub(super) fn open_flags(flags: WasiOpenFlags) -> OpenFlags {
    let pairs = [
        (WasiOpenFlags::CREATE, OpenFlags::CREATE),
        (WasiOpenFlags::DIRECTORY, OpenFlags::DIRECTORY),
        (WasiOpenFlags::EXCLUSIVE, OpenFlags::EXCLUSIVE),
        (WasiOpenFlags::TRUNCATE, OpenFlags::TRUNCATE),
    ];
    pairs
        .into_iter()
        .filter(|(theirs, _)| flags.contains(*theirs))
        .map(|(_, ours)| ours)
        .collect()
}

/// As wasmtime 48 on Linux: synchronised writes are not offered, and
/// `mutate-directory` asks for nothing, since a directory opened below a
/// writable one may be changed anyway.
pub(super) fn access(flags: DescriptorFlags) -> Result<Access, Errno> {
    let refused = [
        DescriptorFlags::FILE_INTEGRITY_SYNC,
        DescriptorFlags::DATA_INTEGRITY_SYNC,
        DescriptorFlags::REQUESTED_WRITE_SYNC,
    ];
    if refused.into_iter().any(|flag| flags.contains(flag)) {
        return Err(Errno::Unsupported);
    }
    let mut access = Access::empty();
    access.set(Access::READ, flags.contains(DescriptorFlags::READ));
    access.set(Access::WRITE, flags.contains(DescriptorFlags::WRITE));
    Ok(access)
}

pub(super) fn descriptor_flags(kind: Kind, access: Access) -> DescriptorFlags {
    let mut flags = DescriptorFlags::empty();
    if access.contains(Access::READ) {
        flags |= DescriptorFlags::READ;
    }
    if access.contains(Access::WRITE) {
        flags |= match kind {
            Kind::Dir => DescriptorFlags::MUTATE_DIRECTORY,
            Kind::File | Kind::Symlink => DescriptorFlags::WRITE,
        };
    }
    flags
}

/// The lower half is the inode number that guests print. The upper half is
/// mixed from it by a fixed rule (the finish of SplitMix64), so that both stay
/// the same from run to run and from compiler to compiler.
pub(super) fn metadata_hash(id: FileId) -> MetadataHashValue {
    let lower = id.get();
    let mut upper = lower.wrapping_add(0x9e37_79b9_7f4a_7c15);
    upper = (upper ^ (upper >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    upper = (upper ^ (upper >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    MetadataHashValue {
        lower,
        upper: upper ^ (upper >> 31),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_hashes_are_fixed_for_good() {
        let hash = metadata_hash(FileId::ROOT);
        assert_eq!((hash.lower, hash.upper), (1, 0x910a_2dec_8902_5cc1));
    }

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
        assert!(matches!(set(1, 1_000_000_000), Err(Errno::Invalid)));
        assert!(matches!(set(1, 999_999_999), Ok(SetTime::To(_))));
    }
}
