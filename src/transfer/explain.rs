//! Why an image shows what it shows.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::TransferError;
use crate::chunk::Content;
use crate::digest::Digest;
use crate::errno::Errno;
use crate::image::Reference;
use crate::layer::{EntryBody, Layer, LayerEntry};
use crate::meta::{Kind, Stat};
use crate::name::LayerPath;
use crate::store::{ImageInfo, Store, StoredChunk};

/// Where an entry of an image comes from, what it stands before, and who else
/// has its bytes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The entry.
    pub path: LayerPath,
    /// What it is.
    pub stat: Stat,
    /// The layer that it is from, the lowest being 0, with its digest; of a
    /// directory the one that its metadata is from. `None` for the root.
    pub layer: Option<(usize, Digest)>,
    /// What lower layers have there, the highest first.
    pub below: Vec<LowerEntry>,
    /// The chunks of a file, in order.
    pub chunks: Vec<StoredChunk>,
    /// Other files of the store that lie in some of these chunks.
    pub sharers: Vec<Sharer>,
}

/// What a lower layer has at the path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LowerEntry {
    /// The layer, the lowest being 0.
    pub layer: usize,
    /// Its digest.
    pub digest: Digest,
    /// What it has there.
    pub what: EntryKind,
    /// Whether that still shows: a directory that others are merged with.
    pub merged: bool,
}

/// What a layer has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A directory that hides what is below it.
    OpaqueDir,
    /// A symbolic link.
    Symlink,
    /// A hard link to a file of a lower layer.
    HardLink,
    /// A whiteout.
    Whiteout,
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File(_) => "file",
            Self::Dir => "dir",
            Self::OpaqueDir => "opaque dir",
            Self::Symlink => "symlink",
            Self::HardLink => "hard link",
            Self::Whiteout => "whiteout",
        })
    }
}

/// A file that shares chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sharer {
    /// The images that have the file's layer: a tag of each, or its digest.
    pub images: Vec<String>,
    /// The layer.
    pub layer: Digest,
    /// The file.
    pub path: LayerPath,
    /// Bytes of the chunks that both have.
    pub shared_bytes: u64,
}

/// Explains what `reference` shows at `path`; symbolic links are not
/// followed. Looks through all layers of the store for the sharers:
/// O(entries of the store).
///
/// ```
/// use stratafs::name::LayerPath;
/// use stratafs::store::Store;
/// use stratafs::transfer::{ImportOptions, explain, import};
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// let store = Store::open(dir.path())?;
/// let reference = "app:1".parse()?;
/// import(&store, &[app], &reference, &ImportOptions::default())?;
/// let told = explain(&store, &reference, &LayerPath::parse(b"main.py")?)?;
/// assert_eq!(told.path.to_string(), "main.py");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Store`]; [`TransferError::Path`] with [`Errno::NoEntry`],
/// or [`TransferError::Removed`] if a layer has removed what was there.
pub fn explain(
    store: &Store,
    reference: &Reference,
    path: &LayerPath,
) -> Result<Explanation, TransferError> {
    let image = store.image(reference.as_str())?;
    let layers = store.layers(reference.as_str())?;
    let Some(located) = image.locate(path) else {
        return Err(missing(path, &layers));
    };
    let from = located.layer;
    let content = from
        .and_then(|number| layers.get(number))
        .and_then(|layer| content_at(layer, path));
    let chunks = match content {
        Some(content) => store.chunks(&content)?,
        None => Vec::new(),
    };
    let own = from.and_then(|number| Some((number, layers.get(number)?.digest())));
    Ok(Explanation {
        path: path.clone(),
        stat: located.stat,
        layer: own,
        below: below(&layers, path, from, located.stat.kind),
        sharers: sharers(store, &chunks, (own.map(|(_, digest)| digest), path))?,
        chunks,
    })
}

fn entry_at<'a>(layer: &'a Layer, path: &LayerPath) -> Option<LayerEntry<'a>> {
    layer.entries().find(|entry| entry.path == *path)
}

fn content_at(layer: &Layer, path: &LayerPath) -> Option<Content> {
    match entry_at(layer, path)?.body {
        EntryBody::File { content, .. } => Some(content.clone()),
        _ => None,
    }
}

fn what(entry: &LayerEntry<'_>) -> EntryKind {
    match &entry.body {
        EntryBody::File { content, .. } => EntryKind::File(content.size()),
        EntryBody::Dir { opaque: true, .. } => EntryKind::OpaqueDir,
        EntryBody::Dir { opaque: false, .. } => EntryKind::Dir,
        EntryBody::Symlink { .. } => EntryKind::Symlink,
        EntryBody::LowerLink { .. } => EntryKind::HardLink,
        EntryBody::Whiteout => EntryKind::Whiteout,
    }
}

/// Lists what lies below the layer that shows, from there down.
fn below(layers: &[Layer], path: &LayerPath, from: Option<usize>, kind: Kind) -> Vec<LowerEntry> {
    let shown = from.and_then(|number| Some(what(&entry_at(layers.get(number)?, path)?)));
    // A directory shows others below until one hides them.
    let mut open = kind == Kind::Dir && shown != Some(EntryKind::OpaqueDir);
    let mut found = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        if from.is_some_and(|from| number >= from) {
            continue;
        }
        let Some(entry) = entry_at(layer, path) else {
            open = open && !is_cut(layer, path);
            continue;
        };
        let what = what(&entry);
        let is_dir = matches!(what, EntryKind::Dir | EntryKind::OpaqueDir);
        if from.is_some() || !path.is_root() {
            found.push(LowerEntry {
                layer: number,
                digest: layer.digest(),
                what,
                merged: open && is_dir,
            });
        }
        open = open && what == EntryKind::Dir;
    }
    found
}

/// Returns whether a layer hides what lower ones have at `path` by something
/// above it: a whiteout, an opaque directory, a file.
fn is_cut(layer: &Layer, path: &LayerPath) -> bool {
    let names = path.names();
    (1..names.len()).any(|depth| {
        let above = LayerPath::from(names.get(..depth).unwrap_or_default().to_vec());
        entry_at(layer, &above).is_some_and(|entry| what(&entry) != EntryKind::Dir)
    })
}

/// Says why there is nothing.
fn missing(path: &LayerPath, layers: &[Layer]) -> TransferError {
    let had = layers.iter().position(|layer| {
        entry_at(layer, path).is_some_and(|entry| what(&entry) != EntryKind::Whiteout)
    });
    let above = had.map_or(0, |had| had + 1);
    let remover = layers.iter().enumerate().skip(above).find(|(_, layer)| {
        entry_at(layer, path).is_some_and(|entry| what(&entry) == EntryKind::Whiteout)
            || is_cut(layer, path)
    });
    match (had, remover) {
        (Some(had), Some((number, layer))) => TransferError::Removed {
            path: path.clone(),
            had,
            layer: number,
            digest: layer.digest(),
        },
        _ => TransferError::Path {
            path: path.to_string(),
            errno: Errno::NoEntry,
        },
    }
}

/// Looks for other files in the same chunks.
fn sharers(
    store: &Store,
    chunks: &[StoredChunk],
    (layer, path): (Option<Digest>, &LayerPath),
) -> Result<Vec<Sharer>, TransferError> {
    let wanted: HashSet<Digest> = chunks.iter().map(|chunk| chunk.digest).collect();
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    for (digest, images) in layers_of(store.list()?) {
        let Some(other) = store.layer(digest)? else {
            continue;
        };
        for entry in other.entries() {
            let EntryBody::File { content, .. } = &entry.body else {
                continue;
            };
            if layer == Some(digest) && entry.path == *path {
                continue;
            }
            let own: HashSet<(Digest, u32)> = store
                .chunks(content)?
                .iter()
                .map(|chunk| (chunk.digest, chunk.bytes))
                .collect();
            let common = own.iter().filter(|(digest, _)| wanted.contains(digest));
            let shared_bytes = common.map(|(_, bytes)| u64::from(*bytes)).sum();
            if shared_bytes > 0 {
                found.push(Sharer {
                    images: images.clone(),
                    layer: digest,
                    path: entry.path.clone(),
                    shared_bytes,
                });
            }
        }
    }
    Ok(found)
}

/// Each layer once, with the images that have it.
fn layers_of(images: Vec<ImageInfo>) -> BTreeMap<Digest, Vec<String>> {
    let mut layers: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for image in images {
        let name = image.tags.first().cloned();
        let name = name.unwrap_or_else(|| image.id.to_string());
        for layer in &image.layers {
            let names = layers.entry(layer.digest).or_default();
            if names.last() != Some(&name) {
                names.push(name.clone());
            }
        }
    }
    layers
}
