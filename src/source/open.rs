//! A source by its path on the host, or as a stream.

#[cfg(feature = "tar")]
use std::fs::File;
use std::fs::Metadata;
#[cfg(feature = "tar")]
use std::io::Read;
use std::path::{Path, PathBuf};
#[cfg(feature = "tar")]
use std::sync::Arc;

#[cfg(feature = "tar")]
use super::part::{Part, spool};
#[cfg(feature = "tar")]
use super::tar::{ArchiveFormat, Input};
#[cfg(feature = "oci")]
use super::{LayerBlob, OciImage};
use super::{SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::layer::Layer;

/// Makes layers from what is at `path`, bottom first: a [`Source`], opened and
/// read.
///
/// ```no_run
/// use stratafs::chunk::ChunkPool;
/// use stratafs::image::Image;
/// use stratafs::source::{self, SourceOptions};
///
/// let pool = ChunkPool::new();
/// let layers = source::open(&pool, "rootfs.tar.zst".as_ref(), &SourceOptions::default())?;
/// let image = Image::new(&layers)?;
/// # drop(image);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`Source::open`] and [`Source::read`].
pub fn open(
    pool: &ChunkPool,
    path: &Path,
    options: &SourceOptions,
) -> Result<Vec<Layer>, SourceError> {
    Source::open(path, options)?.layers(pool, options)
}

/// Something that layers are to be made of, told apart by what it holds, never by
/// its name: a directory; a tar archive, plain or in gzip, zstd, xz or bzip2; a
/// zip archive, whatever it is called (`.jar`, `.whl`); a Debian package; an OCI
/// image layout, what `docker save` writes, or skopeo's `dir:`, each as a
/// directory or as an archive, or in the only directory of one.
///
/// ```
/// use stratafs::chunk::ChunkPool;
/// use stratafs::image::Image;
/// use stratafs::source::{Source, SourceOptions};
///
/// # let dir = tempfile::tempdir()?;
/// std::fs::write(dir.path().join("motd"), "hello")?;
/// let (pool, options) = (ChunkPool::new(), SourceOptions::default());
/// let source = Source::open(dir.path(), &options)?; // an archive or a layout likewise
/// let image = Image::new(&source.layers(&pool, &options)?)?;
/// assert_eq!(image.stats().files, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Source {
    name: PathBuf,
    what: SourceKind,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

enum SourceKind {
    Dir(PathBuf),
    #[cfg(feature = "tar")]
    Archive(Arc<File>),
    #[cfg(feature = "oci")]
    Image(Box<OciImage>),
}

/// What a [`Source`] turned out to be.
#[non_exhaustive]
pub enum Opened {
    /// Files: one layer.
    Layer(Layer),
    /// An image, whose layers have not been read yet.
    #[cfg(feature = "oci")]
    Image(Box<OciImage>),
}

impl Source {
    /// Opens what is at `path`; a symbolic link there is followed. The documents
    /// of an image are read and verified; nothing else is looked at yet.
    ///
    /// A FIFO is read to its end, into a temporary file without a name. Waits for
    /// whoever writes to it.
    ///
    /// # Errors
    ///
    /// What cannot be read, a device or socket (which is not opened), an image
    /// whose documents are not what they should be, or several images where
    /// `options` do not choose. All name `path`.
    pub fn open(path: &Path, options: &SourceOptions) -> Result<Self, SourceError> {
        open_what(path, options)
            .map(|what| Self {
                name: path.to_owned(),
                what,
            })
            .map_err(|error| error.of(path))
    }

    /// Takes a stream to its end, into a temporary file without a name, and opens
    /// that. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); a stream of 0 bytes, since whatever should have
    /// written to it failed; more than `options.max_bytes`.
    #[cfg(feature = "tar")]
    pub fn from_reader(
        name: &Path,
        reader: impl Read,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let spooled = stream(reader, options).map_err(SourceError::from);
        spooled
            .and_then(|file| archive(file, options))
            .map(|what| Self {
                name: name.to_owned(),
                what,
            })
            .map_err(|error| error.of(name))
    }

    /// Returns what errors call it: the path.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Reads a layer, or gives the image.
    ///
    /// # Errors
    ///
    /// As the functions `dir` and `tar` of this module; names the source.
    pub fn read(self, pool: &ChunkPool, options: &SourceOptions) -> Result<Opened, SourceError> {
        let read = match self.what {
            SourceKind::Dir(path) => open_dir(pool, &path, options).map(Opened::Layer),
            #[cfg(feature = "tar")]
            SourceKind::Archive(file) => read_archive(pool, &file, options),
            #[cfg(feature = "oci")]
            SourceKind::Image(image) => Ok(Opened::Image(image)),
        };
        read.map_err(|error| error.of(&self.name))
    }

    /// Reads all layers, bottom first.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and for images as `OciImage::read_layer`.
    pub fn layers(
        self,
        pool: &ChunkPool,
        options: &SourceOptions,
    ) -> Result<Vec<Layer>, SourceError> {
        #[cfg(feature = "oci")]
        let name = self.name.clone();
        match self.read(pool, options)? {
            Opened::Layer(layer) => Ok(vec![layer]),
            #[cfg(feature = "oci")]
            Opened::Image(image) => {
                if image.layers().iter().any(LayerBlob::is_program) {
                    let reason = "an artifact with a program of WebAssembly, which is not a layer: \
                                  import it, and run it as an image";
                    return Err(
                        SourceError::from(SourceErrorKind::NotALayer(reason.into())).of(&name)
                    );
                }
                let layers = image.layers().iter();
                let read = layers.map(|layer| image.read_layer(pool, layer, options, None));
                read.collect::<Result<_, _>>()
                    .map_err(|error: SourceError| error.of(&name))
            }
        }
    }
}

fn open_what(path: &Path, options: &SourceOptions) -> Result<SourceKind, SourceError> {
    let meta = std::fs::metadata(path).map_err(SourceErrorKind::Io)?;
    if meta.is_dir() {
        return open_image(path, options);
    }
    open_file(path, &meta, options)
}

#[cfg(feature = "tar")]
fn open_file(
    path: &Path,
    meta: &Metadata,
    options: &SourceOptions,
) -> Result<SourceKind, SourceError> {
    let opened = || File::open(path).map_err(SourceErrorKind::Io);
    if meta.is_file() {
        return archive(Arc::new(opened()?), options);
    }
    match what(meta) {
        SpecialFile::Fifo => archive(stream(opened()?, options)?, options),
        SpecialFile::Other(what) => {
            let reason = format!("{what}: neither a directory nor an archive");
            Err(SourceErrorKind::NotALayer(reason).into())
        }
    }
}

#[cfg(not(feature = "tar"))]
fn open_file(_: &Path, _: &Metadata, _: &SourceOptions) -> Result<SourceKind, SourceError> {
    Err(SourceErrorKind::NotALayer("a file: built without the feature `tar`".into()).into())
}

/// What is neither a file nor a directory.
#[cfg(feature = "tar")]
enum SpecialFile {
    #[cfg_attr(
        not(unix),
        expect(dead_code, reason = "other systems have none that a path leads to")
    )]
    Fifo,
    Other(&'static str),
}

#[cfg(feature = "tar")]
fn what(meta: &Metadata) -> SpecialFile {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = meta.file_type();
        if kind.is_fifo() {
            return SpecialFile::Fifo;
        }
        if kind.is_socket() {
            return SpecialFile::Other("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return SpecialFile::Other("a device");
        }
    }
    let _ = meta;
    SpecialFile::Other("not a regular file")
}

/// Takes a stream to its end.
#[cfg(feature = "tar")]
fn stream(mut reader: impl Read, options: &SourceOptions) -> Result<Arc<File>, SourceErrorKind> {
    let file = spool(options, |buf| {
        loop {
            match reader.read(buf) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                read => return read.map_err(SourceErrorKind::Io),
            }
        }
    })?;
    match file.metadata().map_err(SourceErrorKind::Io)?.len() {
        0 => Err(SourceErrorKind::NotALayer(
            "0 bytes came: what should have written an archive here did not".into(),
        )),
        _ => Ok(file),
    }
}

#[cfg(feature = "oci")]
fn open_image(path: &Path, options: &SourceOptions) -> Result<SourceKind, SourceError> {
    Ok(match OciImage::open(path, options)? {
        Some(image) => SourceKind::Image(Box::new(image)),
        None => SourceKind::Dir(path.to_owned()),
    })
}

#[cfg(feature = "oci")]
fn archive(file: Arc<File>, options: &SourceOptions) -> Result<SourceKind, SourceError> {
    Ok(match OciImage::in_archive(&file, options)? {
        Some(image) => SourceKind::Image(Box::new(image)),
        None => SourceKind::Archive(file),
    })
}

/// Without the feature `oci` a layout is no layer either.
#[cfg(not(feature = "oci"))]
fn open_image(path: &Path, _: &SourceOptions) -> Result<SourceKind, SourceError> {
    match path.join("oci-layout").is_file() && path.join("index.json").is_file() {
        true => Err(without_oci()),
        false => Ok(SourceKind::Dir(path.to_owned())),
    }
}

#[cfg(all(feature = "tar", not(feature = "oci")))]
fn archive(file: Arc<File>, _: &SourceOptions) -> Result<SourceKind, SourceError> {
    Ok(SourceKind::Archive(file))
}

#[cfg(not(feature = "oci"))]
fn without_oci() -> SourceError {
    SourceErrorKind::NotALayer("an image: built without the feature `oci`".into()).into()
}

#[cfg(feature = "dir")]
use super::dir_ambient as open_dir;

#[cfg(not(feature = "dir"))]
fn open_dir(_: &ChunkPool, _: &Path, _: &SourceOptions) -> Result<Layer, SourceError> {
    Err(SourceErrorKind::NotALayer("a directory: built without the feature `dir`".into()).into())
}

/// Files that images have at their top.
#[cfg(feature = "tar")]
const MARKS: [&str; 4] = ["oci-layout", "index.json", "manifest.json", "repositories"];

/// Reads an archive of files, unless an image turns out to be in it.
#[cfg(feature = "tar")]
fn read_archive(
    pool: &ChunkPool,
    file: &Arc<File>,
    options: &SourceOptions,
) -> Result<Opened, SourceError> {
    let spent = super::Spent::default();
    let mut head = Vec::new();
    let mut front = Part::whole(file).take(ArchiveFormat::MAGIC_BYTES as u64);
    front.read_to_end(&mut head).map_err(SourceErrorKind::Io)?;
    match ArchiveFormat::of(&head) {
        ArchiveFormat::Zip => return read_zip(pool, file, options, &spent),
        ArchiveFormat::Ar => {
            let layer = super::deb::read(pool, Part::whole(file), options, &spent)?;
            return Ok(Opened::Layer(layer));
        }
        _ => {}
    }
    let input = Input::new(Part::whole(file), options)?.not_empty()?;
    let layer = super::tar::read(pool, input, options, &spent)?;
    // Images that other names come first in.
    match layer.has_file_of(&MARKS) {
        true => open_marked(file, layer, options),
        false => Ok(Opened::Layer(layer)),
    }
}

#[cfg(feature = "zip")]
fn read_zip(
    pool: &ChunkPool,
    file: &File,
    options: &SourceOptions,
    spent: &super::Spent,
) -> Result<Opened, SourceError> {
    super::zip::read(pool, file, options, spent).map(Opened::Layer)
}

#[cfg(all(feature = "tar", not(feature = "zip")))]
fn read_zip(
    _: &ChunkPool,
    _: &File,
    _: &SourceOptions,
    _: &super::Spent,
) -> Result<Opened, SourceError> {
    Err(SourceErrorKind::NotALayer("a zip archive: built without the feature `zip`".into()).into())
}

#[cfg(feature = "oci")]
fn open_marked(
    file: &Arc<File>,
    layer: Layer,
    options: &SourceOptions,
) -> Result<Opened, SourceError> {
    Ok(match OciImage::in_marked(file, options)? {
        Some(image) => Opened::Image(Box::new(image)),
        None => Opened::Layer(layer),
    })
}

#[cfg(all(feature = "tar", not(feature = "oci")))]
fn open_marked(_: &Arc<File>, layer: Layer, _: &SourceOptions) -> Result<Opened, SourceError> {
    match layer.has_file_of(&["oci-layout"]) && layer.has_file_of(&["index.json"]) {
        true => Err(without_oci()),
        false => Ok(Opened::Layer(layer)),
    }
}
