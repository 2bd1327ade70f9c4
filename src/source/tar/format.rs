//! What the first bytes of a file say that it is.

/// What a source may be packed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum ArchiveFormat {
    /// A tar archive, or nothing that is known.
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    /// What most members of a zip are packed in. No bytes tell it.
    #[cfg_attr(not(feature = "zip"), expect(dead_code, reason = "zips alone have it"))]
    Deflate,
    Zip,
    /// What Debian packages and static libraries are.
    Ar,
}

impl ArchiveFormat {
    /// Bytes at the front that tell the format.
    pub(in crate::source) const MAGIC_BYTES: usize = 10;

    pub(in crate::source) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The level, and the mark of a block or of the end.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, ..] => Self::Bzip2,
            // A file's header, or the end of one without files.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Zip,
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', b'\n', ..] => Self::Ar,
            _ => Self::Plain,
        }
    }

    /// Returns whether it is one stream of bytes, compressed.
    pub(in crate::source) fn is_packed(self) -> bool {
        !matches!(self, Self::Plain)
    }

    pub(in crate::source) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Deflate => "deflate",
            Self::Zip => "a zip archive",
            Self::Ar => "an ar archive",
        }
    }
}
