//! Tar archives written header by header, legal and not; layers as text.

use stratafs::chunk::ChunkPool;
use stratafs::layer::{EntryBody, Layer};
use stratafs::source::{SourceError, SourceOptions, tar};

/// One header block, field by field.
#[derive(Clone)]
pub(crate) struct Head {
    block: [u8; 512],
}

impl Head {
    /// A POSIX header of this type: mode 0644, owned by 0:0, at the epoch.
    pub(crate) fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let mut head = Self { block: [0; 512] };
        head = head
            .field(0, name.as_ref())
            .octal(100, 8, 0o644)
            .octal(108, 8, 0)
            .octal(116, 8, 0);
        head = head
            .octal(124, 12, 0)
            .octal(136, 12, 0)
            .field(257, b"ustar\x0000");
        head.block[156] = kind;
        head
    }

    /// With these bytes at this offset.
    pub(crate) fn field(mut self, at: usize, bytes: &[u8]) -> Self {
        self.block[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// With this number in the field of `len` bytes at this offset.
    pub(crate) fn octal(self, at: usize, len: usize, number: u64) -> Self {
        let digits = format!("{number:0width$o}\0", width = len - 1);
        self.field(at, digits.as_bytes())
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub(crate) fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.field(157, target.as_ref())
    }

    pub(crate) fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    /// The block with its checksum.
    pub(crate) fn bytes(mut self) -> [u8; 512] {
        self.block[148..156].fill(b' ');
        let sum: u32 = self.block.iter().map(|byte| u32::from(*byte)).sum();
        self.field(148, format!("{sum:06o}\0 ").as_bytes()).block
    }
}

/// An archive under construction.
#[derive(Clone, Default)]
pub(crate) struct Archive(pub(crate) Vec<u8>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Any bytes.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn head(self, head: Head) -> Self {
        self.bytes(&head.bytes())
    }

    /// Data, filled up to whole blocks.
    pub(crate) fn data(self, data: &[u8]) -> Self {
        let padded = data.len().next_multiple_of(512);
        let mut archive = self.bytes(data);
        archive.0.resize(archive.0.len() + padded - data.len(), 0);
        archive
    }

    /// A header with its data, the size being the data's.
    pub(crate) fn with(self, head: Head, data: &[u8]) -> Self {
        self.head(head.size(data.len() as u64)).data(data)
    }

    pub(crate) fn file(self, name: impl AsRef<[u8]>, data: &str) -> Self {
        self.with(Head::new(b'0', name), data.as_bytes())
    }

    pub(crate) fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.head(Head::new(b'5', name))
    }

    pub(crate) fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.head(Head::new(b'2', name).link(target))
    }

    pub(crate) fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.head(Head::new(b'1', name).link(target))
    }

    /// An `x` header with these records.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.with(Head::new(b'x', "PaxHeader"), &pax_records(records))
    }

    pub(crate) fn global(self, records: &[(&str, &[u8])]) -> Self {
        self.with(Head::new(b'g', "GlobalHeader"), &pax_records(records))
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub(crate) fn long(self, kind: u8, name: &[u8]) -> Self {
        self.with(
            Head::new(kind, "././@LongLink").gnu(),
            &[name, b"\0"].concat(),
        )
    }

    /// The archive with its end.
    pub(crate) fn end(self) -> Vec<u8> {
        self.bytes(&[0; 1024]).0
    }

    /// Its layer as text.
    pub(crate) fn listed(self) -> String {
        list(&import(&self.end()).unwrap())
    }

    /// The error that it gives.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        match import(&self.end()) {
            Ok(layer) => panic!("accepted: {}", list(&layer)),
            Err(error) => error.to_string(),
        }
    }
}

pub(crate) fn pax_records(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let len = (1..)
            .find(|len| *len == rest + len.to_string().len())
            .unwrap();
        out.extend_from_slice(format!("{len} {key}=").as_bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out
}

pub(crate) fn import(bytes: &[u8]) -> Result<Layer, SourceError> {
    tar(&ChunkPool::new(), bytes, &SourceOptions::default())
}

/// A layer as one line: `d` directory, `i` implied one, `!` opaque; `f` file
/// with its content, or its size if that is long; `s` symbolic link, `w`
/// whiteout, `h` hard link into a lower layer; `#n` for n hard links. The
/// root is left out when it is implied.
pub(crate) fn list(layer: &Layer) -> String {
    let mut out = Vec::new();
    for entry in layer.entries() {
        let what = match entry.body {
            EntryBody::Dir {
                meta: None,
                opaque: false,
            } if entry.path.is_root() => continue,
            EntryBody::Dir { meta, opaque } => {
                let opaque = if opaque { "!" } else { "" };
                format!("{}{opaque}", if meta.is_some() { "d" } else { "i" })
            }
            EntryBody::File { content, links, .. } => {
                let mut text = vec![0; 20];
                let len = content.read_at(&mut text, 0).unwrap();
                let text = match content.size() {
                    0..20 => String::from_utf8_lossy(&text[..len]).into_owned(),
                    size => size.to_string(),
                };
                format!("f{text}{}", count(links))
            }
            EntryBody::Symlink { target, links, .. } => {
                format!("s{}{}", String::from_utf8_lossy(target), count(links))
            }
            EntryBody::Whiteout => "w".into(),
            EntryBody::LowerLink { target } => format!("h{target}"),
        };
        out.push(format!("{}:{what}", entry.path));
    }
    out.join(" ")
}

fn count(links: u32) -> String {
    if links > 1 {
        format!("#{links}")
    } else {
        String::new()
    }
}
