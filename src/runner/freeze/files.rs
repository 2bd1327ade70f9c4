//! The files of a guest that is frozen: its image, and what it has open.

use std::collections::HashMap;

use super::FreezeError;
use super::known::{Frozen, SavedKnown};
use super::shown::put;
use crate::chunk::ChunkPool;
use crate::error::Error;
use crate::host::OpenOptions;
use crate::image::Image;
use crate::layer::Layer;
use crate::meta::{FileId, Kind};
use crate::runner::RunPlan;
use crate::vfs::{Descriptor, Fs, Rights, SetTime};
use crate::wasi::p1::{Ctx, Described, OpenDescriptor};

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
    /// Whether there is something in [`HIDDEN`].
    pub(super) hidden: bool,
    /// What the guest knows of its files.
    pub(super) known: SavedKnown,
}

/// Takes the files of a guest whose table is that of `p1`.
pub(super) fn keep(
    p1: &mut Ctx,
    (fs, volumes): (&Fs, &[(String, Fs)]),
    plan: &RunPlan,
) -> Result<KeptFiles, FreezeError> {
    p1.look_at_host_files().map_err(layer_error)?;
    let p1 = &*p1;
    let names = names_of_open(p1, fs)?;
    let nameless: Vec<&Descriptor> = p1
        .open_descriptors()
        .filter(|open| open.preopen.is_none() && open.descriptor.fs().is_same(fs))
        .map(|open| open.descriptor)
        .filter(|descriptor| !names.contains_key(&descriptor.id()))
        .collect();
    let (fork, again) = fs.fork_with(&nameless).map_err(layer_error)?;
    let mut places = names;
    let hide = || hide_all(&fork, &again, &mut places);
    let hidden = match again.is_empty() {
        true => Vec::new(),
        false => put(&fork, hide).map_err(layer_error)?,
    };
    drop(again);
    let volumes = OpenVolume::all(volumes, p1, plan)?;
    let table = p1.describe(
        |open| match open.descriptor.fs().is_same(fs) {
            true => place(&open, plan, &places),
            false => place_beside(&open, &volumes, p1),
        },
        |fd| FreezeError::Files {
            fd,
            reason: "it is a socket, or has no name (any more) in a directory of the host, so that it cannot be opened again; close it before the point".to_owned(),
        },
    )?;
    let changes = fork
        .diff(&ChunkPool::new())
        .map_err(|error| FreezeError::Layer {
            reason: error.to_string(),
        })?;
    let mut layers = fs.image().layers().to_vec();
    layers.push(changes.clone());
    let image = Image::new(&layers).map_err(|error| FreezeError::Layer {
        reason: error.to_string(),
    })?;
    let frozen = Frozen {
        p1,
        fs,
        image: &image,
        changes: &changes,
        hidden: &hidden,
    };
    let known = SavedKnown::of(&frozen).map_err(layer_error)?;
    Ok(KeptFiles {
        known,
        image,
        changes,
        table,
        hidden: !nameless.is_empty(),
    })
}

fn layer_error(error: Error) -> FreezeError {
    FreezeError::Layer {
        reason: error.to_string(),
    }
}

/// Finds a name for each file and directory that is open, from the root of the file
/// system that it lies in. O(files) if something is open.
fn names_of_open(p1: &Ctx, fs: &Fs) -> Result<HashMap<FileId, Vec<u8>>, FreezeError> {
    let wanted: Vec<FileId> = p1
        .open_descriptors()
        .filter(|open| open.preopen.is_none() && open.descriptor.fs().is_same(fs))
        .map(|open| open.descriptor.id())
        .collect();
    names_of(fs, &wanted)
}

/// Finds a name for each object, from the root.
pub(super) fn names_of(
    fs: &Fs,
    wanted: &[FileId],
) -> Result<HashMap<FileId, Vec<u8>>, FreezeError> {
    let mut names = HashMap::new();
    if wanted.contains(&FileId::ROOT) {
        names.insert(FileId::ROOT, b"/".to_vec());
    }
    if wanted.iter().all(|id| names.contains_key(id)) {
        return Ok(names);
    }
    for entry in fs.walk("/").map_err(layer_error)? {
        let entry = entry.map_err(layer_error)?;
        if wanted.contains(&entry.id()) && !names.contains_key(&entry.id()) {
            let mut path = entry.path();
            if !path.starts_with(b"/") {
                path.insert(0, b'/');
            }
            names.insert(entry.id(), path);
        }
    }
    Ok(names)
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

/// Returns under which preopen something open is found again, and where below it.
fn place(
    open: &OpenDescriptor<'_>,
    plan: &RunPlan,
    places: &HashMap<FileId, Vec<u8>>,
) -> Result<(String, Vec<u8>), FreezeError> {
    let refuse = |reason: String| FreezeError::Files {
        fd: open.fd,
        reason,
    };
    let path = places
        .get(&open.descriptor.id())
        .ok_or_else(|| refuse("it has no name".to_owned()))?;
    let rights = open.descriptor.rights();
    let below = plan
        .preopens
        .iter()
        .filter(|preopen| preopen.rights == rights || rights == Rights::ReadOnly)
        .filter_map(|preopen| Some((preopen, below(path, preopen.dir.as_bytes())?)))
        // Rather one of the same rights: what was opened to be read is not to be written.
        .min_by_key(|(preopen, below)| (preopen.rights != rights, below.len()));
    if let Some((preopen, below)) = below {
        return Ok((preopen.guest.clone(), below));
    }
    let mut places = HIDDEN_PLACES.iter();
    let place = places.find(|(_, of)| *of == rights);
    match place.zip(self::below(path, HIDDEN.as_bytes())) {
        Some(((place, _), name)) => Ok(((*place).to_owned(), name)),
        None => Err(refuse(format!(
            "{} lies in no directory that the guest is shown",
            String::from_utf8_lossy(path).escape_debug()
        ))),
    }
}

/// A volume, and the names of what is open on it.
struct OpenVolume<'v> {
    name: &'v str,
    guest: &'v str,
    fs: &'v Fs,
    places: HashMap<FileId, Vec<u8>>,
}

impl<'v> OpenVolume<'v> {
    fn all(
        volumes: &'v [(String, Fs)],
        p1: &Ctx,
        plan: &'v RunPlan,
    ) -> Result<Vec<Self>, FreezeError> {
        let shown = plan.volumes.iter().filter_map(|volume| {
            let made = volumes.iter().find(|(name, _)| *name == volume.name);
            Some((volume, &made?.1))
        });
        shown
            .map(|(volume, fs)| {
                Ok(Self {
                    name: &volume.name,
                    guest: &volume.guest,
                    fs,
                    places: names_of_open(p1, fs)?,
                })
            })
            .collect()
    }
}

/// Returns where something is found again that lies on a volume or among the devices.
fn place_beside(
    open: &OpenDescriptor<'_>,
    volumes: &[OpenVolume<'_>],
    p1: &Ctx,
) -> Result<(String, Vec<u8>), FreezeError> {
    if let Some(device) = device(open, p1) {
        return Ok(device);
    }
    let refuse = |reason: String| FreezeError::Files {
        fd: open.fd,
        reason,
    };
    let of = open.descriptor.fs();
    let volume = volumes.iter().find(|volume| of.is_same(volume.fs));
    let volume = volume.ok_or_else(|| {
        refuse("it is open in a file system that is no part of what is frozen".to_owned())
    })?;
    let path = volume.places.get(&open.descriptor.id());
    let path = path.ok_or_else(|| {
        refuse(format!(
            "it is open on the volume {:?} and has no name there any more, so that it cannot be opened again; close it before the point",
            volume.name
        ))
    })?;
    Ok((
        volume.guest.to_owned(),
        below(path, b"/").unwrap_or_default(),
    ))
}

/// Returns the rest of a path below a directory; `.` for the directory itself.
fn below(path: &[u8], dir: &[u8]) -> Option<Vec<u8>> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/');
        let named = parts.filter(|part| !part.is_empty() && *part != b".");
        named.map(<[u8]>::to_vec).collect()
    };
    let (path, dir) = (parts(path), parts(dir));
    let rest = path.strip_prefix(dir.as_slice())?;
    match rest.is_empty() {
        true => Some(b".".to_vec()),
        false => Some(rest.join(&b'/')),
    }
}

/// Finds a device of the directory of devices that lies beside the guest's own tree.
fn device(open: &OpenDescriptor<'_>, p1: &Ctx) -> Option<(String, Vec<u8>)> {
    let of = open.descriptor.fs();
    let dev = p1
        .open_descriptors()
        .find(|other| other.preopen == Some("/dev") && other.descriptor.fs().is_same(of))?;
    let name = dev.preopen?.to_owned();
    for entry in of.read_dir("/").ok()? {
        if entry.id() == open.descriptor.id() {
            return Some((name, entry.name().to_vec()));
        }
    }
    None
}
