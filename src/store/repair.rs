//! Rebuilding a catalog that is lost or damaged.

use std::fs;
use std::path::Path;

use super::catalog::{COPY, Catalog, CatalogView, LOG, OLD, RecordKind};
use super::disk::{Disk, IMPORTS, INDEXES, LAYERS, PACKS};
use super::identity::{self, MARKER};
use super::log::{HEAD, Head, LogState};
use super::pack::file_name;
use super::record::{BlobRecord, ImageRecord, LayerRecord, TagRecord};
use super::sweep::{expect_remains, is_written_by_a_store};
use super::{Store, StoreError, digest_of, legacy, making};
use crate::digest::Digest;

/// The directory that takes what no record names any more.
const LOST: &str = "lost";

/// What a repair found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was wrong, a sentence each; none if nothing was, and nothing was
    /// done.
    pub found: Vec<String>,
    /// Where the records come from that the catalog has now.
    pub from: String,
    /// Tags that lead to an image.
    pub tags: u64,
    /// Images.
    pub images: u64,
    /// Layers.
    pub layers: u64,
    /// Packs.
    pub packs: u64,
    /// Blobs.
    pub blobs: u64,
    /// Changes of the catalog, the last ones, that could not be read back.
    pub lost_bytes: u64,
    /// Files that no record names any more: moved to the directory `lost`.
    pub moved: u64,
    /// Files that the records name and that are not there.
    pub missing: Vec<String>,
}

/// The records that were read back.
struct Rescued {
    state: LogState,
    from: String,
    lost_bytes: u64,
}

impl Store {
    /// Rebuilds the catalog of the store in `dir`, tags included: from the two
    /// files that hold it, change by change from the one that has it whole. What
    /// marks the store, and what else was lost of its own files, is made anew.
    /// No image, layer or pack is removed: if changes are lost, files that no
    /// record names are moved to the directory `lost`.
    ///
    /// Waits for all others that use the store. O(records).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoStore`], [`StoreError::NotAStore`],
    /// [`StoreError::Version`]; [`StoreError::NoCatalog`] if neither file says
    /// anything: then nothing is changed. Those of reading and writing.
    pub fn repair(dir: &Path) -> Result<RepairReport, StoreError> {
        let disk = Disk::new(dir, None, None);
        check_place(&disk)?;
        let imports = disk.open_lock(&disk.path(IMPORTS))?;
        let locked = imports.lock();
        locked.map_err(StoreError::io("lock", &disk.path(IMPORTS)))?;
        expect_remains(&disk)?;
        let found = wrong_with(&disk)?;
        let catalog = Catalog::new(&disk, false);
        let _lock = catalog.lock_exclusive()?;
        let rescued = rescue(&disk, &catalog)?;
        let mut report = RepairReport {
            found,
            from: rescued.from,
            lost_bytes: rescued.lost_bytes,
            ..RepairReport::default()
        };
        if !report.found.is_empty() {
            let mut state = rescued.state;
            let marked = identity::read_marker(&disk)?.and_then(Result::ok);
            state.head.id = marked.unwrap_or(state.head.id);
            making::make_dirs(&disk)?;
            let (_, bytes) = state.rewritten()?;
            catalog.put_both(&bytes)?;
            making::mark(&disk, state.head.id)?;
            making::put_guard(&disk)?;
            catalog.keep_reserve();
        }
        catalog.read_locked(|view| report.count(view, &disk))?;
        Ok(report)
    }
}

impl RepairReport {
    fn count(&mut self, view: &CatalogView<'_>, disk: &Disk) -> Result<(), StoreError> {
        let images = view.all::<ImageRecord>(RecordKind::Image)?;
        let layers = view.all::<LayerRecord>(RecordKind::Layer)?;
        let packs: Vec<Digest> = view.keys(RecordKind::Pack).filter_map(digest_of).collect();
        let tags = view.all::<TagRecord>(RecordKind::Tag)?;
        let known = |tag: &&(Vec<u8>, TagRecord)| {
            images.iter().any(|(key, _)| key == tag.1.image.as_bytes())
        };
        self.tags = tags.iter().filter(known).count() as u64;
        self.images = images.len() as u64;
        self.layers = layers.len() as u64;
        self.packs = packs.len() as u64;
        self.blobs = view.all::<BlobRecord>(RecordKind::Blob)?.len() as u64;
        let indexes = images.iter().map(|(_, image)| (INDEXES, image.index));
        let layers = layers.iter().map(|(_, layer)| (LAYERS, layer.file));
        let packs = packs.iter().map(|pack| (PACKS, *pack));
        let named: Vec<_> = indexes.chain(layers).chain(packs).collect();
        let names: std::collections::HashSet<_> = named
            .iter()
            .map(|(dir, digest)| disk.file_in(dir, &file_name(*digest)))
            .collect();
        let mut missing: Vec<_> = names.iter().filter(|path| !disk.is_file(path)).collect();
        missing.sort();
        self.missing = missing
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        if self.lost_bytes > 0 {
            for dir in [PACKS, INDEXES, LAYERS] {
                for (path, _) in disk.list(dir)? {
                    if !names.contains(&path) && is_written_by_a_store(disk, dir, &path) {
                        self.keep(disk, dir, &path)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves a file that nothing names out of the way of the next sweep.
    fn keep(&mut self, disk: &Disk, dir: &str, path: &Path) -> Result<(), StoreError> {
        let lost = disk.path(LOST).join(dir);
        disk.make_dir(&lost)?;
        if let Some(name) = path.file_name() {
            disk.rename(path, &lost.join(name))?;
            self.moved += 1;
        }
        disk.sync_dir_at(&lost)
    }
}

/// Refuses what was never a store.
fn check_place(disk: &Disk) -> Result<(), StoreError> {
    let root = disk.path("");
    match fs::metadata(&root) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Err(StoreError::not_a_store(&root, identity::NO_DIRECTORY)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // A link whose target is missing has an error of its own.
            identity::inspect(disk)?;
            return Err(StoreError::NoStore(root));
        }
        Err(error) => return Err(StoreError::io("inspect at", &root)(error)),
    }
    match identity::inspect(disk) {
        Ok(identity::DirState::Nothing) => Err(StoreError::NoStore(root)),
        Err(StoreError::NoCatalog { .. }) | Ok(_) => identity::check_dirs(disk),
        Err(error) => Err(error),
    }
}

/// Says what is wrong with the files that are not packs, indexes or layers.
fn wrong_with(disk: &Disk) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    match identity::inspect(disk) {
        Ok(identity::DirState::Begun(_)) => found.push("the store was not made to its end".into()),
        Ok(identity::DirState::Old) => {
            // Whole or not: it is written as this version does from here on.
            let whole = Catalog::new(disk, true).check();
            found.push(
                whole
                    .err()
                    .map_or("the store is of version 1".into(), |error| {
                        error.to_string()
                    }),
            );
        }
        Ok(_) => found.extend(
            Catalog::new(disk, false)
                .check()
                .err()
                .map(|error| error.to_string()),
        ),
        Err(error @ StoreError::NoCatalog { .. }) => found.push(error.to_string()),
        Err(error) => return Err(error),
    }
    let extra = [MARKER, LOG, COPY, OLD]
        .iter()
        .filter(|name| !disk.is_file(&disk.path(name)));
    let is_old = found.iter().any(|text| text.contains("version 1"));
    if !is_old {
        found.extend(extra.map(|name| format!("{} is missing", disk.path(name).display())));
    }
    Ok(found)
}

/// Reads back what there is of the records.
fn rescue(disk: &Disk, catalog: &Catalog) -> Result<Rescued, StoreError> {
    let old = disk.path(OLD);
    let marked = identity::read_marker(disk)?.is_some();
    if !marked && identity::begins_with(disk, &old, &legacy::MAGIC) {
        let mut state = LogState::new(Head {
            generation: 0,
            id: making::new_id(),
        });
        state.records = legacy::read(disk, &old)?;
        return Ok(Rescued {
            state,
            from: OLD.into(),
            lost_bytes: 0,
        });
    }
    let (log, copy) = (read(disk, LOG), read(disk, COPY));
    let heads = (Head::decode(&log).ok(), Head::decode(&copy).ok());
    let rescued = match heads {
        (Some(one), Some(other)) if one == other => Some(both(one, &log, &copy)),
        (Some(one), Some(other)) => {
            let (log, copy) = (alone(LOG, one, &log), alone(COPY, other, &copy));
            // Written anew, the copy first: of two whole ones they say the same.
            Some(match (log.lost_bytes, copy.lost_bytes) {
                (0, _) => log,
                (_, 0) => copy,
                _ if log.state.end >= copy.state.end => log,
                _ => copy,
            })
        }
        (Some(head), None) => Some(alone(LOG, head, &log)),
        (None, Some(head)) => Some(alone(COPY, head, &copy)),
        (None, None) => None,
    };
    match (rescued, identity::inspect(disk)) {
        (Some(rescued), _) => Ok(rescued),
        (None, Ok(identity::DirState::Begun(id))) => Ok(Rescued {
            state: LogState::new(Head { generation: 0, id }),
            from: "nothing: the store is empty".into(),
            lost_bytes: 0,
        }),
        (None, _) => Err(StoreError::NoCatalog {
            file: catalog.path().to_owned(),
            why: format!(
                "neither {LOG} nor {COPY} says which images there are. Nothing was changed or removed: take the store from a backup, or import the images into another"
            ),
        }),
    }
}

fn read(disk: &Disk, name: &str) -> Vec<u8> {
    disk.read(&disk.path(name)).unwrap_or_default()
}

fn alone(name: &str, head: Head, bytes: &[u8]) -> Rescued {
    let mut state = LogState::new(head);
    state.take_all(bytes.get(HEAD..).unwrap_or_default());
    let lost_bytes = (bytes.len() as u64).saturating_sub(state.end);
    Rescued {
        state,
        from: name.into(),
        lost_bytes,
    }
}

/// Takes each change from the file that has it whole.
fn both(head: Head, log: &[u8], copy: &[u8]) -> Rescued {
    let mut state = LogState::new(head);
    loop {
        let at = usize::try_from(state.end).unwrap_or(usize::MAX);
        let took = [log, copy].iter().any(|bytes| {
            let rest = bytes.get(at..).unwrap_or_default();
            state.take(rest).is_some()
        });
        if !took {
            break;
        }
    }
    let longest = log.len().max(copy.len()) as u64;
    let from = match (log.len() as u64, copy.len() as u64) {
        (log, copy) if log >= state.end && copy >= state.end => format!("{LOG} and {COPY}"),
        (log, _) if log < state.end => COPY.into(),
        _ => LOG.into(),
    };
    Rescued {
        lost_bytes: longest.saturating_sub(state.end),
        state,
        from,
    }
}
