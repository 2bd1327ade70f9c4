//! Counts lines, words and bytes of every file of a tree.
//!
//! `wordcount [DIR]`: one line a file in order of names, then the sum.

use guest_examples::check::arg;
use guest_examples::posix::{self, Kind};
use guest_examples::tree;

fn main() -> posix::Result<()> {
    let mut sum = [0; 3];
    for found in tree::walk(&arg(1, "/"))? {
        if found.stat.kind != Kind::File {
            continue;
        }
        let bytes = posix::read_file(&found.path)?;
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let words = bytes
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .count();
        println!("{lines:8} {words:8} {:10} {}", bytes.len(), found.path);
        for (sum, part) in sum.iter_mut().zip([lines, words, bytes.len()]) {
            *sum += part;
        }
    }
    println!("{:8} {:8} {:10} all", sum[0], sum[1], sum[2]);
    Ok(())
}

guest_examples::command!(main);
