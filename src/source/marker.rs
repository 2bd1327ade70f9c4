//! Whiteouts by name, as AUFS and OCI write them.
//!
//! `.wh.NAME` hides NAME in lower layers, `.wh..wh..opq` makes its directory
//! opaque. Both are empty regular files. Other names that begin with
//! `.wh..wh.` were AUFS's own book-keeping: they are left out, with all below
//! them, and a guest never sees them.

use super::SourceErrorKind;
#[cfg(feature = "tar")]
use crate::name::LayerPath;
use crate::name::Name;

const PREFIX: &[u8] = b".wh.";
const RESERVED: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// Itself.
    Plain,
    /// A whiteout of this name.
    Whiteout(Name),
    /// The directory it lies in is opaque.
    Opaque,
    /// AUFS's own, to be left out.
    Reserved,
}

impl Marker {
    /// Reads a name.
    pub(super) fn of(name: &[u8]) -> Result<Self, SourceErrorKind> {
        if name == OPAQUE {
            return Ok(Self::Opaque);
        }
        if name.starts_with(RESERVED) {
            return Ok(Self::Reserved);
        }
        let Some(hidden) = name.strip_prefix(PREFIX) else {
            return Ok(Self::Plain);
        };
        Name::new(hidden)
            .map(Self::Whiteout)
            .map_err(|_| SourceErrorKind::Whiteout("nothing that could be hidden follows `.wh.`"))
    }
}

#[cfg(feature = "tar")]
impl Marker {
    /// Returns what the last name of a path stands for, its parents considered.
    pub(super) fn of_path(path: &LayerPath) -> Result<Self, SourceErrorKind> {
        let Some((parents, name)) = path.split_last() else {
            return Ok(Self::Plain);
        };
        let above = parents.iter().find(|name| is_marker(name.as_bytes()));
        match above.map(|name| Self::of(name.as_bytes())).transpose()? {
            None => Self::of(name.as_bytes()),
            Some(Self::Reserved) => Ok(Self::Reserved),
            Some(_) => Err(SourceErrorKind::Whiteout("an entry lies below it")),
        }
    }
}

/// Returns the directory that a path lies in; the root's is the root.
#[cfg(feature = "tar")]
pub(super) fn parent(path: &LayerPath) -> LayerPath {
    let parents: &[Name] = path.split_last().map_or(&[], |(parents, _)| parents);
    parents.to_vec().into()
}

/// Returns whether a name would be taken for a whiteout.
#[cfg(feature = "tar")]
pub(super) fn is_marker(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// What the name of OCI's whiteout for `name` is.
#[cfg(feature = "tar")]
pub(super) fn whiteout_name(name: &[u8]) -> Vec<u8> {
    [PREFIX, name].concat()
}

/// The name of OCI's mark in an opaque directory.
#[cfg(feature = "tar")]
pub(super) const fn opaque_name() -> &'static [u8] {
    OPAQUE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_c1_20_21_22_names_are_told_apart() {
        let whiteout = |name: &[u8]| Marker::Whiteout(Name::new(name).unwrap());
        assert_eq!(Marker::of(b".wh.foo").unwrap(), whiteout(b"foo"));
        assert_eq!(Marker::of(b".wh..foo").unwrap(), whiteout(b".foo"));
        assert_eq!(Marker::of(b".wh..wh").unwrap(), whiteout(b".wh"));
        assert_eq!(Marker::of(b".wh....").unwrap(), whiteout(b"..."));
        assert_eq!(Marker::of(b".wh..wh..opq").unwrap(), Marker::Opaque);
        assert_eq!(Marker::of(b".wh..wh.unknown").unwrap(), Marker::Reserved);
        assert_eq!(Marker::of(b".wh").unwrap(), Marker::Plain);
        assert_eq!(Marker::of(b"x.wh.y").unwrap(), Marker::Plain);
        for invalid in [&b".wh."[..], b".wh..", b".wh..."] {
            assert!(Marker::of(invalid).is_err());
        }
    }
}
