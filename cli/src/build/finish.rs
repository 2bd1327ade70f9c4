//! The image that a build ends in: named, written out, told of.

use std::time::Duration;

use serde_json::{Value, json};
use stratafs::digest::Digest;
use stratafs::image::{ImageConfig, Reference};
use stratafs::meta::Time;
use stratafs::store::{ImageInfo, StoreError};

use super::Builder;
use super::built::Built;
use super::outputs::Outputs;
use super::planner::BuildPlan;
use super::sharing;
use super::steps::{StagePlan, StepPlan};
use super::work::Outcome;
use crate::build_args::BuildArgs;
use crate::cached;
use crate::failure::{Failure, print_json, print_lines};
use crate::image;

/// What is told of a step.
pub(super) struct StepReport {
    stage: String,
    line: usize,
    text: String,
    cached: bool,
    why: Option<String>,
    layer: Option<Digest>,
    /// What it is found by in a cache.
    key: Option<String>,
    took: Duration,
}

impl StepReport {
    pub(super) fn of_base(stage: &StagePlan, took: Duration) -> Self {
        Self {
            stage: stage.title.clone(),
            line: stage.at.line,
            text: stage.text.clone(),
            cached: true,
            why: None,
            layer: None,
            key: None,
            took,
        }
    }

    pub(super) fn of(
        stage: &StagePlan,
        step: &StepPlan,
        done: Option<&Outcome>,
        took: Duration,
    ) -> Self {
        Self {
            stage: stage.title.clone(),
            line: step.at.line,
            text: step.text.clone(),
            cached: done.is_none_or(|done| done.cached),
            why: done.and_then(|done| done.why.clone()),
            layer: done.and_then(|done| done.layer),
            key: done.map(|done| done.key.clone()),
            took,
        }
    }

    fn json(&self) -> Value {
        json!({
            "stage": self.stage,
            "line": self.line,
            "text": self.text,
            "cached": self.cached,
            "why": self.why,
            "layer": self.layer.map(|layer| layer.to_string()),
            "ns": u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

/// A time as the configuration of an image has it.
pub(super) fn rfc3339(time: Time) -> String {
    format!("{}Z", image::date(time).replace(' ', "T"))
}

/// Makes the image, sets its names, and reports it.
pub(super) fn finish(
    builder: &Builder<'_>,
    plan: &BuildPlan,
    (args, outputs): (&BuildArgs, Outputs<'_>),
    reports: &[StepReport],
) -> Result<(), Failure> {
    let built = builder.stage(plan.target)?;
    let stage = plan.stages.get(&plan.target);
    let mut config = stage.map(|stage| stage.config.clone()).unwrap_or_default();
    config.history.clone_from(&built.history);
    config.created = Some(rfc3339(builder.settings.epoch));
    config.labels.extend(args.labels.iter().cloned());
    if let Some(platform) = &args.set_platform {
        let text = platform.to_string();
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        config.os = parts.next();
        config.architecture = parts.next();
        config.variant = parts.next();
    }
    let made = image_of(builder, built, config)?;
    let info = match &plan.prepare {
        Some(point) => builder.prepared(&made, point)?,
        None => made,
    };
    let id = info.id.to_string();
    let has_archive = outputs.has_stdout();
    let iidfile = outputs.write(builder.store, &Reference::Digest(id.clone()))?;
    let keys: Vec<String> = reports.iter().filter_map(|step| step.key.clone()).collect();
    sharing::give(builder.store, &keys, (&args.cache_to, &args.reach))?;
    // Last: a build of which an output cannot be written tags nothing.
    if let Some(file) = iidfile {
        file.write(|out| Ok(write!(out, "{id}")?))?;
    }
    for tag in &args.tags {
        builder.store.tag(&id, tag.as_str())?;
    }
    match has_archive {
        // What is on stdout is the archive.
        true => Ok(()),
        false => report_of(&info, (plan, args), reports),
    }
}

/// Takes the image from what was kept, or makes it.
fn image_of(
    builder: &Builder<'_>,
    built: &Built,
    config: ImageConfig,
) -> Result<ImageInfo, Failure> {
    let store = builder.store;
    let layers = built
        .named()
        .iter()
        .map(|(layer, origin)| (layer.to_string(), origin));
    let parts = serde_json::to_vec(&(layers.collect::<Vec<_>>(), &config))?;
    let tag = cached::tag("image", Digest::of(&parts));
    match store.info(&tag) {
        Ok(info) => return Ok(info),
        Err(StoreError::NoImage(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let mut import = store.import()?;
    for (layer, origin) in built.layers(store)? {
        import.layer(layer, origin);
    }
    import.commit(config, Some(&tag))?;
    Ok(store.info(&tag)?)
}

fn report_of(
    info: &ImageInfo,
    (plan, args): (&BuildPlan, &BuildArgs),
    reports: &[StepReport],
) -> Result<(), Failure> {
    let tags: Vec<&str> = args.tags.iter().map(Reference::as_str).collect();
    if args.json {
        let steps: Vec<Value> = reports.iter().map(StepReport::json).collect();
        return print_json(&json!({
            "id": info.id.to_string(),
            "tags": tags,
            "layers": info.layers.len(),
            "entries": info.entries,
            "logical_bytes": info.logical_bytes,
            "steps": steps,
            "prepared": plan.prepare.as_ref().map(|(point, _)| point.to_string()),
            "warnings": plan.warnings,
        }));
    }
    let lines = match tags.is_empty() {
        true => info.id.to_string(),
        false => {
            let lines = tags.iter().map(|tag| format!("{tag} {}", info.id));
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    print_lines(&lines)
}
