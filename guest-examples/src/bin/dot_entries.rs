//! Reads the `.` and `..` of listings.
//!
//! preview1 hosts give both, each with its own inode number: `..` that of the
//! parent, of a preopen's top its own, also after the directory was renamed.

use guest_examples::preview1::{self as p1, DIRECTORY, READ, ROOT};

/// The inode numbers of `.` and `..` in a directory's listing.
fn dots(dir: u32) -> [u64; 2] {
    let mut buf = [0; 4096];
    let len = p1::readdir(dir, &mut buf, 0).unwrap();
    let mut found = [0; 2];
    let mut at = 0;
    while at + 24 <= len {
        let ino = u64::from_le_bytes(buf[at + 8..at + 16].try_into().unwrap());
        let name_len = u32::from_le_bytes(buf[at + 16..at + 20].try_into().unwrap()) as usize;
        match &buf[at + 24..at + 24 + name_len] {
            b"." => found[0] = ino,
            b".." => found[1] = ino,
            _ => {}
        }
        at += 24 + name_len;
    }
    found
}

fn ino(path: &str) -> u64 {
    p1::stat(ROOT, 0, path).unwrap().ino
}

fn main() {
    println!("root: {}", dots(ROOT) == [ino("."); 2]);
    let guide = p1::open(ROOT, "docs/guide", DIRECTORY, READ, 0).unwrap();
    println!(
        "docs/guide: {}",
        dots(guide) == [ino("docs/guide"), ino("docs")]
    );
    p1::rename(ROOT, "docs/guide", "etc/guide").unwrap();
    println!("renamed: {}", dots(guide) == [ino("etc/guide"), ino("etc")]);
    p1::mkdir(guide, "new").unwrap();
    let new = p1::open(guide, "new", DIRECTORY, READ, 0).unwrap();
    println!(
        "new: {}",
        dots(new) == [ino("etc/guide/new"), ino("etc/guide")]
    );
}
