//! Names and paths, validated once and trusted from then on.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use crate::limits::{MAX_LAYER_DEPTH, MAX_LAYER_PATH_BYTES, MAX_NAME_BYTES};
use crate::steps;

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, neither `.` nor
/// `..`. Bytes, not text: Linux names need not be UTF-8.
///
/// Cloning is a reference count.
#[derive(Clone, Eq)]
pub struct Name(Arc<[u8]>);

// Written out so that tests can count how often names are compared.

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        steps::add(1);
        self.0 == other.0
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        steps::add(1);
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Name {
    /// Validates `bytes` as a name.
    ///
    /// # Errors
    ///
    /// In this order: [`NameError::Empty`], [`NameError::TooLong`],
    /// [`NameError::Dots`], [`NameError::Slash`], [`NameError::Nul`].
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        check_name(bytes)?;
        Ok(Self(Arc::from(bytes)))
    }

    /// Wraps a name that has passed [`check_name`] already. Bytes of a mapped
    /// file may become zeros at any moment, if somebody cuts it short: whoever
    /// wraps those asks afterwards whether the file is whole.
    pub(crate) fn from_checked(bytes: &[u8]) -> Self {
        let name = Self(Arc::from(bytes));
        debug_assert!(matches!(check_name(&name.0), Ok(()) | Err(NameError::Nul)));
        name
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", show(&self.0))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.0))
    }
}

/// Shows bytes that are mostly text, so that no message can drive a terminal:
/// what is not UTF-8 comes out as `\xNN`, control characters as `\n`, `\t`,
/// `\r` or `\u{NN}`, and so do the characters that reorder or hide the text
/// around them (bidirectional overrides, line separators, tags). Nothing else
/// changes, so showing a second time changes nothing. O(bytes).
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if drives_terminal(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Shows a path of the host as [`show`] does.
#[must_use]
pub fn show_path(path: &Path) -> String {
    show(path.as_os_str().as_encoded_bytes())
}

/// Returns whether a terminal acts on a character instead of showing it: those
/// that [`show`] escapes.
#[must_use]
pub fn drives_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' // marks of direction
            | '\u{2028}'..='\u{202e}' // separators, embeddings and overrides
            | '\u{2066}'..='\u{2069}' // isolates
            | '\u{206a}'..='\u{206f}' // deprecated shaping
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' // marks without width
            | '\u{e0000}'..='\u{e007f}') // tags
}

/// Which rule a name or path breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name is empty.
    #[error("the name is empty")]
    Empty,
    /// The name has more than 255 bytes.
    #[error("a name is longer than {MAX_NAME_BYTES} bytes")]
    TooLong,
    /// The name is `.` or `..`.
    #[error("`.` and `..` are not valid names")]
    Dots,
    /// The name has a `/`.
    #[error("a name has a `/`")]
    Slash,
    /// The name has a NUL byte.
    #[error("a name has a NUL byte")]
    Nul,
    /// The path leaves the root of its layer by `..`.
    #[error("the path leaves the layer's root by `..`")]
    Escapes,
    /// The path has more than [`MAX_LAYER_PATH_BYTES`] bytes.
    #[error("the path is longer than {MAX_LAYER_PATH_BYTES} bytes")]
    PathTooLong,
    /// The path has more than [`MAX_LAYER_DEPTH`] components.
    #[error("the path is deeper than {MAX_LAYER_DEPTH} components")]
    TooDeep,
}

/// Checks the rules of [`Name`] without making one.
///
/// # Errors
///
/// As [`Name::new`].
pub fn check_name(bytes: &[u8]) -> Result<(), NameError> {
    match bytes {
        [] => Err(NameError::Empty),
        _ if bytes.len() > MAX_NAME_BYTES => Err(NameError::TooLong),
        b"." | b".." => Err(NameError::Dots),
        _ if bytes.contains(&b'/') => Err(NameError::Slash),
        _ if bytes.contains(&0) => Err(NameError::Nul),
        _ => Ok(()),
    }
}

/// The place of an entry in a layer: names from the root down, none for the
/// root itself. `.` and doubled slashes are gone and `..` is resolved.
///
/// ```
/// use stratafs::name::{LayerPath, NameError};
///
/// let path = LayerPath::parse(b"/usr//lib/./python/../ruby")?;
/// assert_eq!(path.to_bytes(), b"usr/lib/ruby");
/// assert_eq!(LayerPath::parse(b"usr/../../etc"), Err(NameError::Escapes));
/// # Ok::<(), NameError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerPath(Vec<Name>);

impl LayerPath {
    /// Returns the root of a layer.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Normalises a path as archives write it: leading slashes go (the root is
    /// the layer's), `.` goes, `..` takes the name before it.
    ///
    /// # Errors
    ///
    /// In this order: [`NameError::Nul`]; for each component
    /// [`NameError::Escapes`] or the errors of [`Name::new`];
    /// [`NameError::TooDeep`], [`NameError::PathTooLong`]. Empty text is the
    /// root; whether that is allowed is the caller's to say.
    pub fn parse(raw: &[u8]) -> Result<Self, NameError> {
        if raw.contains(&0) {
            return Err(NameError::Nul);
        }
        let mut names: Vec<Name> = Vec::new();
        let mut bytes = 0;
        for part in raw.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    let gone = names.pop().ok_or(NameError::Escapes)?;
                    bytes -= gone.as_bytes().len() + 1;
                }
                _ => {
                    bytes += part.len() + 1;
                    names.push(Name::new(part)?);
                }
            }
            if names.len() > MAX_LAYER_DEPTH {
                return Err(NameError::TooDeep);
            }
            if bytes > MAX_LAYER_PATH_BYTES {
                return Err(NameError::PathTooLong);
            }
        }
        Ok(Self(names))
    }

    /// Returns the names from the root down.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Returns whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Spells the path out with `/` between names; empty for the root. O(bytes).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self.0.iter().map(Name::as_bytes).collect();
        names.join(&b'/')
    }

    /// Splits off the last name: `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(&[Name], &Name)> {
        self.0.split_last().map(|(name, parents)| (parents, name))
    }

    /// Adds a name below.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }
}

impl From<Vec<Name>> for LayerPath {
    fn from(names: Vec<Name>) -> Self {
        Self(names)
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str("/");
        }
        for (at, name) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            write!(f, "{name}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked_rule_by_rule() {
        assert_eq!(check_name(b""), Err(NameError::Empty));
        assert_eq!(check_name(&[b'a'; 256]), Err(NameError::TooLong));
        assert_eq!(check_name(&[b'a'; 255]), Ok(()));
        assert_eq!(check_name(b".."), Err(NameError::Dots));
        assert_eq!(check_name(b"a/b"), Err(NameError::Slash));
        assert_eq!(check_name(b"a\0b"), Err(NameError::Nul));
        assert_eq!(check_name(b"..."), Ok(()));
        assert_eq!(check_name(b"\xff"), Ok(()));
    }

    #[test]
    fn a_layer_path_is_normalised() {
        let parse = |raw: &str| LayerPath::parse(raw.as_bytes()).map(|path| path.to_string());
        assert_eq!(parse("/etc//./passwd"), Ok("etc/passwd".into()));
        assert_eq!(parse("a/../b"), Ok("b".into()));
        assert_eq!(parse("./"), Ok("/".into()));
        assert_eq!(parse("../../etc/passwd"), Err(NameError::Escapes));
        assert_eq!(parse("a/../../b"), Err(NameError::Escapes));
        assert_eq!(parse("a\0b"), Err(NameError::Nul));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert!(LayerPath::parse("a/".repeat(MAX_LAYER_DEPTH).as_bytes()).is_ok());
        let deep = "a/".repeat(MAX_LAYER_DEPTH + 1);
        assert_eq!(LayerPath::parse(deep.as_bytes()), Err(NameError::TooDeep));
        let long = format!("{}/", "n".repeat(200)).repeat(100);
        assert_eq!(
            LayerPath::parse(long.as_bytes()),
            Err(NameError::PathTooLong)
        );
    }

    #[test]
    fn odd_bytes_are_shown_escaped() {
        assert_eq!(show(b"a\xff\nb"), "a\\xff\\nb");
        for odd in [
            "\u{1b}", "\u{7f}", "\u{9b}", "\u{202e}", "\u{2069}", "\u{2028}",
        ] {
            let shown = show(odd.as_bytes());
            assert!(shown.starts_with("\\u{") && shown.is_ascii(), "{shown}");
            assert_eq!(show(shown.as_bytes()), shown);
        }
        assert_eq!(
            show("d\u{e9}j\u{e0} \\ \u{5d0}".as_bytes()),
            "d\u{e9}j\u{e0} \\ \u{5d0}"
        );
    }
}
