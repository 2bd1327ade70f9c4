//! Bytes behind the last frame of a compressed layer that decompress to nothing: every reader
//! passes over them, and who knows of them reads them.
//!
//! In gzip they are extra fields of members without content, in zstd a frame to be skipped.

use std::io;

use super::Compression;

/// Bytes of an extra field: a little less than a header of gzip can have.
const PIECE_BYTES: usize = 65_000;

/// A header of gzip with an extra field, and nothing that says when or where it was made.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];

/// A member's content that is empty, its checksum and its length.
const GZIP_END: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The name of the extra field.
const FIELD: [u8; 2] = *b"SF";

const ZSTD_SKIPPED: [u8; 4] = 0x184d_2a5e_u32.to_le_bytes();

/// How hard the bytes are compressed, which is part of what comes out.
const LEVEL: i32 = 9;

/// Compresses `bytes` and wraps them so that no reader of a layer sees them.
pub(crate) fn hide(bytes: &[u8], compression: Compression) -> io::Result<Vec<u8>> {
    let packed = zstd::bulk::compress(bytes, LEVEL)?;
    let mut out = Vec::with_capacity(packed.len() + packed.len() / 1000 + 64);
    if compression == Compression::Zstd {
        let len = u32::try_from(packed.len()).map_err(io::Error::other)?;
        out.extend(ZSTD_SKIPPED);
        out.extend(len.to_le_bytes());
        out.extend(packed);
        return Ok(out);
    }
    for piece in packed.chunks(PIECE_BYTES) {
        let len = u16::try_from(piece.len()).map_err(io::Error::other)?;
        let extra = len.checked_add(4).ok_or(io::ErrorKind::InvalidInput)?;
        out.extend(GZIP_HEAD);
        out.extend(extra.to_le_bytes());
        out.extend(FIELD);
        out.extend(len.to_le_bytes());
        out.extend(piece);
        out.extend(GZIP_END);
    }
    Ok(out)
}

/// Finds what was hidden: at most `limit` bytes of it. Anything that is not exactly what
/// [`hide`] makes is an error.
#[cfg(any(feature = "registry", test))]
pub(crate) fn reveal(hidden: &[u8], limit: usize) -> Result<Vec<u8>, &'static str> {
    let packed = match hidden.starts_with(&ZSTD_SKIPPED) {
        true => skipped(hidden).ok_or("a frame of zstd that is cut short or too long")?,
        false => pieces(hidden).ok_or("what should be extra fields of gzip is something else")?,
    };
    let mut out = Vec::new();
    let reader = zstd::Decoder::new(packed.as_slice()).map_err(|_| "it is not data of zstd")?;
    let mut bounded = io::Read::take(reader.single_frame(), limit as u64 + 1);
    io::Read::read_to_end(&mut bounded, &mut out).map_err(|_| "its zstd is damaged")?;
    match out.len() > limit {
        true => Err("it is longer than a table may be"),
        false => Ok(out),
    }
}

/// Takes apart what was hidden with zstd several times, one behind the other; `None` for anything else.
#[cfg(feature = "registry")]
pub(crate) fn each(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut all, mut left) = (Vec::new(), bytes);
    while !left.is_empty() {
        let (len, rest) = left.strip_prefix(&ZSTD_SKIPPED)?.split_first_chunk()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (_, after) = rest.split_at_checked(len)?;
        let (own, _) = left.split_at_checked(left.len() - after.len())?;
        all.push(own);
        left = after;
    }
    Some(all)
}

#[cfg(any(feature = "registry", test))]
fn skipped(hidden: &[u8]) -> Option<Vec<u8>> {
    let rest = hidden.strip_prefix(&ZSTD_SKIPPED)?;
    let (len, rest) = rest.split_first_chunk()?;
    (rest.len() as u64 == u64::from(u32::from_le_bytes(*len))).then(|| rest.to_vec())
}

#[cfg(any(feature = "registry", test))]
fn pieces(hidden: &[u8]) -> Option<Vec<u8>> {
    let mut rest = hidden;
    let mut packed = Vec::with_capacity(hidden.len());
    while !rest.is_empty() {
        rest = rest.strip_prefix(&GZIP_HEAD)?;
        let (extra, after) = rest.split_first_chunk()?;
        let after = after.strip_prefix(&FIELD)?;
        let (len, after) = after.split_first_chunk()?;
        let len = u16::from_le_bytes(*len);
        if u16::from_le_bytes(*extra) != len.checked_add(4)? {
            return None;
        }
        let (piece, after) = after.split_at_checked(len.into())?;
        packed.extend_from_slice(piece);
        rest = after.strip_prefix(&GZIP_END)?;
    }
    Some(packed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 7_u32;
        let mut byte = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..len).map(&mut byte).collect()
    }

    #[test]
    fn what_is_hidden_decompresses_to_nothing_and_is_found() {
        for len in [0, 1, 64_999, 65_001, 300_000] {
            let bytes = noise(len);
            let gzip = hide(&bytes, Compression::Gzip).unwrap();
            let mut seen = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(gzip.as_slice());
            reader.read_to_end(&mut seen).unwrap();
            assert_eq!(seen, b"");
            let zstd = hide(&bytes, Compression::Zstd).unwrap();
            let mut reader = zstd::Decoder::new(zstd.as_slice()).unwrap();
            reader.read_to_end(&mut seen).unwrap();
            assert_eq!(seen, b"");
            for hidden in [gzip, zstd] {
                assert_eq!(reveal(&hidden, len).unwrap(), bytes);
                for cut in [1, hidden.len() / 2, hidden.len() - 1] {
                    assert!(reveal(&hidden[..cut], len).is_err(), "{len} {cut}");
                }
                let longer = [hidden.as_slice(), &[0]].concat();
                assert!(reveal(&longer, len).is_err());
            }
        }
    }

    #[test]
    fn what_expands_past_the_limit_is_refused() {
        let bomb = hide(&vec![0; 64 << 20], Compression::Gzip).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert!(reveal(&bomb, (64 << 20) - 1).is_err());
    }
}
