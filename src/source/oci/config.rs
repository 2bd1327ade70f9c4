//! An image's configuration in our words.

use oci_spec::image::{History, ImageConfiguration};

use crate::image::{HistoryEntry, ImageConfig};

/// Takes over what an image says of itself. It is data: what looks like a
/// command is not run, what looks like a path is not opened.
pub(super) fn read(from: &ImageConfiguration) -> ImageConfig {
    let mut config = ImageConfig::new();
    config.created = from.created().clone();
    config.author = from.author().clone();
    config.os = Some(from.os().to_string());
    config.architecture = Some(from.architecture().to_string());
    config.variant = from.variant().clone();
    if let Some(run) = from.config() {
        config.entrypoint = run.entrypoint().clone();
        config.cmd = run.cmd().clone();
        config.env = run.env().clone().unwrap_or_default();
        config.working_dir = text(run.working_dir());
        config.user = text(run.user());
        config.stop_signal = text(run.stop_signal());
        config.exposed_ports = sorted(run.exposed_ports());
        config.volumes = sorted(run.volumes());
        config.labels = run
            .labels()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
    }
    let history = from.history().as_deref().unwrap_or_default();
    config.history = history.iter().map(step).collect();
    config
}

fn step(from: &History) -> HistoryEntry {
    HistoryEntry {
        created: from.created().clone(),
        created_by: from.created_by().clone(),
        author: from.author().clone(),
        comment: from.comment().clone(),
        empty_layer: from.empty_layer().unwrap_or(false),
    }
}

/// Docker writes an empty text for none.
fn text(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

/// The specification has these as a map without values, in no order.
fn sorted(names: &Option<Vec<String>>) -> Vec<String> {
    let mut names = names.clone().unwrap_or_default();
    names.sort();
    names
}
