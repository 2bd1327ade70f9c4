//! Removing what nothing names: only what a store wrote, by name and by its
//! first bytes, and only in a store whose catalog is whole.

use std::collections::HashSet;
use std::fs::TryLockError;
use std::path::Path;

use super::catalog::{CatalogView, RecordKind};
use super::disk::{Disk, IMPORTS, INDEXES, LAYERS, PACKS, TMP};
use super::identity;
use super::incoming::{self, INCOMING};
use super::lazy_pack::{self, LAZY};
use super::pack::file_name;
use super::record::{ImageRecord, LayerRecord};
use super::used::{self, USED};
use super::{Store, StoreError, log};

/// An empty file that says that nothing was left behind: made by a sweep, and removed by whoever
/// is about to write files that the catalog does not know yet.
pub(super) const SWEPT: &str = "swept";

/// How the files of a store begin, but for the texts.
const MAGICS: [&[u8]; 4] = [b"stratpak", b"stratidx", b"stratlay", &log::MAGIC];

/// Names that files of the store may have.
struct LiveFiles {
    packs: HashSet<String>,
    indexes: HashSet<String>,
    layers: HashSet<String>,
    images: HashSet<String>,
}

/// Says that something may be left behind from now on. The caller has the lock on imports, shared or
/// alone, and has written nothing yet.
pub(super) fn expect_remains(disk: &Disk) -> Result<(), StoreError> {
    let path = disk.path(SWEPT);
    if path.symlink_metadata().is_ok() {
        disk.remove(&path)?;
        // Or it would be back after a crash, beside what is left.
        disk.sync_dir("")?;
    }
    Ok(())
}

impl Store {
    /// Removes what imports left behind that did not end, unless one is running, or nothing was
    /// written since this was done last. O(1) then, and O(files and records) otherwise.
    pub(super) fn sweep_remains(&self) -> Result<(), StoreError> {
        let disk = &self.0.packs.disk;
        let is_swept = disk.is_file(&disk.path(SWEPT));
        // What changes the catalog alone may leave something here.
        if !is_swept || !disk.list(TMP)?.is_empty() {
            self.sweep()?;
        }
        Ok(())
    }

    /// Removes what imports left behind that did not end, unless one is
    /// running: returns whether none was.
    pub(super) fn sweep(&self) -> Result<bool, StoreError> {
        let disk = &self.0.packs.disk;
        let path = disk.path(IMPORTS);
        let file = disk.open_lock(&path)?;
        match file.try_lock() {
            Ok(()) => {
                self.remove_unreachable()?;
                // Where it cannot be made the next one who opens the store sweeps again.
                drop(disk.open_or_make(&disk.path(SWEPT)));
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
        }
    }

    /// Removes every file that a store wrote and the catalog does not know. The
    /// caller has the lock that keeps imports out.
    pub(super) fn remove_unreachable(&self) -> Result<u64, StoreError> {
        let disk = &self.0.packs.disk;
        identity::check_dirs(disk)?;
        let live = self.0.catalog.read(live)?;
        let mut freed = 0;
        for (dir, keep) in [
            (TMP, None),
            (INDEXES, Some(&live.indexes)),
            (LAYERS, Some(&live.layers)),
            (PACKS, Some(&live.packs)),
            (LAZY, Some(&live.packs)),
            (USED, Some(&live.images)),
        ] {
            if [LAZY, USED].contains(&dir) && !disk.path(dir).is_dir() {
                continue;
            }
            for (path, _) in disk.list(dir)? {
                let is_live = keep.is_some_and(|keep| is_in(keep, &path));
                if is_live || !is_written_by_a_store(disk, dir, &path) {
                    continue;
                }
                match disk.remove(&path) {
                    Ok(bytes) => freed += bytes,
                    // In use, on systems where that keeps a file.
                    Err(StoreError::Io { .. }) if cfg!(windows) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(freed)
    }
}

/// Returns whether a store wrote this file of one of its directories: a regular
/// file, by its name and its first bytes.
pub(super) fn is_written_by_a_store(disk: &Disk, dir: &str, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let meta = path.symlink_metadata();
    let Some((name, meta)) = name.zip(meta.ok()).filter(|(_, meta)| meta.is_file()) else {
        return false;
    };
    if dir == TMP {
        return is_tmp_name(name) && may_be_ours(disk, path, meta.len());
    }
    // Whoever made it may have been killed.
    if dir == USED && is_hex(name) && meta.len() == 0 {
        return true;
    }
    let magic: &[u8] = match dir {
        PACKS => b"stratpak",
        INDEXES => b"stratidx",
        INCOMING => &incoming::MAGIC,
        LAZY => &lazy_pack::MAGIC,
        USED => &used::MAGIC,
        _ => b"stratlay",
    };
    is_hex(name) && identity::begins_with(disk, path, magic)
}

/// Returns whether a name is a digest's.
fn is_hex(name: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    name.len() == 64 && name.bytes().all(hex)
}

/// Returns whether a name is one that a store gives to what is being written:
/// the process, the time, and a number.
fn is_tmp_name(name: &str) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number)
}

/// Returns whether a file that may not be written yet is one of a store: empty,
/// or it begins like one, or with the zeros that a power loss leaves.
fn may_be_ours(disk: &Disk, path: &Path, len: u64) -> bool {
    let mut first = [0; 8];
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(first.len());
    let Some(part) = first.get_mut(..len) else {
        return false;
    };
    let read = disk
        .open(path)
        .and_then(|file| disk.read_at(&file, path, 0, part));
    let begins = |magic: &&[u8]| magic.starts_with(part);
    let is_guard = identity::GUARD.as_bytes().starts_with(part);
    read.is_ok() && (MAGICS.iter().any(begins) || is_guard || part.iter().all(|byte| *byte == 0))
}

fn is_in(names: &HashSet<String>, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| names.contains(name))
}

fn live(view: &CatalogView<'_>) -> Result<LiveFiles, StoreError> {
    let names = view.keys(RecordKind::Pack).filter_map(super::digest_of);
    let images = view.all::<ImageRecord>(RecordKind::Image)?;
    let layers = view.all::<LayerRecord>(RecordKind::Layer)?;
    Ok(LiveFiles {
        packs: names.map(file_name).collect(),
        indexes: images
            .iter()
            .map(|(_, image)| file_name(image.index))
            .collect(),
        layers: layers
            .iter()
            .map(|(_, layer)| file_name(layer.file))
            .collect(),
        images: view
            .keys(RecordKind::Image)
            .filter_map(super::digest_of)
            .map(file_name)
            .collect(),
    })
}
