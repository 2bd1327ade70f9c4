//! Images at rest: a directory that holds every chunk once.
//!
//! Chunks lie in packs, a layer is a file of entries, an image is an index that
//! is mapped and used as it stands; a catalog has the tags and what belongs to
//! what. docs/FORMAT.md describes the files, and what is believed of them when.
//!
//! ```
//! use stratafs::chunk::ContentBuilder;
//! use stratafs::image::ImageConfig;
//! use stratafs::layer::Layer;
//! use stratafs::meta::Meta;
//! use stratafs::name::LayerPath;
//! use stratafs::store::{LayerOrigin, Store};
//! use stratafs::vfs::Fs;
//!
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path())?;
//! let mut import = store.import()?;
//! let mut layer = Layer::builder();
//! let motd = ContentBuilder::of(import.pool(), b"hello");
//! layer.file(&LayerPath::parse(b"etc/motd")?, Meta::with_mode(0o644), motd)?;
//! import.layer(layer.finish()?, LayerOrigin::new());
//! import.commit(ImageConfig::new(), Some("base"))?;
//!
//! let fs = Fs::new(&store.image("base")?);
//! assert_eq!(fs.read("/etc/motd")?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Several processes may use one store, and several threads one [`Store`].
//! Locks, in this order: the gate of imports, the imports' file, the catalog's file, an import's
//! state, the map of known chunks, the open packs, one pack, what is being fetched, which homes failed. The file of a blob on its way in
//! is locked with none of these waited for: who cannot have it looks again later. The files of frames are waited for by threads
//! that fetch, with nothing else held; that of an image that is used, before the catalog's, and by a
//! collection, which has the imports' file, not at all.

mod absent;
mod blob;
mod catalog;
mod codec;
mod disk;
mod error;
mod explain;
mod failed_homes;
mod fetcher;
mod file;
mod frame_locks;
mod frame_places;
#[cfg(all(feature = "dir", feature = "oci"))]
pub(crate) mod frame_table;
mod gc;
#[cfg(feature = "registry")]
mod homes;
mod identity;
mod import;
mod incoming;
#[cfg(feature = "registry")]
mod incoming_blob;
mod inventory;
mod layer_file;
#[cfg(feature = "registry")]
mod lazy_layer;
mod lazy_pack;
mod legacy;
mod locks;
mod log;
mod making;
mod map;
mod opening;
mod options;
mod pack;
mod pack_absent;
mod pack_table;
mod pack_writer;
#[cfg(feature = "registry")]
pub(crate) mod packed;
mod packs;
#[cfg(feature = "registry")]
pub(crate) mod pieces;
mod progress;
#[cfg(feature = "registry")]
mod prove;
mod record;
mod recorder;
mod reference;
mod repack;
mod repair;
mod run_table;
mod stat;
mod sweep;
mod trim;
mod used;
mod verify;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

pub use absent::AbsentStat;
pub use blob::{BlobReader, BlobWriter, NewBlob};
use catalog::{Catalog, CatalogChange, CatalogView, RecordKind};
pub use disk::Hook;
use disk::{INDEXES, LAYERS};
pub use error::StoreError;
pub use explain::StoredChunk;
use file::{IndexFiles, StoredFile};
pub use gc::GcReport;
pub use import::Import;
use import::digest_of;
#[cfg(feature = "registry")]
pub(crate) use incoming_blob::{Incoming, blob_file_name, is_old};
#[cfg(feature = "registry")]
pub(crate) use lazy_layer::LazyLayer;
#[cfg(feature = "registry")]
pub(crate) use lazy_pack::FrameSource;
pub use legacy::is_panic_caught;
pub use options::StoreOptions;
use pack::file_name;
use pack_writer::ChunkIndex;
use packs::{PackList, Packs};
pub use progress::{Progress, Watcher};
pub use record::{Blob, ImageInfo, LayerOrigin, StoredLayer};
use record::{BlobRecord, ImageRecord, LayerRecord, TagRecord};
pub use recorder::{FileStep, Recorder};
pub use repair::RepairReport;
pub use stat::StoreStat;
pub use trim::{DroppedImage, TrimOptions, TrimReport};
pub use used::InUse;
pub use verify::VerifyReport;

use crate::digest::{Digest, Sha256};
use crate::image::index_file::{INDEX_VERSION, IndexError};
use crate::image::{Image, ImageId};
use crate::layer::Layer;

/// A store of images in a directory. Cloning is a reference count.
///
/// ```
/// use stratafs::image::{Image, Reference};
/// use stratafs::{store::Store, vfs::Fs};
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(&dir.path().join("images"))?;
/// let fs = Fs::new(&Image::empty());
/// fs.write("/greeting", "hello")?;
/// let tag: Reference = "greeting:1".parse()?;
/// fs.commit(&store, &tag, "said hello")?;
/// // Another process opens it by mapping: nothing is read before it is used.
/// let again = Fs::new(&store.image("greeting:1")?);
/// assert_eq!(again.read("/greeting")?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    catalog: Arc<Catalog>,
    /// Whether it may be changed through this handle.
    writable: bool,
    packs: Arc<Packs>,
    /// Shared by the imports of this process.
    known: Arc<Mutex<ChunkIndex>>,
}

impl Store {
    /// Opens the store in `dir`, made if nothing is there or an empty directory.
    /// What an import left behind that did not end is removed, unless one is
    /// running. O(bytes of the catalog), and O(files) if something was imported or
    /// collected since the store was opened last.
    ///
    /// # Errors
    ///
    /// As [`StoreOptions::open`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        StoreOptions::new().open(dir)
    }

    /// Returns a handle of the same store that reports to `watcher` the bytes of
    /// files and blobs that are read through it, and through images, layers
    /// and blobs that it opens; about once a MiB. It holds packs of its own:
    /// chunks are checked anew.
    #[must_use]
    pub fn watched(&self, watcher: Watcher) -> Self {
        let disk = self.0.packs.disk.watched(watcher);
        Self(Arc::new(Inner {
            catalog: Arc::clone(&self.0.catalog),
            writable: self.0.writable,
            packs: Arc::new(Packs::new(disk, self.0.packs.pack_bytes)),
            known: Arc::clone(&self.0.known),
        }))
    }

    /// Starts to bring an image in. Waits while `gc` is at work.
    ///
    /// At the first of a process, reads the tables of all packs: 36 bytes a
    /// chunk, and 16 bytes of each stay in memory.
    ///
    /// # Errors
    ///
    /// Those of reading the catalog and the packs' tables.
    pub fn import(&self) -> Result<Import, StoreError> {
        Import::begin(self)
    }

    /// Opens an image: maps its index. Nothing is parsed, and nothing read but
    /// the header, so it costs the same for 10 files or 10 million.
    ///
    /// `reference` is a tag (`:latest` may be left out), the image's digest, or
    /// the beginning of it. The image stays usable when its tag goes, and when
    /// `gc` removes its files.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoImage`], [`StoreError::Ambiguous`]; an index that is cut
    /// short, of another version or damaged. Damage beyond the header shows
    /// when it is met: see [`Image::damage`].
    pub fn image(&self, reference: &str) -> Result<Image, StoreError> {
        // Opened within the same state of the catalog, so that `gc` cannot
        // come between.
        self.0.catalog.read(|view| {
            let (id, record) = reference::resolve(view, reference)?;
            self.open_index(id, &record)
        })
    }

    fn open_index(&self, id: ImageId, record: &ImageRecord) -> Result<Image, StoreError> {
        let disk = &self.0.packs.disk;
        let path = disk.file_in(INDEXES, &file_name(record.index));
        let file = disk.open(&path)?;
        let mapped = map::map(&file).map_err(StoreError::io("map", &path))?;
        let name = path.display().to_string();
        let origin = |names| {
            let packs = Arc::new(PackList::fixed(
                names,
                &self.0.packs,
                &path,
                record.by_table,
            )?);
            let file = path.clone();
            Ok(Arc::new(IndexFiles { packs, file }) as Arc<_>)
        };
        let image =
            Image::from_index_file(mapped.bytes, name, mapped.cut, record.index, id, origin);
        image.unwrap_or_else(|why| Err(index_error(&path, record.index, why)))
    }

    /// Returns what the store knows of an image.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoImage`], [`StoreError::Ambiguous`], those of reading.
    pub fn info(&self, reference: &str) -> Result<ImageInfo, StoreError> {
        self.0.catalog.read(|view| {
            let (id, record) = reference::resolve(view, reference)?;
            Ok(record.info(id, tags_of(view, id)?))
        })
    }

    /// Returns the digest of the image that `reference` names.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info).
    pub fn resolve(&self, reference: &str) -> Result<ImageId, StoreError> {
        let resolved = |view: &CatalogView<'_>| reference::resolve(view, reference);
        Ok(self.0.catalog.read(resolved)?.0)
    }

    /// Lists all images, tagged or not, by when they were added.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn list(&self) -> Result<Vec<ImageInfo>, StoreError> {
        self.0.catalog.read(|view| {
            let tags = view.all::<TagRecord>(RecordKind::Tag)?;
            let mut images = Vec::new();
            for (key, record) in view.all::<ImageRecord>(RecordKind::Image)? {
                let Some(id) = digest_of(&key) else { continue };
                let own = tags.iter().filter(|(_, tag)| tag.image == id);
                let own = own.map(|(tag, _)| String::from_utf8_lossy(tag).into_owned());
                images.push(record.info(id, own.collect()));
            }
            images.sort_by(|a, b| (a.added, &a.tags, a.id).cmp(&(b.added, &b.tags, b.id)));
            Ok(images)
        })
    }

    /// Lets `tag` lead to the image that `reference` names, whatever it led to
    /// before. Durable once it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::Tag`], and as [`info`](Self::info).
    pub fn tag(&self, reference: &str, tag: &str) -> Result<ImageId, StoreError> {
        self.check_writable()?;
        reference::check(tag)?;
        self.0.catalog.change(|view| {
            let (id, _) = reference::resolve(view, reference)?;
            let record = TagRecord::own(id);
            Ok((
                vec![CatalogChange::put(
                    RecordKind::Tag,
                    tag.as_bytes(),
                    &record,
                )?],
                id,
            ))
        })
    }

    /// Notes that a pull gave this tag to what it leads to, so that another pull brings that again.
    #[cfg(feature = "registry")]
    pub(crate) fn set_pulled(&self, tag: &str) -> Result<(), StoreError> {
        self.0.catalog.change(|view| {
            let record = view.get::<TagRecord>(RecordKind::Tag, tag.as_bytes())?;
            let mut changes = Vec::new();
            if let Some(mut record) = record.filter(|record| !record.pulled) {
                record.pulled = true;
                changes.push(CatalogChange::put(
                    RecordKind::Tag,
                    tag.as_bytes(),
                    &record,
                )?);
            }
            Ok((changes, ()))
        })
    }

    /// Removes a tag. The image stays until `gc`. Durable once it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoImage`] if there is no such tag.
    pub fn untag(&self, tag: &str) -> Result<ImageId, StoreError> {
        self.check_writable()?;
        self.0.catalog.change(|view| {
            let found = reference::tag_named(view, tag)?;
            let (tag, id) = found.ok_or_else(|| StoreError::NoImage(tag.to_owned()))?;
            Ok((
                vec![CatalogChange::Remove(RecordKind::Tag, tag.into_bytes())],
                id,
            ))
        })
    }

    /// Reads the layers of an image, the lowest first: for building upon it,
    /// and for all that asks where something comes from. O(entries); content
    /// stays at rest.
    ///
    /// # Errors
    ///
    /// As [`info`](Self::info); layers that are damaged.
    pub fn layers(&self, reference: &str) -> Result<Vec<Layer>, StoreError> {
        self.0.catalog.read(|view| {
            let (_, record) = reference::resolve(view, reference)?;
            let layers = record.layers.iter();
            layers
                .map(|layer| self.read_layer(view, layer.digest))
                .collect()
        })
    }

    /// Reads the layer with this digest, if an image of the store has it.
    ///
    /// # Errors
    ///
    /// Those of reading; a layer that is damaged.
    pub fn layer(&self, digest: Digest) -> Result<Option<Layer>, StoreError> {
        self.0.catalog.read(|view| {
            let known = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
            known.map(|_| self.read_layer(view, digest)).transpose()
        })
    }

    fn read_layer(&self, view: &CatalogView<'_>, digest: Digest) -> Result<Layer, StoreError> {
        let record = view.get::<LayerRecord>(RecordKind::Layer, digest.as_bytes())?;
        let record = record.ok_or_else(|| {
            StoreError::malformed(self.0.catalog.path(), format!("no layer {digest}"))
        })?;
        let disk = &self.0.packs.disk;
        let path = disk.file_in(LAYERS, &file_name(record.file));
        let bytes = disk.read(&path)?;
        let found = Digest::of(&bytes);
        // The kind first: of another one the digest says nothing here.
        let layer = layer_file::decode(&bytes, &path, (digest, record.by_table), &self.0.packs);
        let other = matches!(
            layer,
            Err(StoreError::Version { .. } | StoreError::Magic { .. })
        );
        if found != record.file && !other {
            return Err(StoreError::Damaged {
                file: path,
                offset: 0,
                expected: record.file,
                found,
            });
        }
        layer
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoBlob`], those of reading. Damage shows when it is read.
    pub fn blob(&self, digest: Sha256) -> Result<BlobReader, StoreError> {
        self.0.catalog.read(|view| self.open_blob(view, digest))
    }

    fn open_blob(&self, view: &CatalogView<'_>, digest: Sha256) -> Result<BlobReader, StoreError> {
        let record = view.get::<BlobRecord>(RecordKind::Blob, digest.as_bytes())?;
        let record = record.ok_or(StoreError::NoBlob(digest))?;
        if let Some(from) = record.absent {
            return Err(StoreError::NotHere { blob: digest, from });
        }
        let packs = Arc::new(PackList::fixed(
            record.packs.clone(),
            &self.0.packs,
            self.0.catalog.path(),
            false,
        )?);
        let content = StoredFile::content(record.bytes, record.content, record.runs(), packs);
        let content = content.ok_or_else(|| {
            StoreError::malformed(self.0.catalog.path(), format!("the runs of {digest}"))
        })?;
        Ok(BlobReader::new(content, digest))
    }

    /// Returns the identity that was drawn when the store was made, in hex; none
    /// if it is of version 1 and was not written to since.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn id(&self) -> Result<Option<String>, StoreError> {
        Ok(self.0.catalog.id()?.map(|id| id.to_string()))
    }

    fn check_writable(&self) -> Result<(), StoreError> {
        match self.0.writable {
            true => Ok(()),
            false => Err(StoreError::ReadOnly(self.0.packs.disk.path(""))),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.0.packs.disk.path("").display())
    }
}

fn tags_of(view: &CatalogView<'_>, id: ImageId) -> Result<Vec<String>, StoreError> {
    let tags = view.all::<TagRecord>(RecordKind::Tag)?;
    let own = tags.into_iter().filter(|(_, tag)| tag.image == id);
    Ok(own
        .map(|(tag, _)| String::from_utf8_lossy(&tag).into_owned())
        .collect())
}

fn index_error(path: &Path, expected: Digest, why: IndexError) -> StoreError {
    let file = path.to_owned();
    match why {
        IndexError::Magic => StoreError::Magic {
            file,
            what: "index of an image",
        },
        IndexError::Version(found) => StoreError::Version {
            file,
            found,
            supported: INDEX_VERSION,
        },
        IndexError::Length(found, expected) => StoreError::Length {
            file,
            found,
            expected,
        },
        IndexError::Digest(found) => StoreError::Damaged {
            file,
            offset: 0,
            expected,
            found,
        },
        IndexError::Table(what) => StoreError::malformed(path, what),
    }
}
