//! Layers from zip archives, and what is one by another name: `.jar`, `.whl`.
//!
//! A zip says everything twice: in its directory at the end, and before each
//! member. Readers that believe one or the other see different files, so both
//! have to agree here. Refused are as well: encrypted members, names that come
//! twice, members that share bytes or that the directory does not name, bytes
//! behind the end, methods other than stored, deflate, zstd, xz and bzip2.
//!
//! - Modes are Unix's if they are stored, else 0644, and 0755 for directories.
//!   Owners are 0:0.
//! - Times are those of the extra fields if there are any, which are in UTC; DOS
//!   times are taken for UTC.
//! - Names are kept as bytes, like those of a tar. One that ends in `/` is a
//!   directory's.
//! - Whiteouts by name are those of [`marker`](super::marker).

use std::collections::HashSet;
use std::fs::File;

use rawzip::time::{UtcDateTime, ZipDateTimeKind};
use rawzip::{CompressionMethod, ZipArchive, ZipFileHeaderRecord, ZipLocator};

use super::error::At;
use super::marker::{Marker, parent};
use super::tar::{ArchiveFormat, Packed, Unpacked};
use super::{SourceError, SourceErrorKind, SourceOptions, Spent};
use crate::chunk::{ChunkPool, Content, ContentBuilder};
use crate::layer::{Layer, LayerBuilder, LayerError};
use crate::limits::{MAX_FILE_BYTES, MAX_SYMLINK_BYTES, RATIO_FLOOR_BYTES};
use crate::meta::{Meta, Time};
use crate::name::LayerPath;

/// Bytes from the last record to the end: its own, and a comment.
const END_BYTES: u64 = 22 + 65_535;

/// What a local header begins with.
const LOCAL: [u8; 4] = *b"PK\x03\x04";

/// Bytes of the records that may follow a member's data: with and without a
/// signature, with sizes of 32 and of 64 bits.
const DESCRIPTORS: [u64; 4] = [12, 16, 20, 24];

type RawArchive = ZipArchive<rawzip::FileReader>;
type ZipMember<'a> = rawzip::ZipEntry<'a, rawzip::FileReader>;

/// Makes a layer from a zip archive. The bounds are those that hold for a
/// compressed tar.
pub(super) fn read(
    pool: &ChunkPool,
    file: &File,
    options: &SourceOptions,
    spent: &Spent,
) -> Result<Layer, SourceError> {
    let len = file.metadata().map_err(SourceErrorKind::Io)?.len();
    spent.taken.add(len);
    let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
    let own = file.try_clone().map_err(SourceErrorKind::Io)?;
    let located = ZipLocator::new()
        .max_search_space(END_BYTES)
        .locate_in_file(own, &mut buffer);
    let archive = located.map_err(|(_, error)| damaged(len, error))?;
    if archive.end_offset() != len {
        let reason = "bytes after the end of the zip: cut them off";
        return Err(bad(archive.end_offset(), reason).into());
    }
    let mut zip = Zip {
        pool,
        archive: &archive,
        builder: LayerBuilder::new().max_entries(options.max_entries),
        options,
        spent,
        names: HashSet::new(),
        spans: Vec::new(),
        metadata: 0,
        local: vec![0; 2 * usize::from(u16::MAX)],
        buf: vec![0; 64 * 1024],
    };
    let mut entries = archive.entries(&mut buffer);
    while let Some(record) = entries
        .next_entry()
        .map_err(|error| damaged(archive.directory_offset(), error))?
    {
        zip.member(&record)?;
    }
    zip.finish()
}

fn bad(offset: u64, reason: impl Into<String>) -> SourceErrorKind {
    SourceErrorKind::Archive {
        offset,
        reason: reason.into(),
    }
}

fn damaged(offset: u64, error: rawzip::Error) -> SourceErrorKind {
    match error.into_kind() {
        rawzip::ErrorKind::IO(error) => SourceErrorKind::Io(error),
        rawzip::ErrorKind::MissingEndOfCentralDirectory => {
            bad(offset, "the zip has no directory at its end: it is cut off")
        }
        other => bad(offset, format!("the zip is damaged: {other:?}")),
    }
}

struct Zip<'a> {
    pool: &'a ChunkPool,
    archive: &'a RawArchive,
    builder: LayerBuilder,
    options: &'a SourceOptions,
    spent: &'a Spent,
    names: HashSet<LayerPath>,
    /// Where members lie.
    spans: Vec<MemberBytes>,
    /// Bytes of metadata that have been counted.
    metadata: u64,
    local: Vec<u8>,
    buf: Vec<u8>,
}

/// The bytes of a member, its local header included.
struct MemberBytes {
    start: u64,
    end: u64,
    /// A record with sizes follows.
    described: bool,
}

/// What a member is.
enum MemberKind {
    File,
    Dir,
    Symlink,
    Special(&'static str),
}

impl Zip<'_> {
    fn member(&mut self, record: &ZipFileHeaderRecord<'_>) -> Result<(), SourceError> {
        let path = record.file_path();
        let name = path.as_bytes();
        self.take(record, name).at(name)?;
        Ok(self.count_metadata()?)
    }

    fn take(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        name: &[u8],
    ) -> Result<(), SourceErrorKind> {
        let at = record.local_header_offset();
        let limit = self.options.max_entries;
        if self.spent.entries.add(1) > limit {
            let what = "entries in the archive";
            return Err(SourceErrorKind::Limit { what, limit });
        }
        let flags = record.flags();
        if flags.is_encrypted() || flags.has_strong_encryption() || flags.is_masked() {
            return Err(bad(
                at,
                "it is encrypted: unpack it with its password first",
            ));
        }
        let entry = self.archive.get_entry(record.wayfinder());
        let entry = entry.map_err(|error| damaged(at, error))?;
        self.agree(record, &entry)?;
        let path = LayerPath::parse(name).map_err(|error| SourceErrorKind::Name {
            what: "the path".into(),
            error,
        })?;
        if !self.names.insert(path.clone()) {
            return Err(bad(at, "the zip has two members of this name"));
        }
        let kind = kind(record, name);
        let size = record.uncompressed_size_hint();
        if matches!(kind, MemberKind::Dir) && size > 0 {
            return Err(bad(at, "a directory with data"));
        }
        match Marker::of_path(&path)? {
            Marker::Plain => self.place(record, &entry, kind, &path),
            Marker::Reserved => Ok(()),
            Marker::Whiteout(_) | Marker::Opaque
                if !matches!(kind, MemberKind::File) || size > 0 =>
            {
                Err(SourceErrorKind::Whiteout("it is not an empty regular file"))
            }
            Marker::Whiteout(name) => Ok(self.builder.whiteout(&parent(&path).join(name))?),
            Marker::Opaque => Ok(self.builder.opaque(&parent(&path))?),
        }
    }

    /// Compares the directory with what stands before and behind the member.
    fn agree(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        entry: &ZipMember<'_>,
    ) -> Result<(), SourceErrorKind> {
        let at = record.local_header_offset();
        let local = entry.local_header(&mut self.local);
        let local = local.map_err(|error| damaged(at, error))?;
        let differs = |what| {
            let reason = format!("the zip's directory and the member's own header say two {what}");
            bad(at, reason)
        };
        let (packed, size) = (
            record.compressed_size_hint(),
            record.uncompressed_size_hint(),
        );
        let described = record.flags().has_data_descriptor();
        if local.file_path().as_bytes() != record.file_path().as_bytes() {
            return Err(differs("names"));
        }
        if local.compression_method() != record.compression_method() {
            return Err(differs("methods"));
        }
        if local.flags() != record.flags() {
            return Err(differs("sets of flags"));
        }
        if local.last_modified_dos() != record.last_modified_dos() {
            return Err(differs("times"));
        }
        // Where they follow the data they may be missing here.
        let open = |own, listed| described && own == 0 || own == listed;
        let sizes = open(local.compressed_size_hint(), packed)
            && open(local.uncompressed_size_hint(), size);
        if !sizes || !open(local.crc32().into(), record.crc32().into()) {
            return Err(differs("sizes or checksums"));
        }
        if let Some(found) = entry
            .reader()
            .data_descriptor()
            .map_err(|error| damaged(at, error))?
        {
            let all = (
                found.compressed_size(),
                found.uncompressed_size(),
                found.crc32(),
            );
            if all != (packed, size, record.crc32()) {
                return Err(differs("sizes or checksums"));
            }
        }
        self.spans.push(MemberBytes {
            start: at,
            end: entry.compressed_data_range().1,
            described,
        });
        Ok(())
    }

    fn place(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        entry: &ZipMember<'_>,
        kind: MemberKind,
        path: &LayerPath,
    ) -> Result<(), SourceErrorKind> {
        let meta = meta(record, &kind);
        match kind {
            MemberKind::Dir => self.builder.dir(path, meta)?,
            MemberKind::File => {
                if path.is_root() {
                    return Err(LayerError::Root("a file").into());
                }
                let mut content = ContentBuilder::new(self.pool);
                self.unpack(record, entry, &mut |bytes| content.write(bytes))?;
                let content: Content = content.finish();
                self.builder.file(path, meta, content)?;
            }
            MemberKind::Symlink => {
                if record.uncompressed_size_hint() > MAX_SYMLINK_BYTES as u64 {
                    let path = path.clone();
                    return Err(LayerError::SymlinkTarget { path }.into());
                }
                let mut target = Vec::new();
                self.unpack(record, entry, &mut |bytes| target.extend_from_slice(bytes))?;
                self.builder.symlink(path, meta, &target)?;
            }
            MemberKind::Special(what) => match &self.options.skip_special {
                Some(left_out) => left_out.note(path),
                None => return Err(SourceErrorKind::Special(what)),
            },
        }
        Ok(())
    }

    /// Reads a member's bytes, as many as the directory says.
    fn unpack(
        &mut self,
        record: &ZipFileHeaderRecord<'_>,
        entry: &ZipMember<'_>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SourceErrorKind> {
        let at = record.local_header_offset();
        let size = record.uncompressed_size_hint();
        self.count(size)?;
        let format = format(record.compression_method(), at)?;
        let mut unpacked = Unpacked::new(format, Packed::new(entry.reader()))?;
        let (mut seen, mut crc) = (0_u64, rawzip::Crc32::new());
        loop {
            let len = unpacked.read(&mut self.buf)?;
            if len == 0 {
                break;
            }
            seen += len as u64;
            if seen > size {
                return Err(bad(at, "more bytes come out than the zip says"));
            }
            let bytes = self.buf.get(..len).unwrap_or_default();
            crc.update(bytes);
            sink(bytes);
        }
        if seen < size {
            return Err(bad(at, "fewer bytes come out than the zip says"));
        }
        match crc.checksum() == record.crc32() {
            true => Ok(()),
            false => Err(bad(at, "the checksum does not hold")),
        }
    }

    /// Counts bytes of content before they are read.
    fn count(&self, size: u64) -> Result<(), SourceErrorKind> {
        let over = |what, limit| Err(SourceErrorKind::Limit { what, limit });
        if size > MAX_FILE_BYTES {
            return over("bytes in a file", MAX_FILE_BYTES);
        }
        if self.spent.bytes.add(size) > self.options.max_bytes {
            return over("bytes of content", self.options.max_bytes);
        }
        let (given, ratio) = (self.spent.given.add(size), self.options.max_ratio);
        if given > RATIO_FLOOR_BYTES && given > self.spent.taken.get().saturating_mul(ratio) {
            return over("bytes out of each byte of a compressed archive", ratio);
        }
        Ok(())
    }

    /// Counts what the entries so far cost, before there can be many more.
    fn count_metadata(&mut self) -> Result<(), SourceErrorKind> {
        let all = self.builder.metadata_bytes();
        let sum = self.spent.metadata.add(all - self.metadata);
        self.metadata = all;
        let limit = self.spent.max_metadata();
        let what = "bytes of metadata for an archive of its size";
        match sum > limit {
            true => Err(SourceErrorKind::Limit { what, limit }),
            false => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Layer, SourceError> {
        let (announced, found) = (self.archive.entries_hint(), self.spans.len() as u64);
        // Old tools count in sixteen bits, and go round.
        if announced != found && announced != found % (1 << 16) {
            let reason = format!("the directory announces {announced} members, found {found}");
            return Err(bad(self.archive.eocd_offset(), reason).into());
        }
        self.check_spans()?;
        let made = self.builder.finish().map_err(SourceErrorKind::from)?;
        let implied = (made.node_count() as u64).saturating_sub(1 + found);
        let limit = self.options.max_entries;
        match self.spent.entries.add(implied) > limit {
            true => Err(SourceErrorKind::Limit {
                what: "entries in the archive",
                limit,
            }
            .into()),
            false => Ok(made),
        }
    }

    /// Members follow each other from the first byte on, each with bytes of its
    /// own, and none between them that the directory does not name.
    fn check_spans(&mut self) -> Result<(), SourceErrorKind> {
        self.spans.sort_unstable_by_key(|span| span.start);
        let directory = self.archive.directory_offset();
        let last = MemberBytes {
            start: directory,
            end: directory,
            described: false,
        };
        let (mut end, mut described) = (0, false);
        for span in self.spans.iter().chain([&last]) {
            if span.start < end {
                let reason = "two members of the zip share bytes";
                return Err(bad(span.start, reason));
            }
            let behind = DESCRIPTORS.into_iter().filter(|_| described);
            for skip in behind.chain([0]) {
                if span.start - end >= skip + 4 && self.local_header_at(end + skip)? {
                    let reason = "a member that the zip's directory does not name";
                    return Err(bad(end + skip, reason));
                }
            }
            (end, described) = (span.end, span.described);
        }
        Ok(())
    }

    fn local_header_at(&self, offset: u64) -> Result<bool, SourceErrorKind> {
        use rawzip::ReaderAt;
        let mut found = [0; LOCAL.len()];
        let read = self.archive.get_ref().read_exact_at(&mut found, offset);
        read.map_err(SourceErrorKind::Io)?;
        Ok(found == LOCAL)
    }
}

fn format(method: CompressionMethod, at: u64) -> Result<ArchiveFormat, SourceErrorKind> {
    match method {
        CompressionMethod::STORE => Ok(ArchiveFormat::Plain),
        CompressionMethod::DEFLATE => Ok(ArchiveFormat::Deflate),
        CompressionMethod::ZSTD => Ok(ArchiveFormat::Zstd),
        CompressionMethod::XZ => Ok(ArchiveFormat::Xz),
        CompressionMethod::BZIP2 => Ok(ArchiveFormat::Bzip2),
        other => {
            let name = other.name().unwrap_or("unknown");
            let number = other.as_u16();
            let reason = format!(
                "it is compressed by method {number} ({name}): pack the zip again with deflate"
            );
            Err(bad(at, reason))
        }
    }
}

/// Unix's mode, type included, if the member has one.
fn unix_mode(record: &ZipFileHeaderRecord<'_>) -> Option<u32> {
    let mode = record.external_attributes() >> 16;
    let system = record.version_made_by().creator_system();
    let unix = matches!(
        system,
        rawzip::CreatorSystem::UNIX | rawzip::CreatorSystem::MACOS
    );
    // Other systems leave the upper half alone, or some tool stored one there.
    let typed = matches!(mode >> 12, 0o4 | 0o10 | 0o12);
    Some(mode).filter(|mode| *mode != 0 && (unix || typed))
}

fn kind(record: &ZipFileHeaderRecord<'_>, name: &[u8]) -> MemberKind {
    if name.ends_with(b"/") {
        return MemberKind::Dir;
    }
    // The numbers of `S_IFMT`, the same on every Unix.
    match unix_mode(record).unwrap_or(0) >> 12 {
        0o1 => MemberKind::Special("a FIFO"),
        0o2 => MemberKind::Special("a character device"),
        0o4 => MemberKind::Dir,
        0o6 => MemberKind::Special("a block device"),
        0o12 => MemberKind::Symlink,
        0o14 => MemberKind::Special("a socket"),
        _ => MemberKind::File,
    }
}

fn meta(record: &ZipFileHeaderRecord<'_>, kind: &MemberKind) -> Meta {
    let usual = match kind {
        MemberKind::Dir => 0o755,
        MemberKind::Symlink => 0o777,
        _ => 0o644,
    };
    let mode = unix_mode(record).map_or(usual, |mode| mode & 0o7777);
    Meta::with_mode(mode).at(time(record.last_modified()))
}

fn time(stored: ZipDateTimeKind) -> Time {
    let utc = match stored {
        ZipDateTimeKind::Utc(utc) => Some(utc),
        ZipDateTimeKind::Local(_) => UtcDateTime::from_components(
            stored.year(),
            stored.month(),
            stored.day(),
            stored.hour(),
            stored.minute(),
            stored.second(),
            stored.nanosecond(),
        ),
    };
    utc.map_or(Time::EPOCH, |utc| {
        Time::new(utc.to_unix(), utc.nanosecond())
    })
}
