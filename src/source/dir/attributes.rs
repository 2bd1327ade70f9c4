//! Extended attributes of what is open.
//!
//! `security.selinux` is left out: it is the host's label, not the file's.
//! Those of symbolic links are not read: only the system sets any there.

use std::sync::Arc;

use cap_std::fs::{Dir, File};

use super::facts::Facts;
use super::overlayfs::{OverlayfsMarks, take_marks};
use crate::meta::{Meta, Xattrs};
use crate::source::SourceErrorKind;

pub(super) fn of_file(
    file: &File,
    facts: &Facts,
    buf: &mut [u8],
) -> Result<(Meta, OverlayfsMarks), SourceErrorKind> {
    with_marks(facts, read(file, buf)?)
}

pub(super) fn of_dir(
    dir: &Dir,
    facts: &Facts,
    buf: &mut [u8],
) -> Result<(Meta, OverlayfsMarks), SourceErrorKind> {
    with_marks(facts, read(dir, buf)?)
}

fn with_marks(
    facts: &Facts,
    mut xattrs: Xattrs,
) -> Result<(Meta, OverlayfsMarks), SourceErrorKind> {
    let marks = take_marks(&mut xattrs)?;
    let xattrs = (!xattrs.is_empty()).then(|| Arc::new(xattrs));
    Ok((
        Meta {
            xattrs,
            ..facts.meta()
        },
        marks,
    ))
}

/// Reads them with one call when there are none. `buf` holds the largest list
/// and value that Linux allows, 64 KiB each.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn read(object: &impl std::os::fd::AsFd, buf: &mut [u8]) -> Result<Xattrs, SourceErrorKind> {
    use rustix::io::Errno;
    let io = |error: Errno| SourceErrorKind::Io(error.into());
    let len = match rustix::fs::flistxattr(object, &mut *buf) {
        Ok(len) => len,
        Err(Errno::NOTSUP | Errno::NOSYS) => 0,
        Err(error) => return Err(io(error)),
    };
    if len == 0 {
        return Ok(Vec::new());
    }
    let names = buf.get(..len).unwrap_or_default().to_vec();
    let mut xattrs = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if name == b"security.selinux" {
            continue;
        }
        match rustix::fs::fgetxattr(object, name, &mut *buf) {
            Ok(len) => {
                let value = buf.get(..len).unwrap_or_default();
                xattrs.push((name.into(), value.into()));
            }
            Err(Errno::NODATA) => {
                return Err(SourceErrorKind::Changed("an extended attribute is gone"));
            }
            Err(error) => return Err(io(error)),
        }
    }
    Ok(xattrs)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn read<T>(_: &T, _: &mut [u8]) -> Result<Xattrs, SourceErrorKind> {
    Ok(Vec::new())
}
