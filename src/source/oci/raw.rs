//! A layout as it lies there, for whoever copies it and need not understand it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use oci_spec::image::Descriptor;

use super::choose::{self, NAMES, annotation};
use super::document;
use super::layout;
use super::names::named;
use super::oci_source::OciSource;
use crate::limits::MAX_OCI_IMAGES;
use crate::source::{BlobDigest, SourceError, SourceErrorKind, SourceOptions};

/// An OCI image layout, a directory or an archive.
pub(crate) struct RawLayout(OciSource);

/// What a descriptor says: media type, digest, size.
pub(crate) type BlobDescriptor = (String, BlobDigest, u64);

impl RawLayout {
    /// Opens a layout; an archive that is compressed is unpacked into a file without a name.
    pub(crate) fn open(path: &Path) -> Result<Self, SourceError> {
        let open = || -> Result<Self, SourceError> {
            let source = match path.is_dir() {
                true => OciSource::dir(path.to_owned()),
                false => {
                    let file = File::open(path).map_err(SourceErrorKind::Io)?;
                    OciSource::archive(&Arc::new(file), &SourceOptions::default())?
                }
            };
            if !layout::is_here(&source) {
                let reason = "it is not an image layout: expected `oci-layout` and `index.json`";
                return Err(SourceErrorKind::Document(reason.into()).into());
            }
            Ok(Self(source))
        };
        open().map_err(|error| error.of(path))
    }

    /// Returns what the layout has under a name, or the only thing that it has.
    pub(crate) fn top(&self, name: Option<&str>) -> Result<BlobDescriptor, SourceError> {
        let index = layout::top_index(&self.0).map_err(|error| error.part(layout::INDEX))?;
        let names = |one: &Descriptor| -> Vec<String> {
            NAMES
                .iter()
                .filter_map(|key| annotation(one, key))
                .collect()
        };
        let all = index.manifests().iter();
        let all: Vec<Named<'_>> = all.map(|one| (names(one), one)).collect();
        let listed: Vec<String> = all.iter().flat_map(|(names, _)| names.clone()).collect();
        let fitting = match name {
            Some(name) => named(all, name, |(names, _)| names),
            None => images(all),
        };
        match fitting.as_slice() {
            [(_, one)] => of(one),
            found => {
                let several = if found.is_empty() {
                    "no"
                } else {
                    "more than one"
                };
                let listed = listed.join(", ");
                let of = name.map_or(String::new(), |name| format!(" called {name}"));
                let reason = format!("{several} image{of}: the layout has {listed}");
                Err(SourceErrorKind::Choice(reason).into())
            }
        }
    }

    /// Returns what the layout has by exactly this name.
    pub(crate) fn tagged(&self, name: &str) -> Result<Option<BlobDescriptor>, SourceError> {
        let index = layout::top_index(&self.0).map_err(|error| error.part(layout::INDEX))?;
        let has = |one: &&Descriptor| {
            let mut names = NAMES.iter().filter_map(|key| annotation(one, key));
            names.any(|own| own == name)
        };
        index.manifests().iter().find(has).map(of).transpose()
    }

    /// Lists what the layout has without a name.
    pub(crate) fn unnamed(&self) -> Result<Vec<BlobDescriptor>, SourceError> {
        let index = layout::top_index(&self.0).map_err(|error| error.part(layout::INDEX))?;
        let has_none = |one: &&Descriptor| NAMES.iter().all(|key| annotation(one, key).is_none());
        let all = index.manifests().iter().filter(has_none);
        all.take(MAX_OCI_IMAGES).map(of).collect()
    }

    /// Returns how many bytes a blob has, if it is there.
    pub(crate) fn blob_bytes(&self, digest: &BlobDigest) -> Result<Option<u64>, SourceError> {
        let found = self.0.open(&self.0.blob_file(digest));
        let found = found.map_err(|kind| SourceError::from(kind).part(digest))?;
        Ok(found.map(|found| found.size))
    }

    /// Opens a blob, whose size has to be this.
    pub(crate) fn blob(
        &self,
        digest: &BlobDigest,
        size: u64,
    ) -> Result<impl Read + Send + use<>, SourceError> {
        let open = || -> Result<_, SourceError> {
            let found = self.0.open(&self.0.blob_file(digest))?;
            let found = found.ok_or_else(choose::missing)?;
            super::same_size(size, found.size)?;
            Ok(found.reader)
        };
        open().map_err(|error| error.part(format_args!("blob {digest}")))
    }
}

/// What an index names, with its names.
type Named<'d> = (Vec<String>, &'d Descriptor);

/// Leaves out what is about an image and is none.
fn images(mut all: Vec<Named<'_>>) -> Vec<Named<'_>> {
    all.retain(|(names, _)| !names.iter().any(|name| BlobDigest::is_tag(name)));
    if all.len() > 1 {
        all.retain(|(names, one)| !names.is_empty() || one.artifact_type().is_none());
    }
    all
}

fn of(one: &Descriptor) -> Result<BlobDescriptor, SourceError> {
    Ok((
        one.media_type().to_string(),
        document::digest_of(one)?,
        one.size(),
    ))
}
