//! An image that goes on from a point of its program, where a recipe asks for one.

use std::sync::Arc;

use stratafs::digest::Digest;
use stratafs::image::{HistoryEntry, Reference};
use stratafs::runner::freeze::{Freezing, Point, freeze};
use stratafs::runner::{RunPlan, Stdio};
use stratafs::store::{ImageInfo, LayerOrigin, StoreError};

use super::Builder;
use super::finish::rfc3339;
use super::guests::{Output, last_lines, tidied};
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
        // As a commit does, but with the times of the build.
        let mut import = self.store.import()?;
        let changes = checkpoint.to_fs()?.diff(import.pool())?;
        let changes = tidied(&changes, &image, &[], self.settings.epoch)?;
        let layers = self.store.layers(id.as_str())?.into_iter();
        for (layer, known) in layers.zip(&built.layers) {
            import.layer(layer, known.origin.clone());
        }
        import.layer(changes, LayerOrigin::new());
        let mut config = built.config.clone();
        let by = format!("prepared at {point}: {}", run.args.join(" "));
        let mut history = HistoryEntry::by(&by);
        history.created = Some(rfc3339(self.settings.epoch));
        config.history.push(history);
        import.commit(config, Some(tag.as_str()))?;
        Ok(self.store.info(tag.as_str())?)
    }
}
