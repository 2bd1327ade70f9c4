//! The header blocks of one entry.

use ::tar::{EntryType, Header};

use super::pax;
use crate::meta::Meta;
use crate::name::LayerPath;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderKind {
    File,
    Dir,
    Symlink,
    HardLink,
}

/// What an entry's header says.
pub(super) struct EntryHeader<'a> {
    pub(super) kind: HeaderKind,
    pub(super) path: Vec<u8>,
    pub(super) link: &'a [u8],
    pub(super) meta: &'a Meta,
    /// Bytes of data in the archive.
    pub(super) size: u64,
    /// Bytes of a sparse file, whose data begins with its map.
    pub(super) real_size: Option<u64>,
}

/// What the octal digits of a field hold at most, one byte being the NUL.
const MAX_ID: u64 = 0o777_7777;
const MAX_LONG: u64 = 0o777_7777_7777;

impl<'a> EntryHeader<'a> {
    pub(super) fn new(kind: HeaderKind, path: &LayerPath, meta: &'a Meta) -> Self {
        let mut member = Self {
            kind,
            path: path_bytes(path),
            link: b"",
            meta,
            size: 0,
            real_size: None,
        };
        if kind == HeaderKind::Dir {
            member
                .path
                .extend_from_slice(if path.is_root() { b"./" } else { b"/" });
        }
        member
    }

    /// Adds a name below the path.
    pub(super) fn add_name(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// Writes the header, after a PAX header where one is needed.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut header = self.header();
        let records = self.pax_records(&mut header);
        if !records.is_empty() {
            let mut extended = Header::new_ustar();
            fill(&mut extended.as_old_mut().name, b"././@PaxHeader");
            extended.set_entry_type(EntryType::XHeader);
            extended.set_size(records.len() as u64);
            seal(&mut extended);
            out.extend_from_slice(extended.as_bytes());
            out.extend_from_slice(&records);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        seal(&mut header);
        out.extend_from_slice(header.as_bytes());
    }

    fn header(&self) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(match self.kind {
            HeaderKind::File => EntryType::Regular,
            HeaderKind::Dir => EntryType::Directory,
            HeaderKind::Symlink => EntryType::Symlink,
            HeaderKind::HardLink => EntryType::Link,
        });
        header.set_mode(self.meta.mode);
        header
    }

    /// Fills in what fits the header, and returns records for the rest.
    fn pax_records(&self, header: &mut Header) -> Vec<u8> {
        let mut records = pax::PaxHeader::default();
        if let Some(real_size) = self.real_size {
            records.number("GNU.sparse.major", 1);
            records.number("GNU.sparse.minor", 0);
            records.text("GNU.sparse.name", &self.path);
            records.number("GNU.sparse.realsize", real_size);
        }
        let shown = self.real_size.map(|_| beside(&self.path));
        let path = shown.as_ref().unwrap_or(&self.path);
        match split(path) {
            Some((prefix, name)) => {
                fill(&mut header.as_old_mut().name, name);
                if let Some(ustar) = header.as_ustar_mut() {
                    fill(&mut ustar.prefix, prefix);
                }
            }
            None => records.text("path", path),
        }
        if self.link.len() <= 100 {
            fill(&mut header.as_old_mut().linkname, self.link);
        } else {
            records.text("linkpath", self.link);
        }
        let mut number = |key, value: u64, max, set: &mut dyn FnMut(u64)| {
            if value > max {
                records.number(key, value);
            }
            set(value.min(max));
        };
        number("size", self.size, MAX_LONG, &mut |size| {
            header.set_size(size)
        });
        number("uid", self.meta.uid.into(), MAX_ID, &mut |uid| {
            header.set_uid(uid)
        });
        number("gid", self.meta.gid.into(), MAX_ID, &mut |gid| {
            header.set_gid(gid)
        });
        let mtime = self.meta.mtime;
        let whole = u64::try_from(mtime.secs())
            .ok()
            .filter(|secs| *secs <= MAX_LONG);
        header.set_mtime(whole.unwrap_or(0));
        if whole.is_none() || mtime.nanos() != 0 {
            records.time("mtime", mtime);
        }
        for (name, value) in self.meta.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
            records.xattr(name, value);
        }
        records.finish()
    }
}

/// A path as an archive has it, without a slash at its front.
pub(super) fn path_bytes(path: &LayerPath) -> Vec<u8> {
    let names: Vec<&[u8]> = path.names().iter().map(|name| name.as_bytes()).collect();
    names.join(&b'/')
}

/// The name that a sparse file has for those who cannot read it, as GNU tar
/// writes it.
fn beside(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (dir, name) = path.split_at(slash.map_or(0, |slash| slash + 1));
    [dir, b"GNUSparseFile.0/", name].concat()
}

/// Splits a path into ustar's prefix and name, if it fits.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    // The name gets as much as it can hold, but not the slash at its end
    // alone.
    let from = path.len() - 101;
    let slash = path
        .get(from..path.len() - 1)?
        .iter()
        .position(|byte| *byte == b'/')?;
    let (prefix, name) = path.split_at(from + slash);
    (prefix.len() <= 155).then(|| (prefix, name.get(1..).unwrap_or_default()))
}

fn fill(field: &mut [u8], bytes: &[u8]) {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

fn seal(header: &mut Header) {
    header.set_cksum();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_at_a_slash_where_they_fit() {
        let path = |text: String| text.into_bytes();
        assert_eq!(split(b"a"), Some((&b""[..], &b"a"[..])));
        let long = path(format!("{}/{}", "p".repeat(155), "n".repeat(100)));
        assert_eq!(
            split(&long).map(|(p, n)| (p.len(), n.len())),
            Some((155, 100))
        );
        let dir = path(format!("{}/{}/", "p".repeat(155), "n".repeat(99)));
        assert_eq!(
            split(&dir).map(|(p, n)| (p.len(), n.len())),
            Some((155, 100))
        );
        for unfit in [
            format!("{}/{}", "p".repeat(156), "n".repeat(100)),
            format!("{}/{}", "p".repeat(155), "n".repeat(101)),
            "n".repeat(101),
            format!("{}/", "n".repeat(101)),
        ] {
            assert_eq!(split(&path(unfit)), None);
        }
    }
}
