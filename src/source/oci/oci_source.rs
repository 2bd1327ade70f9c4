//! Where an image lies: the files of a directory, or the members of a tar
//! archive, by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader};
#[cfg(feature = "registry")]
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "registry")]
use oci_spec::image::Descriptor;

use crate::limits::MAX_TAR_EXTENSION_BYTES;
use crate::source::part::{Part, spool};
use crate::source::tar::Input;
use crate::source::{BlobDigest, SourceError, SourceErrorKind, SourceOptions};

/// Links from member to member that are followed: `docker save` writes one
/// for a layer that it has written before.
const MAX_LINKS: u32 = 8;

/// Directories that are looked into for images, if there is nothing else.
const MAX_DIRS: usize = 64;

/// Headers that are looked at to tell what an archive is.
const PEEKED_HEADERS: usize = 8;

/// Files by name. Reading never follows a name out of the archive; in a
/// directory only names are asked for that have been checked.
pub(super) struct OciSource {
    files: Location,
    /// Blobs lie beside the manifest.
    flat: bool,
    /// Names come from a document, not from digests: none may lead out of here.
    strict: bool,
}

enum Location {
    Dir(PathBuf),
    Archive {
        /// The archive as it can be sought in: decompressed, if it had to be,
        /// in a file without a name, which goes with the process however that
        /// ends.
        file: Arc<File>,
        members: HashMap<String, ArchiveMember>,
    },
    #[cfg(feature = "registry")]
    Remote(Arc<dyn BlobHome>),
}

/// Where an image lies that is in no file: blobs by digest, as they are asked for.
#[cfg(feature = "registry")]
pub(crate) trait BlobHome: Send + Sync {
    /// Returns the bytes of a document: at most those that a document may have. Whoever asks
    /// checks them.
    fn document(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>>;

    /// Waits until a blob is there, and returns the file that it is in, where it begins and
    /// ends there.
    fn blob(&self, digest: &BlobDigest) -> io::Result<(Arc<File>, Range<u64>)>;
}

/// Where the bytes of a member are.
pub(super) enum ArchiveMember {
    Bytes { offset: u64, size: u64 },
    Link(String),
}

/// A file that has been found, with its size.
pub(super) struct FoundFile {
    pub(super) reader: BufReader<Part>,
    pub(super) size: u64,
}

impl OciSource {
    /// Indexes the members of an archive; decompresses it into a temporary file
    /// first where needed.
    pub(super) fn archive(file: &Arc<File>, options: &SourceOptions) -> Result<Self, SourceError> {
        let file = match unpacked(file, options)? {
            Some(spool) => spool,
            None => Arc::clone(file),
        };
        let members = super::members::index(&file, options.max_entries)?;
        Ok(Self::of(Location::Archive { file, members }))
    }

    pub(super) fn dir(path: PathBuf) -> Self {
        Self::of(Location::Dir(path))
    }

    #[cfg(feature = "registry")]
    pub(super) fn remote(home: Arc<dyn BlobHome>) -> Self {
        Self::of(Location::Remote(home))
    }

    /// Returns whether the image lies in no file.
    #[cfg(feature = "registry")]
    pub(super) fn is_remote(&self) -> bool {
        matches!(self.files, Location::Remote(_))
    }

    /// Fetches a document from where images are not in files; `None` where they are.
    #[cfg(feature = "registry")]
    pub(super) fn remote_document(
        &self,
        descriptor: &Descriptor,
    ) -> Option<Result<Vec<u8>, SourceErrorKind>> {
        match &self.files {
            Location::Remote(home) => Some(home.document(descriptor).map_err(SourceErrorKind::Io)),
            Location::Dir(_) | Location::Archive { .. } => None,
        }
    }

    fn of(files: Location) -> Self {
        Self {
            files,
            flat: false,
            strict: false,
        }
    }

    /// The same place, with blobs beside the manifest.
    pub(super) fn flat(self) -> Self {
        Self { flat: true, ..self }
    }

    /// The same place, for names that a document gives.
    pub(super) fn strict(self) -> Self {
        Self {
            strict: true,
            ..self
        }
    }

    /// Returns the name of the file that a blob lies in.
    pub(super) fn blob_file(&self, digest: &BlobDigest) -> String {
        if !self.flat {
            return format!("blobs/{}/{}", digest.algorithm(), digest.hex());
        }
        let hex = digest.hex();
        let further = [format!("{hex}.manifest.json"), format!("{hex}.tar")];
        let further = further.into_iter().find(|name| self.has(name));
        further.unwrap_or_else(|| hex.to_owned())
    }

    /// Returns the directories here, if there is nothing else, by name.
    pub(super) fn below(&self) -> Result<Vec<(String, Self)>, SourceErrorKind> {
        match &self.files {
            Location::Dir(dir) => dirs_alone(dir).map_err(SourceErrorKind::Io),
            Location::Archive { file, members } => {
                let top = |name: &String| Some(name.split_once('/')?.0.to_owned());
                let Some(first) = members.keys().next().and_then(top) else {
                    return Ok(Vec::new());
                };
                let front = format!("{first}/");
                let inside = members.iter().map(|(name, member)| {
                    let name = name.strip_prefix(&front)?;
                    Some((name.to_owned(), member.below(&front)))
                });
                let inside: Option<HashMap<_, _>> = inside.collect();
                let inside = inside.map(|members| {
                    let file = Arc::clone(file);
                    (first, Self::of(Location::Archive { file, members }))
                });
                Ok(inside.into_iter().collect())
            }
            #[cfg(feature = "registry")]
            Location::Remote(_) => Ok(Vec::new()),
        }
    }

    /// Opens the file of this name: `None` if there is none.
    pub(super) fn open(&self, name: &str) -> Result<Option<FoundFile>, SourceErrorKind> {
        match &self.files {
            Location::Dir(dir) if self.strict => return open_inside(dir, name),
            Location::Dir(dir) => open_file(&dir.join(name)),
            Location::Archive { file, members } => open_member(file, members, name),
            #[cfg(feature = "registry")]
            Location::Remote(home) => open_remote(&**home, name),
        }
        .map_err(SourceErrorKind::Io)
    }

    /// Returns whether there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match &self.files {
            Location::Dir(dir) => dir.join(name).is_file(),
            Location::Archive { members, .. } => members.contains_key(name),
            #[cfg(feature = "registry")]
            Location::Remote(_) => false,
        }
    }

    /// Returns whether there is a directory of this name, with something in it.
    pub(super) fn has_dir(&self, name: &str) -> bool {
        match &self.files {
            Location::Dir(dir) => dir.join(name).is_dir(),
            Location::Archive { members, .. } => {
                let inside = |member: &String| {
                    let below = member.strip_prefix(name);
                    below.is_some_and(|below| below.starts_with('/'))
                };
                members.keys().any(inside)
            }
            #[cfg(feature = "registry")]
            Location::Remote(_) => false,
        }
    }
}

impl ArchiveMember {
    /// The same member, seen from the directory `front`.
    fn below(&self, front: &str) -> Self {
        match self {
            Self::Bytes { offset, size } => Self::Bytes {
                offset: *offset,
                size: *size,
            },
            // One that leads elsewhere leads nowhere.
            Self::Link(target) => Self::Link(target.strip_prefix(front).unwrap_or("").to_owned()),
        }
    }
}

/// Opens a file that no link leads to from out of the directory.
fn open_inside(dir: &Path, name: &str) -> Result<Option<FoundFile>, SourceErrorKind> {
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    let led = || io::Result::Ok((dir.canonicalize()?, dir.join(name).canonicalize()?));
    match led() {
        Ok((dir, file)) if Path::new(name).components().all(plain) && file.starts_with(&dir) => {
            open_file(&file).map_err(SourceErrorKind::Io)
        }
        Ok(_) => {
            let reason = "it leads out of the directory";
            Err(SourceErrorKind::Document(reason.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SourceErrorKind::Io(error)),
    }
}

/// The directories in a directory; none if there are other things as well, or
/// more than could be looked into.
fn dirs_alone(dir: &Path) -> io::Result<Vec<(String, OciSource)>> {
    let mut found = Vec::new();
    for entry in dir.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        match (name, entry.file_type()?.is_dir()) {
            (Ok(name), true) if found.len() < MAX_DIRS => {
                found.push((name, OciSource::dir(entry.path())));
            }
            _ => return Ok(Vec::new()),
        }
    }
    found.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(found)
}

fn open_file(path: &Path) -> io::Result<Option<FoundFile>> {
    // Looked at first: opening a FIFO would wait.
    match path.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(io::Error::other("not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok(Some(FoundFile {
        reader: BufReader::new(Part::whole(&Arc::new(file))),
        size,
    }))
}

/// Opens a blob by the name that it has in a layout.
#[cfg(feature = "registry")]
fn open_remote(home: &dyn BlobHome, name: &str) -> io::Result<Option<FoundFile>> {
    let digest = name
        .strip_prefix("blobs/")
        .map(|name| name.replace('/', ":"));
    let digest = digest.and_then(|text| text.parse::<BlobDigest>().ok());
    let Some(digest) = digest else {
        return Ok(None);
    };
    let (file, place) = home.blob(&digest)?;
    Ok(Some(FoundFile {
        size: place.end.saturating_sub(place.start),
        reader: BufReader::new(Part::new(&file, place.start, place.end)),
    }))
}

fn open_member(
    archive: &Arc<File>,
    members: &HashMap<String, ArchiveMember>,
    name: &str,
) -> io::Result<Option<FoundFile>> {
    let mut name = name;
    for _ in 0..MAX_LINKS {
        match members.get(name) {
            None => return Ok(None),
            Some(ArchiveMember::Link(target)) => name = target,
            Some(ArchiveMember::Bytes { offset, size }) => {
                let part = Part::new(archive, *offset, offset.saturating_add(*size));
                return Ok(Some(FoundFile {
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
fn unpacked(
    file: &Arc<File>,
    options: &SourceOptions,
) -> Result<Option<Arc<File>>, SourceErrorKind> {
    let mut input = Input::new(Part::whole(file), options)?;
    match input.compressed() {
        true => spool(options, |buf| input.read_full(buf)).map(Some),
        false => Ok(None),
    }
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

/// Returns whether the first member of an archive has a name that images have,
/// so that a layer is not read as an image for nothing.
pub(super) fn looks_like_image(file: &Arc<File>, options: &SourceOptions) -> bool {
    let Ok(mut input) = Input::new(Part::whole(file), options) else {
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

/// Reads over bytes; returns whether there were that many.
fn pass(input: &mut Input<'_>, size: u64) -> bool {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    matches!(input.read_full(&mut bytes), Ok(len) if len == bytes.len())
}

/// The names that images have at their top, or that one's directory has.
fn image_name(name: &str) -> bool {
    let (top, below) = name.split_once('/').unwrap_or((name, ""));
    is_image_name(top) || is_image_name(below.split('/').next().unwrap_or_default())
}

fn is_image_name(top: &str) -> bool {
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
        assert!(image_name("x/oci-layout") && image_name("x/blobs/"));
        for name in ["etc/passwd", "", "blob", "index.html", "usr", "a/b/blobs"] {
            assert!(!image_name(name), "{name}");
        }
    }
}
