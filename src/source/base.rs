//! Images made of what lies on the host, in one call.

use std::path::Path;

use super::{Source, SourceError, SourceErrorKind, SourceOptions};
use crate::chunk::ChunkPool;
use crate::image::Image;

impl Image {
    /// Reads a directory of the host into memory and returns an image of it, to be the
    /// base of instances.
    ///
    /// ```
    /// use stratafs::{image::Image, vfs::Fs};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # std::fs::write(dir.path().join("motd"), "hello")?;
    /// # let dir = dir.path();
    /// let base = Image::from_dir(dir)?;
    /// let fs = Fs::new(&base);
    /// assert_eq!(fs.read("/motd")?, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Later changes of the directory change nothing. With other options, into a pool of chunks
    /// that several images share, or of several layers: [`source`](crate::source) and
    /// [`Image::new`]. O(bytes), and blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`source::dir_ambient`](super::dir_ambient); names `path`.
    #[cfg(feature = "dir")]
    pub fn from_dir(path: impl AsRef<Path>) -> Result<Self, SourceError> {
        let path = path.as_ref();
        let layer = super::dir_ambient(&ChunkPool::new(), path, &SourceOptions::default())?;
        Self::new(&[layer])
            .map_err(|error| SourceError::from(SourceErrorKind::from(error)).of(path))
    }

    /// Reads what is at each of some paths into memory, the lowest first, and returns an image
    /// of all their layers. Each may be whatever [`Source`] opens: a directory, an archive, an
    /// image layout.
    ///
    /// O(bytes), and blocks the thread.
    ///
    /// # Errors
    ///
    /// Those of [`source::open`](super::open()), which name the path; then
    /// [`SourceErrorKind::Image`] if the layers make no image together.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Self, SourceError> {
        let (pool, options) = (ChunkPool::new(), SourceOptions::default());
        let mut layers = Vec::new();
        for path in paths {
            let source = Source::open(path.as_ref(), &options)?;
            layers.extend(source.layers(&pool, &options)?);
        }
        Ok(Self::new(&layers).map_err(SourceErrorKind::from)?)
    }
}

#[cfg(all(test, feature = "dir"))]
mod tests {
    use super::*;

    #[test]
    fn layers_are_stacked_in_the_order_given_and_errors_name_the_path() {
        let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(low.path().join("both"), "low").unwrap();
        std::fs::write(low.path().join("low"), "low").unwrap();
        std::fs::write(high.path().join("both"), "high").unwrap();
        let (pool, options) = (ChunkPool::new(), SourceOptions::default());
        let layers = [low.path(), high.path()]
            .map(|path| super::super::dir_ambient(&pool, path, &options).unwrap());
        let stacked = Image::new(&layers).unwrap().digest();
        let opened = Image::open([low.path(), high.path()]).unwrap();
        assert_eq!(opened.digest(), stacked);
        let turned = Image::open([high.path(), low.path()]).unwrap();
        assert_ne!(turned.digest(), stacked);
        let missing = low.path().join("missing");
        for error in [
            Image::from_dir(&missing).unwrap_err(),
            Image::open([low.path(), &missing]).unwrap_err(),
        ] {
            assert_eq!(error.origin(), Some(missing.as_path()));
        }
    }
}
