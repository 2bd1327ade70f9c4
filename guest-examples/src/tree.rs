//! Walking a tree in an order that does not depend on the host.

use crate::check::Fold;
use crate::posix::{self, Kind, Result, Stat};

/// One object of a walk.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its path.
    pub path: String,
    /// What `lstat` says of it.
    pub stat: Stat,
}

/// Joins a directory's path and a name.
pub fn join(dir: &str, name: &str) -> String {
    if dir.ends_with('/') {
        format!("{dir}{name}")
    } else {
        format!("{dir}/{name}")
    }
}

/// Finds everything below a directory, each directory before what is in it,
/// in order of names.
pub fn walk(root: &str) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        let mut below = Vec::new();
        for entry in posix::list(&dir)? {
            let path = join(&dir, &entry.name);
            let stat = posix::lstat(&path)?;
            if stat.kind == Kind::Dir {
                below.push(path.clone());
            }
            found.push(Found { path, stat });
        }
        waiting.extend(below.into_iter().rev());
    }
    Ok(found)
}

/// Stands for a tree: paths, kinds, sizes, link counts of files, link targets
/// and all bytes; not for times and inode numbers.
pub fn digest(root: &str) -> Result<u64> {
    let mut fold = Fold::default();
    for Found { path, stat } in walk(root)? {
        fold.add(path.as_bytes());
        fold.add(&[0, stat.kind as u8]);
        match stat.kind {
            Kind::File => {
                fold.add_u64(stat.nlink);
                fold.add_u64(stat.size);
                fold.add(&posix::read_file(&path)?);
            }
            Kind::Symlink => fold.add(posix::readlink(&path)?.as_bytes()),
            Kind::Dir | Kind::Other => {}
        }
    }
    Ok(fold.get())
}

/// Removes everything below a directory and says how many objects that were.
pub fn clear(root: &str) -> Result<u64> {
    let found = walk(root)?;
    for Found { path, stat } in found.iter().rev() {
        if stat.kind == Kind::Dir {
            posix::rmdir(path)?;
        } else {
            posix::unlink(path)?;
        }
    }
    Ok(found.len() as u64)
}
