//! One step: from what was kept, or made and kept.

use stratafs::layer::Layer;
use stratafs::store::Import;

use super::Builder;
use super::built::Built;
use super::cache::{self, StepKey, StepLayer};
use crate::failure::Failure;

/// What a step came to.
pub(super) struct Outcome {
    pub(super) layer: StepLayer,
    /// What it is found by.
    pub(super) key: String,
    pub(super) cached: bool,
    /// Why it was taken from what was kept, or why not, if that was asked for.
    pub(super) why: Option<String>,
}

/// What a step is made with.
pub(super) struct StepWork<'a> {
    pub(super) import: &'a Import,
}

impl Builder<'_> {
    /// Takes a step from what was kept, or makes it. `import` is one whose pool has been used
    /// already.
    pub(super) fn kept_or_made(
        &self,
        stage: &Built,
        key: &StepKey,
        import: Option<Import>,
        make: &dyn Fn(&StepWork<'_>) -> Result<Option<Layer>, Failure>,
    ) -> Result<Outcome, Failure> {
        let settings = self.settings;
        let found = match settings.no_cache {
            true => None,
            false => cache::find_by(self.store, &key.digest())?,
        };
        let explained = |why: &str| settings.explain.then(|| why.to_owned());
        if let Some(layer) = found {
            let why = explained("nothing that goes into it has changed");
            return Ok(Outcome {
                layer,
                key: key.digest(),
                cached: true,
                why,
            });
        }
        let (mut why, before) = match (settings.explain, settings.no_cache) {
            (false, _) => (None, None),
            (true, true) => (explained("--no-cache builds every step anew"), None),
            (true, false) => {
                let (why, before) = cache::why_not(self.store, key)?;
                (Some(why), before)
            }
        };
        let import = match import {
            Some(import) => import,
            None => self.store.import()?,
        };
        let layer = make(&StepWork { import: &import })?;
        if let Some(change) = cache::first_change(self.store, before, layer.as_ref())? {
            why = why.map(|why| format!("{why}; first change: {change}"));
        }
        let below = || {
            let layers = stage.layers(self.store)?.into_iter();
            Ok(layers.map(|(layer, _)| layer).collect())
        };
        let layer = cache::keep(self.store, import, key, (layer, &below))?;
        Ok(Outcome {
            layer,
            key: key.digest(),
            cached: false,
            why,
        })
    }
}
