//! Blobs out: looked for first, taken from a neighbour if that has them, else sent, and gone
//! on with where it broke off.

use std::io::{self, Read};

use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};

use super::auth::TokenScope;
use super::client::Client;
use super::error::{RegistryError, RegistryErrorKind};
use super::http::{Answer, Payload};
use super::name::RegistryRef;
use super::retry::{Attempt, Tries, repeated};
use super::uplink::{RegistryCall, Uplink};
use super::url::Url;
use crate::limits::MAX_UPLOAD_CHUNK_BYTES;
use crate::source::BlobDigest;

/// The bytes of a blob, as often as they are asked for.
pub trait BlobBytes: Sync {
    /// Opens the blob at its beginning.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn open(&self) -> io::Result<Box<dyn Read + '_>>;
}

/// What was done to have a blob in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sent {
    /// It was there.
    AlreadyThere,
    /// It was in another repository of the registry, which has it in this one as well now.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// An upload on its way.
struct Upload<'u> {
    client: &'u Client,
    link: &'u Uplink,
    scope: TokenScope,
    repository: &'u str,
    digest: &'u BlobDigest,
    size: u64,
    bytes: &'u dyn BlobBytes,
    watch: &'u mut dyn FnMut(u64) -> bool,
    /// Where the registry takes bytes, if it has said so.
    session: Option<Url>,
    /// Bytes that the registry has.
    offset: u64,
    /// Bytes that are sent at a time; as many as there are if the registry takes no pieces.
    chunk: u64,
}

impl Client {
    /// Makes sure that the repository of `name` has a blob. The blob is sent only if it is
    /// neither there nor in one of the repositories `from` of the same registry.
    ///
    /// A small blob is sent in one request, a larger one in pieces if the registry takes
    /// pieces. When the connection breaks, the registry is asked how much it has. `watch` is
    /// called with the number of bytes that the registry has taken since its last call, and
    /// ends the upload by returning `false`. O(size), in bounded memory.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::Local`] for those of `bytes`, and if
    /// `watch` returns `false`.
    pub fn send_blob(
        &self,
        name: &RegistryRef,
        (digest, size): (&BlobDigest, u64),
        bytes: &dyn BlobBytes,
        from: &[String],
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<Sent, RegistryError> {
        let full = name.without_tag();
        let action = format!("cannot send {digest}");
        let context = (full.as_str(), action.as_str());
        let links = self.uplinks(name.host())?;
        let mut upload = Upload {
            client: self,
            link: &links.own,
            scope: TokenScope::push(name.repository()),
            repository: name.repository(),
            digest,
            size,
            bytes,
            watch,
            session: None,
            offset: 0,
            chunk: self.0.options.upload_chunk.max(1),
        };
        if upload.is_there(context)? {
            return Ok(Sent::AlreadyThere);
        }
        for other in from.iter().filter(|other| *other != name.repository()) {
            if upload.mount(other, context) {
                return Ok(Sent::Mounted);
            }
            if upload.session.is_some() {
                break;
            }
        }
        upload.send(context)?;
        Ok(Sent::Uploaded)
    }
}

impl Upload<'_> {
    fn is_there(&self, context: (&str, &str)) -> Result<bool, RegistryError> {
        repeated(&self.client.0.options, || {
            let url = format!("/{}/blobs/{}", self.repository, self.digest);
            let url = self.link.url(&url);
            let call = RegistryCall::new(Method::HEAD, url, &self.scope, context);
            let answer = self.link.call(&self.client.0.options, call, &[404])?;
            Ok(answer.status != 404)
        })
    }

    /// Asks the registry to take the blob from another repository. It may begin an upload
    /// in place of that. Whatever else it says, the blob can be sent.
    fn mount(&mut self, from: &str, context: (&str, &str)) -> bool {
        let scope = self.scope.clone().and_pull(from);
        let uploads = format!("/{}/blobs/uploads/", self.repository);
        let url = self.link.url(&uploads);
        let url = url.with_query(&[("mount", self.digest.as_str()), ("from", from)]);
        let call = RegistryCall::new(Method::POST, url.clone(), &scope, context);
        let Ok(answer) = self.link.call(&self.client.0.options, call, &[]) else {
            return false;
        };
        if answer.status == 202 {
            self.session = location(&url, &answer);
        }
        answer.status == 201
    }

    /// Sends the bytes, with what is tried again.
    fn send(&mut self, context: (&str, &str)) -> Result<(), RegistryError> {
        let mut tries = Tries::new(&self.client.0.options);
        loop {
            let before = self.offset;
            match self.step(context) {
                Ok(true) => return Ok(()),
                Ok(false) => tries.progressed(),
                Err(attempt) => {
                    if matches!(attempt, Attempt::Again(..)) {
                        self.ask_offset(context);
                    }
                    if self.offset > before {
                        tries.progressed();
                    }
                    tries.failed(attempt)?;
                }
            }
        }
    }

    /// Sends the next piece. Returns whether that was the last.
    fn step(&mut self, context: (&str, &str)) -> Result<bool, Attempt> {
        let session = match self.session.clone() {
            Some(session) => session,
            None => self.begin(context)?,
        };
        let left = self.size - self.offset;
        if left <= self.chunk {
            return self.finish(&session, left, context).map(|()| true);
        }
        let end = self.offset + self.chunk;
        let range = format!("{}-{}", self.offset, end - 1);
        let to = (Method::PATCH, session.clone(), Some(range));
        let also = [400, 404, 405, 411, 413, 415, 416, 501];
        let answer = self.pour(to, self.chunk, context, &also)?;
        match answer.status {
            200..=299 => {}
            // Pieces are not for every registry: then all of it at once, from the start.
            status => {
                tracing::debug!(status, "the registry takes no pieces");
                self.chunk = u64::MAX;
                self.forget();
                return Ok(false);
            }
        }
        self.session = Some(location(&session, &answer).unwrap_or(session));
        // It may have taken less than was sent.
        let has = taken(&answer).unwrap_or(end).min(end);
        let more = has.saturating_sub(self.offset);
        self.offset = has;
        self.report(more, context)?;
        match more {
            0 => Err(self.broken(context, "it took none of the bytes")),
            _ => Ok(false),
        }
    }

    /// Asks for a place to send to.
    fn begin(&mut self, context: (&str, &str)) -> Result<Url, Attempt> {
        self.offset = 0;
        let url = format!("/{}/blobs/uploads/", self.repository);
        let url = self.link.url(&url);
        let call = RegistryCall::new(Method::POST, url.clone(), &self.scope, context);
        let answer = self.link.call(&self.client.0.options, call, &[])?;
        if let Some(least) = answer.header("oci-chunk-min-length")
            && let Ok(least) = least.parse::<u64>()
            && self.chunk != u64::MAX
        {
            self.chunk = self.chunk.max(least).min(MAX_UPLOAD_CHUNK_BYTES);
        }
        let session = location(&url, &answer);
        let session = session
            .ok_or_else(|| self.broken(context, "its answer has no `Location` to send to"))?;
        self.session = Some(session.clone());
        Ok(session)
    }

    /// Sends the rest, and says which blob that was.
    fn finish(&mut self, session: &Url, left: u64, context: (&str, &str)) -> Result<(), Attempt> {
        let url = session.with_query(&[("digest", self.digest.as_str())]);
        let begun = self.offset > 0 && left > 0;
        let range = begun.then(|| format!("{}-{}", self.offset, self.size - 1));
        let mut answer = self.pour((Method::PUT, url, range), left, context, &[404, 416])?;
        if matches!(answer.status, 404 | 416) {
            // The session is gone, or has other bytes than was thought.
            let error = answer.refusal(context.0, context.1);
            self.forget();
            return Err(Attempt::Again(error, None));
        }
        if !(200..300).contains(&answer.status) {
            let error = answer.refusal(context.0, context.1);
            return Err(error.into());
        }
        self.report(left, context)
    }

    /// Sends bytes from the offset on.
    fn pour(
        &self,
        (method, url, range): (Method, Url, Option<String>),
        len: u64,
        context: (&str, &str),
        also: &[u16],
    ) -> Result<Answer, Attempt> {
        let local = |error| local(context, error);
        let mut reader = self.bytes.open().map_err(local)?;
        let passed = io::copy(&mut reader.by_ref().take(self.offset), &mut io::sink());
        if passed.map_err(local)? < self.offset {
            return Err(local(io::ErrorKind::UnexpectedEof.into()).into());
        }
        let mut source = BodySource {
            inner: reader.take(len),
            error: None,
        };
        let mut call = RegistryCall::new(method, url, &self.scope, context);
        call.headers
            .push((CONTENT_TYPE, "application/octet-stream".to_owned()));
        call.headers
            .extend(range.map(|range| (CONTENT_RANGE, range)));
        call.payload = Payload::Reader(&mut source, len);
        let sent = self.link.call(&self.client.0.options, call, also);
        match source.error {
            // What is wrong on this side is not cured by another try.
            Some(error) => Err(local(error).into()),
            None => sent,
        }
    }

    /// Asks how much the registry has, after something went wrong. A registry that does not
    /// say gets all of it anew.
    fn ask_offset(&mut self, context: (&str, &str)) {
        let Some(session) = self.session.clone() else {
            return;
        };
        let call = RegistryCall::new(Method::GET, session.clone(), &self.scope, context);
        let answer = self.link.call(&self.client.0.options, call, &[]);
        match answer {
            Ok(answer) if matches!(answer.status, 200 | 204) => {
                self.session = Some(location(&session, &answer).unwrap_or(session));
                self.offset = taken(&answer).unwrap_or(0).min(self.size);
            }
            Ok(_) | Err(Attempt::Fatal(_)) => self.forget(),
            // It may be there again when it is asked next.
            Err(Attempt::Again(..)) => {}
        }
    }

    fn forget(&mut self) {
        self.session = None;
        self.offset = 0;
    }

    /// Reports that `more` bytes have gone, and fails if whoever watches wants no more.
    fn report(&mut self, more: u64, context: (&str, &str)) -> Result<(), Attempt> {
        match (self.watch)(more) {
            true => Ok(()),
            false => Err(local(context, io::ErrorKind::Interrupted.into()).into()),
        }
    }

    fn broken(&self, context: (&str, &str), what: &str) -> Attempt {
        let kind = RegistryErrorKind::Protocol(what.to_owned());
        RegistryError::new(context.0, context.1, kind).into()
    }
}

/// Notes what goes wrong while a blob is read for the registry.
struct BodySource<R> {
    inner: R,
    error: Option<io::Error>,
}

impl<R: Read> Read for BodySource<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }
}

fn local(context: (&str, &str), error: io::Error) -> RegistryError {
    RegistryError::new(context.0, context.1, RegistryErrorKind::Local(error))
}

fn location(here: &Url, answer: &Answer) -> Option<Url> {
    here.join(answer.header(LOCATION.as_str())?)
}

/// Returns how many bytes the registry has: `0-9` means ten. `0-0` is none, as the
/// registries have it that begin with it.
fn taken(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE.as_str())?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    match (first, last.parse::<u64>().ok()?) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}
