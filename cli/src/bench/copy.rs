//! Copying a directory, as a host does that gives each guest its own.

use std::fs;
use std::io;
use std::path::Path;

/// Copies all below `from` into the new directory `to`: contents through the
/// kernel's own copy (reflinks where it has them), permission bits, symbolic
/// links as links. Times, owners and hard links are left out, as by `cp -r`.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    let mut todo = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = todo.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                fs::create_dir(&target)?;
                todo.push((entry.path(), target));
            } else if kind.is_symlink() {
                link(&fs::read_link(entry.path())?, &target)?;
            } else {
                fs::copy(entry.path(), &target)?;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn link(to: &Path, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(to, at)
}
