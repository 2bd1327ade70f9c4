//! Which of several images is meant.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde_json::Value;

use super::blob::read_document;
use super::document::{self, Document, DocumentKind};
use super::names::named as by_name;
use super::oci_source::OciSource;
use crate::limits::{MAX_OCI_IMAGES, MAX_OCI_NESTING};
use crate::source::{BlobDigest, Platform, SourceError, SourceErrorKind, SourceOptions};

/// The annotations that name an image in a layout: OCI's, which is a tag alone as
/// a rule, and containerd's.
pub(super) const NAMES: [&str; 2] = [
    "org.opencontainers.image.ref.name",
    "io.containerd.image.name",
];

/// The annotation by which builders mark what is about an image and is none.
const ABOUT_ANOTHER: &str = "vnd.docker.reference.type";

/// An image that an index names.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) descriptor: Descriptor,
    pub(super) platform: Option<Platform>,
    /// All names that it has; the one that was asked for comes first.
    pub(super) names: Vec<String>,
}

impl Candidate {
    /// An image that no index names.
    pub(super) fn only(
        media_type: MediaType,
        digest: &BlobDigest,
        size: u64,
    ) -> Result<Self, SourceErrorKind> {
        let digest = digest.as_str().parse::<oci_spec::image::Digest>();
        let digest = digest.map_err(|error| SourceErrorKind::Document(error.to_string()))?;
        Ok(Self {
            descriptor: Descriptor::new(media_type, size, digest),
            platform: None,
            names: Vec::new(),
        })
    }
}

/// Lists the images below an index, nested indexes included.
pub(super) fn candidates(
    source: &OciSource,
    index: ImageIndex,
) -> Result<Vec<Candidate>, SourceError> {
    let mut found = Vec::new();
    let mut unknown = None;
    let mut waiting = vec![(index, Vec::new(), 0)];
    while let Some((index, above, depth)) = waiting.pop() {
        for descriptor in index.manifests() {
            let mut own = NAMES.iter().filter_map(|key| annotation(descriptor, key));
            let about_another = annotation(descriptor, ABOUT_ANOTHER).is_some()
                || own.any(|name| BlobDigest::is_tag(&name));
            let platform = platform_of(descriptor);
            if about_another || platform.as_ref().is_some_and(|p| p.os() == "unknown") {
                continue;
            }
            let mut names: Vec<String> = above.clone();
            names.extend(NAMES.iter().filter_map(|key| annotation(descriptor, key)));
            match DocumentKind::of(descriptor.media_type()) {
                DocumentKind::Index if depth < MAX_OCI_NESTING => {
                    let bytes = blob(source, descriptor)?;
                    match document::parse(&bytes, descriptor.media_type())
                        .map_err(|kind| named(kind, descriptor))?
                    {
                        Document::Index(index) => waiting.push((*index, names, depth + 1)),
                        Document::Manifest(_) => {}
                    }
                }
                DocumentKind::Index => {
                    let limit = u64::from(MAX_OCI_NESTING);
                    let what = "image indexes inside each other";
                    return Err(named(SourceErrorKind::Limit { what, limit }, descriptor));
                }
                DocumentKind::Manifest => found.push(Candidate {
                    descriptor: descriptor.clone(),
                    platform,
                    names,
                }),
                DocumentKind::Other => unknown = Some(descriptor.clone()),
            }
            if found.len() + waiting.len() > MAX_OCI_IMAGES {
                let limit = MAX_OCI_IMAGES as u64;
                let what = "images in a layout";
                return Err(SourceErrorKind::Limit { what, limit }.into());
            }
        }
    }
    match unknown {
        Some(descriptor) if found.is_empty() => Err(named(
            document::unknown(descriptor.media_type()),
            &descriptor,
        )),
        _ => Ok(found),
    }
}

/// Chooses one, by the wishes of `options`.
pub(super) fn choose(
    source: &OciSource,
    all: Vec<Candidate>,
    options: &SourceOptions,
) -> Result<Candidate, SourceError> {
    let mut fitting = distinct(&all);
    if let Some(name) = &options.name {
        fitting = by_name(fitting, name, |candidate| &candidate.names);
    }
    if fitting.len() > 1 || options.platform.is_some() {
        for candidate in &mut fitting {
            if candidate.platform.is_none() {
                candidate.platform = platform_of_config(source, &candidate.descriptor);
            }
        }
        fitting = by_platform(&fitting, options.platform.as_ref());
    }
    match <[Candidate; 1]>::try_from(fitting) {
        Ok([one]) => Ok(one),
        Err(fitting) => Err(no_choice(&all, &fitting, options).into()),
    }
}

/// Chooses an image that is the only one, if it is what is wished for.
pub(super) fn the_only(
    source: &OciSource,
    mut only: Candidate,
    manifest: &[u8],
    options: &SourceOptions,
) -> Result<Candidate, SourceError> {
    if options.platform.is_some() {
        only.platform = platform_of_manifest(source, &only.descriptor, manifest);
    }
    let fits = |asked: &Platform| only.platform.as_ref().is_some_and(|own| asked.takes(own));
    match options.name.is_none() && options.platform.as_ref().is_none_or(fits) {
        true => Ok(only),
        false => Err(no_choice(&[only], &[], options).into()),
    }
}

/// Makes one of what is the same image under several names.
fn distinct(all: &[Candidate]) -> Vec<Candidate> {
    let mut seen = HashMap::new();
    let mut distinct: Vec<Candidate> = Vec::new();
    for candidate in all {
        let digest = candidate.descriptor.digest().to_string();
        let at = *seen.entry(digest).or_insert(distinct.len());
        match distinct.get_mut(at) {
            None => distinct.push(candidate.clone()),
            Some(known) => {
                let new = |name: &&String| !known.names.contains(*name);
                let new: Vec<String> = candidate.names.iter().filter(new).cloned().collect();
                known.names.extend(new);
                known.platform = known.platform.take().or_else(|| candidate.platform.clone());
            }
        }
    }
    distinct
}

fn by_platform(all: &[Candidate], asked: Option<&Platform>) -> Vec<Candidate> {
    let keep = |wish: &dyn Fn(&Platform) -> bool| -> Vec<Candidate> {
        let fits = |candidate: &&Candidate| candidate.platform.as_ref().is_some_and(wish);
        all.iter().filter(fits).cloned().collect()
    };
    if let Some(asked) = asked {
        return keep(&|platform| asked.takes(platform));
    }
    let host = Platform::host();
    let for_host = keep(&|platform| host.takes(platform));
    if !for_host.is_empty() {
        return for_host;
    }
    keep(&Platform::is_wasm)
}

/// Lists what there is.
fn no_choice(all: &[Candidate], fitting: &[Candidate], options: &SourceOptions) -> SourceErrorKind {
    let all = distinct(all);
    let listed = if fitting.is_empty() { &all } else { fitting };
    let listed: Vec<String> = listed.iter().map(describe).collect();
    let listed = listed.join(", ");
    let mut wish: Vec<String> = Vec::new();
    wish.extend(options.name.as_ref().map(|name| format!("named {name}")));
    wish.extend(
        options
            .platform
            .as_ref()
            .map(|platform| format!("for {platform}")),
    );
    let wish = wish.join(" ");
    SourceErrorKind::Choice(match (fitting.len(), all.len()) {
        (_, 0) => "the layout names no image".to_owned(),
        (0, _) if wish.is_empty() => format!(
            "no image for {} or for WebAssembly: choose with --platform or --image-name of {listed}",
            Platform::host()
        ),
        (0, _) => format!("no image {wish}: there is {listed}"),
        _ => format!("several images: choose with --platform or --image-name of {listed}"),
    })
}

fn describe(candidate: &Candidate) -> String {
    let platform = candidate.platform.as_ref().map(Platform::to_string);
    let platform = platform.unwrap_or_else(|| "no platform".to_owned());
    match candidate.names.join(" = ") {
        names if names.is_empty() => format!("{platform} ({})", candidate.descriptor.digest()),
        names => format!("{names} ({platform})"),
    }
}

pub(super) fn annotation(descriptor: &Descriptor, key: &str) -> Option<String> {
    descriptor.annotations().as_ref()?.get(key).cloned()
}

fn platform_of(descriptor: &Descriptor) -> Option<Platform> {
    let platform = descriptor.platform().as_ref()?;
    Some(Platform::new(
        &platform.os().to_string(),
        &platform.architecture().to_string(),
        platform.variant().as_deref(),
    ))
}

/// What the image's own configuration says, if it is there to be read: an
/// index may name images that a layout does not hold.
fn platform_of_config(source: &OciSource, descriptor: &Descriptor) -> Option<Platform> {
    platform_of_manifest(source, descriptor, &blob(source, descriptor).ok()?)
}

fn platform_of_manifest(
    source: &OciSource,
    descriptor: &Descriptor,
    manifest: &[u8],
) -> Option<Platform> {
    let Ok(Document::Manifest(manifest)) = document::parse(manifest, descriptor.media_type())
    else {
        return None;
    };
    let config: Value = serde_json::from_slice(&blob(source, manifest.config()).ok()?).ok()?;
    let text = |key| config.get(key).and_then(Value::as_str);
    Some(Platform::new(
        text("os")?,
        text("architecture")?,
        text("variant"),
    ))
}

/// Reads a document that a descriptor names.
pub(super) fn blob(source: &OciSource, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let read = || {
        let digest = document::digest_of(descriptor)?;
        #[cfg(feature = "registry")]
        if let Some(bytes) = source.remote_document(descriptor) {
            return read_document(bytes?.as_slice(), descriptor.size(), &digest);
        }
        let found = source
            .open(&source.blob_file(&digest))?
            .ok_or_else(missing)?;
        super::blob::same_size(descriptor.size(), found.size)?;
        read_document(found.reader, found.size, &digest)
    };
    read().map_err(|error| error.part(format_args!("blob {}", descriptor.digest())))
}

pub(super) fn missing() -> SourceErrorKind {
    SourceErrorKind::Document("it is not there".into())
}

fn named(kind: SourceErrorKind, descriptor: &Descriptor) -> SourceError {
    SourceError::from(kind).part(format_args!("blob {}", descriptor.digest()))
}
