//! Blobs in: hashed while they come, gone on with where they broke off.

use std::io::{self, Read};
use std::ops::Range;

use ureq::http::Method;
use ureq::http::header::{CONTENT_RANGE, RANGE};

use super::auth::TokenScope;
use super::client::{Client, HostsAsked, mismatch};
use super::error::{RegistryError, RegistryErrorKind};
use super::http::{Answer, broken};
use super::name::RegistryRef;
use super::retry::{Attempt, Tries};
use super::uplink::{RegistryCall, Uplink, failed};
use crate::source::{BlobDigest, Hasher};

/// Bytes that are taken in at a time.
const BUFFER_BYTES: usize = 128 * 1024;

/// Where the bytes of a blob are kept while they come.
pub trait BlobTarget {
    /// Returns how many bytes there are already, from an earlier try.
    fn len(&self) -> u64;

    /// Returns whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads what there is from its beginning, for hashing.
    ///
    /// # Errors
    ///
    /// Those of reading.
    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()>;

    /// Adds bytes at the end.
    ///
    /// # Errors
    ///
    /// Those of writing. The download ends with them.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Lets go of all bytes: they were not the right ones.
    ///
    /// # Errors
    ///
    /// Those of writing.
    fn restart(&mut self) -> io::Result<()>;
}

impl BlobTarget for Vec<u8> {
    fn len(&self) -> u64 {
        self.len() as u64
    }

    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        take(self);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.clear();
        Ok(())
    }
}

/// A download on its way.
struct Download<'d> {
    client: &'d Client,
    name: &'d RegistryRef,
    digest: &'d BlobDigest,
    size: u64,
    target: &'d mut dyn BlobTarget,
    hasher: Hasher,
    /// Called with the number of bytes as they arrive; returns whether to continue.
    watch: &'d mut dyn FnMut(u64) -> bool,
    /// Whether bytes with another digest have been discarded once.
    restarted: bool,
}

impl Client {
    /// Fetches a blob of `size` bytes from the repository of `name` into `target`, and continues
    /// where an earlier try ended. `watch` is called with the number of bytes that have arrived
    /// since its last call, and ends the download by returning `false`.
    ///
    /// When this returns `Ok`, the target has bytes with that digest. Bytes that have another
    /// one are discarded and fetched once more. O(size), in bounded memory.
    ///
    /// # Errors
    ///
    /// Those of the registry; [`RegistryErrorKind::Mismatch`]; [`RegistryErrorKind::Local`]
    /// for those of the target, and if `watch` returns `false`.
    pub fn fetch_blob(
        &self,
        name: &RegistryRef,
        (digest, size): (&BlobDigest, u64),
        target: &mut dyn BlobTarget,
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), RegistryError> {
        let mut download = Download {
            client: self,
            name,
            digest,
            size,
            target,
            hasher: Hasher::like(digest),
            watch,
            restarted: false,
        };
        let action = format!("cannot fetch {digest}");
        let full = name.without_tag();
        let context = (full.as_str(), action.as_str());
        download.rehash(context)?;
        let links = self.uplinks(name.host())?;
        let by_digest = name.at(digest);
        // A mirror gets one try; what it has given stays.
        let mut mirrors = links.mirrors_of(&by_digest);
        let mut tries = Tries::new(&self.0.options);
        loop {
            let before = download.target.len();
            let uplink = mirrors.next().unwrap_or(&links.own);
            match download.step(uplink, context) {
                Ok(()) => return Ok(()),
                Err(_) if !std::ptr::eq(uplink, &links.own) => continue,
                Err(attempt) => {
                    if download.target.len() > before {
                        tries.progressed();
                    }
                    tries.failed(attempt)?;
                }
            }
        }
    }
}

impl Client {
    /// Fetches bytes of a blob of `size` bytes: as many as `range` has, no more and no less. What
    /// they should be is for the caller to know, who asks the registry itself if they were others.
    /// A registry that sends all in place of a range is read up to there.
    pub(crate) fn fetch_range(
        &self,
        name: &RegistryRef,
        (digest, size): (&BlobDigest, u64),
        range: Range<u64>,
        asked: HostsAsked,
    ) -> Result<Vec<u8>, RegistryError> {
        let (start, end) = (range.start, range.end.min(size));
        let want = end.saturating_sub(start);
        if want == 0 {
            return Ok(Vec::new());
        }
        let action = format!("cannot fetch bytes {start} to {end} of {digest}");
        self.ask(&name.at(digest), &action, asked, |uplink, context| {
            let repository = name.repository();
            let url = uplink.url(&format!("/{repository}/blobs/{digest}"));
            let scope = TokenScope::pull(repository);
            let mut call = RegistryCall::new(Method::GET, url, &scope, context);
            call.headers
                .push((RANGE, format!("bytes={start}-{}", end - 1)));
            let mut answer = uplink.call(&self.0.options, call, &[])?;
            let skip = match answer.status {
                206 if starts_at(&answer) == Some(start) => 0,
                206 => {
                    let what = "another range than the one that was asked for".to_owned();
                    let kind = RegistryErrorKind::Protocol(what);
                    return Err(RegistryError::new(context.0, context.1, kind).into());
                }
                _ => start,
            };
            let stall = self.0.options.stall;
            let broke = |error: io::Error| failed(context, broken(&error, stall));
            let mut reader = answer.reader();
            let passed = io::copy(&mut reader.by_ref().take(skip), &mut io::sink());
            let mut bytes = Vec::new();
            if passed.map_err(broke)? == skip {
                let read = reader.take(want).read_to_end(&mut bytes);
                read.map_err(broke)?;
            }
            if (bytes.len() as u64) < want {
                let what = format!("the answer ended after {} of {want} bytes", bytes.len());
                let error =
                    RegistryError::new(context.0, context.1, RegistryErrorKind::Connection(what));
                return Err(Attempt::Again(error, None));
            }
            Ok(bytes)
        })
    }
}

impl Download<'_> {
    /// Hashes what is there already; what is too long cannot be right.
    fn rehash(&mut self, context: (&str, &str)) -> Result<(), RegistryError> {
        if self.target.len() > self.size {
            self.restart(context)?;
        }
        let hasher = &mut self.hasher;
        let read = self.target.read(&mut |bytes| hasher.update(bytes));
        read.map_err(|error| local(context, error))
    }

    fn restart(&mut self, context: (&str, &str)) -> Result<(), RegistryError> {
        self.hasher = Hasher::like(self.digest);
        self.target.restart().map_err(|error| local(context, error))
    }

    /// Fetches what is missing, as far as it comes.
    fn step(&mut self, uplink: &Uplink, context: (&str, &str)) -> Result<(), Attempt> {
        let have = self.target.len();
        if have < self.size || have == 0 {
            self.fetch(uplink, have, context)?;
        }
        let hasher = std::mem::replace(&mut self.hasher, Hasher::like(self.digest));
        let found = hasher.finish();
        if found == self.digest.as_str() {
            return Ok(());
        }
        self.restart(context)?;
        let error = mismatch(context, self.digest.as_str(), &found);
        Err(match std::mem::replace(&mut self.restarted, true) {
            true => Attempt::Fatal(error),
            false => Attempt::Again(error, None),
        })
    }

    fn fetch(&mut self, uplink: &Uplink, have: u64, context: (&str, &str)) -> Result<(), Attempt> {
        let repository = self.name.repository();
        let url = uplink.url(&format!("/{repository}/blobs/{}", self.digest));
        let scope = TokenScope::pull(repository);
        let mut call = RegistryCall::new(Method::GET, url, &scope, context);
        if have > 0 {
            call.headers.push((RANGE, format!("bytes={have}-")));
        }
        let mut answer = uplink.call(&self.client.0.options, call, &[416])?;
        let skip = match answer.status {
            // The registry thinks that it is shorter: all of it is asked for.
            416 => {
                self.restart(context)?;
                let error = answer.refusal(context.0, context.1);
                return Err(Attempt::Again(error, None));
            }
            206 if starts_at(&answer) == Some(have) => 0,
            206 => {
                let what = "another range than the one that was asked for".to_owned();
                let kind = RegistryErrorKind::Protocol(what);
                return Err(RegistryError::new(context.0, context.1, kind).into());
            }
            // All of it, asked for or not: what is there already is passed over.
            _ => have,
        };
        let len = answer.len();
        let found = len.map(|len| len + have - skip);
        if let Some(found) = found.filter(|found| *found != self.size) {
            return Err(self.wrong_size(context, found));
        }
        self.take(&mut answer, skip, context)
    }

    fn wrong_size(&self, context: (&str, &str), found: u64) -> Attempt {
        let kind = RegistryErrorKind::Mismatch {
            what: "the size",
            promised: self.size.to_string(),
            found: found.to_string(),
        };
        Attempt::Again(RegistryError::new(context.0, context.1, kind), None)
    }

    /// Takes in what comes, but for the first `skip` bytes.
    fn take(
        &mut self,
        answer: &mut Answer,
        mut skip: u64,
        context: (&str, &str),
    ) -> Result<(), Attempt> {
        let stall = self.client.0.options.stall;
        let mut reader = answer.reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let len = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(context, broken(&error, stall))),
            };
            let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(len);
            skip -= passed as u64;
            let bytes = buffer.get(passed..len).unwrap_or_default();
            let sum = self.target.len() + bytes.len() as u64;
            if sum > self.size {
                self.restart(context)?;
                let kind = RegistryErrorKind::TooLarge {
                    what: "a blob, as its manifest says",
                    limit: self.size,
                };
                return Err(RegistryError::new(context.0, context.1, kind).into());
            }
            let kept = self.target.append(bytes);
            kept.map_err(|error| local(context, error))?;
            self.hasher.update(bytes);
            if !(self.watch)(bytes.len() as u64) {
                let error = io::Error::from(io::ErrorKind::Interrupted);
                return Err(local(context, error).into());
            }
        }
        if self.target.len() < self.size {
            let kind = RegistryErrorKind::Connection(format!(
                "the answer ended after {} of {} bytes",
                self.target.len(),
                self.size
            ));
            return Err(Attempt::Again(
                RegistryError::new(context.0, context.1, kind),
                None,
            ));
        }
        Ok(())
    }
}

fn local(context: (&str, &str), error: io::Error) -> RegistryError {
    RegistryError::new(context.0, context.1, RegistryErrorKind::Local(error))
}

/// Returns where a range begins: `bytes 5-9/10`.
fn starts_at(answer: &Answer) -> Option<u64> {
    let range = answer.header(CONTENT_RANGE.as_str())?;
    let (first, _) = range.trim().strip_prefix("bytes ")?.split_once('-')?;
    first.parse().ok()
}
