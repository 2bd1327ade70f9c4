//! Where the store is.

use std::env;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use super::failure::Failure;
use crate::store::Store;

/// Opens the store: `--store`, else `STRATAFS_STORE`, else the place that the
/// platform has for a user's data. It is made if it is missing.
pub(super) fn open(given: Option<&Path>) -> Result<Store, Failure> {
    Ok(Store::open(&place(given)?)?)
}

fn place(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(dir) = env::var_os("STRATAFS_STORE").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    match etcetera::base_strategy::choose_native_strategy() {
        Ok(platform) => Ok(platform.data_dir().join("stratafs")),
        Err(error) => Err(Failure::new(format_args!(
            "no place for a store ({error}): name one with --store or STRATAFS_STORE"
        ))),
    }
}
