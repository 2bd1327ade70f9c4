//! What builds keep, taken from elsewhere and given elsewhere: an image whose layers are those
//! that steps made, and whose label says by which keys they are found.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use stratafs::digest::Digest;
use stratafs::image::{ImageConfig, Reference};
use stratafs::layer::{EntryBody, Layer};
use stratafs::name::show_path;
use stratafs::source::SourceOptions;
use stratafs::store::{Import, LayerOrigin, Store};
use stratafs::transfer::{self, ExportOptions, Format, ImportOptions, PushOptions};

use super::cache;
use crate::build_args::CachePlace;
use crate::cached;
use crate::failure::{Failure, complain};
use crate::image::remote;
use crate::limits::{MAX_CACHE_LABEL_BYTES, MAX_INSTRUCTIONS};
use crate::reach::{ReachArgs, RemoteName};

/// The label that lists steps: an array of keys, each with the number of the layer that it
/// leads to, or null for a step that made none.
const STEPS: &str = "stratafs.build.cache";

/// What the image of a cache says that it is for: nobody runs it.
const NOWHERE: &str = "unknown";

/// One step of a list.
type ListedStep = (String, Option<usize>);

/// Takes steps that others built. What cannot be had is told, and left out.
pub(super) fn take(store: &Store, from: &[CachePlace], reach: &ReachArgs) {
    for place in from {
        let taken = fetched(store, place, reach).and_then(|tag| take_steps(store, &tag));
        if let Err(failure) = taken {
            complain(&format!(
                "warning: --cache-from {place}: nothing is taken from there: {}",
                failure.message()
            ));
        }
    }
}

/// Brings a cache into the store, under a name of builds.
fn fetched(store: &Store, place: &CachePlace, reach: &ReachArgs) -> Result<String, Failure> {
    let tag = Reference::Tag(cached::tag(
        "from",
        Digest::of(place.to_string().as_bytes()),
    ));
    match place {
        CachePlace::Registry(name) => {
            let source = SourceOptions::default();
            let wanted = (source, Vec::new());
            let name = RemoteName::Registry(name.clone());
            remote::pull_named(store, reach, (&name, Some(&tag)), wanted, false)?;
        }
        CachePlace::Layout(path) => {
            let options = ImportOptions::default();
            transfer::import(store, std::slice::from_ref(path), &tag, &options)?;
        }
    }
    Ok(tag.as_str().to_owned())
}

/// Keeps the steps of a cache that this store does not know.
fn take_steps(store: &Store, tag: &str) -> Result<(), Failure> {
    let info = store.info(tag)?;
    let Some(label) = info.config.labels.get(STEPS) else {
        return Err(Failure::new(
            "it is an image and no cache of builds: name what --cache-to wrote",
        ));
    };
    let steps = read(label, info.layers.len())?;
    let mut layers: Option<Vec<Layer>> = None;
    for (key, number) in steps {
        if cache::find_by(store, &key)?.is_some() {
            continue;
        }
        if layers.is_none() {
            layers = Some(store.layers(tag)?);
        }
        let all = layers.as_deref().unwrap_or_default();
        let mut import = store.import()?;
        let made = number.and_then(|number| all.get(number).map(|layer| (number, layer)));
        if let Some((number, layer)) = made {
            // What it links to lies below it.
            let first = if links_below(layer) { 0 } else { number };
            add(&mut import, all.get(first..=number).unwrap_or_default());
        }
        cache::keep_found(import, &key, made.map(|(_, layer)| layer.digest()))?;
    }
    Ok(())
}

/// Reads the list of steps, which may have been written by anybody.
fn read(label: &str, layers: usize) -> Result<Vec<ListedStep>, Failure> {
    let bad = |what: &str| Failure::new(format_args!("its list of steps {what}"));
    if label.len() > MAX_CACHE_LABEL_BYTES {
        return Err(bad(&format!("has more than {MAX_CACHE_LABEL_BYTES} bytes")));
    }
    let steps: Vec<ListedStep> = serde_json::from_str(label)
        .map_err(|_| bad("cannot be read: name what --cache-to wrote"))?;
    if steps.len() > MAX_INSTRUCTIONS {
        return Err(bad(&format!("has more than {MAX_INSTRUCTIONS} steps")));
    }
    for (key, number) in &steps {
        let is_key = key.len() == 64
            && key
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_key || number.is_some_and(|number| number >= layers) {
            return Err(bad("names a key or a layer that cannot be"));
        }
    }
    Ok(steps)
}

/// Publishes the steps of a build for others: `keys` are those that it went through, in order.
pub(super) fn give(
    store: &Store,
    keys: &[String],
    (to, reach): (&[CachePlace], &ReachArgs),
) -> Result<(), Failure> {
    if to.is_empty() {
        return Ok(());
    }
    let tag = gathered(store, keys)?;
    let reference = Reference::Tag(tag.clone());
    for place in to {
        let given = match place {
            CachePlace::Registry(name) => push(store, &reference, name, reach),
            CachePlace::Layout(path) => write(store, &reference, path),
        };
        given.map_err(|failure| {
            Failure::new(format_args!("--cache-to {place}: {}", failure.message()))
        })?;
    }
    store.untag(&tag)?;
    Ok(())
}

fn push(
    store: &Store,
    reference: &Reference,
    name: &stratafs::registry::RegistryRef,
    reach: &ReachArgs,
) -> Result<(), Failure> {
    let client = reach.client()?;
    transfer::push(store, &client, reference, name, &PushOptions::default())?;
    Ok(())
}

/// Makes one image of all layers that the steps made, and returns its name.
fn gathered(store: &Store, keys: &[String]) -> Result<String, Failure> {
    let mut import = store.import()?;
    let mut steps: Vec<ListedStep> = Vec::with_capacity(keys.len());
    let mut numbers: HashMap<Digest, usize> = HashMap::new();
    let mut count = 0;
    let mut seen = HashSet::new();
    for key in keys.iter().filter(|key| seen.insert(*key)) {
        let Some(made) = cache::find_by(store, key)? else {
            continue;
        };
        let Some(layer) = made else {
            steps.push((key.clone(), None));
            continue;
        };
        if let Entry::Vacant(number) = numbers.entry(layer) {
            // With what lies below, where the layer links to it.
            let layers = store.layers(&cached::tag("step", key))?;
            count += layers.len();
            add(&mut import, &layers);
            number.insert(count - 1);
        }
        steps.push((key.clone(), numbers.get(&layer).copied()));
    }
    let label = serde_json::to_string(&steps)?;
    let mut config = ImageConfig::new();
    config.os = Some(NOWHERE.to_owned());
    config.architecture = Some(NOWHERE.to_owned());
    let tag = cached::tag("to", Digest::of(label.as_bytes()));
    config.labels.insert(STEPS.to_owned(), label);
    import.commit(config, Some(&tag))?;
    Ok(tag)
}

fn add(import: &mut Import, layers: &[Layer]) {
    for layer in layers {
        import.layer(layer.clone(), LayerOrigin::new());
    }
}

fn links_below(layer: &Layer) -> bool {
    let mut entries = layer.entries();
    entries.any(|entry| matches!(entry.body, EntryBody::LowerLink { .. }))
}

/// Writes an OCI layout to a directory, in place of one that is there.
fn write(store: &Store, reference: &Reference, path: &Path) -> Result<(), Failure> {
    let options = || ExportOptions {
        format: Format::Oci,
        ..ExportOptions::default()
    };
    if !path.join("oci-layout").is_file() {
        return Ok(transfer::export(store, reference, path, options())?);
    }
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{end}-{}", std::process::id()));
        std::path::PathBuf::from(name)
    };
    let (new, old) = (beside("new"), beside("old"));
    transfer::export(store, reference, &new, options())?;
    let swapped = fs::rename(path, &old).and_then(|()| fs::rename(&new, path));
    if let Err(error) = swapped {
        drop(fs::rename(&old, path));
        drop(fs::remove_dir_all(&new));
        return Err(Failure::at(path, error));
    }
    fs::remove_dir_all(&old).map_err(|error| Failure::at(&old, error))
}

/// Makes sure before any work that a cache can be written to a directory.
pub(super) fn check(to: &[CachePlace]) -> Result<(), Failure> {
    for place in to {
        let CachePlace::Layout(path) = place else {
            continue;
        };
        let is_free = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none() || path.join("oci-layout").is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !is_free {
            return Err(Failure::new(format_args!(
                "--cache-to {}: there is something else than a cache: name another directory",
                show_path(path)
            )));
        }
        let staged = stratafs::staged::StagedDir::create(path);
        staged
            .map(drop)
            .map_err(|error| Failure::at(path, format_args!("--cache-to: {error}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_steps_has_bounds() {
        let key = "0".repeat(64);
        let list = |steps: &[(&str, Option<usize>)]| serde_json::to_string(steps).unwrap();
        assert_eq!(
            read(&list(&[(&key, Some(0)), (&key, None)]), 1)
                .unwrap()
                .len(),
            2
        );
        let many = vec![(key.as_str(), None); MAX_INSTRUCTIONS + 1];
        for (label, part) in [
            ("{}".to_owned(), "cannot be read"),
            (list(&[(&key, Some(1))]), "cannot be"),
            (list(&[("../../etc", None)]), "cannot be"),
            (list(&[(&key.replace('0', "A"), None)]), "cannot be"),
            (list(&many), "more than 10000 steps"),
            (
                " ".repeat(MAX_CACHE_LABEL_BYTES + 1),
                "more than 2097152 bytes",
            ),
        ] {
            let told = read(&label, 1).unwrap_err().message().to_owned();
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}
