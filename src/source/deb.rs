//! Layers from Debian packages: an `ar` archive whose member `data.tar`,
//! compressed somehow, is what gets installed (deb(5)). The control files and
//! scripts in the other members are left alone.

use std::io::{self, Read};

use super::tar::{self, Input};
use super::{SourceError, SourceErrorKind, SourceOptions, Spent};
use crate::chunk::ChunkPool;
use crate::layer::Layer;
use crate::name::show;

/// What an `ar` archive begins with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Bytes of a member's header.
const HEADER_BYTES: usize = 60;

/// The longest text in `debian-binary`: version 2 of the format has four bytes.
const VERSION_BYTES: u64 = 64;

/// Makes a layer of what a package installs.
pub(super) fn read(
    pool: &ChunkPool,
    reader: impl Read,
    options: &SourceOptions,
    spent: &Spent,
) -> Result<Layer, SourceError> {
    let mut package = Package { reader, at: 0 };
    let mut magic = [0; MAGIC.len()];
    package.exactly(&mut magic)?;
    package.version()?;
    let (mut control, mut layer) = (false, None);
    while let Some(member) = package.next()? {
        let is = |stem: &str| member.name == stem || member.name.starts_with(&format!("{stem}."));
        if is("data.tar") {
            if !control || layer.is_some() {
                let reason = match control {
                    true => "the package has two members that are called data.tar",
                    false => "the package's data comes before its control files",
                };
                return Err(package.bad(reason).into());
            }
            layer = Some(package.data(pool, &member, options, spent)?);
            continue;
        }
        if is("control.tar") {
            if std::mem::replace(&mut control, true) {
                return Err(package
                    .bad("the package has two control.tar members")
                    .into());
            }
        } else if layer.is_none() && !member.name.starts_with('_') {
            let name = show(member.name.as_bytes());
            let reason = format!("a member {name}, which packages do not have before data.tar");
            return Err(package.bad(reason).into());
        }
        package.pass(member.size)?;
    }
    layer.ok_or_else(|| package.bad("the package ends before its data.tar").into())
}

struct Package<R> {
    reader: R,
    /// Where in the file the header read last begins, and then what follows it.
    at: u64,
}

struct ArMember {
    name: String,
    size: u64,
}

impl<R: Read> Package<R> {
    fn bad(&self, reason: impl Into<String>) -> SourceErrorKind {
        SourceErrorKind::Archive {
            offset: self.at,
            reason: reason.into(),
        }
    }

    fn exactly(&mut self, buf: &mut [u8]) -> Result<(), SourceErrorKind> {
        match self.reader.read_exact(buf) {
            Ok(()) => {
                self.at += buf.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.bad("the package ends too early"))
            }
            Err(error) => Err(SourceErrorKind::Io(error)),
        }
    }

    /// Reads the member that tells a package from other `ar` archives.
    fn version(&mut self) -> Result<(), SourceErrorKind> {
        let first = self.next()?;
        let first = first.filter(|first| first.name == "debian-binary");
        let Some(first) = first.filter(|first| first.size <= VERSION_BYTES) else {
            let reason = "an ar archive that is not a Debian package (a static library?): it holds \
                          no tree of files that could be read here";
            return Err(SourceErrorKind::NotALayer(reason.into()));
        };
        let mut text = vec![0; usize::try_from(first.size).unwrap_or(0)];
        self.exactly(&mut text)?;
        self.pad(first.size)?;
        match text.starts_with(b"2.") {
            true => Ok(()),
            false => {
                let text = show(text.trim_ascii());
                Err(self.bad(format!(
                    "a package in version {text} of the format: 2 is known"
                )))
            }
        }
    }

    /// Reads the next member's header; `None` at the end.
    fn next(&mut self) -> Result<Option<ArMember>, SourceErrorKind> {
        let mut header = [0; HEADER_BYTES];
        let mut first = Vec::new();
        let read = self.reader.by_ref().take(1).read_to_end(&mut first);
        read.map_err(SourceErrorKind::Io)?;
        let ([front, rest @ ..], [byte]) = (&mut header, first.as_slice()) else {
            return Ok(None);
        };
        *front = *byte;
        self.at += 1;
        self.exactly(rest)?;
        let field =
            |range: std::ops::Range<usize>| header.get(range).unwrap_or_default().trim_ascii_end();
        let name = String::from_utf8(field(0..16).to_vec()).ok();
        let name = name.map(|name| name.trim_end_matches('/').to_owned());
        let size = std::str::from_utf8(field(48..58)).ok();
        let size = size.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match (name, size.and_then(|text| text.parse().ok()), field(58..60)) {
            (Some(name), Some(size), b"`") => Ok(Some(ArMember { name, size })),
            _ => Err(self.bad("the header of a member of the package is damaged")),
        }
    }

    fn data(
        &mut self,
        pool: &ChunkPool,
        member: &ArMember,
        options: &SourceOptions,
        spent: &Spent,
    ) -> Result<Layer, SourceError> {
        let mut data = CountedReader {
            reader: self.reader.by_ref().take(member.size),
            seen: 0,
        };
        let layer = Input::new(&mut data, options)
            .map_err(SourceError::from)
            .and_then(|input| tar::read(pool, input, options, spent))
            .map_err(|error| error.part(&member.name))?;
        // Zeros, as a rule, behind the end of a tar that is not compressed.
        io::copy(&mut data, &mut io::sink()).map_err(SourceErrorKind::Io)?;
        let seen = data.seen;
        self.at += seen;
        if seen < member.size {
            return Err(self.bad("the package ends too early").into());
        }
        self.pad(member.size)?;
        Ok(layer)
    }

    fn pass(&mut self, size: u64) -> Result<(), SourceErrorKind> {
        let mut member = self.reader.by_ref().take(size);
        let seen = io::copy(&mut member, &mut io::sink()).map_err(SourceErrorKind::Io)?;
        self.at += seen;
        if seen < size {
            return Err(self.bad("the package ends too early"));
        }
        self.pad(size)
    }

    /// Members begin at even places; the last one's padding may be missing.
    fn pad(&mut self, size: u64) -> Result<(), SourceErrorKind> {
        let mut one = self.reader.by_ref().take(size % 2);
        self.at += io::copy(&mut one, &mut io::sink()).map_err(SourceErrorKind::Io)?;
        Ok(())
    }
}

struct CountedReader<R> {
    reader: R,
    seen: u64,
}

impl<R: Read> Read for CountedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buf)?;
        self.seen += len as u64;
        Ok(len)
    }
}
