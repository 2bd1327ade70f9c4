//! Names of the values of `wasi:filesystem` that read alike in 0.2 and 0.3.

/// Writes functions that name the values of the bindings `$types`. What only one of them has
/// follows: codes, and kinds of objects.
macro_rules! impl_names {
    ($types:ident, $failure:ty, codes: $($code:pat => $errno:literal),*; kinds: $($kind:pat => $word:literal),*) => {
        use $crate::runner::calls::tracer::Pending;
        use $crate::runner::calls::{CallResult, CallValue, errnos};

        /// A call that failed with a code.
        pub(super) fn of_code(code: &$types::ErrorCode) -> CallResult {
            use $types::ErrorCode;
            errnos::named(match code {
                $($code => $errno,)*
                ErrorCode::Access => "EACCES",
                ErrorCode::Already => "EALREADY",
                ErrorCode::BadDescriptor => "EBADF",
                ErrorCode::Busy => "EBUSY",
                ErrorCode::Deadlock => "EDEADLK",
                ErrorCode::Quota => "EDQUOT",
                ErrorCode::Exist => "EEXIST",
                ErrorCode::FileTooLarge => "EFBIG",
                ErrorCode::IllegalByteSequence => "EILSEQ",
                ErrorCode::InProgress => "EINPROGRESS",
                ErrorCode::Interrupted => "EINTR",
                ErrorCode::Invalid => "EINVAL",
                ErrorCode::Io => "EIO",
                ErrorCode::IsDirectory => "EISDIR",
                ErrorCode::Loop => "ELOOP",
                ErrorCode::TooManyLinks => "EMLINK",
                ErrorCode::MessageSize => "EMSGSIZE",
                ErrorCode::NameTooLong => "ENAMETOOLONG",
                ErrorCode::NoDevice => "ENODEV",
                ErrorCode::NoEntry => "ENOENT",
                ErrorCode::NoLock => "ENOLCK",
                ErrorCode::InsufficientMemory => "ENOMEM",
                ErrorCode::InsufficientSpace => "ENOSPC",
                ErrorCode::NotDirectory => "ENOTDIR",
                ErrorCode::NotEmpty => "ENOTEMPTY",
                ErrorCode::NotRecoverable => "ENOTRECOVERABLE",
                ErrorCode::Unsupported => "ENOTSUP",
                ErrorCode::NoTty => "ENOTTY",
                ErrorCode::NoSuchDevice => "ENXIO",
                ErrorCode::Overflow => "EOVERFLOW",
                ErrorCode::NotPermitted => "EPERM",
                ErrorCode::Pipe => "EPIPE",
                ErrorCode::ReadOnly => "EROFS",
                ErrorCode::InvalidSeek => "ESPIPE",
                ErrorCode::TextFileBusy => "ETXTBSY",
                ErrorCode::CrossDevice => "EXDEV",
            })
        }

        /// Ends a call, and passes on what it gave.
        pub(super) fn ended<T>(
            call: Pending,
            done: Result<T, $failure>,
            value_of: impl FnOnce(&T) -> CallValue,
        ) -> Result<T, $failure> {
            let result = match &done {
                Ok(value) => CallResult::Done(value_of(value)),
                Err(error) => match error.downcast_ref() {
                    Some(code) => of_code(code),
                    None => CallResult::Trapped(error.to_string()),
                },
            };
            call.end(result);
            done
        }

        pub(super) fn nothing<T>(_: &T) -> CallValue {
            CallValue::Nothing
        }

        fn joined<const N: usize>(all: [(bool, &'static str); N]) -> String {
            let set = all.into_iter().filter(|(set, _)| *set);
            let words: Vec<_> = set.map(|(_, word)| word).collect();
            match words.as_slice() {
                [] => "0".to_owned(),
                words => words.join("|"),
            }
        }

        pub(super) fn look(flags: $types::PathFlags) -> String {
            joined([(
                flags.contains($types::PathFlags::SYMLINK_FOLLOW),
                "SYMLINK_FOLLOW",
            )])
        }

        pub(super) fn open(flags: $types::OpenFlags) -> String {
            use $types::OpenFlags;
            joined([
                (flags.contains(OpenFlags::CREATE), "O_CREAT"),
                (flags.contains(OpenFlags::DIRECTORY), "O_DIRECTORY"),
                (flags.contains(OpenFlags::EXCLUSIVE), "O_EXCL"),
                (flags.contains(OpenFlags::TRUNCATE), "O_TRUNC"),
            ])
        }

        pub(super) fn access(flags: $types::DescriptorFlags) -> String {
            use $types::DescriptorFlags;
            joined([
                (flags.contains(DescriptorFlags::READ), "READ"),
                (flags.contains(DescriptorFlags::WRITE), "WRITE"),
                (flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC), "O_SYNC"),
                (flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC), "O_DSYNC"),
                (flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC), "O_RSYNC"),
                (flags.contains(DescriptorFlags::MUTATE_DIRECTORY), "MUTATE_DIRECTORY"),
            ])
        }

        pub(super) fn kind(kind: &$types::DescriptorType) -> &'static str {
            use $types::DescriptorType;
            match kind {
                $($kind => $word,)*
                DescriptorType::BlockDevice => "BLOCK_DEVICE",
                DescriptorType::CharacterDevice => "CHARACTER_DEVICE",
                DescriptorType::Directory => "DIRECTORY",
                DescriptorType::Fifo => "FIFO",
                DescriptorType::SymbolicLink => "SYMBOLIC_LINK",
                DescriptorType::RegularFile => "REGULAR_FILE",
                DescriptorType::Socket => "SOCKET",
            }
        }

        pub(super) fn advice(advice: $types::Advice) -> String {
            use $types::Advice;
            let word = match advice {
                Advice::Normal => "NORMAL",
                Advice::Sequential => "SEQUENTIAL",
                Advice::Random => "RANDOM",
                Advice::WillNeed => "WILLNEED",
                Advice::DontNeed => "DONTNEED",
                Advice::NoReuse => "NOREUSE",
            };
            word.to_owned()
        }

        pub(super) fn time(time: &$types::NewTimestamp) -> String {
            use $types::NewTimestamp;
            match time {
                NewTimestamp::NoChange => "KEEP".to_owned(),
                NewTimestamp::Now => "NOW".to_owned(),
                NewTimestamp::Timestamp(at) => format!("{}.{:09}", at.seconds, at.nanoseconds),
            }
        }

        pub(super) fn stat(stat: &$types::DescriptorStat) -> CallValue {
            let mut fields = vec![
                ("type", CallValue::Word(kind(&stat.type_).to_owned())),
                ("nlink", CallValue::Number(stat.link_count)),
                ("size", CallValue::Number(stat.size)),
            ];
            if let Some(at) = &stat.data_modification_timestamp {
                let at = format!("{}.{:09}", at.seconds, at.nanoseconds);
                fields.push(("mtim", CallValue::Word(at)));
            }
            CallValue::Record(fields)
        }

        pub(super) fn hash(hash: &$types::MetadataHashValue) -> CallValue {
            CallValue::Record(vec![
                ("lower", CallValue::Number(hash.lower)),
                ("upper", CallValue::Number(hash.upper)),
            ])
        }
    };
}
pub(super) use impl_names;
