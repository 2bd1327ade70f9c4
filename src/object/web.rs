//! A web server as an object store that can only be read.

use std::io::Read;
use std::ops::Range;

use ureq::http::Response;

use super::backend::{Backend, ObjectMeta, ObjectVersion, Swap};
use super::connect::{Wire, get};
use super::error::ObjectErrorKind;

pub(super) struct Web {
    wire: Wire,
    /// The address that keys are added to.
    base: String,
}

impl Web {
    pub(super) fn new(base: String, wire: Wire) -> Self {
        Self { wire, base }
    }

    fn ask(
        &self,
        key: &str,
        range: Option<String>,
    ) -> Result<Option<Response<Vec<u8>>>, ObjectErrorKind> {
        let request = get(&format!("{}/{key}", self.base), range)?;
        let answer = self.wire.send(&request)?;
        match answer.status().as_u16() {
            200 | 206 => Ok(Some(answer)),
            404 | 410 => Ok(None),
            401 | 403 => Err(ObjectErrorKind::Denied(answer.status().to_string())),
            _ => Err(ObjectErrorKind::Store(answer.status().to_string())),
        }
    }
}

impl Backend for Web {
    fn get(
        &self,
        key: &str,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, ObjectVersion)>, ObjectErrorKind> {
        let Some(answer) = self.ask(key, None)? else {
            return Ok(None);
        };
        let bytes = answer.into_body();
        if bytes.len() as u64 > limit {
            let what = "bytes in a document";
            return Err(ObjectErrorKind::TooLarge { what, limit });
        }
        Ok(Some((bytes, ObjectVersion::Tag(None, None))))
    }

    fn range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectErrorKind> {
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let asked = format!("bytes={}-{}", range.start, range.end - 1);
        let Some(answer) = self.ask(key, Some(asked))? else {
            return Ok(None);
        };
        let whole = answer.status().as_u16() == 200;
        let bytes = answer.into_body();
        if !whole {
            return Ok(Some(bytes));
        }
        // All of it, though a part was asked for.
        let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.get(place(range.start)..place(range.end));
        Ok(Some(part.unwrap_or_default().to_vec()))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectErrorKind> {
        let found = self.range(key, 0..1)?;
        Ok(found.map(|_| ObjectMeta {
            size: 0,
            written: 0,
        }))
    }

    fn put(&self, _: &str, _: Vec<u8>) -> Result<(), ObjectErrorKind> {
        Err(ObjectErrorKind::ReadOnly)
    }

    fn swap(
        &self,
        _: &str,
        _: Vec<u8>,
        _: Option<&ObjectVersion>,
    ) -> Result<Swap, ObjectErrorKind> {
        Err(ObjectErrorKind::ReadOnly)
    }

    fn upload(
        &self,
        _: &str,
        _: (&mut dyn Read, u64),
        _: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ObjectErrorKind> {
        Err(ObjectErrorKind::ReadOnly)
    }

    fn list(
        &self,
        _: &str,
        _: &mut dyn FnMut(&str, ObjectMeta) -> Result<(), ObjectErrorKind>,
    ) -> Result<(), ObjectErrorKind> {
        Err(ObjectErrorKind::ReadOnly)
    }

    fn delete(&self, _: &str) -> Result<(), ObjectErrorKind> {
        Err(ObjectErrorKind::ReadOnly)
    }
}
