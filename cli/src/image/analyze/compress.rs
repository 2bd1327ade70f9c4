//! How well the files of a layer compress, measured.

use std::collections::HashSet;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use stratafs::layer::{EntryBody, Layer};
use stratafs::name::show;

use crate::failure::Failure;
use crate::limits::MAX_SAMPLE_BYTES;

/// Bytes of one piece of a sample.
const PIECE_BYTES: u64 = 64 * 1024;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// What a layer's files came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compressed {
    /// Bytes of all its files.
    bytes: u64,
    /// Bytes that were compressed.
    sampled: u64,
    gzip: u64,
    zstd: u64,
}

impl Compressed {
    /// Compresses a layer's part of a sample of an image that has `all` bytes.
    pub(super) fn measure(layer: &Layer, all: u64) -> Result<Self, Failure> {
        let step = PIECE_BYTES.saturating_mul(all.div_ceil(MAX_SAMPLE_BYTES).max(1));
        let mut gzip = GzEncoder::new(Counter(0), Compression::default());
        let mut zstd = zstd::stream::write::Encoder::new(Counter(0), ZSTD_LEVEL)?;
        let mut sum = Self::default();
        let mut seen = HashSet::new();
        let mut buf = Vec::new();
        for entry in layer.entries() {
            let EntryBody::File {
                content, object, ..
            } = entry.body
            else {
                continue;
            };
            if !seen.insert(object) {
                continue;
            }
            for (from, len) in pieces(sum.bytes, content.size(), step) {
                buf.resize(usize::try_from(len).unwrap_or(0), 0);
                let read = content.read_at(&mut buf, from).map_err(|error| {
                    Failure::new(format_args!("/{}: {error}", show(&entry.path.to_bytes())))
                })?;
                let piece = buf.get(..read).unwrap_or_default();
                gzip.write_all(piece)?;
                zstd.write_all(piece)?;
                sum.sampled += read as u64;
            }
            sum.bytes = sum.bytes.saturating_add(content.size());
        }
        sum.gzip = gzip.finish()?.0;
        sum.zstd = zstd.finish()?.0;
        Ok(sum)
    }

    /// What all of the layer would be with gzip, if the rest is like what was compressed.
    pub(super) fn gzip(&self) -> u64 {
        self.scaled(self.gzip)
    }

    /// The same with zstd.
    pub(super) fn zstd(&self) -> u64 {
        self.scaled(self.zstd)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.sampled == self.bytes
    }

    fn scaled(&self, part: u64) -> u64 {
        if self.is_whole() || self.sampled == 0 {
            return part;
        }
        let all = u128::from(part) * u128::from(self.bytes) / u128::from(self.sampled);
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "whole": self.is_whole(),
            "sampled_bytes": self.sampled,
            "gzip_bytes": self.gzip(),
            "zstd_bytes": self.zstd(),
        })
    }
}

/// The pieces of a file that lies at `start` of all files one after another: of each
/// `step` bytes the first [`PIECE_BYTES`], as offset in the file and length.
fn pieces(start: u64, size: u64, step: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = start.saturating_add(size);
    let first = start / step * step;
    let starts = std::iter::successors(Some(first), move |at| at.checked_add(step));
    starts
        .take_while(move |at| *at < end)
        .filter_map(move |at| {
            let from = at.max(start);
            let to = at.saturating_add(PIECE_BYTES).min(end);
            (to > from).then(|| (from - start, to - from))
        })
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_spread_over_all_files() {
        let all = |start, size, step| pieces(start, size, step).collect::<Vec<_>>();
        let piece = PIECE_BYTES;
        assert_eq!(all(0, 0, piece), []);
        assert_eq!(all(0, 10, piece), [(0, 10)]);
        assert_eq!(
            all(10, 2 * piece, piece),
            [(0, piece - 10), (piece - 10, piece), (2 * piece - 10, 10)]
        );
        // Of four pieces one: a file that lies between two gives none.
        assert_eq!(all(piece, piece, 4 * piece), []);
        assert_eq!(all(piece, 4 * piece, 4 * piece), [(3 * piece, piece)]);
        // As few as there are steps, whatever the size.
        let huge = u64::MAX / 4;
        assert!(pieces(0, huge, huge / 512).count() <= 513);
    }

    #[test]
    fn a_part_stands_for_the_whole() {
        let sum = Compressed {
            bytes: 1000,
            sampled: 100,
            gzip: 30,
            zstd: 20,
        };
        assert_eq!((sum.gzip(), sum.zstd(), sum.is_whole()), (300, 200, false));
        let whole = Compressed {
            sampled: 1000,
            ..sum
        };
        assert_eq!((whole.gzip(), whole.is_whole()), (30, true));
    }
}
