//! Steps that were built before, kept in the store by what went into them.

use stratafs::digest::Digest;
use stratafs::image::ImageConfig;
use stratafs::layer::{EntryBody, Layer, compare};
use stratafs::name::show;
use stratafs::store::{Import, LayerOrigin, Store, StoreError};

use crate::cached;
use crate::failure::Failure;

/// What the labels of a kept step begin with.
const LABEL: &str = "stratafs.build.";

/// The label that says which layer the step made.
const LAYER: &str = "stratafs.build.layer";

/// What it says if the step made none.
const NONE: &str = "none";

/// The version of what is kept: another one finds nothing of this.
const VERSION: &str = "1";

/// What goes into a step, each part with its name.
pub(super) struct StepKey {
    /// The line as written, to find what was made of it before.
    pub(super) line: String,
    pub(super) parts: Vec<(&'static str, String)>,
}

impl StepKey {
    /// Returns what a step is found by: the digest of all that goes into it.
    pub(super) fn digest(&self) -> String {
        let parts = serde_json::to_vec(&(VERSION, &self.parts)).unwrap_or_default();
        Digest::of(&parts).to_string().replace("blake3:", "")
    }

    fn labelled(&self, name: &str) -> Option<String> {
        let part = self.parts.iter().find(|(known, _)| *known == name)?;
        Some(Digest::of(part.1.as_bytes()).to_string())
    }
}

/// The layer that a step made, if it made one.
pub(super) type StepLayer = Option<Digest>;

/// Looks for a step by its key.
pub(super) fn find_by(store: &Store, key: &str) -> Result<Option<StepLayer>, Failure> {
    let info = match store.info(&cached::tag("step", key)) {
        Ok(info) => info,
        Err(StoreError::NoImage(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let label = info.config.labels.get(LAYER).map(String::as_str);
    Ok(match label {
        Some(NONE) => Some(None),
        Some(layer) => layer.parse().ok().map(Some),
        None => None,
    })
}

/// Keeps what somebody else says a step made, by its key. What was built here goes before it.
pub(super) fn keep_found(import: Import, key: &str, made: StepLayer) -> Result<(), Failure> {
    let mut config = ImageConfig::new();
    config.labels.insert(LAYER.to_owned(), said(made));
    import.commit(config, Some(&cached::tag("step", key)))?;
    Ok(())
}

/// What the label says.
fn said(made: StepLayer) -> String {
    made.map_or_else(|| NONE.to_owned(), |made| made.to_string())
}

/// Keeps what a step made: durable, and found by its key, once this returns.
pub(super) fn keep(
    store: &Store,
    mut import: Import,
    key: &StepKey,
    (layer, below): (Option<Layer>, &dyn Fn() -> Result<Vec<Layer>, Failure>),
) -> Result<StepLayer, Failure> {
    let mut config = ImageConfig::new();
    let made = layer.as_ref().map(Layer::digest);
    config.labels.insert(LAYER.to_owned(), said(made));
    config
        .labels
        .insert(format!("{LABEL}line"), key.line.clone());
    for (name, _) in &key.parts {
        if let Some(digest) = key.labelled(name) {
            config.labels.insert(format!("{LABEL}part.{name}"), digest);
        }
    }
    if let Some(layer) = layer {
        // A link into what lies below is none without it.
        let is_linked = layer
            .entries()
            .any(|entry| matches!(entry.body, EntryBody::LowerLink { .. }));
        if is_linked {
            for layer in below()? {
                import.layer(layer, LayerOrigin::new());
            }
        }
        import.layer(layer, LayerOrigin::new());
    }
    import.commit(config, Some(&cached::tag("step", key.digest())))?;
    // What was there already may be another object than what was made.
    match made.map(|made| store.layer(made)).transpose()?.flatten() {
        None if made.is_some() => Err(Failure::new("a layer left the store as it was made")),
        _ => Ok(made),
    }
}

/// Says why a step was not found: what differs from the last time that its line was built,
/// and which layer it made then.
pub(super) fn why_not(store: &Store, key: &StepKey) -> Result<(String, Option<Digest>), Failure> {
    let line = format!("{LABEL}line");
    let images = store.list()?;
    let mut before = images
        .iter()
        .rev()
        .filter(|image| image.config.labels.get(&line) == Some(&key.line));
    let Some(before) = before.next() else {
        return Ok(("this line was not built before".to_owned(), None));
    };
    let differs = key.parts.iter().filter(|(name, _)| {
        let then = before.config.labels.get(&format!("{LABEL}part.{name}"));
        then.cloned() != key.labelled(name)
    });
    let differs: Vec<&str> = differs.map(|(name, _)| *name).collect();
    let why = match differs.is_empty() {
        true => "what was kept of it went with a collection".to_owned(),
        false => format!("changed since it was built last: {}", differs.join(", ")),
    };
    let layer = before.config.labels.get(LAYER);
    Ok((why, layer.and_then(|layer| layer.parse().ok())))
}

/// Names the first entry that differs from the layer that the line made before.
pub(super) fn first_change(
    store: &Store,
    before: Option<Digest>,
    now: Option<&Layer>,
) -> Result<Option<String>, Failure> {
    let (Some(before), Some(now)) = (before, now) else {
        return Ok(None);
    };
    let Some(before) = store.layer(before)? else {
        return Ok(None);
    };
    let changes = compare(&before, now);
    let first = changes.first().map(|(kind, path)| {
        let path = show(&path.to_bytes());
        format!("{} /{path}", kind.letter())
    });
    Ok(first)
}
