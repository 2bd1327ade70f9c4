//! Files that nobody else can have written.
//!
//! Whoever can write compiled code that a process loads is that process. So
//! the directory of a cache, what is in it, and the directories above it are
//! held against the rules that OpenSSH has for its keys.
//!
//! Where files have no owners and modes of this kind (not on Unix), a cache lies
//! in the user's profile, whose rights the system gives.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::path::Path;

/// Makes a directory, and those above it, for nobody else.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

/// Checks that a directory is this user's, that nobody else may write to it,
/// and that nobody else could put another in its place.
///
/// # Errors
///
/// What is wrong, and with which directory, in words for the user.
pub(super) fn check_home(home: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(home).map_err(|error| error.to_string())?;
    if !meta.is_dir() {
        return Err("is not a directory".to_owned());
    }
    check_own(&meta)?;
    for dir in home.ancestors().skip(1) {
        let meta = fs::metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        check_above(&meta).map_err(|why| format!("{} above it {why}", dir.display()))?;
    }
    Ok(())
}

/// Checks everything below a directory: regular files and directories of this
/// user, which nobody else may write to. Returns the sum of the files' bytes.
///
/// # Errors
///
/// What is wrong, and with which file.
pub(super) fn check_tree(dir: &Path) -> Result<u64, String> {
    let mut bytes = 0_u64;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let named = |error: io::Error| format!("{}: {error}", dir.display());
        let meta = fs::symlink_metadata(&dir).map_err(named)?;
        check_own(&meta).map_err(|why| format!("{} {why}", dir.display()))?;
        for entry in fs::read_dir(&dir).map_err(named)? {
            let path = entry.map_err(named)?.path();
            let meta = fs::symlink_metadata(&path).map_err(named)?;
            if meta.is_dir() {
                open.push(path);
                continue;
            }
            let own = match meta.is_file() {
                true => check_own(&meta),
                false => Err("is not a regular file".to_owned()),
            };
            own.map_err(|why| format!("{} {why}", path.display()))?;
            bytes = bytes.saturating_add(meta.len());
        }
    }
    Ok(bytes)
}

/// Checks that a file or directory is this user's and that nobody else may
/// write to it.
#[cfg(unix)]
fn check_own(meta: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    if meta.uid() != own {
        return Err(format!("belongs to user {}, not to {own}", meta.uid()));
    }
    match meta.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(format!(
            "may be written by others (mode {:o}): take that right away with `chmod go-w`",
            meta.mode() & 0o7777
        )),
    }
}

/// Checks a directory above one of this user's: nobody but root and the user
/// may take out of it what is not theirs.
#[cfg(unix)]
fn check_above(meta: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let own = rustix::process::geteuid().as_raw();
    if ![0, own].contains(&meta.uid()) {
        return Err(format!(
            "belongs to user {}, not to root or {own}",
            meta.uid()
        ));
    }
    // In one that is sticky, each may take out what is his own only. A group
    // that the user is alone in is the usual one, and is the process's.
    let sticky = meta.mode() & 0o1000 != 0;
    let group = meta.mode() & 0o020 != 0 && meta.gid() != rustix::process::getegid().as_raw();
    match !sticky && (group || meta.mode() & 0o002 != 0) {
        false => Ok(()),
        true => Err(format!(
            "may be written by others (mode {:o})",
            meta.mode() & 0o7777
        )),
    }
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there is nothing to check")]
fn check_own(_: &Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "there is nothing to check")]
fn check_above(_: &Metadata) -> Result<(), String> {
    Ok(())
}
