//! How an entry is written down for hashing: fixed widths, little-endian,
//! every variable part after its length, so that no two entries read alike.

use crate::meta::Meta;

/// The first byte of an entry after its name.
#[derive(Clone, Copy)]
pub(super) enum Tag {
    File = 1,
    Symlink = 2,
    Dir = 3,
    Whiteout = 4,
    LowerLink = 5,
}

/// Starts an entry: its name and what it is.
pub(super) fn head(out: &mut Vec<u8>, name: &[u8], tag: Tag) {
    out.clear();
    bytes(out, name);
    out.push(tag as u8);
}

/// Writes bytes after their length.
pub(super) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

/// Writes all of the metadata.
pub(super) fn meta(out: &mut Vec<u8>, meta: &Meta) {
    for field in [meta.mode, meta.uid, meta.gid, meta.mtime.nanos()] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&meta.mtime.secs().to_le_bytes());
    let xattrs = meta.xattrs.as_deref().map_or(&[][..], Vec::as_slice);
    number(out, xattrs.len() as u64);
    for (name, value) in xattrs {
        bytes(out, name);
        bytes(out, value);
    }
}
