//! Images of registries that are run: pulled if they have to be, and completed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stratafs::image::Reference;
use stratafs::store::Store;
use stratafs::transfer::{self, Origins, PullOptions, TransferError};

use super::failure::{Failure, say};
use super::image::remote;
use super::limits::FILL_AFTER_SECONDS;
use super::reach::{LazyWhen, PullWhen, RemoteName};
use super::resolve::{GuestFrom, Run};
use super::store_dir::{self, Use};

/// Pulls the image that is run, if it is named after a registry and has to be fetched. A
/// name of the store never makes a registry be asked.
pub(super) fn fetch(run: &mut Run, place: Option<&Path>) -> Result<(), Failure> {
    let (when, reach, verify) = (run.pull.0, &run.pull.1, &run.pull.2);
    let is_verified = !verify.verify_key.is_empty();
    let GuestFrom::Image(reference, _) = &mut run.guest else {
        return match is_verified {
            false => Ok(()),
            true => Err(Failure::usage(
                "--verify-key is for an image of a registry: --image HOST/NAME:TAG",
            )),
        };
    };
    let text = reference.as_str().to_owned();
    let of_registry = matches!(reference, Reference::Tag(_)) && RemoteName::names(&text);
    if is_verified && !of_registry {
        return Err(Failure::usage(format_args!(
            "--verify-key: {text} is a name of the store, where signatures are not kept: HOST/NAME:TAG names an image of a registry"
        )));
    }
    if !of_registry {
        return match when {
            None | Some(PullWhen::Never) => Ok(()),
            Some(_) => Err(Failure::usage(format_args!(
                "--pull: {text} is a name of the store: HOST/NAME:TAG names an image of a registry"
            ))),
        };
    }
    let name: RemoteName = text.parse().map_err(Failure::usage)?;
    *reference = name.store_name();
    let here = || {
        let store = store_dir::open(place, Use::Look).ok()?;
        store.mark_used(name.store_name().as_str()).ok()
    };
    match when.unwrap_or_default() {
        PullWhen::Never if is_verified => {
            let what = "--verify-key asks the registry for a signature: leave --pull never out";
            return Err(Failure::usage(what));
        }
        // What is here may have come without a signature.
        _ if is_verified => {}
        PullWhen::Never => return Ok(()),
        PullWhen::Missing => {
            if let Some(here) = here() {
                run.in_use.push(Arc::new(here));
                return Ok(());
            }
        }
        PullWhen::Always => {}
    }
    let store = store_dir::open(place, Use::Fill)?;
    let source = run.layers.options.clone();
    let lazy = run.lazy != LazyWhen::Off;
    let wanted = (source, verify.keys()?);
    let pulled = remote::pull_named(&store, reach, (&name, None), wanted, lazy)?;
    run.in_use.push(pulled.in_use);
    Ok(())
}

/// Sees to it that what is not here of the image that is run comes: before the guest runs,
/// while it does, or when it is read. From here on the image is in use.
pub(super) fn complete(
    run: &mut Run,
    opened: Store,
    place: Option<&Path>,
) -> Result<Store, Failure> {
    let GuestFrom::Image(reference, _) = &run.guest else {
        return Ok(opened);
    };
    let in_use = opened.mark_used(reference.as_str());
    run.in_use.extend(in_use.ok().map(Arc::new));
    let (when, reach) = (run.pull.0, &run.pull.1);
    // Whether there is such an image at all is told where it is opened.
    let may_lack = opened.may_lack(reference.as_str()).unwrap_or_default();
    if !may_lack || when == Some(PullWhen::Never) {
        return Ok(opened);
    }
    let origins = reach.origins()?;
    let store = store_dir::open(place, Use::Change)?;
    transfer::fetch_from(&store, origins.clone())?;
    match run.lazy {
        LazyWhen::Only => {}
        LazyWhen::Off => remote::fill_named(&store, reach, reference).map(drop)?,
        LazyWhen::Auto => fill_meanwhile(store.clone(), origins, reference.clone()),
    }
    Ok(store)
}

/// Fetches the rest of an image while its guest runs, once that has begun. It ends with the process, and what has
/// come stays.
fn fill_meanwhile(store: Store, origins: Origins, reference: Reference) {
    let fill = move || {
        std::thread::sleep(Duration::from_secs(FILL_AFTER_SECONDS));
        let options = PullOptions::default();
        let filled = transfer::fill(&store, origins, &reference, &options);
        // Whatever else keeps the rest from coming is told by the reads that need it.
        if let Err(error @ (TransferError::TwoFaces(_) | TransferError::Packed { .. })) = filled {
            say(&format!("{reference}: {error}"));
        }
    };
    let thread = std::thread::Builder::new().name("stratafs-fill".to_owned());
    drop(thread.spawn(fill));
}
