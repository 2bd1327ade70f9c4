//! Lists a tree and checks each listing against `stat`.
//!
//! `list_walk [DIR]`: one line an object. Fails if a listing names something
//! twice, or shows another kind or inode number than `lstat`, or lacks `.`
//! or `..` (which the C library adds where the host does not give them).

use std::collections::BTreeSet;

use guest_examples::check::arg;
use guest_examples::posix::{self, Kind};
use guest_examples::tree::{self, join};

fn check_listing(dir: &str) -> posix::Result<()> {
    let mut names = BTreeSet::new();
    for entry in posix::listing(dir)? {
        assert!(
            names.insert(entry.name.clone()),
            "{dir} names {} twice",
            entry.name
        );
        if entry.name == ".." {
            continue;
        }
        let stat = posix::lstat(&join(dir, &entry.name))?;
        assert_eq!(
            entry.ino, stat.ino,
            "{dir}/{}: d_ino and st_ino",
            entry.name
        );
        assert_eq!(
            entry.kind, stat.kind,
            "{dir}/{}: d_type and st_mode",
            entry.name
        );
    }
    Ok(())
}

fn main() -> posix::Result<()> {
    let root = arg(1, "/");
    check_listing(&root)?;
    for found in tree::walk(&root)? {
        let (path, stat) = (&found.path, &found.stat);
        match stat.kind {
            Kind::Dir => {
                check_listing(path)?;
                println!("dir                  {path}");
            }
            Kind::File => println!("file {:10} x{:<3} {path}", stat.size, stat.nlink),
            Kind::Symlink => println!(
                "link {:10}      {path} -> {}",
                stat.size,
                posix::readlink(path)?
            ),
            Kind::Other => panic!("{path} is neither file, directory nor link"),
        }
    }
    Ok(())
}

guest_examples::command!(main);
