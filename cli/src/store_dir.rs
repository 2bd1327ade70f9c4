//! Where the store is.

use std::env;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use stratafs::store::{RepairReport, Store, StoreOptions};

use super::failure::Failure;

/// What a command does with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Looks: nothing is made, written or removed.
    Look,
    /// Changes a store that is there.
    Change,
    /// Brings something in: the store is made where there is none.
    Fill,
}

/// Opens the store: `--store`, else `STRATAFS_STORE`, else the place that the
/// platform has for a user's data.
pub(super) fn open(given: Option<&Path>, how: Use) -> Result<Store, Failure> {
    let options = match how {
        Use::Look => StoreOptions::new().read_only(),
        Use::Change => StoreOptions::new().existing(),
        Use::Fill => StoreOptions::new(),
    };
    Ok(options.open(&of(given)?)?)
}

/// Repairs the store, and says where it is.
pub(super) fn repair(given: Option<&Path>) -> Result<(PathBuf, RepairReport), Failure> {
    let place = of(given)?;
    let report = Store::repair(&place)?;
    Ok((place, report))
}

/// Makes a store, unless there is one. Says where it is, and whether it is new.
pub(super) fn init(given: Option<&Path>) -> Result<(PathBuf, Store, bool), Failure> {
    let place = of(given)?;
    let known = StoreOptions::new().read_only().open(&place).is_ok();
    let store = StoreOptions::new().open(&place)?;
    Ok((place, store, !known))
}

/// Returns where the store is, or is to be.
pub(super) fn of(given: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(dir) = env::var_os("STRATAFS_STORE").filter(|dir| !dir.is_empty()) {
        return Ok(dir.into());
    }
    match etcetera::base_strategy::choose_native_strategy() {
        Ok(platform) => Ok(platform.data_dir().join("stratafs")),
        Err(error) => Err(Failure::new(format_args!(
            "no directory for a store is known ({error}): name one with --store or STRATAFS_STORE"
        ))),
    }
}
