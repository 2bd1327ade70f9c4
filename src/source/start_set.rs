//! What a program reads to start.

use std::collections::HashMap;

use crate::name::LayerPath;

/// The files that are read when a program starts, in order: layers that are written with it
/// have these in front, so that they come first where a layer is fetched in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartSet {
    places: HashMap<LayerPath, (usize, bool)>,
}

impl StartSet {
    /// Makes one without files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, unless it is there; `whole` says that most of it is read, and not only
    /// a part.
    pub fn add(&mut self, path: LayerPath, whole: bool) {
        let next = self.places.len();
        let place = self.places.entry(path).or_insert((next, whole));
        place.1 |= whole;
    }

    /// Counts the files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the place of a file, and whether most of it is read.
    #[cfg(all(feature = "oci", feature = "store"))]
    pub(crate) fn place(&self, path: &LayerPath) -> Option<(usize, bool)> {
        self.places.get(path).copied()
    }
}
