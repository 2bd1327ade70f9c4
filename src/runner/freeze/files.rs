//! The files of a guest that is frozen: its image, and what it has open.

use std::collections::HashMap;

use super::FreezeError;
use super::dirs::{DEVICES, ShownDirs, ShownVolume};
use super::known::{Frozen, SavedKnown};
use super::shown::put;
use crate::chunk::ChunkPool;
use crate::error::Error;
use crate::host::OpenOptions;
use crate::image::Image;
use crate::layer::Layer;
use crate::meta::{FileId, Kind};
use crate::runner::GuestDir;
use crate::vfs::{Descriptor, Fs, Rights, SetTime};
use crate::wasi::p1::{Ctx, Described};

/// Where files lie that have no name but are open.
pub(super) const HIDDEN: &str = "/.stratafs/open";

/// What stands for [`HIDDEN`] in the place of a guest's name for a directory, where the guest
/// is shown none above it, for what it may write to and for what it may not. No guest's name has
/// a byte of zero.
pub(super) const HIDDEN_PLACES: [(&str, Rights); 2] = [
    ("\0open", Rights::ReadWrite),
    ("\0open read-only", Rights::ReadOnly),
];

/// What stays of a guest's files.
pub(super) struct KeptFiles {
    /// The base, and a layer of what the guest changed.
    pub(super) image: Image,
    pub(super) changes: Layer,
    pub(super) table: Vec<Described>,
    /// The directories of its own files that the guest is shown, by where they lie.
    pub(super) preopens: Vec<GuestDir>,
    /// Whether there is something in [`HIDDEN`].
    pub(super) hidden: bool,
    /// Whether the guest needs a `/dev` that is not the devices' own.
    pub(super) other_dev: bool,
    /// The guest's names of the volumes that it changed.
    pub(super) changed_volumes: Vec<String>,
    /// What the guest knows of its files.
    pub(super) known: SavedKnown,
}

/// Takes the files of a guest whose table is that of `p1`, and which is shown `volumes`. `named`
/// are the directories of its own files as its host names them.
pub(super) fn keep(
    p1: &mut Ctx,
    fs: &Fs,
    (volumes, named): (&[ShownVolume], &[GuestDir]),
) -> Result<KeptFiles, FreezeError> {
    p1.look_at_host_files().map_err(layer_error)?;
    let p1 = &*p1;
    let mut shown = ShownDirs::of(p1, fs, volumes)?;
    let nameless: Vec<&Descriptor> = p1
        .open_descriptors()
        .filter(|open| open.preopen.is_none() && open.descriptor.fs().is_same(fs))
        .map(|open| open.descriptor)
        .filter(|descriptor| !shown.places.contains_key(&descriptor.id()))
        .collect();
    let (fork, again) = fs.fork_with(&nameless).map_err(layer_error)?;
    let hide = || hide_all(&fork, &again, &mut shown.places);
    let hidden = match again.is_empty() {
        true => Vec::new(),
        false => put(&fork, hide).map_err(layer_error)?,
    };
    drop(again);
    let table = p1.describe(
        |open| shown.place(&open),
        |fd| FreezeError::Files {
            fd,
            reason: "it is a socket, or has no name (any more) in a directory of the host, so that it cannot be opened again; close it before the point".to_owned(),
        },
    )?;
    let changes = fork.diff(&ChunkPool::new()).map_err(layer_error)?;
    let mut layers = layers_of(fs.image())?;
    layers.push(changes.clone());
    let image = Image::new(&layers).map_err(layer_error)?;
    let frozen = Frozen {
        p1,
        fs,
        image: &image,
        changes: &changes,
        hidden: &hidden,
    };
    let known = SavedKnown::of(&frozen).map_err(layer_error)?;
    let needs_dev = table.iter().any(|one| one.shown() == Some(DEVICES));
    let has_dev = |image: &Image| Fs::new(image).symlink_metadata(DEVICES).is_ok();
    if needs_dev && shown.devices.is_some() && !has_dev(fs.image()) && has_dev(&image) {
        return Err(FreezeError::Layer {
            reason: "the guest made a /dev of its own, where the devices would be shown from now on: it would not find those that it has open in another directory".to_owned(),
        });
    }
    let changed = volumes.iter().filter(|volume| volume.is_changed());
    Ok(KeptFiles {
        changed_volumes: changed.map(|volume| volume.guest().to_owned()).collect(),
        known,
        image,
        changes,
        table,
        preopens: shown.preopens(named),
        hidden: !nameless.is_empty(),
        other_dev: needs_dev && shown.devices.is_none(),
    })
}

pub(super) fn layer_error(error: impl std::error::Error) -> FreezeError {
    FreezeError::Layer {
        reason: error.to_string(),
    }
}

/// Returns layers that make an image: its own, or, of one that a store keeps, which has them in the
/// store alone, its whole tree.
fn layers_of(image: &Image) -> Result<Vec<Layer>, FreezeError> {
    let layers = image.layers();
    if layers.len() == image.layer_count() {
        return Ok(layers.to_vec());
    }
    let tree = Fs::new(image).tree("/", &ChunkPool::new());
    Ok(vec![tree.map_err(layer_error)?])
}

/// Links each file that has no name to one, and returns those names.
fn hide_all(
    fork: &Fs,
    nameless: &[Descriptor],
    places: &mut HashMap<FileId, Vec<u8>>,
) -> Result<Vec<(FileId, String)>, Error> {
    let mut hidden = Vec::new();
    for (number, descriptor) in nameless.iter().enumerate() {
        let id = descriptor.id();
        if places.contains_key(&id) {
            continue;
        }
        let path = format!("{HIDDEN}/{number}");
        hide(fork, descriptor, &path)?;
        places.insert(id, path.clone().into_bytes());
        hidden.push((id, path));
    }
    Ok(hidden)
}

/// Links a file that has no name to one that no guest uses.
fn hide(fork: &Fs, descriptor: &Descriptor, path: &str) -> Result<(), Error> {
    let failed = |errno| Error::new("copy", path.as_bytes(), errno);
    fork.create_dir_all(HIDDEN)?;
    match descriptor.kind() {
        Kind::Dir => fork.create_dir(path)?,
        Kind::File | Kind::Symlink => {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(fork, path)?;
            let copied = file.descriptor().copy_content_of(descriptor);
            copied.map_err(failed)?;
        }
    }
    // A layer has no other times: the guest is told those that it knows.
    let mtime = descriptor.stat().map_err(failed)?.mtime;
    fork.set_times(path, SetTime::Keep, SetTime::To(mtime))
}
