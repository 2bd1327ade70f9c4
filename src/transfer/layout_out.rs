//! A layout that an image is copied into: a new one, or one that is there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::TransferError;
use crate::limits::MAX_OCI_DOCUMENT_BYTES;
use crate::registry::Manifest;
use crate::source::BlobDigest;
use crate::staged::{StagedDir, StagedFile};

const MARK: &str = "oci-layout";
const INDEX: &str = "index.json";
const NAME: &str = "org.opencontainers.image.ref.name";

/// The layout on its way.
pub(super) struct LayoutOut {
    path: PathBuf,
    /// A new one, which appears when it is complete.
    staged: Option<StagedDir>,
}

fn out(path: &Path, error: io::Error) -> TransferError {
    TransferError::Out {
        path: path.to_owned(),
        error,
    }
}

impl LayoutOut {
    pub(super) fn open(path: &Path) -> Result<Self, TransferError> {
        if path.join(MARK).is_file() && path.join(INDEX).is_file() {
            return Ok(Self {
                path: path.to_owned(),
                staged: None,
            });
        }
        match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return Err(TransferError::Occupied(path.to_owned())),
        }
        let staged = StagedDir::create(path).map_err(|error| out(path, error))?;
        let write = || -> io::Result<()> {
            fs::create_dir_all(staged.path().join("blobs/sha256"))?;
            fs::write(
                staged.path().join(MARK),
                r#"{"imageLayoutVersion":"1.0.0"}"#,
            )
        };
        write().map_err(|error| out(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            staged: Some(staged),
        })
    }

    fn root(&self) -> &Path {
        self.staged.as_ref().map_or(&*self.path, StagedDir::path)
    }

    fn place(&self, digest: &BlobDigest) -> PathBuf {
        let dir = self.root().join("blobs").join(digest.algorithm());
        dir.join(digest.hex())
    }

    /// Returns whether the layout has a blob of this size. Its name is its digest; nothing
    /// else is written under it.
    pub(super) fn has(&self, digest: &BlobDigest, size: u64) -> bool {
        let meta = self.place(digest).symlink_metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    pub(super) fn failed(&self, digest: &BlobDigest, error: io::Error) -> TransferError {
        out(&self.place(digest), error)
    }

    /// Writes a blob, which appears when it is complete.
    pub(super) fn blob(
        &self,
        digest: &BlobDigest,
        write: impl FnOnce(&mut File) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let place = self.place(digest);
        let failed = |error| out(&place, error);
        if let Some(dir) = place.parent() {
            fs::create_dir_all(dir).map_err(failed)?;
        }
        let mut staged = StagedFile::create(&place).map_err(failed)?;
        write(staged.file())?;
        staged.commit().map_err(failed)
    }

    /// Writes a manifest.
    pub(super) fn manifest(&self, manifest: &Manifest) -> Result<(), TransferError> {
        self.blob(&manifest.digest, |file| {
            let written = io::Write::write_all(file, &manifest.bytes);
            written.map_err(|error| self.failed(&manifest.digest, error))
        })
    }

    /// Reads what the layout has by a name, if it has been there before.
    pub(super) fn named(&self, name: &str) -> Result<Option<Vec<u8>>, TransferError> {
        if self.staged.is_some() {
            return Ok(None);
        }
        let path = self.path.join(INDEX);
        let index = read_index(&path).map_err(|error| out(&path, error))?;
        let all = index.get("manifests").and_then(Value::as_array);
        let one = all
            .into_iter()
            .flatten()
            .find(|one| name_of(one) == Some(name));
        let digest = one.and_then(|one| one.get("digest")?.as_str()?.parse().ok());
        let Some(digest): Option<BlobDigest> = digest else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        let read = File::open(self.place(&digest)).and_then(|file| {
            let mut bounded = io::Read::take(file, MAX_OCI_DOCUMENT_BYTES);
            io::Read::read_to_end(&mut bounded, &mut bytes)
        });
        read.map_err(|error| self.failed(&digest, error))?;
        Ok(Some(bytes))
    }

    /// Names what was copied in the layout's index. What had a name before loses it.
    pub(super) fn finish(self, named: &[(&Manifest, Option<&str>)]) -> Result<(), TransferError> {
        let path = self.root().join(INDEX);
        let failed = |error| out(&path, error);
        let mut index = match &self.staged {
            Some(_) => json!({
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [],
            }),
            None => read_index(&path).map_err(failed)?,
        };
        let listed = index.get_mut("manifests").and_then(Value::as_array_mut);
        let Some(listed) = listed else {
            let error = io::Error::other("it has no list of manifests");
            return Err(failed(error));
        };
        for (manifest, name) in named {
            list(listed, manifest, *name);
        }
        let mut staged = StagedFile::create(&path).map_err(failed)?;
        let written = io::Write::write_all(&mut staged, index.to_string().as_bytes());
        written.and_then(|()| staged.commit()).map_err(failed)?;
        match self.staged {
            Some(staged) => staged.commit().map_err(|error| out(&self.path, error)),
            None => Ok(()),
        }
    }
}

/// Names a manifest in the list of an index, in the place of what had the name.
fn list(listed: &mut Vec<Value>, manifest: &Manifest, name: Option<&str>) {
    let digest = manifest.digest.as_str();
    let mut descriptor = json!({
        "mediaType": manifest.media_type,
        "digest": digest,
        "size": manifest.bytes.len(),
    });
    if let (Some(name), Some(map)) = (name, descriptor.as_object_mut()) {
        map.insert("annotations".into(), json!({NAME: name}));
    }
    let own = |one: &Value| match name {
        Some(name) => name_of(one) == Some(name),
        None => name_of(one).is_none() && one.get("digest").and_then(Value::as_str) == Some(digest),
    };
    listed.retain(|one| !own(one));
    listed.push(descriptor);
}

/// Returns the name that a descriptor in an index gives.
fn name_of(descriptor: &Value) -> Option<&str> {
    descriptor.get("annotations")?.get(NAME)?.as_str()
}

fn read_index(path: &Path) -> io::Result<Value> {
    let mut text = String::new();
    let mut bounded = io::Read::take(File::open(path)?, MAX_OCI_DOCUMENT_BYTES);
    io::Read::read_to_string(&mut bounded, &mut text)?;
    serde_json::from_str(&text).map_err(io::Error::other)
}
