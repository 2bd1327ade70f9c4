//! `image inspect`, `image history`.

use std::fmt::Write;

use serde_json::{Value, json};
use stratafs::image::ImageConfig;
use stratafs::meta::Time;
use stratafs::name::show;
use stratafs::registry::{Referrer, RegistryRef};
use stratafs::runner::freeze::CheckpointInfo;
use stratafs::source::BlobDigest;
use stratafs::store::{ImageInfo, Store, StoredLayer};

use super::args::{HistoryArgs, InspectArgs};
use super::text::{answer, cell, date};
use crate::cached;
use crate::checkpoint;
use crate::failure::Failure;
use crate::report::{Align, Table, bytes, count, times};

pub(super) fn inspect(store: &Store, args: InspectArgs) -> Result<(), Failure> {
    let info = store.info(args.image.reference.as_str())?;
    let image = store.image(args.image.reference.as_str())?;
    let checkpoint = checkpoint::inspect(&image, &args.image.reference)?;
    let checkpoint = checkpoint.as_ref();
    let referrers = match args.referrers {
        true => Some(referrers(&info, &args)?),
        false => None,
    };
    let json = || {
        let mut document = inspected(&info, checkpoint);
        if let (Some(found), Some(document)) = (&referrers, document.as_object_mut()) {
            document.insert("referrers".into(), found.iter().map(referrer).collect());
        }
        document
    };
    answer(args.form, json, || {
        let mut out = lines(&info, checkpoint);
        for found in referrers.iter().flatten() {
            let what = found.artifact_type.as_deref().unwrap_or("of no type");
            // Writing into a text cannot fail.
            let _always = writeln!(
                out,
                "{:<14}{} {}",
                "referrer",
                found.digest,
                show(what.as_bytes())
            );
        }
        out
    })
}

/// Asks the registry that the image is named after what refers to it there.
fn referrers(info: &ImageInfo, args: &InspectArgs) -> Result<Vec<Referrer>, Failure> {
    let text = args.image.reference.as_str();
    if !RegistryRef::names_registry(text) {
        return Err(Failure::usage(format_args!(
            "--referrers: {text} names no registry that could be asked"
        )));
    }
    let name: RegistryRef = text.parse().map_err(Failure::usage)?;
    let Some(manifest) = info.manifest else {
        return Err(Failure::new(format_args!(
            "{text}: the image did not come out of a registry: nothing refers to it"
        )));
    };
    let digest = BlobDigest::sha256(manifest.as_bytes());
    Ok(args.reach.client()?.referrers(&name, &digest)?)
}

fn referrer(found: &Referrer) -> Value {
    let annotations = found.annotations.iter();
    let annotations = annotations.map(|(key, value)| (key.clone(), json!(value)));
    json!({
        "digest": found.digest.as_str(),
        "bytes": found.size,
        "artifact_type": found.artifact_type,
        "annotations": annotations.collect::<serde_json::Map<_, _>>(),
    })
}

fn inspected(info: &ImageInfo, checkpoint: Option<&CheckpointInfo>) -> Value {
    let layers: Vec<Value> = info.layers.iter().map(layer).collect();
    json!({
        "id": info.id.to_string(),
        "tags": cached::typed_tags(info),
        "added_ns": Time::new(info.added, 0).as_nanos_clamped(),
        "entries": info.entries,
        "logical_bytes": info.logical_bytes,
        "manifest": info.manifest.map(|digest| digest.to_string()),
        "config": config(&info.config),
        "layers": layers,
        "checkpoint": checkpoint.map(|checkpoint| json!({
            "point": checkpoint.point,
            "program_digest": checkpoint.program_digest.to_string(),
            "frames": checkpoint.frames,
            "memory_bytes": checkpoint.memory_bytes,
            "own_bytes": checkpoint.own_bytes,
            "features": checkpoint.features,
            "random_calls": checkpoint.random_calls,
            "needed_dirs": checkpoint.needed_dirs,
            "changed_volumes": checkpoint.changed_volumes,
        })),
    })
}

fn layer(layer: &StoredLayer) -> Value {
    let origin = &layer.origin;
    json!({
        "digest": layer.digest.to_string(),
        "blob": origin.blob.map(|digest| digest.to_string()),
        "blob_bytes": origin.blob.map(|_| origin.blob_bytes),
        "media_type": origin.media_type,
        "diff_id": origin.diff_id.map(|digest| digest.to_string()),
    })
}

fn config(config: &ImageConfig) -> Value {
    json!({
        "created": config.created,
        "author": config.author,
        "os": config.os,
        "architecture": config.architecture,
        "variant": config.variant,
        "entrypoint": config.entrypoint,
        "cmd": config.cmd,
        "env": config.env,
        "working_dir": config.working_dir,
        "user": config.user,
        "stop_signal": config.stop_signal,
        "exposed_ports": config.exposed_ports,
        "volumes": config.volumes,
        "labels": config.labels,
    })
}

fn lines(info: &ImageInfo, checkpoint: Option<&CheckpointInfo>) -> String {
    let config = &info.config;
    let mut out = String::new();
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            // Writing into a text cannot fail.
            let _always = writeln!(out, "{name:<14}{}", show(value.as_bytes()));
        }
    };
    line("digest", Some(info.id.to_string()));
    let tags: Vec<&str> = cached::typed_tags(info)
        .iter()
        .map(|tag| tag.as_str())
        .collect();
    line("tags", Some(tags.join(", ")));
    line("added", Some(date(Time::new(info.added, 0))));
    line("entries", Some(count(info.entries)));
    line("size", Some(bytes(info.logical_bytes)));
    line("manifest", info.manifest.map(|digest| digest.to_string()));
    let platform = [&config.os, &config.architecture, &config.variant];
    let platform: Vec<&str> = platform.into_iter().flatten().map(String::as_str).collect();
    line("platform", Some(platform.join("/")));
    line("created", config.created.clone());
    line("author", config.author.clone());
    line("entry point", config.entrypoint.as_deref().map(words));
    line("arguments", config.cmd.as_deref().map(words));
    for variable in &config.env {
        line("environment", Some(variable.clone()));
    }
    line("directory", config.working_dir.clone());
    line("user", config.user.clone());
    for (name, value) in &config.labels {
        line("label", Some(format!("{name}={value}")));
    }
    let known = checkpoint.map(of_checkpoint).unwrap_or_default();
    for (name, value) in known {
        line(name, Some(value));
    }
    for layer in &info.layers {
        let came = layer.origin.blob.map(|blob| format!(" from {blob}"));
        line(
            "layer",
            Some(format!("{}{}", layer.digest, came.unwrap_or_default())),
        );
    }
    out
}

fn of_checkpoint(checkpoint: &CheckpointInfo) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("frozen at", checkpoint.point.clone()),
        ("program", checkpoint.program_digest.to_string()),
        ("frames", checkpoint.frames.to_string()),
        ("memory", bytes(checkpoint.memory_bytes)),
    ];
    let calls = checkpoint.random_calls;
    if calls > 0 {
        let what = format!(
            "asked for {} before the point, shared by all runs",
            times(calls)
        );
        lines.push(("random", what));
    }
    for name in &checkpoint.needed_dirs {
        lines.push(("needs", format!("a volume or a directory at {name:?}")));
    }
    for name in &checkpoint.changed_volumes {
        let what = format!("what the guest wrote to the volume at {name:?}");
        lines.push(("lacks", what));
    }
    let notice = "holds the memory of a running program, secrets included";
    lines.push(("notice", notice.to_owned()));
    lines
}

/// Words as a list that shows where each ends.
fn words(words: &[String]) -> String {
    format!("{words:?}")
}

pub(super) fn history(store: &Store, args: HistoryArgs) -> Result<(), Failure> {
    let info = store.info(args.image.reference.as_str())?;
    let steps = steps(&info);
    let json = || {
        let all: Vec<Value> = steps.iter().map(Step::json).collect();
        json!({"history": all})
    };
    answer(args.form, json, || {
        let mut table = Table::new(&[
            ("created", Align::Left),
            ("created by", Align::Left),
            ("layer", Align::Left),
            ("comment", Align::Left),
        ]);
        for step in &steps {
            let layer = step.layer.map_or("-".to_owned(), |layer| {
                layer
                    .digest
                    .to_string()
                    .chars()
                    .take("blake3:".len() + 12)
                    .collect()
            });
            let by = step.by.unwrap_or("-").replace(['\n', '\t'], " ");
            let comment = step.comment.unwrap_or_default();
            table.row([
                cell(step.created.unwrap_or("-")),
                cell(&by),
                layer,
                cell(comment),
            ]);
        }
        table.to_string()
    })
}

/// A step with the layer that it made.
struct Step<'a> {
    created: Option<&'a str>,
    by: Option<&'a str>,
    comment: Option<&'a str>,
    layer: Option<&'a StoredLayer>,
}

impl Step<'_> {
    fn json(&self) -> Value {
        json!({
            "created": self.created,
            "created_by": self.by,
            "comment": self.comment,
            "layer": self.layer.map(|layer| layer.digest.to_string()),
            "empty_layer": self.layer.is_none(),
        })
    }
}

/// Puts steps and layers together, the latest first. Layers that no step
/// tells of are shown all the same.
fn steps(info: &ImageInfo) -> Vec<Step<'_>> {
    let mut layers = info.layers.iter();
    let named = info.config.history.iter().map(|entry| Step {
        created: entry.created.as_deref(),
        by: entry.created_by.as_deref(),
        comment: entry.comment.as_deref(),
        layer: match entry.empty_layer {
            true => None,
            false => layers.next(),
        },
    });
    let mut steps: Vec<Step<'_>> = named.collect();
    steps.extend(layers.map(|layer| Step {
        created: None,
        by: None,
        comment: None,
        layer: Some(layer),
    }));
    steps.reverse();
    steps
}
