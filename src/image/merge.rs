//! The rules by which layers hide one another.

use std::collections::HashMap;

use super::error::ImageError;
use crate::chunk::Content;
use crate::layer::Layer;
use crate::layer::node::{Child, Dir, Node, NodeBody, NodeId};
use crate::meta::{Kind, Meta};
use crate::name::{LayerPath, Name};
use crate::steps;

/// An object of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerNode {
    /// Index of the layer, 0 being the lowest.
    pub(super) layer: u16,
    pub(super) node: NodeId,
}

/// One layer's part of a merged directory.
#[derive(Clone, Copy)]
pub(super) struct LayerDir<'a> {
    pub(super) layer: u16,
    pub(super) meta: &'a Meta,
    pub(super) dir: &'a Dir,
}

/// What a name stands for in the merge of all layers.
pub(super) enum Resolved<'a> {
    /// Hidden, or in no layer.
    Nothing,
    /// A file or symbolic link, and the layer that gives it this name.
    Object {
        named_by: u16,
        origin: LayerNode,
        meta: &'a Meta,
        leaf: LeafEntry<'a>,
    },
    /// A directory; its layer_dirs were handed out.
    Dir,
}

/// What has no children.
pub(super) enum LeafEntry<'a> {
    File(&'a Content),
    Symlink(&'a [u8]),
}

impl LeafEntry<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Symlink(_) => Kind::Symlink,
        }
    }
}

impl<'a> LayerDir<'a> {
    fn of(layer: u16, node: &'a Node) -> Option<Self> {
        match &node.body {
            NodeBody::Dir(dir) => Some(Self {
                layer,
                meta: &node.meta,
                dir,
            }),
            NodeBody::File(_) | NodeBody::Symlink(_) => None,
        }
    }
}

/// The layers of an image, lowest first, with the hard links between them
/// resolved.
pub(super) struct Stack<'a> {
    layers: &'a [Layer],
    links: HashMap<(u16, &'a LayerPath), LayerNode>,
}

impl<'a> Stack<'a> {
    /// Resolves the hard links of every layer, also where a higher layer hides
    /// the link: what is an image stays one when it is built upon.
    pub(super) fn new(layers: &'a [Layer]) -> Result<Self, ImageError> {
        let mut stack = Self {
            layers,
            links: HashMap::new(),
        };
        for (at, layer) in (0u16..).zip(layers) {
            let mut parent = None;
            for dir in (0..).map(NodeId).take(layer.node_count()) {
                for (name, child) in children(layer, dir) {
                    if let Child::LowerLink(target) = child {
                        let object = stack
                            .resolve_link(at, target, &mut parent)
                            .map_err(|why| why.name(at, path_in(layer, dir, name), target))?;
                        stack.links.insert((at, target), object);
                    }
                }
            }
        }
        Ok(stack)
    }

    /// Adds the parts of the root as the layers below `below` make it.
    pub(super) fn roots(&self, below: usize, layer_dirs: &mut Vec<LayerDir<'a>>) {
        let layers = (0u16..).zip(self.layers).take(below);
        // Reversed by hand: the zip's length is not exact.
        let mut roots: Vec<_> = layers
            .filter_map(|(layer, tree)| LayerDir::of(layer, tree.node(NodeId::ROOT)))
            .collect();
        let opaque = roots.iter().rposition(|layer_dir| layer_dir.dir.opaque);
        layer_dirs.extend(roots.drain(opaque.unwrap_or(0)..).rev());
    }

    /// Resolves one name from what the layers have under it.
    ///
    /// Precondition: `entries` come from the highest layer to the lowest, and none is
    /// from below an opaque directory. If the name stands for a directory, its parts
    /// are added to `layer_dirs`, the highest first; otherwise nothing is added.
    pub(super) fn resolve_name(
        &self,
        entries: impl Iterator<Item = (u16, &'a Child)>,
        layer_dirs: &mut Vec<LayerDir<'a>>,
    ) -> Resolved<'a> {
        let start = layer_dirs.len();
        for (named_by, child) in entries {
            steps::add(1);
            let Some(origin) = self.origin(named_by, child) else {
                break;
            };
            let Some(layer) = self.layers.get(usize::from(origin.layer)) else {
                break;
            };
            let Node { meta, body } = layer.node(origin.node);
            let leaf = match body {
                NodeBody::Dir(dir) => {
                    layer_dirs.push(LayerDir {
                        layer: origin.layer,
                        meta,
                        dir,
                    });
                    if dir.opaque {
                        break;
                    }
                    continue;
                }
                NodeBody::File(content) => LeafEntry::File(content),
                NodeBody::Symlink(target) => LeafEntry::Symlink(target),
            };
            if layer_dirs.len() == start {
                return Resolved::Object {
                    named_by,
                    origin,
                    meta,
                    leaf,
                };
            }
            break;
        }
        if layer_dirs.len() == start {
            Resolved::Nothing
        } else {
            Resolved::Dir
        }
    }

    /// Returns the object that an entry of a layer stands for, if it does.
    fn origin(&self, layer: u16, child: &'a Child) -> Option<LayerNode> {
        match child {
            Child::Node(node) => Some(LayerNode { layer, node: *node }),
            Child::Whiteout => None,
            Child::LowerLink(target) => self.links.get(&(layer, target)).copied(),
        }
    }

    /// Finds the object that `target` names in the layers below `layer`.
    /// Follows no symbolic links. `last` spares the walk to the directory for
    /// links that follow one another.
    fn resolve_link(
        &self,
        layer: u16,
        target: &'a LayerPath,
        last: &mut Option<MergedDir<'a>>,
    ) -> Result<LayerNode, LinkError> {
        let (names, name) = target.split_last().ok_or(LinkError::Directory)?;
        let parent = match last {
            Some(parent) if parent.names == names => parent,
            _ => last.insert(self.walk(layer, names)?),
        };
        match self.resolve_name(Self::entries(&parent.layer_dirs, name), &mut Vec::new()) {
            Resolved::Nothing => Err(LinkError::Missing),
            Resolved::Dir => Err(LinkError::Directory),
            Resolved::Object { origin, .. } => Ok(origin),
        }
    }

    /// Walks down to a directory in the merge of the layers below `layer`.
    fn walk(&self, layer: u16, names: &'a [Name]) -> Result<MergedDir<'a>, LinkError> {
        let mut layer_dirs = Vec::new();
        self.roots(layer.into(), &mut layer_dirs);
        for name in names {
            let mut within = Vec::new();
            match self.resolve_name(Self::entries(&layer_dirs, name), &mut within) {
                Resolved::Dir => layer_dirs = within,
                Resolved::Nothing | Resolved::Object { .. } => return Err(LinkError::Missing),
            }
        }
        Ok(MergedDir { names, layer_dirs })
    }

    /// Returns what the parts of a directory have under a name.
    fn entries(layer_dirs: &[LayerDir<'a>], name: &Name) -> impl Iterator<Item = (u16, &'a Child)> {
        layer_dirs.iter().filter_map(|layer_dir| {
            let children = &layer_dir.dir.children;
            let at = children.binary_search_by(|(have, _)| have.cmp(name)).ok()?;
            children.get(at).map(|(_, child)| (layer_dir.layer, child))
        })
    }
}

/// A directory of a merge, and how it was reached.
struct MergedDir<'a> {
    names: &'a [Name],
    layer_dirs: Vec<LayerDir<'a>>,
}

/// Why a hard link to a lower layer leads nowhere.
enum LinkError {
    Missing,
    Directory,
}

impl LinkError {
    fn name(self, layer: u16, link: LayerPath, target: &LayerPath) -> ImageError {
        let (layer, target) = (layer.into(), target.clone());
        match self {
            Self::Missing => ImageError::LinkToMissing {
                layer,
                link,
                target,
            },
            Self::Directory => ImageError::LinkToDirectory {
                layer,
                link,
                target,
            },
        }
    }
}

/// Returns the children of a node: none where it is no directory.
fn children(layer: &Layer, dir: NodeId) -> &[(Name, Child)] {
    layer.dir(dir).map_or(&[], |dir| &dir.children)
}

/// Finds the path of a name in a directory of a layer. O(nodes): for errors.
fn path_in(layer: &Layer, dir: NodeId, name: &Name) -> LayerPath {
    let mut above = HashMap::new();
    for parent in (0..).map(NodeId).take(layer.node_count()) {
        for (name, child) in children(layer, parent) {
            if let Child::Node(node) = child {
                above.insert(node.0, (parent, name));
            }
        }
    }
    let mut names = vec![name.clone()];
    let mut at = dir;
    while let Some((parent, name)) = above.get(&at.0) {
        names.push((*name).clone());
        at = *parent;
    }
    names.reverse();
    names.into()
}
