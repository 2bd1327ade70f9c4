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
use crate::source::{BlobDigest, SourceError, SourceErrorKind, SourceOptions};

/// An OCI image layout, a directory or an archive.
pub(crate) struct RawLayout(OciSource);

/// What a descriptor says: media type, digest, size.
pub(crate) type Told = (String, BlobDigest, u64);

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
                let reason = "no image layout: `oci-layout` and `index.json` are expected";
                return Err(SourceErrorKind::Document(reason.into()).into());
            }
            Ok(Self(source))
        };
        open().map_err(|error| error.of(path))
    }

    /// Returns what the layout has under a name, or the only thing that it has.
    pub(crate) fn top(&self, name: Option<&str>) -> Result<Told, SourceError> {
        let index = layout::top_index(&self.0).map_err(|error| error.part(layout::INDEX))?;
        let of = |one: &Descriptor| -> Vec<String> {
            NAMES
                .iter()
                .filter_map(|key| annotation(one, key))
                .collect()
        };
        let all: Vec<(Vec<String>, &Descriptor)> =
            index.manifests().iter().map(|one| (of(one), one)).collect();
        let listed: Vec<String> = all.iter().flat_map(|(names, _)| names.clone()).collect();
        let fitting = match name {
            Some(name) => named(all, name, |(names, _)| names),
            None => all,
        };
        match fitting.as_slice() {
            [(_, one)] => Ok((
                one.media_type().to_string(),
                document::digest_of(one)?,
                one.size(),
            )),
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
