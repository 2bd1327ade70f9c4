//! Reads a file from start to end and says what that took.
//!
//! `read_through FILE PIECE`: bytes, reads and nanoseconds on one line.

use std::time::Instant;

use guest_examples::check::{arg, number};
use guest_examples::posix::{self, O_RDONLY};

fn main() -> posix::Result<()> {
    let file = posix::open(&arg(1, "/big"), O_RDONLY)?;
    let mut piece = vec![0; number(2, 1 << 16) as usize];
    let start = Instant::now();
    let (mut bytes, mut reads) = (0, 0);
    loop {
        let len = file.read(&mut piece)?;
        (bytes, reads) = (bytes + len, reads + 1);
        if len == 0 {
            break;
        }
    }
    println!("{bytes} {reads} {}", start.elapsed().as_nanos());
    Ok(())
}
