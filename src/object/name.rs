//! What people call images in object stores.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::image::Reference;
use crate::source::BlobDigest;

/// What speaks to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scheme {
    S3,
    Google,
    Azure,
    File,
    Http,
    Https,
}

const SCHEMES: [(&str, Scheme); 6] = [
    ("s3", Scheme::S3),
    ("gs", Scheme::Google),
    ("az", Scheme::Azure),
    ("file", Scheme::File),
    ("http", Scheme::Http),
    ("https", Scheme::Https),
];

/// A place with images: `s3://BUCKET[/PREFIX]`, `gs://BUCKET[/PREFIX]`,
/// `az://CONTAINER[/PREFIX]`, `file:///FOLDER`; to read alone `https://HOST[/PATH]`. All images
/// in a place share their blobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectHome {
    pub(super) scheme: Scheme,
    /// The bucket, the container or the host; empty for a folder.
    pub(super) host: String,
    /// What stands before all names in it: words with slashes between them.
    pub(super) prefix: String,
}

impl ObjectHome {
    /// Returns the folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<PathBuf> {
        let path = format!("/{}", self.prefix);
        (self.scheme == Scheme::File).then(|| PathBuf::from(path))
    }
}

impl fmt::Display for ObjectHome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme);
        let text = known.map_or("", |(text, _)| *text);
        write!(f, "{text}://{}", self.host)?;
        match self.prefix.is_empty() {
            true => Ok(()),
            false => write!(f, "/{}", self.prefix),
        }
    }
}

/// The name of an image in an object store: `HOME/NAME[:TAG][@DIGEST]`, where HOME is an
/// [`ObjectHome`] and NAME one word. Without a tag and a digest the tag is `latest`.
///
/// ```
/// use stratafs::object::ObjectRef;
///
/// let name: ObjectRef = "s3://images/team/python:3".parse()?;
/// assert_eq!((name.home().to_string(), name.name()), ("s3://images/team".into(), "python"));
/// # Ok::<(), stratafs::object::ParseObjectRefError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    home: ObjectHome,
    name: String,
    tag: String,
    digest: Option<BlobDigest>,
}

impl ObjectRef {
    /// Returns whether `text` names an object store: it begins with `s3://`, `gs://`,
    /// `az://`, `file://`, `http://` or `https://`.
    #[must_use]
    pub fn names_object_store(text: &str) -> bool {
        text.split_once("://")
            .is_some_and(|(scheme, _)| SCHEMES.iter().any(|(known, _)| *known == scheme))
    }

    /// Returns the place that the image is in.
    #[must_use]
    pub fn home(&self) -> &ObjectHome {
        &self.home
    }

    /// Returns the image's name in it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tag, filled in.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Returns the digest, if one was said. What comes has to be it, whatever the tag says.
    #[must_use]
    pub fn digest(&self) -> Option<&BlobDigest> {
        self.digest.as_ref()
    }

    /// Returns the same name with this tag.
    #[must_use]
    pub(crate) fn tagged(&self, tag: &str) -> Self {
        Self {
            tag: tag.to_owned(),
            digest: None,
            ..self.clone()
        }
    }

    /// Returns the same image's place with this digest in the place of the tag.
    #[must_use]
    pub fn at(&self, digest: &BlobDigest) -> Self {
        Self {
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// Returns the name under which a store keeps the image: all of it, the tag left out
    /// where there is a digest.
    #[must_use]
    pub fn store_name(&self) -> Reference {
        Reference::Tag(self.to_string())
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.home, self.name)?;
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => write!(f, ":{}", self.tag),
        }
    }
}

/// The text names no image, or no place, in an object store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} names nothing in an object store: {reason}")]
pub struct ParseObjectRefError {
    text: String,
    reason: String,
}

impl FromStr for ObjectHome {
    type Err = ParseObjectRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim_end_matches('/');
        // Of an address without a bucket the slashes are a part.
        let named = match trimmed.contains("://") {
            true => trimmed,
            false => text,
        };
        home(named).map_err(|reason| ParseObjectRefError {
            text: text.to_owned(),
            reason,
        })
    }
}

impl FromStr for ObjectRef {
    type Err = ParseObjectRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        image(text).map_err(|reason| ParseObjectRefError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn home(text: &str) -> Result<ObjectHome, String> {
    let scheme = text.split_once("://").and_then(|(scheme, rest)| {
        let known = SCHEMES.iter().find(|(known, _)| *known == scheme)?;
        Some((known.1, rest))
    });
    let Some((scheme, rest)) = scheme else {
        let what =
            "expected a name that begins with s3://, gs://, az://, file:///, http:// or https://";
        return Err(what.into());
    };
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match (scheme, host.is_empty()) {
        (Scheme::File, false) => {
            return Err(
                "after file:// comes the whole path of a folder, as in file:///srv/images".into(),
            );
        }
        (Scheme::File, true) if prefix.is_empty() => {
            return Err("the root of all files cannot hold images: expected a folder, as in file:///srv/images".into());
        }
        (Scheme::File, true) => {}
        (Scheme::Http | Scheme::Https, _) => {
            let address = host.replace(':', ".");
            let port = host
                .split_once(':')
                .is_none_or(|(_, port)| port.parse::<u16>().is_ok());
            if !port || !is_word(&address) {
                return Err(format!("invalid host {host:?}: expected HOST or HOST:PORT"));
            }
        }
        _ if !is_word(host) => {
            return Err(format!(
                "invalid bucket {host:?}: expected letters, digits, `.`, `_` and `-`"
            ));
        }
        _ => {}
    }
    if !prefix.is_empty() && !prefix.split('/').all(is_word) {
        let what =
            "words between slashes have letters, digits, `.`, `_` and `-`, and more than dots";
        return Err(what.into());
    }
    Ok(ObjectHome {
        scheme,
        host: host.to_owned(),
        prefix: prefix.to_owned(),
    })
}

fn image(text: &str) -> Result<ObjectRef, String> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => {
            let digest = digest.parse::<BlobDigest>();
            (named, Some(digest.map_err(|error| error.to_string())?))
        }
        None => (text, None),
    };
    let is_inside = |(above, _): &(&str, &str)| !above.ends_with('/');
    let Some((above, last)) = named.rsplit_once('/').filter(is_inside) else {
        return Err("an image is named after its place: s3://BUCKET/NAME:TAG".into());
    };
    let home = home(above)?;
    let (name, tag) = last.split_once(':').unwrap_or((last, "latest"));
    // The rules for tags are those of the store's names.
    let is_tag = format!("a:{tag}").parse::<Reference>().is_ok();
    match is_word(name) && !name.starts_with('.') && is_tag {
        true => Ok(ObjectRef {
            home,
            name: name.to_owned(),
            tag: tag.to_owned(),
            digest,
        }),
        false => Err(format!("invalid name {last:?}: expected NAME:TAG")),
    }
}

/// What may stand between slashes, on every system and in every address.
fn is_word(word: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    word.bytes().all(known) && word.bytes().any(|byte| byte != b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        let hex = "0a".repeat(32);
        for (text, want, place) in [
            ("s3://b/py", "s3://b/py:latest", "s3://b"),
            ("s3://b.c/x/Y/py:3.1", "s3://b.c/x/Y/py:3.1", "s3://b.c/x/Y"),
            (
                "file:///tmp/.tmpAb/py:1",
                "file:///tmp/.tmpAb/py:1",
                "file:///tmp/.tmpAb",
            ),
            (
                "https://host:8080/a/py:1",
                "https://host:8080/a/py:1",
                "https://host:8080/a",
            ),
            (
                &format!("gs://b/py:1@sha256:{hex}"),
                &format!("gs://b/py@sha256:{hex}"),
                "gs://b",
            ),
        ] {
            let name: ObjectRef = text.parse().unwrap();
            assert_eq!(
                (name.to_string(), name.home().to_string()),
                (want.into(), place.into())
            );
            assert_eq!(name.home(), &place.parse::<ObjectHome>().unwrap());
            let kept = name.store_name();
            assert_eq!(kept.as_str().parse(), Ok(kept.clone()), "{kept}");
            assert!(ObjectRef::names_object_store(text));
        }
    }

    #[test]
    fn invalid_names_say_why() {
        for text in [
            "",
            "s3:/b/x:1",
            "s3://",
            "s3://b",
            "s3:///x:1",
            "ftp://b/x",
            "s3://b//x:1",
            "s3://b/../x:1",
            "s3://b/x/..:1",
            "s3://b/x:",
            "s3://b/x:1:2",
            "s3://b/a b/x:1",
            "file://srv/x:1",
            "file:///x:1",
            "https://h:x/a:1",
            "s3://b/x@sha256:12",
            "s3://b/.x:1",
            "s3://b/%2e%2e/x:1",
            "az://u:p@b/x:1",
            "s3://b/x:1\n",
        ] {
            let error = text.parse::<ObjectRef>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} names nothing")),
                "{error}"
            );
        }
        assert!(!ObjectRef::names_object_store("s3/b/x:1"));
        assert!("file:///".parse::<ObjectHome>().is_err());
    }
}
