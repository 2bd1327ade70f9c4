//! Where images come from, by the names that a store keeps of it.

use std::sync::Arc;

#[cfg(feature = "object")]
use std::collections::HashMap;

#[cfg(feature = "object")]
use parking_lot::Mutex;

use super::TransferError;
#[cfg(feature = "object")]
use super::objects::OfBucket;
use super::remote::{OfRegistry, Origin};
#[cfg(feature = "object")]
use crate::object::{Bucket, BucketOptions, ObjectHome, ObjectRef};
use crate::registry::{Client, RegistryRef};

/// What images are fetched with that were pulled in part: a client of registries, and the settings of
/// object stores. Cloning is a reference count.
///
/// ```
/// use stratafs::registry::{Client, ClientOptions};
/// use stratafs::transfer::Origins;
///
/// let origins = Origins::from(&Client::new(ClientOptions::default())?);
/// # drop(origins);
/// # Ok::<(), stratafs::registry::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct Origins {
    client: Client,
    #[cfg(feature = "object")]
    buckets: Option<Arc<Buckets>>,
}

/// The places in object stores that were asked so far. There are no more than images of the store
/// name.
#[cfg(feature = "object")]
struct Buckets {
    options: BucketOptions,
    open: Mutex<HashMap<ObjectHome, Bucket>>,
}

impl From<&Client> for Origins {
    fn from(client: &Client) -> Self {
        Self {
            client: client.clone(),
            #[cfg(feature = "object")]
            buckets: None,
        }
    }
}

impl Origins {
    /// Fetches from object stores as well, which are reached as `options` say.
    #[cfg(feature = "object")]
    #[must_use]
    pub fn with_buckets(mut self, options: BucketOptions) -> Self {
        self.buckets = Some(Arc::new(Buckets {
            options,
            open: Mutex::default(),
        }));
        self
    }

    /// Finds what an image comes from, by its name there.
    pub(super) fn find(&self, name: &str) -> Result<Arc<dyn Origin>, TransferError> {
        let wrong = |what: &dyn std::fmt::Display| {
            TransferError::Place(format!("{name}: where the image came from: {what}"))
        };
        #[cfg(feature = "object")]
        if ObjectRef::names_object_store(name) {
            let Some(buckets) = &self.buckets else {
                return Err(wrong(&"object stores are not asked here"));
            };
            let name: ObjectRef = name.parse().map_err(|error| wrong(&error))?;
            let bucket = buckets.open(name.home())?;
            return Ok(Arc::new(OfBucket(bucket, name)));
        }
        let name: RegistryRef = name.parse().map_err(|error| wrong(&error))?;
        Ok(Arc::new(OfRegistry(self.client.clone(), name)))
    }
}

#[cfg(feature = "object")]
impl Buckets {
    fn open(&self, home: &ObjectHome) -> Result<Bucket, TransferError> {
        let mut open = self.open.lock();
        if let Some(bucket) = open.get(home) {
            return Ok(bucket.clone());
        }
        let bucket = Bucket::open(home, &self.options)?;
        open.insert(home.clone(), bucket.clone());
        Ok(bucket)
    }
}
