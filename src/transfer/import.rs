//! Into a store.

use std::path::{Path, PathBuf};

use super::TransferError;
use super::platform::stamp;
use crate::digest::{Digest, Sha256};
use crate::image::{HistoryEntry, ImageConfig, Reference};
use crate::source::{BlobDigest, LayerBlob, OciImage, Opened, Platform, Source, SourceOptions};
use crate::store::{ImageInfo, Import, LayerOrigin, Store, Watcher};

/// How images are brought in.
#[derive(Clone, Default)]
pub struct ImportOptions {
    /// Bounds, and which image to take of several.
    pub source: SourceOptions,
    /// What the image says that it is for, whatever its source says. Its documents
    /// are not kept then.
    pub set_platform: Option<Platform>,
    /// Is told how far it has come.
    pub watcher: Option<Watcher>,
}

impl std::fmt::Debug for ImportOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportOptions")
            .field("source", &self.source)
            .field("set_platform", &self.set_platform)
            .finish_non_exhaustive()
    }
}

/// Makes an image of `sources`, the lowest first, and tags it `tag`. Each is
/// a directory, a tar archive or an OCI image, told apart as
/// [`source::open`](crate::source::open) does.
///
/// The configuration is that of the first source that has one; further
/// sources are steps of its history. The blobs of an OCI image are kept. If it is the only
/// source, its documents are kept as well, so that it can be exported and pushed as it
/// came. O(bytes), each read once, in bounded memory. All or nothing: until the last step
/// succeeds the store shows none of it.
///
/// ```
/// use stratafs::store::Store;
/// use stratafs::transfer::{ImportOptions, import};
/// use stratafs::vfs::Fs;
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// let store = Store::open(dir.path())?;
/// import(&store, &[app], &"app:1".parse()?, &ImportOptions::default())?;
/// let fs = Fs::new(&store.image("app:1")?);
/// assert_eq!(fs.read("/main.py")?, b"print(1)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Source`], [`TransferError::Store`],
/// [`TransferError::Image`].
pub fn import(
    store: &Store,
    sources: &[PathBuf],
    tag: &Reference,
    options: &ImportOptions,
) -> Result<ImageInfo, TransferError> {
    let opened = sources
        .iter()
        .map(|path| Source::open(path, &options.source));
    import_opened(store, opened.collect::<Result<_, _>>()?, tag, options)
}

/// Makes an image of sources that are open already, such as a stream, as [`import`] does.
///
/// # Errors
///
/// As [`import`].
pub fn import_opened(
    store: &Store,
    sources: Vec<Source>,
    tag: &Reference,
    options: &ImportOptions,
) -> Result<ImageInfo, TransferError> {
    let as_it_came = sources.len() == 1 && options.set_platform.is_none();
    let mut import = store.import()?;
    if let Some(watcher) = &options.watcher {
        import.watch(watcher.clone());
    }
    let mut config: Option<ImageConfig> = None;
    let mut steps = Vec::new();
    for source in sources {
        let path = source.name().to_owned();
        match source.read(import.pool(), &options.source)? {
            Opened::Image(image) => {
                take_image(&mut import, &image, &options.source)
                    .map_err(|error| named(error, &path))?;
                if as_it_came {
                    keep_documents(&mut import, &image)?;
                }
                match config {
                    None => config = Some(image.config().clone()),
                    Some(_) => steps.extend(image.layers().iter().map(|_| step("import", &path))),
                }
            }
            Opened::Layer(layer) => {
                import.layer(layer, LayerOrigin::new());
                steps.push(step("import", &path));
            }
        }
    }
    let mut config = config.unwrap_or_default();
    config.history.extend(steps);
    stamp(&mut config, options.set_platform.as_ref());
    import.commit(config, Some(tag.as_str()))?;
    Ok(store.info(tag.as_str())?)
}

/// Takes the layers of an OCI image, and their blobs.
pub(super) fn take_image(
    import: &mut Import,
    image: &OciImage,
    options: &SourceOptions,
) -> Result<(), TransferError> {
    let mut blobs = image.layers().iter();
    blobs.try_for_each(|blob| take_layer(import, image, blob, options).map(drop))
}

/// Takes one layer, and its blob. Returns the digest of its tree.
pub(super) fn take_layer(
    import: &mut Import,
    image: &OciImage,
    blob: &LayerBlob,
    options: &SourceOptions,
) -> Result<Digest, TransferError> {
    let kept = blob.digest().and_then(sha256).zip(sha256(blob.diff_id()));
    let mut origin = LayerOrigin::new();
    let layer = match kept {
        Some((_, diff_id)) => {
            let mut keep = import.blob();
            let layer = image.read_layer(import.pool(), blob, options, Some(&mut keep))?;
            let kept = keep.finish();
            origin = LayerOrigin::of_blob(import.keep(kept), blob.media_type(), diff_id);
            layer
        }
        // Compressed by `docker save`, or named by a digest that the store
        // does not know: only the tree is kept.
        None => image.read_layer(import.pool(), blob, options, None)?,
    };
    let digest = layer.digest();
    import.layer(layer, origin);
    Ok(digest)
}

/// Keeps manifest and configuration byte by byte.
pub(super) fn keep_documents(import: &mut Import, image: &OciImage) -> Result<(), TransferError> {
    import.raw_config(image.config_bytes())?;
    if let Some(manifest) = image.manifest_bytes() {
        import.manifest(manifest)?;
    }
    Ok(())
}

pub(super) fn sha256(digest: &BlobDigest) -> Option<Sha256> {
    digest.as_str().parse().ok()
}

/// What the history says of a layer that was brought in.
pub(super) fn step(verb: &str, path: &Path) -> HistoryEntry {
    let name = path.file_name().unwrap_or(path.as_os_str());
    HistoryEntry::by(format!("{verb} {}", name.display()))
}

/// Names the source in an error that does not.
fn named(error: TransferError, path: &Path) -> TransferError {
    match error {
        TransferError::Source(error) => TransferError::Source(error.of(path)),
        other => other,
    }
}

impl Store {
    /// Makes an image of what is at `source` and calls it `tag`: what
    /// [`import`] does with one source, as a method.
    ///
    /// ```
    /// use stratafs::image::Reference;
    /// use stratafs::store::Store;
    /// use stratafs::transfer::ImportOptions;
    /// use stratafs::vfs::Fs;
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let tree = dir.path().join("tree");
    /// # std::fs::create_dir(&tree)?;
    /// # std::fs::write(tree.join("motd"), "hello")?;
    /// let store = Store::open(&dir.path().join("store"))?;
    /// let base: Reference = "base".parse()?;
    /// store.import_from(&tree, &base, &ImportOptions::default())?;
    ///
    /// let fs = Fs::new(&store.image("base")?);
    /// fs.write("/motd", "changed")?;
    /// let changed: Reference = "changed:1".parse()?;
    /// fs.commit(&store, &changed, "set the motd")?;
    /// let again = Fs::new(&store.image("changed:1")?);
    /// assert_eq!(again.read("/motd")?, b"changed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`import`].
    pub fn import_from(
        &self,
        source: &Path,
        tag: &Reference,
        options: &ImportOptions,
    ) -> Result<ImageInfo, TransferError> {
        import(self, &[source.to_owned()], tag, options)
    }
}
