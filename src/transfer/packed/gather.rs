//! The files of layers that a store does not have: fetched, and put together where they are pieces.

use std::collections::HashMap;
use std::io::Read;

use parking_lot::Mutex;

use super::pull::wrong;
use crate::digest::Sha256;
use crate::limits::MAX_PACKED_LAYERS_BYTES;
use crate::source::packed::{PACKED_LAYER, PACKED_PIECES};
use crate::source::{BlobDigest, LayerBlob, OciImage};
use crate::store::pieces::EntriesBlob;
use crate::transfer::import::sha256;
use crate::transfer::remote::Remote;
use crate::transfer::{TransferError, lanes};

/// Decompresses a blob with entries, of which there may be `limit` bytes. Says what is wrong.
pub(super) fn unpack(packed: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let reader = zstd::Decoder::new(packed).map(|it| it.single_frame());
    let read = reader.and_then(|reader| reader.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| format!("it does not decompress: {error}"))?;
    match bytes.len() as u64 <= limit {
        true => Ok(bytes),
        false => Err(format!(
            "the layers of the image have more than {MAX_PACKED_LAYERS_BYTES} bytes, decompressed"
        )),
    }
}

/// Fetches what the layers of an image are made of.
pub(super) struct Gathering<'g> {
    remote: &'g Remote,
    image: &'g OciImage,
    lanes: usize,
    blobs: HashMap<Sha256, EntriesBlob>,
    /// Bytes that blobs may still have, as they come and decompressed.
    left: (u64, u64),
    /// Bytes that were fetched.
    fetched: u64,
}

impl<'g> Gathering<'g> {
    pub(super) fn new(remote: &'g Remote, image: &'g OciImage, lanes: usize) -> Self {
        Self {
            remote,
            image,
            lanes,
            blobs: HashMap::new(),
            left: (MAX_PACKED_LAYERS_BYTES, MAX_PACKED_LAYERS_BYTES),
            fetched: 0,
        }
    }

    /// Makes the files of some layers. Returns them in their order, and how many bytes were fetched.
    pub(super) fn files(
        mut self,
        layers: &[&LayerBlob],
    ) -> Result<(Vec<Vec<u8>>, u64), TransferError> {
        self.bring(layers)?;
        for layer in layers {
            self.check_form(layer)?;
        }
        let copied = self.sources(layers)?;
        self.bring(&copied)?;
        let mut files = Vec::with_capacity(layers.len());
        let mut left = MAX_PACKED_LAYERS_BYTES;
        for (number, layer) in layers.iter().enumerate() {
            let rest = layers.get(number + 1..).unwrap_or_default();
            let is_last = !rest.iter().any(|it| it.digest() == layer.digest());
            let file = self.file(layer, (left, is_last && copied.is_empty()))?;
            left = left.checked_sub(file.len() as u64).ok_or_else(|| {
                let what = "the layers of the image have more than";
                wrong(
                    layer,
                    format!("{what} {MAX_PACKED_LAYERS_BYTES} bytes, put together"),
                )
            })?;
            files.push(file);
        }
        Ok((files, self.fetched))
    }

    fn get(&self, blob: &LayerBlob) -> Option<&EntriesBlob> {
        self.blobs.get(&sha256(blob.digest()?)?)
    }

    /// Sees that a layer is what its media type says.
    fn check_form(&self, layer: &LayerBlob) -> Result<(), TransferError> {
        let form = self.get(layer).map(EntriesBlob::is_file);
        match (layer.media_type(), form) {
            (PACKED_LAYER, Some(true)) | (PACKED_PIECES, Some(false)) => Ok(()),
            (PACKED_PIECES, _) => Err(wrong(layer, "it has no pieces of a layer")),
            _ => Err(wrong(layer, "it is not the file of a layer")),
        }
    }

    /// Returns the blobs that pieces are copied from. Each has to be in the manifest.
    fn sources(&self, layers: &[&LayerBlob]) -> Result<Vec<&'g LayerBlob>, TransferError> {
        let image: &'g OciImage = self.image;
        let named = image.layers().iter().chain(image.earlier_entries());
        let named = named.filter_map(|blob| Some((sha256(blob.digest()?)?, blob)));
        let named: HashMap<Sha256, &'g LayerBlob> = named.collect();
        let mut found = Vec::new();
        for layer in layers {
            for source in self
                .get(layer)
                .map(EntriesBlob::sources)
                .unwrap_or_default()
            {
                let missing =
                    || format!("it copies from {source}, which the manifest does not name");
                found.push(*named.get(source).ok_or_else(|| wrong(layer, missing()))?);
            }
        }
        Ok(found)
    }

    /// Fetches blobs that have not come yet, several at once.
    fn bring(&mut self, blobs: &[&LayerBlob]) -> Result<(), TransferError> {
        let mut order: Vec<(Sha256, &LayerBlob, &BlobDigest)> = Vec::new();
        let mut come: HashMap<Sha256, Vec<u8>> = HashMap::new();
        let mut jobs = Vec::new();
        for blob in blobs {
            let named = blob.digest().and_then(|it| Some((sha256(it)?, it)));
            let (key, digest) =
                named.ok_or_else(|| wrong(blob, "it is not named by its SHA-256"))?;
            if self.blobs.contains_key(&key) || order.iter().any(|it| it.0 == key) {
                continue;
            }
            let size = blob.size();
            self.left.0 = self.left.0.checked_sub(size).ok_or_else(|| {
                let most = MAX_PACKED_LAYERS_BYTES;
                let what =
                    format!("it has {size} bytes, the layers of an image have {most} at most");
                wrong(blob, what)
            })?;
            order.push((key, *blob, digest));
            match self.image.inline(digest) {
                Some(bytes) => {
                    come.insert(key, bytes.to_vec());
                }
                None => jobs.push((key, digest, size)),
            }
        }
        let sum: u64 = jobs.iter().map(|(.., size)| *size).sum();
        self.fetched += sum;
        let remote = self.remote;
        let meter = &remote.meter;
        meter.expect(sum);
        let come = Mutex::new(come);
        lanes::all(self.lanes, jobs, meter, |(key, digest, size)| {
            let mut bytes = Vec::new();
            let mut watch = |more| meter.moved(more);
            let origin = remote.origin();
            origin.fetch((digest, size), &mut bytes, &mut watch)?;
            come.lock().insert(key, bytes);
            Ok(())
        })?;
        let mut come = come.into_inner();
        for (key, blob, _) in order {
            let packed = come.remove(&key).unwrap_or_default();
            let bytes = unpack(&packed, self.left.1).map_err(|what| wrong(blob, what))?;
            self.left.1 -= bytes.len() as u64;
            let read = EntriesBlob::read(bytes);
            let read = read.ok_or_else(|| {
                wrong(blob, "it is neither the file of a layer nor pieces of one")
            })?;
            self.blobs.insert(key, read);
        }
        Ok(())
    }

    /// Makes the file of a layer. If nobody else needs its blob it is not copied.
    fn file(
        &mut self,
        layer: &LayerBlob,
        (left, is_last): (u64, bool),
    ) -> Result<Vec<u8>, TransferError> {
        let key = layer.digest().and_then(sha256);
        let key = key.ok_or_else(|| wrong(layer, "it is not named by its SHA-256"))?;
        if is_last && let Some(blob) = self.blobs.remove(&key) {
            if blob.is_file() {
                return Ok(blob.into_bytes());
            }
            self.blobs.insert(key, blob);
        }
        let blob = self.blobs.get(&key);
        let blob = blob.ok_or_else(|| wrong(layer, "it did not come"))?;
        let find = |digest: &Sha256| self.blobs.get(digest);
        blob.file(&find, left).map_err(|what| wrong(layer, what))
    }
}
