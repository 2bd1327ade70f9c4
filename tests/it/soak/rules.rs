//! Where answers may differ, and why. docs/SEMANTICS.md, "Known differences",
//! has the same list in words.

use super::Call;

/// A difference that is meant.
pub struct Rule {
    /// The reason.
    pub why: &'static str,
    /// Whether it is good for this call.
    pub excuses: fn(&Call) -> bool,
    /// Whether the two trees and tables are the same afterwards even if a call
    /// succeeded. If not, nothing behind it in the episode can be compared.
    pub harmless: bool,
}

/// Those of preview1.
pub const P1: &[Rule] = &[
    Rule {
        why: "reading moves no atime",
        excuses: |call| {
            call.asked.contains("filestat_get")
                && without_atime(&call.ours) == without_atime(&call.theirs)
        },
        harmless: true,
    },
    Rule {
        why: "a read near the greatest offset is past the end, not invalid",
        excuses: |call| {
            ["fd_read ", "fd_pread "]
                .iter()
                .any(|name| call.asked.starts_with(name))
                && call.ours.starts_with("ok 0 bytes")
                && call.theirs == "EINVAL"
        },
        harmless: true,
    },
    Rule {
        why: "a file ends at 16 TiB less 4 KiB, as on ext4, with EFBIG",
        excuses: |call| {
            ["fd_write ", "fd_pwrite ", "fd_filestat_set_size "]
                .iter()
                .any(|name| call.asked.starts_with(name))
                && call.ours == "EFBIG"
        },
        harmless: false,
    },
    Rule {
        why: "every piece of a read or write is served, not the first one only",
        excuses: |call| {
            let pieces = ["fd_read ", "fd_pread ", "fd_write ", "fd_pwrite "];
            pieces.iter().any(|name| call.asked.starts_with(name)) && call.asked.contains(", 3, ")
        },
        harmless: false,
    },
    Rule {
        why: "a slash or dot at the end counts where no link is followed too",
        excuses: |call| {
            call.asked.starts_with("path_filestat_")
                && call.asked.contains(" follow 0")
                && ends_in_slash_or_dot(path(call))
        },
        harmless: false,
    },
    Rule {
        why: "a directory's descriptor can have its times set, as by futimens",
        excuses: |call| {
            call.asked.starts_with("fd_filestat_set_times")
                && call.ours == "ok "
                && call.theirs == "EBADF"
        },
        harmless: false,
    },
    Rule {
        why: "setting no time looks the name up all the same",
        excuses: |call| {
            call.asked.starts_with("path_filestat_set_times")
                && call.asked.ends_with(" flags 0")
                && call.theirs == "ok "
        },
        harmless: true,
    },
    Rule {
        why: "of two names at fault either may be told of",
        excuses: |call| {
            let two = ["path_rename ", "path_link "];
            two.iter().any(|name| call.asked.starts_with(name)) && both_refuse(call)
        },
        harmless: true,
    },
    Rule {
        why: "of a link's target and name at fault either may be told of",
        excuses: |call| {
            call.asked.starts_with("path_symlink ") && both_refuse(call) && {
                let target = second_path(call);
                target.is_empty() || target.starts_with('/') || target.contains("\\x")
            }
        },
        harmless: true,
    },
    Rule {
        why: "rmdir takes a slash after a directory",
        excuses: |call| {
            call.asked.starts_with("path_remove_directory ")
                && path(call).ends_with('/')
                && call.theirs == "EINVAL"
                && ["ok ", "ENOTEMPTY"].contains(&&*call.ours)
        },
        harmless: false,
    },
    Rule {
        why: "no link is followed before the slash of a name to make or remove",
        excuses: |call| {
            let calls = [
                "path_remove_directory ",
                "path_unlink_file ",
                "path_symlink ",
            ];
            calls.iter().any(|name| call.asked.starts_with(name))
                && path(call).ends_with('/')
                && call.ours == "ENOTDIR"
        },
        harmless: false,
    },
    Rule {
        why: "poll_oneoff tells of all that is ready, and of no bytes of a clock",
        excuses: |call| {
            let theirs = call.theirs.replace("(1, 0, 0, 1, 0)", "(1, 0, 0, 0, 0)");
            call.asked.starts_with("poll_oneoff ")
                && call.theirs.starts_with("ok [(")
                && events(&theirs).all(|event| events(&call.ours).any(|ours| ours == event))
        },
        harmless: true,
    },
    Rule {
        why: "poll_oneoff takes a file that is not for writing, as POSIX poll",
        excuses: |call| call.asked.starts_with("poll_oneoff ") && call.theirs == "EPERM",
        harmless: true,
    },
    Rule {
        why: "a directory can be synchronised, as by fsync",
        excuses: |call| {
            ["fd_sync ", "fd_datasync "]
                .iter()
                .any(|name| call.asked.starts_with(name))
                && call.ours == "ok "
                && call.theirs == "EBADF"
        },
        harmless: true,
    },
    Rule {
        why: "synchronous writes are taken: each is done when its call returns",
        excuses: |call| {
            let open = call.asked.starts_with("path_open ") && call.theirs == "ENOTSUP";
            let set = call.asked.starts_with("fd_fdstat_set_flags ")
                && call.theirs == "EINVAL"
                && call.ours == "ok ";
            open || set
        },
        harmless: false,
    },
    Rule {
        why: "proc_exit passes on every code",
        excuses: |call| {
            let code = call.ours.strip_prefix("exit ");
            call.theirs == "trap"
                && code.is_some_and(|code| code.parse::<u32>().is_ok_and(|code| code >= 126))
        },
        harmless: true,
    },
];

/// Those of 0.2.
pub const P2: &[Rule] = &[
    Rule {
        why: "synchronous writes are taken: each is done when its call returns",
        excuses: |call| {
            call.asked.starts_with("open ")
                && call.asked.contains("_SYNC")
                && call.theirs == "unsupported"
        },
        harmless: false,
    },
    Rule {
        why: "a stream that cannot be read is refused at once, not at its first read",
        excuses: |call| {
            call.asked.starts_with("read-stream ")
                && call.ours == "bad-descriptor"
                && call.theirs.ends_with(" bad-descriptor")
        },
        harmless: true,
    },
    Rule {
        why: "a read near the greatest offset is past the end, not invalid",
        excuses: |call| {
            let read = call.asked.starts_with("read ")
                && call.ours.starts_with("ok 0 ")
                && call.theirs == "invalid";
            // A stream of 0.3, to its end.
            let stream = call.asked.starts_with("read-stream ")
                && call.ours.starts_with("ok  0 ")
                && call.theirs.starts_with("invalid 0 ");
            read || stream
        },
        harmless: true,
    },
    Rule {
        why: "a name's length is looked at before its directory, also a removed one",
        excuses: |call| {
            call.ours.starts_with("name-too-long") && call.theirs.starts_with("no-entry")
        },
        harmless: true,
    },
    Rule {
        why: "reading moves no atime",
        excuses: |call| {
            call.asked.starts_with("stat")
                && without_atime(&call.ours) == without_atime(&call.theirs)
        },
        harmless: true,
    },
    Rule {
        why: "a stream read near the greatest offset is past the end, not invalid",
        excuses: |call| {
            call.asked.starts_with("read-stream ")
                && call.ours.starts_with("ok  0 ")
                && call.theirs.starts_with("invalid 0 ")
        },
        harmless: true,
    },
    Rule {
        why: "a file ends at 16 TiB less 4 KiB, as on ext4, with file-too-large",
        excuses: |call| {
            ["write ", "set-size ", "write-stream "]
                .iter()
                .any(|name| call.asked.starts_with(name))
                && call.ours == "file-too-large"
        },
        harmless: false,
    },
    Rule {
        why: "a slash or dot at the end counts where no link is followed too",
        excuses: |call| {
            ["stat-at ", "set-times-at ", "hash-at "]
                .iter()
                .any(|name| call.asked.starts_with(name))
                && call.asked.contains(" follow false")
                && ends_in_slash_or_dot(path(call))
        },
        harmless: false,
    },
    Rule {
        why: "a directory's descriptor can have its times set, as by futimens",
        excuses: |call| {
            call.asked.starts_with("set-times ")
                && call.ours == "ok "
                && call.theirs == "bad-descriptor"
        },
        harmless: false,
    },
    Rule {
        why: "setting no time looks the name up all the same",
        excuses: |call| {
            call.asked.starts_with("set-times-at ")
                && call.asked.ends_with("keep keep")
                && call.theirs == "ok "
        },
        harmless: true,
    },
    Rule {
        why: "of two names at fault either may be told of",
        excuses: |call| {
            let two = ["rename ", "link "];
            two.iter().any(|name| call.asked.starts_with(name)) && neither_ok(call)
        },
        harmless: true,
    },
    Rule {
        why: "of a link's target and name at fault either may be told of",
        excuses: |call| {
            call.asked.starts_with("symlink ") && neither_ok(call) && {
                let target = second_path(call);
                target.is_empty() || target.starts_with('/') || target.contains("\\x")
            }
        },
        harmless: true,
    },
    Rule {
        why: "rmdir takes a slash after a directory",
        excuses: |call| {
            call.asked.starts_with("rmdir ")
                && path(call).ends_with('/')
                && call.theirs == "invalid"
                && ["ok ", "not-empty"].contains(&&*call.ours)
        },
        harmless: false,
    },
    Rule {
        why: "no link is followed before the slash of a name to make or remove",
        excuses: |call| {
            let calls = ["rmdir ", "unlink ", "symlink "];
            calls.iter().any(|name| call.asked.starts_with(name))
                && path(call).ends_with('/')
                && call.ours == "not-directory"
        },
        harmless: false,
    },
];

fn neither_ok(call: &Call) -> bool {
    !call.ours.starts_with("ok") && !call.theirs.starts_with("ok")
}

fn both_refuse(call: &Call) -> bool {
    call.ours.starts_with('E') && call.theirs.starts_with('E')
}

/// The first path of a call, as the log shows it.
fn path(call: &Call) -> &str {
    call.asked.split('"').nth(1).unwrap_or("")
}

/// The second one.
fn second_path(call: &Call) -> &str {
    call.asked.split('"').nth(3).unwrap_or("")
}

fn ends_in_slash_or_dot(path: &str) -> bool {
    path.ends_with('/') || path.ends_with("/.")
}

/// The events of `poll_oneoff`, as the log shows them.
fn events(answer: &str) -> impl Iterator<Item = &str> {
    let list = answer.trim_start_matches("ok [").trim_end_matches(']');
    list.split_inclusive(')')
        .map(|event| event.trim_start_matches(", "))
}

/// A `stat` without its access time, which comes last.
fn without_atime(answer: &str) -> &str {
    answer.split_once(" atim ").map_or(answer, |(rest, _)| rest)
}
