//! The mutable tree behind the builder: nodes in one table, names in maps.

use std::collections::HashMap;
use std::sync::Arc;

use super::LayerError;
use super::node::{Child, Dir, Node, NodeBody, NodeId};
use crate::bounded::bounded_u32;
use crate::chunk::Content;
use crate::meta::Meta;
use crate::name::{LayerPath, Name};
use crate::steps;

/// Metadata of a directory that no entry names.
const IMPLIED: Meta = Meta::with_mode(0o755);

pub(super) struct BuildTree {
    /// What has been replaced stays here until the end.
    nodes: Vec<BuildNode>,
}

struct BuildNode {
    meta: Meta,
    object: BuildBody,
    names: u32,
}

pub(super) enum BuildBody {
    File(Content),
    Symlink(Arc<[u8]>),
    Dir(Box<BuildDir>),
}

#[derive(Default)]
pub(super) struct BuildDir {
    opaque: bool,
    implied: bool,
    children: HashMap<Name, NameSlot>,
}

/// A name: what stands there, and whether it hides lower layers' object.
#[derive(Default)]
pub(super) struct NameSlot {
    pub(super) hides: bool,
    pub(super) placed: Option<Placed>,
}

#[derive(Clone)]
pub(super) enum Placed {
    Node(u32),
    LowerLink(Box<LayerPath>),
}

impl BuildTree {
    pub(super) const ROOT: u32 = 0;

    pub(super) fn new() -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.push_implied();
        tree
    }

    /// Adds a node that no name leads to yet, and counts the one that will.
    pub(super) fn push(&mut self, object: BuildBody, meta: Meta) -> u32 {
        let id = self.push_nameless(object, meta);
        self.node_mut(id).names = 1;
        id
    }

    /// Adds a node that no name may ever lead to.
    pub(super) fn push_nameless(&mut self, object: BuildBody, meta: Meta) -> u32 {
        // The builder refuses more than `MAX_LAYER_ENTRIES`.
        let id = bounded_u32(self.nodes.len(), "the bound on entries of a layer");
        self.nodes.push(BuildNode {
            meta,
            object,
            names: 0,
        });
        id
    }

    pub(super) fn push_implied(&mut self) -> u32 {
        let dir = BuildDir {
            implied: true,
            ..BuildDir::default()
        };
        self.push(BuildBody::Dir(Box::new(dir)), IMPLIED)
    }

    pub(super) fn is_dir(&self, id: u32) -> bool {
        matches!(self.node(id).object, BuildBody::Dir(_))
    }

    /// Refuses what is no directory as a parent of `path`.
    pub(super) fn expect_dir(
        &self,
        id: u32,
        path: &LayerPath,
        parent: impl FnOnce() -> LayerPath,
    ) -> Result<(), LayerError> {
        let path = || path.clone();
        match self.node(id).object {
            BuildBody::Dir(_) => Ok(()),
            BuildBody::File(_) => Err(LayerError::BelowFile {
                path: path(),
                parent: parent(),
            }),
            BuildBody::Symlink(_) => Err(LayerError::BelowSymlink {
                path: path(),
                parent: parent(),
            }),
        }
    }

    pub(super) fn set_dir_meta(&mut self, id: u32, meta: Meta) {
        let node = self.node_mut(id);
        node.meta = meta;
        self.dir_mut(id).implied = false;
    }

    pub(super) fn set_opaque(&mut self, id: u32) {
        self.dir_mut(id).opaque = true;
    }

    /// Counts one more name of a node and returns their number.
    pub(super) fn add_name(&mut self, id: u32) -> u32 {
        let names = &mut self.node_mut(id).names;
        *names = names.saturating_add(1);
        *names
    }

    /// Finds or makes the slot of a name.
    pub(super) fn slot(&mut self, dir: u32, name: &Name) -> &mut NameSlot {
        let children = &mut self.dir_mut(dir).children;
        // Looked up twice when new, so that a known name is not cloned.
        if !children.contains_key(name) {
            children.insert(name.clone(), NameSlot::default());
        }
        #[expect(clippy::unwrap_used, reason = "inserted above if it was missing")]
        children.get_mut(name).unwrap()
    }

    /// Puts an object under a name, in the place of what was there.
    pub(super) fn place(&mut self, dir: u32, name: &Name, placed: Placed) {
        let before = self.slot(dir, name).placed.replace(placed);
        if let Some(Placed::Node(id)) = before {
            let names = &mut self.node_mut(id).names;
            *names = names.saturating_sub(1);
        }
    }

    /// Finds what this layer has at `path`, so far.
    pub(super) fn find(&self, path: &LayerPath) -> Option<Placed> {
        let mut found = Placed::Node(Self::ROOT);
        for name in path.names() {
            let Placed::Node(id) = found else { return None };
            let BuildBody::Dir(dir) = &self.node(id).object else {
                return None;
            };
            found = dir.children.get(name)?.placed.clone()?;
        }
        Some(found)
    }

    /// Leaves out what was replaced, numbers the rest level by level, and
    /// sorts the names.
    pub(super) fn compact(mut self) -> Vec<Node> {
        let mut order = Numbering {
            new: vec![None; self.nodes.len()],
            old: Vec::new(),
        };
        order.number(Self::ROOT);
        let mut done = Vec::new();
        while let Some(id) = order.old.get(done.len()).copied() {
            let body = match std::mem::replace(&mut self.node_mut(id).object, BuildBody::empty()) {
                BuildBody::File(content) => NodeBody::File(content),
                BuildBody::Symlink(target) => NodeBody::Symlink(target),
                BuildBody::Dir(dir) => NodeBody::Dir(self.compact_dir(*dir, &mut order)),
            };
            let meta = std::mem::replace(&mut self.node_mut(id).meta, IMPLIED);
            done.push(Node { meta, body });
        }
        done
    }

    fn compact_dir(&mut self, dir: BuildDir, order: &mut Numbering) -> Dir {
        let mut names: Vec<_> = dir.children.into_iter().collect();
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut children = Vec::with_capacity(names.len());
        for (name, slot) in names {
            let child = match slot.placed {
                Some(Placed::Node(id)) => {
                    if slot.hides {
                        self.hide_below(id);
                    }
                    Child::Node(order.number(id))
                }
                Some(Placed::LowerLink(target)) => Child::LowerLink(*target),
                None if slot.hides => Child::Whiteout,
                // Looked at, never filled: an entry that was refused.
                None => continue,
            };
            children.push((name, child));
        }
        Dir {
            opaque: dir.opaque,
            implied: dir.implied,
            children,
        }
    }

    /// A directory beside a whiteout of its name: nothing of a lower layer
    /// shows through, its metadata neither.
    fn hide_below(&mut self, id: u32) {
        if let BuildBody::Dir(dir) = &mut self.node_mut(id).object {
            dir.opaque = true;
            dir.implied = false;
        }
    }

    fn node(&self, id: u32) -> &BuildNode {
        steps::add(1);
        #[expect(
            clippy::indexing_slicing,
            reason = "ids come from this tree, which only grows"
        )]
        &self.nodes[id as usize]
    }

    fn node_mut(&mut self, id: u32) -> &mut BuildNode {
        steps::add(1);
        #[expect(
            clippy::indexing_slicing,
            reason = "ids come from this tree, which only grows"
        )]
        &mut self.nodes[id as usize]
    }

    fn dir_mut(&mut self, id: u32) -> &mut BuildDir {
        match &mut self.node_mut(id).object {
            BuildBody::Dir(dir) => dir,
            BuildBody::File(_) | BuildBody::Symlink(_) => {
                unreachable!("callers have made sure that it is a directory")
            }
        }
    }
}

impl BuildBody {
    /// Takes the place of what has been moved out.
    fn empty() -> Self {
        Self::Dir(Box::default())
    }
}

struct Numbering {
    /// New number by old one.
    new: Vec<Option<NodeId>>,
    /// Old numbers in the new order.
    old: Vec<u32>,
}

impl Numbering {
    fn number(&mut self, id: u32) -> NodeId {
        #[expect(
            clippy::indexing_slicing,
            reason = "as long as the tree whose ids come in"
        )]
        *self.new[id as usize].get_or_insert_with(|| {
            self.old.push(id);
            // These are nodes that `push_nameless` has numbered.
            NodeId(bounded_u32(
                self.old.len() - 1,
                "the bound on entries of a layer",
            ))
        })
    }
}
