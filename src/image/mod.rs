//! Images: a stack of layers merged into one index, once.
//!
//! Making an [`Image`] costs one pass over what its layers have. From then on
//! it is immutable and shared: a look-up costs the same under one layer or
//! hundreds, and whiteouts are gone (invariants 2 to 4).

#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "only images from a store have it")
)]
mod attributes;
#[cfg(feature = "store")]
mod check_index;
mod checked;
mod config;
mod entry;
mod error;
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "only images from a store have it")
)]
mod files_by_size;
mod flatten;
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "only images from a store have it")
)]
mod guard;
mod index;
#[cfg(feature = "store")]
pub(crate) mod index_file;
mod inspect;
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "only images from a store have it")
)]
mod lazy;
mod merge;
mod parts;
mod record;
mod records;
mod reference;
mod slots_by_node;
mod table;
mod walk;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

pub use config::{HistoryEntry, ImageConfig};
pub use error::ImageError;
use files_by_size::FilesBySize;
use index::Index;
pub(crate) use index::{Dentry, SlotRef};
pub use inspect::{ImageStats, Located};
use parts::Parts;
pub use reference::{ParseReferenceError, Reference};
use slots_by_node::SlotsByNode;

use crate::chunk::{Content, ContentError};
use crate::digest::Digest;
use crate::errno::Errno;
use crate::layer::Layer;
use crate::limits::{MAX_LAYERS, MAX_OBJECTS_BY_SIZE};
use crate::meta::{Kind, Meta, Stat, Xattrs};
use crate::name::LayerPath;

/// An ordered stack of layers as one tree, the base that instances share.
/// Immutable. Cloning is a reference count.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
/// use stratafs::image::Image;
/// use stratafs::layer::Layer;
/// use stratafs::meta::Meta;
/// use stratafs::name::LayerPath;
///
/// let pool = ChunkPool::new();
/// let motd = LayerPath::parse(b"etc/motd")?;
/// let mut lower = Layer::builder();
/// lower.file(&motd, Meta::with_mode(0o644), ContentBuilder::of(&pool, b"hello"))?;
/// let mut upper = Layer::builder();
/// upper.whiteout(&motd)?;
///
/// let lower = Image::new(&[lower.finish()?])?;
/// let both = Image::new(&[lower.layers(), &[upper.finish()?]].concat())?;
/// assert_eq!(lower.locate(&motd).unwrap().stat.size, 5);
/// assert!(both.locate(&motd).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Image(Arc<Inner>);

/// The name of an image in a store: the BLAKE3 of its layers' digests and its
/// configuration. Shown and parsed as a [`Digest`].
pub type ImageId = Digest;

/// What an image from a store knows of it.
#[cfg_attr(
    not(feature = "store"),
    allow(dead_code, reason = "only images from a store have it")
)]
struct IndexFile {
    id: ImageId,
    /// The whole index, header included.
    file: bytes::Bytes,
    /// What the index is called in messages.
    name: String,
}

struct Inner {
    layers: Box<[Layer]>,
    layer_count: usize,
    /// What a store keeps the image as.
    index_file: Option<IndexFile>,
    index: Index,
    slots_by_node: OnceLock<SlotsByNode>,
    files_by_size: OnceLock<FilesBySize>,
    digest: OnceLock<Digest>,
    stats: OnceLock<ImageStats>,
}

impl Image {
    /// Merges layers, the lowest first. No layers make an empty root.
    ///
    /// In each directory the highest layer that has a name decides, and a
    /// whiteout hides the name from the layers below. Directories of one name
    /// merge down to the first that is opaque or that a file or symbolic link
    /// lies under. Numbers depend on the merged tree alone.
    ///
    /// O(entries of all layers); the layers are shared, not copied.
    ///
    /// # Errors
    ///
    /// In this order: [`ImageError::TooManyLayers`];
    /// [`ImageError::LinkToMissing`] and [`ImageError::LinkToDirectory`] for a
    /// hard link to a lower layer, hidden ones too; [`ImageError::TooLarge`].
    pub fn new(layers: &[Layer]) -> Result<Self, ImageError> {
        if layers.len() > MAX_LAYERS {
            return Err(ImageError::TooManyLayers {
                count: layers.len(),
            });
        }
        Ok(Self::from_parts(layers, flatten::flatten(layers)?))
    }

    /// Makes an image of no layers: an empty root directory.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_parts(&[], Parts::empty_tree().finish())
    }

    fn from_parts(layers: &[Layer], index: Index) -> Self {
        Self(Arc::new(Inner {
            layers: layers.into(),
            layer_count: layers.len(),
            index_file: None,
            index,
            slots_by_node: OnceLock::new(),
            files_by_size: OnceLock::new(),
            digest: OnceLock::new(),
            stats: OnceLock::new(),
        }))
    }

    /// Returns the layers, the lowest first. An image that a store keeps is
    /// mapped without them: there are none here, and the store's `layers`
    /// reads them.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.0.layers
    }

    /// Counts the layers that were merged.
    #[must_use]
    pub fn layer_count(&self) -> usize {
        self.0.layer_count
    }

    /// Returns the name that a store keeps this image by, if it is from one.
    #[must_use]
    pub fn id(&self) -> Option<ImageId> {
        self.0.index_file.as_ref().map(|index_file| index_file.id)
    }

    /// Returns the first damage found in the index of an image from a store.
    ///
    /// Blocks of it are checked when they are first looked at. A call that
    /// needs a damaged one fails with [`Errno::Io`], whoever makes it, and no
    /// other does. Only an index that was cut short while in use fails all
    /// calls from then on.
    #[must_use]
    pub fn damage(&self) -> Option<ContentError> {
        self.0.index.damage()
    }

    /// Begins an operation, for what [`check_undamaged`](Self::check_undamaged) says at its end.
    #[inline]
    pub(crate) fn begin(&self) {
        if self.0.index.guard.is_some() {
            guard::begin();
        }
    }

    /// Fails if the operation of this thread looked at something damaged: what
    /// was not found may have been there. Asked after looking.
    #[inline]
    pub(crate) fn check_undamaged(&self) -> Result<(), Errno> {
        match &self.0.index.guard {
            Some(guard) if guard::refused() || guard.is_cut() => Err(Errno::Io),
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether `node` is above `last`, and makes it the last.
    ///
    /// A walk calls this with each subdirectory of a directory, in the order of the
    /// entries. Their numbers rise: an index in which they do not is malformed, and is
    /// marked so. So no walk visits a directory twice, whoever wrote the index.
    pub(crate) fn check_order(&self, last: &mut u32, node: u32) -> bool {
        let is_above = node > *last;
        *last = node;
        if !is_above {
            self.0
                .index
                .mark_malformed("a directory that has two names");
        }
        is_above
    }

    /// Returns the digest of the merged tree: names, kinds, metadata, hard links
    /// and content, however it is cut into layers (invariant 8). The image of
    /// one layer that hides nothing and implies no directory has that layer's
    /// digest.
    ///
    /// An image with [`damage`](Self::damage) has none that means anything.
    /// O(entries) at the first call, O(1) from then on.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| inspect::digest(self))
    }

    /// Reads the bytes of every chunk again and returns the digest of what is
    /// there: [`digest`](Self::digest), as long as nothing has changed.
    ///
    /// O(bytes), each chunk once, whenever it is called.
    ///
    /// # Errors
    ///
    /// [`ImageError::Index`] for damage in the index of an image from a store,
    /// [`ImageError::WrongChunk`] for the first chunk that is not what its
    /// digest says, [`ImageError::Unreadable`] for a file at rest.
    pub fn verify(&self) -> Result<Digest, ImageError> {
        self.0.index.check_all().map_err(ImageError::Index)?;
        let digest = inspect::verify(self)?;
        self.damage()
            .map_or(Ok(digest), |damage| Err(ImageError::Index(damage)))
    }

    /// Counts what the image consists of. O(entries + chunks) at the first
    /// call, O(1) from then on.
    #[must_use]
    pub fn stats(&self) -> ImageStats {
        *self.0.stats.get_or_init(|| inspect::stats(self))
    }

    /// Finds an entry and the layer that it is from. Follows no symbolic
    /// links. One look-up for each name of the path.
    #[must_use]
    pub fn locate(&self, path: &LayerPath) -> Option<Located> {
        inspect::locate(self, path)
    }

    /// Returns whether both are one image, not only equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts the objects. Their numbers run from 0, the root, up to this.
    pub(crate) fn nodes(&self) -> u32 {
        self.0.index.nodes()
    }

    /// Finds a name in a directory. O(1) but for names made to collide, where
    /// it is O(log entries).
    pub(crate) fn lookup(&self, dir: u32, name: &[u8]) -> Option<Dentry> {
        self.0.index.lookup(dir, name)
    }

    /// Returns the numbers of a directory's entries, which are in the order of
    /// their names' bytes: none for what is no directory.
    pub(crate) fn slots(&self, dir: u32) -> Range<u32> {
        self.0.index.slots(dir)
    }

    /// Returns an entry by its number.
    pub(crate) fn slot(&self, slot: u32) -> Option<SlotRef<'_>> {
        self.0.index.slot(slot)
    }

    /// Returns the entries that lead to an object. O(entries of the image) at
    /// the first call, O(1) for each from then on.
    pub(crate) fn slots_of(&self, node: u32) -> impl Iterator<Item = u32> {
        let slots_by_node = self
            .0
            .slots_by_node
            .get_or_init(|| SlotsByNode::of(&self.0.index));
        if !slots_by_node.whole && slots_by_node.count(node) != self.names_of(node) {
            guard::refuse();
        }
        slots_by_node.slots(node)
    }

    /// Counts the names that lead to an object.
    fn names_of(&self, node: u32) -> usize {
        let record = self.0.index.node(node);
        match record.kind() {
            Kind::Dir => usize::from(node != 0),
            Kind::File | Kind::Symlink => record.nlink.get() as usize,
        }
    }

    /// Returns the first [`MAX_FILES_OF_ONE_SIZE`](crate::limits::MAX_FILES_OF_ONE_SIZE) files of `size` bytes. O(log files) after
    /// the first question, which looks at every object: no lock is to be held. Damage that it
    /// finds is not its caller's: such files are not found.
    pub(crate) fn files_of(&self, size: u64) -> impl Iterator<Item = u32> {
        let make = || guard::isolated(|| FilesBySize::of(&self.0.index, MAX_OBJECTS_BY_SIZE)).0;
        self.0.files_by_size.get_or_init(make).of_size(size)
    }

    /// Returns whether [`files_of`](Self::files_of) may give some, looking at
    /// nothing: before its first question any size may be there.
    pub(crate) fn may_have_files_of(&self, size: u64) -> bool {
        self.0
            .files_by_size
            .get()
            .is_none_or(|files_by_size| files_by_size.has(size))
    }

    /// Returns the directory that an entry is in.
    pub(crate) fn dir_of(&self, slot: u32) -> u32 {
        let record = self.0.index.record(slot);
        record.map_or(0, |record| record.parent.get())
    }

    #[inline]
    pub(crate) fn kind(&self, node: u32) -> Kind {
        self.0.index.node(node).kind()
    }

    /// Returns the first name of each of these files and links. O(image).
    pub(crate) fn paths_of(&self, nodes: &HashSet<u32>) -> HashMap<u32, LayerPath> {
        inspect::paths_of(self, nodes)
    }

    /// Returns what `stat` shows: no time but the mtime is known of a base.
    #[inline]
    pub(crate) fn stat(&self, node: u32) -> Stat {
        self.0.index.stat(node)
    }

    /// Returns the directory that a directory is in; of the root, the root.
    pub(crate) fn parent(&self, dir: u32) -> u32 {
        self.0.index.node(dir).parent.get()
    }

    /// Returns the bytes of a file.
    pub(crate) fn content(&self, node: u32) -> Option<&Content> {
        self.0.index.content(node)
    }

    /// Returns what a symbolic link leads to.
    pub(crate) fn target(&self, node: u32) -> Option<&[u8]> {
        self.0.index.target(node)
    }

    pub(crate) fn meta_xattrs(&self, node: u32) -> Option<&Arc<Xattrs>> {
        self.0.index.xattrs(node)
    }

    /// Returns an object's metadata as its layer has it.
    pub(crate) fn meta(&self, node: u32) -> Meta {
        self.0.index.meta(node)
    }

    /// Returns the index of the layer that an entry is from; of a directory,
    /// the one that its metadata is from.
    pub(crate) fn origin(&self, slot: u32) -> u16 {
        self.0
            .index
            .record(slot)
            .map_or(0, |record| record.layer.get())
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Image({} layers, {} objects)",
            self.layer_count(),
            self.nodes()
        )
    }
}

#[cfg(test)]
#[cfg(feature = "store")]
mod malformed_tests;
#[cfg(test)]
mod tests;
