//! The finished, shared layer.

use std::fmt;
use std::sync::Arc;

use super::LayerBuilder;
#[cfg(any(feature = "dir", feature = "tar"))]
#[cfg(feature = "tar")]
use super::node::Child;
use super::node::{Dir, Node, NodeBody, NodeId};
use crate::digest::Digest;

/// An immutable tree of entries and whiteouts, of which an image stacks several.
/// Cloning is a reference count.
///
/// ```
/// use stratafs::chunk::{ChunkPool, ContentBuilder};
/// use stratafs::image::Image;
/// use stratafs::layer::Layer;
/// use stratafs::meta::Meta;
/// use stratafs::name::LayerPath;
/// use stratafs::vfs::Fs;
///
/// let pool = ChunkPool::new();
/// let mut lower = Layer::builder();
/// let greeting = ContentBuilder::of(&pool, b"hello");
/// lower.file(&LayerPath::parse(b"etc/motd")?, Meta::with_mode(0o644), greeting)?;
/// let mut upper = Layer::builder();
/// upper.whiteout(&LayerPath::parse(b"etc/motd")?)?;
///
/// let (lower, upper) = (lower.finish()?, upper.finish()?);
/// assert_eq!(Fs::new(&Image::new(&[lower.clone()])?).read("/etc/motd")?, b"hello");
/// assert!(!Fs::new(&Image::new(&[lower, upper])?).exists("/etc/motd")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

    /// Returns the digest of the tree: names, whiteouts, metadata, links and
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

    /// Returns whether the root, or the directory that is all there is in it, has
    /// a file of one of these names.
    #[cfg(feature = "tar")]
    pub(crate) fn has_file_of(&self, names: &[&str]) -> bool {
        let has = |dir| names.iter().any(|name| self.has_file(dir, name));
        has(NodeId::ROOT) || self.only_dir().is_some_and(has)
    }

    #[cfg(feature = "tar")]
    fn has_file(&self, dir: NodeId, name: &str) -> bool {
        let Some(dir) = self.dir(dir) else {
            return false;
        };
        let found = dir
            .children
            .binary_search_by(|(other, _)| other.as_bytes().cmp(name.as_bytes()));
        match found.ok().and_then(|at| dir.children.get(at)) {
            Some((_, Child::Node(id))) => matches!(self.node(*id).body, NodeBody::File(_)),
            _ => false,
        }
    }

    #[cfg(feature = "tar")]
    fn only_dir(&self) -> Option<NodeId> {
        match self.dir(NodeId::ROOT)?.children.as_slice() {
            [(_, Child::Node(id))] => self.dir(*id).map(|_| *id),
            _ => None,
        }
    }

    /// Returns the directory at `id`, if it is one.
    pub(crate) fn dir(&self, id: NodeId) -> Option<&Dir> {
        match &self.node(id).body {
            NodeBody::Dir(dir) => Some(dir),
            NodeBody::File(_) | NodeBody::Symlink(_) => None,
        }
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({}, {} objects)", self.digest(), self.node_count())
    }
}
