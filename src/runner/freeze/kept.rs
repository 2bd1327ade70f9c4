//! What hosts that freeze by hand keep of a guest besides its module.

use std::fmt;

use super::FreezeError;
use super::dirs::ShownVolume;
use super::files::{KeptFiles, keep};
use crate::image::Image;
use crate::layer::Layer;
use crate::vfs::Fs;
use crate::wasi::p1::{Ctx, Described};

/// The files of a guest that stands still: an image with all that it wrote, and what it has
/// open, as data.
pub struct FrozenFiles {
    pub(super) kept: KeptFiles,
    /// The base of the guest.
    pub(super) base: Image,
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
    /// What its monotonic clock read last, in nanoseconds: a host that gave it a clock of its own
    /// (`WasiCtxBuilder::monotonic_clock`) reads that. With 0, what goes on from here reads the
    /// time since it was started.
    pub monotonic_ns: u64,
    /// How often it asked for random numbers, which all that goes on from it shares.
    pub random_calls: u64,
}

impl FrozenFiles {
    /// Takes the files of a guest that was stopped: `fs` is its file system, and `ctx` its table
    /// of descriptors. Nothing is changed; the guest may go on in another instance.
    ///
    /// Directories of other instances that are shown by their root, such as volumes, keep
    /// what is open below them; the host has to show them again under their names. A directory
    /// that the guest was shown and has closed is shown to what goes on as well. O(files)
    /// if something is open, or another directory than the root is shown.
    ///
    /// # Errors
    /// [`FreezeError::Files`] for what is open and cannot be opened again: a file of the
    /// host's without a name, a socket, and what lies in no directory that is shown;
    /// [`FreezeError::Layer`] if what the guest wrote cannot be made a layer.
    pub fn of(ctx: &mut Ctx, fs: &Fs) -> Result<Self, FreezeError> {
        let volumes = ShownVolume::of_context(ctx, fs);
        Ok(Self {
            kept: keep(ctx, fs, (&volumes, &[]))?,
            base: fs.image().clone(),
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

impl fmt::Debug for FrozenFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrozenFiles")
            .field("image", &self.kept.image)
            .field("table", &self.kept.table)
            .finish_non_exhaustive()
    }
}
