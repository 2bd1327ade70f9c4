//! What hosts that freeze by hand keep of a guest besides its module.

use std::collections::HashMap;
use std::fmt;

use super::FreezeError;
use super::files::{KeptFiles, keep, names_of};
use crate::image::Image;
use crate::layer::Layer;
use crate::meta::FileId;
use crate::runner::{GuestDir, RunPlan, Volume};
use crate::vfs::Fs;
use crate::wasi::p1::{Ctx, Described};

/// The files of a guest that stands still: an image with all that it wrote, and what it has
/// open, as data.
pub struct FrozenFiles {
    pub(super) kept: KeptFiles,
    /// The base of the guest.
    pub(super) base: Image,
    pub(super) preopens: Vec<GuestDir>,
}

/// What a guest was told by its host before it was frozen, and would notice if it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestTold {
    /// What the guest is called in messages.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// What its monotonic clock read last, in nanoseconds.
    pub monotonic_ns: u64,
    /// How often it asked for random numbers, which all that goes on from it shares.
    pub random_calls: u64,
}

impl FrozenFiles {
    /// Takes the files of a guest that was stopped: `fs` is its file system, and `ctx` its table
    /// of descriptors. Nothing is changed; the guest may go on in another instance.
    ///
    /// Directories of other instances that are shown by their root, such as volumes, keep
    /// what is open below them; the host has to show them again under their names. O(files)
    /// if something is open.
    ///
    /// # Errors
    /// [`FreezeError::Files`] for what is open and cannot be opened again: a file of the
    /// host's without a name, a socket, and what lies in no directory that is shown;
    /// [`FreezeError::Layer`] if what the guest wrote cannot be made a layer.
    pub fn of(ctx: &mut Ctx, fs: &Fs) -> Result<Self, FreezeError> {
        let shown = Shown::of(ctx, fs)?;
        Ok(Self {
            kept: keep(ctx, (fs, &shown.volumes), &shown.plan)?,
            base: fs.image().clone(),
            preopens: shown.plan.preopens,
        })
    }

    /// Returns the base of what goes on from here: the base of the guest, and a layer of what
    /// it changed.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.kept.image
    }

    /// Returns the layer of what the guest changed.
    #[must_use]
    pub fn changes(&self) -> &Layer {
        &self.kept.changes
    }

    /// Returns what the guest has open.
    #[must_use]
    pub fn table(&self) -> &[Described] {
        &self.kept.table
    }
}

/// The directories that a guest is shown, found in its table.
struct Shown {
    plan: RunPlan,
    volumes: Vec<(String, Fs)>,
}

impl Shown {
    fn of(ctx: &Ctx, fs: &Fs) -> Result<Self, FreezeError> {
        let mut plan = RunPlan::default();
        let mut volumes = Vec::new();
        let preopens = || {
            let open = ctx.open_descriptors();
            open.filter_map(|open| Some((open.preopen?, open.descriptor)))
        };
        let own = preopens().filter(|(_, descriptor)| descriptor.fs().is_same(fs));
        let own: Vec<FileId> = own.map(|(_, descriptor)| descriptor.id()).collect();
        let places: HashMap<FileId, Vec<u8>> = names_of(fs, &own)?;
        for (name, descriptor) in preopens() {
            let is_own = descriptor.fs().is_same(fs);
            match places.get(&descriptor.id()).filter(|_| is_own) {
                Some(place) => plan.preopens.push(GuestDir {
                    dir: String::from_utf8_lossy(place).into_owned(),
                    guest: name.to_owned(),
                    rights: descriptor.rights(),
                }),
                None if !is_own && descriptor.id() == FileId::ROOT => {
                    volumes.push((name.to_owned(), descriptor.fs().clone()));
                    plan.volumes.push(Volume {
                        name: name.to_owned(),
                        guest: name.to_owned(),
                    });
                }
                None => {}
            }
        }
        Ok(Self { plan, volumes })
    }
}

impl fmt::Debug for FrozenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenFiles")
            .field("image", &self.kept.image)
            .field("table", &self.kept.table)
            .finish_non_exhaustive()
    }
}
