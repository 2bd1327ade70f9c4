//! Merging a stack of layers into one index, once (invariants 2 to 4).
//!
//! Breadth first, one directory after the other: what the parts of a
//! directory have is merged by name, and the directories found join the queue.
//! So numbers follow from the merged tree alone, however it is cut into
//! layers, and depth costs no stack.

use std::iter;
use std::ops::Range;

use super::error::ImageError;
use super::index::Index;
use super::merge::{LayerDir, LayerNode, LeafEntry, Resolved, Stack};
use super::parts::Parts;
use crate::layer::Layer;
use crate::layer::node::Child;
use crate::meta::{Kind, Meta};
use crate::name::Name;

/// Stands for "not numbered yet" in [`Flattener::numbers`].
const UNSEEN: u32 = u32::MAX;

/// The root of an image without layers.
static NO_META: Meta = Meta::with_mode(0o755);

/// Merges `layers`, the lowest first.
pub(super) fn flatten(layers: &[Layer]) -> Result<Index, ImageError> {
    let stack = Stack::new(layers)?;
    let mut flattener = Flattener {
        numbers: layers
            .iter()
            .map(|layer| vec![UNSEEN; layer.node_count()])
            .collect(),
        parts: Parts::with_capacity(layers.iter().map(Layer::node_count).sum()),
        stack: &stack,
        gathered: Vec::new(),
        next: Queue::default(),
    };
    stack.roots(layers.len(), &mut flattener.next.layer_dirs);
    flattener.enqueue(0, 0)?;
    loop {
        let queue = std::mem::take(&mut flattener.next);
        if queue.dirs.is_empty() {
            return Ok(flattener.parts.finish());
        }
        for (dir, range) in queue.dirs {
            flattener.fill(dir, queue.layer_dirs.get(range).unwrap_or_default())?;
        }
    }
}

/// Directories of one depth that are numbered and wait for their children.
#[derive(Default)]
struct Queue<'a> {
    /// Node number, and its part of `layer_dirs`.
    dirs: Vec<(u32, Range<usize>)>,
    /// The layers' directories that make up each merged one, highest first.
    layer_dirs: Vec<LayerDir<'a>>,
}

struct Flattener<'a, 's> {
    stack: &'s Stack<'a>,
    parts: Parts,
    /// For each node of each layer its number in the index, so that a file
    /// with several names stays one.
    numbers: Vec<Vec<u32>>,
    /// What the parts of the directory at hand have, kept for its memory.
    gathered: Vec<(&'a Name, u16, &'a Child)>,
    next: Queue<'a>,
}

impl<'a> Flattener<'a, '_> {
    /// Enters the children of a directory.
    fn fill(&mut self, dir: u32, layer_dirs: &[LayerDir<'a>]) -> Result<(), ImageError> {
        let first = self.parts.slot_count();
        let mut subdirs = 0;
        if let [only] = layer_dirs {
            for (name, child) in &only.dir.children {
                subdirs += self.enter(dir, name, iter::once((only.layer, child)))?;
            }
        } else {
            let gathered = self.gather(layer_dirs);
            for group in gathered.chunk_by(|a, b| a.0 == b.0) {
                let Some((name, ..)) = group.first() else {
                    continue;
                };
                let entries = group.iter().map(|(_, layer, child)| (*layer, *child));
                subdirs += self.enter(dir, name, entries)?;
            }
            self.gathered = gathered;
        }
        self.parts.set_children(dir, first, subdirs);
        Ok(())
    }

    /// Lists what all layer_dirs have, by name and within a name highest first.
    fn gather(&mut self, layer_dirs: &[LayerDir<'a>]) -> Vec<(&'a Name, u16, &'a Child)> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.clear();
        for layer_dir in layer_dirs {
            let children = layer_dir.dir.children.iter();
            gathered.extend(children.map(|(name, child)| (name, layer_dir.layer, child)));
        }
        // Stable, and quick on what is sorted piece by piece.
        gathered.sort_by(|a, b| a.0.cmp(b.0));
        gathered
    }

    /// Enters one name of a directory, if it stands for anything. Returns 1 for
    /// a directory and 0 otherwise.
    fn enter(
        &mut self,
        parent: u32,
        name: &Name,
        entries: impl Iterator<Item = (u16, &'a Child)>,
    ) -> Result<u32, ImageError> {
        let start = self.next.layer_dirs.len();
        let (layer, node, kind) = match self.stack.resolve_name(entries, &mut self.next.layer_dirs)
        {
            Resolved::Nothing => return Ok(0),
            Resolved::Dir => {
                let (layer, node) = self.enqueue(parent, start)?;
                (layer, node, Kind::Dir)
            }
            Resolved::Object {
                named_by,
                origin,
                meta,
                leaf,
            } => {
                let kind = leaf.kind();
                (named_by, self.object(origin, meta, leaf)?, kind)
            }
        };
        self.parts.push_slot(parent, name, (node, kind), layer)?;
        Ok(u32::from(kind == Kind::Dir))
    }

    /// Numbers the directory whose layer_dirs are those from `start` on. Returns
    /// the layer that its metadata is from, and the number.
    fn enqueue(&mut self, parent: u32, start: usize) -> Result<(u16, u32), ImageError> {
        let layer_dirs = self.next.layer_dirs.get(start..).unwrap_or_default();
        let explicit = layer_dirs.iter().find(|layer_dir| !layer_dir.dir.implied);
        let (layer, meta) = explicit
            .or(layer_dirs.first())
            .map_or((0, &NO_META), |layer_dir| (layer_dir.layer, layer_dir.meta));
        let node = self.parts.push_dir(parent, meta)?;
        self.next
            .dirs
            .push((node, start..self.next.layer_dirs.len()));
        Ok((layer, node))
    }

    /// Numbers a file or symbolic link at its first name, counts its names.
    fn object(
        &mut self,
        origin: LayerNode,
        meta: &Meta,
        leaf: LeafEntry,
    ) -> Result<u32, ImageError> {
        let layer = self.numbers.get_mut(usize::from(origin.layer));
        let number = layer.and_then(|numbers| numbers.get_mut(origin.node.index()));
        if let Some(number) = &number
            && **number != UNSEEN
        {
            self.parts.add_name(**number);
            return Ok(**number);
        }
        let node = match leaf {
            LeafEntry::File(content) => self.parts.push_file(meta, content)?,
            LeafEntry::Symlink(target) => self.parts.push_symlink(meta, target)?,
        };
        if let Some(number) = number {
            *number = node;
        }
        Ok(node)
    }
}
