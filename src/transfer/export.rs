//! Out of a store.

use std::io::{self, Read, Write};
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::platform::stamp;
use super::{TransferError, artifact, framing, staged};
use crate::chunk::ChunkPool;
use crate::digest::Sha256;
use crate::image::{ImageConfig, Reference};
use crate::layer::Layer;
use crate::source::BlobDigest;
use crate::source::{
    Compression, Framing, OciExport, OciExportError, OutLayer, Platform, StartSet,
};
use crate::store::{ImageInfo, Store, StoredLayer, Watcher};
use crate::vfs::Fs;

/// What an image is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// An OCI image layout, as a directory.
    #[default]
    Oci,
    /// An OCI image layout, as a tar archive.
    OciArchive,
    /// An OCI artifact of WebAssembly in a layout, for an image that is one or has
    /// nothing but one program. As a directory.
    Artifact,
    /// The same, as a tar archive.
    ArtifactArchive,
    /// The merged tree, as a tar archive.
    Tar,
    /// The merged tree, as a directory: modes, times and links; owners and
    /// extended attributes stay behind, and with them setuid and setgid, which
    /// would be those of whoever writes the directory.
    Dir,
}

impl Format {
    /// Returns whether it is one file, and not a directory.
    #[must_use]
    pub fn is_archive(self) -> bool {
        match self {
            Self::OciArchive | Self::ArtifactArchive | Self::Tar => true,
            Self::Oci | Self::Artifact | Self::Dir => false,
        }
    }
}

/// How an image is written. The default is an OCI layout, its new layers not
/// compressed.
#[derive(Clone, Default)]
pub struct ExportOptions {
    /// What it is written as.
    pub format: Format,
    /// How layers that have no blob are compressed in a layout. Those that are can be read in
    /// parts: they are cut into frames, and have a table behind them that other tools pass over.
    pub compression: Compression,
    /// What comes first in layers that are compressed.
    pub start_set: StartSet,
    /// What a layout says that the image is for, whatever its configuration says.
    pub set_platform: Option<Platform>,
    /// Is told how many bytes of files and blobs have been read.
    pub watcher: Option<Watcher>,
}

impl std::fmt::Debug for ExportOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExportOptions")
            .field("format", &self.format)
            .field("compression", &self.compression)
            .field("set_platform", &self.set_platform)
            .finish_non_exhaustive()
    }
}

/// Writes the image `reference` to `out`: a file, which is replaced, or a
/// directory, which must not be there or be empty. It appears whole or not at
/// all, unless `out` is something like a pipe.
///
/// In a layout, a layer that came in as a blob is written as that blob, and an image that
/// has not been changed since keeps all of its digests. O(bytes), in bounded memory.
///
/// ```
/// use stratafs::store::Store;
/// use stratafs::transfer::{ExportOptions, ImportOptions, export, import};
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// # let out = tempfile::tempdir()?;
/// # let out = out.path().join("layout");
/// let store = Store::open(dir.path())?;
/// import(&store, &[app], &"app:1".parse()?, &ImportOptions::default())?;
/// export(&store, &"app:1".parse()?, &out, ExportOptions::default())?;
/// assert!(out.join("index.json").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Occupied`],
/// [`TransferError::Out`]; [`TransferError::Oci`] and
/// [`TransferError::Copy`] name the entry that cannot be written.
pub fn export(
    store: &Store,
    reference: &Reference,
    out: &Path,
    options: ExportOptions,
) -> Result<(), TransferError> {
    whole(store, reference)?;
    match options.format.is_archive() {
        true => staged::file(out, |file, scratch| {
            archive(store, reference, (file, scratch), options)
        }),
        false => staged::dir(out, |dir| directory(store, reference, dir, options)),
    }
}

/// Writes the image `reference` into a stream, such as standard output, as one of the formats
/// that are archives. What was written stays written if it fails. O(bytes), in bounded memory;
/// what is compressed is in a temporary file for a while.
///
/// # Errors
///
/// [`TransferError::Place`] for the format of a directory, before anything is written;
/// [`TransferError::Absent`]; those of [`export`], which call the stream `the output`.
pub fn export_into(
    store: &Store,
    reference: &Reference,
    out: &mut dyn Write,
    options: ExportOptions,
) -> Result<(), TransferError> {
    if !options.format.is_archive() {
        let what = "a directory cannot be written into a stream: expected an archive";
        return Err(TransferError::Place(what.into()));
    }
    whole(store, reference)?;
    staged::stream(Path::new("the output"), out, |file, scratch| {
        archive(store, reference, (file, scratch), options)
    })
}

fn archive(
    store: &Store,
    reference: &Reference,
    (file, scratch): (&mut dyn Write, &Path),
    options: ExportOptions,
) -> Result<(), TransferError> {
    let store = &watched(store, options.watcher.clone());
    if options.format == Format::Tar {
        let tree = tree(store, reference)?;
        return Ok(crate::source::write_layer(&tree, file).map(drop)?);
    }
    oci(store, reference, form(&options), |image| {
        let written = image.write_framed_archive(file, scratch, &framing_of(&options));
        written.map(drop)
    })
}

fn directory(
    store: &Store,
    reference: &Reference,
    dir: &Path,
    options: ExportOptions,
) -> Result<(), TransferError> {
    let store = &watched(store, options.watcher.clone());
    if options.format == Format::Dir {
        let fs = Fs::new(&store.image(reference.as_str())?);
        let opened = Dir::open_ambient_dir(dir, ambient_authority());
        let opened = opened.map_err(|error| TransferError::Out {
            path: dir.to_owned(),
            error,
        })?;
        return Ok(fs.export_dir_whole("/", &opened)?);
    }
    oci(store, reference, form(&options), |image| {
        image.write_framed_dir(dir, &framing_of(&options))
    })
}

fn watched(store: &Store, watcher: Option<Watcher>) -> Store {
    match watcher {
        Some(watcher) => store.watched(watcher),
        None => store.clone(),
    }
}

fn form(options: &ExportOptions) -> (Compression, Option<&Platform>, bool) {
    let as_artifact = matches!(options.format, Format::Artifact | Format::ArtifactArchive);
    (
        options.compression,
        options.set_platform.as_ref(),
        as_artifact,
    )
}

fn framing_of(options: &ExportOptions) -> Framing<'_> {
    Framing {
        start: &options.start_set,
        table: &framing::table,
    }
}

/// Refuses an image of which parts are not here.
pub(super) fn whole(store: &Store, reference: &Reference) -> Result<(), TransferError> {
    let absent = store.absent(reference.as_str())?;
    match absent.is_whole() {
        true => Ok(()),
        false => Err(TransferError::Absent {
            image: reference.to_string(),
            bytes: absent.bytes,
            blobs: absent.blobs,
        }),
    }
}

/// Returns the whole tree of an image as one layer.
pub(super) fn tree(store: &Store, reference: &Reference) -> Result<Layer, TransferError> {
    let fs = Fs::new(&store.image(reference.as_str())?);
    Ok(fs.tree("/", &ChunkPool::new())?)
}

fn oci(
    store: &Store,
    reference: &Reference,
    form: (Compression, Option<&Platform>, bool),
    write: impl FnOnce(OciExport<'_>) -> Result<(), OciExportError>,
) -> Result<(), TransferError> {
    oci_image(store, reference, form, |image, _| Ok(write(image)?))
}

/// Hands an image on as it goes out, and the further platforms that it may say it is for:
/// of one that was made here for WebAssembly, unless a platform is given.
pub(super) fn oci_image<T>(
    store: &Store,
    reference: &Reference,
    (compression, platform, as_artifact): (Compression, Option<&Platform>, bool),
    write: impl FnOnce(OciExport<'_>, &[Platform]) -> Result<T, TransferError>,
) -> Result<T, TransferError> {
    let info = store.info(reference.as_str())?;
    let mut config = info.config.clone();
    stamp(&mut config, platform);
    // Documents as they came say what they said then.
    let kept = |digest: Option<Sha256>| digest.filter(|_| platform.is_none());
    let config_bytes = kept(info.raw_config).map(|digest| bytes(store, digest));
    let manifest_bytes = kept(info.manifest).map(|digest| bytes(store, digest));
    let is_artifact = artifact::is_artifact(store, &info)?;
    let (layers, kept) = match as_artifact && !is_artifact {
        true => {
            let (layer, own) = artifact::made(store, reference, &info)?;
            config = own;
            stamp(&mut config, platform);
            (vec![layer], (None, None))
        }
        false => (
            layers(store, reference, &info)?,
            (config_bytes, manifest_bytes),
        ),
    };
    let artifact = as_artifact || is_artifact;
    let made_here = info.raw_config.is_none() && platform.is_none() && !artifact;
    let image = OciExport {
        name: reference.tag(),
        layers,
        artifact,
        config: &config,
        config_bytes: kept.0.transpose()?,
        manifest_bytes: kept.1.transpose()?,
        compression,
    };
    let further = match made_here && is_for_wasm(&config) {
        true => ["amd64", "arm64"]
            .map(|name| Platform::new("linux", name, None))
            .to_vec(),
        false => Vec::new(),
    };
    write(image, &further)
}

/// Returns whether an image is for guests: it says so, or says nothing.
fn is_for_wasm(config: &ImageConfig) -> bool {
    let architecture = config.architecture.as_deref();
    architecture.is_none_or(|name| Platform::new("", name, None).is_wasm())
}

/// Returns each layer as its blob, where the store has that.
fn layers<'a>(
    store: &'a Store,
    reference: &Reference,
    info: &ImageInfo,
) -> Result<Vec<OutLayer<'a>>, TransferError> {
    // Trees are read only if some layer has no blob.
    let made = match info.layers.iter().all(|layer| blob(layer).is_some()) {
        true => Vec::new(),
        false => store.layers(reference.as_str())?,
    };
    let mut out = Vec::with_capacity(info.layers.len());
    for (number, layer) in info.layers.iter().enumerate() {
        out.push(match (blob(layer), made.get(number)) {
            (Some(blob), _) => blob.open(store),
            (None, Some(made)) => OutLayer::Layer(made.clone()),
            (None, None) => continue,
        });
    }
    Ok(out)
}

/// A blob that the store keeps for a layer.
struct Kept {
    digest: Sha256,
    size: u64,
    media_type: String,
    diff_id: Sha256,
}

fn blob(layer: &StoredLayer) -> Option<Kept> {
    let origin = &layer.origin;
    Some(Kept {
        digest: origin.blob?,
        size: origin.blob_bytes,
        media_type: origin.media_type.clone()?,
        diff_id: origin.diff_id?,
    })
}

impl Kept {
    fn open(self, store: &Store) -> OutLayer<'_> {
        let digest = self.digest;
        OutLayer::Blob {
            digest: blob_digest(self.digest),
            size: self.size,
            media_type: self.media_type,
            diff_id: blob_digest(self.diff_id),
            open: Box::new(move || {
                let reader = store.blob(digest).map_err(io::Error::other)?;
                Ok(Box::new(reader) as Box<dyn Read>)
            }),
        }
    }
}

pub(super) fn bytes(store: &Store, digest: Sha256) -> Result<Vec<u8>, TransferError> {
    let mut bytes = Vec::new();
    let read = store.blob(digest)?.read_to_end(&mut bytes);
    read.map_err(|error| TransferError::Out {
        path: digest.to_string().into(),
        error,
    })?;
    Ok(bytes)
}

/// A digest of the store's in the words of OCI's documents.
fn blob_digest(digest: Sha256) -> BlobDigest {
    BlobDigest::sha256(digest.as_bytes())
}

impl Store {
    /// Writes an image to `out`: what [`export`] does, as a method.
    ///
    /// # Errors
    ///
    /// As [`export`].
    pub fn export_to(
        &self,
        reference: &Reference,
        out: &Path,
        options: ExportOptions,
    ) -> Result<(), TransferError> {
        export(self, reference, out, options)
    }
}
