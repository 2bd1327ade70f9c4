//! Making a store where there is none, and marking one of version 1.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use super::catalog::{Catalog, OLD};
use super::disk::Disk;
use super::identity::{self, DIRS, DirState, GUARD, MARKER, NEW_MARKER};
use super::log::{Head, LogState, StoreId};
use super::{StoreError, legacy};

/// Makes a store, or ends what another process began. Durable once this
/// returns, with the names of all directories that had to be made.
pub(super) fn make(disk: &Disk, catalog: &Catalog) -> Result<(), StoreError> {
    make_root(disk)?;
    let _lock = catalog.lock_exclusive()?;
    let id = match identity::inspect(disk)? {
        DirState::Nothing => mark(disk, new_id())?,
        DirState::Begun(id) => id,
        DirState::Old | DirState::Marked(_) => return Ok(()),
    };
    make_dirs(disk)?;
    put_guard(disk)?;
    catalog.put_both(&Head { generation: 1, id }.encode())?;
    catalog.keep_reserve();
    Ok(())
}

/// Marks a store of version 1, and writes its catalog as this version does.
/// Until the marker is there, what version 1 wrote counts.
pub(super) fn upgrade(disk: &Disk, catalog: &Catalog) -> Result<(), StoreError> {
    let _lock = catalog.lock_exclusive()?;
    if identity::inspect(disk)? != DirState::Old {
        return Ok(());
    }
    let id = new_id();
    let mut state = LogState::new(Head { generation: 0, id });
    state.records = legacy::read(disk, &disk.path(OLD))?;
    let (_, bytes) = state.rewritten()?;
    make_dirs(disk)?;
    catalog.put_both(&bytes)?;
    mark(disk, id)?;
    put_guard(disk)?;
    catalog.keep_reserve();
    Ok(())
}

/// Ends what a process began that was killed while it marked the store.
pub(super) fn tidy(disk: &Disk, catalog: &Catalog) -> Result<(), StoreError> {
    make_dirs(disk)?;
    if !identity::begins_with(disk, &disk.path(OLD), GUARD.as_bytes()) {
        let _lock = catalog.lock_exclusive()?;
        put_guard(disk)?;
    }
    catalog.keep_reserve();
    Ok(())
}

/// Makes the directory and those above it, and their names durable.
fn make_root(disk: &Disk) -> Result<(), StoreError> {
    let root =
        std::path::absolute(disk.path("")).map_err(StoreError::io("find", &disk.path("")))?;
    let missing: Vec<&Path> = root
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && fs::metadata(path).is_err())
        .collect();
    for path in missing.iter().rev() {
        disk.make_dir(path)?;
    }
    for path in missing.iter().rev() {
        path.parent()
            .map_or(Ok(()), |above| disk.sync_dir_at(above))?;
    }
    if missing.is_empty() {
        // Whoever made it may not have made its name durable. Where this may
        // not be asked for, it was not made by us.
        drop(root.parent().map(|above| disk.sync_dir_at(above)));
    }
    Ok(())
}

pub(super) fn make_dirs(disk: &Disk) -> Result<(), StoreError> {
    identity::check_dirs(disk)?;
    let missing: Vec<PathBuf> = DIRS.iter().map(|name| disk.path(name)).collect();
    let mut made = false;
    for path in missing.iter().filter(|path| !path.is_dir()) {
        disk.make_dir(path)?;
        made = true;
    }
    match made {
        true => disk.sync_dir(""),
        false => Ok(()),
    }
}

/// Writes the marker: whole, or not there.
pub(super) fn mark(disk: &Disk, id: StoreId) -> Result<StoreId, StoreError> {
    let (new, path) = (disk.path(NEW_MARKER), disk.path(MARKER));
    let text = identity::marker(id);
    let file = disk.open_or_make(&new)?;
    disk.set_len(&file, &new, 0)?;
    disk.write_at(&file, &new, 0, text.as_bytes())?;
    disk.sync(&file, &new)?;
    drop(file);
    disk.rename(&new, &path)?;
    disk.sync_dir("")?;
    Ok(id)
}

/// Puts in the place of the old catalog what an old program refuses.
pub(super) fn put_guard(disk: &Disk) -> Result<(), StoreError> {
    if !identity::begins_with(disk, &disk.path(OLD), GUARD.as_bytes()) {
        disk.put("", OLD, GUARD.as_bytes())?;
        disk.sync_dir("")?;
    }
    Ok(())
}

/// Draws an identity.
pub(super) fn new_id() -> StoreId {
    let mut id = [0; 16];
    for half in id.chunks_mut(8) {
        // Each is keyed with random bytes of the system.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        hasher.write_u128(
            std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |now| now.as_nanos()),
        );
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    StoreId(id)
}
