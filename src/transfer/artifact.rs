//! Programs of WebAssembly as OCI artifacts: images that are nothing else, in
//! and out.

use std::io::{self, Read};
use std::sync::Arc;

use super::TransferError;
use super::export::{bytes, tree};
use crate::image::{ImageConfig, Reference};
use crate::layer::{EntryBody, Layer};
use crate::limits::MAX_ARTIFACT_BYTES;
use crate::source::{BlobDigest, OutLayer, is_program};
use crate::store::{ImageInfo, Store};

/// The media type of a program, as artifacts have it.
const PROGRAM: &str = "application/wasm";

/// Returns the program that an image brings as a blob beside its tree: that of an
/// OCI artifact, or of an image as runwasi has them. `None` for an image whose
/// program, if any, is a file of its tree.
///
/// # Errors
///
/// [`TransferError::Artifact`] if there are several; [`TransferError::Store`].
pub fn program(store: &Store, info: &ImageInfo) -> Result<Option<Vec<u8>>, TransferError> {
    let layers = info.layers.iter().map(|layer| &layer.origin);
    let programs = layers.filter(|origin| origin.media_type.as_deref().is_some_and(is_program));
    let programs: Vec<_> = programs.filter_map(|origin| origin.blob).collect();
    match programs.as_slice() {
        [] => Ok(None),
        [one] => bytes(store, *one).map(Some),
        several => {
            let reason = format!(
                "{} programs of WebAssembly, where one is run",
                several.len()
            );
            Err(TransferError::Artifact(reason))
        }
    }
}

/// Returns whether an image is an artifact, and no image with a program among its
/// layers.
pub(super) fn is_artifact(store: &Store, info: &ImageInfo) -> Result<bool, TransferError> {
    let [only] = info.layers.as_slice() else {
        return Ok(false);
    };
    if !only.origin.media_type.as_deref().is_some_and(is_program) {
        return Ok(false);
    }
    let Some(config) = info.raw_config else {
        return Ok(true);
    };
    let config = serde_json::from_slice::<serde_json::Value>(&bytes(store, config)?);
    Ok(config.is_ok_and(|config| config.get("rootfs").is_none()))
}

/// Makes a program of an image whose tree has nothing else, and a configuration
/// for it.
pub(super) fn made<'a>(
    store: &Store,
    reference: &Reference,
    info: &ImageInfo,
) -> Result<(OutLayer<'a>, ImageConfig), TransferError> {
    let program = match program(store, info)? {
        Some(program) => program,
        None => only_file(&tree(store, reference)?, reference)?,
    };
    let os = match program.get(..8) {
        Some(b"\0asm\x01\0\0\0") => "wasip1",
        Some(b"\0asm\x0d\0\x01\0") => "wasip2",
        _ => {
            let reason = format!(
                "{reference}: its only file is not WebAssembly, and an artifact is a WebAssembly program"
            );
            return Err(TransferError::Artifact(reason));
        }
    };
    let mut config = ImageConfig::new();
    config.created.clone_from(&info.config.created);
    config.author.clone_from(&info.config.author);
    config.os = Some(os.to_owned());
    config.architecture = Some("wasm".to_owned());
    let digest = BlobDigest::of(&program);
    let program: Arc<[u8]> = program.into();
    let layer = OutLayer::Blob {
        digest: digest.clone(),
        size: program.len() as u64,
        media_type: PROGRAM.to_owned(),
        diff_id: digest,
        open: Box::new(
            move || Ok(Box::new(io::Cursor::new(Arc::clone(&program))) as Box<dyn Read>),
        ),
    };
    Ok((layer, config))
}

/// Reads the only file of a tree.
fn only_file(tree: &Layer, reference: &Reference) -> Result<Vec<u8>, TransferError> {
    let refused = |reason: String| Err(TransferError::Artifact(format!("{reference}: {reason}")));
    let mut found = None;
    for entry in tree.entries() {
        match entry.body {
            EntryBody::Dir { .. } => {}
            EntryBody::File { content, .. } if found.is_none() => found = Some(content.clone()),
            _ => {
                let path = entry.path;
                return refused(format!(
                    "an artifact has one program and no other files, and {path} is one more: \
                     export it as an image"
                ));
            }
        }
    }
    let Some(content) = found else {
        return refused("it has no program, which an artifact is".into());
    };
    match usize::try_from(content.size()) {
        Ok(len) if content.size() <= MAX_ARTIFACT_BYTES => {
            let mut program = vec![0; len];
            let read = content.read_at(&mut program, 0);
            read.map_err(|error| TransferError::Artifact(format!("{reference}: {error}")))?;
            Ok(program)
        }
        _ => refused(format!("a program has at most {MAX_ARTIFACT_BYTES} bytes")),
    }
}
