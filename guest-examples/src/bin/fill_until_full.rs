//! Writes until the quota is used up, makes room, and writes again.
//!
//! Meant for an instance with a small `--max-bytes`: without one it stops
//! after 64 MiB. The same number of bytes fits after everything is removed.

use guest_examples::check::Fold;
use guest_examples::posix::{self, Errno, O_APPEND, O_CREAT, O_RDWR, Result};

const STOP: usize = 64 << 20;

/// Fills a file and says how much went in and what stopped it.
fn fill(path: &str) -> Result<(usize, Option<Errno>)> {
    let file = posix::open(path, O_RDWR | O_CREAT | O_APPEND)?;
    let bytes: Vec<u8> = (0..10_000u32).map(|at| (at * 7 % 251) as u8).collect();
    let mut total = 0;
    while total < STOP {
        match file.write(&bytes) {
            Ok(len) => total += len,
            Err(error) => return Ok((total, Some(error))),
        }
    }
    Ok((total, None))
}

fn main() -> Result<()> {
    let base = Fold::of(&posix::read_file("/data/big.bin")?);
    let first = fill("/full")?;
    println!("first: {} bytes, then {:?}", first.0, first.1);
    assert_eq!(
        posix::stat("/full")?.size,
        first.0 as u64,
        "what was taken is there"
    );

    // Nothing more goes in, and what cannot be done leaves no trace.
    println!("one byte more: {:?}", posix::append("/full", b"x"));
    println!(
        "into a base file: {:?}",
        posix::open("/data/big.bin", O_RDWR)?.pwrite_all(b"x", 70_000)
    );
    assert_eq!(
        Fold::of(&posix::read_file("/data/big.bin")?),
        base,
        "the base file is whole"
    );

    // Space of an open file comes back when it is closed.
    let open = posix::open("/full", O_RDWR)?;
    posix::unlink("/full")?;
    println!("unlinked but open: {:?}", fill("/second")?.0 > 0);
    drop(open);
    posix::unlink("/second")?;
    let again = fill("/third")?;
    println!("after removal: {} bytes, then {:?}", again.0, again.1);
    assert_eq!(again, first, "the same room as before");
    posix::open("/third", O_RDWR)?.truncate(0)?;
    println!("after truncation: {}", fill("/third")? == first);
    Ok(())
}

guest_examples::command!(main);
