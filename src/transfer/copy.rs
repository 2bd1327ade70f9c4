//! From a registry or a layout to another one, without a store: byte by byte, so that
//! digests stay, and whatever it is.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde_json::Value;

use super::TransferError;
use super::attached::{self, Attached};
use super::lanes::{self, Meter, MovedWatcher};
use super::layout_out::LayoutOut;
use super::push::Pushed;
use crate::limits::{MAX_OCI_DOCUMENT_BYTES, MAX_OCI_IMAGES, MAX_OCI_NESTING};
use crate::registry::{BlobBytes, BlobTarget, Client, Manifest, RegistryRef, Sent};
use crate::source::{BlobDescriptor, BlobDigest, Checked, Platform, RawLayout};

/// Where an image is copied from, or to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyPlace {
    /// A registry.
    Registry(RegistryRef),
    /// An OCI image layout and the name of the image in it: a directory; to copy from, an
    /// archive as well. Without a name the only image is meant, or, to copy to, none is
    /// given.
    Layout(PathBuf, Option<String>),
}

/// How an image is copied.
#[derive(Clone)]
pub struct CopyOptions {
    /// The image of an index that is copied. Default: the index, with all its images.
    pub platform: Option<Platform>,
    /// Whether what is about the image is copied with it: signatures, attestations, lists of
    /// parts, as far as they hang on a manifest that is copied. Default: yes.
    pub attached: bool,
    /// Blobs that are on their way at once. Default: 3.
    pub lanes: usize,
    /// Is told how many bytes have arrived.
    pub watcher: Option<MovedWatcher>,
}

impl std::fmt::Debug for CopyOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyOptions")
            .field("platform", &self.platform)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            platform: None,
            attached: true,
            lanes: 3,
            watcher: None,
        }
    }
}

/// Copies an image, or anything else that has a manifest, and returns what was sent. What is
/// there already is not sent. Digests stay the same. Each blob is passed on as it arrives, in
/// bounded memory. A layout appears whole; one that exists gets the image once all of it is there.
/// A name in a registry leads to the image once its signatures are there.
///
/// # Errors
///
/// [`TransferError::Registry`], [`TransferError::Source`], [`TransferError::Out`];
/// [`TransferError::Place`] for a malformed manifest, or one that names more than the bounds allow.
pub fn copy(
    client: &Client,
    from: &CopyPlace,
    to: &CopyPlace,
    options: &CopyOptions,
) -> Result<Pushed, TransferError> {
    let from = CopySource::open(client, from)?;
    let mut tree = ManifestTree::read(&from, options.platform.as_ref())?;
    if options.attached {
        attached::find(&from, &mut tree, options.lanes)?;
    }
    let meter = Meter::new(options.watcher.clone());
    tree.blobs.iter().for_each(|(_, size)| meter.expect(*size));
    let mut pushed = Pushed::of(tree.top()?.digest.clone());
    pushed.attached = tree.attached.len() as u64;
    let pushed = Mutex::new(pushed);
    let work = (&from, &tree, &meter, &pushed);
    match to {
        CopyPlace::Registry(name) => to_registry(client, work, name, options.lanes)?,
        CopyPlace::Layout(path, name) => {
            to_layout(work, path, name.as_deref(), options.lanes)?;
        }
    }
    Ok(pushed.into_inner())
}

/// What a copy works with: source, manifests, meter and result.
type CopyJob<'w> = (
    &'w CopySource<'w>,
    &'w ManifestTree,
    &'w Meter,
    &'w Mutex<Pushed>,
);

fn to_registry(
    client: &Client,
    (from, tree, meter, pushed): CopyJob<'_>,
    name: &RegistryRef,
    lanes: usize,
) -> Result<(), TransferError> {
    let top = tree.top()?;
    if let Some(wanted) = name.digest().filter(|wanted| **wanted != top.digest) {
        let what = format!("{name}: what is copied is {}, and not {wanted}", top.digest);
        return Err(TransferError::Place(what));
    }
    let neighbours: Vec<String> = match from.place {
        CopyPlace::Registry(own) if own.host() == name.host() => {
            vec![own.repository().to_owned()]
        }
        _ => Vec::new(),
    };
    lanes::all(lanes, tree.blobs.clone(), meter, |(digest, size)| {
        let bytes = FetchedBlob {
            from,
            named: (&digest, size),
            file: Mutex::new(None),
        };
        let mut watch = |more| meter.moved(more);
        let named = (&digest, size);
        let sent = client.send_blob(name, named, &bytes, &neighbours, &mut watch)?;
        pushed.lock().count(sent, size);
        Ok(())
    })?;
    let put = |at: &RegistryRef, manifest: &Manifest| {
        client.put_manifest(at, &manifest.media_type, &manifest.bytes)
    };
    let is_top = |manifest: &Manifest| std::ptr::eq(manifest, top);
    for manifest in &tree.manifests {
        // Nothing is about a manifest that is not there.
        if !is_top(manifest) || !tree.attached.is_empty() {
            put(&name.at(&manifest.digest), manifest)?;
        }
    }
    attached::to_registry(client, name, &tree.attached)?;
    put(name, top)?;
    Ok(())
}

fn to_layout(
    (from, tree, meter, pushed): CopyJob<'_>,
    path: &Path,
    name: Option<&str>,
    lanes: usize,
) -> Result<(), TransferError> {
    let out = LayoutOut::open(path)?;
    lanes::all(lanes, tree.blobs.clone(), meter, |(digest, size)| {
        let sent = match out.has(&digest, size) {
            true => Sent::AlreadyThere,
            false => {
                out.blob(&digest, |file| from.blob((&digest, size), file, meter))?;
                Sent::Uploaded
            }
        };
        pushed.lock().count(sent, size);
        Ok(())
    })?;
    for manifest in &tree.manifests {
        out.manifest(manifest)?;
    }
    let about = attached::to_layout(&out, &tree.attached)?;
    let about = about.iter().map(|(list, tag)| (list, Some(tag.as_str())));
    let named: Vec<_> = about.chain([(tree.top()?, name)]).collect();
    out.finish(&named)
}

/// Where it is copied from.
pub(super) struct CopySource<'f> {
    client: &'f Client,
    place: &'f CopyPlace,
    layout: Option<RawLayout>,
}

impl<'f> CopySource<'f> {
    fn open(client: &'f Client, place: &'f CopyPlace) -> Result<Self, TransferError> {
        let layout = match place {
            CopyPlace::Registry(_) => None,
            CopyPlace::Layout(path, _) => Some(RawLayout::open(path)?),
        };
        Ok(Self {
            client,
            place,
            layout,
        })
    }

    fn top(&self) -> Result<Manifest, TransferError> {
        match (&self.layout, self.place) {
            (Some(layout), CopyPlace::Layout(_, name)) => {
                self.manifest(&layout.top(name.as_deref())?)
            }
            (_, CopyPlace::Registry(name)) => Ok(self.client.manifest(name)?),
            (None, CopyPlace::Layout(path, _)) => {
                Err(TransferError::Place(path.display().to_string()))
            }
        }
    }

    /// Reads the manifest that a tag leads to, if there is one.
    pub(super) fn tagged(&self, tag: &str) -> Result<Option<Manifest>, TransferError> {
        match (&self.layout, self.place) {
            (Some(layout), _) => {
                let found = layout.tagged(tag)?;
                found.map(|found| self.manifest(&found)).transpose()
            }
            (None, CopyPlace::Registry(name)) => self.there(&name.tagged(tag)),
            (None, CopyPlace::Layout(..)) => Ok(None),
        }
    }

    /// Reads a manifest of this digest, if it is there.
    pub(super) fn by_digest(&self, digest: &BlobDigest) -> Result<Option<Manifest>, TransferError> {
        match (&self.layout, self.place) {
            (Some(layout), _) => {
                let size = layout.blob_bytes(digest)?;
                let kind = "application/vnd.oci.image.manifest.v1+json".to_owned();
                let found = size.map(|size| (kind, digest.clone(), size));
                let mut found = found.map(|found| self.manifest(&found)).transpose()?;
                if let Some(found) = &mut found {
                    let value = parsed(found)?;
                    let own = value.get("mediaType").and_then(Value::as_str);
                    found.media_type = own.unwrap_or(&found.media_type).to_owned();
                }
                Ok(found)
            }
            (None, CopyPlace::Registry(name)) => self.there(&name.at(digest)),
            (None, CopyPlace::Layout(..)) => Ok(None),
        }
    }

    /// Fetches a manifest, if it is there.
    fn there(&self, at: &RegistryRef) -> Result<Option<Manifest>, TransferError> {
        match self.client.manifest(at) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Lists what refers to a manifest, but for what a layout has no list of.
    pub(super) fn referrers(&self, digest: &BlobDigest) -> Result<Vec<BlobDigest>, TransferError> {
        if let (None, CopyPlace::Registry(name)) = (&self.layout, self.place) {
            let all = self.client.referrers(name, digest)?;
            return Ok(all.into_iter().map(|one| one.digest).collect());
        }
        match self.tagged(&digest.as_tag())? {
            Some(list) => attached::listed_by_tag(&list),
            None => Ok(Vec::new()),
        }
    }

    /// Lists the manifests that a layout names without giving them a name.
    pub(super) fn unnamed(&self) -> Result<Vec<BlobDescriptor>, TransferError> {
        let listed = self.layout.as_ref().map(RawLayout::unnamed);
        Ok(listed.transpose()?.unwrap_or_default())
    }

    /// Reads a manifest that another names.
    pub(super) fn manifest(
        &self,
        (media_type, digest, size): &BlobDescriptor,
    ) -> Result<Manifest, TransferError> {
        if *size > MAX_OCI_DOCUMENT_BYTES {
            let what = format!(
                "{digest}: {size} bytes are more than a manifest may have ({MAX_OCI_DOCUMENT_BYTES})"
            );
            return Err(TransferError::Place(what));
        }
        let (Some(layout), _) = (&self.layout, ()) else {
            let CopyPlace::Registry(name) = self.place else {
                return Err(TransferError::Place(digest.to_string()));
            };
            let mut found = self.client.manifest(&name.at(digest))?;
            found.media_type.clone_from(media_type);
            return Ok(found);
        };
        let mut checked = Checked::new(layout.blob(digest, *size)?, digest);
        let mut bytes = Vec::new();
        let read = checked.read_to_end(&mut bytes);
        read.map_err(crate::source::SourceErrorKind::Io)
            .and_then(|_| checked.finish(*size))
            .map_err(|kind| TransferError::Source(kind.into()))?;
        Ok(Manifest::new(digest.clone(), media_type.clone(), bytes))
    }

    /// Writes a blob into a file.
    fn blob(
        &self,
        (digest, size): (&BlobDigest, u64),
        file: &mut File,
        meter: &Meter,
    ) -> Result<(), TransferError> {
        let mut watch = |more| meter.moved(more);
        match (&self.layout, self.place) {
            (_, CopyPlace::Registry(name)) => {
                let mut target = FileTarget { file, len: 0 };
                let named = (digest, size);
                let fetched = self.client.fetch_blob(name, named, &mut target, &mut watch);
                Ok(fetched?)
            }
            (Some(layout), CopyPlace::Layout(path, _)) => {
                let mut checked = Checked::new(layout.blob(digest, size)?, digest);
                let copied = io::copy(&mut checked, file);
                copied.map_err(|error| TransferError::Out {
                    path: path.clone(),
                    error,
                })?;
                let right = checked.finish(size);
                right.map_err(|kind| TransferError::Source(kind.into()))?;
                watch(size);
                Ok(())
            }
            (None, CopyPlace::Layout(path, _)) => {
                Err(TransferError::Place(path.display().to_string()))
            }
        }
    }
}

/// Manifests with all that they name.
pub(super) struct ManifestTree {
    /// What is named stands before what names it.
    manifests: Vec<Manifest>,
    /// The digest of the one that names all others.
    top: Option<BlobDigest>,
    /// What is about these.
    attached: Vec<Attached>,
    /// Each once.
    blobs: Vec<(BlobDigest, u64)>,
    /// Digests of what is in one of these lists.
    seen: HashSet<BlobDigest>,
}

impl ManifestTree {
    fn read(from: &CopySource<'_>, platform: Option<&Platform>) -> Result<Self, TransferError> {
        let mut tree = Self {
            manifests: Vec::new(),
            top: None,
            attached: Vec::new(),
            blobs: Vec::new(),
            seen: HashSet::new(),
        };
        let mut top = from.top()?;
        if let Some(platform) = platform {
            top = chosen(from, top, platform)?;
        }
        tree.top = Some(top.digest.clone());
        tree.take(from, top, 0)?;
        Ok(tree)
    }

    fn top(&self) -> Result<&Manifest, TransferError> {
        let none = || TransferError::Place("there is no manifest".into());
        let is_top = |one: &&Manifest| Some(&one.digest) == self.top.as_ref();
        self.manifests.iter().find(is_top).ok_or_else(none)
    }

    /// Returns the digests of all manifests.
    pub(super) fn digests(&self) -> Vec<BlobDigest> {
        let all = self.manifests.iter();
        all.map(|manifest| manifest.digest.clone()).collect()
    }

    /// Takes in a manifest that is about one of these.
    pub(super) fn attach(
        &mut self,
        from: &CopySource<'_>,
        one: Attached,
    ) -> Result<(), TransferError> {
        self.take_named(from, &one.manifest, 0)?;
        self.attached.push(one);
        Ok(())
    }

    fn take(
        &mut self,
        from: &CopySource<'_>,
        manifest: Manifest,
        depth: u32,
    ) -> Result<(), TransferError> {
        self.take_named(from, &manifest, depth)?;
        self.manifests.push(manifest);
        Ok(())
    }

    /// Takes in what a manifest names.
    fn take_named(
        &mut self,
        from: &CopySource<'_>,
        manifest: &Manifest,
        depth: u32,
    ) -> Result<(), TransferError> {
        let count = self.manifests.len() + self.attached.len();
        if depth > MAX_OCI_NESTING || count >= MAX_OCI_IMAGES {
            let what = format!(
                "more than {MAX_OCI_NESTING} indexes inside each other, or than {MAX_OCI_IMAGES} manifests"
            );
            return Err(TransferError::Place(what));
        }
        let value = parsed(manifest)?;
        for child in listed(&value, "manifests", &manifest.digest)? {
            if self.seen.insert(child.1.clone()) {
                let child = from.manifest(&child)?;
                self.take(from, child, depth + 1)?;
            }
        }
        let config = value
            .get("config")
            .map(|config| read_descriptor(config, &manifest.digest));
        let blobs = listed(&value, "layers", &manifest.digest)?;
        for (media_type, digest, size) in config.transpose()?.into_iter().chain(blobs) {
            // May not be handed on: who needs it knows where to get it.
            let bound =
                media_type.contains(".nondistributable.") || media_type.contains(".foreign.");
            if !bound && self.seen.insert(digest.clone()) {
                self.blobs.push((digest, size));
            }
        }
        Ok(())
    }
}

/// Chooses one image of an index.
fn chosen(
    from: &CopySource<'_>,
    top: Manifest,
    platform: &Platform,
) -> Result<Manifest, TransferError> {
    let value = parsed(&top)?;
    let all = value.get("manifests").and_then(Value::as_array);
    let Some(all) = all else { return Ok(top) };
    let of = |one: &Value| {
        let own = one.get("platform")?;
        let text = |key| own.get(key).and_then(Value::as_str);
        Some(Platform::new(
            text("os")?,
            text("architecture")?,
            text("variant"),
        ))
    };
    let fits = |one: &&Value| of(one).is_some_and(|own| platform.takes(&own));
    match all.iter().find(fits) {
        Some(one) => from.manifest(&read_descriptor(one, &top.digest)?),
        None => {
            let known: Vec<String> = all
                .iter()
                .filter_map(of)
                .map(|own| own.to_string())
                .collect();
            let known = known.join(", ");
            let what = format!("no image for {platform}: there is {known}");
            Err(TransferError::Place(what))
        }
    }
}

pub(super) fn parsed(manifest: &Manifest) -> Result<Value, TransferError> {
    let digest = &manifest.digest;
    let value: Result<Value, _> = serde_json::from_slice(&manifest.bytes);
    let value = value.map_err(|error| TransferError::Place(format!("{digest}: {error}")))?;
    let has = |key: &str| value.get(key).is_some();
    let what = match (has("manifests"), has("layers") || has("config")) {
        (true, true) => "a manifest and an index at once",
        (false, false) => "neither a manifest nor an index",
        _ => return Ok(value),
    };
    Err(TransferError::Place(format!("{digest}: {what}")))
}

/// Reads a list of descriptors.
pub(super) fn listed(
    value: &Value,
    key: &str,
    of: &BlobDigest,
) -> Result<Vec<BlobDescriptor>, TransferError> {
    let all = value.get(key).and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .map(|one| read_descriptor(one, of))
        .collect()
}

/// Reads a descriptor.
fn read_descriptor(value: &Value, of: &BlobDigest) -> Result<BlobDescriptor, TransferError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let read = || {
        Some((
            text("mediaType")?.to_owned(),
            text("digest")?.parse().ok()?,
            value.get("size")?.as_u64()?,
        ))
    };
    let broken = || {
        TransferError::Place(format!(
            "{of}: names something without type, digest or size"
        ))
    };
    read().ok_or_else(broken)
}

/// A blob that is fetched when it is known that it has to be sent.
struct FetchedBlob<'l> {
    from: &'l CopySource<'l>,
    named: (&'l BlobDigest, u64),
    file: Mutex<Option<File>>,
}

impl BlobBytes for FetchedBlob<'_> {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        let mut held = self.file.lock();
        if held.is_none() {
            let mut file = tempfile::tempfile()?;
            // It is counted when it is sent.
            let quiet = Meter::default();
            let fetched = self.from.blob(self.named, &mut file, &quiet);
            fetched.map_err(io::Error::other)?;
            *held = Some(file);
        }
        let Some(file) = held.as_ref() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut reader = file.try_clone()?;
        reader.seek(SeekFrom::Start(0))?;
        Ok(Box::new(io::BufReader::new(reader)))
    }
}

/// A file that a blob is fetched into.
struct FileTarget<'f> {
    file: &'f mut File,
    len: u64,
}

impl BlobTarget for FileTarget<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&mut self, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        if self.len == 0 {
            // It may be open for writing alone.
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(()),
                len => take(buffer.get(..len).unwrap_or_default()),
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.len = 0;
        Ok(())
    }
}
