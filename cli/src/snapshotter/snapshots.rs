//! What containerd asks of a snapshotter, call by call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tonic::Status;

use super::dirs::Dirs;
use super::filter::Filter;
use super::metadata::Metadata;
use super::proto::{Info, Mount};
use super::record::{
    Body, Moment, SnapshotKind, SnapshotRecord, TARGET_LABEL, check_key, checked_labels,
};
use super::stored::{PullSettings, StoredImages, WantedLayer, internal, report_left};
use super::users::{self, UserFiles};
use crate::failure::{Failure, say};
use crate::limits::MAX_SNAPSHOT_DEPTH;

/// What keys of snapshots begin with that containerd unpacks layers into.
const UNPACKED: &str = "extract-";

/// All snapshots.
pub(super) struct Snapshots {
    dirs: Dirs,
    stored: Arc<StoredImages>,
    metadata: Mutex<Metadata>,
}

/// A snapshot that is to be made.
struct NewSnapshot {
    key: String,
    parent: String,
    kind: SnapshotKind,
    labels: BTreeMap<String, String>,
}

/// What a snapshot begins with: directories, the topmost first, over an image.
#[derive(Default)]
struct SnapshotParents<'s> {
    dirs: Vec<&'s SnapshotRecord>,
    /// The image, and how many of its layers.
    image: Option<(String, usize)>,
}

impl Snapshots {
    /// Opens what is in `root`, and removes what a killed process left there.
    pub(super) fn open(
        root: &Path,
        store: Option<&Path>,
        terms: PullSettings,
    ) -> Result<Self, Failure> {
        let dirs = Dirs::open(root)?;
        let metadata = Metadata::open(&dirs.metadata())?;
        let stored = StoredImages::open(store, terms, metadata.identity())?;
        // What mounts cannot name is told now, and not of each container.
        text(&dirs.empty())?;
        text(stored.dir())?;
        stored.release_others(&metadata.images())?;
        let stored = Arc::new(stored);
        stored.resume(&metadata.images());
        let snapshots = Self {
            dirs,
            stored,
            metadata: Mutex::new(metadata),
        };
        snapshots.sweep()?;
        Ok(snapshots)
    }

    /// Makes a snapshot to write to or to look at. A layer of an image that can be had by itself is
    /// there already when this returns, as [`Status::already_exists`] says.
    pub(super) fn prepare(
        &self,
        (key, parent): (String, String),
        kind: SnapshotKind,
        labels: HashMap<String, String>,
    ) -> Result<Vec<Mount>, Status> {
        check_key("key", &key)?;
        if !parent.is_empty() {
            check_key("parent", &parent)?;
        }
        let labels = checked_labels(labels)?;
        let new = NewSnapshot {
            key,
            parent,
            kind,
            labels,
        };
        if is_unpacked(&new) {
            let target = new.labels.get(TARGET_LABEL).cloned();
            let chain = target.as_deref().unwrap_or(&new.key);
            let wanted = WantedLayer::of(chain, &new.labels);
            self.stored.admit(chain, wanted.as_ref())?;
            if let Some(target) = &target {
                self.take_layer((target, wanted), &new)?;
            }
        }
        self.make(new)
    }

    /// Takes a layer into the store in place of having it unpacked, where that can be done.
    fn take_layer(
        &self,
        (target, wanted): (&str, Option<Result<WantedLayer, Failure>>),
        new: &NewSnapshot,
    ) -> Result<(), Status> {
        let there = || Status::already_exists(format!("target snapshot {target:?}"));
        {
            let metadata = self.metadata.lock();
            check_new(&metadata, new)?;
            if has_layer(&metadata, target, &new.parent) {
                return Err(there());
            }
        }
        let Some(wanted) = wanted else {
            return Ok(());
        };
        let brought = wanted.and_then(|wanted| self.stored.bring(&wanted));
        let taken = brought.and_then(|body| {
            let mut metadata = self.metadata.lock();
            check_new(&metadata, new)?;
            if has_layer(&metadata, target, &new.parent) {
                return Ok(());
            }
            self.hold(&metadata, &body)?;
            let number = metadata.take_number();
            let name = match metadata.get(target) {
                Ok(_) => format!("{target}@{number}"),
                Err(_) => target.to_owned(),
            };
            let created = Moment::now();
            let record = SnapshotRecord {
                number,
                kind: SnapshotKind::Committed,
                parent: new.parent.clone(),
                labels: new.labels.clone(),
                created,
                updated: created,
                body,
                usage: (0, 0),
            };
            metadata.change(vec![(name, Some(record))])?;
            Ok(())
        });
        match taken {
            Ok(()) => Err(there()),
            Err(failure) => {
                report_left(target, &failure);
                Ok(())
            }
        }
    }

    /// Has the store keep the image of a snapshot that is made now; one that others need is kept.
    fn hold(&self, metadata: &Metadata, body: &Body) -> Result<(), Failure> {
        match body.image() {
            Some(image) if !metadata.images().contains(image) => self.stored.hold(image),
            _ => Ok(()),
        }
    }

    fn make(&self, new: NewSnapshot) -> Result<Vec<Mount>, Status> {
        let (image, lower) = {
            let metadata = self.metadata.lock();
            check_new(&metadata, &new)?;
            let below = below(&metadata, &new.parent)?;
            let lower = below.dirs.iter().map(|dir| self.dirs.files(dir.number));
            (below.image, lower.collect::<Vec<_>>())
        };
        let mut files = UserFiles::new();
        let body = match image {
            Some((image, layers)) if !is_unpacked(&new) => {
                let image = self.stored.image_of(&image, layers);
                let image = image.map_err(|failure| internal(&failure))?;
                files = users::find(&lower, |path| self.stored.users_of(&image, path));
                Body::Over { image }
            }
            _ => Body::Dir,
        };
        let mut metadata = self.metadata.lock();
        check_new(&metadata, &new)?;
        let held = self.hold(&metadata, &body);
        held.map_err(|failure| internal(&failure))?;
        let number = metadata.take_number();
        self.dirs.make(number)?;
        self.dirs.show_users(number, &files)?;
        let created = Moment::now();
        let record = SnapshotRecord {
            number,
            kind: new.kind,
            parent: new.parent,
            labels: new.labels,
            created,
            updated: created,
            body,
            usage: (0, 0),
        };
        let mounts = self.mounts_of(&metadata, &record)?;
        metadata.change(vec![(new.key, Some(record))])?;
        Ok(mounts)
    }

    /// Says what is to be mounted of a snapshot that was prepared.
    pub(super) fn mounts(&self, key: &str) -> Result<Vec<Mount>, Status> {
        let metadata = self.metadata.lock();
        let record = metadata.get(key)?;
        if record.kind == SnapshotKind::Committed {
            let text = format!("snapshot {key:?}: it is committed: prepare one over it");
            return Err(Status::failed_precondition(text));
        }
        self.mounts_of(&metadata, record)
    }

    fn mounts_of(
        &self,
        metadata: &Metadata,
        record: &SnapshotRecord,
    ) -> Result<Vec<Mount>, Status> {
        let below = below(metadata, &record.parent)?;
        let own = text(&self.dirs.files(record.number))?;
        let lower = below
            .dirs
            .iter()
            .map(|dir| text(&self.dirs.files(dir.number)));
        let mut lower = lower.collect::<Result<Vec<_>, _>>()?;
        let access = match record.kind {
            SnapshotKind::Active => "rw",
            _ => "ro",
        };
        let bind = |source: String, more: Vec<String>| {
            let mut options = vec!["rbind".to_owned(), access.to_owned()];
            options.extend(more);
            mount("bind", source, options)
        };
        if let Body::Over { image } = &record.body {
            let mut more = vec![
                format!("x-stratafs.store={}", text(self.stored.dir())?),
                format!("x-stratafs.image={image}"),
            ];
            if !lower.is_empty() {
                more.push(format!("x-stratafs.lowerdir={}", lower.join(":")));
            }
            return Ok(vec![bind(own, more)]);
        }
        if below.image.is_some() {
            lower.push(text(&self.dirs.empty())?);
        }
        let is_view = record.kind == SnapshotKind::View;
        let mut options = Vec::new();
        match (is_view, lower.as_slice()) {
            (_, []) => return Ok(vec![bind(own, Vec::new())]),
            (true, [one]) => return Ok(vec![bind(one.clone(), Vec::new())]),
            (true, _) => {}
            (false, _) => {
                options.push(format!("workdir={}", text(&self.dirs.work(record.number))?));
                options.push(format!("upperdir={own}"));
            }
        }
        options.push(format!("lowerdir={}", lower.join(":")));
        Ok(vec![mount("overlay", "overlay".to_owned(), options)])
    }

    /// Keeps what was written to a snapshot under a name.
    pub(super) fn commit(
        &self,
        (name, key): (String, String),
        labels: HashMap<String, String>,
    ) -> Result<(), Status> {
        check_key("name", &name)?;
        let labels = checked_labels(labels)?;
        let check = |metadata: &Metadata| {
            if metadata.get(&name).is_ok() {
                let text = format!("committed snapshot {name:?}: there is one of that name");
                return Err(Status::already_exists(text));
            }
            let active = metadata.get(&key)?;
            let refused = match (active.kind, &active.body) {
                (SnapshotKind::Active, Body::Dir) => return Ok(active.clone()),
                (SnapshotKind::Active, _) => {
                    "it is over an image of the store, for a container, which keeps what it writes"
                }
                _ => "it is not active",
            };
            Err(Status::failed_precondition(format!(
                "snapshot {key:?}: {refused}"
            )))
        };
        let number = check(&self.metadata.lock())?.number;
        let usage = self.dirs.usage(number)?;
        let mut metadata = self.metadata.lock();
        let active = check(&metadata)?;
        let created = Moment::now();
        let record = SnapshotRecord {
            kind: SnapshotKind::Committed,
            labels,
            created,
            updated: created,
            usage,
            ..active
        };
        metadata.change(vec![(key.clone(), None), (name.clone(), Some(record))])
    }

    /// Removes a snapshot that no other stands on.
    pub(super) fn remove(&self, key: &str) -> Result<(), Status> {
        {
            let mut metadata = self.metadata.lock();
            let record = metadata.get(key)?.clone();
            let mut all = metadata.records().iter();
            if let Some((child, _)) = all.find(|(_, other)| other.parent == key) {
                let text = format!("cannot remove snapshot {key:?}: {child:?} stands on it");
                return Err(Status::failed_precondition(text));
            }
            metadata.change(vec![(key.to_owned(), None)])?;
            self.dirs.discard(record.number)?;
            if let Some(image) = record.body.image()
                && !metadata.images().contains(image)
                && let Err(failure) = self.stored.release(image)
            {
                // The next start lets go of it.
                say(&format!("{image}: its name stays: {failure}"));
            }
        }
        self.dirs.empty_removed()
    }

    /// Returns what is known of a snapshot.
    pub(super) fn stat(&self, key: &str) -> Result<Info, Status> {
        Ok(self.metadata.lock().get(key)?.info(key))
    }

    /// Changes labels: all of them, or those that are named.
    pub(super) fn update(&self, info: Info, paths: &[String]) -> Result<Info, Status> {
        let given = checked_labels(info.labels)?;
        let mut metadata = self.metadata.lock();
        let mut record = metadata.get(&info.name)?.clone();
        if paths.is_empty() {
            record.labels.clone_from(&given);
        }
        for path in paths {
            match path.strip_prefix("labels.") {
                Some(label) => match given.get(label) {
                    Some(value) => drop(record.labels.insert(label.to_owned(), value.clone())),
                    None => drop(record.labels.remove(label)),
                },
                None if path == "labels" => record.labels.clone_from(&given),
                None => {
                    let text = format!("snapshot {:?}: its {path:?} cannot change", info.name);
                    return Err(Status::invalid_argument(text));
                }
            }
        }
        let all = record.labels.clone().into_iter().collect();
        record.labels = checked_labels(all)?;
        record.updated = Moment::now();
        let updated = record.info(&info.name);
        metadata.change(vec![(info.name, Some(record))])?;
        Ok(updated)
    }

    /// Lists the snapshots that one of the filters matches; all of them without filters.
    pub(super) fn list(&self, filters: &[String]) -> Result<Vec<Info>, Status> {
        let filters = filters.iter().map(|filter| Filter::parse(filter));
        let filters = filters.collect::<Result<Vec<_>, _>>()?;
        let metadata = self.metadata.lock();
        let wanted = metadata.records().iter().filter(|(name, record)| {
            filters.is_empty() || filters.iter().any(|filter| filter.matches(name, record))
        });
        Ok(wanted.map(|(name, record)| record.info(name)).collect())
    }

    /// Counts the bytes and inodes of a snapshot itself.
    pub(super) fn usage(&self, key: &str) -> Result<(u64, u64), Status> {
        let record = self.metadata.lock().get(key)?.clone();
        match (record.kind, record.body) {
            (_, Body::Stored { bytes, .. }) => Ok((bytes, 0)),
            (SnapshotKind::Committed, _) => Ok(record.usage),
            _ => self.dirs.usage(record.number),
        }
    }

    /// Removes directories that belong to no snapshot, and has the store free what no snapshot needs.
    pub(super) fn cleanup(&self) -> Result<(), Status> {
        self.sweep()?;
        self.stored.collect().map_err(|failure| internal(&failure))
    }

    fn sweep(&self) -> Result<(), Status> {
        {
            let metadata = self.metadata.lock();
            let records = metadata.records().values();
            let known: HashSet<u64> = records.map(|record| record.number).collect();
            self.dirs.discard_others(&known)?;
        }
        self.dirs.empty_removed()
    }
}

/// Refuses a snapshot whose name is taken, or whose parent is none.
fn check_new(metadata: &Metadata, new: &NewSnapshot) -> Result<(), Status> {
    if metadata.get(&new.key).is_ok() {
        let text = format!("snapshot {:?}: there is one of that name", new.key);
        return Err(Status::already_exists(text));
    }
    if new.parent.is_empty() {
        return Ok(());
    }
    let parent = metadata.get(&new.parent)?;
    if parent.kind != SnapshotKind::Committed {
        let text = format!("parent {:?}: it is not committed", new.parent);
        return Err(Status::invalid_argument(text));
    }
    let depth = metadata.chain(&new.parent)?.len();
    if depth >= MAX_SNAPSHOT_DEPTH {
        let text = format!(
            "parent {:?}: {depth} snapshots deep, which is the limit",
            new.parent
        );
        return Err(Status::resource_exhausted(text));
    }
    Ok(())
}

/// Returns whether the store has this layer for this parent. What was unpacked is not taken for a
/// layer by its label: nobody has held it against its digest.
fn has_layer(metadata: &Metadata, target: &str, parent: &str) -> bool {
    metadata.records().values().any(|record| {
        matches!(record.body, Body::Stored { .. })
            && record.parent == parent
            && record
                .labels
                .get(TARGET_LABEL)
                .is_some_and(|of| of == target)
    })
}

/// Returns whether containerd unpacks a layer into a snapshot, in place of running a container on it: the
/// name of that is `extract-TIME-RANDOM CHAIN`, and no container's has a space.
fn is_unpacked(new: &NewSnapshot) -> bool {
    let name = new.key.rsplit('/').next().unwrap_or_default();
    new.kind == SnapshotKind::Active
        && (new.labels.contains_key(TARGET_LABEL)
            || name.starts_with(UNPACKED) && name.contains(' '))
}

fn below<'s>(metadata: &'s Metadata, parent: &'s str) -> Result<SnapshotParents<'s>, Status> {
    let mut below = SnapshotParents::default();
    for record in metadata.chain(parent)? {
        if let Body::Stored { image, layers, .. } = &record.body {
            below.image = Some((image.clone(), *layers));
            break;
        }
        below.dirs.push(record);
    }
    Ok(below)
}

fn mount(kind: &str, source: String, options: Vec<String>) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source,
        target: String::new(),
        options,
    }
}

fn text(path: &Path) -> Result<String, Status> {
    let text = path
        .to_str()
        .filter(|text| !text.contains([':', ',', '\\']));
    text.map(str::to_owned).ok_or_else(|| {
        let shown = path.display();
        Status::internal(format!(
            "{shown}: a directory of mounts: expected UTF-8 without `:`, `,` and `\\`"
        ))
    })
}
