//! Goes down further than one path can name.
//!
//! `deep_tree [DEPTH]`: makes a chain of directories by descriptors, each
//! below the one before, writes at the bottom, moves the whole chain, reads
//! again and removes it from below.

use guest_examples::check::number;
use guest_examples::posix::{self, Fd, O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, Result};

const STEP: &str = "d";

fn down(top: &Fd, depth: u64) -> Result<Fd> {
    let mut at = top.open_at(STEP, O_DIRECTORY | O_RDONLY)?;
    for _ in 1..depth {
        at = at.open_at(STEP, O_DIRECTORY | O_RDONLY)?;
    }
    Ok(at)
}

fn main() -> Result<()> {
    let depth = number(1, 3_000);
    posix::mkdir("/top")?;
    posix::mkdir("/other")?;
    let (top, other) = (
        posix::open("/top", O_DIRECTORY | O_RDONLY)?,
        posix::open("/other", O_DIRECTORY | O_RDONLY)?,
    );
    let mut at = posix::open("/top", O_DIRECTORY | O_RDONLY)?;
    for _ in 0..depth {
        at.mkdir_at(STEP)?;
        at = at.open_at(STEP, O_DIRECTORY | O_RDONLY)?;
    }
    at.open_at("bottom", O_RDWR | O_CREAT)?
        .write_all(b"down here")?;
    println!("made {depth} directories");

    top.rename_at(STEP, &other, STEP)?;
    println!(
        "moved: {:?}",
        top.open_at(STEP, O_DIRECTORY | O_RDONLY).err()
    );
    let bottom = down(&other, depth)?;
    println!(
        "read: {:?}",
        String::from_utf8_lossy(&bottom.open_at("bottom", O_RDONLY)?.pread_all(100, 0)?)
    );
    println!(
        "into its own child: {:?}",
        other.rename_at(STEP, &bottom, "loop").err()
    );
    // The descriptor from before the move leads to the same directory.
    assert_eq!(at.stat()?.ino, bottom.stat()?.ino);
    at.unlink_at("bottom")?;
    println!("gone: {:?}", bottom.open_at("bottom", O_RDONLY).err());

    let name = "n".repeat(255);
    println!(
        "name of 255: {:?}",
        posix::write_file(&format!("/{name}"), b"x")
    );
    println!(
        "name of 256: {:?}",
        posix::write_file(&format!("/{name}n"), b"x")
    );
    Ok(())
}

guest_examples::command!(main);
