//! The finished, shared layer.

use std::fmt;
use std::sync::Arc;

use super::LayerBuilder;
use super::node::{Dir, Node, NodeId};
use crate::digest::Digest;

/// An immutable tree of entries and whiteouts, one storey of an image.
/// Cloning is a reference count.
#[derive(Clone)]
pub struct Layer(Arc<Inner>);

struct Inner {
    nodes: Vec<Node>,
    digest: Digest,
}

impl Layer {
    /// Starts a layer in memory.
    #[must_use]
    pub fn builder() -> LayerBuilder {
        LayerBuilder::new()
    }

    /// Wraps what the builder has checked. `nodes[0]` is the root directory.
    pub(super) fn from_parts(nodes: Vec<Node>, digest: Digest) -> Self {
        Self(Arc::new(Inner { nodes, digest }))
    }

    /// Gives the digest of the tree: names, whiteouts, metadata, links and
    /// content, whatever source the layer came from (invariant 8).
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Counts the objects, the root included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.0.nodes.len()
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.0.nodes
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        #[expect(clippy::indexing_slicing, reason = "ids come from this layer only")]
        &self.0.nodes[id.index()]
    }

    /// Gives the directory at `id`, if it is one.
    pub(crate) fn dir(&self, id: NodeId) -> Option<&Dir> {
        match &self.node(id).body {
            super::node::Body::Dir(dir) => Some(dir),
            super::node::Body::File(_) | super::node::Body::Symlink(_) => None,
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({}, {} objects)", self.digest(), self.node_count())
    }
}
