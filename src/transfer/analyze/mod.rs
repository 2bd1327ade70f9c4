//! What each layer of an image adds, hides and wastes, and who else has its bytes.

mod sharing;
mod stack;

use super::TransferError;
use crate::digest::Digest;
use crate::image::Reference;
use crate::meta::Kind;
use crate::name::LayerPath;
use crate::store::Store;

use sharing::LayerSharing;
use stack::LayerStack;

/// What the layers of an image do to each other.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Analysis {
    /// The layers, the lowest first.
    pub layers: Vec<LayerAnalysis>,
    /// What the merged tree shows, by path; the root is not listed.
    pub entries: Vec<AnalyzedEntry>,
    /// Files that no name of the merged tree leads to any more, by layer and path.
    pub hidden: Vec<HiddenFile>,
}

/// What one layer does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerAnalysis {
    /// Digest of the layer; `None` only in a value made by `default`.
    pub digest: Option<Digest>,
    /// What it brings.
    pub added: AddedEntries,
    /// Files and links of lower layers that it has something else in the place of.
    pub overwritten: FileSum,
    /// Of the files that it has in the place of others, those with the same bytes: only
    /// their metadata changed.
    pub repeated: FileSum,
    /// Files and links of lower layers that it removes, by whiteouts, opaque directories
    /// or a file in the place of a directory.
    pub removed: FileSum,
    /// Its own files that upper layers overwrite or remove: bytes that are carried for
    /// nothing.
    pub wasted: FileSum,
    /// Bytes of its distinct chunks.
    pub chunk_bytes: u64,
    /// Those of them that no lower layer of the image has.
    pub new_chunk_bytes: u64,
    /// Those of them that some other image of the store has as well.
    pub shared_chunk_bytes: u64,
    /// The other images of the store that have the very layer: a tag of each, or its
    /// digest.
    pub shared_with: Vec<String>,
}

/// What a layer brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AddedEntries {
    /// Regular files; one with several names counts once.
    pub files: u64,
    /// Bytes of them, holes included.
    pub bytes: u64,
    /// Directories that it says something of.
    pub dirs: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Directories that hide what lower layers have in them.
    pub opaque_dirs: u64,
}

/// How many files, and how many bytes they have. A symbolic link counts as a file of no
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSum {
    /// Files and links.
    pub files: u64,
    /// Bytes of them, holes included.
    pub bytes: u64,
}

impl FileSum {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// An entry of the merged tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AnalyzedEntry {
    /// Where it is.
    pub path: LayerPath,
    /// What it is.
    pub kind: Kind,
    /// The layer that it is from, the lowest being 0.
    pub layer: usize,
    /// Bytes of a file, holes included; 0 of others.
    pub size: u64,
    /// Digest of a file's bytes.
    pub content: Option<Digest>,
    /// Whether an entry before it is the same file by another name, so that its bytes are
    /// counted there.
    pub is_further_name: bool,
}

/// A file of a layer that the merged tree does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HiddenFile {
    /// Where the layer has it: its first name there.
    pub path: LayerPath,
    /// The layer that has it, the lowest being 0.
    pub layer: usize,
    /// The layer that hides it.
    pub by: usize,
    /// Whether that layer has another entry at the path, rather than none.
    pub is_overwritten: bool,
    /// Its bytes, holes included.
    pub size: u64,
}

/// Analyzes an image: what each layer adds, overwrites, removes, wastes, and shares with
/// other images of the store.
///
/// Holds an entry for each path of the image and the digests of its chunks. Reads the
/// entries of all layers of the store, and no content: O(entries of the store).
///
/// ```
/// use stratafs::store::Store;
/// use stratafs::transfer::{ImportOptions, analyze, import};
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// let store = Store::open(dir.path())?;
/// let reference = "app:1".parse()?;
/// import(&store, &[app], &reference, &ImportOptions::default())?;
/// assert_eq!(analyze(&store, &reference)?.layers.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Store`].
pub fn analyze(store: &Store, reference: &Reference) -> Result<Analysis, TransferError> {
    let info = store.info(reference.as_str())?;
    let layers = store.layers(reference.as_str())?;
    let mut merged = LayerStack::default();
    for layer in &layers {
        merged.stack(layer);
    }
    let mut analysis = merged.finish();
    let shared = LayerSharing::find(store, &info, &layers)?;
    let parts = analysis.layers.iter_mut().zip(&layers).zip(shared);
    for ((figures, layer), shared) in parts {
        figures.digest = Some(layer.digest());
        figures.chunk_bytes = shared.chunk_bytes;
        figures.new_chunk_bytes = shared.new_chunk_bytes;
        figures.shared_chunk_bytes = shared.shared_chunk_bytes;
        figures.shared_with = shared.images;
    }
    Ok(analysis)
}
