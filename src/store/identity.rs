//! What a directory is: a store, because it says so, or something else that is
//! not touched.

use std::fs;
use std::io;
use std::path::Path;

use super::catalog::{COPY, LOCK, LOG, OLD};
use super::disk::{Disk, IMPORTS, INDEXES, LAYERS, PACKS, TMP};
use super::incoming::INCOMING;
use super::lazy_pack::LAZY;
use super::log::{self, StoreId};
use super::used::USED;
use super::{StoreError, legacy};

/// The file that makes a directory a store.
pub(super) const MARKER: &str = "stratafs-store";

/// The marker while it is written.
pub(super) const NEW_MARKER: &str = "stratafs-store.new";

/// The version that is written.
pub(super) const STORE_VERSION: u32 = 2;

/// Bytes that no marker has.
const MAX_MARKER: u64 = 4096;

/// The directories of a store.
pub(super) const DIRS: [&str; 4] = [PACKS, INDEXES, LAYERS, TMP];

/// What stands in the place of the catalog of version 1.
pub(super) const GUARD: &str = "\
This store has format version 2: see stratafs-store and catalog.log. This file keeps programs that know only
version 1 from taking the directory for a store of theirs whose catalog is empty. Do not remove it.
";

/// What the directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirState {
    /// Nothing is there, or an empty directory.
    Nothing,
    /// A store that was being made, and holds nothing yet.
    Begun(StoreId),
    /// A store of version 1.
    Old,
    /// A store.
    Marked(StoreId),
}

/// What is in a store's place if it is no directory.
pub(super) const NO_DIRECTORY: &str = "it is a file, and a store is a directory";

/// The same for a link whose target is missing.
const NOWHERE: &str = "it is a symbolic link that leads nowhere";

/// Writes a marker.
pub(super) fn marker(id: StoreId) -> String {
    format!("stratafs store\nversion {STORE_VERSION}\nid {id}\n")
}

/// Looks at the directory. Changes nothing.
pub(super) fn inspect(disk: &Disk) -> Result<DirState, StoreError> {
    let root = disk.path("");
    match fs::metadata(&root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(StoreError::not_a_store(&root, NO_DIRECTORY)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match is_link(&root) {
                true => Err(StoreError::not_a_store(&root, NOWHERE)),
                false => Ok(DirState::Nothing),
            };
        }
        Err(error) => return Err(StoreError::io("inspect at", &root)(error)),
    }
    match read_marker(disk)? {
        Some(Ok(id)) => marked(disk, id),
        Some(Err(())) if has_log(disk) => Err(StoreError::no_catalog(
            &disk.path(MARKER),
            "what marks the store is damaged",
        )),
        Some(Err(())) => Err(StoreError::not_a_store(
            &root,
            format!("the file {MARKER} in it was not written by stratafs"),
        )),
        None => unmarked(disk),
    }
}

fn marked(disk: &Disk, id: StoreId) -> Result<DirState, StoreError> {
    check_dirs(disk)?;
    if !exists(&disk.path(LOG)) {
        let copy = disk.path(COPY).symlink_metadata().map(|meta| meta.len());
        let unused = copy.map_or(true, |len| len <= log::HEAD as u64);
        if unused && holds_nothing(disk)? {
            return Ok(DirState::Begun(id));
        }
        return Err(StoreError::no_catalog(&disk.path(LOG), "it is missing"));
    }
    if !exists(&disk.path(OLD)) {
        let what = "the file that keeps programs of version 1 from emptying the store is missing";
        return Err(StoreError::no_catalog(&disk.path(OLD), what));
    }
    Ok(DirState::Marked(id))
}

fn unmarked(disk: &Disk) -> Result<DirState, StoreError> {
    let root = disk.path("");
    let stored = [PACKS, INDEXES, LAYERS];
    let old = disk.path(OLD);
    let like_old = stored.iter().all(|name| is_dir(&disk.path(name))) && is_file(&old);
    if like_old && begins_with(disk, &old, &legacy::MAGIC) {
        check_dirs(disk)?;
        return Ok(DirState::Old);
    }
    if has_log(disk) {
        let what = "what marks the store is missing";
        return Err(StoreError::no_catalog(&disk.path(MARKER), what));
    }
    if has_stored(disk)? {
        let what = if like_old {
            "it is damaged"
        } else {
            "it is missing"
        };
        return Err(StoreError::no_catalog(&old, what));
    }
    match foreign(disk)? {
        None => Ok(DirState::Nothing),
        Some(name) => Err(StoreError::not_a_store(
            &root,
            format!("nothing marks it as one, and it has other files in it: {name}"),
        )),
    }
}

/// Refuses anything but a directory in the place of one of the store's.
pub(super) fn check_dirs(disk: &Disk) -> Result<(), StoreError> {
    for name in DIRS.into_iter().chain([INCOMING, LAZY, USED]) {
        let path = disk.path(name);
        if exists(&path) && !is_dir(&path) {
            let what = "a directory of the store belongs here, and not a link or a file";
            return Err(StoreError::not_a_store(&path, what));
        }
    }
    Ok(())
}

/// Reads the marker. `Err` if it was not written by a store.
pub(super) fn read_marker(disk: &Disk) -> Result<Option<Result<StoreId, ()>>, StoreError> {
    let path = disk.path(MARKER);
    if !exists(&path) {
        return Ok(None);
    }
    let file = disk.open(&path)?;
    if disk.len(&file, &path)? > MAX_MARKER {
        return Ok(Some(Err(())));
    }
    let text = String::from_utf8(disk.read(&path)?).unwrap_or_default();
    let mut lines = text.lines();
    let first = lines.next() == Some("stratafs store");
    let version = lines.next().and_then(|line| line.strip_prefix("version "));
    let version: Option<u32> = version.and_then(|text| text.parse().ok());
    match version {
        Some(found) if first && found > STORE_VERSION => Err(StoreError::Version {
            file: path,
            found,
            supported: STORE_VERSION,
        }),
        Some(STORE_VERSION) if first => {
            let id = lines.next().and_then(|line| line.strip_prefix("id "));
            let id = id.and_then(parse_id);
            let whole = id.filter(|id| text == marker(*id));
            Ok(Some(whole.ok_or(())))
        }
        _ => Ok(Some(Err(()))),
    }
}

fn parse_id(text: &str) -> Option<StoreId> {
    let mut id = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        let digits = text.get(at * 2..at * 2 + 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(StoreId(id))
}

/// Returns whether one of the two logs is there.
fn has_log(disk: &Disk) -> bool {
    let mut both = [LOG, COPY].iter();
    both.any(|name| begins_with(disk, &disk.path(name), &log::MAGIC))
}

/// Returns whether the directories have nothing in them.
fn holds_nothing(disk: &Disk) -> Result<bool, StoreError> {
    for name in [PACKS, INDEXES, LAYERS] {
        if is_dir(&disk.path(name)) && !disk.list(name)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether the directories have what only a store writes.
pub(super) fn has_stored(disk: &Disk) -> Result<bool, StoreError> {
    for name in [PACKS, INDEXES, LAYERS] {
        if !is_dir(&disk.path(name)) {
            continue;
        }
        for (path, _) in disk.list(name)? {
            if super::sweep::is_written_by_a_store(disk, name, &path) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Names a file that does not belong to a store in the making.
fn foreign(disk: &Disk) -> Result<Option<String>, StoreError> {
    let names = disk.list("")?;
    let names = names.iter().filter_map(|(path, len)| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let is_own = match name.as_str() {
            LOCK | IMPORTS => *len == 0,
            // A program of version 1 began with these.
            PACKS | INDEXES | LAYERS | TMP => {
                is_dir(path) && disk.list(&name).is_ok_and(|files| files.is_empty())
            }
            NEW_MARKER => *len <= MAX_MARKER && is_beginning(disk, path),
            _ => false,
        };
        (!is_own).then_some(name)
    });
    Ok(names.min())
}

/// Returns whether the file is a marker that was not written to its end.
fn is_beginning(disk: &Disk, path: &Path) -> bool {
    let have = disk.read(path).unwrap_or_else(|_| b"?".to_vec());
    let whole = marker(StoreId([0; 16]));
    let fixed = whole.len() - 33;
    let len = have.len().min(fixed);
    have.len() <= whole.len() && have.get(..len) == whole.as_bytes().get(..len)
}

/// Returns whether a regular file begins with `magic`.
pub(super) fn begins_with(disk: &Disk, path: &Path, magic: &[u8]) -> bool {
    let mut first = vec![0; magic.len()];
    is_file(path)
        && disk
            .open(path)
            .and_then(|file| disk.read_at(&file, path, 0, &mut first))
            .is_ok_and(|()| first == magic)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_file())
}

fn is_dir(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}
