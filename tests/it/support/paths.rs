//! Paths in the reference model: one plain walk, name by name.

use std::collections::VecDeque;

use stratafs::errno::Errno;
use stratafs::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINKS};
use stratafs::meta::Kind;
use stratafs::vfs::Follow;

use super::reference::{Body, Id, Model, TOP, refuse};

/// Where a path leads: its last directory, the last name (`.` when there is
/// none), and what stands there.
pub struct Place {
    pub dir: Id,
    pub name: Vec<u8>,
    pub node: Option<Id>,
    /// A slash follows: only a directory will do.
    pub slash: bool,
}

impl Model {
    /// What `name` leads to in `dir`; `.` is `dir` itself.
    pub fn find(&self, dir: Id, name: &[u8]) -> Result<Option<Id>, Errno> {
        refuse(name.len() > MAX_NAME_BYTES, Errno::NameTooLong)?;
        Ok(match &self.nodes[dir].body {
            _ if name == b"." => Some(dir),
            Body::Dir(dir) => dir.entries.get(name).map(|(node, _)| *node),
            _ => None,
        })
    }

    pub fn is_empty(&self, node: Id) -> bool {
        !matches!(&self.nodes[node].body, Body::Dir(dir) if !dir.entries.is_empty())
    }

    /// Whether the directory has been removed.
    pub fn is_gone(&self, dir: Id) -> bool {
        self.nodes[dir].nlink == 0
    }

    pub fn is_within(&self, mut at: Id, top: Id) -> bool {
        while at != top && at != TOP {
            match &self.nodes[at].body {
                Body::Dir(dir) => at = dir.parent,
                _ => return false,
            }
        }
        at == top
    }

    /// Splits off the last name and walks to its directory; what can only be
    /// a directory is that itself, by the name `.`.
    pub fn parent(&self, start: Id, path: &[u8]) -> Result<(Id, Vec<u8>), Errno> {
        check_path(path)?;
        let (dirs, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => path.split_at(at + 1),
            None => (&b""[..], path),
        };
        let (dirs, name) = match name {
            b"" | b"." | b".." => (path, &b"."[..]),
            _ => (dirs, name),
        };
        let mut dir = start;
        if !dirs.is_empty() {
            dir = self
                .walk(start, dirs, Follow::Yes)?
                .node
                .ok_or(Errno::NoEntry)?;
        }
        refuse(self.kind_of(dir) != Kind::Dir, Errno::NotDirectory)?;
        refuse(name.len() > MAX_NAME_BYTES, Errno::NameTooLong)?;
        Ok((dir, name.to_vec()))
    }

    /// Walks to what is there, or to where it would be.
    pub fn walk(&self, start: Id, path: &[u8], follow: Follow) -> Result<Place, Errno> {
        let place = self.walk_to(start, path, follow, false)?;
        let other = place
            .node
            .is_some_and(|node| self.kind_of(node) != Kind::Dir);
        refuse(place.slash && other, Errno::NotDirectory)?;
        Ok(place)
    }

    /// The walk itself; what a slash at the end means is left to the caller.
    pub fn walk_to(
        &self,
        start: Id,
        path: &[u8],
        follow: Follow,
        create: bool,
    ) -> Result<Place, Errno> {
        check_path(path)?;
        refuse(path[0] == b'/', Errno::NotPermitted)?;
        let (mut names, mut links) = (split(path, false), 0);
        let here = |dir, slash| Place {
            dir,
            name: b".".to_vec(),
            node: Some(dir),
            slash,
        };
        let mut place = here(start, path.ends_with(b"/"));
        while let Some((name, of_layer)) = names.pop_front() {
            let dir = place.node.ok_or(Errno::NoEntry)?;
            let Body::Dir(body) = &self.nodes[dir].body else {
                return Err(Errno::NotDirectory);
            };
            if name == b"." || name == b".." {
                // The root is its own parent to links that came with a layer.
                let stays = name == b"." || of_layer && dir == start && dir == TOP;
                refuse(!stays && dir == start, Errno::NotPermitted)?;
                place = here(if stays { dir } else { body.parent }, place.slash);
                continue;
            }
            let last = names.is_empty();
            refuse(name.len() > MAX_NAME_BYTES, Errno::NameTooLong)?;
            refuse(create && last && place.slash, Errno::IsDirectory)?;
            let node = self.find(dir, &name)?;
            let made = |node: Id| self.nodes[node].own || self.nodes[node].moved;
            match node.map(|node| (&self.nodes[node].body, made(node))) {
                Some((Body::Symlink(target), made))
                    if !last || place.slash || follow == Follow::Yes =>
                {
                    links += 1;
                    refuse(links > MAX_SYMLINKS, Errno::Loop)?;
                    let absolute = target[0] == b'/';
                    refuse(absolute && start != TOP, Errno::NotPermitted)?;
                    let slash = place.slash || (last && target.ends_with(b"/"));
                    place = here(if absolute { TOP } else { dir }, slash);
                    let mut rest = std::mem::replace(&mut names, split(target, !made));
                    names.append(&mut rest);
                }
                _ => {
                    place = Place {
                        dir,
                        name,
                        node,
                        slash: place.slash,
                    }
                }
            }
        }
        Ok(place)
    }
}

fn check_path(path: &[u8]) -> Result<(), Errno> {
    refuse(path.is_empty(), Errno::NoEntry)?;
    refuse(path.contains(&0), Errno::Invalid)?;
    refuse(path.len() > MAX_PATH_BYTES, Errno::NameTooLong)
}

/// The names of a path, and whether they are of a link that came with a layer.
fn split(path: &[u8], of_layer: bool) -> VecDeque<(Vec<u8>, bool)> {
    path.split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_vec(), of_layer))
        .collect()
}

/// The path without slashes at its end.
pub fn trim(path: &[u8]) -> &[u8] {
    let end = path
        .iter()
        .rposition(|byte| *byte != b'/')
        .map_or(1, |at| at + 1);
    path.get(..end).unwrap_or(path)
}
