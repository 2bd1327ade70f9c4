//! The directories that a guest is shown, and where below them it finds again what it has open.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::FreezeError;
use super::checkpoint::parts;
use super::files::{HIDDEN, HIDDEN_PLACES, layer_error};
use crate::meta::FileId;
use crate::runner::{GuestDir, RunPlan};
use crate::vfs::{Access, Descriptor, Follow, Fs, OpenFlags, Rights};
use crate::wasi::p1::{Ctx, OpenDescriptor, ShownPreopen};

/// The guest's name for the devices, where they have a file system of their own.
pub(super) const DEVICES: &str = "/dev";

/// A volume that a guest is shown by its root.
pub(super) struct ShownVolume {
    name: String,
    guest: String,
    fs: Fs,
}

impl ShownVolume {
    /// Returns those of a plan, by what was made of it.
    pub(super) fn of_plan(plan: &RunPlan, made: &[(String, Fs)]) -> Vec<Self> {
        let shown = plan.volumes.iter().filter_map(|volume| {
            let (_, fs) = made.iter().find(|(name, _)| *name == volume.name)?;
            Some(Self {
                name: volume.name.clone(),
                guest: volume.guest.clone(),
                fs: fs.clone(),
            })
        });
        shown.collect()
    }

    /// Returns the directories of other file systems that a guest is shown by their root.
    pub(super) fn of_context(p1: &Ctx, fs: &Fs) -> Vec<Self> {
        let shown = p1.shown_preopens().into_iter();
        let volumes = shown.filter(|dir| !dir.fs.is_same(fs) && dir.id == FileId::ROOT);
        let volumes = volumes.map(|dir| Self {
            name: dir.name.to_string(),
            guest: dir.name.to_string(),
            fs: dir.fs,
        });
        volumes.collect()
    }

    pub(super) fn guest(&self) -> &str {
        &self.guest
    }

    /// Returns whether it is not what it was when it was made.
    pub(super) fn is_changed(&self) -> bool {
        let usage = self.fs.usage();
        usage.inodes > 0 || usage.changed > 0
    }
}

/// A directory of the guest's own files that it is shown.
struct OwnDir {
    guest: String,
    rights: Rights,
    /// Where it lies, from the root, whatever led there when it was shown.
    place: Vec<u8>,
}

/// A volume, and the names of what is open on it.
struct OpenVolume<'v> {
    volume: &'v ShownVolume,
    places: HashMap<FileId, Vec<u8>>,
}

/// The directories that a guest is shown, and the names of what it has open.
pub(super) struct ShownDirs<'s> {
    fs: &'s Fs,
    own: Vec<OwnDir>,
    volumes: Vec<OpenVolume<'s>>,
    /// The directory of the devices, if it is one of its own.
    pub(super) devices: Option<ShownPreopen>,
    /// The names of what is open in `fs`, from its root.
    pub(super) places: HashMap<FileId, Vec<u8>>,
}

impl<'s> ShownDirs<'s> {
    /// Finds a name for each directory that is shown, and for each file and directory that is
    /// open. O(files) if something is open, or another directory than the root is shown.
    ///
    /// A directory that the guest has closed and that has no name any more is left out.
    pub(super) fn of(
        p1: &Ctx,
        fs: &'s Fs,
        volumes: &'s [ShownVolume],
    ) -> Result<Self, FreezeError> {
        let shown = p1.shown_preopens();
        let of_own = shown.iter().filter(|dir| dir.fs.is_same(fs));
        let mut wanted = open_in(p1, fs);
        wanted.extend(of_own.clone().map(|dir| dir.id));
        let places = names_of(fs, &wanted)?;
        let own = of_own.filter_map(|dir| {
            Some(OwnDir {
                guest: dir.name.to_string(),
                rights: dir.rights,
                place: places.get(&dir.id)?.clone(),
            })
        });
        let own = own.collect();
        let volumes = volumes.iter().map(|volume| {
            Ok(OpenVolume {
                volume,
                places: names_of(&volume.fs, &open_in(p1, &volume.fs))?,
            })
        });
        let mut devices = shown.into_iter();
        Ok(Self {
            fs,
            own,
            volumes: volumes.collect::<Result<_, FreezeError>>()?,
            devices: devices.find(|dir| is_of_devices(dir, fs)),
            places,
        })
    }

    /// Returns what shows the guest the directories of its own files once more. One whose name is
    /// not text is shown by the name that `named` has for it.
    pub(super) fn preopens(&self, named: &[GuestDir]) -> Vec<GuestDir> {
        let all = self.own.iter().map(|own| {
            let mut named = named.iter().filter(|named| named.guest == own.guest);
            let dir = match (std::str::from_utf8(&own.place), named.next()) {
                (Ok(place), _) => place.to_owned(),
                (Err(_), Some(named)) => named.dir.clone(),
                (Err(_), None) => String::from_utf8_lossy(&own.place).into_owned(),
            };
            GuestDir {
                dir,
                guest: own.guest.clone(),
                rights: own.rights,
            }
        });
        all.collect()
    }

    /// Returns under which directory something open is found again, and where below it.
    pub(super) fn place(
        &self,
        open: &OpenDescriptor<'_>,
    ) -> Result<(String, Vec<u8>), FreezeError> {
        match open.descriptor.fs().is_same(self.fs) {
            true => self.place_of_own(open),
            false => self.place_beside(open),
        }
    }

    fn place_of_own(&self, open: &OpenDescriptor<'_>) -> Result<(String, Vec<u8>), FreezeError> {
        let path = self.places.get(&open.descriptor.id());
        let path = path.ok_or_else(|| refusal(open, "it has no name"))?;
        let rights = open.descriptor.rights();
        let below = self
            .own
            .iter()
            .filter(|dir| dir.rights == rights || rights == Rights::ReadOnly)
            .filter_map(|dir| Some((dir, below(path, &dir.place)?)))
            // Rather one of the same rights: what was opened to be read is not to be written.
            .min_by_key(|(dir, below)| (dir.rights != rights, below.len()));
        if let Some((dir, below)) = below {
            return Ok((dir.guest.clone(), below));
        }
        let mut places = HIDDEN_PLACES.iter();
        let place = places.find(|(_, of)| *of == rights);
        match place.zip(self::below(path, HIDDEN.as_bytes())) {
            Some(((place, _), name)) => Ok(((*place).to_owned(), name)),
            None => Err(refusal(
                open,
                &format!(
                    "{} lies in no directory that the guest is shown",
                    String::from_utf8_lossy(path).escape_debug()
                ),
            )),
        }
    }

    /// Returns where something is found again that lies on a volume or among the devices.
    fn place_beside(&self, open: &OpenDescriptor<'_>) -> Result<(String, Vec<u8>), FreezeError> {
        let devices = self.devices.as_ref();
        if let Some(path) = devices.and_then(|devices| device(open.descriptor, devices)) {
            return Ok((DEVICES.to_owned(), path));
        }
        let of = open.descriptor.fs();
        let mut volumes = self.volumes.iter();
        let found = volumes.find(|volume| of.is_same(&volume.volume.fs));
        let OpenVolume { volume, places } = found.ok_or_else(|| {
            let reason = "it is open in a file system that is no part of what is frozen";
            refusal(open, reason)
        })?;
        let path = places.get(&open.descriptor.id()).ok_or_else(|| {
            refusal(open, &format!(
                "it is open on the volume {:?} and has no name there any more, so that it cannot be opened again; close it before the point",
                volume.name
            ))
        })?;
        let path = below(path, b"/").unwrap_or_default();
        Ok((volume.guest.clone(), path))
    }
}

fn refusal(open: &OpenDescriptor<'_>, reason: &str) -> FreezeError {
    FreezeError::Files {
        fd: open.fd,
        reason: reason.to_owned(),
    }
}

/// Returns whether what a guest with the files `fs` is shown as `/dev` is the devices' own
/// directory: neither a volume that has the name nor a directory of those files.
pub(super) fn is_of_devices(shown: &ShownPreopen, fs: &Fs) -> bool {
    if &*shown.name != DEVICES || shown.fs.is_same(fs) {
        return false;
    }
    let dir = Descriptor::host_root(&shown.fs).pass_within(shown.id);
    // A base that is read-only may have files under some of their names.
    let names = [
        "null", "zero", "full", "random", "urandom", "stdin", "stdout", "stderr",
    ];
    names.iter().any(|name| {
        let found = dir.open_at(
            Follow::No,
            name.as_bytes(),
            OpenFlags::empty(),
            Access::READ,
        );
        found.is_ok_and(|found| found.is_device())
    })
}

/// Finds something among the devices: their directory, or one of them.
fn device(open: &Descriptor, devices: &ShownPreopen) -> Option<Vec<u8>> {
    if !devices.fs.is_same(open.fs()) {
        return None;
    }
    if open.id() == devices.id {
        return Some(b".".to_vec());
    }
    let mut found = None;
    let dir = Descriptor::host_root(&devices.fs).pass_within(devices.id);
    let listed = dir.read_dir_with(0, &mut |entry| match entry.id == open.id() {
        true => {
            found = Some(entry.name.to_vec());
            ControlFlow::Break(())
        }
        false => ControlFlow::Continue(()),
    });
    listed.ok()?;
    found
}

/// Returns what a guest has open in a file system, but for the directories that it is shown.
fn open_in(p1: &Ctx, fs: &Fs) -> HashSet<FileId> {
    let open = p1.open_descriptors();
    open.filter(|open| open.preopen.is_none() && open.descriptor.fs().is_same(fs))
        .map(|open| open.descriptor.id())
        .collect()
}

/// Finds a name for each object, from the root. O(files), but for the root alone.
fn names_of(fs: &Fs, wanted: &HashSet<FileId>) -> Result<HashMap<FileId, Vec<u8>>, FreezeError> {
    let mut names = HashMap::new();
    if wanted.contains(&FileId::ROOT) {
        names.insert(FileId::ROOT, b"/".to_vec());
    }
    if names.len() == wanted.len() {
        return Ok(names);
    }
    for entry in fs.walk_unmounted().map_err(layer_error)? {
        let entry = entry.map_err(layer_error)?;
        if wanted.contains(&entry.id()) && !names.contains_key(&entry.id()) {
            names.insert(entry.id(), entry.path());
        }
    }
    Ok(names)
}

/// Returns the rest of a path below a directory; `.` for the directory itself.
fn below(path: &[u8], dir: &[u8]) -> Option<Vec<u8>> {
    let (path, dir): (Vec<&[u8]>, Vec<&[u8]>) = (parts(path).collect(), parts(dir).collect());
    let rest = path.strip_prefix(dir.as_slice())?;
    match rest.is_empty() {
        true => Some(b".".to_vec()),
        false => Some(rest.join(&b'/')),
    }
}
