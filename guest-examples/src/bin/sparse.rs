//! Writes far apart, so that files are mostly holes.
//!
//! Holes read as zeros and cost nothing; cutting a file and growing it again
//! shows zeros, never what was there.

use guest_examples::check::Fold;
use guest_examples::posix::{self, Fd, O_CREAT, O_RDWR, Result};

fn show(what: &str, file: &Fd, offsets: &[u64]) -> Result<()> {
    println!("{what}: {} bytes", file.stat()?.size);
    for offset in offsets {
        let bytes = file.pread_all(5_000, *offset)?;
        println!(
            "  at {offset}: {} bytes, digest {:016x}",
            bytes.len(),
            Fold::of(&bytes)
        );
    }
    Ok(())
}

fn main() -> Result<()> {
    let file = posix::open("/sparse.bin", O_RDWR | O_CREAT)?;
    file.pwrite_all(b"start", 0)?;
    file.pwrite_all(b"far", 5 << 30)?;
    show("5 GiB", &file, &[0, 1 << 20, (5 << 30) - 10, 5 << 30])?;
    file.pwrite_all(b"further", 1 << 40)?;
    show("1 TiB", &file, &[0, 3 << 30, (5 << 30) - 10, (1 << 40) - 2])?;
    file.truncate(1 << 20)?;
    file.truncate(6 << 30)?;
    show("cut and grown", &file, &[0, 4 << 30, 5 << 30])?;

    let base = posix::open("/data/big.bin", O_RDWR)?;
    let size = base.stat()?.size;
    base.truncate(5_000)?;
    base.truncate(size)?;
    show(
        "base file cut and grown",
        &base,
        &[0, 4_096, 65_536, size - 100],
    )?;
    base.pwrite_all(b"past the end", size + 100_000)?;
    show(
        "base file written past its end",
        &base,
        &[4_990, size - 2, size + 99_000],
    )?;

    let holes = posix::open("/data/holes.bin", O_RDWR)?;
    show(
        "base file with holes",
        &holes,
        &[0, 100_000, 1 << 20, 3 << 20],
    )?;
    holes.pwrite_all(b"in a hole", 2 << 20)?;
    show(
        "written in a hole",
        &holes,
        &[(2 << 20) - 100, 2 << 20, 3 << 20],
    )?;
    Ok(())
}

guest_examples::command!(main);
