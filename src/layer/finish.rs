//! What is done once all entries are in: the last checks, and the digest.

use super::LayerError;
use super::node::{Child, Dir, Node, NodeBody, NodeId};
use super::walk::{LayerStep, LayerWalk, count_names};
use crate::digest::Digest;
use crate::name::{LayerPath, Name};
use crate::tree::{DirMark, TreeHasher};

/// Checks that what hard links take from lower layers can be there: this
/// layer neither has the path itself nor hides it.
pub(super) fn check_lower_links(nodes: &[Node]) -> Result<(), LayerError> {
    let mut path: Vec<Name> = Vec::new();
    for step in LayerWalk::new(nodes) {
        match step {
            LayerStep::Enter(name, ..) => path.push(name.clone()),
            LayerStep::Leave => drop(path.pop()),
            LayerStep::LowerLink(name, target) => {
                let link = || LayerPath::from(path.clone()).join(name.clone());
                check_lower_link(nodes, link, target)?;
            }
            LayerStep::File(..) | LayerStep::Symlink(..) | LayerStep::Whiteout(..) => {}
        }
    }
    Ok(())
}

fn check_lower_link(
    nodes: &[Node],
    link: impl Fn() -> LayerPath,
    target: &LayerPath,
) -> Result<(), LayerError> {
    let missing = |reason| {
        Err(LayerError::LinkMissing {
            link: link(),
            target: target.clone(),
            reason,
        })
    };
    let mut hidden = false;
    let mut id = NodeId::ROOT;
    let mut names = target.names().iter();
    while let Some(dir) = dir_at(nodes, id) {
        hidden |= dir.opaque;
        let Some(name) = names.next() else {
            return Err(LayerError::LinkToDir {
                link: link(),
                target: target.clone(),
            });
        };
        let found = dir.children.binary_search_by(|(other, _)| other.cmp(name));
        match found.ok().and_then(|at| dir.children.get(at)) {
            None if hidden => return missing("this layer hides it by an opaque directory"),
            None => return Ok(()),
            Some((_, Child::Whiteout)) => return missing("this layer hides it by a whiteout"),
            Some((_, Child::LowerLink(_))) => break,
            Some((_, Child::Node(child))) => id = *child,
        }
    }
    if names.as_slice().is_empty() {
        return Err(LayerError::LinkBeforeTarget {
            link: link(),
            target: target.clone(),
        });
    }
    missing("this layer has a file or link where a directory would have to be")
}

fn dir_at(nodes: &[Node], id: NodeId) -> Option<&Dir> {
    match nodes.get(id.index()) {
        Some(Node {
            body: NodeBody::Dir(dir),
            ..
        }) => Some(dir),
        _ => None,
    }
}

/// Computes the digest of the whole layer. O(n).
pub(super) fn digest(nodes: &[Node]) -> Digest {
    let Some(Node {
        meta,
        body: NodeBody::Dir(root),
    }) = nodes.first()
    else {
        return Digest::of(b"");
    };
    let names = count_names(nodes);
    let object = |id: NodeId| {
        let several = names.get(id.index()).is_some_and(|names| *names > 1);
        several.then_some(u64::from(id.0))
    };
    let mut hasher = TreeHasher::new(meta, mark(root));
    for step in LayerWalk::new(nodes) {
        match step {
            LayerStep::Enter(name, node, dir) => {
                hasher.enter(name.as_bytes(), &node.meta, mark(dir))
            }
            LayerStep::Leave => hasher.leave(),
            LayerStep::File(name, id, meta, content) => {
                hasher.file(name.as_bytes(), meta, content.digest(), object(id));
            }
            LayerStep::Symlink(name, id, meta, target) => {
                hasher.symlink(name.as_bytes(), meta, target, object(id));
            }
            LayerStep::Whiteout(name) => hasher.whiteout(name.as_bytes()),
            LayerStep::LowerLink(name, target) => hasher.lower_link(name.as_bytes(), target),
        }
    }
    hasher.finish()
}

fn mark(dir: &Dir) -> DirMark {
    DirMark {
        opaque: dir.opaque,
        implied: dir.implied,
    }
}
