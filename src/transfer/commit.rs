//! What an instance has become, as an image.

use std::fmt;

use super::TransferError;
use super::platform::stamp;
use crate::image::{HistoryEntry, ImageConfig, Reference};
use crate::source::Platform;
use crate::store::{ImageInfo, Import, LayerOrigin, Store, StoreError};
use crate::vfs::Fs;

/// Makes an image of the base of `fs` and, as one more layer, of what was
/// changed, and tags it `tag`: all of it or nothing. O(what was changed) if the base is
/// in the store; reads the bytes of changed files, without the lock of `fs`.
///
/// `base` is the image of the store that lies at the bottom of the base, if
/// there is one: its layers, blobs and configuration are taken over. `by` is
/// what the history says of the new layer. Layers of the base that are not in
/// the store are copied into it.
///
/// ```
/// use stratafs::store::Store;
/// use stratafs::transfer::{ImportOptions, commit, import};
/// use stratafs::vfs::Fs;
///
/// # let (dir, app) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # std::fs::write(app.path().join("main.py"), "print(1)")?;
/// # let app = app.path().to_owned();
/// let store = Store::open(dir.path())?;
/// let base = "app:1".parse()?;
/// import(&store, &[app], &base, &ImportOptions::default())?;
/// let fs = Fs::new(&store.image("app:1")?);
/// fs.write("/result", "42")?;
/// commit(&store, &fs, Some(&base), &"app:2".parse()?, "by hand")?;
/// assert_eq!(store.info("app:2")?.layers.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`TransferError::Store`], [`TransferError::Layer`].
pub fn commit(
    store: &Store,
    fs: &Fs,
    base: Option<&Reference>,
    tag: &Reference,
    by: &str,
) -> Result<ImageInfo, TransferError> {
    commit_for(store, fs, base, (tag, by), None)
}

/// Makes an image as [`commit`] does, for a platform that the new image says it is for.
///
/// # Errors
///
/// As [`commit`].
pub fn commit_for(
    store: &Store,
    fs: &Fs,
    base: Option<&Reference>,
    (tag, by): (&Reference, &str),
    platform: Option<&Platform>,
) -> Result<ImageInfo, TransferError> {
    commit_over(store, fs, base.map(Reference::as_str), (tag, by), platform)
}

fn commit_over(
    store: &Store,
    fs: &Fs,
    base: Option<&str>,
    (tag, by): (&Reference, &str),
    platform: Option<&Platform>,
) -> Result<ImageInfo, TransferError> {
    stage_over(store, fs, base, by, platform)?.commit(tag)
}

/// What an instance has become, written to a store whose images do not have it yet.
///
/// Made by [`stage`]. While it is there, [`Store::gc`] is refused in the thread that made it, and
/// waits in every other one, also in one that holds this: commit or drop it first. If it is dropped,
/// there is no image, and what was written goes.
pub struct StagedCommit {
    store: Store,
    import: Import,
    config: ImageConfig,
}

impl fmt::Debug for StagedCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedCommit")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl StagedCommit {
    /// Makes it an image and tags it `tag`, in O(layers).
    ///
    /// # Errors
    ///
    /// [`TransferError::Store`].
    pub fn commit(self, tag: &Reference) -> Result<ImageInfo, TransferError> {
        self.import.commit(self.config, Some(tag.as_str()))?;
        tracing::info!(tag = tag.as_str(), "committed an instance as an image");
        Ok(self.store.info(tag.as_str())?)
    }
}

/// Writes to the store what [`commit_for`] does, and makes no image of it yet: the bytes are written
/// while it is not known whether there will be one.
///
/// ```
/// use stratafs::image::Image;
/// use stratafs::store::Store;
/// use stratafs::transfer::stage;
/// use stratafs::vfs::Fs;
///
/// # let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let fs = Fs::new(&Image::new(&[])?);
/// fs.write("/result", "42")?;
/// let staged = stage(&store, &fs, None, "by hand", None)?;
/// assert!(store.info("app:1").is_err());
/// staged.commit(&"app:1".parse()?)?;
/// assert_eq!(store.info("app:1")?.layers.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`commit`].
pub fn stage(
    store: &Store,
    fs: &Fs,
    base: Option<&Reference>,
    by: &str,
    platform: Option<&Platform>,
) -> Result<StagedCommit, TransferError> {
    stage_over(store, fs, base.map(Reference::as_str), by, platform)
}

fn stage_over(
    store: &Store,
    fs: &Fs,
    base: Option<&str>,
    by: &str,
    platform: Option<&Platform>,
) -> Result<StagedCommit, TransferError> {
    let mut import = store.import()?;
    let (mut config, known) = match base {
        Some(base) => take_base(store, &mut import, base)?,
        None => (ImageConfig::new(), 0),
    };
    for layer in fs.image().layers().iter().skip(known) {
        import.layer(layer.clone(), LayerOrigin::new());
        config.history.push(HistoryEntry::by("layer of a run"));
    }
    let changes = fs.diff(import.pool())?;
    import.layer(changes, LayerOrigin::new());
    config.history.push(HistoryEntry::by(by));
    stamp(&mut config, platform);
    Ok(StagedCommit {
        store: store.clone(),
        import,
        config,
    })
}

/// Takes over the layers of an image of the store; returns its configuration
/// and their number.
pub(super) fn take_base(
    store: &Store,
    import: &mut Import,
    base: &str,
) -> Result<(ImageConfig, usize), TransferError> {
    let info = store.info(base)?;
    let layers = store.layers(base)?;
    let count = layers.len();
    for (layer, known) in layers.into_iter().zip(info.layers) {
        import.layer(layer, known.origin);
    }
    Ok((info.config, count))
}

impl Fs {
    /// Makes an image of this instance and calls it `tag`; `by` says in its history what
    /// made it. The instance goes on meanwhile.
    ///
    /// If the image below came out of this store, its layers are taken from there and its
    /// configuration and history are kept; else its layers are brought in. To say another
    /// base: [`commit`]. O(changes) beside the layers of a base that is not in the store;
    /// blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`commit`].
    pub fn commit(
        &self,
        store: &Store,
        tag: &Reference,
        by: &str,
    ) -> Result<ImageInfo, TransferError> {
        let mut base = self.image().id().map(|id| id.to_string());
        if let Some(id) = &base {
            match store.resolve(id) {
                Ok(_) => {}
                Err(StoreError::NoImage(_)) => base = None,
                Err(error) => return Err(error.into()),
            }
        }
        commit_over(store, self, base.as_deref(), (tag, by), None)
    }
}
