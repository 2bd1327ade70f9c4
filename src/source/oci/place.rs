//! Where an image lies: the files of a directory, or the members of a tar
//! archive, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::limits::MAX_TAR_EXTENSION_BYTES;
use crate::source::tar::Input;
use crate::source::{SourceError, SourceErrorKind, SourceOptions};

/// Links from member to member that are followed: `docker save` writes one
/// for a layer that it has written before.
const MAX_LINKS: u32 = 8;

/// Headers that are looked at to tell what an archive is.
const PEEKED_HEADERS: usize = 8;

/// Files by name. Reading never follows a name out of the archive; in a
/// directory only names are asked for that have been checked.
pub(super) enum Place {
    Dir(PathBuf),
    Archive {
        /// The archive as it can be sought in: decompressed, if it had to be,
        /// in a file without a name, which goes with the process however that
        /// ends.
        file: Arc<File>,
        members: HashMap<String, Member>,
    },
}

/// Where the bytes of a member are.
pub(super) enum Member {
    Bytes { offset: u64, size: u64 },
    Link(String),
}

/// A file that has been found, with its size.
pub(super) struct Found {
    pub(super) reader: BufReader<Part>,
    pub(super) size: u64,
}

/// A part of a file. Has a place of its own in it, whoever else reads.
pub(super) struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        let read = read_at(&self.file, buf.get_mut(..len).unwrap_or_default(), self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, offset)
}

#[cfg(not(any(unix, windows)))]
fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut file = file;
    file.seek(io::SeekFrom::Start(offset))?;
    file.read(buf)
}

impl Place {
    /// Indexes the members of the archive at `path`; decompresses it into a
    /// temporary file first where needed.
    pub(super) fn archive(path: &Path, options: &SourceOptions) -> Result<Self, SourceError> {
        let file = match spool(path, options)? {
            Some(spool) => spool,
            None => File::open(path).map_err(SourceErrorKind::Io)?,
        };
        let members = super::members::index(&file, options.max_entries)?;
        let file = Arc::new(file);
        Ok(Self::Archive { file, members })
    }

    /// Opens the file of this name: `None` if there is none.
    pub(super) fn open(&self, name: &str) -> Result<Option<Found>, SourceErrorKind> {
        match self {
            Self::Dir(dir) => open_file(&dir.join(name)),
            Self::Archive { file, members } => open_member(file, members, name),
        }
        .map_err(SourceErrorKind::Io)
    }

    /// Tells whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Self::Dir(dir) => dir.join(name).is_file(),
            Self::Archive { members, .. } => members.contains_key(name),
        }
    }
}

fn open_file(path: &Path) -> io::Result<Option<Found>> {
    // Looked at first: opening a FIFO would wait.
    match path.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(io::Error::other("no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let part = Part {
        file: Arc::new(file),
        at: 0,
        end: u64::MAX,
    };
    Ok(Some(Found {
        reader: BufReader::new(part),
        size,
    }))
}

fn open_member(
    archive: &Arc<File>,
    members: &HashMap<String, Member>,
    name: &str,
) -> io::Result<Option<Found>> {
    let mut name = name;
    for _ in 0..MAX_LINKS {
        match members.get(name) {
            None => return Ok(None),
            Some(Member::Link(target)) => name = target,
            Some(Member::Bytes { offset, size }) => {
                let part = Part {
                    file: Arc::clone(archive),
                    at: *offset,
                    end: offset.saturating_add(*size),
                };
                return Ok(Some(Found {
                    reader: BufReader::new(part),
                    size: *size,
                }));
            }
        }
    }
    Err(io::Error::other("a chain of links without an end"))
}

/// Decompresses an archive, if it is compressed, within the bounds that hold
/// for layers.
fn spool(path: &Path, options: &SourceOptions) -> Result<Option<File>, SourceError> {
    let file = File::open(path).map_err(SourceErrorKind::Io)?;
    let mut input = Input::new(file, options)?;
    if !input.compressed() {
        return Ok(None);
    }
    let mut spool = tempfile::tempfile().map_err(SourceErrorKind::Io)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let len = input.read_full(&mut buffer)?;
        if len == 0 {
            break;
        }
        if input.given() > options.max_bytes {
            return Err(SourceErrorKind::Limit {
                what: "bytes of content",
                limit: options.max_bytes,
            }
            .into());
        }
        spool
            .write_all(buffer.get(..len).unwrap_or_default())
            .map_err(SourceErrorKind::Io)?;
    }
    spool.rewind().map_err(SourceErrorKind::Io)?;
    Ok(Some(spool))
}

/// A member's name without `./` at its front.
pub(super) fn plain(name: &str) -> String {
    let mut name = name;
    while let Some(rest) = name.strip_prefix("./").or_else(|| name.strip_prefix('/')) {
        name = rest;
    }
    name.to_owned()
}

/// Where a symbolic link in the directory of `name` leads; `None` if that is
/// out of the archive.
pub(super) fn beside(name: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = match link.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => name.split('/').collect(),
    };
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Tells whether the first member of an archive has a name that images have,
/// so that a layer is not read as an image for nothing.
pub(super) fn looks_like_image(path: &Path, options: &SourceOptions) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let Ok(mut input) = Input::new(file, options) else {
        return false;
    };
    // The root, and headers that speak of another entry, come before it.
    for _ in 0..PEEKED_HEADERS {
        let mut header = ::tar::Header::new_old();
        if !matches!(input.read_full(header.as_mut_bytes()), Ok(512)) {
            return false;
        }
        let name = plain(&String::from_utf8_lossy(&header.path_bytes()));
        let about_another = matches!(header.as_old().linkflag[0], b'x' | b'g' | b'L' | b'K');
        if !about_another && !name.is_empty() && name != "." {
            return image_name(&name);
        }
        let size = header.size().unwrap_or(0);
        if size > MAX_TAR_EXTENSION_BYTES || !pass(&mut input, size.next_multiple_of(512)) {
            return false;
        }
    }
    false
}

/// Reads over bytes; tells whether there were that many.
fn pass(input: &mut Input<'_>, size: u64) -> bool {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    matches!(input.read_full(&mut bytes), Ok(len) if len == bytes.len())
}

/// The names that layouts and `docker save` have at their top.
fn image_name(name: &str) -> bool {
    let (top, _) = name.split_once('/').unwrap_or((name, ""));
    let top_is_hash = |top: &str| {
        let stem = top.trim_end_matches(".json").trim_end_matches(".tar");
        stem.len() == 64 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    matches!(
        top,
        "blobs" | "oci-layout" | "index.json" | "manifest.json" | "repositories"
    ) || top_is_hash(top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_members_stay_in_the_archive() {
        assert_eq!(
            beside("a/layer.tar", "../b/layer.tar").as_deref(),
            Some("b/layer.tar")
        );
        assert_eq!(beside("a", "b").as_deref(), Some("b"));
        assert_eq!(beside("a/x", "/b/./c").as_deref(), Some("b/c"));
        assert_eq!(beside("a/x", "../../b"), None);
    }

    #[test]
    fn names_of_images_are_known() {
        let hash = "0f".repeat(32);
        for name in ["blobs/sha256/x", "oci-layout", "manifest.json", &hash] {
            assert!(image_name(name), "{name}");
        }
        assert!(image_name(&format!("{hash}.json")));
        assert!(image_name(&format!("{hash}/layer.tar")));
        for name in ["etc/passwd", "", "blob", "index.html", "usr"] {
            assert!(!image_name(name), "{name}");
        }
    }
}
