//! What a layer is made of: nodes without names, and the names in directories.

use std::sync::Arc;

use crate::chunk::Content;
use crate::meta::Meta;
use crate::name::{LayerPath, Name};

/// The number of a node within its layer. The root is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One object of a layer. A file with several names in the layer is one node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) body: NodeBody,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeBody {
    File(Content),
    Symlink(Arc<[u8]>),
    Dir(Dir),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Dir {
    /// Hides what lower layers have in this directory.
    pub(crate) opaque: bool,
    /// Only implied by an entry below it: a lower layer's metadata stays.
    pub(crate) implied: bool,
    /// Sorted by name, each name once.
    pub(crate) children: Vec<(Name, Child)>,
}

/// What a name in a directory of a layer stands for.
#[derive(Clone, Debug)]
pub(crate) enum Child {
    /// An object of this layer. A directory replaces what a lower layer has
    /// under this name unless that is a directory too and this one is not
    /// opaque; a whiteout of the same name makes a directory opaque.
    Node(NodeId),
    /// The name is hidden from lower layers.
    Whiteout,
    /// A hard link to an object of a lower layer, looked up when the image is
    /// made: there it is an error if the path is missing or a directory.
    LowerLink(LayerPath),
}
