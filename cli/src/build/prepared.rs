//! An image that goes on from a point of its program, where a recipe asks for one.

use std::sync::Arc;

use stratafs::digest::Digest;
use stratafs::image::{HistoryEntry, Reference};
use stratafs::meta::Time;
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{RunPlan, Stdio};
use stratafs::store::{ImageInfo, LayerOrigin, StoreError};
use stratafs::vfs::{Fs, SetTime};

use super::Builder;
use super::finish::rfc3339;
use super::guests::{Output, last_lines};
use crate::cached;
use crate::failure::{Failure, complain};
use crate::from_image::{self, Wanted};
use crate::recipe::Position;

impl Builder<'_> {
    /// Runs the image up to the point and makes the image that goes on there; one that was made
    /// before is taken.
    pub(super) fn prepared(
        &self,
        built: &ImageInfo,
        (point, at): &(Point, Position),
    ) -> Result<ImageInfo, Failure> {
        let parts = (
            built.id.to_string(),
            point.to_string(),
            &self.settings.doors,
            env!("CARGO_PKG_VERSION"),
        );
        let tag = cached::tag("prepared", Digest::of(&serde_json::to_vec(&parts)?));
        if !self.settings.no_cache {
            match self.store.info(&tag) {
                Ok(known) => return Ok(known),
                Err(StoreError::NoImage(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.frozen(built, point, &Reference::Tag(tag))
            .map_err(|failure| self.at(*at, &failure))
    }

    fn frozen(
        &self,
        built: &ImageInfo,
        point: &Point,
        tag: &Reference,
    ) -> Result<ImageInfo, Failure> {
        let id = Reference::Digest(built.id.to_string());
        let image = self.store.image(id.as_str())?;
        let mut run = RunPlan::default();
        run.tell_number = false;
        run.preopens = vec![crate::resolve::root()];
        run.furnished = true;
        run.deterministic = true;
        run.budget.clone_from(&self.settings.budget);
        let output = Arc::new(Output::default());
        run.stdio = Stdio::Collect(output.clone());
        let name = Reference::Tag("the image".to_owned());
        let parts = (&image, &built.config);
        let guest = from_image::guest(&name, parts, (None, &Wanted::default()), &mut run)?;
        let frozen = freeze(&guest, &image, &run, &self.settings.config, point)?;
        let said = String::from_utf8_lossy(&output.take()).into_owned();
        let checkpoint = match frozen {
            Freezing::Frozen(checkpoint) => checkpoint,
            Freezing::Ended(outcome) => {
                return Err(Failure::new(format_args!(
                    "the program of the image ended before it came to {point}: {outcome}{}",
                    last_lines(&said)
                )));
            }
        };
        if self.settings.progress.is_some() {
            said.lines().for_each(complain);
        }
        // As a commit does, but with the time of the build for what is no guest's.
        let mut import = self.store.import()?;
        let fs = checkpoint.to_fs()?;
        date_own(&fs, self.settings.epoch)?;
        let changes = fs.diff(import.pool())?;
        let layers = self.store.layers(id.as_str())?.into_iter();
        for (layer, known) in layers.zip(&built.layers) {
            import.layer(layer, known.origin.clone());
        }
        import.layer(changes, LayerOrigin::new());
        let mut config = built.config.clone();
        let by = format!("prepared at {point}: {}", checkpoint.args().join(" "));
        let mut history = HistoryEntry::by(&by);
        history.created = Some(rfc3339(self.settings.epoch));
        config.history.push(history);
        import.commit(config, Some(tag.as_str()))?;
        Ok(self.store.info(tag.as_str())?)
    }
}

/// The directories of a checkpoint's own in its image. In the last one are files of the guest's.
const OWN_DIRS: [&str; 3] = ["/.stratafs", "/.stratafs/frozen", "/.stratafs/open"];

/// Sets the times of what belongs to the checkpoint itself to that of the build. What the guest made or
/// changed keeps the times that the guest knows: its clock gave them, which is the same in each
/// build.
fn date_own(fs: &Fs, epoch: Time) -> Result<(), Failure> {
    let files = fs.read_dir("/.stratafs/frozen")?;
    let files = files.iter().map(|file| file.path());
    let dirs = OWN_DIRS.iter().map(|dir| dir.as_bytes().to_vec());
    for path in files.chain(dirs) {
        if fs.exists(path.as_slice())? {
            let path = path.as_slice();
            fs.set_times(path, SetTime::Keep, SetTime::To(epoch))?;
        }
    }
    Ok(())
}
