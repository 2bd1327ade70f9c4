//! What people call images.

use std::fmt;
use std::str::FromStr;

/// Bytes in a name, its tag left out. What registries allow.
const MAX_NAME: usize = 255;

/// Bytes in a tag.
const MAX_TAG: usize = 128;

/// The tag that is meant where none is said.
const DEFAULT_TAG: &str = "latest";

/// Hex digits of a digest that are enough to ask for it.
const LEAST_HEX: usize = 8;

/// What stands between the name and the digest of an image of a registry.
const OF_REGISTRY: &str = "@sha256:";

/// What names of images in object stores begin with.
const OBJECT_STORES: [&str; 6] = ["s3://", "gs://", "az://", "file://", "http://", "https://"];

/// The prefix of an image's own digest.
const OWN: &str = "blake3:";

/// The name of an image, as a person types it: `NAME[:TAG]`, or the image's
/// own digest, `blake3:HEX`, of which eight digits are enough if no other image
/// begins with them.
///
/// A name is words of lower-case letters and digits, with `.`, `_`, `__` or
/// hyphens inside a word and `/` between words; the first may be a registry's
/// host with a port. A tag is up to 128 letters, digits, `.`, `_` and `-`, and
/// begins with none of the last two; without one `latest` is meant. An image of a registry
/// may be named by its digest there instead, `HOST/NAME@sha256:HEX`, and one of an object store
/// by its name there, `s3://BUCKET/NAME:TAG`.
///
/// ```
/// use stratafs::image::Reference;
///
/// let name: Reference = "registry.example:5000/team/app".parse()?;
/// assert_eq!((name.as_str(), name.tag()), ("registry.example:5000/team/app:latest", Some("latest")));
/// let error = "Team/App".parse::<Reference>().unwrap_err();
/// assert!(error.to_string().contains("Team/App"));
/// # Ok::<(), stratafs::image::ParseReferenceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reference {
    /// `NAME:TAG`, the tag filled in.
    Tag(String),
    /// `blake3:HEX`, whole or its beginning.
    Digest(String),
}

impl Reference {
    /// Returns the text that a store knows it by.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Tag(text) | Self::Digest(text) => text,
        }
    }

    /// Returns the tag alone: what an OCI layout calls the image.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::Tag(text) if text.contains('@') => None,
            Self::Tag(text) => text.rsplit_once(':').map(|(_, tag)| tag),
            Self::Digest(_) => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {text:?}: {reason}")]
pub struct ParseReferenceError {
    text: String,
    reason: &'static str,
}

impl ParseReferenceError {
    /// Returns the rule that is broken.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.reason
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseReferenceError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if let Some(hex) = text.strip_prefix(OWN) {
        let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        return match hex.len() {
            LEAST_HEX..=64 if hex.bytes().all(is_hex) => Ok(Reference::Digest(text.to_owned())),
            _ => Err("`blake3:` is followed by 8 to 64 lower-case hex digits"),
        };
    }
    if OBJECT_STORES.iter().any(|scheme| text.starts_with(scheme)) {
        return of_object_store(text);
    }
    if let Some((name, hex)) = text.split_once(OF_REGISTRY) {
        return of_registry(name, hex);
    }
    // A colon before a slash is a port's.
    let (name, tag) = match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (text, DEFAULT_TAG),
    };
    check_name(name)?;
    check_tag(tag)?;
    Ok(Reference::Tag(format!("{name}:{tag}")))
}

/// An image of a registry by its digest there: the name has to be a registry's, and a tag
/// beside the digest says nothing.
fn of_registry(name: &str, hex: &str) -> Result<Reference, &'static str> {
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hex.len() != 64 || !hex.bytes().all(is_hex) {
        return Err("`@sha256:` is followed by 64 lower-case hex digits");
    }
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => {
            check_tag(tag)?;
            name
        }
        _ => name,
    };
    check_name(name)?;
    match name.split_once('/') {
        Some((host, _)) if host.contains([':', '.']) || host == "localhost" => {
            Ok(Reference::Tag(format!("{name}{OF_REGISTRY}{hex}")))
        }
        _ => Err("only an image of a registry is named by `@sha256:` and 64 hex digits"),
    }
}

/// An image of an object store is named by all of its name there, with its digest or its tag.
fn of_object_store(text: &str) -> Result<Reference, &'static str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._/:@-".contains(&byte);
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let (path, tag) = match rest.split_once('@') {
        Some((path, digest)) => {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if hex.len() != 64 || !hex.bytes().all(is_hex) {
                return Err("`@sha256:` is followed by 64 lower-case hex digits");
            }
            (path, None)
        }
        None => match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, Some(DEFAULT_TAG)),
        },
    };
    let is_dots = |word: &str| matches!(word, "." | "..");
    let mut words = path.trim_start_matches('/').split('/');
    if text.len() > MAX_NAME
        || !text.bytes().all(known)
        || !path.contains('/')
        || words.any(|word| word.is_empty() || is_dots(word))
    {
        return Err(
            "an image of an object store is named as in s3://BUCKET/NAME:TAG, with up to 255 letters, digits, `.`, `_`, `-` and `/`",
        );
    }
    let Some(tag) = tag else {
        return Ok(Reference::Tag(text.to_owned()));
    };
    check_tag(tag)?;
    let end = text.len() - rest.len() + path.len();
    let name = text.get(..end).unwrap_or(text);
    Ok(Reference::Tag(format!("{name}:{tag}")))
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("a name has 1 to 255 bytes");
    }
    if matches!(name, "blake3" | "sha256" | "sha512") {
        return Err("this name begins a digest");
    }
    let mut words = name.split('/').peekable();
    let first = words.next().unwrap_or_default();
    let is_host = words.peek().is_some() && first.contains([':', '.']);
    if let Some(address) = first.strip_prefix('[').filter(|_| is_host) {
        // An IPv6 address, with a port maybe.
        let (address, port) = address.split_once(']').unwrap_or((address, ":"));
        let port = port.strip_prefix(':').or((!port.is_empty()).then_some(""));
        return match address.parse::<std::net::Ipv6Addr>().is_ok()
            && port.is_none_or(is_port)
            && words.all(is_word)
        {
            true => Ok(()),
            false => Err("the host in brackets is not an IPv6 address"),
        };
    }
    let first = match first.split_once(':') {
        Some((host, port)) if is_host && is_port(port) => host,
        _ => first,
    };
    match std::iter::once(first).chain(words).all(is_word) {
        true => Ok(()),
        false => Err(
            "a name is lower-case letters and digits, with `.`, `_` or `-` between them and `/` between words",
        ),
    }
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.parse::<u16>().is_ok()
}

/// Letters and digits, with one separator at a time between them.
fn is_word(word: &str) -> bool {
    let separator = |byte: &u8| matches!(byte, b'.' | b'_' | b'-');
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || separator(&byte);
    let ends = [word.bytes().next(), word.bytes().next_back()];
    word.bytes().all(known)
        && ends
            .iter()
            .all(|end| end.as_ref().is_some_and(|byte| !separator(byte)))
        && !word.contains("..")
        && !word.contains("___")
        && !["._", "_.", "-.", ".-", "_-", "-_"]
            .iter()
            .any(|two| word.contains(two))
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let first = tag.bytes().next();
    match tag.len() <= MAX_TAG
        && tag.bytes().all(known)
        && first.is_some_and(|byte| !matches!(byte, b'.' | b'-'))
    {
        true => Ok(()),
        false => Err(
            "a tag is 1 to 128 letters, digits, `_`, `.` or `-`, and begins with none of the last two",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        for (text, want) in [
            ("app", "app:latest"),
            ("app:1", "app:1"),
            ("a/b-c/d.e__f", "a/b-c/d.e__f:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            (
                "registry.example.com:5000/app:V1.0_x-y",
                "registry.example.com:5000/app:V1.0_x-y",
            ),
            ("blake3:00ff00ff", "blake3:00ff00ff"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), want);
            // What is shown is read as the same.
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
        let tag = |text: &str| text.parse::<Reference>().unwrap().tag().map(str::to_owned);
        assert_eq!(tag("h:1/app").as_deref(), Some("latest"));
        assert_eq!(tag("app:1").as_deref(), Some("1"));
        assert_eq!(tag("blake3:00ff00ff"), None);
    }

    #[test]
    fn invalid_references_say_why() {
        let long = "a".repeat(MAX_NAME + 1);
        let tag = format!("a:{}", "t".repeat(MAX_TAG + 1));
        for text in [
            "",
            ":1",
            "App",
            "a//b",
            "/a",
            "a/",
            "a b",
            "../x",
            "a..b",
            "-a",
            "a-",
            "a:",
            "a:.x",
            "a:-x",
            "a:x y",
            "a@b",
            "blake3:",
            "blake3:12",
            "blake3:00FF00",
            "sha256:1234",
            "a___b",
            &long,
            &tag,
            "h:99999/a",
            "a\n",
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("invalid image reference {text:?}: ")),
                "{error}"
            );
        }
        assert!("a".repeat(MAX_NAME).parse::<Reference>().is_ok());
        assert!(
            format!("a:{}", "t".repeat(MAX_TAG))
                .parse::<Reference>()
                .is_ok()
        );
    }
}
