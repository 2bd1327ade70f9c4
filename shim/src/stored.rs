//! Images of a store that a mount names: opened by mapping, and fetched as they are read.
//!
//! `stratafs snapshotter` answers containerd with such mounts.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use stratafs::digest::Digest;
use stratafs::image::Image;
use stratafs::layer::Layer;
use stratafs::registry::Client;
use stratafs::store::{InUse, Store, StoreOptions};
use stratafs::transfer::fetch_from;

use crate::reach::RegistryConfig;
use crate::status::Status;

/// What the options of a mount begin with that are for this runtime alone.
const OWN: &str = "x-stratafs.";

/// An image in a store, and the directories that lie over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBase {
    /// The directory of the store.
    pub store: PathBuf,
    /// The digest of the image.
    pub image: String,
}

/// What the options of a mount say: the image, and directories as an overlay lists them.
pub type StoredMount = (StoredBase, Option<String>);

impl StoredBase {
    /// Reads the options of a mount; `None` if none is this runtime's own.
    ///
    /// # Errors
    /// One of them is not known, is there twice or makes no sense.
    pub fn of(options: &[String]) -> Result<Option<StoredMount>, String> {
        let mut given: HashMap<&str, &str> = HashMap::new();
        for option in options.iter().filter_map(|option| option.strip_prefix(OWN)) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !["store", "image", "lowerdir"].contains(&name) {
                return Err(format!("option {OWN}{name}: not known here"));
            }
            if given.insert(name, value).is_some() {
                return Err(format!("option {OWN}{name}: given twice"));
            }
        }
        if given.is_empty() {
            return Ok(None);
        }
        let value = |name: &str| {
            let value = given.get(name).copied();
            value.ok_or_else(|| format!("option {OWN}{name} is missing"))
        };
        let (store, image) = (value("store")?, value("image")?);
        let climbs = Path::new(store)
            .components()
            .any(|part| part == Component::ParentDir);
        if !store.starts_with('/') || climbs || store.contains('\0') {
            return Err(format!(
                "option {OWN}store: {store:?} is no absolute path without `..`"
            ));
        }
        // A name might lead to another image tomorrow.
        if image.parse::<Digest>().is_err() {
            return Err(format!(
                "option {OWN}image: {image:?} is no digest of an image"
            ));
        }
        let base = Self {
            store: store.into(),
            image: image.to_owned(),
        };
        let lower = given.get("lowerdir").map(|lower| (*lower).to_owned());
        Ok(Some((base, lower)))
    }
}

/// The stores that were opened, for all containers of this process.
pub struct Stores {
    registry: RegistryConfig,
    open: Mutex<HashMap<PathBuf, Store>>,
}

impl Stores {
    /// Begins without any; what is not in one is fetched by way of `registry`.
    #[must_use]
    pub fn new(registry: RegistryConfig) -> Self {
        Self {
            registry,
            open: Mutex::default(),
        }
    }

    /// Opens an image: maps its index. Nothing is read but the header.
    ///
    /// # Errors
    /// There is no such store or image.
    pub fn image(&self, base: &StoredBase) -> Result<(Image, Arc<InUse>), Status> {
        let store = self.store(&base.store)?;
        let said = |error| said(base, &error);
        let in_use = store.mark_used(&base.image).map_err(said)?;
        let image = store.image(&base.image).map_err(said)?;
        Ok((image, Arc::new(in_use)))
    }

    /// Reads the layers of an image, for others to lie over them. Their content stays at rest.
    ///
    /// # Errors
    /// As [`image`](Self::image).
    pub fn layers(&self, base: &StoredBase) -> Result<Vec<Layer>, Status> {
        let layers = self.store(&base.store)?.layers(&base.image);
        layers.map_err(|error| said(base, &error))
    }

    /// Returns the digest of the manifest that an image came with.
    #[must_use]
    pub fn manifest(&self, base: &StoredBase) -> Option<String> {
        let info = self.store(&base.store).ok()?.info(&base.image).ok()?;
        info.manifest.map(|digest| digest.to_string())
    }

    fn store(&self, dir: &Path) -> Result<Store, Status> {
        let mut open = self.open.lock();
        if let Some(store) = open.get(dir) {
            return Ok(store.clone());
        }
        let said = |error: &dyn std::fmt::Display| {
            Status::invalid(format_args!("rootfs: store {}: {error}", dir.display()))
        };
        let store = StoreOptions::new().existing().open(dir);
        let store = store.map_err(|error| said(&error))?;
        let options = self.registry.options().map_err(|error| said(&error))?;
        let client = Client::new(options).map_err(|error| said(&error))?;
        fetch_from(&store, &client).map_err(|error| said(&error))?;
        open.insert(dir.to_owned(), store.clone());
        Ok(store)
    }
}

fn said(base: &StoredBase, error: &dyn std::fmt::Display) -> Status {
    let (image, store) = (&base.image, base.store.display());
    Status::invalid(format_args!(
        "rootfs: image {image} of store {store}: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Result<Option<StoredMount>, String> {
        let options: Vec<String> = options.iter().map(|&option| option.into()).collect();
        StoredBase::of(&options)
    }

    #[test]
    fn options_of_a_mount_name_an_image_or_are_refused() {
        let digest = Digest::of(b"x").to_string();
        let image = format!("x-stratafs.image={digest}");
        assert_eq!(of(&["rbind", "rw"]), Ok(None));
        let (base, lower) = of(&["rbind", "x-stratafs.store=/s", &image])
            .unwrap()
            .unwrap();
        assert_eq!((base.store, base.image, lower), ("/s".into(), digest, None));
        let over = of(&["x-stratafs.store=/s", &image, "x-stratafs.lowerdir=/b:/a"]);
        assert_eq!(over.unwrap().unwrap().1.as_deref(), Some("/b:/a"));
        let wrong = |options: &[&str]| of(options).unwrap_err();
        assert!(wrong(&["x-stratafs.store=/s"]).contains("x-stratafs.image is missing"));
        assert!(wrong(&[&image]).contains("x-stratafs.store is missing"));
        assert!(wrong(&["x-stratafs.other=/s"]).contains("not known"));
        assert!(wrong(&["x-stratafs.store=/s", "x-stratafs.store=/t"]).contains("twice"));
        for store in ["s", "/a/../b", ""] {
            let store = format!("x-stratafs.store={store}");
            assert!(wrong(&[&store, &image]).contains("no absolute path"));
        }
        for image in ["app:1", "blake3:12345678", "../x"] {
            let image = format!("x-stratafs.image={image}");
            assert!(wrong(&["x-stratafs.store=/s", &image]).contains("no digest"));
        }
    }
}
