//! An image less what nobody needs.

use std::collections::{HashMap, HashSet};

use super::export::tree;
use super::{TransferError, slim_links};
use crate::chunk::Content;
use crate::image::{HistoryEntry, Image, Reference};
use crate::layer::{EntryBody, Layer, LayerBuilder};
use crate::meta::{Kind, Meta};
use crate::name::LayerPath;
use crate::source::is_program;
use crate::store::{ImageInfo, LayerOrigin, Store};

/// What [`slim`] keeps whatever else it does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KeepList {
    /// Files, links and directories, of a directory not what is in it.
    pub entries: Vec<LayerPath>,
    /// The same with all that is below.
    pub trees: Vec<LayerPath>,
}

impl KeepList {
    /// Makes an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// A smaller image that is not in a store yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Slimmed {
    /// The tree that is left.
    pub tree: Layer,
    /// What has gone, by path.
    pub removed: Vec<RemovedEntry>,
    /// Files that are left; one with several names counts once.
    pub kept_files: u64,
    /// Bytes of them, holes included.
    pub kept_bytes: u64,
    reference: Reference,
}

/// An entry that [`slim`] leaves out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovedEntry {
    /// Where it was.
    pub path: LayerPath,
    /// What it was.
    pub kind: Kind,
    /// Bytes of a file, holes included; 0 of others, and of further names of a file.
    pub size: u64,
}

/// Leaves out of an image all that is not needed.
///
/// Kept are the entries of `keep`, where the links among them lead, all names of a file
/// that is kept, every symbolic link that leads to something that is kept, the directories
/// above all that, and directories that were empty. A path of `keep` that the image does
/// not have keeps nothing. Nothing is written before [`Slimmed::commit`].
///
/// O(entries), whatever links there are: a link is followed as a guest would, up to
/// [`MAX_SYMLINKS`](crate::limits::MAX_SYMLINKS).
///
/// ```
/// use stratafs::name::LayerPath;
/// use stratafs::store::Store;
/// use stratafs::transfer::{ImportOptions, KeepList, import, slim};
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// let store = Store::open(dir.path())?;
/// let app_1 = "app:1".parse()?;
/// import(&store, &[app], &app_1, &ImportOptions::default())?;
/// let mut keep = KeepList::new();
/// keep.entries.push(LayerPath::parse(b"main.py")?);
/// let slimmed = slim(&store, &app_1, &keep)?;
/// assert_eq!(slimmed.kept_files, 1);
/// slimmed.commit(&store, &"app:slim".parse()?, "kept what a test opened")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Layer`].
pub fn slim(
    store: &Store,
    reference: &Reference,
    keep: &KeepList,
) -> Result<Slimmed, TransferError> {
    let whole = tree(store, reference)?;
    let entries: Vec<SlimEntry<'_>> = whole.entries().filter_map(SlimEntry::of).collect();
    let kept = Selection::of(&entries, keep).kept;
    let mut slimmed = Slimmed {
        tree: rebuilt(&entries, &kept)?,
        removed: Vec::new(),
        kept_files: 0,
        kept_bytes: 0,
        reference: reference.clone(),
    };
    let mut seen = HashSet::new();
    for (entry, kept) in entries.iter().zip(kept) {
        let first = entry.object.is_none_or(|object| seen.insert(object));
        let size = if first { entry.size() } else { 0 };
        if kept {
            slimmed.kept_files += u64::from(first && entry.kind == Kind::File);
            slimmed.kept_bytes = slimmed.kept_bytes.saturating_add(size);
        } else {
            slimmed.removed.push(RemovedEntry {
                path: entry.path.clone(),
                kind: entry.kind,
                size,
            });
        }
    }
    Ok(slimmed)
}

impl Slimmed {
    /// Returns the tree as an image, to run something over it before it is kept.
    ///
    /// # Errors
    ///
    /// [`TransferError::Image`].
    pub fn image(&self) -> Result<Image, TransferError> {
        Ok(Image::new(std::slice::from_ref(&self.tree))?)
    }

    /// Makes an image of one layer in the store, with the configuration of the image that
    /// it came from, and calls it `tag`. `by` is what the history says.
    ///
    /// # Errors
    ///
    /// [`TransferError::Store`], [`TransferError::Layer`].
    pub fn commit(
        self,
        store: &Store,
        tag: &Reference,
        by: &str,
    ) -> Result<ImageInfo, TransferError> {
        let info = store.info(self.reference.as_str())?;
        let mut config = info.config;
        let mut step = HistoryEntry::by(by);
        step.created = config.created.clone();
        config.history.retain(|step| step.empty_layer);
        let mut import = store.import()?;
        // A program that is no file of the tree stays what it is.
        for layer in &info.layers {
            if layer.origin.media_type.as_deref().is_some_and(is_program) {
                import.layer(LayerBuilder::new().finish()?, layer.origin.clone());
                config.history.push(HistoryEntry::by("program"));
            }
        }
        config.history.push(step);
        import.layer(self.tree, LayerOrigin::new());
        import.commit(config, Some(tag.as_str()))?;
        Ok(store.info(tag.as_str())?)
    }
}

/// An entry of the whole tree.
pub(super) struct SlimEntry<'a> {
    pub(super) path: LayerPath,
    pub(super) kind: Kind,
    meta: Option<&'a Meta>,
    content: Option<&'a Content>,
    pub(super) target: Option<&'a [u8]>,
    object: Option<u32>,
}

impl<'a> SlimEntry<'a> {
    fn of(entry: crate::layer::LayerEntry<'a>) -> Option<Self> {
        let mut made = Self {
            path: entry.path,
            kind: Kind::Dir,
            meta: None,
            content: None,
            target: None,
            object: None,
        };
        match entry.body {
            EntryBody::Dir { meta, .. } => made.meta = meta,
            EntryBody::File {
                meta,
                content,
                object,
                ..
            } => {
                made.kind = Kind::File;
                made.meta = Some(meta);
                made.content = Some(content);
                made.object = Some(object);
            }
            EntryBody::Symlink {
                meta,
                target,
                object,
                ..
            } => {
                made.kind = Kind::Symlink;
                made.meta = Some(meta);
                made.target = Some(target);
                made.object = Some(object);
            }
            EntryBody::Whiteout | EntryBody::LowerLink { .. } => return None,
        }
        Some(made)
    }

    fn size(&self) -> u64 {
        self.content.map_or(0, Content::size)
    }
}

/// Which entries are kept, by their numbers.
struct Selection<'a> {
    entries: &'a [SlimEntry<'a>],
    link_map: slim_links::LinkMap<'a>,
    kept: Vec<bool>,
}

impl<'a> Selection<'a> {
    fn of(entries: &'a [SlimEntry<'a>], keep: &KeepList) -> Self {
        let mut selection = Self {
            entries,
            link_map: slim_links::LinkMap::of(entries),
            kept: vec![false; entries.len()],
        };
        selection.take(keep);
        // Where links lead that were asked for; what is there may have further names.
        for number in selection.links(|kept| kept) {
            if let Some(target) = selection.link_map.follow(number) {
                selection.set(target);
            }
        }
        selection.keep_names();
        selection.keep_above();
        selection.keep_links();
        selection
    }

    fn set(&mut self, number: usize) {
        if let Some(kept) = self.kept.get_mut(number) {
            *kept = true;
        }
    }

    /// Takes what was asked for, the root, and directories that have nothing in them.
    fn take(&mut self, keep: &KeepList) {
        self.set(0);
        for path in &keep.entries {
            if let Some(number) = self.link_map.at(path.names()) {
                self.set(number);
            }
        }
        for path in &keep.trees {
            let first = self.link_map.at(path.names());
            let below = first
                .into_iter()
                .flat_map(|first| first..self.entries.len());
            for number in below {
                let entry = self.entries.get(number);
                if !entry.is_some_and(|entry| entry.path.names().starts_with(path.names())) {
                    break;
                }
                self.set(number);
            }
        }
        let entries = self.entries;
        for (number, entry) in entries.iter().enumerate() {
            let next = entries.get(number + 1);
            let has_some =
                next.is_some_and(|next| next.path.names().starts_with(entry.path.names()));
            if entry.kind == Kind::Dir && !has_some {
                self.set(number);
            }
        }
    }

    /// Lists the symbolic links that are kept, or those that are not.
    fn links(&self, wanted: impl Fn(bool) -> bool) -> Vec<usize> {
        let all = self.entries.iter().zip(&self.kept).enumerate();
        all.filter(|(_, (entry, kept))| entry.kind == Kind::Symlink && wanted(**kept))
            .map(|(number, _)| number)
            .collect()
    }

    /// Keeps all names of what is kept.
    fn keep_names(&mut self) {
        let both = self.entries.iter().zip(&self.kept);
        let objects: HashSet<u32> = both
            .filter(|(_, kept)| **kept)
            .filter_map(|(entry, _)| entry.object)
            .collect();
        for (entry, kept) in self.entries.iter().zip(&mut self.kept) {
            *kept |= entry.object.is_some_and(|object| objects.contains(&object));
        }
    }

    /// Keeps every link that leads to something that is kept, and the directories above
    /// it, which other links may lead to in turn. O(entries).
    fn keep_links(&mut self) {
        let mut leading: HashMap<usize, Vec<usize>> = HashMap::new();
        for link in self.links(|kept| !kept) {
            if let Some(target) = self.link_map.follow(link) {
                leading.entry(target).or_default().push(link);
            }
        }
        let is_kept = |(number, kept): (usize, &bool)| kept.then_some(number);
        let mut found: Vec<usize> = self.kept.iter().enumerate().filter_map(is_kept).collect();
        while let Some(number) = found.pop() {
            let links = leading.remove(&number).unwrap_or_default();
            let names = self.entries.get(number).map(|entry| entry.path.names());
            let above = names.and_then(|names| self.link_map.at(names.split_last()?.1));
            for next in links.into_iter().chain(above) {
                if self.kept.get(next) == Some(&false) {
                    self.set(next);
                    found.push(next);
                }
            }
        }
    }

    /// Keeps the directories above all that is kept.
    fn keep_above(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        for number in 0..self.entries.len() {
            let Some(entry) = self.entries.get(number) else {
                break;
            };
            let is_above = |dir: &usize| {
                let dir = self.entries.get(*dir);
                dir.is_some_and(|dir| entry.path.names().starts_with(dir.path.names()))
            };
            while open.last().is_some_and(|dir| !is_above(dir)) {
                open.pop();
            }
            if self.kept.get(number) == Some(&true) {
                // Those that are kept already have all above them.
                for at in (0..open.len()).rev() {
                    let dir = open.get(at).and_then(|dir| self.kept.get_mut(*dir));
                    if dir.is_none_or(|kept| std::mem::replace(kept, true)) {
                        break;
                    }
                }
            }
            if entry.kind == Kind::Dir {
                open.push(number);
            }
        }
    }
}

/// Makes a layer of what is kept.
fn rebuilt(entries: &[SlimEntry<'_>], kept: &[bool]) -> Result<Layer, TransferError> {
    let mut layer = LayerBuilder::new();
    let mut names: HashMap<u32, &LayerPath> = HashMap::new();
    for (entry, _) in entries.iter().zip(kept).filter(|(_, kept)| **kept) {
        let (path, meta) = (
            &entry.path,
            entry
                .meta
                .cloned()
                .unwrap_or_else(|| Meta::with_mode(0o755)),
        );
        if let Some(first) = entry.object.and_then(|object| names.get(&object)) {
            layer.hard_link(path, first)?;
            continue;
        }
        match (entry.content, entry.target) {
            (Some(content), _) => layer.file(path, meta, content.clone())?,
            (None, Some(target)) => layer.symlink(path, meta, target)?,
            (None, None) => layer.dir(path, meta)?,
        }
        if let Some(object) = entry.object {
            names.insert(object, path);
        }
    }
    Ok(layer.finish()?)
}
