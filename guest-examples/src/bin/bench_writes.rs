//! Times the writing of a file from inside a guest.
//!
//! `bench_writes [DIR [PIECE [MIB]]]`: writes `DIR/new` of MIB mebibytes (default
//! 32) in pieces of PIECE bytes (default 4,096) and prints microseconds: for a new
//! file, the same with its close, for the same file rewritten in place for the
//! second time, and for the file cut to nothing, rewritten and closed. No two
//! blocks of 4 KiB are equal.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::time::Instant;

use guest_examples::check::{arg, number};

struct Writer {
    piece: Vec<u8>,
    total: usize,
    /// Counts pieces, so that each has other bytes.
    count: u64,
}

impl Writer {
    /// Writes all of a file from where it stands. Returns microseconds.
    fn fill(&mut self, file: &mut File) -> std::io::Result<u128> {
        let start = Instant::now();
        for _ in 0..self.total / self.piece.len() {
            self.count += 1;
            for (block, bytes) in (0..).zip(self.piece.chunks_mut(4_096)) {
                let mark = (self.count << 16 | block).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                for (byte, mark) in bytes.iter_mut().zip(mark.to_le_bytes()) {
                    *byte = mark;
                }
            }
            file.write_all(&self.piece)?;
        }
        Ok(start.elapsed().as_micros())
    }
}

fn main() -> std::io::Result<()> {
    let path = format!("{}/new", arg(1, "/"));
    let piece = usize::try_from(number(2, 4_096)).unwrap_or(4_096).max(1);
    let mut writer = Writer {
        piece: (0..piece).map(|at| (at % 251) as u8 | 1).collect(),
        total: usize::try_from(number(3, 32)).unwrap_or(32) << 20,
        count: 0,
    };
    let start = Instant::now();
    let mut file = File::create(&path)?;
    let new = writer.fill(&mut file)?;
    drop(file);
    let closed = start.elapsed().as_micros();
    let mut file = OpenOptions::new().write(true).open(&path)?;
    writer.fill(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let again = writer.fill(&mut file)?;
    drop(file);
    let start = Instant::now();
    let mut file = File::create(&path)?;
    writer.fill(&mut file)?;
    drop(file);
    println!("{new} {closed} {again} {}", start.elapsed().as_micros());
    Ok(())
}
