//! Goes on with files that have lost their name.
//!
//! `unlink_open [FILE]`: reads and writes an unlinked base file and a new one
//! through descriptors, while other files take their names.

use guest_examples::check::{Fold, arg};
use guest_examples::posix::{self, O_CREAT, O_EXCL, O_RDONLY, O_RDWR};

fn main() -> posix::Result<()> {
    let path = arg(1, "/etc/motd");
    let before = posix::read_file(&path)?;
    let (reader, writer) = (posix::open(&path, O_RDONLY)?, posix::open(&path, O_RDWR)?);
    let old = reader.stat()?;
    posix::unlink(&path)?;
    println!(
        "unlinked: stat says {:?}, descriptor has nlink {}",
        posix::stat(&path).err(),
        reader.stat()?.nlink
    );

    let fresh = posix::open(&path, O_RDWR | O_CREAT | O_EXCL)?;
    fresh.write_all(b"new file of the old name")?;
    assert_ne!(
        fresh.stat()?.ino,
        old.ino,
        "two living objects share a number"
    );
    assert_eq!(
        reader.pread_all(before.len() + 10_000, 0)?,
        before,
        "the old bytes"
    );

    writer.pwrite_all(b"seen by both", 3)?;
    writer.truncate(before.len() as u64 + 5_000)?;
    let seen = reader.pread_all(before.len() + 10_000, 0)?;
    assert_eq!(&seen[3..15], b"seen by both");
    assert_eq!(reader.stat()?.size, before.len() as u64 + 5_000);
    assert_eq!(reader.stat()?.ino, old.ino);
    println!("old: {} bytes, digest {:016x}", seen.len(), Fold::of(&seen));
    println!(
        "new: {:?}",
        String::from_utf8_lossy(&posix::read_file(&path)?)
    );

    let target = format!("{path}.moved");
    posix::rename(&path, &target)?;
    drop((reader, writer));
    assert_eq!(fresh.pread_all(100, 0)?, b"new file of the old name");
    posix::unlink(&target)?;
    fresh.write_all(b", still written to")?;
    println!(
        "nameless: {:?}, nlink {}",
        String::from_utf8_lossy(&fresh.pread_all(100, 0)?),
        fresh.stat()?.nlink
    );
    Ok(())
}

guest_examples::command!(main);
