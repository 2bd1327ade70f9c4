//! Going through a layer in canonical order, without recursion.

use std::slice;

use super::Layer;
use super::node::{Child, Dir, Node, NodeBody, NodeId};
use crate::chunk::Content;
use crate::meta::Meta;
use crate::name::{LayerPath, Name};

/// One step of a walk: a directory's entries by name, what is in a directory
/// right after it. The root is entered before the first step.
pub(crate) enum LayerStep<'a> {
    Enter(&'a Name, &'a Node, &'a Dir),
    File(&'a Name, NodeId, &'a Meta, &'a Content),
    Symlink(&'a Name, NodeId, &'a Meta, &'a [u8]),
    Whiteout(&'a Name),
    LowerLink(&'a Name, &'a LayerPath),
    Leave,
}

pub(crate) struct LayerWalk<'a> {
    nodes: &'a [Node],
    open: Vec<slice::Iter<'a, (Name, Child)>>,
}

impl<'a> LayerWalk<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let root = match nodes.first() {
            Some(Node {
                body: NodeBody::Dir(dir),
                ..
            }) => vec![dir.children.iter()],
            _ => Vec::new(),
        };
        Self { nodes, open: root }
    }
}

impl<'a> Iterator for LayerWalk<'a> {
    type Item = LayerStep<'a>;

    fn next(&mut self) -> Option<LayerStep<'a>> {
        let Some((name, child)) = self.open.last_mut()?.next() else {
            self.open.pop();
            return if self.open.is_empty() {
                None
            } else {
                Some(LayerStep::Leave)
            };
        };
        Some(match child {
            Child::Whiteout => LayerStep::Whiteout(name),
            Child::LowerLink(target) => LayerStep::LowerLink(name, target),
            Child::Node(id) => {
                let node = self.nodes.get(id.index())?;
                match &node.body {
                    NodeBody::File(content) => LayerStep::File(name, *id, &node.meta, content),
                    NodeBody::Symlink(target) => LayerStep::Symlink(name, *id, &node.meta, target),
                    NodeBody::Dir(dir) => {
                        self.open.push(dir.children.iter());
                        LayerStep::Enter(name, node, dir)
                    }
                }
            }
        })
    }
}

/// One entry of a layer, as [`Layer::entries`] gives them.
#[derive(Clone, Debug)]
pub struct LayerEntry<'a> {
    /// Where it is.
    pub path: LayerPath,
    /// What it is.
    pub body: EntryBody<'a>,
}

/// What an [`LayerEntry`] is.
#[derive(Clone, Debug)]
pub enum EntryBody<'a> {
    /// A directory.
    Dir {
        /// `None` when only entries below it imply it.
        meta: Option<&'a Meta>,
        /// It hides what lower layers have in it.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Its metadata.
        meta: &'a Meta,
        /// Its bytes.
        content: &'a Content,
        /// Its number: the same for all hard links in this layer.
        object: u32,
        /// How many names it has in this layer.
        links: u32,
    },
    /// A symbolic link.
    Symlink {
        /// Its metadata.
        meta: &'a Meta,
        /// What it says.
        target: &'a [u8],
        /// Its number: the same for all hard links in this layer.
        object: u32,
        /// How many names it has in this layer.
        links: u32,
    },
    /// A name hidden from lower layers.
    Whiteout,
    /// A hard link to an object of a lower layer.
    LowerLink {
        /// Where that is.
        target: &'a LayerPath,
    },
}

/// Iterator of [`Layer::entries`].
pub struct Entries<'a> {
    root: Option<&'a Node>,
    walk: LayerWalk<'a>,
    path: Vec<Name>,
    /// How many names each node has.
    names: Vec<u32>,
}

impl Layer {
    /// Goes through all entries: the root first, names in order, what is in
    /// a directory right after it. O(entries) to start, O(depth) per entry for
    /// its path.
    #[must_use]
    pub fn entries(&self) -> Entries<'_> {
        let nodes = self.nodes();
        Entries {
            root: nodes.first(),
            walk: LayerWalk::new(nodes),
            path: Vec::new(),
            names: count_names(nodes),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = LayerEntry<'a>;

    fn next(&mut self) -> Option<LayerEntry<'a>> {
        if let Some(Node {
            meta,
            body: NodeBody::Dir(dir),
        }) = self.root.take()
        {
            return Some(LayerEntry {
                path: LayerPath::root(),
                body: dir_body(meta, dir),
            });
        }
        let (name, body) = loop {
            match self.walk.next()? {
                LayerStep::Leave => drop(self.path.pop()),
                LayerStep::Enter(name, node, dir) => {
                    self.path.push(name.clone());
                    let path = LayerPath::from(self.path.clone());
                    return Some(LayerEntry {
                        path,
                        body: dir_body(&node.meta, dir),
                    });
                }
                LayerStep::File(name, id, meta, content) => {
                    break (
                        name,
                        EntryBody::File {
                            meta,
                            content,
                            object: id.0,
                            links: self.links(id),
                        },
                    );
                }
                LayerStep::Symlink(name, id, meta, target) => {
                    break (
                        name,
                        EntryBody::Symlink {
                            meta,
                            target,
                            object: id.0,
                            links: self.links(id),
                        },
                    );
                }
                LayerStep::Whiteout(name) => break (name, EntryBody::Whiteout),
                LayerStep::LowerLink(name, target) => {
                    break (name, EntryBody::LowerLink { target });
                }
            }
        };
        let mut path = self.path.clone();
        path.push(name.clone());
        Some(LayerEntry {
            path: path.into(),
            body,
        })
    }
}

impl Entries<'_> {
    fn links(&self, id: NodeId) -> u32 {
        self.names.get(id.index()).copied().unwrap_or(1)
    }
}

/// Counts the names that lead to each node.
pub(super) fn count_names(nodes: &[Node]) -> Vec<u32> {
    let mut names = vec![0; nodes.len()];
    let dirs = nodes.iter().filter_map(|node| match &node.body {
        NodeBody::Dir(dir) => Some(dir),
        NodeBody::File(_) | NodeBody::Symlink(_) => None,
    });
    for (_, child) in dirs.flat_map(|dir| &dir.children) {
        let Child::Node(id) = child else { continue };
        if let Some(count) = names.get_mut(id.index()) {
            *count += 1;
        }
    }
    names
}

fn dir_body<'a>(meta: &'a Meta, dir: &Dir) -> EntryBody<'a> {
    EntryBody::Dir {
        meta: (!dir.implied).then_some(meta),
        opaque: dir.opaque,
    }
}
