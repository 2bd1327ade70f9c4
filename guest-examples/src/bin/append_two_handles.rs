//! Appends to one base file through two descriptors in turn.
//!
//! `append_two_handles [FILE]`: each write lands whole at the end, whoever
//! wrote before.

use guest_examples::check::{Fold, arg};
use guest_examples::posix::{self, O_APPEND, O_RDWR, O_WRONLY};

fn main() -> posix::Result<()> {
    let path = arg(1, "/data/log.txt");
    let mut want = posix::read_file(&path)?;
    let (one, two) = (
        posix::open(&path, O_WRONLY | O_APPEND)?,
        posix::open(&path, O_RDWR | O_APPEND)?,
    );
    for turn in 0..200 {
        let line = format!("line {turn} {}\n", "x".repeat(turn * 7 % 101));
        let writer = if turn % 3 == 0 { &one } else { &two };
        writer.write_all(line.as_bytes())?;
        want.extend_from_slice(line.as_bytes());
    }
    assert_eq!(
        posix::read_file(&path)?,
        want,
        "every line whole and in turn"
    );

    // A plain descriptor overwrites; the next append goes to the end still.
    let plain = posix::open(&path, O_RDWR)?;
    plain.write_all(b"OVERWRITTEN")?;
    want[..11].copy_from_slice(b"OVERWRITTEN");
    one.write_all(b"last\n")?;
    want.extend_from_slice(b"last\n");
    assert_eq!(posix::read_file(&path)?, want);

    // After a truncation the end is the new end.
    plain.truncate(100)?;
    want.truncate(100);
    two.write_all(b"after the cut\n")?;
    want.extend_from_slice(b"after the cut\n");
    assert_eq!(posix::read_file(&path)?, want);
    println!(
        "{path}: {} bytes, digest {:016x}",
        want.len(),
        Fold::of(&want)
    );
    Ok(())
}

guest_examples::command!(main);
