//! Changes one byte in the middle of a large file of the base.
//!
//! `edit_one_byte [FILE]`: under a copy-on-write file system this copies one
//! block, whatever the file's size. Prints the file's digest before and after,
//! and checks that nothing but that byte changed.

use guest_examples::check::{Fold, arg};
use guest_examples::posix;

fn main() -> posix::Result<()> {
    let path = arg(1, "/data/big.bin");
    let before = posix::read_file(&path)?;
    let at = before.len() / 2 + 1;
    println!(
        "{path}: {} bytes, digest {:016x}",
        before.len(),
        Fold::of(&before)
    );

    let file = posix::open(&path, posix::O_RDWR)?;
    let ino = file.stat()?.ino;
    file.pwrite_all(&[!before[at]], at as u64)?;
    drop(file);

    let after = posix::read_file(&path)?;
    assert_eq!(after.len(), before.len(), "the size changed");
    assert_eq!(posix::stat(&path)?.ino, ino, "the inode number changed");
    for (offset, (old, new)) in before.iter().zip(&after).enumerate() {
        assert_eq!(old == new, offset != at, "at byte {offset}");
    }
    println!(
        "{path}: byte {at} changed, digest {:016x}",
        Fold::of(&after)
    );
    Ok(())
}

guest_examples::command!(main);
