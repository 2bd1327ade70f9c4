//! One entry of an archive: its header and extensions brought together, and
//! what they say done.

use ::tar::Header;

use super::pax::{PaxRecords, SEVERAL_VOLUMES};
use super::sparse::{self, SparseMap};
use super::{TarReader, fields};
use crate::chunk::{Content, ContentBuilder};
use crate::layer::LayerError;
use crate::limits::{ENTRY_BYTES, MAX_FILE_BYTES};
use crate::meta::Meta;
use crate::name::LayerPath;
use crate::source::error::At;
use crate::source::marker::{Marker, is_marker, parent};
use crate::source::{LeftOut, SourceError, SourceErrorKind};

/// What headers before an entry say of it.
#[derive(Default)]
pub(super) struct Extensions {
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extensions {
    pub(super) fn any(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }

    pub(super) fn set_pax(&mut self, records: PaxRecords) -> Result<(), &'static str> {
        match self.pax.replace(records) {
            Some(_) => Err("two extended headers for one entry"),
            None => Ok(()),
        }
    }

    pub(super) fn set_long(&mut self, kind: u8, name: Vec<u8>) -> Result<(), &'static str> {
        let place = if kind == b'L' {
            &mut self.long_name
        } else {
            &mut self.long_link
        };
        match place.replace(name) {
            Some(_) => Err("two long names for one entry"),
            None => Ok(()),
        }
    }
}

/// An entry's type.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryType {
    File,
    Sparse,
    Dir,
    Symlink,
    HardLink,
    /// Character device 0/0.
    Whiteout,
    /// A volume's label.
    Label,
    /// A directory in an incremental archive of GNU's, with a list of names.
    DumpDir,
    /// What a layer cannot have.
    Special(&'static str),
}

/// An entry, all its headers considered.
struct TarEntry<'h> {
    header: &'h Header,
    pax: PaxRecords,
    kind: EntryType,
    name: Vec<u8>,
    link: Vec<u8>,
    /// Bytes of data in the archive.
    stored: u64,
}

impl TarReader<'_, '_> {
    pub(super) fn entry(&mut self, header: &Header) -> Result<(), SourceError> {
        let extensions = std::mem::take(&mut self.pending);
        let pax = extensions.pax.unwrap_or_default();
        let sparse_name = pax.sparse.name.get().cloned();
        let name = one_of(extensions.long_name, pax.path.get())
            .map(|long| sparse_name.or(long).unwrap_or_else(|| header_name(header)));
        let name = name
            .map_err(|why| self.blocks.bad(why))
            .at(&header_name(header))?;
        let link = one_of(extensions.long_link, pax.linkpath.get());
        let link = link.map_err(|why| self.blocks.bad(why)).at(&name)?;
        let link = link.unwrap_or_else(|| fields::text(&header.as_old().linkname).to_vec());
        let at = name.clone();
        let entry = TarEntry {
            header,
            pax,
            kind: EntryType::File,
            name,
            link,
            stored: 0,
        };
        self.take(entry).at(&at)
    }

    fn take(&mut self, mut entry: TarEntry<'_>) -> Result<(), SourceErrorKind> {
        let size = entry.pax.size.get().copied();
        let size = size.or_else(|| fields::size(&entry.header.as_old().size));
        let size = size.ok_or_else(|| self.blocks.bad("the size is not a number"))?;
        entry.kind = kind(entry.header, &entry.name).ok_or_else(|| self.refused(entry.header))?;
        // A directory by its name alone may have data to some readers.
        let is_file = matches!(entry.header.as_old().linkflag[0], b'0' | b'\0' | b'7');
        if is_file && entry.kind == EntryType::Dir && size > 0 {
            return Err(self.blocks.bad("data after a name that ends in a slash"));
        }
        // Other types have no data, whatever the size says: all readers agree.
        entry.stored = match entry.kind {
            EntryType::File | EntryType::Sparse | EntryType::DumpDir => size,
            _ => 0,
        };
        if entry.pax.sparse.any() && entry.kind != EntryType::File {
            return Err(self
                .blocks
                .bad("a sparse map for an entry that is not a file"));
        }
        if entry.kind == EntryType::Label {
            return Ok(());
        }
        let path = parse_path(&entry.name, || "the path".into())?;
        if path.is_root() && matches!(entry.header.as_old().linkflag[0], b'0' | b'7') {
            return Err(LayerError::Root("a file").into());
        }
        match Marker::of_path(&path)? {
            Marker::Plain => self.plain(&entry, &path),
            Marker::Reserved => self.reserved(&entry, path),
            Marker::Whiteout(_) | Marker::Opaque
                if entry.kind != EntryType::File || size > 0 || entry.pax.sparse.any() =>
            {
                Err(SourceErrorKind::Whiteout("it is not an empty regular file"))
            }
            Marker::Whiteout(name) => Ok(self.builder.whiteout(&parent(&path).join(name))?),
            Marker::Opaque => Ok(self.builder.opaque(&parent(&path))?),
        }
    }

    /// Takes an entry whose name is its own.
    fn plain(&mut self, entry: &TarEntry<'_>, path: &LayerPath) -> Result<(), SourceErrorKind> {
        match entry.kind {
            EntryType::Dir | EntryType::DumpDir => {
                let meta = self.meta(entry)?;
                self.builder.dir(path, meta)?;
                self.pass(entry.stored)?;
            }
            EntryType::File | EntryType::Sparse => {
                if path.is_root() {
                    return Err(LayerError::Root("a file").into());
                }
                let meta = self.meta(entry)?;
                let content = self.content(entry)?;
                self.builder.file(path, meta, content)?;
            }
            EntryType::Symlink => {
                let meta = self.meta(entry)?;
                self.builder.symlink(path, meta, &entry.link)?;
            }
            EntryType::HardLink => {
                let shown = || format!("the hard link's target {}", crate::name::show(&entry.link));
                if entry.link.is_empty() {
                    return Err(self.blocks.bad("a hard link without a target"));
                }
                let target = parse_path(&entry.link, shown)?;
                self.hard_link(path, &target)?;
            }
            EntryType::Whiteout => self.builder.whiteout(path)?,
            EntryType::Special(what) => return self.special(entry, path, what),
            EntryType::Label => {}
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &LayerPath, target: &LayerPath) -> Result<(), SourceErrorKind> {
        if let Some(object) = self.aside.get(target) {
            return Ok(self.builder.link_object(path, *object)?);
        }
        if target.names().iter().any(|name| is_marker(name.as_bytes())) {
            return Err(SourceErrorKind::Whiteout("a hard link leads to one"));
        }
        match &self.options.skip_special {
            // One more name of what was left out.
            Some(left_out) if self.left_out.contains(target) && !self.builder.has(target) => {
                self.leave_out(left_out, path);
                Ok(())
            }
            _ => Ok(self.builder.hard_link(path, target)?),
        }
    }

    /// Leaves out what a layer cannot have, if that is wished.
    fn special(
        &mut self,
        entry: &TarEntry<'_>,
        path: &LayerPath,
        what: &'static str,
    ) -> Result<(), SourceErrorKind> {
        let Some(left_out) = &self.options.skip_special else {
            return Err(SourceErrorKind::Special(what));
        };
        self.leave_out(left_out, path);
        self.pass(entry.stored)
    }

    fn leave_out(&mut self, left_out: &LeftOut, path: &LayerPath) {
        left_out.note(path);
        let names = path.names().iter().map(|name| name.as_bytes().len() as u64);
        self.spent.metadata.add(ENTRY_BYTES + names.sum::<u64>());
        self.left_out.insert(path.clone());
    }

    /// Takes what AUFS kept for itself. It has no name in the layer, but hard
    /// links may lead to it: AUFS keeps a file that has several names that way.
    fn reserved(&mut self, entry: &TarEntry<'_>, path: LayerPath) -> Result<(), SourceErrorKind> {
        if !matches!(entry.kind, EntryType::File | EntryType::Sparse) {
            return self.pass(entry.stored);
        }
        let meta = self.meta(entry)?;
        let content = self.content(entry)?;
        let object = self.builder.nameless_file(&path, meta, content)?;
        self.aside.insert(path, object);
        Ok(())
    }

    fn meta(&self, entry: &TarEntry<'_>) -> Result<Meta, SourceErrorKind> {
        let old = entry.header.as_old();
        let bad = |field| self.blocks.bad(format!("the {field} is not a number"));
        let mode = fields::number(&old.mode).ok_or_else(|| bad("mode"))?;
        let (own, global) = (&entry.pax, &self.global);
        let uid = own
            .uid
            .or(&global.uid)
            .copied()
            .or_else(|| fields::id(&old.uid));
        let gid = own
            .gid
            .or(&global.gid)
            .copied()
            .or_else(|| fields::id(&old.gid));
        let mtime = own
            .mtime
            .or(&global.mtime)
            .copied()
            .or_else(|| fields::time(&old.mtime));
        let xattrs = own.xattrs_over(global);
        Ok(Meta {
            mode: u32::try_from(mode & 0o7777).unwrap_or(0),
            uid: uid.ok_or_else(|| bad("uid"))?,
            gid: gid.ok_or_else(|| bad("gid"))?,
            mtime: mtime.ok_or_else(|| bad("mtime"))?,
            xattrs,
        })
    }

    fn content(&mut self, entry: &TarEntry<'_>) -> Result<Content, SourceErrorKind> {
        let (map, before) = match entry.kind {
            EntryType::Sparse => (
                sparse::old_gnu(&mut self.blocks, entry.header, entry.stored)?,
                0,
            ),
            _ if entry.pax.sparse.any() => sparse::pax(&mut self.blocks, &entry.pax, entry.stored)?,
            _ => (SparseMap::dense(entry.stored), 0),
        };
        if map.size > MAX_FILE_BYTES {
            return Err(SourceErrorKind::Limit {
                what: "bytes in a file",
                limit: MAX_FILE_BYTES,
            });
        }
        self.count(entry.stored - before)?;
        let mut content = ContentBuilder::new(self.pool);
        for (offset, len) in &map.segments {
            content.hole(offset - content.size());
            self.copy(*len, &mut |bytes| content.write(bytes))?;
        }
        content.hole(map.size - content.size());
        self.blocks.padding(entry.stored)?;
        Ok(content.finish())
    }

    /// Counts bytes of content before they are read.
    fn count(&mut self, bytes: u64) -> Result<(), SourceErrorKind> {
        let limit = self.options.max_bytes;
        if self.spent.bytes.add(bytes) > limit {
            return Err(SourceErrorKind::Limit {
                what: "bytes of content",
                limit,
            });
        }
        Ok(())
    }

    fn copy(&mut self, len: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), SourceErrorKind> {
        let mut left = len;
        while left > 0 {
            let now = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(self.buf.len());
            let buf = self.buf.get_mut(..now).unwrap_or_default();
            self.blocks.exactly(buf)?;
            sink(buf);
            left -= now as u64;
        }
        Ok(())
    }

    /// Passes the data of an entry that is left out.
    fn pass(&mut self, stored: u64) -> Result<(), SourceErrorKind> {
        self.copy(stored, &mut |_| {})?;
        self.blocks.padding(stored)
    }

    /// An entry whose type is none of those that one archive has.
    fn refused(&self, header: &Header) -> SourceErrorKind {
        match header.as_old().linkflag[0] {
            b'M' => self.blocks.bad(SEVERAL_VOLUMES),
            flag => {
                let flag = flag.escape_ascii();
                self.blocks.bad(format!("unknown type `{flag}`"))
            }
        }
    }
}

impl SparseMap {
    fn dense(size: u64) -> Self {
        Self {
            size,
            segments: vec![(0, size)],
        }
    }
}

/// Two headers may give one name, if they agree.
fn one_of(long: Option<Vec<u8>>, pax: Option<&Vec<u8>>) -> Result<Option<Vec<u8>>, &'static str> {
    match (long, pax) {
        (Some(long), Some(pax)) if long != *pax => {
            Err("GNU long name and PAX header say two different names")
        }
        (long, pax) => Ok(long.or_else(|| pax.cloned())),
    }
}

/// The name that the header block itself gives.
pub(in crate::source) fn header_name(header: &Header) -> Vec<u8> {
    let bytes = header.as_bytes();
    let name = fields::text(&header.as_old().name);
    let prefix = match (bytes.get(257..263), bytes.get(508..)) {
        // Joerg Schilling's star keeps times at the prefix's end.
        (Some(b"ustar\0"), Some(b"tar\0")) => bytes.get(345..476),
        (Some(b"ustar\0"), _) => bytes.get(345..500),
        _ => None,
    };
    match fields::text(prefix.unwrap_or_default()) {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// Returns the type; `None` for one that is not known.
fn kind(header: &Header, name: &[u8]) -> Option<EntryType> {
    Some(match header.as_old().linkflag[0] {
        b'0' | b'\0' | b'7' if name.ends_with(b"/") => EntryType::Dir,
        b'0' | b'\0' | b'7' => EntryType::File,
        b'1' => EntryType::HardLink,
        b'2' => EntryType::Symlink,
        b'3' if is_whiteout_device(header) => EntryType::Whiteout,
        b'3' => EntryType::Special("a character device"),
        b'4' => EntryType::Special("a block device"),
        b'5' => EntryType::Dir,
        b'6' => EntryType::Special("a FIFO"),
        b'D' => EntryType::DumpDir,
        b'S' => EntryType::Sparse,
        b'V' => EntryType::Label,
        _ => return None,
    })
}

fn is_whiteout_device(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let number = |range| bytes.get(range).and_then(fields::number);
    bytes.get(257..262) == Some(b"ustar")
        && (number(329..337), number(337..345)) == (Some(0), Some(0))
}

fn parse_path(raw: &[u8], what: impl FnOnce() -> String) -> Result<LayerPath, SourceErrorKind> {
    LayerPath::parse(raw).map_err(|error| SourceErrorKind::Name {
        what: what(),
        error,
    })
}
