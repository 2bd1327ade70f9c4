//! Counts, digest and verification of a whole image.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use super::walk::{ImageStep, ImageWalk};
use super::{Image, ImageError};
use crate::chunk::Content;
use crate::digest::Digest;
use crate::meta::{Kind, Stat};
use crate::name::LayerPath;
use crate::tree::{DirMark, TreeHasher};

/// What an image consists of.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageStats {
    /// Layers in the stack.
    pub layers: usize,
    /// Regular files; one with several names counts once.
    pub files: u64,
    /// Directories, the root included.
    pub dirs: u64,
    /// Symbolic links; one with several names counts once.
    pub symlinks: u64,
    /// Bytes of all files, holes included.
    pub logical_bytes: u64,
    /// Bytes that are held for them: each distinct chunk once.
    pub stored_bytes: u64,
}

/// An entry of an image, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Located {
    /// Index of the layer that has the name, 0 being the lowest; of a
    /// directory, of the layer that its metadata is from. `None` for the
    /// root, which every layer has.
    pub layer: Option<usize>,
    /// What it is.
    pub stat: Stat,
}

/// Walks down from the root, one look-up a name.
pub(super) fn locate(image: &Image, path: &LayerPath) -> Option<Located> {
    let (mut node, mut slot) = (0, None);
    for name in path.names() {
        let found = image.lookup(node, name.as_bytes())?;
        (node, slot) = (found.node, Some(found.slot));
    }
    let layer = slot.map(|slot| usize::from(image.origin(slot)));
    Some(Located {
        layer,
        stat: image.stat(node),
    })
}

/// Walks in canonical order until all of them are found.
pub(super) fn paths_of(image: &Image, nodes: &HashSet<u32>) -> HashMap<u32, LayerPath> {
    let mut paths = HashMap::with_capacity(nodes.len());
    let mut walk = ImageWalk::new(image);
    while paths.len() < nodes.len()
        && let Some(step) = walk.next()
    {
        if let ImageStep::Leaf(entry) = step
            && nodes.contains(&entry.node)
        {
            paths.entry(entry.node).or_insert_with(|| walk.path());
        }
    }
    paths
}

/// Counts over the table of nodes.
pub(super) fn stats(image: &Image) -> ImageStats {
    let mut stats = ImageStats {
        layers: image.layer_count(),
        ..ImageStats::default()
    };
    let mut chunks = HashSet::new();
    // Data at rest is told apart by file: its chunks are the store's to count.
    let mut files = HashSet::new();
    for node in 0..image.nodes() {
        match image.kind(node) {
            Kind::Dir => stats.dirs += 1,
            Kind::Symlink => stats.symlinks += 1,
            Kind::File => stats.files += 1,
        }
        let Some(content) = image.content(node) else {
            continue;
        };
        stats.logical_bytes = stats.logical_bytes.saturating_add(content.size());
        if content.stored().is_some() && files.insert(content.digest()) {
            stats.stored_bytes += content.stored_bytes();
        }
        for (_, chunk) in content.chunks() {
            if chunks.insert(chunk.digest()) {
                stats.stored_bytes += chunk.len() as u64;
            }
        }
    }
    stats
}

/// Computes the digest of the merged tree from the digests of the files.
pub(super) fn digest(image: &Image) -> Digest {
    let known = |_: &ImageWalk, content: &Content| Ok::<_, Infallible>(content.digest());
    match fingerprint(image, known) {
        Ok(digest) => digest,
        Err(never) => match never {},
    }
}

/// Computes the digest of the merged tree from the bytes of the chunks.
pub(super) fn verify(image: &Image) -> Result<Digest, ImageError> {
    let mut seen = HashSet::new();
    fingerprint(image, |walk, content| {
        for (offset, chunk) in content.chunks() {
            // By place, not by digest: what is to be found are bytes that do
            // not belong to their digest.
            if !seen.insert(chunk.address()) {
                continue;
            }
            let found = Digest::of(&chunk.bytes());
            if found != chunk.digest() {
                return Err(ImageError::WrongChunk {
                    path: walk.path(),
                    offset,
                    expected: chunk.digest(),
                    found,
                });
            }
        }
        content
            .recomputed_digest()
            .map_err(|error| ImageError::Unreadable {
                path: walk.path(),
                error,
            })
    })
}

/// Walks the whole tree and hashes it as a layer is hashed, so that a layer
/// that hides nothing and the image of it alone have one digest.
fn fingerprint<E>(
    image: &Image,
    mut file: impl FnMut(&ImageWalk, &Content) -> Result<Digest, E>,
) -> Result<Digest, E> {
    let mark = DirMark::default();
    let mut hasher = TreeHasher::new(&image.meta(0), mark);
    let mut walk = ImageWalk::new(image);
    while let Some(step) = walk.next() {
        let entry = match step {
            ImageStep::Leave => {
                hasher.leave();
                continue;
            }
            ImageStep::Enter(entry) => {
                hasher.enter(entry.name, &image.meta(entry.node), mark);
                continue;
            }
            ImageStep::Leaf(entry) => entry,
        };
        let meta = image.meta(entry.node);
        let object = (image.stat(entry.node).nlink > 1).then_some(entry.node.into());
        if let Some(content) = image.content(entry.node) {
            hasher.file(entry.name, &meta, file(&walk, content)?, object);
        } else if let Some(target) = image.target(entry.node) {
            hasher.symlink(entry.name, &meta, target, object);
        }
    }
    Ok(hasher.finish())
}
