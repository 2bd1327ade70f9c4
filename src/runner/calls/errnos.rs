//! Names of errors, alike for every version of WASI.

use super::CallResult;
use crate::errno::Errno;

/// preview1's, by number.
const NAMES: [&str; 77] = [
    "ESUCCESS",
    "E2BIG",
    "EACCES",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "EAFNOSUPPORT",
    "EAGAIN",
    "EALREADY",
    "EBADF",
    "EBADMSG",
    "EBUSY",
    "ECANCELED",
    "ECHILD",
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EDEADLK",
    "EDESTADDRREQ",
    "EDOM",
    "EDQUOT",
    "EEXIST",
    "EFAULT",
    "EFBIG",
    "EHOSTUNREACH",
    "EIDRM",
    "EILSEQ",
    "EINPROGRESS",
    "EINTR",
    "EINVAL",
    "EIO",
    "EISCONN",
    "EISDIR",
    "ELOOP",
    "EMFILE",
    "EMLINK",
    "EMSGSIZE",
    "EMULTIHOP",
    "ENAMETOOLONG",
    "ENETDOWN",
    "ENETRESET",
    "ENETUNREACH",
    "ENFILE",
    "ENOBUFS",
    "ENODEV",
    "ENOENT",
    "ENOEXEC",
    "ENOLCK",
    "ENOLINK",
    "ENOMEM",
    "ENOMSG",
    "ENOPROTOOPT",
    "ENOSPC",
    "ENOSYS",
    "ENOTCONN",
    "ENOTDIR",
    "ENOTEMPTY",
    "ENOTRECOVERABLE",
    "ENOTSOCK",
    "ENOTSUP",
    "ENOTTY",
    "ENXIO",
    "EOVERFLOW",
    "EOWNERDEAD",
    "EPERM",
    "EPIPE",
    "EPROTO",
    "EPROTONOSUPPORT",
    "EPROTOTYPE",
    "ERANGE",
    "EROFS",
    "ESPIPE",
    "ESRCH",
    "ESTALE",
    "ETIMEDOUT",
    "ETXTBSY",
    "EXDEV",
    "ENOTCAPABLE",
];

/// What a call of preview0 or preview1 came to that gave this number.
pub(super) fn of_number(number: i32) -> CallResult {
    let name = usize::try_from(number).ok().and_then(|at| NAMES.get(at));
    named(name.copied().unwrap_or("EUNKNOWN"))
}

/// A call that failed in our own words.
pub(super) fn of_errno(errno: Errno) -> CallResult {
    named(match errno {
        Errno::BadDescriptor => "EBADF",
        Errno::Busy => "EBUSY",
        Errno::CrossDevice => "EXDEV",
        Errno::Exist => "EEXIST",
        Errno::FileTooLarge => "EFBIG",
        Errno::IllegalByteSequence => "EILSEQ",
        Errno::Invalid => "EINVAL",
        Errno::Io => "EIO",
        Errno::IsDirectory => "EISDIR",
        Errno::Loop => "ELOOP",
        Errno::NameTooLong => "ENAMETOOLONG",
        Errno::NoEntry => "ENOENT",
        Errno::NoSpace => "ENOSPC",
        Errno::NotDirectory => "ENOTDIR",
        Errno::NotEmpty => "ENOTEMPTY",
        Errno::NotPermitted => "EPERM",
        Errno::Overflow => "EOVERFLOW",
        Errno::ReadOnly => "EROFS",
        Errno::TooManyLinks => "EMLINK",
        Errno::TooManyOpen => "EMFILE",
        Errno::Unsupported => "ENOTSUP",
    })
}

/// A call that failed with an error of this name.
pub(super) fn named(errno: &'static str) -> CallResult {
    let message = match errno {
        "EACCES" => "permission denied",
        "EAGAIN" => "resource unavailable, try again",
        "EBADF" => "bad file descriptor",
        "EBUSY" => "device or resource busy",
        "EDQUOT" => "disk quota exceeded",
        "EEXIST" => "file exists",
        "EFBIG" => "file too large",
        "EILSEQ" => "invalid or incomplete multibyte character",
        "EINVAL" => "invalid argument",
        "EIO" => "input/output error",
        "EISDIR" => "is a directory",
        "ELOOP" => "too many levels of symbolic links",
        "EMFILE" => "too many open files",
        "EMLINK" => "too many links",
        "ENAMETOOLONG" => "file name too long",
        "ENOENT" => "no such file or directory",
        "ENOMEM" => "out of memory",
        "ENOSPC" => "no space left on device",
        "ENOTCAPABLE" => "capabilities insufficient",
        "ENOTDIR" => "not a directory",
        "ENOTEMPTY" => "directory not empty",
        "ENOTSUP" => "operation not supported",
        "ENOTTY" => "inappropriate ioctl for device",
        "EOVERFLOW" => "value too large",
        "EPERM" => "operation not permitted",
        "EPIPE" => "broken pipe",
        "EROFS" => "read-only file system",
        "ESPIPE" => "illegal seek",
        "ETXTBSY" => "text file busy",
        "EXDEV" => "cross-device link",
        _ => "no description",
    };
    CallResult::Failed { errno, message }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::p1::types;

    use super::*;

    #[test]
    fn numbers_are_those_of_preview1() {
        for (errno, name) in [
            (types::Errno::Acces, "EACCES"),
            (types::Errno::Badf, "EBADF"),
            (types::Errno::Exist, "EEXIST"),
            (types::Errno::Ilseq, "EILSEQ"),
            (types::Errno::Mfile, "EMFILE"),
            (types::Errno::Noent, "ENOENT"),
            (types::Errno::Nospc, "ENOSPC"),
            (types::Errno::Notempty, "ENOTEMPTY"),
            (types::Errno::Perm, "EPERM"),
            (types::Errno::Rofs, "EROFS"),
            (types::Errno::Xdev, "EXDEV"),
            (types::Errno::Notcapable, "ENOTCAPABLE"),
        ] {
            assert_eq!(of_number(errno as i32), named(name));
        }
        assert_eq!(of_number(-1), named("EUNKNOWN"));
        assert_eq!(of_number(77), named("EUNKNOWN"));
    }
}
