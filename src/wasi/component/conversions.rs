//! The conversions that read alike in 0.2 and 0.3, whose bindings have types
//! of their own for the same words.
//!
//! Each conversion names every variant, so that a new one does not compile
//! before it has an answer here.

use crate::meta::FileId;

/// Writes the conversions for the bindings `$types`, whose calls fail with
/// `$failure`. It brings the neutral words it names into scope.
macro_rules! impl_conversions {
    ($types:ident, $failure:ty) => {
        use wasmtime::component::ResourceTableError;
        use $crate::errno::Errno;
        use $crate::meta::{FileId, Kind};
        use $crate::vfs::{Access, Follow, OpenFlags};
        use $crate::wasi::component::conversions::hash_halves;

        /// Neither version has a code for `EMFILE`: a guest that has no
        /// descriptor left is told that a quota is used up.
        impl From<Errno> for $types::ErrorCode {
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

        impl From<Errno> for $failure {
            fn from(errno: Errno) -> Self {
                $types::ErrorCode::from(errno).into()
            }
        }

        /// A table that is full is, to the guest, no descriptor left.
        pub(super) fn no_room(error: ResourceTableError) -> $failure {
            match error {
                ResourceTableError::Full => Errno::TooManyOpen.into(),
                ResourceTableError::NotPresent
                | ResourceTableError::WrongType
                | ResourceTableError::HasChildren => <$failure>::trap(error),
            }
        }

        pub(super) fn kind(kind: Kind, is_device: bool) -> $types::DescriptorType {
            match kind {
                Kind::File if is_device => $types::DescriptorType::CharacterDevice,
                Kind::File => $types::DescriptorType::RegularFile,
                Kind::Dir => $types::DescriptorType::Directory,
                Kind::Symlink => $types::DescriptorType::SymbolicLink,
            }
        }

        pub(super) fn follow(flags: $types::PathFlags) -> Follow {
            if flags.contains($types::PathFlags::SYMLINK_FOLLOW) {
                Follow::Yes
            } else {
                Follow::No
            }
        }

        pub(super) fn open_flags(flags: $types::OpenFlags) -> OpenFlags {
            let pairs = [
                ($types::OpenFlags::CREATE, OpenFlags::CREATE),
                ($types::OpenFlags::DIRECTORY, OpenFlags::DIRECTORY),
                ($types::OpenFlags::EXCLUSIVE, OpenFlags::EXCLUSIVE),
                ($types::OpenFlags::TRUNCATE, OpenFlags::TRUNCATE),
            ];
            pairs
                .into_iter()
                .filter(|(theirs, _)| flags.contains(*theirs))
                .map(|(_, ours)| ours)
                .collect()
        }

        /// `mutate-directory` asks for nothing, as in wasmtime 48, since a directory
        /// opened below a writable one may be changed anyway.
        pub(super) fn access(flags: $types::DescriptorFlags) -> Access {
            let mut access = Access::empty();
            access.set(Access::READ, flags.contains($types::DescriptorFlags::READ));
            access.set(
                Access::WRITE,
                flags.contains($types::DescriptorFlags::WRITE),
            );
            for (theirs, ours) in sync_flags() {
                access.set(ours, flags.contains(theirs));
            }
            access
        }

        /// Synchronised writes, each of which is done when its call returns anyway.
        fn sync_flags() -> [($types::DescriptorFlags, Access); 3] {
            [
                ($types::DescriptorFlags::FILE_INTEGRITY_SYNC, Access::SYNC),
                ($types::DescriptorFlags::DATA_INTEGRITY_SYNC, Access::DSYNC),
                ($types::DescriptorFlags::REQUESTED_WRITE_SYNC, Access::RSYNC),
            ]
        }

        pub(super) fn descriptor_flags(kind: Kind, access: Access) -> $types::DescriptorFlags {
            let mut flags = $types::DescriptorFlags::empty();
            if access.contains(Access::READ) {
                flags |= $types::DescriptorFlags::READ;
            }
            if access.contains(Access::WRITE) {
                flags |= match kind {
                    Kind::Dir => $types::DescriptorFlags::MUTATE_DIRECTORY,
                    Kind::File | Kind::Symlink => $types::DescriptorFlags::WRITE,
                };
            }
            for (theirs, ours) in sync_flags() {
                if access.contains(ours) {
                    flags |= theirs;
                }
            }
            flags
        }

        pub(super) fn metadata_hash(device: u64, id: FileId) -> $types::MetadataHashValue {
            let (lower, upper) = hash_halves(device, id);
            $types::MetadataHashValue { lower, upper }
        }
    };
}
pub(in crate::wasi) use impl_conversions;

/// Returns the lower and the upper half of a metadata hash. The lower half is the
/// inode number that guests print. The upper half is mixed from it and the
/// device by a fixed rule (the finish of SplitMix64), so that both stay the same
/// from run to run and from compiler to compiler.
pub(in crate::wasi) fn hash_halves(device: u64, id: FileId) -> (u64, u64) {
    let lower = id.get();
    let mut upper = lower.wrapping_add(device.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    upper = (upper ^ (upper >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    upper = (upper ^ (upper >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (lower, upper ^ (upper >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_hashes_are_fixed_for_good() {
        let hash = hash_halves(1, FileId::ROOT);
        assert_eq!(hash, (1, 0x910a_2dec_8902_5cc1));
        assert_ne!(hash_halves(2, FileId::ROOT), hash);
    }
}
