//! What a registry is asked: manifests, tags, referrers, who one is.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use ureq::http::Method;
use ureq::http::header::{ACCEPT, CONTENT_TYPE, LINK};

use super::auth::TokenScope;
use super::error::{RegistryError, RegistryErrorKind};
use super::hosts::{self, HostConfig};
use super::http::{Answer, Http, Payload};
use super::name::{RegistryRef, api_host, is_loopback, plain_host};
use super::options::ClientOptions;
use super::retry::{Attempt, repeated};
use super::uplink::{RegistryCall, Uplink, failed};
use super::url::Url;
use crate::limits::{MAX_OCI_DOCUMENT_BYTES, MAX_TAG_PAGES, MAX_TAGS};
use crate::source::BlobDigest;

/// The manifests and indexes that are known.
pub(super) const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A client of registries. Cloning is a reference count; clones share connections and
/// tokens. Several threads may use one.
///
/// ```no_run
/// use stratafs::registry::{Client, ClientOptions, RegistryRef};
///
/// let client = Client::new(ClientOptions::default())?;
/// let name: RegistryRef = "localhost:5000/team/app:1".parse()?;
/// for tag in client.tags(&name)? {
///     println!("{tag}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client(pub(super) Arc<ClientState>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}

pub(super) struct ClientState {
    pub(super) options: ClientOptions,
    /// The hosts that answer for each registry that has answered, the registry itself last.
    uplinks: Mutex<HashMap<String, Arc<Uplinks>>>,
}

/// Who is asked for something that several hosts may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostsAsked {
    /// Mirrors first, each once, and then the registry.
    Anybody,
    /// The registry alone: what came before was not right.
    Registry,
}

/// The hosts that answer for a registry.
pub(super) struct Uplinks {
    pub(super) own: Uplink,
    mirrors: Vec<Mirror>,
}

impl Uplinks {
    /// Returns the mirrors that may be asked for a name, in order.
    pub(super) fn mirrors_of(&self, name: &RegistryRef) -> impl Iterator<Item = &Uplink> {
        let by_digest = name.digest().is_some();
        let mirrors = self.mirrors.iter();
        mirrors
            .filter(move |mirror| mirror.resolves || by_digest)
            .map(|mirror| &mirror.uplink)
    }
}

struct Mirror {
    uplink: Uplink,
    /// Whether it may be asked for tags, and not only for digests.
    resolves: bool,
}

/// A manifest or an index, as a registry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manifest {
    /// The digest of its bytes.
    pub digest: BlobDigest,
    /// Its media type.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Manifest {
    pub(crate) fn new(digest: BlobDigest, media_type: String, bytes: Vec<u8>) -> Self {
        Self {
            digest,
            media_type,
            bytes,
        }
    }
}

impl Client {
    /// Makes a client. The first request opens the first connection.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Options`] for root certificates that cannot be read, and proxies of
    /// another kind.
    pub fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        let made = Http::new(&options, &options.roots, false);
        made.map_err(|kind| RegistryError::new("registries", "cannot be reached", kind))?;
        Ok(Self(Arc::new(ClientState {
            options,
            uplinks: Mutex::default(),
        })))
    }

    /// Fetches the manifest or index that `name` stands for. Its bytes are checked against the
    /// digest of `name`, or else against the digest that the registry gives.
    ///
    /// One request, and further ones for a token, for mirrors and for retries.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::Mismatch`];
    /// [`RegistryErrorKind::TooLarge`].
    pub fn manifest(&self, name: &RegistryRef) -> Result<Manifest, RegistryError> {
        let action = format!("cannot fetch the manifest {}", name.manifest_name());
        let path = format!("/{}/manifests/{}", name.repository(), name.manifest_name());
        self.ask_any(name, &action, |uplink, context| {
            let scope = TokenScope::pull(name.repository());
            let mut call = RegistryCall::new(Method::GET, uplink.url(&path), &scope, context);
            call.headers.push((ACCEPT, MANIFESTS.join(", ")));
            let mut answer = uplink.call(&self.0.options, call, &[])?;
            read_manifest(&mut answer, name, context)
        })
    }

    /// Returns the digest of the manifest or index that `name` stands for; `None` if the
    /// registry has none. Only the head of the answer is fetched.
    ///
    /// # Errors
    ///
    /// Those of the registry.
    pub fn look_up(&self, name: &RegistryRef) -> Result<Option<BlobDigest>, RegistryError> {
        let action = format!("cannot look up the manifest {}", name.manifest_name());
        let path = format!("/{}/manifests/{}", name.repository(), name.manifest_name());
        let full = name.without_tag();
        let context = (full.as_str(), action.as_str());
        let links = self.uplinks(name.host())?;
        let scope = TokenScope::push(name.repository());
        repeated(&self.0.options, || {
            let mut call = RegistryCall::new(Method::HEAD, links.own.url(&path), &scope, context);
            call.headers.push((ACCEPT, MANIFESTS.join(", ")));
            let answer = links.own.call(&self.0.options, call, &[404])?;
            let digest = answer.header("docker-content-digest");
            Ok(match answer.status {
                404 => None,
                _ => digest
                    .and_then(|text| text.parse().ok())
                    .or(name.digest().cloned()),
            })
        })
    }

    /// Sends a manifest or an index, under the tag of `name`, or else under its digest. One
    /// request. The registry has to have all blobs and manifests that it names.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::Mismatch`] if the registry
    /// confirms another digest.
    pub fn put_manifest(
        &self,
        name: &RegistryRef,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<BlobDigest, RegistryError> {
        self.put(name, media_type, bytes).map(|(digest, _)| digest)
    }

    /// Puts a manifest, and returns as well whether the registry has taken note of what it
    /// refers to.
    pub(super) fn put(
        &self,
        name: &RegistryRef,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(BlobDigest, bool), RegistryError> {
        let digest = match name.digest() {
            Some(named) => BlobDigest::like(named, bytes),
            None => BlobDigest::of(bytes),
        };
        let at = name.tag().unwrap_or(digest.as_str());
        let action = format!("cannot send the manifest {at}");
        let path = format!("/{}/manifests/{at}", name.repository());
        let full = name.without_tag();
        let context = (full.as_str(), action.as_str());
        let links = self.uplinks(name.host())?;
        let scope = TokenScope::push(name.repository());
        let (has, noted) = repeated(&self.0.options, || {
            let mut call = RegistryCall::new(Method::PUT, links.own.url(&path), &scope, context);
            call.headers.push((CONTENT_TYPE, media_type.to_owned()));
            call.payload = Payload::Bytes(bytes);
            let answer = links.own.call(&self.0.options, call, &[])?;
            let has = answer.header("docker-content-digest").map(str::to_owned);
            Ok((has, answer.header("oci-subject").is_some()))
        })?;
        let same_kind = format!("{}:", digest.algorithm());
        match has {
            Some(has) if has.starts_with(&same_kind) && has != digest.as_str() => {
                Err(mismatch(context, digest.as_str(), &has))
            }
            _ => Ok((digest, noted)),
        }
    }

    /// Lists the tags of a repository, in the registry's order. One request for each page.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::TooLarge`] past
    /// [`MAX_TAGS`].
    pub fn tags(&self, name: &RegistryRef) -> Result<Vec<String>, RegistryError> {
        let full = name.without_tag();
        let context = (full.as_str(), "cannot list the tags");
        let links = self.uplinks(name.host())?;
        let scope = TokenScope::pull(name.repository());
        let mut at = links.own.url(&format!("/{}/tags/list", name.repository()));
        let mut tags = Vec::new();
        for _ in 0..MAX_TAG_PAGES {
            let (mut page, next) = repeated(&self.0.options, || {
                let call = RegistryCall::new(Method::GET, at.clone(), &scope, context);
                let mut answer = links.own.call(&self.0.options, call, &[])?;
                let bytes = answer.bytes("a list of tags", MAX_OCI_DOCUMENT_BYTES);
                let bytes = bytes.map_err(|no| failed(context, no))?;
                let next = next_page(&answer).and_then(|link| at.join(&link));
                Ok((read_tags(&bytes, context)?, next))
            })?;
            tags.append(&mut page);
            if tags.len() > MAX_TAGS {
                let kind = RegistryErrorKind::TooLarge {
                    what: "the names of tags, counted",
                    limit: MAX_TAGS as u64,
                };
                return Err(RegistryError::new(context.0, context.1, kind));
            }
            match next.filter(|next| next.is_same_host(&at)) {
                Some(next) => at = next,
                None => return Ok(tags),
            }
        }
        let what = format!("more than {MAX_TAG_PAGES} pages of tags");
        let kind = RegistryErrorKind::Protocol(what);
        Err(RegistryError::new(context.0, context.1, kind))
    }

    /// Checks that the registry accepts the credentials of this client, as `login` does before
    /// it saves them.
    ///
    /// # Errors
    ///
    /// [`RegistryErrorKind::Denied`]; those of the registry.
    pub fn check(&self, host: &str) -> Result<(), RegistryError> {
        let host = plain_host(host);
        let context = (host, "cannot log in");
        super::name::check_host(host).map_err(|what| {
            RegistryError::new(host, context.1, RegistryErrorKind::Options(what))
        })?;
        let links = self.uplinks(host)?;
        let scope = TokenScope::default();
        repeated(&self.0.options, || {
            let call = RegistryCall::new(Method::GET, links.own.url("/"), &scope, context);
            links.own.call(&self.0.options, call, &[]).map(drop)
        })
    }

    /// Asks each host that may have it, mirrors first, and returns the error of the last one.
    pub(super) fn ask_any<T>(
        &self,
        name: &RegistryRef,
        action: &str,
        work: impl FnMut(&Uplink, (&str, &str)) -> Result<T, Attempt>,
    ) -> Result<T, RegistryError> {
        self.ask(name, action, HostsAsked::Anybody, work)
    }

    /// Asks those who are to be asked, and returns the error of the last one.
    pub(super) fn ask<T>(
        &self,
        name: &RegistryRef,
        action: &str,
        asked: HostsAsked,
        mut work: impl FnMut(&Uplink, (&str, &str)) -> Result<T, Attempt>,
    ) -> Result<T, RegistryError> {
        let full = name.without_tag();
        let links = self.uplinks(name.host())?;
        let mirrors = links
            .mirrors_of(name)
            .filter(|_| asked == HostsAsked::Anybody);
        for mirror in mirrors {
            // One try: there is somebody else to ask.
            match work(mirror, (&full, action)) {
                Ok(done) => return Ok(done),
                Err(attempt) => {
                    let (mirror, error) = (&mirror.host, attempt.into_error());
                    tracing::debug!(%mirror, %error, "a mirror does not help");
                }
            }
        }
        repeated(&self.0.options, || work(&links.own, (&full, action)))
    }

    /// Finds out, once, which hosts answer for a registry.
    pub(super) fn uplinks(&self, host: &str) -> Result<Arc<Uplinks>, RegistryError> {
        if let Some(known) = self.0.uplinks.lock().get(host) {
            return Ok(Arc::clone(known));
        }
        let options = &self.0.options;
        let found = hosts::read(&options.hosts_dirs, host);
        let error = |kind| RegistryError::new(host, "cannot be reached", kind);
        let config = found.map_err(error)?;
        let (own, has_answered) = match config.server {
            Some(server) => (self.uplink(host, server, None).map_err(error)?, true),
            None => self.own_uplink(host).map_err(error)?,
        };
        let mirrors = config.mirrors.into_iter().map(|mirror| {
            let resolves = mirror.resolves;
            let name = mirror.url.host.clone();
            let uplink = self.uplink(&name, mirror, Some(host))?;
            Ok(Mirror { uplink, resolves })
        });
        let mirrors: Result<_, RegistryErrorKind> = mirrors.collect();
        let links = Arc::new(Uplinks {
            own,
            mirrors: mirrors.map_err(error)?,
        });
        if !has_answered {
            // What it speaks is found out when it is back.
            return Ok(links);
        }
        let mut all = self.0.uplinks.lock();
        Ok(Arc::clone(all.entry(host.to_owned()).or_insert(links)))
    }

    fn uplink(
        &self,
        host: &str,
        config: HostConfig,
        mirrored: Option<&str>,
    ) -> Result<Uplink, RegistryErrorKind> {
        let roots = [self.0.options.roots.clone(), config.roots].concat();
        Ok(Uplink {
            http: Http::new(&self.0.options, &roots, config.unverified)?,
            base: config.url,
            host: host.to_owned(),
            headers: config.headers,
            mirrored: mirrored.map(str::to_owned),
            auth: Default::default(),
        })
    }

    /// Returns a registry that no file names: with TLS, or on this machine with plain HTTP if
    /// it uses that. Returns as well whether that is known, since nobody may have answered.
    fn own_uplink(&self, host: &str) -> Result<(Uplink, bool), RegistryErrorKind> {
        let options = &self.0.options;
        let http = Http::new(options, &options.roots, false)?;
        let api = api_host(host);
        let (secure, has_answered) = match (options.plain_http, is_loopback(api)) {
            (true, _) => (false, true),
            (false, false) => (true, true),
            (false, true) => match speaks_plainly(&http, api) {
                Some(plainly) => (!plainly, true),
                None => (true, false),
            },
        };
        let uplink = Uplink {
            http,
            base: Url::new(secure, api, "/v2"),
            host: host.to_owned(),
            headers: Vec::new(),
            mirrored: None,
            auth: Default::default(),
        };
        Ok((uplink, has_answered))
    }
}

/// Finds out whether a registry on this machine uses plain HTTP. TLS is tried first; a
/// certificate that is not trusted is an error, and not a reason to use plain HTTP. Whatever
/// else comes in place of TLS, an answer without it decides. Returns `None` if nobody answers.
fn speaks_plainly(http: &Http, host: &str) -> Option<bool> {
    let ask = |secure| {
        let url = Url::new(secure, host, "/v2/");
        http.send(&Method::GET, &url, &[], Payload::Nothing)
    };
    match ask(true) {
        Ok(_) => Some(false),
        Err(no) if no.untrusted => Some(false),
        Err(_) => ask(false).ok().map(|mut answer| !wants_tls(&mut answer)),
    }
}

/// Returns whether an answer says that TLS is spoken there, as servers of TLS answer what comes
/// without.
fn wants_tls(answer: &mut Answer) -> bool {
    let said = match answer.status {
        400 | 426 => answer.bytes("an answer", MAX_OCI_DOCUMENT_BYTES),
        _ => return false,
    };
    let said = said.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).to_ascii_lowercase();
    ["https", "ssl", "tls"]
        .iter()
        .any(|word| said.contains(word))
}

pub(super) fn mismatch(context: (&str, &str), promised: &str, found: &str) -> RegistryError {
    let kind = RegistryErrorKind::Mismatch {
        what: "the digest",
        promised: promised.to_owned(),
        found: found.to_owned(),
    };
    RegistryError::new(context.0, context.1, kind)
}

fn read_manifest(
    answer: &mut Answer,
    name: &RegistryRef,
    context: (&str, &str),
) -> Result<Manifest, Attempt> {
    let media_type = answer.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    let mut media_type = media_type.to_owned();
    let promised = answer.header("docker-content-digest");
    let promised = promised.and_then(|text| text.parse::<BlobDigest>().ok());
    let promised = name.digest().cloned().or(promised);
    let bytes = answer.bytes("a manifest", MAX_OCI_DOCUMENT_BYTES);
    let bytes = bytes.map_err(|no| failed(context, no))?;
    if is_page(&media_type, &bytes) {
        return Err(no_manifest(context, &media_type, &bytes).into());
    }
    let digest = match &promised {
        Some(promised) => BlobDigest::like(promised, &bytes),
        None => BlobDigest::of(&bytes),
    };
    if let Some(promised) = promised
        && promised != digest
    {
        let error = mismatch(context, promised.as_str(), digest.as_str());
        return Err(Attempt::Again(error, None));
    }
    // Some registries say nothing but "application/json".
    if !media_type.contains("vnd.") {
        let own: Option<Value> = serde_json::from_slice(&bytes).ok();
        let own = own.as_ref().and_then(|own| own.get("mediaType")?.as_str());
        media_type = own.unwrap_or(&media_type).to_owned();
    }
    Ok(Manifest {
        digest,
        media_type,
        bytes,
    })
}

/// Returns whether what came is a page for people, or other text that no manifest begins with.
fn is_page(media_type: &str, bytes: &[u8]) -> bool {
    let first = bytes.trim_ascii_start().first();
    media_type.contains("html") || first.is_some_and(|first| *first == b'<')
}

/// Says what came in place of a manifest.
fn no_manifest(context: (&str, &str), media_type: &str, bytes: &[u8]) -> RegistryError {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_whitespace();
    let mut begins = String::new();
    while begins.len() < MAX_PAGE_SHOWN
        && let Some(word) = words.next()
    {
        let word: String = word.chars().take(MAX_PAGE_SHOWN).collect();
        begins = format!("{begins} {word}");
    }
    let what = format!(
        "a page ({media_type}) came in place of a manifest: is this the address of a registry, and not of its web pages, a login or a proxy? It begins:{begins}"
    );
    RegistryError::new(context.0, context.1, RegistryErrorKind::Protocol(what))
}

/// Characters of a page that are shown.
const MAX_PAGE_SHOWN: usize = 80;

pub(super) fn bad_json(context: (&str, &str), error: &serde_json::Error) -> RegistryError {
    let kind = RegistryErrorKind::Protocol(error.to_string());
    RegistryError::new(context.0, context.1, kind)
}

fn read_tags(bytes: &[u8], context: (&str, &str)) -> Result<Vec<String>, RegistryError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| bad_json(context, &error))?;
    let tags = value.get("tags").and_then(Value::as_array);
    let tags = tags.into_iter().flatten().filter_map(Value::as_str);
    Ok(tags.map(str::to_owned).collect())
}

/// Returns where the next page is: `<ADDRESS>; rel="next"`.
pub(super) fn next_page(answer: &Answer) -> Option<String> {
    let links = answer.headers.get_all(LINK).iter();
    let links = links.filter_map(|link| link.to_str().ok());
    let mut links = links.flat_map(|link| link.split(','));
    let next = links.find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let (_, rest) = next.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}
