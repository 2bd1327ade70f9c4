//! S3, Google's and Azure's object stores, by the crate `object_store`.

use std::future::Future;
use std::io::{self, Read};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as StorePath;
use object_store::{
    Error, GetOptions, ObjectMeta as StoreMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};

use super::backend::{Backend, ObjectMeta, ObjectVersion, Swap, stopped};
use super::connect::Wire;
use super::error::ObjectErrorKind;
use super::name::{ObjectHome, Scheme};
use crate::limits::OBJECT_PART_BYTES;

pub(super) struct Cloud {
    store: Box<dyn ObjectStore>,
    /// What stands before all keys: empty, or with a slash at its end.
    prefix: String,
}

/// Wakes the thread that waits for a future.
struct WakeThread(Thread);

impl Wake for WakeThread {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future. It needs no runtime: the thread that polls sends and receives, and nothing
/// else takes time.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(WakeThread(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

/// Makes a reason of an error; of something that is not there, or a condition that does not
/// hold, whoever asked makes an answer before.
fn reason(error: Error) -> ObjectErrorKind {
    let text = error.to_string();
    match error {
        Error::NotFound { .. } => ObjectErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            ObjectErrorKind::Denied(text)
        }
        _ => ObjectErrorKind::Store(text),
    }
}

/// Makes of an object that is not there none.
fn there<T>(result: Result<T, Error>) -> Result<Option<T>, ObjectErrorKind> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(reason(error)),
    }
}

impl Cloud {
    pub(super) fn new(
        home: &ObjectHome,
        settings: &[(String, String)],
        wire: Wire,
    ) -> Result<Self, ObjectErrorKind> {
        let made = match home.scheme {
            Scheme::Google => google(&home.host, settings, wire),
            Scheme::Azure => azure(&home.host, settings, wire),
            _ => amazon(&home.host, settings, wire),
        };
        let prefix = match home.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Ok(Self {
            store: made.map_err(|error| ObjectErrorKind::Options(error.to_string()))?,
            prefix,
        })
    }

    fn path(&self, key: &str) -> StorePath {
        StorePath::from(format!("{}{key}", self.prefix))
    }

    fn put_mode(&self, key: &str, bytes: Vec<u8>, mode: PutMode) -> Result<(), Error> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let payload = PutPayload::from(bytes);
        block_on(self.store.put_opts(&self.path(key), payload, options)).map(drop)
    }
}

/// What is tried again is so below: there status and headers are known, and no timer is
/// needed here.
fn once() -> RetryConfig {
    RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    }
}

type Made = object_store::Result<Box<dyn ObjectStore>>;

/// The settings whose names begin so, in lower case.
fn those<'s>(
    settings: &'s [(String, String)],
    prefix: &'s str,
) -> impl Iterator<Item = (String, &'s str)> {
    let own = settings
        .iter()
        .filter(move |(key, _)| key.starts_with(prefix));
    own.map(|(key, value)| (key.to_ascii_lowercase(), value.as_str()))
}

fn amazon(bucket: &str, settings: &[(String, String)], wire: Wire) -> Made {
    let mut builder = AmazonS3Builder::new();
    for (key, value) in those(settings, "AWS_") {
        if let Ok(key) = key.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_bucket_name(bucket).with_allow_http(true);
    let store = builder
        .with_retry(once())
        .with_http_connector(wire)
        .build()?;
    Ok(Box::new(store))
}

fn google(bucket: &str, settings: &[(String, String)], wire: Wire) -> Made {
    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in those(settings, "GOOGLE_") {
        if let Ok(key) = key.parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_bucket_name(bucket);
    let store = builder
        .with_retry(once())
        .with_http_connector(wire)
        .build()?;
    Ok(Box::new(store))
}

fn azure(container: &str, settings: &[(String, String)], wire: Wire) -> Made {
    let mut builder = MicrosoftAzureBuilder::new();
    for (key, value) in those(settings, "AZURE_") {
        if let Ok(key) = key.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let builder = builder.with_container_name(container).with_allow_http(true);
    let store = builder
        .with_retry(once())
        .with_http_connector(wire)
        .build()?;
    Ok(Box::new(store))
}

fn of(meta: &StoreMeta) -> ObjectMeta {
    ObjectMeta {
        size: meta.size,
        written: u64::try_from(meta.last_modified.timestamp()).unwrap_or(0),
    }
}

impl Backend for Cloud {
    fn get(
        &self,
        key: &str,
        limit: u64,
    ) -> Result<Option<(Vec<u8>, ObjectVersion)>, ObjectErrorKind> {
        let read = async {
            let found = self.store.get(&self.path(key)).await?;
            let version = ObjectVersion::Tag(found.meta.e_tag.clone(), found.meta.version.clone());
            Ok((found.bytes().await?, version))
        };
        let Some((bytes, version)) = there(block_on(read))? else {
            return Ok(None);
        };
        if bytes.len() as u64 > limit {
            let what = "bytes in a document";
            return Err(ObjectErrorKind::TooLarge { what, limit });
        }
        Ok(Some((bytes.to_vec(), version)))
    }

    fn range(&self, key: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, ObjectErrorKind> {
        if range.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let options = GetOptions {
            range: Some(range.into()),
            ..GetOptions::default()
        };
        let path = self.path(key);
        let read = async { self.store.get_opts(&path, options).await?.bytes().await };
        Ok(there(block_on(read))?.map(|bytes| bytes.to_vec()))
    }

    fn head(&self, key: &str) -> Result<Option<ObjectMeta>, ObjectErrorKind> {
        let found = there(block_on(self.store.head(&self.path(key))))?;
        Ok(found.map(|meta| of(&meta)))
    }

    fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), ObjectErrorKind> {
        self.put_mode(key, bytes, PutMode::Overwrite)
            .map_err(reason)
    }

    fn swap(
        &self,
        key: &str,
        bytes: Vec<u8>,
        old: Option<&ObjectVersion>,
    ) -> Result<Swap, ObjectErrorKind> {
        let mode = match old {
            Some(ObjectVersion::Tag(e_tag, version)) => PutMode::Update(UpdateVersion {
                e_tag: e_tag.clone(),
                version: version.clone(),
            }),
            _ => PutMode::Create,
        };
        match self.put_mode(key, bytes.clone(), mode) {
            Ok(()) => Ok(Swap::Done),
            Err(
                Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotFound { .. },
            ) => Ok(Swap::Refused),
            // Switched off by whoever uses it: the last one wins.
            Err(Error::NotImplemented { .. }) => self.put(key, bytes).map(|()| Swap::Done),
            Err(error) => Err(reason(error)),
        }
    }

    fn upload(
        &self,
        key: &str,
        (reader, size): (&mut dyn Read, u64),
        watch: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), ObjectErrorKind> {
        if size <= OBJECT_PART_BYTES {
            let bytes = part(reader, size)?;
            self.put(key, bytes)?;
            return if watch(size) { Ok(()) } else { Err(stopped()) };
        }
        let path = self.path(key);
        let mut upload = block_on(self.store.put_multipart(&path)).map_err(reason)?;
        let mut send = || {
            let mut left = size;
            while left > 0 {
                let len = left.min(OBJECT_PART_BYTES);
                let bytes = part(reader, len)?;
                block_on(upload.put_part(bytes.into())).map_err(reason)?;
                if !watch(len) {
                    return Err(stopped());
                }
                left -= len;
            }
            block_on(upload.complete()).map_err(reason).map(drop)
        };
        let sent = send();
        if sent.is_err() {
            // What is left of it is not seen by anybody, and may cost its owner.
            let aborted = block_on(upload.abort());
            aborted.unwrap_or_else(|error| tracing::debug!(%error, "parts of an upload stay"));
        }
        sent
    }

    fn list(
        &self,
        dir: &str,
        visit: &mut dyn FnMut(&str, ObjectMeta) -> Result<(), ObjectErrorKind>,
    ) -> Result<(), ObjectErrorKind> {
        let path = self.path(dir);
        let mut listed = self.store.list(Some(&path));
        while let Some(meta) = block_on(listed.next()) {
            let meta = meta.map_err(reason)?;
            if let Some(key) = meta.location.as_ref().strip_prefix(&self.prefix) {
                visit(key, of(&meta))?;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), ObjectErrorKind> {
        there(block_on(self.store.delete(&self.path(key)))).map(drop)
    }
}

/// Reads so many bytes.
fn part(reader: &mut dyn Read, len: u64) -> Result<Vec<u8>, ObjectErrorKind> {
    let mut bytes = Vec::new();
    let read = reader.take(len).read_to_end(&mut bytes);
    match read.map_err(ObjectErrorKind::Local)? as u64 == len {
        true => Ok(bytes),
        false => Err(ObjectErrorKind::Local(io::ErrorKind::UnexpectedEof.into())),
    }
}
