//! Where the bytes of a file are cut into the chunks that stores and layers in frames keep.

use fastcdc::v2020::FastCDC;

use crate::limits::{REST_CHUNK_AVERAGE_BYTES, REST_CHUNK_MAX_BYTES, REST_CHUNK_MIN_BYTES};

/// Returns the length of the chunk at the front of `bytes`, never 0 and never more than
/// `bytes` has. Returns `None` if there are no bytes, or if more are to come (`is_end` is
/// false) and a longer chunk than these could hold is possible.
///
/// The cuts depend on what is in a file and not on how it was handed over: who appends all
/// bytes of a file to those that wait, and cuts until this says `None`, gets the same chunks.
pub(crate) fn next_chunk(bytes: &[u8], is_end: bool) -> Option<usize> {
    if bytes.is_empty() || (!is_end && bytes.len() < REST_CHUNK_MAX_BYTES) {
        return None;
    }
    let cutter = FastCDC::new(
        bytes,
        REST_CHUNK_MIN_BYTES,
        REST_CHUNK_AVERAGE_BYTES,
        REST_CHUNK_MAX_BYTES,
    );
    let (_, end) = cutter.cut(0, bytes.len());
    debug_assert!(end > 0 && end <= bytes.len(), "a cut lies in the bytes");
    Some(end.clamp(1, bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lengths of the chunks of bytes that come in pieces of `step`.
    fn cuts(bytes: &[u8], step: usize) -> Vec<usize> {
        let (mut waiting, mut lengths) = (Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(step).peekable();
        while let Some(piece) = pieces.next() {
            waiting.extend_from_slice(piece);
            while let Some(len) = next_chunk(&waiting, pieces.peek().is_none()) {
                lengths.push(len);
                waiting.drain(..len);
            }
        }
        assert!(waiting.is_empty());
        lengths
    }

    #[test]
    fn chunks_do_not_depend_on_how_bytes_come() {
        let mut state = 1_u64;
        let noise = (0..400_000).map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_le_bytes()[7]
        });
        let noise: Vec<u8> = noise.collect();
        let whole = cuts(&noise, noise.len());
        assert_eq!(whole.iter().sum::<usize>(), noise.len());
        let (last, others) = whole.split_last().unwrap();
        let range = REST_CHUNK_MIN_BYTES..=REST_CHUNK_MAX_BYTES;
        assert!(others.iter().all(|len| range.contains(len)) && range.end() >= last);
        for step in [1000, 4096, 70_000] {
            assert_eq!(cuts(&noise, step), whole, "in pieces of {step}");
        }
        assert_eq!(next_chunk(b"", true), None);
        assert_eq!(next_chunk(b"a", false), None);
        assert_eq!(next_chunk(b"a", true), Some(1));
    }
}
