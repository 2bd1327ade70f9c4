//! What each host fetches, in which order.

use crate::program::Program;
use crate::queue::{Nanos, SECOND};
use crate::setup::{Before, Parts, Way};

/// What comes before content, one after the other: the registry's greeting, index, manifest, configuration.
const DOCUMENTS: usize = 4;
/// Bytes of each with its headers.
const DOCUMENT_BYTES: u64 = 1_500;
/// Where hosts are peers, blobs go in pieces of so many bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// What a host does until its guests can start, and behind that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Sizes of what is fetched. The requests of a stage go out together, those of the next
    /// when all of the stage are there.
    pub(crate) stages: Vec<Vec<u64>>,
    /// What the first guest waits for while it runs, one after the other.
    pub(crate) reads: Vec<u64>,
    /// What comes behind.
    pub(crate) rest: Vec<u64>,
    /// Compiling, between the last stage and the first guest.
    pub(crate) compile: Nanos,
}

impl Plan {
    /// Returns the plan of a way. `guests` is how many share a host.
    pub(crate) fn of(way: &Way, program: &Program, guests: usize) -> Self {
        let compile = (program.compile_seconds * SECOND as f64) as Nanos;
        let (code, compile) = match way.compiled {
            true => (program.compiled_bytes, 0),
            false => (program.program_bytes, compile),
        };
        let image = program.image_bytes();
        let read = program.read_bytes();
        let (content, reads, rest) = match way.before {
            Before::WholeForEachGuest => (program.layers.repeat(guests), Vec::new(), 0),
            Before::Whole => (program.layers.clone(), Vec::new(), 0),
            Before::StartSet => {
                let rest = image.saturating_sub(read + program.program_bytes);
                (vec![program.table_bytes, read, code], Vec::new(), rest)
            }
            Before::TableAlone => {
                let rest = image.saturating_sub(read + program.program_bytes);
                (vec![program.table_bytes, code], program.reads.clone(), rest)
            }
            Before::NextVersion(parts) => {
                let bytes = match parts {
                    Parts::Layers => program.update.layer_bytes,
                    Parts::Files => program.update.file_bytes,
                    Parts::Chunks => program.update.chunk_bytes,
                };
                (vec![bytes], Vec::new(), 0)
            }
        };
        let is_update = matches!(way.before, Before::NextVersion(_));
        let times = match way.before {
            Before::WholeForEachGuest => guests as u64,
            _ => 1,
        };
        let content: Vec<u64> = content.into_iter().filter(|bytes| *bytes > 0).collect();
        Self {
            stages: std::iter::repeat_n(vec![DOCUMENT_BYTES], DOCUMENTS)
                .chain([if way.peers { pieces(&content) } else { content }])
                .collect(),
            reads,
            rest: pieces(&[rest]),
            // The program of the next version is the same.
            compile: if is_update { 0 } else { compile * times },
        }
    }
}

/// Cuts what is larger than a piece.
fn pieces(sizes: &[u64]) -> Vec<u64> {
    let mut cut = Vec::new();
    for size in sizes {
        let mut left = *size;
        while left > 0 {
            let piece = left.min(PIECE_BYTES);
            cut.push(piece);
            left -= piece;
        }
    }
    cut
}
