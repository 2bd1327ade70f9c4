//! `docker save`'s archive: `manifest.json` names a configuration and layers
//! by file. Newer ones are OCI layouts as well, and are read as such.

use serde_json::Value;

use super::blob::{read_small, same_digest};
use super::choose::missing;
use super::document;
use super::hash::Hasher;
use super::layout::{diff_ids, platform, read_config};
use super::names::named;
use super::oci_source::OciSource;
use super::{Documents, LayerBlob, OciImage, config as config_of};
use crate::source::tar::Input;
use crate::source::{SourceError, SourceErrorKind, SourceOptions};

pub(super) const MANIFEST: &str = "manifest.json";

/// The media type of what such an archive holds.
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// One image of the archive.
struct Saved {
    config: String,
    tags: Vec<String>,
    layers: Vec<String>,
}

/// Returns whether a file that is called `manifest.json` is this kind's.
pub(super) fn is_here(source: &OciSource) -> bool {
    let read = || {
        let found = source.open(MANIFEST).ok()??;
        let bytes = read_small(found.reader, found.size).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let value = read();
    let first = value.as_ref().and_then(|value| value.get(0));
    first.is_some_and(|first| first.get("Config").is_some() && first.get("Layers").is_some())
}

/// Opens the image that `options` choose.
pub(super) fn open(source: OciSource, options: &SourceOptions) -> Result<OciImage, SourceError> {
    let source = source.strict();
    let saved = list(&source)
        .and_then(|all| Ok(choose(all, options)?))
        .map_err(|error| error.part(MANIFEST))?;
    let config_bytes = config(&source, &saved).map_err(|error| error.part(&saved.config))?;
    let named = |kind: SourceErrorKind| SourceError::from(kind).part(&saved.config);
    let config = read_config(&config_bytes).map_err(named)?;
    let diff_ids = diff_ids(&config, saved.layers.len()).map_err(named)?;
    let platform = platform(&config, None);
    if let Some(asked) = options
        .platform
        .as_ref()
        .filter(|asked| !asked.takes(&platform))
    {
        let reason = format!("no image for {asked}: there is {platform}");
        return Err(SourceErrorKind::Choice(reason).into());
    }
    let mut layers = Vec::new();
    for (file, diff_id) in saved.layers.into_iter().zip(diff_ids) {
        let found = source
            .open(&file)
            .and_then(|found| found.ok_or_else(missing))
            .map_err(|kind| SourceError::from(kind).part(&file))?;
        // Plain, it is the blob that its `diff_id` names.
        let compressed = Input::new(found.reader, options).is_ok_and(|input| input.compressed());
        layers.push(LayerBlob {
            annotations: Default::default(),
            file,
            digest: (!compressed).then(|| diff_id.clone()),
            size: found.size,
            media_type: LAYER.to_owned(),
            diff_id,
            restricted: false,
        });
    }
    Ok(OciImage {
        source,
        #[cfg(feature = "registry")]
        packs: None,
        layers,
        platform,
        name: saved.tags.into_iter().next(),
        documents: Documents {
            manifest: None,
            config: config_bytes,
        },
        config: config_of::read(&config),
        spent: Default::default(),
    })
}

fn list(source: &OciSource) -> Result<Vec<Saved>, SourceError> {
    let found = source.open(MANIFEST)?.ok_or_else(missing)?;
    let bytes = read_small(found.reader, found.size)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(document::bad)?;
    let images = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let all: Option<Vec<Saved>> = images.iter().map(saved).collect();
    all.ok_or_else(|| {
        let reason = "it is not a list of images: expected objects with `Config` and `Layers`";
        SourceErrorKind::Document(reason.into()).into()
    })
}

fn saved(image: &Value) -> Option<Saved> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        let texts = value.as_array()?.iter();
        texts.map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let tags = image.get("RepoTags").filter(|tags| !tags.is_null());
    Some(Saved {
        config: image.get("Config")?.as_str()?.to_owned(),
        tags: tags.map_or(Some(Vec::new()), texts)?,
        layers: texts(image.get("Layers")?)?,
    })
}

fn choose(all: Vec<Saved>, options: &SourceOptions) -> Result<Saved, SourceErrorKind> {
    let names: Vec<String> = all
        .iter()
        .map(|saved| match saved.tags.is_empty() {
            true => saved.config.clone(),
            false => saved.tags.join(" = "),
        })
        .collect();
    let names = names.join(", ");
    let mut all = distinct(all);
    if let Some(name) = &options.name {
        all = named(all, name, |saved| &saved.tags);
    }
    match (<[Saved; 1]>::try_from(all), &options.name) {
        (Ok([one]), _) => Ok(one),
        (Err(all), None) if all.is_empty() => {
            Err(SourceErrorKind::Choice("the archive names no image".into()))
        }
        (Err(all), Some(name)) if all.is_empty() => Err(SourceErrorKind::Choice(format!(
            "no image named {name}: there is {names}"
        ))),
        (Err(_), _) => Err(SourceErrorKind::Choice(format!(
            "several images: choose with --image-name of {names}"
        ))),
    }
}

/// Makes one of what is the same image under several names.
fn distinct(all: Vec<Saved>) -> Vec<Saved> {
    let mut distinct: Vec<Saved> = Vec::new();
    for saved in all {
        let same =
            |known: &&mut Saved| (&known.config, &known.layers) == (&saved.config, &saved.layers);
        match distinct.iter_mut().find(same) {
            Some(known) => known.tags.extend(saved.tags),
            None => distinct.push(saved),
        }
    }
    distinct
}

/// Reads the configuration, whose name is its digest where it looks like one.
fn config(source: &OciSource, saved: &Saved) -> Result<Vec<u8>, SourceError> {
    let found = source.open(&saved.config)?.ok_or_else(missing)?;
    let bytes = read_small(found.reader, found.size)?;
    let file = saved.config.rsplit('/').next().unwrap_or_default();
    let stem = file.strip_suffix(".json").unwrap_or(file);
    if let Ok(digest) = document::checked_digest(&format!("sha256:{stem}")) {
        let mut hasher = Hasher::like(&digest);
        hasher.update(&bytes);
        same_digest(&digest, hasher.finish())?;
    }
    Ok(bytes)
}
