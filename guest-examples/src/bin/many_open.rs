//! Holds many descriptors at once.
//!
//! `many_open [COUNT]`: opens one base file COUNT times and as many new files,
//! reads and writes through each, closes them in another order.

use guest_examples::check::{Fold, number};
use guest_examples::posix::{self, O_CREAT, O_RDONLY, O_RDWR, Result};

fn main() -> Result<()> {
    let count = number(1, 400);
    posix::mkdir("/open")?;
    let mut readers = Vec::new();
    let mut writers = Vec::new();
    for number in 0..count {
        readers.push(posix::open("/etc/motd", O_RDONLY)?);
        writers.push(posix::open(&format!("/open/{number}"), O_RDWR | O_CREAT)?);
    }
    let mut fold = Fold::default();
    for (number, (reader, writer)) in readers.iter().zip(&writers).enumerate() {
        let bytes = reader.pread_all(16, number as u64 % 8)?;
        writer.write_all(&bytes)?;
        fold.add(&bytes);
    }
    // Each descriptor has an offset of its own.
    for (number, reader) in readers.iter().enumerate() {
        reader.seek(number as u64 % 5)?;
    }
    for (number, reader) in readers.iter().enumerate() {
        assert_eq!(reader.tell()?, number as u64 % 5);
    }
    for number in (0..writers.len()).rev().step_by(2) {
        drop(writers.swap_remove(number));
    }
    for number in 0..count {
        fold.add(&posix::read_file(&format!("/open/{number}"))?);
    }
    println!(
        "{count} readers, {count} writers, {} left, digest {:016x}",
        writers.len(),
        fold.get()
    );
    Ok(())
}

guest_examples::command!(main);
