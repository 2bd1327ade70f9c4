//! The rules by which layers hide one another.

use std::collections::HashMap;

use super::error::ImageError;
use crate::chunk::Content;
use crate::layer::Layer;
use crate::layer::node::{Body, Child, Dir, Node, NodeId};
use crate::meta::{Kind, Meta};
use crate::name::{LayerPath, Name};
use crate::steps;

/// An object of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Index of the layer, 0 being the lowest.
    pub(super) layer: u16,
    pub(super) node: NodeId,
}

/// One layer's part of a merged directory.
#[derive(Clone, Copy)]
pub(super) struct Storey<'a> {
    pub(super) layer: u16,
    pub(super) meta: &'a Meta,
    pub(super) dir: &'a Dir,
}

/// What a name stands for once every layer has had its say.
pub(super) enum Settled<'a> {
    /// Hidden, or in no layer.
    Nothing,
    /// A file or symbolic link, and the layer that gives it this name.
    Object {
        named_by: u16,
        origin: Origin,
        meta: &'a Meta,
        leaf: Leaf<'a>,
    },
    /// A directory; its storeys were handed out.
    Dir,
}

/// What has no children.
pub(super) enum Leaf<'a> {
    File(&'a Content),
    Symlink(&'a [u8]),
}

impl Leaf<'_> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Symlink(_) => Kind::Symlink,
        }
    }
}

impl<'a> Storey<'a> {
    fn of(layer: u16, node: &'a Node) -> Option<Self> {
        match &node.body {
            Body::Dir(dir) => Some(Self {
                layer,
                meta: &node.meta,
                dir,
            }),
            Body::File(_) | Body::Symlink(_) => None,
        }
    }
}

/// The layers of an image, lowest first, with the hard links between them
/// resolved.
pub(super) struct Stack<'a> {
    layers: &'a [Layer],
    links: HashMap<(u16, &'a LayerPath), Origin>,
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
                            .resolve(at, target, &mut parent)
                            .map_err(|why| why.name(at, path_in(layer, dir, name), target))?;
                        stack.links.insert((at, target), object);
                    }
                }
            }
        }
        Ok(stack)
    }

    /// Adds the storeys of the root as the layers below `below` make it.
    pub(super) fn roots(&self, below: usize, storeys: &mut Vec<Storey<'a>>) {
        let layers = (0u16..).zip(self.layers).take(below);
        // Reversed by hand: the zip's length is not exact.
        let mut roots: Vec<_> = layers
            .filter_map(|(layer, tree)| Storey::of(layer, tree.node(NodeId::ROOT)))
            .collect();
        let opaque = roots.iter().rposition(|storey| storey.dir.opaque);
        storeys.extend(roots.drain(opaque.unwrap_or(0)..).rev());
    }

    /// Settles one name from what the layers have under it, the highest first.
    /// Adds the storeys of the directory it stands for, if it does.
    pub(super) fn settle(
        &self,
        entries: impl Iterator<Item = (u16, &'a Child)>,
        storeys: &mut Vec<Storey<'a>>,
    ) -> Settled<'a> {
        let start = storeys.len();
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
                Body::Dir(dir) => {
                    storeys.push(Storey {
                        layer: origin.layer,
                        meta,
                        dir,
                    });
                    if dir.opaque {
                        break;
                    }
                    continue;
                }
                Body::File(content) => Leaf::File(content),
                Body::Symlink(target) => Leaf::Symlink(target),
            };
            if storeys.len() == start {
                return Settled::Object {
                    named_by,
                    origin,
                    meta,
                    leaf,
                };
            }
            break;
        }
        if storeys.len() == start {
            Settled::Nothing
        } else {
            Settled::Dir
        }
    }

    /// Returns the object that an entry of a layer stands for, if it does.
    fn origin(&self, layer: u16, child: &'a Child) -> Option<Origin> {
        match child {
            Child::Node(node) => Some(Origin { layer, node: *node }),
            Child::Whiteout => None,
            Child::LowerLink(target) => self.links.get(&(layer, target)).copied(),
        }
    }

    /// Finds the object that `target` names in the layers below `layer`.
    /// Follows no symbolic links. `last` spares the walk to the directory for
    /// links that follow one another.
    fn resolve(
        &self,
        layer: u16,
        target: &'a LayerPath,
        last: &mut Option<Parent<'a>>,
    ) -> Result<Origin, NoObject> {
        let (names, name) = target.split_last().ok_or(NoObject::Directory)?;
        let parent = match last {
            Some(parent) if parent.names == names => parent,
            _ => last.insert(self.walk(layer, names)?),
        };
        match self.settle(Self::entries(&parent.storeys, name), &mut Vec::new()) {
            Settled::Nothing => Err(NoObject::Missing),
            Settled::Dir => Err(NoObject::Directory),
            Settled::Object { origin, .. } => Ok(origin),
        }
    }

    /// Walks down to a directory in the merge of the layers below `layer`.
    fn walk(&self, layer: u16, names: &'a [Name]) -> Result<Parent<'a>, NoObject> {
        let mut storeys = Vec::new();
        self.roots(layer.into(), &mut storeys);
        for name in names {
            let mut within = Vec::new();
            match self.settle(Self::entries(&storeys, name), &mut within) {
                Settled::Dir => storeys = within,
                Settled::Nothing | Settled::Object { .. } => return Err(NoObject::Missing),
            }
        }
        Ok(Parent { names, storeys })
    }

    /// Returns what the storeys of a directory have under a name.
    fn entries(storeys: &[Storey<'a>], name: &Name) -> impl Iterator<Item = (u16, &'a Child)> {
        storeys.iter().filter_map(|storey| {
            let children = &storey.dir.children;
            let at = children.binary_search_by(|(have, _)| have.cmp(name)).ok()?;
            children.get(at).map(|(_, child)| (storey.layer, child))
        })
    }
}

/// A directory of a merge, and how it was reached.
struct Parent<'a> {
    names: &'a [Name],
    storeys: Vec<Storey<'a>>,
}

/// Why a hard link to a lower layer leads nowhere.
enum NoObject {
    Missing,
    Directory,
}

impl NoObject {
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
