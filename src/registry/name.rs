//! What people call images in registries.

use std::fmt;
use std::str::FromStr;

use crate::image::Reference;
use crate::source::BlobDigest;

/// The registry that is meant where none is said.
const DOCKER: &str = "docker.io";

/// Other names of that registry, and where it answers.
const DOCKER_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Where the registry of [`DOCKER`] answers.
const DOCKER_API: &str = "registry-1.docker.io";

/// What stands before a name of one word there.
const DOCKER_LIBRARY: &str = "library";

/// The tag that is meant where neither a tag nor a digest is said.
const DEFAULT_TAG: &str = "latest";

/// The name of an image in a registry: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]`.
///
/// What is left out is filled in as Docker does: without a host `docker.io` is meant, there
/// a name of one word is one of `library/`, and the tag is `latest`. The word before the
/// first slash is a host if it has a dot or a colon in it or is `localhost`.
///
/// ```
/// use stratafs::registry::RegistryRef;
///
/// let name: RegistryRef = "alpine".parse()?;
/// assert_eq!(name.to_string(), "docker.io/library/alpine:latest");
/// # Ok::<(), stratafs::registry::ParseRegistryRefError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryRef {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<BlobDigest>,
}

impl RegistryRef {
    /// Returns whether `text` names a registry, and no tag of a store: it has a slash, and
    /// the part before the first has a dot or a colon in it or is `localhost`.
    #[must_use]
    pub fn names_registry(text: &str) -> bool {
        !text.contains("://") && text.split_once('/').is_some_and(|(host, _)| is_host(host))
    }

    /// Returns the registry's host, with its port if it has one: `docker.io` for Docker's.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host that answers for the registry: not the same for Docker's.
    #[must_use]
    pub fn api_host(&self) -> &str {
        api_host(&self.host)
    }

    /// Returns the name of the repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag, filled in unless there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, if one was said. What comes has to be it, whatever the tag says.
    #[must_use]
    pub fn digest(&self) -> Option<&BlobDigest> {
        self.digest.as_ref()
    }

    /// Returns what a manifest is asked for by: the digest, else the tag.
    #[must_use]
    pub fn manifest_name(&self) -> &str {
        let tag = self.tag.as_deref().unwrap_or(DEFAULT_TAG);
        self.digest.as_ref().map_or(tag, BlobDigest::as_str)
    }

    /// Returns the name without tag and digest: `HOST/NAME`.
    #[must_use]
    pub fn without_tag(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// Returns the same repository with this digest in place of tag and digest.
    #[must_use]
    pub fn at(&self, digest: &BlobDigest) -> Self {
        Self {
            tag: None,
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// Returns the same repository with this tag in place of tag and digest.
    #[must_use]
    pub fn tagged(&self, tag: &str) -> Self {
        Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        }
    }

    /// Returns the name under which a store keeps the image: all of it, the tag left out
    /// where there is a digest.
    #[must_use]
    pub fn store_name(&self) -> Reference {
        Reference::Tag(match &self.digest {
            Some(digest) => format!("{}@{digest}", self.without_tag()),
            None => format!("{}:{}", self.without_tag(), self.manifest_name()),
        })
    }
}

/// Returns the host that answers for a registry.
pub(super) fn api_host(host: &str) -> &str {
    match host {
        DOCKER => DOCKER_API,
        host => host,
    }
}

/// Returns the name of a registry, whichever of its names is given.
pub(super) fn plain_host(host: &str) -> &str {
    match DOCKER_ALIASES.contains(&host) {
        true => DOCKER,
        false => host,
    }
}

impl fmt::Display for RegistryRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// The text names no image in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the name of an image in a registry: {reason}")]
pub struct ParseRegistryRefError {
    text: String,
    reason: String,
}

impl FromStr for RegistryRef {
    type Err = ParseRegistryRefError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseRegistryRefError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<RegistryRef, String> {
    let (named, digest) = match text.split_once('@') {
        Some((named, digest)) => {
            let digest = digest.parse::<BlobDigest>();
            (named, Some(digest.map_err(|error| error.to_string())?))
        }
        None => (text, None),
    };
    let (host, rest) = match named.split_once('/') {
        Some((host, rest)) if is_host(host) => (plain_host(host), rest),
        _ => (DOCKER, named),
    };
    check_host(host)?;
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let repository = match host == DOCKER && !repository.contains('/') {
        true => format!("{DOCKER_LIBRARY}/{repository}"),
        false => repository.to_owned(),
    };
    let tag = match (tag, &digest) {
        (None, None) => Some(DEFAULT_TAG),
        (tag, _) => tag,
    };
    // The rules for words and tags are those of the store's names.
    let plain = format!("{repository}:{}", tag.unwrap_or(DEFAULT_TAG));
    match plain.parse::<Reference>() {
        Ok(_) => Ok(RegistryRef {
            host: host.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest,
        }),
        Err(error) => Err(error.reason().to_owned()),
    }
}

fn is_host(word: &str) -> bool {
    word.contains(['.', ':']) || word == "localhost"
}

/// Checks a host: letters, digits, dots and hyphens, or an IPv6 address in brackets; then
/// a port, maybe.
pub(super) fn check_host(host: &str) -> Result<(), String> {
    let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("[{address}] is not an IPv6 address"));
            }
            (
                None,
                rest.strip_prefix(':').or((!rest.is_empty()).then_some("")),
            )
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(known)
            && !name.starts_with(['.', '-'])
            && !name.contains("..")
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    match name.is_none_or(is_name) && port.is_none_or(is_port) {
        true => Ok(()),
        false => Err(format!("{host:?} is not a host, with or without a port")),
    }
}

/// Returns whether a host, its port left out, is this machine: `localhost`, `127.0.0.0/8`
/// or `[::1]`.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let address = name.parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff";

    #[test]
    fn names_are_filled_in_as_docker_does() {
        let at = format!("@sha256:{HEX}");
        for (text, want) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/a/b:1", "docker.io/a/b:1"),
            ("registry-1.docker.io/x", "docker.io/library/x:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5001/py/311:1", "127.0.0.1:5001/py/311:1"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            ("host:80/a/b/c", "host:80/a/b/c:latest"),
            ("quay.io/a/b-c/d.e__f:V1", "quay.io/a/b-c/d.e__f:V1"),
        ] {
            let name: RegistryRef = text.parse().unwrap();
            assert_eq!(name.to_string(), want);
            assert_eq!(want.parse(), Ok(name.clone()), "{text}");
            assert_eq!(name.store_name().as_str(), want);
            assert_eq!(name.store_name().as_str().parse(), Ok(name.store_name()));
        }
        for text in ["alpine", "ghcr.io/a/b:1"] {
            let name: RegistryRef = format!("{text}{at}").parse().unwrap();
            assert_eq!(name.manifest_name(), &at[1..]);
            assert!(name.to_string().ends_with(&at));
            let store = name.store_name();
            assert!(!store.as_str().contains(":1@"), "{store}");
            assert_eq!(store.as_str().parse(), Ok(store.clone()), "{store}");
        }
        let name: RegistryRef = "alpine".parse().unwrap();
        assert_eq!(name.api_host(), "registry-1.docker.io");
    }

    #[test]
    fn a_host_makes_a_name_one_of_a_registry() {
        for text in ["a.b/c", "a:1/c", "localhost/c", "127.0.0.1/c", "[::1]/c"] {
            assert!(RegistryRef::names_registry(text), "{text}");
        }
        for text in ["a", "a:1", "a/b", "a/b.c:1", "blake3:00", "localhost"] {
            assert!(!RegistryRef::names_registry(text), "{text}");
        }
    }

    #[test]
    fn invalid_names_say_why() {
        let digest = format!("a@sha256:{}", &HEX[1..]);
        for text in [
            "",
            ":1",
            "a:",
            "A",
            "a.b/C",
            "a.b/",
            "a.b//c",
            "a..b/c",
            "-a.b/c",
            "a:x/b",
            "a:0/b",
            "a:99999/b",
            "[::1/a",
            "[x]:1/a",
            "a.b/c:-x",
            "a.b/c:1:2",
            "a b",
            "a.b/../c",
            "http://a.b/c",
            "a@sha256:12",
            "user@a.b/c",
            &digest,
            "a\n",
            "a.b/c?d",
            "a.b\r\n/c",
        ] {
            let error = text.parse::<RegistryRef>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("{text:?} is not the name of")),
                "{error}"
            );
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        for host in [
            "localhost",
            "localhost:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example.com",
            "128.0.0.1",
            "[::2]",
            "127.0.0.1.nip.io",
            "10.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
