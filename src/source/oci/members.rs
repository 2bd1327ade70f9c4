//! The members of an archive that has an image in it: their names and where
//! their bytes are. What they hold is verified by digest when it is read, so
//! this may be a reader of less rigour than the one for layers.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};

use ::tar::Header;

use super::oci_source::{ArchiveMember, beside, plain};
use crate::limits::{MAX_OCI_MEMBER_BYTES, MAX_TAR_EXTENSION_BYTES};
use crate::source::tar::{PaxRecords, header_name, pax_records, size_of, text};
use crate::source::{SourceError, SourceErrorKind};

const BLOCK: u64 = 512;

/// Bytes that a member costs beside its names.
const MEMBER_BYTES: u64 = 128;

/// Lists the members of a plain archive. O(headers); holds the names, which
/// have a bound.
pub(super) fn index(
    mut file: &File,
    max_entries: u64,
) -> Result<HashMap<String, ArchiveMember>, SourceError> {
    file.rewind().map_err(SourceErrorKind::Io)?;
    let mut headers = Headers {
        file: BufReader::new(file),
        at: 0,
        read_to: 0,
    };
    let mut members = HashMap::new();
    let mut about = MemberExtensions::default();
    let (mut count, mut held) = (0, 0_u64);
    while let Some(header) = headers.next()? {
        count += 1;
        if count > max_entries {
            return Err(limit("entries in the archive", max_entries).into());
        }
        if about.takes(&header, &mut headers)? {
            continue;
        }
        let about = std::mem::take(&mut about);
        let size = about.records.size.get().copied();
        let size = size.or_else(|| size_of(&header));
        let size = size.ok_or_else(|| bad(headers.at))?;
        let (name, link) = about.names(&header);
        let offset = headers.at;
        let found = member(header.as_old().linkflag[0], name, link, (offset, size));
        if let Some((name, member)) = found {
            let link = match &member {
                ArchiveMember::Link(link) => link.len(),
                ArchiveMember::Bytes { .. } => 0,
            };
            held += (name.len() + link) as u64 + MEMBER_BYTES;
            if held > MAX_OCI_MEMBER_BYTES {
                let what = "bytes of members' names in an archive with an image";
                return Err(limit(what, MAX_OCI_MEMBER_BYTES).into());
            }
            members.insert(name, member);
        }
        if header.as_old().linkflag[0] == b'S' {
            headers.pass_map(&header)?;
        }
        headers.pass(size)?;
    }
    Ok(members)
}

fn limit(what: &'static str, limit: u64) -> SourceErrorKind {
    SourceErrorKind::Limit { what, limit }
}

fn bad(offset: u64) -> SourceErrorKind {
    SourceErrorKind::Archive {
        offset,
        reason: "the header before it gives no size".into(),
    }
}

/// The headers of an archive, one after the other.
struct Headers<'a> {
    file: BufReader<&'a File>,
    /// Where the data of the header read last begins.
    at: u64,
    /// Where the file stands, at `at` or in that data.
    read_to: u64,
}

impl Headers<'_> {
    /// Returns the next header; `None` at zeros, and at the end of the file,
    /// which may come too early: what a digest leads to is missing then.
    fn next(&mut self) -> Result<Option<Header>, SourceErrorKind> {
        let mut header = Header::new_old();
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(BLOCK).read_to_end(&mut bytes);
        read.map_err(SourceErrorKind::Io)?;
        if bytes.len() as u64 != BLOCK || bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        header.as_mut_bytes().copy_from_slice(&bytes);
        self.at += BLOCK;
        self.read_to = self.at;
        Ok(Some(header))
    }

    /// Reads the data of a header that is about another one.
    fn data(&mut self, size: u64) -> Result<Vec<u8>, SourceErrorKind> {
        if size > MAX_TAR_EXTENSION_BYTES {
            let what = "bytes in an extended header or long name";
            return Err(limit(what, MAX_TAR_EXTENSION_BYTES));
        }
        let mut data = Vec::new();
        let read = self.file.by_ref().take(size).read_to_end(&mut data);
        self.read_to += read.map_err(SourceErrorKind::Io)? as u64;
        self.seek(self.at.saturating_add(size.next_multiple_of(BLOCK)))?;
        Ok(data)
    }

    /// Passes the data of a member.
    fn pass(&mut self, size: u64) -> Result<(), SourceErrorKind> {
        let end = size.checked_next_multiple_of(BLOCK);
        let end = end.and_then(|len| self.at.checked_add(len));
        self.seek(end.ok_or_else(|| bad(self.at))?)
    }

    /// Passes the map of a sparse member, which goes on behind the header.
    fn pass_map(&mut self, header: &Header) -> Result<(), SourceErrorKind> {
        let mut more = header.as_bytes().get(482).is_some_and(|flag| *flag != 0);
        while more {
            let Some(next) = self.next()? else {
                return Ok(());
            };
            more = next.as_bytes().get(504).is_some_and(|flag| *flag != 0);
        }
        Ok(())
    }

    fn seek(&mut self, to: u64) -> Result<(), SourceErrorKind> {
        let by = i64::try_from(to - self.read_to).map_err(|_| bad(self.at))?;
        self.file.seek_relative(by).map_err(SourceErrorKind::Io)?;
        (self.at, self.read_to) = (to, to);
        Ok(())
    }
}

/// What headers before a member say of it.
#[derive(Default)]
struct MemberExtensions {
    records: PaxRecords,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl MemberExtensions {
    /// Takes a header that is about the next one; returns whether it was.
    fn takes(
        &mut self,
        header: &Header,
        headers: &mut Headers<'_>,
    ) -> Result<bool, SourceErrorKind> {
        let kind = header.as_old().linkflag[0];
        if !matches!(kind, b'x' | b'X' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let size = size_of(header).ok_or_else(|| bad(headers.at))?;
        let data = headers.data(size)?;
        match kind {
            b'L' => self.name = Some(text(&data).to_vec()),
            b'K' => self.link = Some(text(&data).to_vec()),
            b'g' => {}
            _ => {
                let at = headers.at;
                self.records = pax_records(&data).map_err(|reason| SourceErrorKind::Archive {
                    offset: at,
                    reason: reason.into(),
                })?;
            }
        }
        Ok(true)
    }

    fn names(self, header: &Header) -> (Vec<u8>, Vec<u8>) {
        let name = self.records.path.get().cloned().or(self.name);
        let link = self.records.linkpath.get().cloned().or(self.link);
        (
            name.unwrap_or_else(|| header_name(header)),
            link.unwrap_or_else(|| text(&header.as_old().linkname).to_vec()),
        )
    }
}

/// What a member is, if images have such; names that are no text are none of
/// theirs.
fn member(
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    (offset, size): (u64, u64),
) -> Option<(String, ArchiveMember)> {
    let name = plain(&String::from_utf8(name).ok()?);
    let member = match kind {
        b'0' | b'\0' | b'7' => ArchiveMember::Bytes { offset, size },
        b'1' => ArchiveMember::Link(plain(&String::from_utf8(link).ok()?)),
        b'2' => ArchiveMember::Link(beside(&name, &String::from_utf8(link).ok()?)?),
        // Directories have no bytes; the rest is nothing images have.
        _ => return None,
    };
    Some((name, member))
}
