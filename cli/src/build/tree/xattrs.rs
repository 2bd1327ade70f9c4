//! Extended attributes of the context: those that belong to a file wherever it is.

use std::sync::Arc;

use stratafs::meta::Xattrs;

/// What the names begin with that anybody may set.
#[cfg(target_os = "linux")]
const OF_USERS: &[u8] = b"user.";

/// Capabilities of a program.
#[cfg(target_os = "linux")]
const CAPABILITY: &[u8] = b"security.capability";

/// Bytes of the longest list of names and of the longest value that Linux has.
#[cfg(target_os = "linux")]
const MOST: usize = 64 * 1024;

/// Reads those of a file or directory that is open. Labels of the host and access lists, which
/// name its users, are left out; so is everything where a file system has none.
#[cfg(target_os = "linux")]
pub(super) fn read(object: impl std::os::fd::AsFd) -> std::io::Result<Option<Arc<Xattrs>>> {
    use rustix::fs::{fgetxattr, flistxattr, flistxattr_query};
    use rustix::io::Errno;
    let none = |error: Errno| match error {
        Errno::NOTSUP | Errno::NOSYS | Errno::NODATA => Ok(0),
        error => Err(error),
    };
    // Most files have none.
    if flistxattr_query(&object).or_else(none)? == 0 {
        return Ok(None);
    }
    let mut buf = vec![0; MOST];
    let len = flistxattr(&object, buf.as_mut_slice()).or_else(none)?;
    let names = buf.get(..len).unwrap_or_default().to_vec();
    let mut found: Xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.starts_with(OF_USERS) || name == CAPABILITY {
            let len = match fgetxattr(&object, name, buf.as_mut_slice()) {
                Ok(len) => len,
                Err(Errno::NODATA) => continue,
                Err(error) => return Err(error.into()),
            };
            let value = buf.get(..len).unwrap_or_default();
            found.push((name.into(), value.into()));
        }
    }
    found.sort();
    Ok((!found.is_empty()).then(|| Arc::new(found)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read<T>(_: T) -> std::io::Result<Option<Arc<Xattrs>>> {
    Ok(None)
}
